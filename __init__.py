"""A learned driving world that policies are trained and judged in."""

"""Scoring driving: suites, the runner, the fidelity of the learned world, speed, and how figures are kept."""

"""Making data and weights: recording, and the pipeline around it."""

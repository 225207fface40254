"""The training loop, the same for every head, and negatives that follow it."""

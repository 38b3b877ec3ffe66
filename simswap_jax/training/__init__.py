"""Training: methods, the loop, checkpoints, runners."""

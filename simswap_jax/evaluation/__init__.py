"""Evaluation: swaps of held-out identities, measured with networks that are independent of the training."""

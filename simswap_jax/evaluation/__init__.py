"""Evaluation: swaps of held-out identities, measured with networks that took no part in training."""

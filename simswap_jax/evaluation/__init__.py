"""Judging swaps with networks that took no part in training."""

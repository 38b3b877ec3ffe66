"""Swapping with a model folder."""

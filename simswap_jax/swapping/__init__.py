"""Swapping faces with a trained model folder."""

"""Metrics of swaps: arrays in, values out."""

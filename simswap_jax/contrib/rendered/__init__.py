"""Rendered people: renderer, data set, ground truth, judges and the demo."""

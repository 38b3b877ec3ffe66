"""Rendered people: renderer, data set, ground truth, evaluators, the demo and what ships of them."""

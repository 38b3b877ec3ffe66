"""Faces of a video swapped: decode, detect, assign, swap, encode."""

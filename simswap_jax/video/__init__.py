"""Faces of a video swapped."""

"""Geometry of faces in photos. NumPy and OpenCV only."""

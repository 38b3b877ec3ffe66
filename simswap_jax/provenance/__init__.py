"""Marks of results: visible label, XMP, C2PA, invisible watermark."""

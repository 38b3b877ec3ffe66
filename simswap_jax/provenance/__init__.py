"""Results say that they are synthetic: visible label, XMP metadata, C2PA manifest, invisible watermark."""

"""Networks that judge results."""

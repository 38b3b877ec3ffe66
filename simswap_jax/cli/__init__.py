"""`simswap-jax VERB`: parsers that build requests."""

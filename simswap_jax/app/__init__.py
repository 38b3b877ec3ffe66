"""The web page: `simswap-jax app`."""

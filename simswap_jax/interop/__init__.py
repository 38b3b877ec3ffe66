"""The former name of `simswap_jax.weights`; it goes with the next release."""

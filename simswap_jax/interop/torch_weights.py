"""The former name of `simswap_jax.weights.torch_weights`; importing it warns."""

import warnings

from simswap_jax.weights.torch_weights import *  # noqa: F403

warnings.warn(
    "simswap_jax.interop.torch_weights is now simswap_jax.weights.torch_weights; the old name goes with the next "
    "release.",
    DeprecationWarning,
    stacklevel=2,
)

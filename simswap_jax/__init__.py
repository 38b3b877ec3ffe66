"""SimSwap in JAX and Flax: train, swap, evaluate, and move weights to and from PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simswap_jax import losses
    from simswap_jax.inference.options import FaceSelection, MarkOptions, SwapOptions
    from simswap_jax.inference.swapper import FaceSwapper

__version__ = "0.1.0"
__all__ = ["FaceSelection", "FaceSwapper", "MarkOptions", "SwapOptions", "__version__", "losses"]

_HOMES = {
    "FaceSwapper": "simswap_jax.inference.swapper",
    "FaceSelection": "simswap_jax.inference.options",
    "MarkOptions": "simswap_jax.inference.options",
    "SwapOptions": "simswap_jax.inference.options",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and with it JAX, only then."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "losses":
        return import_module("simswap_jax.losses")
    raise AttributeError(f"module 'simswap_jax' has no attribute '{name}'")

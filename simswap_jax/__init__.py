"""SimSwap in JAX and Flax: train, swap, judge, and move weights to and from PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simswap_jax.inference.swapper import FaceSwapper

__version__ = "0.1.0"
__all__ = ["FaceSwapper", "__version__"]


def __getattr__(name: str) -> Any:
    """Import ``FaceSwapper`` (and with it JAX) only when it is asked for."""
    if name == "FaceSwapper":
        return import_module("simswap_jax.inference.swapper").FaceSwapper
    raise AttributeError(f"module 'simswap_jax' has no attribute '{name}'")

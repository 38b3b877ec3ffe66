"""Pixel ranges: what numbers stand for an image inside a network, `unit` or `imagenet`."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

CONVENTIONS = ("unit", "imagenet")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_convention(convention: str) -> None:
    """A ValueError unless there is such a convention."""
    if convention not in CONVENTIONS:
        raise ValueError(f"There is no input normalization {convention!r}; choose one of {', '.join(CONVENTIONS)}.")


def normalize(images: Float[Array, "*b 3"], convention: str) -> Float[Array, "*b 3"]:
    """RGB in [0, 1], [..., 3] → a network's values, same shape: themselves, or (RGB − mean)/std.

    Raises:
      ValueError: there is no such convention.
    """
    check_convention(convention)
    if convention == "unit":
        return images
    mean, std = _constants(images)
    return (images - mean) / std


def denormalize(values: Float[Array, "*b 3"], convention: str) -> Float[Array, "*b 3"]:
    """A network's values, [..., 3] → RGB in [0, 1] (not clipped), same shape.

    Raises:
      ValueError: there is no such convention.
    """
    check_convention(convention)
    if convention == "unit":
        return values
    mean, std = _constants(values)
    return values * std + mean


def _constants(like: Array) -> tuple[Array, ...]:
    shape = (1,) * (like.ndim - 1) + (3,)
    return tuple(jnp.asarray(value, like.dtype).reshape(shape) for value in (IMAGENET_MEAN, IMAGENET_STD))

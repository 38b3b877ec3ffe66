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
    constants = _constants(convention, images)
    return (images - constants[0]) / constants[1] if constants else images


def denormalize(values: Float[Array, "*b 3"], convention: str) -> Float[Array, "*b 3"]:
    """A network's values, [..., 3] → RGB in [0, 1] (not clipped), same shape.

    Raises:
      ValueError: there is no such convention.
    """
    constants = _constants(convention, values)
    return values * constants[1] + constants[0] if constants else values


def _constants(convention: str, like: Array) -> tuple[Array, ...]:
    """(mean, standard deviation) in the shape and type of ``like``; nothing for ``unit``."""
    check_convention(convention)
    if convention == "unit":
        return ()
    shape = (1,) * (like.ndim - 1) + (3,)
    return tuple(jnp.asarray(value, like.dtype).reshape(shape) for value in (IMAGENET_MEAN, IMAGENET_STD))

"""Value conventions: what numbers stand for a picture inside a network, `unit` or `imagenet`."""

import jax
import jax.numpy as jnp

CONVENTIONS = ("unit", "imagenet")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _known(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"there is no value convention '{convention}'; use one of {', '.join(CONVENTIONS)}.")


def _constants(like: jax.Array) -> tuple[jax.Array, ...]:
    shape = (1,) * (like.ndim - 1) + (3,)
    return tuple(jnp.asarray(value, like.dtype).reshape(shape) for value in (IMAGENET_MEAN, IMAGENET_STD))


def to_convention(pictures: jax.Array, convention: str) -> jax.Array:
    """Pictures in [0, 1], [..., 3] RGB → the convention's values, same shape.

    Raises:
      ValueError: there is no such convention.
    """
    _known(convention)
    if convention == "unit":
        return pictures
    mean, std = _constants(pictures)
    return (pictures - mean) / std


def from_convention(values: jax.Array, convention: str) -> jax.Array:
    """A convention's values, [..., 3] → RGB in [0, 1] (not clipped), same shape.

    Raises:
      ValueError: there is no such convention.
    """
    _known(convention)
    if convention == "unit":
        return values
    mean, std = _constants(values)
    return values * std + mean

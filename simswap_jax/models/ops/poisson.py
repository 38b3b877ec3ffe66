"""Poisson blending on the device: a face with its own gradients, in the light of the picture around it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def poisson_clone(
    face: Float[Array, "b s s c"], target: Float[Array, "b s s c"], mask: Float[Array, "b s s 1"]
) -> Float[Array, "b s s c"]:
    """The face's gradients where the mask is 1, the target around it: the discrete Poisson equation.

    Solved for the difference, which is harmonic in the mask, by as many conjugate gradients as the picture is wide.

    Args:
      face, target: [B,S,S,C], −1 to 1.
      mask: [B,S,S,1], 0 or 1, and 0 at the rim.

    Returns:
      [B,S,S,C], −1 to 1.
    """

    def neighbours(x: Array) -> Array:
        y = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return y[:, :-2, 1:-1] + y[:, 2:, 1:-1] + y[:, 1:-1, :-2] + y[:, 1:-1, 2:]

    def dot(x: Array, y: Array) -> Array:
        return jnp.sum(x * y, axis=(1, 2), keepdims=True)

    def ratio(x: Array, y: Array) -> Array:
        return jnp.where(y > 1e-12, x / jnp.maximum(y, 1e-12), 0.0)

    def descend(_: int, at: tuple[Array, ...]) -> tuple[Array, ...]:
        x, residual, direction = at
        image = mask * (4.0 * direction - neighbours(direction))
        square = dot(residual, residual)
        length = ratio(square, dot(direction, image))
        x, left = x + length * direction, residual - length * image
        return x, left, left + ratio(dot(left, left), square) * direction

    around = (1.0 - mask) * (target - face)
    wanted = mask * neighbours(around)
    found, _, _ = jax.lax.fori_loop(0, face.shape[1], descend, (jnp.zeros_like(wanted), wanted, wanted))
    return jnp.where(mask > 0, jnp.clip(face + found, -1.0, 1.0), target)

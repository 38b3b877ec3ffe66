"""Adversarial training: pictures moved to where a loss is larger, for networks that a generator is trained against.

A network trained on these answers to what people see and hardly to texture that they do not, so that a generator cannot
please it with scribbles (Santurkar et al., "Image synthesis with a single (robust) classifier", 2019).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def of_length(x: jax.Array, length: jax.Array | float) -> jax.Array:
    """Each picture of [B, H, W, C] scaled to this Euclidean length, over all its values."""
    return length * x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=(1, 2, 3), keepdims=True) + 1e-24)


def adversarial_pictures(
    pictures: jax.Array, slope: Callable[[jax.Array], jax.Array], radius: jax.Array | float, noise: jax.Array
) -> jax.Array:
    """The pictures, each moved by ``radius`` to where the loss is larger: one step of adversarial training.

    Args:
      pictures: float [B, H, W, 3] in [0, 1].
      slope: the gradient of the loss at other pictures.
      radius: Euclidean length of the move, over all values of one picture; half of it is taken at random first
        (Wong et al., "Fast is better than free", 2020).
      noise: normal numbers of the pictures' shape, the direction of the random half.
    """
    start = of_length(noise, 0.5 * radius)
    return pictures + jax.lax.stop_gradient(of_length(slope(pictures + start), radius))


def colour_perturbed_pictures(
    pictures: jax.Array,
    slope: Callable[[jax.Array], jax.Array],
    radius: jax.Array | float,
    strength: jax.Array | float,
    noise: jax.Array,
    colours: jax.Array,
) -> jax.Array:
    """``adversarial_pictures`` under a colour perturbation that varies slowly, it too chosen to make the loss larger.

    Slow changes of colour are what a generator finds first to please an identity network, and far longer moves than
    ``radius``; people are not taken in by them.

    Args:
      pictures, slope, radius, noise: as in ``adversarial_pictures``.
      strength: the most that the colour perturbation adds to or takes from a value.
      colours: uniform numbers in [−1, 1], [B, g, g, 3]: where the search for it begins. It is drawn from such a grid by
        cubic interpolation.
    """

    def perturbed(move: jax.Array, grid: jax.Array) -> jax.Array:
        return pictures + move + jax.image.resize(strength * grid, pictures.shape, "cubic")

    at = perturbed(of_length(noise, 0.5 * radius), colours)
    move = slope(at)
    # The perturbation is linear in its grid, so the grid's slope is the transposed interpolation of the picture's.
    (grid,) = jax.linear_transpose(lambda grid: jax.image.resize(grid, pictures.shape, "cubic"), colours)(move)
    return jax.lax.stop_gradient(perturbed(of_length(move, radius), jnp.clip(colours + jnp.sign(grid), -1.0, 1.0)))

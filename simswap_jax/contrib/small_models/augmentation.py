"""Corrupted targets of same-person pairs: what the generator gets in their place, so that it has to use the identity.

Where source and target show one person the target is the answer too, and a small generator learns to copy it. It learns
what an identity looks like, and with clean pictures as answers, where the target comes in other colours or with
another's face, and the identity alone says what was there (denoising; back-translation, Sennrich et al. 2016).
Not in the paper.
"""

import jax
import jax.numpy as jnp

from simswap_jax.training.draws import drawn

CELLS = 8  # a grid of so many by so many colours, smoothly joined


def recoloured(pictures: jax.Array, strength: float, key: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Faces in colours that nobody has: gain and gamma moved, and a coat of paint, all smoothly over the face.

    Args:
      pictures: float [B, H, W, 3] in [0, 1], aligned: the head fills an ellipse about the middle. Outside of it nothing
        changes.
      strength: of gain and gamma; 1 moves gains by about a third of themselves (one standard deviation).
      key: of this step.
      axis_name: the mapped axis under ``pmap``.

    Returns:
      the same shape, in [0, 1].
    """
    count, height, width, _ = pictures.shape
    of_whole, of_grid, of_share, of_coat = jax.random.split(key, 4)
    whole = drawn(jax.random.normal, of_whole, (count, 1, 1, 8), axis_name)
    grid = drawn(jax.random.normal, of_grid, (count, CELLS, CELLS, 8), axis_name)
    share = drawn(jax.random.uniform, of_share, (count, 1, 1, 1), axis_name)
    paint = drawn(jax.random.normal, of_coat, (count, CELLS, CELLS, 4), axis_name)
    head = _head(height, width)
    # Of gain: one for all channels and one each; of gamma: the same.
    moves = strength * head * (whole + share * jax.image.resize(grid, (count, height, width, 8), "cubic"))
    gain = 0.25 * moves[..., 0:1] + 0.2 * moves[..., 1:4]
    gamma = 0.3 * moves[..., 4:5] + 0.15 * moves[..., 5:8]
    moved = jnp.clip(jnp.clip(pictures, 1e-3, 1.0) ** jnp.exp(gamma) * jnp.exp(gain), 0.0, 1.0)
    coat = jax.nn.sigmoid(1.5 * jax.image.resize(paint, (count, height, width, 4), "cubic"))
    thick = min(strength, 1.0) * head * share * jnp.clip(1.6 * coat[..., 3:] - 0.6, 0.0, 0.8)
    return moved + thick * (coat[..., :3] - moved)


def _head(height: int, width: int) -> jax.Array:
    """1 where an aligned head is, softly 0 outside: [1, H, W, 1]."""
    y = jnp.linspace(-0.52, 0.48, height)[:, None] / 0.52
    x = jnp.linspace(-0.5, 0.5, width)[None, :] / 0.46
    return jnp.clip((1.15 - jnp.sqrt(x * x + y * y)) / 0.3, 0.0, 1.0)[None, :, :, None]


def of_the_next(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Each sample's successor in the batch, mostly another person's: [B, …] → [B, …]. The last one's is the first."""
    if axis_name is None:
        return jnp.roll(x, -1, axis=0)
    whole = jnp.roll(jax.lax.all_gather(x, axis_name, tiled=True), -1, axis=0)
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis_name) * x.shape[0], x.shape[0])

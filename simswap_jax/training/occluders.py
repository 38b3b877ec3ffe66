"""Drawn occluders: a hand, a ball, glasses or a stick in front of a face, as a pure function of random numbers.

They stand for the paper's photographed hands and rendered objects, so that HEAR-Net learns to bring back what is in
front of a face without any further pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

NUMBERS = 16  # random numbers of one occluder
EYES = (0.5, 0.42)  # about where the middle of the eyes is in an aligned face: x, y, shares of its side
SKIN = ((0.28, 0.18, 0.13), (0.98, 0.82, 0.72))  # a hand's colour lies between these
Points = tuple[Float[Array, "s s"], Float[Array, "s s"]]  # x and y of every pixel, shares of the side
Distance = Float[Array, "s s"]


def occluded(pictures: Float[Array, "b h w 3"], random: Float[Array, "b n"], share: float) -> Float[Array, "b h w 3"]:
    """Pictures with something drawn over some of them.

    Args:
      pictures: [B,H,W,3] in [0, 1], square.
      random: uniform in [0, 1), [B, `NUMBERS`]: a sample's occluder depends on its own numbers alone.
      share: how many get one, 0 to 1.
    """
    colour, cover = jax.vmap(functools.partial(occluder, side=pictures.shape[1]))(random)
    cover = cover * (random[:, -1] < share).astype(cover.dtype)[:, None, None, None]
    return (1.0 - cover) * pictures + cover * colour


def occluder(random: Float[Array, " n"], side: int) -> tuple[Float[Array, "s s 3"], Float[Array, "s s 1"]]:
    """Colour in [0, 1] and cover (1 where it hides the face) of one occluder, from its random numbers."""
    kind, turn, x, y, size, shape, light, across, down, tone, *colour = random[:13]
    places = (jnp.arange(side) + 0.5) / side
    grid = jnp.meshgrid(places, places)
    size = 0.07 + 0.09 * size
    at = moved(grid, 0.15 + 0.7 * x, 0.3 + 0.6 * y, 2 * jnp.pi * turn)
    eyes = moved(grid, EYES[0] + 0.04 * (x - 0.5), EYES[1] + 0.04 * (y - 0.5), 0.3 * (turn - 0.5))
    distances = jnp.stack([
        hand(at, size, shape),
        jnp.hypot(at[0], at[1] / (0.6 + 0.8 * shape)) - size,
        glasses(eyes, shape),
        jnp.abs(at[1]) - 0.35 * size,
    ])  # fmt: skip
    which = jnp.floor(4 * kind).astype(jnp.int32)
    skin = jnp.stack([dark + tone * (bright - dark) for dark, bright in zip(*SKIN)])
    plain = jnp.where(which == 0, skin, jnp.stack(colour))
    shade = 0.8 + 0.4 * light * jnp.sin(8 * (grid[0] * across + grid[1] * down))
    cover = jnp.clip(0.5 - distances[which] * side, 0.0, 1.0)  # soft over a pixel
    return jnp.clip(plain[None, None, :] * shade[..., None], 0.0, 1.0), cover[..., None]


def moved(points: Sequence[Array], x: Array, y: Array, angle: Array) -> Points:
    """Points as seen from (x, y), turned by an angle in radians."""
    there, cos, sin = (points[0] - x, points[1] - y), jnp.cos(angle), jnp.sin(angle)
    return cos * there[0] - sin * there[1], sin * there[0] + cos * there[1]


def capsule(points: Points, start: Sequence[Array], end: Sequence[Array], radius: Array) -> Distance:
    """Signed distance to everything that is within a radius of a line from start to end; negative inside."""
    line = [e - s for s, e in zip(start, end, strict=True)]
    there = [p - s for s, p in zip(start, points, strict=True)]
    along = (there[0] * line[0] + there[1] * line[1]) / (jnp.square(line[0]) + jnp.square(line[1]))
    along = jnp.clip(along, 0.0, 1.0)
    return jnp.hypot(there[0] - along * line[0], there[1] - along * line[1]) - radius


def hand(points: Points, size: Array, spread: Array) -> Distance:
    """Signed distance to a palm at the origin, an arm to its left and four fingers to its right."""
    parts = [capsule(points, (0 * size, 0 * size), (-6 * size, 0 * size), 0.8 * size)]
    for finger in (-1.5, -0.5, 0.5, 1.5):
        start = 0.3 * size, 0.5 * finger * size
        end = (2.4 - 0.2 * abs(finger)) * size, (0.5 + 0.4 * spread) * finger * size
        parts.append(capsule(points, start, end, 0.24 * size))
    return functools.reduce(jnp.minimum, parts)


def glasses(points: Points, shape: Array) -> Distance:
    """Signed distance to frames around eyes beside the origin, with temples; the lenses are dark in half of them."""
    radius, thick = 0.09 + 0.04 * shape, 0.012
    across, level = jnp.abs(points[0]), jnp.abs(points[1]) - thick
    lens = jnp.hypot(across - 0.15, points[1]) - radius
    rim = jnp.where(shape < 0.5, jnp.abs(lens), lens) - thick
    bridge = jnp.maximum(level, across - (0.15 - radius))
    temple = jnp.maximum(level, 0.15 + radius - across)
    return jnp.minimum(rim, jnp.minimum(bridge, temple))

"""Normalisation by a map's own statistics and the (leaky) ReLU after it, in few passes over the map.

Forward: one pass for both statistics, one for the result. Backward: one for the sums of the gradient, one for that of
the map. What JAX derives by itself reads the map more often, and the step of a GPU or TPU waits for memory.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from simswap_jax.models.ops.platform import by_platform


class Norm(NamedTuple):
    """Which normalisation.

    Attributes:
      axes: over which statistics are taken: all but the channels (batch norm), or rows and columns (instance norm).
      epsilon: what is added to the variance.
      slope: of the activation below 0: 0 for ReLU, 1 for none.
      dtype: of the result.
      axis_name: the pmap axis, if the statistics are those of all devices.
    """

    axes: tuple[int, ...]
    epsilon: float
    slope: float
    dtype: Any
    axis_name: str | None = None


class Statistics(NamedTuple):
    """Mean and biased variance, float32, with ones for the axes they were taken over. No gradient goes through them."""

    mean: Array
    var: Array


def statistics(x: Array, shift: Array, norm: Norm) -> Statistics:
    """Of a map; on a GPU in one pass.

    Args:
      x: the map.
      shift: near the mean (shifted-data variance), so that one pass keeps its precision; changes no number.
      norm: axes and ``axis_name``.
    """
    mean_of = functools.partial(jnp.mean, axis=norm.axes, keepdims=True)

    def everywhere(values: Array) -> Array:
        return values if norm.axis_name is None else lax.pmean(values, norm.axis_name)

    def two_passes(x: Array, _: Array) -> Statistics:
        x = x.astype(jnp.float32)
        mean = everywhere(mean_of(x))
        return Statistics(mean, everywhere(mean_of(jnp.square(x - mean))))

    def one_pass(x: Array, shift: Array) -> Statistics:
        moved = x.astype(jnp.float32) - shift
        mean, square = everywhere(jnp.stack([mean_of(moved), mean_of(jnp.square(moved))]))
        return Statistics(mean + shift, jnp.maximum(square - jnp.square(mean), 0.0))

    found: Statistics = by_platform(x, lax.stop_gradient(shift), default=two_passes, gpu=one_pass)
    return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def normalised(x: Array, scale: Array, bias: Array, shift: Array, norm: Norm) -> tuple[Array, Statistics]:
    """act((x − mean)·scale/√(var + ε) + bias), and the statistics. Any number of reverse derivatives.

    Args:
      x: a map [B,…,C].
      scale, bias: float32, one for each of the statistics' values.
      shift: as in `statistics`; not differentiated.
      norm: which normalisation.
    """
    return _forward(x, scale, bias, shift, norm)[0]


Saved = tuple[Array, Array, Array, Statistics]


def _forward(x: Array, scale: Array, bias: Array, shift: Array, norm: Norm) -> tuple[tuple[Array, Statistics], Saved]:
    found = statistics(x, shift, norm)
    result = activated(_standardised(x, found, norm) * scale + bias, norm.slope)
    return (result.astype(norm.dtype), found), (x, scale, bias, found)


def _standardised(x: Array, found: Statistics, norm: Norm) -> Array:
    return (x.astype(jnp.float32) - found.mean) * lax.rsqrt(found.var + norm.epsilon)


def activated(z: Array, slope: float) -> Array:
    """What is above 0 as it is, what is below times the slope."""
    # A comparison here would be kept as a map of its own for the gradient.
    return z if slope == 1.0 else jnp.maximum(z, slope * z)


def two_sums(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    """Sums of two maps of one shape, [2, …]; on a GPU as complex numbers: what both are made of is read once."""

    def apart(a: Array, b: Array) -> Array:
        return jnp.stack([jnp.sum(each, axes, keepdims=True) for each in (a, b)])

    def together(a: Array, b: Array) -> Array:
        both = jnp.sum(lax.complex(a, b), axes, keepdims=True)
        return jnp.stack([both.real, both.imag])

    return by_platform(a, b, default=apart, gpu=together)


def _backward(norm: Norm, saved: Saved, cotangents: tuple[Array, Statistics]) -> tuple[Array, Array, Array, Array]:
    x, scale, bias, found = saved
    g, slope, inverse = cotangents[0].astype(jnp.float32), norm.slope, lax.rsqrt(found.var + norm.epsilon)
    centred = x.astype(jnp.float32) - found.mean
    standard = centred * inverse
    summed = moved = g
    if slope != 1.0:
        summed = jnp.where(standard * scale + bias > 0, g, slope * g)
        # In other words than the line above, or XLA would write the comparison as a map and read it twice.
        moved = jnp.where(centred * (inverse * scale) + bias <= 0, slope * g, g)
    sums = two_sums(summed, summed * standard, norm.axes)
    means = sums / (x.size // found.mean.size)
    mean_gradient, along = means if norm.axis_name is None else lax.pmean(means, norm.axis_name)
    factor = scale * inverse
    of_x = moved * factor - centred * (along * factor * inverse) - mean_gradient * factor
    return of_x.astype(x.dtype), sums[1], sums[0], jnp.zeros_like(found.mean)


normalised.defvjp(_forward, _backward)

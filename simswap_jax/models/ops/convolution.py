"""Convolutions: :func:`convolve` and :func:`depthwise`, each in the form that suits the platform.

Under them lies a convolution F(x, kernel) and its two gradients, I to x and W to the kernel, each with the others as
its gradients.

<F(x, k), g> = <x, I(g, k)> = <k, W(x, g)>: however often it is differentiated, only these three are computed. By itself
JAX reverses results (``rev``) where it differentiates I and W, as the gradient penalty does. XLA's CPU back end is slow
at that, and the compiler of libtpu 0.0.42 for v4 and v5p crashes on it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.ops import cpu
from simswap_jax.models.ops.platform import by_platform


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], stride: int = 1, padding: int = 0
) -> Float[Array, "b h2 w2 o"]:
    """A convolution, [B,H,W,I] with [kh,kw,I,O] → [B,H',W',O], zero-padded by ``padding`` on every side."""

    def plain(x: Array, kernel: Array) -> Array:
        return convolution(x, kernel, stride, padding)

    def product(x: Array, kernel: Array) -> Array:
        return jnp.dot(x[:, ::stride, ::stride], kernel[0, 0])

    if kernel.shape[:2] == (1, 1) and padding == 0:
        # The same as a matrix product, whose gradient XLA's CPU back end computes three times faster. For a strided
        # one XLA's compiler for GPUs may find no tiles (Triton), and cuDNN moves fewer bytes.
        return product(x, kernel) if stride == 1 else by_platform(x, kernel, default=plain, cpu=product, tpu=product)

    def refolded(x: Array, kernel: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return cpu.few_inputs(x, kernel) if x.shape[-1] < kernel.shape[3] else cpu.few_outputs(x, kernel)

    def widened(x: Array, kernel: Array) -> Array:
        # XLA's CPU convolutions are nine times slower with three input channels than with four.
        more = 4 - x.shape[-1]
        x, kernel = (
            jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))),
            jnp.pad(kernel, ((0, 0), (0, 0), (0, more), (0, 0))),
        )
        return convolution(x, kernel, stride, padding)

    size, channels, features = kernel.shape[0], x.shape[-1], kernel.shape[3]
    wide_and_narrow = size >= 5 and min(channels, features) <= 16
    if stride == 1 and (wide_and_narrow or (size >= 3 and features <= 4)):
        return by_platform(x, kernel, default=plain, cpu=refolded)
    return by_platform(x, kernel, default=plain, cpu=widened) if channels < 4 else plain(x, kernel)


def depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw 1 c"], stride: int, padding: int
) -> Float[Array, "b h2 w2 c"]:
    """One small filter per channel, [B,H,W,C] with [kh,kw,1,C] → [B,H',W',C], zero-padded."""

    def grouped(x: Array, kernel: Array) -> Array:
        names, pads = ("NHWC", "HWIO", "NHWC"), ((padding, padding),) * 2
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=names, feature_group_count=x.shape[-1]
        )

    def shifted(x: Array, kernel: Array) -> Array:
        return cpu.shifted_depthwise(x, kernel, stride, padding)

    return by_platform(x, kernel, default=grouped, cpu=shifted)


def _plain(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    pads = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolution(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], stride: int, padding: int
) -> Float[Array, "b h2 w2 o"]:
    """A convolution, [B,H,W,I] with [kh,kw,I,O] → [B,H',W',O], zero-padded; any number of reverse derivatives."""
    return _plain(x, kernel, stride, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _to_input(g: Array, kernel: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    like = jax.ShapeDtypeStruct(shape, g.dtype)
    (x,) = jax.linear_transpose(lambda x: _plain(x, kernel, stride, padding), like)(g)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _to_kernel(x: Array, g: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    like = jax.ShapeDtypeStruct(shape, x.dtype)
    (kernel,) = jax.linear_transpose(lambda kernel: _plain(x, kernel, stride, padding), like)(g)
    return kernel


Two = tuple[Array, Array]


def _backward(stride: int, padding: int, saved: Two, g: Array) -> Two:
    x, kernel = saved
    return _to_input(g, kernel, x.shape, stride, padding), _to_kernel(x, g, kernel.shape, stride, padding)


def _to_input_backward(shape: tuple[int, ...], stride: int, padding: int, saved: Two, x: Array) -> Two:
    g, kernel = saved
    return convolution(x, kernel, stride, padding), _to_kernel(x, g, kernel.shape, stride, padding)


def _to_kernel_backward(shape: tuple[int, ...], stride: int, padding: int, saved: Two, kernel: Array) -> Two:
    x, g = saved
    return _to_input(g, kernel, x.shape, stride, padding), convolution(x, kernel, stride, padding)


convolution.defvjp(lambda x, kernel, *rest: (convolution(x, kernel, *rest), (x, kernel)), _backward)
_to_input.defvjp(lambda g, kernel, *rest: (_to_input(g, kernel, *rest), (g, kernel)), _to_input_backward)
_to_kernel.defvjp(lambda x, g, *rest: (_to_kernel(x, g, *rest), (x, g)), _to_kernel_backward)

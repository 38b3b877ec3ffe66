"""Convolutions rewritten for XLA's CPU back end, which is slow at some shapes: the same sums in another order.

These are large kernels with few input or output channels, and depthwise convolutions; ``docs/experiments/cpu.md`` has
the times. Other back ends do best with the plain convolution.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def few_inputs(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"]) -> Float[Array, "b h2 w2 o"]:
    """A valid stride-1 convolution of few input channels, as one of twice as many.

    Two neighbouring columns are read as one of 2·I channels, and two neighbouring outputs are computed at once.
    [B,H,W,I] with [kh,kw,I,O] → [B,H−kh+1,W−kw+1,O].
    """
    x, folded, columns = _fold_columns(x, kernel, 2)
    y = lax.conv_general_dilated(x, folded, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*y.shape[:2], -1, kernel.shape[3])[:, :, :columns]


def few_outputs(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"]) -> Float[Array, "b h2 w2 o"]:
    """A valid stride-1 convolution of few output channels, as matrix products.

    kw − 1 neighbouring outputs are computed at once, so that each needs two blocks of kw − 1 columns; the products of
    all kernel rows are taken together, then shifted and summed. [B,H,W,I] with [kh,kw,I,O] → [B,H−kh+1,W−kw+1,O].
    """
    kh, kw, _, out = kernel.shape
    x, folded, columns = _fold_columns(x, kernel, kw - 1)
    wide = folded.shape[3]
    # [kh, blocks, block of inputs, block of outputs] → per block of columns a matrix to all kernel rows' outputs.
    matrices = folded.transpose(1, 2, 0, 3).reshape(folded.shape[1], folded.shape[2], kh * wide)
    blocks = x.shape[2] - folded.shape[1] + 1
    products = [jnp.dot(x[:, :, j : j + blocks], matrices[j]) for j in range(folded.shape[1])]
    rows = x.shape[1] - kh + 1
    total = sum(products[1:], products[0])
    y = sum((total[:, i : i + rows, :, i * wide : (i + 1) * wide] for i in range(1, kh)), total[:, :rows, :, :wide])
    return y.reshape(*y.shape[:2], -1, out)[:, :, :columns]


def _fold_columns(x: Array, kernel: Array, fold: int) -> tuple[Array, Array, int]:
    """Reads ``fold`` columns as one of fold·I channels: the folded map, its kernel, the columns of the output."""
    kh, kw, inside, out = kernel.shape
    b, h, w, _ = x.shape
    columns = w - kw + 1
    blocks, reach = -(-columns // fold), -(-(fold + kw - 1) // fold)
    width = (blocks + reach - 1) * fold
    x = jnp.pad(x, ((0, 0), (0, 0), (0, width - w), (0, 0))).reshape(b, h, width // fold, fold * inside)
    # The output at offset q of a block sees the kernel shifted by q columns.
    shifted = [jnp.pad(kernel, ((0, 0), (q, reach * fold - kw - q), (0, 0), (0, 0))) for q in range(fold)]
    return x, jnp.stack(shifted, axis=3).reshape(kh, reach, fold * inside, fold * out), columns


def _taps(x: Array, kernel: Array, stride: int) -> Array:
    """Valid depthwise convolution of [B,H,W,C] with [kh,kw,1,C]."""
    b, h, w, c = x.shape
    kh, kw = kernel.shape[:2]
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    if (rows, columns) == (1, 1):
        return jnp.sum(x * kernel.reshape(1, kh, kw, c), (1, 2), keepdims=True)
    total: Array | None = None
    for i in range(kh):
        for j in range(kw):
            end = (b, i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1, c)
            part = lax.slice(x, (0, i, j, 0), end, (1, stride, stride, 1)) * kernel[i, j].reshape(1, 1, 1, c)
            total = part if total is None else total + part
    assert total is not None  # a window has one tap at least
    return total


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def shifted_depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw 1 c"], stride: int, padding: int
) -> Float[Array, "b h2 w2 c"]:
    """Depthwise convolution, zero-padded: [B,H,W,C] with [kh,kw,1,C] → [B,H',W',C]."""
    return _taps(_zero_pad(x, padding), kernel, stride)


def _zero_pad(x: Array, padding: int) -> Array:
    return jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _forward(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return shifted_depthwise(x, kernel, stride, padding), (x, kernel)


def _backward(stride: int, padding: int, saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = saved
    return _input_gradient(g, kernel, x.shape, stride, padding), _kernel_gradient(g, x, kernel.shape, stride, padding)


def _input_gradient(g: Array, kernel: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """The transposed convolution: the flipped kernel over g, spread out by the stride."""
    _, h, w, c = shape
    kh, kw = kernel.shape[:2]
    if g.shape[1:3] == (1, 1) and (h, w) == (kh, kw) and padding == 0:
        return g * kernel.reshape(1, kh, kw, c)
    rows, columns = g.shape[1:3]
    spread = lax.pad(
        g,
        jnp.zeros((), g.dtype),
        (
            (0, 0, 0),
            (kh - 1 - padding, h - (stride * (rows - 1) + 1) + padding, stride - 1),
            (kw - 1 - padding, w - (stride * (columns - 1) + 1) + padding, stride - 1),
            (0, 0, 0),
        ),
    )
    return _taps(spread, kernel[::-1, ::-1], 1)


def _kernel_gradient(g: Array, x: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """For every tap, the sum over the batch and the map of g times the input under it."""
    x = _zero_pad(x, padding)
    b, rows, columns, c = g.shape
    taps = []
    for i in range(shape[0]):
        for j in range(shape[1]):
            end = (b, i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1, c)
            taps.append(jnp.sum(lax.slice(x, (0, i, j, 0), end, (1, stride, stride, 1)) * g, (0, 1, 2)))
    return jnp.stack(taps).reshape(shape)


shifted_depthwise.defvjp(_forward, _backward)

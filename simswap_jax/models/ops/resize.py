"""Padding and resizing of maps, NHWC, with PyTorch's numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.ops.platform import by_platform


def along_axes(x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """A matrix along the rows and one along the columns of every map. [B,H,W,C], [H',H], [W',W] → [B,H',W',C].

    Those of up-sampling and mirroring hold 0, 1 and multiples of 1/4: exact in bfloat16.
    """
    # By itself a TPU would round float32 operands to bfloat16.
    precision = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    for axis, matrix in ((1, rows), (2, columns)):
        product = lax.dot_general(jnp.asarray(matrix, x.dtype), x, (((1,), (axis,)), ((), ())), precision=precision)
        x = jnp.moveaxis(product, 0, axis)
    return x


def upsampled(x: Array) -> Array:
    """Bilinear ×2, [B,H,W,C] → [B,2H,2W,C]."""
    return along_axes(x, upsampling_matrix(x.shape[1]), upsampling_matrix(x.shape[2]))


def upsampled_gradient(g: Array) -> Array:
    """The transpose of :func:`upsampled`, [B,2H,2W,C] → [B,H,W,C]."""
    return along_axes(g, upsampling_matrix(g.shape[1] // 2).T, upsampling_matrix(g.shape[2] // 2).T)


def reflect_padded_gradient(g: Array, pad: int) -> Array:
    """The transpose of padding by mirrored pixels, [B,H+2·pad,W+2·pad,C] → [B,H,W,C]."""
    return along_axes(g, mirror(g.shape[1] - 2 * pad, pad).T, mirror(g.shape[2] - 2 * pad, pad).T)


def upsampling_matrix(length: int) -> np.ndarray:
    """Bilinear ×2 as a matrix [2·length, length]: half-pixel centres, clamped edges."""
    matrix: np.ndarray = np.zeros((2 * length, length), np.float32)
    for i in range(length):
        for row, neighbour in ((2 * i, max(i - 1, 0)), (2 * i + 1, min(i + 1, length - 1))):
            matrix[row, i] += 0.75
            matrix[row, neighbour] += 0.25
    return matrix


def mirror(length: int, pad: int) -> np.ndarray:
    """Padding by mirrored pixels as a matrix [length + 2·pad, length]; the edges are not repeated."""
    return np.eye(length, dtype=np.float32)[np.pad(np.arange(length), pad, mode="reflect")]


def reflect_pad(x: Float[Array, "b h w c"], pad: int) -> Float[Array, "b h2 w2 c"]:
    """Mirrors ``pad`` rows and columns about the edge pixels, which are not repeated. [B,H,W,C] → [B,H+2p,W+2p,C]."""
    if pad >= min(x.shape[1:3]):
        raise ValueError(
            f"A map of {x.shape[1]}×{x.shape[2]} cannot be mirrored by {pad}; use a larger picture or fewer layers."
        )
    return _mirrored(x, pad)


def _reflected(x: Array, pad: int) -> Array:
    return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")


def _summed(x: Array, pad: int) -> Array:
    """The same as a sum of parts with zeros about them: one pass over a map on a GPU, where joining is two."""
    for axis in (1, 2):
        length = x.shape[axis]
        first = lax.rev(lax.slice_in_dim(x, 1, 1 + pad, axis=axis), (axis,))
        last = lax.rev(lax.slice_in_dim(x, length - 1 - pad, length - 1, axis=axis), (axis,))
        x = _widened(x, axis, pad, pad) + _widened(first, axis, 0, length + pad) + _widened(last, axis, length + pad, 0)
    return x


def _widened(x: Array, axis: int, before: int, after: int) -> Array:
    """With so many zeros before and after it, along one axis."""
    return jnp.pad(x, [(before, after) if i == axis else (0, 0) for i in range(x.ndim)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _mirrored(x: Array, pad: int) -> Array:
    return by_platform(x, default=functools.partial(_reflected, pad=pad), gpu=functools.partial(_summed, pad=pad))


def _gradient_of(form: Callable[..., Array], pad: int) -> Callable[[Array], Array]:
    """The transpose of a form of mirrored padding, as JAX derives it; on a TPU that would copy the map six times."""

    def gradient(g: Array) -> Array:
        batch, height, width, channels = g.shape
        like = jax.ShapeDtypeStruct((batch, height - 2 * pad, width - 2 * pad, channels), g.dtype)
        (x,) = jax.linear_transpose(functools.partial(form, pad=pad), like)(g)
        return x

    return gradient


def _mirrored_backward(pad: int, _: None, g: Array) -> tuple[Array]:
    product = functools.partial(reflect_padded_gradient, pad=pad)
    return (by_platform(g, default=_gradient_of(_reflected, pad), gpu=_gradient_of(_summed, pad), tpu=product),)


_mirrored.defvjp(lambda x, pad: (_mirrored(x, pad), None), _mirrored_backward)


@jax.custom_vjp
def upsample_bilinear(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Bilinear ×2 with half-pixel centres and clamped edges (torch ``align_corners=False``). [B,H,W,C] → [B,2H,2W,C].

    Written as shifted sums, as is its gradient: what XLA derives by itself is slower on a CPU. On a TPU both are matrix
    products.
    """
    return by_platform(x, default=_upsampled, tpu=upsampled)


def _upsampled(x: Array) -> Array:
    return upsampled_along(upsampled_along(x, 1), 2)


def upsampled_along(x: Array, axis: int) -> Array:
    """Bilinear ×2 along one axis: even outputs are ¼·before + ¾·here, odd ones ¾·here + ¼·after."""
    before, after = _neighbours(x, axis)
    pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _neighbours(x: Array, axis: int) -> tuple[Array, Array]:
    """What lies before and after each place; at the edges the place itself."""
    length = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, length - 1)], axis)
    after = jnp.concatenate([part(1, length), part(length - 1, length)], axis)
    return before, after


def _upsample_gradient(g: Array, axis: int) -> Array:
    """The transpose of :func:`upsampled_along`."""
    length = g.shape[axis] // 2
    pairs = g.reshape(*g.shape[:axis], length, 2, *g.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    part = functools.partial(lax.slice_in_dim, axis=axis)
    # A pixel feeds the even output after it and the odd one before it; at the edges its own, through the clamp.
    later = jnp.concatenate([part(even, 1, length), part(odd, length - 1, length)], axis)
    earlier = jnp.concatenate([part(even, 0, 1), part(odd, 0, length - 1)], axis)
    return 0.75 * (even + odd) + 0.25 * (later + earlier)


def _upsampled_gradient(g: Array) -> Array:
    return _upsample_gradient(_upsample_gradient(g, 2), 1)


def _upsample_backward(_: None, g: Array) -> tuple[Array]:
    return (by_platform(g, default=_upsampled_gradient, tpu=upsampled_gradient),)


upsample_bilinear.defvjp(lambda x: (upsample_bilinear(x), None), _upsample_backward)


def resize_bicubic(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b {height} {width} c"]:
    """Torch's bicubic (a = −0.75, no anti-aliasing). [B,H,W,C] → [B,height,width,C]."""

    def products(x: Array) -> Array:
        return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "cubic-pytorch", antialias=False)

    # Triton finds no tiles for JAX's own products, of the map by a matrix: not of 224 × 112, and not of 512 × 112 for
    # an A100. It finds them where the matrix comes first.
    if x.shape[1:3] != (2 * height, 2 * width):
        return by_platform(x, default=products, gpu=lambda x: _bicubic(x, height, width))
    return by_platform(x, default=lambda x: _halve(_halve(x, 1), 2), tpu=products)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _bicubic(x: Array, height: int, width: int) -> Array:
    """Bicubic, as products whose matrices come first, in the gradient, too. [B,H,W,C] → [B,height,width,C]."""
    return along_axes(x, _bicubic_matrix(x.shape[1], height), _bicubic_matrix(x.shape[2], width))


def _bicubic_forward(x: Array, height: int, width: int) -> tuple[Array, tuple[int, ...]]:
    return _bicubic(x, height, width), x.shape[1:3]


def _bicubic_backward(height: int, width: int, shape: tuple[int, ...], g: Array) -> tuple[Array]:
    return (along_axes(g, _bicubic_matrix(shape[0], height).T, _bicubic_matrix(shape[1], width).T),)


_bicubic.defvjp(_bicubic_forward, _bicubic_backward)


def _bicubic_matrix(length: int, out: int) -> np.ndarray:
    """Bicubic resizing (a = −0.75) as a matrix [out, length]; made without a device, for a step is traced while nothing
    may go there.
    """
    matrix: np.ndarray = np.zeros((out, length), np.float32)
    centre = (np.arange(out) + 0.5) * length / out - 0.5
    first = np.floor(centre).astype(int) - 1
    for tap in range(4):
        t = np.abs(centre - (first + tap))
        near, far = 1.25 * t**3 - 2.25 * t**2 + 1.0, -0.75 * t**3 + 3.75 * t**2 - 6.0 * t + 3.0
        np.add.at(matrix, (np.arange(out), np.clip(first + tap, 0, length - 1)), np.where(t <= 1.0, near, far))
    return matrix


def _halve(x: Array, axis: int) -> Array:
    """Bicubic ×½ of an even length: output i is 19/32·(x₂ᵢ + x₂ᵢ₊₁) − 3/32·(x₂ᵢ₋₁ + x₂ᵢ₊₂), the edges clamped."""
    length = x.shape[axis] // 2
    pairs = x.reshape(*x.shape[:axis], length, 2, *x.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    part = functools.partial(lax.slice_in_dim, axis=axis)
    before = jnp.concatenate([part(even, 0, 1), part(odd, 0, length - 1)], axis)
    after = jnp.concatenate([part(even, 1, length), part(odd, length - 1, length)], axis)
    return (19 / 32) * (even + odd) - (3 / 32) * (before + after)


def resize_nearest(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b {height} {width} c"]:
    """Torch's *nearest*: output i takes input floor(i·in/out). [B,H,W,C] → [B,height,width,C]."""
    rows = (jnp.arange(height) * x.shape[1]) // height
    columns = (jnp.arange(width) * x.shape[2]) // width
    return x[:, rows][:, :, columns]


def resize_area(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b {height} {width} c"]:
    """Means of whole blocks. [B,H,W,C] → [B,height,width,C], H and W multiples of height and width."""
    b, h, w, c = x.shape
    if h % height or w % width:
        raise ValueError(f"A picture of {h}×{w} has no whole blocks for {height}×{width}; use a multiple of that.")
    return jnp.mean(x.reshape(b, height, h // height, width, w // width, c), (2, 4))


def resize_bilinear_corners(
    x: Float[Array, "b h w c"], height: int, width: int
) -> Float[Array, "b {height} {width} c"]:
    """Bilinear with ``align_corners=True``: the corner pixels stay corner pixels. [B,H,W,C] → [B,height,width,C]."""

    def weights(size: int, out: int) -> Array:
        position = jnp.arange(out) * ((size - 1) / max(out - 1, 1))
        return jnp.maximum(0.0, 1.0 - jnp.abs(position[:, None] - jnp.arange(size)[None, :])).astype(x.dtype)

    x = jnp.einsum("ih,bhwc->biwc", weights(x.shape[1], height), x)
    return jnp.einsum("jw,biwc->bijc", weights(x.shape[2], width), x)


def pixel_unshuffle(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 o"]:
    """[B,H,W,C] → [B,H/f,W/f,f·f·C]."""
    if factor == 1:
        return x
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // factor, w // factor, factor * factor * c)


def pixel_shuffle(x: Float[Array, "b h w c"], factor: int) -> Float[Array, "b h2 w2 o"]:
    """Undoes :func:`pixel_unshuffle`: [B,H,W,f·f·C] → [B,f·H,f·W,C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, factor, factor, c // factor**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * factor, w * factor, c // factor**2)

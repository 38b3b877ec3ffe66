"""The layers that the networks share: torch-exact convolutions, norms, resizing and activations, NHWC.

Every number equals PyTorch's. Parameters and statistics are float32; ``dtype`` is what a layer computes and returns.
The same mathematics is written in two ways where XLA's CPU back end needs it (convolutions of three channels, depthwise
convolutions); :func:`on_cpu` decides, while tracing.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from simswap_jax.models.ops import tpu
from simswap_jax.models.ops.convolution import convolution
from simswap_jax.models.ops.cpu import few_inputs, few_outputs, shifted_depthwise

Dtype = Any

# PyTorch's default for convolutions and linear layers: uniform in ±1/sqrt(fan_in). Small weights in front of a norm
# make for a large relative step. Published SimSwap trainings started from it. Biases start at zero.
torch_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")

_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Traces made inside are meant for ``platform`` ("cpu", "gpu", "tpu"), whatever this machine has."""
    token = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(token)


def on_cpu() -> bool:
    """Whether the program being traced will run on a CPU."""
    return (_platform.get() or jax.default_backend()) == "cpu"


def on_tpu() -> bool:
    """Whether the program being traced will run on a TPU."""
    return (_platform.get() or jax.default_backend()) == "tpu"


def per_channel(vector: Array, rank: int) -> Array:
    """A [C] vector as [1, …, 1, C] of the given rank."""
    return vector.reshape((1,) * (rank - 1) + (-1,))


# --- padding and resizing ------------------------------------------------------------------------------------------


def reflect_pad(x: Array, pad: int) -> Array:
    """Mirrors ``pad`` rows and columns about the edge pixels, which are not repeated. [B,H,W,C] → [B,H+2p,W+2p,C]."""
    if pad >= min(x.shape[1:3]):
        raise ValueError(
            f"A map of {x.shape[1]}×{x.shape[2]} cannot be mirrored by {pad}; use a larger picture or fewer layers."
        )
    return _mirrored(x, pad) if on_tpu() else _reflected(x, pad)


def _reflected(x: Array, pad: int) -> Array:
    return jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _mirrored(x: Array, pad: int) -> Array:
    """:func:`reflect_pad` for a TPU, where the gradient that XLA derives copies the map six times."""
    return _reflected(x, pad)


def _mirrored_backward(pad: int, _: None, g: Array) -> tuple[Array]:
    height, width = (length - 2 * pad for length in g.shape[1:3])
    return (tpu.along_axes(g, tpu.mirror(height, pad).T, tpu.mirror(width, pad).T),)


_mirrored.defvjp(lambda x, pad: (_mirrored(x, pad), None), _mirrored_backward)


@jax.custom_vjp
def bilinear_double(x: Array) -> Array:
    """Bilinear ×2 with half-pixel centres and clamped edges (torch ``align_corners=False``). [B,H,W,C] → [B,2H,2W,C].

    Written as shifted sums, as is its gradient: what XLA derives by itself costs half as much again on a CPU. On a TPU
    both are matrix products.
    """
    if on_tpu():
        return tpu.along_axes(x, tpu.doubling(x.shape[1]), tpu.doubling(x.shape[2]))
    return _double(_double(x, 1), 2)


def _double(x: Array, axis: int) -> Array:
    """Even outputs are ¼·before + ¾·here, odd ones ¾·here + ¼·after."""
    before, after = _neighbours(x, axis)
    doubled = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=axis + 1)
    return doubled.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


def _neighbours(x: Array, axis: int) -> tuple[Array, Array]:
    """What lies before and after each place; at the edges the place itself."""
    length = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, length - 1)], axis)
    after = jnp.concatenate([part(1, length), part(length - 1, length)], axis)
    return before, after


def _halve_gradient(g: Array, axis: int) -> Array:
    """The transpose of :func:`_double`."""
    length = g.shape[axis] // 2
    pairs = g.reshape(*g.shape[:axis], length, 2, *g.shape[axis + 1 :])
    even, odd = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    part = functools.partial(lax.slice_in_dim, axis=axis)
    # A pixel feeds the even output after it and the odd one before it; at the edges its own, through the clamp.
    later = jnp.concatenate([part(even, 1, length), part(odd, length - 1, length)], axis)
    earlier = jnp.concatenate([part(even, 0, 1), part(odd, 0, length - 1)], axis)
    return 0.75 * (even + odd) + 0.25 * (later + earlier)


def _double_backward(_: None, g: Array) -> tuple[Array]:
    if on_tpu():
        rows, columns = (tpu.doubling(length // 2).T for length in g.shape[1:3])
        return (tpu.along_axes(g, rows, columns),)
    return (_halve_gradient(_halve_gradient(g, 2), 1),)


bilinear_double.defvjp(lambda x: (bilinear_double(x), None), _double_backward)


def resize_bicubic(x: Array, height: int, width: int) -> Array:
    """Torch's bicubic (a = −0.75, no anti-aliasing). [B,H,W,C] → [B,height,width,C]."""
    return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "cubic-pytorch", antialias=False)


def resize_nearest(x: Array, height: int, width: int) -> Array:
    """Torch's *nearest*: output i takes input floor(i·in/out). [B,H,W,C] → [B,height,width,C]."""
    rows = (jnp.arange(height) * x.shape[1]) // height
    columns = (jnp.arange(width) * x.shape[2]) // width
    return x[:, rows][:, :, columns]


def resize_area(x: Array, height: int, width: int) -> Array:
    """Means of whole blocks. [B,H,W,C] → [B,height,width,C], H and W multiples of height and width."""
    b, h, w, c = x.shape
    if h % height or w % width:
        raise ValueError(f"A picture of {h}×{w} has no whole blocks for {height}×{width}; use a multiple of that.")
    return jnp.mean(x.reshape(b, height, h // height, width, w // width, c), (2, 4))


def resize_bilinear_corners(x: Array, height: int, width: int) -> Array:
    """Bilinear with ``align_corners=True``: the corner pixels stay corner pixels. [B,H,W,C] → [B,height,width,C]."""

    def weights(size: int, out: int) -> Array:
        position = jnp.arange(out) * ((size - 1) / max(out - 1, 1))
        return jnp.maximum(0.0, 1.0 - jnp.abs(position[:, None] - jnp.arange(size)[None, :])).astype(x.dtype)

    x = jnp.einsum("ih,bhwc->biwc", weights(x.shape[1], height), x)
    return jnp.einsum("jw,biwc->bijc", weights(x.shape[2], width), x)


def space_to_depth(x: Array, factor: int) -> Array:
    """[B,H,W,C] → [B,H/f,W/f,f·f·C]."""
    if factor == 1:
        return x
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // factor, w // factor, factor * factor * c)


# --- convolutions ---------------------------------------------------------------------------------------------------


def convolve(x: Array, kernel: Array, stride: int = 1, padding: int = 0) -> Array:
    """A convolution, [B,H,W,I] with [kh,kw,I,O] → [B,H',W',O], zero-padded by ``padding`` on every side."""
    channels, size = x.shape[-1], kernel.shape[0]
    if kernel.shape[:2] == (1, 1) and padding == 0:
        # The same thing as a matrix product, whose gradient XLA's CPU back end computes three times faster.
        return jnp.dot(x[:, ::stride, ::stride], kernel[0, 0])
    wide_and_narrow = size >= 5 and min(channels, kernel.shape[3]) <= 16
    if on_cpu() and stride == 1 and (wide_and_narrow or (size >= 3 and kernel.shape[3] <= 4)):
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return few_inputs(x, kernel) if channels < kernel.shape[3] else few_outputs(x, kernel)
    if on_cpu() and channels < 4:
        # XLA's CPU convolutions are nine times slower with three input channels than with four.
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 4 - channels)))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 4 - channels), (0, 0)))
    return convolution(x, kernel, stride, padding)


@jax.custom_vjp
def rounded_product(x: Array, matrix: Array) -> Array:
    """[…,I] times [I,O] with operands rounded to bfloat16 and float32 sums; so is its gradient to ``x``."""
    rounded = (x.astype(jnp.bfloat16), matrix.astype(jnp.bfloat16))
    return jnp.dot(*rounded, preferred_element_type=jnp.float32)


def _rounded_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, matrix = saved
    to_x = rounded_product(g, matrix.T).astype(x.dtype)
    to_matrix = x.reshape(-1, x.shape[-1]).astype(jnp.float32).T @ g.reshape(-1, g.shape[-1])
    return to_x, to_matrix.astype(matrix.dtype)


rounded_product.defvjp(lambda x, matrix: (rounded_product(x, matrix), (x, matrix)), _rounded_backward)


class Conv(nn.Module):
    """A convolution as PyTorch's ``Conv2d``, with zero or reflected padding.

    Attributes:
      features: output channels.
      kernel: size of the square window.
      padding: rows and columns added on every side; mirrored if ``reflect``.
      products: what the operands of a 1×1 convolution are rounded to; sums stay float32.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    reflect: bool = False
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    products: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,I] → [B,H',W',features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.kernel == 1 and self.products == jnp.bfloat16:
            x = rounded_product(x[:, :: self.stride, :: self.stride], kernel[0, 0]).astype(self.dtype)
        elif self.reflect:
            x = convolve(reflect_pad(x, self.padding), kernel, self.stride)
        else:
            x = convolve(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            x = x + per_channel(bias.astype(self.dtype), x.ndim)
        return x


class DepthwiseConv(nn.Module):
    """One small filter per channel, no bias. Kernel [kh,kw,1,C]."""

    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] → [B,H',W',C]."""
        channels = x.shape[-1]
        kernel = self.param("kernel", torch_init, (*self.kernel, 1, channels), jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if on_cpu():
            return shifted_depthwise(x, kernel, self.stride, self.padding)
        pads = ((self.padding, self.padding),) * 2
        return lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )


class Linear(nn.Module):
    """A linear layer with a bias, kernel [in,out]; fresh weights are ``gain`` times PyTorch's."""

    features: int
    dtype: Dtype = jnp.float32
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,I] → [B,features]."""
        kernel = self.param("kernel", self._init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return y + per_channel(bias.astype(self.dtype), y.ndim)

    @nn.nowrap
    def _init(self, key: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
        return self.gain * torch_init(key, shape, dtype)


# --- norms and activations ------------------------------------------------------------------------------------------


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's numbers.

    Normalises by the biased variance, keeps the *unbiased* one: running ← 0.9·running + 0.1·batch. In training the
    batch is all devices' batch when ``axis_name`` names a pmap axis; under jit it is so by construction. Statistics
    move in every training call whose ``batch_stats`` are mutable.
    """

    axis_name: str | None = None
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B,…,C] → the same shape."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        wide = x.astype(jnp.float32)
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            shift = bias - running_mean.value * factor
            return (wide * per_channel(factor, x.ndim) + per_channel(shift, x.ndim)).astype(self.dtype)

        axes = tuple(range(x.ndim - 1))
        count = x.size // channels
        mean = jnp.mean(wide, axes)
        if self.axis_name is not None and not self.is_initializing():
            mean = lax.pmean(mean, self.axis_name)
            count *= lax.axis_size(self.axis_name)
        if count < 2 and not self.is_initializing():
            raise ValueError(
                "Batch norm needs more than one value per channel to train on; use a batch of at least two."
            )
        centred = wide - per_channel(mean, x.ndim)
        var = jnp.mean(jnp.square(centred), axes)
        if self.axis_name is not None and not self.is_initializing():
            var = lax.pmean(var, self.axis_name)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1.0 - keep) * mean
            running_var.value = keep * running_var.value + (1.0 - keep) * var * (count / (count - 1))
        factor = scale * lax.rsqrt(var + self.epsilon)
        return (centred * per_channel(factor, x.ndim) + per_channel(bias, x.ndim)).astype(self.dtype)


def instance_norm(x: Array, epsilon: float = 1e-8) -> Array:
    """Instance norm: x minus the map's mean, over the map's root mean square; no parameters, float32. [B,H,W,C]."""
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, (1, 2), keepdims=True)
    return x * lax.rsqrt(jnp.mean(jnp.square(x), (1, 2), keepdims=True) + epsilon)


class AdaIN(nn.Module):
    """Adaptive instance normalisation, the paper's eq. 1: instance norm, then the identity's scale and shift.

    A linear layer of the identity vector gives γ and β; y = norm(x)·(1+γ) + β.
    """

    dtype: Dtype = jnp.float32
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array, identity: Array) -> Array:
        """[B,H,W,C] and [B,D] → [B,H,W,C]."""
        style = Linear(2 * x.shape[-1], gain=self.gain, name="linear")(identity.astype(jnp.float32))
        gamma, beta = jnp.split(style[:, None, None, :], 2, axis=-1)
        return (instance_norm(x) * (1.0 + gamma) + beta).astype(self.dtype)


class PReLU(nn.Module):
    """x where positive, slope·x elsewhere; one slope, or one per channel."""

    shared: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Any shape ending in channels → the same."""
        slope = self.param("slope", nn.initializers.constant(0.25), (1 if self.shared else x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, per_channel(slope.astype(x.dtype), x.ndim) * x)

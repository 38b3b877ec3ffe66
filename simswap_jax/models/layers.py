"""Torch-exact modules, NHWC: convolutions, linear layers, norms and activations whose every number equals PyTorch's.

Parameters and statistics are float32; ``dtype`` is what a layer computes and returns.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.ops.convolution import convolve, depthwise
from simswap_jax.models.ops.norm import Norm, activated, normalised
from simswap_jax.models.ops.resize import reflect_pad
from simswap_jax.models.ops.upsampling import upsample_convolve

Dtype = Any

# PyTorch's default for convolutions and linear layers: uniform in ±1/sqrt(fan_in). Small weights in front of a norm
# make for a large relative step. Published SimSwap trainings started from it. Biases start at zero.
torch_init = nn.initializers.variance_scaling(1.0 / 3.0, "fan_in", "uniform")


def per_channel(vector: Float[Array, " c"], rank: int) -> Float[Array, "*_"]:
    """A [C] vector as [1, …, 1, C] of the given rank."""
    return vector.reshape((1,) * (rank - 1) + (-1,))


class Conv(nn.Module):
    """A convolution as PyTorch's ``Conv2d``, with zero or reflected padding.

    Attributes:
      features: output channels.
      kernel: size of the square window.
      padding: rows and columns added on every side; mirrored if ``reflect``.
      upsample: the map is doubled in size first, bilinearly; for a window of 3, stride 1 and zero padding of 1.
      centred: a norm follows that takes the map's own mean off again: the bias has no gradient, and what rounding would
        leave of it costs a pass over the map.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    reflect: bool = False
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    upsample: bool = False
    centred: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.upsample:
            x = upsample_convolve(x, kernel)
        elif self.reflect:
            x = convolve(reflect_pad(x, self.padding), kernel, self.stride)
        else:
            x = convolve(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            bias = lax.stop_gradient(bias) if self.centred else bias
            x = x + per_channel(bias.astype(self.dtype), x.ndim)
        return x


def transposed_conv(features: int, dtype: Dtype, name: str) -> nn.ConvTranspose:
    """A transposed convolution 4×4 of stride 2 without a bias: [B,H,W,I] → [B,2H,2W,features]."""
    return nn.ConvTranspose(
        features,
        (4, 4),
        (2, 2),
        use_bias=False,
        dtype=dtype,
        param_dtype=jnp.float32,
        kernel_init=torch_init,
        name=name,
    )


class DepthwiseConv(nn.Module):
    """One small filter per channel, no bias. Kernel [kh,kw,1,C]."""

    kernel: tuple[int, int]
    stride: int = 1
    padding: int = 0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """[B,H,W,C] → [B,H',W',C]."""
        channels = x.shape[-1]
        kernel = self.param("kernel", torch_init, (*self.kernel, 1, channels), jnp.float32).astype(self.dtype)
        return depthwise(x.astype(self.dtype), kernel, self.stride, self.padding)


class Linear(nn.Module):
    """A linear layer with a bias, kernel [in,out]."""

    features: int
    dtype: Dtype = jnp.float32
    kernel_init: Initializer = torch_init

    @nn.compact
    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b o"]:
        """[B,I] → [B,features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        return y + per_channel(bias.astype(self.dtype), y.ndim)


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's numbers, and the ReLU after it where there is one.

    Normalises by the biased variance, keeps the *unbiased* one: running ← 0.9·running + 0.1·batch. In training the
    batch is all devices' batch when ``axis_name`` names a pmap axis; under jit it is so by construction. Statistics
    move in every training call whose ``batch_stats`` are mutable.

    Attributes:
      slope: of the activation below 0: 0 for a ReLU, 0.2 for a leaky one; 1, none.
    """

    axis_name: str | None = None
    epsilon: float = 1e-5
    momentum: float = 0.9
    dtype: Dtype = jnp.float32
    slope: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], train: bool = False) -> Float[Array, "*shape"]:
        """[B,…,C] → the same shape."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            shift = bias - running_mean.value * factor
            y = x.astype(jnp.float32) * per_channel(factor, x.ndim) + per_channel(shift, x.ndim)
            return activated(y, self.slope).astype(self.dtype)

        count = x.size // channels
        axis_name = None if self.is_initializing() else self.axis_name
        if axis_name is not None:
            count *= lax.axis_size(axis_name)
        if count < 2 and not self.is_initializing():
            raise ValueError(
                "Batch norm needs more than one value per channel to train on; use a batch of at least two."
            )
        norm = Norm(tuple(range(x.ndim - 1)), self.epsilon, self.slope, self.dtype, axis_name)
        y, batch = normalised(x, *(per_channel(each, x.ndim) for each in (scale, bias, running_mean.value)), norm)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            keep = self.momentum
            mean, var = (each.reshape(channels) for each in batch)
            running_mean.value = keep * running_mean.value + (1.0 - keep) * mean
            running_var.value = keep * running_var.value + (1.0 - keep) * var * (count / (count - 1))
        return y


def instance_norm(
    x: Float[Array, "b h w c"],
    scale: Float[Array, "b 1 1 c"] | None = None,
    bias: Float[Array, "b 1 1 c"] | None = None,
    *,
    epsilon: float = 1e-8,
    slope: float = 1.0,
    dtype: Dtype = jnp.float32,
) -> Float[Array, "b h w c"]:
    """Each map minus its mean, over its root mean square, times ``scale`` plus ``bias``; then the activation, if any.

    Args:
      x: [B,H,W,C].
      scale, bias: float32 [B,1,1,C]; None: 1 and 0.
      epsilon: what is added to the mean square.
      slope: of the activation below 0: 0 for a ReLU; 1, none.
      dtype: of the result.
    """
    shape = (x.shape[0], 1, 1, x.shape[3])
    scale = jnp.ones(shape) if scale is None else scale
    bias = jnp.zeros(shape) if bias is None else bias
    shift = x[:, :1, :1].astype(jnp.float32)
    return normalised(x, scale, bias, shift, Norm((1, 2), epsilon, slope, dtype))[0]


class PReLU(nn.Module):
    """x where positive, slope·x elsewhere; one slope, or one per channel."""

    shared: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Any shape ending in channels → the same."""
        slope = self.param("slope", nn.initializers.constant(0.25), (1 if self.shared else x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, per_channel(slope.astype(x.dtype), x.ndim) * x)

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
from simswap_jax.models.ops.resize import reflect_pad

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
    """

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    reflect: bool = False
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_init, shape, jnp.float32).astype(self.dtype)
        x = x.astype(self.dtype)
        if self.reflect:
            x = convolve(reflect_pad(x, self.padding), kernel, self.stride)
        else:
            x = convolve(x, kernel, self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
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
    def __call__(self, x: Float[Array, "*shape"], train: bool = False) -> Float[Array, "*shape"]:
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


def instance_norm(x: Float[Array, "b h w c"], epsilon: float = 1e-8) -> Float[Array, "b h w c"]:
    """Instance norm: x minus the map's mean, over the map's root mean square; no parameters, float32. [B,H,W,C]."""
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, (1, 2), keepdims=True)
    return x * lax.rsqrt(jnp.mean(jnp.square(x), (1, 2), keepdims=True) + epsilon)


class PReLU(nn.Module):
    """x where positive, slope·x elsewhere; one slope, or one per channel."""

    shared: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Any shape ending in channels → the same."""
        slope = self.param("slope", nn.initializers.constant(0.25), (1 if self.shared else x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, per_channel(slope.astype(x.dtype), x.ndim) * x)

"""SimSwap's ArcFace: a residual network with batch norm first, 112×112 in, 512 numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from simswap_jax.models.layers import BatchNorm, Conv, Dtype, Linear, PReLU

if TYPE_CHECKING:
    from simswap_jax.models.identity.network import IdentityConfig


class SqueezeExcitation(nn.Module):
    """Each channel times a gate in (0,1) that the map's means decide."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B,H,W,C] → the same shape."""
        channels = x.shape[-1]
        gate = jnp.mean(x.astype(jnp.float32), (1, 2))
        gate = PReLU(shared=True, name="prelu")(Linear(channels // 16, name="reduce")(gate))
        gate = nn.sigmoid(Linear(channels, name="expand")(gate))
        return x * gate[:, None, None, :].astype(x.dtype)


class Block(nn.Module):
    """bn0, conv1, bn1, PReLU, conv2 (stride), bn2, squeeze-excitation if any, plus the shortcut, the same PReLU."""

    width: int
    stride: int
    se: bool
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        norm = {"axis_name": self.axis_name, "dtype": self.dtype}
        prelu = PReLU(shared=True, name="prelu")
        y = BatchNorm(**norm, name="bn0")(x, train)
        y = Conv(x.shape[-1], 3, padding=1, use_bias=False, dtype=self.dtype, name="conv1")(y)
        y = prelu(BatchNorm(**norm, name="bn1")(y, train))
        y = Conv(self.width, 3, self.stride, padding=1, use_bias=False, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(**norm, name="bn2")(y, train)
        if self.se:
            y = SqueezeExcitation(name="se")(y)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = Conv(self.width, 1, self.stride, use_bias=False, dtype=self.dtype, name="shortcut_conv")(x)
            x = BatchNorm(**norm, name="shortcut_norm")(x, train)
        return prelu(y + x)


class ArcFace(nn.Module):
    """The network of ``arcface_checkpoint.tar``; its first convolution is not padded."""

    config: IdentityConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B,112,112,3], ImageNet-normalised → raw vectors, float32 [B,D]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        norm = {"axis_name": self.axis_name, "dtype": dtype}
        x = Conv(config.widths[0], 3, use_bias=False, dtype=dtype, name="conv1")(x)
        x = PReLU(shared=True, name="prelu")(BatchNorm(**norm, name="bn1")(x, train))
        x = nn.max_pool(x, (2, 2), (2, 2))
        for stage, (count, width) in enumerate(zip(config.layers, config.widths), start=1):
            for i in range(count):
                stride = 2 if stage > 1 and i == 0 else 1
                x = Block(width, stride, config.se, self.axis_name, dtype, name=f"layer{stage}_{i}")(x, train)
        x = BatchNorm(**norm, name="bn2")(x, train).astype(jnp.float32)
        x = Linear(config.embedding, name="fc")(x.reshape(x.shape[0], -1))
        return BatchNorm(self.axis_name, name="bn3")(x, train)

"""InsightFace's iResNet: batch norm first, stride 2 in every stage, nothing after the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from simswap_jax.models.layers import BatchNorm, Conv, Dtype, Linear, PReLU

if TYPE_CHECKING:
    from simswap_jax.models.identity.network import IdentityConfig


class Block(nn.Module):
    """bn1, conv1, bn2, PReLU, conv2 (stride), bn3, plus the shortcut."""

    width: int
    stride: int
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        norm = {"axis_name": self.axis_name, "dtype": self.dtype}
        y = BatchNorm(**norm, name="bn1")(x, train)
        y = Conv(self.width, 3, padding=1, use_bias=False, dtype=self.dtype, name="conv1")(y)
        y = PReLU(name="prelu")(BatchNorm(**norm, name="bn2")(y, train))
        y = Conv(self.width, 3, self.stride, padding=1, use_bias=False, dtype=self.dtype, name="conv2")(y)
        y = BatchNorm(**norm, name="bn3")(y, train)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = Conv(self.width, 1, self.stride, use_bias=False, dtype=self.dtype, name="shortcut_conv")(x)
            x = BatchNorm(**norm, name="shortcut_norm")(x, train)
        return y + x


class IResNet(nn.Module):
    """Any depth and width; 112×112 in the published ones, any multiple of 2^stages here."""

    config: IdentityConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[B,H,W,3] in [−1,1] → raw vectors, float32 [B,D]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        norm = {"axis_name": self.axis_name, "dtype": dtype}
        x = Conv(config.widths[0], 3, padding=1, use_bias=False, dtype=dtype, name="conv1")(x)
        x = PReLU(name="prelu")(BatchNorm(**norm, name="bn1")(x, train))
        for stage, (count, width) in enumerate(zip(config.layers, config.widths), start=1):
            for i in range(count):
                x = Block(width, 2 if i == 0 else 1, self.axis_name, dtype, name=f"layer{stage}_{i}")(x, train)
        x = BatchNorm(**norm, name="bn2")(x, train).astype(jnp.float32)
        x = Linear(config.embedding, name="fc")(x.reshape(x.shape[0], -1))
        return BatchNorm(self.axis_name, name="features")(x, train)

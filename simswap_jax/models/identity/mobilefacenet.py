"""MobileFaceNet: depthwise bottlenecks, 112×96 in, 128 dimensions out."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.identity.config import IdentityConfig
from simswap_jax.models.layers import BatchNorm, Conv, DepthwiseConv, Dtype, PReLU

# Per stage: how much a bottleneck widens inside, and its first block's stride.
EXPANSIONS = (2, 4, 2, 4, 2)
STRIDES = (2, 2, 1, 2, 1)
LAST = 512


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, PReLU unless ``linear``; depthwise where ``features`` is None."""

    features: int | None
    kernel: tuple[int, int]
    axis_name: str | None
    dtype: Dtype
    stride: int = 1
    padding: int = 0
    linear: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features or I]."""
        if self.features is None:
            x = DepthwiseConv(self.kernel, self.stride, self.padding, self.dtype, name="conv")(x)
        else:
            common = {"use_bias": False, "dtype": self.dtype, "name": "conv"}
            x = Conv(self.features, self.kernel[0], self.stride, self.padding, **common)(x)
        x = BatchNorm(self.axis_name, dtype=self.dtype, name="bn")(x, train)
        return x if self.linear else PReLU(name="prelu")(x)


class Bottleneck(nn.Module):
    """1×1 wider, depthwise 3×3, 1×1 narrower without activation; plus the input where the shapes agree."""

    inner: int
    width: int
    stride: int
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        common: dict[str, Any] = {"axis_name": self.axis_name, "dtype": self.dtype}
        y = ConvNorm(self.inner, (1, 1), **common, name="widen")(x, train)
        y = ConvNorm(None, (3, 3), **common, stride=self.stride, padding=1, name="depthwise")(y, train)
        y = ConvNorm(self.width, (1, 1), **common, linear=True, name="narrow")(y, train)
        return x + y if self.stride == 1 and x.shape[-1] == self.width else y


class MobileFaceNet(nn.Module):
    """The network of ``mobilefacenet_casia.ckpt``."""

    config: IdentityConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool = False) -> Float[Array, "b d"]:
        """[B,112,96,3], (255·RGB − 127.5)/128 → raw vectors, float32 [B,D]."""
        config = self.config
        common: dict[str, Any] = {"axis_name": self.axis_name, "dtype": jnp.dtype(config.dtype)}
        x = ConvNorm(config.widths[0], (3, 3), **common, stride=2, padding=1, name="conv1")(x, train)
        x = ConvNorm(None, (3, 3), **common, padding=1, name="dw_conv1")(x, train)
        index = 0
        for count, width, expansion, first_stride in zip(config.layers, config.widths, EXPANSIONS, STRIDES):
            for i in range(count):
                inner, stride = expansion * x.shape[-1], first_stride if i == 0 else 1
                x = Bottleneck(inner, width, stride, **common, name=f"block_{index}")(x, train)
                index += 1
        x = ConvNorm(LAST, (1, 1), **common, name="conv2")(x, train)
        x = ConvNorm(None, (x.shape[1], x.shape[2]), **common, linear=True, name="linear7")(x, train)
        x = ConvNorm(config.embedding, (1, 1), **common, linear=True, name="linear1")(x, train)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

"""Residual identity networks, 112×112 in, 512 dimensions out: SimSwap's ArcFace and InsightFace's iResNet."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.identity.config import IdentityConfig
from simswap_jax.models.layers import BatchNorm, Conv, Dtype, Linear, PReLU


class SqueezeExcitation(nn.Module):
    """Each channel times a gate in (0,1) that the map's means decide."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """[B,H,W,C] → the same shape."""
        channels = x.shape[-1]
        gate = jnp.mean(x.astype(jnp.float32), (1, 2))
        gate = PReLU(shared=True, name="prelu")(Linear(channels // 16, name="reduce")(gate))
        gate = nn.sigmoid(Linear(channels, name="expand")(gate))
        return x * gate[:, None, None, :].astype(x.dtype)


class Block(nn.Module):
    """A residual block, batch norm first; its parts are called in the order of the networks' weight files."""

    width: int
    stride: int
    squeeze: bool
    axis_name: str | None
    dtype: Dtype

    @nn.nowrap
    def norm(self, name: str) -> BatchNorm:
        """A batch norm of that name."""
        return BatchNorm(self.axis_name, dtype=self.dtype, name=name)

    @nn.nowrap
    def conv(self, width: int, kernel: int, name: str, stride: int = 1) -> Conv:
        """A convolution of that name, without bias; maps keep their size."""
        return Conv(width, kernel, stride, kernel // 2, use_bias=False, dtype=self.dtype, name=name)

    @nn.nowrap
    def shortcut(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """The input in the output's shape: [B,H,W,I] → [B,H/stride,W/stride,width]."""
        if self.stride == 1 and x.shape[-1] == self.width:
            return x
        return self.norm("shortcut_norm")(self.conv(self.width, 1, "shortcut_conv", self.stride)(x), train)


class ArcFaceBlock(Block):
    """bn0, conv1, bn1, PReLU, conv2 (stride), bn2, squeeze-excitation if any, plus the shortcut, the same PReLU."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        prelu = PReLU(shared=True, name="prelu")
        y = self.conv(x.shape[-1], 3, "conv1")(self.norm("bn0")(x, train))
        y = self.conv(self.width, 3, "conv2", self.stride)(prelu(self.norm("bn1")(y, train)))
        y = self.norm("bn2")(y, train)
        if self.squeeze:
            y = SqueezeExcitation(name="se")(y)
        return prelu(y + self.shortcut(x, train))


class IResNetBlock(Block):
    """bn1, conv1, bn2, PReLU, conv2 (stride), bn3, plus the shortcut; nothing follows the sum."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        y = self.conv(self.width, 3, "conv1")(self.norm("bn1")(x, train))
        y = self.conv(self.width, 3, "conv2", self.stride)(PReLU(name="prelu")(self.norm("bn2")(y, train)))
        return self.norm("bn3")(y, train) + self.shortcut(x, train)


class ResNet(nn.Module):
    """The body of both: a stem, stages of blocks, one linear layer, a last batch norm.

    Attributes:
      config: depth, widths and computing type.
      axis_name: the pmap axis for batch statistics while the network itself is trained.
    """

    config: IdentityConfig
    axis_name: str | None = None

    block: ClassVar[Any]
    padding: ClassVar[int]  # of the first convolution
    shared_slope: ClassVar[bool]  # of the first PReLU
    pooled: ClassVar[bool]  # after the stem, in place of the first stage's stride
    last: ClassVar[str]  # name of the last batch norm

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool = False) -> Float[Array, "b d"]:
        """[B,H,W,3] as the network takes them → raw vectors, float32 [B,D]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = Conv(config.widths[0], 3, padding=self.padding, use_bias=False, dtype=dtype, name="conv1")(x)
        x = BatchNorm(self.axis_name, dtype=dtype, name="bn1")(x, train)
        x = PReLU(shared=self.shared_slope, name="prelu")(x)
        x = nn.max_pool(x, (2, 2), (2, 2)) if self.pooled else x
        for stage, (count, width) in enumerate(zip(config.layers, config.widths), start=1):
            for i in range(count):
                stride = 2 if i == 0 and (stage > 1 or not self.pooled) else 1
                block = self.block(width, stride, config.se, self.axis_name, dtype, name=f"layer{stage}_{i}")
                x = block(x, train)
        x = BatchNorm(self.axis_name, dtype=dtype, name="bn2")(x, train).astype(jnp.float32)
        x = Linear(config.embedding, name="fc")(x.reshape(x.shape[0], -1))
        return BatchNorm(self.axis_name, name=self.last)(x, train)


class ArcFace(ResNet):
    """The network of ``arcface_checkpoint.tar``: [B,112,112,3], ImageNet-normalised; the first convolution unpadded."""

    block, padding, shared_slope, pooled, last = ArcFaceBlock, 0, True, True, "bn3"


class IResNet(ResNet):
    """Any depth and width: [B,H,W,3] in [−1,1], 112×112 in the published ones, any multiple of 2^stages here."""

    block, padding, shared_slope, pooled, last = IResNetBlock, 1, False, False, "features"

"""BiSeNet, the face-parsing network behind SimSwap's masks: 19 classes per pixel."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.layers import BatchNorm, Conv
from simswap_jax.models.ops.resize import resize_bilinear_corners, resize_nearest

CLASSES = 19
_WIDTHS = (64, 128, 256, 512)


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        x = Conv(self.features, self.kernel, self.stride, self.padding, use_bias=False, name="conv")(x)
        return nn.relu(BatchNorm(name="bn")(x, train))


class BasicBlock(nn.Module):
    """ResNet's two 3×3 convolutions and a shortcut."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H/stride,W/stride,width]."""
        y = Conv(self.width, 3, self.stride, padding=1, use_bias=False, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = BatchNorm(name="bn2")(Conv(self.width, 3, padding=1, use_bias=False, name="conv2")(y), train)
        if self.stride != 1 or x.shape[-1] != self.width:
            x = Conv(self.width, 1, self.stride, use_bias=False, name="shortcut_conv")(x)
            x = BatchNorm(name="shortcut_norm")(x, train)
        return nn.relu(x + y)


class ResNet18(nn.Module):
    """The backbone: maps at strides 8, 16 and 32 with 128, 256 and 512 channels."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], train: bool
    ) -> tuple[Float[Array, "b h8 w8 128"], Float[Array, "b h16 w16 256"], Float[Array, "b h32 w32 512"]]:
        """[B,H,W,3] → three maps."""
        x = Conv(_WIDTHS[0], 7, stride=2, padding=3, use_bias=False, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        maps = []
        for stage, width in enumerate(_WIDTHS, start=1):
            for i in range(2):
                x = BasicBlock(width, 2 if stage > 1 and i == 0 else 1, name=f"layer{stage}_{i}")(x, train)
            maps.append(x)
        return maps[1], maps[2], maps[3]


class AttentionRefinement(nn.Module):
    """A 3×3 convolution whose channels are gated by the map's own means."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H,W,128]."""
        x = ConvNormReLU(128, 3, padding=1, name="conv")(x, train)
        gate = Conv(128, 1, use_bias=False, name="conv_atten")(jnp.mean(x, (1, 2), keepdims=True))
        return x * nn.sigmoid(BatchNorm(name="bn_atten")(gate, train))


class FeatureFusion(nn.Module):
    """Joins the detailed and the wide map."""

    @nn.compact
    def __call__(
        self, fine: Float[Array, "b h w 128"], wide: Float[Array, "b h w 128"], train: bool
    ) -> Float[Array, "b h w 256"]:
        """Two [B,H,W,128] → [B,H,W,256]."""
        x = ConvNormReLU(256, 1, name="convblk")(jnp.concatenate([fine, wide], -1), train)
        gate = nn.relu(Conv(64, 1, use_bias=False, name="conv1")(jnp.mean(x, (1, 2), keepdims=True)))
        return x * nn.sigmoid(Conv(256, 1, use_bias=False, name="conv2")(gate)) + x


class Head(nn.Module):
    """Logits from a map."""

    width: int
    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H,W,classes]."""
        x = ConvNormReLU(self.width, 3, padding=1, name="conv")(x, train)
        return Conv(self.classes, 1, use_bias=False, name="conv_out")(x)


class BiSeNet(nn.Module):
    """Two paths, one fine and one wide, and a head; two further heads serve its training only."""

    classes: int = CLASSES

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> Float[Array, "b h w {self.classes}"]:
        """ImageNet-normalised RGB [B,H,W,3] → logits, float32 [B,H,W,classes].

        SimSwap parses at 512×512; classes 1–6, 10, 12 and 13 are face, 11 is the mouth. H and W at least 32.
        """
        if min(images.shape[1:3]) < 32:
            raise ValueError(f"Face parsing cannot see {images.shape[1]}×{images.shape[2]} pixels; give 32 or more.")
        f8, f16, f32 = ResNet18(name="resnet")(images.astype(jnp.float32), train)
        wide = ConvNormReLU(128, 1, name="conv_avg")(jnp.mean(f32, (1, 2), keepdims=True), train)
        a = AttentionRefinement(name="arm32")(f32, train) + wide
        b = ConvNormReLU(128, 3, padding=1, name="conv_head32")(resize_nearest(a, *f16.shape[1:3]), train)
        c = AttentionRefinement(name="arm16")(f16, train) + b
        d = ConvNormReLU(128, 3, padding=1, name="conv_head16")(resize_nearest(c, *f8.shape[1:3]), train)
        fused = FeatureFusion(name="ffm")(f8, d, train)
        logits = Head(256, self.classes, name="conv_out")(fused, train)
        if self.is_initializing():
            # The training heads take no part in the answer; their weights are kept for a file's round trip.
            Head(64, self.classes, name="conv_out16")(d, train)
            Head(64, self.classes, name="conv_out32")(b, train)
        return resize_bilinear_corners(logits, *images.shape[1:3])

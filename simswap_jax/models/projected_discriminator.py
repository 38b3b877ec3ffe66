"""The public train script's discriminator: four small heads on frozen, randomly mixed EfficientNet-Lite0 features.

Its trained part are the heads. Everything before them lies in the collection ``frozen`` and never changes: ImageNet
features (timm's ``tf_efficientnet_lite0``) and random 1×1 convolutions that mix their channels and scales.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.config import WIDTH, DictConfig, Ranges, check_dtype
from simswap_jax.models.discriminator import DiscriminatorOutput
from simswap_jax.models.layers import BatchNorm, Conv, DepthwiseConv, Dtype, per_channel, torch_init
from simswap_jax.models.ops.convolution import convolve
from simswap_jax.models.ops.resize import resize_bilinear_corners

KERNELS = (3, 3, 5, 3, 5, 5, 3)  # of EfficientNet-Lite0's seven stages
STRIDES = (1, 2, 2, 2, 1, 2, 1)
EXPANSION = 6  # of all stages but the first, which widens nothing
LAST_STAGES = (1, 2, 4, 6)  # whose maps are judged: at strides 4, 8, 16 and 32
LEVELS = len(LAST_STAGES)
MULTIPLE, LEAST = 32, 128  # pixels: of the backbone's strides; what the heads' last convolution needs


@dataclasses.dataclass(frozen=True)
class ProjectedConfig(DictConfig):
    """The shape of a projected discriminator; the defaults are the public train script's.

    Attributes:
      stem: channels of the backbone's first convolution.
      widths: channels of its seven stages.
      repeats: blocks of each stage.
      projected: channels of the finest map that is judged; the next ones have two, four, eight times as many.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
    """

    described: ClassVar[str] = "projected discriminator"
    ranges: ClassVar[Ranges] = {"stem": WIDTH, "widths": WIDTH, "repeats": (1, 64), "projected": (1, 2048)}

    stem: int = 32
    widths: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    repeats: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    projected: int = 64
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("widths", "repeats"):
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        check_dtype(self.dtype)
        if (len(self.widths), len(self.repeats)) != (len(KERNELS),) * 2:
            raise ValueError(f"A projected discriminator has {len(KERNELS)} widths and repeats; give so many.")

    def head_widths(self, level: int) -> tuple[int, ...]:
        """Channels of the maps of the head at a level, 0 the finest, before its logits."""
        return tuple(self.projected * 2**i for i in range(level, LEVELS))


# ---- The frozen features ----


def same_pad(x: Float[Array, "b h w c"], kernel: int, stride: int) -> Float[Array, "b h2 w2 c"]:
    """Zeros as TensorFlow's "SAME" padding adds them: the odd one below and on the right."""
    pads = []
    for side in x.shape[1:3]:
        more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads.append((more // 2, more - more // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


class Bottleneck(nn.Module):
    """A block of EfficientNet-Lite0: 1×1 to more channels, depthwise, 1×1 back; a residual where it fits.

    Without expansion the first convolution is left out, and the last one is called as it is then.
    """

    features: int
    kernel: int
    stride: int
    expansion: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H/stride,W/stride,features]."""
        inside, y, norms = x.shape[-1], x, iter(("bn1", "bn2", "bn3"))

        def normalised(z: Array) -> Array:
            return BatchNorm(epsilon=1e-3, dtype=self.dtype, name=next(norms))(z)

        def pointwise(z: Array, features: int, name: str) -> Array:
            return normalised(Conv(features, 1, use_bias=False, dtype=self.dtype, name=name)(z))

        if self.expansion > 1:
            y = jax.nn.relu6(pointwise(y, inside * self.expansion, "conv_pw"))
        y = same_pad(y, self.kernel, self.stride)
        y = DepthwiseConv((self.kernel, self.kernel), self.stride, dtype=self.dtype, name="conv_dw")(y)
        y = pointwise(jax.nn.relu6(normalised(y)), self.features, "conv_pwl" if self.expansion > 1 else "conv_pw")
        return x + y if self.stride == 1 and inside == self.features else y


class EfficientNetLite0(nn.Module):
    """The backbone, with the statistics that it was trained with: four maps."""

    config: ProjectedConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> tuple[Float[Array, "b _ _ _"], ...]:
        """[B,H,W,3], ImageNet-normalised → maps at strides 4, 8, 16, 32, of 24, 40, 112 and 320 channels."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = Conv(config.stem, 3, 2, use_bias=False, dtype=dtype, name="conv_stem")(same_pad(x, 3, 2))
        x = jax.nn.relu6(BatchNorm(epsilon=1e-3, dtype=dtype, name="bn1")(x))
        maps = []
        for stage, (width, count) in enumerate(zip(config.widths, config.repeats)):
            for i in range(count):
                stride, expansion = STRIDES[stage] if i == 0 else 1, EXPANSION if stage else 1
                block = Bottleneck(width, KERNELS[stage], stride, expansion, dtype, name=f"blocks_{stage}_{i}")
                x = block(x)
            if stage in LAST_STAGES:
                maps.append(x)
        return tuple(maps)


class ProjectedFeatures(nn.Module):
    """The backbone's maps with their channels mixed (``ccm``), then their scales, from the deepest up (``csm``)."""

    config: ProjectedConfig

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"]
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], list[Float[Array, "b _ _ _"]]]:
        """[B,H,W,3] → (the backbone's four maps, what the four heads see, at strides 2, 4, 8, 16)."""
        base, dtype = self.config.projected, jnp.dtype(self.config.dtype)
        maps = EfficientNetLite0(self.config, name="backbone")(images)
        mixed: list[Array] = []
        coarser: Array | None = None
        for level in reversed(range(LEVELS)):
            x = Conv(base * 2**level, 1, dtype=dtype, name=f"layer{level}_ccm")(maps[level])
            x = x if coarser is None else x + coarser
            x = resize_bilinear_corners(x, 2 * x.shape[1], 2 * x.shape[2])
            coarser = Conv(base * 2 ** max(level - 1, 0), 1, dtype=dtype, name=f"layer{level}_csm")(x)
            mixed.insert(0, coarser)
        return maps, mixed


# ---- The heads ----


def unit(vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """The vector at length one."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)


class SpectralConv(nn.Module):
    """A convolution 4×4 whose kernel is divided by its largest singular value, σ = uᵀWv.

    W is the kernel as PyTorch flattens it, [out, in·4·4]. Every training call brings u and v one power iteration nearer
    to the singular vectors; they are kept where the collection ``spectral`` is mutable, and not differentiated.
    """

    features: int
    stride: int = 1
    padding: int = 0
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        kernel = self.param("kernel", torch_init, (4, 4, x.shape[-1], self.features), jnp.float32)
        weight = kernel.transpose(3, 2, 0, 1).reshape(self.features, -1)
        fixed = lax.stop_gradient(weight)
        u = self.variable("spectral", "u", lambda: unit(jax.random.normal(self.make_rng("params"), weight.shape[:1])))
        v = self.variable("spectral", "v", lambda: unit(jnp.dot(fixed.T, u.value)))
        left, right = u.value, v.value
        if train:
            right = unit(jnp.dot(fixed.T, left, precision=lax.Precision.HIGHEST))
            left = unit(jnp.dot(fixed, right, precision=lax.Precision.HIGHEST))
            if self.is_mutable_collection("spectral") and not self.is_initializing():
                u.value, v.value = left, right
        sigma = jnp.dot(left, jnp.dot(weight, right, precision=lax.Precision.HIGHEST))
        y = convolve(x.astype(self.dtype), (kernel / sigma).astype(self.dtype), self.stride, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y = y + per_channel(bias.astype(self.dtype), y.ndim)
        return y


class ProjectedHead(nn.Module):
    """Judges one of the mixed maps: halvings with batch norm and leaky ReLU of slope 0.2, then raw logits."""

    widths: Sequence[int]
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 1"]:
        """[B,H,W,C] → [B,H',W',1]: four by four for pictures of 224 pixels."""
        for i, width in enumerate(self.widths):
            x = SpectralConv(width, 2, 1, dtype=self.dtype, name=f"down{i + 1}")(x, train)
            x = BatchNorm(self.axis_name, dtype=self.dtype, name=f"norm{i + 1}")(x, train)
            x = nn.leaky_relu(x, 0.2)
        return SpectralConv(1, use_bias=False, dtype=self.dtype, name="logits")(x, train).astype(jnp.float32)


class ProjectedDiscriminator(nn.Module):
    """Four heads on frozen features; the interface is `MultiScaleDiscriminator`'s, but for its pyramid of inputs.

    Collections: ``params`` and ``batch_stats`` of the heads, ``spectral`` (their u and v), ``frozen``.
    """

    config: ProjectedConfig = ProjectedConfig()
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> list[DiscriminatorOutput]:
        """[B,H,W,3], ImageNet-normalised, H and W multiples of 32 from 128 → an output per head, the finest first.

        The one feature map to be matched, the backbone's deepest, stands in the first output.
        """
        if min(images.shape[1:3]) < LEAST or any(side % MULTIPLE for side in images.shape[1:3]):
            raise ValueError(
                f"A projected discriminator cannot see {images.shape[1]}×{images.shape[2]} pixels; "
                f"give a multiple of {MULTIPLE} from {LEAST} on."
            )
        config = self.config
        features = ProjectedFeatures(config, parent=None)
        made: Any = self.variable("frozen", "features", lambda: features.init(self.make_rng("params"), images[:1]))
        maps, mixed = features.apply(made.value, images)
        outputs = []
        for level, x in enumerate(mixed):
            widths, dtype = config.head_widths(level), jnp.dtype(config.dtype)
            head = ProjectedHead(widths, self.axis_name, dtype, name=f"head{level}")
            outputs.append(DiscriminatorOutput(maps[-1:] if level == 0 else (), head(x, train)))
        return outputs

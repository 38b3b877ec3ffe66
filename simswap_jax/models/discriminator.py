"""The paper's multi-scale patch discriminators: one network on the picture, one of the same shape on its half."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.config import WIDTH, DictConfig, Ranges, check_dtype
from simswap_jax.models.layers import BatchNorm, Conv, Dtype

NORMS = ("batch", "none")


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig(DictConfig):
    """The discriminators' shape.

    Attributes:
      widths: channels of ``down1`` and the further down-samplings.
      tail: channels of ``conv1``, the last map before the logits.
      scales: how many networks; each sees the picture at half the size of the one before.
      norm: ``"batch"`` or ``"none"``; the paper does not state it.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
    """

    described: ClassVar[str] = "discriminator"
    ranges: ClassVar[Ranges] = {"widths": WIDTH, "tail": WIDTH, "scales": (1, 8)}

    widths: tuple[int, ...] = (64, 128, 256, 512)
    tail: int = 512
    scales: int = 2
    norm: str = "batch"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        if self.norm not in NORMS:
            raise ValueError(f"{self.norm!r} is no norm of the discriminator; choose one of {', '.join(NORMS)}.")
        check_dtype(self.dtype)
        if not self.widths or min(*self.widths, self.tail, self.scales) < 1:
            raise ValueError("widths, tail and scales must be positive; correct the discriminator's configuration.")


class DiscriminatorOutput(NamedTuple):
    """What one scale says: its intermediate maps (five with the paper's widths), float logits [B,h,w,1]."""

    features: tuple[Float[Array, "b _ _ _"], ...]
    logits: Float[Array, "b _ _ 1"]


class ConvNormLeaky(nn.Module):
    """Convolution 4×4 padded by 1, batch norm if any, leaky ReLU of slope 0.2."""

    features: int
    stride: int
    norm: bool
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        centred = self.norm and train
        x = Conv(self.features, 4, self.stride, padding=1, centred=centred, dtype=self.dtype, name="conv")(x)
        if self.norm:
            return BatchNorm(self.axis_name, dtype=self.dtype, slope=0.2, name="norm")(x, train)
        return nn.leaky_relu(x, 0.2)


class PatchDiscriminator(nn.Module):
    """One scale: ``down1`` … ``down4`` at stride 2, ``conv1`` and ``conv2`` at stride 1; raw logits per patch."""

    config: DiscriminatorConfig = DiscriminatorConfig()
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool = False) -> DiscriminatorOutput:
        """[B,H,W,3] → maps and logits; H and W at least 3·2^(number of widths)."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        smallest = 3 * 2 ** len(config.widths)
        if min(x.shape[1:3]) < smallest:
            raise ValueError(
                f"A discriminator of {len(config.widths)} down-samplings cannot see {x.shape[1]}×{x.shape[2]} pixels; "
                f"give {smallest} or more, fewer widths or fewer scales."
            )
        batch_norm = config.norm == "batch"
        features = []
        for i, width in enumerate(config.widths):
            block = ConvNormLeaky(width, 2, batch_norm and i > 0, self.axis_name, dtype, name=f"down{i + 1}")
            x = block(x, train)
            features.append(x)
        x = ConvNormLeaky(config.tail, 1, batch_norm, self.axis_name, dtype, name="conv1")(x, train)
        features.append(x)
        logits = Conv(1, 4, padding=1, dtype=dtype, name="conv2")(x).astype(jnp.float32)
        return DiscriminatorOutput(tuple(features), logits)


def average_pool(images: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average pooling 3×3, stride 2, padding 1 that is not counted. [B,H,W,C] → [B,⌈H/2⌉,⌈W/2⌉,C]."""
    window: dict[str, Any] = {
        "window_dimensions": (1, 3, 3, 1),
        "window_strides": (1, 2, 2, 1),
        "padding": ((0, 0), (1, 1), (1, 1), (0, 0)),
    }
    zero = 0.0  # a literal: an array would hide the sum from differentiation
    ones = jnp.ones((1, *images.shape[1:3], 1), images.dtype)
    counts = lax.reduce_window(ones, zero, lax.add, **window)
    return lax.reduce_window(images, zero, lax.add, **window) / jnp.broadcast_to(
        counts, (images.shape[0], *counts.shape[1:3], images.shape[3])
    )


class MultiScaleDiscriminator(nn.Module):
    """D1 on the picture, D2 on its half, …; collections are keyed ``d1``, ``d2``, ….

    ``apply(variables, images)`` runs all scales; ``apply(variables, i, x, method="scale")`` one on its own input.
    """

    config: DiscriminatorConfig = DiscriminatorConfig()
    axis_name: str | None = None

    def setup(self) -> None:
        """Names one network per scale."""
        for i in range(self.config.scales):
            setattr(self, f"d{i + 1}", PatchDiscriminator(self.config, self.axis_name))

    def __call__(self, images: Float[Array, "b h w 3"], train: bool = False) -> list[DiscriminatorOutput]:
        """[B,H,W,3] in the generator's convention → an output per scale, the finest first."""
        return [self.scale(i, x, train) for i, x in enumerate(self.pyramid(images))]

    def scale(self, i: int, x: Float[Array, "b h w 3"], train: bool = False) -> DiscriminatorOutput:
        """The i-th network (from 0) on its own input, :meth:`pyramid`'s i-th."""
        return getattr(self, f"d{i + 1}")(x, train)

    @nn.nowrap
    def pyramid(self, images: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ 3"]]:
        """Each scale's input: the picture, its half, …; needs no variables."""
        inputs = [images]
        for _ in range(self.config.scales - 1):
            inputs.append(average_pool(inputs[-1]))
        return inputs

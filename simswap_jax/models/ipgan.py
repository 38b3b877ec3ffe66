"""IPGAN (Bao et al., Towards Open-Set Identity Preserving Face Synthesis, arXiv 1803.11182), as a family of generators.

All but the identity is squeezed into one vector, whose distribution an encoder tells; a decoder draws a face from that
vector and the source's identity vector alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.config import WIDTH, OneSizeConfig, Ranges, check_dtype
from simswap_jax.models.families import Family
from simswap_jax.models.layers import BatchNorm, Conv, Linear, transposed_conv
from simswap_jax.models.normalization import check_convention

SLOPE = 0.2  # of the encoder's leaky ReLU

# Shapes. The paper's kinds of networks at 128 pixels, whose widths it does not give: chosen here. And two small ones.
SMALL: dict[str, Any] = {
    "encoder": (32, 64, 128, 256), "decoder": (128, 64, 32, 32), "convolutions": 1, "pooled": False,
    "transposed": False,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {"original": {}, "small-64": SMALL, "small-112": {**SMALL, "bottom": 7}}


@dataclasses.dataclass(frozen=True)
class IPGANConfig(OneSizeConfig):
    """IPGAN's shape. Widths and lengths are not published; the defaults were chosen here, for faces of 128 pixels.

    Attributes:
      encoder: channels after each halving of the target.
      attributes: length of the attribute vector. All of the target that the result can keep goes through it: the longer
        it is, the better a face is redrawn with its own identity, and the more of the target's identity can slip by.
      decoder: channels after each doubling, as many as there are halvings.
      convolutions: of the encoder before each halving, the halving one included.
      pooled: the encoder's smallest maps are averaged over their area before the vector is made of them.
      transposed: the decoder doubles by transposed convolutions 4×4; else by repeated pixels, with 3×3 behind.
      bottom: side of the smallest map; faces are bottom·2^halvings pixels.
      identity_size: dimensions of the identity vector.
      convention: as `GeneratorConfig`'s; ``"unit"`` has a sigmoid head.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
    """

    family: ClassVar[str] = "ipgan"
    described: ClassVar[str] = "IPGAN generator"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    ranges: ClassVar[Ranges] = {
        "encoder": WIDTH, "attributes": WIDTH, "decoder": WIDTH, "convolutions": (1, 8), "bottom": (1, 64),
        "identity_size": WIDTH,
    }  # fmt: skip

    encoder: tuple[int, ...] = (64, 128, 256, 512, 512)
    attributes: int = 256
    decoder: tuple[int, ...] = (512, 256, 128, 64, 64)
    convolutions: int = 2
    pooled: bool = True
    transposed: bool = True
    bottom: int = 4
    identity_size: int = 512
    convention: str = "unit"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("encoder", "decoder"):
            object.__setattr__(self, name, tuple(int(width) for width in getattr(self, name)))
        check_convention(self.convention)
        check_dtype(self.dtype)
        if len(self.decoder) != len(self.encoder) or not self.encoder:
            raise ValueError(
                f"{len(self.encoder)} halvings need as many widths in decoder, not {len(self.decoder)}; give so many."
            )


Distribution = tuple[Float[Array, "b z"], Float[Array, "b z"]]  # mean μ and log variance ε of the attribute vector


class AttributeEncoder(nn.Module):
    """A: halvings, and of the smallest maps the distribution of the attribute vector."""

    config: IPGANConfig
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], train: bool) -> Distribution:
        """[B,H,W,3] → μ and ε = log σ², float32 [B,attributes] each."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        for i, width in enumerate(config.encoder, start=1):
            for j in range(1, config.convolutions + 1):
                last = j == config.convolutions
                name = f"down{i}" if last else f"level{i}_{j}"
                x = Conv(width, 3, 2 if last else 1, padding=1, use_bias=False, dtype=dtype, name=name)(x)
                x = nn.leaky_relu(BatchNorm(self.axis_name, dtype=dtype, name=f"{name}_norm")(x, train), SLOPE)
        x = jnp.mean(x, (1, 2)) if config.pooled else x.reshape(x.shape[0], -1)
        mean = Linear(config.attributes, dtype=dtype, name="mean")(x)
        log_variance = Linear(config.attributes, dtype=dtype, name="log_variance")(x)
        return mean.astype(jnp.float32), log_variance.astype(jnp.float32)


class Decoder(nn.Module):
    """G: both vectors, widened to a small map, and doublings."""

    config: IPGANConfig
    axis_name: str | None

    @nn.compact
    def __call__(self, vectors: Float[Array, "b v"], train: bool) -> Float[Array, "b h w 3"]:
        """[B,identity_size+attributes] → [B,H,W,3], float32."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        bottom, width = config.bottom, config.encoder[-1]
        x = Linear(bottom * bottom * width, dtype=dtype, name="widen")(vectors)
        x = nn.relu(x).reshape(-1, bottom, bottom, width)
        for i, features in enumerate(config.decoder, start=1):
            if config.transposed:
                x = transposed_conv(features, dtype, name=f"up{i}")(x)
            else:
                x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
                x = Conv(features, 3, padding=1, use_bias=False, dtype=dtype, name=f"up{i}")(x)
            x = nn.relu(BatchNorm(self.axis_name, dtype=dtype, name=f"up{i}_norm")(x, train))
        drawn = Conv(3, 3, padding=1, dtype=dtype, name="last")(x).astype(jnp.float32)
        return jax.nn.sigmoid(drawn) if config.convention == "unit" else drawn


class IPGAN(nn.Module):
    """x' = G(f_I(x^s), z), z ~ A(x^a)."""

    config: IPGANConfig = IPGANConfig()
    axis_name: str | None = None

    def setup(self) -> None:
        """Names encoder and decoder."""
        self.encoder = AttributeEncoder(self.config, self.axis_name)
        self.decoder = Decoder(self.config, self.axis_name)

    def __call__(
        self, target: Float[Array, "b h w 3"], identity: Float[Array, "b d"], train: bool = False
    ) -> Float[Array, "b h w 3"]:
        """x^a [B,H,W,3] in its convention, L2-normalised f_I(x^s) [B,D] → x' [B,H,W,3], float32, by the mean of z."""
        return self.with_distribution(target, identity, jnp.zeros(()), train)[0]

    def with_distribution(
        self, target: Float[Array, "b h w 3"], identity: Float[Array, "b d"], noise: Array, train: bool = False
    ) -> tuple[Float[Array, "b h w 3"], Distribution]:
        """The result x' by z = μ + r·exp(ε/2), and μ and ε; ``noise`` r ~ N(0, 1) [B,attributes], or 0 for the mean."""
        if target.shape[1:3] != (self.config.side,) * 2:
            raise ValueError(
                f"This IPGAN draws faces of {self.config.side}×{self.config.side} pixels, not "
                f"{target.shape[1]}×{target.shape[2]}; give that size, or another bottom or number of halvings."
            )
        mean, log_variance = self.encoder(target, train)
        drawn_from = mean + noise * jnp.exp(log_variance / 2)
        vectors = jnp.concatenate([identity.astype(jnp.float32), drawn_from], -1)
        return self.decoder(vectors, train), (mean, log_variance)


def _describe(config: IPGANConfig) -> str:
    shape = f"encoder {list(config.encoder)}, decoder {list(config.decoder)}"
    return f"IPGAN for {config.side} pixels, {config.attributes} attributes, {shape}"


FAMILY = Family(
    name="ipgan",
    config_class=IPGANConfig,
    takes=frozenset({"vector"}),
    module=IPGAN,
    fields=IPGANConfig.experiment_fields,
    from_fields=IPGANConfig.from_experiment,
    describe=_describe,
    warm_start=IPGANConfig.start_of_same,
)

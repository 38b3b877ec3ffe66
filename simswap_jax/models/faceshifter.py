"""FaceShifter's first stage, AEI-Net (Li et al., arXiv 1912.13457, §3.1), as a family of generators.

A U-net of the target gives attribute maps at every level. The generator starts from the source's identity vector alone
and mixes, level by level, features that the attributes modulate with features that the identity modulates.
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
from simswap_jax.models.layers import BatchNorm, Conv, Dtype, Linear, instance_norm, torch_init, transposed_conv
from simswap_jax.models.normalization import check_convention
from simswap_jax.models.ops.resize import resize_bilinear_corners

EPSILON = 1e-5  # of the instance norm: on the first maps it sees four numbers
Attributes = list[Float[Array, "b _ _ _"]]  # z_att of every level, the coarsest first

# Shapes: of the paper's size, as its public re-implementation reads it, and two small ones of this project's.
SMALL: dict[str, Any] = {"attribute_kernel": 1, "mask_kernel": 1, "mask_per_channel": False, "transposed": False}
PRESETS: dict[str, dict[str, Any]] = {
    "original": {},
    "small-64": {**SMALL, "encoder": (16, 32, 64, 96, 128), "widths": (128, 96, 64, 32, 16)},
    "small-112": {**SMALL, "encoder": (24, 48, 96, 128), "widths": (128, 96, 48, 24), "bottom": 7},
}


@dataclasses.dataclass(frozen=True)
class FaceShifterConfig(OneSizeConfig):
    """AEI-Net's shape; the defaults are the published size for faces of 256 pixels, 439 M parameters.

    Attributes:
      encoder: channels after each halving of the target.
      widths: channels of each level's AAD block but the last one's, which are the picture's three: as many as there are
        halvings.
      bottom: side of the coarsest maps; faces are bottom·2^halvings pixels.
      identity_size: dimensions of the identity vector.
      attribute_kernel: window of the convolutions that make γ_att and β_att of the attribute maps.
      mask_kernel, mask_per_channel: window of the one that makes the mask; whether every channel has a mask of its own.
      transposed: the attributes' decoder up-samples by transposed convolutions 4×4; else bilinearly, with 3×3 behind.
      convention: as `GeneratorConfig`'s; ``"unit"`` has a sigmoid head.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
    """

    family: ClassVar[str] = "faceshifter"
    described: ClassVar[str] = "FaceShifter generator"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    ranges: ClassVar[Ranges] = {
        "encoder": WIDTH, "widths": WIDTH, "bottom": (2, 64), "identity_size": WIDTH, "attribute_kernel": (1, 7),
        "mask_kernel": (1, 7),
    }  # fmt: skip

    encoder: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 1024)
    widths: tuple[int, ...] = (1024, 1024, 1024, 512, 256, 128, 64)
    bottom: int = 2
    identity_size: int = 512
    attribute_kernel: int = 3
    mask_kernel: int = 3
    mask_per_channel: bool = True
    transposed: bool = True
    convention: str = "unit"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("encoder", "widths"):
            object.__setattr__(self, name, tuple(int(width) for width in getattr(self, name)))
        check_convention(self.convention)
        check_dtype(self.dtype)
        if len(self.widths) != len(self.encoder) or not self.encoder:
            raise ValueError(f"{len(self.encoder)} halvings need as many widths, not {len(self.widths)}; give so many.")
        if any(kernel % 2 == 0 for kernel in (self.attribute_kernel, self.mask_kernel)):
            raise ValueError("attribute_kernel and mask_kernel are windows around a pixel; give odd numbers.")


# ---- The attributes ----


class AttributeEncoder(nn.Module):
    """The target's U-net: z_att at every level, from the coarsest on."""

    config: FaceShifterConfig
    axis_name: str | None

    @nn.compact
    def __call__(self, target: Float[Array, "b h w c"], train: bool) -> Attributes:
        """[B,H,W,C] → the maps before up-sampling, after each step of it with the encoder's, and twice as large."""
        widths, dtype = self.config.encoder, jnp.dtype(self.config.dtype)

        def normalised(x: Array, name: str) -> Array:
            return nn.leaky_relu(BatchNorm(self.axis_name, dtype=dtype, name=name)(x, train), 0.1)

        x, skips = target, []
        for i, width in enumerate(widths, start=1):
            x = Conv(width, 4, 2, padding=1, use_bias=False, dtype=dtype, name=f"down{i}")(x)
            x = normalised(x, f"down{i}_norm")
            skips.append(x)
        made = [x]
        for i in reversed(range(1, len(widths))):
            x = upsampling(x, widths[i - 1], self.config.transposed, dtype, f"up{i}")
            x = normalised(x, f"up{i}_norm")
            x = jnp.concatenate([x, skips[i - 1]], -1)
            made.append(x)
        return [*made, upsampled_align_corners(x)]


def upsampling(
    x: Float[Array, "b h w c"], features: int, transposed: bool, dtype: Dtype, name: str
) -> Float[Array, "b h2 w2 o"]:
    """A transposed convolution, or bilinear ×2 and one of 3×3, within a module: [B,H,W,I] → [B,2H,2W,features]."""
    if transposed:
        return transposed_conv(features, dtype, name)(x)
    return Conv(features, 3, padding=1, use_bias=False, dtype=dtype, name=name)(upsampled_align_corners(x))


def upsampled_align_corners(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear ×2, the corner pixels staying corner pixels: [B,H,W,C] → [B,2H,2W,C]."""
    return resize_bilinear_corners(x, 2 * x.shape[1], 2 * x.shape[2])


# ---- The generator ----


class AAD(nn.Module):
    """Adaptive attentional denormalisation: (1 − M) ⊙ (γ_att ⊙ h̄ + β_att) + M ⊙ (γ_id ⊙ h̄ + β_id), M = σ(conv(h̄)).

    h̄ is the instance norm of h; γ_att and β_att are convolutions of the attribute maps, γ_id and β_id linear in the
    identity vector.
    """

    config: FaceShifterConfig

    @nn.compact
    def __call__(
        self, h: Float[Array, "b h w c"], attributes: Float[Array, "b h w z"], identity: Float[Array, "b d"]
    ) -> Float[Array, "b h w c"]:
        """[B,H,W,C], z_att [B,H,W,Z] and z_id [B,D] → [B,H,W,C]."""
        config, channels, dtype = self.config, h.shape[-1], jnp.dtype(self.config.dtype)
        h = instance_norm(h, epsilon=EPSILON, dtype=dtype)

        def maps(of: Array, features: int, kernel: int, name: str) -> Array:
            return Conv(features, kernel, padding=kernel // 2, dtype=dtype, name=name)(of)

        def numbers(name: str) -> Array:
            return Linear(channels, dtype=dtype, name=name)(identity)[:, None, None, :]

        by_attributes = maps(attributes, channels, config.attribute_kernel, "attribute_gamma") * h
        by_attributes = by_attributes + maps(attributes, channels, config.attribute_kernel, "attribute_beta")
        by_identity = numbers("identity_gamma") * h + numbers("identity_beta")
        masks = channels if config.mask_per_channel else 1
        mask = jax.nn.sigmoid(maps(h, masks, config.mask_kernel, "mask"))
        return (1.0 - mask) * by_attributes + mask * by_identity


class AADBlock(nn.Module):
    """Twice AAD, ReLU and a convolution 3×3, and a residual connection: through a third where the widths differ."""

    config: FaceShifterConfig
    features: int

    @nn.compact
    def __call__(
        self, h: Float[Array, "b h w c"], attributes: Float[Array, "b h w z"], identity: Float[Array, "b d"]
    ) -> Float[Array, "b h w o"]:
        """[B,H,W,C], z_att [B,H,W,Z] and z_id [B,D] → [B,H,W,features]."""
        dtype = jnp.dtype(self.config.dtype)

        def part(x: Array, features: int, name: str) -> Array:
            x = nn.relu(AAD(self.config, name=f"aad{name}")(x, attributes, identity))
            return Conv(features, 3, padding=1, dtype=dtype, name=f"conv{name}")(x)

        y = part(part(h, h.shape[-1], "1"), self.features, "2")
        return y + (h if h.shape[-1] == self.features else part(h, self.features, "_shortcut"))


class FaceShifter(nn.Module):
    """AEI-Net: Y = G(z_id(X_s), z_att(X_t))."""

    config: FaceShifterConfig = FaceShifterConfig()
    axis_name: str | None = None

    def setup(self) -> None:
        """Names the encoder, the start and one block a level."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        self.encoder = AttributeEncoder(config, self.axis_name)
        self.start = nn.ConvTranspose(
            config.widths[0],
            (config.bottom,) * 2,
            padding="VALID",
            dtype=dtype,
            param_dtype=jnp.float32,
            kernel_init=torch_init,
        )
        self.blocks = [AADBlock(config, width) for width in (*config.widths, 3)]

    def __call__(
        self, target: Float[Array, "b h w 3"], identity: Float[Array, "b d"], train: bool = False
    ) -> Float[Array, "b h w 3"]:
        """X_t [B,H,W,3] in its convention, L2-normalised z_id(X_s) [B,D] → Y [B,H,W,3], float32."""
        return self.with_attributes(target, identity, train)[0]

    def with_attributes(
        self, target: Float[Array, "b h w 3"], identity: Float[Array, "b d"], train: bool = False
    ) -> tuple[Float[Array, "b h w 3"], Attributes]:
        """Y and z_att(X_t); arguments as of a call."""
        attributes = self.attributes(target, train)
        h = self.start(identity.astype(jnp.dtype(self.config.dtype))[:, None, None, :])
        for level, (block, of_level) in enumerate(zip(self.blocks, attributes)):
            h = block(upsampled_align_corners(h) if level else h, of_level, identity)
        drawn = h.astype(jnp.float32)
        return (jax.nn.sigmoid(drawn) if self.config.convention == "unit" else drawn), attributes

    def attributes(self, target: Float[Array, "b h w 3"], train: bool = False) -> Attributes:
        """z_att of a picture [B,H,W,3]: a map a level, the coarsest first."""
        if target.shape[1:3] != (self.config.side,) * 2:
            raise ValueError(
                f"This FaceShifter draws faces of {self.config.side}×{self.config.side} pixels, not "
                f"{target.shape[1]}×{target.shape[2]}; give that size, or another bottom or number of halvings."
            )
        return self.encoder(target, train)


# ---- The family ----


def _describe(config: FaceShifterConfig) -> str:
    return f"AEI-Net for {config.side} pixels, encoder {list(config.encoder)}, AAD blocks {[*config.widths, 3]}"


FAMILY = Family(
    name="faceshifter",
    config_class=FaceShifterConfig,
    takes=frozenset({"vector"}),
    module=FaceShifter,
    fields=FaceShifterConfig.experiment_fields,
    from_fields=FaceShifterConfig.from_experiment,
    describe=_describe,
    warm_start=FaceShifterConfig.start_of_same,
)

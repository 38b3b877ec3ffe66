"""Both stages of FaceShifter as a family: AEI-Net, and HEAR-Net, which brings back what stands in front of a face.

What AEI-Net does not draw of the target even with the target's own identity (glasses, hands, hair) is its heuristic
error; HEAR-Net (arXiv 1912.13457, §3.2), a U-net, puts it into the first stage's result.
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

from simswap_jax.models import faceshifter
from simswap_jax.models.config import WIDTH, Ranges
from simswap_jax.models.faceshifter import AttributeEncoder, FaceShifter, FaceShifterConfig, upsampling
from simswap_jax.models.families import Family

SMALL: dict[str, Any] = {"hear": (16, 32, 64, 128)}
PRESETS: dict[str, dict[str, Any]] = {
    name: {**shape, **(SMALL if shape else {})} for name, shape in faceshifter.PRESETS.items()
}


@dataclasses.dataclass(frozen=True)
class FaceShifterHearConfig(FaceShifterConfig):
    """AEI-Net's shape and HEAR-Net's; the default is the published size, five halvings.

    Attributes:
      hear: channels of HEAR-Net after each halving; it doubles as ``transposed`` says.
    """

    family: ClassVar[str] = "faceshifter_hear"
    described: ClassVar[str] = "FaceShifter generator of two stages"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    ranges: ClassVar[Ranges] = {**FaceShifterConfig.ranges, "hear": WIDTH}

    hear: tuple[int, ...] = (32, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hear", tuple(int(width) for width in self.hear))
        if not self.hear or self.side % 2 ** len(self.hear):
            raise ValueError(f"hear has {len(self.hear)} halvings, which {self.side} pixels do not have; give fewer.")

    @property
    def first_stage(self) -> FaceShifterConfig:
        """AEI-Net's."""
        names = [field.name for field in dataclasses.fields(FaceShifterConfig)]
        return FaceShifterConfig(**{name: getattr(self, name) for name in names})


class HearNet(nn.Module):
    """HEAR-Net: Y from Ŷ and ΔY_t, side by side."""

    config: FaceShifterHearConfig
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 6"], train: bool) -> Float[Array, "b h w 3"]:
        """[B,H,W,6] → [B,H,W,3], float32, in the generator's convention."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        shape = dataclasses.replace(config.first_stage, encoder=config.hear, widths=config.hear)
        *_, finest, _ = AttributeEncoder(shape, self.axis_name, name="unet")(x, train)  # the same kind of U-net
        drawn = upsampling(finest, 3, config.transposed, dtype, "last").astype(jnp.float32)
        return jax.nn.sigmoid(drawn) if config.convention == "unit" else drawn


class FaceShifterHear(nn.Module):
    """Y = HEAR(Ŷ, ΔY_t), Ŷ = AEI(X_t, X_s), ΔY_t = X_t − AEI(X_t, X_t); no gradient goes into AEI-Net."""

    config: FaceShifterHearConfig
    axis_name: str | None = None

    def setup(self) -> None:
        """Names both stages."""
        self.aei = FaceShifter(self.config.first_stage, self.axis_name)
        self.hear = HearNet(self.config, self.axis_name)

    def __call__(
        self,
        target: Float[Array, "b h w 3"],
        identity: Float[Array, "b d"],
        own: Float[Array, "b d"],
        train: bool = False,
    ) -> Float[Array, "b h w 3"]:
        """X_t [B,H,W,3] in its convention, L2-normalised z_id(X_s) and z_id(X_t) [B,D] → Y [B,H,W,3], float32."""
        return self.with_first_stage(target, identity, own, train)[0]

    def with_first_stage(
        self,
        target: Float[Array, "b h w 3"],
        identity: Float[Array, "b d"],
        own: Float[Array, "b d"],
        train: bool = False,
    ) -> tuple[Float[Array, "b h w 3"], Float[Array, "b h w 3"]]:
        """Y and Ŷ; arguments as of a call."""
        first = jax.lax.stop_gradient(self.aei(target, identity))
        error = target - jax.lax.stop_gradient(self.aei(target, own))
        return self.hear(jnp.concatenate([first, error], -1), train), first


def _describe(config: FaceShifterHearConfig) -> str:
    shape = f"encoder {list(config.encoder)}, HEAR-Net {list(config.hear)}"
    return f"AEI-Net and HEAR-Net for {config.side} pixels, {shape}"


FAMILY = Family(
    name="faceshifter_hear",
    config_class=FaceShifterHearConfig,
    takes=frozenset({"vector", "target_vector"}),
    module=FaceShifterHear,
    fields=FaceShifterHearConfig.experiment_fields,
    from_fields=FaceShifterHearConfig.from_experiment,
    describe=_describe,
    warm_start=FaceShifterHearConfig.start_of_same,
)

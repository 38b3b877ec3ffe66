"""DeepFakes (2017, no paper) as a family of generators: one encoder for everybody, a decoder for each person.

The encoder hands over pose and expression; the decoder of a person can draw nobody else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, Int

from simswap_jax.models.config import WIDTH, OneSizeConfig, Ranges, check_dtype
from simswap_jax.models.families import Family
from simswap_jax.models.layers import Conv, Dtype, Linear
from simswap_jax.models.normalization import check_convention
from simswap_jax.models.ops.resize import pixel_shuffle

SLOPE = 0.1  # of the leaky ReLU
PRESETS: dict[str, dict[str, Any]] = {  # the size in circulation, at 64 pixels, and two small ones of this project's
    "original": {},
    "small-64": {"encoder": (32, 64, 96, 128), "dense": 256, "shared": 128, "decoder": (96, 64, 32)},
    "small-112": {"encoder": (32, 64, 96, 128), "dense": 256, "shared": 128, "decoder": (96, 64, 32), "bottom": 7},
}


@dataclasses.dataclass(frozen=True)
class DeepFakesConfig(OneSizeConfig):
    """The shape of encoder and decoders, and whose decoders they are.

    Attributes:
      people: names of the people who can be drawn, in the order of their decoders.
      encoder: channels after each halving.
      dense: the numbers that a face is squeezed into.
      shared: channels of the map that the encoder hands on, one doubling above its smallest.
      decoder: channels after each doubling of a decoder, one fewer than the encoder's.
      bottom: side of the smallest map; faces are bottom·2^halvings pixels.
      convention: as `GeneratorConfig`'s; ``"unit"`` has a sigmoid head.
      dtype: what layers compute in; parameters are float32 always.
    """

    family: ClassVar[str] = "deepfakes"
    described: ClassVar[str] = "DeepFakes generator"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    ranges: ClassVar[Ranges] = {
        "encoder": WIDTH, "decoder": WIDTH, "dense": WIDTH, "shared": WIDTH, "bottom": (1, 64),
    }  # fmt: skip

    people: tuple[str, ...] = ()
    encoder: tuple[int, ...] = (128, 256, 512, 1024)
    dense: int = 1024
    shared: int = 512
    decoder: tuple[int, ...] = (256, 128, 64)
    bottom: int = 4
    convention: str = "unit"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("encoder", "decoder"):
            object.__setattr__(self, name, tuple(int(width) for width in getattr(self, name)))
        object.__setattr__(self, "people", tuple(self.people))
        check_convention(self.convention)
        check_dtype(self.dtype)
        if len(self.decoder) + 1 != len(self.encoder):
            raise ValueError(f"{len(self.encoder)} halvings need one width fewer in decoder; give so many.")
        if len(set(self.people)) != len(self.people):
            raise ValueError("people names somebody twice; name everybody once.")


class Upscale(nn.Module):
    """A convolution 3×3 to four times the channels, leaky ReLU, and pixels unfolded from them."""

    features: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,2H,2W,features]."""
        x = Conv(4 * self.features, 3, padding=1, dtype=self.dtype, name="conv")(x)
        return pixel_shuffle(nn.leaky_relu(x, SLOPE), 2)


class Encoder(nn.Module):
    """Halvings, two dense layers, a doubling: what of a face is handed to whoever draws it."""

    config: DeepFakesConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,3] → [B,2·bottom,2·bottom,shared]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if x.shape[1:3] != (config.side,) * 2:
            raise ValueError(
                f"This DeepFakes model draws faces of {config.side}×{config.side} pixels, not "
                f"{x.shape[1]}×{x.shape[2]}; give that size, or another bottom or number of halvings."
            )
        for i, width in enumerate(config.encoder, start=1):
            x = nn.leaky_relu(Conv(width, 5, 2, padding=2, dtype=dtype, name=f"down{i}")(x), SLOPE)
        shape = x.shape
        x = Linear(config.dense, dtype=dtype, name="squeeze")(x.reshape(shape[0], -1))
        x = Linear(shape[1] * shape[2] * shape[3], dtype=dtype, name="widen")(x).reshape(shape)
        return Upscale(config.shared, dtype, name="up")(x)


class Decoder(nn.Module):
    """Draws one person."""

    config: DeepFakesConfig

    @nn.compact
    def __call__(self, nothing: None, x: Float[Array, "b h w c"]) -> tuple[None, Float[Array, "b h2 w2 3"]]:
        """[B,2·bottom,2·bottom,shared] → [B,H,W,3], float32; ``nothing`` is what a scan carries along."""
        dtype = jnp.dtype(self.config.dtype)
        for i, width in enumerate(self.config.decoder, start=1):
            x = Upscale(width, dtype, name=f"up{i}")(x)
        drawn = Conv(3, 5, padding=2, dtype=dtype, name="last")(x).astype(jnp.float32)
        return nothing, jax.nn.sigmoid(drawn) if self.config.convention == "unit" else drawn


class DeepFakes(nn.Module):
    """One encoder and, as one module with parameters [K, …], a decoder for each of K people."""

    config: DeepFakesConfig
    axis_name: str | None = None  # there are no batch statistics

    def setup(self) -> None:
        """Names the encoder and the decoders."""
        self.encoder = Encoder(self.config)
        # One after the other, written out: under vmap their convolutions become a grouped one, which XLA's CPU back
        # end computes many times slower.
        each = nn.scan(
            Decoder, variable_axes={"params": 0}, split_rngs={"params": True}, unroll=max(1, len(self.config.people))
        )
        self.decoders = each(self.config)

    def __call__(
        self, target: Float[Array, "b h w 3"], person: Int[Array, " b"], train: bool = False
    ) -> Float[Array, "b h w 3"]:
        """X_t [B,H,W,3] in its convention, drawn as ``person`` [B]: every decoder draws, and one drawing is taken."""
        del train
        coded = self.encoder(target)
        _, drawn = self.decoders(None, jnp.broadcast_to(coded, (len(self.config.people), *coded.shape)))
        return jnp.take_along_axis(drawn, person[None, :, None, None, None], 0)[0]

    def grouped(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Pictures of which number i is of person i mod K, each drawn by its own person's decoder alone."""
        count = len(self.config.people)
        if pictures.shape[0] % count:
            raise ValueError(f"{pictures.shape[0]} pictures cannot be shared by {count} people; give a multiple.")
        coded = self.encoder(pictures)
        # Samples of a person are not next to each other, so devices that share a batch have some of everybody.
        _, drawn = self.decoders(None, jnp.moveaxis(coded.reshape(-1, count, *coded.shape[1:]), 1, 0))
        return jnp.moveaxis(drawn, 0, 1).reshape(pictures.shape)


# ---- The family ----


def _describe(config: DeepFakesConfig) -> str:
    shape = f"encoder {list(config.encoder)}, decoders {list(config.decoder)}"
    return f"DeepFakes for {config.side} pixels, {shape}, people: {', '.join(config.people)}"


def _warm_start(former: DeepFakesConfig, config: DeepFakesConfig) -> Callable[[Any, Any], Any] | None:
    return DeepFakesConfig.start_of_same(former, config) if config.people else None


FAMILY = Family(
    name="deepfakes",
    config_class=DeepFakesConfig,
    takes=frozenset({"person"}),
    module=DeepFakes,
    fields=DeepFakesConfig.experiment_fields,
    from_fields=DeepFakesConfig.from_experiment,
    describe=_describe,
    warm_start=_warm_start,
)

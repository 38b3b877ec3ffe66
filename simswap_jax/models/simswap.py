"""SimSwap's generator (paper, §3.2 and figure 2): an encoder, nine ID blocks that inject the identity, a decoder."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax import Array
from jaxtyping import Float

from simswap_jax.models.config import WIDTH, DictConfig, Ranges, check_dtype
from simswap_jax.models.layers import BatchNorm, Conv, Dtype, Linear, instance_norm, torch_init
from simswap_jax.models.normalization import check_convention


class AdaIN(nn.Module):
    """Adaptive instance normalisation, eq. 1: norm(x)·(1 + γ) + β, γ and β linear in the identity vector."""

    dtype: Dtype = jnp.float32
    kernel_init: Initializer = torch_init
    slope: float = 1.0  # of the activation after it below 0; 1: none

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], identity: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        """[B,H,W,C] and [B,D] → [B,H,W,C]."""
        linear = Linear(2 * x.shape[-1], kernel_init=self.kernel_init, name="linear")
        gamma, beta = jnp.split(linear(identity.astype(jnp.float32))[:, None, None, :], 2, axis=-1)
        return instance_norm(x, 1.0 + gamma, beta, slope=self.slope, dtype=self.dtype)


class IDBlock(nn.Module):
    """A residual block whose two instance norms are styled by the identity vector. No activation follows the sum."""

    dtype: Dtype = jnp.float32
    adain_init: Initializer = torch_init

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], identity: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        """[B,H,W,C] and [B,D] → [B,H,W,C]."""
        width = x.shape[-1]
        common: dict[str, Any] = {"padding": 1, "reflect": True, "centred": True, "dtype": self.dtype}
        y = Conv(width, 3, **common, name="conv1")(x)
        y = AdaIN(self.dtype, self.adain_init, slope=0.0, name="style1")(y, identity)
        y = Conv(width, 3, **common, name="conv2")(y)
        return x + AdaIN(self.dtype, self.adain_init, name="style2")(y, identity)


class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU; with ``upsample``, after a bilinear ×2."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    reflect: bool = False
    upsample: bool = False
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        shape = (self.features, self.kernel, self.stride, self.padding, self.reflect)
        x = Conv(*shape, dtype=self.dtype, upsample=self.upsample, centred=train, name="conv")(x)
        return BatchNorm(self.axis_name, dtype=self.dtype, slope=0.0, name="norm")(x, train)


_PRESETS: dict[str, dict[str, Any]] = {
    "224": {"widths": (64, 128, 256, 512), "first_down": 1},
    "224-deep": {"widths": (64, 128, 256, 512, 512), "first_down": 1},
    "512": {"widths": (32, 64, 128, 256, 512), "first_down": 0},
}


@dataclasses.dataclass(frozen=True)
class GeneratorConfig(DictConfig):
    """The generator's shape and the range of its pixels; saved with every checkpoint.

    Attributes:
      widths: channels of ``first_layer`` and after each down-sampling.
      blocks: number of ID blocks.
      identity_size: dimensions of the identity vector.
      convention: ``"unit"``, RGB in [0,1] in and out (a tanh head); ``"imagenet"``, (RGB − mean)/std in and out (no
        head). Nothing in a PyTorch file tells the two apart.
      first_down: number in the name of the first down-sampling: 1, or 0 in the 512 preset.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
      remat: recompute the ID blocks in the backward pass instead of keeping their maps.
    """

    family: ClassVar[str] = "simswap"
    described: ClassVar[str] = "generator"
    ranges: ClassVar[Ranges] = {"widths": WIDTH, "blocks": (1, 128), "identity_size": WIDTH, "first_down": (0, 1)}

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 9
    identity_size: int = 512
    convention: str = "unit"
    first_down: int = 1
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        check_convention(self.convention)
        check_dtype(self.dtype)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} leave nothing to down-sample; give two or more positive numbers.")
        if self.blocks < 1 or self.identity_size < 1:
            raise ValueError("blocks and identity_size must be positive; correct the generator's configuration.")

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> GeneratorConfig:
        """One of the three shapes in circulation: ``"224"``, ``"224-deep"``, ``"512"``."""
        if name not in _PRESETS:
            raise ValueError(f"{name!r} is no preset of the generator; choose one of {', '.join(_PRESETS)}.")
        return cls(**{**_PRESETS[name], **overrides})

    @property
    def preset(self) -> str:
        """The preset whose weights fit, or ``"custom"``."""
        published = (self.blocks, self.identity_size) == (9, 512)
        shape = {"widths": self.widths, "first_down": self.first_down}
        return next((name for name, preset in _PRESETS.items() if published and shape == preset), "custom")

    @property
    def downs(self) -> tuple[str, ...]:
        """Names of the down-samplings, from the picture inwards: ``down1``, …"""
        return tuple(f"down{self.first_down + i}" for i in range(len(self.widths) - 1))

    @property
    def ups(self) -> tuple[str, ...]:
        """Names of the up-samplings, outwards: ``up3``, …"""
        return tuple(name.replace("down", "up") for name in reversed(self.downs))

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""
        return 2 ** (len(self.widths) - 1)


class Generator(nn.Module):
    """I_R = Decoder(ID blocks(Encoder(I_T), v_S)).

    Attributes:
      config: shape, pixel range and computing type.
      axis_name: the pmap axis over which batch norm takes its statistics, if any.
    """

    config: GeneratorConfig = GeneratorConfig()
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, target: Float[Array, "b h w c"], identity: Float[Array, "n d"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """Redraws the target with another identity.

        Args:
          target: [B,H,W,3] in the config's convention; H and W multiples of ``config.multiple``.
          identity: [B,D], L2-normalised.
          train: normalise by the batch's statistics and, where ``batch_stats`` are mutable, move the running ones.

        Returns:
          The result, float32 [B,H,W,3] in the config's convention.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        check_inputs(config, target.shape, identity.shape)
        common: dict[str, Any] = {"axis_name": self.axis_name, "dtype": dtype}

        x = target.astype(dtype)
        x = ConvNormReLU(config.widths[0], 7, padding=3, reflect=True, name="first_layer", **common)(x, train)
        for name, width in zip(config.downs, config.widths[1:]):
            x = ConvNormReLU(width, 3, stride=2, padding=1, name=name, **common)(x, train)

        block = nn.remat(IDBlock) if config.remat else IDBlock
        for i in range(config.blocks):
            x = block(dtype, name=f"bottleneck_{i}")(x, identity)

        for name, width in zip(config.ups, config.widths[-2::-1]):
            x = ConvNormReLU(width, 3, padding=1, upsample=True, name=name, **common)(x, train)
        x = Conv(3, 7, padding=3, reflect=True, dtype=dtype, name="last_layer")(x).astype(jnp.float32)
        return (jnp.tanh(x) + 1.0) / 2.0 if config.convention == "unit" else x


def check_inputs(config: GeneratorConfig, target: tuple[int, ...], identity: tuple[int, ...]) -> None:
    """A ValueError for shapes that the generator cannot take."""
    if len(target) != 4 or target[-1] != 3:
        raise ValueError(f"The target has shape {target}; give images as [batch, height, width, 3].")
    if target[1] % config.multiple or target[2] % config.multiple:
        raise ValueError(
            f"The target is {target[1]}×{target[2]}; its height and width must be multiples of {config.multiple}."
        )
    if len(identity) != 2 or identity[0] != target[0] or identity[1] != config.identity_size:
        raise ValueError(
            f"The identity vectors have shape {identity}; this generator takes [{target[0]}, {config.identity_size}]."
        )

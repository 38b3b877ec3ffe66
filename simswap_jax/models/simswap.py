"""SimSwap's generator: encoder, identity injection (nine ID blocks), decoder. Paper: §3.2, figure 2."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from simswap_jax.models.layers import (
    AdaIN,
    BatchNorm,
    Conv,
    Dtype,
    bilinear_double,
    space_to_depth,
)
from simswap_jax.models.normalization import CONVENTIONS

DTYPES = ("float32", "bfloat16")

_PRESETS: dict[str, dict[str, Any]] = {
    "224": {"widths": (64, 128, 256, 512), "first_down": 1},
    "224-deep": {"widths": (64, 128, 256, 512, 512), "first_down": 1},
    "512": {"widths": (32, 64, 128, 256, 512), "first_down": 0},
}


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """The generator's shape and its values' convention; saved with every checkpoint.

    Attributes:
      widths: channels of ``first_layer`` and after each down-sampling.
      blocks: number of ID blocks.
      identity_size: length of the identity vector.
      convention: ``"unit"``, RGB in [0,1] in and out (a tanh head); ``"imagenet"``, (RGB − mean)/std in and out (no
        head). Nothing in a PyTorch file tells the two apart.
      first_down: number in the name of the first down-sampling: 1, or 0 in the 512 preset.
      patch: pixels are folded into channels by this factor before ``first_layer``, and maps enlarged by it (bilinear
        ×2, as before every up-sampling) before ``last_layer``; 1 is the paper's, 2 makes small models affordable on a
        CPU. Unfolding channels at the end, the obvious inverse, left a grid of dots in the results.
      edge_kernel: window of ``first_layer`` and ``last_layer``; 7 is the paper's, 3 does where patch is 2.
      gated: the last layer draws a fourth channel, and the result is g·target + (1−g)·drawing with g its sigmoid: the
        background and all that the identity leaves alone need not pass through the bottleneck. Not in the paper, whose
        generator redraws the whole picture and needs hundreds of thousands of steps to learn to.
      gate_cell: pixels, a power of two. The gate is a mean of so many by so many, bilinear in between: one as fine as
        the picture traces the target's brows and lips, whose outlines then stay.
      style_gain: how many times PyTorch's the fresh weights of the styles are. An identity vector has length one, so
        that PyTorch's own start styles by a few hundredths and small runs spend their first hundreds of steps on that.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
      remat: recompute the ID blocks in the backward pass instead of keeping their maps.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 9
    identity_size: int = 512
    convention: str = "unit"
    first_down: int = 1
    patch: int = 1
    edge_kernel: int = 7
    gated: bool = False
    gate_cell: int = 1
    style_gain: float = 1.0
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        if self.convention not in CONVENTIONS:
            raise ValueError(f"{self.convention!r} is no value convention; choose one of {', '.join(CONVENTIONS)}.")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.dtype!r} is no computing type; choose one of {', '.join(DTYPES)}.")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} leave nothing to down-sample; give two or more positive numbers.")
        if self.blocks < 1 or self.patch < 1 or self.identity_size < 1:
            raise ValueError("blocks, patch and identity_size must be positive; correct the generator's configuration.")
        if self.patch & (self.patch - 1):
            raise ValueError(f"patch is {self.patch}; maps are doubled to undo it: use a power of two.")
        if self.gate_cell < 1 or self.gate_cell & (self.gate_cell - 1):
            raise ValueError(f"gate_cell is {self.gate_cell}; maps are doubled to undo it: use a power of two.")
        if self.edge_kernel < 1 or self.edge_kernel % 2 == 0:
            raise ValueError(f"edge_kernel is {self.edge_kernel}; a window needs a middle: use an odd number.")

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> GeneratorConfig:
        """One of the three shapes in circulation: ``"224"``, ``"224-deep"``, ``"512"``."""
        if name not in _PRESETS:
            raise ValueError(f"{name!r} is no preset of the generator; choose one of {', '.join(_PRESETS)}.")
        return cls(**{**_PRESETS[name], **overrides})

    @property
    def preset(self) -> str:
        """The preset whose weights fit, or ``"custom"``."""
        for name, shape in _PRESETS.items():
            same = all(getattr(self, field) == value for field, value in shape.items())
            rest = (self.blocks, self.identity_size, self.patch, self.edge_kernel, self.gated)
            if same and rest == (9, 512, 1, 7, False):
                return name
        return "custom"

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
        return max(self.patch * 2 ** (len(self.widths) - 1), self.gate_cell)

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return {**dataclasses.asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GeneratorConfig:
        """Undoes :meth:`to_dict`; an unknown field is an error."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"The generator's configuration has no field {', '.join(unknown)}; remove it.")
        return cls(**values)


class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU; with ``double``, after a bilinear ×2."""

    features: int
    kernel: int
    stride: int = 1
    padding: int = 0
    reflect: bool = False
    double: bool = False
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B,H,W,I] → [B,H',W',features]."""
        if self.double:
            x = bilinear_double(x)
        x = Conv(self.features, self.kernel, self.stride, self.padding, self.reflect, dtype=self.dtype, name="conv")(x)
        return nn.relu(BatchNorm(self.axis_name, dtype=self.dtype, name="norm")(x, train))


class IDBlock(nn.Module):
    """A residual block whose two instance norms are styled by the identity vector (AdaIN); paper, §3.2.

    No activation follows the sum.
    """

    dtype: Dtype = jnp.float32
    style_gain: float = 1.0

    @nn.compact
    def __call__(self, x: Array, identity: Array) -> Array:
        """[B,H,W,C] and [B,D] → [B,H,W,C]."""
        width = x.shape[-1]
        y = Conv(width, 3, padding=1, reflect=True, dtype=self.dtype, name="conv1")(x)
        y = nn.relu(AdaIN(self.dtype, self.style_gain, name="style1")(y, identity))
        y = Conv(width, 3, padding=1, reflect=True, dtype=self.dtype, name="conv2")(y)
        return x + AdaIN(self.dtype, self.style_gain, name="style2")(y, identity)


class Generator(nn.Module):
    """I_R = Decoder(ID blocks(Encoder(I_T), v_S)).

    Attributes:
      config: shape, convention and computing type.
      axis_name: the pmap axis over which batch norm takes its statistics, if any.
    """

    config: GeneratorConfig = GeneratorConfig()
    axis_name: str | None = None

    @nn.compact
    def __call__(self, target: Array, identity: Array, train: bool = False) -> Array:
        """Redraws the target with another identity.

        Args:
          target: [B,H,W,3] in the config's convention; H and W multiples of ``config.multiple``.
          identity: [B,D], L2-normalised.
          train: normalise by the batch's statistics and, where ``batch_stats`` are mutable, move the running ones.

        Returns:
          The result, float32 [B,H,W,3] in the config's convention.
        """
        config = self.config
        _check_inputs(config, target.shape, identity.shape)
        dtype = jnp.dtype(config.dtype)
        common = {"axis_name": self.axis_name, "dtype": dtype}

        x = space_to_depth(target.astype(dtype), config.patch)
        kernel, edge = config.edge_kernel, config.edge_kernel // 2
        x = ConvNormReLU(config.widths[0], kernel, padding=edge, reflect=True, name="first_layer", **common)(x, train)
        for name, width in zip(config.downs, config.widths[1:]):
            x = ConvNormReLU(width, 3, stride=2, padding=1, name=name, **common)(x, train)

        block = nn.remat(IDBlock) if config.remat else IDBlock
        for i in range(config.blocks):
            x = block(dtype, config.style_gain, name=f"bottleneck_{i}")(x, identity)

        for name, width in zip(config.ups, config.widths[-2::-1]):
            x = ConvNormReLU(width, 3, padding=1, double=True, name=name, **common)(x, train)
        for _ in range(config.patch.bit_length() - 1):
            x = bilinear_double(x)
        drawn = 4 if config.gated else 3
        x = Conv(drawn, kernel, padding=edge, reflect=True, dtype=dtype, name="last_layer")(x).astype(jnp.float32)
        x, gate = x[..., :3], nn.sigmoid(_smoothed(x[..., 3:], config.gate_cell))
        x = (jnp.tanh(x) + 1.0) / 2.0 if config.convention == "unit" else x
        return gate * target.astype(jnp.float32) + (1.0 - gate) * x if config.gated else x


def _smoothed(x: Array, cell: int) -> Array:
    """Means of cell × cell pixels, and bilinear between their middles: [B,H,W,C] → the same shape."""
    if cell == 1:
        return x
    x = nn.avg_pool(x, (cell, cell), (cell, cell))
    for _ in range(cell.bit_length() - 1):
        x = bilinear_double(x)
    return x


def _check_inputs(config: GeneratorConfig, target: tuple[int, ...], identity: tuple[int, ...]) -> None:
    """Sentences for shapes that the generator cannot take."""
    if len(target) != 4 or target[-1] != 3:
        raise ValueError(f"The target has shape {target}; give pictures as [batch, height, width, 3].")
    if target[1] % config.multiple or target[2] % config.multiple:
        raise ValueError(
            f"The target is {target[1]}×{target[2]}; its height and width must be multiples of {config.multiple}."
        )
    if len(identity) != 2 or identity[0] != target[0] or identity[1] != config.identity_size:
        raise ValueError(
            f"The identity vectors have shape {identity}; this generator takes [{target[0]}, {config.identity_size}]."
        )

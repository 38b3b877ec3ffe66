"""SimSwap's generator made small, for training on few processors; four things in it are not the paper's.

A pixel-unshuffle stem lets the first and last layers work at a fraction of the resolution. A composition mask lets what
the identity leaves alone past the bottleneck: the paper's generator redraws the whole picture and needs hundreds of
thousands of steps to learn to. The target's colour and light can be kept: what a generator finds first to please an
identity network is stains and casts of colour. Larger initial weights in AdaIN spare small runs their first hundreds of
steps, which they would spend on learning to style at all. With all four off it is the paper's generator, parameter by
parameter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax import Array
from jaxtyping import Float

from simswap_jax.models.config import Ranges
from simswap_jax.models.layers import Conv, Dtype, per_channel, torch_init
from simswap_jax.models.ops.resize import pixel_unshuffle, upsample_bilinear
from simswap_jax.models.simswap import ConvNormReLU, GeneratorConfig, IDBlock, check_inputs

# What the fields were called in model folders of format 1.
FORMER_NAMES = {
    "patch": "unshuffle",
    "edge_kernel": "stem_kernel",
    "gated": "composition_mask",
    "gate_cell": "mask_stride",
    "style_gain": "adain_init_scale",
}
CELLS = ("colour_cell", "light_cell")
LUMA = (0.299, 0.587, 0.114)  # of RGB, ITU-R BT.601
CLOSED = -3.0  # the bias of a mask that is nearly closed: 5 % of the target


@dataclasses.dataclass(frozen=True)
class CompactConfig(GeneratorConfig):
    """The generator's shape and the range of its pixels; the defaults are the paper's.

    Attributes:
      unshuffle: pixels are folded into channels by this factor before ``first_layer``, and maps enlarged by it
        (bilinear ×2, as before every up-sampling) before ``last_layer``; a power of two. Unfolding channels at the
        end, the obvious inverse, would leave a grid of dots.
      stem_kernel: window of ``first_layer`` and ``last_layer``, odd.
      composition_mask: the last layer draws a fourth channel m, and the result is σ(m)·target + (1−σ(m))·drawing.
      mask_stride: pixels, a power of two. The mask is a mean of so many by so many, bilinear in between: a finer one
        traces the target's brows and lips, whose outlines then stay.
      colour_cell, light_cell: pixels, powers of two; 0, off. The result gets the target's colours, and its light, as
        means of squares of so many pixels show them; what is finer is the generator's.
      adain_init_scale: how many times PyTorch's the initial weights of AdaIN are. An identity vector has length one,
        so that PyTorch's own style by a few hundredths only.
    """

    family: ClassVar[str] = "compact"
    ranges: ClassVar[Ranges] = {
        **GeneratorConfig.ranges,
        "unshuffle": (1, 64),
        "stem_kernel": (1, 63),
        "mask_stride": (1, 1024),
        "colour_cell": (0, 1024),
        "light_cell": (0, 1024),
        "adain_init_scale": (-1e6, 1e6),
    }

    unshuffle: int = 1
    stem_kernel: int = 7
    composition_mask: bool = False
    mask_stride: int = 1
    colour_cell: int = 0
    light_cell: int = 0
    adain_init_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("unshuffle", "mask_stride", *CELLS):
            value = getattr(self, name)
            if value & (value - 1) or value < (name not in CELLS):
                raise ValueError(f"{name} is {value}; maps are doubled to undo it: use a power of two.")
        if self.convention != "unit" and self.keeps_colour:
            raise ValueError("colour_cell and light_cell are of RGB in [0, 1]; set them to 0, or convention to 'unit'.")
        if self.stem_kernel < 1 or self.stem_kernel % 2 == 0:
            raise ValueError(f"stem_kernel is {self.stem_kernel}; a window needs a middle: use an odd number.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CompactConfig:
        """Undoes :meth:`to_dict`; the former names of the fields are read, too."""
        return super().from_dict({FORMER_NAMES.get(name, name): value for name, value in values.items()})

    @property
    def preset(self) -> str:
        """The preset of the paper's generator whose weights fit, or ``"custom"``."""
        papers = (self.unshuffle, self.stem_kernel, self.composition_mask) == (1, 7, False)
        return super().preset if papers and not self.keeps_colour else "custom"

    @property
    def keeps_colour(self) -> bool:
        """Whether something of the target's colour or light is kept."""
        return bool(self.colour_cell or self.light_cell)

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""
        return max(self.unshuffle * super().multiple, self.mask_stride, self.colour_cell, self.light_cell)

    @property
    def least_size(self) -> int:
        """The least height and width: maps are mirrored at their edges, by one at the smallest, more at first."""
        return self.unshuffle * max(2 ** len(self.widths), self.stem_kernel // 2 + 1)


class CompactGenerator(nn.Module):
    """σ(m)·I_T + (1−σ(m))·Decoder(ID blocks(Encoder(I_T), v_S)), its parameters named as in ``Generator``.

    Attributes:
      config: shape, pixel range and computing type.
      axis_name: the pmap axis over which batch norm takes its statistics, if any.
    """

    config: CompactConfig = CompactConfig()
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, target: Float[Array, "b h w c"], identity: Float[Array, "n d"], train: bool = False
    ) -> Float[Array, "b h w c"]:
        """As ``Generator``: [B,H,W,3] and [B,D] → float32 [B,H,W,3]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        check_inputs(config, target.shape, identity.shape)
        common: dict[str, Any] = {"axis_name": self.axis_name, "dtype": dtype}
        kernel, edge = config.stem_kernel, config.stem_kernel // 2

        x = pixel_unshuffle(target.astype(dtype), config.unshuffle)
        x = ConvNormReLU(config.widths[0], kernel, padding=edge, reflect=True, name="first_layer", **common)(x, train)
        for name, width in zip(config.downs, config.widths[1:]):
            x = ConvNormReLU(width, 3, stride=2, padding=1, name=name, **common)(x, train)

        block = nn.remat(IDBlock) if config.remat else IDBlock
        for i in range(config.blocks):
            x = block(dtype, scaled(torch_init, config.adain_init_scale), name=f"bottleneck_{i}")(x, identity)

        for name, width in zip(config.ups, config.widths[-2::-1]):
            x = ConvNormReLU(width, 3, padding=1, upsample=True, name=name, **common)(x, train)
        for _ in range(config.unshuffle.bit_length() - 1):
            x = upsample_bilinear(x)
        channels = 4 if config.composition_mask else 3
        x = Conv(channels, kernel, padding=edge, reflect=True, dtype=dtype, name="last_layer")(x).astype(jnp.float32)
        x, mask = x[..., :3], nn.sigmoid(smoothed(x[..., 3:], config.mask_stride))
        x = (jnp.tanh(x) + 1.0) / 2.0 if config.convention == "unit" else x
        target = target.astype(jnp.float32)
        x = mask * target + (1.0 - mask) * x if config.composition_mask else x
        return with_colours_of(target, x, config.colour_cell, config.light_cell) if config.keeps_colour else x


def scaled(initializer: Initializer, scale: float) -> Initializer:
    """An initializer whose numbers are ``scale`` times another's."""

    def init(key: Array, shape: tuple[int, ...], dtype: Dtype = jnp.float32) -> Array:
        return scale * initializer(key, shape, dtype)

    return init


def smoothed(x: Float[Array, "b h w c"], stride: int) -> Float[Array, "b h w c"]:
    """Means of stride × stride pixels, and bilinear between their middles: [B,H,W,C] → the same shape."""
    if stride == 1:
        return x
    x = nn.avg_pool(x, (stride, stride), (stride, stride))
    for _ in range(stride.bit_length() - 1):
        x = upsample_bilinear(x)
    return x


def with_colours_of(
    target: Float[Array, "b h w 3"], x: Float[Array, "b h w 3"], colour_cell: int, light_cell: int
) -> Float[Array, "b h w 3"]:
    """A picture with another's colours and light, each as means of squares of so many pixels show it (0: its own)."""
    missing = target - x
    light = jnp.sum(missing * per_channel(jnp.array(LUMA), 4), -1, keepdims=True)
    x = x + smoothed(missing - light, colour_cell) if colour_cell else x
    return x + smoothed(light, light_cell) if light_cell else x


def as_compact(config: GeneratorConfig) -> CompactConfig:
    """The same generator as a compact one: the paper's has everything off."""
    return config if isinstance(config, CompactConfig) else CompactConfig(**dataclasses.asdict(config))


def warm_start(former: GeneratorConfig, config: GeneratorConfig) -> Callable[[Any, Any], Any] | None:
    """How parameters of a former generator begin this one; None where they do not fit.

    A generator that gets a composition mask only now begins with a nearly closed one: its results are at first what
    they were. Where the mask is there from the first step on, copying the target is the shortest way down, and the
    identity is not learned; given to a generator that knows whose face it draws, it takes over the rest of the picture.

    Returns:
      (the former's parameters, fresh ones) → parameters in the shapes of the fresh ones.
    """
    *shape, masked_before = _shape(former)
    *wanted, masked = _shape(config)
    if shape != wanted or (masked_before and not masked):
        return None
    return with_mask


def _shape(config: GeneratorConfig) -> tuple[Any, ...]:
    """All that decides the shapes of the parameters, and what they stand for; the mask is last."""
    of = as_compact(config)
    shape = (of.widths, of.blocks, of.identity_size, of.convention, of.first_down, of.unshuffle, of.stem_kernel)
    return (*shape, of.composition_mask)


def with_mask(former: Any, fresh: Any) -> Any:
    """``former`` in the shapes of ``fresh``: a last layer that lacks the mask's channel gets it, nearly closed."""

    def fitted(old: Array, new: Array) -> Array:
        if old.shape == new.shape:
            return old
        value = CLOSED if old.ndim == 1 else 0.0  # bias, kernel
        return jnp.concatenate([old, jnp.full((*old.shape[:-1], 1), value, old.dtype)], axis=-1)

    return jax.tree.map(fitted, former, fresh)

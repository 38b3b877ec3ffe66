"""FSGAN (Nirkin et al., arXiv 1908.05932), small and faithful, as a family of generators: three networks in turn.

The first re-enacts the source's picture in the target's pose and expression, which heat maps of the target's landmarks
show it; the second draws what of the target's face is missing then; the third blends the face into the target.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.config import WIDTH, PresetConfig, Ranges, check_dtype
from simswap_jax.models.families import Family
from simswap_jax.models.layers import BatchNorm, Conv, Dtype
from simswap_jax.models.ops.resize import upsample_bilinear

CLASSES = 3  # of the segmentation: background, face, hair; hair is never labelled here
FACE = 1
NOTHING = -1.0  # what stands where there is no face
DIRECTIONS = 24  # in which the hull of the landmarks is bounded
LEAST = 0.8  # of a landmark's heat map: what is below is 0
# Shapes: of the published size, and a small one of this project's.
SMALL: dict[str, Any] = {"widths": (16, 32, 64, 96), "flat": (1, 1, 1, 1), "flat_up": (0, 1, 1), "pyramid": 1}
PRESETS: dict[str, dict[str, Any]] = {"original": {}, "small": SMALL}


@dataclasses.dataclass(frozen=True)
class FSGANConfig(PresetConfig):
    """The shape of the three networks, and the landmarks that they are shown; the defaults are the published size.

    Attributes:
      widths: channels at full size and after each halving.
      flat, flat_up: residual blocks at each of them on the way down; on the way up, at all but the coarsest.
      pyramid: at how many of the sizes, the finest first, the picture itself comes in.
      points: how many landmarks.
      landmarks: what finds them: the file of YuNet (five) or of a landmark network, by name; or
        ``"package.module:function"`` of what knows a data set's, in training only.
      reach: the hull of the landmarks is made so many times as large and stands for the face.
      convention: ``"unit"``, the only one that it knows.
      dtype: what layers compute in; parameters, statistics and norms are float32 always.
    """

    family: ClassVar[str] = "fsgan"
    described: ClassVar[str] = "FSGAN generator"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    no_shape: ClassVar[Sequence[str]] = ("points", "landmarks", "reach", "convention", "dtype")
    ranges: ClassVar[Ranges] = {
        "widths": WIDTH, "flat": (0, 16), "flat_up": (0, 16), "pyramid": (1, 16), "points": (3, 1000),
        "reach": (0.1, 10.0),
    }  # fmt: skip

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    flat: tuple[int, ...] = (2, 2, 2, 2)
    flat_up: tuple[int, ...] = (0, 0, 0)
    pyramid: int = 2
    points: int = 98
    landmarks: str = "landmarks98_pfld.onnx"
    reach: float = 1.1
    convention: str = "unit"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("widths", "flat", "flat_up"):
            object.__setattr__(self, name, tuple(int(value) for value in getattr(self, name)))
        check_dtype(self.dtype)
        if self.convention != "unit":
            raise ValueError(f"FSGAN draws in the convention 'unit', not {self.convention!r}; leave it at that.")
        if not self.widths or (len(self.flat), len(self.flat_up)) != (len(self.widths), len(self.widths) - 1):
            raise ValueError(
                f"{len(self.widths)} widths need as many numbers in flat and one fewer in flat_up, not "
                f"{len(self.flat)} and {len(self.flat_up)}; give so many."
            )
        if self.pyramid > len(self.widths):
            raise ValueError(f"pyramid is {self.pyramid}, and there are {len(self.widths)} sizes; give at most that.")

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of, so that the smallest maps can be mirrored at their edges."""
        return max(2 ** len(self.widths), 2 ** (self.pyramid + 1))


# ---- What landmarks show ----


def grid(side: int) -> Float[Array, "1 s s 2"]:
    """X and y of a picture's pixels, fractions of its side."""
    centres = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
    return jnp.stack(jnp.meshgrid(centres, centres), axis=-1)[None]


def heat_maps(points: Float[Array, "b p 2"], side: int) -> Float[Array, "b s s p"]:
    """A disc around each landmark: ((√2 − d) / √2)⁸ where that is above `LEAST`, d in halves of the picture's side."""
    apart = 2.0 * (grid(side)[:, :, :, None, :] - points[:, None, None, :, :])
    distance = jnp.sqrt(jnp.sum(jnp.square(apart), -1))
    near = (jnp.maximum(1.0 - distance / np.float32(np.sqrt(2.0)), 0.0)) ** 8
    return jnp.where(near > LEAST, near, 0.0)


def face_mask(points: Float[Array, "b p 2"], side: int, reach: float) -> Float[Array, "b s s 1"]:
    """1 inside the hull of the landmarks, ``reach`` times as large about their mean, else 0; 0 at the picture's rim."""
    centre = jnp.mean(points, 1, keepdims=True)
    points = centre + reach * (points - centre)
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=0).astype(np.float32)

    def along(x: Array) -> Array:
        return sum(x[..., i, None] * directions[i].reshape((1,) * (x.ndim - 1) + (-1,)) for i in (0, 1))

    bounds = jnp.max(along(points), axis=1)
    inside = jnp.all(along(grid(side)) <= bounds[:, None, None, :], axis=-1, keepdims=True)
    rim = np.zeros((1, side, side, 1), bool)
    rim[:, 1:-1, 1:-1] = True
    return (inside & rim).astype(jnp.float32)


# ---- One of the three networks ----


class ResidualBlock(nn.Module):
    """x + two convolutions 3×3 with norms, and a ReLU between and behind."""

    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w c"]:
        """[B,H,W,C] → the same shape."""
        y = ConvNormReLU(x.shape[-1], 3, 1, True, self.axis_name, self.dtype, name="first")(x, train)
        y = ConvNormReLU(x.shape[-1], 3, 1, False, self.axis_name, self.dtype, name="second")(y, train)
        return nn.relu(x + y)


class ConvNormReLU(nn.Module):
    """A convolution over mirrored edges without bias, batch norm, and ReLU if any."""

    features: int
    kernel: int
    stride: int
    relu: bool
    axis_name: str | None
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 o"]:
        """[B,H,W,I] → [B,H',W',features]."""
        x = Conv(self.features, self.kernel, self.stride, self.kernel // 2, True, False, self.dtype, name="conv")(x)
        x = BatchNorm(self.axis_name, dtype=self.dtype, name="norm")(x, train)
        return nn.relu(x) if self.relu else x


class ResUNet(nn.Module):
    """A U-net of residual blocks, whose skips are added; the picture comes in at the finest sizes of a pyramid."""

    config: FSGANConfig
    channels: int
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h w o"]:
        """[B,H,W,I] → [B,H,W,channels], float32, before any tanh."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)

        def layer(x: Array, features: int, name: str, kernel: int = 3, stride: int = 1) -> Array:
            return ConvNormReLU(features, kernel, stride, True, self.axis_name, dtype, name=name)(x, train)

        def flat(x: Array, count: int, name: str) -> Array:
            for i in range(1, count + 1):
                x = ResidualBlock(self.axis_name, dtype, name=f"{name}_block{i}")(x, train)
            return x

        maps: list[Array] = []
        for level, width in enumerate(config.widths):
            if level < config.pyramid:
                y = layer(x, width, f"in{level}", 7)
                x = nn.avg_pool(x, (2, 2), (2, 2))
            else:
                y = layer(layer(maps[-1], width, f"down{level}", 3, 2), width, f"down{level}_second")
            maps.append(flat(y, config.flat[level], f"flat{level}"))
        y = maps.pop()
        for level in reversed(range(len(maps))):
            y = layer(upsample_bilinear(y), config.widths[level], f"up{level}") + maps[level]
            y = flat(y, config.flat_up[level], f"flat_up{level}")
        return Conv(self.channels, 7, 1, 3, True, False, dtype, name="last")(y).astype(jnp.float32)


# ---- The chain ----


class Reenacted(NamedTuple):
    """What the first network draws: a picture [B,H,W,3], −1 to 1, and a segmentation's logits [B,H,W,CLASSES]."""

    picture: Array
    logits: Array


class FSGAN(nn.Module):
    """Y = Gb(Gc(Gr(X_s, maps of X_t's landmarks)), X_t); pictures between are −1 to 1."""

    config: FSGANConfig = FSGANConfig()
    axis_name: str | None = None

    def setup(self) -> None:
        """Names the three networks."""
        self.reenact = ResUNet(self.config, 3 + CLASSES, self.axis_name)
        self.inpaint = ResUNet(self.config, 3, self.axis_name)
        self.blend = ResUNet(self.config, 3, self.axis_name)

    def __call__(
        self,
        target: Float[Array, "b h w 3"],
        picture: Float[Array, "b h w 3"],
        target_points: Float[Array, "b p 2"],
        train: bool = False,
    ) -> Float[Array, "b h w 3"]:
        """X_t, X_s [B,H,W,3] in 0 to 1 and X_t's landmarks [B,P,2] → Y [B,H,W,3], float32, 0 to 1."""
        return self.steps(target, picture, target_points, train)[-1]

    def steps(
        self,
        target: Float[Array, "b h w 3"],
        picture: Float[Array, "b h w 3"],
        target_points: Float[Array, "b p 2"],
        train: bool = False,
    ) -> tuple[Array, Array, Array]:
        """The face re-enacted, completed, and blended into the target; arguments and values as of a call."""
        target, mask = 2.0 * target - 1.0, self.mask(target_points, target.shape[1])
        drawn = self.reenacted(2.0 * picture - 1.0, target_points, train)
        face = self.completed(drawn, mask, train)
        result = self.blended(face, target, mask, train)
        shown = (only(drawn.picture, mask), only(face, mask), result)
        first, second, third = ((x + 1.0) / 2.0 for x in shown)
        return first, second, third

    def training_outputs(
        self,
        target: Float[Array, "b h w 3"],
        picture: Float[Array, "b h w 3"],
        target_points: Float[Array, "b p 2"],
        hole: Float[Array, "b h w 1"],
        stages: Sequence[str],
    ) -> dict[str, Any]:
        """What those networks draw that are trained; no network's gradients reach another.

        Args:
          target, picture, target_points: as of a call.
          hole: 1 where the target's face is drawn anew.
          stages: of ``"reenact"``, ``"inpaint"``, ``"blend"``; the others draw with statistics of their own.

        Returns:
          ``mask``, and of those stages ``reenact``, a `Reenacted`; ``inpaint``, the target with the hole filled;
          ``blend``, the result, and ``face``, what it was made of. Pictures −1 to 1.
        """
        target, picture = 2.0 * target - 1.0, 2.0 * picture - 1.0
        mask = self.mask(target_points, target.shape[1])
        made: dict[str, Any] = {"mask": mask}
        if "inpaint" in stages:
            made["inpaint"] = self.filled(only(target, mask), hole * mask, True)
        if "reenact" in stages or "blend" in stages:
            made["reenact"] = self.reenacted(picture, target_points, "reenact" in stages)
        if "blend" in stages:
            made["face"] = jax.lax.stop_gradient(self.completed(made["reenact"], mask, False))
            made["blend"] = self.blended(made["face"], target, mask, True)
        return made

    def mask(self, points: Float[Array, "b p 2"], side: int) -> Float[Array, "b s s 1"]:
        """Where the face of these landmarks is."""
        return face_mask(points, side, self.config.reach)

    def reenacted(self, picture: Float[Array, "b h w 3"], points: Float[Array, "b p 2"], train: bool) -> Reenacted:
        """Gr: a picture, −1 to 1, in the pose and expression of landmarks."""
        maps = heat_maps(points, picture.shape[1])
        drawn = self.reenact(jnp.concatenate([picture, maps], -1), train)
        return Reenacted(jnp.tanh(drawn[..., :3]), drawn[..., 3:])

    def completed(self, drawn: Reenacted, mask: Float[Array, "b h w 1"], train: bool) -> Float[Array, "b h w 3"]:
        """A re-enacted face whose missing part, which its segmentation does not call face, is drawn anew."""
        shown = (jnp.argmax(drawn.logits, -1, keepdims=True) == FACE).astype(jnp.float32)
        hole = mask * (1.0 - shown)
        return jnp.where(hole > 0, self.filled(only(drawn.picture, mask), hole, train), drawn.picture)

    def filled(
        self, face: Float[Array, "b h w 3"], hole: Float[Array, "b h w 1"], train: bool
    ) -> Float[Array, "b h w 3"]:
        """Gc: a face, drawn anew from what is outside of the hole."""
        return jnp.tanh(self.inpaint(jnp.concatenate([only(face, 1.0 - hole), hole], -1), train))

    def blended(
        self, face: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], mask: Float[Array, "b h w 1"], train: bool
    ) -> Float[Array, "b h w 3"]:
        """Gb: a face where the mask is 1, with the target's light; the target elsewhere."""
        pasted = jnp.where(mask > 0, face, target)
        drawn = jnp.tanh(self.blend(jnp.concatenate([pasted, target, mask], -1), train))
        return jnp.where(mask > 0, drawn, target)


def only(x: Float[Array, "b h w c"], mask: Float[Array, "b h w 1"]) -> Float[Array, "b h w c"]:
    """The picture where the mask is 1, else `NOTHING`."""
    return jnp.where(mask > 0, x, NOTHING)


# ---- The family ----


def _describe(config: FSGANConfig) -> str:
    return (
        f"FSGAN, small and faithful: three networks of widths {list(config.widths)}, {config.points} landmarks by "
        f"{config.landmarks}; without its perceptual losses and its segmentation network"
    )


def _warm_start(former: FSGANConfig, config: FSGANConfig) -> Callable[[Any, Any], Any] | None:
    same = dataclasses.replace(former, dtype=config.dtype, landmarks=config.landmarks) == config
    return (lambda there, fresh: there) if same else None


FAMILY = Family(
    name="fsgan",
    config_class=FSGANConfig,
    takes=frozenset({"picture", "target_points"}),
    module=FSGAN,
    fields=FSGANConfig.experiment_fields,
    from_fields=FSGANConfig.from_experiment,
    describe=_describe,
    warm_start=_warm_start,
)

"""One door to every identity network: its shape, how pictures enter it, how vectors leave it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from simswap_jax.models.identity.arcface import ArcFace
from simswap_jax.models.identity.iresnet import IResNet
from simswap_jax.models.identity.mobilefacenet import MobileFaceNet
from simswap_jax.models.layers import resize_area, resize_bicubic, resize_nearest
from simswap_jax.models.normalization import to_convention

_DEPTHS = {
    "arcface": {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)},
    "iresnet": {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)},
}


@dataclasses.dataclass(frozen=True)
class IdentityConfig:
    """An identity network's shape and the pictures it wants.

    Attributes:
      family: ``"arcface"`` (SimSwap's), ``"iresnet"`` (InsightFace's) or ``"mobilefacenet"``.
      layers: blocks per stage.
      widths: channels per stage.
      se: whether ArcFace's blocks carry squeeze-excitation.
      size: height and width of the network's input.
      frame: height and width that a face crop is resized to; ``size`` is cut from its middle (MobileFaceNet sees
        columns 8 to 103 of 112).
      resize: how crops of another size come to the frame: ``"bicubic"``, torch's, as published networks expect, or
        ``"area"``, means of whole blocks (the crop's size must be a multiple of the frame's). Bicubic without
        anti-aliasing skips pixels, and a generator trained through it learns to hide patterns there.
      embedding: length of the vector.
      values: for x in [0,1], ``"imagenet"``: (x − mean)/std; ``"symmetric"``: 2x − 1; ``"symmetric128"``:
        (255x − 127.5)/128.
      dtype: what layers compute in; parameters, statistics, norms and the vector are float32 always.
      products: MobileFaceNet's 1×1 convolutions: ``"bfloat16"`` rounds their operands and sums in float32. On a
        processor with AVX512-BF16 that takes a quarter off a forward and backward pass; vectors keep a cosine of 0.9999
        to the exact ones.
    """

    family: str = "iresnet"
    layers: tuple[int, ...] = (3, 4, 14, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    se: bool = False
    size: tuple[int, int] = (112, 112)
    frame: tuple[int, int] = (112, 112)
    resize: str = "bicubic"
    embedding: int = 512
    values: str = "symmetric"
    dtype: str = "float32"
    products: str = "float32"

    def __post_init__(self) -> None:
        for field in ("layers", "widths", "size", "frame"):
            object.__setattr__(self, field, tuple(int(value) for value in getattr(self, field)))
        if self.family not in _MODULES:
            raise ValueError(f"{self.family!r} is no identity network; choose one of {', '.join(_MODULES)}.")
        if self.resize not in ("bicubic", "area"):
            raise ValueError(f"{self.resize!r} is no way of resizing; choose bicubic or area.")
        if self.values not in _VALUES:
            raise ValueError(f"{self.values!r} is no value range; choose one of {', '.join(_VALUES)}.")
        if not {self.dtype, self.products} <= {"float32", "bfloat16"}:
            raise ValueError(f"{self.dtype!r} and {self.products!r}: computing types are float32 and bfloat16.")
        if len(self.layers) != len(self.widths):
            raise ValueError(
                f"layers {self.layers} and widths {self.widths} differ in length; give one of each a stage."
            )
        if self.size[0] > self.frame[0] or self.size[1] > self.frame[1]:
            raise ValueError(f"The input {self.size} cannot be cut from a frame of {self.frame}; enlarge the frame.")

    @classmethod
    def from_name(cls, name: str, **overrides: Any) -> IdentityConfig:
        """A published shape: ``"arcface18|34|50|101"``, ``"iresnet18|34|50|100|200"`` or ``"mobilefacenet"``."""
        family = name.rstrip("0123456789")
        if name == "mobilefacenet":
            shape: dict[str, Any] = {
                "layers": (5, 1, 6, 1, 2),
                "widths": (64, 128, 128, 128, 128),
                "size": (112, 96),
                "embedding": 128,
                "values": "symmetric128",
            }
        elif family in _DEPTHS and int(name[len(family) :] or 0) in _DEPTHS[family]:
            shape = {"layers": _DEPTHS[family][int(name[len(family) :])]}
            shape["values"] = "imagenet" if family == "arcface" else "symmetric"
        else:
            known = [f"{family}{depth}" for family, depths in _DEPTHS.items() for depth in depths]
            raise ValueError(f"{name!r} is no identity network; choose one of {', '.join([*known, 'mobilefacenet'])}.")
        return cls(**{"family": family, **shape, **overrides})

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IdentityConfig:
        """Undoes :meth:`to_dict`; an unknown field is an error."""
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"The identity network's configuration has no field {', '.join(unknown)}; remove it.")
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class IdentityNetwork:
    """An identity network and its pre- and post-processing; weights are handed in at every call.

    Attributes:
      config: shape and value range.
      axis_name: the pmap axis for batch statistics while the network itself is trained.
    """

    config: IdentityConfig
    axis_name: str | None = None

    @functools.cached_property
    def module(self) -> nn.Module:
        """The Flax module: ``module.apply(variables, preprocessed, train=False)`` → raw vectors [B,D]."""
        return _MODULES[self.config.family](self.config, self.axis_name)

    def init(self, key: Array) -> Mapping[str, Any]:
        """Fresh variables."""
        return self.module.init(key, jnp.zeros((1, *self.config.size, 3)))

    def apply(self, variables: Mapping[str, Any], preprocessed: Array) -> Array:
        """Raw vectors, float32 [B,D], of pictures that :meth:`preprocess` made; evaluation mode."""
        return self.module.apply(variables, preprocessed)

    def preprocess(self, pictures: Array, method: str = "bicubic") -> Array:
        """Face crops as the network wants them.

        Args:
          pictures: RGB in [0,1], [B,H,W,3], aligned.
          method: how to resize: torch's ``"bicubic"`` (training) or ``"nearest"`` (the release's inference); a network
            whose ``resize`` is ``"area"`` takes means in either case.

        Returns:
          [B, *size, 3] in the network's values. Linear in the pictures: nothing is clipped.
        """
        if method not in _RESIZES:
            raise ValueError(f"{method!r} is no way of resizing; choose one of {', '.join(_RESIZES)}.")
        height, width = self.config.frame
        if pictures.shape[1:3] != (height, width):
            resize = resize_area if self.config.resize == "area" else _RESIZES[method]
            pictures = resize(pictures, height, width)
        top, left = (height - self.config.size[0]) // 2, (width - self.config.size[1]) // 2
        pictures = pictures[:, top : top + self.config.size[0], left : left + self.config.size[1]]
        return _VALUES[self.config.values](pictures)

    def embed(self, variables: Mapping[str, Any], pictures: Array, method: str = "bicubic") -> Array:
        """Identity vectors, L2-normalised float32 [B,D], of aligned face crops in [0,1], [B,H,W,3]."""
        return normalise(self.apply(variables, self.preprocess(pictures, method)))


def normalise(vectors: Array) -> Array:
    """Vectors of length one, float32 [B,D]."""
    vectors = vectors.astype(jnp.float32)
    return vectors / jnp.sqrt(jnp.sum(jnp.square(vectors), -1, keepdims=True) + 1e-24)


_MODULES: dict[str, Callable[..., nn.Module]] = {
    "arcface": ArcFace,
    "iresnet": IResNet,
    "mobilefacenet": MobileFaceNet,
}
_RESIZES: dict[str, Callable[[Array, int, int], Array]] = {"bicubic": resize_bicubic, "nearest": resize_nearest}
_VALUES: dict[str, Callable[[Array], Array]] = {
    "imagenet": lambda x: to_convention(x, "imagenet"),
    "symmetric": lambda x: x * 2.0 - 1.0,
    "symmetric128": lambda x: (x * 255.0 - 127.5) / 128.0,
}

"""The shape of an identity network and the images it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from simswap_jax.models.config import WIDTH, DictConfig, Ranges, check_dtype

FAMILIES = ("arcface", "iresnet", "mobilefacenet")
MOBILEFACENET_STAGES = 5
MOST_BLOCKS = 256  # the deepest published network has 98
VALUES = ("imagenet", "symmetric", "symmetric128")
_DEPTHS = {
    "arcface": {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)},
    "iresnet": {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)},
}


@dataclasses.dataclass(frozen=True)
class IdentityConfig(DictConfig):
    """An identity network's shape and the images it takes.

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
      embedding: dimensions of the vector.
      values: for x in [0,1], ``"imagenet"``: (x − mean)/std; ``"symmetric"``: 2x − 1; ``"symmetric128"``:
        (255x − 127.5)/128.
      dtype: what layers compute in; parameters, statistics, norms and the vector are float32 always.
    """

    described: ClassVar[str] = "identity network"
    ranges: ClassVar[Ranges] = {
        "layers": (1, 128),
        "widths": WIDTH,
        "size": (1, 1024),
        "frame": (1, 1024),
        "embedding": WIDTH,
    }

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

    @property
    def swap_resize(self) -> str:
        """How crops of another size come to the frame when swapping (`IdentityNetwork.preprocess`): ``"area"`` as
        `resize` says, else ``"nearest"`` for SimSwap's ArcFace, as its release does, and ``"bicubic"`` for others.
        """
        if self.resize == "area":
            return "area"
        return "nearest" if self.family == "arcface" else "bicubic"

    def __post_init__(self) -> None:
        for field in ("layers", "widths", "size", "frame"):
            object.__setattr__(self, field, tuple(int(value) for value in getattr(self, field)))
        if self.family not in FAMILIES:
            raise ValueError(f"{self.family!r} is no identity network; choose one of {', '.join(FAMILIES)}.")
        if self.resize not in ("bicubic", "area"):
            raise ValueError(f"{self.resize!r} is no way of resizing; choose bicubic or area.")
        if self.values not in VALUES:
            raise ValueError(f"{self.values!r} is no value range; choose one of {', '.join(VALUES)}.")
        check_dtype(self.dtype)
        if len(self.layers) != len(self.widths):
            raise ValueError(
                f"layers {self.layers} and widths {self.widths} differ in length; give one of each a stage."
            )
        if self.family == "mobilefacenet" and len(self.layers) > MOBILEFACENET_STAGES:
            raise ValueError(
                f"layers {self.layers} are {len(self.layers)} stages; give a mobilefacenet at most "
                f"{MOBILEFACENET_STAGES}."
            )
        if self.se and self.family == "arcface" and min(self.widths, default=16) < 16:
            raise ValueError(f"Squeeze-excitation takes a sixteenth of the widths {self.widths}; use 16 or more.")
        if not 0 < sum(self.layers) <= MOST_BLOCKS:
            raise ValueError(f"layers {self.layers} are {sum(self.layers)} blocks; give 1 to {MOST_BLOCKS}.")
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IdentityConfig:
        """Undoes :meth:`to_dict`; the field ``products`` of former versions goes where it changed nothing."""
        if values.get("products", "float32") != "float32":
            raise ValueError(
                f"The identity network's products are {values['products']!r}, which is no longer supported; remove it."
            )
        return super().from_dict({name: value for name, value in values.items() if name != "products"})

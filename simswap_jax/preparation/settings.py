"""What a face must be like to be kept, and the reasons for which a photo is left out."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES

FORMATS = ("jpg", "png")

# Reason → what the report says about it. Each photo that is left out has one of them.
REASONS: dict[str, str] = {
    "unreadable": "the file is no picture, damaged or gone",
    "small picture": "a side of the photo is too short",
    "no face": "the detector finds none",
    "doubtful face": "the detector is not sure that it is a face",
    "small face": "the crop would be an enlargement",
    "several faces": "a second face is about as large, so it is unclear who is meant",
    "turned away": "the face is turned too far: its landmarks fit no pose of the template",
    "cut off": "eyes, nose or mouth lie outside the photo",
    "blurred": "the face has no fine detail",
    "duplicate": "the same shot of this person is there already, larger or by an earlier name",
    "wrong person": "the identity network finds somebody else than in the person's other photos",
    "two people": "the same shot stands under two people's names, so one of them is wrong",
}


@dataclass(frozen=True)
class Settings:
    """How faces are cut out, and what is left out.

    Attributes:
      size: side of the crops in pixels.
      template: a name of ``faces.alignment.TEMPLATES``.
      format: of the crops: "jpg" (quality 95, full colour) or "png".
      least_picture: pixels of a photo's shorter side; SimSwap's training data has 250.
      least_score: of the detector, 0 to 1.
      most_enlarged: pixels of the crop per pixel of the photo, along a line.
      most_turned: root mean square distance of the landmarks from the template, in units of the crop's side.
      least_sharpness: variance of the Laplacian over that of the grey values, at 112 pixels.
      rival: area of the second largest face over the largest from which it is unclear who is meant.
      keep_duplicates: leave the same shot in, e.g. for the frames of a video.
      wrong_below: cosine to the person's other photos under which a face is somebody else's.
    """

    size: int = 224
    template: str = "simswap"
    format: str = "jpg"
    least_picture: int = 250
    least_score: float = 0.8
    most_enlarged: float = 2.0
    most_turned: float = 0.08
    least_sharpness: float = 0.02
    rival: float = 0.8
    keep_duplicates: bool = False
    wrong_below: float = 0.25

    def __post_init__(self) -> None:
        if self.template not in TEMPLATES:
            raise UserError(
                f"there is no template '{self.template}'; choose one of {', '.join(TEMPLATES)}.", "no-template"
            )
        if self.format not in FORMATS:
            raise UserError(
                f"faces are not written as '{self.format}'; choose one of {', '.join(FORMATS)}.", "no-face-format"
            )
        if not 16 <= self.size <= 4096:
            raise UserError(f"the size of the faces is {self.size}; it goes from 16 to 4096 pixels.", "setting-range")
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise UserError(
                    f"{name.replace('_', ' ')} is {value}; it goes from {least} to {most}.", "setting-range"
                )

    def to_dict(self) -> dict[str, Any]:
        """Field → value, for JSON."""
        return asdict(self)


LIMITS = (
    ("least_picture", 1, 100_000),
    ("least_score", 0.0, 1.0),
    ("most_enlarged", 0.01, 100.0),
    ("most_turned", 0.0, 10.0),
    ("least_sharpness", 0.0, 10.0),
    ("rival", 0.0, 1.0),
    ("wrong_below", -1.0, 1.0),
)

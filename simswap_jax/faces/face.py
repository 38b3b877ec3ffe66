"""A face in a photo: its box, five landmarks and score; when two of them are one face, and how far one is tilted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from simswap_jax.faces.alignment import fits

UPRIGHT = 25.0  # degrees: up to here detectors place the landmarks of a tilted face well
MOSTLY = 0.6  # of a face's box, from which it lies in another
OVERLAP = 0.3  # of two boxes, intersection over union, from which they are one face


@dataclass(frozen=True)
class Face:
    """One face in a photo.

    Attributes:
      box: left, top, width, height in the photo's pixels; may reach beyond its edge.
      landmarks: float64 [5, 2], x and y in the photo's pixels: the eye on the left of an upright face, the other eye,
        the tip of the nose, the mouth's corner on the left of an upright face, the other corner.
      score: the detector's confidence, 0 to 1.
      direction_known: whether it is sure which way up the face is; where it is not, the landmarks may be wrong.
    """

    box: tuple[float, float, float, float]
    landmarks: Float[np.ndarray, "5 2"]
    score: float
    direction_known: bool = True

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> Float[np.ndarray, " 2"]:
        """Of the box, x and y."""
        left, top, width, height = self.box
        return np.array([left + width / 2, top + height / 2])


def size_of(face: Face) -> float:
    """Side of the square of the same area as a face's box, in pixels; at least 1."""
    return max(1.0, float(np.sqrt(abs(face.area))))


def shifted(face: Face, x: float, y: float) -> Face:
    """The face elsewhere in the picture: ``x`` pixels to the right and ``y`` down."""
    left, top, width, height = face.box
    return replace(face, box=(left + x, top + y, width, height), landmarks=face.landmarks + np.array([x, y]))


def roll_of(landmarks: Float[np.ndarray, "5 2"]) -> float:
    """By how much a face is turned in the picture's plane: degrees, clockwise, over −180 to 180; 0: upright.

    Raises:
      ValueError: landmarks that all lie on one point.
    """
    best = min(fits(landmarks, "simswap", 1), key=lambda fit: fit.residual)
    return float(np.degrees(np.arctan2(-best.matrix[1, 0], best.matrix[0, 0])))


def non_maximum_suppression(faces: Iterable[Face]) -> list[Face]:
    """The faces by falling confidence, without those that a more confident one overlaps by more than `OVERLAP`."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(iou(face, other) <= OVERLAP for other in kept):
            kept.append(face)
    return kept


def without_ghosts(faces: Iterable[Face]) -> list[Face]:
    """The faces without those seen upright across a tilted one, of which the detector is surer in its own direction."""
    faces = list(faces)
    tilted = [face for face in faces if abs(roll_of(face.landmarks)) >= UPRIGHT]
    return [
        face
        for face in faces
        if not any(
            other is not face and other.score > face.score and max(inside(other, face), inside(face, other)) > MOSTLY
            for other in tilted
        )
    ]


def iou(one: Face, other: Face) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    shared = _shared(one, other)
    return shared / max(one.area + other.area - shared, 1e-9)


def inside(one: Face, other: Face) -> float:
    """Which part of one box lies in another, 0 to 1."""
    return _shared(one, other) / max(one.area, 1e-9)


def _shared(one: Face, other: Face) -> float:
    """The area that two boxes have in common."""
    left, top = (max(one.box[i], other.box[i]) for i in (0, 1))
    right, bottom = (min(one.box[i] + one.box[i + 2], other.box[i] + other.box[i + 2]) for i in (0, 1))
    return max(0.0, right - left) * max(0.0, bottom - top)

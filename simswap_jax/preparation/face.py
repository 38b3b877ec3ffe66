"""One photo becomes one aligned face, or the reason why not. Pure: nothing is read or written."""

from dataclasses import dataclass

import cv2
import numpy as np

from simswap_jax.faces.alignment import align, crop
from simswap_jax.faces.detection import Face, FaceDetector
from simswap_jax.preparation.settings import Settings

SHARPNESS_SIDE = 112  # pixels: sharpness is measured at one size, whatever the crop's
MARGIN = 8  # of them at each side, which may lie outside the photo
HASH_SIDE = 16  # a hash has its square of bits


class Rejected(Exception):
    """A photo without a face to keep: a reason of ``settings.REASONS`` and what was measured."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class AlignedFace:
    """A face that is kept, and what is known of it.

    Attributes:
      picture: uint8 RGB [size, size, 3].
      landmarks: float64 [5, 2] in its pixels.
      score: the detector's confidence.
      enlarged: pixels of the crop per pixel of the photo, along a line.
      sharpness: as in `sharpness`.
      hash, photo_hash: as in `picture_hash`, of the face and of its photo. A photo that was scaled has its
        landmarks some pixels elsewhere, so that only the second is the same; one that was cut has the first.
    """

    picture: np.ndarray
    landmarks: np.ndarray
    score: float
    enlarged: float
    sharpness: float
    hash: bytes
    photo_hash: bytes


def aligned_face(detector: FaceDetector, photo: np.ndarray, settings: Settings) -> AlignedFace:
    """The largest face of a photo, uint8 RGB [H, W, 3], aligned.

    Raises:
      Rejected: the photo or its face is not what the settings ask for.
    """
    height, width = photo.shape[:2]
    if min(height, width) < settings.least_picture:
        raise Rejected("small picture", f"{width}x{height} pixels")
    face = largest(detector.detect(photo), settings)
    try:
        alignment = align(face.landmarks, settings.template, settings.size)
    except ValueError as error:
        raise Rejected("doubtful face", str(error)) from None
    if alignment.density > settings.most_enlarged:
        raise Rejected("small face", f"enlarged {alignment.density:.2f} times")
    if ((face.landmarks < -0.5) | (face.landmarks > (width - 0.5, height - 0.5))).any():
        raise Rejected("cut off", f"landmarks outside {width}x{height} pixels")
    if alignment.residual > settings.most_turned:
        raise Rejected("turned away", f"{alignment.residual:.3f} of the side off the template")
    picture = crop(photo, alignment)
    fine = sharpness(picture)
    if fine < settings.least_sharpness:
        raise Rejected("blurred", f"sharpness {fine:.4f}")
    hashes = picture_hash(picture), picture_hash(photo)
    return AlignedFace(picture, alignment.landmarks, face.score, alignment.density, fine, *hashes)


def largest(faces: list[Face], settings: Settings) -> Face:
    """The largest of the faces that the detector is sure of.

    Raises:
      Rejected: there is none, or a second one is about as large.
    """
    if not faces:
        raise Rejected("no face", "none found")
    by_area = sorted(faces, key=lambda face: -face.area)
    sure = [face for face in by_area if face.score >= settings.least_score]
    if not sure:
        raise Rejected("doubtful face", f"confidence {max(face.score for face in faces):.2f}")
    first, *others = sure
    if others and others[0].area > settings.rival * first.area:
        raise Rejected("several faces", f"the second is {others[0].area / first.area:.2f} as large")
    return first


def grey(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture's grey values in a square, averaged: float32 [side, side], 0 to 255."""
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def sharpness(picture: np.ndarray) -> float:
    """Fine detail of an aligned face: variance of the Laplacian over the variance of its grey values, at 112 pixels.

    The quotient does not depend on contrast. A crop blurred by σ = 2 pixels of 112 has 0.004, a good one 0.15.
    """
    values = grey(picture, SHARPNESS_SIDE)
    inside = cv2.Laplacian(values, cv2.CV_32F)[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return float(inside.var() / max(float(values.var()), 1.0))


def picture_hash(picture: np.ndarray) -> bytes:
    """A perceptual hash of a picture, uint8 RGB [H, W, 3], 32 bytes: which low frequencies lie above the median.

    The first row and column of the cosine transform are left out: those that change with light from one side.
    """
    waves = cv2.dct(grey(picture, 4 * HASH_SIDE))[1 : HASH_SIDE + 1, 1 : HASH_SIDE + 1].ravel()
    return np.packbits(waves > np.median(waves)).tobytes()

"""Five landmarks and a template → the similarity that cuts a face out of a photo, and its inverse.

Positions are pixel centres: the first pixel of a row is at 0, its left edge at −0.5.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Real, UInt8

# Eyes, nose, mouth corners of crops of a unit side: SIMSWAP's five poses, from one profile to the other, in 112ths.
_SIMSWAP = np.array(
    [
        [(51.642, 50.115), (57.617, 49.990), (35.740, 69.007), (51.157, 89.050), (57.025, 89.702)],
        [(45.031, 50.118), (65.568, 50.872), (39.677, 68.111), (45.177, 86.190), (64.246, 86.758)],
        [(39.730, 51.138), (72.270, 51.138), (56.000, 68.493), (42.463, 87.010), (69.537, 87.010)],
        [(46.845, 50.872), (67.382, 50.118), (72.737, 68.111), (48.167, 86.758), (67.236, 86.190)],
        [(54.796, 49.990), (60.771, 50.115), (76.673, 69.007), (55.388, 89.702), (61.257, 89.050)],
    ]
)
_FFHQ = np.array(
    [
        [
            (192.98138, 239.94708),
            (318.90277, 240.1936),
            (256.63416, 314.01935),
            (201.26117, 371.41043),
            (313.08905, 371.15118),
        ]
    ]
)
_ARCFACE = np.array(
    [[(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]]
)

# Name → float64 [poses, 5, 2] in units of the crop's side. Rendered faces have no template: they are no photos.
TEMPLATES: dict[str, Float[np.ndarray, "poses 5 2"]] = {
    "simswap": _SIMSWAP / 112.0,
    "simswap-frontal": _SIMSWAP[2:3] / 112.0,
    "ffhq": _FFHQ / 512.0,
    "arcface": _ARCFACE / 112.0,
}


@dataclass(frozen=True)
class Alignment:
    """How one face is cut out.

    Attributes:
      matrix: float64 [2, 3], the photo's pixels → the crop's.
      size: side of the crop in pixels.
      landmarks: float64 [5, 2] in the crop's pixels.
      residual: root mean square distance of the landmarks from the template, in units of the crop's side.
    """

    matrix: Float[np.ndarray, "2 3"]
    size: int
    landmarks: Float[np.ndarray, "5 2"]
    residual: float

    @property
    def density(self) -> float:
        """Pixels of the crop per pixel of the photo, along a line."""
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))


def align(landmarks: Float[np.ndarray, "5 2"], template: str, size: int) -> Alignment:
    """The alignment to the nearest pose of a template.

    Args:
      landmarks: float [5, 2] in the photo's pixels.
      template: a name of `TEMPLATES`.
      size: side of the crop in pixels.

    Raises:
      ValueError: an unknown template, or landmarks that all lie on one point.
    """
    return min(fits(landmarks, template, size), key=lambda fit: fit.residual)


def fits(landmarks: Float[np.ndarray, "5 2"], template: str, size: int) -> list[Alignment]:
    """As `align`, but to every pose of the template."""
    if template not in TEMPLATES:
        raise ValueError(f"photos cannot be aligned as '{template}'; there are {', '.join(TEMPLATES)}.")
    found = []
    for pose in TEMPLATES[template] * size:
        matrix = similarity(landmarks, pose)
        placed = transform(matrix, landmarks)
        residual = float(np.sqrt(((placed - pose) ** 2).sum(axis=1).mean())) / size
        found.append(Alignment(matrix, size, placed, residual))
    return found


def similarity(points: Real[np.ndarray, "n 2"], wanted: Real[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 3"]:
    """The rotation, scale and shift that brings points [N, 2] nearest to those wanted [N, 2], as float64 [2, 3].

    Least squares. As complex numbers a similarity is w = a·z + b, so a = Σ conj(z − z̄)(w − w̄) / Σ |z − z̄|².

    Raises:
      ValueError: fewer than two different points, or numbers that are not finite.
    """
    z, w = (np.asarray(array, np.float64) @ np.array([1.0, 1.0j]) for array in (points, wanted))
    spread = float((np.abs(z - z.mean()) ** 2).sum())
    if not np.isfinite(spread) or spread <= 1e-12:
        raise ValueError("the landmarks lie on one point or are not finite; there is no face to align.")
    a = (np.conj(z - z.mean()) * (w - w.mean())).sum() / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def transform(matrix: Float[np.ndarray, "2 3"], points: Real[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Points [N, 2] under a matrix [2, 3]."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """The way back: float64 [2, 3], for a matrix whose scale is not 0."""
    back = np.linalg.inv(matrix[:, :2])
    return np.column_stack([back, -back @ matrix[:, 2]])


def enlarged(matrix: Float[np.ndarray, "2 3"], factor: float) -> Float[np.ndarray, "2 3"]:
    """The matrix [2, 3] to a crop ``factor`` times as large: edges meet, not centres of pixels."""
    larger = matrix * factor
    larger[:, 2] += (factor - 1.0) / 2.0
    return larger


def crop(photo: UInt8[np.ndarray, "h w 3"], alignment: Alignment) -> UInt8[np.ndarray, "s s 3"]:
    """The aligned face: uint8 RGB [size, size, 3] of a photo [H, W, 3]; beyond its edge the edge's pixels go on.

    A face larger than the crop is sampled at a multiple of its size and averaged, so that nothing is skipped.
    """
    factor = max(1, int(np.ceil(1.0 / alignment.density)))
    matrix, side = enlarged(alignment.matrix, factor), alignment.size * factor
    face = cv2.warpAffine(photo, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return face if factor == 1 else cv2.resize(face, (alignment.size,) * 2, interpolation=cv2.INTER_AREA)

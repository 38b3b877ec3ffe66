"""What is measured inside and outside the face: sharpness inside, surroundings outside, the direction of the light.

Pictures are uint8 RGB [K, H, W, 3], all of one size; masks float32 [K, H, W], 1 inside the face.
"""

import cv2
import numpy as np

from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.faces.masks import face_ellipse

CELLS = 16  # pictures are compared outside the face at so many cells a side: hair and walls, not single pixels
LIGHT_CELLS = 8
LEAST_MASK = 0.5


def face_masks(landmarks: np.ndarray | None, count: int, size: int) -> np.ndarray:
    """The face's ellipse in each crop: float32 [count, size, size].

    Args:
      landmarks: float [count, 5, 2] in units of the crop's side; NaN, or None altogether, where they are not known:
        there the frontal template's are taken, to which crops are aligned.
      count: how many.
      size: side in pixels.
    """
    template = TEMPLATES["simswap-frontal"][0]
    points = np.broadcast_to(template, (count, 5, 2)) if landmarks is None else landmarks
    points = np.where(np.isfinite(points).all(axis=(1, 2), keepdims=True), points, template)
    return np.stack([face_ellipse(one * size - 0.5, size) for one in points])


def laplacian_energy(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean squared Laplacian of the luma inside the face: float64 [K]. Detail has much, blur little, noise most."""
    energies = []
    for picture, mask in zip(pictures, masks):
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
        energies.append(float((cv2.Laplacian(luma, cv2.CV_64F) ** 2 * mask).sum() / mask.sum()))
    return np.array(energies)


def surroundings(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Coarse colours outside the face: float64 [K, CELLS, CELLS, 3], 0 to 1, NaN in the face's cells.

    A cell counts as face where half of it is. The upper half of the picture is mostly hair, the lower half mostly
    background, neck and clothes.
    """
    cells = np.stack([cv2.resize(p.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA) for p in pictures])
    face = np.stack([cv2.resize(m, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for m in masks]) > LEAST_MASK
    return np.where(face[..., None], np.nan, cells.astype(np.float64) / 255.0)


def light(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Where the light comes from: the slope of the luma over the face, to the right and down, float64 [K, 2].

    A plane is fitted to the luma inside the face and its slopes, per width of the picture, are divided by the face's
    mean luma. Brightness and skin colour fall out; they belong to the identity as much as to the light.
    """
    slopes = []
    y, x = (np.mgrid[:LIGHT_CELLS, :LIGHT_CELLS] + 0.5) / LIGHT_CELLS - 0.5
    design = np.stack([np.ones_like(x), x, y], axis=-1).reshape(-1, 3)
    for picture, mask in zip(pictures, masks):
        size = (LIGHT_CELLS, LIGHT_CELLS)
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        weight = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float64).reshape(-1)
        level = cv2.resize(luma * mask, size, interpolation=cv2.INTER_AREA).astype(np.float64).reshape(-1)
        level /= np.maximum(weight, 1e-6)  # of the face's part of each cell
        root = np.sqrt(weight)[:, None]
        plane = np.linalg.lstsq(design * root, level * root[:, 0], rcond=None)[0]
        slopes.append(plane[1:] / max((level * weight).sum() / weight.sum(), 1.0))
    return np.array(slopes)

"""Pictures that show what a number can mean: the source pasted in, and the target a little changed.

Pictures are uint8 RGB squares of one size.
"""

import cv2
import numpy as np

from simswap_jax.faces.alignment import TEMPLATES, similarity
from simswap_jax.faces.masks import soft_mask

SHIFT = 2.0  # pixels of a crop of 112
HUE = 8.0  # degrees of 360


def pasted(source: np.ndarray, target: np.ndarray, source_points: np.ndarray, target_points: np.ndarray) -> np.ndarray:
    """The source's face, moved by its landmarks onto the target's, in the target's picture, softly bordered.

    Nobody is nearer to the source, and nothing keeps less of the target's face.

    Args:
      source: uint8 RGB [H, H, 3], as is
      target: whose surroundings stay.
      source_points: float [5, 2] in units of the crop's side; NaN: the frontal template's, as
      target_points: of the target.
    """
    size = target.shape[0]
    template = TEMPLATES["simswap-frontal"][0]
    start, end = (p if np.isfinite(p).all() else template for p in (source_points, target_points))
    matrix = similarity(start * size - 0.5, end * size - 0.5)
    moved = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = soft_mask(end * size - 0.5, size)[..., None]
    return np.clip(np.round(mask * moved + (1.0 - mask) * target), 0, 255).astype(np.uint8)


def shifted(picture: np.ndarray) -> np.ndarray:
    """Moved to the right by `SHIFT` pixels of 112; what comes in repeats the edge."""
    size = picture.shape[0]
    matrix = np.array([[1.0, 0.0, SHIFT * size / 112.0], [0.0, 1.0, 0.0]])
    return cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def other_hue(picture: np.ndarray) -> np.ndarray:
    """Every colour turned by `HUE` degrees of the colour circle."""
    values = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    values[..., 0] = (values[..., 0] + HUE) % 360.0
    return np.clip(np.round(cv2.cvtColor(values, cv2.COLOR_HSV2RGB) * 255.0), 0, 255).astype(np.uint8)


def softened(picture: np.ndarray) -> np.ndarray:
    """Shrunk to a half and enlarged again: what half the resolution would look like."""
    size = picture.shape[0]
    small = cv2.resize(picture, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)

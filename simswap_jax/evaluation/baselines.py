"""Baselines: pictures that no model made and that show what a metric's value can mean.

Pictures are uint8 RGB squares of one size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from simswap_jax.evaluation.candidates import BASELINE, PairBatch
from simswap_jax.faces.alignment import TEMPLATES, similarity
from simswap_jax.faces.blending import soft_mask

SHIFT = 2.0  # pixels of a crop of 112
HUE = 8.0  # degrees of 360


@dataclass(frozen=True)
class Baseline:
    """Pictures made from a pair by a fixed rule."""

    key: str
    title: str
    make: Callable[[PairBatch], list[np.ndarray]]
    shows_source: bool = True
    kind: str = BASELINE
    sha256: str = ""

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Make them."""
        return self.make(batch)

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none."""


def source_pasted(
    source: np.ndarray, target: np.ndarray, source_points: np.ndarray, target_points: np.ndarray
) -> np.ndarray:
    """The source's face, moved by its landmarks onto the target's, in the target's picture, with a soft border.

    Nothing is nearer to the source, and nothing keeps less of the target's face.

    Args:
      source: uint8 RGB [H, H, 3].
      target: uint8 RGB [H, H, 3], whose surroundings stay.
      source_points: float [5, 2] in units of the crop's side; NaN: the frontal template's.
      target_points: of the target, likewise.
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


def hue_rotated(picture: np.ndarray) -> np.ndarray:
    """Every colour turned by `HUE` degrees of the colour circle."""
    values = cv2.cvtColor(picture.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    values[..., 0] = (values[..., 0] + HUE) % 360.0
    return np.clip(np.round(cv2.cvtColor(values, cv2.COLOR_HSV2RGB) * 255.0), 0, 255).astype(np.uint8)


def half_resolution(picture: np.ndarray) -> np.ndarray:
    """Shrunk to a half and enlarged again."""
    size = picture.shape[0]
    small = cv2.resize(picture, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)


def _target_changed(
    key: str, title: str, change: Callable[[np.ndarray], np.ndarray] = lambda target: target
) -> Baseline:
    """The target's person still, changed a little or not at all."""
    return Baseline(key, title, lambda batch: [change(target) for target in batch.targets], shows_source=False)


def _sources_pasted(batch: PairBatch) -> list[np.ndarray]:
    pairs = zip(batch.sources, batch.targets, batch.source_points, batch.target_points)
    return [source_pasted(*pair) for pair in pairs]


TARGET = _target_changed("target", "lower bound: untouched target")
SOURCE = Baseline("source", "source itself", lambda batch: list(batch.sources))
BASELINES = (
    TARGET,
    Baseline("pasted", "copy-paste baseline", _sources_pasted),
    _target_changed("shift", f"noise floor: target shifted {SHIFT:g} px of 112", shifted),
    _target_changed("hue", f"noise floor: target's hue rotated {HUE:g}°", hue_rotated),
    _target_changed("soft", "target at half resolution", half_resolution),
)


def _ground_truth(batch: PairBatch) -> list[np.ndarray]:
    if batch.ground_truth is None:
        raise ValueError("this baseline needs the ground truth, which this protocol does not have.")
    return batch.ground_truth


def interpolated(fraction: float) -> Baseline:
    """A rung between the untouched target (0) and the ground truth (1), mixed pixel by pixel."""

    def mix(batch: PairBatch) -> list[np.ndarray]:
        pairs = zip(batch.targets, _ground_truth(batch))
        return [np.round((1.0 - fraction) * target + fraction * truth).astype(np.uint8) for target, truth in pairs]

    return Baseline(f"mix_{fraction:g}", f"{fraction:.0%} of the way to the ground truth", mix)


GROUND_TRUTH = Baseline("truth", "upper bound: ground truth", _ground_truth)
# The genuine pair, a real picture of the source's identity, is read from the gallery and is no candidate.
GENUINE, GENUINE_TITLE = "witness", "upper bound: another real photo of the source"

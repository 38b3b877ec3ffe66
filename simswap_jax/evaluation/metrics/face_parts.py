"""Expression part by part, by 98 landmarks (WFLW's): is what a mouth, the eyes and the brows do the target's?

Each part is one length of a face over the distance between its eyes. How well the results' follow the targets' is a
correlation over pairs, so that a source's wide mouth or high brows, which belong to the identity, count as little as
can be.
"""

from collections.abc import Callable, Mapping

import numpy as np

from simswap_jax.evaluation.metrics.intervals import Estimate, correlation

POINTS = 98
LEFT_EYE, RIGHT_EYE = slice(60, 68), slice(68, 76)
LIDS = ((61, 67), (62, 66), (63, 65), (69, 75), (70, 74), (71, 73))  # upper and lower, of both eyes
LEFT_BROW, RIGHT_BROW = slice(33, 42), slice(42, 51)


def _distance(faces: np.ndarray, one: int, other: int) -> np.ndarray:
    return np.linalg.norm(faces[:, one] - faces[:, other], axis=1)


def _brows(faces: np.ndarray) -> np.ndarray:
    """How far the brows' middles are from the eyes' along the face's own vertical."""
    middles = {
        name: faces[:, part].mean(axis=1)
        for name, part in (("l", LEFT_EYE), ("r", RIGHT_EYE), ("L", LEFT_BROW), ("R", RIGHT_BROW))
    }
    across = middles["r"] - middles["l"]
    down = np.stack([-across[:, 1], across[:, 0]], axis=1) / np.linalg.norm(across, axis=1, keepdims=True)
    lifted = (middles["l"] + middles["r"] - middles["L"] - middles["R"]) / 2.0
    return (lifted * down).sum(axis=1)


PARTS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mouth_opening": lambda faces: _distance(faces, 90, 94),
    "mouth_width": lambda faces: _distance(faces, 76, 82),
    "eye_opening": lambda faces: np.mean([_distance(faces, *pair) for pair in LIDS], axis=0),
    "brow_height": _brows,
}


def lengths(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """Of each part, over the distance between the eyes' middles: name → float [K], NaN where no face was found.

    Args:
      landmarks: float [K, 98, 2].
    """
    faces = np.asarray(landmarks, np.float64)
    between = np.linalg.norm(faces[:, RIGHT_EYE].mean(axis=1) - faces[:, LEFT_EYE].mean(axis=1), axis=1)
    return {name: length(faces) / between for name, length in PARTS.items()}


def follows(results: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """Correlation of each part of results with the targets', with intervals over ``groups`` [K].

    Args:
      results, targets: landmarks, float [K, P, 2]; nothing is said of any but 98 points.
    """
    if results.shape[1] != POINTS:
        return {}
    theirs, wanted = lengths(results), lengths(targets)
    found = {name: correlation(theirs[name], wanted[name], groups) for name in PARTS}
    return {name: one for name, one in found.items() if one is not None}

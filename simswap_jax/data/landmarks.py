"""Landmarks of faces: of a whole data set, found once, of every picture and of its mirror; and of single crops.

Points are fractions of the picture. In a mirrored picture left and right points change places, so that a point means
the same there.
"""

import logging
import os
from collections.abc import Sequence

import numpy as np

from simswap_jax.data import embeddings
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.io.progress import Progress
from simswap_jax.weights import registry
from simswap_jax.weights.onnx_network import LandmarkNetwork, open_landmarks

LEAST_SPREAD = 0.02  # of the crop's side: points that lie closer together are no face
CHUNK = 64  # pictures at once
_log = logging.getLogger(__name__)


def _exchanged(count: int, *runs: tuple[Sequence[int], Sequence[int]]) -> tuple[int, ...]:
    """0 … count − 1 with the points of each run exchanged for those of the other, one by one."""
    order: np.ndarray = np.arange(count)
    for left, right in runs:
        order[list(left)], order[list(right)] = list(right), list(left)
    return tuple(order.tolist())


# How many points → for each point of a mirrored face, which point of the face it was.
MIRRORED: dict[int, tuple[int, ...]] = {
    5: _exchanged(5, ((0, 3), (1, 4))),
    68: _exchanged(  # iBUG's: jaw, brows, wings of the nose, eyes, lips
        68, (range(8), range(16, 8, -1)), (range(17, 22), range(26, 21, -1)), ((31, 32), (35, 34)),
        ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)), ((48, 49, 50, 58, 59), (54, 53, 52, 56, 55)),
        ((60, 61, 67), (64, 63, 65)),
    ),
    98: _exchanged(  # WFLW's: rim, brows, wings of the nose, eyes, lips, pupils
        98, (range(16), range(32, 16, -1)), (range(33, 38), range(46, 41, -1)), (range(38, 42), range(50, 46, -1)),
        ((55, 56), (59, 58)), ((60, 61, 62, 63, 64, 65, 66, 67), (72, 71, 70, 69, 68, 75, 74, 73)),
        ((76, 77, 78, 86, 87), (82, 81, 80, 84, 83)), ((88, 89, 95), (92, 91, 93)), ((96,), (97,)),
    ),
}  # fmt: skip


def network(name: str, count: int) -> LandmarkNetwork:
    """The network that finds a model's landmarks.

    Args:
      name: of its file, YuNet's or a landmark network's, as `registry.find` looks for it.
      count: how many points the model takes.

    Raises:
      UserError: it is missing, finds another number of points, or which of them mirror each other is not known.
    """
    found = open_landmarks(registry.find(name, "finding landmarks of faces"))
    if found.points != count:
        raise UserError(
            f"{name} finds {found.points} landmarks and this model takes {count}; name the network of so many that it "
            "was made with.",
            "landmark-count",
        )
    if count not in MIRRORED:
        raise UserError(
            f"which of {count} landmarks mirror each other is not known; name a network of "
            f"{', '.join(map(str, MIRRORED))} points.",
            "landmark-mirror-unknown",
        )
    return found


def lost(points: np.ndarray) -> np.ndarray:
    """Which of K faces [K,P,2] were not found, bool [K]: points that are not finite, or all in one place."""
    spread = np.nan_to_num(points).std(axis=1).min(axis=1)
    missing: np.ndarray = ~np.isfinite(points).all(axis=(1, 2)) | (spread < LEAST_SPREAD)
    return missing


def mirrored(points: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Landmarks [K,P,2] of the mirrored pictures; ``order`` as in `MIRRORED`."""
    return points[:, list(order)] * np.array([-1.0, 1.0]) + np.array([1.0, 0.0])


def with_mirrors(points: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Landmarks [K,P,2] → float32 [K,2,P,2], of the pictures and of their mirrors."""
    return np.stack([points, mirrored(points, order)], axis=1).astype(np.float32)


def of_people(people: People, finds: LandmarkNetwork, cache_dir: str | os.PathLike, size: int) -> np.ndarray:
    """The landmarks of a data set, read from `cache_dir` where they were found before.

    Where no face is found, the mean of the others stands for it, and the log says so.

    Args:
      people: the data set.
      finds: from `network`.
      cache_dir: where the file goes.
      size: side in pixels at which the pictures are shown.

    Returns:
      float32 [N,2,P,2] in fractions of the picture: [:, 0] of the pictures, [:, 1] of their mirrors.

    Raises:
      UserError: a picture cannot be decoded, no face is found at all, or the file cannot be written.
    """

    def compute() -> np.ndarray:
        points = _found(people, finds, size)
        return with_mirrors(points, MIRRORED[finds.points]).reshape(len(people), 2, -1)

    kept = embeddings.cached(people, f"{finds.sha256} landmarks", cache_dir, size, compute)
    return kept.reshape(len(people), 2, -1, 2)


def _found(people: People, finds: LandmarkNetwork, size: int) -> np.ndarray:
    parts = []
    with Progress(len(people), "pictures searched for landmarks") as progress:
        for start in range(0, len(people), CHUNK):
            rows = range(start, min(start + CHUNK, len(people)))
            parts.append(finds.find([people.picture(row, size) for row in rows]))
            progress.add(len(rows))
    points = np.concatenate(parts)
    missing = lost(points)
    if missing.all():
        raise UserError(
            f"{finds.name} finds no face in these pictures; give aligned faces, or name another landmark network.",
            "landmarks-find-no-face",
        )
    if missing.any():
        first = people.files[int(np.argmax(missing))]
        _log.warning("no landmarks in %d pictures (the first: %s); the mean's are taken", missing.sum(), first)
        points[missing] = points[~missing].mean(axis=0)
    return points

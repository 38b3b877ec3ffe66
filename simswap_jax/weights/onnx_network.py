"""Networks of other people's that are shown pictures, in ONNX files; those that find landmarks among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from simswap_jax.errors import UserError, first_line
from simswap_jax.io.images import resized
from simswap_jax.weights import onnx_session, registry
from simswap_jax.weights.onnx_session import BATCH_SIZE, OnnxSession

YUNET_SIDE = 192  # pixels of the crops that YuNet is shown


@dataclass(frozen=True)
class Wanted:
    """What a network must answer.

    Attributes:
      role: what it is used as, for errors, e.g. ``"a recogniser"``.
      output: what one of its outputs is, for errors, e.g. ``"vectors [n, D]"``.
      fits: whether an output of this shape a picture is that.
    """

    role: str
    output: str
    fits: Callable[[Sequence[int]], bool]


class OnnxNetwork:
    """A network of one input, float32 [n, 3, H, W], in an ONNX file, shown pictures in batches.

    Attributes:
      name: the file's, for tables.
      sha256: of the file.
      size: height and width of its input, pixels.
      answers: the shape of its answer to one picture.
    """

    def __init__(self, path: Path, wanted: Wanted, *, side: int = 112, batch: int = BATCH_SIZE) -> None:
        """Open a file; of its outputs the first that fits is read.

        Args:
          path: the ONNX file.
          wanted: what it must answer.
          side: height and width where the file leaves them open.
          batch: the most pictures a run, where the file leaves it open.

        Raises:
          UserError: as of `OnnxSession`, or no output fits.
        """
        self._session = OnnxSession(path, wanted.role, side=side, batch=batch)
        self.name, self.sha256 = path.stem, self._session.sha256
        self._batch = self._session.count or batch
        self.size = tuple(self._session.size)
        per_picture = [
            shape[1:] if shape and shape[0] == self._session.rows else None for shape in self._session.shapes
        ]
        fitting = [i for i, shape in enumerate(per_picture) if shape is not None and wanted.fits(shape)]
        if not fitting:
            answers = ", ".join(
                str(list(shape)) if shape is not None else "no floats" for shape in self._session.shapes
            )
            raise UserError(
                f"{path} answers {first_line(answers)} to {self._session.rows} pictures, but {wanted.role} answers "
                f"{wanted.output}; name another network.",
                "onnx-output-unsupported",
            )
        self._output = fitting[0]
        self.answers = per_picture[self._output] or ()

    def run(
        self, pictures: Sequence[np.ndarray], normalise: Callable[[np.ndarray], np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Run pictures in batches.

        Args:
          pictures: N uint8 RGB squares of any size; they are resized to the network's.
          normalise: uint8 [n, H, W, 3] → the values [n, H, W, 3] that the network takes.

        Yields:
          the output of a batch, a row for each of its pictures.

        Raises:
          UserError: as of `OnnxSession.answer`.
        """
        for start in range(0, len(pictures), self._batch):
            batch = np.stack([resized(picture, *self.size) for picture in pictures[start : start + self._batch]])
            missing = self._batch - len(batch) if self._session.count else 0
            full = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            planes = np.ascontiguousarray(normalise(full).transpose(0, 3, 1, 2), dtype=np.float32)
            yield self._session.answer(planes, [self._output])[0][: len(batch)]


class LandmarkNetwork(Protocol):
    """Anything that finds the same points in every face.

    Attributes:
      name: for tables.
      sha256: of its weights.
      points: how many it finds.
    """

    name: str
    sha256: str
    points: int

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, points, 2] in units of the crop's side; NaN where no face was found."""
        ...


class YuNetLandmarks:
    """The detector's five: eyes, tip of the nose, corners of the mouth. Of expression they show the mouth's width and
    height, a smile and a skewed mouth; not whether it is open, nor lids, brows or gaze.
    """

    points = 5

    def __init__(self, path: Path) -> None:
        self.name, self.sha256 = path.stem, registry.file_sha256(path)
        self._detector = onnx_session.yunet(path, threshold=0.3)

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, 5, 2]; of several faces the largest."""
        found = np.full((len(pictures), 5, 2), np.nan)
        for row, picture in enumerate(pictures):
            faces = self._detector.look(resized(picture, YUNET_SIDE))
            if faces:
                found[row] = (max(faces, key=lambda face: face.area).landmarks + 0.5) / YUNET_SIDE
        return found


class OnnxLandmarks:
    """A network of float32 [n, 3, H, W], RGB 0 to 1, to [n, 2 K] or [n, K, 2]: x and y of each point, as fractions of
    the picture (as PFLD and its kin do) or in pixels of the input, which is told by their size.
    """

    def __init__(self, path: Path) -> None:
        wanted = Wanted("a landmark network", "landmarks [n, 2 K], K ≥ 5", are_pairs)  # its kind has more outputs
        self._network = OnnxNetwork(path, wanted)
        self.name, self.sha256 = self._network.name, self._network.sha256
        self.points = math.prod(self._network.answers) // 2

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, K, 2]."""
        return np.concatenate([self._points(output) for output in self._network.run(pictures, unit_range)])

    def _points(self, output: np.ndarray) -> np.ndarray:
        height, width = self._network.size
        points: np.ndarray = output.reshape(len(output), -1, 2).astype(np.float64)
        fractions = np.abs(points).max() <= 2.0
        return points if fractions else (points + 0.5) / np.array([width, height])


def are_pairs(shape: Sequence[int]) -> bool:
    """Whether an answer of this shape a picture can be landmarks."""
    return math.prod(shape) % 2 == 0 and 10 <= math.prod(shape) <= 2000


def unit_range(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] → float32, 0 to 1."""
    return pictures.astype(np.float32) / np.float32(255)


def open_landmarks(source: str | Path) -> LandmarkNetwork:
    """YuNet by its file, or a landmark network; both are ONNX, and YuNet is known by its many outputs.

    Raises:
      UserError: it is missing, or neither.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(
            f"there is no landmark network {path}; give a path, or the name of a file in a folder of "
            "SIMSWAP_JAX_WEIGHTS.",
            "network-missing",
        )
    try:
        return YuNetLandmarks(path)
    except UserError:
        return OnnxLandmarks(path)

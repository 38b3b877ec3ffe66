"""Landmarks of aligned crops: YuNet's five points, or those of a landmark network in an ONNX file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.recognition import BATCH_SIZE, fitted, onnx_session
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.weights import registry

YUNET_SIDE = 192  # pixels of the crops that YuNet is shown


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
        try:
            self._detector = FaceDetector(path, threshold=0.3)
        except ValueError as error:
            raise UserError(str(error)) from error

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, 5, 2]; of several faces the largest."""
        found = np.full((len(pictures), 5, 2), np.nan)
        for row, picture in enumerate(pictures):
            small = picture.shape[0] < YUNET_SIDE
            way = cv2.INTER_CUBIC if small else cv2.INTER_AREA
            shown = cv2.resize(picture, (YUNET_SIDE, YUNET_SIDE), interpolation=way)
            faces = self._detector.detect(shown)
            if faces:
                found[row] = (max(faces, key=lambda face: face.area).landmarks + 0.5) / YUNET_SIDE
        return found


class OnnxLandmarks:
    """A network of float32 [n, 3, H, W], RGB 0 to 1, to [n, 2 K] or [n, K, 2]: x and y of each point, as fractions of
    the picture (as PFLD and its kin do) or in pixels of the input, which is told by their size.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.sha256 = path.stem, registry.file_sha256(path)
        self._session = onnx_session(path, "finding landmarks")
        put = self._session.get_inputs()
        if len(put) != 1 or len(put[0].shape) != 4 or put[0].shape[1] != 3:
            shapes = [(one.name, one.shape) for one in put]
            raise UserError(
                f"{path} takes {shapes}, but a landmark network takes one input [n, 3, H, W]; name another network."
            )
        self._input = put[0].name
        self._batch = put[0].shape[0] if isinstance(put[0].shape[0], int) else BATCH_SIZE
        self._size = tuple(side if isinstance(side, int) else 112 for side in put[0].shape[2:])
        self.points = self._run(np.zeros((1, *self._size, 3), np.uint8)).shape[1]

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, K, 2]."""
        chunks = [pictures[start : start + self._batch] for start in range(0, len(pictures), self._batch)]
        return np.concatenate([self._run(np.stack([fitted(one, self._size) for one in chunk])) for chunk in chunks])

    def _run(self, faces: np.ndarray) -> np.ndarray:
        missing = np.repeat(faces[-1:], self._batch - len(faces), axis=0)
        values = np.concatenate([faces, missing]).transpose(0, 3, 1, 2)
        values = np.ascontiguousarray(values, dtype=np.float32) / np.float32(255)
        answers = self._session.run(None, {self._input: values})
        for answer in answers:  # networks of this kind have more than one output; landmarks are the one of pairs
            flat = answer.reshape(len(values), -1)
            if flat.shape[1] >= 10 and flat.shape[1] % 2 == 0 and flat.shape[1] <= 2000:
                points: np.ndarray = flat[: len(faces)].reshape(len(faces), -1, 2).astype(np.float64)
                inside = np.abs(points).max() <= 2.0
                return points if inside else (points + 0.5) / np.array([self._size[1], self._size[0]])
        raise UserError(f"{self.name} has no output of landmarks [n, 2 K], K ≥ 5; name another network.")


def open_landmarks(source: str | Path) -> LandmarkNetwork:
    """YuNet by its file, or a landmark network; both are ONNX, and YuNet is known by its many outputs.

    Raises:
      UserError: it is missing, or neither.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"there is no landmark network {path}; check the path.")
    try:
        return YuNetLandmarks(path)
    except UserError:
        return OnnxLandmarks(path)

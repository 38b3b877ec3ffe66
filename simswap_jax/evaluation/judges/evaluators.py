"""The networks of an evaluation, and their predictions for pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.networks import FeatureNetwork, OnnxNetwork, PoseEstimator, Recogniser, Wanted
from simswap_jax.weights import onnx_session, registry

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
        self._detector = onnx_session.yunet(path, threshold=0.3)

    def find(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float64 [N, 5, 2]; of several faces the largest."""
        found = np.full((len(pictures), 5, 2), np.nan)
        for row, picture in enumerate(pictures):
            small = picture.shape[0] < YUNET_SIDE
            interpolation = cv2.INTER_CUBIC if small else cv2.INTER_AREA
            faces = self._detector.look(cv2.resize(picture, (YUNET_SIDE, YUNET_SIDE), interpolation=interpolation))
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
        raise UserError(f"there is no landmark network {path}; check the path.", "network-missing")
    try:
        return YuNetLandmarks(path)
    except UserError:
        return OnnxLandmarks(path)


Predictions = Mapping[str, np.ndarray]  # name → an array whose first axis is the pictures


@dataclass(frozen=True)
class Evaluators:
    """The metric networks; None where there is none and its metrics are left out."""

    recogniser: Recogniser
    pose: PoseEstimator | None = None
    landmarks: LandmarkNetwork | None = None
    features: FeatureNetwork | None = None

    def predict(self, pictures: Sequence[np.ndarray], identity: bool = True) -> dict[str, np.ndarray]:
        """Run all networks on N uint8 RGB squares.

        Returns:
          ``vectors`` float32 [N, D] (unless ``identity`` is False), and where there is such a network ``angles``
          [N, 3] in degrees, ``landmarks`` [N, P, 2] in sides of the crop, ``features`` [N, F].
        """
        predictions = {"vectors": self.recogniser.embed(pictures)} if identity else {}
        if self.pose is not None:
            predictions["angles"] = np.asarray(self.pose.angles(pictures), np.float32)
        if self.landmarks is not None:
            predictions["landmarks"] = self.landmarks.find(pictures).astype(np.float32)
        if self.features is not None:
            predictions["features"] = self.features.features(pictures)
        return predictions

    def five_points(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """The usual five landmarks of N pictures, float64 [N, 5, 2] in sides of the crop; NaN where unknown."""
        if self.landmarks is not None and self.landmarks.points == 5:
            return self.landmarks.find(pictures)
        return np.full((len(pictures), 5, 2), np.nan)

    def describe(self) -> dict[str, dict[str, str] | None]:
        """Names and SHA-256, for the JSON and the fingerprint of a job."""
        networks = {
            "identity": self.recogniser,
            "pose": self.pose,
            "landmarks": self.landmarks,
            "features": self.features,
        }
        return {
            role: None if network is None else {"name": network.name, "sha256": network.sha256}
            for role, network in networks.items()
        }

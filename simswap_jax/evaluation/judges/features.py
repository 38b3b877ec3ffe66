"""Feature networks for FID and KID, named by their path: an ONNX file, or a recogniser of the project's own kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from simswap_jax.evaluation.judges.onnx import OnnxNetwork
from simswap_jax.evaluation.judges.recogniser import Recogniser, open_recogniser

SIDE = 299  # of networks whose file leaves the size open: Inception's
# What RGB values a network takes: v of 0 to 255 → (v / 255 − mean) / deviation
INPUT_RANGES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class FeatureNetwork(Protocol):
    """Anything that turns a picture into a feature vector.

    Attributes:
      name: for tables.
      sha256: of its weights.
    """

    name: str
    sha256: str

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        ...


class OnnxFeatures:
    """float32 [n, 3, H, W] RGB → [n, D] or maps [n, D, h, w], which are averaged."""

    def __init__(self, path: Path, input_range: str) -> None:
        self._network = OnnxNetwork(path, "a feature network", side=SIDE)
        self.name, self.sha256 = self._network.name, f"{self._network.sha256} {input_range}"
        self._mean, self._deviation = (np.array(numbers, np.float32) for numbers in INPUT_RANGES[input_range])

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        maps = [outputs[0] for outputs in self._network.run(pictures, self._normalised)]
        return np.concatenate([m.reshape(*m.shape[:2], -1).mean(axis=2).astype(np.float32) for m in maps])

    def _normalised(self, pictures: np.ndarray) -> np.ndarray:
        return (pictures.astype(np.float32) / 255 - self._mean) / self._deviation


class IdentityFeatures:
    """A recogniser's vectors, of length one. They see faces, not pictures: read such a FID with care."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self.name, self.sha256 = recogniser.name, recogniser.sha256

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        return self._recogniser.embed(pictures)


def open_features(source: str | Path, input_range: str = "255") -> FeatureNetwork:
    """A feature network.

    Args:
      source: an ONNX file, a model folder (its identity network), an identity folder or an identity weight file.
      input_range: what an ONNX file takes, a name of `INPUT_RANGES`.

    Raises:
      UserError: it is missing or no such network.
    """
    path = Path(source).expanduser()
    onnx = path.suffix.lower() == ".onnx"
    return OnnxFeatures(path, input_range) if onnx else IdentityFeatures(open_recogniser(path))

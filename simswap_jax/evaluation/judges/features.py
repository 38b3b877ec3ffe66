"""Feature networks for FID and KID, named by their path: an ONNX file, or a recogniser of the project's own kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.recognition import BATCH_SIZE, Recogniser, fitted, onnx_session, open_recogniser
from simswap_jax.weights import registry

SIDE = 299  # of networks whose file leaves the size open: Inception's
# What RGB values a network takes: v of 0 to 255 → (v / 255 − mean) / deviation
VALUES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class FeatureNetwork(Protocol):
    """Anything that gives a picture a row of numbers.

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

    def __init__(self, path: Path, values: str) -> None:
        self.name, self.sha256 = path.stem, f"{registry.file_sha256(path)} {values}"
        self._session = onnx_session(path, "features for FID")
        put = self._session.get_inputs()
        if len(put) != 1 or len(put[0].shape) != 4 or put[0].shape[1] != 3:
            shapes = [(one.name, one.shape) for one in put]
            raise UserError(
                f"{path} takes {shapes}, but a feature network takes one input [n, 3, H, W]; name another network."
            )
        self._input = put[0].name
        self._batch = put[0].shape[0] if isinstance(put[0].shape[0], int) else BATCH_SIZE
        self._size = tuple(side if isinstance(side, int) else SIDE for side in put[0].shape[2:])
        self._mean, self._deviation = (np.array(numbers, np.float32) for numbers in VALUES[values])

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        rows = []
        for start in range(0, len(pictures), self._batch):
            chunk = np.stack([fitted(one, self._size) for one in pictures[start : start + self._batch]])
            missing = np.repeat(chunk[-1:], self._batch - len(chunk), axis=0)
            values = (np.concatenate([chunk, missing]).astype(np.float32) / 255 - self._mean) / self._deviation
            answer = self._session.run(None, {self._input: np.ascontiguousarray(values.transpose(0, 3, 1, 2))})[0]
            flat = answer.reshape(*answer.shape[:2], -1).mean(axis=2)
            rows.append(flat[: len(chunk)].astype(np.float32))
        return np.concatenate(rows)


class IdentityFeatures:
    """A recogniser's vectors, of length one. They see faces, not pictures: read such a FID with care."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self.name, self.sha256 = recogniser.name, recogniser.sha256

    def features(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D]."""
        return self._recogniser.embed(pictures)


def open_features(source: str | Path, values: str = "255") -> FeatureNetwork:
    """A feature network.

    Args:
      source: an ONNX file, a model folder (its identity network), an identity folder or an identity weight file.
      values: what an ONNX file takes, a name of `VALUES`.

    Raises:
      UserError: it is missing or no such network.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() != ".onnx":
        return IdentityFeatures(open_recogniser(path))
    if not path.is_file():
        raise UserError(f"there is no feature network {path}; check the path.")
    return OnnxFeatures(path, values)

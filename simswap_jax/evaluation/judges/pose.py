"""Head pose of aligned crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from simswap_jax.evaluation.judges.onnx import OnnxNetwork


class PoseEstimator(Protocol):
    """Anything that reads head pose.

    Attributes:
      name: for tables.
      sha256: of its weights.
    """

    name: str
    sha256: str

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        ...


class OnnxPose:
    """An ONNX network of BGR [1, 3, 64, 64], (x − 127.5) / 128, that answers yaw, pitch and roll.

    It is shown the whole `simswap-frontal` crop, on which it agrees best with landmarks and with its own mirror image.
    """

    def __init__(self, path: Path) -> None:
        self._network = OnnxNetwork(path, "a head-pose network", side=64, batch=1)
        self.name, self.sha256 = self._network.name, self._network.sha256

    def angles(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, 3]: yaw, pitch and roll in degrees."""
        return np.concatenate([outputs[0] for outputs in self._network.run(pictures, bgr_symmetric)])


def bgr_symmetric(pictures: np.ndarray) -> np.ndarray:
    """uint8 RGB [n, H, W, 3] → float32 BGR, −1 to 1."""
    return (pictures[..., ::-1].astype(np.float32) - 127.5) / 128.0

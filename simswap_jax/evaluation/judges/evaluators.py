"""The networks of an evaluation, and their predictions for pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simswap_jax.evaluation.judges.networks import FeatureNetwork, PoseEstimator, Recogniser
from simswap_jax.weights.onnx_network import LandmarkNetwork

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

    def five_points(self, pictures: Sequence[np.ndarray], template: np.ndarray | None = None) -> np.ndarray:
        """The usual five landmarks of N pictures, float64 [N, 5, 2] in sides of the crop.

        Args:
          pictures: uint8 RGB squares.
          template: float [5, 2], taken where no network finds the five; None: they are NaN there.
        """
        points = np.full((len(pictures), 5, 2), np.nan)
        if self.landmarks is not None and self.landmarks.points == 5:
            points = self.landmarks.find(pictures)
        if template is None:
            return points
        return np.where(np.isfinite(points).all(axis=(1, 2), keepdims=True), points, template)

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

"""The judges of an evaluation, and what they see in pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from simswap_jax.evaluation.judges.features import FeatureNetwork
from simswap_jax.evaluation.judges.landmarks import LandmarkNetwork
from simswap_jax.evaluation.judges.recognition import Recogniser

Sight = Mapping[str, np.ndarray]  # name → an array whose first axis is the pictures


class PoseJudge(Protocol):
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


@dataclass(frozen=True)
class Judges:
    """Who judges; None where nobody measures that."""

    recogniser: Recogniser
    pose: PoseJudge | None = None
    landmarks: LandmarkNetwork | None = None
    features: FeatureNetwork | None = None

    def look(self, pictures: Sequence[np.ndarray], identity: bool = True) -> dict[str, np.ndarray]:
        """What they see in N uint8 RGB squares.

        Returns:
          ``vectors`` float32 [N, D] (unless ``identity`` is False), and where there is a judge ``angles`` [N, 3] in
          degrees, ``landmarks`` [N, P, 2] in sides of the crop, ``features`` [N, F].
        """
        seen = {"vectors": self.recogniser.embed(pictures)} if identity else {}
        if self.pose is not None:
            seen["angles"] = np.asarray(self.pose.angles(pictures), np.float32)
        if self.landmarks is not None:
            seen["landmarks"] = self.landmarks.find(pictures).astype(np.float32)
        if self.features is not None:
            seen["features"] = self.features.features(pictures)
        return seen

    def described(self) -> dict[str, dict[str, str] | None]:
        """Names and SHA-256, for the JSON and to know a judge again."""
        return {
            role: None if judge is None else {"name": judge.name, "sha256": judge.sha256}
            for role, judge in (
                ("identity", self.recogniser),
                ("pose", self.pose),
                ("landmarks", self.landmarks),
                ("features", self.features),
            )
        }

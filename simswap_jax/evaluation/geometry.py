"""Landmarks and head pose of the evaluated pictures: the protocol's own where it knows them, else found by networks."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simswap_jax.data.landmarks import lost
from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.networks import PoseEstimator
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.weights.onnx_network import LandmarkNetwork

# How many points a network finds → which of them the usual five (eyes, nose, corners of the mouth) are the means of.
FIVE_POINTS: dict[int, tuple[tuple[int, ...], ...]] = {
    5: ((0,), (1,), (2,), (3,), (4,)),
    68: (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),  # iBUG's order
    98: ((96,), (97,), (54,), (76,), (82,)),  # WFLW's
}
CHUNK = 128  # pictures in memory at once
logger = logging.getLogger(__name__)


def crop_template(alignment: str, size: int) -> np.ndarray | None:
    """Where aligned crops have the usual five: float [5, 2] in sides of the crop; None where that is not known.

    Args:
      alignment: name of the crops' template; known is one of a single pose.
      size: side of the crops in pixels. Templates count from the centre of the first pixel, this from its edge.
    """
    poses = TEMPLATES.get(alignment)
    return poses[0] + 0.5 / size if poses is not None and len(poses) == 1 else None


@dataclass(frozen=True)
class KnownGeometry:
    """What a protocol knows of its pictures, which are named ``person/picture``.

    Attributes:
      landmarks: K names → float [K, P, 2] in sides of the crop.
      five: which of the P points the usual five are the means of.
      angles: K names → float [K, 3], yaw, pitch and roll in degrees.
    """

    landmarks: Callable[[Sequence[str]], np.ndarray]
    five: Sequence[Sequence[int]]
    angles: Callable[[Sequence[str]], np.ndarray]


class FaceGeometry:
    """Landmarks and pose of pictures by name; each picture is looked at once.

    Attributes:
      has_landmarks, has_pose: whether there is anything that knows or finds them.
      sha256: of what finds them; "known" where the protocol knows them.
    """

    def __init__(
        self,
        read: Callable[[str], np.ndarray],
        landmarks: LandmarkNetwork | None,
        pose: PoseEstimator | None,
        known: KnownGeometry | None = None,
        template: np.ndarray | None = None,
    ) -> None:
        """Args:
        read: a name → uint8 RGB square.
        landmarks, pose: networks, where there are any.
        known: asked in their place.
        template: float [5, 2], where the crops' alignment has the usual five; None: not known.
        """
        self._read, self._landmarks, self._pose, self._known = read, landmarks, pose, known
        self._aligned_to = template
        self.has_landmarks = known is not None or landmarks is not None
        self.has_pose = known is not None or pose is not None
        networks = [network.sha256 for network in (landmarks, pose) if network is not None]
        self.sha256 = "known" if known is not None else " ".join(networks)
        self._points: dict[str, np.ndarray] = {}
        self._angles: dict[str, np.ndarray] = {}

    def landmarks(self, names: Sequence[str]) -> np.ndarray:
        """Landmarks of K pictures, float [K, P, 2] in sides of the crop, P the same for all.

        Where no face is found, the template's five points stand for it, and the log says so.

        Raises:
          ValueError: nothing finds landmarks, `has_landmarks`.
        """
        if self._known is not None:
            return self._known.landmarks(names)
        if self._landmarks is None:
            raise ValueError("there is no landmark network.")
        return _remembered(self._points, names, self._found)

    def five_points(self, names: Sequence[str]) -> np.ndarray:
        """The usual five of K pictures, float [K, 5, 2] in sides of the crop; without landmarks the template's.

        Raises:
          UserError: the network finds points of an order that is not known, or there is neither it nor a template.
        """
        if not self.has_landmarks:
            if self._aligned_to is None:
                raise UserError(
                    "where eyes, nose and mouth lie in these crops is not known; name a landmark network by "
                    "--warp-landmarks or --landmarks.",
                    "five-points-unknown",
                )
            return np.repeat(self._aligned_to[None], len(names), axis=0)
        points = self.landmarks(names)
        five = self._known.five if self._known is not None else FIVE_POINTS.get(points.shape[1])
        if five is None:
            known = ", ".join(map(str, FIVE_POINTS))
            raise UserError(
                f"which of the {points.shape[1]} landmarks are eyes, nose and mouth is not known; name a network of "
                f"{known} points.",
                "landmark-order-unknown",
            )
        return np.stack([points[:, list(some)].mean(axis=1) for some in five], axis=1)

    def angles(self, names: Sequence[str]) -> np.ndarray:
        """Yaw, pitch and roll of K pictures, float [K, 3] in degrees.

        Raises:
          ValueError: nothing finds them, `has_pose`.
        """
        if self._known is not None:
            return self._known.angles(names)
        pose = self._pose
        if pose is None:
            raise ValueError("there is no pose network.")
        return _remembered(self._angles, names, lambda some: pose.angles([self._read(name) for name in some]))

    def _found(self, names: Sequence[str]) -> np.ndarray:
        assert self._landmarks is not None
        points = self._landmarks.find([self._read(name) for name in names])
        away = lost(points)
        if away.any():
            missing = [name for name, is_lost in zip(names, away) if is_lost]
            logger.warning(
                "no landmarks in %d pictures (the first: %s); the template's are taken there", len(missing), missing[0]
            )
            points[away] = self._template(points[~away])
        return points

    def _template(self, others: np.ndarray) -> np.ndarray:
        """Points [P, 2] of a face that was not found: the template's five, or the mean of the other pictures."""
        if self._landmarks is not None and self._landmarks.points == 5:
            return TEMPLATES["simswap-frontal"][0] if self._aligned_to is None else self._aligned_to
        if not len(others):
            raise UserError("the landmark network finds no face in these pictures; name another.", "warp-finds-no-face")
        mean: np.ndarray = others.mean(axis=0)
        return mean


def _remembered(
    kept: dict[str, np.ndarray], names: Sequence[str], find: Callable[[Sequence[str]], np.ndarray]
) -> np.ndarray:
    """Rows of names, found where they are not kept yet."""
    missing = [name for name in dict.fromkeys(names) if name not in kept]
    for start in range(0, len(missing), CHUNK):
        some = missing[start : start + CHUNK]
        kept.update(zip(some, find(some)))
    return np.stack([kept[name] for name in names])


def nearest_pose(
    geometry: FaceGeometry, pictures: Mapping[str, Sequence[str]], pairs: Sequence[tuple[str, str]]
) -> list[str]:
    """Of each source person's pictures the one whose yaw and pitch are nearest to the target's.

    Args:
      geometry: knows or finds the pose.
      pictures: person → that person's pictures, ``person/picture``.
      pairs: (source, target) names.
    """
    chosen = []
    wanted = geometry.angles([target for _, target in pairs])[:, :2]
    for (source, _), pose in zip(pairs, wanted):
        theirs = list(pictures[source.rsplit("/", 1)[0]])
        apart = np.linalg.norm(geometry.angles(theirs)[:, :2] - pose, axis=1)
        chosen.append(theirs[int(np.argmin(apart))])
    return chosen

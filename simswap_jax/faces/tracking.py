"""Which faces of following frames are one and the same, which way up, and where, without the detector's trembling.

A track is a run of sightings of one face. It ends where the video is cut, where the face is not seen for `GAP`
frames, and where two faces come so near to each other that either could be meant: what follows is a new track, and who
it is must be found out anew. So a track never turns into somebody else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from simswap_jax.faces.detection import Detector
from simswap_jax.faces.direction import closer, directed
from simswap_jax.faces.face import OVERLAP, UPRIGHT, Face, iou, roll_of, size_of, without_ghosts

GAP = 8  # frames from one sighting of a face to the next, at most
REACH = 0.4  # how far a face may lie from where it was expected, in units of its size
GROWTH = 1.6  # by which a face may be larger or smaller than it was
WINDOW = 2.0  # frames, standard deviation of the smoothing window: white noise keeps 0.38 of its size
CHECK_EVERY = 12  # frames after which it is found out anew which way up every face is
LYING_EVERY = 36  # frames after which faces are looked for in the turned frame, too
HOLD = 0.04  # of a face's size: smoothing moves no landmark farther, so that quick turns are not dragged behind


@dataclass(frozen=True)
class _Live:
    """The last that is known of a track: its number, landmarks [5, 2], their speed [2] in pixels a second."""

    number: int
    landmarks: Float[np.ndarray, "5 2"]
    speed: Float[np.ndarray, " 2"]
    size: float
    time: float
    frame: int
    doubtful: bool = False

    def distance(self, face: Face, time: float) -> float:
        """Mean distance of the landmarks from where they are expected, in units of the smaller face's size."""
        size = size_of(face)
        if not 1 / GROWTH <= size / self.size <= GROWTH:
            return np.inf
        expected = self.landmarks + self.speed * (time - self.time)
        return float(np.linalg.norm(expected - face.landmarks, axis=1).mean()) / min(size, self.size)


class Tracker:
    """Numbers the faces of a video, frame by frame; a function of what it was given, so that it can be replayed."""

    def __init__(self) -> None:
        self._live: list[_Live] = []
        self._frame = -1
        self._count = 0

    def update(self, time: float, faces: Sequence[Face], cut: bool = False) -> list[int]:
        """Take in the next frame.

        Args:
          time: of the frame, in seconds; later than the last.
          faces: what the detector found in it.
          cut: the frame shows another scene than the last.

        Returns:
          The number of the track of each face; a number that was not given before is a new track.
        """
        self._frame += 1
        live = [] if cut else [one for one in self._live if self._frame - one.frame <= GAP]
        distances = np.array([[one.distance(face, time) for face in faces] for one in live]).reshape(
            len(live), len(faces)
        )
        near = distances < REACH
        matched = greedy_matching(distances, REACH)
        numbers, following = [], []
        for j, face in enumerate(faces):
            i = matched.get(j)
            if i is None:
                numbers.append(self._new())
                following.append(_Live(numbers[-1], face.landmarks, np.zeros(2), size_of(face), time, self._frame))
                continue
            old = live[i]
            doubtful = bool(near[i].sum() > 1 or near[:, j].sum() > 1)
            numbers.append(old.number if doubtful == old.doubtful else self._new())
            moved = (face.landmarks - old.landmarks).mean(axis=0) / max(time - old.time, 1e-6)
            # Half of the new speed: one trembling sighting does not throw the next expectation off.
            speed = 0.5 * old.speed + 0.5 * moved
            following.append(
                _Live(numbers[-1], face.landmarks, speed, size_of(face), time, self._frame, doubtful),
            )
        taken = set(matched.values())
        # A missed face is expected to slow down: it is likelier hidden or turned away than on its way on.
        missed = [replace(one, speed=0.7 * one.speed) for i, one in enumerate(live) if i not in taken]
        self._live = following + missed
        return numbers

    def _new(self) -> int:
        self._count += 1
        return self._count - 1


class Directions:
    """Which way up the faces of a video are: found out where one appears and now and then, carried on in between.

    A function of what it was given, so that it can be replayed.
    """

    def __init__(self) -> None:
        self._known: list[tuple[int, Face]] = []

    def put_right(
        self,
        detector: Detector,
        picture: UInt8[np.ndarray, "h w 3"],
        index: int,
        faces: Sequence[Face],
        lying: Sequence[Face] = (),
    ) -> list[Face]:
        """The faces of the next frame with the landmarks of their own direction.

        Args:
          detector: looks closer at those that are tilted.
          picture: the frame, uint8 RGB [H, W, 3].
          index: its number.
          faces: what the detector's ``look`` found in it.
          lying: what it found in the turned frame, if that was looked at.
        """
        right, followed = [], []
        for face in faces:
            known = max(self._known, key=lambda one: iou(one[1], face), default=None)
            old = known[1] if known is not None and iou(known[1], face) > OVERLAP else None
            followed.append(old)
            right.append(_put_right(detector, picture, face, old, check=index % CHECK_EVERY == 0))
        for _, old in self._known:
            if abs(roll_of(old.landmarks)) >= UPRIGHT and not any(old is one for one in followed):
                _add(right, closer(detector.glance, picture, old))
        for face in lying:
            if all(iou(face, other) <= OVERLAP for other in right):
                _add(right, directed(detector.glance, picture, face))
        return without_ghosts(right)

    def remember(self, index: int, faces: Sequence[Face], cut: bool = False) -> None:
        """Note the faces of a frame, put right; after a cut nothing of before counts."""
        old = [
            (when, face)
            for when, face in self._known
            if not cut and index - when < GAP and all(iou(face, other) <= OVERLAP for other in faces)
        ]
        self._known = [*((index, face) for face in faces), *old]


def _put_right(detector: Detector, picture: np.ndarray, face: Face, old: Face | None, check: bool) -> Face:
    """A face of a frame with the landmarks of its own direction; ``old``: the same face a frame ago."""
    upright = abs(roll_of(face.landmarks)) < UPRIGHT
    if old is None or check:
        found = directed(detector.glance, picture, face) or face
        # Looks differ by a little: an upright face keeps the one that all its frames have.
        return face if upright and found.direction_known and abs(roll_of(found.landmarks)) < UPRIGHT else found
    if not old.direction_known:
        return replace(face, direction_known=False)
    if upright and abs(roll_of(old.landmarks)) < UPRIGHT:
        return face
    found_here = closer(detector.glance, picture, replace(old, box=face.box))
    return found_here or directed(detector.glance, picture, face) or face


def _add(faces: list[Face], face: Face | None) -> None:
    """Add a face that is none of those that are there."""
    if face is not None and all(iou(face, other) <= OVERLAP for other in faces):
        faces.append(face)


def greedy_matching(distances: Float[np.ndarray, "n m"], limit: float) -> dict[int, int]:
    """One-to-one pairs of rows and columns [N, M], the nearest first, all under ``limit``: column → row."""
    left: np.ndarray = np.array(distances, np.float64)
    pairs: dict[int, int] = {}
    while left.size and left.min() < limit:
        row, column = divmod(int(np.argmin(left)), left.shape[1])
        pairs[column] = row
        left[row, :] = left[:, column] = np.inf
    return pairs


def smooth_landmarks(
    frames: Int[np.ndarray, " f"],
    times: Float[np.ndarray, " f"],
    sighted: Bool[np.ndarray, " f"],
    landmarks: Float[np.ndarray, "f 5 2"],
    size: float,
) -> Float[np.ndarray, "f 5 2"]:
    """Landmarks of a track in each of its frames: smoothed, and filled in where the detector missed the face.

    At each frame a straight line in time is fitted to the sightings around it, weighted by a Gaussian of `WINDOW`
    frames: steady movement is not dragged behind, and neither end of a track is pulled inwards.

    Args:
      frames: int [F], the frames from the first sighting to the last.
      times: float [F], theirs, in seconds.
      sighted: bool [F], whether the face was seen there; the first and the last are true.
      landmarks: float [F, 5, 2]; what stands where the face was not seen does not matter.
      size: of the face, in pixels; sightings are moved by no more than `HOLD` of it.

    Returns:
      float64 [F, 5, 2].
    """
    seen = np.flatnonzero(sighted)
    first: np.ndarray = np.maximum(np.searchsorted(frames[seen], frames - 4 * WINDOW) - 1, 0)
    last: np.ndarray = np.asarray(np.searchsorted(frames[seen], frames + 4 * WINDOW, "right")) + 1
    steady = np.empty((len(frames), 5, 2))
    for i in range(len(frames)):
        near = seen[first[i] : last[i]]
        weight = np.exp(-0.5 * ((frames[near] - frames[i]) / WINDOW) ** 2) + 1e-12
        weight /= weight.sum()
        points, when = landmarks[near], times[near] - times[i]
        middle, moment = np.tensordot(weight, points, 1), float(weight @ when)
        spread = float(weight @ (when - moment) ** 2)
        slope = np.tensordot(weight * (when - moment), points, 1) / spread if spread > 1e-12 else np.zeros((5, 2))
        steady[i] = middle - moment * slope
        if sighted[i]:
            steady[i] = landmarks[i] + _shortened(steady[i] - landmarks[i], HOLD * size)
    return steady


def _shortened(moves: np.ndarray, longest: float) -> np.ndarray:
    """Vectors [5, 2], none longer than ``longest``."""
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    return moves * np.minimum(1.0, longest / np.maximum(length, 1e-12))


def majority(values: Bool[np.ndarray, " f"], reach: int = 4) -> Bool[np.ndarray, " f"]:
    """What most of the values within ``reach`` of each say: bool [F] → bool [F]; a tie goes to true."""
    padded = np.pad(values.astype(np.float64), reach, mode="edge")
    return np.convolve(padded, np.full(2 * reach + 1, 1.0 / (2 * reach + 1)), "valid") > 0.5 - 1e-9

"""The first pass over a video: where its faces are, frame by frame, which of them are one face, and whose they are."""

import logging
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.faces.alignment import align, crop
from simswap_jax.faces.detection import Detector, lying
from simswap_jax.faces.face import Face
from simswap_jax.faces.tracking import LYING_EVERY, Directions, Tracker
from simswap_jax.inference.arrays import normalised
from simswap_jax.inference.photo import unusable
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io import job_cache
from simswap_jax.io.progress import Progress
from simswap_jax.video.decode import Frame, Video
from simswap_jax.video.key_frames import SeenFrame, detect_faces, is_cut, is_key, with_expected_faces
from simswap_jax.video.stages import Stages, ordered, threaded

CHUNK = 64  # frames that are stored together, a multiple of `KEY_EVERY`; what a kill loses of this pass
_THUMBNAIL = (32, 18)

_log = logging.getLogger(__name__)


@dataclass
class Track:
    """One face through a video: a `selection.Candidate`.

    Attributes:
      number: of the track.
      frames: in which it was detected, rising.
      faces: as it was detected there.
      vectors: identity vectors [D] of some of them, L2-normalised; empty where nobody asked for them.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    @property
    def vector(self) -> np.ndarray | None:
        """Their mean, scaled to length one."""
        return normalised(np.mean(self.vectors, axis=0)) if self.vectors else None


@dataclass
class Detections:
    """What the first pass found.

    Attributes:
      times: of every frame, in seconds.
      tracks: by number.
      doubtful: sightings of faces of which it cannot be told which way up they are; no track has them.
      damaged: how many frames are, as of `Video.damage`.
    """

    times: list[float] = field(default_factory=list)
    tracks: dict[int, Track] = field(default_factory=dict)
    doubtful: int = 0
    damaged: int = 0

    def add(self, time: float, numbers: list[int], faces: list[Face]) -> None:
        """Take in the next frame: its faces and the track of each."""
        for number, face in zip(numbers, faces):
            track = self.tracks.setdefault(number, Track(number))
            track.frames.append(len(self.times))
            track.faces.append(face)
        self.times.append(time)


def track_faces(
    video: Video, swapper: FaceSwapper, embed: bool, store: Path, stages: Stages, workers: int
) -> Detections:
    """Detect and track the faces of a video; what is in ``store`` from a pass that was stopped is not done again.

    Args:
      video: to be looked through.
      swapper: whose detector, template and identity network are used.
      embed: whether identity vectors are wanted.
      store: a file of JSON lines, added to.
      stages: counts ``find faces`` and ``identity``.
      workers: threads that detect.
    """
    first_pass = _FirstPass(swapper, embed, store, stages)
    if not first_pass.resume():
        _look_through(video, swapper, first_pass, stages, workers)
    if first_pass.found.doubtful:
        _log.warning(
            "simswap-jax: left out: %d times it could not be told which way up a face of this video is.",
            first_pass.found.doubtful,
        )
    return first_pass.found


def _look_through(video: Video, swapper: FaceSwapper, first_pass: "_FirstPass", stages: Stages, workers: int) -> None:
    """Take in the frames that the pass does not have yet."""
    done = len(first_pass.found.times)
    previous: SeenFrame | None = None
    progress = Progress(max(video.length - done, 1), "frames searched", _log.info)
    with (
        ThreadPoolExecutor(workers) as pool,
        closing(_detect(video, swapper, done, stages, pool, 2 * workers)) as frames,
    ):
        for one in frames:
            cut = previous is not None and is_cut(previous, one)
            previous = one
            if one.frame.index >= done:
                first_pass.add(one, float(one.frame.pts * video.time_base), cut)
                progress.add()
    first_pass.found.damaged = video.damage.frames
    first_pass.save(end=True)


def _detect(
    video: Video, swapper: FaceSwapper, done: int, stages: Stages, pool: Executor, ahead: int
) -> Generator[SeenFrame, None, None]:
    """Frames from number ``done`` on with their faces, and the one before: whether the first is a cut."""
    detectors = threading.local()

    def detector() -> Detector:
        if not hasattr(detectors, "own"):
            detectors.own = swapper.photos.new_detector()
        own: Detector = detectors.own
        return own

    def see(frame: Frame) -> SeenFrame:
        with stages.clock("find faces"):
            picture = video.upright(frame.image)
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
            seen = SeenFrame(frame, picture, small)
            if frame.index < done:
                return replace(seen, faces=[])
            on_side = list(lying(detector(), picture)) if frame.index % LYING_EVERY == 0 else []
            faces = detect_faces(detector(), picture) if is_key(frame.index) else None
            return replace(seen, faces=faces, lying=on_side)

    def complete(seen: SeenFrame) -> SeenFrame:
        if seen.faces is not None:
            return seen
        with stages.clock("find faces"):
            return replace(seen, faces=detect_faces(detector(), seen.picture, seen.expected))

    frames = (frame for frame in stages.timed("decode", video.frames()) if frame.index >= done - 1)
    seen = ordered(see, threaded(frames, 2), pool, ahead // 2)
    return ordered(complete, with_expected_faces(seen), pool, ahead // 2)


class _FirstPass:
    """What the pass has found, and the chunk that is not stored yet."""

    def __init__(self, swapper: FaceSwapper, embed: bool, store: Path, stages: Stages) -> None:
        self.found = Detections()
        self._swapper, self._embed, self._store, self._stages = swapper, embed, store, stages
        self._tracker, self._directions, self._schedule = Tracker(), Directions(), _Schedule()
        self._detector = swapper.photos.new_detector()  # for closer looks; those of the frames are other threads'
        self._rows: list[dict[str, Any]] = []
        self._crops: list[tuple[int, np.ndarray]] = []  # (track, aligned face) of which vectors are made

    def resume(self) -> bool:
        """Take in the stored chunks of an earlier pass; whether it was finished."""
        finished = False
        for chunk in job_cache.recover(self._store):
            finished = finished or bool(chunk.get("end"))
            self.found.damaged = chunk.get("damaged", 0)
            for row in chunk["frames"]:
                for number in self._track(
                    row, [*map(_decoded, row["faces"])], [*map(_decoded, row.get("doubtful", []))]
                ):
                    self._schedule.due(number)
                    if number in row["embedded"]:
                        self._schedule.embedded(number)
            for number, vector in chunk["vectors"]:
                self.found.tracks[number].vectors.append(np.array(vector, np.float32))
        return finished

    def add(self, one: SeenFrame, time: float, cut: bool) -> None:
        """Take in the next frame."""
        faces, doubtful = self._put_right(one, cut)
        row: dict[str, Any] = {"time": time, "cut": cut, "faces": [*map(_encoded, faces)], "embedded": []}
        if doubtful:
            row["doubtful"] = [*map(_encoded, doubtful)]
        self._rows.append(row)
        for number, face in zip(self._track(row, faces, doubtful), faces):
            if self._embed and self._schedule.due(number):
                self._take_crop(row["embedded"], number, face, one.picture)
        if len(self._rows) == CHUNK:
            self.save()

    def save(self, end: bool = False) -> None:
        """Make the vectors of the chunk and add it to the store."""
        with self._stages.clock("identity"):
            crops = [face for _, face in self._crops]
            vectors: Iterable[np.ndarray] = self._swapper.identity_vectors(crops) if crops else []
        pairs = [(number, vector) for (number, _), vector in zip(self._crops, vectors)]
        for number, vector in pairs:
            self.found.tracks[number].vectors.append(vector)
        chunk = {
            "frames": self._rows,
            "vectors": [(number, vector.tolist()) for number, vector in pairs],
            "end": end,
            "damaged": self.found.damaged,
        }
        job_cache.append(self._store, [chunk])
        self._rows, self._crops = [], []

    def _put_right(self, one: SeenFrame, cut: bool) -> tuple[list[Face], list[Face]]:
        """The faces of a frame in their own direction, and those of which it cannot be told."""
        with self._stages.clock("find faces"):
            on_side = one.lying or (list(lying(self._detector, one.picture)) if cut else [])
            if cut:
                self._directions = Directions()
            faces = self._directions.put_right(self._detector, one.picture, one.frame.index, one.faces or [], on_side)
        doubtful = [face for face in faces if not face.direction_known]
        return [face for face in faces if face.direction_known], doubtful

    def _track(self, row: dict[str, Any], faces: list[Face], doubtful: list[Face]) -> list[int]:
        """The track of each face of the next frame."""
        index = len(self.found.times)
        doubts = [replace(face, direction_known=False) for face in doubtful]
        self._directions.remember(index, [*faces, *doubts], row["cut"])
        self.found.doubtful += len(doubtful)
        numbers = self._tracker.update(row["time"], faces, row["cut"])
        self.found.add(row["time"], numbers, faces)
        return numbers

    def _take_crop(self, embedded: list[int], number: int, face: Face, picture: np.ndarray) -> None:
        """A face of which an identity vector is to be made, where it can be used."""
        alignment = align(face.landmarks, self._swapper.model.alignment, self._swapper.face_size)
        if not unusable(face, alignment):
            self._crops.append((number, crop(picture, alignment)))
            embedded.append(number)
            self._schedule.embedded(number)


class _Schedule:
    """Which detections of a track get an identity vector: the first usable one, the fourth after it, then fewer."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._made: dict[int, int] = {}
        self._next: dict[int, int] = {}

    def due(self, number: int) -> bool:
        """Count a detection, and say whether it is one."""
        self._seen[number] = self._seen.get(number, 0) + 1
        return self._seen[number] >= self._next.get(number, 0)

    def embedded(self, number: int) -> None:
        """A vector was made of the detection counted last."""
        made = self._made[number] = self._made.get(number, 0) + 1
        self._next[number] = self._seen[number] + min(4 * made, 24)


def _encoded(face: Face) -> list[Any]:
    return [[float(value) for value in face.box], face.landmarks.tolist(), face.score]


def _decoded(stored: list[Any]) -> Face:
    left, top, width, height = stored[0]
    return Face((left, top, width, height), np.array(stored[1], np.float64), stored[2])

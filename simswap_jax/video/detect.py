"""The first pass over a film: where its faces are, frame by frame, which of them are one face, and how they look."""

import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.faces.alignment import align, crop
from simswap_jax.faces.detection import Face
from simswap_jax.faces.tracking import Tracker
from simswap_jax.inference.photo import unusable
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.progress import Progress, Sink
from simswap_jax.video.decode import Film, Frame
from simswap_jax.video.stages import Stages, ordered, threaded

CHUNK = 64  # frames that are noted together; what a kill loses of this pass
CUT = 25.0  # grey levels by which thumbnails differ, on average, where one scene ends and another begins
_THUMBNAIL = (32, 18)


@dataclass
class Track:
    """One face through a film.

    Attributes:
      number: of the track.
      frames: in which it was seen, rising.
      faces: as it was found there.
      vectors: identity vectors [D] of some of them, L2-normalised; empty where nobody asked for them.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    @property
    def vector(self) -> np.ndarray | None:
        """Their mean, scaled to length one."""
        if not self.vectors:
            return None
        mean = np.mean(self.vectors, axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


@dataclass
class Look:
    """What the first pass found: the time of every frame in seconds, and the tracks by number."""

    times: list[float] = field(default_factory=list)
    tracks: dict[int, Track] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """A frame in which faces were looked for."""

    frame: Frame
    picture: np.ndarray
    thumbnail: np.ndarray
    faces: list[Face]


def look(
    film: Film, swapper: FaceSwapper, embed: bool, store: Path, stages: Stages, workers: int, sink: Sink | None = None
) -> Look:
    """Find and follow the faces of a film; what is in ``store`` from a pass that was stopped is not done again.

    Args:
      film: to be looked at.
      swapper: whose detector, template and identity network are used.
      embed: whether identity vectors are wanted.
      store: a file of JSON lines, added to.
      stages: counts ``find`` and ``identity``.
      workers: threads that look for faces.
      sink: is given progress.
    """
    found, tracker, counts = Look(), Tracker(), _Schedule()
    finished = False
    for row in _stored(store):
        finished = finished or bool(row.get("end"))
        _replay(row, found, tracker, counts)
    if finished:
        return found
    progress = Progress(max(film.length - len(found.times), 1), "frames looked at", sink)
    done, previous = len(found.times), None
    detectors = threading.local()

    def find(frame: Frame) -> _Seen:
        with stages.clock("find faces"):
            if not hasattr(detectors, "own"):
                detectors.own = swapper.new_detector()
            picture = film.upright(frame.image)
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            small = cv2.resize(grey, _THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
            return _Seen(frame, picture, small, detectors.own.detect(picture) if frame.index >= done else [])

    # The frame before the first new one is needed to see whether that is a cut.
    frames = (frame for frame in stages.timed("decode", film.frames()) if frame.index >= done - 1)
    with ThreadPoolExecutor(workers) as pool, closing(ordered(find, threaded(frames, 2), pool, 2 * workers)) as seen:
        chunk: list[dict[str, Any]] = []
        wanted: list[tuple[int, np.ndarray]] = []
        for one in seen:
            cut = previous is not None and float(np.abs(one.thumbnail - previous).mean()) > CUT
            previous = one.thumbnail
            if one.frame.index < done:
                continue
            time = float(one.frame.pts * film.time_base)
            row = {"time": time, "cut": cut, "faces": [*map(_noted, one.faces)], "embedded": []}
            chunk.append(row)
            for number, face in zip(_take(row, one.faces, found, tracker), one.faces):
                if embed and counts.due(number):
                    alignment = align(face.landmarks, swapper.model.alignment, swapper.face_size)
                    if not unusable(face, alignment):
                        wanted.append((number, crop(one.picture, alignment)))
                        row["embedded"].append(number)
                        counts.embedded(number)
            if len(chunk) == CHUNK:
                _note(store, chunk, wanted, found, swapper, stages)
                chunk, wanted = [], []
            progress.add()
        _note(store, chunk, wanted, found, swapper, stages, end=True)
    return found


class _Schedule:
    """Which sightings of a track get an identity vector: the first usable one, the fourth after it, then fewer."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._made: dict[int, int] = {}
        self._next: dict[int, int] = {}

    def due(self, number: int) -> bool:
        """Count a sighting, and say whether it is one."""
        self._seen[number] = self._seen.get(number, 0) + 1
        return self._seen[number] >= self._next.get(number, 0)

    def embedded(self, number: int) -> None:
        """A vector was made of the sighting counted last."""
        made = self._made[number] = self._made.get(number, 0) + 1
        self._next[number] = self._seen[number] + min(4 * made, 24)


def _take(row: dict[str, Any], faces: list[Face], found: Look, tracker: Tracker) -> list[int]:
    """Add a frame to what was found; the track of each of its faces."""
    numbers = tracker.update(row["time"], faces, row["cut"])
    for number, face in zip(numbers, faces):
        track = found.tracks.setdefault(number, Track(number))
        track.frames.append(len(found.times))
        track.faces.append(face)
    found.times.append(row["time"])
    return numbers


def _replay(row: dict[str, Any], found: Look, tracker: Tracker, counts: _Schedule) -> None:
    """Take a chunk in again as it was noted."""
    for frame in row["frames"]:
        for number in _take(frame, [*map(_face, frame["faces"])], found, tracker):
            counts.due(number)
            if number in frame["embedded"]:
                counts.embedded(number)
    for number, vector in row["vectors"]:
        found.tracks[number].vectors.append(np.array(vector, np.float32))


def _note(
    store: Path,
    chunk: list[dict[str, Any]],
    wanted: list[tuple[int, np.ndarray]],
    found: Look,
    swapper: FaceSwapper,
    stages: Stages,
    end: bool = False,
) -> None:
    """Make the vectors of a chunk and add it to the store."""
    with stages.clock("identity"):
        vectors: Iterable[np.ndarray] = swapper.identity_vectors([face for _, face in wanted]) if wanted else []
    pairs = [(number, vector) for (number, _), vector in zip(wanted, vectors)]
    for number, vector in pairs:
        found.tracks[number].vectors.append(vector)
    row = {"frames": chunk, "vectors": [(number, vector.tolist()) for number, vector in pairs], "end": end}
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _stored(store: Path) -> Iterator[dict[str, Any]]:
    """The chunks of an earlier pass; a line that a kill broke off is cut away."""
    if not store.is_file():
        return
    good = 0
    lines = store.read_bytes().splitlines(keepends=True)
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        good += len(line)
        yield row
    with store.open("r+b") as file:
        file.truncate(good)


def _noted(face: Face) -> list[Any]:
    return [[float(value) for value in face.box], face.landmarks.tolist(), face.score]


def _face(noted: list[Any]) -> Face:
    left, top, width, height = noted[0]
    return Face((left, top, width, height), np.array(noted[1], np.float64), noted[2])

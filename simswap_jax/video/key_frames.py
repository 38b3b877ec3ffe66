"""Detection by key frames: the detector sees few frames whole; in between it looks at each face where it is expected.

Where two key frames do not show the same faces, at a cut, and where a face is not seen in its place, whole frames are
looked at. What neither of two key frames shows is not looked for between them.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from simswap_jax.faces.detection import Detector
from simswap_jax.faces.direction import CLOSE_TILE, views
from simswap_jax.faces.face import OVERLAP, Face, iou, non_maximum_suppression, size_of
from simswap_jax.faces.tracking import GROWTH, greedy_matching
from simswap_jax.video.decode import Frame

KEY_EVERY = 8  # frames from one that is seen whole to the next; divides what a stopped pass keeps (`detect.CHUNK`)
MOST = 9  # faces that are looked at one by one; of more the whole frame says where they are
MOVES = 1.0  # of a face's size: what a face goes from one key frame to the next, at most
CUT = 25.0  # grey levels by which thumbnails differ, on average, where one scene ends and another begins


@dataclass(frozen=True)
class SeenFrame:
    """A frame on its way through detection.

    Attributes:
      frame: as it was decoded.
      picture: uint8 RGB [H, W, 3], upright.
      thumbnail: float32, grey, small.
      faces: as they were found; None: not looked for yet.
      lying: those found in the turned frame, if that was looked at.
      expected: where faces are to be looked for; None: in the whole frame.
    """

    frame: Frame
    picture: UInt8[np.ndarray, "h w 3"]
    thumbnail: np.ndarray
    faces: list[Face] | None = None
    lying: Sequence[Face] = ()
    expected: Sequence[Face] | None = None


def is_key(index: int) -> bool:
    """Whether a frame is looked at whole whatever the others show."""
    return index % KEY_EVERY == 0


def is_cut(before: SeenFrame, after: SeenFrame) -> bool:
    """Whether two frames that follow each other show different scenes."""
    return float(np.abs(after.thumbnail - before.thumbnail).mean()) > CUT


def with_expected_faces(frames: Generator[SeenFrame, None, None]) -> Generator[SeenFrame, None, None]:
    """Frames in order; those without faces get the ones that their key frames let expect. It keeps back `KEY_EVERY`."""
    window: list[SeenFrame] = []  # a frame with faces, and those after it without
    with closing(frames):
        for frame in frames:
            if frame.faces is None:
                window.append(frame)
                continue
            yield from _filled(window, frame)
            window = [frame]
    yield from window


def _filled(window: Sequence[SeenFrame], end: SeenFrame) -> Iterator[SeenFrame]:
    """A window with the faces that its first frame and the one after it let expect."""
    row = [*window, end]
    whole = not window or window[0].faces is None or any(is_cut(*pair) for pair in pairwise(row))
    pairs = None if whole else _matched(window[0].faces or [], end.faces or [])
    for place, one in enumerate(window):
        if one.faces is not None or pairs is None:
            yield one
        else:
            yield replace(one, expected=[_interpolated(*pair, place / len(window)) for pair in pairs])


def _matched(before: Sequence[Face], after: Sequence[Face]) -> list[tuple[Face, Face]] | None:
    """Each face of a key frame with itself in the next; None where they do not show the same faces."""
    apart = np.array([[_distance(one, other) for other in after] for one in before]).reshape(len(before), len(after))
    pairs = greedy_matching(apart, MOVES)
    if not len(before) == len(after) == len(pairs):
        return None
    return [(before[row], after[column]) for column, row in sorted(pairs.items())]


def _distance(one: Face, other: Face) -> float:
    """How far two faces are apart in units of the smaller one's size; infinite where sizes differ too much."""
    sizes = size_of(one), size_of(other)
    if max(sizes) > GROWTH * min(sizes):
        return np.inf
    return float(np.hypot(*(one.centre - other.centre))) / min(sizes)


def _interpolated(before: Face, after: Face, part: float) -> Face:
    """Where a face is expected between two places of it; ``part``: 0 at the first, 1 at the second."""
    box, landmarks = (
        (1.0 - part) * np.asarray(a) + part * np.asarray(b)
        for a, b in ((before.box, after.box), (before.landmarks, after.landmarks))
    )
    left, top, width, height = map(float, box)
    return replace(before, box=(left, top, width, height), landmarks=landmarks)


def detect_faces(
    detector: Detector, picture: UInt8[np.ndarray, "h w 3"], expected: Sequence[Face] | None = None
) -> list[Face]:
    """The upright faces of a frame, each seen by itself, so that all frames show it in one size.

    Args:
      detector: looks.
      picture: uint8 RGB [H, W, 3].
      expected: where they are; None, and where one of them is not there: they are looked for in the whole frame.
    """
    if expected is not None and len(expected) <= MOST:
        there = [face for face in detect_in_crops(detector, picture, expected) if face is not None]
        if len(non_maximum_suppression(there)) == len(expected):
            return there
    faces = detector.look(picture)
    if len(faces) > MOST:
        return faces
    closer = detect_in_crops(detector, picture, faces)
    refined = (new if new is not None and iou(new, old) > OVERLAP else old for new, old in zip(closer, faces))
    return non_maximum_suppression(refined)


def detect_in_crops(
    detector: Detector, picture: UInt8[np.ndarray, "h w 3"], faces: Sequence[Face]
) -> list[Face | None]:
    """Faces of a picture [H, W, 3], each looked at in a crop about where it is expected; None: it is not there."""
    if not faces:
        return []
    return views(detector.glance, picture, [(face, 0.0) for face in faces], CLOSE_TILE)

"""Where the faces of a photo are: YuNet through OpenCV, or SCRFD in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from simswap_jax.faces.direction import directed
from simswap_jax.faces.face import (
    MOSTLY,
    OVERLAP,
    inside,
    iou,
    non_maximum_suppression,
    shifted,
    size_of,
    without_ghosts,
)
from simswap_jax.faces.face import Face as Face  # its home for callers

SIDES = (1280, 640, 320)  # the longer side of what YuNet sees; it splits faces over about 600 pixels into several boxes
LARGE = 200.0  # pixels in the first of these looks; the later ones count for faces as wide, and err on smaller ones
LYING_SIDE = 640  # the longer side at which faces that lie on their side or upside down are looked for
SEEN = 2  # directions in which what only a turned photo shows must be seen: a hand was in one, faces are in five
SHRUNK = 1.25  # times smaller than the photo, from which a look misses small faces, so that tiles are looked at too
SMALL = 40.0  # pixels in a look at the whole photo, up to which a face counts that was found in a tile


@runtime_checkable
class Detector(Protocol):
    """Whatever finds faces.

    Attributes:
      side: the longer side, in pixels, of what it sees of a large photo at first.
    """

    side: int

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of a photo, uint8 RGB [H, W, 3], the most confident first, whichever way up and however small."""

    def look(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """As `detect`, but quickly: tilted faces get wrong landmarks or are missed, and so are small ones."""

    def glance(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """A single look at a picture as it is."""


def find_all(detector: Detector, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
    """What `Detector.detect` gives: upright faces, those that lie, and small ones, each in its own direction."""
    faces = [directed(detector.glance, photo, face) or face for face in detector.look(photo)]
    more = [(face, SEEN) for face in lying(detector, photo)] + [(face, 1) for face in small(detector, photo)]
    for face, least in more:
        rivals = [other for other in faces if iou(face, other) > OVERLAP or inside(face, other) > MOSTLY]
        if any(other.direction_known for other in rivals):
            continue
        again = directed(detector.glance, photo, face, least)
        if again is not None and (again.direction_known or not rivals):  # a doubtful one gives way to a sure one
            faces = [other for other in faces if all(other is not rival for rival in rivals)] + [again]
    return without_ghosts(non_maximum_suppression(faces))


def lying(detector: Detector, photo: UInt8[np.ndarray, "h w 3"]) -> Iterator[Face]:
    """Faces of a photo that are seen when it is turned by quarters; upright ones among them, with wrong landmarks."""
    height, width = photo.shape[:2]
    scale = min(1.0, LYING_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = photo if scale == 1.0 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    for quarters in (1, 2, 3):
        for face in detector.glance(np.ascontiguousarray(np.rot90(picture, quarters))):
            yield _scaled(_turned(face, quarters, size), width / size[0], height / size[1])


def small(detector: Detector, photo: UInt8[np.ndarray, "h w 3"]) -> Iterator[Face]:
    """Faces of a large photo that are too small to be seen in the whole: looked for in tiles that overlap."""
    height, width = photo.shape[:2]
    shrunk = max(height, width) / detector.side
    if shrunk < SHRUNK:
        return
    shared = round(1.5 * SMALL * shrunk)
    for rows in _stretches(height, detector.side + shared, shared):
        for columns in _stretches(width, detector.side + shared, shared):
            for face in detector.glance(np.ascontiguousarray(photo[rows, columns])):
                if size_of(face) <= SMALL * shrunk:
                    yield shifted(face, columns.start, rows.start)


class FaceDetector:
    """Finds faces and their five landmarks.

    Not for several threads at once: OpenCV's detector keeps its buffers.

    Attributes:
      failed: sentence → what is raised where the network fails on a picture, as one that is no real YuNet may.
    """

    failed: Callable[[str], Exception] = ValueError

    def __init__(self, model: str | Path, threshold: float = 0.6, sides: Sequence[int] = SIDES) -> None:
        """Load YuNet.

        Args:
          model: its ONNX file.
          threshold: the least confidence of a face.
          sides: the longer side of what it sees of a photo, in pixels, for each look; smaller photos as they are.

        Raises:
          ValueError: the file is missing or no YuNet.
        """
        if not Path(model).is_file():
            raise ValueError(f"there is no face detector {model}; name YuNet's ONNX file.")
        self._sides, self.side = sides, max(sides)
        # OpenCV 5 prints a warning about its own choice of engine for every network that it loads.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), threshold, OVERLAP)
            self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ValueError(f"{model} is not YuNet for OpenCV's FaceDetectorYN; name YuNet's ONNX file.") from error
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of a photo, uint8 RGB [H, W, 3], the most confident first, whichever way up and however small."""
        return find_all(self, photo)

    def look(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The upright faces of a photo, uint8 RGB [H, W, 3], the most confident first.

        It is looked at in several sizes, because YuNet tears large faces into pieces; of what is found twice, the
        more confident stays.
        """
        longest = max(photo.shape[:2])
        first, *later = sorted({min(1.0, side / longest) for side in self._sides}, reverse=True)
        again = (face for scale in later for face in self._look(photo, scale))
        large = (face for face in again if face.box[2] * first >= LARGE)
        return non_maximum_suppression([*self._look(photo, first), *large])

    def glance(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The upright faces of a picture, uint8 RGB [H, W, 3], looked at once, as it is."""
        return self._look(picture, 1.0)

    def _look(self, photo: np.ndarray, scale: float) -> list[Face]:
        """The faces of a photo seen at ``scale`` (1: as it is)."""
        height, width = photo.shape[:2]
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = photo if scale == 1.0 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        self._network.setInputSize(size)
        try:
            _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            sentence = f"the face detector fails on {size[0]}×{size[1]} pixels; name YuNet's ONNX file."
            raise self.failed(sentence) from error
        back = np.array([width / size[0], height / size[1]])
        return [] if rows is None else [face for face in (_face(row, back) for row in rows) if is_spread(face)]


def _stretches(length: int, side: int, shared: int) -> list[slice]:
    """A length in as few equal stretches as none is longer than ``side``; neighbours share a part at least."""
    count = max(1, -(-(length - shared) // max(side - shared, 1)))
    each = -(-(length + (count - 1) * shared) // count)
    starts = [round(i * (length - each) / max(count - 1, 1)) for i in range(count)]
    return [slice(start, start + each) for start in starts]


def _turned(face: Face, quarters: int, size: tuple[int, int]) -> Face:
    """A face of a picture turned by quarters (as ``np.rot90`` does), in the picture of ``size`` (width, height)."""
    (left, top, wide, high), points = face.box, face.landmarks
    for turn in range(quarters):
        # Back by one: a column of what is turned is a row, counted from the other end.
        length = size[0] if (quarters - turn) % 2 else size[1]
        left, top, wide, high = length - top - high, left, high, wide
        points = np.column_stack([length - 1.0 - points[:, 1], points[:, 0]])
    return replace(face, box=(left, top, wide, high), landmarks=points)


def _scaled(face: Face, x: float, y: float) -> Face:
    left, top, width, height = face.box
    landmarks = (face.landmarks + 0.5) * (x, y) - 0.5
    return replace(face, box=(left * x, top * y, width * x, height * y), landmarks=landmarks)


def is_spread(face: Face) -> bool:
    """Whether landmarks are finite and not all on one point: what else a network answers is no face."""
    return bool(np.isfinite(face.landmarks).all() and np.ptp(face.landmarks, axis=0).max() > 1e-3)


def _face(row: np.ndarray, back: np.ndarray) -> Face:
    """A row of YuNet's answer (box, five landmarks, score) as a face; ``back``: to the photo's pixels, x and y.

    Landmarks are pixel centres, so that a picture of another size has them half a pixel elsewhere.
    """
    values: np.ndarray = row.astype(np.float64)
    left, top, width, height = values[:4] * np.tile(back, 2)
    landmarks = (values[4:14].reshape(5, 2) + 0.5) * back - 0.5
    return Face((left, top, width, height), landmarks, float(values[14]))


SIDE = 640  # pixels of the square that the network sees
STRIDES = (8, 16, 32)
ANCHORS = 2  # in each place of a map


class ScrfdDetector:
    """Finds faces and their five landmarks with one of InsightFace's ``scrfd_*_bnkps`` or ``det_10g`` networks."""

    def __init__(self, run: Callable[[np.ndarray], Sequence[np.ndarray]], threshold: float = 0.5) -> None:
        """Take the network; `weights.onnx_session.scrfd` opens a file.

        Args:
          run: float32 [1, 3, SIDE, SIDE] → its outputs, of the shapes that `check_scrfd` wants.
          threshold: the least confidence of a face.
        """
        self._run, self._threshold, self.side = run, threshold, SIDE

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The faces of a photo, uint8 RGB [H, W, 3], the most confident first, whichever way up and however small."""
        return find_all(self, photo)

    def glance(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """As `look`: the network sees every picture in one square."""
        return self.look(picture)

    def look(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Face]:
        """The upright faces of a photo, uint8 RGB [H, W, 3], the most confident first."""
        height, width = photo.shape[:2]
        scale = SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        kernel = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        square: np.ndarray = np.zeros((SIDE, SIDE, 3), np.uint8)
        square[: size[1], : size[0]] = cv2.resize(photo, size, interpolation=kernel)
        blob = ((square.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None]
        maps = [one.reshape(-1, one.shape[-1]) for one in self._run(np.ascontiguousarray(blob))]
        back = np.array([width / size[0], height / size[1]])
        return non_maximum_suppression(decoded(maps, self._threshold, back))


def check_scrfd(shapes: Sequence[Sequence[int] | None]) -> None:
    """Raise ValueError unless outputs of these shapes (None: no floats) are SCRFD's for a square of `SIDE`."""
    wanted = [(ANCHORS * (SIDE // stride) ** 2, width) for width in (1, 4, 10) for stride in STRIDES]
    found = [(math.prod(shape[:-1]), shape[-1]) if shape else (0, 0) for shape in shapes]
    if found != wanted:
        raise ValueError(
            f"is no SCRFD with landmarks ({len(found)} outputs, {len(wanted)} of other sizes are wanted); "
            "name YuNet, or an SCRFD whose name has 'kps' in it."
        )


def decoded(maps: list[Float[np.ndarray, "_ _"]], threshold: float, back: Float[np.ndarray, " 2"]) -> list[Face]:
    """Faces of the network's answer.

    Args:
      maps: for the three strides scores [N, 1], then boxes [N, 4] (distances from an anchor to the left, top, right and
        bottom), then landmarks [N, 10] (offsets), both in units of the stride. N = 2 · (SIDE / stride)², row by row.
      threshold: the least score.
      back: from the square's pixels to the photo's, x and y.
    """
    faces = []
    for stride, scores, boxes, points in zip(STRIDES, maps[:3], maps[3:6], maps[6:]):
        places = SIDE // stride
        for i in np.flatnonzero(scores[:, 0] >= threshold):
            row, column = divmod(int(i) // ANCHORS, places)
            anchor = np.array([column, row], np.float64) * stride
            left_top, right_bottom = anchor - boxes[i, :2] * stride, anchor + boxes[i, 2:] * stride
            left, top = left_top * back
            width, height = (right_bottom - left_top) * back
            landmarks = (anchor + points[i].reshape(5, 2) * stride + 0.5) * back - 0.5
            box = float(left), float(top), float(width), float(height)
            faces.append(Face(box, landmarks, float(scores[i, 0])))
    return [face for face in faces if is_spread(face)]

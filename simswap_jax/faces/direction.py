"""Which way up a face is: looked at turned in eight directions at once, side by side in one picture.

Detectors know upright faces. In a tilted one they find a face too, but draw its landmarks upright across it; how sure
they are says which way up it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from simswap_jax.faces.alignment import inverse, transform
from simswap_jax.faces.face import Face, roll_of, shifted, size_of

DIRECTIONS = tuple(range(0, 360, 45))  # degrees
TILE, CLOSE_TILE = 128, 192  # pixels of the square in which a face is seen in one of eight directions, and by itself
ROOM = 2.0  # side of what a tile shows, in units of the face's size
COLUMNS = 3  # of tiles side by side
DOUBT = 0.01  # confidence by which a direction must be ahead of those that lie across it
AGREE = 0.1  # of a face's size, mean distance of landmarks that say the same
TWISTED = 10.0  # degrees that a closer look may turn a face by before it is looked at once more

# One look of a detector at a picture, uint8 RGB [H, W, 3], as it is.
Look = Callable[[UInt8[np.ndarray, "h w 3"]], list[Face]]


def directed(look: Look, photo: UInt8[np.ndarray, "h w 3"], face: Face, least: int = 1) -> Face | None:
    """A face whose place is known with the landmarks that it has in its own direction.

    Args:
      look: of a detector.
      photo: uint8 RGB [H, W, 3].
      face: found in any direction; box and landmarks may be those of an upright face.
      least: in how many of the eight directions it must be seen.

    Returns:
      The very face where it is upright and its landmarks are right; else that of a closer look. Its
      ``direction_known`` is false where two directions are about as sure. None where too few directions show a face.
    """
    seen = views(look, photo, [(face, angle) for angle in DIRECTIONS])
    scores = np.array([0.0 if one is None else one.score for one in seen])
    best = int(np.argmax(scores))
    found = seen[best]
    if found is None or np.count_nonzero(scores) < least:
        return None
    if agree(face, found):
        return face
    across = max(np.roll(scores, -best)[2:-1])
    sure = closer(look, photo, found) if scores[best] - across >= DOUBT else None
    return sure or replace(face, direction_known=False)


def closer(look: Look, photo: UInt8[np.ndarray, "h w 3"], face: Face) -> Face | None:
    """A face seen once more by itself, turned upright by its own landmarks: uint8 RGB [H, W, 3]; None: it is not."""
    for _ in range(3):
        tilt = roll_of(face.landmarks)
        (found,) = views(look, photo, [(face, tilt)], CLOSE_TILE)
        if found is None:
            return None
        if abs((roll_of(found.landmarks) - tilt + 180.0) % 360.0 - 180.0) < TWISTED:
            return found
        face = found
    return None


def agree(one: Face, other: Face) -> bool:
    """Whether the landmarks of two sightings of a face lie on the same places."""
    apart = np.linalg.norm(one.landmarks - other.landmarks, axis=1).mean()
    return bool(apart < AGREE * min(size_of(one), size_of(other)))


def views(
    look: Look, photo: UInt8[np.ndarray, "h w 3"], wanted: Sequence[tuple[Face, float]], tile: int = TILE
) -> list[Face | None]:
    """Faces as a detector sees each by itself, its neighbourhood turned back by an angle.

    Args:
      look: of the detector; it sees all of them in one picture.
      photo: uint8 RGB [H, W, 3].
      wanted: where to look and how large the face is about, and by which angle to turn: degrees, clockwise.
      tile: side of each view in pixels.

    Returns:
      For each the surest face there, in the photo's pixels; None: there is none of about that size.
    """
    matrices = [_turned_back(face, angle, tile) for face, angle in wanted]
    columns = min(COLUMNS, len(wanted))
    seen: list[Face | None] = [None] * len(wanted)
    for one in look(_side_by_side(photo, wanted, matrices, tile)):
        column, row = (one.centre // tile).astype(int)
        i = row * columns + column
        if not (0 <= column < columns and 0 <= i < len(wanted)):
            continue
        own = shifted(one, -tile * column, -tile * row)
        before_it = seen[i]
        if _is_meant(own, tile) and (before_it is None or own.score > before_it.score):
            seen[i] = own
    return [
        None if one is None else _back(one, matrix, angle) for one, matrix, (_, angle) in zip(seen, matrices, wanted)
    ]


def _side_by_side(
    photo: np.ndarray, wanted: Sequence[tuple[Face, float]], matrices: Sequence[np.ndarray], tile: int
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of all views: `COLUMNS` squares of a tile in a row at most."""
    columns = min(COLUMNS, len(wanted))
    picture: np.ndarray = np.zeros((-(-len(wanted) // columns) * tile, columns * tile, 3), np.uint8)
    places: dict[int, tuple[np.ndarray, Float[np.ndarray, "2 3"]]] = {}  # by face: its neighbourhood
    for i, ((face, _), matrix) in enumerate(zip(wanted, matrices)):
        if id(face) not in places:
            places[id(face)] = _neighbourhood(photo, face, tile)
        source, before = places[id(face)]
        top, left = (tile * place for place in divmod(i, columns))
        picture[top : top + tile, left : left + tile] = cv2.warpAffine(
            source,
            _after(matrix, inverse(before)),
            (tile, tile),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return picture


def _turned_back(face: Face, angle: float, tile: int) -> Float[np.ndarray, "2 3"]:
    """The photo's pixels → a tile's, in whose middle the face is, turned back by an angle."""
    scale = tile / (ROOM * size_of(face))
    cosine, sine = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    matrix = np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0]])
    matrix[:, 2] = tile / 2 - matrix[:, :2] @ face.centre
    return matrix


def _neighbourhood(photo: np.ndarray, face: Face, tile: int) -> tuple[np.ndarray, Float[np.ndarray, "2 3"]]:
    """What a tile can show of a photo, shrunk to about its scale, and the matrix from the photo's pixels to it."""
    reach = ROOM * size_of(face) * 0.75 + 2
    scale = min(1.0, tile / (ROOM * size_of(face)))
    height, width = photo.shape[:2]
    left, top = np.clip(np.floor(face.centre - reach), 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(np.ceil(face.centre + reach), (left + 1, top + 1), (width, height)).astype(int)
    part = photo[top:bottom, left:right]
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    x, y = size[0] / part.shape[1], size[1] / part.shape[0]
    small = part if scale == 1.0 else cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # Edges meet, not centres of pixels.
    return small, np.array([[x, 0.0, 0.5 * x - 0.5 - left * x], [0.0, y, 0.5 * y - 0.5 - top * y]])


def _after(second: np.ndarray, first: np.ndarray) -> Float[np.ndarray, "2 3"]:
    """The matrix [2, 3] of one mapping after another."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _is_meant(face: Face, tile: int) -> bool:
    """Whether a face of a tile is the one in its middle."""
    size = tile / ROOM
    near = np.hypot(*(face.centre - tile / 2)) < 0.5 * size
    return bool(near and 0.5 < size_of(face) / size < 2.0)


def _back(face: Face, matrix: np.ndarray, angle: float) -> Face:
    """A face of a tile in the photo's pixels; the sides of its box change places where it lies across."""
    back = inverse(matrix)
    scale = float(np.hypot(back[0, 0], back[1, 0]))
    width, height = (scale * side for side in face.box[2:])
    if round(angle / 90.0) % 2:
        width, height = height, width
    x, y = transform(back, face.centre[None])[0]
    return replace(face, box=(x - width / 2, y - height / 2, width, height), landmarks=transform(back, face.landmarks))

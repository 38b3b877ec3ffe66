"""Where the landmarks of a rendered face are: the renderer's own geometry, the other way round."""

from collections.abc import Sequence

import numpy as np

from simswap_jax.contrib.rendered.dataset import Labels, read_labels
from simswap_jax.contrib.rendered.face_parameters import ATTRIBUTES, PERSON, pose
from simswap_jax.contrib.rendered.renderer import ZOOM
from simswap_jax.data.landmarks import with_mirrors
from simswap_jax.evaluation.geometry import KnownGeometry

Values = dict[str, np.ndarray]  # name → [B]
RIM = 0.55  # of the face's map: the points of the cheeks and the chin, which no pose that is drawn turns out of sight
RIM_ANGLES = np.deg2rad(np.arange(0.0, 181.0, 22.5))  # from the picture's right over the chin to its left
NOSE_OUT = 0.20  # how far the tip stands out of the face
# Which of `landmarks` the usual five are the means of: eyes, tip of the nose, corners of the mouth.
FIVE = ((0,), (1,), (2,), (3,), (4,))
# For each of `landmarks` of a mirrored picture, which one it was.
MIRRORED = (
    1, 0, 2, 4, 3, 9, 10, 11, 12, 5, 6, 7, 8, 16, 17, 18, 13, 14, 15, 19, 21, 20, 24, 23, 22, 27, 26, 25, 28, 29,
    *range(38, 29, -1),
)  # fmt: skip


def landmarks(people: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Landmarks of rendered faces; those that the head hides are where they would be seen through it.

    Args:
      people: float [B, PERSON_SIZE].
      attributes: float [B, ATTRIBUTE_SIZE].

    Returns:
      float64 [B, 39, 2] in sides of the picture: the centres of the eyes, tip of the nose, corners of the mouth; then
      corners and lids of the eyes, brows, root and wings of the nose, lips, and the face's rim from cheek to cheek.
    """
    p = dict(zip(PERSON, np.asarray(people, np.float64).T))
    a = dict(zip(ATTRIBUTES, np.asarray(attributes, np.float64).T))
    width, above = _lerp(0.54, 0.62, p["face_width"]), _lerp(0.70, 0.78, p["face_length"]) * 0.96
    s, t = np.moveaxis(np.stack([*_features(p, a, above), *_rim(width, above)], axis=1), 2, 0)
    return _drawn(s, t, (width, above), p, a)


def _lerp(low: float, high: float, slider: np.ndarray) -> np.ndarray:
    return low + (high - low) * slider


def _points(*pairs: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """(s, t) → [B, 2] each."""
    return [np.stack(np.broadcast_arrays(s, t), axis=1) for s, t in pairs]


def _features(p: Values, a: Values, above: np.ndarray) -> list[np.ndarray]:
    """Points of the map of `face_features.Face`, [B, 2] each: the usual five first."""
    eye_x, eye_y = _lerp(0.205, 0.300, p["eye_distance"]), -0.10 * above
    mouth_y = above * _lerp(0.52, 0.58, p["mouth_height"])
    mouth = _mouth(p, a, mouth_y)
    nose = _nose(p, a, eye_y, mouth_y)
    centres = _points((-eye_x, eye_y), (eye_x, eye_y))
    return [
        *centres,
        nose[0],
        *mouth[:2],
        *_eyes(p, a, eye_x, eye_y),
        *_brows(p, a, eye_x, eye_y),
        *nose[1:],
        *mouth[2:],
    ]


def _mouth(p: Values, a: Values, mouth_y: np.ndarray) -> list[np.ndarray]:
    """Both corners; then along the upper and the lower lip's outer edge, and the middle of the opening's edges."""
    half = _lerp(0.20, 0.31, p["mouth_width"]) * (1 + 0.18 * a["smile"] - 0.12 * a["mouth_open"])
    full, gap = _lerp(0.065, 0.135, p["lip_fullness"]), 0.15 * a["mouth_open"]

    def line(x: float) -> np.ndarray:
        return mouth_y + a["smile"] * 0.085 * (0.45 - x * x) + a["mouth_skew"] * 0.04 * x

    def lip(x: float, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        arch, bow = 1 - x * x, 0.65 if x == 0 else 1.0
        edge = -(gap * arch * 0.35 + full * arch * bow) if upper else gap * arch * 0.65 + full * 1.25 * arch
        return half * x, line(x) + edge

    edges = [lip(x, upper) for upper in (True, False) for x in (-0.5, 0.0, 0.5)]
    opening = [(0 * half, line(0) - 0.35 * gap), (0 * half, line(0) + 0.65 * gap)]
    return _points((-half, line(-1)), (half, line(1)), *edges, *opening)


def _nose(p: Values, a: Values, eye_y: np.ndarray, mouth_y: np.ndarray) -> list[np.ndarray]:
    """Tip, which moves as the head turns, root and wings."""
    top, half = eye_y + 0.02, _lerp(0.060, 0.150, p["nose_width"])
    tip = top + (mouth_y - 0.18 - top) * _lerp(0.52, 0.92, p["nose_length"])
    yaw, pitch = np.deg2rad(a["yaw"]), np.deg2rad(a["pitch"])
    s, t = NOSE_OUT * np.tan(yaw), tip - NOSE_OUT * np.tan(pitch)
    return _points((s, t), (0 * s, top), (s - half, t), (s + half, t))


def _eyes(p: Values, a: Values, eye_x: np.ndarray, eye_y: np.ndarray) -> list[np.ndarray]:
    """Of each eye both corners and the middles of both lids."""
    half = _lerp(0.110, 0.170, p["eye_size"])
    tall, tilt = half * _lerp(0.42, 0.85, p["eye_roundness"]), _lerp(-0.22, 0.40, p["eye_tilt"])
    found = []
    for side, close in ((-1, a["eye_close_left"]), (1, a["eye_close_right"])):
        lid = np.minimum(-tall * (1 - 1.6 * close), 0.75 * tall)
        corners = [(side * (eye_x + out * half), eye_y - out * half * tilt) for out in (-1, 1)]
        found += _points(*corners, (side * eye_x, eye_y + lid), (side * eye_x, eye_y + 0.75 * tall))
    return found


def _brows(p: Values, a: Values, eye_x: np.ndarray, eye_y: np.ndarray) -> list[np.ndarray]:
    """Of each brow its ends and its middle."""
    found = []
    for side, raised in ((-1, a["brow_raise_left"]), (1, a["brow_raise_right"])):
        for out in (-1.0, 0.0, 1.0):
            line = eye_y - _lerp(0.215, 0.295, p["brow_height"]) - 0.075 * raised
            line = line - _lerp(0.0, 0.085, p["brow_arch"]) * (1 - out * out)
            line = line - _lerp(-0.35, 0.35, p["brow_tilt"]) * 0.165 * out
            found += _points((side * (eye_x + 0.01 + 0.165 * out), line))
    return found


def _rim(width: np.ndarray, above: np.ndarray) -> list[np.ndarray]:
    """Cheek, jaw, chin, jaw and cheek."""
    return _points(*((2 * width * RIM * np.cos(at), 2 * above * RIM * np.sin(at)) for at in RIM_ANGLES))


def _drawn(s: np.ndarray, t: np.ndarray, scales: tuple[np.ndarray, np.ndarray], p: Values, a: Values) -> np.ndarray:
    """Points of the face's map, [B, P] each, in the picture: [B, P, 2] in its sides; the steps of `renderer` back."""
    p = {name: values[:, None] for name, values in p.items()}
    a = {name: values[:, None] for name, values in a.items()}
    width, above = (scale[:, None] for scale in scales)
    x, y = s / (2 * width), t / (2 * above)  # stereographic → the unit sphere
    square = x * x + y * y
    x, y, z = 2 * x / (1 + square), 2 * y / (1 + square), (1 - square) / (1 + square)
    yaw, pitch, roll = (np.deg2rad(a[name]) for name in ("yaw", "pitch", "roll"))
    x, z = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    y = y * np.cos(pitch) - z * np.sin(pitch)
    length = _lerp(0.70, 0.78, p["face_length"])
    low = np.clip(y, 0, 1)
    x = x * width * (1 + _lerp(-0.30, 0.10, p["jaw_width"]) * low * low)
    y = y * np.where(y > 0, length + 0.06 * a["mouth_open"], above) + 0.03
    u = (x * np.cos(roll) - y * np.sin(roll)) * a["scale"] * ZOOM + a["shift_x"]
    v = (x * np.sin(roll) + y * np.cos(roll)) * a["scale"] * ZOOM + a["shift_y"]
    return (np.stack([u, v], axis=2) + 1) / 2


def geometry_of(labels: Labels) -> KnownGeometry:
    """What is known of the pictures of a folder of rendered people."""

    def rows(names: Sequence[str]) -> list[int]:
        return [labels.row(name) for name in names]

    return KnownGeometry(
        landmarks=lambda names: landmarks(labels.people[labels.person[rows(names)]], labels.attributes[rows(names)]),
        five=FIVE,
        angles=lambda names: pose(labels.attributes[rows(names)]),
    )


def of_files(root: str, files: Sequence[str]) -> np.ndarray:
    """Landmarks of a folder of rendered people, for ``config.generator.landmarks``.

    Args:
      root: the folder.
      files: ``person/picture.png`` of each picture.

    Returns:
      float32 [N, 2, 39, 2], of the pictures and of their mirrors.

    Raises:
      UserError: the folder holds no rendered people.
    """
    labels = read_labels(root)
    rows = [labels.row(file) for file in files]
    return with_mirrors(landmarks(labels.people[labels.person[rows]], labels.attributes[rows]), MIRRORED)

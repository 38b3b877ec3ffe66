"""What is painted on a rendered face: eyes, brows, nose, mouth, beard, glasses, marks, as masks and colours.

Each function returns layers in painting order. A layer is a coverage plane in [0, 1] and a colour. Distances are in
picture units (the picture's short side is 2), negative inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp

Plane: TypeAlias = jax.Array  # [H, W]
Colour = tuple[jax.Array, ...]  # red, green, blue: planes or scalars in [0, 1]
Layer = tuple[Plane, Colour]
Parameters = dict[str, jax.Array]

_IRIS = (
    (0.20, 0.11, 0.06),
    (0.42, 0.24, 0.10),
    (0.40, 0.50, 0.16),
    (0.12, 0.55, 0.42),
    (0.15, 0.45, 0.82),
    (0.55, 0.65, 0.72),
)
# Lips and brows differ from person to person as much as make-up can: so that they say whose face it is.
_LIPS = ((1.00, 0.70, 0.66), (0.92, 0.30, 0.36), (0.82, 0.04, 0.10), (0.46, 0.04, 0.34), (0.24, 0.09, 0.07))
_BROWS = ((0.07, 0.05, 0.05), (0.34, 0.18, 0.09), (0.66, 0.22, 0.07), (0.90, 0.70, 0.32), (0.95, 0.93, 0.90))
_GLASSES = ((0.08, 0.08, 0.10), (0.40, 0.20, 0.08), (0.75, 0.12, 0.14), (0.12, 0.25, 0.65), (0.85, 0.68, 0.25))


@dataclass(frozen=True)
class Face:
    """The map of the face that features are painted on, and what they need to know of the rest.

    `s`, `t` [H, W]: to the picture's right and down from the face's centre, in picture units at that centre. `pixel`
    [H, W]: a pixel's width there. `turn_x`, `turn_y`: how far a point that stands out of the face moves, per unit.
    """

    s: Plane
    t: Plane
    pixel: Plane
    width: jax.Array
    length: jax.Array
    turn_x: jax.Array
    turn_y: jax.Array
    light_x: jax.Array
    skin: Colour
    hair: Colour


def lerp(low: float, high: float, slider: jax.Array) -> jax.Array:
    """From `low` at 0 to `high` at 1."""
    return low + (high - low) * slider


def cover(distance: Plane, pixel: Plane | jax.Array | float) -> Plane:
    """How much of a pixel lies inside a shape whose edge is `distance` away (negative inside): [0, 1]."""
    return jnp.clip(0.5 - distance / pixel, 0, 1)


def palette(colours: Sequence[tuple[float, float, float]], slider: jax.Array) -> Colour:
    """The colour at `slider` in [0, 1] along a row of colours, linear between neighbours."""
    steps = jnp.linspace(0, 1, len(colours))
    return tuple(jnp.interp(slider, steps, jnp.asarray(channel)) for channel in zip(*colours, strict=True))


def blend(one: Colour, two: Colour, amount: jax.Array | float) -> Colour:
    """`one` at amount 0, `two` at 1."""
    return tuple(a + (b - a) * amount for a, b in zip(one, two, strict=True))


def times(colour: Colour, factor: float) -> Colour:
    """A darker or lighter colour."""
    return tuple(channel * factor for channel in colour)


def grey(value: float) -> Colour:
    """A neutral colour."""
    return (jnp.asarray(value),) * 3


def features(face: Face, p: Parameters, a: Parameters) -> list[Layer]:
    """All that is painted on the skin of a person `p` in a picture with attributes `a`, in painting order."""
    eye_x, eye_y = lerp(0.205, 0.300, p["eye_distance"]), face.length * -0.10
    mouth_y = face.length * lerp(0.52, 0.58, p["mouth_height"])
    return [
        *_ears(face, p),
        *_marks(face, p, eye_y),
        *_beard(face, p, a, mouth_y),
        *_mouth(face, p, a, mouth_y),
        *_nose(face, p, eye_y, mouth_y),
        *_eyes(face, p, a, eye_x, eye_y),
        *_brows(face, p, a, eye_x, eye_y),
        *_glasses(face, p, eye_x, eye_y),
    ]


def _ears(face: Face, p: Parameters) -> list[Layer]:
    """The ear that a turned head shows: it lies where the map's scale is 2."""
    radius = 2 * lerp(0.10, 0.18, p["ear_size"])
    x, y = (jnp.abs(face.s) - 2 * face.width) / 0.6, face.t - 0.04
    ear = jnp.sqrt(x * x + y * y + 1e-6)
    return [
        (cover(ear - radius, face.pixel), times(face.skin, 0.86)),
        (cover(ear - radius * 0.78, face.pixel), times(face.skin, 0.95)),
        (cover(ear - radius * 0.40, face.pixel), times(face.skin, 0.72)),
    ]


def _marks(face: Face, p: Parameters, eye_y: jax.Array) -> list[Layer]:
    cheek_x, cheek_y = jnp.abs(face.s) - 0.30, face.t - eye_y - 0.27
    near = jnp.clip(1 - (cheek_x**2 + cheek_y**2) / 0.028, 0, 1)
    rosy = blend(face.skin, (jnp.asarray(0.92), jnp.asarray(0.32), jnp.asarray(0.30)), 0.6)
    # Freckles: a jittered lattice of dots over the cheeks and the nose.
    dot_x, dot_y = jnp.sin(face.s * 62 + 9 * face.t), jnp.sin(face.t * 58 - 7 * face.s)
    band = jnp.clip(1.2 - jnp.abs(face.t - eye_y - 0.22) * 7, 0, 1) * jnp.clip(2.2 - jnp.abs(face.s) * 5, 0, 1)
    freckles = jnp.clip((dot_x * dot_y - 0.45) * 2.2, 0, 1) * band * p["freckles_amount"]
    mole_x, mole_y = lerp(-0.36, 0.36, p["mole_x"]), lerp(0.12, 0.60, p["mole_y"])
    mole = jnp.sqrt((face.s - mole_x) ** 2 + (face.t - mole_y) ** 2 + 1e-8) - lerp(0.030, 0.065, p["mole_amount"])
    return [
        (near * p["blush_amount"] * 0.7, rosy),
        (freckles * 0.8, blend(times(face.skin, 0.55), (jnp.asarray(0.5), jnp.asarray(0.22), jnp.asarray(0.08)), 0.4)),
        (cover(mole, face.pixel) * (p["mole_amount"] > 0), times(face.skin, 0.30)),
    ]


def _beard(face: Face, p: Parameters, a: Parameters, mouth_y: jax.Array) -> list[Layer]:
    colour = times(face.hair, 0.85)
    side = jnp.abs(face.s)
    # A beard rises along the cheeks; how far depends on the person.
    edge = mouth_y + lerp(0.17, -0.05, p["beard_amount"]) - side * side * 0.9
    beard = jnp.clip((face.t - edge) / (face.pixel + 0.05), 0, 1) * (p["beard_amount"] > 0)
    half = lerp(0.12, 0.24, p["moustache_amount"])
    line = mouth_y - 0.14 - 0.05 * a["mouth_open"] + 0.9 * side * side
    moustache = jnp.maximum(jnp.abs(face.t - line) - 0.05 * jnp.clip(1.25 - side / half, 0, 1), side - half)
    return [
        (beard * lerp(0.80, 0.97, p["beard_amount"]), colour),
        (cover(moustache, face.pixel) * (p["moustache_amount"] > 0), colour),
    ]


def _mouth(face: Face, p: Parameters, a: Parameters, mouth_y: jax.Array) -> list[Layer]:
    half = lerp(0.20, 0.31, p["mouth_width"]) * (1 + 0.18 * a["smile"] - 0.12 * a["mouth_open"])
    full = lerp(0.065, 0.135, p["lip_fullness"])
    x = face.s / half
    arch = jnp.maximum(1 - x * x, 0)
    line = mouth_y + a["smile"] * 0.085 * (0.45 - x * x) + a["mouth_skew"] * 0.04 * x
    down = face.t - line
    gap = 0.15 * a["mouth_open"] * arch
    bow = 1 - 0.35 * jnp.clip(1 - jnp.abs(x) * 4, 0, 1)
    upper, lower = -(gap * 0.35 + full * arch * bow), gap * 0.65 + full * 1.25 * arch
    edge = jnp.abs(face.s) - half
    lips = jnp.maximum(jnp.maximum(upper - down, down - lower), edge)
    opening = jnp.maximum(jnp.maximum(-gap * 0.35 - down, down - gap * 0.65), edge)
    seam = jnp.maximum(jnp.abs(down) - 0.011, edge + 0.01)
    teeth = jnp.maximum(opening, down + gap * 0.35 - 0.045)
    tongue = jnp.maximum(opening, 0.085 + 0.25 * x * x * half - down)
    inside = (jnp.asarray(0.28), jnp.asarray(0.06), jnp.asarray(0.08))
    lip = blend(palette(_LIPS, p["lip_colour"]), face.skin, 0.10)
    is_open = jnp.clip(a["mouth_open"] * 8, 0, 1)
    return [
        (cover(lips, face.pixel), lip),
        (cover(seam, face.pixel), times(lip, 0.5)),
        (cover(opening, face.pixel) * is_open, inside),
        (cover(tongue, face.pixel) * is_open, (jnp.asarray(0.80), jnp.asarray(0.36), jnp.asarray(0.38))),
        (cover(teeth, face.pixel) * is_open, grey(0.96)),
    ]


def _nose(face: Face, p: Parameters, eye_y: jax.Array, mouth_y: jax.Array) -> list[Layer]:
    top, half = eye_y + 0.02, lerp(0.060, 0.150, p["nose_width"])
    tip = top + (mouth_y - 0.18 - top) * lerp(0.52, 0.92, p["nose_length"])
    # The nose stands out of the face: turning moves its tip, not its root.
    along = jnp.clip((face.t - top) / (tip - top), 0, 1)
    out = 0.20 * along
    s, t = face.s - out * face.turn_x, face.t - out * face.turn_y
    bulge = half * (0.35 + 0.65 * along * along)
    across = s / bulge
    ridge = (
        jnp.clip(1.3 - across * across, 0, 1) * jnp.clip((tip + 0.05 - t) * 12, 0, 1) * jnp.clip((t - top) * 8, 0, 1)
    )
    # One side in light, the other in shade.
    sided = jnp.clip(0.5 + across * 0.8 * jnp.where(face.light_x > 0, 1.0, -1.0), 0, 1)
    under = jnp.sqrt((s / (half * 1.05)) ** 2 + ((t - tip) / 0.06) ** 2 + 1e-6) - 1
    shadow = jnp.clip(1 - jnp.abs(under) * 3.0, 0, 1) * jnp.clip((t - tip + 0.02) * 30, 0, 1)
    nostril = jnp.sqrt(((jnp.abs(s) - half * 0.52) / 0.030) ** 2 + ((t - tip - 0.012) / 0.020) ** 2 + 1e-6) - 1
    ball = jnp.clip(1.15 - ((s / (half * 0.8)) ** 2 + ((t - tip + 0.035) / 0.055) ** 2), 0, 1)
    return [
        (ridge * (1 - sided) * 0.55, times(face.skin, 0.70)),
        (ridge * sided * 0.45, blend(face.skin, grey(1.0), 0.35)),
        (shadow * 0.75, times(face.skin, 0.60)),
        (cover(nostril * 0.022, face.pixel) * 0.85, times(face.skin, 0.35)),
        (ball * 0.35, blend(face.skin, grey(1.0), 0.5)),
    ]


def _eyes(face: Face, p: Parameters, a: Parameters, eye_x: jax.Array, eye_y: jax.Array) -> list[Layer]:
    """Both eyes at once, in the folded coordinate |s|; what differs between them is chosen by the sign of s."""
    right = face.s > 0
    side = jnp.where(right, 1.0, -1.0)
    close = jnp.where(right, a["eye_close_right"], a["eye_close_left"])
    half = lerp(0.110, 0.170, p["eye_size"])
    tall = half * lerp(0.42, 0.85, p["eye_roundness"])
    dx, dy = jnp.abs(face.s) - eye_x, face.t - eye_y
    dy = dy + dx * lerp(-0.22, 0.40, p["eye_tilt"])
    across = dx / half
    arch = jnp.maximum(1 - across * across, 0)
    lid = -tall * arch * (1 - 1.6 * close)
    bottom = tall * 0.75 * arch
    lid = jnp.minimum(lid, bottom)
    edge = jnp.abs(dx) - half
    # An arch is steep at its ends: divide by its slope to get a distance.
    steep = jnp.sqrt(1 + (2 * tall * across / half) ** 2)
    white = jnp.maximum(jnp.maximum(lid - dy, dy - bottom) / steep, edge)
    radius = jnp.minimum(half * 0.56, tall * 1.05)
    iris_x = dx - side * a["gaze_x"] * half * 0.40
    iris_y = dy - a["gaze_y"] * tall * 0.35
    away = jnp.sqrt(iris_x**2 + iris_y**2 + 1e-8)
    glint = jnp.sqrt((iris_x * side + radius * 0.35) ** 2 + (iris_y + radius * 0.35) ** 2 + 1e-8) - radius * 0.26
    lash = jnp.maximum((jnp.abs(dy - lid) - 0.018) / steep, edge - 0.01)
    socket = jnp.clip(1.35 - (dx / (half * 1.25)) ** 2 - ((dy + 0.01) / (tall * 1.5)) ** 2, 0, 1)
    iris = palette(_IRIS, p["iris_colour"])
    open_eye = cover(white, face.pixel)
    return [
        (socket * 0.35, times(face.skin, 0.72)),
        (open_eye, grey(0.97)),
        (open_eye * cover(away - radius, face.pixel), iris),
        (open_eye * cover(away - radius * 0.48, face.pixel), grey(0.04)),
        (open_eye * cover(glint, face.pixel), grey(1.0)),
        (cover(lash, face.pixel), times(face.skin, 0.18)),
    ]


def _brows(face: Face, p: Parameters, a: Parameters, eye_x: jax.Array, eye_y: jax.Array) -> list[Layer]:
    raised = jnp.where(face.s > 0, a["brow_raise_right"], a["brow_raise_left"])
    half = 0.165
    dx = jnp.abs(face.s) - eye_x - 0.01
    across = dx / half
    line = eye_y - lerp(0.215, 0.295, p["brow_height"]) - 0.075 * raised
    line = line - lerp(0.0, 0.085, p["brow_arch"]) * (1 - across * across) - lerp(-0.35, 0.35, p["brow_tilt"]) * dx
    thick = lerp(0.045, 0.100, p["brow_thickness"]) * jnp.clip(1.15 - 0.45 * across, 0, 1.4)
    brow = jnp.maximum(jnp.abs(face.t - line) - thick, jnp.abs(dx) - half)
    return [(cover(brow, face.pixel), palette(_BROWS, p["brow_colour"]))]


def _glasses(face: Face, p: Parameters, eye_x: jax.Array, eye_y: jax.Array) -> list[Layer]:
    worn = p["glasses_amount"] > 0
    thick = lerp(0.016, 0.034, p["glasses_amount"])
    half, corner = 0.175, lerp(0.03, 0.165, p["glasses_roundness"])
    # Glasses stand a little before the face.
    s, t = face.s - 0.05 * face.turn_x, face.t - 0.05 * face.turn_y - eye_y - 0.01
    side = jnp.abs(s)
    box_x = jnp.maximum(jnp.abs(side - jnp.maximum(eye_x, half + 0.02)) - half + corner, 0)
    box_y = jnp.maximum(jnp.abs(t) - half * 0.95 + corner, 0)
    lens = jnp.sqrt(box_x**2 + box_y**2 + 1e-8) - corner
    bar = jnp.abs(t + 0.03) - thick * 0.8
    bridge = jnp.maximum(bar, side - jnp.maximum(eye_x - half, 0.02))
    arm = jnp.maximum(bar, jnp.maximum(eye_x, half + 0.02) + half - side)
    frame = jnp.minimum(jnp.abs(lens) - thick, jnp.minimum(bridge, arm))
    return [
        (cover(lens, face.pixel) * worn * 0.16, (jnp.asarray(0.75), jnp.asarray(0.88), jnp.asarray(1.0))),
        (cover(frame, face.pixel) * worn, palette(_GLASSES, p["glasses_colour"])),
    ]

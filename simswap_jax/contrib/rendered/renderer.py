"""Renders a face from its parameters: a vectorised signed-distance renderer on a sphere-mapped head.

Every edge is smoothed over one pixel, so the same face can be rendered at any size without supersampling.

Coordinates: x to the right, y down, z to the viewer, the picture's side from -1 to 1. The head is a unit sphere
stretched by the person's outline; features live on its stereographic map, which keeps shapes when the head turns.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.contrib.rendered.face_features import (
    Colour,
    Face,
    Layer,
    Parameters,
    Plane,
    cover,
    features,
    lerp,
    palette,
)
from simswap_jax.contrib.rendered.face_parameters import (
    ATTRIBUTE_SIZE,
    ATTRIBUTES,
    PERSON,
    PERSON_SIZE,
    sample_attributes,
    sample_people,
)
from simswap_jax.io.images import encode_png

BATCH = 64  # pictures of up to 64×64 rendered by one call of the compiled program

ZOOM = 1.10  # how much of the picture the head fills
_SKIN = ((1.00, 0.87, 0.78), (0.96, 0.77, 0.63), (0.83, 0.60, 0.44), (0.62, 0.41, 0.28), (0.38, 0.25, 0.18))
_HAIR = (
    (0.09, 0.08, 0.10),
    (0.27, 0.16, 0.10),
    (0.47, 0.28, 0.16),
    (0.66, 0.24, 0.10),
    (0.88, 0.50, 0.18),
    (0.94, 0.80, 0.48),
    (0.72, 0.72, 0.74),
    (0.93, 0.92, 0.90),
)


class _View(NamedTuple):
    """Where a pixel lies: in the picture (u, v), in the shoulders' frame and in the head's (x, y), [H, W] each."""

    u: Plane
    v: Plane
    body_x: Plane
    body_y: Plane
    x: Plane
    y: Plane
    pixel: jax.Array
    yaw: jax.Array
    pitch: jax.Array


class _Head(NamedTuple):
    """The head's outline: half-width, half-length above and below its centre, how much the jaw widens (< 0 narrows)."""

    width: jax.Array
    above: jax.Array
    below: jax.Array
    jaw: jax.Array


class _Light(NamedTuple):
    """Soft light from (x, y, z), never far from full, so that skin and hair keep their own colours."""

    x: jax.Array
    y: jax.Array
    z: jax.Array
    strength: jax.Array
    exposure: jax.Array
    tint: Colour

    def on_sphere(self, x: Plane, y: Plane, z: Plane) -> Plane:
        """How bright the sphere is where its normal is (x, y, z); a little darker towards its outline."""
        towards = x * self.x + y * self.y + z * self.z
        return self.exposure * (1 + self.strength * (towards - 0.75)) * (0.80 + 0.20 * jnp.clip(z * 2, 0, 1))

    def on_body(self, u: Plane) -> Plane:
        """How bright what is behind the face is, `u` to the picture's right."""
        return self.exposure * (1 + 0.5 * self.strength * (u * self.x + 0.2))

    def of(self, colour: Colour, brightness: Plane) -> Colour:
        """A surface's colour in this light."""
        return tuple(channel * brightness * tint for channel, tint in zip(colour, self.tint, strict=True))


def _view(a: Parameters, size: int) -> _View:
    steps = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (2 / size) - 1
    v, u = jnp.meshgrid(steps, steps, indexing="ij")
    yaw, pitch, roll = (jnp.deg2rad(a[name]) for name in ("yaw", "pitch", "roll"))
    scale = a["scale"] * ZOOM
    body_x, body_y = (u - a["shift_x"]) / scale, (v - a["shift_y"]) / scale
    x = body_x * jnp.cos(roll) + body_y * jnp.sin(roll)
    y = body_y * jnp.cos(roll) - body_x * jnp.sin(roll) - 0.03
    return _View(u, v, body_x, body_y, x, y, (2 / size) / scale, yaw, pitch)


def _head(p: Parameters, a: Parameters) -> _Head:
    length = lerp(0.70, 0.78, p["face_length"])
    return _Head(
        width=lerp(0.54, 0.62, p["face_width"]),
        above=length * 0.96,
        below=length + 0.06 * a["mouth_open"],
        jaw=lerp(-0.30, 0.10, p["jaw_width"]),
    )


def _light(a: Parameters) -> _Light:
    x, y, warmth = a["light_x"], a["light_y"], a["light_warmth"]
    tint = (1 + 0.06 * warmth, jnp.ones(()), 1 - 0.08 * warmth)
    return _Light(x, y, jnp.sqrt(1 - x * x - y * y), a["light_strength"], a["exposure"], tint)


def _skin(p: Parameters) -> Colour:
    """Tone from light to dark, hue from rosy to golden."""
    tone, hue = palette(_SKIN, p["skin_tone"]), p["skin_hue"] - 0.5
    return (tone[0] + 0.06 * hue, tone[1] - 0.02 * hue, tone[2] - 0.14 * hue)


def _sphere(x: Plane, y: Plane, head: _Head, grown: jax.Array | float) -> tuple[Plane, Plane, Plane, Plane]:
    """View coordinates on the unit sphere at each pixel, and the distance to the outline (negative inside)."""
    length = jnp.where(y > 0, head.below, head.above) * grown
    y = y / length
    low = jnp.clip(y, 0, 1)
    half = head.width * grown * (1 + head.jaw * low * low)
    x = x / half
    square = x * x + y * y
    radius = jnp.sqrt(square + 1e-6)
    # To first order the distance is r - 1 over the length of r's gradient.
    slope = jnp.sqrt((x / half) ** 2 + (y / length) ** 2 + 1e-6) / radius
    return x, y, jnp.sqrt(jnp.maximum(1 - square, 0)), (radius - 1) / slope


def _turned(x: Plane, y: Plane, z: Plane, view: _View) -> tuple[Plane, Plane, Plane]:
    """View coordinates → the head's own, in which the face looks along +z."""
    y, z = y * jnp.cos(view.pitch) + z * jnp.sin(view.pitch), z * jnp.cos(view.pitch) - y * jnp.sin(view.pitch)
    return x * jnp.cos(view.yaw) - z * jnp.sin(view.yaw), y, x * jnp.sin(view.yaw) + z * jnp.cos(view.yaw)


def _paint(canvas: Colour, layers: Sequence[Layer]) -> Colour:
    """Lay each layer over what is there."""
    for mask, colour in layers:
        canvas = tuple(under + mask * (over - under) for under, over in zip(canvas, colour, strict=True))
    return canvas


def _background(view: _View, a: Parameters) -> Colour:
    angle = a["pattern_angle"]
    along = view.u * jnp.cos(angle) + view.v * jnp.sin(angle)
    blend = jnp.clip(0.5 + jnp.sin(along * a["pattern_frequency"] + a["pattern_phase"]) * a["pattern_sharpness"], 0, 1)
    channels = ("red", "green", "blue")
    return tuple(a[f"background_{c}"] + (a[f"background_{c}_2"] - a[f"background_{c}"]) * blend for c in channels)


def _behind(
    view: _View, head: _Head, light: _Light, skin: Colour, hair: Colour, p: Parameters, a: Parameters
) -> list[Layer]:
    """Clothes, long hair, neck and ears: what the head hides in part."""
    x, y, pixel = view.x, view.y, view.pixel
    brightness = light.on_body(view.u)
    ring = jnp.sqrt((view.body_x / 1.02) ** 2 + ((view.body_y - 1.36) / 0.54) ** 2 + 1e-6) - 1
    shoulders = cover(ring * 0.54, pixel)
    clothes = light.of((a["clothes_red"], a["clothes_green"], a["clothes_blue"]), brightness)
    # Long hair hangs from the back of the head, which turns the other way, and ends in round corners.
    back = x + 0.12 * jnp.sin(view.yaw)
    half = head.width * lerp(1.05, 1.15, p["hair_volume"])
    side = jnp.abs(back) - half - 0.025 * p["hair_wave"] * jnp.sin(y * 14) + 0.8 * jnp.maximum(0.15 - y, 0)
    down = y - lerp(0.50, 1.05, p["hair_length_amount"])
    corner = jnp.sqrt(jnp.maximum(side + 0.2, 0) ** 2 + jnp.maximum(down + 0.2, 0) ** 2 + 1e-6) - 0.2
    hang = cover(jnp.maximum(corner, -y - 0.25), pixel) * (p["hair_length_amount"] > 0)
    strands = brightness * (0.70 + 0.08 * jnp.sin(back * 40))
    neck = cover(jnp.maximum(jnp.abs(x) - head.width * 0.46, 0.3 - y), pixel)
    collar = jnp.sqrt((view.body_x / lerp(0.28, 0.42, a["collar"])) ** 2 + ((view.body_y - 0.8) / 0.3) ** 2 + 1e-6) - 1
    bare = jnp.maximum(cover(collar * 0.3, pixel), 1 - shoulders)
    below_chin = brightness * (0.68 + 0.14 * jnp.clip((y - head.below) * 4, 0, 1))
    radius = lerp(0.10, 0.18, p["ear_size"])
    ear_x, ear_y = (jnp.abs(x) - head.width * jnp.cos(view.yaw)) / 0.75, y - 0.02 - 0.25 * jnp.sin(view.pitch)
    ear = jnp.sqrt(ear_x * ear_x + ear_y * ear_y + 1e-6)
    hollow = brightness * (0.94 - 0.25 * jnp.clip(1.2 - ear / (radius * 0.6), 0, 1))
    return [
        (shoulders, clothes),
        (hang, light.of(hair, strands)),
        (neck * bare, light.of(skin, below_chin)),
        (cover(ear - radius, pixel), light.of(skin, hollow)),
    ]


def _front(view: _View, head: _Head, light: _Light, skin: Colour, hair: Colour, p: Parameters, a: Parameters) -> Layer:
    """The head: features painted on its skin, then lit together."""
    x, y, z, outline = _sphere(view.x, view.y, head, 1.0)
    face_x, face_y, face_z = _turned(x, y, z, view)
    magnified = 2 / jnp.maximum(1 + face_z, 0.12)  # the stereographic map's scale: 1 at the face's centre
    foreshortened = jnp.sqrt(jnp.maximum(z, 0.08))
    face = Face(
        s=face_x * magnified * head.width,
        t=face_y * magnified * head.above,
        pixel=view.pixel * jnp.clip(magnified / foreshortened, 1, 5),
        width=head.width,
        length=head.above,
        turn_x=jnp.tan(view.yaw),
        turn_y=-jnp.tan(view.pitch),
        light_x=light.x,
        skin=skin,
        hair=hair,
    )
    surface = _paint(skin, features(face, p, a))
    return cover(outline, view.pixel), light.of(surface, light.on_sphere(x, y, z))


def _hair(view: _View, head: _Head, light: _Light, hair: Colour, p: Parameters, far: bool) -> Layer:
    """A second, slightly larger shell, cut by a plane from the forehead down to the neck: its near or its far side."""
    volume = lerp(0.06, 0.12, p["hair_volume"])
    x, y, z, outline = _sphere(view.x, view.y + 0.02, head, 1 + volume)
    hair_x, hair_y, hair_z = _turned(x, y, -z if far else z, view)
    slope = lerp(0.50, 0.85, p["hair_sides"])
    slant = lerp(-0.20, 0.20, p["hair_slant"])
    fringe_y = lerp(-0.90, -0.66, jnp.sqrt(p["hairline"]))  # few are bald
    fringe_z = jnp.sqrt(1 - fringe_y * fringe_y)
    cut = fringe_y - hair_y + slope * (fringe_z - hair_z) + slant * hair_x * jnp.clip(hair_z * 2, 0, 1)
    cut = cut + 0.05 * p["hair_wave"] * jnp.sin(hair_x * 13)
    cut = jnp.minimum(cut / jnp.sqrt(1 + slope * slope), 0.65 - hair_y) * head.width
    strands = 0.94 + 0.07 * jnp.sin(hair_x * 24 + 6 * slant * hair_y) + 0.16 * jnp.clip(z * 3 - 1.9, 0, 1)
    if not far:  # the near side comes down to the skin where the hair ends, or it would stand off like a cap's peak
        outline = outline + volume * jnp.clip(1 - cut / 0.15, 0, 1) * head.above
    mask = cover(outline, view.pixel) * cover(-cut, view.pixel)
    return mask, light.of(hair, light.on_sphere(x, y, z) * strands)


def _draw(person: jax.Array, attributes: jax.Array, size: int) -> jax.Array:
    """One face: person [P], attributes [A] → uint32 [size, size], red in the lowest byte, then green and blue.

    One value a pixel, so that XLA makes one loop of it all; a channel axis would draw every mask three times.
    """
    p = dict(zip(PERSON, person, strict=True))
    a = dict(zip(ATTRIBUTES, attributes, strict=True))
    view, head, light, skin, hair = _view(a, size), _head(p, a), _light(a), _skin(p), palette(_HAIR, p["hair_colour"])
    canvas = _paint(
        _background(view, a),
        [
            _hair(view, head, light, hair, p, far=True),
            *_behind(view, head, light, skin, hair, p, a),
            _front(view, head, light, skin, hair, p, a),
            _hair(view, head, light, hair, p, far=False),
        ],
    )
    red, green, blue = (jnp.round(jnp.clip(channel, 0, 1) * 255).astype(jnp.uint32) for channel in canvas)
    return red | (green << 8) | (blue << 16)


@functools.partial(jax.jit, static_argnames="size")
def _draw_batch(people: jax.Array, attributes: jax.Array, size: int) -> jax.Array:
    return jax.vmap(functools.partial(_draw, size=size))(people, attributes)


def render(people: np.ndarray, attributes: np.ndarray, size: int) -> np.ndarray:
    """Draw faces.

    Args:
        people: float32 [B, PERSON_SIZE], sliders in [0, 1] named by `PERSON`.
        attributes: float32 [B, ATTRIBUTE_SIZE], named by `ATTRIBUTES`.
        size: height and width in pixels, 1 or more.

    Returns:
        uint8 RGB [B, size, size, 3].

    Raises:
        ValueError: a shape that does not fit.
    """
    people, attributes = np.asarray(people, np.float32), np.asarray(attributes, np.float32)
    count = len(people)
    if people.shape != (count, PERSON_SIZE) or attributes.shape != (count, ATTRIBUTE_SIZE) or size < 1:
        raise ValueError(
            f"render() got people {people.shape}, attributes {attributes.shape} and size {size}; "
            f"give [B, {PERSON_SIZE}], [B, {ATTRIBUTE_SIZE}] and a size of 1 or more."
        )
    pictures: np.ndarray = np.empty((count, size, size, 3), np.uint8)
    batch = max(1, BATCH * 64 * 64 // max(64, size) ** 2)
    for start in range(0, count, batch):
        # One program per size, whatever the count: a rest is filled up with the last face.
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        packed = np.asarray(_draw_batch(people[rows], attributes[rows], size))[: count - start]
        for channel in range(3):
            pictures[start : start + batch, ..., channel] = packed >> (8 * channel)  # the cast keeps the lowest byte
    return pictures


SEED = 11
SHOWN = (0, 2, 5, 9, 10, 11)  # of those sampled with this seed, some that YuNet takes for faces
PAIRS = ((3, 5), (0, 4))  # of the shown ones, side by side as targets with two faces
SIZE = 288


def draw(folder: Path, photos: bool) -> tuple[list[Path], list[Path]]:
    """Render the example sources and targets into a folder.

    Args:
      folder: is there.
      photos: whether targets may be more than a single face's crop.

    Returns:
      Source and target files, PNG.
    """
    faces = example_faces(SIZE)
    sources = [save(folder / f"face {number}.png", face) for number, face in enumerate(faces, 1)]
    if not photos:
        return sources, sources
    targets = [
        save(folder / f"two faces {number}.png", framed(np.concatenate([faces[i] for i in pair], axis=1)))
        for number, pair in enumerate(PAIRS, 1)
    ]
    return sources, [*targets, *sources[:3]]


def example_faces(size: int) -> np.ndarray:
    """The faces themselves, uint8 RGB [6, size, size, 3]."""
    rows, count = list(SHOWN), max(SHOWN) + 1
    return render(sample_people(SEED, count)[rows], sample_attributes(SEED, count)[rows], size)


def framed(picture: np.ndarray) -> np.ndarray:
    """A picture with some room around it, uint8 RGB."""
    edge = SIZE // 6
    return cv2.copyMakeBorder(picture, edge, edge, edge, edge, cv2.BORDER_REPLICATE)


def save(path: Path, picture: np.ndarray) -> Path:
    """Write a PNG and give its path back."""
    path.write_bytes(encode_png(picture))
    return path

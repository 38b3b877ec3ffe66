"""Which part of a crop is face, softly, and how a swapped crop goes back to its place in the photo."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from simswap_jax.faces.alignment import Alignment, enlarged, inverse, transform

DENSE = 8.0  # pixels of the crop per pixel of the photo from which it is shrunk before it is sampled
DENSE_ENOUGH = 4.0  # and what is left then
LUMA = np.array([0.299, 0.587, 0.114])
TONE_SIDE = 32  # pixels at which a tone is measured, so that grain and JPEG do not count
FLAT = 8.0  # levels, standard deviation under which a target has no brightness to take a tone from
TONED = 2.4, 3.4  # levels that colours stray from a tone: up to the first it is toned, from the second on it is not
# Logarithms of mean red over green and blue over green (each plus 8 levels) of faces, with room: docs/experiments.
RED_TO_GREEN, BLUE_TO_GREEN = (-0.1, 0.85), (-1.0, 0.3)
FADE = 0.2  # beyond that light counts as coloured in full
DETAIL_CHANGE = 24.0  # levels by which a swap changes a place until the target's fine detail fades out there
DETAIL_NEAR = 1.5  # pixels of the crop, standard deviation: how far around a change it does
SHARPNESS = 3  # of the line between two faces that overlap


@dataclass(frozen=True)
class Place:
    """The part of a photo that a crop covers.

    Attributes:
      left, top: of the part, in the photo's pixels.
      mask: float32 [H, W], how much of each of its pixels comes from the crop.
    """

    left: int
    top: int
    mask: Float[np.ndarray, "h w"]

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the photo."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def place(shape: tuple[int, ...], alignment: Alignment, mask: Float[np.ndarray, "s s"]) -> Place:
    """Where a crop lies in a photo of ``shape`` [H, W, …], with the crop's mask [size, size] as the photo sees it."""
    last = alignment.size - 1
    corners = transform(inverse(alignment.matrix), np.array([(0, 0), (last, 0), (0, last), (last, last)]))
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (shape[1], shape[0])).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 1, 0, (shape[1], shape[0])).astype(int)
    empty = Place(int(left), int(top), np.zeros((max(bottom - top, 0), max(right - left, 0)), np.float32))
    return replace(empty, mask=_onto(mask, alignment, empty, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT))


def resolve_overlaps(places: Sequence[Place]) -> list[Place]:
    """Where faces overlap, each pixel goes to the face that it is deeper inside of, with a soft line between them.

    Elsewhere the masks stay as they are. Every mask is multiplied by its part m³ / Σ m³ of all that claim the pixel.
    """
    touching = [[other for other in places if other is not one and _touch(one, other)] for one in places]
    claims = {id(one): one.mask**SHARPNESS for one, others in zip(places, touching) if others}
    shared = []
    for one, others in zip(places, touching):
        if not others:
            shared.append(one)
            continue
        claim = claims[id(one)]
        total = claim.copy()
        for other in others:
            _add(total, one, claims[id(other)], other)
        part = np.divide(claim, total, out=np.ones_like(total), where=total > 0)
        shared.append(replace(one, mask=one.mask * part))
    return shared


def paste(
    photo: UInt8[np.ndarray, "h w 3"],
    face: UInt8[np.ndarray, "s s 3"],
    alignment: Alignment,
    where: Place,
    detail: Float[np.ndarray, "y x 3"] | None = None,
    original: UInt8[np.ndarray, "h w 3"] | None = None,
) -> None:
    """Blend a swapped crop into a photo, in place.

    Args:
      photo: uint8 RGB [H, W, 3]; changed.
      face: uint8 RGB [size, size, 3].
      alignment: of the crop.
      where: from `place`.
      detail: what is added to the face, from `fine_detail`.
      original: the photo before any face was pasted, where it shows several: between faces that overlap each mask
        takes its part of that, so that the order does not count; None: ``photo`` itself.
    """
    if not where.mask.size:
        return
    colours = _onto(face, alignment, where, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE).astype(np.float32)
    if detail is not None:
        colours += detail
    old = (photo if original is None else original)[where.window].astype(np.float32)
    _add_change(photo, where, where.mask[:, :, None] * (colours - old))


def fine_detail(
    photo: UInt8[np.ndarray, "h w 3"],
    target: UInt8[np.ndarray, "s s 3"],
    face: UInt8[np.ndarray, "s s 3"],
    alignment: Alignment,
    where: Place,
) -> Float[np.ndarray, "y x 3"]:
    """What a photo shows of a face and its crop is too small for (pores, hairs), where a swap left the face as it was.

    Args:
      photo: uint8 RGB [H, W, 3], as it was before any swap.
      target, face: uint8 RGB [size, size, 3], its crop and what was drawn in its place.
      alignment: of the crop.
      where: from `place`.

    Returns:
      grey levels to add, float32 [y, x, 3] of ``where``: less, the more the swap changed within a few pixels.
    """
    old = photo[where.window].astype(np.float32)
    if not old.size:
        return old
    seen = _onto(target, alignment, where, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE).astype(np.float32)
    change = cv2.GaussianBlur(np.abs(face.astype(np.float32) - target).max(axis=2), (0, 0), DETAIL_NEAR)
    left = _onto(np.exp(-np.square(change / DETAIL_CHANGE)), alignment, where, cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return left[:, :, None] * (old - seen)


def paste_gradients(
    photo: UInt8[np.ndarray, "h w 3"],
    face: UInt8[np.ndarray, "s s 3"],
    alignment: Alignment,
    where: Place,
    original: UInt8[np.ndarray, "h w 3"] | None = None,
) -> None:
    """Blend a swapped crop into a photo by its gradients (Pérez et al. 2003), in place: `paste`'s arguments.

    Inside the mask's half the colours are those whose gradients are the crop's and whose edge is the photo's, so that
    light and skin tone go over without a step; the mask's soft edge is laid over that.
    """
    inside = (where.mask > 0.5).astype(np.uint8) * 255
    if not inside.size:
        return
    inside[[0, -1]] = inside[:, [0, -1]] = 0  # the equation needs an edge all around
    if not inside.any():
        return
    colours = _onto(face, alignment, where, cv2.INTER_CUBIC, cv2.BORDER_REPLICATE)
    old = np.ascontiguousarray((photo if original is None else original)[where.window])
    left, top, width, height = cv2.boundingRect(inside)
    middle = left + width // 2, top + height // 2
    # It writes into its target and its mask.
    cloned = cv2.seamlessClone(colours, old.copy(), inside.copy(), middle, cv2.NORMAL_CLONE)
    soft = np.minimum(2.0 * where.mask, 1.0)[:, :, None] * (inside > 0)[:, :, None]
    _add_change(photo, where, soft * (cloned.astype(np.float32) - old))


def _add_change(photo: np.ndarray, where: Place, change: np.ndarray) -> None:
    """Add grey levels, float [y, x, 3] of a place, to a photo, in place."""
    photo[where.window] = np.round(np.clip(photo[where.window] + change, 0.0, 255.0)).astype(np.uint8)


def match_colour(
    face: UInt8[np.ndarray, "s s 3"], target: UInt8[np.ndarray, "s s 3"], mask: Float[np.ndarray, "s s"]
) -> UInt8[np.ndarray, "s s 3"]:
    """A swapped crop with the mean and spread of the target's colours under the mask, channel by channel.

    Args:
      face, target: uint8 RGB [size, size, 3].
      mask: float32 [size, size].

    Returns:
      uint8 RGB [size, size, 3]; the spread changes by at most a half, so that a flat channel is not blown up.
    """
    weight = mask[:, :, None] / max(float(mask.sum()), 1e-6)
    (mean, spread), (wanted_mean, wanted_spread) = (colour_moments(picture, weight) for picture in (face, target))
    gain = np.clip(wanted_spread / np.maximum(spread, 1e-3), 1 / 1.5, 1.5)
    return np.round(np.clip((face - mean) * gain + wanted_mean, 0.0, 255.0)).astype(np.uint8)


def match_tone(
    face: UInt8[np.ndarray, "s s 3"], target: UInt8[np.ndarray, "s s 3"], mask: Float[np.ndarray, "s s"]
) -> UInt8[np.ndarray, "s s 3"]:
    """A swapped crop in the tone of a black-and-white, toned or strongly coloured target; any other as it is.

    In a toned picture colour is a function of brightness; that function is taken from the target, and how far colours
    stray from it.

    Args:
      face, target: uint8 RGB [size, size, 3].
      mask: float32 [size, size], where the colours count.

    Returns:
      uint8 RGB [size, size, 3]: without colour where the target has none, ``face`` itself where its colours are those
      of faces; in between some of both, so that a video does not jump.
    """
    if (target == target[:, :, :1]).all():
        grey = np.round(face.astype(np.float64) @ LUMA)
        return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)
    small, drawn, weight = (
        cv2.resize(one, (TONE_SIDE, TONE_SIDE), interpolation=cv2.INTER_AREA) for one in (target, face, mask)
    )
    share = weight[:, :, None] / max(float(weight.sum()), 1e-6)
    if colour_moments(small, share)[1].max() < FLAT:
        return face
    tone = _tone_of(small, weight)
    strength = max(1.0 - (tone.stray - TONED[0]) / (TONED[1] - TONED[0]), _coloured(small, weight))
    if strength <= 0.0:
        return face
    own = _tone_of(drawn, weight, tone.axis)
    values = face.astype(np.float64)
    rest = min(1.0, tone.stray / max(own.stray, 1e-6)) * (values - own.at(values))
    toned = values + min(strength, 1.0) * (tone.at(values) + rest - values)
    return np.round(np.clip(toned, 0.0, 255.0)).astype(np.uint8)


@dataclass(frozen=True)
class _Tone:
    """Colour as a function of brightness.

    Attributes:
      axis: float64 [3], a colour's brightness is its product with it.
      curve: float64 [4, 3], the coefficients of a cubic of brightness / 255.
      ends: the least and the greatest brightness / 255 that was seen; beyond them the curve goes straight on.
      stray: root mean square distance of colours from it, in levels.
    """

    axis: np.ndarray
    curve: np.ndarray
    ends: tuple[float, float]
    stray: float

    def at(self, colours: np.ndarray) -> np.ndarray:
        """The colours [..., 3] that have the brightness of those given."""
        bright = colours @ self.axis / 255.0
        held = np.clip(bright, *self.ends)
        powers, slopes = (
            np.stack([held**i for i in range(4)], -1),
            np.stack([i * held ** max(i - 1, 0) for i in range(4)], -1),
        )
        return powers @ self.curve + (slopes @ self.curve) * (bright - held)[..., None]


def _tone_of(picture: np.ndarray, weight: np.ndarray, axis: np.ndarray | None = None) -> _Tone:
    """The tone that fits a picture [H, W, 3] best under weights [H, W]; its axis follows where the colours vary."""
    colours = picture.reshape(-1, 3).astype(np.float64)
    share = (weight.ravel() + 0.02).astype(np.float64)[:, None]  # all around counts a little, for the curve's ends
    share /= share.sum()
    if axis is None:
        apart = colours - (share * colours).sum(axis=0)
        main = np.linalg.eigh(apart.T @ (share * apart))[1][:, -1]
        axis = LUMA * main**2 / (LUMA * main**2).sum()
    bright = colours @ axis / 255.0
    root = np.sqrt(share)
    powers = np.stack([bright**i for i in range(4)], axis=1)
    curve = np.linalg.lstsq(root * powers, root * colours, rcond=None)[0]
    stray = float(np.sqrt((share * (colours - powers @ curve) ** 2).sum()))
    return _Tone(axis, curve, (float(bright.min()), float(bright.max())), stray)


def _coloured(picture: np.ndarray, weight: np.ndarray) -> float:
    """How far the mean colour is from those of faces in any usual light: 0 among them, 1 and more in coloured light."""
    red, green, blue = 8.0 + (picture * weight[:, :, None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
    beyond = [
        max(low - value, value - high, 0.0)
        for value, (low, high) in zip(np.log([red / green, blue / green]), (RED_TO_GREEN, BLUE_TO_GREEN))
    ]
    return max(beyond) / FADE


def colour_moments(picture: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel under weights [H, W, 1] that sum to 1."""
    mean = (picture * weight).sum(axis=(0, 1))
    return mean, np.sqrt(((picture - mean) ** 2 * weight).sum(axis=(0, 1)))


def _onto(picture: np.ndarray, alignment: Alignment, where: Place, kernel: int, border: int) -> np.ndarray:
    """A crop (or its mask) as the photo's pixels see it: [H, W, …] of the place."""
    matrix = alignment.matrix
    if alignment.density >= DENSE:  # sampled as it is, most of its pixels would be skipped
        side = max(1, round(alignment.size * DENSE_ENOUGH / alignment.density))
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        matrix = enlarged(matrix, side / alignment.size)
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (where.left, where.top)
    height, width = where.mask.shape
    if not height or not width:
        return np.zeros((height, width, *picture.shape[2:]), picture.dtype)
    return cv2.warpAffine(picture, matrix, (width, height), flags=kernel | cv2.WARP_INVERSE_MAP, borderMode=border)


def _shared_box(one: Place, other: Place) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what two places have in common; nothing where right ≤ left or bottom ≤ top."""
    left, top = max(one.left, other.left), max(one.top, other.top)
    right = min(one.left + one.mask.shape[1], other.left + other.mask.shape[1])
    bottom = min(one.top + one.mask.shape[0], other.top + other.mask.shape[0])
    return left, top, right, bottom


def _touch(one: Place, other: Place) -> bool:
    """Whether two places have a pixel in common."""
    left, top, right, bottom = _shared_box(one, other)
    return right > left and bottom > top


def _add(total: np.ndarray, one: Place, claim: np.ndarray, other: Place) -> None:
    """Add the claim of another place, which touches this one, to the pixels that both have."""
    left, top, right, bottom = _shared_box(one, other)
    mine = slice(top - one.top, bottom - one.top), slice(left - one.left, right - one.left)
    yours = slice(top - other.top, bottom - other.top), slice(left - other.left, right - other.left)
    total[mine] += claim[yours]


BORDER = 0.08  # of the crop's side: how far in from its border the mask has risen to 1
INNER, OUTER = 0.78, 1.12  # of the face's ellipse: where the mask begins to fall, and where it is 0
NARROWER = 0.4  # by how much a face turned to the side is narrower there


def soft_mask(landmarks: Float[np.ndarray, "5 2"], size: int, reach: float = 1.0) -> Float[np.ndarray, "s s"]:
    """The default mask: an ellipse from the landmarks, faded out before the crop's border.

    Args:
      landmarks: float [5, 2] in the crop's pixels.
      size: side of the crop.
      reach: of the ellipse; less than 1 leaves more of the cheeks and the forehead to the target.

    Returns:
      float32 [size, size], 0 to 1; exactly 0 in the outermost pixels.
    """
    return face_ellipse(landmarks, size, reach) * border_ramp(size)


def face_ellipse(landmarks: Float[np.ndarray, "5 2"], size: int, reach: float = 1.0) -> Float[np.ndarray, "s s"]:
    """From the brows to the chin and from cheek to cheek, float32 [size, size], 0 to 1.

    The lengths are fractions of the distance from eyes to mouth, and of that between the eyes; a face seen from the
    side has little of the latter, so the width never falls below a fraction of the former. On the side that a face is
    turned to, where its nose is, less of it is seen.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    down = mouth - eyes
    length = max(float(np.hypot(*down)), 1e-6)
    down = down / length
    centre = eyes + 0.42 * length * down
    half_height = 1.22 * length
    apart = float(np.hypot(*(landmarks[1] - landmarks[0])))
    half_width = max(1.15 * apart, 0.9 * length)
    nose = landmarks[2] - eyes
    turned = float(np.clip((nose[1] * down[0] - nose[0] * down[1]) / max(0.5 * apart, 1e-6), -1.0, 1.0))
    x, y = (np.arange(size) - c for c in centre)
    along = x[None, :] * down[0] + y[:, None] * down[1]
    across = y[:, None] * down[0] - x[None, :] * down[1]
    half_widths = half_width * np.where(across * turned > 0.0, 1.0 - NARROWER * abs(turned), 1.0)
    radius = np.hypot(along / half_height, across / half_widths)
    return smoothstep((OUTER - radius / reach) / (OUTER - INNER)).astype(np.float32)


def mouth_area(landmarks: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "s s"]:
    """Lips and teeth, open or shut: float32 [size, size], 1 inside an ellipse between the mouth's corners."""
    left, right = landmarks[3:]
    eyes, centre = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    length = max(float(np.hypot(*(centre - eyes))), 1e-6)
    down = (centre - eyes) / length
    half_width = max(0.62 * float(np.hypot(*(right - left))), 0.2 * length)
    x, y = (np.arange(size) - c for c in centre + 0.08 * length * down)
    along = x[None, :] * down[0] + y[:, None] * down[1]
    across = y[:, None] * down[0] - x[None, :] * down[1]
    radius = np.hypot(along / (0.34 * length), across / half_width)
    return smoothstep((1.25 - radius) / 0.5).astype(np.float32)


def below_brows(landmarks: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "s s"]:
    """1 from the brows down, 0 from the middle of the forehead up: float32 [size, size]."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    length = max(float(np.hypot(*(mouth - eyes))), 1e-6)
    down = (mouth - eyes) / length
    x, y = (np.arange(size) - c for c in eyes)
    along = x[None, :] * down[0] + y[:, None] * down[1]
    return smoothstep((along / length + 0.62) / 0.27).astype(np.float32)


def border_ramp(size: int) -> Float[np.ndarray, "s s"]:
    """0 in the outermost pixels, 1 from `BORDER` on: float32 [size, size]."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1])
    ramp = smoothstep(distance / max(BORDER * size, 1.0))
    return np.minimum(ramp[:, None], ramp[None, :]).astype(np.float32)


def smoothstep(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """0 up to 0, 1 from 1 on, and between them 3t² − 2t³, which has no corner."""
    t = np.clip(values, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)

"""Faces of a whole photo: which are there, which are meant, and back into their places."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import Alignment, align, crop
from simswap_jax.faces.blending import match_colour, paste, paste_gradients, place, share
from simswap_jax.faces.detection import Detector, Face
from simswap_jax.faces.masks import below_brows, mouth_area, soft_mask

SMALLEST = 12.0  # pixels, of the shorter side of a face's box
# Of landmarks from their template, in units of the crop's side; a profile on a frontal template has more.
FARTHEST = 0.08
THRESHOLD = 0.3  # cosine: with MobileFaceNet one person has 0.59 ± 0.14, two people 0.03 ± 0.11
CHOICES = ("largest", "best", "all")
KEEP = ("mouth", "hair", "front")  # of the target: the mouth, the forehead's hairline, what is in front of the face
BLENDS = ("feather", "poisson")

# A photo, a face's alignment in it and what is kept → which part of the crop is face, float32 [size, size]; None where
# it cannot be told.
Parse = Callable[[np.ndarray, Alignment, Sequence[str]], np.ndarray | None]


@dataclass(frozen=True)
class FoundFace:
    """A face that can be re-drawn, and how it is cut out."""

    face: Face
    alignment: Alignment

    def crop(self, photo: np.ndarray) -> np.ndarray:
        """The aligned face, uint8 RGB [size, size, 3]."""
        return crop(photo, self.alignment)


def find_faces(detector: Detector, photo: np.ndarray, template: str, size: int) -> list[FoundFace]:
    """The faces of a photo that can be re-drawn, the most confident first.

    Args:
      detector: YuNet or SCRFD.
      photo: uint8 RGB [H, W, 3].
      template: what crops are aligned to, a name of ``faces.alignment.TEMPLATES``.
      size: side of the crops.

    Raises:
      UserError: there is none; it says why those that were seen are left out.
    """
    found, reasons = [], []
    for face in detector.detect(photo):
        try:
            alignment = align(face.landmarks, template, size)
        except ValueError as error:
            raise UserError(str(error)) from error
        reason = unusable(face, alignment)
        if reason:
            reasons.append(reason)
        else:
            found.append(FoundFace(face, alignment))
    if found:
        return found
    height, width = photo.shape[:2]
    if not reasons:
        raise UserError(f"no face was found in this photo of {width}×{height} pixels; give one that shows a face.")
    counted = "the only face" if len(reasons) == 1 else f"the best of {len(reasons)} faces"
    raise UserError(f"{counted} in this photo {reasons[0]}; give a photo that shows one better.")


def unusable(face: Face, alignment: Alignment) -> str:
    """Why a face cannot be re-drawn, as the end of a sentence; empty where it can."""
    width, height = face.box[2:]
    if min(width, height) < SMALLEST:
        return f"is too small ({width:.0f}×{height:.0f} pixels, {SMALLEST:.0f} are the least)"
    if alignment.residual > FARTHEST:
        return "is turned too far away for this model"
    return ""


def choose(found: Sequence[FoundFace], which: str) -> list[int]:
    """Which of the faces are meant: indices of the ``"largest"``, the ``"best"`` (most confident) or ``"all"``."""
    if which == "all":
        return list(range(len(found)))
    if which == "largest":
        return [max(range(len(found)), key=lambda i: found[i].face.area)]
    if which == "best":
        return [max(range(len(found)), key=lambda i: found[i].face.score)]
    raise UserError(f"'{which}' says not which faces to swap; choose {', '.join(CHOICES)}, or name a person.")


def match(cosines: np.ndarray, threshold: float) -> list[int]:
    """Which face belongs to which person, one to one, the most alike first.

    Args:
      cosines: float [people, faces], between identity vectors.
      threshold: the least cosine of a person and their face.

    Returns:
      For each person the index of a face.

    Raises:
      UserError: somebody is not there; it says how near the nearest face came.
    """
    if not -1.0 <= threshold <= 1.0:
        raise UserError(f"the threshold is {threshold}; it is a cosine, from −1 to 1 (different people are near 0).")
    left: np.ndarray = np.array(cosines, np.float64)
    faces: dict[int, int] = {}
    for _ in range(min(left.shape)):
        person, face = divmod(int(np.argmax(left)), left.shape[1])
        if left[person, face] < threshold:
            break
        faces[person] = face
        left[person, :] = left[:, face] = -np.inf
    for person in range(len(cosines)):
        if person not in faces:
            who = "the person" if len(cosines) == 1 else f"person {person + 1} of {len(cosines)}"
            raise UserError(
                f"{who} is not in this photo (the nearest of {cosines.shape[1]} faces has a cosine of "
                f"{cosines[person].max():.2f}, wanted are {threshold:.2f}); give another picture of them or "
                "lower the threshold."
            )
    return [faces[person] for person in range(len(cosines))]


def face_mask(
    photo: np.ndarray, alignment: Alignment, keep: Sequence[str] = (), parse: Parse | None = None
) -> np.ndarray:
    """Which part of a crop is re-drawn, softly: float32 [size, size], 0 at the crop's border.

    Args:
      photo: uint8 RGB [H, W, 3].
      alignment: of the face in it.
      keep: some of `KEEP`, which stay as they are in the photo; "front" needs ``parse``.
      parse: face parsing; without it, or where it finds no face, an ellipse from the landmarks.
    """
    landmarks, size = alignment.landmarks, alignment.size
    parsed = parse(photo, alignment, keep) if parse is not None else None
    mask = soft_mask(landmarks, size) if parsed is None else parsed
    if "mouth" in keep:
        mask = mask * (1.0 - mouth_area(landmarks, size))
    if "hair" in keep:
        mask = mask * below_brows(landmarks, size)
    return mask


def put_back(
    photo: np.ndarray,
    found: Sequence[FoundFace],
    results: Mapping[int, np.ndarray],
    colours: bool = False,
    *,
    keep: Sequence[str] = (),
    blend: str = BLENDS[0],
    parse: Parse | None = None,
) -> np.ndarray:
    """The photo with some of its faces re-drawn.

    Args:
      photo: uint8 RGB [H, W, 3]; not changed.
      found: all faces: also those that are not re-drawn keep what is theirs where faces overlap.
      results: index of a face → its crop, re-drawn: uint8 RGB [size, size, 3].
      colours: give the results the colours of the faces they replace.
      keep, parse: as in `face_mask`.
      blend: "feather", or "poisson" to carry gradients over instead of colours.

    Returns:
      uint8 RGB [H, W, 3].
    """
    if unknown := set(keep) - set(KEEP):
        raise UserError(f"'{min(unknown)}' cannot be kept; choose from {', '.join(KEEP)}.")
    if blend not in BLENDS:
        raise UserError(f"'{blend}' is no way to blend; choose {' or '.join(BLENDS)}.")
    if "front" in keep and parse is None:
        raise UserError("keeping what is in front of a face needs face parsing; its weights are not here.")
    masks = [face_mask(photo, one.alignment, keep, parse) for one in found]
    places = share([place(photo.shape, one.alignment, mask) for one, mask in zip(found, masks)])
    picture = photo.copy()
    for i, result in results.items():
        drawn = match_colour(result, found[i].crop(photo), masks[i]) if colours else result
        (paste_gradients if blend == "poisson" else paste)(picture, drawn, found[i].alignment, places[i])
    return picture

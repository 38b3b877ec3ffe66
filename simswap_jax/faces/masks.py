"""Which part of a crop is face, softly: 1 inside, 0 at the crop's border, and no line between them."""

import numpy as np
from jaxtyping import Float

BORDER = 0.08  # of the crop's side: how far in from its border the mask has risen to 1
INNER, OUTER = 0.78, 1.12  # of the face's ellipse: where the mask begins to fall, and where it is 0
NARROWER = 0.4  # by how much a face turned to the side is narrower there


def soft_mask(landmarks: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "s s"]:
    """The default mask: an ellipse from the landmarks, faded out before the crop's border.

    Args:
      landmarks: float [5, 2] in the crop's pixels.
      size: side of the crop.

    Returns:
      float32 [size, size], 0 to 1; exactly 0 in the outermost pixels.
    """
    return face_ellipse(landmarks, size) * border_ramp(size)


def face_ellipse(landmarks: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "s s"]:
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
    return smooth((OUTER - radius) / (OUTER - INNER)).astype(np.float32)


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
    return smooth((1.25 - radius) / 0.5).astype(np.float32)


def below_brows(landmarks: Float[np.ndarray, "5 2"], size: int) -> Float[np.ndarray, "s s"]:
    """1 from the brows down, 0 from the middle of the forehead up: float32 [size, size]."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    length = max(float(np.hypot(*(mouth - eyes))), 1e-6)
    down = (mouth - eyes) / length
    x, y = (np.arange(size) - c for c in eyes)
    along = x[None, :] * down[0] + y[:, None] * down[1]
    return smooth((along / length + 0.62) / 0.27).astype(np.float32)


def border_ramp(size: int) -> Float[np.ndarray, "s s"]:
    """0 in the outermost pixels, 1 from `BORDER` on: float32 [size, size]."""
    distance = np.minimum(np.arange(size), np.arange(size)[::-1])
    ramp = smooth(distance / max(BORDER * size, 1.0))
    return np.minimum(ramp[:, None], ramp[None, :]).astype(np.float32)


def smooth(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """0 up to 0, 1 from 1 on, and between them 3t² − 2t³, which has no corner."""
    t = np.clip(values, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)

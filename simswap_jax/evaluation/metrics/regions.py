"""Inside and outside the face: sharpness, surroundings, the direction of the light; source attributes that leak.

Pictures are uint8 RGB [K, H, W, 3], all of one size; masks float32 [K, H, W], 1 inside the face.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from simswap_jax.evaluation.metrics.intervals import Estimate, of_sums
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.faces.blending import face_ellipse

CELLS = 16  # pictures are compared outside the face at so many cells a side: hair and walls, not single pixels
LIGHT_CELLS = 8
LEAST_MASK = 0.5
SEEN = 24  # of 255: pixels that differ by more show a part
FEWEST = 4  # pixels in which a part must show


def face_masks(landmarks: np.ndarray | None, count: int, size: int) -> np.ndarray:
    """The face's ellipse in each crop: float32 [count, size, size].

    Args:
      landmarks: float [count, 5, 2] in units of the crop's side; where they are NaN, or None altogether, those of the
        template `simswap-frontal` are taken.
      count: how many.
      size: side in pixels.
    """
    template = TEMPLATES["simswap-frontal"][0]
    points = np.broadcast_to(template, (count, 5, 2)) if landmarks is None else landmarks
    points = np.where(np.isfinite(points).all(axis=(1, 2), keepdims=True), points, template)
    return np.stack([face_ellipse(one * size - 0.5, size) for one in points])


def laplacian_energy(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean squared Laplacian of the luma inside the face: float64 [K]. Detail has much, blur little, noise most."""
    energies = []
    for picture, mask in zip(pictures, masks):
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
        energies.append(float((cv2.Laplacian(luma, cv2.CV_64F) ** 2 * mask).sum() / mask.sum()))
    return np.array(energies)


def surroundings(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Coarse colours outside the face: float64 [K, CELLS, CELLS, 3], 0 to 1, NaN in the face's cells.

    A cell counts as face where half of it is. The upper half of the picture is mostly hair, the lower half mostly
    background, neck and clothes.
    """
    cells = np.stack([cv2.resize(p.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA) for p in pictures])
    face = np.stack([cv2.resize(m, (CELLS, CELLS), interpolation=cv2.INTER_AREA) for m in masks]) > LEAST_MASK
    return np.where(face[..., None], np.nan, cells.astype(np.float64) / 255.0)


def light(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Where the light comes from: the slope of the luma over the face, to the right and down, float64 [K, 2].

    A plane is fitted to the luma inside the face and its slopes, per width of the picture, are divided by the face's
    mean luma. Brightness and skin colour fall out; they belong to the identity as much as to the light.
    """
    slopes = []
    y, x = (np.mgrid[:LIGHT_CELLS, :LIGHT_CELLS] + 0.5) / LIGHT_CELLS - 0.5
    design = np.stack([np.ones_like(x), x, y], axis=-1).reshape(-1, 3)
    for picture, mask in zip(pictures, masks):
        size = (LIGHT_CELLS, LIGHT_CELLS)
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        weight = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float64).reshape(-1)
        level = cv2.resize(luma * mask, size, interpolation=cv2.INTER_AREA).astype(np.float64).reshape(-1)
        level /= np.maximum(weight, 1e-6)  # of the face's part of each cell
        root = np.sqrt(weight)[:, None]
        plane = np.linalg.lstsq(design * root, level * root[:, 0], rcond=None)[0]
        slopes.append(plane[1:] / max((level * weight).sum() / weight.sum(), 1.0))
    return np.array(slopes)


def nearer(pictures: np.ndarray, wanted: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """Which of two drawings each picture is nearer to, in the pixels where the two differ: float64 [K].

    Returns:
      1 nearer to ``wanted``, 0 to ``unwanted``, NaN where the two differ in hardly a pixel.
    """
    drawings = [np.asarray(one, np.float64) for one in (wanted, unwanted)]
    shows = np.abs(drawings[0] - drawings[1]).max(axis=-1) > SEEN
    to_wanted, to_unwanted = [
        (shows * np.square(pictures - drawing).sum(axis=-1)).sum(axis=(1, 2)) for drawing in drawings
    ]
    return np.where(shows.sum(axis=(1, 2)) >= FEWEST, to_wanted < to_unwanted, np.nan)


_UPPER = np.arange(CELLS) < CELLS // 2
# name → what of `regions` it compares
PARTS = {
    "leak_hair": lambda measured: measured["surroundings"][:, _UPPER],
    "leak_background": lambda measured: measured["surroundings"][:, ~_UPPER],
    "leak_light": lambda measured: measured["light"],
}


def leakage(
    results: Mapping[str, np.ndarray],
    targets: Mapping[str, np.ndarray],
    sources: Mapping[str, np.ndarray],
    decoys: np.ndarray,
    groups: np.ndarray,
) -> dict[str, Estimate]:
    """How much of the source beyond identity came through: 0 = none, 1 = as in the source image.

    a(s) = Σ (r − t)·(s − t) / Σ |s − t|² says how far the results went from target towards a picture. A result that is
    merely paler or blurred goes towards everybody, so the ratio towards a third person's picture (the decoy d) is taken
    off, and the scale is set so that the source itself scores 1: (a(s) − a(d)) / (1 − a(d) of the source itself).

    Args:
      results, targets, sources: ``surroundings`` and ``light`` of `regions`, [K, …] each.
      decoys: int [K], of `third_people`.
      groups: [K], the sources' people, for the intervals.
    """
    kept = decoys >= 0
    if not kept.any():
        return {}
    found = {}
    for name, part in PARTS.items():
        r, t, s = (part(measured)[kept] for measured in (results, targets, sources))
        d = part(sources)[decoys[kept]]
        own, way = projection_ratio(r, t, s)
        other, away = projection_ratio(r, t, d)
        whole, _ = projection_ratio(s, t, d)
        sums = np.stack([own, way, other, away, whole])
        if np.isfinite(_leak(sums.sum(axis=1))):
            found[name] = of_sums(sums, _leak, groups[kept])
    return found


def _leak(sums: np.ndarray) -> np.ndarray:
    """`leakage` of the sums of the numerators and denominators [5, …]; NaN where the pictures do not differ."""
    own, way, other, away, whole = sums
    apart = (way > 0) & (away - whole > 1e-6 * away)
    way, away = np.where(apart, way, np.nan), np.where(apart, away, np.nan)
    return (own / way - other / away) / (1.0 - whole / away)


def projection_ratio(results: np.ndarray, targets: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far from target to source the results went: numerators and denominators [K] of
    Σ (r − t)·(s − t) / Σ |s − t|², over any values [K, …]; NaN anywhere leaves that value out.

    0: nothing of the source came through; 1: all of it.
    """
    count = len(results)
    r, t, s = (np.asarray(x, np.float64).reshape(count, -1) for x in (results, targets, sources))
    way, whole = s - t, np.isfinite(r + s + t)
    above, below = np.where(whole, (r - t) * way, 0.0), np.where(whole, way**2, 0.0)
    return above.sum(axis=1), below.sum(axis=1)


def third_people(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For each pair the next one (going round) whose source is a third person: int [K], -1 where there is none.

    Args:
      source, target: int [K], the people of each pair.
    """
    count = len(source)
    found = np.full(count, -1)
    for i in range(count):
        for step in range(1, count):
            j = (i + step) % count
            if source[j] not in (source[i], target[i]):
                found[i] = j
                break
    return found

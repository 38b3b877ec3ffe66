"""Source-oriented baselines without training: the source's face is warped by landmarks onto the target's, its colours
are transferred, and it is blended in by gradients (Poisson). What Face Swapping of 2008 to 2018 does, without 3D model.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import WARPED, PairBatch
from simswap_jax.evaluation.geometry import FaceGeometry, nearest_pose
from simswap_jax.evaluation.protocols.protocol import PairList
from simswap_jax.faces.alignment import Alignment, similarity, transform
from simswap_jax.faces.blending import Place, border_ramp, colour_moments, paste_gradients, soft_mask

Map = Callable[[np.ndarray], np.ndarray]  # points [N, 2] of the target → points [N, 2] of the source
SMOOTHING = 1e-3  # of the thin-plate spline, in sides of the crop: landmarks are not exact
MOST_GAIN = 2.0  # of a colour channel's spread
FOREHEAD = 0.5  # of how high a landmark lies above the eyes: so much higher is the mask's edge
EDGE = 0.015  # of the crop's side: softness of the hull's edge
LEAST_HULL = 12  # points from which the face is their hull, and not an ellipse about five of them
CORNERS = np.array([(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.0, 0.5), (1.0, 0.5), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0)])
logger = logging.getLogger(__name__)


# ---- Warps: fitted to points of the target [N, 2] and those of the source [N, 2], in sides of the crop ----


def fit_similarity(target: np.ndarray, source: np.ndarray) -> Map:
    """Rotation, scale and shift, least squares; points on one spot are only shifted."""
    if np.ptp(target, axis=0).max() < 1e-6:
        return partial(transform, np.column_stack([np.eye(2), source.mean(axis=0) - target.mean(axis=0)]))
    return partial(transform, similarity(target, source))


def fit_affine(target: np.ndarray, source: np.ndarray) -> Map:
    """Six free numbers, least squares."""
    design = np.column_stack([target, np.ones(len(target))])
    return partial(transform, np.linalg.lstsq(design, source, rcond=None)[0].T)


def fit_spline(target: np.ndarray, source: np.ndarray) -> Map:
    """Thin-plate spline through the points, with the crop's border where the affine warp has it.

    The weights w and the affine part a solve [K + λI, P; Pᵀ, 0] [w; a] = [q; 0] with K_ij = r² log r.
    """
    anchors = np.concatenate([target, CORNERS])
    wanted = np.concatenate([source, fit_affine(target, source)(CORNERS)])
    count = len(anchors)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(anchors, anchors) + SMOOTHING * np.eye(count)
    system[:count, count:] = np.column_stack([anchors, np.ones(count)])
    system[count:, :count] = system[:count, count:].T
    solved = np.linalg.solve(system, np.concatenate([wanted, np.zeros((3, 2))]))

    def move(points: np.ndarray) -> np.ndarray:
        affine = np.column_stack([points, np.ones(len(points))]) @ solved[count:]
        moved: np.ndarray = _radial(points, anchors) @ solved[:count] + affine
        return moved

    return move


def _radial(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """r² log r between points [N, 2] and centres [M, 2]: [N, M], 0 where r is 0."""
    square = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    return 0.5 * square * np.log(np.maximum(square, 1e-12))


def warped(picture: np.ndarray, move: Map, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture pulled to where a warp says.

    Args:
      picture: uint8 RGB [H, H, 3], the source.
      move: target → source, in sides of the crop.
      size: side of the result in pixels.

    Returns:
      uint8 RGB [size, size, 3], and float32 [size, size]: 1 where the source has a pixel for it, else 0.
    """
    steps = (np.arange(size) + 0.5) / size
    rows = [move(np.column_stack([steps, np.full(size, y)])) for y in steps]
    places = np.stack(rows).astype(np.float32)
    inside = np.all((places >= 0.0) & (places <= 1.0), axis=2)
    x, y = np.moveaxis(places * picture.shape[0] - 0.5, 2, 0)
    pulled = cv2.remap(
        picture, np.ascontiguousarray(x), np.ascontiguousarray(y), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return pulled, np.asarray(inside, np.float32)


# ---- Mask, colour, blending ----


def hull_mask(points: np.ndarray, five: np.ndarray, size: int) -> np.ndarray:
    """The convex hull of landmarks and of some forehead above the brows, which are hardly seen at a hull's edge.

    Args:
      points: float [P, 2] in sides of the crop.
      five: float [5, 2], the usual five.
      size: side in pixels.

    Returns:
      float32 [size, size], 0 to 1, 0 in the outermost pixels.
    """
    eyes = five[:2].mean(axis=0)
    down = five[3:].mean(axis=0) - eyes
    down = down / max(float(np.hypot(*down)), 1e-6)
    above = np.minimum((points - eyes) @ down, 0.0)
    raised = points + FOREHEAD * above[:, None] * down
    hull = cv2.convexHull(np.round(raised * size - 0.5).astype(np.int32))
    mask = cv2.fillConvexPoly(np.zeros((size, size), np.float32), hull, 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), max(EDGE * size, 0.5))
    return mask * (border_ramp(size) > 0)


def transfer_colour(face: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of each channel of CIELAB as the target has them under the mask (Reinhard et al.).

    Args:
      face, target: uint8 RGB [size, size, 3].
      mask: float32 [size, size].

    Returns:
      uint8 RGB [size, size, 3]; no spread grows or shrinks more than `MOST_GAIN` times.
    """
    share = mask[..., None] / max(float(mask.sum()), 1e-6)
    lab, wanted = (cv2.cvtColor(one.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB) for one in (face, target))
    (mean, spread), (other_mean, other_spread) = colour_moments(lab, share), colour_moments(wanted, share)
    gain = np.clip(other_spread / np.maximum(spread, 1e-3), 1.0 / MOST_GAIN, MOST_GAIN)
    moved = ((lab - mean) * gain + other_mean).astype(np.float32)
    return np.round(np.clip(cv2.cvtColor(moved, cv2.COLOR_LAB2RGB), 0.0, 1.0) * 255.0).astype(np.uint8)


def poisson_blended(face: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The target with a face cloned in by its gradients where the mask is above a half."""
    size = target.shape[0]
    result = target.copy()
    here = Alignment(np.eye(2, 3), size, np.zeros((5, 2)), 0.0)
    paste_gradients(result, face, here, Place(0, 0, mask))
    return result


def swapped(source: np.ndarray, target: np.ndarray, move: Map, mask: np.ndarray) -> np.ndarray:
    """The source's face in the target's picture: warped, in the target's colours, blended in.

    Args:
      source, target: uint8 RGB squares.
      move: target → source, in sides of the crop.
      mask: float32 [size, size], the target's face.

    Returns:
      uint8 RGB of the target's shape.
    """
    moved, inside = warped(source, move, target.shape[0])
    mask = mask * inside
    return poisson_blended(transfer_colour(moved, target, mask), target, mask)


# ---- The rows ----

FITS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], Map]]] = {
    "similarity": ("similarity warp + Poisson", fit_similarity),
    "affine": ("affine warp + Poisson", fit_affine),
    "tps": ("thin-plate spline warp + Poisson", fit_spline),
}
FAMILY = "warp"
NEAREST = "_nearest"
NAMES = tuple(f"{FAMILY}_{fit}{which}" for which in ("", NEAREST) for fit in FITS)


@dataclass(frozen=True)
class WarpBaseline:
    """The source's face warped onto the target's.

    Attributes:
      key, title: as of any candidate.
      fit: target's and source's points → the warp.
      geometry: landmarks and pose of the pictures.
      pairs: the protocol's.
      read: ``person/picture`` → uint8 RGB square of the evaluated size.
      pictures: person → all pictures of theirs, among which the one of the nearest pose is taken; None: the pair's.
    """

    key: str
    title: str
    fit: Callable[[np.ndarray, np.ndarray], Map]
    geometry: FaceGeometry
    pairs: PairList
    read: Callable[[str], np.ndarray]
    pictures: Mapping[str, Sequence[str]] | None = None
    shows_source: bool = True
    kind: str = WARPED

    @property
    def about(self) -> str:
        """What the row tells, for the page."""
        picture = "the source's face" if self.pictures is None else "the source's picture of the nearest pose"
        return f"{picture} warped by landmarks onto the target's face and blended in, without training"

    @property
    def sha256(self) -> str:
        """Of what finds the landmarks."""
        return self.geometry.sha256

    def pictures_used(self, batch: PairBatch) -> list[str] | None:
        """Of each pair the source's picture of the nearest pose; None where the pair's own is taken."""
        if self.pictures is None:
            return None
        names = [(self.pairs.pairs[i].source, self.pairs.pairs[i].target) for i in batch.indices]
        return nearest_pose(self.geometry, self.pictures, names)

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Warp, transfer the colours, blend."""
        chosen = self.pictures_used(batch)
        used = chosen or [self.pairs.pairs[i].source for i in batch.indices]
        sources = [self.read(name) for name in chosen] if chosen else batch.sources
        targets = [self.pairs.pairs[i].target for i in batch.indices]
        source_points, points = self.geometry.landmarks(used), self.geometry.landmarks(targets)
        masks = self._masks(targets, points, batch.targets[0].shape[0])
        moves = [self.fit(target, source) for target, source in zip(points, source_points)]
        return [swapped(*one) for one in zip(sources, batch.targets, moves, masks)]

    def _masks(self, targets: Sequence[str], points: np.ndarray, size: int) -> list[np.ndarray]:
        """The targets' faces: the hulls of many landmarks, ellipses about few."""
        fives = self.geometry.five_points(targets)
        if points.shape[1] >= LEAST_HULL:
            return [hull_mask(one, five, size) for one, five in zip(points, fives)]
        return [soft_mask(five * size - 0.5, size) for five in fives]

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none: the target warped onto itself is the target."""


def warp_baselines(
    wanted: Sequence[str],
    geometry: FaceGeometry,
    pairs: PairList,
    read: Callable[[str], np.ndarray],
    pictures: Mapping[str, Sequence[str]],
) -> list[WarpBaseline]:
    """The rows that are asked for, of `NAMES`; ``"warp"`` stands for all that the networks allow.

    Args:
      wanted: names.
      geometry, pairs, read: as of `WarpBaseline`.
      pictures: person → all pictures of theirs.

    Raises:
      UserError: there is no such baseline, or nothing finds the landmarks or the pose that it needs.
    """
    for name in wanted:
        if name != FAMILY and name not in NAMES:
            known = ", ".join([FAMILY, *NAMES])
            raise UserError(f"there is no baseline '{name}'; choose among {known}.", "baseline-unknown")
    if wanted and not geometry.has_landmarks:
        raise UserError(
            "a warp needs landmarks; name a landmark network by --warp-landmarks or --landmarks.",
            "warp-without-landmarks",
        )
    for name in wanted:
        if name.endswith(NEAREST) and not geometry.has_pose:
            raise UserError(
                f"{name} takes the source's picture of the nearest pose; name a head-pose network by --pose.",
                "warp-without-pose",
            )
    if FAMILY in wanted and not geometry.has_pose:
        logger.info("without --pose the warps from the picture of the nearest pose are left out")
    every = [name for name in NAMES if geometry.has_pose or not name.endswith(NEAREST)]
    chosen = [name for name in every if FAMILY in wanted or name in wanted]
    return [_row(name, geometry, pairs, read, pictures) for name in chosen]


def _row(
    name: str,
    geometry: FaceGeometry,
    pairs: PairList,
    read: Callable[[str], np.ndarray],
    pictures: Mapping[str, Sequence[str]],
) -> WarpBaseline:
    nearest = name.endswith(NEAREST)
    title, fit = FITS[name.removeprefix(f"{FAMILY}_").removesuffix(NEAREST)]
    title += ", nearest pose" if nearest else ""
    return WarpBaseline(name, title, fit, geometry, pairs, read, pictures if nearest else None)

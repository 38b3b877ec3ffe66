"""Leakage: attributes of the source other than identity that came through to the results."""

from collections.abc import Mapping

import numpy as np

from simswap_jax.evaluation.metrics.intervals import Estimate, estimate
from simswap_jax.evaluation.metrics.regions import CELLS

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
    """How much of the source beyond identity came through: 0 nothing, 1 as in the source picture itself.

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
        if way.sum() == 0 or away.sum() == 0:
            continue
        scale = 1.0 - whole.sum() / away.sum()
        if scale > 1e-6:
            found[name] = estimate((own / way.mean() - other / away.mean()) / scale, groups[kept])
    return found


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

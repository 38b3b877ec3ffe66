"""Metrics by difference of yaw: target-oriented methods keep identity and pose however the source's head is turned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simswap_jax.evaluation.metrics.intervals import Estimate, estimate

EDGES = (10.0, 25.0)  # degrees between the bins
BINS = (f"under {EDGES[0]:g}°", f"{EDGES[0]:g}° to {EDGES[1]:g}°", f"{EDGES[1]:g}° and more")
METRICS = ("cosine_source", "pose_error")


@dataclass(frozen=True)
class ByYaw:
    """Metrics in bins of |yaw of the source − yaw of the target|.

    Attributes:
      pairs: how many pairs each bin holds.
      degrees: the mean difference in each; NaN where it is empty.
      values: candidate → metric → an estimate for each bin, None where it has fewer than two source people.
    """

    pairs: Sequence[int]
    degrees: Sequence[float]
    values: Mapping[str, Mapping[str, Sequence[Estimate | None]]]

    def to_json(self) -> dict[str, Any]:
        """As metrics.json holds it."""
        rows = {
            key: {name: [None if one is None else vars(one) for one in bins] for name, bins in row.items()}
            for key, row in self.values.items()
        }
        degrees = [value if np.isfinite(value) else None for value in self.degrees]
        return {"bins": list(BINS), "pairs": list(self.pairs), "degrees": degrees, "rows": rows}


def by_yaw(
    per_pair: Mapping[str, Mapping[str, np.ndarray]], source: np.ndarray, target: np.ndarray, groups: np.ndarray
) -> ByYaw:
    """Bin the pairs.

    Args:
      per_pair: candidate → metric → value of each pair [K].
      source, target: yaw of the pairs' pictures in degrees, [K]; pairs without one are in no bin.
      groups: [K], the sources' people, for the intervals.
    """
    apart = np.abs(source - target)
    number = np.where(np.isfinite(apart), np.digitize(apart, EDGES), -1)
    rows = [np.flatnonzero(number == index) for index in range(len(BINS))]
    values = {
        key: {name: [_mean(row[name], kept, groups) for kept in rows] for name in METRICS if name in row}
        for key, row in per_pair.items()
    }
    means = [float(apart[kept].mean()) if len(kept) else float("nan") for kept in rows]
    return ByYaw([len(kept) for kept in rows], means, values)


def _mean(values: np.ndarray, kept: np.ndarray, groups: np.ndarray) -> Estimate | None:
    some = values[kept]
    people = np.unique(groups[kept][np.isfinite(some)])
    return estimate(some, groups[kept]) if len(people) > 1 else None

"""Means with 95 % intervals. Whole groups are resampled, because swaps of one source go wrong together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ROUNDS = 2000  # resamplings of a bootstrap
ROUNDING = 1e-12  # values that spread by less, of their scale, are constant


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """E.g. ``0.512 [0.498, 0.527]``."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def times(self, factor: float) -> "Estimate":
        """In another unit."""
        return Estimate(self.mean * factor, self.low * factor, self.high * factor)


def estimate(values: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, rounds: int = ROUNDS) -> Estimate:
    """The mean of ``values`` [K] with a 95 % percentile bootstrap interval. Values that are NaN were not measured.

    Args:
      values: floats or booleans, K of them.
      groups: [K]; results that share a source person go wrong together, so whole groups are resampled.
      seed: of the resampling.
      rounds: how often it is resampled.

    Raises:
      ValueError: there are no values.
    """
    return ratio(values, np.ones(len(values)), groups, seed, rounds)


def ratio(
    above: np.ndarray, below: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, rounds: int = ROUNDS
) -> Estimate:
    """Σ above / Σ below over K values each, with a 95 % percentile bootstrap interval; arguments as of `estimate`."""
    values = np.stack([np.asarray(above, np.float64), np.asarray(below, np.float64)])
    return of_sums(values, lambda sums: sums[0] / sums[1], groups, seed, rounds)


def of_sums(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: np.ndarray | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Estimate:
    """A statistic of sums over K results, with a 95 % percentile bootstrap interval; other arguments as of `estimate`.

    Args:
      values: float [P, K], what is summed; a result with a NaN among them was not measured.
      statistic: sums [P, …] → […]; a draw for which it is NaN does not count.

    Raises:
      ValueError: there are no values.
    """
    kept = np.isfinite(values).all(axis=0)
    if not kept.any():
        raise ValueError("there is nothing to take the mean of.")
    labels = np.arange(values.shape[1]) if groups is None else np.asarray(groups)
    labels = np.unique(labels[kept], return_inverse=True)[1]
    parts = np.stack([np.bincount(labels, one) for one in values[:, kept]])
    drawn = np.random.default_rng(seed).integers(0, parts.shape[1], (rounds, parts.shape[1]))
    low, high = np.nanpercentile(statistic(parts[:, drawn].sum(axis=2)), [2.5, 97.5])
    return Estimate(float(statistic(values[:, kept].sum(axis=1))), float(low), float(high))


def correlation(
    x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int = 0, rounds: int = ROUNDS
) -> Estimate | None:
    """Pearson's of x and y [K], with a 95 % percentile bootstrap interval; other arguments as of `estimate`.

    Returns:
      None where fewer than three pairs were measured or one side is constant.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) < 3 or any(values.std() <= ROUNDING * np.abs(values).max() for values in (x, y)):
        return None
    x, y = x - x.mean(), y - y.mean()

    def of(sums: np.ndarray) -> np.ndarray:
        count, a, b, aa, bb, ab = sums
        across, up = aa - a * a / count, bb - b * b / count
        constant = (across <= ROUNDING * aa) | (up <= ROUNDING * bb)  # one pair drawn again and again
        spread = np.where(constant, np.nan, across * up)
        return np.clip((ab - a * b / count) / np.sqrt(spread), -1.0, 1.0)

    return of_sums(np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y]), of, groups[kept], seed, rounds)


def jackknife(statistic: Callable[[np.ndarray], float], groups: np.ndarray) -> Estimate:
    """A statistic of a whole set, with value ± 1.96 of its jackknife standard error.

    For FID and KID: resampling with replacement puts copies among the features, which they take for structure, so
    groups are left out one by one instead.

    Args:
      statistic: of the kept rows, bool [K].
      groups: [K], at least two different ones.

    Raises:
      ValueError: there is one group only.
    """
    names = np.unique(groups)
    if len(names) < 2:
        raise ValueError("a jackknife needs at least two groups.")
    whole = statistic(np.ones(len(groups), bool))
    parts = np.array([statistic(groups != name) for name in names])
    error = float(np.sqrt((len(names) - 1) / len(names) * ((parts - parts.mean()) ** 2).sum()))
    return Estimate(whole, whole - 1.96 * error, whole + 1.96 * error)


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's: the correlation of the ranks of x and y [K], equal values sharing theirs; NaN if one is constant."""
    a, b = (_ranks(np.asarray(values, np.float64)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / length if length > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """0 for the least; equal values get the mean of their places."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: np.ndarray = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]

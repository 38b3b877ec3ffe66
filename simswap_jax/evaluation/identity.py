"""Whose face is it? Retrieval and cosines over identity vectors, with intervals. NumPy in, NumPy out."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gallery:
    """Everybody who could be found.

    Attributes:
      sums: float64 [P, D], the sum of each person's vectors.
      counts: int [P], how many vectors that is.
    """

    sums: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """E.g. ``0.512 [0.498, 0.527]``."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def gallery(vectors: np.ndarray, person: np.ndarray, people: int) -> Gallery:
    """Gather the vectors [N, D] of ``people`` persons; ``person`` [N] says whose each is. Rows with NaN are left out.

    Raises:
      ValueError: somebody has no vector.
    """
    kept = np.isfinite(vectors).all(axis=1)
    vectors, person = vectors[kept].astype(np.float64), np.asarray(person)[kept]
    counts = np.bincount(person, minlength=people)
    if (counts == 0).any():
        raise ValueError(f"person {int(np.argmin(counts))} of the gallery has no vector; leave that person out.")
    sums = np.zeros((people, vectors.shape[1]))
    np.add.at(sums, person, vectors)
    return Gallery(sums, counts)


def retrieval(
    results: np.ndarray, found: Gallery, person: np.ndarray, left_out: np.ndarray | None = None
) -> np.ndarray:
    """Top-1: is the nearest person of the gallery, by cosine to the mean vector of each, the right one?

    Args:
      results: float [K, D], L2-normalised vectors of what is judged.
      found: the gallery, P people.
      person: int [K], the right answers.
      left_out: float [K, D], for each result a vector that is taken out of the right person's mean, because the result
        was made from that very picture and should find the person, not the picture. An only picture stays in.

    Returns:
      bool [K].
    """
    person = np.asarray(person)
    means = _unit(found.sums)
    scores = _unit(results) @ means.T  # [K, P]
    if left_out is not None:
        others = found.sums[person] - left_out
        alone = (found.counts[person] <= 1)[:, None]
        right = _unit(np.where(alone, found.sums[person], others))
        scores[np.arange(len(person)), person] = np.sum(_unit(results) * right, axis=1)
    return np.argmax(scores, axis=1) == person


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of a and b [K, D] → float [K]."""
    return np.sum(_unit(a) * _unit(b), axis=1)


def nearer_source(results: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Is each result nearer to its source picture than to its target picture? [K, D] each → bool [K]."""
    return cosine(results, sources) > cosine(results, targets)


def estimate(values: np.ndarray, groups: np.ndarray | None = None, seed: int = 0, rounds: int = 2000) -> Estimate:
    """The mean of ``values`` [K] with a 95 % percentile bootstrap interval.

    Args:
      values: numbers or booleans, K of them.
      groups: int [K]; results that share a source person go wrong together, so whole groups are drawn.
      seed: of the drawing.
      rounds: how often it is drawn.

    Raises:
      ValueError: there are no values.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        raise ValueError("there is nothing to take the mean of.")
    labels = np.arange(len(values)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(labels, values), np.bincount(labels)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (rounds, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float64; a zero row stays zero."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

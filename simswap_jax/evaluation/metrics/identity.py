"""Identity metrics: retrieval, verification and cosines over identity vectors. NumPy in, NumPy out."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Centroids:
    """The mean vectors of everybody who could be retrieved, as sums and counts.

    Attributes:
      sums: float64 [P, D], the sum of each person's vectors.
      counts: int [P], how many vectors that is.
    """

    sums: np.ndarray
    counts: np.ndarray


def centroids(vectors: np.ndarray, person: np.ndarray, people: int) -> Centroids:
    """Sum the vectors [N, D] of ``people`` identities; ``person`` [N] says whose each is. Rows with NaN are left out.

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
    return Centroids(sums, counts)


def retrieval(
    results: np.ndarray, gallery: Centroids, person: np.ndarray, excluded: np.ndarray | None = None
) -> np.ndarray:
    """ID retrieval, top-1: is the nearest person of the gallery, by cosine to the mean vector of each, the right one?

    Args:
      results: float [K, D], L2-normalised vectors of what is evaluated.
      gallery: P people.
      person: int [K], the right answers.
      excluded: float [K, D], for each result a vector that is taken out of the right person's mean, because the result
        was made from that very picture and should find the person, not the picture. An only picture stays in.

    Returns:
      bool [K].
    """
    person = np.asarray(person)
    means = _unit(gallery.sums)
    scores = _unit(results) @ means.T  # [K, P]
    if excluded is not None:
        others = gallery.sums[person] - excluded
        only_one = (gallery.counts[person] <= 1)[:, None]
        right = _unit(np.where(only_one, gallery.sums[person], others))
        scores[np.arange(len(person)), person] = np.sum(_unit(results) * right, axis=1)
    return np.argmax(scores, axis=1) == person


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of a and b [K, D] → float [K]."""
    return np.sum(_unit(a) * _unit(b), axis=1)


def nearer_source(results: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Is each result nearer to its source picture than to its target picture? [K, D] each → bool [K]."""
    return cosine(results, sources) > cosine(results, targets)


def nearest_picture(
    results: np.ndarray, vectors: np.ndarray, person: np.ndarray, wanted: np.ndarray, excluded: np.ndarray | None = None
) -> np.ndarray:
    """The paper's ID retrieval: does the nearest single picture of the gallery show the right person?

    Args:
      results: float [K, D], vectors of what is evaluated.
      vectors: float [N, D], the gallery's pictures, and
      person: int [N], whom they show.
      wanted: int [K], the right answers.
      excluded: int [K], a row of the gallery that may not be the answer, e.g. the very source picture; -1 for none.

    Returns:
      bool [K].
    """
    known: np.ndarray = _unit(vectors).astype(np.float32)
    found: np.ndarray = np.zeros(len(results), bool)
    for start in range(0, len(results), 256):
        rows = slice(start, start + 256)
        scores = _unit(results[rows]).astype(np.float32) @ known.T
        if excluded is not None:
            affected = np.flatnonzero(excluded[rows] >= 0)
            scores[affected, excluded[rows][affected]] = -2.0
        found[rows] = np.asarray(person)[np.argmax(scores, axis=1)] == wanted[rows]
    return found


def pair_cosines(
    vectors: np.ndarray, person: np.ndarray, most: int = 3000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of real pictures: those of one person, and those of two; float32 each.

    Of more than ``most`` pictures, so many are drawn: N²/2 pairs are plenty then.
    """
    if len(vectors) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), most, replace=False))
        vectors, person = vectors[rows], np.asarray(person)[rows]
    unit: np.ndarray = _unit(vectors).astype(np.float32)
    first, second = np.triu_indices(len(unit), 1)
    cosines, same = (unit @ unit.T)[first, second], np.asarray(person)[first] == np.asarray(person)[second]
    return cosines[same], cosines[~same]


def threshold_at(impostors: np.ndarray, rate: float) -> float:
    """The cosine from which on a pair is accepted, if the share ``rate`` of the impostors' pairs may be.

    It is their (1 − rate) quantile.

    Raises:
      ValueError: the rate is not between 0 and 1, or there are too few pairs to see it (under 1 / rate).
    """
    if not 0 < rate < 1:
        raise ValueError(f"the false-accept rate is {rate}; it lies between 0 and 1.")
    if len(impostors) * rate < 1:
        raise ValueError(
            f"a false-accept rate of {rate} needs {int(np.ceil(1 / rate))} pairs of different people and there are "
            f"{len(impostors)}; ask for a larger rate or bring more pictures."
        )
    return float(np.quantile(impostors, 1 - rate))


def roc(genuine: np.ndarray, impostors: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """True-accept rates at the false-accept rates ``rates`` [R], each in (0, 1): float [R]."""
    thresholds = np.quantile(impostors, 1 - np.asarray(rates))
    return (np.asarray(genuine)[None, :] >= thresholds[:, None]).mean(axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float64; a zero row stays zero."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

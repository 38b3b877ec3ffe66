"""Photos that are said to show one person: which of them do not, by the cosine of their identity vectors."""

import numpy as np

MIN_PHOTOS = 3  # photos of a person from which outliers can be found
ROUNDS = 5  # at most, of leaving outliers out of the mean and comparing again


def cosine_to_others(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """How similar each photo of one person is to the person's others.

    The cosine to the mean of the others; those under the threshold are left out of the mean, and all are compared
    again.

    Args:
      vectors: float32 [n, D], of length one.
      threshold: a cosine.

    Returns:
      float32 [n]; NaN where there are fewer than `MIN_PHOTOS`.
    """
    if len(vectors) < MIN_PHOTOS:
        return np.full(len(vectors), np.nan, np.float32)
    kept: np.ndarray = np.ones(len(vectors), bool)
    cosines: np.ndarray = np.zeros(len(vectors), np.float32)
    for _ in range(ROUNDS):
        others = vectors[kept].sum(axis=0) - np.where(kept[:, None], vectors, 0.0)
        length = np.linalg.norm(others, axis=1)
        cosines = (vectors * others).sum(axis=1) / np.maximum(length, 1e-6)
        again = cosines >= threshold
        if again.sum() < 2 or (again == kept).all():
            break
        kept = again
    return cosines.astype(np.float32)

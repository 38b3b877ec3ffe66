"""Several photos that are said to show one person: which of them do not, by the identity network."""

import numpy as np

LEAST = 3  # photos of a person from which the odd one can be told
ROUNDS = 5  # of leaving out who does not belong and asking again


def cosines_to_the_others(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """How alike each photo of one person is to the person's others.

    The cosine to the mean of the others; those under the threshold are left out of the mean, and all are asked again.

    Args:
      vectors: float32 [n, D], of length one.
      threshold: a cosine.

    Returns:
      float32 [n]; NaN where there are fewer than `LEAST`.
    """
    if len(vectors) < LEAST:
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

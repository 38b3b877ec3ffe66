"""Which of the faces that were cut out stay: not the same shot twice, nobody under a wrong name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from simswap_jax.data.outliers import MIN_PHOTOS, cosine_to_others
from simswap_jax.preparation.duplicates import clusters, near_pairs, near_pairs_of_many
from simswap_jax.preparation.manifest import Seen


@dataclass(frozen=True)
class Verdict:
    """Why a face does not stay.

    Attributes:
      reason: of ``settings.REASONS``.
      detail: what was seen.
      like: the file of another face that shows it, if there is one.
    """

    reason: str
    detail: str
    like: str = ""


def duplicates(faces: Sequence[Seen]) -> dict[str, Verdict]:
    """The same shots of one person; the one with most pixels of its photo stays, of equals the first by name."""
    out: dict[str, Verdict] = {}
    for _, group in groupby(faces, key=lambda one: one.person):
        of_one = list(group)
        pairs = [pair for known in hashes(of_one) for pair in near_pairs(known)]
        for cluster in clusters(len(of_one), pairs):
            best = min((of_one[i] for i in cluster), key=lambda one: (one.enlarged, one.file))
            out.update(
                (of_one[i].file, Verdict("duplicate", f"the same shot as {best.file}", best.file))
                for i in cluster
                if of_one[i] is not best
            )
    return out


def wrong_people(
    faces: Sequence[Seen], vectors: Callable[[int, int], np.ndarray], threshold: float
) -> tuple[dict[str, Verdict], int]:
    """The faces that are not the person of their folder, and how many could not be checked.

    Args:
      faces: those that are left, by person.
      vectors: gives the identity vectors of the faces from one index up to another, float32 [n, D], of length one.
      threshold: the least cosine to the mean of the person's others.
    """
    out: dict[str, Verdict] = {}
    start, unchecked = 0, 0
    for _, group in groupby(faces, key=lambda one: one.person):
        of_one = list(group)
        if len(of_one) < MIN_PHOTOS:
            unchecked += len(of_one)
        else:
            known = vectors(start, start + len(of_one))
            cosines = cosine_to_others(known, threshold)
            typical = of_one[int(np.argmax(cosines))].file
            out.update(
                (one.file, Verdict("wrong person", f"cosine {cosine:.2f} to the person's others", typical))
                for one, cosine in zip(of_one, cosines)
                if cosine < threshold
            )
        start += len(of_one)
    return out, unchecked


def two_people(faces: Sequence[Seen]) -> dict[str, Verdict]:
    """The same shots under several names: nobody knows which is right, so none stays."""
    out: dict[str, Verdict] = {}
    if not faces:
        return out
    pairs = [pair for known in hashes(faces) for pair in near_pairs_of_many(known)]
    for cluster in clusters(len(faces), pairs):
        for i in cluster:
            other = next((faces[j].file for j in cluster if faces[j].person != faces[i].person), "")
            if other:
                out[faces[i].file] = Verdict("two people", f"the same shot as {other}", other)
    return out


def hashes(faces: Sequence[Seen]) -> tuple[np.ndarray, np.ndarray]:
    """The perceptual hashes of the faces and of their photos, uint8 [N, 32] each."""
    both = (one.hash for one in faces), (one.photo_hash for one in faces)
    first, second = (np.frombuffer(bytes.fromhex("".join(words)), np.uint8).reshape(len(faces), -1) for words in both)
    return first, second

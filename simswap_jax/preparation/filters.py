"""Which of the faces that were cut out stay: not the same shot twice, nobody under a wrong name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from simswap_jax.data.embeddings import MIN_PHOTOS, cosine_to_others
from simswap_jax.preparation.manifest import PhotoRecord

# Of 256 bits. Of 11 million pairs of aligned CelebA faces 13 differ in at most 40; all are the same shot, in other
# colours or files. Adjacent shots begin at about 50.
MOST_BITS = 40
BAND = 3  # bytes: pairs of different people are looked for among hashes that share so many in one place


@dataclass(frozen=True)
class Rejection:
    """Why a face does not stay.

    Attributes:
      reason: of ``sources.REASONS``.
      detail: what was measured.
      like: the file of another face that shows it, if there is one.
    """

    reason: str
    detail: str
    like: str = ""


@dataclass(frozen=True)
class Selection:
    """What became of every photo.

    Attributes:
      records: of all photos, by person and name.
      rejections: by the face's file, those that were cut out and do not stay.
    """

    records: Sequence[PhotoRecord]
    rejections: Mapping[str, Rejection]

    def reason(self, record: PhotoRecord) -> str:
        """Why a photo is left out; empty where its face stays."""
        return record.reason or (self.rejections[record.file].reason if record.file in self.rejections else "")

    def detail(self, record: PhotoRecord) -> str:
        """What was measured of a photo that is left out."""
        return record.detail or (self.rejections[record.file].detail if record.file in self.rejections else "")

    @property
    def kept(self) -> list[PhotoRecord]:
        """The photos whose faces stay."""
        return [record for record in self.records if not self.reason(record)]


def duplicates(faces: Sequence[PhotoRecord]) -> dict[str, Rejection]:
    """The same shots of one person; the one with most pixels of its photo stays, of equals the first by name."""
    out: dict[str, Rejection] = {}
    for _, group in groupby(faces, key=lambda record: record.person):
        of_one = list(group)
        pairs = [pair for known in hashes(of_one) for pair in near_pairs(known)]
        for cluster in clusters(len(of_one), pairs):
            best = min((of_one[i] for i in cluster), key=lambda record: (record.enlarged, record.file))
            out.update(
                (of_one[i].file, Rejection("duplicate", f"the same shot as {best.file}", best.file))
                for i in cluster
                if of_one[i] is not best
            )
    return out


def wrong_people(
    faces: Sequence[PhotoRecord], vectors: Callable[[int, int], np.ndarray], threshold: float
) -> tuple[dict[str, Rejection], int]:
    """The faces that are not the person of their folder, and how many could not be checked.

    Args:
      faces: those that are left, by person.
      vectors: gives the identity vectors of the faces from one index up to another, float32 [n, D], of length one.
      threshold: the least cosine to the mean of the person's others.
    """
    out: dict[str, Rejection] = {}
    start, unchecked = 0, 0
    for _, group in groupby(faces, key=lambda record: record.person):
        of_one = list(group)
        if len(of_one) < MIN_PHOTOS:
            unchecked += len(of_one)
        else:
            known = vectors(start, start + len(of_one))
            cosines = cosine_to_others(known, threshold)
            typical = of_one[int(np.argmax(cosines))].file
            out.update(
                (record.file, Rejection("wrong person", f"cosine {cosine:.2f} to the person's others", typical))
                for record, cosine in zip(of_one, cosines)
                if cosine < threshold
            )
        start += len(of_one)
    return out, unchecked


def two_people(faces: Sequence[PhotoRecord]) -> dict[str, Rejection]:
    """The same shots under several names: it is unclear which is right, so none stays."""
    out: dict[str, Rejection] = {}
    if not faces:
        return out
    pairs = [pair for known in hashes(faces) for pair in near_pairs_of_many(known)]
    for cluster in clusters(len(faces), pairs):
        for i in cluster:
            other = next((faces[j].file for j in cluster if faces[j].person != faces[i].person), "")
            if other:
                out[faces[i].file] = Rejection("two people", f"the same shot as {other}", other)
    return out


def hashes(faces: Sequence[PhotoRecord]) -> tuple[np.ndarray, np.ndarray]:
    """The perceptual hashes of the faces and of their photos, uint8 [N, 32] each."""
    both = (record.hash for record in faces), (record.photo_hash for record in faces)
    first, second = (np.frombuffer(bytes.fromhex("".join(words)), np.uint8).reshape(len(faces), -1) for words in both)
    return first, second


def near_pairs(hashes: np.ndarray, most: int = MOST_BITS) -> list[tuple[int, int]]:
    """All pairs i < j of hashes uint8 [N, 32] that differ in at most ``most`` bits; in quadratic time."""
    pairs = []
    for i in range(len(hashes) - 1):
        near = np.flatnonzero(bits_apart(hashes[i], hashes[i + 1 :]) <= most)
        pairs += [(i, i + 1 + int(j)) for j in near]
    return pairs


def near_pairs_of_many(hashes: np.ndarray, most: int = MOST_BITS) -> list[tuple[int, int]]:
    """Pairs as `near_pairs` finds them, of millions: only those that share a whole band of bytes are compared.

    Copies that differ in 8 bits are found with a probability of 0.99, in 16 bits of 0.9.
    """
    found: set[tuple[int, int]] = set()
    for start in range(0, hashes.shape[1] - BAND + 1, BAND):
        band = hashes[:, start : start + BAND].astype(np.uint32) @ (256 ** np.arange(BAND)).astype(np.uint32)
        order = np.argsort(band, kind="stable")
        for group in _runs(band[order], order):
            found.update((int(group[i]), int(group[j])) for i, j in near_pairs(hashes[group], most))
    return sorted(found)


def bits_apart(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """In how many bits a hash uint8 [B] differs from others [N, B]: int [N]."""
    return np.bitwise_count(one ^ others).sum(axis=-1)


def clusters(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Indices 0 … count − 1 in groups that pairs connect; only groups of several."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs:
        parent[max(root(i), root(j))] = min(root(i), root(j))
    groups: dict[int, list[int]] = {}
    for i in {i for pair in pairs for i in pair}:
        groups.setdefault(root(i), []).append(i)
    return [sorted(group) for _, group in sorted(groups.items())]


def _runs(values: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Those stretches of ``order`` in which sorted ``values`` are equal, of two and more; in ascending order."""
    edges: np.ndarray = np.flatnonzero(np.diff(values)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(values)]])
    for start, end in zip(starts, ends):
        if end - start > 1:
            yield np.sort(order[start:end])

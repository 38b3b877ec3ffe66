"""The same shot more than once: pairs of perceptual hashes that differ in few bits."""

from collections.abc import Iterator, Sequence

import numpy as np

# Of 256 bits. Of 11 million pairs of aligned CelebA faces 13 differ in at most 40; all are the same shot, in other
# colours or files. Adjacent shots begin at about 50.
MOST_BITS = 40
BAND = 3  # bytes: pairs of different people are looked for among hashes that share so many in one place


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

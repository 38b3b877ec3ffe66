"""Identity vectors of the faces that were cut out, block by block, so that a kill costs one block."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simswap_jax.data.embeddings import embedded, embedder, read_vectors, write_vectors
from simswap_jax.io.images import decode_plain, read_bytes
from simswap_jax.io.progress import Progress
from simswap_jax.preparation.manifest import PhotoRecord
from simswap_jax.weights.identity_folder import Identity

BLOCK = 4096  # faces
METHOD = "bicubic"  # as in training


class FaceVectors:
    """Vectors of a list of faces, float32 [N, 2, D] in blocks on disk: of each face and of its mirror."""

    def __init__(self, blocks: Sequence[np.ndarray]) -> None:
        self._blocks = blocks

    def slice(self, start: int, end: int) -> np.ndarray:
        """Those from ``start`` up to ``end``: float32 [n, 2, D]."""
        parts = []
        while start < end:
            block, first = self._blocks[start // BLOCK], start % BLOCK
            count = min(end - start, len(block) - first)
            parts.append(np.asarray(block[first : first + count]))
            start += count
        return np.concatenate(parts)

    def mean(self, start: int, end: int) -> np.ndarray:
        """Of each face the direction between its vector and its mirror's: float32 [n, D], of length one."""
        together = self.slice(start, end).sum(axis=1)
        return together / np.maximum(np.linalg.norm(together, axis=1, keepdims=True), 1e-12)


def face_vectors(
    faces: Sequence[PhotoRecord], folder: Path, identity: Identity, size: int, batch_size: int, blocks: Path
) -> FaceVectors:
    """The vectors of faces, read where they are known and computed where not.

    Args:
      faces: in the order of the vectors.
      folder: where the faces lie, by `PhotoRecord.file`.
      identity: the network.
      size: side of the faces.
      batch_size: faces at a time.
      blocks: folder of the blocks; those of other faces or networks are removed.
    """
    embed = embedder(identity.network, METHOD)
    progress = Progress(len(faces), "faces embedded")
    files, found = [], []
    for start in range(0, len(faces), BLOCK):
        some = faces[start : start + BLOCK]
        file = blocks / f"{start // BLOCK:06d}-{_key(some, identity.sha256, size)}.npy"
        files.append(file)
        vectors = read_vectors(file, len(some))
        if vectors is None:
            computed = embedded(
                embed,
                identity.variables,
                lambda row, some=some: _picture(folder, some[row].file),  # type: ignore[misc]
                len(some),
                batch_size,
                progress.add,
            )
            write_vectors(file, computed)
            vectors = read_vectors(file, len(some))
            assert vectors is not None
        else:
            progress.add(len(some))
        found.append(vectors)
    for file in set(blocks.glob("*")) - set(files):
        file.unlink()
    return FaceVectors(found)


def _key(faces: Sequence[PhotoRecord], sha256: str, size: int) -> str:
    """16 hex digits for everything that a block depends on."""
    digest = hashlib.sha256(f"{sha256} {size} {METHOD}\n".encode())
    for record in faces:
        digest.update(f"{record.file} {record.stamp}\n".encode())
    return digest.hexdigest()[:16]


def _picture(folder: Path, file: str) -> np.ndarray:
    return decode_plain(read_bytes(folder / file), file)

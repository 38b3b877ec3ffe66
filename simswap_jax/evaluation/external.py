"""Other programs' pictures of the same pairs."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import EXTERNAL, PairBatch
from simswap_jax.inference.swapper import check_face, resized
from simswap_jax.io.images import SUFFIXES, read_picture


class ExternalResults:
    """Aligned pictures that any other program made: ``<folder>/<index of the pair, five digits>.<png, jpg, …>``."""

    kind = EXTERNAL
    shows_source = True

    def __init__(self, key: str, folder: Path, pairs: int) -> None:
        """Find the pictures.

        Raises:
          UserError: the folder is missing, or does not hold one picture for each pair.
        """
        self.key = self.title = key
        self._files = files_by_pair(folder, pairs)
        self.sha256 = files_sha256(self._files)

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Read them."""
        pictures = []
        for index, target in zip(batch.indices, batch.targets):
            picture = read_picture(self._files[index])
            check_face(picture, f"result {self._files[index]}")
            pictures.append(resized(picture, target.shape[0]))
        return pictures

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none."""


def files_by_pair(folder: Path, pairs: int) -> list[Path]:
    """The picture of each pair, in their order.

    Raises:
      UserError: the folder is missing, lacks a picture, or holds one too many.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder of results {folder}; check the path.", "results-missing")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
    missing = [index for index in range(pairs) if f"{index:05d}" not in found]
    if missing:
        raise UserError(
            f"{folder} has no picture for {len(missing)} of the {pairs} pairs (the first: {missing[0]:05d}.png); "
            "name each result by its pair's index in pairs.json, five digits, from 00000 on.",
            "results-incomplete",
        )
    if len(found) > pairs:
        extra = next(stem for stem in found if not (stem.isdigit() and int(stem) < pairs))
        raise UserError(
            f"{folder} holds {found[extra].name}, which belongs to none of the {pairs} pairs; "
            "evaluate it with the pairs it was made from (--protocol pairs.json).",
            "results-of-other-pairs",
        )
    return [found[f"{index:05d}"] for index in range(pairs)]


def files_sha256(files: Sequence[Path]) -> str:
    """The hash of files one after the other."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()

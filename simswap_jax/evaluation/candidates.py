"""What is compared: models, other programs' results and baselines, each a row of the table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.inference.swapper import FaceSwapper, check_face, resized
from simswap_jax.io.images import SUFFIXES, read_picture

MODEL, EXTERNAL, BASELINE = "model", "results", "baseline"


@dataclass(frozen=True)
class PairBatch:
    """Some of the pairs, read.

    Attributes:
      indices: which pairs of the protocol, n of them.
      sources, targets: n uint8 RGB squares at the size that is evaluated.
      source_points, target_points: float [n, 5, 2] in sides of the crop, NaN where unknown.
      ground_truth: n uint8 RGB squares, where the answers are known.
    """

    indices: Sequence[int]
    sources: list[np.ndarray]
    targets: list[np.ndarray]
    source_points: np.ndarray
    target_points: np.ndarray
    ground_truth: list[np.ndarray] | None = None


class Candidate(Protocol):
    """Anything that turns pairs into pictures to evaluate."""

    @property
    def key(self) -> str:
        """Its name in the JSON."""

    @property
    def title(self) -> str:
        """Its name in tables."""

    @property
    def kind(self) -> str:
        """``MODEL``, ``EXTERNAL`` or ``BASELINE``."""

    @property
    def sha256(self) -> str:
        """The hash of what it is made from."""

    @property
    def shows_source(self) -> bool:
        """Whether its pictures are meant to show the source's identity; else they show the target's."""

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """One uint8 RGB square for each pair, of the targets' size."""
        ...

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray] | None:
        """The targets swapped with their own identity, where that can be done."""
        ...


class ModelCandidate:
    """A model folder."""

    kind = MODEL
    shows_source = True

    def __init__(self, key: str, swapper: FaceSwapper) -> None:
        self.key = self.title = key
        self.swapper = swapper
        self.sha256 = weights_sha256(swapper.model.variables)

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its source's identity."""
        return self.swapper.swap_faces(batch.targets, self.swapper.identity_vectors(batch.sources))

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its own."""
        return self.swapper.swap_faces(batch.targets, self.swapper.identity_vectors(batch.targets))


def weights_sha256(variables: Any) -> str:
    """The hash of a tree of arrays: names and values, in order of the names."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


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

"""What is compared: models, other programs' results and baselines, each a row of the table."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

from simswap_jax.inference.swapper import FaceSwapper

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

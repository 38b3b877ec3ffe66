"""Every network on every picture: the real ones and each candidate's results, chunk by chunk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from simswap_jax.evaluation.candidates import SOURCE, Candidate, ChoosesSource, PairBatch
from simswap_jax.evaluation.gallery import PICTURES_A_CHUNK, Gallery
from simswap_jax.evaluation.judges.evaluators import Evaluators, Predictions
from simswap_jax.evaluation.metrics import reconstruction, regions
from simswap_jax.evaluation.protocols.protocol import GroundTruth, PairList
from simswap_jax.io.images import read_picture, resize_square
from simswap_jax.io.job_cache import ChunkCache
from simswap_jax.io.progress import Progress, to_terminal

PAIRS_A_CHUNK = 64  # in memory at once


@dataclass(frozen=True)
class EvalInputs:
    """What is evaluated.

    Attributes:
      pairs: the swaps.
      root: where their pictures lie.
      size: side in pixels at which everything is evaluated.
      ground_truth: where the answers are known.
      landmarks: of pictures by name, float [n, P, 2] in sides of the crop, where the protocol knows them.
      template: float [5, 2], where the crops have the usual five, as of `crop_template`.
    """

    pairs: PairList
    root: Path
    size: int
    ground_truth: GroundTruth | None = None
    landmarks: Callable[[Sequence[str]], np.ndarray] | None = None
    template: np.ndarray | None = None

    def read(self, picture: str) -> np.ndarray:
        """A picture ``person/file``, uint8 RGB [size, size, 3]."""
        return resize_square(read_picture(self.root / picture), self.size)

    def batch(self, evaluators: Evaluators, indices: Sequence[int]) -> PairBatch:
        """Read the pairs of these indices, with the usual five landmarks: found by the network, else the template's."""
        pairs = [self.pairs.pairs[index] for index in indices]
        sources, targets = [self.read(pair.source) for pair in pairs], [self.read(pair.target) for pair in pairs]
        points = evaluators.five_points(sources, self.template), evaluators.five_points(targets, self.template)
        source_people, target_people = (
            [getattr(pair, side).rsplit("/", 1)[0] for pair in pairs] for side in ("source", "target")
        )
        truth = self.ground_truth
        answers = list(truth.pictures(indices, self.size)) if truth else None
        altered = {name: make(indices, self.size) for name, make in truth.altered.items()} if truth else {}
        known = self.landmarks([pair.target for pair in pairs]) if self.landmarks else None
        batch = PairBatch(indices, sources, targets, *points, answers, known, altered)
        return replace(batch, source_people=source_people, target_people=target_people)


def predict_real(
    inputs: EvalInputs, evaluators: Evaluators, gallery: Gallery, cache: ChunkCache
) -> dict[str, np.ndarray]:
    """Pose, landmarks and features of the real pictures of the protocol's people.

    Returns:
      as `Evaluators.predict`, without identity, and ``name``: ``person/picture``.
    """
    names = gallery.pictures(sorted(inputs.pairs.people))
    progress = Progress(len(names), "real pictures measured", to_terminal)
    chunks = []
    for start in range(0, len(names), PICTURES_A_CHUNK):
        some = names[start : start + PICTURES_A_CHUNK]
        chunks.append(cache.get_or_compute(f"real_{start:07d}", partial(_predicted, inputs, evaluators, some)))
        progress.add(len(some))
    return joined(chunks)


def _predicted(inputs: EvalInputs, evaluators: Evaluators, names: Sequence[str]) -> dict[str, np.ndarray]:
    return {
        **evaluators.predict([inputs.read(name) for name in names], identity=False),
        "name": np.array(names),
    }


def predict_results(
    inputs: EvalInputs, evaluators: Evaluators, candidates: Sequence[Candidate], cache: ChunkCache
) -> dict[str, dict[str, np.ndarray]]:
    """Every candidate's pictures of every pair, measured: key → arrays over the pairs, as of `measure_batch`.

    The candidate ``source`` is added: leakage is measured against it.
    """
    every: list[Candidate] = [*candidates, SOURCE]
    chunks: dict[str, list[dict[str, np.ndarray]]] = {candidate.key: [] for candidate in every}
    progress = Progress(len(inputs.pairs.pairs) * len(every), "results measured", to_terminal)
    for indices in pair_chunks(len(inputs.pairs.pairs)):
        chunk = _Chunk(inputs, evaluators, indices)
        for candidate in every:
            # Not named by the candidate alone: one may be called "gallery" or "real".
            name = f"results_{candidate.key}_{indices[0]:07d}"
            chunks[candidate.key].append(cache.get_or_compute(name, partial(chunk.measured, candidate)))
            progress.add(len(indices))
    return {key: joined(parts) for key, parts in chunks.items()}


@dataclass(frozen=True)
class _Chunk:
    """Some of the pairs, read when the first candidate needs them."""

    inputs: EvalInputs
    evaluators: Evaluators
    indices: Sequence[int]

    @cached_property
    def batch(self) -> PairBatch:
        return self.inputs.batch(self.evaluators, self.indices)

    def measured(self, candidate: Candidate) -> dict[str, np.ndarray]:
        return measure_batch(self.evaluators, candidate, self.batch)


def pair_chunks(count: int) -> list[list[int]]:
    """Indices 0 … count − 1, in runs."""
    return [list(range(start, min(start + PAIRS_A_CHUNK, count))) for start in range(0, count, PAIRS_A_CHUNK)]


def measure_batch(evaluators: Evaluators, candidate: Candidate, batch: PairBatch) -> dict[str, np.ndarray]:
    """One candidate's pictures of some pairs.

    Returns:
      what `Evaluators.predict` gives; ``laplacian``, ``surroundings``, ``light`` of `regions`, by the targets' masks;
      ``self_l1``, ``self_psnr``, ``self_ssim`` of targets swapped with their own identity, where the candidate can;
      ``truth_l1``, ``truth_psnr``, ``truth_ssim`` against the ground truth, where it is known; ``kept_<attribute>``,
      whether the target's attribute was kept, where it is known how the source's would look; ``used``, the names of
      the source's pictures, where the candidate chooses them.
    """
    results = candidate.results(batch)
    pictures, targets = np.stack(results), np.stack(batch.targets)
    masks = regions.face_masks(batch.target_points, len(targets), targets.shape[1])
    measured = evaluators.predict(results)
    measured["laplacian"] = regions.laplacian_energy(pictures, masks)
    measured["surroundings"] = regions.surroundings(pictures, masks).astype(np.float32)
    measured["light"] = regions.light(pictures, masks)
    used = candidate.pictures_used(batch) if isinstance(candidate, ChoosesSource) else None
    if used is not None:
        measured["used"] = np.array(used)
    self_swaps = candidate.self_swaps(batch)
    if self_swaps is not None:
        measured |= _errors("self", np.stack(self_swaps), targets)
    if batch.ground_truth is not None:
        truth = np.stack(batch.ground_truth)
        measured |= _errors("truth", pictures, truth)
        for name, altered in batch.altered.items():
            measured[f"kept_{name}"] = regions.nearer(pictures, truth, altered).astype(np.float32)
    return measured


def _errors(what: str, pictures: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    measures: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "l1": reconstruction.l1,
        "psnr": reconstruction.psnr,
        "ssim": reconstruction.ssim,
    }
    return {f"{what}_{name}": measure(pictures, wanted) for name, measure in measures.items()}


def example_rows(
    inputs: EvalInputs, evaluators: Evaluators, candidates: Sequence[Candidate], indices: Sequence[int]
) -> list[list[np.ndarray]]:
    """The pairs of these indices to be shown: [source, target, each candidate's result …] a pair."""
    batch = inputs.batch(evaluators, indices)
    results = [candidate.results(batch) for candidate in candidates]
    return [list(pictures) for pictures in zip(batch.sources, batch.targets, *results)]


def joined(chunks: Sequence[Predictions]) -> dict[str, np.ndarray]:
    """Arrays of the same names, one after the other."""
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]} if chunks else {}

"""Every network on every picture: the gallery, the real pictures, and each candidate's results, chunk by chunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.baselines import SOURCE
from simswap_jax.evaluation.candidates import Candidate, PairBatch
from simswap_jax.evaluation.judges.evaluators import Evaluators, Predictions
from simswap_jax.evaluation.judges.recogniser import embed_files, no_readable_picture
from simswap_jax.evaluation.metrics import reconstruction, regions
from simswap_jax.evaluation.protocols.protocol import GroundTruth, PairList
from simswap_jax.evaluation.work import ChunkCache
from simswap_jax.io.images import read_picture, resize_square
from simswap_jax.io.progress import Progress, to_terminal

PAIRS_A_CHUNK = 64  # in memory at once
PICTURES_A_CHUNK = 512  # real ones, between two savings


@dataclass(frozen=True)
class EvalInputs:
    """What is evaluated.

    Attributes:
      pairs: the swaps.
      root: where their pictures lie.
      size: side in pixels at which everything is evaluated.
      ground_truth: where the answers are known.
    """

    pairs: PairList
    root: Path
    size: int
    ground_truth: GroundTruth | None = None

    def read(self, picture: str) -> np.ndarray:
        """A picture ``person/file``, uint8 RGB [size, size, 3]."""
        return resize_square(read_picture(self.root / picture), self.size)

    def batch(self, evaluators: Evaluators, indices: Sequence[int]) -> PairBatch:
        """Read the pairs of these indices; landmarks only where the network finds the usual five."""
        pairs = [self.pairs.pairs[index] for index in indices]
        sources, targets = [self.read(pair.source) for pair in pairs], [self.read(pair.target) for pair in pairs]
        points = evaluators.five_points(sources), evaluators.five_points(targets)
        answers = list(self.ground_truth.pictures(indices, self.size)) if self.ground_truth else None
        return PairBatch(indices, sources, targets, *points, answers)


@dataclass(frozen=True)
class Gallery:
    """Every readable picture of everybody, embedded once.

    Attributes:
      names: the people, P of them.
      files: person → names of that person's picture files.
      row: ``person/picture`` → its row in the arrays.
      person: int [N], index into ``names``.
      vectors: float32 [N, D], L2-normalised.
    """

    names: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    row: Mapping[str, int]
    person: np.ndarray
    vectors: np.ndarray

    def rows(self, pictures: Sequence[str]) -> np.ndarray:
        """Rows of pictures called ``person/picture``: int [K].

        Raises:
          UserError: one of them is not here.
        """
        for name in pictures:
            if name not in self.row:
                raise UserError(
                    f"the protocol names {name}, which is no readable picture of the data; "
                    "use the data it was drawn from.",
                    "pair-not-in-data",
                )
        return np.array([self.row[name] for name in pictures], int)

    def pictures(self, people: Sequence[str]) -> list[str]:
        """``person/picture`` of all readable pictures of some people."""
        return [f"{person}/{file}" for person in people for file in self.files.get(person, ())]


def embed_gallery(
    evaluators: Evaluators, people: Mapping[str, Sequence[Path]], cache: ChunkCache | None = None
) -> tuple[Gallery, list[str]]:
    """Embed every picture of ``people``.

    Returns:
      the gallery, and a sentence for each picture that could not be read.

    Raises:
      UserError: none can be read.
    """
    pictures = [(name, file) for name, files in people.items() for file in files]
    progress = Progress(len(pictures), "pictures embedded", to_terminal)
    chunks, broken = [], []
    for start in range(0, len(pictures), PICTURES_A_CHUNK):
        files = [file for _, file in pictures[start : start + PICTURES_A_CHUNK]]
        compute = partial(_embedded, evaluators, files)
        chunk = cache.get_or_compute(f"gallery_{start:07d}", compute) if cache else compute()
        chunks.append(chunk["vectors"])
        broken += chunk["broken"].tolist()
        progress.add(len(files))
    width = max(chunk.shape[1] for chunk in chunks)
    vectors = np.concatenate([v if v.shape[1] == width else np.full((len(v), width), np.nan) for v in chunks])
    readable = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if not len(readable):
        raise no_readable_picture(broken)
    return gallery_of([pictures[i] for i in readable], vectors[readable]), broken


def _embedded(evaluators: Evaluators, files: Sequence[Path]) -> dict[str, np.ndarray]:
    vectors, sentences = embed_files(evaluators.recogniser, files)
    return {"vectors": vectors, "broken": np.array(sentences, dtype=str)}


def gallery_of(pictures: Sequence[tuple[str, Path]], vectors: np.ndarray) -> Gallery:
    """N pictures, as (person, file), and their vectors [N, D] as a gallery."""
    names = tuple(dict.fromkeys(name for name, _ in pictures))
    index = {name: i for i, name in enumerate(names)}
    files: dict[str, list[str]] = {name: [] for name in names}
    for name, file in pictures:
        files[name].append(file.name)
    row = {f"{name}/{file.name}": i for i, (name, file) in enumerate(pictures)}
    person = np.array([index[name] for name, _ in pictures])
    return Gallery(names, {name: tuple(theirs) for name, theirs in files.items()}, row, person, vectors)


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
      ``truth_l1``, ``truth_psnr``, ``truth_ssim`` against the ground truth, where it is known.
    """
    results = candidate.results(batch)
    pictures, targets = np.stack(results), np.stack(batch.targets)
    masks = regions.face_masks(batch.target_points, len(targets), targets.shape[1])
    measured = evaluators.predict(results)
    measured["laplacian"] = regions.laplacian_energy(pictures, masks)
    measured["surroundings"] = regions.surroundings(pictures, masks).astype(np.float32)
    measured["light"] = regions.light(pictures, masks)
    self_swaps = candidate.self_swaps(batch)
    if self_swaps is not None:
        measured |= _errors("self", np.stack(self_swaps), targets)
    if batch.ground_truth is not None:
        measured |= _errors("truth", pictures, np.stack(batch.ground_truth))
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

"""One trial: everybody as the judges see them, and every row's pictures of the protocol's pairs as they see those."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import SOURCE, Chunk, Row
from simswap_jax.evaluation.judges.predictions import Judges, Sight
from simswap_jax.evaluation.judges.recognition import embed_files
from simswap_jax.evaluation.metrics import reconstruction, regions
from simswap_jax.evaluation.protocols.pairs import Protocol
from simswap_jax.evaluation.work import Work
from simswap_jax.io.images import read_picture, resize_square
from simswap_jax.io.progress import Progress

CHUNK = 64  # pairs in memory at once
PIECE = 512  # pictures of the gallery between two savings


@dataclass(frozen=True)
class Album:
    """Every readable picture of everybody, judged once.

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
        """Rows of pictures called ``person/picture``; a UserError names the first that is not here."""
        for name in pictures:
            if name not in self.row:
                raise UserError(
                    f"the protocol names {name}, which is no readable picture of the data; "
                    "use the data it was drawn from."
                )
        return np.array([self.row[name] for name in pictures], int)


@dataclass(frozen=True)
class Scene:
    """What is judged.

    Attributes:
      plan: the pairs.
      root: where their pictures lie.
      size: side in pixels at which everything is judged.
      truths: numbers of pairs → the true answers at that size, where they are known.
    """

    plan: Protocol
    root: Path
    size: int
    truths: Callable[[Sequence[int]], list[np.ndarray]] | None = None


def judge_everybody(
    judges: Judges, people: Mapping[str, Sequence[Path]], progress: Progress | None, work: Work | None = None
) -> tuple[Album, list[str]]:
    """Embed every picture of ``people``; returns the album and a sentence for each picture that could not be read."""
    pairs = [(name, file) for name, files in people.items() for file in files]
    vectors, broken = [], []
    for start in range(0, len(pairs), PIECE):
        files = [file for _, file in pairs[start : start + PIECE]]

        def piece(files: list[Path] = files) -> dict[str, np.ndarray]:
            read, sentences = embed_files(judges.recogniser, files)
            return {"vectors": read, "broken": np.array(sentences, dtype=str)}

        kept = work.piece(f"gallery_{start:07d}", piece) if work else piece()
        vectors.append(kept["vectors"])
        broken += kept["broken"].tolist()
        if progress is not None:
            progress.add(len(files))
    width = max(part.shape[1] for part in vectors)
    everything = np.concatenate([v if v.shape[1] == width else np.full((len(v), width), np.nan) for v in vectors])
    kept_rows = np.flatnonzero(np.isfinite(everything).all(axis=1))
    if not len(kept_rows):
        raise UserError("none of the pictures to judge could be read; " + (broken[0] if broken else "there are none."))
    pairs = [pairs[i] for i in kept_rows]
    names = tuple(dict.fromkeys(name for name, _ in pairs))
    number = {name: i for i, name in enumerate(names)}
    of_person: dict[str, list[str]] = {name: [] for name in names}
    for name, file in pairs:
        of_person[name].append(file.name)
    row = {f"{name}/{file.name}": i for i, (name, file) in enumerate(pairs)}
    person = np.array([number[name] for name, _ in pairs])
    return Album(names, {k: tuple(v) for k, v in of_person.items()}, row, person, everything[kept_rows]), broken


def look_at_people(scene: Scene, judges: Judges, album: Album, work: Work, progress: Progress) -> dict[str, np.ndarray]:
    """What pose, landmark and feature judges see in the real pictures of the protocol's people, at the judged size.

    Returns:
      ``angles``, ``landmarks`` and ``features``, as far as there are judges, and ``name``, ``person/picture``.
    """
    names = [f"{person}/{file}" for person in sorted(scene.plan.people) for file in album.files.get(person, ())]
    parts = []
    for start in range(0, len(names), PIECE):
        chunk = names[start : start + PIECE]

        def piece(chunk: list[str] = chunk) -> dict[str, np.ndarray]:
            faces = [resize_square(read_picture(scene.root / name), scene.size) for name in chunk]
            return {**judges.look(faces, identity=False), "name": np.array(chunk)}

        parts.append(work.piece(f"people_{start:07d}", piece))
        progress.add(len(chunk))
    return joined(parts)


def chunks(scene: Scene) -> list[list[int]]:
    """Numbers of the pairs, in runs."""
    count = len(scene.plan.pairs)
    return [list(range(start, min(start + CHUNK, count))) for start in range(0, count, CHUNK)]


def read_chunk(scene: Scene, judges: Judges, numbers: Sequence[int]) -> Chunk:
    """Read the pairs of these numbers; landmarks only where the judge of them finds the usual five."""
    pairs = [scene.plan.pairs[number] for number in numbers]
    sources = [resize_square(read_picture(scene.root / pair.source), scene.size) for pair in pairs]
    targets = [resize_square(read_picture(scene.root / pair.target), scene.size) for pair in pairs]
    if judges.landmarks is not None and judges.landmarks.points == 5:
        points = judges.landmarks.find(sources), judges.landmarks.find(targets)
    else:
        points = np.full((len(pairs), 5, 2), np.nan), np.full((len(pairs), 5, 2), np.nan)
    truths = scene.truths(numbers) if scene.truths else None
    return Chunk(numbers, sources, targets, *points, truths)


def judge_rows(
    scene: Scene, judges: Judges, rows: Sequence[Row], work: Work, progress: Progress
) -> dict[str, dict[str, np.ndarray]]:
    """Every row's pictures of every pair, judged: key → arrays over the pairs, as of `judged`.

    The row ``source`` is added: the leakage is measured against it.
    """
    every: list[Row] = [*rows, SOURCE]
    parts: dict[str, list[dict[str, np.ndarray]]] = {row.key: [] for row in every}
    for numbers in chunks(scene):
        chunk: Chunk | None = None
        for row in every:

            def piece(row: Row = row, numbers: list[int] = numbers) -> dict[str, np.ndarray]:
                nonlocal chunk
                chunk = chunk or read_chunk(scene, judges, numbers)
                return judged(judges, row, chunk)

            parts[row.key].append(work.piece(f"{row.key}_{numbers[0]:07d}", piece))
            progress.add(len(numbers))
    return {key: joined(rows_of) for key, rows_of in parts.items()}


def judged(judges: Judges, row: Row, chunk: Chunk) -> dict[str, np.ndarray]:
    """One row's pictures of some pairs.

    Returns:
      what `Judges.look` gives; ``laplacian``, ``surroundings`` and ``light`` of `regions`, by the targets' masks;
      ``self_l1``, ``self_psnr``, ``self_ssim`` of targets swapped with their own identity, where the row can;
      ``truth_l1``, ``truth_psnr``, ``truth_ssim`` against the true answers, where they are known.
    """
    results = row.results(chunk)
    pictures, targets = np.stack(results), np.stack(chunk.targets)
    masks = regions.face_masks(chunk.target_points, len(targets), targets.shape[1])
    seen = judges.look(results)
    seen["laplacian"] = regions.laplacian_energy(pictures, masks)
    seen["surroundings"] = regions.surroundings(pictures, masks).astype(np.float32)
    seen["light"] = regions.light(pictures, masks)
    copies = row.copies(chunk)
    if copies is not None:
        seen |= _compared("self", np.stack(copies), targets)
    if chunk.truths is not None:
        seen |= _compared("truth", pictures, np.stack(chunk.truths))
    return seen


def pictures_of(scene: Scene, judges: Judges, rows: Sequence[Row], numbers: Sequence[int]) -> list[list[np.ndarray]]:
    """The pairs of these numbers to look at: [source, target, each row's result …] a pair."""
    chunk = read_chunk(scene, judges, numbers)
    results = [row.results(chunk) for row in rows]
    return [list(pictures) for pictures in zip(chunk.sources, chunk.targets, *results)]


def joined(parts: Sequence[Sight]) -> dict[str, np.ndarray]:
    """Arrays of the same names, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _compared(what: str, pictures: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f"{what}_l1": reconstruction.l1(pictures, wanted),
        f"{what}_psnr": reconstruction.psnr(pictures, wanted),
        f"{what}_ssim": reconstruction.ssim(pictures, wanted),
    }

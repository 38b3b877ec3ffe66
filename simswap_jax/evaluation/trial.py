"""One trial of a model: everybody as the judge sees them, the swaps of a protocol, and what came of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simswap_jax.data.pictures import read_picture, resize_square
from simswap_jax.data.progress import Progress
from simswap_jax.errors import UserError
from simswap_jax.evaluation import identity, reconstruction
from simswap_jax.evaluation.judges import HeadPose, Recogniser, embed_files
from simswap_jax.evaluation.protocol import Protocol
from simswap_jax.swapping.swapper import FaceSwapper

CHUNK = 64  # pairs in memory at once


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
class Verdict:
    """What the judge says of K pictures that should show their source: arrays [K]."""

    retrieval: np.ndarray
    nearer_source: np.ndarray
    cosine_source: np.ndarray
    cosine_target: np.ndarray
    groups: np.ndarray  # the source's person, for the bootstrap


@dataclass(frozen=True)
class Swaps:
    """The swaps of a protocol's K pairs.

    Attributes:
      vectors: float32 [K, D], how the judge sees each result.
      measures: name → float [K]: ``self_l1``, ``self_psnr``, ``self_ssim`` of swapping each target with its own
        identity, and ``pose_error`` in degrees where a pose judge was given.
      examples: the first few as [source, target, result], uint8 at the model's face size.
    """

    vectors: np.ndarray
    measures: Mapping[str, np.ndarray]
    examples: list[list[np.ndarray]]


def judge_everybody(
    judge: Recogniser, people: Mapping[str, Sequence[Path]], progress: Progress | None
) -> tuple[Album, list[str]]:
    """Embed every picture of ``people``; returns the album and a sentence for each picture that could not be read."""
    pairs = [(name, file) for name, files in people.items() for file in files]
    vectors, broken = embed_files(judge, [file for _, file in pairs], progress)
    kept = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    pairs = [pairs[i] for i in kept]
    names = tuple(dict.fromkeys(name for name, _ in pairs))
    number = {name: i for i, name in enumerate(names)}
    files: dict[str, tuple[str, ...]] = {}
    for name, file in pairs:
        files[name] = (*files.get(name, ()), file.name)
    row = {f"{name}/{file.name}": i for i, (name, file) in enumerate(pairs)}
    return Album(names, files, row, np.array([number[name] for name, _ in pairs]), vectors[kept]), broken


def swap_pairs(
    swapper: FaceSwapper,
    judge: Recogniser,
    pose: HeadPose | None,
    plan: Protocol,
    root: Path,
    examples: int = 20,
    progress: Progress | None = None,
) -> Swaps:
    """Swap every pair of ``plan``, and every target with itself, at the model's face size."""
    vectors: list[np.ndarray] = []
    parts: list[dict[str, np.ndarray]] = []
    shown: list[list[np.ndarray]] = []
    for start in range(0, len(plan.pairs), CHUNK):
        chunk = plan.pairs[start : start + CHUNK]
        sources = [
            resize_square(picture, picture.shape[0]) for picture in (read_picture(root / pair.source) for pair in chunk)
        ]
        targets = [resize_square(read_picture(root / pair.target), swapper.face_size) for pair in chunk]
        results = swapper.swap_faces(targets, swapper.identity_vectors(sources))
        copies = np.stack(swapper.swap_faces(targets, swapper.identity_vectors(targets)))
        vectors.append(judge.embed(results))
        originals = np.stack(targets)
        part = {
            "self_l1": reconstruction.l1(copies, originals),
            "self_psnr": reconstruction.psnr(copies, originals),
            "self_ssim": reconstruction.ssim(copies, originals),
        }
        if pose is not None:
            part["pose_error"] = np.linalg.norm(pose.angles(results) - pose.angles(targets), axis=1)
        parts.append(part)
        room = max(0, examples - len(shown))
        shown += [
            [resize_square(source, swapper.face_size), target, result]
            for source, target, result in list(zip(sources, targets, results))[:room]
        ]
        if progress is not None:
            progress.add(len(chunk))
    measures = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Swaps(np.concatenate(vectors), measures, shown)


def verdicts(album: Album, plan: Protocol, swaps: Swaps) -> dict[str, Verdict]:
    """What the judge says of the results (``result``), the untouched targets (``floor``) and another photo of each
    source person (``ceiling``, where somebody has one).

    The source person's picture that a row shows or was made from is taken out of that person's gallery mean.
    """
    sources = album.rows([pair.source for pair in plan.pairs])
    targets = album.rows([pair.target for pair in plan.pairs])
    found = {
        "result": _verdict(album, swaps.vectors, sources, targets, sources),
        "floor": _verdict(album, album.vectors[targets], sources, targets, sources),
    }
    seen = [i for i, pair in enumerate(plan.pairs) if pair.witness is not None]
    if seen:
        witness = album.rows([str(plan.pairs[i].witness) for i in seen])
        found["ceiling"] = _verdict(album, album.vectors[witness], sources[seen], targets[seen], witness)
    return found


def _verdict(
    album: Album, judged: np.ndarray, sources: np.ndarray, targets: np.ndarray, left_out: np.ndarray
) -> Verdict:
    everybody = identity.gallery(album.vectors, album.person, len(album.names))
    person, source, target = album.person[sources], album.vectors[sources], album.vectors[targets]
    return Verdict(
        identity.retrieval(judged, everybody, person, album.vectors[left_out]),
        identity.nearer_source(judged, source, target),
        identity.cosine(judged, source),
        identity.cosine(judged, target),
        person,
    )

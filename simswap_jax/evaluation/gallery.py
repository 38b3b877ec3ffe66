"""The gallery: every real picture as the face-recognition network sees it, among which identities are retrieved."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.judges.networks import embed_files, no_readable_picture
from simswap_jax.io.atomic import json_fingerprint
from simswap_jax.io.job_cache import ChunkCache
from simswap_jax.io.progress import Progress, to_terminal
from simswap_jax.io.user_folders import cache_folder

PICTURES_A_CHUNK = 512  # between two savings
KEPT = 8  # galleries in the user's cache, the newest


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


def gallery_cache(evaluators: Evaluators, people: Mapping[str, Sequence[Path]], alignment: str) -> ChunkCache | None:
    """Where the vectors of these pictures by this recogniser are kept between evaluations; None where there is no cache
    or it cannot be written.

    Args:
      evaluators: the recogniser is part of what they depend on, by its SHA-256.
      people: person → picture files; their names, sizes and times are part of it too.
      alignment: the template of the crops.
    """
    folder = cache_folder()
    if folder is None:
        return None
    listing = [[name, str(file), *size_and_time(file)] for name, files in people.items() for file in files]
    job = {"recogniser": evaluators.recogniser.sha256, "alignment": alignment, "pictures": json_fingerprint(listing)}
    place = folder / "galleries" / json_fingerprint(job)[:24]
    try:
        cache = ChunkCache(place, job)
        place.touch()  # the newest now
        others = sorted(place.parent.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)
    except (UserError, OSError):
        return None
    for old in others[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return cache


def size_and_time(file: Path) -> tuple[int, int]:
    """Bytes of a file and when it was changed, in nanoseconds; 0, 0 where it cannot be told: of a link to nothing."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


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
    vectors = np.concatenate(
        [v if v.shape[1] == width else np.full((len(v), width), np.nan, np.float32) for v in chunks]
    )
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

"""Identity vectors of a whole data set, computed once, of every picture and of its mirror; outliers among them.

A file of vectors is found again by a key of everything that went into it: the network's SHA-256, the data set's
fingerprint, the size at which the network was shown the pictures. Some people of a data set find their vectors in the
file of the whole set.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_file
from simswap_jax.io.progress import Progress

BATCH_SIZE = 64  # pictures that a network is shown at a time
Embedder = Callable[[Any, Any], jax.Array]


class IdentityEncoder(Protocol):
    """An identity network with its weights (`weights.identity_folder.Identity`)."""

    @property
    def network(self) -> "Network":
        """The network."""

    @property
    def variables(self) -> Any:
        """Its Flax variables."""

    @property
    def sha256(self) -> str:
        """Names network and variables: the same string must mean the same vectors."""


class Network(Protocol):
    """What is asked of an identity network (`models.identity.IdentityNetwork`)."""

    @property
    def config(self) -> Any:
        """Its `frame` is the height and width that faces are resized to."""

    def embed(self, variables: Any, pictures: jax.Array, method: str = "bicubic") -> jax.Array:
        """Pictures [B,H,W,3] in [0,1] → unit vectors [B,D], float32."""


def identity_vectors(
    people: People,
    identity: IdentityEncoder,
    cache_dir: str | os.PathLike,
    *,
    size: int | None = None,
    method: str = "bicubic",
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """The identity vectors of a data set, read from `cache_dir` where they were computed before.

    Args:
      people: the data set.
      identity: an identity network with its weights.
      cache_dir: where the file of vectors goes (N × 2 × D × 4 bytes).
      size: side in pixels at which the pictures are given to `Network.embed`. Best the side of the faces in training,
        so that the network gets sources and results at one size; None for the side that the network resizes to.
      method: of `Network.embed`.
      batch_size: pictures at a time.

    Returns:
      float32 [N,2,D], unit length: [:, 0] of the pictures, [:, 1] of their mirrors.

    Raises:
      UserError: when a picture cannot be decoded, a vector is not finite, or the file cannot be written. Nothing
        half-written is left.
    """
    size = size or max(identity.network.config.frame)

    def compute() -> np.ndarray:
        with Progress(len(people), "pictures embedded") as progress:
            return embedded(
                embedder(identity.network, method),
                identity.variables,
                lambda row: people.picture(row, size),
                len(people),
                min(batch_size, len(people)),
                progress.add,
            )

    return cached(people, identity.sha256, cache_dir, size, compute, method)


def cached(
    people: People,
    sha256: str,
    cache_dir: str | os.PathLike,
    size: int,
    compute: Callable[[], np.ndarray],
    method: str = "",
    views: int = 2,
) -> np.ndarray:
    """Numbers of every picture, float32 [N,V,D]: the file's, or computed and written to it.

    Args:
      people: the data set; some people of one find theirs in the file of the whole set.
      sha256: of what computes them.
      cache_dir, size, method: as of `identity_vectors`.
      compute: gives them.
      views: V, of how many views of a picture there are numbers: 2, the picture and its mirror, or 1, the picture.
    """
    file = vectors_file(people.fingerprint, sha256, cache_dir, size, method)
    if (vectors := read_vectors(file, len(people), views)) is not None:
        return vectors
    whole = vectors_file(people.whole, sha256, cache_dir, size, method)
    if whole != file and (vectors := read_vectors(whole, people.count_of_whole, views)) is not None:
        return vectors[people.rows]
    vectors = compute()
    write_vectors(file, vectors)
    return vectors


def vectors_file(fingerprint: str, sha256: str, cache_dir: str | os.PathLike, size: int, method: str) -> Path:
    """Where the vectors of a data set lie; the name stands for everything that they depend on."""
    key = hashlib.sha256(f"{sha256} {fingerprint} {size} {method}".encode()).hexdigest()[:16]
    return Path(cache_dir) / f"vectors-{key}.npy"


def embedder(network: Network, method: str) -> Embedder:
    """A program: variables and uint8 [B,H,W,3] → unit vectors of the pictures and of their mirrors, float32 [B,2,D]."""

    @jax.jit
    def embed(variables: Any, pictures: jax.Array) -> jax.Array:
        scaled = pictures.astype(jnp.float32) / 255
        both = jnp.concatenate([scaled, scaled[:, :, ::-1]])
        vectors = network.embed(variables, both, method=method)
        return jnp.stack(jnp.split(vectors, 2), axis=1)

    return embed


def embedded(
    embed: Embedder,
    variables: Any,
    picture: Callable[[int], np.ndarray],
    count: int,
    batch_size: int,
    done: Callable[[int], None],
) -> np.ndarray:
    """The identity vectors of pictures 0 … count − 1: float32 [count,2,D]; arguments as of `compute_in_batches`.

    Raises:
      UserError: a vector is not finite.
    """
    together = compute_in_batches(embed, variables, picture, count, batch_size, done)
    if not np.isfinite(together).all():
        raise UserError(
            "The identity network gives vectors that are not finite; its weights are broken: fetch or train them anew.",
            "vectors-not-finite",
        )
    return together


def compute_in_batches(
    program: Callable[[Any, Any], jax.Array],
    variables: Any,
    picture: Callable[[int], np.ndarray],
    count: int,
    batch_size: int,
    done: Callable[[int], None],
) -> np.ndarray:
    """A program's numbers of pictures 0 … count − 1: float32 [count,…]. The next batch is read while one is computed.

    Args:
      program: variables and uint8 pictures [B,H,W,3] → numbers [B,…].
      variables: what it takes beside the pictures.
      picture: gives a picture, uint8 RGB [H,W,3], all of one size; called in another thread.
      count: how many there are, one or more.
      batch_size: pictures at a time; the last batch is filled up, so that there is one program.
      done: called with how many more are done.
    """

    def stack(start: int) -> np.ndarray:
        rows = np.minimum(np.arange(start, start + batch_size), count - 1)
        return np.stack([picture(int(row)) for row in rows])

    starts = range(0, count, batch_size)
    parts: list[np.ndarray] = []
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(stack, 0)
        for start in starts:
            made = program(variables, following.result())
            if start + batch_size < count:
                following = reader.submit(stack, start + batch_size)
            parts.append(np.asarray(made, np.float32))
            done(min(batch_size, count - start))
    return np.concatenate(parts)[:count]


def read_vectors(file: Path, count: int, views: int = 2) -> np.ndarray | None:
    """The vectors in a file, float32 [count,views,D], paged in as they are asked for; None without whole ones."""
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = vectors.ndim == 3 and vectors.shape[:2] == (count, views) and vectors.dtype == np.float32
    return vectors if fits else None


def write_vectors(file: Path, vectors: np.ndarray) -> None:
    """Write vectors [N,V,D], whole or not at all.

    Raises:
      CannotWrite: they cannot be written.
    """
    with replacing_file(file) as temporary, temporary.open("wb") as stream:
        np.save(stream, vectors)


MIN_PHOTOS = 3  # photos of a person from which outliers can be found
ROUNDS = 5  # at most, of leaving outliers out of the mean and comparing again


def cosine_to_others(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """How similar each photo of one person is to the person's others.

    The cosine to the mean of the others; those under the threshold are left out of the mean, and all are compared
    again.

    Args:
      vectors: float32 [n, D], of length one.
      threshold: a cosine.

    Returns:
      float32 [n]; NaN where there are fewer than `MIN_PHOTOS`.
    """
    if len(vectors) < MIN_PHOTOS:
        return np.full(len(vectors), np.nan, np.float32)
    kept: np.ndarray = np.ones(len(vectors), bool)
    cosines: np.ndarray = np.zeros(len(vectors), np.float32)
    for _ in range(ROUNDS):
        others = vectors[kept].sum(axis=0) - np.where(kept[:, None], vectors, 0.0)
        length = np.linalg.norm(others, axis=1)
        cosines = (vectors * others).sum(axis=1) / np.maximum(length, 1e-6)
        again = cosines >= threshold
        if again.sum() < 2 or (again == kept).all():
            break
        kept = again
    return cosines.astype(np.float32)

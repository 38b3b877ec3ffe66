"""Identity vectors of a whole data set, computed once: of every picture and of its mirror.

A file of vectors is found again by a key of everything that went into it: the network's SHA-256, the data set's
  fingerprint, the size
at which the network was shown the pictures.
"""

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.data.people import People
from simswap_jax.data.progress import Progress, Sink, to_terminal
from simswap_jax.errors import UserError


class Network(Protocol):
    """What is asked of an identity network (`models.identity.IdentityNetwork`)."""

    @property
    def config(self) -> Any:
        """Its `frame` is the height and width that faces are resized to."""

    def embed(self, variables: Any, pictures: jax.Array, method: str = "bicubic") -> jax.Array:
        """Pictures [B,H,W,3] in [0,1] → unit vectors [B,D], float32."""


def identity_vectors(
    people: People,
    network: Network,
    variables: Any,
    sha256: str,
    cache_dir: str | os.PathLike,
    *,
    size: int | None = None,
    method: str = "bicubic",
    batch_size: int = 64,
    progress: Sink | None = to_terminal,
) -> np.ndarray:
    """The identity vectors of a data set, read from `cache_dir` where they were computed before.

    Args:
      people: the data set.
      network: an identity network.
      variables: its Flax variables.
      sha256: names network and variables; the same string must mean the same numbers.
      cache_dir: where the file of vectors goes (N × 2 × D × 4 bytes).
      size: side in pixels at which the pictures are given to `network.embed`. Best the side of the faces in training,
        so that a source is seen as a result is; None for the side that the network resizes everything to.
      method: of `network.embed`.
      batch_size: pictures at a time.
      progress: is given lines of progress; None is silent.

    Returns:
      float32 [N,2,D], unit length: [:, 0] of the pictures, [:, 1] of their mirrors.

    Raises:
      UserError: when a picture cannot be decoded, a vector is not finite, or the file cannot be written. Nothing
        half-written is left.
    """
    size = size or max(network.config.frame)
    file = Path(cache_dir) / f"vectors-{vectors_key(people, sha256, size, method)}.npy"
    if (vectors := _read(file, len(people))) is not None:
        return vectors
    vectors = _compute(people, network, variables, size, method, min(batch_size, len(people)), progress)
    if not np.isfinite(vectors).all():
        raise UserError(
            "The identity network gives vectors that are not finite; its weights are broken: fetch or train them anew."
        )
    _write(file, vectors)
    return vectors


def vectors_key(people: People, sha256: str, size: int, method: str) -> str:
    """16 hex digits for everything that the vectors depend on."""
    return hashlib.sha256(f"{sha256} {people.fingerprint} {size} {method}".encode()).hexdigest()[:16]


def _compute(
    people: People, network: Network, variables: Any, size: int, method: str, batch_size: int, progress: Sink | None
) -> np.ndarray:
    @jax.jit
    def embed(variables: Any, pictures: jax.Array) -> jax.Array:
        scaled = pictures.astype(jnp.float32) / 255
        both = jnp.concatenate([scaled, scaled[:, :, ::-1]])
        vectors = network.embed(variables, both, method=method)
        return jnp.stack(jnp.split(vectors, 2), axis=1)

    starts = range(0, len(people), batch_size)
    rows = [
        np.minimum(np.arange(start, start + batch_size), len(people) - 1) for start in starts
    ]  # one shape, one program
    counter = Progress(len(people), "pictures embedded", progress)
    parts: list[np.ndarray] = []
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_stack, people, rows[0], size)
        for number in range(len(rows)):
            vectors = embed(variables, following.result())
            if number + 1 < len(rows):
                following = reader.submit(_stack, people, rows[number + 1], size)
            parts.append(np.asarray(vectors, np.float32))
            counter.add(min(batch_size, len(people) - starts[number]))
    return np.concatenate(parts)[: len(people)]


def _stack(people: People, rows: np.ndarray, size: int) -> np.ndarray:
    return np.stack([people.picture(int(row), size) for row in rows])


def _read(file: Path, count: int) -> np.ndarray | None:
    """The vectors in a file; None where there are none, or not whole ones."""
    try:
        vectors = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return vectors if vectors.ndim == 3 and vectors.shape[:2] == (count, 2) and vectors.dtype == np.float32 else None


def _write(file: Path, vectors: np.ndarray) -> None:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            np.save(stream, vectors)
        temporary.replace(file)
    except OSError as error:
        raise UserError(
            f"The identity vectors cannot be written to {file} ({error.strerror}); free room or choose another folder."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()

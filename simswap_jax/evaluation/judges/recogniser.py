"""Face recognition networks: pictures → identity vectors.

A network that measures identity should not be the one that the generator was trained with: the generator learns to
please that one.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.onnx import BATCH_SIZE, OnnxNetwork, resized
from simswap_jax.inference.swapper import batches, embed, normalised, pad
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.weights import identity_folder, model_folder


class Recogniser(Protocol):
    """Anything that turns face crops into identity vectors.

    Attributes:
      name: for tables.
      sha256: of its weights; tells whether it is the network that a model was trained with.
    """

    name: str
    sha256: str

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares of any size → float32 [N, D], L2-normalised."""
        ...


class OnnxRecogniser:
    """A recogniser in an ONNX file: float32 [n, 3, H, W] RGB 0…255 in, [n, D] out."""

    def __init__(self, path: Path) -> None:
        self._network = OnnxNetwork(path, "a recogniser")
        self.name, self.sha256 = self._network.name, self._network.sha256

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        return normalised(np.concatenate([outputs[0] for outputs in self._network.run(pictures, np.asarray)]))


class FlaxRecogniser:
    """A recogniser of this project's own kinds."""

    def __init__(self, network: IdentityNetwork, variables: Any, name: str, sha256: str) -> None:
        self.name, self.sha256 = name, sha256
        self._frame, self._variables = network.config.frame, jax.device_put(variables)
        self._embed = jax.jit(partial(embed, network, "bicubic"))

    def embed(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """N uint8 RGB squares → float32 [N, D], L2-normalised."""
        vectors = []
        for chunk, count in batches(len(pictures), BATCH_SIZE):
            faces = np.stack([resized(pictures[i], self._frame) for i in chunk])
            vectors.append(np.asarray(self._embed(self._variables, pad(faces, count)))[: len(chunk)])
        return normalised(np.concatenate(vectors))


def open_recogniser(source: str | Path) -> Recogniser:
    """A recogniser from an ONNX file, a model folder (its identity network), an identity folder or a weight file.

    Raises:
      UserError: it is missing, damaged or not a recogniser, or onnxruntime is not installed.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".onnx":
        return OnnxRecogniser(path)
    if (path / "generator.safetensors").is_file():
        model = model_folder.read(path)
        network = model.identity_network
        return FlaxRecogniser(network, model.identity_variables, model.identity_name, model.identity_sha256)
    found = identity_folder.read(path, "evaluating")
    return FlaxRecogniser(found.network, found.variables, found.name, found.sha256)


def embed_files(recogniser: Recogniser, files: Iterable[Path]) -> tuple[np.ndarray, list[str]]:
    """Identity vectors of picture files, read while others are embedded and never all in memory.

    Args:
      recogniser: embeds them.
      files: N picture files.

    Returns:
      float32 [N, D], the rows of unreadable files NaN; and a sentence for each of those.

    Raises:
      UserError: none of them can be read.
    """
    files = list(files)
    sentences: list[str] = []

    def read(file: Path) -> np.ndarray | None:
        try:
            return read_picture(file)
        except UserError as error:
            sentences.append(str(error))
            return None

    rows: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(files), BATCH_SIZE):
            chunk = list(pool.map(read, files[start : start + BATCH_SIZE]))
            readable = [i for i, picture in enumerate(chunk) if picture is not None]
            if readable:
                vectors = recogniser.embed([picture for picture in chunk if picture is not None])
                rows.update({start + i: vector for i, vector in zip(readable, vectors)})
    if not rows:
        raise no_readable_picture(sentences)
    unread = np.full_like(next(iter(rows.values())), np.nan)
    return np.stack([rows.get(index, unread) for index in range(len(files))]), sentences


def no_readable_picture(reasons: Sequence[str]) -> UserError:
    """The error of data without a picture that can be read."""
    reason = reasons[0] if reasons else "there are none."
    return UserError(f"none of the pictures to embed could be read; {reason}", "no-readable-picture")

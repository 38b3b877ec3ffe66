"""Somebody else's swapping network in an ONNX file, run by its contract: ``--external NAME=FILE.onnx:CONTRACT``."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import EXTERNAL, PairBatch
from simswap_jax.evaluation.contracts import LAST_INITIALIZER, Contract, SourceInput, TargetPicture
from simswap_jax.evaluation.geometry import FaceGeometry
from simswap_jax.evaluation.judges.networks import VECTORS
from simswap_jax.evaluation.protocols.protocol import PairList
from simswap_jax.faces.alignment import Alignment, crop, similarity, transform
from simswap_jax.faces.blending import border_ramp, paste, place
from simswap_jax.weights import registry
from simswap_jax.weights.onnx_graph import onnx_package
from simswap_jax.weights.onnx_network import OnnxNetwork
from simswap_jax.weights.onnx_session import OnnxFunction, run_failed

MOST_VALUES = 1 << 24  # of a matrix


def split_reference(reference: str) -> tuple[Path, str]:
    """``FILE.onnx:CONTRACT`` → both.

    Raises:
      UserError: one of them is missing.
    """
    file, ending, contract = reference.partition(".onnx:")
    if not ending or not file or not contract:
        raise UserError(
            f"--external is NAME=FILE.onnx:CONTRACT, and '{reference}' is not; the contract is a name of "
            "configs/contracts or a YAML file.",
            "external-not-named",
        )
    return Path(f"{file}.onnx").expanduser(), contract


def normalised(pictures: np.ndarray, like: TargetPicture) -> np.ndarray:
    """uint8 RGB [n, H, W, 3] → float32, in the order and range that a contract says."""
    values = pictures[..., ::-1] if like.channels == "bgr" else pictures
    mean, std = (np.array(numbers, np.float32) for numbers in (like.mean, like.std))
    return (values.astype(np.float32) / 255 - mean) / std


def cut(picture: np.ndarray, points: np.ndarray, like: TargetPicture) -> tuple[np.ndarray, Alignment]:
    """The face as a contract wants it, and how it was cut.

    Args:
      picture: uint8 RGB [H, H, 3].
      points: float [5, 2] in sides of the picture.
      like: size and template.

    Returns:
      uint8 RGB [size, size, 3]; beyond the picture's edge the edge's pixels go on.
    """
    pixels = points * picture.shape[0] - 0.5
    matrix = similarity(pixels, like.template * like.size)
    alignment = Alignment(matrix, like.size, transform(matrix, pixels), 0.0)
    return crop(picture, alignment), alignment


class Embedder:
    """Identity vectors as a swapping network takes them: embedding network, converter, length, matrix.

    Attributes:
      width: how many numbers.
      sha256: of the files.
    """

    def __init__(self, like: SourceInput, says: str, find: Callable[[str], Path]) -> None:
        """Open embedding network and converter.

        Args:
          like: what they are.
          says: who says so, for errors.
          find: file name → file.

        Raises:
          UserError: a file is missing, or no such network.
        """
        self._like = like
        self._network = OnnxNetwork(find(like.network), VECTORS, side=like.size)
        self.width, hashes = int(self._network.answers[0]), [self._network.sha256]
        self._converter = None
        if like.converter:
            self._converter = OnnxFunction(find(like.converter), {like.converter_input: (1, self.width)}, says)
            self._converted, shape = next(iter(self._converter.outputs.items()))
            if shape is None or len(shape) != 2 or shape[0] != 1:
                raise _wrong_output(self._converter.path, "one embedding [1, D]")
            self.width = shape[1]
            hashes.append(self._converter.sha256)
        self._matrix: np.ndarray | None = None
        self.sha256 = " ".join(hashes)

    def multiply_by(self, matrix: np.ndarray) -> None:
        """From now on multiply by a matrix [width, width']."""
        self._matrix = matrix

    def vector(self, face: np.ndarray) -> np.ndarray:
        """uint8 RGB [size, size, 3] → float32 [1, width].

        Raises:
          UserError: a network fails.
        """
        rows = self._network.run([face], partial(normalised, like=self._like))
        vector = np.concatenate(list(rows)).astype(np.float32)
        if self._converter is not None:
            vector = self._converter.answer({self._like.converter_input: vector}, [self._converted])[0]
        if self._like.normalise == "l2":
            vector = vector / np.maximum(np.linalg.norm(vector), 1e-12)
        if self._matrix is not None:
            vector = vector @ self._matrix
        return np.ascontiguousarray(vector, np.float32)


class ExternalNetwork:
    """A swapping network in an ONNX file, and its contract."""

    kind = EXTERNAL
    shows_source = True

    def __init__(self, key: str, path: Path, contract: Contract, geometry: FaceGeometry, pairs: PairList) -> None:
        """Try the files, and open them.

        Args:
          key: its name.
          path: the file; what else the contract names may lie beside it.
          contract: what it takes and answers.
          geometry: where the faces are in the pictures.
          pairs: the protocol's.

        Raises:
          UserError: a file is missing, no such network, or takes or answers something else than the contract says.
        """
        self.key = self.title = key
        self._contract, self._geometry, self._pairs = contract, geometry, pairs
        source, target, says = contract.source, contract.target, f"the contract {contract.name}"
        find = partial(find_beside, folder=path.parent, purpose=f"{says} of {path.name}")
        self._embedder = Embedder(source, says, find) if source.takes == "embedding" else None
        given = (3, source.size, source.size) if self._embedder is None else (self._embedder.width,)
        if self._embedder is not None and source.matrix and source.matrix != LAST_INITIALIZER:
            matrix = read_matrix(find(source.matrix))
            self._multiply(matrix, matrix.shape[1])
            given = (matrix.shape[1],)
        shapes = {source.input: (1, *given), target.input: (1, 3, target.size, target.size)}
        self._network = OnnxFunction(path, shapes, says)
        if self._embedder is not None and source.matrix == LAST_INITIALIZER:
            self._multiply(last_initializer(path), given[0])
        self._face = self._output(contract.output.face, 3)
        self._mask = None if contract.output.mask is None else self._output(contract.output.mask, 1)
        files = [self._network.sha256, self._embedder.sha256 if self._embedder else "", repr(contract)]
        self.sha256 = hashlib.sha256(" ".join([*files, geometry.sha256]).encode()).hexdigest()
        self._vectors: dict[str, np.ndarray] = {}  # of the sources that were embedded

    def _multiply(self, matrix: np.ndarray, width: int) -> None:
        """Give the embedder its matrix, which must answer so many values."""
        assert self._embedder is not None
        wanted = [self._embedder.width, width]
        if list(matrix.shape) != wanted:
            raise UserError(
                f"the matrix of the contract {self._contract.name} is {list(matrix.shape)}, where {wanted} fits "
                "embedding and network; name another matrix or embedding network.",
                "external-matrix-differs",
            )
        self._embedder.multiply_by(matrix)

    def _output(self, wanted: int | str, channels: int) -> str:
        """The name of an output that is a picture of so many channels."""
        names = list(self._network.outputs)
        number = names.index(wanted) if wanted in names else wanted
        name = names[number] if isinstance(number, int) and number < len(names) else None
        shape = self._network.outputs[name] if name is not None else None
        fitting = shape is not None and (shape[:-2] == (1, channels) or (channels == 1 and shape[:-2] == (1,)))
        if name is None or shape is None or not fitting or min(shape[-2:]) < 1:
            raise _wrong_output(self._network.path, f"a picture of {channels} channels as output {wanted}")
        return name

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its source's face, put back where the face was cut."""
        names = [self._pairs.pairs[index].source for index in batch.indices]
        return self._swapped(names, batch.sources, batch)

    def self_swaps(self, batch: PairBatch) -> list[np.ndarray]:
        """Each target with its own."""
        return self._swapped(self._targets(batch), batch.targets, batch)

    def _targets(self, batch: PairBatch) -> list[str]:
        return [self._pairs.pairs[index].target for index in batch.indices]

    def _swapped(self, names: Sequence[str], sources: Sequence[np.ndarray], batch: PairBatch) -> list[np.ndarray]:
        given = [self._given(name, source) for name, source in zip(names, sources)]
        points = self._geometry.five_points(self._targets(batch))
        return [self._one(*one) for one in zip(given, batch.targets, points)]

    def _given(self, name: str, picture: np.ndarray) -> np.ndarray:
        """What the network gets of a source; a picture is embedded once."""
        if name in self._vectors:
            return self._vectors[name]
        source = self._contract.source
        face, _ = cut(picture, self._geometry.five_points([name])[0], source)
        if self._embedder is None:
            return normalised(face[None], source).transpose(0, 3, 1, 2)
        self._vectors[name] = self._embedder.vector(face)
        return self._vectors[name]

    def _one(self, source: np.ndarray, target: np.ndarray, points: np.ndarray) -> np.ndarray:
        contract = self._contract
        face, alignment = cut(target, points, contract.target)
        planes = normalised(face[None], contract.target).transpose(0, 3, 1, 2)
        feeds = {contract.source.input: source, contract.target.input: planes}
        feeds = {name: np.ascontiguousarray(values, np.float32) for name, values in feeds.items()}
        wanted = [name for name in (self._face, self._mask) if name is not None]
        drawn, *masks = self._network.answer(feeds, wanted)
        mask = border_ramp(alignment.size)
        if masks:
            own = masks[0].reshape(masks[0].shape[-2:])
            mask = mask * np.clip(_resized(own, alignment.size), 0, 1)
        result = target.copy()
        paste(result, self._picture(drawn, alignment.size), alignment, place(result.shape, alignment, mask))
        return result

    def _picture(self, planes: np.ndarray, size: int) -> np.ndarray:
        """The network's answer [1, 3, H, W] as uint8 RGB [size, size, 3]."""
        output = self._contract.output
        mean, std = (np.array(numbers, np.float32) for numbers in (output.mean, output.std))
        values = np.clip(planes[0].astype(np.float32).transpose(1, 2, 0) * std + mean, 0, 1)
        values = values[..., ::-1] if output.channels == "bgr" else values
        return np.round(_resized(values, size).clip(0, 1) * 255).astype(np.uint8)


def _resized(values: np.ndarray, size: int) -> np.ndarray:
    """Float [H, W, …] at [size, size, …]."""
    values = np.ascontiguousarray(values, np.float32)
    if values.shape[:2] == (size, size):
        return values
    shrinks = values.shape[0] > size
    return np.asarray(cv2.resize(values, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _wrong_output(path: Path, wanted: str) -> UserError:
    return UserError(
        f"{path} does not answer {wanted}; name the contract of this network, or write one.",
        "external-output-unsupported",
    )


def find_beside(name: str, folder: Path, purpose: str) -> Path:
    """A file that a contract names: beside the network, else as any weight file is found.

    Raises:
      UserError: it is in neither place.
    """
    beside = folder / Path(name).expanduser()
    return beside if beside.is_file() else registry.find(name, purpose)


def read_matrix(path: Path) -> np.ndarray:
    """A matrix in an .npy file, float32.

    Raises:
      UserError: it holds none.
    """
    try:
        if path.stat().st_size > 8 * MOST_VALUES + 1024:
            raise ValueError("it is too large")
        return _matrix(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} holds no matrix ({error}).", "external-matrix-unreadable") from error


def last_initializer(path: Path) -> np.ndarray:
    """The last weight of an ONNX file, a matrix, float32; the file has passed its trial.

    Raises:
      UserError: it is no matrix, or the package onnx is not installed.
    """
    onnx = onnx_package()
    try:
        weights = onnx.load_model(path, load_external_data=False).graph.initializer
        if not weights or np.prod([int(n) for n in weights[-1].dims], dtype=np.float64) > MOST_VALUES:
            raise ValueError("its last weight is no matrix")
        return _matrix(onnx.numpy_helper.to_array(weights[-1]))
    except Exception as error:  # protobuf's and onnx's own errors share no class
        raise run_failed(path, str(error)) from error


def _matrix(values: Any) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not 0 < values.size <= MOST_VALUES:
        raise ValueError("there is no matrix in its place")
    if values.dtype.kind != "f" or not np.isfinite(values).all():
        raise ValueError("its values are not finite numbers")
    return values.astype(np.float32)

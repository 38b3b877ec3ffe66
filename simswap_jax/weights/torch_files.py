"""PyTorch's two containers, zip (since 1.6) and legacy, read without PyTorch: an inert object tree and its numbers.

Numbers are windows on the file's bytes in memory: nothing is copied until someone converts them.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from simswap_jax.weights.pickle_reader import Name, PickleRefused, StorageRef, TensorRef, instructions_for, load, whole

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MOST_DIRECTORY = 4 << 20  # bytes of a zip's central directory: about 30,000 tensors

_NUMBERS = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


def dtype_of(name: str) -> np.dtype:
    """NumPy's type of a number name; bfloat16 is that of ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


class TorchFile:
    """A PyTorch file's object tree and where its numbers lie.

    Attributes:
      root: what the file holds, as `pickle_reader.load` gives it.
      format: ``"PyTorch zip"`` or ``"PyTorch legacy"``.
    """

    def __init__(self, root: Any, format: str, buffers: Callable[[StorageRef], np.ndarray], size: int) -> None:
        self.root = root
        self.format = format
        self._buffers = buffers
        self._budget = 4 * size + (1 << 20)  # tied weights may stand under several names; an expanded bomb may not

    def array(self, tensor: TensorRef) -> np.ndarray:
        """The numbers of a tensor: a read-only window on the file.

        Raises:
          PickleRefused: it reaches outside its storage, or the tensors together are many times the file.
        """
        numbers = self._buffers(tensor.storage)
        offset = tensor.storage.start + tensor.offset
        if 0 in tensor.shape:
            return np.empty(tensor.shape, numbers.dtype) if max(tensor.shape) < 1 << 31 else _outside()
        last = offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
        if last >= len(numbers):
            _outside()
        count = 1
        for n in tensor.shape:
            count *= n
        self._budget -= count * numbers.dtype.itemsize
        if self._budget < 0:
            raise PickleRefused("its tensors would take many times the file's size")
        # An axis of one number may have any stride: no step is taken along it.
        strides = tuple(s * numbers.dtype.itemsize if n > 1 else 0 for n, s in zip(tensor.shape, tensor.strides))
        return np.lib.stride_tricks.as_strided(numbers[offset:], tensor.shape, strides, writeable=False)


def _outside() -> np.ndarray:
    raise PickleRefused("a tensor reaches outside its storage")


def _storage(pid: object) -> StorageRef | Name:
    """A persistent id of PyTorch: a storage, or (legacy, whole modules) a class with its source text."""
    if not isinstance(pid, (tuple, list)) or not pid:
        raise PickleRefused("it refers to numbers in a way that PyTorch does not")
    if pid[0] == "module" and len(pid) >= 2 and isinstance(pid[1], Name):
        return pid[1]
    if pid[0] != "storage" or len(pid) < 5 or not isinstance(pid[1], Name):
        raise PickleRefused("it refers to numbers in a way that PyTorch does not")
    kind = pid[1]
    if kind.module not in ("torch", "torch.cuda") or kind.name not in _NUMBERS:
        raise PickleRefused(f"it holds numbers of the unknown kind {str(kind)[:60]!r}")
    key = pid[2]
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        raise PickleRefused("a storage in it has no name")
    key = key if isinstance(key, str) else str(whole(key, "the name of a storage"))
    ref = StorageRef(key, _NUMBERS[kind.name], whole(pid[4], "the length of a storage"))
    view = pid[5] if len(pid) > 5 else None
    if view is not None:
        if not isinstance(view, (tuple, list)) or len(view) != 3:
            raise PickleRefused("a storage view in it is misshapen")
        ref.start = whole(view[1], "the start of a storage view")
    return ref


class _Directory(io.BytesIO):
    """A file for `zipfile`, which refuses a central directory that would unfold to many times its size."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `MOST_DIRECTORY` bytes."""
        left = self._size - self.tell()
        if min(left, left if size is None or size < 0 else size) > MOST_DIRECTORY:
            raise PickleRefused("its table of contents is larger than any weight file's")
        return super().read(size)


def read_zip(data: bytes) -> TorchFile:
    """Reads PyTorch's zip container.

    Raises:
      PickleRefused: what is wrong with it, as a clause.
    """
    try:
        entries = {e.filename: e for e in zipfile.ZipFile(_Directory(data)).infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError, IndexError) as error:
        if isinstance(error, PickleRefused):
            raise
        raise PickleRefused("its end is missing or damaged (was the download complete?)") from error
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise PickleRefused("it is a zip archive, but not one that PyTorch wrote")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise PickleRefused("it is a TorchScript program, which runs only in PyTorch; save its state_dict() instead")

    def content(name: str) -> memoryview:
        entry = entries.get(root + name)
        if entry is None:
            raise PickleRefused(f"its part {name[:60]!r} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise PickleRefused("its parts are compressed, which PyTorch never does; save it again with torch.save")
        head = data[entry.header_offset : entry.header_offset + 30] if entry.header_offset >= 0 else b""
        if len(head) < 30 or head[:4] != b"PK\3\4":
            raise PickleRefused(f"its part {name[:60]!r} is damaged")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        if entry.file_size < 0 or start + entry.file_size > len(data):
            raise PickleRefused(f"its part {name[:60]!r} is cut off")
        part = memoryview(data)[start : start + entry.file_size]
        if zlib.crc32(part) != entry.CRC:
            raise PickleRefused(f"its part {name[:60]!r} is damaged (its checksum does not match)")
        return part

    if f"{root}byteorder" in entries and bytes(content("byteorder")) != b"little":
        raise PickleRefused("it was written on a big-endian machine; save it again on an ordinary one")
    tree = load(io.BytesIO(bytes(content("data.pkl"))), _storage, instructions_for(len(data)))
    arrays: dict[tuple[str, str], np.ndarray] = {}

    def numbers(ref: StorageRef) -> np.ndarray:
        if (ref.key, ref.dtype) not in arrays:
            part, dtype = content(f"data/{ref.key}"), dtype_of(ref.dtype)
            if len(part) % dtype.itemsize or len(part) // dtype.itemsize < ref.numel:
                raise PickleRefused(f"its storage {ref.key[:60]!r} is shorter than it claims")
            arrays[ref.key, ref.dtype] = np.frombuffer(part, dtype)
        return arrays[ref.key, ref.dtype]

    return TorchFile(tree, "PyTorch zip", numbers, len(data))


def is_legacy(data: bytes) -> bool:
    """Whether the file opens with the pickled magic number of PyTorch's legacy container."""
    return LEGACY_MAGIC.to_bytes(10, "little") in data[:64]


def read_legacy(data: bytes) -> TorchFile:
    """Reads PyTorch's legacy container: five pickles, then the storages one after the other.

    Raises:
      PickleRefused: what is wrong with it, as a clause.
    """
    most, stream = instructions_for(len(data)), io.BytesIO(data)
    if load(stream, None, 10) != LEGACY_MAGIC or load(stream, None, 10) != 1001:
        raise PickleRefused("it is of no version of PyTorch's format that is known")
    system = load(stream, None, 1000)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleRefused("it was written on a big-endian machine; save it again on an ordinary one")
    known: dict[str, StorageRef] = {}

    def storage(pid: object) -> StorageRef | Name:
        ref = _storage(pid)
        if isinstance(ref, StorageRef) and known.setdefault(ref.key, ref).dtype != ref.dtype:
            raise PickleRefused(f"its storage {ref.key[:60]!r} is of two kinds")
        return ref

    tree = load(stream, storage, most)
    keys = load(stream, None, most)
    if not isinstance(keys, list):
        raise PickleRefused("it lacks the list of its storages")
    arrays: dict[str, np.ndarray] = {}
    at = stream.tell()
    for key in keys:
        if not isinstance(key, (str, int)) or str(key) not in known or str(key) in arrays:
            raise PickleRefused("the list of its storages is damaged")
        dtype = dtype_of(known[str(key)].dtype)
        if at + 8 > len(data):
            raise PickleRefused("it is cut off (was the download complete?)")
        count = int.from_bytes(data[at : at + 8], "little")
        at += 8
        if count * dtype.itemsize > len(data) - at:
            raise PickleRefused("it is cut off (was the download complete?)")
        arrays[str(key)] = np.frombuffer(data, dtype, count, at) if count else np.empty(0, dtype)
        at += count * dtype.itemsize

    def numbers(ref: StorageRef) -> np.ndarray:
        if ref.key not in arrays:
            raise PickleRefused(f"its storage {ref.key[:60]!r} is missing")
        return arrays[ref.key]

    return TorchFile(tree, "PyTorch legacy", numbers, len(data))


def read(data: bytes) -> TorchFile:
    """Reads whichever container it is.

    Args:
      data: the whole file, in memory: a mapped one would change, or crash the program, when it is written anew.

    Raises:
      PickleRefused: what is wrong with it, as a clause that begins with "it" or "its".
    """
    if data[:4] == b"PK\3\4":
        return read_zip(data)
    if is_legacy(data):
        return read_legacy(data)
    raise PickleRefused("it is no PyTorch file")

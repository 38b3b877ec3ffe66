"""PyTorch's containers written by hand, so that the reader can be tested, and attacked, without PyTorch.

`Global` stands for a class or function that need not exist, `Tensor` for a tensor, `Module` for a pickled
torch.nn.Module; anything else is pickled by Python as it is, hostile ``__reduce__`` methods included.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import ClassVar

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
KINDS = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
}


class Global:
    """A class or function named by the pickle."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self):
        raise AssertionError("never called: pickle only asks whether it could be")


class Storage:
    """Numbers beside the pickle. `claimed` is the length that the pickle tells; `kind` the class that it names."""

    def __init__(self, array, claimed=None, kind=None):
        self.array = np.ascontiguousarray(array).reshape(-1)
        self.claimed = len(self.array) if claimed is None else claimed
        self.kind = kind or Global("torch", KINDS[self.array.dtype.name])


class Tensor:
    """A tensor; shape, strides, offset, hooks and the function that rebuilds it can be made up."""

    def __init__(self, array, shape=None, strides=None, offset=0, storage=None, hooks=None, function=None):
        array = np.asarray(array)
        self.storage = storage or Storage(array)
        self.shape = array.shape if shape is None else shape
        self.strides = tuple(s // array.itemsize for s in array.strides) if strides is None else strides
        self.offset = offset
        self.hooks = OrderedDict() if hooks is None else hooks
        self.function = function or Global("torch._utils", "_rebuild_tensor_v2")

    def __reduce__(self):
        return self.function, (self.storage, self.offset, self.shape, self.strides, False, self.hooks)


class Module:
    """A pickled torch.nn.Module (as a call and a state)."""

    def __init__(self, cls, parameters=(), buffers=(), modules=(), **more):
        groups = {"_parameters": parameters, "_buffers": buffers, "_modules": modules}
        self.cls, self.state = cls, {"training": False, **{k: OrderedDict(v) for k, v in groups.items()}, **more}

    def __reduce__(self):
        return self.cls, (), self.state


class Pickler(pickle._Pickler):
    """Writes `Global` as a name and `Storage` as a persistent id, as torch.save does."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def __init__(self, file, legacy, protocol):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        key = self.storages.setdefault(id(obj), (str(len(self.storages)), obj))[0]
        pid = ("storage", obj.kind, key, "cpu", obj.claimed)
        return (*pid, None) if self.legacy else pid

    def save_name(self, obj):
        self.write(f"c{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[Global] = save_name


def pickled(obj, legacy=False, protocol=2):
    """The pickle's bytes and its storages, name → array."""
    file = io.BytesIO()
    pickler = Pickler(file, legacy, protocol)
    pickler.dump(obj)
    return file.getvalue(), {key: storage.array for key, storage in pickler.storages.values()}


def zip_bytes(data, storages=None, root="archive", compression=zipfile.ZIP_STORED, more=None):
    """A zip container around the pickle `data`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", data)
        archive.writestr(f"{root}/byteorder", b"little")
        for key, array in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", array.tobytes())
        archive.writestr(f"{root}/version", b"3\n")
        for name, content in (more or {}).items():
            archive.writestr(f"{root}/{name}", content)
    return file.getvalue()


def legacy_bytes(data, storages=None, keys=None):
    """A legacy container around the pickle `data`."""
    storages = storages or {}
    system = {"protocol_version": VERSION, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (MAGIC, VERSION, system)]
    parts += [data, pickle.dumps(list(storages) if keys is None else keys, 2)]
    parts += [struct.pack("<q", len(array)) + array.tobytes() for array in storages.values()]
    return b"".join(parts)


CONTAINERS = {"zip": zip_bytes, "legacy": legacy_bytes}


def saved(obj, container="zip", protocol=2):
    """What torch.save would write."""
    data, storages = pickled(obj, legacy=container == "legacy", protocol=protocol)
    return CONTAINERS[container](data, storages)

"""A network file is tried in a process of its own, whose time and memory are bounded: does it load, does it answer?

``python onnx_trial.py JSON`` prints JSON; the words of both are those of `try_network`. It imports nothing of the
project, so that the process starts fast.
"""

import contextlib
import json
import math
import mmap
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_SIDE = 2048  # pixels of an input
MOST_VALUES = 1 << 25  # of an input, all pictures together
MOST_FIELDS_DEEP = 100  # messages in messages, as protobuf itself bounds them
SPARE_MEGABYTES = 300  # what a network may take besides four times its file and its input
SECONDS, MEGABYTES_A_SECOND = 3, 20  # of the processor: for any file, and more for a large one
PIXELS_A_SECOND = 16384  # of a generator's input, twice: two faces of 512×512 in 16 s
YUNET_LOOKS = ((320, 320), (1280, 848))  # width and height of the pictures that YuNet is shown
PACKAGES = {"onnxruntime": "onnxruntime", "yunet": "cv2"}  # of each engine
NO_MEMORY = ("allocat", "bad_alloc", "insufficient memory", "memoryerror")  # in what libraries say


def try_network(job: Mapping[str, Any]) -> dict[str, Any]:
    """Load a network and run it on a black picture and on noise.

    Args:
      job: ``path`` of the file; ``engine``, a name of `ENGINES`; and for onnxruntime ``side``, height and width where
        the file leaves them open, and ``batch``, the most pictures where it leaves their number open; or ``shapes``,
        the name and shape of each of its inputs, float32.

    Returns:
      onnxruntime: ``inputs``, a list of {"name", "type", "shape"}, and, where there is one input that `fitting` takes,
      or they are those of ``shapes``, ``shape`` of what it was shown last (of ``shapes``: an object) and ``outputs``, a
      list of {"name", "type", "shape"}. YuNet: nothing.
      Of a network that fails instead ``fault``: ``"unreadable"``, ``"failed"``, ``"external"``, ``"memory"``; and
      ``says``, the library's words.
    """
    path = Path(job["path"])
    try:
        if refers_to_other_files(path):
            return {"fault": "external", "says": ""}
    except ValueError as error:
        return {"fault": "unreadable", "says": str(error)}
    pixels = max((math.prod(shape[-2:]) for shape in job.get("shapes", {}).values()), default=0)
    with import_then_limit(job["engine"], path.stat().st_size, math.ceil(pixels / PIXELS_A_SECOND)):
        return ENGINES[job["engine"]](job)


@contextlib.contextmanager
def import_then_limit(engine: str, file_bytes: int, more_seconds: int = 0) -> Iterator[None]:
    """What the library itself takes does not count; where the system knows no limits there are none."""
    __import__(PACKAGES[engine])
    try:
        import resource
    except ImportError:
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime) + SECONDS + file_bytes // (MEGABYTES_A_SECOND << 20)
    seconds += more_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with contextlib.suppress(OSError):  # Linux only: elsewhere nobody says what is taken already
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * mmap.PAGESIZE
        resource.setrlimit(resource.RLIMIT_DATA, (taken + 4 * file_bytes + (SPARE_MEGABYTES << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def try_onnxruntime(job: Mapping[str, Any]) -> dict[str, Any]:
    """`try_network` for onnxruntime."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 4, 1, 1
    try:
        session = onnxruntime.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no class
        return fault("unreadable", error)
    inputs = [{"name": one.name, "type": one.type, "shape": list(one.shape)} for one in session.get_inputs()]
    shapes = job.get("shapes")
    looks = fitting(inputs, job["side"], job["batch"]) if shapes is None else [shapes] * agreeing(inputs, shapes)
    if not looks:
        return {"inputs": inputs}
    outputs: list[Any] = []
    try:
        for look in looks:
            sizes = look if isinstance(look, dict) else {inputs[0]["name"]: look}
            for scale in (0, 255 if shapes is None else 1):
                random = np.random.default_rng(0)
                feeds = {name: random.random(shape, np.float32) * np.float32(scale) for name, shape in sizes.items()}
                outputs = session.run(None, feeds)
    except Exception as error:
        return fault("failed", error)
    names = [output.name for output in session.get_outputs()]
    found = [{"name": name, **described(one)} for name, one in zip(names, outputs)]
    return {"inputs": inputs, "shape": looks[-1], "outputs": found}


def agreeing(inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether the inputs are those, float32, of these shapes; a dimension that is a name or None is open."""
    if {one["name"] for one in inputs} != set(shapes) or any(one["type"] != "tensor(float)" for one in inputs):
        return False
    return all(
        len(one["shape"]) == len(shapes[one["name"]])
        and all(not isinstance(n, int) or n == wanted for n, wanted in zip(one["shape"], shapes[one["name"]]))
        for one in inputs
    )


def fitting(inputs: Sequence[Mapping[str, Any]], side: int, batch: int) -> list[list[int]] | None:
    """The shapes to try; None unless there is one input, float32 [n, 3, H, W], of a size that pictures have.

    Args:
      inputs, side, batch: as in `try_network`. A dimension that is a name or None is open.
    """
    if len(inputs) != 1 or inputs[0]["type"] != "tensor(float)" or len(inputs[0]["shape"]) != 4:
        return None
    count, channels, *size = inputs[0]["shape"]
    height, width = (length if isinstance(length, int) else side for length in size)
    counts = [count] if isinstance(count, int) else sorted({1, min(2, batch)})
    bounded = 1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE and counts[-1] * height * width * 3 >= 1
    if channels != 3 or not bounded or counts[-1] * height * width * 3 > MOST_VALUES:
        return None
    return [[number, 3, height, width] for number in counts]


def described(output: Any) -> dict[str, Any]:
    """What an output is: ``type``, such as ``"float32"``, and ``shape``, empty where it is no array."""
    return {"type": str(getattr(output, "dtype", "no array")), "shape": list(getattr(output, "shape", ()))}


def try_yunet(job: Mapping[str, Any]) -> dict[str, Any]:
    """`try_network` for OpenCV's FaceDetectorYN."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    try:
        network = cv2.FaceDetectorYN.create(job["path"], "", YUNET_LOOKS[0], 0.6, 0.3)
        for (width, height), most in zip(YUNET_LOOKS, (1, 256)):
            network.setInputSize((width, height))
            network.detect(np.random.default_rng(0).integers(0, most, (height, width, 3), np.uint8))
    except (cv2.error, MemoryError) as error:
        return fault("failed", error)
    return {}


ENGINES = {"onnxruntime": try_onnxruntime, "yunet": try_yunet}


def fault(kind: str, error: Exception) -> dict[str, Any]:
    """What went wrong; ``"memory"`` where that was it."""
    says = f"{type(error).__name__}: {error}"
    return {"fault": "memory" if any(word in says.lower() for word in NO_MEMORY) else kind, "says": str(error)}


# Protobuf's fields in which tensors lie, kind of message → number of the field → kind of message; and as what a tensor
# says that its values lie in another file: external_data, and data_location 1.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14


def refers_to_other_files(path: Path) -> bool:
    """Whether any tensor of an ONNX file has its values in another file.

    Raises:
      ValueError: it is no ONNX file, or cut short.
    """
    if not path.stat().st_size:
        raise ValueError("the file is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _refers(content, 0, len(content), "model", 0)


def _refers(content: mmap.mmap, start: int, end: int, kind: str, depth: int) -> bool:
    """`refers_to_other_files` for a message."""
    if depth > MOST_FIELDS_DEEP:
        raise ValueError("its messages lie too deep")
    for number, value, begin in _fields(content, start, end):
        if kind == "tensor" and (number == EXTERNAL_DATA or (number == DATA_LOCATION and value)):
            return True
        inner = MESSAGES[kind].get(number)
        if inner and begin is not None and _refers(content, begin, begin + value, inner, depth + 1):
            return True
    return False


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Of each field its number, its value or length, and where it begins, None unless it has a length."""
    while at < end:
        key, at = _varint(content, at, end)
        match key & 7:
            case 0:
                value, at = _varint(content, at, end)
                yield key >> 3, value, None
            case 1 | 5 as wire:
                at += 8 if wire == 1 else 4
            case 2:
                length, at = _varint(content, at, end)
                yield key >> 3, length, at if at + length <= end else _cut_short()
                at += length
            case _:
                raise ValueError("it is no ONNX file")
    if at > end:
        _cut_short()


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    return _cut_short(), at


def _cut_short() -> int:
    raise ValueError("it is no ONNX file, or cut short")


def main() -> None:
    """Try what the command line says."""
    print(json.dumps(try_network(json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()

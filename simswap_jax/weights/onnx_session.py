"""Networks of other people's, in ONNX files: tried in a process of its own, then opened; every fault is a sentence.

A file is tried once: what came of it is kept in the cache, under the file's SHA-256. docs/guide/weights.md says what is
bounded and what a trial costs.
"""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.faces.detection import SIDE, FaceDetector, ScrfdDetector, check_scrfd
from simswap_jax.io.atomic import json_fingerprint, write_json
from simswap_jax.io.user_folders import cache_folder
from simswap_jax.weights import onnx_trial, registry

BATCH_SIZE = 32  # where a file leaves it open
MOST_BYTES = 1 << 30  # of a file
WAIT = 120.0  # seconds for a trial, beside its bound on the processor's time
RUN_SECONDS = 300.0  # for one batch: far more than any network takes that passed its trial


class OnnxSession:
    """A network of one input, float32 [n, 3, H, W], run by onnxruntime on the CPU.

    Attributes:
      path: its file.
      sha256: of the file.
      count: how many pictures it takes at once; None: any number.
      size: height and width of its input, pixels.
      rows: how many pictures its answers in ``shapes`` are for.
      shapes: of each of its outputs; None where that is not of floats.
    """

    def __init__(self, path: Path, role: str, *, side: int = 112, batch: int = BATCH_SIZE) -> None:
        """Try a file, and open it.

        Args:
          path: the ONNX file.
          role: what the network is used as, for errors, e.g. ``"a recogniser"``.
          side: height and width where the file leaves them open.
          batch: the most pictures at once where the file leaves it open.

        Raises:
          UserError: the file is missing or no such network, fails, takes too much time or memory, or onnxruntime is
            not installed.
        """
        self.path, self._role = path, role
        verdict = tried(path, "onnxruntime", side=side, batch=batch)
        if "outputs" not in verdict:
            raise self._other_inputs(verdict["inputs"])
        self.sha256 = registry.file_sha256(path)
        count = verdict["inputs"][0]["shape"][0]
        self.count = count if isinstance(count, int) else None
        self.rows, _, *self.size = verdict["shape"]
        self.shapes = [tuple(o["shape"]) if o["type"].startswith("float") else None for o in verdict["outputs"]]
        self._session = open_session(path)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def answer(self, pictures: np.ndarray, outputs: Sequence[int]) -> list[np.ndarray]:
        """Run pictures.

        Args:
          pictures: float32 [n, 3, H, W].
          outputs: which of its outputs, indices into ``shapes`` of floats.

        Returns:
          these, each of the shape that the trial had, for n pictures.

        Raises:
          UserError: it fails, takes more than `RUN_SECONDS`, or answers other shapes or what is not finite.
        """
        names = [self._outputs[i] for i in outputs]
        found = run_bounded(self._session, self.path, names, {self._input: pictures})
        for index, values in zip(outputs, found):
            self._check(values, self.shapes[index] or (), len(pictures))
        return found

    def _check(self, values: np.ndarray, shape: Sequence[int], count: int) -> None:
        wanted = (count, *shape[1:]) if shape[:1] == (self.rows,) else shape
        check_answer(self.path, values, wanted)

    def _other_inputs(self, inputs: Sequence[dict[str, Any]]) -> UserError:
        most = onnx_trial.MOST_SIDE
        return UserError(
            f"{self.path} takes {_inputs_described(inputs)}, but {self._role} takes one input float32 [n, 3, H, W] of "
            f"1 to {most} pixels a side; name another network.",
            "onnx-input-unsupported",
        )


class OnnxFunction:
    """A network of several inputs of fixed shapes, float32, run by onnxruntime on the CPU: arrays in, arrays out.

    Attributes:
      path: its file.
      sha256: of the file.
      outputs: of each of its outputs the name, and the shape; None where that is not of floats.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Sequence[int]], says: str) -> None:
        """Try a file, and open it.

        Args:
          path: the ONNX file.
          shapes: name and shape of each of its inputs.
          says: who says that its inputs are those, for errors, e.g. ``"the contract ghost_256"``.

        Raises:
          UserError: as of `OnnxSession`.
        """
        self.path = path
        verdict = tried(path, "onnxruntime", shapes={name: list(shape) for name, shape in shapes.items()})
        if "outputs" not in verdict:
            wanted = ", ".join(f"'{name}' {list(shape)}" for name, shape in shapes.items())
            raise UserError(
                f"{path} takes {_inputs_described(verdict['inputs'], named=True)}, but {says} has {wanted}, all "
                "float32; name the contract of this network, or write one.",
                "onnx-inputs-differ",
            )
        self.sha256 = registry.file_sha256(path)
        self.outputs = {
            one["name"]: tuple(one["shape"]) if one["type"].startswith("float") else None for one in verdict["outputs"]
        }
        self._session = open_session(path)

    def answer(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """Run it.

        Args:
          feeds: its inputs, float32, of the shapes that it was opened with.
          outputs: names of those that are wanted, which are of floats.

        Raises:
          UserError: as of `OnnxSession.answer`.
        """
        found = run_bounded(self._session, self.path, outputs, feeds)
        for name, values in zip(outputs, found):
            check_answer(self.path, values, self.outputs[name] or ())
        return found


def run_bounded(session: Any, path: Path, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a session of onnxruntime's.

    Raises:
      UserError: it fails, or takes more than `RUN_SECONDS`.
    """
    options = import_module("onnxruntime").RunOptions()
    options.log_severity_level = 4
    clock = Timer(RUN_SECONDS, setattr, (options, "terminate", True))
    clock.daemon = True
    clock.start()
    try:
        return list(session.run(list(outputs), dict(feeds), options))
    except Exception as error:  # onnxruntime's own errors share no class
        raise too_slow(path) if options.terminate else run_failed(path, str(error)) from error
    finally:
        clock.cancel()


def check_answer(path: Path, values: np.ndarray, shape: Sequence[int]) -> None:
    """Refuse an answer of another shape, or one that is not finite.

    Raises:
      UserError: it is so.
    """
    if np.shape(values) != tuple(shape):
        raise run_failed(path, f"it answers {list(np.shape(values))} where {list(shape)} was expected")
    if not np.isfinite(values).all():
        raise UserError(f"{path} answers values that are not finite numbers; name another network.", "onnx-not-finite")


def _inputs_described(inputs: Sequence[dict[str, Any]], named: bool = False) -> str:
    some = [f"'{first_line(one['name'])}' " * named + _described(one) for one in inputs[:3]]
    return f"{', '.join(some) or 'nothing'}{', …' * (len(inputs) > 3)}"


def _described(one: dict[str, Any]) -> str:
    lengths = ", ".join(str(length) if isinstance(length, int) else "?" for length in one["shape"])
    return first_line(f"{one['type']} [{lengths}]")


def open_session(path: Path) -> Any:
    """The session in onnxruntime of a file that passed its trial, on the CPU, without its log.

    Raises:
      UserError: the file is no network.
    """
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no class
        raise unreadable(path, str(error)) from error


def scrfd(path: Path) -> ScrfdDetector:
    """SCRFD, tried and opened.

    Raises:
      UserError: as of `OnnxSession`, or it is no SCRFD with landmarks.
    """
    session = OnnxSession(path, "a face detector", side=SIDE, batch=1)
    try:
        check_scrfd(session.shapes)
    except ValueError as error:
        raise UserError(f"{path} {error}", "not-scrfd") from error
    return ScrfdDetector(lambda square: session.answer(square, range(len(session.shapes))))


def yunet(path: Path, **options: Any) -> FaceDetector:
    """YuNet, tried and opened.

    Args:
      path: its ONNX file.
      options: of `FaceDetector`.

    Raises:
      UserError: as of `check_yunet`.
    """
    check_yunet(path)
    try:
        return with_user_errors(FaceDetector(path, **options))
    except ValueError as error:
        raise UserError(str(error), "not-yunet") from error


def with_user_errors(detector: FaceDetector) -> FaceDetector:
    """The detector, made to raise a UserError where its network fails on a picture."""
    detector.failed = lambda sentence: UserError(sentence, "detector-fails")
    return detector


def check_yunet(path: str | Path) -> None:
    """Try YuNet's file, if there is one; what ``configs/weights.yaml`` knows by its SHA-256 needs no trial.

    Raises:
      UserError: it is no YuNet, or takes too much time or memory.
    """
    path = Path(path)
    known = {entry.sha256 for entry in registry.catalogue().values()}
    if path.is_file() and registry.file_sha256(path) not in known:
        tried(path, "yunet")


def tried(path: Path, engine: str, **settings: Any) -> dict[str, Any]:
    """What came of trying a file: as of `onnx_trial.try_network`, but for faults, which are raised.

    Args:
      path: the file.
      engine, settings: of `onnx_trial.try_network`.

    Raises:
      UserError: the file is missing or too large, the engine is not installed, or the trial failed.
    """
    if not path.is_file():
        raise UserError(
            f"there is no network {path}; give a path, or the name of a file in a folder of SIMSWAP_JAX_WEIGHTS.",
            "network-missing",
        )
    if path.stat().st_size > MOST_BYTES:
        raise too_large(path)
    job = {"path": str(path.resolve()), "engine": engine, **settings}
    kept = _kept_at(job, import_engine(engine, path).__version__)
    try:
        verdict = json.loads(kept.read_bytes()) if kept else None
    except (OSError, ValueError):
        verdict = None
    if not isinstance(verdict, dict):
        verdict = try_apart(job)
        if kept and verdict.get("fault") not in ("slow", "crashed"):  # the machine's fault, perhaps
            with contextlib.suppress(OSError):
                write_json(kept, verdict)
    return _without_fault(path, engine, verdict)


def _kept_at(job: dict[str, Any], library: str) -> Path | None:
    """Where the verdict on a file is kept; None where there is no place for it."""
    path = Path(job["path"])
    cache = cache_folder()
    if cache is None:
        return None
    files = [registry.file_sha256(file) for file in (path, onnx_trial.__file__)]  # another trial, another verdict
    key = [library, files, {**job, "path": path.suffix}]
    return cache / "trials" / f"{json_fingerprint(key)}.json"


def import_engine(engine: str, path: Path) -> Any:
    """The package that runs a network; a UserError that names the extra where it is missing."""
    package = onnx_trial.PACKAGES[engine]
    try:
        return import_module(package)
    except ImportError as error:
        raise missing_extra(package, "onnx", f"running the network {path.name}") from error


def try_apart(job: dict[str, Any]) -> dict[str, Any]:
    """`onnx_trial.try_network` in a process of its own; besides the faults ``"slow"`` and ``"crashed"``."""
    command = [sys.executable, "-P", onnx_trial.__file__, json.dumps(job)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=False)
    except subprocess.TimeoutExpired:
        return {"fault": "slow", "says": ""}
    return verdict_of(done.returncode, done.stdout, done.stderr)


def verdict_of(status: int, printed: bytes, errors: bytes) -> dict[str, Any]:
    """What a process that ended so found out; ``status`` is negative where a signal ended it."""
    if status == 0:
        return dict(json.loads(printed.splitlines()[-1]))
    if status == -getattr(signal, "SIGXCPU", 0):  # Windows knows no such bound
        return {"fault": "slow", "says": ""}
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return {"fault": "crashed", "says": f"the process that tried it ended with status {status} {last}"}


def _without_fault(path: Path, engine: str, verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict, if it names no fault."""
    match verdict.get("fault"):
        case None:
            return verdict
        case "slow":
            raise too_slow(path)
        case "memory":
            raise too_large(path)
        case "external":
            raise UserError(
                f"{path} has its weights in other files, which are not read; save it as one file.", "onnx-external-data"
            )
        case _ if engine == "yunet":
            raise UserError(f"{path} is not YuNet for OpenCV's FaceDetectorYN; name YuNet's ONNX file.", "not-yunet")
        case "unreadable":
            raise unreadable(path, verdict["says"])
        case _:
            raise run_failed(path, verdict["says"])


def too_slow(path: Path) -> UserError:
    """The error of a network that does not come to an end."""
    return UserError(f"{path} takes too long to answer and was stopped; name another network.", "onnx-too-slow")


def too_large(path: Path) -> UserError:
    """The error of a network that wants more memory than its file explains."""
    return UserError(
        f"{path} wants more memory than four times its size and {onnx_trial.SPARE_MEGABYTES} MB, or is larger than "
        f"{MOST_BYTES >> 30} GB; name another network.",
        "onnx-too-large",
    )


def unreadable(path: Path, says: str) -> UserError:
    """The error of a file that is no network."""
    return UserError(f"{path} is not a network that onnxruntime can load ({first_line(says)}).", "onnx-unreadable")


def run_failed(path: Path, says: str) -> UserError:
    """The error of a network that cannot be run."""
    return UserError(f"{path} cannot be run ({first_line(says)}); name another network.", "onnx-run-failed")

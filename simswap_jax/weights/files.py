"""Any weight file → named arrays, and named arrays → a weight file.

Reads ``.pth``, ``.pt``, ``.tar``, ``.ckpt`` (what PyTorch wrote, whatever the ending says) without PyTorch and without
running anything of the file, and ``.safetensors``. Writes ``.safetensors``, and with PyTorch installed ``.pth``.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io.atomic import file_sha256, replacing_file
from simswap_jax.weights import torch_files
from simswap_jax.weights.pickle_reader import Inert, PickleRefused, TensorRef

MOST_DEPTH = 64
MOST_MODULES = 1 << 13  # a shared one counts as often as it is reached; a ResNet-200 has about 1,000
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
      path: the file.
      tensors: name → array in the file's order (safetensors: in the order of the data); those of PyTorch files
        are read-only windows on the file's bytes.
      format: ``"PyTorch zip"``, ``"PyTorch legacy"`` or ``"safetensors"``.
      sha256: of the whole file, 64 hexadecimal digits.
      part: where in the file the weights lay, e.g. ``"net_state_dict"``; ``""`` at its top.
      module: the class of a whole pickled module (named, never imported), else ``""``.
      wrapper: the prefix that was taken off every name, e.g. ``"module."``, else ``""``.
      ignored: the other parts of the file, e.g. ``("epoch", "optimizer")``.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    format: str
    sha256: str
    part: str = ""
    module: str = ""
    wrapper: str = ""
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    path: str
    tensors: dict[str, TensorRef]
    module: str = ""


def read(path: str | Path, part: str | None = None) -> WeightFile:
    """Reads a weight file. Nothing of the file is imported or run.

    Args:
      path: a file that PyTorch or safetensors wrote.
      part: which set of weights, where the file holds several (``"G_ema"``, ``"model/generator"``); None: the only one.

    Raises:
      UserError: the file is missing, empty, damaged, of another kind, or holds no or several sets of weights.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; give a .pth, .tar, .ckpt or .safetensors file.", "weight-path-missing")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give a .pth, .tar, .ckpt or .safetensors file.", "weight-file-is-folder")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its permissions.", "weight-file-unreadable"
        ) from error
    if not head:
        raise UserError(f"{path} is empty; fetch it again.", "weight-file-empty")
    if _is_safetensors(head, path):
        return _read_safetensors(path)
    _refuse_other_kinds(path, head)
    try:
        return _read_torch(path, part)
    except PickleRefused as error:
        raise UserError(f"{path} cannot be used: {error}.", "weight-file-refused") from error
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged; fetch it again.", "weight-file-damaged") from error


def _is_safetensors(head: bytes, path: Path) -> bool:
    plausible = len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    return plausible or path.suffix == ".safetensors"


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    """One sentence for files that people take for weights: web pages, LFS pointers, real tars, ONNX, text."""
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not weights; the download went wrong: open its address in a browser.",
            "weight-file-web-page",
        )
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull`.", "weight-file-lfs-pointer")
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a real tar archive; unpack it and give the weight file inside.", "weight-file-tar")
    if head[:1] == b"\x08" and b"\x12" in head[:12]:
        raise UserError(
            f"{path} looks like an ONNX model; this needs PyTorch or safetensors weights.", "weight-file-onnx"
        )
    if head[:4] != b"PK\3\4" and torch_files.LEGACY_MAGIC.to_bytes(10, "little") not in head[:64]:
        text = all(byte in b"\t\r\n\f" or byte >= 32 for byte in head) and _decodes(head)
        if text:
            raise UserError(f"{path} is a text file, not weights; fetch the weight file itself.", "weight-file-text")
        if head[:1] == b"\x80":
            raise UserError(
                f"{path} is a plain pickle, not a file of torch.save; save its weights with torch.save or safetensors.",
                "weight-file-plain-pickle",
            )
        raise UserError(
            f"{path} is of no kind known here, or damaged; give a PyTorch or safetensors weight file.",
            "weight-file-unknown",
        )


def _decodes(head: bytes) -> bool:
    try:
        head[:-4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as file:
            names = file.offset_keys() if hasattr(file, "offset_keys") else file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({_first_line(error)}); fetch it again.", "weight-file-damaged"
        ) from error
    if not tensors:
        raise UserError(f"{path} holds no weights.", "weight-file-lists-nothing")
    tensors, wrapper = unwrap(tensors)
    return WeightFile(path, tensors, "safetensors", file_sha256(path), wrapper=wrapper)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")


def _read_torch(path: Path, part: str | None) -> WeightFile:
    data = path.read_bytes()
    content = torch_files.read(data)
    parts, ignored = _parts(content.root)
    chosen = _choose(path, parts, part)
    for name in chosen.tensors:
        if not name.isprintable() or len(name) > 500:
            raise PickleRefused(f"it has a tensor with the impossible name {name[:60]!r}")
    tensors = {name: content.array(ref) for name, ref in chosen.tensors.items()}
    tensors, wrapper = unwrap(tensors)
    ignored = [*ignored, *(p.path or ", ".join(p.tensors) for p in parts if p is not chosen)]
    return WeightFile(
        path,
        tensors,
        content.format,
        hashlib.sha256(data).hexdigest(),
        chosen.path,
        chosen.module,
        wrapper,
        tuple(i[:80] for i in ignored),
    )


def unwrap(tensors: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Takes off the prefixes that DataParallel and torch.compile put before every name."""
    taken = ""
    while tensors and (prefix := next((w for w in WRAPPERS if all(name.startswith(w) for name in tensors)), "")):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
        taken += prefix
    return tensors, taken


def _parts(root: Any) -> tuple[list[_Part], list[str]]:
    """All sets of weights in an object tree, and the names of its other parts; optimisers are left out."""
    found: list[_Part] = []
    ignored: list[str] = []
    seen: set[int] = set()

    def walk(node: Any, path: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise PickleRefused("its contents are nested beyond measure")
        if isinstance(node, (dict, Inert)):  # the same one under a second name is no second one
            if id(node) in seen:
                return
            seen.add(id(node))
        members = _module_state(node)
        if members is not None:
            found.append(_Part(path, dict(_named(members)), _printable(str(node.name))))
            return
        items = node.entries if isinstance(node, Inert) else node
        if not isinstance(items, dict) or not items or _is_optimiser(items):
            ignored.append(path)
            return
        own = {key: value for key, value in items.items() if isinstance(key, str) and isinstance(value, TensorRef)}
        if own:
            found.append(_Part(path, own))
        for key, value in items.items():
            if not isinstance(value, TensorRef):
                name = _printable(str(key)) if isinstance(key, (str, int)) else "?"
                walk(value, f"{path}/{name}" if path else name, depth + 1)

    walk(root, "", 0)
    return [p for p in found if p.tensors], ignored


def _printable(text: str) -> str:
    """Text of a file, fit to stand in a sentence."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])


def _is_optimiser(items: Mapping[Any, Any]) -> bool:
    return "param_groups" in items


def _module_state(node: Any) -> dict[str, Any] | None:
    """The attributes of a pickled torch.nn.Module, or None."""
    if isinstance(node, Inert) and isinstance(node.state, dict):
        kept = ("_parameters", "_buffers", "_modules")
        if all(isinstance(_as_dict(node.state.get(k)), dict) for k in kept):
            return node.state
    return None


def _as_dict(node: Any) -> Any:
    return node.entries if isinstance(node, Inert) else node


def _named(state: dict[str, Any]) -> Iterator[tuple[str, TensorRef]]:
    """Parameters and persistent buffers in the order of PyTorch's ``state_dict()``: own ones, then member by member."""
    visited = 0
    stack: list[tuple[dict[str, Any], str]] = [(state, "")]
    while stack:
        state, prefix = stack.pop()
        visited += 1
        if visited > MOST_MODULES or len(prefix) > 1000:
            raise PickleRefused("its modules are nested beyond measure")
        left_out = state.get("_non_persistent_buffers_set") or ()
        left_out = [n for n in left_out if isinstance(n, str)] if isinstance(left_out, (list, tuple)) else []
        for group in ("_parameters", "_buffers"):
            for name, value in _as_dict(state[group]).items():
                if isinstance(value, TensorRef) and isinstance(name, str) and name not in left_out:
                    yield prefix + name, value
        members = []
        for name, member in _as_dict(state["_modules"]).items():
            inner = _module_state(member)
            if inner is not None:
                members.append((inner, f"{prefix}{str(name)[:200]}."))
        stack.extend(reversed(members))


def _choose(path: Path, parts: list[_Part], part: str | None) -> _Part:
    if part is not None:
        for candidate in parts:
            if candidate.path == part:
                return candidate
        raise UserError(f"{path} has no part '{part}'; it has {_listed(parts)}.", "weight-file-part")
    if len(parts) > 1:  # an epoch or a loss kept as a tensor is no set of weights
        parts = [p for p in parts if any(t.shape for t in p.tensors.values())] or parts
    if not parts:
        raise UserError(
            f"{path} holds no weights: no tensors outside of optimiser states were found in it.",
            "weight-file-without-weights",
        )
    if len(parts) > 1:
        raise UserError(
            f"{path} holds several sets of weights, {_listed(parts)}; say which with part (--part).",
            "weight-file-several-parts",
        )
    return parts[0]


def _listed(parts: list[_Part]) -> str:
    names = [f"'{p.path}' ({len(p.tensors)} tensors)" for p in parts[:8]]
    return ", ".join(names) + (f" and {len(parts) - 8} more" if len(parts) > 8 else "") if names else "none"


def save(state_dict: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes named arrays as a weight file, in their order, atomically.

    Args:
      state_dict: name → array; bfloat16 arrays are those of ml_dtypes.
      path: ends in ``.safetensors``, or in ``.pth``, ``.pt``, ``.tar``, ``.ckpt`` (for these: the extra ``torch``).
      metadata: text kept in a safetensors file.

    Raises:
      UserError: another ending, PyTorch is missing, or the place cannot be written.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import save_file

            arrays = {name: np.ascontiguousarray(a).reshape(np.shape(a)) for name, a in state_dict.items()}
            with replacing_file(path) as temporary:
                save_file(arrays, str(temporary), {"format": "pt", **(metadata or {})})
        elif path.suffix in (".pth", ".pt", ".tar", ".ckpt"):
            _save_torch(state_dict, path)
        else:
            raise UserError(
                f"{path.name}: weights are written as .pth or .safetensors; choose one of these endings.",
                "weight-file-ending",
            )
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); choose another place.", "place-not-writable"
        ) from error
    return path


def _save_torch(state_dict: Mapping[str, np.ndarray], path: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise missing_extra("torch", "torch", f"Writing {path.name}") from error
    from collections import OrderedDict

    def tensor(array: np.ndarray) -> Any:
        array = np.array(array, order="C")  # owned and writable, as torch wants it
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    with replacing_file(path) as temporary:
        torch.save(OrderedDict((name, tensor(array)) for name, array in state_dict.items()), temporary)

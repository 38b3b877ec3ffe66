"""Any weight file → named arrays, and named arrays → a weight file.

Reads ``.pth``, ``.pt``, ``.bin``, ``.tar``, ``.ckpt`` (what PyTorch wrote, whatever the ending says) without PyTorch
and without running anything of the file, and ``.safetensors``. Writes ``.safetensors``, and with PyTorch installed
``.pth``.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, first_line, missing_extra, printable
from simswap_jax.io.atomic import CannotWrite, file_sha256, is_file, is_folder, replacing_file
from simswap_jax.weights import torch_files
from simswap_jax.weights.pickle_reader import Inert, PickleRefused, TensorRef

MOST_DEPTH = 64
MOST_MEMBERS = 1 << 15  # of all modules; a shared one's count as often as it is reached; a ResNet-200 has about 3,000
MOST_NAME = 500  # letters of a tensor's name
MOST_SETS = 32  # of one network's weights, each behind a prefix of its own
# What frameworks put before every name, and (those that no module is called by) inside of names: DataParallel,
# torch.compile, FSDP, activation checkpoints, Fabric.
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
WRAPPERS = tuple(f"{name}." for name in ("module", *INSIDE))


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
      wrapper: what was taken off every name, e.g. ``"module."`` or ``"model.generator."``, and after ``"…"`` what was
        taken out of names; else ``""``.
      ignored: the other parts of the file, e.g. ``("epoch", "optimizer")``, and names without the prefix.
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
    """A set of weights: one dictionary of the file, or what stands in it behind one prefix."""

    path: str
    tensors: dict[str, Any]
    module: str = ""
    wrapper: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """By what ``--part`` names it."""
        return "/".join(filter(None, (self.path, self.prefix.strip("./"))))


def first_not_finite(arrays: Mapping[str, Any]) -> str:
    """Name of the first array that holds NaN or infinity, fit for a sentence; empty where there is none."""
    return next((printable(name) for name, array in arrays.items() if not np.isfinite(np.asarray(array)).all()), "")


def read(path: str | Path, part: str | None = None, signs: Sequence[str] = ()) -> WeightFile:
    """Reads a weight file. Nothing of the file is imported or run.

    Args:
      path: a file that PyTorch or safetensors wrote.
      part: which set of weights, where the file holds several (``"G_ema"``, ``"model/generator"``); None: the only one.
      signs: keys of which the wanted network has one and no other network any: by them it is found among several sets,
        and whatever stands before its names is taken off.

    Raises:
      UserError: the file is missing, empty, damaged, of another kind, or holds no or several sets of weights.
    """
    path = Path(path)
    if is_folder(path):
        raise UserError(
            f"{path} is a folder; give a .pth, .pt, .bin, .tar, .ckpt or .safetensors file.", "weight-file-is-folder"
        )
    if not is_file(path):
        raise UserError(
            f"{printable(path)} does not exist, or is no regular file; give a .pth, .pt, .bin, .tar, .ckpt or "
            ".safetensors file.",
            "weight-path-missing",
        )
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
        return _read_safetensors(path, part, signs)
    _refuse_other_kinds(path, head)
    try:
        return _read_torch(path, part, signs)
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


def _read_safetensors(path: Path, part: str | None, signs: Sequence[str]) -> WeightFile:
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
    strange = next((name for name in tensors if not _is_name(name)), None)
    if strange is not None:
        raise UserError(
            f"{path} has a tensor with the impossible name {printable(strange, 60)}; fetch it again.",
            "weight-file-impossible-name",
        )
    chosen = _choose(path, [_Part("", tensors)], part, signs)
    return WeightFile(
        path, chosen.tensors, "safetensors", file_sha256(path), wrapper=chosen.wrapper, ignored=chosen.left_out
    )


def _is_name(name: str) -> bool:
    return name.isprintable() and len(name) <= MOST_NAME


def _first_line(error: BaseException) -> str:
    return first_line(error, 120) or type(error).__name__


def _read_torch(path: Path, part: str | None, signs: Sequence[str]) -> WeightFile:
    data = path.read_bytes()
    content = torch_files.read(data)
    parts, ignored = _parts(content.root)
    for name in (name for each in parts for name in each.tensors):
        if not _is_name(name):
            raise PickleRefused(f"it has a tensor with the impossible name {name[:60]!r}")
    chosen = _choose(path, parts, part, signs)
    others = [p.path or ", ".join(list(p.tensors)[:8]) for p in parts if p.path != chosen.path]
    return WeightFile(
        path,
        {name: content.array(ref) for name, ref in chosen.tensors.items()},
        content.format,
        hashlib.sha256(data).hexdigest(),
        chosen.path,
        chosen.module,
        chosen.wrapper,
        tuple(i[:80] for i in (*ignored, *others, *chosen.left_out)),
    )


# --- prefixes -------------------------------------------------------------------------------------------------------


def unwrap(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Takes off what DataParallel, torch.compile and FSDP put before every name, and what they put inside of names."""
    names, taken = {name: name for name in tensors}, ""
    while names and (prefix := next((w for w in WRAPPERS if all(name.startswith(w) for name in names.values())), "")):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
        taken += prefix
    inside = [w for w in INSIDE if any(w in short.split(".") for short in names.values())]
    shorter = {name: ".".join(s for s in short.split(".") if s not in INSIDE) for name, short in names.items()}
    if inside and len(set(shorter.values())) == len(shorter):
        names, taken = shorter, f"{taken}…{', '.join(f'{w}.' for w in inside)}"
    return {names[name]: value for name, value in tensors.items()}, taken


def prefixes(names: Iterable[str], signs: Sequence[str]) -> list[str]:
    """What stands before a network's names, ``"model.generator."``, each once; ``""`` where nothing does.

    Args:
      names: of all arrays.
      signs: keys of which the network has one.
    """
    found: dict[str, None] = {}
    for name in names:
        for sign in signs:
            before = name.removesuffix(sign)
            if name.endswith(sign) and (not before or before[-1] in "./"):
                found[before] = None
    return [""] if "" in found else list(found)


def behind(tensors: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arrays whose names begin with a prefix, without it; and what the other names begin with."""
    depth = max(1, prefix.count("."))
    others = {".".join(name.split(".")[:depth]): None for name in tensors if not name.startswith(prefix)}
    kept = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return kept, tuple(others)


def _sets(part: _Part, signs: Sequence[str]) -> list[_Part]:
    """A part's sets of weights: one for every prefix that a sign stands behind; itself where there is no sign."""
    tensors, wrapper = unwrap(part.tensors)
    bare = replace(part, tensors=tensors, wrapper=wrapper)
    made = []
    for prefix in prefixes(tensors, signs)[:MOST_SETS]:
        kept, left_out = behind(tensors, prefix)
        front, inner, rest = wrapper.partition("…")
        whole = f"{front}{prefix}{inner}{rest}"
        made.append(replace(part, tensors=kept, wrapper=whole, prefix=prefix, left_out=left_out))
    return made or [bare]


def _parts(root: Any) -> tuple[list[_Part], list[str]]:
    """All sets of weights in an object tree, and the names of its other parts; optimisers are left out."""
    found: list[_Part] = []
    ignored: list[str] = []
    seen: set[int] = set()
    left = MOST_MEMBERS

    def walk(node: Any, path: str, depth: int) -> None:
        nonlocal left
        if depth > MOST_DEPTH or len(path) > MOST_NAME:
            raise PickleRefused("its contents are nested beyond measure")
        if isinstance(node, (dict, Inert)):  # the same one under a second name is no second one
            if id(node) in seen:
                return
            seen.add(id(node))
        members = _module_state(node)
        if members is not None:
            tensors, reached = _named(members, left)
            left -= reached
            found.append(_Part(path, tensors, printable(node.name, 80)))
            return
        items = node.entries if isinstance(node, Inert) else node
        if not isinstance(items, dict) or not items or _is_optimiser(items):
            ignored.append(path[:80])
            return
        own = {key: value for key, value in items.items() if isinstance(key, str) and isinstance(value, TensorRef)}
        if own:
            found.append(_Part(path, own))
        for key, value in items.items():
            if not isinstance(value, TensorRef):
                name = printable(key, 80) if isinstance(key, (str, int)) else "?"
                walk(value, f"{path}/{name}" if path else name, depth + 1)

    walk(root, "", 0)
    return [p for p in found if p.tensors], ignored


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


def _named(state: dict[str, Any], most: int) -> tuple[dict[str, TensorRef], int]:
    """Parameters and persistent buffers in the order of PyTorch's ``state_dict()``: own ones, then member by member.

    Args:
      state: of a module.
      most: how many members of modules may be reached: parameters, buffers and modules.

    Returns:
      Name → tensor, and how many members were reached.
    """
    named: dict[str, TensorRef] = {}
    reached = 0
    stack: list[tuple[dict[str, Any], str]] = [(state, "")]
    while stack:
        state, prefix = stack.pop()
        left_out = state.get("_non_persistent_buffers_set")
        left_out = left_out if isinstance(left_out, (list, tuple)) else ()
        parameters, buffers, modules = (_as_dict(state[group]) for group in ("_parameters", "_buffers", "_modules"))
        reached += len(parameters) + len(buffers) + len(modules) + len(left_out)
        if reached > most or len(prefix) > MOST_NAME:
            raise PickleRefused("its modules are nested beyond measure")
        left_out = {name for name in left_out if isinstance(name, str)}
        for name, value in (*parameters.items(), *buffers.items()):
            if isinstance(value, TensorRef) and isinstance(name, str) and name not in left_out:
                named[prefix + name[: MOST_NAME + 1]] = value  # a longer one is refused, whatever its end
        members = []
        for name, member in modules.items():
            inner = _module_state(member)
            if inner is not None:
                members.append((inner, f"{prefix}{str(name)[:200]}."))
        stack.extend(reversed(members))
    return named, reached


def _choose(path: Path, parts: list[_Part], part: str | None, signs: Sequence[str]) -> _Part:
    """The set of weights that is named, or the only one; where there are signs, the only one that has one."""
    sets = [each for p in parts for each in _sets(p, signs)]
    if part is not None:
        named = [p for p in sets if p.path == part] or [p for p in sets if part in (p.label, p.prefix.strip("./"))]
        if not named:
            raise UserError(f"{path} has no part '{printable(part)}'; it has {_listed(sets)}.", "weight-file-part")
        sets = named
    if len(sets) > 1:  # an epoch or a loss kept as a tensor is no set of weights
        sets = [p for p in sets if any(t.shape for t in p.tensors.values())] or sets
    if len(sets) > 1:
        sets = [p for p in sets if prefixes(p.tensors, signs)] or sets
    if not sets:
        raise UserError(
            f"{path} holds no weights: no tensors outside of optimiser states were found in it.",
            "weight-file-without-weights",
        )
    if len(sets) > 1:
        raise UserError(
            f"{path} holds several sets of weights, {_listed(sets)}; say which with part (--part).",
            "weight-file-several-parts",
        )
    return sets[0]


def _listed(parts: list[_Part]) -> str:
    names = [f"'{p.label}' ({len(p.tensors)} tensors)" for p in parts[:8]]
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
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(a).reshape(np.shape(a)) for name, a in state_dict.items()}
        with replacing_file(path) as temporary:
            try:
                save_file(arrays, str(temporary), {"format": "pt", **(metadata or {})})
            except SafetensorError as error:  # of a full disk, too, and no OSError
                raise CannotWrite(path, OSError(first_line(error))) from error
    elif path.suffix in (".pth", ".pt", ".tar", ".ckpt"):
        _save_torch(state_dict, path)
    else:
        raise UserError(
            f"{path.name}: weights are written as .pth or .safetensors; choose one of these endings.",
            "weight-file-ending",
        )
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

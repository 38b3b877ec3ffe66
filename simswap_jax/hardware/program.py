"""A compiled program, read from its HLO text: computations, operations, types, and the lines of ours that made them."""

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
BITS |= {f"{kind}{bits}": bits for kind in "fsu" for bits in (4, 8, 16, 32, 64)}
PACKAGE = "simswap_jax/"
# Every layer ends in these files; who called them says more.
PRIMITIVES = (f"{PACKAGE}models/ops/", f"{PACKAGE}models/layers.py")
# They name arrays that lie elsewhere, or wait for what was started before.
FREE = frozenset(("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"))

_ARRAY = re.compile(r"\b([a-z]+\d+\w*|pred)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")


def arrays(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Element type and shape of the arrays that a type names: ``(f32[4,2]{1,0}, s32[])`` → f32 (4, 2), s32 ()."""
    return [(kind, tuple(int(length) for length in shape.split(",") if length)) for kind, shape in _ARRAY.findall(text)]


def array_bytes(text: str) -> int:
    """Bytes of the arrays that a type in HLO's notation names: ``(f32[4,2]{1,0}, bf16[8])`` → 48."""
    return sum(math.prod(shape) * bits_of(kind) // 8 for kind, shape in arrays(text))


def bits_of(kind: str) -> int:
    """Bits of one element: of ``f8e4m3fn`` 8; 32 where nothing is known."""
    known = re.match(r"[a-z]+\d+", kind)
    return BITS.get(kind) or BITS.get(known[0] if known else "", 32)


def awaited(text: str) -> str:
    """The type of what an asynchronous operation will have made: ``((operands), (results), …)`` → ``(results)``.

    An ``all-reduce-start`` has no such type; its operands are its results.
    """
    depth, parts = 0, [""]
    for piece in re.findall(r"[(){}]|,|[^(){},]+", text[1:-1] if text.startswith("(") else text):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(piece, 0) + piece.count("[") - piece.count("]")
        if piece == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts[1] if len(parts) > 1 else text


@dataclass(frozen=True)
class Operation:
    """One line of a program.

    Attributes:
      kind: as HLO calls it: ``fusion``, ``custom-call``, ``copy`` …
      result: its type.
      operands: names of what it reads.
      rest: what else the line says: window, called computations, metadata, the compiler's own notes.
    """

    name: str
    kind: str
    result: str
    operands: tuple[str, ...]
    rest: str

    @property
    def calls(self) -> tuple[str, ...]:
        """Computations that it runs."""
        branches = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        return tuple(_CALLED.findall(self.rest)) + (tuple(_NAME.findall(branches[1])) if branches else ())

    @property
    def target(self) -> str:
        """The library function that a custom call names, such as ``__cudnn$convForward``."""
        return self.text("custom_call_target")

    @property
    def asked_by(self) -> str:
        """The operation of the traced step that it came from: ``jit(step)/Generator/conv/…``."""
        return self.text("op_name")

    @property
    def notes(self) -> dict[str, Any]:
        """What the compiler wrote of it for itself (``backend_config``); empty where that is nothing."""
        _, found, text = self.rest.partition("backend_config={")
        try:
            made: dict[str, Any] = json.JSONDecoder().raw_decode("{" + text)[0] if found else {}
        except ValueError:
            return {}
        return made

    def text(self, name: str) -> str:
        """A quoted attribute; empty without it."""
        match = re.search(rf'\b{name}="([^"]*)"', self.rest)
        return match[1] if match else ""

    def number(self, name: str) -> int:
        """A numeric attribute; 0 without it."""
        match = re.search(rf"\b{name}=(\d+)", self.rest)
        return int(match[1]) if match else 0


Computation = Mapping[str, Operation]


@dataclass(frozen=True)
class ProgramText:
    """A parsed program.

    Attributes:
      computations: operations by name, by the computation they stand in.
      entry: the computation that the program begins with.
      frames: of each stack frame, ``file:line`` and the frame that called it (0: nothing did).
    """

    computations: Mapping[str, Computation]
    entry: str
    frames: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def run(self, loops: int = 1) -> Iterator[tuple[Computation, Operation, int]]:
        """Operations that the program runs, each with its computation and how often it runs.

        What is inside a fusion is no operation of its own.

        Args:
          loops: iterations of a loop for which the compiler states none: the micro-batches of a step.
        """
        yield from self._run(self.entry, 1, loops)

    def _run(self, name: str, times: int, loops: int) -> Iterator[tuple[Computation, Operation, int]]:
        computation = self.computations.get(name, {})
        for operation in computation.values():
            if operation.kind == "while":
                known = operation.notes.get("known_trip_count", {}).get("n", loops)
                yield from self._run(operation.calls[0], times * int(known), loops)
            elif operation.kind in ("call", "conditional"):
                for called in operation.calls:
                    yield from self._run(called, times, loops)
            elif operation.kind not in FREE and not operation.kind.endswith("-done"):
                yield computation, operation, times

    def inside(self, operation: Operation) -> Iterator[tuple[Computation, Operation]]:
        """What a fusion is made of; nothing for other operations."""
        if operation.kind in ("fusion", "async-start"):
            for called in operation.calls:
                computation = self.computations.get(called, {})
                for each in computation.values():
                    yield computation, each
                    yield from self.inside(each)

    def made_by(self, operation: Operation) -> str:
        """The innermost line of this package that asked for it, and who called that where it is a mere layer.

        ``models/simswap.py:88 > models/ops/resize.py:40``; empty where the compiler made it by itself.
        """
        ours = [frame for frame in self._stack(operation) if PACKAGE in frame]
        names = [PACKAGE + frame.rpartition(PACKAGE)[2] for frame in ours]
        if not names:
            return ""
        caller = next((name for name in names if not name.startswith(PRIMITIVES)), "")
        shown = dict.fromkeys((caller, names[0]) if caller else names[:1])
        return " > ".join(name.removeprefix(PACKAGE) for name in shown)

    def _stack(self, operation: Operation) -> list[str]:
        """``file:line``, innermost first."""
        number = operation.number("stack_frame_id")
        if not number:
            file = operation.text("source_file")
            return [f"{file}:{operation.number('source_line')}"] if file else []
        found: list[str] = []
        while number in self.frames and len(found) < len(self.frames):
            line, number = self.frames[number]
            found.append(line)
        return found


def read(text: str) -> ProgramText:
    """Parse ``compiled.as_text()``."""
    computations: dict[str, dict[str, Operation]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (made := operation_of(line)):
            current[made.name] = made
    return ProgramText(computations, entry, frames_of(text))


def operation_of(line: str) -> Operation | None:
    """The operation of a line, ``  %name = type kind(operands), attributes``; None where it is none."""
    match = _LINE.match(line)
    if not match:
        return None
    result, after = _until_closed(line[match.end() :]) if line[match.end()] == "(" else _word(line[match.end() :])
    kind, opened, _ = after.lstrip().partition("(")
    if not opened or " " in kind:
        return None
    inner, rest = _until_closed(after.lstrip()[len(kind) :])
    rest = inner[1:-1] + rest if kind == "parameter" else rest
    return Operation(match[1], kind, result, tuple(_NAME.findall(inner)), rest)


def _word(text: str) -> tuple[str, str]:
    word, _, rest = text.partition(" ")
    return word, rest


def _until_closed(text: str) -> tuple[str, str]:
    """A text that begins with a parenthesis, cut behind the one that closes it."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return text[: match.end()], text[match.end() :]
    return text, ""


@functools.cache
def _row(kind: str) -> re.Pattern[str]:
    return re.compile(rf"{kind}=(\d+)")


def frames_of(text: str) -> dict[int, tuple[str, int]]:
    """The program's table of stack frames: number → (``file:line``, number of the caller); empty without one."""
    tables = {name: _table(text, name) for name in ("FileNames", "FileLocations", "StackFrames")}

    def field_of(row: str, name: str) -> int:
        match = _row(name).search(row)
        return int(match[1]) if match else 0

    lines = {
        number: f"{tables['FileNames'].get(field_of(row, 'file_name_id'), '').strip(chr(34))}:{field_of(row, 'line')}"
        for number, row in tables["FileLocations"].items()
    }
    rows = {
        number: (lines.get(field_of(row, "file_location_id"), ""), field_of(row, "parent_frame_id"))
        for number, row in tables["StackFrames"].items()
    }
    # Printed parents are one too high, so that 0 can stand for nothing: the first frame seems to be its own parent.
    shift = 1 if rows and rows[min(rows)][1] == min(rows) else 0
    return {number: (line, parent - shift) for number, (line, parent) in rows.items()}


def _table(text: str, name: str) -> dict[int, str]:
    match = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    rows = (line.partition(" ") for line in match[1].splitlines()) if match else ()
    return {int(number): row for number, _, row in rows}

"""Every sentence in which the package tells a user of a mistake, read from the source without running it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "simswap_jax"
FILE = Path(__file__).with_suffix(".txt")
HEADER = """# Sentences of user errors by code; {…} is a value. Made by `python -m tests.snapshots.regenerate`.
"""
PLACEHOLDER = "{…}"
EXTRA = "extra-missing"  # of simswap_jax.errors.missing_extra


@dataclass(frozen=True, order=True)
class Sentence:
    """One place where a UserError is made.

    Attributes:
      code: as written; empty where there is none, a placeholder where it is computed.
      text: the sentence with a placeholder for every value.
      where: file and line, for the reader of a failing test.
    """

    code: str
    text: str
    where: str


def template(node: ast.expr | None) -> str:
    """A string expression with a placeholder for whatever is not written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return PLACEHOLDER


def name_of(node: ast.expr) -> str:
    """Last part of a dotted name; empty for other expressions."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


@dataclass(frozen=True)
class Kind:
    """How UserError, or a class below it, is called.

    Attributes:
      parameters: of ``__init__``, without self.
      code: what it hands on as code where the caller gives none.
    """

    parameters: tuple[str, ...]
    code: str


def kinds(trees: list[ast.Module]) -> dict[str, Kind]:
    """UserError and the classes below it, by name."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = {"UserError": Kind(("sentence", "code"), "")}
    grown = True
    while grown:
        below = {node.name: (node, base) for node in classes for base in map(name_of, node.bases) if base in known}
        new = {name: kind_of(node, known[base]) for name, (node, base) in below.items() if name not in known}
        known |= new
        grown = bool(new)
    return known


def kind_of(node: ast.ClassDef, base: Kind) -> Kind:
    """Of a subclass; without an ``__init__`` of its own it is called as its base."""
    init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if init is None:
        return base
    above = [call for call in ast.walk(init) if isinstance(call, ast.Call) and name_of(call.func) == "__init__"]
    codes = [argument(call, 1, "code") for call in above]
    code = next((template(code) for code in codes if code is not None), base.code)
    return Kind(tuple(word.arg for word in init.args.args[1:]), code)


def argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    """An argument given by position or by name."""
    if 0 <= position < len(call.args):
        return call.args[position]
    return next((word.value for word in call.keywords if word.arg == keyword), None)


def in_call(call: ast.Call, errors: dict[str, Kind]) -> tuple[str, str] | None:
    """(code, sentence) of a call that makes a user's error."""
    name = name_of(call.func)
    if name == "missing_extra":
        words = ("package", "extra", "purpose")
        package, extra, purpose = (template(argument(call, i, word)) for i, word in enumerate(words))
        return EXTRA, f"{purpose} needs {package} ({extra})"
    if name not in errors or not (call.args or call.keywords):
        return None
    kind = errors[name]
    given = [(word, argument(call, i, word)) for i, word in enumerate(kind.parameters)]
    code = next((node for word, node in given if word == "code"), None)
    text = " ".join(template(node) for word, node in given if word != "code" and node is not None)
    return kind.code if code is None else template(code), text


@cache
def sentences() -> tuple[Sentence, ...]:
    """What ``made`` yields, read once."""
    return tuple(made())


def made() -> Iterator[Sentence]:
    """Every call in the package that makes a UserError, one of its subclasses, or a missing extra."""
    files = sorted(PACKAGE.rglob("*.py"))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    errors = kinds(trees)
    for path, tree in zip(files, trees, strict=True):
        if path == PACKAGE / "errors.py":
            continue
        for node in ast.walk(tree):
            said = in_call(node, errors) if isinstance(node, ast.Call) else None
            if said is not None:
                yield Sentence(*said, f"{path.relative_to(ROOT).as_posix()}:{node.lineno}")


def snapshot() -> str:
    """The sentences by code, sorted, each once."""
    by_code: dict[str, set[str]] = defaultdict(set)
    for sentence in sentences():
        by_code[sentence.code].add(sentence.text)
    blocks = [
        "\n".join([code or "(no code)", *(f"    {text}" for text in sorted(texts))])
        for code, texts in sorted(by_code.items())
    ]
    return HEADER + "\n" + "\n\n".join(blocks) + "\n"

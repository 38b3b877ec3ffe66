"""What import contracts cannot say: where parsers live, what networks ask, what core does not name, sizes."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "simswap_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 60
MOST_PARAMETERS = 7
MOST_LONG_FUNCTIONS = 5
MEAN_LINES = 10.0


def inside(path):
    return path.relative_to(PACKAGE).as_posix()


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def is_command_line(path):
    """In cli/, or a command line of contrib/."""
    return bool(re.match(r"cli/|contrib/\w+/cli", inside(path)))


def imported(tree):
    """Names of the modules that a file imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_parsers_live_in_the_command_line_only():
    outside = [path for path in MODULES if not is_command_line(path)]
    found = [inside(path) for path in outside if "argparse" in imported(parsed(path))]
    assert found == [], "\n".join(found)


def test_no_network_asks_which_machine_it_is_on():
    """JAX calls conditionals on the default backend unsafe: a program may be for another machine than this."""
    asks = re.compile(r"\bjax\.(default_backend|devices|local_devices)\(")
    assert [
        inside(path) for path in MODULES if inside(path).startswith("models/") and asks.search(path.read_text())
    ] == []


def docstrings(tree):
    """Nodes of the docstrings of a file."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def names_rendered(path):
    """Lines of a file's code, prose apart, that name something rendered; names of contrib's modules may."""
    tree = parsed(path)
    prose = {id(node) for node in docstrings(tree)}
    for node in ast.walk(tree):
        name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            name = "" if node.value.startswith("simswap_jax.contrib.") else node.value
        if isinstance(name, str) and re.search(r"(?<![a-z])rendered(?![a-z])", name.lower()):
            yield f"{inside(path)}:{node.lineno}: {name[:80]}"


def test_core_names_nothing_rendered():
    core = [path for path in MODULES if not re.match(r"contrib/|cli/", inside(path))]
    found = [line for path in core for line in names_rendered(path)]
    assert found == [], "\n".join(found)


def functions():
    """(where, function) of every function of the package."""
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{inside(path)}:{node.lineno}: {node.name}", node


def code_lines(node):
    """Lines of a function that hold code: without decorators, docstring, comments and blank lines."""
    doc = {id(text) for text in docstrings(node)}
    statements = [part for part in node.body if not (isinstance(part, ast.Expr) and id(part.value) in doc)]
    lines = {node.lineno}
    for part in statements:
        lines |= {inner.lineno for inner in ast.walk(part) if hasattr(inner, "lineno")}
        lines |= {inner.end_lineno for inner in ast.walk(part) if getattr(inner, "end_lineno", None)}
    return len(lines)


def test_functions_are_short():
    lengths = {where: code_lines(node) for where, node in functions()}
    long = [f"{where} ({length})" for where, length in lengths.items() if length > MOST_LINES]
    assert len(long) <= MOST_LONG_FUNCTIONS, "\n".join(long)
    assert sum(lengths.values()) / len(lengths) <= MEAN_LINES


def test_many_parameters_have_a_reason():
    """More than seven carry a comment above the function, or at its head."""
    lines = {inside(path): path.read_text(encoding="utf-8").split("\n") for path in MODULES}
    without = []
    for where, node in functions():
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        own = [word for word in every if word.arg not in ("self", "cls")]
        first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
        around = lines[where.split(":")[0]][max(first - 3, 0) : node.body[0].lineno]
        if len(own) > MOST_PARAMETERS and not any("#" in line for line in around):
            without.append(f"{where} ({len(own)})")
    assert without == [], "\n".join(without)


@pytest.mark.parametrize(("folder", "most"), [("models/simswap.py", 200), ("training/step.py", 200)])
def test_the_papers_pages_are_short(folder, most):
    assert len((PACKAGE / folder).read_text(encoding="utf-8").splitlines()) <= most

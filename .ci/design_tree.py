"""The tree of docs/design.md, made of the files: `python .ci/design_tree.py` prints it, `--write` puts it there.

A module or package is named with the first sentence of its docstring. `tests/test_documentation.py` compares.
"""

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "simswap_jax"
PAGE = ROOT / "docs" / "design.md"
BEFORE, AFTER = "<!-- tree -->\n", "<!-- end of tree -->\n"

# What stands beside the package, and folders that hold no Python.
FOLDERS = {
    "configs": "YAML by machine and site: weights.yaml; hardware/: slices, peaks; datasets/: public ones, their terms",
    "launch": "starting jobs: TPU VMs, GKE, SLURM; container file",
    "benchmarks": "programs that measure what docs/experiments states",
    "examples": "scripts and notebooks to start from",
    "docs": "guide, reference, decisions, experiments, and this page",
    "tests": "mirrors the package; golden/: numbers measured with PyTorch; snapshots/: sentences and operation counts",
    ".ci": "what every submission must pass; the tree of this page",
    "simswap_jax/pretrained": "what ships: faces/ is a model folder (real faces, 112 pixels, research only)",
    "simswap_jax/contrib/rendered/pretrained": "what ships of rendered people: a model folder and its evaluators",
}
WIDTH = 26
LONGEST = 110


def first_sentence(path: Path) -> str:
    """First sentence of a module's docstring, without the full stop, shortened to a line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"\.\s", " ".join(text.partition("\n\n")[0].split()) + " ")[0]
    return textwrap.shorten(sentence.strip().removesuffix("."), LONGEST, placeholder=" …")


def described(depth: int, name: str, what: str) -> str:
    """One line of the tree."""
    width = WIDTH - 2 * depth
    return f"{'  ' * depth}{name:<{width - 1}} {what}".rstrip()


def folder_line(folder: Path, depth: int) -> str:
    """The line of a folder: its package's docstring, or what the table above says."""
    init = folder / "__init__.py"
    known = FOLDERS.get(folder.relative_to(ROOT).as_posix(), "")
    return described(depth, f"{folder.name}/", known or (first_sentence(init) if init.exists() else ""))


def lines(folder: Path, depth: int) -> list[str]:
    """The package below a folder: its modules, then its folders."""
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    found = [described(depth, path.name, first_sentence(path)) for path in modules]
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        named = inner.relative_to(ROOT).as_posix() in FOLDERS
        if named or (inner / "__init__.py").exists():
            found += [folder_line(inner, depth), *([] if named else lines(inner, depth + 1))]
    return found


def tree() -> str:
    """All of it, as it stands in the page between the fences."""
    beside = [ROOT / name for name in FOLDERS if "/" not in name and (ROOT / name).is_dir()]
    shown = [folder_line(PACKAGE, 0), *lines(PACKAGE, 1), *(folder_line(folder, 0) for folder in beside)]
    return "\n".join(shown) + "\n"


def in_page() -> str:
    """What stands in the page now."""
    block = PAGE.read_text(encoding="utf-8").split(BEFORE)[1].split(AFTER)[0]
    return block.removeprefix("```\n").removesuffix("```\n")


def write() -> None:
    """Put the tree into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEFORE)
    PAGE.write_text(f"{before}{BEFORE}```\n{tree()}```\n{AFTER}{rest.split(AFTER)[1]}", encoding="utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    else:
        print(tree(), end="")

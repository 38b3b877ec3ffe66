"""Experiments that ship, one Python file each: get_config() and a small get_test_config(); found by name."""

import ast
import difflib
import logging
import re
from pathlib import Path

from simswap_jax.errors import UserError, printable

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
FORMER_FOLDER = "ml_collections_configs"  # where they stood until version 0.1; command lines and scripts still say so


def names() -> list[str]:
    """The experiments, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def described() -> dict[str, str]:
    """Name → the first sentence of the experiment's docstring, which is read and not run."""
    found = {}
    for name in names():
        text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
        first = " ".join(text.partition("\n\n")[0].split())
        found[name] = re.split(r"\.\s", first + " ")[0].removesuffix(".")
    return found


def located(said: str) -> str:
    """The file that ``--config`` names, with its option.

    Args:
      said: ``NAME`` of an experiment that ships, or the path of a file, either with ``:OPTION`` behind it.

    Returns:
      The file's path, with ``:OPTION`` where there was one. A path that is there stays as it is; one into the folder in
      which experiments stood before is understood with one warning.

    Raises:
      UserError: it looks like a name, and no experiment has it.
    """
    path, colon, option = said.partition(":")
    stem = Path(path).name.removesuffix(".py")
    if stem == path:
        if path not in names():
            raise unknown(path)
    elif not (Path(path).parent.name == FORMER_FOLDER and not Path(path).exists() and stem in names()):
        return said
    else:
        logger.warning("%s is now part of the package: write --config %s", path, f"{stem}{colon}{option}")
    return f"{FOLDER / stem}.py{colon}{option}"


def unknown(name: str) -> UserError:
    """The sentence about a name that no experiment has: the nearest ones, else all."""
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5)
    others = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names())}, or name a file."
    return UserError(f"there is no experiment '{printable(name, 80)}'; {others}", "experiment-unknown")

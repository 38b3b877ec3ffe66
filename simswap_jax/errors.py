"""The one error that a user's mistake raises, what to install, and how names that others chose stand in a sentence."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[1] / "pyproject.toml"  # there where the package runs from its repository


class UserError(ValueError):
    """A mistake of the user's, in one sentence: what was wrong and what to do.

    The command line prints the sentence after ``simswap-jax: `` and exits with status 2; no traceback is shown.

    Attributes:
      code: a stable name of the mistake, such as ``"workdir-of-another-run"``; the sentence may be reworded.
    """

    def __init__(self, sentence: str, code: str = "") -> None:
        super().__init__(sentence)
        self.code = code


def missing_extra(package: str, extra: str, purpose: str) -> UserError:
    """The sentence for an optional package that is not installed.

    Args:
      package: the name that failed to import, e.g. ``"onnxruntime"``.
      extra: the extra of this project that brings it, e.g. ``"onnx"``.
      purpose: what it was wanted for, e.g. ``"judging with an ONNX network"``.
    """
    return UserError(f"{purpose} needs {package}, which is not installed: {install_command(extra)}.", "extra-missing")


def install_command(extra: str) -> str:
    """The command that brings an extra: of the checkout where this runs from one, else of the installed package."""
    return f"pip install -e '.[{extra}]'" if CHECKOUT.is_file() else f"pip install 'simswap-jax[{extra}]'"


def first_line(text: object, most: int = 200) -> str:
    """The first line of a library's words, which may quote a file, fit to stand in a sentence; no full stop."""
    return printable(str(text).strip().partition("\n")[0], most).strip().rstrip(".")


def printable(text: object, most: int = 300) -> str:
    """Text of a file's, or a file's name, fit to stand in a sentence: what a terminal would obey is written out.

    Args:
      text: anything; its ``str`` is taken.
      most: letters; longer texts lose their middle.
    """
    whole = str(text)
    if len(whole) > most:
        whole = f"{whole[: most // 2]}…{whole[-most // 2 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in whole)

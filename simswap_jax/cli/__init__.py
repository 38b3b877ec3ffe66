"""`simswap-jax VERB`: parsers that build requests."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

MODEL_HELP = "model folder, faces (default) or rendered, which ship, or user/name of the Hub"


class CommandParser(argparse.ArgumentParser):
    """argparse's parser; a mistake is one line that names the nearest flag, and the usage has what is required."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """The arguments as a namespace. A flag that does not exist is said before one that is missing."""
        words = sys.argv[1:] if args is None else list(args)
        self._refuse_unknown(words)
        return super().parse_args(words, namespace)

    def error(self, message: str) -> Any:
        """End with status 2 and one line."""
        self.exit(2, f"{self.prog}: {message.rstrip('.')} ({self.prog} --help has all of it)\n")

    def format_help(self) -> str:
        """The help, whose usage names the required arguments only."""
        if self.usage is None:
            required = [
                " ".join(filter(None, [action.option_strings[0] if action.option_strings else "", shown(action)]))
                for action in self._actions
                if action.required
            ]
            self.usage = " ".join([self.prog, *required, "[options]"]).replace("%", "%%")
        return super().format_help()

    def _refuse_unknown(self, words: Sequence[str]) -> None:
        for word in words:
            name = word.partition("=")[0]
            if word == "--":
                return
            if name.startswith("--") and not any(flag.startswith(name) for flag in self._option_string_actions):
                self.error(f"there is no {name}{nearest(name, self._option_string_actions)}")


def shown(action: argparse.Action) -> str:
    """What stands for an argument's value in the usage."""
    if action.nargs == 0:
        return ""
    named = action.metavar or (action.dest if not action.option_strings else action.dest.upper())
    return f"{named} …" if action.nargs == "+" else str(named)


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` where one of the known words is near, else nothing."""
    found = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {found[0]}?" if found else ""


def command_parser(verb: str, description: str, epilog: str = "") -> CommandParser:
    """The parser of ``simswap-jax VERB``, without arguments yet; ``epilog`` (examples) is shown as it is written."""
    return CommandParser(
        f"simswap-jax {verb}",
        description=description if "\n" in description else textwrap.fill(description, 80),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

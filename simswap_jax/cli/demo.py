"""`simswap-jax demo`: the whole job in minutes on two CPU cores."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from simswap_jax.cli import command_parser
from simswap_jax.cli.train import STOPPED

DEMO = "simswap_jax.contrib.rendered.demo:run"  # called with the workdir; False if it was stopped
DESCRIPTION = (
    "Render identities that belong to nobody, train an identity network and a small SimSwap on them, swap held-out "
    "ones, and measure: all in minutes on two CPU cores. Stopped, the same command resumes it."
)


def main(arguments: Sequence[str]) -> int:
    """Run the command. Status 0: done; 3: stopped before the end, the same command resumes."""
    options = parser().parse_args(arguments)
    module, function = DEMO.split(":")
    return 0 if getattr(import_module(module), function)(options.workdir) else STOPPED


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser("demo", DESCRIPTION)
    parse.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="where everything goes (runs/demo)")
    return parse

"""`simswap-jax sweep`: the command line of `simswap_jax.evaluation.sweep`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from simswap_jax.cli import command_parser, train
from simswap_jax.evaluation.sweep import SweepRequest, sweep

DESCRIPTION = """The paper's ablation as one run: many trainings that end in its table and its figure.

Without --config it is a small experiment that needs no data: minutes a variant on two CPU cores. With --config it is
any experiment on any data. Stopped, the same command resumes it.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Status 0: done; 3: stopped before the end, the same command resumes."""
    ours, of_config = divided(arguments)
    options = parser().parse_args(ours)
    config = train.parse([*of_config, "--workdir", str(options.workdir)])[0] if of_config else None
    return 0 if sweep(request_of(options, config)) else train.STOPPED


def parser() -> argparse.ArgumentParser:
    """The command's arguments, but for ``--config`` and ``--config.field=value``."""
    parse = command_parser("sweep", DESCRIPTION)
    add = parse.add_argument
    add("--workdir", type=Path, required=True, metavar="FOLDER", help="gets variants/NAME and evaluation")
    add("--variants", metavar="NAMES", help="only these, with commas (default: all of the paper's ablation)")
    add("--steps", type=int, metavar="N", help="of each training (default: the experiment's; 400 without --config)")
    add("--pairs", type=int, default=336, help="how many swaps each is evaluated by (default 336)")
    add("--people", type=int, metavar="N", help="identities of the small experiment (default 600)")
    add("--identity-steps", type=int, metavar="N", help="of the small experiment's identity network")
    add("--config", metavar="EXPERIMENT", help="an experiment of your own, and --config.field=value as for train")
    add("--judge", metavar="PATH", help="as for evaluate")
    for name in ("pose", "landmarks", "features"):
        add(f"--{name}", type=Path, metavar="PATH", help="as for evaluate")
    return parse


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and those of the experiment: ``--config FILE`` and ``--config.field=value``."""
    ours: list[str] = []
    of_config: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--config" and words:
            of_config += [word, words.pop(0)]
        elif word.startswith(("--config=", "--config.")):
            of_config.append(word)
        else:
            ours.append(word)
    return ours, of_config


def request_of(options: argparse.Namespace, config: ml_collections.ConfigDict | None) -> SweepRequest:
    """What a command line asks for."""
    names = options.variants.split(",") if options.variants is not None else None
    return SweepRequest(
        workdir=options.workdir,
        config=config,
        variants=tuple(name.strip() for name in names if name.strip()) if names is not None else None,
        steps=options.steps,
        pairs=options.pairs,
        people=options.people,
        identity_steps=options.identity_steps,
        recogniser=options.judge,
        pose=options.pose,
        landmarks=options.landmarks,
        features=options.features,
    )

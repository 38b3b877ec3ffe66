"""`simswap-jax compare`: the command line of `simswap_jax.evaluation.compare`."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_collections

from simswap_jax.cli import command_parser, train
from simswap_jax.cli.sweep import divided
from simswap_jax.errors import UserError, printable
from simswap_jax.evaluation.compare import MINUTES, CompareRequest, compare
from simswap_jax.evaluation.entrants import BASELINES, ENTRANTS
from simswap_jax.evaluation.warp import NAMES
from simswap_jax.training.experiment import REMOVED_FIELDS, RENAMED_FIELDS, flat

DESCRIPTION = """Train the methods that SimSwap is compared with, and judge all by one evaluation: table and page.

Without --config.data.root it renders people, whose true swaps are known, and trains an identity network on them: it
needs no data. With it, it is any folder of people. Stopped, the same command resumes it.
"""
EXAMPLES = """\
  simswap-jax compare --workdir runs/compare --minutes 60
  simswap-jax compare --workdir runs/compare --methods simswap,deepfakes,warp_tps --steps 400
  simswap-jax compare --workdir runs/faces --minutes 240 --judge NETWORK --pose headpose_fsanet.onnx \\
      --warp-landmarks landmarks98_pfld.onnx --config.data.root=ROOT --config.identity.weights=mobilefacenet_casia.ckpt
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Status 0: done; 3: stopped before the end, the same command resumes."""
    ours, fields = divided(arguments)
    options = parser().parse_args(ours)
    return 0 if compare(request_of(options, fields)) else train.STOPPED


def parser() -> argparse.ArgumentParser:
    """The command's arguments, but for ``--config.field=value``."""
    parse = command_parser("compare", DESCRIPTION, EXAMPLES)
    known = ", ".join([*ENTRANTS, *NAMES])

    add = parse.add_argument_group("what is compared").add_argument
    add("--workdir", type=Path, required=True, metavar="FOLDER", help="gets everything, and index.html at the end")
    add("--methods", metavar="NAMES", help=f"with commas: {known}, or NAME=EXPERIMENT of yours (default: all of these)")
    add("--minutes", type=float, metavar="N", help=f"for all of it, about; methods get equal seconds ({MINUTES:g})")
    add("--steps", type=int, metavar="N", help="of each training, in place of --minutes")

    add = parse.add_argument_group("whom").add_argument
    add("--known-people", type=int, default=4, metavar="N", help="whom DeepFakes is trained on (default 4)")
    add("--people", type=int, metavar="N", help="who are rendered (default 300, fewer for few minutes)")
    add("--identity-steps", type=int, metavar="N", help="of the rendered people's identity network (default 400)")
    add("--pairs", type=int, default=240, metavar="N", help="swaps of unseen people, and of known ones (default 240)")

    add = parse.add_argument_group("networks that measure").add_argument
    add("--judge", metavar="PATH", help="as for evaluate")
    for name in ("pose", "landmarks", "warp-landmarks", "features"):
        add(f"--{name}", type=Path, metavar="PATH", help="as for evaluate")
    return parse


def request_of(options: argparse.Namespace, fields: Sequence[str] = ()) -> CompareRequest:
    """What a command line asks for.

    Raises:
      UserError: a method is unknown, or a field that no method has.
    """
    methods, baselines = chosen(options.methods)
    minutes = MINUTES if options.minutes is None and options.steps is None else options.minutes
    return CompareRequest(
        workdir=options.workdir,
        experiments=experiments_of(methods, fields),
        baselines=baselines,
        minutes=minutes,
        steps=options.steps,
        pairs=options.pairs,
        known_people=options.known_people,
        people=options.people,
        identity_steps=options.identity_steps,
        recogniser=options.judge,
        pose=options.pose,
        landmarks=options.landmarks,
        warp_landmarks=options.warp_landmarks,
        features=options.features,
    )


def chosen(words: str | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Method → its experiment, and the rows without training.

    Raises:
      UserError: there is no such method, or one is named twice.
    """
    if words is None:
        return {name: entrant.experiment for name, entrant in ENTRANTS.items()}, BASELINES
    methods: dict[str, str] = {}
    baselines: list[str] = []
    for word in filter(None, (one.strip() for one in words.split(","))):
        name, equals, experiment = word.partition("=")
        if not equals and name not in ENTRANTS and name not in NAMES:
            raise UserError(
                f"there is no method '{printable(name)}'; choose among {', '.join([*ENTRANTS, *NAMES])}, or write "
                "NAME=EXPERIMENT.",
                "compare-method-unknown",
            )
        if name in methods or name in baselines:
            raise UserError(f"--methods names '{name}' twice; name it once.", "compare-method-twice")
        if name in NAMES and not equals:
            baselines.append(name)
        else:
            methods[name] = experiment if equals else ENTRANTS[name].experiment
    return methods, tuple(baselines)


def experiments_of(methods: Mapping[str, str], fields: Sequence[str]) -> dict[str, ml_collections.ConfigDict]:
    """Method → its experiment, with those of the fields that it has.

    Raises:
      UserError: a field that no experiment has, other fields without data, or ``--config``.
    """
    named = {word: word.removeprefix("--config.").partition("=")[0] for word in fields}
    for word, name in named.items():
        if word == "--config" or word.startswith("--config="):
            raise UserError(
                "compare trains several experiments; name them by --methods NAME=EXPERIMENT.", "compare-config"
            )
        if "data.root" not in named.values():
            raise UserError(
                f"--config.{name} is for data of your own; name them by --config.data.root=FOLDER, or leave it out.",
                "compare-fields-without-data",
            )
    found, taken = {}, {*RENAMED_FIELDS, *REMOVED_FIELDS}
    for method, experiment in methods.items():
        plain = ["--workdir=.", f"--config={experiment}"]
        here = {*flat(train.parse(plain)[0].to_dict())}
        taken |= here
        words = [word for word, name in named.items() if name in here or name in (*RENAMED_FIELDS, *REMOVED_FIELDS)]
        found[method] = train.parse([*plain, *words])[0]
    for name in named.values():
        if name not in taken:
            raise UserError(f"no compared method has a field config.{printable(name)}.", "compare-field-unknown")
    return found

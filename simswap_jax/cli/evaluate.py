"""`simswap-jax evaluate`: the command line of `simswap_jax.evaluation.evaluate`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simswap_jax.cli import MODEL_HELP, command_parser
from simswap_jax.errors import UserError
from simswap_jax.evaluation.evaluate import evaluate
from simswap_jax.evaluation.external import split_reference
from simswap_jax.evaluation.judges.networks import INPUT_RANGES
from simswap_jax.evaluation.protocols.protocol import PROTOCOLS
from simswap_jax.evaluation.request import HELD_OUT, PEOPLE, EvaluationRequest
from simswap_jax.evaluation.warp import FAMILY, NAMES
from simswap_jax.io.atomic import say_replaced
from simswap_jax.weights import model_folder

DESCRIPTION = (
    "Swap held-out identities and measure the results with independent networks, beside baselines, upper bounds and "
    "other programs' pictures."
)

JUDGE_HELP = (
    "recogniser: .onnx, identity folder, weight file or model folder (default: OpenCV's SFace, fetched once and "
    "verified; rendered people have one that ships)"
)
PEOPLE_HELP = (
    "whom to swap: those whom training held out by name (default); unseen: all of --data, none of whom took part in "
    "training; any: all of them, whether or not"
)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0."""
    request = request_of(parser().parse_args(arguments))
    say_replaced([request.export_pairs / "pairs.json" if request.export_pairs else request.output / "index.html"])
    evaluate(request, shlex.join(["simswap-jax", "evaluate", *arguments]))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parse = command_parser("evaluate", DESCRIPTION)
    many: dict[str, Any] = {"action": "append", "default": []}
    folder: dict[str, Any] = {"type": Path, "metavar": "FOLDER"}
    network: dict[str, Any] = {"type": Path, "metavar": "PATH"}
    known = ", ".join(PROTOCOLS)

    add = parse.add_argument_group("what is compared").add_argument
    add("--model", **many, metavar="[NAME=]MODEL", help=f"{MODEL_HELP}; once or more")
    add("--results", **many, metavar="NAME=FOLDER", help="another program's pictures of the same pairs (00000.png, …)")
    add("--external", **many, metavar="NAME=FILE.onnx:CONTRACT", help="another program's network, run by a contract")
    add("--baseline", **many, metavar="NAME", help=f"also {FAMILY} (all of these), {', '.join(NAMES)}")
    add("--data", type=Path, required=True, metavar="ROOT", help="aligned face crops as ROOT/PERSON/PICTURE")
    add("--output", **folder, required=True, help="where everything goes; an interrupted run is resumed there")

    add = parse.add_argument_group("networks that measure, by path or name").add_argument
    add("--judge", metavar="PATH", help=JUDGE_HELP)
    add("--pose", **network, help="head-pose network (.onnx), for simswap-frontal crops")
    add("--landmarks", **network, help="YuNet or a landmark network (.onnx), for the expression error")
    add("--warp-landmarks", **network, help="for --baseline and --external, where --landmarks is not to be taken")
    add("--features", **network, help="network for FID and KID: .onnx, or as --judge")
    add("--features-values", choices=sorted(INPUT_RANGES), default="255", help="RGB values it takes (default 255)")

    add = parse.add_argument_group("which swaps").add_argument
    add("--protocol", default="pairs", metavar="NAME", help=f"{known}, a pairs.json, or package.module:attribute")
    add("--people", choices=PEOPLE, default=HELD_OUT, help=PEOPLE_HELP)
    add("--held-out-fraction", type=float, help="part of the people to swap, by name (default: what training held out)")
    add("--held-out-seed", type=int, default=0, help="of that choice; trainings choose with 0 (default 0)")
    add("--pairs", type=int, default=500, help="how many swaps (default 500)")
    add("--seed", type=int, default=0, help="of drawing the pairs (default 0)")
    add("--strength", type=float, default=1.0, help="of the identity in models' swaps, as in swap (default 1)")
    add("--alignment", choices=model_folder.ALIGNMENTS, help="template of the crops; other models are refused")
    add("--size", type=int, metavar="PIXELS", help="side of the crops; a model trained on another size is refused")
    add("--far", type=float, default=1e-3, help="false-accept rate at which true accepts are counted (default 0.001)")
    add("--splits", type=Path, nargs="+", default=[], metavar="FILE", help="faceforensics: its files of pairs")
    add("--frames", type=int, default=10, help="faceforensics: frames a video (default 10)")
    add("--export-pairs", **folder, help="only write the pairs' crops there, for other programs")

    add = parse.add_argument_group("flicker of a video").add_argument
    add("--clip", **network, help="video or folder of frames on which the first model's flicker is measured")
    add("--clip-source", type=Path, metavar="PICTURE", help="whose identity the clip gets")
    return parse


def request_of(options: argparse.Namespace) -> EvaluationRequest:
    """What a command line asks for."""
    return EvaluationRequest(
        data=options.data,
        output=options.output,
        models=named(options.model, "models"),
        results=named(options.results, "results"),
        external=external_networks(options.external),
        baselines=tuple(options.baseline),
        warp_landmarks=options.warp_landmarks,
        protocol=options.protocol,
        recogniser=options.judge,
        pose=options.pose,
        landmarks=options.landmarks,
        features=options.features,
        feature_range=options.features_values,
        strength=options.strength,
        alignment=options.alignment,
        size=options.size,
        people=options.people,
        held_out_fraction=options.held_out_fraction,
        held_out_seed=options.held_out_seed,
        pairs=options.pairs,
        seed=options.seed,
        false_accept_rate=options.far,
        splits=tuple(options.splits),
        frames=options.frames,
        clip=options.clip,
        clip_source=options.clip_source,
        export_pairs=options.export_pairs,
    )


def external_networks(words: Sequence[str]) -> dict[str, str]:
    """``NAME=FILE.onnx:CONTRACT`` words as name → the rest; a nameless file is called by its name.

    Raises:
      UserError: two of one name, or a word that is not so written.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, reference = word.partition("=")
        reference = reference if equals else word
        title = name if equals else split_reference(word)[0].stem
        if title in found:
            raise UserError(
                f"two networks are called '{title}'; name them: NAME=FILE.onnx:CONTRACT.", "name-given-twice"
            )
        found[title] = reference
    return found


def named(words: Sequence[str], what: str) -> dict[str, Path]:
    """``NAME=FOLDER`` words as name → folder; a nameless folder is called by its last part that says something.

    Raises:
      UserError: two of one name.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word).expanduser()
        title = name if equals else next((part for part in reversed(path.parts) if part != "model"), "model")
        if title in found:
            raise UserError(f"two {what} are called '{title}'; name them: NAME=FOLDER.", "name-given-twice")
        found[title] = path
    return found

"""What `simswap-jax evaluate` is told, and what of it cannot work."""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from simswap_jax.data.dataset import held_out
from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.features import VALUES
from simswap_jax.evaluation.protocols.pairs import Protocol
from simswap_jax.weights import model_folder

PROTOCOLS = ("pairs", "synthetic", "faceforensics")
DESCRIPTION = (
    "Swap held-out people and let outside networks say what came out; judge other programs' pictures beside it."
)


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parse = argparse.ArgumentParser("simswap-jax evaluate", description=DESCRIPTION)
    add = parse.add_argument
    add(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]FOLDER",
        help="model folder; several make several rows (default: the one that ships, unless --results are given)",
    )
    add(
        "--results",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="pictures that another program made of the same pairs (00000.png, …), as one more row",
    )
    add("--protocol", default="pairs", metavar="NAME|FILE", help=f"{', '.join(PROTOCOLS)}, or an earlier pairs.json")
    add("--data", type=Path, required=True, metavar="ROOT", help="aligned face crops as ROOT/PERSON/PICTURE")
    add("--judge", metavar="PATH", help="recogniser: .onnx, identity folder, weight file or model folder")
    add("--pose", type=Path, metavar="PATH", help="head-pose network (.onnx), for simswap-frontal crops")
    add("--landmarks", type=Path, metavar="PATH", help="YuNet or a landmark network (.onnx), for the expression error")
    add("--features", type=Path, metavar="PATH", help="network for FID and KID: .onnx, or as --judge")
    add("--features-values", choices=sorted(VALUES), default="255", help="RGB values that network takes (default 255)")
    add(
        "--alignment",
        choices=model_folder.ALIGNMENTS,
        help="template of the crops; a model made for another is refused",
    )
    add("--size", type=int, metavar="PIXELS", help="side of the crops; a model trained on another size is refused")
    add("--held-out-fraction", type=float, help="part of the people to swap, by name (default: what training held out)")
    add("--held-out-seed", type=int, default=0, help="the training's seed of that choice (default 0)")
    add("--pairs", type=int, default=500, help="how many swaps (default 500)")
    add("--seed", type=int, default=0, help="of drawing the pairs (default 0)")
    add("--far", type=float, default=1e-3, help="false-accept rate at which true accepts are counted (default 0.001)")
    add("--splits", type=Path, nargs="+", default=[], metavar="FILE", help="faceforensics: its files of pairs")
    add("--frames", type=int, default=10, help="faceforensics: frames a video (default 10)")
    add(
        "--clip",
        type=Path,
        metavar="PATH",
        help="video or folder of frames on which the first model's flicker is measured",
    )
    add("--clip-source", type=Path, metavar="PICTURE", help="whose identity the clip gets")
    add("--export-pairs", type=Path, metavar="FOLDER", help="only write the pairs' crops there, for other programs")
    add(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where everything goes; a stopped run goes on there",
    )
    return parse


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is read."""
    if options.output.is_file():
        raise UserError(f"{options.output} is a file; name a folder for the results.")
    if options.pairs < 1:
        raise UserError(f"--pairs is {options.pairs}; judge at least one.")
    if not 0 < options.far < 1:
        raise UserError(f"--far is {options.far}; it lies between 0 and 1.")
    if options.frames < 2:
        raise UserError(f"--frames is {options.frames}; take at least 2 of a video.")
    if options.held_out_fraction is not None and not 0 < options.held_out_fraction <= 1:
        raise UserError(f"--held-out-fraction is {options.held_out_fraction}; it lies between 0 and 1.")
    if (options.clip is None) != (options.clip_source is None):
        raise UserError("--clip and --clip-source go together: the clip, and a picture of whose identity it gets.")
    if options.judge is None and options.protocol != "synthetic":
        raise UserError("--judge is missing; name a recogniser that took no part in the training.")
    if options.protocol not in PROTOCOLS and not options.protocol.endswith(".json"):
        raise UserError(f"there is no protocol '{options.protocol}'; choose {', '.join(PROTOCOLS)}, or a pairs.json.")


def check_plan(plan: Protocol, people: Mapping[str, Sequence[Path]]) -> None:
    """Refuse pairs of pictures that are not in the data."""
    here = {f"{name}/{file.name}" for name, files in people.items() for file in files}
    for pair in plan.pairs:
        for name in (pair.source, pair.target, pair.witness):
            if name is not None and name not in here:
                raise UserError(
                    f"the protocol names {name}, which is no picture of the data; use the data it was drawn from."
                )


def check_rate(rate: float, people: Mapping[str, Sequence[Path]]) -> None:
    """Refuse a false-accept rate that so few pictures cannot show."""
    counts = [len(files) for files in people.values()]
    pairs = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    if pairs * rate < 1:
        raise UserError(
            f"a false-accept rate of {rate:g} needs {math.ceil(1 / rate)} pairs of pictures of different people, and "
            f"there are {pairs}; set a larger --far or bring more pictures."
        )


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
            raise UserError(f"two {what} are called '{title}'; name them: NAME=FOLDER.")
        found[title] = path
    return found


def fraction_to_judge(asked: float | None, kept_out: float) -> float:
    """The part of the people to judge, given what was asked for and what the model's card says its training held out.

    Raises:
      UserError: people whom the model was trained on would be judged as if it had never seen them.
    """
    if asked is None:
        return kept_out or 0.12
    if kept_out and asked > kept_out:
        raise UserError(
            f"--held-out-fraction is {asked}, but the model's training held out {kept_out}: people whom it has seen "
            "would be judged; leave the flag out."
        )
    return asked


def chosen_people(people: Mapping[str, Sequence[Path]], root: Path, fraction: float, seed: int) -> list[str]:
    """Names of the held-out people, at least two, or a sentence."""
    names = held_out(sorted(people), fraction, seed)
    if len(names) < 2:
        raise UserError(
            f"{len(names)} of the {len(people)} people in {root} are held out, and swapping needs two; "
            "raise --held-out-fraction."
        )
    return names

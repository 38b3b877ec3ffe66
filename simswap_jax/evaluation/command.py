"""`simswap-jax evaluate`: swap held-out people of a folder and let an outside recogniser say whose faces came out."""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from simswap_jax.data.pictures import list_people
from simswap_jax.data.progress import Progress, to_terminal
from simswap_jax.data.sheets import contact_sheet
from simswap_jax.data.split import held_out
from simswap_jax.errors import UserError
from simswap_jax.evaluation import protocol
from simswap_jax.evaluation.identity import estimate
from simswap_jax.evaluation.judges import HeadPose, open_recogniser
from simswap_jax.evaluation.report import Figure, Table, html_report, text_table
from simswap_jax.evaluation.trial import Swaps, Verdict, judge_everybody, swap_pairs, verdicts
from simswap_jax.interop import model_folder
from simswap_jax.swapping.images import write_picture, write_text
from simswap_jax.swapping.provenance import Marks, draw_label, xmp_packet
from simswap_jax.swapping.swapper import FaceSwapper, resized

ROWS = {
    "result": "result",
    "floor": "untouched target (floor)",
    "ceiling": "another photo of the source (ceiling)",
}
COLUMNS = {
    "retrieval": "found, top-1",
    "nearer_source": "nearer to source than target",
    "cosine_source": "cosine to source",
    "cosine_target": "cosine to target",
}
MEASURES = {
    "self_l1": ("self-swap, L1 (values 0 to 1)", 4),
    "self_psnr": ("self-swap, PSNR in dB", 2),
    "self_ssim": ("self-swap, SSIM", 3),
    "pose_error": ("head pose, result against target, L2 of the angles in degrees", 2),
}


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax evaluate``; returns 0."""
    options = parser().parse_args(arguments)
    start = time.monotonic()
    if options.output.is_file():
        raise UserError(f"{options.output} is a file; name a folder for the results.")
    people = {name: files for name, files in list_people(options.data).items() if files}
    swapper = FaceSwapper.from_pretrained(options.model, face_size=options.size, alignment=options.alignment)
    options.held_out_fraction = fraction_to_judge(options.held_out_fraction, swapper.model.card.get("held_out", 0.0))
    chosen = chosen_people(options, people)
    plan = protocol.load(options.protocol) if options.protocol else None
    pose = HeadPose(options.pose) if options.pose else None
    judge = open_recogniser(options.judge)

    pictures = sum(map(len, people.values()))
    album, broken = judge_everybody(judge, people, Progress(pictures, "pictures judged", to_terminal))
    for sentence in broken:
        print(f"simswap-jax: left out: {sentence}", file=sys.stderr)
    if plan is None:
        plan = protocol.draw(album.files, [name for name in chosen if name in album.files], options.pairs, options.seed)
    album.rows(
        [name for pair in plan.pairs for name in (pair.source, pair.target)]
    )  # all there, before the work starts
    swaps = swap_pairs(
        swapper, judge, pose, plan, options.data, progress=Progress(len(plan.pairs), "pairs swapped", to_terminal)
    )
    found = verdicts(album, plan, swaps)
    metrics: dict[str, object] = {
        **numbers(found, swaps),
        "pairs": len(plan.pairs),
        "people": len(plan.people),
        "gallery_people": len(album.names),
        "gallery_pictures": len(album.vectors),
        "judge": judge.name,
        "judge_sha256": judge.sha256,
        "judge_is_training_network": judge.sha256 == swapper.model.identity_sha256,
        "seconds": round(time.monotonic() - start, 1),
    }
    sentence = opening(found["result"], metrics)
    tables = [identity_table(found), measure_table(found, swaps)]
    write_folder(options.output, metrics, plan, sentence, tables, sheet(swaps))
    print(sentence, *(text_table(table) for table in tables), sep="\n\n")
    print(f"\n{metrics['seconds']} s; metrics.json, sheet.png, pairs.json and index.html are in {options.output}.")
    return 0


def parser() -> argparse.ArgumentParser:
    """The verb's arguments."""
    parse = argparse.ArgumentParser("simswap-jax evaluate", description=__doc__)
    add = parse.add_argument
    add("--model", type=Path, metavar="FOLDER", help="model folder (default: the one that ships)")
    add(
        "--alignment",
        choices=model_folder.ALIGNMENTS,
        help="template that the crops were aligned to; a model made for another is refused",
    )
    add("--size", type=int, metavar="PIXELS", help="side of the crops; a model trained on another size is refused")
    add("--data", type=Path, required=True, metavar="ROOT", help="aligned face crops as ROOT/PERSON/PICTURE")
    add(
        "--judge",
        required=True,
        metavar="PATH",
        help="recogniser: an .onnx, an identity folder, a weight file or a model folder",
    )
    add(
        "--pose",
        type=Path,
        metavar="PATH",
        help="head-pose network (.onnx) to measure pose with, for simswap-frontal crops",
    )
    add(
        "--held-out-fraction",
        type=float,
        help="part of the people to swap, by name (default: what the model's training held out)",
    )
    add("--held-out-seed", type=int, default=0, help="the training's seed of that choice (default 0)")
    add("--pairs", type=int, default=500, help="how many swaps (default 500)")
    add("--seed", type=int, default=0, help="of drawing the pairs (default 0)")
    add("--protocol", type=Path, metavar="FILE", help="a pairs.json of an earlier evaluation, instead of drawing")
    add("--output", type=Path, required=True, metavar="FOLDER", help="where metrics.json, sheet.png and index.html go")
    return parse


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


def chosen_people(options: argparse.Namespace, people: Mapping[str, Sequence[Path]]) -> list[str]:
    """Names of the held-out people, at least two, or a sentence."""
    if options.pairs < 1:
        raise UserError(f"--pairs is {options.pairs}; judge at least one.")
    if not 0 < options.held_out_fraction <= 1:
        raise UserError(f"--held-out-fraction is {options.held_out_fraction}; it lies between 0 and 1.")
    names = held_out(sorted(people), options.held_out_fraction, options.held_out_seed)
    if len(names) < 2 and not options.protocol:
        raise UserError(
            f"{len(names)} of the {len(people)} people in {options.data} are held out, and swapping needs two; "
            "raise --held-out-fraction."
        )
    return names


def numbers(found: Mapping[str, Verdict], swaps: Swaps) -> dict[str, object]:
    """The metrics: means by name (``floor_`` and ``ceiling_`` before those rows'), each with its 95 % interval."""
    values: dict[str, object] = {}
    for row, verdict in found.items():
        for column in COLUMNS:
            name = column if row == "result" else f"{row}_{column}"
            result = estimate(getattr(verdict, column), verdict.groups)
            values[name], values[f"{name}_interval"] = result.mean, [result.low, result.high]
    for name, array in swaps.measures.items():
        result = estimate(array, found["result"].groups)
        values[name], values[f"{name}_interval"] = result.mean, [result.low, result.high]
    return values


def opening(result: Verdict, metrics: Mapping[str, object]) -> str:
    """One sentence that says what the numbers mean, and one more where they mean less than they seem to."""
    sentence = (
        f"Of {metrics['pairs']} faces of held-out people re-drawn with another's identity, {metrics['judge']} takes "
        f"{np.mean(result.retrieval):.1%} for the source among {metrics['gallery_people']} people (by chance "
        f"{1 / int(str(metrics['gallery_people'])):.1%}) and finds {np.mean(result.nearer_source):.1%} nearer to the "
        "source's picture than to the target's."
    )
    if metrics["judge_is_training_network"]:
        sentence += " This judge is the very network the model was trained to please, so the numbers flatter it."
    return sentence


def identity_table(found: Mapping[str, Verdict]) -> Table:
    """Rows: result, floor, ceiling; columns: the four measures of identity."""
    rows = [
        [ROWS[row], *(estimate(getattr(verdict, column), verdict.groups).text() for column in COLUMNS)]
        for row, verdict in found.items()
    ]
    return Table("Whose face is it? Means with 95 % intervals over source people.", ["", *COLUMNS.values()], rows)


def measure_table(found: Mapping[str, Verdict], swaps: Swaps) -> Table:
    """What is kept of the target."""
    rows = [
        [MEASURES[name][0], estimate(array, found["result"].groups).text(MEASURES[name][1])]
        for name, array in swaps.measures.items()
    ]
    return Table("What is kept of the target?", ["", "mean"], rows)


def sheet(swaps: Swaps) -> np.ndarray:
    """Source, target and result of some pairs, two pairs a row; the results carry the visible label."""
    side = swaps.examples[0][0].shape[0]
    size = side * -(-96 // side)  # large enough to read the label
    rows = [[resized(picture, size) for picture in row] for row in swaps.examples]
    triples = [[source, target, draw_label(result)] for source, target, result in rows]
    rows = [list(chain.from_iterable(triples[start : start + 2])) for start in range(0, len(triples), 2)]
    return contact_sheet(rows, ["source", "target", "result"] * (len(rows[0]) // 3))


def write_folder(
    output: Path,
    metrics: Mapping[str, object],
    plan: protocol.Protocol,
    sentence: str,
    tables: Sequence[Table],
    picture: np.ndarray,
) -> None:
    """metrics.json, pairs.json, sheet.png and index.html, each whole or not at all."""
    protocol.save(output / "pairs.json", plan)
    write_text(output / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_picture(output / "sheet.png", picture, xmp_packet(Marks()))
    figure = Figure("Source, target and result of the first pairs.", picture)
    write_text(output / "index.html", html_report("Swaps of held-out people", sentence, tables, pictures=[figure]))

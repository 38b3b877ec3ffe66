"""`simswap-jax evaluate`: swap held-out people of a folder and let outside networks say what came out."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.contrib.rendered import protocol as rendered_protocol
from simswap_jax.contrib.rendered.dataset import Labels, read_labels
from simswap_jax.contrib.rendered.identity_judge import pretrained
from simswap_jax.data.folder import list_people
from simswap_jax.errors import UserError
from simswap_jax.evaluation import agreement, clip
from simswap_jax.evaluation.candidates import (
    CONTROLS,
    GIVEN,
    MODEL,
    SOURCE,
    WITNESS,
    WITNESS_TITLE,
    GivenRow,
    ModelRow,
    Row,
)
from simswap_jax.evaluation.judges.features import open_features
from simswap_jax.evaluation.judges.landmarks import open_landmarks
from simswap_jax.evaluation.judges.predictions import Judges
from simswap_jax.evaluation.judges.recognition import HeadPose, open_recogniser
from simswap_jax.evaluation.metrics import identity
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.summary import placed, summarise
from simswap_jax.evaluation.options import (
    PROTOCOLS,
    check,
    check_plan,
    check_rate,
    chosen_people,
    fraction_to_judge,
    named,
    parser,
)
from simswap_jax.evaluation.protocols import faceforensics
from simswap_jax.evaluation.protocols import pairs as protocol
from simswap_jax.evaluation.report import plots
from simswap_jax.evaluation.report.page import labelled_sheet, write_page
from simswap_jax.evaluation.report.tables import Summary, paper_table, tables
from simswap_jax.evaluation.runner import Album, Scene, judge_everybody, judge_rows, look_at_people, pictures_of
from simswap_jax.evaluation.work import Work
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.html_report import Curve, Scatter, Table
from simswap_jax.io.images import read_picture, resize_square
from simswap_jax.io.progress import Progress, to_terminal
from simswap_jax.provenance.writer import write_picture

CASES, SHOWN = ("best", "median", "worst"), 4  # in the sheet, and how many of each
MOST_BESIDE = 2  # rows to judge, up to which the cases stand side by side
UNSWAPPED = ("target", "shift", "hue", "soft", "colour")  # rows that still show the target's person


def main(arguments: Sequence[str]) -> int:
    """Run ``simswap-jax evaluate``; returns 0."""
    options = parser().parse_args(arguments)
    check(options)
    evaluate(options)
    return 0


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Judge; returns what metrics.json holds."""
    models = open_models(options)
    size = options.size or max((row.swapper.face_size for row in models), default=112)
    judges = open_judges(options)
    output = options.output

    ready = None
    if options.protocol == "faceforensics":
        ready = faceforensics.prepare(options, models[0].swapper if models else None, size, say)
    root = ready.root if ready else options.data
    people = {name: files for name, files in list_people(root).items() if files}
    labels = read_labels(root) if options.protocol == "synthetic" else None
    plan = ready.plan if ready else plan_of(options, people, models)
    check_plan(plan, people)
    if not any(pair.witness for pair in plan.pairs):
        raise UserError(
            f"everybody who is a source has one picture only in {root}, and a person is found by other pictures of "
            "theirs; bring at least two of each."
        )
    check_rate(options.far, people)
    if options.export_pairs:
        export(options.export_pairs, plan, root, size)
        return {}
    given: list[Row] = [] if ready is None else list(ready.rows)
    if ready is None:
        given += [GivenRow(n, folder, len(plan.pairs)) for n, folder in named(options.results, "results").items()]
    controls = [*CONTROLS, *rendered_protocol.CONTROLS, *rendered_protocol.RUNGS] if labels else list(CONTROLS)
    rows: list[Row] = [*models, *given, *controls]
    check_names(rows)

    scene = Scene(plan, root, size, rendered_protocol.truths_of(labels, plan, size) if labels else None)
    work = Work(output, about(scene, judges, rows, people), say)
    album, broken = judge_everybody(
        judges, people, Progress(sum(map(len, people.values())), "pictures judged", to_terminal), work
    )
    for sentence in broken:
        say(f"left out: {sentence}")
    pairs = placed(plan, album, options.far, bar_source=ready is None)
    looked = sum(len(album.files.get(name, ())) for name in plan.people)
    known = look_at_people(scene, judges, album, work, Progress(looked, "pictures looked at", to_terminal))
    every = Progress(len(plan.pairs) * (len(rows) + 1), "results judged", to_terminal)
    seen = judge_rows(scene, judges, rows, work, every)
    summary, each = summarise(plan, album, pairs, known, seen, UNSWAPPED)
    titles = {row.key: row.title for row in rows} | {WITNESS: WITNESS_TITLE}

    judged = [row for row in rows if row.kind in (MODEL, GIVEN)]
    told: dict[str, Any] = {
        "protocol": described(options, plan, album, size, pairs.threshold),
        "judges": judges.described(),
        "judge_is_training_network": [
            row.key for row in models if row.swapper.model.identity_sha256 == judges.recogniser.sha256
        ],
        "rows": {
            key: {"title": titles[key], "sha256": next((row.sha256 for row in rows if row.key == key), "")}
            | {name: spread(value) for name, value in numbers.items()}
            for key, numbers in summary.items()
        },
    }
    extra = []
    if labels:
        told["agreement"], table = agreements(judges, labels, plan, size, each, summary, pairs.person)
        extra.append(table)
    if options.clip:
        told["clip"], table = clip.measured(options.clip, options.clip_source, models, judges, size)
        extra.append(table)
    write_page(
        output,
        plan,
        told,
        opening(told, summary, [row.key for row in judged]),
        [paper_table(summary, titles), *tables(summary, titles, options.far), *extra],
        figures(album, each, summary, titles, judged),
        sheet(scene, judges, each, judged),
    )
    work.clear()
    return told


def open_models(options: argparse.Namespace) -> list[ModelRow]:
    """A row for each model folder; the one that ships where neither models nor results are named."""
    folders: dict[str, Path | None] = dict(named(options.model, "models"))
    if not folders and not options.results:
        folders = {"simswap_jax": None}
    rows = []
    for name, folder in folders.items():
        swapper = FaceSwapper.from_pretrained(folder, face_size=options.size, alignment=options.alignment)
        rows.append(ModelRow(name, swapper))
    return rows


def open_judges(options: argparse.Namespace) -> Judges:
    """The networks that were named; those of rendered faces for what the synthetic protocol leaves out."""
    rendered = options.protocol == "synthetic"
    recogniser = open_recogniser(options.judge) if options.judge else pretrained()
    pose = HeadPose(options.pose) if options.pose else rendered_protocol.RenderedPose() if rendered else None
    return Judges(
        recogniser,
        pose,
        open_landmarks(options.landmarks) if options.landmarks else None,
        open_features(options.features, options.features_values) if options.features else None,
    )


def plan_of(
    options: argparse.Namespace, people: Mapping[str, Sequence[Path]], models: Sequence[ModelRow]
) -> protocol.Protocol:
    """The pairs of a file, or pairs drawn among the held-out people."""
    if options.protocol.endswith(".json"):
        return protocol.load(options.protocol)
    kept_out = [float(row.swapper.model.card.get("held_out", 0.0)) for row in models]
    fraction = fraction_to_judge(options.held_out_fraction, min((part for part in kept_out if part), default=0.0))
    chosen = chosen_people(people, options.data, fraction, options.held_out_seed)
    pictures = {name: readable(people[name]) for name in chosen}
    return protocol.draw(pictures, [name for name in chosen if pictures[name]], options.pairs, options.seed)


def readable(files: Sequence[Path]) -> list[str]:
    """The names of the files that are pictures indeed; the others are told of when everybody is judged."""
    names = []
    for file in files:
        try:
            read_picture(file)
        except UserError:
            continue
        names.append(file.name)
    return names


def check_names(rows: Sequence[Row]) -> None:
    """Refuse a model or a folder of results that is called like another row."""
    taken = {WITNESS, SOURCE.key}
    for row in sorted(rows, key=lambda row: row.kind in (MODEL, GIVEN)):
        if row.key in taken:
            raise UserError(f"there is already a row called '{row.key}'; call this one otherwise: NAME=FOLDER.")
        if not row.key.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise UserError(f"'{row.key}' cannot be a row's name; use letters, digits, '-', '_' and '.'.")
        taken.add(row.key)


def about(scene: Scene, judges: Judges, rows: Sequence[Row], people: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Everything that pieces of work depend on."""
    return {
        "pairs": [[pair.source, pair.target] for pair in scene.plan.pairs],
        "people": sorted(scene.plan.people),
        "pictures": {
            name: [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in fs] for name, fs in people.items()
        },
        "size": scene.size,
        "judges": judges.described(),
        "rows": {row.key: row.sha256 for row in rows},
    }


def described(
    options: argparse.Namespace, plan: protocol.Protocol, album: Album, size: int, threshold: float
) -> dict[str, Any]:
    """What was asked, for the JSON."""
    return {
        "name": options.protocol if options.protocol in PROTOCOLS else "pairs",
        "seed": plan.seed,
        "pairs": len(plan.pairs),
        "people": len(plan.people),
        "gallery_people": len(album.names),
        "gallery_pictures": len(album.vectors),
        "size": size,
        "false_accept_rate": options.far,
        "accept_threshold": threshold,
    }


def spread(value: Estimate) -> dict[str, float]:
    """An estimate in the JSON."""
    return {"mean": value.mean, "low": value.low, "high": value.high}


def agreements(
    judges: Judges,
    labels: Labels,
    plan: protocol.Protocol,
    size: int,
    each: Mapping[str, Mapping[str, np.ndarray]],
    summary: Summary,
    person: np.ndarray,
) -> tuple[dict[str, Any], Table]:
    """Rank correlations of the measures with the error against the true answer."""
    rungs = ["target", *(rung.key for rung in rendered_protocol.RUNGS), "truth"]
    found: dict[str, Estimate] = {"identity": agreement.of_identity(each, rungs, person)}
    pose = agreement.of_pose(judges, labels, plan, size)
    if pose is not None:
        found["pose"] = pose
    found["sharpness"] = agreement.of_sharpness(labels, plan, size)
    rows = agreement.across_rows(summary, [key for key in summary if "truth_l1" in summary[key]])
    table = Table(
        "Does the measure order pictures as their error against the true answer does? Spearman's rank correlation; "
        "1: always.",
        ["", "within a pair, rung by rung", "over the rows of this table"],
        [
            [
                "cosine to source: part of the way to the true answer",
                found["identity"].text(),
                _shown(rows, "cosine_source"),
            ],
            *([["pose error: turned to the side", pose.text(), _shown(rows, "pose_error")]] if pose else []),
            ["Laplacian energy: blurred", found["sharpness"].text(), _shown(rows, "sharpness")],
        ],
    )
    return {"within_pairs": {k: spread(v) for k, v in found.items()}, "over_rows": rows}, table


def _shown(rows: Mapping[str, float], name: str) -> str:
    return f"{rows[name]:.2f}" if name in rows else ""


def opening(told: Mapping[str, Any], summary: Summary, keys: Sequence[str]) -> str:
    """A sentence that says what the numbers mean, and one more where they mean less than they seem to."""
    plan, judge = told["protocol"], told["judges"]["identity"]["name"]
    key = keys[0]
    row = summary[key]
    sentence = (
        f"Of {plan['pairs']} faces re-drawn with another's identity by {key}, {judge} takes "
        f"{row['retrieval'].mean:.1%} for the source among {plan['gallery_people']} people (by chance "
        f"{1 / plan['gallery_people']:.1%}) and finds {row['nearer_source'].mean:.1%} nearer to the source's picture "
        "than to the target's"
    )
    if "pose_error" in row:
        low = summary["shift"]["pose_error"].mean
        sentence += f"; the pose is off by {row['pose_error'].mean:.1f}° (by {low:.1f}° if the target is merely moved)"
    sentence += "."
    flattered = told["judge_is_training_network"]
    if flattered:
        names = ", ".join(flattered)
        sentence += f" This judge is the very network that {names} was trained to please, so the numbers flatter it."
    return sentence


def figures(
    album: Album,
    each: Mapping[str, Mapping[str, np.ndarray]],
    summary: Summary,
    titles: Mapping[str, str],
    judged: Sequence[Row],
) -> list[Curve | Scatter]:
    """ROC, histograms and trade-offs."""
    genuine, impostors = identity.pair_cosines(album.vectors, album.person)
    shown = [*(row.key for row in judged[: plots.MOST_LINES - 2]), "target"]
    lines = {titles[key]: each[key]["cosine_source"] for key in shown}
    real = {"real pictures of one person": genuine} if len(genuine) else {}
    return [
        plots.roc_curve({**real, **lines}, impostors),
        plots.histogram("Cosines to the source", {**real, "real pictures of two people": impostors, **lines}),
        plots.histogram("Cosines to the target", {titles[key]: each[key]["cosine_target"] for key in shown[:-1]}),
        *plots.trade_offs(summary, titles, [*(row.key for row in judged), "target", "pasted"]),
    ]


def sheet(
    scene: Scene, judges: Judges, each: Mapping[str, Mapping[str, np.ndarray]], judged: Sequence[Row]
) -> np.ndarray:
    """Best, median and worst pairs by the first row's cosine to the source."""
    cosines = each[judged[0].key]["cosine_source"]
    order = np.argsort(-cosines, kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    picked = [order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:]]
    columns = ["source", "target", *(row.title for row in judged)]
    drawn = pictures_of(scene, judges, judged, np.concatenate(picked).tolist())
    if len(judged) > MOST_BESIDE:
        captions = [f"{what}: {cosines[i]:.2f}" for what, part in zip(CASES, picked) for i in part]
        return labelled_sheet(drawn, columns, captions, 1)
    count = len(picked[0])
    rows = [[tile for row in drawn[line::count] for tile in row] for line in range(count)]
    captions = [", ".join(f"{cosines[i]:.2f}" for i in line) for line in zip(*picked)]
    return labelled_sheet(rows, [f"{what}: {column}" for what in CASES for column in columns], captions, len(CASES))


def export(folder: Path, plan: protocol.Protocol, root: Path, size: int) -> None:
    """Write the pairs' crops for other programs: ``sources/00000.png``, ``targets/00000.png``, …, and pairs.json."""
    for side in ("source", "target"):
        for number, pair in enumerate(plan.pairs):
            picture = resize_square(read_picture(root / getattr(pair, side)), size)
            write_picture(folder / f"{side}s" / f"{number:05d}.png", picture)
    protocol.save(folder / "pairs.json", plan)
    print(
        f"{len(plan.pairs)} pairs of {size}×{size} pixels are in {folder}; name results by their numbers, 00000.png, …"
    )


def say(sentence: str) -> None:
    """A remark that is no result."""
    print(f"simswap-jax: {sentence}", file=sys.stderr, flush=True)

"""The page of a comparison of methods, from the evaluations that stand on disk: sentences, tables, plots and sheets."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.evaluation.candidates import BASELINES, GENUINE, GENUINE_TITLE, GROUND_TRUTH, TARGET
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.yaw import ByYaw
from simswap_jax.evaluation.report.expectations import (
    NOT_ASKED,
    NOT_SHOWN,
    SHOWN,
    WARP,
    WARPED,
    Evaluated,
    Expectation,
    above_real,
    expectations,
)
from simswap_jax.evaluation.report.page import yaw_curves
from simswap_jax.evaluation.report.tables import (
    PAPER,
    judge_caution,
    markdown_page,
    one_table,
    published_table,
    yaw_table,
)
from simswap_jax.io.atomic import write_json, write_text
from simswap_jax.io.html_report import Curve, Figure, Scatter, Table, html_report
from simswap_jax.io.images import read_picture

TITLE = "Methods of face swapping compared"
MAIN = {
    **{name: PAPER[name] for name in ("retrieval", "cosine_source", "pose_error", "expression_error")},
    "kept_gaze": ("gaze kept % ↑", 100.0, 0),
    "kept_mouth": ("mouth kept % ↑", 100.0, 0),
    "leak_light": ("light leaked ↓", 1.0, 2),
    "self_psnr": ("self-swap dB ↑", 1.0, 1),
    "truth_psnr": ("to the truth dB ↑", 1.0, 1),
    "fid": PAPER["fid"],
}
TRADES = (
    ("cosine_source", "pose_error", "cosine to source", "pose error, °"),
    ("cosine_source", "expression_error", "cosine to source", "expression error, %"),
    ("cosine_source", "kept_gaze", "cosine to source", "gaze kept"),
    ("cosine_source", "kept_mouth", "cosine to source", "mouth kept"),
    ("cosine_source", "leak_light", "cosine to source", "light leaked from the source"),
)
REFERENCES = (TARGET.key, "pasted", GROUND_TRUTH.key, GENUINE)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """A compared row.

    Attributes:
      title: in tables.
      takes: what it takes of the source.
      parameters: of the generator.
      gflop: of the generator, for one face.
      batch, steps, seconds: of its training, the seconds without compiling and saving.
      lacks: what it has not that the published method has.
    """

    title: str
    takes: str
    parameters: int = 0
    gflop: float = 0.0
    batch: int = 0
    steps: int = 0
    seconds: float = 0.0
    lacks: str = ""


@dataclass(frozen=True)
class Comparison:
    """What was compared.

    Attributes:
      methods: row → what it is.
      held_out, known: folders of the two evaluations.
      impossible: row → why it could not be made at all.
      answers_known: whether the people are synthetic, and the true swaps known.
    """

    methods: Mapping[str, Method]
    held_out: Path
    known: Path
    impossible: Mapping[str, str]
    answers_known: bool


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write index.html, table.md and comparison.json, and log what they say."""
    metrics = [json.loads((one / "metrics.json").read_text("utf-8")) for one in (comparison.held_out, comparison.known)]
    held_out, known = (evaluated(one) for one in metrics)
    rows = list(comparison.methods)
    found = expectations(held_out, known, rows)
    said = opening(comparison, metrics[0], found, above_real(held_out, rows))
    first = [expectation_table(found), budget_table(comparison.methods), *result_tables(comparison, held_out, known)]
    figures = [sheet(comparison.held_out, "people whom no method saw"), sheet(comparison.known, "known people")]
    every = [*first, published_table()]
    write_text(folder / "table.md", markdown_page(TITLE, said, every))
    write_text(folder / "index.html", html_report(TITLE, said, every, plots(comparison, held_out), figures))
    write_json(folder / "comparison.json", described(comparison, found))
    lines = [f"  {one.outcome}: {one.claim}: {', '.join(filter(None, (one.first, one.second)))}" for one in found]
    logger.info("%s", "\n".join([said, *lines]))
    logger.info("\nThe page: %s (beside it table.md and comparison.json)", folder / "index.html")


def described(comparison: Comparison, found: Sequence[Expectation]) -> dict[str, Any]:
    """Sentences and methods as JSON holds them."""
    methods = {name: vars(method) for name, method in comparison.methods.items()}
    return {"expectations": [vars(one) for one in found], "methods": methods}


def evaluated(metrics: Mapping[str, Any]) -> Evaluated:
    """An evaluation from its metrics.json."""
    summary = {
        row: {name: Estimate(**value) for name, value in values.items() if isinstance(value, Mapping)}
        for row, values in metrics["rows"].items()
    }
    left_out, people = metrics.get("left_out", {}), int(metrics["protocol"]["people"])
    stored = metrics.get("by_yaw")
    if stored is None:
        return Evaluated(summary, None, left_out, people)
    values = {
        row: {name: [None if one is None else Estimate(**one) for one in bins] for name, bins in of_row.items()}
        for row, of_row in stored["rows"].items()
    }
    degrees = [float("nan") if one is None else one for one in stored["degrees"]]
    return Evaluated(summary, ByYaw(stored["pairs"], degrees, values), left_out, people)


def opening(
    comparison: Comparison, metrics: Mapping[str, Any], found: Sequence[Expectation], copied: Sequence[str]
) -> str:
    """What was compared on what, and how many expectations are shown."""
    counts = {word: sum(one.outcome == word for one in found) for word in (SHOWN, NOT_SHOWN, NOT_ASKED)}
    people = "synthetic people, whose true swaps are known" if comparison.answers_known else "photos of people"
    protocol = metrics["protocol"]
    said = (
        f"{len(comparison.methods)} methods on {people}: {protocol['pairs']} swaps of {protocol['people']} people whom "
        f"no method saw, and as many of people whom all were trained on. Of {len(found)} things that the "
        f"papers claim {counts[SHOWN]} shown here, {counts[NOT_SHOWN]} not shown, {counts[NOT_ASKED]} that could not "
        "be asked. All rows got the same crops and the same evaluators; networks and trainings are small."
        f"{judge_caution(metrics)}"
    )
    if copied:
        said += f" Above another real picture of the source, and so copied from what is measured: {', '.join(copied)}."
    return said


def expectation_table(found: Sequence[Expectation]) -> Table:
    """A row a sentence."""
    caption = (
        "What the papers claim, and whether this run shows it: shown is what holds with the 95 % intervals apart; at "
        "or above is what is not below the other's interval. Where it is not shown, the run was too small, or it is "
        "not so."
    )
    rows = [[one.claim, one.outcome, one.first, one.second] for one in found]
    return Table(caption, ["", "here", "", ""], rows, text=(1, 2, 3))


def budget_table(methods: Mapping[str, Method]) -> Table:
    """Size and budget of each method, and what it lacks."""
    rows = [
        [
            one.title,
            one.takes,
            f"{one.parameters / 1e6:.2f}" if one.parameters else "–",
            f"{one.gflop:.2f}" if one.gflop else "–",
            f"{one.steps:,}" if one.steps else "–",
            f"{one.batch}" if one.batch else "–",
            f"{one.seconds:,.0f}" if one.seconds else "–",
            one.lacks,
        ]
        for one in methods.values()
    ]
    header = ["", "takes", "parameters, M", "GFLOP a swap", "steps", "batch", "seconds", "what it lacks"]
    caption = (
        "Sizes and budgets. Parameters and GFLOP are the generator's, the identity network's not among them; seconds "
        "are those of the training steps. Losses and their weights are each paper's, untuned, except where the last "
        "column says otherwise."
    )
    return Table(caption, header, rows, text=(1, len(header) - 1))


def result_tables(comparison: Comparison, held_out: Evaluated, known: Evaluated) -> list[Table]:
    """Both protocols' tables and the one by difference of yaw."""
    titles = titles_of(comparison, held_out)
    made = [
        result_table(comparison, held_out, f"{held_out.people} people whom no method saw."),
        result_table(
            comparison, known, f"Held-out pictures of {known.people} people whom every method was trained on."
        ),
    ]
    if held_out.by_yaw is not None:
        shown = {row: values for row, values in held_out.by_yaw.values.items() if row in comparison.methods}
        made.append(yaw_table(ByYaw(held_out.by_yaw.pairs, held_out.by_yaw.degrees, shown), titles))
    return made


def result_table(comparison: Comparison, where: Evaluated, caption: str) -> Table:
    """Methods and reference rows × metrics with 95 % intervals; a row that is not there stands with its reason."""
    titles, missing = titles_of(comparison, where), {**where.left_out, **comparison.impossible}
    order = [*comparison.methods, *REFERENCES]
    here = {row: where.summary[row] for row in order if MAIN.keys() & where.summary.get(row, {}).keys()}
    reasons = "".join(f" Not here: {titles.get(row, row)}, which {reason}." for row, reason in missing.items())
    made = one_table(here, titles, MAIN, caption + reasons) or Table(caption + reasons, [""], [])
    blank = ["–"] * (len(made.header) - 1)
    rows = dict(zip(here, made.rows)) | {row: [titles.get(row, row), *blank] for row in missing}
    return Table(made.caption, made.header, [rows[row] for row in order if row in rows])


def titles_of(comparison: Comparison, where: Evaluated) -> dict[str, str]:
    """Row → title; what a picture is held against is called as in each evaluation."""
    titles = {row: row for row in where.summary}
    titles |= {one.key: one.title for one in (*BASELINES, GROUND_TRUTH)} | {GENUINE: GENUINE_TITLE}
    return titles | {name: one.title for name, one in comparison.methods.items()}


def plots(comparison: Comparison, held_out: Evaluated) -> list[Curve | Scatter]:
    """Identity against pose, expression and light; identity and pose by difference of yaw."""
    titles = titles_of(comparison, held_out)
    rows = [row for row in comparison.methods if row in held_out.summary]
    found: list[Curve | Scatter] = []
    for across, up, x_label, y_label in TRADES:
        has = [row for row in [*rows, TARGET.key] if {across, up} <= held_out.summary.get(row, {}).keys()]
        points = {titles[row]: (held_out.summary[row][across].mean, held_out.summary[row][up].mean) for row in has}
        if len(points) > 1:
            found.append(Scatter(f"{x_label} against {y_label}", points, x_label, y_label))
    if held_out.by_yaw is not None:
        lines = [row for row in rows if not row.startswith(WARPED) or row == WARP]
        found += yaw_curves(held_out.by_yaw, titles, lines)
    return found


def sheet(folder: Path, whose: str) -> Figure:
    """An evaluation's sheet: a row a pair, a column a method."""
    caption = f"Swaps of {whose}: best, median and worst by the first method's cosine to the source."
    return Figure(caption, read_picture(folder / "sheet.png"))

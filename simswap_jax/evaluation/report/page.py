"""What an evaluation leaves: metrics.json, table.md, pairs.json, sheet.png and index.html with its plots."""

import json
import logging
import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simswap_jax import __version__
from simswap_jax.evaluation.candidates import Candidate, ModelCandidate
from simswap_jax.evaluation.gallery import Gallery
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.metrics import identity
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.summary import Scores, Summary
from simswap_jax.evaluation.metrics.yaw import ByYaw
from simswap_jax.evaluation.protocols.protocol import PairList, save_pairs
from simswap_jax.evaluation.report.tables import BY_YAW, markdown_page
from simswap_jax.evaluation.runner import EvalInputs, example_rows
from simswap_jax.io.atomic import write_text
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.html_report import COLOURS, GREYS, Curve, Figure, Scatter, Table, Tile, html_report, text_table
from simswap_jax.io.images import resized
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.watermark import embed
from simswap_jax.provenance.writer import write_sheet

TITLE = "Evaluation of face swaps"
SIDE = 96  # pixels that a tile needs for its label to be read
CARD = ("steps", "data", "licence")  # of a model's card, in the box
CASES, SHOWN = ("best", "median", "worst"), 4  # in the sheet, and how many of each
MOST_BESIDE = 2  # candidates up to which the cases stand side by side
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What is written.

    Attributes:
      pairs: the swaps that were evaluated.
      metrics: all values, JSON-able.
      opening: a sentence above everything.
      tiles: the values that count most.
      narrow: the table of the terminal.
      tables, plots: for the page.
      sheet: example swaps, uint8 RGB [H, W, 3].
    """

    pairs: PairList
    metrics: Mapping[str, Any]
    opening: str
    tiles: Sequence[Tile]
    narrow: Table
    tables: Sequence[Table]
    plots: Sequence[Curve | Scatter]
    sheet: np.ndarray


def write_report(output: Path, report: Report) -> None:
    """Write everything, and log the sentence and the narrow table."""
    save_pairs(output / "pairs.json", report.pairs)
    write_text(output / "table.md", markdown_page(TITLE, report.opening, report.tables))
    write_sheet(output / "sheet.png", report.sheet)
    figure = Figure(
        "Source, target and results: best, median and worst by the first candidate's cosine to the source, which "
        "stands beside them.",
        embed(report.sheet),
        wide=True,
    )
    page = html_report(TITLE, report.opening, report.tables, report.plots, [figure], report.tiles, tables_last=True)
    write_text(output / "index.html", page)
    write_text(output / "metrics.json", json.dumps(report.metrics, indent=1) + "\n")
    logger.info("%s\n%s", report.opening, text_table(report.narrow))
    logger.info("\nThe page: %s (beside it metrics.json, table.md, sheet.png and pairs.json)", output / "index.html")


def how_measured(metrics: Mapping[str, Any], data: Path, models: Sequence[ModelCandidate], command: str) -> Table:
    """The box that says by what everything was measured, and when.

    Args:
      metrics: what metrics.json holds.
      data: where the pictures lie.
      models: those that were evaluated.
      command: the command line; empty where there was none.
    """
    told = metrics["protocol"]
    rows = [
        ["command", command],
        ["date", time.strftime("%Y-%m-%d %H:%M %Z")],
        *([role, f"{one['name']}, SHA-256 {one['sha256'][:16]}…"] for role, one in metrics["judges"].items() if one),
        ["data", f"{data}, crops at {told['size']}×{told['size']} pixels"],
        [
            "swaps",
            f"protocol {told['name']}: {told['pairs']} of {told['people']} identities, seed {told['seed']}; "
            f"their part in trainings: {told['people_in_training']}",
        ],
        ["gallery", f"{told['gallery_people']} people, {told['gallery_pictures']:,} images"],
        [
            "accepted",
            f"from a cosine of {told['accept_threshold']:.3f} on (false-accept rate {told['false_accept_rate']:g})",
        ],
        *([f"model {model.key}", card_line(model)] for model in models),
        ["versions", f"simswap_jax {__version__}, JAX {jax.__version__}, Python {platform.python_version()}"],
    ]
    return Table("How this was measured", ["", ""], [row for row in rows if row[1]], text=(1,))


def card_line(model: ModelCandidate) -> str:
    """What a model's card says of it, in a line."""
    loaded = model.swapper.model
    said = [f"{model.swapper.face_size} pixels", f"trained against {loaded.identity_name}"]
    said += [f"{name}: {loaded.card[name]}" for name in CARD if loaded.card.get(name)]
    return f"{'; '.join(said)}; SHA-256 of weights and settings {model.sha256[:16]}…"


def example_sheet(
    inputs: EvalInputs, evaluators: Evaluators, candidates: Sequence[Candidate], cosines: np.ndarray
) -> np.ndarray:
    """Best, median and worst pairs by the first candidate's cosines to the source [K]: uint8 RGB [H, W, 3]."""
    order = np.argsort(-cosines, kind="stable")
    middle = max(0, len(order) // 2 - SHOWN // 2)
    picked = [order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:]]
    columns = ["source", "target", *(candidate.title for candidate in candidates)]
    rows = example_rows(inputs, evaluators, candidates, np.concatenate(picked).tolist())
    if len(candidates) > MOST_BESIDE:
        captions = [f"{case}: {cosines[i]:.2f}" for case, part in zip(CASES, picked) for i in part]
        return labelled_sheet(rows, columns, captions, 1)
    count = len(picked[0])
    beside = [[tile for row in rows[line::count] for tile in row] for line in range(count)]
    captions = [", ".join(f"{cosines[i]:.2f}" for i in line) for line in zip(*picked)]
    return labelled_sheet(beside, [f"{case}: {column}" for case in CASES for column in columns], captions, len(CASES))


def labelled_sheet(
    rows: Sequence[Sequence[np.ndarray]], columns: Sequence[str], captions: Sequence[str], groups: int
) -> np.ndarray:
    """Source, target and results of some pairs, ``groups`` pairs a row; every result carries the visible label."""
    side = rows[0][0].shape[0]
    size = side * -(-SIDE // side)
    width = len(rows[0]) // groups
    tiles = [[resized(picture, size) for picture in row] for row in rows]
    labelled = [[t if i % width < 2 else draw_label(t) for i, t in enumerate(row)] for row in tiles]
    return contact_sheet(labelled, list(columns), list(captions))


MOST_LINES = 6  # of one plot: as many as there are colours
BINS = 40

SAME, DIFFERENT = "real pairs, same person", "real pairs, different people"
CONTROLS = ("target", "pasted")

# (x, y): metrics, and what the axes are called
TRADES = (
    ("retrieval", "self_l1", "ID retrieval, %", "reconstruction L1"),
    ("cosine_source", "pose_error", "cosine to source", "pose error, °"),
    ("cosine_source", "expression_error", "cosine to source", "expression error, %"),
    ("retrieval", "truth_l1", "ID retrieval, %", "L1 to the ground truth"),
)


def colours_of(titles: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """Title → colour, the same in every plot: candidates are coloured, and what they are compared with is grey."""
    greys = list(GREYS)
    controls = [SAME, DIFFERENT, *(title for key, title in titles.items() if key not in keys)]
    grey = {title: greys[index % len(greys)] for index, title in enumerate(controls)}
    return grey | {titles[key]: COLOURS[index % len(COLOURS)] for index, key in enumerate(keys)}


def plots(
    gallery: Gallery, scores: Scores, titles: Mapping[str, str], keys: Sequence[str], rate: float
) -> list[Curve | Scatter]:
    """All plots of the candidates ``keys``, beside real pairs and the untouched target; ``rate``: of false accepts."""
    genuine, impostors = identity.pair_cosines(gallery.vectors, gallery.person)
    colours = colours_of(titles, keys)
    shown = [*keys[: MOST_LINES - 2], "target"]
    lines = {titles[key]: scores.per_pair[key]["cosine_source"] for key in shown}
    real = {SAME: genuine} if len(genuine) else {}
    to_target = {titles[key]: scores.per_pair[key]["cosine_target"] for key in shown[:-1]}
    drawn: list[Curve | Scatter] = [
        histogram("Cosine to the source", {**lines, **real, DIFFERENT: impostors}),
        histogram("Cosine to the target", {**to_target, **real, DIFFERENT: impostors}),
        roc_curve({**lines, **real}, impostors, rate),
        *(trade_offs(scores.summary, titles, keys) if len(keys) > 1 else ()),
        *(yaw_curves(scores.by_yaw, titles, keys) if scores.by_yaw is not None else ()),
    ]
    return [replace(plot, colours=colours) for plot in drawn]


def roc_curve(genuine: Mapping[str, np.ndarray], impostors: np.ndarray, rate: float) -> Curve:
    """True accepts over the logarithm of false accepts.

    Args:
      genuine: what → cosines [K] of pairs that should be taken for one person.
      impostors: cosines [N] of real pictures of different people, which set the thresholds.
      rate: of false accepts, the one in the tables.
    """
    rates = np.logspace(np.log10(max(1.0 / len(impostors), 1e-5)), -0.01, 60)
    lines = {
        name: (np.log10(rates).tolist(), (100 * identity.roc(cosines, impostors, rates)).tolist())
        for name, cosines in list(genuine.items())[:MOST_LINES]
    }
    return Curve(
        "Accepted as the source, by false-accept rate (ROC)",
        lines,
        "false-accept rate",
        "accepted, %",
        marks={f"{100 * rate:g} %, in the tables": math.log10(rate)},
        log=True,
    )


def histogram(title: str, cosines: Mapping[str, np.ndarray]) -> Curve:
    """How cosines are spread: density over cosine, one stepped line each."""
    edges = np.linspace(-0.4, 1.0, BINS + 1)
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for name, values in list(cosines.items())[:MOST_LINES]:
        density = np.histogram(np.clip(values, edges[0], edges[-1]), edges, density=True)[0]
        lines[name] = (np.repeat(edges, 2)[1:-1].tolist(), np.repeat(density, 2).tolist())
    return Curve(title, lines, "cosine", "density")


def trade_offs(summary: Summary, titles: Mapping[str, str], keys: Sequence[str]) -> list[Scatter]:
    """Identity against attribute, a point per candidate, as in the paper's figure of its ablation; of no plot with
    fewer than two candidates, which would compare nothing.
    """
    scatters = []
    for across, up, x_label, y_label in TRADES:
        has = [key for key in (*keys, *CONTROLS) if across in summary.get(key, {}) and up in summary[key]]
        if len([key for key in has if key in keys]) < 2:
            continue
        both = {titles[key]: (_percent(across, summary[key][across]), summary[key][up]) for key in has}
        points = {title: (x.mean, y.mean) for title, (x, y) in both.items()}
        spans = {title: (x.low, x.high, y.low, y.high) for title, (x, y) in both.items()}
        title = " against ".join(label.partition(",")[0] for label in (x_label, y_label))
        scatters.append(Scatter(title, points, x_label, y_label, spans=spans))
    return scatters


def _percent(name: str, value: Estimate) -> Estimate:
    return value.times(100.0) if name == "retrieval" else value


def yaw_curves(binned: ByYaw, titles: Mapping[str, str], keys: Sequence[str]) -> list[Curve]:
    """Cosine to the source and pose error over the mean difference of yaw in each bin, a line a candidate."""
    shown = [key for key in [*keys[: MOST_LINES - 1], "pasted"] if key in binned.values]
    curves = []
    for name, (label, _) in BY_YAW.items():
        of = {titles[key]: binned.values[key][name] for key in shown if name in binned.values[key]}
        lines = {title: (binned.degrees, _ends(bins, "mean")) for title, bins in of.items()}
        spans = {title: (_ends(bins, "low"), _ends(bins, "high")) for title, bins in of.items()}
        if lines:
            across = "yaw of source and target apart, °"
            curves.append(Curve(f"By difference of yaw: {label}", lines, across, label, spans=spans))
    return curves


def _ends(bins: Sequence[Estimate | None], which: str) -> list[float]:
    return [math.nan if one is None else float(getattr(one, which)) for one in bins]

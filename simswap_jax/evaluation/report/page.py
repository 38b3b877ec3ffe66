"""What an evaluation leaves: metrics.json, table.md, pairs.json, sheet.png and index.html with its plots."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.evaluation.candidates import Candidate
from simswap_jax.evaluation.gallery import Gallery
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.metrics import identity
from simswap_jax.evaluation.metrics.summary import Scores, Summary
from simswap_jax.evaluation.metrics.yaw import ByYaw
from simswap_jax.evaluation.protocols.protocol import PairList, save_pairs
from simswap_jax.evaluation.report.tables import BY_YAW, markdown_page
from simswap_jax.evaluation.runner import EvalInputs, example_rows
from simswap_jax.inference.swapper import resized
from simswap_jax.io.atomic import write_text
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.html_report import Curve, Figure, Scatter, Table, html_report, text_table
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.watermark import embed
from simswap_jax.provenance.writer import write_sheet

TITLE = "Evaluation of face swaps"
SIDE = 96  # pixels that a tile needs for its label to be read
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
      tables, plots: for the page.
      sheet: example swaps, uint8 RGB [H, W, 3].
    """

    pairs: PairList
    metrics: Mapping[str, Any]
    opening: str
    tables: Sequence[Table]
    plots: Sequence[Curve | Scatter]
    sheet: np.ndarray


def write_report(output: Path, report: Report) -> None:
    """Write everything, and log the sentence and the tables."""
    save_pairs(output / "pairs.json", report.pairs)
    write_text(output / "table.md", markdown_page(TITLE, report.opening, report.tables))
    write_sheet(output / "sheet.png", report.sheet)
    figure = Figure(
        "Source, target and results: best, median and worst by the first candidate's cosine to the source.",
        embed(report.sheet),
    )
    write_text(output / "index.html", html_report(TITLE, report.opening, report.tables, report.plots, [figure]))
    write_text(output / "metrics.json", json.dumps(report.metrics, indent=1) + "\n")
    logger.info("%s", "\n\n".join([report.opening, *(text_table(table) for table in report.tables)]))
    logger.info("\nmetrics.json, table.md, sheet.png, pairs.json and index.html are in %s.", output)


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

# (x, y): metrics, and what the axes are called
TRADES = (
    ("retrieval_picture", "self_l1", "ID retrieval", "reconstruction L1"),
    ("cosine_source", "pose_error", "cosine to source", "pose error, °"),
    ("cosine_source", "expression_error", "cosine to source", "expression error, %"),
    ("retrieval_picture", "truth_l1", "ID retrieval", "L1 to the ground truth"),
)


def plots(gallery: Gallery, scores: Scores, titles: Mapping[str, str], keys: Sequence[str]) -> list[Curve | Scatter]:
    """All plots of the candidates ``keys``, beside real pairs and the untouched target."""
    genuine, impostors = identity.pair_cosines(gallery.vectors, gallery.person)
    shown = [*keys[: MOST_LINES - 2], "target"]
    lines = {titles[key]: scores.per_pair[key]["cosine_source"] for key in shown}
    real = {"real pairs, same person": genuine} if len(genuine) else {}
    return [
        roc_curve({**real, **lines}, impostors),
        histogram("Cosine to the source", {**real, "real pairs, different people": impostors, **lines}),
        histogram("Cosine to the target", {titles[key]: scores.per_pair[key]["cosine_target"] for key in shown[:-1]}),
        *trade_offs(scores.summary, titles, [*keys, "target", "pasted"]),
        *(yaw_curves(scores.by_yaw, titles, keys) if scores.by_yaw is not None else ()),
    ]


def roc_curve(genuine: Mapping[str, np.ndarray], impostors: np.ndarray) -> Curve:
    """True accepts over the logarithm of false accepts.

    Args:
      genuine: what → cosines [K] of pairs that should be taken for one person.
      impostors: cosines [N] of real pictures of different people, which set the thresholds.
    """
    rates = np.logspace(np.log10(max(1.0 / len(impostors), 1e-5)), -0.01, 60)
    lines = {
        name: (np.log10(rates).tolist(), identity.roc(cosines, impostors, rates).tolist())
        for name, cosines in list(genuine.items())[:MOST_LINES]
    }
    return Curve("ROC: true accepts at a false-accept rate", lines, "log₁₀ of the false-accept rate")


def histogram(title: str, cosines: Mapping[str, np.ndarray]) -> Curve:
    """How cosines are spread: density over cosine, one stepped line each."""
    edges = np.linspace(-0.4, 1.0, BINS + 1)
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for name, values in list(cosines.items())[:MOST_LINES]:
        density = np.histogram(np.clip(values, edges[0], edges[-1]), edges, density=True)[0]
        lines[name] = (np.repeat(edges, 2)[1:-1].tolist(), np.repeat(density, 2).tolist())
    return Curve(title, lines, "cosine")


def trade_offs(summary: Summary, titles: Mapping[str, str], keys: Sequence[str]) -> list[Scatter]:
    """Identity against attribute, a point per candidate, as in the paper's figure of its ablation."""
    scatters = []
    for across, up, x_label, y_label in TRADES:
        points = {
            titles[key]: (summary[key][across].mean, summary[key][up].mean)
            for key in keys
            if across in summary[key] and up in summary[key]
        }
        if points:
            scatters.append(Scatter(f"{x_label} against {y_label}", points, x_label, y_label))
    return scatters


def yaw_curves(binned: ByYaw, titles: Mapping[str, str], keys: Sequence[str]) -> list[Curve]:
    """Cosine to the source and pose error over the mean difference of yaw in each bin, a line a candidate."""
    shown = [key for key in [*keys[: MOST_LINES - 1], "pasted"] if key in binned.values]
    curves = []
    for name, (label, _) in BY_YAW.items():
        lines = {
            titles[key]: (
                binned.degrees,
                [float("nan") if one is None else one.mean for one in binned.values[key][name]],
            )
            for key in shown
            if name in binned.values[key]
        }
        if lines:
            curves.append(Curve(f"By difference of yaw: {label}", lines, "yaw of source and target apart, °"))
    return curves

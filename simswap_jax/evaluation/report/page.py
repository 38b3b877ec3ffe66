"""What an evaluation leaves: metrics.json, table.md, pairs.json, sheet.png and index.html, each whole or not at all."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.evaluation.protocols import pairs
from simswap_jax.evaluation.report.tables import markdown_page
from simswap_jax.inference.swapper import resized
from simswap_jax.io.atomic import write_text
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.html_report import Curve, Figure, Scatter, Table, html_report, text_table
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.watermark import embed
from simswap_jax.provenance.writer import write_sheet

TITLE = "Swaps, judged"
SIDE = 96  # pixels that a tile needs for its label to be read


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


def write_page(
    output: Path,
    plan: pairs.Protocol,
    told: Mapping[str, Any],
    sentence: str,
    tables: Sequence[Table],
    figures: Sequence[Curve | Scatter],
    picture: np.ndarray,
) -> None:
    """Write everything, and print the sentence and the tables."""
    pairs.save(output / "pairs.json", plan)
    write_text(output / "table.md", markdown_page(TITLE, sentence, tables))
    write_sheet(output / "sheet.png", picture)
    figure = Figure(
        "Source, target and results: best, median and worst by the first model's cosine to the source.", embed(picture)
    )
    write_text(output / "index.html", html_report(TITLE, sentence, tables, figures, [figure]))
    write_text(output / "metrics.json", json.dumps(told, indent=1) + "\n")
    print(sentence, *(text_table(table) for table in tables), sep="\n\n")
    print(f"\nmetrics.json, table.md, sheet.png, pairs.json and index.html are in {output}.")

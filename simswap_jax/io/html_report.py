"""One HTML page that needs nothing else: a sentence, tables, curves (inline SVG) and pictures (base64)."""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # colour-blind readers can tell them apart
WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 34  # margins of the plot
MOST_POINTS = 400  # of a line: more than the plot resolves

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } p.opening { font-size: 1.1rem; max-width: 48rem; }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; padding: .3rem 0; opacity: .8; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th { vertical-align: bottom; } td small { white-space: nowrap; opacity: .7; }
th:first-child, td:first-child, .text { text-align: left; } thead th { border-bottom-width: 2px; }
tbody tr:nth-child(odd) { background: var(--soft); }
.curves { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0 0 1.5rem; }
.curves figure { flex: 1 1 420px; max-width: 540px; } svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; } img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
.key { display: inline-block; width: .9em; height: .25em; vertical-align: middle; margin: 0 .3em 0 .9em; }
"""


@dataclass(frozen=True)
class Table:
    """A caption, the column heads, and rows of cells; numbers come as the text to show.

    Attributes:
      folded: opened by a click.
      text: numbers of the columns that begin at the left, as the first does; the others end at the right.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    text: Sequence[int] = ()


@dataclass(frozen=True)
class Curve:
    """One plot: name → (x, y) arrays of equal length. Values that are not finite are gaps."""

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    x_label: str = "step"


@dataclass(frozen=True)
class Scatter:
    """One plot of named points: name → (x, y)."""

    title: str
    points: Mapping[str, tuple[float, float]]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Figure:
    """A picture, uint8 RGB [H, W, 3], and what it shows."""

    caption: str
    picture: np.ndarray


def html_report(
    title: str,
    opening_sentence: str,
    tables: Sequence[Table] = (),
    curves: Sequence[Curve | Scatter] = (),
    pictures: Sequence[Figure] = (),
) -> str:
    """The page as one string of HTML; every text is escaped, nothing is fetched."""
    plots = "".join(_scatter(plot) if isinstance(plot, Scatter) else _curve(plot) for plot in curves)
    parts = [
        *(_table(table) for table in tables),
        *(_picture(figure) for figure in pictures),
        f'<div class="curves">{plots}</div>' if plots else "",
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f'<body><h1>{escape(title)}</h1>\n<p class="opening">{escape(opening_sentence)}</p>\n'
        f"{''.join(parts)}</body></html>\n"
    )


def curves_of(records: Sequence[Mapping[str, Any]], plots: Mapping[str, Sequence[str]]) -> list[Curve]:
    """Curves of a training run's rows (``training.metrics.read_lines``), each ``{"step": n, name: value, …}``.

    Args:
      records: the rows.
      plots: title → the names to draw in it. A name that never occurs is left out, and so is a plot without any.
    """
    curves = []
    for title, names in plots.items():
        series = {}
        for name in names:
            points = [(row["step"], row[name]) for row in records if isinstance(row.get(name), int | float)]
            if points:
                series[name] = ([x for x, _ in points], [y for _, y in points])
        if series:
            curves.append(Curve(title, series))
    return curves


def text_table(table: Table) -> str:
    """The same table for a terminal: first column to the left, the others to the right."""
    rows = [list(table.header), *(list(row) for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.header))]
    lines = [
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ]
    return "\n".join([table.caption, lines[0], "  ".join("─" * w for w in widths), *lines[1:]])


def _table(table: Table) -> str:
    kinds = [' class="text"' if number in table.text else "" for number in range(len(table.header))]
    head = "".join(f"<th{kind}>{escape(cell)}</th>" for kind, cell in zip(kinds, table.header))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row)) + "</tr>"
        for row in table.rows
    )
    caption = "" if table.folded else f"<caption>{escape(table.caption)}</caption>"
    whole = f'<div class="scroll"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n'
    return f"<details><summary>{escape(table.caption)}</summary>{whole}</details>\n" if table.folded else whole


def _cell(text: str) -> str:
    """A cell; an interval in brackets goes small onto a line of its own."""
    start, bracket, rest = text.partition(" [")
    if bracket and rest.endswith("]"):
        return f"{escape(start)}<br><small>[{escape(rest)}</small>"
    return escape(text)


def _picture(figure: Figure) -> str:
    """A picture as PNG, or as JPEG where that is much smaller (photos)."""
    image = Image.fromarray(np.ascontiguousarray(figure.picture))
    kind, data = min((_encoded(image, kind) for kind in ("png", "jpeg")), key=lambda pair: len(pair[1]))
    text = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img alt="{escape(figure.caption)}" width="{image.width}" src="data:image/{kind};base64,{text}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    )


def _encoded(image: Image.Image, kind: str) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    options = {"quality": 92, "subsampling": 0} if kind == "jpeg" else {"optimize": True}
    image.save(buffer, kind, **options)
    return kind, buffer.getvalue()


def _curve(curve: Curve) -> str:
    """One plot: axes with round numbers, a line per series, a key where there are several."""
    points = {name: _points(*xy) for name, xy in curve.series.items()}
    everything = np.concatenate(list(points.values())) if points else np.zeros((0, 2))
    if not len(everything):
        return ""
    parts, across, down = _axes(everything, curve.x_label)
    for colour, line in zip(_colours(len(points)), points.values()):
        places = [(f"{across(x):.1f}", f"{down(y):.1f}") for x, y in line.tolist()]
        if len(places) == 1:
            parts.append(f'<circle cx="{places[0][0]}" cy="{places[0][1]}" r="3" fill="{colour}"/>')
        else:
            path = " ".join(",".join(place) for place in places)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    key = "".join(
        f'<span class="key" style="background:{colour}"></span>{escape(name)}'
        for colour, name in zip(_colours(len(points)), points)
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curve.title)}">'
        f"{''.join(parts)}</svg>"
        f"<figcaption>{escape(curve.title)}{key if len(points) > 1 else ''}</figcaption></figure>"
    )


def _scatter(plot: Scatter) -> str:
    """One plot of named points, each name beside its point, on the side where there is room."""
    points = {name: xy for name, xy in plot.points.items() if np.isfinite(xy).all()}
    if not points:
        return ""
    parts, across, down = _axes(np.array(list(points.values()), np.float64), plot.x_label, plot.y_label)
    taken: list[tuple[float, float]] = []
    for colour, (name, (x, y)) in zip(_colours(len(points)), points.items()):
        left, height = across(x), down(y)
        text = height + 4
        while any(abs(text - other) < 12 and abs(left - beside) < 7 * len(name) + 20 for beside, other in taken):
            text += 12
        taken.append((left, text))
        room = left + 7 * len(name) + 10 < WIDTH
        side = f'x="{left + 7:.1f}"' if room else f'x="{left - 7:.1f}" text-anchor="end"'
        parts.append(
            f'<circle cx="{left:.1f}" cy="{height:.1f}" r="4" fill="{colour}"/>'
            f'<text {side} y="{text:.1f}">{escape(name)}</text>'
        )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.title)}">'
        f"{''.join(parts)}</svg><figcaption>{escape(plot.title)}</figcaption></figure>"
    )


def _axes(
    points: np.ndarray, x_label: str, y_label: str = ""
) -> tuple[list[str], Callable[[float], float], Callable[[float], float]]:
    """Axes with round numbers for points [n, 2], and where x and y lie in the plot."""
    (x0, x1), (y0, y1) = _span(points[:, 0]), _span(points[:, 1])
    y0, y1 = y0 - 0.04 * (y1 - y0), y1 + 0.04 * (y1 - y0)

    def across(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in ticks(y0, y1):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}" stroke="#8884"/>'
            f'<text x="{LEFT - 6}" y="{down(y) + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        )
    for x in ticks(x0, x1):
        parts.append(f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(x)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">{escape(x_label)}</text>')
    if y_label:
        middle = (HEIGHT - BOTTOM + TOP) / 2
        turned = f'transform="rotate(-90 12 {middle:.0f})"'
        parts.append(f'<text x="12" y="{middle:.0f}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
    return parts, across, down


def _points(x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """Finite points [n, 2] in order of x, averaged in runs where there are more than the plot resolves."""
    points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[np.argsort(points[:, 0], kind="stable")]
    if len(points) <= MOST_POINTS:
        return points
    return np.stack([run.mean(axis=0) for run in np.array_split(points, MOST_POINTS)])


def _span(values: np.ndarray) -> tuple[float, float]:
    """Least and greatest, pulled apart where they are the same."""
    low, high = float(values.min()), float(values.max())
    if high - low > 1e-12 * max(1.0, abs(high)):
        return low, high
    return low - max(abs(low), 1.0) * 0.1, high + max(abs(high), 1.0) * 0.1


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """The round numbers between ``low`` and ``high``, in steps of 1, 2 or 5 times a power of ten; about so many."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _number(value: float) -> str:
    """As short as it can be read: 0.25, 1500, 20k."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 10):g}"


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]

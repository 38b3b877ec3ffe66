"""One HTML page that needs nothing else: a sentence, tables, curves (inline SVG) and pictures (base64)."""

import base64
import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from PIL import Image

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # colour-blind readers can tell them apart
GREYS = {"#777777": "", "#8a8a8a": "7 4", "#9c9c9c": "2 3"}  # of what is there to compare with → how lines are dashed
WIDTH, HEIGHT = 460, 250
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 12, 34  # margins of the plot
DOT, LETTER, LINE = 4, 6.6, 12  # of a named point its radius, and of its name a letter's width and its height
MOST_POINTS = 400  # of a line: more than the plot resolves

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } p.opening { font-size: 1.1rem; max-width: 48rem; }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; padding: .3rem 0; opacity: .8; } figcaption.title { font-weight: 600; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th { vertical-align: bottom; } td small { white-space: nowrap; opacity: .7; }
th:first-child, td:first-child, .text { text-align: left; } thead th { border-bottom-width: 2px; }
td.text { vertical-align: top; overflow-wrap: break-word; } td.text:last-child { min-width: 13rem; }
tbody tr:nth-child(odd) { background: var(--soft); }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .3rem 0; max-width: 60rem; }
.pictures { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: flex-start; } .pictures figure { min-width: 0; }
.curves { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } figure { margin: 0 0 1.5rem; }
.curves figure { flex: 1 1 420px; min-width: 0; max-width: 520px; } svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: currentColor; } img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; } .tiles { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.tile { flex: 1 1 150px; padding: .7rem 1rem; border: 1px solid var(--line); border-radius: .5rem; }
.tile b { display: block; font-size: 1.7rem; line-height: 1.3; } .tile small { display: block; opacity: .75; }
figure.wide { width: min(96vw, 1500px); margin-left: calc(50% - min(48vw, 750px)); }
figure.wide img { width: 100%; min-width: 860px; }
.name { white-space: nowrap; margin-right: .9em; } .key { display: inline-block; width: 1.1em; vertical-align: middle; }
.key { height: 0; margin-right: .35em; }
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
class Tile:
    """One value that counts most: what it is, the value, its interval, and what stands beside it, a line each."""

    label: str
    value: str
    interval: str = ""
    beside: Sequence[str] = ()


@dataclass(frozen=True)
class Curve:
    """One plot: name → (x, y) arrays of equal length. Values that are not finite are left out, and the line goes on.

    Attributes:
      title, x_label, y_label: what stands at the plot and its axes.
      series: the lines.
      colours: of lines; those that are not named have the next of `COLOURS`. One of `GREYS` may be dashed.
      spans: of lines, the (lowest, highest) y of each point, drawn as bars; such lines have few points.
      marks: vertical lines, what → x.
      log: whether x is the logarithm to the base of ten of what its axis shows.
    """

    title: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    x_label: str = "step"
    y_label: str = ""
    colours: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    marks: Mapping[str, float] = field(default_factory=dict)
    log: bool = False


@dataclass(frozen=True)
class Scatter:
    """One plot of named points: name → (x, y).

    Attributes:
      title, x_label, y_label: what stands at the plot and its axes.
      points: by name.
      colours: as of `Curve`.
      spans: of points, their (lowest x, highest x, lowest y, highest y), drawn as bars.
    """

    title: str
    points: Mapping[str, tuple[float, float]]
    x_label: str
    y_label: str
    colours: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A picture, uint8 RGB [H, W, 3], and what it shows. Wide: as wide as the window."""

    caption: str
    picture: np.ndarray
    wide: bool = False


def html_report(
    title: str,
    opening_sentence: str,
    tables: Sequence[Table] = (),
    curves: Sequence[Curve | Scatter] = (),
    pictures: Sequence[Figure] = (),
    tiles: Sequence[Tile] = (),
    tables_last: bool = False,
) -> str:
    """The page as one string of HTML; every text is escaped, nothing is fetched. Its order: tiles, tables, pictures,
    curves; or, ``tables_last``, with the tables at the end.
    """
    plots = "".join(_scatter(plot) if isinstance(plot, Scatter) else _curve(plot) for plot in curves)
    written = [_table(table) for table in tables]
    parts = [
        f'<div class="tiles">{"".join(map(_tile, tiles))}</div>' if tiles else "",
        *([] if tables_last else written),
        "".join(_picture(figure) for figure in pictures if figure.wide),
        f'<div class="pictures">{"".join(_picture(one) for one in pictures if not one.wide)}</div>',
        f'<div class="curves">{plots}</div>' if plots else "",
        *(written if tables_last else []),
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


def _tile(tile: Tile) -> str:
    """A box of one value."""
    small = "".join(f"<small>{escape(line)}</small>" for line in (tile.interval, *tile.beside) if line)
    return f'<div class="tile">{escape(tile.label)}<b>{escape(tile.value)}</b>{small}</div>'


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
        f'<figure{" class=wide" if figure.wide else ""}><div class="scroll"><img alt="{escape(figure.caption)}" '
        f'width="{image.width}" src="data:image/{kind};base64,{text}"></div>'
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
    spans = {name: np.array([curve.series[name][0], *both], np.float64) for name, both in curve.spans.items()}
    bars = [span[[0, row]].T for span in spans.values() for row in (1, 2)]
    everything = np.concatenate([*points.values(), *bars]) if points else np.zeros((0, 2))
    everything = everything[np.isfinite(everything).all(axis=1)]
    if not len(everything):
        return ""
    parts, across, down = _axes(everything, curve.x_label, curve.y_label, log=curve.log)
    for name, x in curve.marks.items():
        place = f'x1="{across(x):.1f}" x2="{across(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        parts.append(f'<line {place} stroke="#888" stroke-dasharray="3 3"/>')
        parts.append(f'<text x="{across(x) + 4:.1f}" y="{HEIGHT - BOTTOM - 5}">{escape(name)}</text>')
    colours = _colours(points, curve.colours)
    for name, line in points.items():
        parts.append(_line(name, [(across(x), down(y)) for x, y in line.tolist()], colours[name]))
        for x, low, high in spans.get(name, np.zeros((3, 0))).T.tolist():
            if np.isfinite((x, low, high)).all():
                parts.append(_bar((across(x), down(low)), (across(x), down(high)), colours[name]))
    return _plot(curve.title, parts, colours if len(points) > 1 else {})


def _scatter(plot: Scatter) -> str:
    """One plot of named points, each name beside its point, on the side where there is room."""
    points = {name: xy for name, xy in plot.points.items() if np.isfinite(xy).all()}
    if not points:
        return ""
    spans = {name: span for name, span in plot.spans.items() if name in points and np.isfinite(span).all()}
    ends = [(x, y) for x0, x1, y0, y1 in spans.values() for x, y in ((x0, y0), (x1, y1))]
    parts, across, down = _axes(
        np.array([*points.values(), *ends], np.float64), plot.x_label, plot.y_label, padding=0.04
    )
    places = {name: (across(x), down(y)) for name, (x, y) in points.items()}
    labels = label_places(places)
    colours = _colours(points, plot.colours)
    for name, (x, y) in points.items():
        left, height = places[name]
        if name in spans:
            x0, x1, y0, y1 = spans[name]
            parts.append(_bar((across(x0), height), (across(x1), height), colours[name]))
            parts.append(_bar((left, down(y0)), (left, down(y1)), colours[name]))
        beside, text = labels[name]
        anchor = "start" if beside > left else "end"
        if abs(text - height) > 2 * LETTER:  # far off: a line says whose name it is
            parts.append(_bar((left, height), (beside, text + (3 if text < height else -10)), colours[name]))
        parts.append(
            f'<circle cx="{left:.1f}" cy="{height:.1f}" r="{DOT}" fill="{colours[name]}">'
            f"<title>{escape(name)}: {x:.4g}, {y:.4g}</title></circle>"
            f'<text x="{beside:.1f}" y="{text:.1f}" text-anchor="{anchor}">{escape(name)}</text>'
        )
    return _plot(plot.title, parts, {})


def label_places(points: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Where each point's name begins, or, to the left of it, ends: x and base line, as near as there is room.

    Args:
      points: name → its place in the plot, in the drawing's units; names stay inside the plot and off points and names.
    """
    rows = sorted(range(-LINE * 12, LINE * 12 + 1, LINE // 2), key=lambda row: (abs(row), row))
    taken = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in points.values()]
    found = {}
    for name, (x, y) in points.items():
        width = LETTER * len(name)
        places = [(x + side, y + row + 4) for row in rows for side in (7, -7)]
        lefts = [at if at > x else at - width for at, _ in places]
        boxes = [(left, base - LINE + 3, left + width, base + 2) for left, (_, base) in zip(lefts, places)]
        free = (
            number
            for number, box in enumerate(boxes)
            if box[0] >= LEFT and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT - BOTTOM
            if not any(_meet(box, other) for other in taken)
        )
        chosen = next(free, 0)
        taken.append(boxes[chosen])
        found[name] = places[chosen]
    return found


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) have a place in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _plot(title: str, parts: Sequence[str], key: Mapping[str, str]) -> str:
    """A plot's title, its drawing, and the names of its colours."""
    names = "".join(
        f'<span class="name"><span class="key" style="border-top:3px {"dashed" if GREYS.get(colour) else "solid"} '
        f'{colour}"></span>{escape(name)}</span> '
        for name, colour in key.items()
    )
    return (
        f'<figure><figcaption class="title">{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
        f"{f'<figcaption>{names}</figcaption>' if names else ''}</figure>"
    )


def _line(name: str, places: Sequence[tuple[float, float]], colour: str) -> str:
    """A line through places in the plot; a dot where there is one only."""
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" fill="{colour}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = f' stroke-dasharray="{GREYS[colour]}"' if GREYS.get(colour) else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}>'
        f"<title>{escape(name)}</title></polyline>"
    )


def _bar(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    """An interval."""
    places = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
    return f'<line {places} stroke="{colour}" stroke-opacity=".55" stroke-width="1.4"/>'


def _axes(
    points: np.ndarray, x_label: str, y_label: str = "", *, padding: float = 0.0, log: bool = False
) -> tuple[list[str], Callable[[float], float], Callable[[float], float]]:
    """Axes with round numbers for points [n, 2], and where x and y lie in the plot; ``padding``: at both ends of x, as
    part of its length.
    """
    (x0, x1), (y0, y1) = _span(points[:, 0]), _span(points[:, 1])
    x0, x1 = x0 - padding * (x1 - x0), x1 + padding * (x1 - x0)
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
        if not log or float(x).is_integer():
            text = f"10{str(round(x)).translate(RAISED)}" if log else _number(x)
            place = min(across(x), WIDTH - 4.0 * len(text))  # whole, at the right edge too
            parts.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{text}</text>')
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


def _colours(names: Iterable[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Name → colour: the one that was chosen, else the next of `COLOURS`."""
    others = (COLOURS[index % len(COLOURS)] for index in itertools.count())
    return {name: chosen[name] if name in chosen else next(others) for name in names}

"""What was kept, what was left out and why: an HTML page that needs nothing else, and two lists (CSV)."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.contact_sheet import contact_sheet, fitted
from simswap_jax.io.html_report import Figure, Table, html_report
from simswap_jax.io.images import read_picture
from simswap_jax.preparation.crops import FACES, place_of
from simswap_jax.preparation.filters import Rejection, Selection
from simswap_jax.preparation.manifest import PhotoRecord
from simswap_jax.preparation.sources import REASONS

TILE = 112  # pixels
ACROSS, MOST_KEPT, EXAMPLES = 8, 48, 8
FEWEST = 12  # people in the last table
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


def report_page(output: Path, root: Path, selection: Selection, notes: Sequence[str]) -> str:
    """The page as HTML; the same for the same faces.

    Args:
      output: the folder with the faces.
      root: of the photos.
      selection: what became of every photo.
      notes: sentences for its opening.
    """
    kept = selection.kept
    people = len({record.person for record in kept})
    opening = f"{len(kept):,} faces of {people:,} people from {len(selection.records):,} photos. {' '.join(notes)}"
    figures = [_kept_sheet(output, kept)] if kept else []
    for reason in REASONS:
        some = [record for record in selection.records if selection.reason(record) == reason]
        if some:
            figures.append(_left_out_sheet(output, root, reason, some, selection))
    tables = [reasons_table(selection), *([_measures_table(kept)] if kept else []), _people_table(selection)]
    return html_report("Prepared faces", opening, tables, pictures=figures)


def landmarks_csv(kept: Sequence[PhotoRecord]) -> str:
    """The landmarks of the faces kept, as CSV."""
    names = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
    rows = [[record.file, *(f"{value:.2f}" for value in record.landmarks)] for record in kept]
    return _csv([["file", *names], *rows])


def left_out_csv(selection: Selection) -> str:
    """Every photo that is left out, with its reason, as CSV."""
    rows = [
        [record.photo, record.person, reason, selection.detail(record)]
        for record in selection.records
        if (reason := selection.reason(record))
    ]
    return _csv([["photo", "person", "reason", "detail"], *rows])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def reasons_table(selection: Selection) -> Table:
    """Reason, photos, share."""
    counts = Counter(selection.reason(record) for record in selection.records)
    rows = [
        [
            reason or "kept",
            f"{counts[reason]:,}",
            f"{100 * counts[reason] / max(len(selection.records), 1):.2f} %",
            meaning,
        ]
        for reason, meaning in {"": "aligned and written", **REASONS}.items()
        if counts[reason] or not reason
    ]
    return Table("What became of the photos", ["", "photos", "share", "meaning"], rows)


def _measures_table(kept: Sequence[PhotoRecord]) -> Table:
    rows = []
    for name, words in (
        ("enlarged", "pixels of the face per pixel of the photo"),
        ("sharpness", "sharpness"),
        ("score", "confidence of the detector"),
    ):
        values = np.quantile([getattr(record, name) for record in kept], [0.01, 0.1, 0.5, 0.9, 0.99])
        rows.append([words, *(f"{value:.3f}" for value in values)])
    return Table("Of the faces kept", ["", "1 %", "10 %", "median", "90 %", "99 %"], rows)


def _people_table(selection: Selection) -> Table:
    """The people who kept the fewest faces."""
    photos = Counter(record.person for record in selection.records)
    kept = Counter(record.person for record in selection.kept)
    fewest = sorted(photos, key=lambda person: (kept[person], person))[:FEWEST]
    rows = [[person, f"{photos[person]:,}", f"{kept[person]:,}"] for person in fewest]
    return Table("The people with the fewest faces", ["person", "photos", "kept"], rows)


def _kept_sheet(output: Path, kept: Sequence[PhotoRecord]) -> Figure:
    some = [kept[i] for i in spread(len(kept), MOST_KEPT)]
    tiles = [_tile(output / FACES / record.file) for record in some]
    rows = [tiles[i : i + ACROSS] for i in range(0, len(tiles), ACROSS)]
    return Figure(f"{len(tiles):,} of the {len(kept):,} faces kept", contact_sheet(rows))


def _left_out_sheet(output: Path, root: Path, reason: str, some: Sequence[PhotoRecord], selection: Selection) -> Figure:
    """Examples of one reason; with each the face that shows it, where there is one."""
    shown = [some[i] for i in spread(len(some), EXAMPLES)]
    rows: list[list[np.ndarray]] = [[]]
    for record in shown:
        place = place_of(record.file, reason)
        rows[0].append(_tile(root / record.photo if record.reason else output / place))
    rejections = selection.rejections
    if any(record.file in rejections for record in shown):
        rows.append([_like(output, rejections, rejections[record.file].like) for record in shown])
    caption = f"{reason}: {REASONS[reason]}; {len(shown)} of {len(some):,}"
    if len(rows) > 1:
        caption += "; below each the face that shows it"
    columns = [f"{record.file} {selection.detail(record)}" for record in shown]
    return Figure(caption, contact_sheet(rows, columns))


def _like(output: Path, rejections: Mapping[str, Rejection], file: str) -> np.ndarray:
    reason = rejections[file].reason if file in rejections else ""
    return _tile(output / place_of(file, reason))


def _tile(path: Path) -> np.ndarray:
    """A picture fitted into a tile; a blank one where it cannot be read."""
    try:
        return fitted(read_picture(path), TILE, TILE)
    except UserError:
        return np.full((TILE, TILE, 3), 224, np.uint8)


def spread(count: int, most: int) -> list[int]:
    """At most so many indices of 0 … count − 1, evenly."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})

"""The page that shows what was kept, what was left out and why: one HTML file, nothing fetched."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.io.contact_sheet import contact_sheet, fitted
from simswap_jax.io.html_report import Figure, Table, html_report
from simswap_jax.io.images import read_picture
from simswap_jax.preparation.crops import FACES
from simswap_jax.preparation.filters import Verdict
from simswap_jax.preparation.layout import place_of
from simswap_jax.preparation.manifest import Seen
from simswap_jax.preparation.settings import REASONS

TILE = 112  # pixels
ACROSS, MOST_KEPT, EXAMPLES = 8, 48, 8
FEWEST = 12  # people in the last table


def page(output: Path, root: Path, seen: Sequence[Seen], verdicts: Mapping[str, Verdict], notes: Sequence[str]) -> str:
    """The page as HTML; the same for the same faces.

    Args:
      output: the folder with the faces.
      root: of the photos.
      seen: what became of every photo.
      verdicts: which of the faces do not stay.
      notes: sentences for its opening.
    """
    kept = [one for one in seen if not reason_of(one, verdicts)]
    people = len({one.person for one in kept})
    opening = f"{len(kept):,} faces of {people:,} people from {len(seen):,} photos. {' '.join(notes)}"
    figures = [_kept_sheet(output, kept)] if kept else []
    for reason in REASONS:
        some = [one for one in seen if reason_of(one, verdicts) == reason]
        if some:
            figures.append(_left_out_sheet(output, root, reason, some, verdicts))
    tables = [reasons_table(seen, verdicts), *([_numbers_table(kept)] if kept else []), _people_table(seen, verdicts)]
    return html_report("Prepared faces", opening, tables, pictures=figures)


def reason_of(one: Seen, verdicts: Mapping[str, Verdict]) -> str:
    """Why a photo is left out; empty where its face stays."""
    return one.reason or (verdicts[one.file].reason if one.file in verdicts else "")


def detail_of(one: Seen, verdicts: Mapping[str, Verdict]) -> str:
    """What was seen of a photo that is left out."""
    return one.detail or (verdicts[one.file].detail if one.file in verdicts else "")


def reasons_table(seen: Sequence[Seen], verdicts: Mapping[str, Verdict]) -> Table:
    """Reason, photos, share."""
    counts = Counter(reason_of(one, verdicts) for one in seen)
    rows = [
        [reason or "kept", f"{counts[reason]:,}", f"{100 * counts[reason] / max(len(seen), 1):.2f} %", meaning]
        for reason, meaning in {"": "aligned and written", **REASONS}.items()
        if counts[reason] or not reason
    ]
    return Table("What became of the photos", ["", "photos", "share", "meaning"], rows)


def _numbers_table(kept: Sequence[Seen]) -> Table:
    rows = []
    for name, words in (
        ("enlarged", "pixels of the face per pixel of the photo"),
        ("sharpness", "sharpness"),
        ("score", "confidence of the detector"),
    ):
        values = np.quantile([getattr(one, name) for one in kept], [0.01, 0.1, 0.5, 0.9, 0.99])
        rows.append([words, *(f"{value:.3f}" for value in values)])
    return Table("Of the faces kept", ["", "1 %", "10 %", "median", "90 %", "99 %"], rows)


def _people_table(seen: Sequence[Seen], verdicts: Mapping[str, Verdict]) -> Table:
    """The people who kept the fewest faces."""
    photos = Counter(one.person for one in seen)
    kept = Counter(one.person for one in seen if not reason_of(one, verdicts))
    fewest = sorted(photos, key=lambda person: (kept[person], person))[:FEWEST]
    rows = [[person, f"{photos[person]:,}", f"{kept[person]:,}"] for person in fewest]
    return Table("The people with the fewest faces", ["person", "photos", "kept"], rows)


def _kept_sheet(output: Path, kept: Sequence[Seen]) -> Figure:
    some = [kept[i] for i in spread(len(kept), MOST_KEPT)]
    tiles = [_tile(output / FACES / one.file) for one in some]
    rows = [tiles[i : i + ACROSS] for i in range(0, len(tiles), ACROSS)]
    return Figure(f"{len(tiles):,} of the {len(kept):,} faces kept", contact_sheet(rows))


def _left_out_sheet(
    output: Path, root: Path, reason: str, some: Sequence[Seen], verdicts: Mapping[str, Verdict]
) -> Figure:
    """Examples of one reason; with each the face that shows it, where there is one."""
    shown = [some[i] for i in spread(len(some), EXAMPLES)]
    rows: list[list[np.ndarray]] = [[]]
    for one in shown:
        place = place_of(one.file, reason)
        rows[0].append(_tile(root / one.photo if one.reason else output / place))
    if any(one.file in verdicts for one in shown):
        rows.append([_like(output, verdicts, verdicts[one.file].like) for one in shown])
    caption = f"{reason}: {REASONS[reason]}; {len(shown)} of {len(some):,}"
    if len(rows) > 1:
        caption += "; below each the face that shows it"
    columns = [f"{one.file} {detail_of(one, verdicts)}" for one in shown]
    return Figure(caption, contact_sheet(rows, columns))


def _like(output: Path, verdicts: Mapping[str, Verdict], file: str) -> np.ndarray:
    reason = verdicts[file].reason if file in verdicts else ""
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

"""Pictures side by side with captions: contact sheets."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
SCALE = 0.42  # capitals 9 pixels high
INK, PAPER = (40, 40, 40), 255
MARGIN = 3  # pixels between tiles
MOST_WIDE = 2400  # pixels of a grid that is wider than high
MOST_RATIO = 4  # of a grid's longer side to its shorter one
GAP = 24  # pixels between the blocks of a grid
LINE = 15  # pixels a line of a caption


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    column_captions: Sequence[str] = (),
    row_captions: Sequence[str] = (),
    *,
    smallest_tile: int = 96,
    title: str = "",
) -> np.ndarray:
    """Pictures in a table, its captions above the columns and left of the rows.

    Args:
      rows: uint8 RGB pictures [H,W,3], row by row; shorter rows leave room at the end. Every tile has the size of the
        largest picture; smaller ones are enlarged to fit.
      column_captions, row_captions: as many as there are columns and rows, or none. Long ones are broken at spaces,
        then cut.
      smallest_tile: tiles are enlarged by a whole factor (pixels stay visible) until their shorter side has this many
        pixels; 0 keeps them.
      title: a line above everything.

    Returns:
      uint8 RGB [H,W,3], dark on white. Captions are ASCII; accents are dropped and other letters shown as "?".

    Raises:
      ValueError: without a picture, for a picture that is not uint8 [H,W,3], or when captions and pictures do not
        match in number.
    """
    _check(rows, column_captions, row_captions)
    layout = _layout(rows, column_captions, row_captions, smallest_tile, title)
    sheet: np.ndarray = np.full((*layout.sheet, 3), PAPER, np.uint8)
    if title:
        write(sheet, [title], MARGIN, MARGIN)
    for column, lines in enumerate(layout.above):
        write(sheet, lines, layout.x(column), layout.top - MARGIN - LINE * len(lines), layout.width)
    for row, lines in enumerate(layout.beside):
        write(sheet, lines, MARGIN, layout.y(row) + (layout.height - LINE * len(lines)) // 2)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            y, x = layout.y(row), layout.x(column)
            sheet[y : y + layout.height, x : x + layout.width] = fitted(picture, layout.height, layout.width)
    return sheet


def grid_sheet(
    rows: Sequence[Sequence[np.ndarray]], heads: Sequence[np.ndarray], row_names: Sequence[str], names: Sequence[str]
) -> np.ndarray:
    """A grid as one sheet; a long one in blocks, each with its sources and targets.

    Args:
      rows: of each source its picture and the results on every target, uint8 RGB [N,N,3] of one size.
      heads: the targets' pictures.
      row_names, names: captions of the sources and of the targets.
    """
    side = heads[0].shape[0]
    high, wide = block_shape(len(rows), len(heads), side)
    blank: np.ndarray = np.full((side, side, 3), 255, np.uint8)
    blocks = []
    for top in range(0, len(rows), high):
        for left in range(0, len(heads), wide):
            part = slice(left, left + wide)
            cells = [[row[0], *row[1:][part]] for row in rows[top : top + high]]
            blocks.append(
                contact_sheet([[blank, *heads[part]], *cells], ["", *names[part]], ["", *row_names[top : top + high]])
            )
    return _stacked(blocks, axis=0 if wide < len(heads) else 1)


def block_shape(sources: int, targets: int, side: int) -> tuple[int, int]:
    """How many sources and targets a block of a grid has: all of them, unless the sheet were a strip.

    A sheet that would be more than ``MOST_RATIO`` times as wide as high, or wider than ``MOST_WIDE`` pixels and than
    high, gets fewer targets a block, and its blocks stand one below another; one that is more than ``MOST_RATIO`` times
    as high as wide gets fewer sources, and its blocks stand side by side.

    Args:
      sources, targets: of the grid.
      side: of a cell, in pixels; captions are not counted.
    """
    for blocks in range(1, targets + 1):
        wide = -(-targets // blocks)
        width, height = (wide + 1) * side, blocks * (sources + 1) * side
        if width <= MOST_RATIO * height and (width <= MOST_WIDE or width <= height):
            break
    if blocks > 1:
        return sources, wide
    for blocks in range(1, sources + 1):
        high = -(-sources // blocks)
        if (high + 1) <= MOST_RATIO * blocks * (targets + 1):
            break
    return high, targets


def _stacked(sheets: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """Sheets, uint8 RGB [H,W,3], one below another (axis 0) or side by side (axis 1), white where one is smaller."""
    across = max(sheet.shape[1 - axis] for sheet in sheets)
    parts: list[np.ndarray] = []
    for sheet in sheets:
        room = [(0, 0), (0, 0), (0, 0)]
        room[1 - axis] = (0, across - sheet.shape[1 - axis])
        if parts:
            room[axis] = (GAP, 0)
        parts.append(np.pad(sheet, room, constant_values=PAPER))
    return np.concatenate(parts, axis)


@dataclass(frozen=True)
class _Layout:
    """Where everything lies, in pixels.

    Attributes:
      height, width: of a tile.
      top, left: where the first tile lies.
      above, beside: the lines of the columns' and the rows' captions.
      sheet: height and width of the sheet.
    """

    height: int
    width: int
    top: int
    left: int
    above: list[list[str]]
    beside: list[list[str]]
    sheet: tuple[int, int]

    def y(self, row: int) -> int:
        """The top of a row's tiles."""
        return self.top + row * (self.height + MARGIN)

    def x(self, column: int) -> int:
        """The left side of a column's tiles."""
        return self.left + column * (self.width + MARGIN)


def _check(rows: Sequence[Sequence[np.ndarray]], column_captions: Sequence[str], row_captions: Sequence[str]) -> None:
    """Raise the ValueErrors of `contact_sheet`."""
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("A contact sheet needs at least one picture; give rows of pictures.")
    for picture in pictures:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"A picture of the sheet is {picture.dtype} {picture.shape}; give uint8 [H,W,3].")
    for captions, count, what in (
        (column_captions, max(map(len, rows)), "columns"),
        (row_captions, len(rows), "rows"),
    ):
        if captions and len(captions) != count:
            raise ValueError(
                f"The sheet has {count} {what} and {len(captions)} captions for them; give one for each, or none."
            )


def _layout(
    rows: Sequence[Sequence[np.ndarray]],
    column_captions: Sequence[str],
    row_captions: Sequence[str],
    smallest_tile: int,
    title: str,
) -> _Layout:
    """Room for the largest picture in every tile, and for the captions and the title as broken into lines."""
    height, width = (max(picture.shape[axis] for row in rows for picture in row) for axis in (0, 1))
    factor = max(1, -(-smallest_tile // min(height, width)))
    height, width = height * factor, width * factor
    above = [wrapped(caption, width, 3) for caption in column_captions]
    beside = [wrapped(caption, max(width, 120), max(1, height // LINE)) for caption in row_captions]
    heads = LINE * max(map(len, above)) + MARGIN if above else 0
    top = MARGIN + heads + (LINE + MARGIN if title else 0)
    left = MARGIN
    if beside:
        left = 3 * MARGIN + max((text_width(line) for lines in beside for line in lines), default=0)
    right = left + max(map(len, rows)) * (width + MARGIN)
    if title:
        right = max(right, text_width(title) + 2 * MARGIN)
    return _Layout(height, width, top, left, above, beside, (top + len(rows) * (height + MARGIN), right))


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture [h,w,3] as large as fits into [height,width,3], centred on white; whole factors keep its pixels as
    squares.
    """
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    way = cv2.INTER_NEAREST if scale == int(scale) else cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    tile: np.ndarray = np.full((height, width, 3), PAPER, np.uint8)
    y, x = (height - size[1]) // 2, (width - size[0]) // 2
    tile[y : y + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=way)
    return tile


def write(sheet: np.ndarray, lines: Sequence[str], x: int, y: int, width: int = 0) -> None:
    """Write lines of text into a sheet, in place, their top at y; centred in `width` pixels if that is given."""
    for number, line in enumerate(lines):
        indent = max(0, (width - text_width(line)) // 2) if width else 0
        cv2.putText(sheet, plain(line), (x + indent, y + LINE * number + LINE - 4), FONT, SCALE, INK, 1, cv2.LINE_AA)


def wrapped(text: str, width: int, most: int) -> list[str]:
    """A caption as at most `most` lines of at most `width` pixels, broken at spaces; what does not fit ends in dots."""
    lines: list[str] = []
    for word in plain(text).split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1]} .."]
    return [cut(line, width) for line in lines]


def cut(line: str, width: int) -> str:
    """A line shortened to `width` pixels, with dots at its end if anything was cut."""
    if text_width(line) <= width:
        return line
    while line and text_width(f"{line}..") > width:
        line = line[:-1]
    return f"{line}.."


def text_width(text: str) -> int:
    """Pixels that a line takes."""
    return cv2.getTextSize(plain(text), FONT, SCALE, 1)[0][0]


def plain(text: str) -> str:
    """OpenCV's font knows ASCII only."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return bare.encode("ascii", "replace").decode()

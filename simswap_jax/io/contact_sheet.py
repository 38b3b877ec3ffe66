"""Pictures side by side with captions: contact sheets."""

import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
SCALE = 0.42  # capitals 9 pixels high
INK, PAPER = (40, 40, 40), 255
MARGIN = 3  # pixels between tiles
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
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("A contact sheet needs at least one picture; give rows of pictures.")
    for picture in pictures:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(f"A picture of the sheet is {picture.dtype} {picture.shape}; give uint8 [H,W,3].")
    columns = max(len(row) for row in rows)
    for captions, count, what in ((column_captions, columns, "columns"), (row_captions, len(rows), "rows")):
        if captions and len(captions) != count:
            raise ValueError(
                f"The sheet has {count} {what} and {len(captions)} captions for them; give one for each, or none."
            )

    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    factor = max(1, -(-smallest_tile // min(height, width)))
    height, width = height * factor, width * factor
    above = [wrapped(caption, width, 3) for caption in column_captions]
    beside = [wrapped(caption, max(width, 120), max(1, height // LINE)) for caption in row_captions]
    top = LINE * max(map(len, above), default=0) + (MARGIN if above else 0) + (LINE + MARGIN if title else 0) + MARGIN
    left = max((text_width(line) for lines in beside for line in lines), default=0) + (3 * MARGIN if beside else MARGIN)

    needed = left + columns * (width + MARGIN)
    if title:
        needed = max(needed, text_width(title) + 2 * MARGIN)
    sheet = np.full((top + len(rows) * (height + MARGIN), needed, 3), PAPER, np.uint8)
    if title:
        write(sheet, [title], MARGIN, MARGIN)
    for number, lines in enumerate(above):
        write(sheet, lines, left + number * (width + MARGIN), top - MARGIN - LINE * len(lines), width)
    for number, lines in enumerate(beside):
        write(sheet, lines, MARGIN, top + number * (height + MARGIN) + (height - LINE * len(lines)) // 2)
    for down, row in enumerate(rows):
        for across, picture in enumerate(row):
            y, x = top + down * (height + MARGIN), left + across * (width + MARGIN)
            sheet[y : y + height, x : x + width] = fitted(picture, height, width)
    return sheet


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

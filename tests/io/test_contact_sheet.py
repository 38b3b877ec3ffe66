import numpy as np
import pytest

from simswap_jax.io.contact_sheet import (
    GAP,
    LINE,
    MARGIN,
    block_shape,
    contact_sheet,
    cut,
    fitted,
    grid_sheet,
    plain,
    text_width,
    wrapped,
)


def tile(value, height=96, width=96):
    return np.full((height, width, 3), value, np.uint8)


def test_tiles_lie_in_rows_and_columns_unchanged():
    rows = [[tile((10 * row, 20 * column, 7)) for column in range(3)] for row in range(2)]
    sheet = contact_sheet(rows)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (MARGIN + 2 * (96 + MARGIN), MARGIN + 3 * (96 + MARGIN), 3)
    for row in range(2):
        for column in range(3):
            y, x = MARGIN + row * (96 + MARGIN), MARGIN + column * (96 + MARGIN)
            np.testing.assert_array_equal(sheet[y : y + 96, x : x + 96], rows[row][column])
    assert (sheet[:MARGIN] == 255).all()


def test_small_tiles_grow_by_whole_factors():
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    sheet = contact_sheet([[picture]], smallest_tile=96)
    inner = sheet[MARGIN : MARGIN + 120, MARGIN : MARGIN + 120]
    np.testing.assert_array_equal(inner, picture.repeat(3, 0).repeat(3, 1))
    assert contact_sheet([[picture]], smallest_tile=0).shape == (40 + 2 * MARGIN, 40 + 2 * MARGIN, 3)


def test_pictures_of_different_sizes_are_fitted_and_centred():
    wide = fitted(tile(9, 10, 20), 40, 40)
    assert (wide[10:30] == 9).all()
    assert (wide[:10] == 255).all()
    assert (wide[30:] == 255).all()
    sheet = contact_sheet([[tile(1), tile(2, 48, 48)], [tile(3, 192, 192)]])
    assert sheet.shape == (MARGIN + 2 * (192 + MARGIN), MARGIN + 2 * (192 + MARGIN), 3)
    assert (sheet[-100, -100] == 255).all()  # the short row leaves room


def test_captions_take_room_and_leave_the_pictures_alone():
    values = [(50, 0, 200), (60, 0, 200), (70, 0, 200), (80, 0, 200)]  # ink is grey
    rows = [[tile(values[0]), tile(values[1])], [tile(values[2]), tile(values[3])]]
    sheet = contact_sheet(rows, ["source", "the true answer, as it was rendered"], ["first", "second"], title="Step 1")
    places = [np.argwhere((sheet == value).all(2)) for value in values]
    left = [place.min(0)[1] for place in places]
    top = [place.min(0)[0] for place in places]
    assert top[0] == top[1] > 2 * LINE
    assert left[0] == left[2] > text_width("second")
    for value, y, x in zip(values, top, left):
        assert (sheet[y : y + 96, x : x + 96] == value).all()
    assert sheet[: top[0]].min() < 100  # ink above
    assert sheet[top[0] :, : left[0]].min() < 100  # and beside
    strokes = np.unique(sheet[: top[0]])
    assert len(strokes) > 10  # anti-aliased


@pytest.mark.parametrize(
    ("sources", "targets", "side", "shape"),
    [
        (2, 3, 112, (2, 3)),
        (1, 7, 112, (1, 7)),
        (20, 20, 224, (20, 20)),  # as high as wide
        (2, 40, 128, (2, 14)),  # 5248 pixels in one block, 1920 in three
        (1, 9, 112, (1, 5)),  # few pixels, but five times as wide as high
        (40, 2, 112, (20, 2)),
        (40, 1, 112, (14, 1)),
        (1, 1, 512, (1, 1)),
    ],
)
def test_a_grid_that_would_be_a_strip_is_broken_into_blocks(sources, targets, side, shape):
    assert block_shape(sources, targets, side) == shape


@pytest.mark.parametrize(("sources", "targets"), [(1, 9), (9, 1), (2, 3)])
def test_every_cell_of_a_grid_stands_once_and_its_heads_in_every_block(sources, targets):
    """Sources have the colours from 1, targets from 21, results from 41."""
    rows = [[tile(1 + s), *(tile(41 + s * targets + t) for t in range(targets))] for s in range(sources)]
    heads = [tile(21 + t) for t in range(targets)]
    sheet = grid_sheet(rows, heads, [""] * sources, [""] * targets)
    blocks = 1 if sources == 2 else 2

    def count(value):
        return (sheet == value).all(axis=2).sum() / 96**2

    assert [count(41 + number) for number in range(sources * targets)] == [1] * (sources * targets)
    assert [count(1 + s) for s in range(sources)] == [blocks if targets == 9 else 1] * sources
    assert [count(21 + t) for t in range(targets)] == [blocks if sources == 9 else 1] * targets
    if sources == 9:
        assert sheet.shape[0] == pytest.approx(6 * (96 + MARGIN), abs=LINE)
        assert sheet.shape[1] > 4 * (96 + MARGIN) + GAP


def test_long_captions_are_broken_then_cut():
    assert wrapped("a caption of several words", 60, 5) == ["a caption", "of several", "words"]
    lines = wrapped("a caption of several words", 60, 2)
    assert len(lines) == 2
    assert lines[1].endswith("..")
    assert all(text_width(line) <= 60 for line in lines + wrapped("incomprehensibilities", 60, 2))
    assert cut("short", 100) == "short"
    assert plain("Zoë — 成龍") == "Zoe ? ??"


def test_wrong_calls_are_explained():
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([])
    with pytest.raises(ValueError, match="2 columns and 1 captions"):
        contact_sheet([[tile(1), tile(2)]], ["one"])
    with pytest.raises(ValueError, match="1 rows and 2 captions"):
        contact_sheet([[tile(1), tile(2)]], row_captions=["one", "two"])
    with pytest.raises(ValueError, match=r"float32 \(96, 96, 3\); give uint8"):
        contact_sheet([[tile(1).astype(np.float32)]])

"""The HTML report and the table for the terminal."""

import numpy as np
import pytest

from simswap_jax.io import html_report
from tests.support.small_model import faces


def test_the_page_stands_alone_and_escapes():
    table = html_report.Table("A <caption>", ["", "a & b"], [["row", "1"], ["other", "2"]])
    curve = html_report.Curve("losses", {"a<b": ([0, 1, 2], [1.0, float("nan"), 0.5]), "c": ([0, 2], [0.1, 0.2])})
    page = html_report.html_report(
        "T <title>", "S & s.", [table], [curve], [html_report.Figure('say "x"', faces(1)[0])]
    )
    for raw in ("T <title>", "A <caption>", "a<b", "S & s", 'alt="say "x'):
        assert raw not in page
    assert "T &lt;title&gt;" in page
    assert page.count("<tr>") == 3
    assert page.count("<polyline") == 2
    assert "nan" not in page
    assert "data:image/" in page
    assert "://" not in page.replace("http://www.w3.org", "")  # nothing is fetched


def test_a_line_that_is_flat_short_or_long_is_drawn():
    long = np.arange(5000)
    curves = [
        html_report.Curve("flat", {"a": ([0, 1], [2.0, 2.0])}),
        html_report.Curve("point", {"a": ([5], [2.0])}),
        html_report.Curve("long", {"a": (long, np.sin(long / 500))}),
        html_report.Curve("none", {"a": ([], [])}),
    ]
    page = html_report.html_report("t", "s", curves=curves)
    assert page.count("<svg") == 3
    assert page.count("<circle") == 1
    longest = max(page.split('points="')[1:], key=len).split('"')[0]
    assert len(longest.split()) == html_report.MOST_POINTS
    assert "nan" not in page


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 20000, [0, 5000, 10000, 15000, 20000]),
        (-0.3, 0.7, [-0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_ticks_are_round(low, high, wanted):
    np.testing.assert_allclose(html_report.ticks(low, high), wanted, atol=1e-9)


def test_curves_of_a_training():
    rows = [{"step": 1, "a": 0.5, "note": "x"}, {"step": 2, "a": 0.4, "b": 1}, {"step": 3}]
    (curve,) = html_report.curves_of(rows, {"first": ["a", "b", "missing"], "second": ["note"]})
    assert curve.title == "first"
    assert dict(curve.series) == {"a": ([1, 2], [0.5, 0.4]), "b": ([2], [1])}


def test_the_terminals_table_lines_up():
    table = html_report.Table("cap", ["", "value"], [["a", "1.0"], ["longer", "10.0"]])
    assert html_report.text_table(table).splitlines()[1:] == [
        "        value",
        "──────  ─────",
        "a         1.0",
        "longer   10.0",
    ]


def test_named_points_are_drawn_and_escaped():
    points = {"wFM_2": (0.9, 0.05), "o<FM": (0.91, 0.051), "nFM": (0.99, 0.2), "lost": (float("nan"), 1.0)}
    page = html_report.html_report("t", "s", curves=[html_report.Scatter("trade", points, "identity", "error")])
    assert page.count("<circle") == 3
    assert "o&lt;FM" in page
    assert "nan" not in page
    places = [line.split('cx="')[1].split('"')[0] for line in page.split("<circle")[1:] if 'cx="' in f"<circle{line}"]
    assert float(places[0]) < float(places[1]) < float(places[2])


def test_names_of_points_that_lie_together_stand_inside_the_plot_and_on_nothing():
    names = [f"a name as long as {number}" for number in range(9)]
    points = {name: (200.0 + number % 3, 200.0 + number % 2) for number, name in enumerate(names)}
    boxes = []
    for name, (x, y) in html_report.label_places(points).items():
        width = html_report.LETTER * len(name)
        left = x if x > points[name][0] else x - width
        assert left >= html_report.LEFT
        assert left + width <= html_report.WIDTH
        assert y <= html_report.HEIGHT - html_report.BOTTOM
        boxes.append((left, y, width))
    for number, (left, y, width) in enumerate(boxes):
        for other_left, other_y, other_width in boxes[:number]:
            assert abs(y - other_y) >= 10 or left >= other_left + other_width or other_left >= left + width


def test_colours_are_kept_controls_are_dashed_and_intervals_and_marks_are_drawn():
    grey = next(colour for colour, dashes in html_report.GREYS.items() if dashes)
    lines = {"ours": ([0, 1], [1.0, 2.0]), "control": ([0, 1], [0.5, 0.5]), "theirs": ([0, 1], [2.0, 1.0])}
    curve = html_report.Curve(
        "c",
        lines,
        "rate",
        "density",
        colours={"control": grey, "ours": "#123456"},
        spans={"ours": ([0.5, 1.5], [1.5, 2.5])},
        marks={"here": 0.5},
        log=True,
    )
    page = html_report.html_report("t", "s", curves=[curve])
    assert 'stroke="#123456"' in page
    assert f'stroke-dasharray="{html_report.GREYS[grey]}"' in page
    assert page.count(f'stroke="{html_report.COLOURS[0]}"') == 1  # the next of the palette is the third line's
    assert page.count("stroke-opacity") == 2
    assert ">here</text>" in page
    assert ">10⁰<" in page
    assert ">density</text>" in page


def test_tiles_come_first_and_tables_last_if_wished():
    table = html_report.Table("How", ["", ""], [["a", "b"]], text=(1,))
    tile = html_report.Tile("ID retrieval ↑", "52.5", "95 % interval 35 to 70", ["target: 0"])
    figure = html_report.Figure("f", faces(1)[0], wide=True)
    curve = html_report.Curve("c", {"a": ([0, 1], [0, 1])})
    page = html_report.html_report("t", "s", [table], [curve], [figure], [tile], tables_last=True)
    places = [page.index(part) for part in ('class="tile"', "<figure class=wide", "<polyline", '<td class="text"')]
    assert places == sorted(places)


def test_an_interval_stands_below_its_number():
    page = html_report.html_report(
        "t", "s", [html_report.Table("c", ["", "x"], [["a", "0.5 [0.4, 0.6]"], ["b [c", "1"]])]
    )
    assert "0.5<br><small>[0.4, 0.6]</small>" in page
    assert "<td>b [c</td>" in page

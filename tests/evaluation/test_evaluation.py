"""Measures of a swap: against numbers worked out by hand, on vectors and pictures made for it."""

import json

import numpy as np
import pytest

from simswap_jax.errors import UserError
from simswap_jax.evaluation.metrics import identity, intervals, reconstruction
from simswap_jax.evaluation.protocols import pairs
from simswap_jax.io import html_report
from tests.support.small_model import faces


def test_the_gallery_is_the_mean_of_each_person():
    vectors = np.array([[1, 0], [0, 1], [0, 2], [np.nan, 0]], np.float32)
    found = identity.gallery(vectors, np.array([0, 1, 1, 0]), 2)
    np.testing.assert_array_equal(found.sums, [[1, 0], [0, 3]])
    np.testing.assert_array_equal(found.counts, [1, 2])
    with pytest.raises(ValueError, match="person 1"):
        identity.gallery(vectors[[0, 3]], np.array([0, 1]), 2)


def test_retrieval_takes_the_nearest_person_by_cosine():
    found = identity.gallery(np.eye(3)[[0, 0, 1, 2]] * [[5], [1], [1], [1]], np.array([0, 0, 1, 2]), 3)
    queries = np.array([[1.0, 0.2, 0], [0.2, 1, 0], [0.4, 0.5, 0]])
    np.testing.assert_array_equal(identity.retrieval(queries, found, np.array([0, 1, 0])), [True, True, False])


def test_the_picture_a_result_was_made_from_does_not_help_to_find_its_person():
    # Person 0 has two pictures that look nothing alike; the result repeats the first of them.
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
    found = identity.gallery(vectors, np.array([0, 0, 1]), 2)
    result, person = np.array([[1.0, 0, 0]]), np.array([0])
    assert identity.retrieval(result, found, person)[0]  # cosine 0.71 against 0.6
    assert not identity.retrieval(result, found, person, vectors[[0]])[0]  # 0 against 0.6
    alone = identity.gallery(vectors[[0, 2]], np.array([0, 1]), 2)
    assert identity.retrieval(result, alone, person, vectors[[0]])[0]  # an only picture stays in


def test_cosines_and_nearer_to_the_source():
    a, b = np.array([[3.0, 0], [1, 1]]), np.array([[2.0, 0], [0, 5]])
    np.testing.assert_allclose(identity.cosine(a, b), [1, np.sqrt(0.5)])
    np.testing.assert_array_equal(identity.nearer_source(a, b, a), [False, False])
    np.testing.assert_array_equal(identity.nearer_source(a, a, b), [False, True])


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        got = intervals.estimate(random.normal(0.3, 1.0, 80), seed=seed, rounds=300)
        covered += got.low <= 0.3 <= got.high
    assert 0.88 <= covered / 200 <= 0.99


def test_results_that_share_a_person_do_not_count_as_many():
    people = np.repeat(np.arange(10), 30)
    values = np.random.default_rng(0).normal(size=10)[people]  # thirty times the same number each
    naive, honest = intervals.estimate(values), intervals.estimate(values, people)
    assert honest.mean == naive.mean == pytest.approx(values.mean())
    assert honest.high - honest.low > 3 * (naive.high - naive.low)
    assert intervals.Estimate(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
    with pytest.raises(ValueError, match="nothing"):
        intervals.estimate(np.zeros(0))


def test_l1_and_psnr_of_known_differences():
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 51  # a fifth of the range
    np.testing.assert_allclose(reconstruction.l1(a, b), [0, 0.2])
    np.testing.assert_allclose(reconstruction.psnr(a, b), [99, -20 * np.log10(0.2)])


def test_ssim_is_one_for_equal_and_follows_its_formula():
    pictures = faces(2, 32)
    np.testing.assert_allclose(reconstruction.ssim(pictures, pictures), 1)
    noise = np.random.default_rng(0).integers(-40, 40, pictures.shape)
    worse = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    assert (reconstruction.ssim(pictures, worse) < 0.9).all()
    # Two flat greys x, y: only the means count, (2xy + C1) / (x² + y² + C1).
    x, y = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    np.testing.assert_allclose(reconstruction.ssim(x, y), (2 * 15000 + c1) / (10000 + 22500 + c1), rtol=1e-6)
    with pytest.raises(ValueError, match="11×11"):
        reconstruction.ssim(x[:, :8], y[:, :8])


def test_ssim_against_the_window_written_out():
    x, y = faces(2, 24).astype(np.float64)
    luma = np.array([0.299, 0.587, 0.114])
    x, y = x @ luma, y @ luma
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2
    values = []
    for i in range(14):
        for j in range(14):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    np.testing.assert_allclose(reconstruction.ssim(*faces(2, 24)[:, None]), np.mean(values), rtol=1e-6)


PICTURES = {f"p{i}": [f"{j}.jpg" for j in range(1 + i)] for i in range(5)}


def test_pairs_are_of_different_people_and_everybody_has_a_turn():
    plan = pairs.draw(PICTURES, list(PICTURES), 20, seed=3)
    assert len(plan.pairs) == 20
    sources = [pair.source.split("/")[0] for pair in plan.pairs]
    targets = [pair.target.split("/")[0] for pair in plan.pairs]
    assert all(a != b for a, b in zip(sources, targets))
    assert all(sources.count(name) == targets.count(name) == 4 for name in PICTURES)
    for pair in plan.pairs:
        person, picture = pair.source.split("/")
        assert picture in PICTURES[person]
        if person == "p0":
            assert pair.witness is None  # its only picture is the source
        else:
            assert pair.witness.startswith(f"{person}/")
            assert pair.witness != pair.source
    assert pairs.draw(PICTURES, list(PICTURES)[::-1], 20, seed=3) == plan
    assert pairs.draw(PICTURES, list(PICTURES), 20, seed=4) != plan


def test_a_protocol_is_kept_and_read(tmp_path):
    plan = pairs.draw(PICTURES, ["p1", "p2", "p3"], 7)
    pairs.save(tmp_path / "new" / "pairs.json", plan)
    assert pairs.load(tmp_path / "new" / "pairs.json") == plan


def test_impossible_protocols_get_a_sentence(tmp_path):
    with pytest.raises(UserError, match="needs two"):
        pairs.draw(PICTURES, ["p1"], 5)
    with pytest.raises(UserError, match="at least one"):
        pairs.draw(PICTURES, ["p1", "p2"], 0)
    with pytest.raises(UserError, match="cannot be read"):
        pairs.load(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"seed": 0, "people": []}')
    with pytest.raises(UserError, match="is not a protocol"):
        pairs.load(tmp_path / "x.json")


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


def test_estimates_are_json_numbers():
    got = intervals.estimate(np.array([True, False]))
    assert json.loads(json.dumps([got.mean, got.low, got.high]))[0] == 0.5

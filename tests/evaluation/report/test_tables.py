"""The sentence above the tables says whose faces were swapped, and what flatters the model."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from simswap_jax.contrib.rendered.protocol import COLOUR, LADDER
from simswap_jax.evaluation.candidates import BASELINES, EXTERNAL, GROUND_TRUTH, MODEL
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.protocols.protocol import Training
from simswap_jax.evaluation.report.page import colours_of, trade_offs
from simswap_jax.evaluation.report.tables import (
    MISSING,
    headlines,
    narrow_table,
    opening,
    paper_table,
    published_table,
    rows_table,
)
from simswap_jax.evaluation.warp import FAMILY, NAMES, warp_baselines
from simswap_jax.io.html_report import COLOURS, GREYS, text_table


def sentence(training, trained_with=(), **row):
    """The opening of a report on one model with 75 % retrieval among 20 people."""
    values = {"retrieval": 0.75, "nearer_source": 0.9, **row}
    summary = {
        "model": {name: Estimate(value, value, value) for name, value in values.items()},
        "shift": {"pose_error": Estimate(1.5, 1.4, 1.6)},
    }
    metrics = {
        "protocol": {"pairs": 40, "people": 10, "gallery_people": 20, "people_in_training": training.value},
        "judges": {"identity": {"name": "judge.onnx"}},
        "judge_is_training_network": list(trained_with),
    }
    return opening(metrics, summary, "model")


@pytest.mark.parametrize(
    ("training", "whose", "caution"),
    [
        (Training.HELD_OUT, "10 held-out identities", ""),
        (
            Training.STATED_UNSEEN,
            "10 identities",
            " That no training saw these people is what the request says (--people unseen).",
        ),
        (
            Training.PERHAPS,
            "10 identities",
            " The training may have seen these people (--people any), which flatters the model.",
        ),
        (Training.UNKNOWN, "10 identities", " Whether a training saw these people is not known."),
    ],
)
def test_the_opening_says_whether_the_training_saw_these_people(training, whose, caution):
    assert sentence(training) == (
        f"model on 40 swaps of {whose}: ID retrieval by judge.onnx 75.0% (top-1 of 20, chance 5.0%), "
        f"90.0% nearer to the source image than to the target.{caution}"
    )


def test_the_opening_names_the_noise_floor_of_pose_and_a_judge_that_flatters():
    said = sentence(Training.HELD_OUT, ["model", "other"], pose_error=2.25)
    assert "to the target, pose error 2.2° (noise floor 1.5°). The recogniser" in said
    assert said.endswith("the network that model, other was trained with, so it flatters the identity metrics.")


TITLES = {
    "ours": "ours",
    "other": "a program with a name that is too long for a terminal",
    "target": "untouched target",
    "pasted": "copy-paste baseline",
    "shift": "target shifted 2 px of 112",
    "witness": "another real photo of the source",
}


def summary(**left_out):
    """Six rows; ``left_out``: key → names that it lacks."""
    values = {"retrieval": 0.525, "retrieval_picture": 0.4, "cosine_source": 0.4, "pose_error": 7.25, "sharpness": 0.75}
    return {
        key: {name: Estimate(v, v - 0.1, v + 0.1) for name, v in values.items() if name not in left_out.get(key, ())}
        for key in TITLES
    }


def test_headlines_have_the_gallery_the_interval_and_the_bounds():
    first, *rest = headlines(summary(), TITLES, ["ours", "other"], 227)
    assert (first.label, first.value, first.interval) == ("ID retrieval % ↑", "52.5", "95 % interval 42.5 to 62.5")
    assert first.beside[0] == "top-1 of 227 people"
    assert first.beside[1].endswith(": 52.5")
    assert [tile.label for tile in rest] == ["ID cosine ↑", "pose ° ↓", "sharpness"]


def test_what_was_not_measured_is_marked_and_says_what_it_needs():
    table = paper_table(summary(witness=["pose_error"]), TITLES, 227)
    assert "227 people" in table.caption
    assert "FID needs --features" in table.caption
    assert "--pose" not in table.caption
    assert table.rows[-1][4] == MISSING
    assert table.rows[0][1] == "52.5 [42.5, 62.5]"
    assert not any("published" in cell for row in table.rows for cell in row)
    published = published_table()
    assert published.folded
    assert {len(row) for row in published.rows} == {len(published.header)}


def test_the_terminals_table_is_narrow():
    lines = text_table(narrow_table(summary(witness=["pose_error"]), TITLES, ["ours", "other"])).splitlines()
    assert max(map(len, lines)) <= 100
    assert "52.5 [42.5, 62.5]" in lines[3]
    shown = [row[0] for row in narrow_table(summary(), TITLES, ["ours"]).rows]
    assert shown == [title for key, title in TITLES.items() if key != "other"]


def test_rows_are_found_by_key_title_and_on_the_page_of_the_guide():
    """No title claims to bound every metric, and the guide's table has the same words."""
    guide = (Path(__file__).parents[3] / "docs" / "guide" / "evaluate.md").read_text(encoding="utf-8")
    rows = rows_table([*BASELINES, GROUND_TRUTH]).rows
    assert [key for _, key, _ in rows] == ["target", "pasted", "shift", "hue", "soft", "truth", "witness"]
    for title, key, about in rows:
        assert about
        assert "bound" not in title
        assert f"| `{key}` | {title} |" in guide


def test_every_row_says_what_it_is():
    both = SimpleNamespace(has_landmarks=True, has_pose=True)
    warps = warp_baselines([FAMILY], both, None, None, {})
    of_users = [SimpleNamespace(key=kind, title=kind, kind=kind) for kind in (MODEL, EXTERNAL)]
    candidates = [*of_users, *BASELINES, *warps, GROUND_TRUTH, COLOUR, *LADDER]
    about = {key: what for _, key, what in rows_table(candidates).rows}
    assert [key for key, what in about.items() if not what] == []
    assert about.keys() > {*NAMES, "mix_0.5", "colour"}
    for name in NAMES:
        assert ("of the nearest pose" in about[name]) == name.endswith("_nearest")


def test_candidates_are_coloured_controls_grey_and_one_model_has_no_trade_off():
    colours = colours_of(TITLES, ["ours", "other"])
    assert [colours[TITLES[key]] for key in ("ours", "other")] == list(COLOURS[:2])
    assert {colours[TITLES[key]] for key in ("target", "shift", "witness")} <= set(GREYS)
    assert trade_offs(summary(), TITLES, ["ours"]) == []
    [plot] = trade_offs(summary(), TITLES, ["ours", "other"])
    assert plot.title == "cosine to source against pose error"
    assert plot.spans["ours"] == pytest.approx((0.3, 0.5, 7.15, 7.35))

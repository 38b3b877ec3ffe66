"""Metrics by difference of yaw."""

import json

import numpy as np
import pytest

from simswap_jax.evaluation.metrics.yaw import BINS, by_yaw
from simswap_jax.evaluation.report.page import yaw_curves
from simswap_jax.evaluation.report.tables import MISSING, yaw_table

SOURCE = np.array([0.0, -5.0, 20.0, -30.0, np.nan, 3.0])
TARGET = np.array([5.0, 4.0, 5.0, 30.0, 0.0, 3.0])
ROWS = {
    "ours": {"cosine_source": np.array([0.1, 0.3, 0.5, 0.7, 9.0, 0.2]), "pose_error": np.arange(6.0)},
    "pasted": {"cosine_source": np.zeros(6)},
}


def test_pairs_are_binned_by_how_far_their_yaws_are_apart():
    twice = {key: {name: np.tile(values, 2) for name, values in row.items()} for key, row in ROWS.items()}
    binned = by_yaw(twice, np.tile(SOURCE, 2), np.tile(TARGET, 2), np.arange(12))
    assert list(binned.pairs) == [6, 2, 2]
    assert binned.degrees == pytest.approx([14 / 3, 15, 60])
    assert [one.mean for one in binned.values["ours"]["cosine_source"]] == pytest.approx([0.2, 0.5, 0.7])
    assert [one.mean for one in binned.values["ours"]["pose_error"]] == pytest.approx([2.0, 2.0, 3.0])
    assert "pose_error" not in binned.values["pasted"]


def test_one_source_person_alone_has_no_interval():
    people = np.array([0, 0, 1, 1, 1, 0])
    bins = by_yaw(ROWS, SOURCE, TARGET, people).values["ours"]["cosine_source"]
    assert bins == [None, None, None]
    people[5] = 1
    assert by_yaw(ROWS, SOURCE, TARGET, people).values["ours"]["cosine_source"][0].mean == pytest.approx(0.2)


def test_an_empty_bin_stays_empty_in_table_json_and_plot():
    binned = by_yaw({"ours": {"cosine_source": np.ones(3)}}, SOURCE[:3], TARGET[:3], np.arange(3))
    titles = {"ours": "our model", "pasted": "copy-paste baseline"}
    table = yaw_table(binned, titles)
    assert table.header[1:] == [f"cosine to source, {label}" for label in BINS]
    assert table.rows[0][0] == "our model"
    assert table.rows[0][3] == MISSING
    assert json.loads(json.dumps(binned.to_json(), allow_nan=False))["pairs"] == [2, 1, 0]
    (curve,) = yaw_curves(binned, titles, ["ours"])
    assert list(curve.series) == ["our model"]

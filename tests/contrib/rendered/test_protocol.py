"""The synthetic protocol: its pose network, and its ground truth."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from simswap_jax.cli import evaluate
from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.rendered.protocol import KEPT, RenderedPose, RenderedTruth
from simswap_jax.evaluation.protocols.protocol import Pair, PairList
from tests.support.small_model import write_small_model


def test_pose_of_a_picture_against_its_mirror_has_its_sign_and_size():
    """Yaw and roll turn over, pitch stays; the error of the mirror is twice the part that turns over."""
    attributes = dataset.sample_attributes(6, 48)
    pictures = dataset.render(np.repeat(dataset.sample_people(5, 8), 6, axis=0), attributes, 64)
    pose, truth = RenderedPose(), dataset.pose(attributes)
    angles = pose.angles(list(pictures))
    mirrored = pose.angles([np.ascontiguousarray(picture[:, ::-1]) for picture in pictures])
    flip = np.array([-1.0, 1.0, -1.0])
    assert np.abs(mirrored - angles * flip).mean() < 4
    sideways = np.hypot(truth[:, 0], truth[:, 2])
    error = np.linalg.norm(mirrored - angles, axis=1)
    turned = sideways > np.median(sideways)
    assert np.abs(error - 2 * sideways)[turned].mean() < 0.35 * (2 * sideways)[turned].mean()
    assert np.corrcoef(error, sideways)[0, 1] > 0.8


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "people"
    dataset.write_people(root, dataset.sample_people(1, 8), dataset.person_names(8), 6, 2, 32)
    return root


def test_the_ground_truth_is_the_sources_person_with_the_targets_attributes(people):
    labels = dataset.read_labels(people)
    pairs = PairList(0, ("p0000", "p0001"), (Pair("p0000/001.png", "p0001/002.png", None),))
    truth = RenderedTruth(labels, pairs)
    attributes = labels.attributes[[labels.row("p0001/002.png")]]
    np.testing.assert_array_equal(truth.pictures([0], 32), dataset.render(labels.people[:1], attributes, 32))
    np.testing.assert_array_equal(truth.turned([0], 32, 0.0), truth.pictures([0], 32))
    assert (truth.turned([0], 32, 20.0) != truth.pictures([0], 32)).any()


def test_the_answer_with_the_sources_gaze_differs_at_the_eyes_only(people):
    labels = dataset.read_labels(people)
    pair = Pair("p0000/001.png", "p0001/002.png", None)
    data = SimpleNamespace(pairs=PairList(0, ("p0000", "p0001"), (pair,)))
    truth = RenderedTruth(labels, data.pairs)
    plain, gaze = truth.pictures([0], 64), truth.altered(KEPT["gaze"], [0], 64)
    changed = np.argwhere((plain != gaze).any(axis=-1)[0])
    assert 0 < len(changed) < 0.05 * 64 * 64
    source, target = labels.row(pair.source), labels.row(pair.target)
    attributes = labels.attributes[[target]].copy()
    columns = [dataset.ATTRIBUTES.index(name) for name in ("gaze_x", "gaze_y")]
    attributes[:, columns] = labels.attributes[source, columns]
    np.testing.assert_array_equal(gaze, dataset.render(labels.people[:1], attributes, 64))


@pytest.mark.slow
def test_metrics_order_pictures_as_their_error_against_the_ground_truth(people, tmp_path):
    model = write_small_model(tmp_path / "model")
    words = ["--protocol", "synthetic", "--model", model, "--data", people, "--held-out-fraction", 1]
    words += ["--pairs", 24, "--far", 0.01, "--output", tmp_path / "out"]
    assert evaluate.main([*map(str, words)]) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    rows = {
        key: {name: value["mean"] for name, value in row.items() if isinstance(value, dict)}
        for key, row in metrics["rows"].items()
    }
    assert list(rows)[-6:] == ["truth", "colour", "mix_0.25", "mix_0.5", "mix_0.75", "witness"]
    assert rows["truth"]["truth_l1"] == 0
    rungs = ("target", "mix_0.25", "mix_0.5", "mix_0.75", "truth")
    errors, cosines = ([rows[key][name] for key in rungs] for name in ("truth_l1", "cosine_source"))
    assert errors == sorted(errors, reverse=True)
    assert cosines == sorted(cosines)
    assert rows["truth"]["retrieval"] > 0.8 > 0.2 > rows["target"]["retrieval"]
    assert rows["truth"]["pose_error"] < rows["pasted"]["pose_error"]
    within = {name: value["mean"] for name, value in metrics["agreement"]["within_pairs"].items()}
    assert within["identity"] > 0.8
    assert within["pose"] > 0.8
    assert within["sharpness"] == pytest.approx(1, abs=0.05)
    assert metrics["agreement"]["over_rows"]["cosine_source"] > 0.5
    assert metrics["judges"]["identity"]["name"] == "identity"
    assert "rank correlation" in (tmp_path / "out/table.md").read_text()

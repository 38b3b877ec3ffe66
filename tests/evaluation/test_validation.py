"""The evaluator of validation while training: its numbers are an evaluation's; what it asks of an experiment."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from simswap_jax.cli import evaluate as command
from simswap_jax.data import records
from simswap_jax.evaluation import validation
from simswap_jax.evaluation.geometry import crop_template
from simswap_jax.training.identity import IdentityTraining
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import flat_landmarks, onnx_network, onnx_recogniser
from tests.support.small_method import SIZE, small_config, small_method
from tests.support.small_model import faces

PAIRS = 12
COMPARED = {
    "retrieval",
    "cosine_source",
    "cosine_target",
    "pose_error",
    "expression_error",
    "self_l1",
    "self_psnr",
    "sharpness",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six people with three pictures each, and three networks."""
    folder = tmp_path_factory.mktemp("validation")
    random = np.random.default_rng(0)
    for number, face in enumerate(faces(6, SIZE, seed=9)):
        (folder / f"people/person{number}").mkdir(parents=True)
        for picture in range(3):
            noisy = np.clip(face + random.integers(-12, 13, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"people/person{number}/{picture}.png")
    onnx_recogniser(folder / "judge.onnx")
    mean = ("ReduceMean", ["image"], ["mean"], {"axes": [2, 3], "keepdims": 0})
    degrees = ("Mul", ["mean", "scale"], ["out"], {})
    onnx_network(folder / "pose.onnx", [mean, degrees], ["n", 3], size=64, constants=[("scale", np.float32(30))])
    flat_landmarks(folder / "landmarks.onnx")
    return folder


@pytest.fixture
def people(folder):
    return records.build(folder / "people", folder / "records")


@pytest.fixture
def config(folder):
    networks = {name: str(folder / f"{name}.onnx") for name in ("pose", "landmarks")}
    made = small_config(**{f"validation.{name}": path for name, path in networks.items()})
    made.validation.recognition, made.validation.pairs = str(folder / "judge.onnx"), PAIRS
    return made


def test_the_values_are_those_of_an_evaluation_of_the_same_state(folder, people, config, tmp_path):
    method = small_method(config)
    first, second = (jax.jit(method.init)(jax.random.PRNGKey(seed)) for seed in (0, 1))
    evaluator = validation.build(config, people, people.names)
    before = evaluator.measure(method, first)
    found = evaluator.measure(method, second)
    assert found.values.keys() == COMPARED
    assert all(found.values[name] != before.values[name] for name in ("cosine_source", "self_l1", "pose_error"))

    method.export(second, tmp_path / "model")
    words = ["--model", f"ours={tmp_path / 'model'}", "--data", folder / "people", "--far", 0.05]
    words += [
        "--judge",
        folder / "judge.onnx",
        "--pose",
        folder / "pose.onnx",
        "--landmarks",
        folder / "landmarks.onnx",
    ]
    words += ["--people", "unseen", "--pairs", PAIRS, "--output", tmp_path / "out"]
    assert command.main([*map(str, words)]) == 0
    row = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]["ours"]
    for name in COMPARED:
        assert found.values[name] == pytest.approx(row[name]["mean"], rel=1e-5), name
    assert evaluator.measure(method, first).values == before.values  # nothing is left over from one to the next

    assert list(found.columns) == ["source", "target", "result"]
    assert {len(pictures) for pictures in found.columns.values()} == {len(found.captions)} == {validation.SHOWN}
    assert all("found: " in caption and "source " in caption and " deg" in caption for caption in found.captions)
    assert found.columns["result"][0].shape == (SIZE, SIZE, 3)


def test_what_has_no_network_is_left_out(people, config):
    method = small_method(config)
    config.validation.pose = config.validation.landmarks = ""
    config.validation.pairs = 2
    found = validation.build(config, people, people.names).measure(method, jax.jit(method.init)(jax.random.PRNGKey(0)))
    assert found.values.keys() == COMPARED - {"pose_error", "expression_error"}
    assert len(found.captions) == 2
    assert not any("pose" in caption for caption in found.captions)


def test_only_the_held_out_are_swapped_and_others_are_searched_among(people, config, monkeypatch):
    monkeypatch.setattr(validation, "PEOPLE", 4)
    monkeypatch.setattr(validation, "PICTURES", 1)
    names = ["person3", "person5"]
    reference = validation.build(config, people, names).reference
    assert set(reference.gallery.names) == {*names, "person0", "person1"}
    assert {reference.gallery.names[number] for number in reference.index.person} == set(names)
    assert {len(reference.gallery.files[name]) for name in ("person0", "person1")} == {1}
    assert [len(batch.targets) for batch in reference.batches] == [PAIRS]


def test_masks_are_those_of_the_crops_template(people, config):
    config.validation.landmarks, config.data.alignment = "", "ffhq"
    [batch] = validation.build(config, people, people.names).reference.batches
    np.testing.assert_array_equal(batch.target_points, np.stack([crop_template("ffhq", SIZE)] * PAIRS))


def test_a_network_is_found_by_its_name(folder, config, people, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(folder))
    config.validation.recognition, config.validation.pose, config.validation.landmarks = "judge.onnx", "pose.onnx", ""
    assert validation.network_file("judge.onnx", "recognition") == folder / "judge.onnx"
    validation.build(config, people, people.names)


def test_what_cannot_be_validated_is_refused(config, people, tmp_path):
    with raises_user_error("too-few-people", 1):
        validation.build(config, people, people.names[:1])
    config.validation.pose = str(tmp_path / "pose.onnx")
    with raises_user_error("weight-file-missing", "config.validation.pose", tmp_path / "pose.onnx"):
        validation.build(config, people, people.names)
    config.validation.recognition = ""
    with raises_user_error("validation-without-recognition", "config.validation.recognition"):
        validation.build(config, people, people.names)


def test_a_method_without_swaps_is_refused():
    method = object.__new__(IdentityTraining)
    with raises_user_error("validation-makes-no-swaps", "IdentityTraining"):
        validation.model_of(method, None)
    with raises_user_error("validation-makes-no-swaps", "IdentityTraining"):
        validation.HeldOutEvaluator.check(None, method)

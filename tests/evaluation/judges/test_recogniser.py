"""Recognisers of each kind of file."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.errors import install_command
from simswap_jax.evaluation.judges.networks import open_recogniser
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.weights import identity_folder, model_folder
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_recogniser
from tests.support.small_model import faces, write_small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "m")


def test_judges_agree_with_the_networks_they_hold(model, tmp_path):
    read = model_folder.read(model)
    pictures = faces(3, 16)
    network = IdentityNetwork(read.identity)
    wanted = jax.jit(network.embed)(read.identity_variables, jnp.asarray(pictures / 255.0, jnp.float32))
    np.testing.assert_allclose(open_recogniser(model).embed(list(pictures)), np.asarray(wanted), atol=1e-5)
    identity_folder.write(tmp_path / "judge", read.identity, read.identity_variables, {})
    from_folder = open_recogniser(tmp_path / "judge")
    np.testing.assert_allclose(from_folder.embed(list(pictures)), np.asarray(wanted), atol=1e-5)
    assert from_folder.name == "judge"
    assert len(from_folder.sha256) == 64


@pytest.mark.parametrize("batch", ["n", 2])
def test_an_onnx_judge_sees_rgb_planes_of_its_own_size(tmp_path, batch):
    judge = open_recogniser(onnx_recogniser(tmp_path / "judge.onnx", batch=batch))
    pictures = faces(3, 8)
    flat = pictures.transpose(0, 3, 1, 2).reshape(3, -1).astype(np.float32)
    wanted = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(judge.embed(list(pictures)), wanted, atol=1e-6)
    doubled = pictures.repeat(2, axis=1).repeat(2, axis=2)  # area-averaged back to the same
    np.testing.assert_allclose(judge.embed(list(doubled)), wanted, atol=1e-6)


def test_judging_with_onnx_needs_its_extra(tmp_path, monkeypatch):
    path = onnx_recogniser(tmp_path / "judge.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with raises_user_error("extra-missing", install_command("onnx")):
        open_recogniser(path)


def test_the_outside_judge_tells_real_people_apart(outside):
    """The figures that came with the recogniser: same person 0.48 in the mean, different people 0.03."""
    judge = open_recogniser(outside("mobileface_v2.onnx"))
    folders = sorted(outside("celeba_192").iterdir())[:8]
    pictures = [read_picture(path) for folder in folders for path in sorted(folder.glob("*.jpg"))[:4]]
    person = np.repeat(np.arange(8), 4)
    cosines = judge.embed(pictures) @ judge.embed(pictures).T
    same = (person[:, None] == person) & ~np.eye(32, dtype=bool)
    assert cosines[same].mean() > 0.35
    assert abs(cosines[person[:, None] != person].mean()) < 0.1

"""Recognisers of each kind of file."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.errors import install_command
from simswap_jax.evaluation.judges.networks import cut_anew, open_recogniser
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.weights import identity_folder, model_folder, registry
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_recogniser, sface_stand_in
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


@pytest.mark.parametrize("side", [112, 192, 448])
def test_a_crop_is_cut_anew_to_another_template(side):
    crop = np.zeros((side, side, 3), np.uint8)
    points = TEMPLATES["simswap-frontal"][0] * side
    for number, (x, y) in enumerate(points):
        across, down = np.meshgrid(np.arange(side) - x, np.arange(side) - y)
        crop[..., number % 3] |= (255 * np.exp(-(across**2 + down**2) / (side / 40) ** 2)).astype(np.uint8)
    anew = cut_anew(crop, "simswap-frontal", "arcface", 112).astype(np.float64)
    assert anew.shape == (112, 112, 3)
    for number, (x, y) in enumerate(TEMPLATES["arcface"][0] * 112):
        left, top = int(x) - 7, int(y) - 7
        part = anew[top : top + 16, left : left + 16, number % 3]
        place = [(part * grid).sum() / part.sum() for grid in np.meshgrid(np.arange(16), np.arange(16))]
        np.testing.assert_allclose(np.add(place, [left, top]), [x, y], atol=1.0)
    assert cut_anew(crop, "arcface", "arcface", 112) is crop
    assert cut_anew(crop, "rendered", "arcface", 112) is crop


def test_the_public_recogniser_sees_crops_of_its_own_template(tmp_path, monkeypatch):
    path = sface_stand_in(tmp_path / "sface.onnx")
    pictures = list(faces(2, 64))
    told = open_recogniser(path, "simswap-frontal")
    np.testing.assert_allclose(told.embed(pictures), open_recogniser(path).embed(pictures))  # nobody knows this file
    entry = registry.Entry("sface.onnx", "", (), "", "", "", sha256=registry.file_sha256(path), template="arcface")
    monkeypatch.setattr(registry, "catalogue", lambda: {"sface.onnx": entry})
    crops = [cut_anew(picture, "simswap-frontal", "arcface", 112) for picture in pictures]
    means = np.stack([crop.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3)).transpose(2, 0, 1).ravel() for crop in crops])
    wanted = means[:, :128] / np.linalg.norm(means[:, :128], axis=1, keepdims=True)
    np.testing.assert_allclose(open_recogniser(path, "simswap-frontal").embed(pictures), wanted, atol=1e-5)


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

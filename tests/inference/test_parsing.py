"""Face parsing as a mask: labels of an FFHQ crop as the model's crop sees them."""

import numpy as np
import pytest

from simswap_jax.faces.alignment import TEMPLATES, align, inverse, transform
from simswap_jax.inference import parsing
from simswap_jax.weights import torch_weights as tw
from tests.support.errors import raises_user_error
from tests.support.golden_weights import state_dict


def turned(scale, angle, shift):
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


LANDMARKS = transform(turned(150.0, 0.3, (80, 40)), TEMPLATES["ffhq"][0])
PHOTO = np.zeros((260, 260, 3), np.uint8)


def parser(seen):
    made = parsing.FaceParser.__new__(parsing.FaceParser)
    made._variables, made._labels = None, lambda variables, pictures: seen[None]
    return made


@pytest.mark.parametrize("size", [48, 224])
def test_a_class_lies_in_the_crop_where_it_lies_in_the_photo(size):
    fit = align(LANDMARKS, "simswap-frontal", size)
    own = align(LANDMARKS, "ffhq", parsing.SIDE)
    seen = np.zeros((parsing.SIDE, parsing.SIDE), np.int32)
    centre, radius = np.array([256, 300]), 110
    y, x = np.mgrid[: parsing.SIDE, : parsing.SIDE]
    seen[np.hypot(x - centre[0], y - centre[1]) < radius] = 1  # skin
    seen[290:310, 240:270] = 17  # hair across it
    mask = parser(seen)(PHOTO, fit, [])
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32

    def at(point):
        x, y = np.round(transform(fit.matrix, transform(inverse(own.matrix), np.array([point])))[0]).astype(int)
        return mask[y, x]

    assert at((256, 240)) > 0.9
    assert at((200, 300)) > 0.9
    assert at((255, 300)) < 0.45  # hair
    assert at((256, 300 + 150)) < 0.05
    assert not mask[[0, -1]].any()


def test_glasses_stay_with_what_is_in_front():
    fit = align(LANDMARKS, "simswap-frontal", 112)
    seen = np.ones((parsing.SIDE, parsing.SIDE), np.int32)
    seen[220:260, 150:360] = parsing.GLASSES
    ours = parser(seen)
    eye = np.round(fit.landmarks[0][::-1]).astype(int)
    assert ours(PHOTO, fit, [])[tuple(eye)] > 0.9
    assert ours(PHOTO, fit, ["front"])[tuple(eye)] < 0.3


def test_too_little_face_is_no_mask():
    assert parser(np.zeros((parsing.SIDE,) * 2, np.int32))(PHOTO, align(LANDMARKS, "ffhq", 64), []) is None


@pytest.mark.slow
def test_a_weight_file_becomes_a_parser(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    assert parsing.parser_here() is None
    tw.save(state_dict("face_parsing_bisenet"), tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").rename(tmp_path / parsing.WEIGHTS)
    made = parsing.parser_here()
    assert made is not None
    mask = made(PHOTO, align(LANDMARKS, "ffhq", 64), [])
    assert mask is None or mask.shape == (64, 64)
    (tmp_path / parsing.WEIGHTS).write_text("no weights")
    with raises_user_error("unknown", parsing.WEIGHTS):
        parsing.parser_here()

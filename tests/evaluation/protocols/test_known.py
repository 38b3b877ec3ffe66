"""Held-out pictures of people who were trained on."""

import zlib

import numpy as np
import pytest
from PIL import Image

from simswap_jax.data.dataset import held_out
from simswap_jax.evaluation.protocols.known import prepare, unseen_pictures
from simswap_jax.evaluation.protocols.protocol import Training, find_protocol
from simswap_jax.evaluation.request import EvaluationRequest
from tests.evaluation.protocols.test_pairs import model
from tests.support.errors import raises_user_error

PEOPLE, PICTURES = [f"person{i:02d}" for i in range(12)], [f"{i}.png" for i in range(8)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    for number, name in enumerate(PEOPLE):
        for file in PICTURES:
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / name / file)
    return folder


def data_of(root, models=(), **options):
    return prepare(EvaluationRequest(root, root / "out", **{"pairs": 60, **options}), models, 8)


def pictures_of(data):
    return {name for pair in data.pairs.pairs for name in (pair.source, pair.target, pair.genuine) if name}


def test_sources_and_targets_are_pictures_that_no_training_saw(root):
    models = [model("a", held_out=0.3, held_out_pictures=0.5), model("b", held_out=0.1, held_out_pictures=0.4)]
    data = data_of(root, models)
    away = set(held_out(PEOPLE, 0.3))
    assert 0 < len(away) < 10
    swapped = pictures_of(data)
    assert {name.partition("/")[0] for name in swapped} == set(PEOPLE) - away
    assert all(zlib.crc32(f"0/{name}".encode()) / 2**32 < 0.4 for name in swapped)
    assert data.training == Training.OTHER_PICTURES
    assert set(data.people) == set(PEOPLE)  # the gallery is everybody, in all pictures
    assert all(pair.source.partition("/")[0] != pair.target.partition("/")[0] for pair in data.pairs.pairs)


def test_whom_a_model_of_some_people_does_not_know_is_left_out(root):
    three = ("person02", "person05", "person07")
    models = [model("a", held_out=0.1, held_out_pictures=0.5), model("b", three, held_out_pictures=0.5)]
    data = data_of(root, models)
    assert {name.partition("/")[0] for name in pictures_of(data)} == set(three) - set(held_out(PEOPLE, 0.1))
    assert set(data.people) == set(PEOPLE)


@pytest.mark.parametrize("card", [{"held_out": 0.1}, {"held_out": 0.1, "held_out_pictures": 0.0}, {}])
def test_a_training_that_held_no_pictures_out_is_refused_or_said_to_be_flattered(root, card):
    models = [model("a", held_out=0.1, held_out_pictures=0.4), model("b", **card)]
    with raises_user_error("no-pictures-held-out", "'b'", "--people any"):
        data_of(root, models)
    data = data_of(root, models, people="any")
    assert data.training == Training.PERHAPS
    assert pictures_of(data) == pictures_of(data_of(root, models[:1]))


def test_without_a_model_the_request_says_who_was_trained_on(root):
    data = data_of(root, held_out_fraction=0.3)
    assert {name.partition("/")[0] for name in pictures_of(data)} <= set(PEOPLE) - set(held_out(PEOPLE, 0.3))
    assert data.training == Training.PERHAPS


def test_whoever_has_no_held_out_picture_or_no_other_is_left_out(tmp_path):
    for file in PICTURES:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / file)
    people = {"many": [tmp_path / file for file in PICTURES], "one": [tmp_path / PICTURES[0]]}
    share = zlib.crc32(f"0/one/{PICTURES[0]}".encode()) / 2**32 + 1e-6
    assert "one" not in unseen_pictures(people, list(people), share)
    assert unseen_pictures(people, list(people), 1e-9) == {}


def test_impossible_requests_get_a_sentence(root):
    with raises_user_error("known-and-unseen", "--people any"):
        data_of(root, people="unseen")
    with raises_user_error("too-few-held-out-pictures", "config.data.held_out_pictures"):
        data_of(root, [model("a", held_out_pictures=1e-4)])
    assert find_protocol("known").name == "known"

"""A model that draws people by name, as a row of an evaluation."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from simswap_jax.evaluation.candidates import ModelCandidate, PairBatch, model_sha256
from simswap_jax.evaluation.evaluate import reasons_against
from simswap_jax.evaluation.protocols.protocol import Pair, PairList
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_model import write_small_model


class Draws:
    """A swapper that draws two people by name: a picture of person i has the value i everywhere."""

    people = ("anna", "ben")
    model = SimpleNamespace(variables={}, card={})

    def person(self, name):
        return np.eye(2, dtype=np.float32)[self.people.index(name)]

    def swap_faces(self, targets, vectors, **_):
        return [np.full_like(target, vector.argmax()) for target, vector in zip(targets, vectors)]


def test_a_model_that_draws_people_by_name_is_given_the_sources_names():
    candidate = ModelCandidate("fakes", Draws())
    faces = [np.full((4, 4, 3), 9, np.uint8)] * 2
    people = {"source_people": ("ben", "anna"), "target_people": ("anna", "ben")}
    batch = PairBatch([0, 1], faces, faces, *[np.zeros((2, 5, 2))] * 2, **people)
    assert [face[0, 0, 0] for face in candidate.results(batch)] == [1, 0]
    assert [face[0, 0, 0] for face in candidate.self_swaps(batch)] == [0, 1]
    assert candidate.self_swaps(replace(batch, target_people=("anna", "carl"))) is None


def test_a_models_hash_is_of_its_settings_too(tmp_path):
    model = model_folder.read(write_small_model(tmp_path / "m"))
    others = [
        replace(model, generator=replace(model.generator, convention="imagenet")),
        replace(model, identity=replace(model.identity, values="imagenet")),
        replace(model, identity_sha256="cd" * 32),
        replace(model, alignment="ffhq"),
        replace(model, face_size=64),
        replace(model, variables={}),
    ]
    assert len({model_sha256(one) for one in (model, *others)}) == 7
    assert model_sha256(replace(model, card={"step": 1})) == model_sha256(model)


def test_people_whom_a_model_cannot_draw_are_named_and_it_is_left_out(tmp_path):
    candidate = ModelCandidate("fakes", Draws())
    assert candidate.reason_against(["anna"]) is None
    assert candidate.reason_against(["carl", "anna"]) == (
        "draws only the 2 people it was trained on (anna, ben), and 1 of the people here are others, 'carl' for one"
    )
    pair = Pair("carl/0.png", "anna/0.png", None)
    data = SimpleNamespace(pairs=PairList(0, ("anna", "carl"), (pair,)))
    request = EvaluationRequest(tmp_path, tmp_path / "out")
    with raises_user_error("model-not-for-these-people", "'fakes'", "carl", "--protocol known"):
        reasons_against(request, [candidate], data)
    others = replace(request, baselines=("warp",))
    assert list(reasons_against(others, [candidate], data)) == ["fakes"]

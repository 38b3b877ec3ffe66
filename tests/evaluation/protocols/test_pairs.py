"""Pairs are drawn fairly, kept and read again."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from simswap_jax.data.dataset import held_out
from simswap_jax.evaluation.protocols.pairs import draw_pairs, evaluated_fraction, prepare, prepare_file
from simswap_jax.evaluation.protocols.protocol import Training, load_pairs, save_pairs
from simswap_jax.evaluation.request import EvaluationRequest, check
from tests.support.errors import raises_user_error

PICTURES = {f"p{i}": [f"{j}.jpg" for j in range(1 + i)] for i in range(5)}


def test_pairs_are_of_different_people_and_everybody_has_a_turn():
    plan = draw_pairs(PICTURES, list(PICTURES), 20, seed=3)
    assert len(plan.pairs) == 20
    sources = [pair.source.split("/")[0] for pair in plan.pairs]
    targets = [pair.target.split("/")[0] for pair in plan.pairs]
    assert all(a != b for a, b in zip(sources, targets))
    assert all(sources.count(name) == targets.count(name) == 4 for name in PICTURES)
    for pair in plan.pairs:
        person, picture = pair.source.split("/")
        assert picture in PICTURES[person]
        if person == "p0":
            assert pair.genuine is None  # its only picture is the source
        else:
            assert pair.genuine.startswith(f"{person}/")
            assert pair.genuine != pair.source
    assert draw_pairs(PICTURES, list(PICTURES)[::-1], 20, seed=3) == plan
    assert draw_pairs(PICTURES, list(PICTURES), 20, seed=4) != plan


def test_a_protocol_is_kept_and_read(tmp_path):
    plan = draw_pairs(PICTURES, ["p1", "p2", "p3"], 7)
    save_pairs(tmp_path / "new" / "pairs.json", plan)
    assert load_pairs(tmp_path / "new" / "pairs.json") == plan


def test_impossible_protocols_get_a_sentence(tmp_path):
    with raises_user_error("too-few-people"):
        draw_pairs(PICTURES, ["p1"], 5)
    with raises_user_error("pairs-below-one"):
        draw_pairs(PICTURES, ["p1", "p2"], 0)
    with raises_user_error("pairs-unreadable", "none.json"):
        load_pairs(tmp_path / "none.json")
    (tmp_path / "x.json").write_text('{"seed": 0, "people": []}')
    with raises_user_error("pairs-invalid", "x.json"):
        load_pairs(tmp_path / "x.json")


def test_people_the_model_has_seen_are_not_judged():
    assert evaluated_fraction(None, 0.3) == 0.3
    assert evaluated_fraction(None, 0.0) == 0.12
    assert evaluated_fraction(0.1, 0.3) == 0.1
    with raises_user_error("trained-on-people", 0.5, 0.12):
        evaluated_fraction(0.5, 0.12)


def model(key, people=(), **card):
    """A model, as far as pairs look at it."""
    return SimpleNamespace(key=key, swapper=SimpleNamespace(model=SimpleNamespace(card=card), people=people))


def data_of(tmp_path, models=(), **options):
    """The pairs of a request on 20 people of two pictures each."""
    for number in range(40):
        path = tmp_path / f"data/person{number // 2:02d}/{number % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path)
    request = EvaluationRequest(tmp_path / "data", tmp_path / "out", **{"pairs": 40, **options})
    prepared = prepare_file if request.protocol.endswith(".json") else prepare
    return prepared(request, models, 8)


def people_of(data):
    return {name.partition("/")[0] for pair in data.pairs.pairs for name in (pair.source, pair.target)}


def test_people_whom_every_training_held_out_are_judged(tmp_path):
    data = data_of(tmp_path, [model("a", held_out=0.6), model("b", held_out=0.4)])
    assert data.training == Training.HELD_OUT
    assert people_of(data) == set(held_out([f"person{i:02d}" for i in range(20)], 0.4))


@pytest.mark.parametrize("options", [{}, {"held_out_fraction": 0.5}])
def test_a_training_that_held_nobody_out_is_refused(tmp_path, options):
    with raises_user_error("nobody-held-out", "'b'", "--people unseen"):
        data_of(tmp_path, [model("a", held_out=0.4), model("b", held_out=0.0)], **options)


def test_people_of_another_choice_are_refused(tmp_path):
    with raises_user_error("pairs-of-trained-on-people", "'a'"):
        data_of(tmp_path, [model("a", held_out=0.4)], held_out_seed=1)
    save_pairs(tmp_path / "pairs.json", data_of(tmp_path, people="unseen").pairs)
    again = {"protocol": str(tmp_path / "pairs.json")}
    with raises_user_error("pairs-of-trained-on-people", "'a'"):
        data_of(tmp_path, [model("a", held_out=0.4)], **again)
    with raises_user_error("nobody-held-out", "'a'"):
        data_of(tmp_path, [model("a", held_out=0.0)], **again)
    stated = data_of(tmp_path, [model("a", held_out=0.4)], people="unseen", **again)
    assert stated.training == Training.STATED_UNSEEN


@pytest.mark.parametrize(("people", "training"), [("unseen", Training.STATED_UNSEEN), ("any", Training.PERHAPS)])
@pytest.mark.parametrize("share", [0.0, 0.12])
def test_who_says_so_judges_everybody(tmp_path, people, training, share):
    data = data_of(tmp_path, [model("a", held_out=share)], people=people)
    assert data.training == training
    assert len(people_of(data)) == 20


@pytest.mark.parametrize("card", [{}, {"held_out": "many"}, {"held_out": float("nan")}, {"held_out": -3}])
def test_what_a_card_does_not_say_is_not_known(tmp_path, card):
    assert data_of(tmp_path, [model("a", **card)], held_out_fraction=1.0).training == Training.UNKNOWN
    assert data_of(tmp_path, [], held_out_fraction=1.0).training == Training.UNKNOWN


def test_another_word_for_people_is_refused(tmp_path):
    with raises_user_error("people-unknown", "mine"):
        check(EvaluationRequest(tmp_path, tmp_path, people="mine"))

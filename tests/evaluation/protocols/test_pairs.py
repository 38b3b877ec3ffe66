"""Pairs are drawn fairly, kept and read again."""

from simswap_jax.evaluation.protocols.pairs import draw_pairs, evaluated_fraction
from simswap_jax.evaluation.protocols.protocol import load_pairs, save_pairs
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

"""The sentences of a comparison on made numbers: shown, not shown here, not asked."""

import pytest

from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.yaw import ByYaw
from simswap_jax.evaluation.report.expectations import (
    NOT_ASKED,
    NOT_SHOWN,
    SHOWN,
    Evaluated,
    above_real,
    expectations,
)

METHODS = ("simswap", "faceshifter", "deepfakes", "ipgan", "warp_tps")


def about(mean, wide=0.01):
    return Estimate(mean, mean - wide, mean + wide)


def as_published():
    """Numbers as the papers claim."""
    rows = {
        "simswap": {"cosine_source": about(0.5), "pose_error": about(1.0), "leak_light": about(0.05)},
        "faceshifter": {"cosine_source": about(0.6), "pose_error": about(2.0), "leak_light": about(0.1)},
        "ipgan": {"cosine_source": about(0.3), "pose_error": about(0.5), "self_psnr": about(18.0)},
        "warp_tps": {"cosine_source": about(0.7), "pose_error": about(3.0), "leak_light": about(0.8)},
    }
    rows["simswap"] |= {"kept_gaze": about(0.8), "kept_mouth": about(0.9), "self_psnr": about(25.0)}
    rows["faceshifter"] |= {"kept_gaze": about(0.8), "kept_mouth": about(0.7)}
    bins = {"warp_tps": {"cosine_source": [about(0.8), None, about(0.4)]}}
    return rows, ByYaw([9, 0, 9], [5.0, float("nan"), 30.0], bins)


def held_out(rows, by_yaw=None, left_out=None):
    return Evaluated(rows, by_yaw, {"deepfakes": "draws only 4 people"} if left_out is None else left_out, 30)


def known(retrieval=0.9):
    return Evaluated({"deepfakes": {"retrieval": about(retrieval)}}, None, {}, 4)


def outcomes(*evaluated, methods=METHODS):
    return {one.claim: (one.outcome, one.first, one.second) for one in expectations(*evaluated, methods)}


def found(sentences, part):
    """The one sentence that has these words."""
    [one] = [value for claim, value in sentences.items() if part in claim]
    return one


def test_numbers_as_published_show_every_sentence():
    rows, by_yaw = as_published()
    said = outcomes(held_out(rows, by_yaw), known())
    assert [outcome for outcome, *_ in said.values()] == [SHOWN] * 8
    assert found(said, "DeepFakes finds")[1:] == (
        "ID retrieval 0.900 [0.890, 0.910]",
        "one of its 4 people at random 0.250",
    )
    assert found(said, "DeepFakes refuses")[1] == "left out, with the reason below"
    assert found(said, "IPGAN")[1:] == ("ipgan 18.00 [17.99, 18.01]", "simswap 25.00 [24.99, 25.01]")
    assert found(said, "(mouth)")[1:] == ("faceshifter 0.700 [0.690, 0.710]", "simswap 0.900 [0.890, 0.910]")
    assert found(said, "difference of yaw")[1].startswith("under 10° 0.800")
    assert found(said, "light")[1:] == ("warp_tps 0.800 [0.790, 0.810]", "faceshifter 0.100 [0.090, 0.110]")
    # IPGAN's pose is better, but not at SimSwap's identity.
    assert found(said, "pose")[1:] == ("simswap 1.00 [0.99, 1.01]", "faceshifter 2.00 [1.99, 2.01]")


@pytest.mark.parametrize(
    ("row", "metric", "value", "part"),
    [
        ("ipgan", "self_psnr", 25.005, "IPGAN"),  # intervals overlap
        ("ipgan", "self_psnr", 26.0, "IPGAN"),
        ("faceshifter", "cosine_source", 0.4, "FaceShifter's identity"),
        ("faceshifter", "kept_mouth", 0.9, "gaze or mouth"),
        ("warp_tps", "leak_light", 0.1, "light"),
        ("warp_tps", "pose_error", 0.9, "pose"),
    ],
)
def test_what_the_numbers_do_not_show_is_said_to_be_not_shown(row, metric, value, part):
    rows, by_yaw = as_published()
    rows[row][metric] = about(value)
    assert found(outcomes(held_out(rows, by_yaw), known()), part)[0] == NOT_SHOWN


def test_an_identity_at_simswaps_is_not_below_it():
    rows, by_yaw = as_published()
    for cosine, outcome in ((0.495, SHOWN), (0.485, NOT_SHOWN)):  # SimSwap's is 0.49 to 0.51
        rows["faceshifter"]["cosine_source"] = about(cosine)
        assert found(outcomes(held_out(rows, by_yaw), known()), "FaceShifter's identity")[0] == outcome


def test_a_simswap_without_identity_is_not_asked_about_it():
    rows, by_yaw = as_published()
    rows["target"] = {"cosine_source": about(0.495)}
    said = outcomes(held_out(rows, by_yaw), known())
    assert found(said, "FaceShifter's identity")[0] == found(said, "pose")[0] == NOT_ASKED
    rows["target"] = {"cosine_source": about(0.0)}
    assert found(outcomes(held_out(rows, by_yaw), known()), "pose")[0] == SHOWN


def test_deepfakes_at_chance_or_on_strangers_is_not_as_published():
    rows, by_yaw = as_published()
    said = outcomes(held_out(rows, by_yaw, {}), known(0.25))
    assert found(said, "DeepFakes finds")[0] == found(said, "DeepFakes refuses")[0] == NOT_SHOWN


def test_what_was_not_measured_or_has_no_rival_is_not_asked():
    rows, _ = as_published()
    for row in ("faceshifter", "warp_tps"):
        del rows[row]["cosine_source"]
    del rows["ipgan"]["self_psnr"]
    said = outcomes(held_out(rows), known())
    for part in ("IPGAN", "FaceShifter's identity", "difference of yaw", "pose"):
        assert found(said, part)[0] == NOT_ASKED
    assert found(said, "pose")[1] == "no other row has it"
    assert outcomes(held_out({}), known(), methods=()) == {}


def test_photos_without_known_answers_are_asked_for_the_expression_error():
    rows, _ = as_published()
    for row, error in (("simswap", 2.0), ("faceshifter", 3.0)):
        for metric in ("kept_gaze", "kept_mouth"):
            del rows[row][metric]
        rows[row]["expression_error"] = about(error)
    assert found(outcomes(held_out(rows), known()), "expression error") == (
        SHOWN,
        "simswap 2.00 [1.99, 2.01]",
        "faceshifter 3.00 [2.99, 3.01]",
    )


def test_rows_above_another_real_picture_are_named():
    rows, _ = as_published()
    rows["witness"] = {"cosine_source": about(0.65)}
    assert above_real(held_out(rows), METHODS) == ["warp_tps"]

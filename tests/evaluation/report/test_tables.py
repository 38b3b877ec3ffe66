"""The sentence above the tables says whose faces were swapped, and what flatters the model."""

import pytest

from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.protocols.protocol import Training
from simswap_jax.evaluation.report.tables import opening


def sentence(training, trained_with=(), **row):
    """The opening of a report on one model with 75 % retrieval among 20 people."""
    values = {"retrieval": 0.75, "nearer_source": 0.9, **row}
    summary = {
        "model": {name: Estimate(value, value, value) for name, value in values.items()},
        "shift": {"pose_error": Estimate(1.5, 1.4, 1.6)},
    }
    metrics = {
        "protocol": {"pairs": 40, "people": 10, "gallery_people": 20, "people_in_training": training.value},
        "judges": {"identity": {"name": "judge.onnx"}},
        "judge_is_training_network": list(trained_with),
    }
    return opening(metrics, summary, "model")


@pytest.mark.parametrize(
    ("training", "whose", "caution"),
    [
        (Training.HELD_OUT, "10 held-out identities", ""),
        (
            Training.STATED_UNSEEN,
            "10 identities",
            " That no training saw these people is what the request says (--people unseen).",
        ),
        (
            Training.PERHAPS,
            "10 identities",
            " The training may have seen these people (--people any), which flatters the model.",
        ),
        (Training.UNKNOWN, "10 identities", " Whether a training saw these people is not known."),
    ],
)
def test_the_opening_says_whether_the_training_saw_these_people(training, whose, caution):
    assert sentence(training) == (
        f"model on 40 swaps of {whose}: ID retrieval by judge.onnx 75.0% (top-1 of 20, chance 5.0%), "
        f"90.0% nearer to the source image than to the target.{caution}"
    )


def test_the_opening_names_the_noise_floor_of_pose_and_a_judge_that_flatters():
    said = sentence(Training.HELD_OUT, ["model", "other"], pose_error=2.25)
    assert "to the target, pose error 2.2° (noise floor 1.5°). This recogniser" in said
    assert said.endswith("the network that model, other was trained with, so it flatters the identity metrics.")

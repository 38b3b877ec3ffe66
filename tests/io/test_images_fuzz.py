"""Mutated picture files: a picture or a sentence, never a crash, never a hang."""

import pytest

from tests.support.fuzz import outcomes_of

SAMPLE, MANY = 200, 2500


def test_a_sample_of_mutated_pictures(tmp_path):
    outcomes = outcomes_of("picture_fuzz.py", 0, SAMPLE, tmp_path)
    assert outcomes["read"] + outcomes["refused"] == SAMPLE
    assert min(outcomes.values()) > SAMPLE / 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_mutated_pictures(tmp_path, seed):
    outcomes = outcomes_of("picture_fuzz.py", seed, MANY, tmp_path)
    assert min(outcomes.values()) > MANY / 10  # both happen often: the mutants are neither hopeless nor harmless

"""Mutated XMP: `doctor` says what it finds, or that it cannot read it; no crash, no hang, little memory."""

import pytest

from tests.support.fuzz import outcomes_of

pytest.importorskip("resource", reason="this system does not say how much memory a process took")

SAMPLE, MANY = 150, 2500


def test_a_sample_of_mutated_xmp(tmp_path):
    outcomes = outcomes_of("xmp_fuzz.py", 0, SAMPLE, tmp_path)
    assert outcomes["found"] + outcomes["none"] + outcomes["not readable"] == SAMPLE
    assert min(outcomes["found"], outcomes["none"]) > SAMPLE / 10
    assert outcomes["not readable"] > 0  # one of the large ones, at least


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_much_mutated_xmp(tmp_path, seed):
    outcomes = outcomes_of("xmp_fuzz.py", seed, MANY, tmp_path)
    assert min(outcomes["found"], outcomes["none"]) > MANY / 20
    assert outcomes["not readable"] > 0  # the large ones were there

"""Mutated descriptions of folders and mutated state dicts: read, or one sentence; no traceback, no hang."""

from pathlib import Path

import pytest

from tests.support.fuzz import outcomes_of

pytest.importorskip("resource", reason="this system does not count a process's time")

SAMPLE, MANY = 150, 5000
MOST = 300 << 20  # bytes more than before the first mutant
ROOT = Path(__file__).parents[2]
KINDS = ["model", "identity", "state_dict"]


def fuzz(kind, seed, count, folder):
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "SIMSWAP_JAX_WEIGHTS": str(folder)}
    outcomes = outcomes_of("folder_fuzz.py", kind, seed, count, folder, **environment)
    assert outcomes["read"] + outcomes["refused"] == count
    assert outcomes["bytes"] < MOST
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_mutants(tmp_path, kind):
    outcomes = fuzz(kind, 0, SAMPLE, tmp_path)
    assert outcomes["refused"] > SAMPLE / 3
    assert outcomes["read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutants(tmp_path, kind):
    outcomes = fuzz(kind, 1, MANY, tmp_path)
    assert outcomes["refused"] > MANY / 3
    assert outcomes["read"] > MANY / 100

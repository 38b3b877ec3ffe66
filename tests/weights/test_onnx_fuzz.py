"""Mutated ONNX files: an answer or a sentence; never a traceback, a hang, or much memory."""

import pytest

from tests.support.fuzz import outcomes_of

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
SAMPLE, MANY = 48, 2500  # mutants in `make test`; of each seed in `make test-all`
SECONDS = 5  # of the processor, for one file


def fuzz(seed, count, folder):
    found = outcomes_of("onnx_fuzz.py", seed, count, folder)
    assert sum(found["outcomes"].values()) == count
    assert found["seconds"] < SECONDS
    assert found["megabytes"] < 0
    return found["outcomes"]


def test_a_sample_of_mutated_networks(tmp_path):
    outcomes = fuzz(0, SAMPLE, tmp_path)
    assert SAMPLE / 10 < outcomes["answered"] < SAMPLE


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_mutated_networks(tmp_path, seed):
    outcomes = fuzz(seed, MANY, tmp_path)
    assert outcomes["answered"] > MANY / 20  # the mutants are neither hopeless
    refused = {code.removeprefix("refused onnx-") for code in outcomes if code.startswith("refused onnx-")}
    assert refused >= {"too-large", "external-data", "not-finite", "input-unsupported"}

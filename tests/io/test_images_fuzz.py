"""Mutated picture files: a picture or a sentence, never a crash, never a hang."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE, MANY = 200, 2500


def fuzz(seed, count, folder):
    program = Path(__file__).parents[1] / "support" / "picture_fuzz.py"
    done = subprocess.run(
        [sys.executable, program, str(seed), str(count), folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"seed {seed}, {folder / 'mutant.jpg'}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def test_a_sample_of_mutated_pictures(tmp_path):
    outcomes = fuzz(0, SAMPLE, tmp_path)
    assert outcomes["read"] + outcomes["refused"] == SAMPLE
    assert min(outcomes.values()) > SAMPLE / 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_mutated_pictures(tmp_path, seed):
    outcomes = fuzz(seed, MANY, tmp_path)
    assert min(outcomes.values()) > MANY / 10  # both happen often: the mutants are neither hopeless nor harmless

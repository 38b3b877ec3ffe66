"""Mutated XMP: `doctor` says what it finds, or that it cannot read it; no crash, no hang, little memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="this system does not say how much memory a process took")

SAMPLE, MANY = 150, 2500


def fuzz(seed, count, folder):
    program = Path(__file__).parents[1] / "support" / "xmp_fuzz.py"
    done = subprocess.run(
        [sys.executable, program, str(seed), str(count), folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"seed {seed}, {folder / 'mutant.bin'}: {done.returncode} {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def test_a_sample_of_mutated_xmp(tmp_path):
    outcomes = fuzz(0, SAMPLE, tmp_path)
    assert outcomes["found"] + outcomes["none"] + outcomes["not readable"] == SAMPLE
    assert min(outcomes["found"], outcomes["none"]) > SAMPLE / 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_much_mutated_xmp(tmp_path, seed):
    outcomes = fuzz(seed, MANY, tmp_path)
    assert min(outcomes["found"], outcomes["none"]) > MANY / 20
    assert outcomes["not readable"] > 0  # the large ones were there

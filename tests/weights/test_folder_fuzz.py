"""Mutated descriptions of folders and mutated state dicts: read, or one sentence; no traceback, no hang."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE, MANY = 150, 5000
MOST = 300 << 20  # bytes more than before the first mutant
ROOT = Path(__file__).parents[2]
KINDS = ["model", "identity", "state_dict"]


def fuzz(kind, seed, count, folder):
    command = [sys.executable, ROOT / "tests" / "support" / "folder_fuzz.py", kind, str(seed), str(count), folder]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "SIMSWAP_JAX_WEIGHTS": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{kind}, seed {seed}, {folder}: {done.stderr[-2000:]}"
    outcomes = json.loads(done.stdout.splitlines()[-1])
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

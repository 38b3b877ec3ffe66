"""Fuzzing in a process of its own, whose end, memory and time can be seen from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path


def outcomes_of(program, *words, **environment):
    """What ``tests/support/<program> WORDS`` prints last, as JSON; its failure is the test's.

    The last word is the folder of its mutants.
    """
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name(program), *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{program} {' '.join(map(str, words))}: {done.returncode} {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])

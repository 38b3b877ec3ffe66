"""The page under thousands of broken requests: it answers them with 4xx, and neither its log nor its memory grows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.page_attack import attack
from tests.support.small_model import write_small_model

pytest.importorskip("gradio", reason="gradio is not installed (extra `app`)")
pytestmark = pytest.mark.slow
REQUESTS = 2000


def memory(process):
    """MB that a process holds, or 0 where the system does not say."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.is_file() else None
    return int(found[1]) // 1024 if found else 0


def test_broken_requests(tmp_path):
    model = write_small_model(tmp_path / "rendered")
    (tmp_path / "files").mkdir()
    words = ["app", "--model", str(model), "--port", "0", "--max-upload", "1"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "simswap_jax.cli.main", *words],
            env={**os.environ, "TMPDIR": str(tmp_path / "files")},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        attack(address, 0, REQUESTS // 10)  # what is imported and compiled once
        before = memory(process)
        found = attack(address, 1, REQUESTS)
        grown = memory(process) - before
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert not any(status.startswith("5") for status in found), found
    assert found["hung"] == 0, found
    assert sum(count for status, count in found.items() if status.startswith("4")) > REQUESTS / 2
    assert found["200"] > REQUESTS / 20  # it went on working
    assert grown < 150, f"{grown} MB more"
    assert (tmp_path / "log").read_text() == ""
    lines = said.splitlines()
    assert lines[-1] == "The page is closed and its files are removed."
    assert "Traceback" not in said
    assert max(map(len, lines)) < 400
    assert len(lines) < REQUESTS / 10
    assert list((tmp_path / "files").glob("simswap_jax_app_*")) == []

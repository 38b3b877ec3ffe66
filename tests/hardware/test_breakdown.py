"""What a breakdown says, and what a comparison of two finds."""

import json

import pytest

from simswap_jax.hardware import breakdown
from simswap_jax.hardware.costs import Cost
from simswap_jax.training import chips
from tests.support.errors import raises_user_error

H100 = chips.chips()["h100"]


def cost(name, gigabytes, layer="jit(step)/G/up1/conv", kind="fusion"):
    return Cost(name, kind, f"{layer}/add", "models/simswap.py:65", round(gigabytes * 1e9), 0, 0)


COSTS = [
    *[cost(f"small{number}", 0.001) for number in range(30)],
    cost("large", 3.35, "jit(step)/G/up2/norm"),
    cost("copied", 0.335, "", "copy"),
]


def report(costs):
    """A report with what a comparison reads of it."""
    said = breakdown.breakdown(costs, H100)
    return {
        "breakdown": said,
        "bytes_moved_per_chip": said["bytes"],
        "memory_per_chip": {"total": 2**30},
        "upper_bound": {"images_per_second": 16 / said["seconds"], "mfu": 0.5},
    }


def test_the_most_expensive_come_first_and_sums_are_of_all():
    said = breakdown.breakdown(COSTS, H100)
    assert [row["name"] for row in said["largest"]][:2] == ["large", "copied"]
    assert len(said["largest"]) == breakdown.SHOWN
    assert said["operations"] == 32
    assert said["bytes"] == 3_715_000_000
    assert said["seconds"] == pytest.approx(3.715 / 3350)
    assert said["kinds"]["copy"] == {"count": 1, "bytes": 335_000_000, "flops": 0, "seconds": pytest.approx(1e-4)}
    assert next(iter(said["layers"])) == "jit(step)/G/up2/norm"
    assert said["layers"]["jit(step)/G/up1/conv"]["count"] == 30


def test_a_tpu_is_said_by_its_cycles():
    costs = [Cost("a", "fusion", "f", "", 10**9, 0, 1500), Cost("b", "fusion", "f", "", 1, 0, 3000)]
    said = breakdown.breakdown(costs, chips.chips()["v5e"])
    assert [row["name"] for row in said["largest"]] == ["b", "a"]
    assert said["seconds"] == pytest.approx(3e-6)


def test_the_table_names_the_line():
    lines = breakdown.table(breakdown.breakdown(COSTS, H100)).splitlines()
    (row,) = [line for line in lines if line.startswith("large ")]
    assert row.split() == ["large", "1.000", "3.350", "0", "models/simswap.py:65"]


def test_a_comparison_says_what_changed(tmp_path):
    path = tmp_path / "before.json"
    path.write_text(json.dumps(report(COSTS)))
    after = report([one for one in COSTS if one.name != "copied"] + [cost("new", 0.67, "jit(step)/G/up3/norm")])
    lines = breakdown.comparison(breakdown.load(str(path)), after).splitlines()
    rows = {line.split("  ")[0]: line.split() for line in lines if line}
    assert rows["bytes moved, GB"][-4:] == ["3.715", "4.050", "+9.0", "%"]
    assert rows["copy"] == ["copy", "0.100", "0.000", "0.335", "0.000"]
    assert rows["jit(step)/G/up3/norm"][1:] == ["0.000", "0.200", "0.000", "0.670"]
    assert "jit(step)/G/up2/norm" not in rows  # is as it was


def test_what_is_no_report_gets_a_sentence(tmp_path):
    path = tmp_path / "other.json"
    with raises_user_error("no-preflight-report", path.name):
        breakdown.load(str(path))
    path.write_text('{"breakdown": []}')
    with raises_user_error("no-preflight-report", path.name):
        breakdown.load(str(path))

"""Where a step's time goes: its most expensive operations, the lines that made them, and what a change did to them."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.hardware.costs import Cost
from simswap_jax.training.chips import Chip

SHOWN = 20
LAYER = 72  # characters of a layer's name that a table shows


def breakdown(costs: Iterable[Cost], chip: Chip) -> dict[str, Any]:
    """For JSON: ``largest`` operations, all by ``kinds`` and by ``layers``; bytes, FLOPs, seconds.

    Seconds are the compiler's cycles on a TPU, and on a GPU the longer of arithmetic and bytes of each operation.
    """
    found = sorted(costs, key=lambda cost: (cost.seconds(chip), cost.bytes), reverse=True)
    return {
        "seconds": sum(cost.seconds(chip) for cost in found),
        "bytes": sum(cost.bytes for cost in found),
        "operations": len(found),
        "largest": [
            {"name": cost.name, "kind": cost.kind, "layer": cost.asked_by, "line": cost.line, **_sums([cost], chip)}
            for cost in found[:SHOWN]
        ],
        "kinds": _grouped(found, chip, lambda cost: cost.kind),
        "layers": _grouped(found, chip, lambda cost: cost.scope),
    }


def _grouped(costs: Iterable[Cost], chip: Chip, key: Callable[[Cost], str]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(key(cost), []).append(cost)
    sums = {name: _sums(group, chip) for name, group in groups.items()}
    return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def _sums(costs: Iterable[Cost], chip: Chip) -> dict[str, float]:
    costs = list(costs)
    return {
        "count": len(costs),
        "bytes": sum(cost.bytes for cost in costs),
        "flops": sum(cost.flops for cost in costs),
        "seconds": sum(cost.seconds(chip) for cost in costs),
    }


def table(said: Mapping[str, Any]) -> str:
    """The breakdown as aligned lines."""
    lines = [f"{'kind':<36}{'count':>6}{'ms':>9}{'GB':>9}{'GFLOP':>9}"]
    lines += [f"{name:<36}{_numbers(sums)}" for name, sums in said["kinds"].items()]
    title = f"the {len(said['largest'])} most expensive operations"
    lines += ["", f"{title:<42}{'ms':>9}{'GB':>9}{'GFLOP':>9}"]
    for row in said["largest"]:
        lines.append(f"{row['name'][:41]:<42}{_numbers(row)[6:]}  {row['line'] or '(the compiler)'}")
        lines.append(f"    {row['layer'] or row['kind']}")
    return "\n".join(lines)


def _numbers(sums: Mapping[str, float]) -> str:
    milliseconds, giga, work = 1e3 * sums["seconds"], sums["bytes"] / 1e9, sums["flops"] / 1e9
    return f"{sums['count']:>6}{milliseconds:>9.3f}{giga:>9.3f}{work:>9.0f}"


def load(path: str) -> dict[str, Any]:
    """What ``preflight --json`` printed before, to compare with.

    Raises:
      UserError: the file is missing or not that.
    """
    try:
        said = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("breakdown"), dict) or "upper_bound" not in said:
        raise UserError(
            f"{path} is no report to compare with; write one with simswap-jax preflight … --json > FILE.json.",
            "no-preflight-report",
        )
    return said


def comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What a change did, as aligned lines: the whole step, then each kind and the layers that changed most.

    Args:
      before, after: reports as JSON.
    """
    rows = [
        ("operations", *(each["breakdown"]["operations"] for each in (before, after)), "{:.0f}"),
        ("bytes moved, GB", *(each["bytes_moved_per_chip"] / 1e9 for each in (before, after)), "{:.3f}"),
        ("operations one by one, ms", *(1e3 * each["breakdown"]["seconds"] for each in (before, after)), "{:.3f}"),
        ("memory, GiB", *(each["memory_per_chip"]["total"] / 2**30 for each in (before, after)), "{:.3f}"),
        ("bound, images/s", *(each["upper_bound"]["images_per_second"] for each in (before, after)), "{:.0f}"),
        ("bound, % MFU", *(100 * each["upper_bound"]["mfu"] for each in (before, after)), "{:.1f}"),
    ]
    lines = [f"{'compared':<36}{'before':>11}{'after':>11}{'change':>9}"]
    for name, old, new, form in rows:
        change = f"{100 * (new / old - 1):+.1f} %" if old else "new"
        lines.append(f"{name:<36}{form.format(old):>11}{form.format(new):>11}{change:>9}")
    for title, groups in (("kind", "kinds"), ("layer", "layers")):
        lines += ["", f"{title:<{LAYER}}{'ms before':>11}{'after':>9}{'GB before':>11}{'after':>9}"]
        lines += _changes(before["breakdown"][groups], after["breakdown"][groups])
    return "\n".join(lines)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    nothing = {"seconds": 0.0, "bytes": 0}
    pairs = {name: (before.get(name, nothing), after.get(name, nothing)) for name in {**before, **after}}
    changed = {name: pair for name, pair in pairs.items() if any(pair[0][of] != pair[1][of] for of in nothing)}
    order = sorted(changed, key=lambda name: -abs(changed[name][1]["seconds"] - changed[name][0]["seconds"]))
    lines = []
    for name in order[:SHOWN]:
        old, new = changed[name]
        shown = name if len(name) < LAYER else "…" + name[2 - LAYER :]
        times = f"{1e3 * old['seconds']:>11.3f}{1e3 * new['seconds']:>9.3f}"
        lines.append(f"{shown:<{LAYER}}{times}{old['bytes'] / 1e9:>11.3f}{new['bytes'] / 1e9:>9.3f}")
    return lines or ["nothing changed"]

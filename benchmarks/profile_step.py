"""Profile a few training steps: which operations take the time, by JAX's profiler.

    python benchmarks/profile_step.py --device gpu --dtype bfloat16 --batch 32 --output FOLDER

The networks, batch and losses are those of train_step.py. FOLDER gets the trace (for the viewers of TensorBoard and
Perfetto) and profile.json: milliseconds and calls of the operations that took longest.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
from train_step import batch_of, method_of, problem_arguments

from simswap_jax.io.atomic import write_text
from simswap_jax.training.runner import Runner

SHOWN = 20
STEPS = 3
LINES = ("XLA Ops", "Stream", "tf_XLAPjRtCpuClient", "tf_XLAEigen", "tf_XLATfrtCpuClient")  # what runs, not what asks


def largest(trace: Path) -> list[dict[str, Any]]:
    """Name, calls and milliseconds of the operations of a trace, the longest first."""
    calls: dict[str, list[float]] = defaultdict(list)
    for path in sorted(trace.rglob("*.xplane.pb")):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                if not line.name.startswith(LINES):
                    continue
                for event in line.events:
                    calls[event.name].append(event.duration_ns / 1e6)
    rows = [{"name": name, "count": len(each), "milliseconds": sum(each)} for name, each in calls.items()]
    return sorted(rows, key=lambda row: -row["milliseconds"])


def main() -> None:
    """Compile, run one step, trace some."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    problem_arguments(made, device="gpu", dtype="bfloat16", batch=32)
    made.add_argument("--output", type=Path, required=True)
    asked = made.parse_args()
    method = method_of(asked)
    runner = Runner(method, asked.batch, devices=1)
    state = runner.init(jax.random.PRNGKey(0))
    batch = runner.shard_batch(batch_of(asked, method.config))
    state, metrics = runner.step(state, batch)
    jax.block_until_ready(metrics)
    with jax.profiler.trace(str(asked.output)):
        for _ in range(STEPS):
            state, metrics = runner.step(state, batch)
        jax.block_until_ready((state, metrics))
    rows = largest(asked.output)
    said = {"steps": STEPS, "milliseconds": sum(row["milliseconds"] for row in rows), "largest": rows[:SHOWN]}
    write_text(asked.output / "profile.json", json.dumps(said, indent=1) + "\n")
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()

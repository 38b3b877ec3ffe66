"""Operations of the training step, counted by a process of its own: devices are settled before JAX starts.

`python -m tests.snapshots.step lowered` prints them as JSON: of the paper's step at 224 pixels, lowered for eight
devices that share a batch (StableHLO, before any compiler). `… compiled` prints the collectives of the tests' small
step, compiled for eight CPU devices.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("step_224.json")
DEVICES = 8
IDENTITY = "arcface18"  # the recogniser's depth changes how often its block is counted, nothing else

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_OPERATION = re.compile(r"\bstablehlo\.(\w+)")
_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_ARRAY = re.compile(r"(?:f|s|u|bf)(\d+)\[([\d,]*)\]")


def counted(way: str) -> dict:
    """Counts of one way, from a fresh process with eight devices."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(DEVICES), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.snapshots.step", way]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def stored() -> dict:
    """The snapshot."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def as_text(counts: dict) -> str:
    """The snapshot file's text: a line a count."""
    return json.dumps(counts, indent=1, sort_keys=True) + "\n"


def real_step():
    """(the paper's 224 step jitted for eight devices, its arguments as shapes).

    The one place that knows how the package builds a step: adapt it when that changes.
    """
    import jax
    import ml_collections

    from simswap_jax.experiments.simswap_224 import get_config
    from simswap_jax.hardware import preflight
    from simswap_jax.training import runner, sharding, simswap

    config: ml_collections.ConfigDict = get_config()
    config.batch_size = 2 * DEVICES
    method = simswap.from_networks(config, preflight.identity_network(config, IDENTITY))
    mesh = sharding.mesh_of(jax.devices(), 1)
    step = runner.jitted_step(method, mesh, sharding.state_shardings(method, mesh))
    state = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    return step, (state, preflight.batch_shapes(method), method.frozen)


def small_step():
    """(the tests' small step jitted for eight devices, its arguments): see ``real_step``."""
    import jax

    from simswap_jax.training import runner, sharding
    from tests.support.small_method import small_batch, small_config, small_method

    config = small_config()
    method = small_method(config)
    mesh = sharding.mesh_of(jax.devices(), 1)
    step = runner.jitted_step(method, mesh, sharding.state_shardings(method, mesh))
    return step, (jax.eval_shape(method.init, jax.random.PRNGKey(0)), small_batch(0), method.frozen)


def operations(text: str) -> dict[str, int]:
    """How many operations of each kind a StableHLO program holds, as written (a shared function once)."""
    return dict(sorted(Counter(_OPERATION.findall(text)).items()))


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Of a compiled program: by kind, how many collectives and the bytes of their results on one device."""
    found: dict[str, dict[str, int]] = {}
    for result, kind in _COLLECTIVE.findall(text):
        row = found.setdefault(kind, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += sum(size(bits, lengths) for bits, lengths in _ARRAY.findall(result))
    return found


def size(bits: str, lengths: str) -> int:
    """Bytes of an array as HLO writes its type."""
    total = int(bits) // 8
    for length in lengths.split(","):
        total *= int(length or 1)
    return total


def turned_results(text: str) -> int:
    """How many results of convolutions a StableHLO program turns round; kernels may be."""
    made = set(re.findall(r"(%\S+) = stablehlo\.convolution", text))
    return sum(name in made for name in re.findall(r"stablehlo\.reverse (%[^\s,]+)", text))


def lowered() -> dict:
    """Of the paper's step."""
    step, arguments = real_step()
    text = step.lower(*arguments).as_text()
    return {"operations": operations(text), "results of convolutions turned round": turned_results(text)}


def compiled() -> dict:
    """Of the small step."""
    step, arguments = small_step()
    return {"collectives": collectives(step.lower(*arguments).compile().as_text())}


WAYS = {"lowered": lowered, "compiled": compiled}


def main(way: str) -> dict:
    """The counts of one way, in this process."""
    import jax

    assert len(jax.devices()) == DEVICES, jax.devices()
    return {"jax": jax.__version__, **WAYS[way]()}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))

"""Runs the same few steps in several ways in float64 and writes what came of each; started by test_parallel.py.

A process of its own: the number of devices, float64 and what `jnp.float32` means are settled before JAX starts.
"""

import json
import sys

import jax
import jax.numpy as jnp

# The networks compute in float32 by name; here the name means float64. In float32 Adam turns rounding noise into full
# steps, so that a comparison would tell nothing.
jnp.float32 = jnp.float64

import numpy as np  # noqa: E402
from small_method import small_batch, small_config, small_method  # noqa: E402

from simswap_jax.training import parallel  # noqa: E402

STEPS = 2
LARGE = 256  # bytes: small networks have no arrays of 4 MB


def in_float64(method):
    """The method, whose networks refuse float64 where they are made."""
    for network in (method.generator, method.discriminator, method.identity.network):
        object.__setattr__(network.config, "dtype", "float64")
    return method


def trained(runner, steps=STEPS):
    """(leaves of the state, metrics of every step), as NumPy."""
    state = runner.init(jax.random.PRNGKey(0))
    told = []
    for step in range(steps):
        batch = small_batch(step)
        placed = runner.place(batch)
        if step == 0:
            for name, array in runner.fetch(placed).items():
                np.testing.assert_array_equal(array, batch[name])
        state, metrics = runner.step(state, placed)
        told.append(jax.device_get(metrics))
    return named(state), told


def named(state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def way(name, changes):
    """A runner of the small method."""
    # Biases before a norm have no gradient, and of its rounding noise Adam makes steps: short ones keep that small.
    rates = {"optimizer.learning_rate": 1e-4, "optimizer.discriminator_learning_rate": 1e-4}
    config = small_config(parallel="pmap" if name == "pmap" else "jit", **rates, **changes)
    method = in_float64(small_method(config, parallel.axis_name(config)))
    if name == "pmap":
        return parallel.runner(config, method)
    devices, fsdp = {"one": (1, 1), "jit": (8, 1), "fsdp": (8, 4)}[name]
    return parallel.Runner(method, config.batch_size, devices, fsdp, config.accumulate, LARGE)


def compare(names, **changes):
    """Largest differences from the first way: of the state's leaves, and of the metrics relative to their size."""
    said = {}
    expected = None
    for name in names:
        runner = way(name, changes)
        leaves, told = trained(runner)
        if name == "fsdp":
            said["split"] = sum(not leaf.sharding.is_fully_replicated for leaf in leaves.values())
        leaves = jax.device_get(leaves)
        if expected is None:
            expected = leaves, told
            said["types"] = sorted({str(leaf.dtype) for leaf in leaves.values()})
            said["metrics"] = sorted(told[0])
            start = jax.device_get(named(runner.init(jax.random.PRNGKey(0))))
            said["moved"] = min(
                float(np.max(np.abs(leaf - start[key])))
                for key, leaf in leaves.items()
                if "].params[" in key and "kernel" in key
            )
            continue
        assert leaves.keys() == expected[0].keys()
        worst = {key: float(np.max(np.abs(leaf - expected[0][key]))) for key, leaf in leaves.items()}
        apart = [
            abs(float(row[key]) - float(value)) / max(abs(float(value)), 1e-3)
            for row, first in zip(told, expected[1], strict=True)
            for key, value in first.items()
        ]
        key = max(worst, key=worst.get)
        said[name] = {"state": worst[key], "where": key, "metrics": max(apart)}
    return said


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1:])))

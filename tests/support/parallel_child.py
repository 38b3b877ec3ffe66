"""Runs the same ten steps in several ways in float64 and writes what came of each; started by test_parallel.py.

A process of its own: the number of devices, float64 and what `jnp.float32` means are settled before JAX starts.
Where it is one of two processes, it compares with what a single one left in the folder.

arguments: FOLDER SCALES (of the discriminators; or the name of another method, whose first step is compared) WAY (of
two processes: jit or fsdp; of one: "jit,fsdp,pmap", or without jit)
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp

# The networks compute in float32 by name; here the name means float64. In float32 Adam turns rounding noise into full
# steps, so that only one step's gradients can be compared.
IN_FLOAT64 = jax.config.jax_enable_x64
if IN_FLOAT64:
    jnp.float32 = jnp.float64

import numpy as np  # noqa: E402

from simswap_jax.models import config as models  # noqa: E402
from simswap_jax.training import distributed  # noqa: E402
from simswap_jax.training import runner as runners  # noqa: E402
from simswap_jax.training.checkpoints import Checkpoints  # noqa: E402
from simswap_jax.training.config import default_config  # noqa: E402
from tests.support.small_method import small_batch, small_config, small_method  # noqa: E402

STEPS = 10
SAVED = 8  # the step that FSDP saves and others go on from
KIND = sys.argv[2] if not sys.argv[2].isdigit() else "simswap"  # the method
LARGE = 256  # bytes: small networks have no arrays of 4 MB


def in_float64(method):
    """The method, whose networks refuse float64 where they are made; a network within one is made of it later."""
    models.DTYPES = (*models.DTYPES, "float64")
    networks = [method.generator]
    if hasattr(method, "discriminator"):
        networks.append(method.discriminator)
    if hasattr(method, "identity"):
        networks.append(method.identity.network)
    for network in filter(None, networks):
        object.__setattr__(network.config, "dtype", "float64")
    return method


def trained(runner, state=None, start=0, folder=None):
    """(leaves of the state, metrics of every step) at the end, as NumPy; saves on the way if there is a folder."""
    state = runner.init(jax.random.PRNGKey(0)) if state is None else state
    told, live, compiled = [], [], 0
    for step in range(start, STEPS):
        batch = own_part(small_batch(step, method=KIND))
        placed = runner.shard_batch(batch)
        if step == start:
            for name, array in placed.items():
                np.testing.assert_array_equal(local_part(array).reshape(batch[name].shape), batch[name])
        before = jax.tree.leaves(state)
        with jax.transfer_guard("disallow"):
            state, metrics = runner.step(state, placed)
        compiled = runner.compiled if step == start else compiled
        told.append(jax.device_get(metrics))
        assert all(leaf.is_deleted() for leaf in before), "the state was not donated"
        live.append(sum(array.nbytes for array in jax.live_arrays()))
        if folder is not None and step + 1 == SAVED:
            checkpoints = Checkpoints(folder, 1)
            checkpoints.save(state, {"step": SAVED})
            checkpoints.close()
    assert runner.compiled == compiled <= 1, "the step was compiled again"
    assert live[-1] <= live[0], f"arrays are left over: {live}"
    return named(state), told


def local_part(array):
    """What the devices of this process hold, in order."""
    pieces = sorted(array.addressable_shards, key=lambda piece: piece.index[0].start or 0)
    return np.concatenate([np.asarray(piece.data) for piece in pieces])


def own_part(batch):
    """This process's samples."""
    count = 16 // jax.process_count()
    return {name: array[jax.process_index() * count :][:count] for name, array in batch.items()}


def resumed(runner, folder):
    """As ``trained``, from the checkpoint that FSDP left."""
    checkpoints = Checkpoints(folder, 1)
    state, position = checkpoints.restore(runner.abstract(jax.random.PRNGKey(0)))
    checkpoints.close()
    assert position == {"step": SAVED}
    return trained(runner, state, SAVED)


def named(state):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def way(name, scales):
    """A runner of the small method; ``scales`` as of the arguments."""
    # Biases before a norm have no gradient, and of its rounding noise Adam makes steps: short ones keep that small.
    rates = {"optimizer.learning_rate": 1e-4, "optimizer.discriminator_learning_rate": 1e-4}
    config = small_config(KIND, parallel="pmap" if name == "pmap" else "jit", **rates)
    method = small_method(config, runners.axis_name(config), int(scales) if scales.isdigit() else 1)
    if IN_FLOAT64:
        method = in_float64(method)
    if name == "pmap":
        return runners.build(config, method)
    devices, fsdp = {"one": (1, 1), "jit": (8, 1), "fsdp": (8, 4)}[name]
    return runners.Runner(method, config.batch_size, devices, fsdp, config.accumulate, LARGE)


def whole(runner, leaves):
    """Arrays as NumPy, gathered over devices and processes."""
    return jax.device_get(runner.gather(leaves))


def apart(leaves, told, expected):
    """Largest differences: of the state's leaves, and of the last metrics relative to their size."""
    of_state, of_steps = expected
    assert leaves.keys() == of_state.keys()
    worst = {key: float(np.max(np.abs(leaf - of_state[key]))) for key, leaf in leaves.items()}
    off = [
        abs(float(row[key]) - float(value)) / max(abs(float(value)), 1e-3)
        for row, first in zip(told, of_steps[-len(told) :], strict=True)
        for key, value in first.items()
    ]
    key = max(worst, key=worst.get)
    return {"state": worst[key], "where": key, "metrics": max(off), "steps": len(told)}


def compare(folder, scales, ways):
    """How far jit, FSDP, pmap and what they go on with from FSDP's checkpoint are from one device."""
    said, runners, expected = {}, {}, ({}, [])
    for name in ("one", *ways):
        runner = runners[name] = way(name, scales)
        leaves, told = trained(runner, folder=folder if name == "fsdp" else None)
        if name == "fsdp":
            said["split"] = sum(not leaf.sharding.is_fully_replicated for leaf in leaves.values())
        leaves = whole(runner, leaves)
        if name != "one":
            said[name] = apart(leaves, told, expected)
            continue
        expected = leaves, told
        np.savez(folder / "one.npz", **leaves)
        (folder / "one.json").write_text(json.dumps([{key: float(x) for key, x in row.items()} for row in told]))
        said["types"] = sorted({str(leaf.dtype) for leaf in leaves.values()})
        said["metrics"] = sorted(told[0])
        start = jax.device_get(named(runner.init(jax.random.PRNGKey(0))))
        said["moved"] = min(
            float(np.max(np.abs(leaf - start[key])))
            for key, leaf in leaves.items()
            if "].params[" in key and "kernel" in key
        )
    for name in ("one", "pmap"):
        leaves, told = resumed(runners[name], folder)
        said[f"{name} resumed"] = apart(whole(runners[name], leaves), told, expected)
    return said


def compare_processes(folder, scales, way_of_two):
    """The same for two processes, against what a single one left in the folder."""
    with np.load(folder / "one.npz") as stored:
        expected = dict(stored), json.loads((folder / "one.json").read_text())
    runner = way(way_of_two, scales)
    said = {"processes": jax.process_count(), "devices": jax.local_device_count()}
    leaves, told = trained(runner)
    said["trained"] = apart(whole(runner, leaves), told, expected)
    leaves, told = resumed(runner, folder)
    said["resumed"] = apart(whole(runner, leaves), told, expected)
    return said


def gradients(runner):
    """Of the first step, by name. Adam keeps 1 − β1 of them as its first moment."""
    state, _ = runner.step(
        runner.init(jax.random.PRNGKey(0)), runner.shard_batch(own_part(small_batch(0, method=KIND)))
    )
    kept = {key: leaf for key, leaf in named(state).items() if ".mu[" in key}
    assert kept
    return whole(runner, kept)


def off(found, expected):
    """Largest difference of gradients, as a share of what is allowed: 1e-4 of a tensor's largest value and a floor.

    A bias before a batch norm has no gradient but rounding noise: up to 7e-6 where the largest gradient is 4.3.
    """
    assert found.keys() == expected.keys()
    return {
        "gradients": max(
            float(np.max(np.abs(leaf - expected[key])) / (1e-4 * np.max(np.abs(expected[key])) + 1e-5))
            for key, leaf in found.items()
        )
    }


def compare_gradients(folder, scales):
    """One step in float32: each way's gradients beside those of one device."""
    expected = gradients(way("one", scales))
    np.savez(folder / "gradients.npz", **expected)
    size = max(float(np.max(np.abs(leaf))) for leaf in expected.values())
    return {"size": size} | {name: off(gradients(way(name, scales)), expected) for name in ("jit", "fsdp", "pmap")}


if __name__ == "__main__":
    distributed.initialize(default_config().processes)
    if not IN_FLOAT64 or KIND != "simswap":
        into, scales = Path(sys.argv[1]), sys.argv[2]
        if distributed.is_multiprocess():
            with np.load(into / "gradients.npz") as stored:
                print(json.dumps(off(gradients(way(sys.argv[3], scales)), dict(stored))))
        else:
            print(json.dumps(compare_gradients(into, scales)))
    elif distributed.is_multiprocess():
        print(json.dumps(compare_processes(Path(sys.argv[1]), sys.argv[2], sys.argv[3])))
    else:
        print(json.dumps(compare(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","))))

"""One step, several ways to run it: the same numbers from one device, jit over eight, FSDP and pmap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.training import parallel
from simswap_jax.training.draws import drawn

CHILD = Path(__file__).with_name("parallel_child.py")


@pytest.fixture(scope="module")
def compared():
    """What parallel_child.py tells of eight virtual devices, in float64."""
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_ENABLE_X64": "1",
        # The numbers of float64 do not need the compiler's optimisations, and they are half of the time.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    done = subprocess.run(
        [sys.executable, str(CHILD), "one", "jit", "fsdp", "pmap"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["jit", "fsdp", "pmap"])
def test_eight_devices_give_what_one_gives(compared, way):
    """Parameters, statistics, optimisers and average within 1e-9; every metric of every step within 1e-10."""
    assert compared[way]["state"] < 1e-9, compared[way]
    assert compared[way]["metrics"] < 1e-10, compared[way]


def test_the_comparison_is_of_float64_with_penalty_and_average(compared):
    assert set(compared["types"]) == {"float64", "int32", "uint32"}
    assert "gradient_penalty" in compared["metrics"]
    assert compared["moved"] > 5e-5


def test_fsdp_splits_the_state(compared):
    assert compared["split"] > 10


@pytest.mark.parametrize(
    ("shape", "parts", "expected"),
    [
        ((3, 3, 512, 512), 8, PartitionSpec(None, None, None, "fsdp")),  # the last of equal axes
        ((3, 3, 1024, 512), 8, PartitionSpec(None, None, "fsdp", None)),
        ((3, 3, 515, 512), 8, PartitionSpec(None, None, None, "fsdp")),  # 515 does not divide
        ((1025, 1027), 8, PartitionSpec()),  # nothing divides
        ((512,), 8, PartitionSpec()),  # small
        ((3, 3, 512, 512), 1, PartitionSpec()),
    ],
)
def test_the_largest_axis_of_a_large_array_is_split(shape, parts, expected):
    assert parallel.split_axis(shape, 4, parts) == expected


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"devices": 7}, "config.devices is 7, but this machine has 6"),
        ({"fsdp": 8}, "config.fsdp is 8, a mesh larger than the 6 devices"),
        ({"fsdp": 4}, "config.fsdp is 4, which does not divide 6 devices; use 2, or set config.devices to 4"),
        ({}, "config.batch_size 16 does not divide by 6 devices; use 12"),
        ({"devices": 4, "accumulate": 3}, "4 devices × 3 micro-batches; use 12"),
    ],
)
def test_a_mesh_that_cannot_be_is_one_sentence(monkeypatch, wanted, said):
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 6)
    with pytest.raises(UserError, match=said):
        parallel.make_mesh(16, **wanted)


def test_devices_that_share_a_batch_draw_what_one_draws():
    key = jax.random.PRNGKey(1)
    whole = drawn(jax.random.uniform, key, (12, 1, 1), None)
    parts = jax.vmap(lambda _: drawn(jax.random.uniform, key, (3, 1, 1), "i"), axis_name="i")(np.arange(4))
    np.testing.assert_array_equal(parts.reshape(12, 1, 1), whole)

"""One step, several ways to run it: the same numbers from one device, jit over eight, FSDP, pmap and two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from jax.sharding import PartitionSpec

from simswap_jax.training import sharding
from tests.support.errors import raises_user_error

CHILD = Path(__file__).parents[1] / "support" / "parallel_child.py"


def together(commands, environments):
    """The last lines of programs that run at the same time, read as JSON."""
    running = [
        subprocess.Popen(command, env=added, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command, added in zip(commands, environments, strict=True)
    ]
    said = [process.communicate(timeout=900) for process in running]
    for process, (_, errors) in zip(running, said, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(output.splitlines()[-1]) for output, _ in said]


def environment(devices, **more):
    return os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_X64": "1",
        # The numbers of float64 do not need the compiler's optimisations, and they are half of the time.
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        **more,
    }


def one_process(folder, scales, ways="jit,fsdp,pmap", **more):
    """What parallel_child.py tells of one process with eight virtual devices, in float64; leaves its numbers."""
    return together([[sys.executable, str(CHILD), str(folder), str(scales), ways]], [environment(8, **more)])[0]


def two_processes(folder, scales, way, **more):
    """The same of two processes with four each, that meet through jax.distributed; one answer of each."""
    with socket.socket() as made:
        made.bind(("localhost", 0))
        where = f"localhost:{made.getsockname()[1]}"
    meeting = {"JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": where, **more}
    return together(
        [[sys.executable, str(CHILD), str(folder), str(scales), way]] * 2,
        [environment(4, **meeting, JAX_PROCESS_ID=str(index)) for index in range(2)],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def compared(folder):
    """Without plain jit, of which FSDP is the harder case: a quarter of the time."""
    return one_process(folder, 1, "fsdp,pmap")


def agree(said):
    """Parameters, statistics, optimisers and average within 1e-9; every metric of every step within 1e-10."""
    assert said["state"] < 1e-9, said
    assert said["metrics"] < 1e-10, said


@pytest.mark.parametrize("way", ["fsdp", "pmap"])
def test_eight_devices_give_what_one_gives(compared, way):
    agree(compared[way])
    assert compared[way]["steps"] == 10


@pytest.mark.parametrize("way", ["one", "pmap"])
def test_a_checkpoint_of_fsdp_goes_on_elsewhere_with_the_same_losses(compared, way):
    agree(compared[f"{way} resumed"])
    assert compared[f"{way} resumed"]["steps"] == 2


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_go_on_from_its_checkpoint(compared, folder):
    for said in two_processes(folder, 1, "fsdp"):
        assert (said["processes"], said["devices"]) == (2, 4)
        agree(said["trained"])
        agree(said["resumed"])
        assert (said["trained"]["steps"], said["resumed"]["steps"]) == (10, 2)


@pytest.mark.slow
def test_gradients_agree_in_float32(tmp_path):
    in_float32 = {"JAX_ENABLE_X64": "0"}
    said = one_process(tmp_path, 2, **in_float32)
    assert said["size"] > 0.01
    for name in ("jit", "fsdp", "pmap"):
        assert said[name]["gradients"] < 1, said
    for of_process in two_processes(tmp_path, 2, "jit", **in_float32):
        assert of_process["gradients"] < 1


@pytest.mark.slow
def test_discriminators_of_two_scales_agree_as_well(tmp_path):
    said = one_process(tmp_path, 2)
    for name in ("jit", "fsdp", "pmap", "one resumed", "pmap resumed"):
        agree(said[name])
    for of_process in two_processes(tmp_path, 2, "jit"):
        agree(of_process["trained"])
        agree(of_process["resumed"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["faceshifter", "faceshifter_hear", "deepfakes", "fsgan", "ipgan"])
def test_a_step_of_other_methods_agrees_as_well(tmp_path, method):
    """In float64, where a ten-thousandth of what is allowed in float32 must do."""
    said = one_process(tmp_path, method)
    assert said["size"] > 1e-5
    for name in ("jit", "fsdp", "pmap"):
        assert said[name]["gradients"] < 1e-4, said


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
    assert sharding.split_axis(shape, 4, parts) == expected


def test_a_mesh_holds_the_devices_of_a_process_together_whatever_their_torus(monkeypatch):
    """Four hosts of a TPU v4 2×2×4, whose devices come in another order than their processes'."""
    devices = [SimpleNamespace(process_index=i % 4, id=i // 4 + 4 * (i % 4)) for i in range(16)]
    monkeypatch.setattr(sharding, "Mesh", lambda array, names, axis_types: array)
    whole = sharding.mesh_of(devices, fsdp=2)
    assert whole.shape == (8, 2)
    assert [device.id for device in whole.flat] == list(range(16))
    assert [device.process_index for device in whole.flat] == sorted(4 * [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("wanted", "code", "named"),
    [
        ({"devices": 7}, "devices-too-many", [7, 6]),
        ({"fsdp": 8}, "fsdp-larger-than-devices", [8, 6]),
        ({"fsdp": 4}, "fsdp-does-not-divide", ["6 devices", "use 2", "config.devices to 4"]),
        ({}, "batch-does-not-divide", [16, "6 devices", "use 12"]),
        ({"devices": 4, "accumulate": 3}, "batch-does-not-divide", ["4 devices × 3 micro-batches", "use 12"]),
    ],
)
def test_a_mesh_that_cannot_be_is_one_sentence(monkeypatch, wanted, code, named):
    monkeypatch.setattr(jax, "devices", lambda: [object()] * 6)
    with raises_user_error(code, *named):
        sharding.make_mesh(16, **wanted)

"""How arrays lie on devices: the mesh, the shardings of batches and of the state (FSDP), what XLA is told of it.

The mesh has two axes. A batch is shared over both; large arrays of the state are split over ``fsdp`` alone.
"""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.training.method import Method
from simswap_jax.training.state import PyTree

DATA, FSDP = "data", "fsdp"
LARGE = 4 * 2**20  # bytes; smaller arrays cost more to gather than they take up


def use_cpu_cores(batch_size: int) -> None:
    """Let a CPU's cores share the batch as devices do; call it before JAX makes its first array.

    XLA's CPU back end runs many small operations on one thread. Does nothing where JAX has started, where
    ``JAX_NUM_CPU_DEVICES`` says how many, or where the devices are not CPUs.

    Args:
      batch_size: is divided by the number of devices.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = os.cpu_count() or 1
    with suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if batch_size % n == 0))


def make_mesh(batch_size: int, devices: int = 0, fsdp: int = 1, accumulate: int = 1) -> Mesh:
    """The mesh that shares a batch: axes ``data`` and ``fsdp``.

    Args:
      batch_size: of the whole batch, over all hosts.
      devices: how many devices share it; 0 takes all, of all hosts.
      fsdp: size of the second axis.
      accumulate: micro-batches, each of which is shared over the devices.

    Raises:
      UserError: more devices are asked for than there are, or something does not divide.
    """
    here = jax.devices()
    count = devices or len(here)
    if count > len(here):
        raise UserError(
            f"config.devices is {count}, but this machine has {len(here)}; set it to {len(here)} or to 0 (all).",
            "devices-too-many",
        )
    if jax.process_count() > 1 and count < len(here):
        raise UserError(
            f"config.devices is {count}, but {jax.process_count()} processes train together on all their "
            f"{len(here)} devices; set it to 0.",
            "devices-of-several-processes",
        )
    if fsdp > count:
        raise UserError(
            f"config.fsdp is {fsdp}, a mesh larger than the {count} devices here; set it to {count} or less.",
            "fsdp-larger-than-devices",
        )
    if count % fsdp:
        raise UserError(
            f"config.fsdp is {fsdp}, which does not divide {count} devices; use {math.gcd(fsdp, count)}, "
            f"or set config.devices to {count - count % fsdp}.",
            "fsdp-does-not-divide",
        )
    parts = count * accumulate
    if batch_size % parts:
        among = f"{count} devices" if accumulate == 1 else f"{count} devices × {accumulate} micro-batches"
        raise UserError(
            f"config.batch_size {batch_size} does not divide by {among}; use {max(1, batch_size // parts) * parts}.",
            "batch-does-not-divide",
        )
    return mesh_of(here[:count], fsdp)


def mesh_of(devices: Sequence[Any], fsdp: int) -> Mesh:
    """The mesh of these devices, which need not be here: ``preflight`` compiles for a TPU slice on a CPU.

    They stand in the order of their processes, so that the parts of a batch that the processes load, one after the
    other, are the batch of a single process. ``jax.make_mesh`` would follow a TPU's torus instead.
    """
    in_order = np.asarray(sorted(devices, key=lambda device: (device.process_index, device.id)))
    # Auto axes: with explicit ones sharded convolution kernels are an error.
    return Mesh(in_order.reshape(-1, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def split_axis(shape: tuple[int, ...], itemsize: int, parts: int, large: int = LARGE) -> PartitionSpec:
    """How FSDP splits an array: its largest axis that divides, the last of equals; small arrays stay whole.

    Args:
      shape, itemsize: of the array.
      parts: size of the ``fsdp`` axis.
      large: bytes; arrays below it stay whole.
    """
    axes = [axis for axis, length in enumerate(shape) if length % parts == 0]
    if parts == 1 or not axes or math.prod(shape) * itemsize < large:
        return PartitionSpec()
    chosen = max(axes, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[FSDP if axis == chosen else None for axis in range(len(shape))])


def replicated_and_split(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """Shardings of an array that every device has whole, and of a batch."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def state_shardings(method: Method, mesh: Mesh, large: int = LARGE) -> PyTree:
    """Shardings of a method's state on a mesh: one sharding for all of it, or a tree of them under FSDP."""
    parts = mesh.shape[FSDP]
    if parts == 1:
        return replicated_and_split(mesh)[0]
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, split_axis(leaf.shape, leaf.dtype.itemsize, parts, large)),
        jax.eval_shape(method.init, jax.random.PRNGKey(0)),
    )


def collective_options(mesh: Mesh) -> dict[str, int] | None:
    """XLA options that let a CPU's devices wait for each other; None for other devices.

    XLA ends the program where one of them is 40 seconds late, which happens on a machine that is busy with other work.
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_cpu_collective_call_terminate_timeout_seconds": 3600} if on_cpu and mesh.size > 1 else None


def replicate(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Arrays that every host has, whole on every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)

"""Runs a method's step on the devices: one jitted program, state donated, batch shared over the `data` axis."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.training.method import Method, Metrics
from simswap_jax.training.state import PyTree, TrainState


def use_cpu_cores(batch_size: int) -> None:
    """Let a CPU's cores share the batch as devices do; call it before JAX makes its first array.

    XLA's CPU back end runs many small operations on one thread: two halves of the batch on two cores made the demo's
    step a quarter faster. Does nothing where JAX has started, where ``JAX_NUM_CPU_DEVICES`` says how many, or where
    the devices are not CPUs.

    Args:
      batch_size: is divided by the number of devices.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    cores = os.cpu_count() or 1
    with suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", max(n for n in range(1, cores + 1) if batch_size % n == 0))


class Runner:
    """A method's ``init`` and ``step``, compiled for a mesh of devices.

    Args:
      method: what is trained.
      batch_size: of the whole batch.
      devices: how many devices share it; 0 takes all.

    Raises:
      UserError: more devices are asked for than there are, or the batch does not divide by them.
    """

    def __init__(self, method: Method, batch_size: int, devices: int = 0) -> None:
        here = jax.devices()
        count = devices or len(here)
        if count > len(here):
            raise UserError(
                f"config.devices is {count}, but this machine has {len(here)}; set it to {len(here)} or to 0 (all)."
            )
        if batch_size % count:
            raise UserError(
                f"config.batch_size {batch_size} does not divide by {count} devices; "
                f"use {max(1, batch_size // count) * count}."
            )
        # Auto axes: with the default, explicit ones, sharded convolution kernels are an error.
        mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=here[:count])
        self.whole = NamedSharding(mesh, PartitionSpec())
        self.shared = NamedSharding(mesh, PartitionSpec("data"))
        self.frozen = jax.device_put(method.frozen, self.whole)
        self._init = jax.jit(method.init, out_shardings=self.whole)
        self._step = jax.jit(
            method.step, in_shardings=(self.whole, self.shared, self.whole), out_shardings=self.whole, donate_argnums=0
        )

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state, made on the devices."""
        return self._init(key)

    def abstract(self, key: jax.Array) -> PyTree:
        """The state's shapes, types and shardings, without making it."""
        shapes = jax.eval_shape(self._init, key)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.whole), shapes)

    def place(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A host's batch on the devices."""
        return {name: jax.device_put(array, self.shared) for name, array in batch.items()}

    def step(self, state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        """One update. ``state`` is donated: use the returned one."""
        return self._step(state, batch, self.frozen)

"""Runs a method's step: one jitted program over a mesh of devices, state donated, or the same under `jax.pmap`."""

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.models.ops.platform import traced_for
from simswap_jax.training import distributed
from simswap_jax.training.method import Method, Metrics
from simswap_jax.training.sharding import (
    DATA,
    LARGE,
    collective_options,
    make_mesh,
    replicate,
    replicated_and_split,
    state_shardings,
)
from simswap_jax.training.state import PyTree, TrainState, is_finite, without_optimizers


def axis_name(config: ml_collections.ConfigDict) -> str | None:
    """The mapped axis that the method's step must know of: pmap's; under jit a batch is global by itself."""
    return DATA if config.parallel == "pmap" else None


def build(config: ml_collections.ConfigDict, method: Method) -> "Runner":
    """The runner that ``config.parallel`` names.

    Raises:
      UserError: as ``make_mesh``.
    """
    if config.parallel == "pmap":
        return PmapRunner(method, config.batch_size, config.devices, config.accumulate)
    return Runner(method, config.batch_size, config.devices, config.fsdp, config.accumulate)


def jitted_step(method: Method, mesh: Mesh, of_state: PyTree, platform: str = "") -> Any:
    """A method's step as one program for a mesh, (state, batch, frozen) → (state, metrics); the state is donated.

    Args:
      of_state: ``state_shardings``.
      platform: that it is traced for; "" takes that of the mesh's devices.
    """
    replicated, split = replicated_and_split(mesh)
    # Without pinned outputs the updates of split arrays would come back whole.
    return jax.jit(
        traced_for(platform or mesh.devices.flat[0].platform, method.step),
        in_shardings=(of_state, split, replicated),
        out_shardings=(of_state, replicated),
        donate_argnums=0,
        compiler_options=collective_options(mesh),
    )


def pmapped_step(method: Method, devices: Sequence[Any], platform: str = "") -> Any:
    """A method's step under `jax.pmap`, (state, batch [devices, B/devices, …], frozen) → (state, metrics).

    The method must have been built with ``axis_name(config)``. The state is one, unstacked, and donated.

    Args:
      platform: that it is traced for; "" takes that of the devices.
    """
    return jax.pmap(
        traced_for(platform or devices[0].platform, method.step),
        axis_name=DATA,
        in_axes=(None, 0, None),
        out_axes=None,
        devices=list(devices),
        donate_argnums=0,
    )


class Runner:
    """A method's ``init`` and ``step``, compiled for a mesh of devices.

    Attributes:
      frozen: the method's frozen arrays, on every device.
      compiled: how many programs ``step`` had compiled so far. After its first call that stays as it is, or something
        about its inputs changed.

    Args:
      method: what is trained.
      batch_size: of the whole batch.
      devices: how many devices share it; 0 takes all.
      fsdp: over how many devices each large array of the state is split.
      accumulate: micro-batches that the method takes a batch in.
      large: bytes from which on an array is split.

    Raises:
      UserError: as ``make_mesh``.
    """

    _is_finite: Any = None

    def __init__(
        self,
        method: Method,
        batch_size: int,
        devices: int = 0,
        fsdp: int = 1,
        accumulate: int = 1,
        large: int = LARGE,
    ) -> None:
        mesh = make_mesh(batch_size, devices, fsdp, accumulate)
        self.replicated, self.split = replicated_and_split(mesh)
        self.frozen = replicate(method.frozen, self.replicated)
        self._of_state = of_state = state_shardings(method, mesh, large)
        self._replicate = jax.jit(lambda tree: tree, out_shardings=self.replicated)
        self.compiled = 0
        watch_compilations()
        # Made where it will lie: no device ever holds more of it than its part.
        self._init = jax.jit(method.init, out_shardings=of_state)
        self._step = jitted_step(method, mesh, of_state)

    def init(self, key: jax.Array) -> TrainState:
        """A fresh state, made on the devices."""
        return self._init(key)

    def abstract(self, key: jax.Array) -> PyTree:
        """The state's shapes, types and shardings, without making it."""
        shapes = jax.eval_shape(self._init, key)
        shardings = self._of_state
        if isinstance(shardings, NamedSharding):
            shardings = jax.tree.map(lambda _: self.replicated, shapes)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
        )

    def shard_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A host's part of the batch as part of the global one, on the devices."""
        return {name: jax.make_array_from_process_local_data(self.split, array) for name, array in batch.items()}

    def step(self, state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        """One update. ``state`` is donated: use the returned one."""
        before = compilations()
        if distributed.is_multiprocess() and not self.compiled:
            self._step = compiled_by_all(self._step, state, batch, self.frozen)
        after = self._step(state, batch, self.frozen)
        self.compiled += compilations() - before
        return after

    def is_finite(self, state: TrainState) -> bool:
        """Whether every number of the networks and of the average is finite; all processes must call this together."""
        networks = without_optimizers(state)
        if self._is_finite is None:
            check = jax.jit(is_finite, out_shardings=self.replicated)
            self._is_finite = compiled_by_all(check, networks) if distributed.is_multiprocess() else check
        return bool(jax.device_get(self._is_finite(networks)))

    def gather(self, tree: PyTree) -> PyTree:
        """Placed arrays, whole, on one device of this process; a view where nothing is split.

        What is split is gathered first, so all processes must call this together.
        """
        if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
            replicated = self._replicate
            if distributed.is_multiprocess():
                replicated = compiled_by_all(replicated, tree)
            tree = replicated(tree)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def compiled_by_all(function: Any, *arguments: Any) -> Any:
    """A jitted function compiled for these arguments, once every process has come so far.

    Those that are first would otherwise wait in its first collective, and those of CPUs give up after 30 seconds.
    """
    made = function.lower(*arguments).compile()
    distributed.barrier()
    return made


_compilations = threading.local()


def compilations() -> int:
    """How many programs this thread has had compiled or found in the compilation cache, since the first runner."""
    return getattr(_compilations, "count", 0)


@functools.cache
def watch_compilations() -> None:
    """Count compilations from now on; once a process."""

    def note(event: str, duration_secs: float, **_: Any) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            _compilations.count = compilations() + 1

    jax.monitoring.register_event_duration_secs_listener(note)


class PmapRunner(Runner):
    """Every device has the state whole and its own part of the batch.

    The method must have been built with ``runner.axis_name(config)``. The state that goes in and comes out is one,
    unstacked.

    Raises:
      UserError: as ``make_mesh``, or there are several processes.
    """

    def __init__(self, method: Method, batch_size: int, devices: int = 0, accumulate: int = 1) -> None:
        if jax.process_count() > 1:
            raise UserError(
                f"config.parallel is 'pmap', which serves the devices of one process, but {jax.process_count()} "
                "train together; set it to 'jit'.",
                "pmap-of-several-processes",
            )
        # pmap makes a mesh of its own; arrays that lie on an equal one need not be moved, nor the step compiled twice.
        mesh = Mesh(make_mesh(batch_size, devices, accumulate=accumulate).devices.reshape(-1), (DATA,))
        self.compiled = 0
        watch_compilations()
        self.replicated = self._of_state = NamedSharding(mesh, PartitionSpec())
        self.split = NamedSharding(mesh, PartitionSpec(DATA))
        self.frozen = replicate(method.frozen, self.replicated)
        self._count = mesh.size
        self._init = jax.jit(method.init, out_shardings=self.replicated)
        self._step = pmapped_step(method, list(mesh.devices.flat))

    def shard_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A batch [B, …] as one part a device, [devices, B/devices, …]."""
        return super().shard_batch(
            {name: array.reshape(self._count, -1, *array.shape[1:]) for name, array in batch.items()}
        )

"""Runs a method's step on many devices: one jitted program over a mesh, or pmap over the same step; state donated.

The mesh has two axes. A batch is shared over both; large arrays of the state are split over ``fsdp`` alone.
The state is never stacked over devices, so a checkpoint does not know which runner wrote it.
"""

import math
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from simswap_jax.errors import UserError
from simswap_jax.training import distributed
from simswap_jax.training.method import Method, Metrics
from simswap_jax.training.state import PyTree, TrainState

DATA, FSDP = "data", "fsdp"
LARGE = 4 * 2**20  # bytes; smaller arrays cost more to gather than they take up


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
            f"config.devices is {count}, but this machine has {len(here)}; set it to {len(here)} or to 0 (all)."
        )
    if jax.process_count() > 1 and count < len(here):
        raise UserError(
            f"config.devices is {count}, but {jax.process_count()} processes train together on all their "
            f"{len(here)} devices; set it to 0."
        )
    if fsdp > count:
        raise UserError(
            f"config.fsdp is {fsdp}, a mesh larger than the {count} devices here; set it to {count} or less."
        )
    if count % fsdp:
        raise UserError(
            f"config.fsdp is {fsdp}, which does not divide {count} devices; use {math.gcd(fsdp, count)}, "
            f"or set config.devices to {count - count % fsdp}."
        )
    parts = count * accumulate
    if batch_size % parts:
        among = f"{count} devices" if accumulate == 1 else f"{count} devices × {accumulate} micro-batches"
        raise UserError(
            f"config.batch_size {batch_size} does not divide by {among}; use {max(1, batch_size // parts) * parts}."
        )
    return mesh_of(here[:count], fsdp)


def mesh_of(devices: Sequence[Any], fsdp: int) -> Mesh:
    """The mesh of these devices, which need not be here: ``preflight`` compiles for a TPU slice on a CPU."""
    # Auto axes: with the default, explicit ones, sharded convolution kernels are an error.
    return jax.make_mesh(
        (len(devices) // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto), devices=devices
    )


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


def whole_and_shared(mesh: Mesh) -> tuple[NamedSharding, NamedSharding]:
    """How an array rests that every device has, and how a batch does."""
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def state_shardings(method: Method, mesh: Mesh, large: int = LARGE) -> PyTree:
    """How a method's state rests on a mesh: one sharding for all of it, or a tree of them under FSDP."""
    parts = mesh.shape[FSDP]
    if parts == 1:
        return whole_and_shared(mesh)[0]
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, split_axis(leaf.shape, leaf.dtype.itemsize, parts, large)),
        jax.eval_shape(method.init, jax.random.PRNGKey(0)),
    )


def jitted_step(method: Method, mesh: Mesh, of_state: PyTree) -> Any:
    """A method's step as one program for a mesh, (state, batch, frozen) → (state, metrics); the state is donated.

    Args:
      of_state: ``state_shardings``.
    """
    whole, shared = whole_and_shared(mesh)
    # Without pinned outputs the updates of split arrays would come back whole.
    return jax.jit(
        method.step,
        in_shardings=(of_state, shared, whole),
        out_shardings=(of_state, whole),
        donate_argnums=0,
        compiler_options=collective_options(mesh),
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
        self.whole, self.shared = whole_and_shared(mesh)
        self.frozen = on_all(method.frozen, self.whole)
        self._of_state = of_state = state_shardings(method, mesh, large)
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.whole)
        self.compiled = 0
        # Born as it will rest: no device ever holds more of it than its part.
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
            shardings = jax.tree.map(lambda _: self.whole, shapes)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
        )

    def place(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A host's part of the batch as part of the global one, on the devices."""
        return {name: jax.make_array_from_process_local_data(self.shared, array) for name, array in batch.items()}

    def fetch(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What ``place`` was given: this host's part, [B, …]."""

        def part(array: jax.Array) -> np.ndarray:
            pieces = sorted(array.addressable_shards, key=lambda piece: piece.index[0].start or 0)
            return np.concatenate([np.asarray(piece.data) for piece in pieces])

        return {name: part(array) for name, array in batch.items()}

    def step(self, state: TrainState, batch: Mapping[str, Any]) -> tuple[TrainState, Metrics]:
        """One update. ``state`` is donated: use the returned one."""
        before = compilations()
        if distributed.several() and not self.compiled:
            self._step = compiled_by_all(self._step, state, batch, self.frozen)
        after = self._step(state, batch, self.frozen)
        self.compiled += compilations() - before
        return after

    def here(self, tree: PyTree) -> PyTree:
        """Placed arrays, whole, on one device of this process; a view where nothing is split.

        What is split is gathered first, so all processes must call this together.
        """
        if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
            gather = compiled_by_all(self._gather, tree) if distributed.several() else self._gather
            tree = gather(tree)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


class PmapRunner(Runner):
    """The same through ``jax.pmap``: every device has the state whole and its own part of the batch.

    The method must have been built with ``axis_name(config)``. The state that goes in and comes out is one, unstacked.

    Raises:
      UserError: as ``make_mesh``, or there are several processes.
    """

    def __init__(self, method: Method, batch_size: int, devices: int = 0, accumulate: int = 1) -> None:
        if jax.process_count() > 1:
            raise UserError(
                f"config.parallel is 'pmap', which serves the devices of one process, but {jax.process_count()} "
                "train together; set it to 'jit'."
            )
        # pmap makes a mesh of its own; arrays that lie on an equal one need not be moved, nor the step compiled twice.
        mesh = Mesh(make_mesh(batch_size, devices, accumulate=accumulate).devices.reshape(-1), (DATA,))
        self.compiled = 0
        self.whole = self._of_state = NamedSharding(mesh, PartitionSpec())
        self.shared = NamedSharding(mesh, PartitionSpec(DATA))
        self.frozen = on_all(method.frozen, self.whole)
        self._count = mesh.size
        self._init = jax.jit(method.init, out_shardings=self.whole)
        self._step = jax.pmap(
            method.step,
            axis_name=DATA,
            in_axes=(None, 0, None),
            out_axes=None,
            devices=list(mesh.devices.flat),
            donate_argnums=0,
        )

    def place(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A batch [B, …] as one part a device, [devices, B/devices, …]."""
        return super().place({name: array.reshape(self._count, -1, *array.shape[1:]) for name, array in batch.items()})

    def fetch(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What ``place`` was given, [B, …]."""
        return {name: array.reshape(-1, *array.shape[2:]) for name, array in super().fetch(batch).items()}


def compiled_by_all(function: Any, *arguments: Any) -> Any:
    """A jitted function compiled for these arguments, once every process has come so far.

    Those that are first would otherwise wait in its first collective, and those of CPUs give up after 30 seconds.
    """
    made = function.lower(*arguments).compile()
    distributed.wait_for_all()
    return made


_compilations = threading.local()


def compilations() -> int:
    """How many programs this thread has had compiled or found in the compilation cache."""
    return getattr(_compilations, "count", 0)


def _note_compilation(event: str, seconds: float, **_: Any) -> None:
    del seconds
    if event == "/jax/core/compile/backend_compile_duration":
        _compilations.count = compilations() + 1


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


def collective_options(mesh: Mesh) -> dict[str, int] | None:
    """XLA options that let a CPU's devices wait for each other; None for other devices.

    XLA ends the program where one of them is 40 seconds late, which happens on a machine that is busy with other work.
    """
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return {"xla_cpu_collective_call_terminate_timeout_seconds": 3600} if on_cpu and mesh.size > 1 else None


def on_all(tree: PyTree, whole: NamedSharding) -> PyTree:
    """Arrays that every host has, whole on every device."""
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, np.asarray(x)), tree)


def axis_name(config: ml_collections.ConfigDict) -> str | None:
    """The mapped axis that the method's step must know of: pmap's; under jit a batch is global by itself."""
    return DATA if config.parallel == "pmap" else None


def runner(config: ml_collections.ConfigDict, method: Method) -> Runner:
    """The runner that ``config.parallel`` names; ``training.config.check`` has seen the config.

    Raises:
      UserError: as ``make_mesh``.
    """
    if config.parallel == "pmap":
        return PmapRunner(method, config.batch_size, config.devices, config.accumulate)
    return Runner(method, config.batch_size, config.devices, config.fsdp, config.accumulate)

"""One update of the state, shared by every method: micro-batches, devices, optimisers, average, non-finite guard.

A method says what its gradients are; everything that follows from them happens here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental.layout import Layout, with_layout_constraint

from simswap_jax.models.ops.platform import by_platform
from simswap_jax.training.state import NetworkState, PyTree, TrainState

SKIPPED = "skipped"

# (gradients by network, new collections by network, scalar metrics)
Gradients = tuple[dict[str, PyTree], dict[str, PyTree], dict[str, jax.Array]]
GradientFunction = Callable[[TrainState, Mapping[str, Any]], Gradients]


@dataclass(frozen=True)
class UpdateRule:
    """How gradients become the next state.

    Attributes:
      optimizers: by name, of every network that is trained.
      averaged: name of the network whose moving average is kept.
      ema_decay: of that average, 0 to below 1; 0 keeps none.
      micro_batches: in how many parts, one after the other, a batch is taken.
      skip_nonfinite: leave out updates whose losses, gradients or statistics are not finite.
      report_norms: put the norm of each network's gradient into the metrics.
      axis_name: the mapped axis that gradients are averaged over under ``pmap``; None under ``jit``.
    """

    optimizers: Mapping[str, optax.GradientTransformation]
    averaged: str
    ema_decay: float = 0.0
    micro_batches: int = 1
    skip_nonfinite: bool = False
    report_norms: bool = False
    axis_name: str | None = None

    def __call__(
        self, gradient_function: GradientFunction, state: TrainState, batch: Mapping[str, Any]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update.

        Args:
          gradient_function: gradients at a state for a batch or a part of it; networks that it leaves out stay.
          state: before the update.
          batch: arrays [B, …].

        Returns:
          the state after it and the metrics, with ``<network>_gradient``, the norm of each gradient, if wanted, and,
          under the guard, ``skipped``, 1 if the update was left out.
        """
        gradients, collections, metrics = averaged_gradients(
            gradient_function, state, batch, self.micro_batches, self.axis_name
        )
        gradients = jax.tree.map(in_given_layout, gradients)
        norms = {f"{name}_gradient": optax.tree.norm(tree) for name, tree in gradients.items()}
        metrics |= norms if self.report_norms else {}
        networks: dict[str, NetworkState] = {
            name: network.updated(gradients[name], collections[name], self.optimizers[name])
            if name in gradients
            else network
            for name, network in state.networks.items()
        }
        ema = state.ema
        if self.ema_decay:
            ema = exponential_moving_average(ema, networks[self.averaged].variables, self.ema_decay, state.step)
        after = TrainState(step=state.step + 1, key=state.key, networks=networks, ema=ema)
        if self.skip_nonfinite:
            after, metrics[SKIPPED] = skip_nonfinite_update(state, after, (metrics | norms, collections))
        return after, metrics


def in_given_layout(gradient: jax.Array) -> jax.Array:
    """The gradient unchanged; on a GPU pinned to the memory layout of the parameters.

    cuDNN gives gradients of kernels in another layout. A transposition within the update keeps it from being in place,
    and XLA copies the parameters, both moments and the average.
    """

    def written(gradient: jax.Array) -> jax.Array:
        pinned = with_layout_constraint(gradient, Layout(tuple(range(gradient.ndim))))
        return jax.lax.optimization_barrier(pinned)

    return by_platform(gradient, default=lambda gradient: gradient, gpu=written)


# ---- Random numbers ----


def per_sample_random(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    shape: tuple[int, ...],
    axis_name: str | None,
) -> jax.Array:
    """``draw(key, shape)`` for this device's samples: random numbers that do not depend on how devices share a batch.

    Args:
      draw: such as ``jax.random.uniform``.
      key: the same on every device.
      shape: of this device's part; its first axis counts samples.
      axis_name: the mapped axis that shares the batch under ``pmap``. Every device then draws for the whole batch and
        takes its own rows, so that a batch sees the same numbers on one device and on many.
    """
    if axis_name is None:
        return draw(key, shape)
    count = shape[0]
    whole = draw(key, (count * jax.lax.axis_size(axis_name), *shape[1:]))
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis_name) * count, count)


# ---- Gradient accumulation ----


def averaged_gradients(
    gradient_function: GradientFunction,
    state: TrainState,
    batch: Mapping[str, Any],
    micro_batches: int,
    axis_name: str | None,
) -> Gradients:
    """Gradients and metrics of a whole batch: means over its micro-batches, then over the devices of an axis."""
    if micro_batches == 1:
        gradients, collections, metrics = gradient_function(state, batch)
    else:
        gradients, collections, metrics = accumulated_gradients(gradient_function, state, batch, micro_batches)
    if axis_name is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
    return gradients, collections, metrics


def micro_batches(batch: PyTree, count: int) -> PyTree:
    """[B, …] → [count, B/count, …]: sample i goes into micro-batch i mod count.

    Taken in turn and not in runs, so that devices that each hold a run of the batch need not exchange samples, and
    both kinds of pairs are in every micro-batch of a "mixed" batch.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0), batch)


def accumulated_gradients(
    gradient_function: GradientFunction, state: TrainState, batch: Mapping[str, Any], count: int
) -> Gradients:
    """Means over micro-batches of what ``gradient_function(state, micro_batch)`` gives for one.

    Batch norm sees one micro-batch at a time, and its running statistics move once in each.

    Args:
      gradient_function: (gradients, new collections by network, metrics) at a state.
      state: whose parameters stay; its collections are handed from one micro-batch to the next.
      batch: arrays [B, …], B a multiple of ``count``.
      count: how many micro-batches.

    Returns:
      mean gradients, the collections after the last micro-batch, mean metrics.
    """
    parts = micro_batches(dict(batch), count)

    def at(collections: dict[str, PyTree]) -> TrainState:
        networks = {name: replace(state.networks[name], collections=tree) for name, tree in collections.items()}
        return replace(state, networks={**state.networks, **networks})

    def one(carry: tuple[dict[str, PyTree], PyTree], part: PyTree) -> tuple[tuple[dict[str, PyTree], PyTree], None]:
        collections, total = carry
        gradients, collections, metrics = gradient_function(at(collections), part)
        return (collections, jax.tree.map(jnp.add, total, (gradients, metrics))), None

    start = {name: network.collections for name, network in state.networks.items()}
    gradients, _, metrics = jax.eval_shape(gradient_function, state, jax.tree.map(lambda x: x[0], parts))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (gradients, metrics))
    (collections, total), _ = jax.lax.scan(one, (start, nothing), parts)
    gradients, metrics = jax.tree.map(lambda x: x / count, total)
    return gradients, collections, metrics


# ---- Moving average ----


def exponential_moving_average(ema: PyTree, variables: PyTree, decay: float, step: jax.Array) -> PyTree:
    """Exponential moving average, in float32, that forgets its random start.

    The decay is ``min(decay, (1 + step) / (10 + step))``: the average follows closely at first. Whole numbers, such as
    the batch counts of files from PyTorch, are not averaged: the newest stands.
    """
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    def moved(old: jax.Array, new: jax.Array) -> jax.Array:
        return old + rate * (new - old) if jnp.issubdtype(new.dtype, jnp.floating) else new

    return jax.tree.map(moved, ema, variables)


# ---- Updates that are not finite ----


def skip_nonfinite_update(before: TrainState, after: TrainState, witnesses: PyTree) -> tuple[TrainState, jax.Array]:
    """``after``, or ``before`` with only the step counted where a witness is infinite or not a number.

    Args:
      before, after: the state before and after the update.
      witnesses: arrays that are finite if the update is: the losses, the gradients' norms, the new statistics.

    Returns:
      the next state and float32 1 if the update was skipped, else 0.
    """
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(witnesses)]))
    kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, before)
    return replace(kept, step=after.step), 1.0 - fine.astype(jnp.float32)


class NonFiniteMonitor:
    """Counts skipped updates in a row.

    Looks at a step one step late, so that asking does not wait for the step that has just been dispatched.

    Args:
      limit: so many in a row are too many; 0 looks at nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._in_a_row = 0
        self._before: jax.Array | None = None

    def too_many(self, metrics: Mapping[str, Any]) -> bool:
        """Take note of one step's metrics; whether the steps up to the one before it were too many."""
        if not self.limit:
            return False
        before, self._before = self._before, metrics[SKIPPED]
        if before is not None:
            self._in_a_row = self._in_a_row + 1 if jax.device_get(before) else 0
        return self._in_a_row >= self.limit

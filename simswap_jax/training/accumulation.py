"""Gradient accumulation: a batch in several micro-batches, one after the other, for one update."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from simswap_jax.training.state import PyTree, TrainState

Taken = tuple[PyTree, dict[str, PyTree], dict[str, jax.Array]]


def micro_batches(batch: PyTree, count: int) -> PyTree:
    """[B, …] → [count, B/count, …]: sample i goes into micro-batch i mod count.

    Taken in turn and not in runs, so that devices that each hold a run of the batch need not exchange samples, and
    both kinds of pairs are in every micro-batch of a "mixed" batch.
    """
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 1, 0), batch)


def accumulated(
    take: Callable[[TrainState, Mapping[str, Any]], Taken], state: TrainState, batch: Mapping[str, Any], count: int
) -> Taken:
    """Means over micro-batches of what ``take(state, micro_batch)`` gives for one.

    Batch norm sees one micro-batch at a time, and its running statistics move once in each.

    Args:
      take: (gradients, new collections by network, metrics) at a state.
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
        gradients, collections, metrics = take(at(collections), part)
        return (collections, jax.tree.map(jnp.add, total, (gradients, metrics))), None

    start = {name: network.collections for name, network in state.networks.items()}
    gradients, _, metrics = jax.eval_shape(take, state, jax.tree.map(lambda x: x[0], parts))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (gradients, metrics))
    (collections, total), _ = jax.lax.scan(one, (start, nothing), parts)
    gradients, metrics = jax.tree.map(lambda x: x / count, total)
    return gradients, collections, metrics

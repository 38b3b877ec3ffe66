"""What training carries from step to step: one pytree, never stacked over devices."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

PyTree = Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NetworkState:
    """One trained network.

    Attributes:
      params: Flax parameters, float32.
      collections: the other Flax collections, such as ``{"batch_stats": …}``; ``{}`` if the network has none.
      optimizer: the Optax state of ``params``.
    """

    params: PyTree
    collections: PyTree
    optimizer: PyTree

    @property
    def variables(self) -> dict[str, PyTree]:
        """What ``module.apply`` takes."""
        return {"params": self.params, **self.collections}

    def updated(
        self, gradients: PyTree, collections: PyTree, optimizer: optax.GradientTransformation
    ) -> "NetworkState":
        """The network after one update of its optimiser."""
        updates, state = optimizer.update(gradients, self.optimizer, self.params)
        return NetworkState(optax.apply_updates(self.params, updates), collections, state)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that a checkpoint must hold of a training.

    Attributes:
      step: int32 scalar, how many updates were made.
      key: uint32 [2], the run's key; a step's own key is ``fold_in(key, step)``.
      networks: by name ("generator", "discriminator", …).
      ema: averaged variables of the network that is exported, or ``{}``.
    """

    step: jax.Array
    key: jax.Array
    networks: dict[str, NetworkState]
    ema: PyTree

    @classmethod
    def create(cls, key: jax.Array, networks: dict[str, NetworkState], ema: PyTree) -> "TrainState":
        """A state before its first update."""
        return cls(step=jnp.zeros((), jnp.int32), key=key, networks=networks, ema=ema)


def without_optimizers(state: TrainState) -> TrainState:
    """The state as samples and exports need it: without Adam's moments a third of it."""
    return replace(state, networks={name: replace(each, optimizer=()) for name, each in state.networks.items()})


def is_finite(state: TrainState) -> jax.Array:
    """Whether every number of the networks' variables and of the average is finite, a bool scalar. Pure; to be jitted.

    Optimiser states are not checked.
    """
    trees = ([network.variables for network in state.networks.values()], state.ema)
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(trees)]))


def with_variables(network: NetworkState, found: PyTree) -> NetworkState:
    """A fresh network with the variables that were found, placed as the fresh ones are; others are ignored.

    Args:
      network: fresh.
      found: by collection, some or all of its variables.
    """
    given, fresh = traverse_util.flatten_dict(dict(found)), traverse_util.flatten_dict(network.variables)
    placed = {path: jax.device_put(given.get(path, leaf), leaf.sharding) for path, leaf in fresh.items()}
    variables: dict[str, Any] = traverse_util.unflatten_dict(placed)
    return replace(network, params=variables.pop("params"), collections=variables)


def network_state(variables: PyTree, optimizer: optax.GradientTransformation) -> NetworkState:
    """Split fresh Flax variables into parameters and the rest, and start the optimiser."""
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return NetworkState(variables["params"], collections, optimizer.init(variables["params"]))

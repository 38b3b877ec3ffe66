"""A small identity network trained with an additive angular margin (ArcFace), as a method.

L = −log softmax(s · [cos(θ_y + m), cos θ_j…]): vectors and class centres of unit length, θ the angle between them.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training.config import check_whole_batch, common_config
from simswap_jax.training.experiment import Experiment, resolve
from simswap_jax.training.method import Batch, Metrics, Work
from simswap_jax.training.schedules import learning_rate
from simswap_jax.training.simswap_checks import check_sees
from simswap_jax.training.state import PyTree, TrainState, network_state
from simswap_jax.training.update import Gradients, UpdateRule, per_sample_random
from simswap_jax.weights import identity_folder


def margin_logits(
    vectors: jax.Array, centres: jax.Array, person: jax.Array, margin: jax.Array, scale: float
) -> jax.Array:
    """Logits of the additive angular margin.

    Args:
      vectors: float [B, D], any length.
      centres: float [people, D], any length.
      person: int32 [B], the right row of ``centres``.
      margin: radians added to the angle to the right centre.
      scale: s.

    Returns:
      float32 [B, people].
    """
    unit = [x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12) for x in (vectors, centres)]
    cosine = unit[0] @ unit[1].T
    # cos(θ + m) without arccos, whose gradient is infinite at ±1; past π − m the angle could not grow any more.
    sine = jnp.sqrt(jnp.maximum(1.0 - jnp.square(cosine), 1e-6))
    moved = jnp.where(
        cosine > -jnp.cos(margin), cosine * jnp.cos(margin) - sine * jnp.sin(margin), cosine - margin * jnp.sin(margin)
    )
    right = jax.nn.one_hot(person, centres.shape[0], dtype=bool)
    return scale * jnp.where(right, moved, cosine)


class AngularHead(nn.Module):
    """The class centres: a table [people, embedding], used in training only."""

    people: int

    @nn.compact
    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Give the table, whose width is that of ``vectors`` [B, D]."""
        return self.param("centres", nn.initializers.normal(1.0), (self.people, vectors.shape[-1]))


class ShuffledPictures:
    """What methods that train on single pictures, and draw none, have in common."""

    config: ml_collections.ConfigDict

    def batches(self, people: People, cache: Path) -> loader.Batches:
        """Endless batches: {"image": uint8 [B, H, W, 3], "person": int32 [B]}, shuffled, from a position."""
        del cache
        data = self.config.data
        iterator = loader.picture_batches(
            people,
            self.config.batch_size,
            data.size,
            self.config.seed,
            data.flip,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
            threads=data.threads,
        )
        return iterator

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Nothing to see: vectors."""
        return {}

    def work(self) -> Sequence[Work]:
        """Not counted."""
        return ()


@dataclass(frozen=True)
class IdentityTraining(ShuffledPictures):
    """One identity network and the table of the people it is trained to tell apart.

    Attributes:
      people: how many.
      prototypes: float32 [people, embedding], fixed class prototypes (``config.network.prototypes``); None: learned
        centres.
      perturb: moves pictures to where the loss is larger (``config.network.perturbation``); None: trains on them as
        they are.
    """

    config: ml_collections.ConfigDict
    network: IdentityNetwork
    people: int
    prototypes: np.ndarray | None = None
    perturb: Callable[..., jax.Array] | None = None
    frozen: PyTree = None
    axis_name: str | None = None

    @functools.cached_property
    def update(self) -> UpdateRule:
        """Adam with decoupled weight decay: margins over-fit small sets."""
        config = self.config
        optimizer = optax.adamw(
            learning_rate(config, config.optimizer.learning_rate),
            b1=config.optimizer.b1,
            b2=config.optimizer.b2,
            weight_decay=config.network.weight_decay,
        )
        optimizers = {"identity": optimizer, "head": optimizer}
        guarded = bool(config.nonfinite_limit)
        return UpdateRule(optimizers, "identity", config.ema, skip_nonfinite=guarded, axis_name=self.axis_name)

    def init(self, key: jax.Array) -> TrainState:
        """Fresh network, and centres that are fresh or fixed."""
        of_network, of_head, of_run = jax.random.split(key, 3)
        variables = self.network.init(of_network)
        if self.prototypes is None:
            head = AngularHead(self.people).init(of_head, jnp.zeros((2, self.network.config.embedding)))
        else:
            head = {"params": {"centres": jnp.asarray(self.prototypes)}}
        networks = {
            "identity": network_state(variables, self.update.optimizers["identity"]),
            "head": network_state(head, self.update.optimizers["head"]),
        }
        return TrainState.create(of_run, networks, jax.tree.map(jnp.copy, variables) if self.config.ema else {})

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update. Batch: ``image`` uint8 [B, H, W, 3] and ``person`` int32 [B]."""
        del frozen
        return self.update(self.gradients, state, batch)

    def gradients(self, state: TrainState, batch: Mapping[str, Any]) -> Gradients:
        """Gradients of network and table (the latter only where it is learned), and the metrics."""
        settings = self.config.network
        pictures = batch["image"].astype(jnp.float32) / 255.0
        ramp = jnp.minimum(1.0, (state.step + 1.0) / max(1, settings.margin_ramp))
        margin = settings.margin * ramp
        params = {"identity": state.networks["identity"].params, "head": state.networks["head"].params}
        loss = functools.partial(self.loss, collections=state.networks["identity"].collections, margin=margin)
        if self.perturb is not None and settings.perturbation_radius:
            key = jax.random.fold_in(state.key, state.step)
            slope = jax.grad(lambda x: loss(params, x, batch["person"])[0])
            noise = per_sample_random(jax.random.normal, key, pictures.shape, self.axis_name)
            pictures = self.perturb(pictures, slope, settings.perturbation_radius * ramp, noise)
        (value, (collections, right)), gradients = jax.value_and_grad(loss, has_aux=True)(
            params, pictures, batch["person"]
        )
        if self.prototypes is not None:
            del gradients["head"]
        metrics = {"identity_loss": value, "training_accuracy": right}
        return gradients, {"identity": collections, "head": {}}, metrics

    def loss(
        self,
        params: dict[str, PyTree],
        pictures: jax.Array,
        person: jax.Array,
        collections: PyTree,
        margin: jax.Array,
    ) -> tuple[jax.Array, Any]:
        """(L, (new batch statistics, share of the batch classified correctly, margin included)).

        Args:
          params: of network and table.
          pictures: float [B, H, W, 3] in [0, 1].
          person: int32 [B].
          collections: the network's batch statistics.
          margin: radians.
        """
        vectors, collections = self.network.module.apply(
            {"params": params["identity"], **collections},
            self.network.preprocess(pictures),
            train=True,
            mutable=list(collections),
        )
        centres: Any = AngularHead(self.people).apply({"params": params["head"]}, vectors)
        logits = margin_logits(vectors, centres, person, margin, self.config.network.scale)
        right = jnp.mean(jnp.argmax(logits, axis=-1) == person)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, person)
        return jnp.mean(loss), (collections, right)

    def export(self, state: TrainState, folder: Path) -> None:
        """Write an identity folder."""
        variables = state.ema if self.config.ema else state.networks["identity"].variables
        card = {"step": int(state.step), "people": self.people, "licence": "that of the training pictures"}
        identity_folder.write(folder, self.network.config, variables, card)


def default_config() -> ml_collections.ConfigDict:
    """A small network on 32×32 pictures, trained in well under a minute on two CPU cores."""
    config = common_config()
    config.method = "identity"
    config.steps = 800
    config.batch_size = 128
    config.data.size = 32
    config.ema = 0.99
    config.optimizer.learning_rate, config.optimizer.b1 = 3e-3, 0.9
    config.optimizer.decay = "cosine"
    config.optimizer.warmup = 50
    config.network = Experiment(
        {
            "family": "iresnet",
            "layers": (1, 1, 1, 1),
            "widths": (16, 32, 64, 128),
            "size": (32, 32),
            "embedding": 128,
            "margin": 0.2,  # radians
            "margin_ramp": 400,  # steps from 0 to the whole margin, and to the whole perturbation_radius
            "scale": 16.0,
            "weight_decay": 1e-3,
            # "package.module:function" of (folder of people, their names, embedding) → fixed class prototypes; "":
            # they are learned.
            "prototypes": "",
            # "package.module:function" that moves pictures to where the loss is larger (adversarial training).
            "perturbation": "",
            "perturbation_radius": 0.0,  # Euclidean, of pictures in [0, 1]; 0 trains on the pictures as they are
        }
    )
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that this method cannot train.

    Raises:
      UserError: gradient accumulation is asked for, which these networks are too small to need.
    """
    check_whole_batch(config)


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> IdentityTraining:
    """The method for one experiment and the people in it.

    Raises:
      UserError: there is no such network, or it cannot take pictures of this size; ``network.prototypes`` or
        ``network.perturbation`` cannot be imported, or the prototypes' function refuses these people.
    """
    fields = config.network
    try:
        described = IdentityConfig(
            family=fields.family,
            layers=tuple(fields.layers),
            widths=tuple(fields.widths),
            size=tuple(fields.size),
            frame=tuple(fields.size),
            resize="area",  # as the loader makes the pictures that it is trained on
            embedding=fields.embedding,
            values="symmetric",
        )
    except ValueError as error:
        raise UserError(str(error), "config-network") from error
    network = IdentityNetwork(described, axis_name)
    check_sees(network, "data.size", config.data.size)
    prototypes = None
    if fields.prototypes:
        made = resolve(fields.prototypes, "network.prototypes")
        prototypes = made(Path(config.data.root).expanduser(), people.names, fields.embedding)
    return IdentityTraining(
        ml_collections.FrozenConfigDict(config),
        network,
        len(people.names),
        prototypes,
        resolve(fields.perturbation, "network.perturbation") if fields.perturbation else None,
        axis_name=axis_name,
    )

"""A small identity network trained with an additive angular margin (ArcFace), as a method: the demo's, or yours.

L = −log softmax(s · [cos(θ_y + m), cos θ_j…]): vectors and class centres of unit length, θ the angle between them.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax.contrib.rendered.class_prototypes import known_centres
from simswap_jax.contrib.small_models.adversarial import adversarial_pictures
from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import guard, optimizers
from simswap_jax.training.draws import drawn
from simswap_jax.training.image_batches import batches_of_pictures
from simswap_jax.training.method import Batch, Metrics
from simswap_jax.training.state import PyTree, TrainState, averaged, network_state
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


@dataclass(frozen=True)
class IdentityTraining:
    """One identity network and the table of the people it is trained to tell apart.

    Attributes:
      people: how many.
      centres: float32 [people, embedding], class centres that are known (`class_prototypes.py`); None: learned.
    """

    config: ml_collections.ConfigDict
    network: IdentityNetwork
    people: int
    centres: np.ndarray | None = None
    frozen: PyTree = None
    axis_name: str | None = None

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam with decoupled weight decay: margins over-fit small sets."""
        rates = self.config.optimizer
        return optax.adamw(
            optimizers.schedule(self.config, rates.learning_rate),
            b1=0.9,
            b2=0.999,
            weight_decay=self.config.network.weight_decay,
        )

    def init(self, key: jax.Array) -> TrainState:
        """Fresh network, and centres that are fresh or known."""
        of_network, of_head, of_run = jax.random.split(key, 3)
        variables = self.network.init(of_network)
        if self.centres is None:
            head = AngularHead(self.people).init(of_head, jnp.zeros((2, self.network.config.embedding)))
        else:
            head = {"params": {"centres": jnp.asarray(self.centres)}}
        networks = {"identity": network_state(variables, self.optimizer), "head": network_state(head, self.optimizer)}
        return TrainState.create(of_run, networks, jax.tree.map(jnp.copy, variables) if self.config.ema else {})

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update. Batch: ``image`` uint8 [B, H, W, 3] and ``person`` int32 [B]."""
        del frozen
        settings = self.config.network
        pictures = batch["image"].astype(jnp.float32) / 255.0
        ramp = jnp.minimum(1.0, (state.step + 1.0) / max(1, settings.margin_ramp))
        margin = settings.margin * ramp
        identity, head = state.networks["identity"], state.networks["head"]

        def loss(params: dict[str, PyTree], pictures: jax.Array) -> tuple[jax.Array, Any]:
            vectors, collections = self.network.module.apply(
                {"params": params["identity"], **identity.collections},
                self.network.preprocess(pictures),
                train=True,
                mutable=list(identity.collections),
            )
            centres = AngularHead(self.people).apply({"params": params["head"]}, vectors)
            logits = margin_logits(vectors, centres, batch["person"], margin, settings.scale)
            right = jnp.mean(jnp.argmax(logits, axis=-1) == batch["person"])
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["person"])), (
                collections,
                right,
            )

        params = {"identity": identity.params, "head": head.params}
        if settings.robust_radius:
            key = jax.random.fold_in(state.key, state.step)
            slope = jax.grad(lambda x: loss(params, x)[0])
            noise = drawn(jax.random.normal, key, pictures.shape, self.axis_name)
            pictures = adversarial_pictures(pictures, slope, settings.robust_radius * ramp, noise)
        (value, (collections, right)), gradients = jax.value_and_grad(loss, has_aux=True)(params, pictures)
        if self.axis_name is not None:
            gradients, value, right = jax.lax.pmean((gradients, value, right), self.axis_name)
        networks = {
            "identity": identity.updated(gradients["identity"], collections, self.optimizer),
            "head": head if self.centres is not None else head.updated(gradients["head"], {}, self.optimizer),
        }
        ema = state.ema
        if self.config.ema:
            ema = averaged(ema, networks["identity"].variables, self.config.ema, state.step)
        metrics = {"identity_loss": value, "training_accuracy": right}
        after = TrainState(step=state.step + 1, key=state.key, networks=networks, ema=ema)
        if self.config.nonfinite_limit:
            witnesses = (value, optax.tree.norm(gradients), collections)
            after, metrics[guard.SKIPPED] = guard.finite_or_unmoved(state, after, witnesses)
        return after, metrics

    def batches(self, people: People, cache: Path, start: loader.State | None = None) -> loader.Batches:
        """Pictures of the training people, shuffled, with their numbers."""
        return batches_of_pictures(self.config, people, start)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Nothing to see: vectors."""
        return {}

    def export(self, state: TrainState, folder: Path) -> None:
        """Write an identity folder."""
        variables = state.ema if self.config.ema else state.networks["identity"].variables
        card = {"step": int(state.step), "people": self.people, "licence": "that of the training pictures"}
        identity_folder.write(folder, self.network.config, variables, card)


def default_config() -> ml_collections.ConfigDict:
    """A small network on 32×32 pictures, trained in well under a minute on two CPU cores."""
    from simswap_jax.training.config import default_config as simswap_config

    config = simswap_config()
    config.method = "identity"
    config.steps = 800
    config.batch_size = 128
    config.data.size = 32
    config.ema = 0.99
    config.optimizer.learning_rate = 3e-3
    config.optimizer.decay = "cosine"
    config.optimizer.warmup = 50
    config.network = ml_collections.ConfigDict(
        {
            "family": "iresnet",
            "layers": (1, 1, 1, 1),
            "widths": (16, 32, 64, 128),
            "size": (32, 32),
            "embedding": 128,
            "margin": 0.2,  # radians
            "margin_ramp": 400,  # steps from 0 to the whole margin, and to the whole robust_radius
            "scale": 16.0,
            "weight_decay": 1e-3,
            "centres": "learned",  # or "known": the numbers of rendered people (contrib/rendered/class_prototypes.py)
            "robust_radius": 0.0,  # Euclidean, of pictures in [0, 1]; 0 trains on the pictures as they are
        }
    )
    return config


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> IdentityTraining:
    """The method for one experiment and the people in it.

    Raises:
      UserError: gradient accumulation is asked for, which these networks are too small to need; ``network.centres``
        is neither "learned" nor "known", or known ones are asked for and these people are not rendered.
    """
    if config.accumulate != 1:
        raise UserError(
            f"config.accumulate is {config.accumulate}, but the identity method takes a batch whole; set it to 1."
        )
    fields = config.network
    if fields.centres not in ("learned", "known"):
        raise UserError(f"config.network.centres is '{fields.centres}'; use 'learned' or 'known'.")
    network = IdentityNetwork(
        IdentityConfig(
            family=fields.family,
            layers=tuple(fields.layers),
            widths=tuple(fields.widths),
            size=tuple(fields.size),
            frame=tuple(fields.size),
            resize="area",  # as the loader makes the pictures that it is trained on
            embedding=fields.embedding,
            values="symmetric",
        ),
        axis_name,
    )
    centres = None
    if fields.centres == "known":
        centres = known_centres(Path(config.data.root), people.names, fields.embedding)
    frozen_config = ml_collections.FrozenConfigDict(config)
    return IdentityTraining(frozen_config, network, len(people.names), centres, axis_name=axis_name)

"""A hardened copy of a frozen identity network, as a method: it answers as the network does to what people see of a
face, and hardly to scribbles and stains of colour, so that a generator trained against it has to draw the face.

The copy h starts as the network f and learns L = 1 − cos(h(x'), f(x)) on pictures x that are moved to x' where L is
larger (`adversarial.py`). Nobody's names are needed, and the two networks' vectors can be compared: SimSwap
takes the source's vector from f and judges the result by h (``config.identity.hardened``).
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax import losses
from simswap_jax.contrib.small_models.adversarial import stained_pictures
from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.training import guard, optimizers
from simswap_jax.training.draws import drawn
from simswap_jax.training.image_batches import batches_of_pictures
from simswap_jax.training.method import Batch, Metrics
from simswap_jax.training.state import PyTree, TrainState, averaged, network_state
from simswap_jax.weights import identity_folder


@dataclass(frozen=True)
class Hardening:
    """The network that is copied, and how hard the copy is made.

    Attributes:
      teacher: the frozen network.
    """

    config: ml_collections.ConfigDict
    teacher: identity_folder.Identity
    axis_name: str | None = None

    @property
    def frozen(self) -> PyTree:
        """Variables of the network that is copied."""
        return self.teacher.variables

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optimizers.adam(self.config, self.config.optimizer.learning_rate)

    def init(self, key: jax.Array) -> TrainState:
        """The copy before its first step."""
        variables = jax.tree.map(jnp.asarray, self.teacher.variables)
        networks = {"identity": network_state(variables, self.optimizer)}
        return TrainState.create(key, networks, jax.tree.map(jnp.copy, variables) if self.config.ema else {})

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update. Batch: ``image`` uint8 [B, H, W, 3]. Batch statistics stay the network's own."""
        settings, network, copy = self.config.hardening, self.teacher.network, state.networks["identity"]
        pictures = batch["image"].astype(jnp.float32) / 255.0
        wanted = network.embed(frozen, pictures)

        def loss(params: PyTree, pictures: jax.Array) -> jax.Array:
            return losses.identity(network.embed({"params": params, **copy.collections}, pictures), wanted)

        of_move, of_coat = jax.random.split(jax.random.fold_in(state.key, state.step))
        grid = (pictures.shape[0], settings.grid, settings.grid, 3)
        ramp = jnp.minimum(1.0, (state.step + 1.0) / max(1, settings.ramp))
        moved = stained_pictures(
            pictures,
            jax.grad(functools.partial(loss, copy.params)),
            settings.radius * ramp,
            settings.stain * ramp,
            drawn(jax.random.normal, of_move, pictures.shape, self.axis_name),
            2.0 * drawn(jax.random.uniform, of_coat, grid, self.axis_name) - 1.0,
        )
        value, gradients = jax.value_and_grad(loss)(copy.params, moved)
        if self.axis_name is not None:
            gradients, value = jax.lax.pmean((gradients, value), self.axis_name)
        networks = {"identity": copy.updated(gradients, copy.collections, self.optimizer)}
        ema = state.ema
        if self.config.ema:
            ema = averaged(ema, networks["identity"].variables, self.config.ema, state.step)
        metrics = {"distance": value}
        after = TrainState(step=state.step + 1, key=state.key, networks=networks, ema=ema)
        if self.config.nonfinite_limit:
            after, metrics[guard.SKIPPED] = guard.finite_or_unmoved(state, after, (value, optax.tree.norm(gradients)))
        return after, metrics

    def batches(self, people: People, cache: Path, start: loader.State | None = None) -> loader.Batches:
        """Pictures of the training people, shuffled."""
        return batches_of_pictures(self.config, people, start)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Nothing to see: vectors."""
        return {}

    def export(self, state: TrainState, folder: Path) -> None:
        """Write an identity folder, which says whose copy it is."""
        variables = state.ema if self.config.ema else state.networks["identity"].variables
        card = {
            "step": int(state.step),
            "copy_of": {"name": self.teacher.name, "sha256": self.teacher.sha256},
            "licence": "that of the network it is a copy of, and of the training pictures",
        }
        identity_folder.write(folder, self.teacher.network.config, variables, card)


def default_config() -> ml_collections.ConfigDict:
    """A MobileFaceNet at 112 pixels; two CPU cores do 26 to 31 images a second (AMD EPYC)."""
    from simswap_jax.training.config import default_config as simswap_config

    config = simswap_config()
    config.method = "hardening"
    config.steps, config.batch_size = 1_000, 32
    config.data.size = 112
    config.ema = 0.995
    config.optimizer.learning_rate, config.optimizer.b1 = 1e-3, 0.9
    config.optimizer.warmup, config.optimizer.decay = 100, "cosine"
    config.hardening = ml_collections.ConfigDict(
        {
            "radius": 1.5,  # Euclidean, of pictures in [0, 1]
            "stain": 0.15,  # the most that a coat of colour adds to a value, or takes
            "grid": 5,  # cells of the coat along a side
            "ramp": 500,  # steps over which both grow
        }
    )
    return config


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> Hardening:
    """The method for one experiment.

    Raises:
      UserError: the network is missing, or gradient accumulation is asked for.
    """
    del people
    if config.accumulate != 1:
        raise UserError(
            f"config.accumulate is {config.accumulate}, but the hardening method takes a batch whole; set it to 1."
        )
    teacher = identity_folder.read(config.identity.weights, "hardening (config.identity.weights)")
    return Hardening(ml_collections.FrozenConfigDict(config), teacher, axis_name)

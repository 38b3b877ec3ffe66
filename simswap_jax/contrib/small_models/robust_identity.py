"""Robust fine-tuning of a frozen identity network, as a method: a copy that answers as the network does to what people
see of a face, and hardly to texture and slow colour that they do not, so that a generator has to draw the face.

The copy h starts as the network f and learns L = 1 − cos(h(x'), f(x)) on pictures x that are moved to x' where L is
larger (`colour_perturbed_pictures`). No labels are needed, and the two networks' vectors can be compared: SimSwap
takes the source's vector from f and judges the result by h (``config.identity.robust``).
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax import losses
from simswap_jax.data.dataset import People
from simswap_jax.training import schedules
from simswap_jax.training.config import check_whole_batch, common_config
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.identity import ShuffledPictures
from simswap_jax.training.method import Batch, Metrics
from simswap_jax.training.simswap_checks import check_sees
from simswap_jax.training.state import PyTree, TrainState, network_state
from simswap_jax.training.update import Gradients, UpdateRule, per_sample_random
from simswap_jax.weights import identity_folder


def of_length(x: jax.Array, length: jax.Array | float) -> jax.Array:
    """Each picture of [B, H, W, C] scaled to this Euclidean length, over all its values."""
    return length * x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=(1, 2, 3), keepdims=True) + 1e-24)


def adversarial_pictures(
    pictures: jax.Array, slope: Callable[[jax.Array], jax.Array], radius: jax.Array | float, noise: jax.Array
) -> jax.Array:
    """The pictures, each moved by ``radius`` to where the loss is larger: one step of adversarial training.

    Args:
      pictures: float [B, H, W, 3] in [0, 1].
      slope: the gradient of the loss at other pictures.
      radius: Euclidean length of the move, over all values of one picture; half of it is taken at random first
        (Wong et al., "Fast is better than free", 2020).
      noise: normal numbers of the pictures' shape, the direction of the random half.
    """
    start = of_length(noise, 0.5 * radius)
    return pictures + jax.lax.stop_gradient(of_length(slope(pictures + start), radius))


def colour_perturbed_pictures(
    pictures: jax.Array,
    slope: Callable[[jax.Array], jax.Array],
    radius: jax.Array | float,
    strength: jax.Array | float,
    noise: jax.Array,
    colours: jax.Array,
) -> jax.Array:
    """``adversarial_pictures`` under a colour perturbation that varies slowly, it too chosen to make the loss larger.

    Slow changes of colour are what a generator finds first to please an identity network, and far longer moves than
    ``radius``; people are not taken in by them.

    Args:
      pictures, slope, radius, noise: as in ``adversarial_pictures``.
      strength: the most that the colour perturbation adds to or takes from a value.
      colours: uniform numbers in [−1, 1], [B, g, g, 3]: where the search for it begins. It is drawn from such a grid by
        cubic interpolation.
    """

    def perturbed(move: jax.Array, grid: jax.Array) -> jax.Array:
        return pictures + move + jax.image.resize(strength * grid, pictures.shape, "cubic")

    at = perturbed(of_length(noise, 0.5 * radius), colours)
    move = slope(at)
    # The perturbation is linear in its grid, so the grid's slope is the transposed interpolation of the picture's.
    (grid,) = jax.linear_transpose(lambda grid: jax.image.resize(grid, pictures.shape, "cubic"), colours)(move)
    return jax.lax.stop_gradient(perturbed(of_length(move, radius), jnp.clip(colours + jnp.sign(grid), -1.0, 1.0)))


@dataclass(frozen=True)
class RobustIdentity(ShuffledPictures):
    """The network that is copied, and how robust the copy is made (``config.robust_identity``).

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
    def update(self) -> UpdateRule:
        """Adam, and the copy's moving average."""
        config = self.config
        by_network = {"identity": schedules.adam(config, config.optimizer.learning_rate)}
        guarded = bool(config.nonfinite_limit)
        return UpdateRule(by_network, "identity", config.ema, skip_nonfinite=guarded, axis_name=self.axis_name)

    def init(self, key: jax.Array) -> TrainState:
        """The copy before its first step."""
        variables = jax.tree.map(jnp.asarray, self.teacher.variables)
        networks = {"identity": network_state(variables, self.update.optimizers["identity"])}
        return TrainState.create(key, networks, jax.tree.map(jnp.copy, variables) if self.config.ema else {})

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update. Batch: ``image`` uint8 [B, H, W, 3]. Batch statistics stay the network's own."""
        return self.update(functools.partial(self.gradients, frozen=frozen), state, batch)

    def gradients(self, state: TrainState, batch: Mapping[str, Any], frozen: PyTree) -> Gradients:
        """Gradients of the copy on perturbed pictures, and its distance from the network there."""
        settings, network, copy = self.config.robust_identity, self.teacher.network, state.networks["identity"]
        pictures = batch["image"].astype(jnp.float32) / 255.0
        wanted = network.embed(frozen, pictures)

        def loss(params: PyTree, pictures: jax.Array) -> jax.Array:
            return losses.identity(network.embed({"params": params, **copy.collections}, pictures), wanted)

        of_move, of_colour = jax.random.split(jax.random.fold_in(state.key, state.step))
        grid = (pictures.shape[0], settings.grid, settings.grid, 3)
        ramp = jnp.minimum(1.0, (state.step + 1.0) / max(1, settings.ramp))
        moved = colour_perturbed_pictures(
            pictures,
            jax.grad(functools.partial(loss, copy.params)),
            settings.radius * ramp,
            settings.colour * ramp,
            per_sample_random(jax.random.normal, of_move, pictures.shape, self.axis_name),
            2.0 * per_sample_random(jax.random.uniform, of_colour, grid, self.axis_name) - 1.0,
        )
        value, gradients = jax.value_and_grad(loss)(copy.params, moved)
        return {"identity": gradients}, {"identity": copy.collections}, {"distance": value}

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
    config = common_config()
    config.method = "robust_identity"
    config.steps, config.batch_size = 1_000, 32
    config.data.size = 112
    config.ema = 0.995
    config.optimizer.learning_rate, config.optimizer.b1 = 1e-3, 0.9
    config.optimizer.warmup, config.optimizer.decay = 100, "cosine"
    config.identity = Experiment({"weights": "arcface_checkpoint.tar"})  # what is copied
    config.robust_identity = Experiment(
        {
            "radius": 1.5,  # Euclidean, of pictures in [0, 1]
            "colour": 0.15,  # the most that the colour perturbation adds to a value, or takes
            "grid": 5,  # cells of the colour perturbation along a side
            "ramp": 500,  # steps over which both grow
        }
    )
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that this method cannot train.

    Raises:
      UserError: gradient accumulation is asked for.
    """
    check_whole_batch(config)


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> RobustIdentity:
    """The method for one experiment.

    Raises:
      UserError: the network is missing, or cannot take pictures of this size.
    """
    del people
    teacher = identity_folder.read(config.identity.weights, "robust fine-tuning (config.identity.weights)")
    check_sees(teacher.network, "data.size", config.data.size)
    return RobustIdentity(ml_collections.FrozenConfigDict(config), teacher, axis_name)

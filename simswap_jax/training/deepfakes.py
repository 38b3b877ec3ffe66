"""DeepFakes (2017, no paper) as a method: an encoder for everybody and a decoder a person undo warps of faces."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax.data import loader
from simswap_jax.data.dataset import People
from simswap_jax.data.warped import warped_batches
from simswap_jax.errors import UserError
from simswap_jax.models import families
from simswap_jax.models.config import MOST_STAGES
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.training import flops, schedules
from simswap_jax.training.config import check_whole_batch, common_config
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.method import Batch, GeneratorMethod, Metrics, Work
from simswap_jax.training.simswap import generator_config
from simswap_jax.training.simswap_checks import check_drawn_size
from simswap_jax.training.state import PyTree, TrainState, network_state
from simswap_jax.training.update import Gradients

# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """What is told of the first programs, at 64 pixels; there is no paper, and each value was chosen here."""
    config = common_config()
    config.method = "deepfakes"
    config.data.size = 64
    config.data.warp = 5 / 160  # how far the mesh is displaced, a share of the side; 0 warps nothing
    config.generator = Experiment({"family": "deepfakes", **families.get("deepfakes").fields()})
    config.optimizer.learning_rate, config.optimizer.b1 = 5e-5, 0.5
    config.batch_size, config.steps = 64, 200_000
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that DeepFakes cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    check_whole_batch(config)
    check_drawn_size(config, generator_config(config, 0).multiple)
    if config.init_from and not config.generator.people:
        raise UserError(
            "config.init_from brings a decoder a person, and config.generator.people names nobody; name the people in "
            "the order of the run that it starts from.",
            "deepfakes-warm-start-of-nobody",
        )
    if config.validation.every:
        raise UserError(
            "config.validation swaps people who were held out, and DeepFakes can draw those it was trained on only; "
            "set config.validation.every to 0.",
            "deepfakes-validation",
        )


# ---- The method ----


@dataclass(frozen=True)
class DeepFakes(GeneratorMethod):
    """Encoder, decoders and their optimiser.

    Attributes:
      chosen: who is drawn, as indices into the names of the training people.
      axis_name: the mapped axis under ``pmap``.
    """

    config: ml_collections.ConfigDict
    generator: SwapNetwork
    chosen: tuple[int, ...]
    axis_name: str | None = None
    frozen: PyTree = ()
    identity: None = None

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for encoder and decoders."""
        return {"generator": schedules.adam(self.config, self.config.optimizer.learning_rate)}

    def init(self, key: jax.Array) -> TrainState:
        """Fresh networks, optimiser and average."""
        generator_key, run_key = jax.random.split(key)
        generator = self.generator.init(generator_key, self.config.data.size)
        networks = {"generator": network_state(generator, self.update.optimizers["generator"])}
        return TrainState.create(run_key, networks, jax.tree.map(jnp.copy, generator) if self.config.ema else {})

    def decode(self, pictures: jax.Array) -> jax.Array:
        """uint8 pictures → the generator's floats."""
        return normalize(pictures.astype(jnp.float32) / 255.0, self.generator.convention)

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update: mean |D_p(E(warped x)) − x| over the people's own pictures. Pure; one program."""
        del frozen
        floats = {name: self.decode(batch[name]) for name in ("input", "target")}

        def of_part(at: TrainState, part: Batch) -> Gradients:
            def loss(params: PyTree) -> jax.Array:
                drawn = self.generator.module.apply({"params": params}, part["input"], method="grouped")
                return jnp.mean(jnp.abs(drawn - part["target"]))

            value, made = jax.value_and_grad(loss)(at.networks["generator"].params)
            return {"generator": made}, {"generator": {}}, {"reconstruction": value}

        return self.update(of_part, state, floats)

    def work(self) -> Sequence[Work]:
        """One call of the encoder and of everybody's decoder, shared by as many pictures."""
        count, side = len(self.chosen), self.config.data.size
        state = jax.eval_shape(self.init, jax.random.PRNGKey(0)).networks
        pictures = jax.ShapeDtypeStruct((count, side, side, 3), jnp.float32)

        def draw(variables: PyTree, pictures: jax.Array) -> jax.Array:
            drawn: Any = self.generator.module.apply(variables, pictures, method="grouped")
            return drawn

        arguments = (state["generator"].variables, pictures)
        return (Work("encoder and decoders", draw, arguments, flops.TRAINED / count),)

    # ---- Around the step ----

    def batches(self, people: People, cache: Path) -> loader.Batches:
        """Warped pictures of the people who are drawn, in turn."""
        del cache
        config = self.config
        iterator = warped_batches(
            people, self.chosen, config.data.size, config.batch_size, config.seed, config.data.warp, config.data.flip,
            host_index=jax.process_index(), host_count=jax.process_count(), threads=config.data.threads,
        )  # fmt: skip
        return iterator

    @functools.cached_property
    def _swapped(self) -> Any:
        def swapped(variables: PyTree, pictures: jax.Array, person: jax.Array) -> jax.Array:
            results = self.generator.apply(variables, self.decode(pictures), {"person": person})
            return jnp.clip(denormalize(results, self.generator.convention), 0.0, 1.0)

        return jax.jit(swapped)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Pictures, and each of the first four people in their place."""
        del frozen
        targets, variables = np.asarray(batch["target"]), self.averaged_variables(state)
        columns = {"target": targets}
        for person, name in enumerate(self.generator.config.people[:4]):
            results = self._swapped(variables, targets, np.full(len(targets), person, np.int32))
            columns[f"as {name}"] = np.asarray(jnp.round(results * 255.0)).astype(np.uint8)
        return columns


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> DeepFakes:
    """The method of one experiment.

    Raises:
      UserError: somebody who is to be drawn is not among the people, or the batch cannot be shared by them.
    """
    made = generator_config(config, 0)
    names = made.people or tuple(people.names)
    missing = [name for name in names if name not in people.names]
    if missing:
        raise UserError(
            f"config.generator.people names '{missing[0]}', who is not among the people trained on; correct the name, "
            "or lower config.data.held_out.",
            "deepfakes-person-missing",
        )
    if not 1 <= len(names) <= MOST_STAGES:
        raise UserError(
            f"there are {len(names)} people to train on, and DeepFakes has a decoder for each of at most "
            f"{MOST_STAGES}; name some of them in config.generator.people.",
            "deepfakes-too-many-people",
        )
    shares = (config.devices or len(jax.devices())) if axis_name else jax.process_count()
    if config.batch_size % (len(names) * shares):
        raise UserError(
            f"config.batch_size is {config.batch_size}; {len(names)} people on {shares} devices or processes need a "
            f"multiple of {len(names) * shares}.",
            "deepfakes-batch",
        )
    generator = families.build(replace(made, people=names), axis_name)
    chosen = tuple(people.names.index(name) for name in names)
    return DeepFakes(ml_collections.FrozenConfigDict(config), generator, chosen, axis_name)

"""FSGAN (Nirkin et al., arXiv 1908.05932) as a method: its three networks, one after the other or all in one step.

``config.stage`` says which of them are trained. Those that are not keep what ``config.init_from`` brought.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax import losses
from simswap_jax.data import landmarks, loader, pairs
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.models import MultiScaleDiscriminator, families
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.fsgan import FACE, grid, only
from simswap_jax.models.ops.poisson import poisson_clone
from simswap_jax.training import flops, schedules
from simswap_jax.training.config import check_choice, common_config
from simswap_jax.training.experiment import Experiment, resolve
from simswap_jax.training.method import Batch, GeneratorMethod, Metrics, Work
from simswap_jax.training.simswap import generator_config, multi_scale_discriminator
from simswap_jax.training.simswap_checks import check_discriminator_sizes
from simswap_jax.training.state import PyTree, TrainState, network_state
from simswap_jax.training.update import Gradients, per_sample_random
from simswap_jax.weights import model_folder

NEEDS_PEOPLE = False  # built and checked before any picture is read

# Of each stage's pairs the share of same-person ones; the paper's, except the joint stage's, which is ours.
SAME_FRACTION = {"reenact": 1.0, "inpaint": 1.0, "blend": 0.0, "joint": 0.5}
STAGES = ("reenact", "inpaint", "blend")
LACKS = "without FSGAN's perceptual losses (VGG-19) and its segmentation network"


# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """The paper's losses and weights at 256 pixels, but for the perceptual ones, whose networks are not here.

    Each value says whose it is: the paper's (its published code's); or chosen here.
    """
    config = common_config()
    config.method = "fsgan"
    config.stage = "joint"  # ours: all three in a step; paper: "reenact", "inpaint", "blend", one after the other
    config.data.size = 256  # paper
    config.generator = Experiment({"family": "fsgan", **families.get("fsgan").fields()})
    config.discriminator = Experiment(  # paper: two scales, three halvings, batch norm
        {"widths": (64, 128, 256), "tail": 512, "scales": 2, "norm": "batch", "dtype": "float32"}
    )
    config.losses = Experiment(
        {
            "reconstruction": 0.1,  # paper: L1
            "features": 1.0,  # ours: the discriminators' features, in place of the paper's VGG-19s, 0.5 and 0.5
            "segmentation": 0.1,  # paper: cross-entropy
            "adversarial": 0.001,  # paper: least squares of a sigmoid
            "adversarial_blend": 0.1,  # paper
        }
    )
    config.optimizer.learning_rate, config.optimizer.b1 = 1e-4, 0.5  # paper; it halves the rate every 200,000 steps
    config.optimizer.discriminator_learning_rate = 1e-5  # paper
    config.batch_size = 16  # paper; 500,000 steps: chosen here
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that FSGAN cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    check_choice(config, "stage", tuple(SAME_FRACTION))
    generator_config(config, 0)
    check_discriminator_sizes(config)
    if config.stage == "blend" and not config.init_from:
        raise UserError(
            "config.stage is 'blend', which blends faces that the stages before draw; name their run in "
            "config.init_from, or train all in one, 'joint'.",
            "fsgan-stage-needs-former",
        )
    if config.validation.every and ":" in config.generator.landmarks:
        raise UserError(
            "config.validation swaps pictures whose landmarks are to be found, and config.generator.landmarks is a "
            "function that knows a data set's only; name a landmark network, or set config.validation.every to 0.",
            "fsgan-validation",
        )


# ---- What is drawn, and what it should be ----


def holes(points: jax.Array, numbers: jax.Array, side: int, reach: float) -> jax.Array:
    """A random ellipse on each face's edge, its axes a quarter to half as long as the face is wide.

    Args:
      points: landmarks [B,P,2], fractions of the picture.
      numbers: uniform in [0, 1), [B,4].
      side: of the pictures, pixels.
      reach: as of the generator's configuration.

    Returns:
      float32 [B,side,side,1], 1 inside.
    """
    centre = jnp.mean(points, axis=1)
    angle, turn = 2.0 * np.pi * numbers[:, 0], np.pi * numbers[:, 1]
    out = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    radius = jnp.max(jnp.sum((points - centre[:, None]) * out[:, None], axis=-1), axis=1)
    middle = centre + reach * radius[:, None] * out
    width = reach * (jnp.max(points[..., 0], axis=1) - jnp.min(points[..., 0], axis=1))
    halves = width[:, None] * (1.0 + numbers[:, 2:4]) / 8.0
    away = grid(side) - middle[:, None, None]
    along = jnp.stack([jnp.cos(turn), jnp.sin(turn)], axis=-1)[:, None, None]
    across = jnp.stack([-jnp.sin(turn), jnp.cos(turn)], axis=-1)[:, None, None]
    u, v = jnp.sum(away * along, axis=-1), jnp.sum(away * across, axis=-1)
    first, second = (jnp.maximum(halves[:, i], 1e-6)[:, None, None] for i in (0, 1))
    return (jnp.square(u / first) + jnp.square(v / second) <= 1.0)[..., None].astype(jnp.float32)


def least_squares(scales: Sequence[Any], wanted: float) -> jax.Array:
    """Mean (σ(D(x)) − wanted)², averaged over the scales."""
    return jnp.mean(jnp.stack([jnp.mean(jnp.square(jax.nn.sigmoid(scale.logits) - wanted)) for scale in scales]))


def masked_l1(drawn: jax.Array, answer: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean |drawn − answer| over each face's pixels, then over the batch."""
    apart = jnp.sum(jnp.abs(drawn - answer) * mask, axis=(1, 2, 3))
    return jnp.mean(apart / (3.0 * jnp.maximum(jnp.sum(mask, axis=(1, 2, 3)), 1.0)))


def cross_entropy(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean −log p of each pixel's class, face where the mask [B,S,S] is 1, else background; logits [B,S,S,CLASSES]."""
    likely = jax.nn.log_softmax(logits)
    return -jnp.mean(mask * likely[..., FACE] + (1.0 - mask) * likely[..., 0])


# ---- The method ----


@dataclass(frozen=True)
class FSGAN(GeneratorMethod):
    """The chain of three networks, discriminators of faces, and their optimisers.

    Attributes:
      axis_name: the mapped axis under ``pmap``.
    """

    config: ml_collections.ConfigDict
    generator: SwapNetwork
    discriminator: MultiScaleDiscriminator
    axis_name: str | None = None
    frozen: PyTree = ()
    identity: None = None

    @property
    def stages(self) -> tuple[str, ...]:
        """Which networks are trained."""
        return STAGES if self.config.stage == "joint" else (self.config.stage,)

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for both players."""
        rates = self.config.optimizer
        return {
            "generator": schedules.adam(self.config, rates.learning_rate),
            "discriminator": schedules.adam(self.config, rates.discriminator_learning_rate),
        }

    def init(self, key: jax.Array) -> TrainState:
        """Fresh networks, optimisers and average."""
        generator_key, discriminator_key, run_key = jax.random.split(key, 3)
        size = self.config.data.size
        made = {
            "generator": self.generator.init(generator_key, size),
            "discriminator": self.discriminator.init(discriminator_key, jnp.zeros((2, size, size, 3)), train=False),
        }
        networks = {name: network_state(tree, self.update.optimizers[name]) for name, tree in made.items()}
        return TrainState.create(
            run_key, networks, jax.tree.map(jnp.copy, made["generator"]) if self.config.ema else {}
        )

    # ---- The step ----

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of the stage's networks and of the discriminators. Pure; one program."""
        del frozen
        key = jax.random.fold_in(state.key, state.step)
        shape = (batch["target"].shape[0], 4)
        numbers = per_sample_random(jax.random.uniform, key, shape, self.axis_name)
        floats = {name: batch[name].astype(jnp.float32) / 255.0 for name in ("target", "source")}
        given = {name: batch[name] for name in ("target_points", "same_person")}
        return self.update(self.gradients, state, {**floats, **given, "numbers": numbers})

    def gradients(self, state: TrainState, batch: Batch) -> Gradients:
        """Gradients of both players at the same parameters, for pictures in 0 to 1; zero for the other stages'."""
        generator, discriminator = state.networks["generator"], state.networks["discriminator"]
        of_generator = jax.value_and_grad(self.generator_loss, has_aux=True)
        (_, (shown, collections, terms)), made = of_generator(generator.params, state, batch)
        of_discriminator = jax.value_and_grad(self.discriminator_loss, has_aux=True)
        (lost, judged), against = of_discriminator(
            discriminator.params, discriminator.collections, jax.lax.stop_gradient(shown)
        )
        return (
            {"generator": made, "discriminator": against},
            {"generator": collections, "discriminator": judged},
            {**terms, "discriminator": lost},
        )

    def generator_loss(self, params: PyTree, state: TrainState, batch: Batch) -> tuple[jax.Array, Any]:
        """The stages' losses.

        Returns:
          their weighted sum, and (stage → what was drawn and what it should be, the generator's new collections, the
          losses by name). Where the re-enacted person is not the target's there is no answer and no loss but the
          segmentation's.
        """
        weights, network = self.config.losses, state.networks["generator"]
        side, reach = batch["target"].shape[1], self.generator.config.reach
        hole = holes(batch["target_points"], batch["numbers"], side, reach)
        made, collections = self.generator.module.apply(
            {"params": params, **network.collections}, batch["target"], batch["source"], batch["target_points"], hole,
            self.stages, mutable=list(network.collections), method="training_outputs",
        )  # fmt: skip
        mask, judge = made["mask"], state.networks["discriminator"]
        shown = self.answered(made, batch["target"])
        total, terms = jnp.zeros(()), {}
        for stage, (drawn, answer) in shown.items():
            if stage == "reenact":
                drawn = jnp.where(batch["same_person"][:, None, None, None], drawn, answer)
                terms["segmentation"] = cross_entropy(made["reenact"].logits, mask[..., 0])
                total += weights.segmentation * terms["segmentation"]
            fake, _ = self.judged(judge.params, judge.collections, drawn)
            real, _ = self.judged(judge.params, judge.collections, answer)
            of_stage = {
                "reconstruction": masked_l1(drawn, answer, mask),
                "features": losses.weak_feature_matching([x.features for x in fake], [x.features for x in real], 0),
                "adversarial": least_squares(fake, 1.0),
            }
            adversarial = weights.adversarial_blend if stage == "blend" else weights.adversarial
            total += weights.reconstruction * of_stage["reconstruction"] + weights.features * of_stage["features"]
            total += adversarial * of_stage["adversarial"]
            terms |= {f"{stage}_{name}": value for name, value in of_stage.items()}
        return total, (shown, collections, {**terms, "generator": total})

    def answered(self, made: Batch, target: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Stage → what its network drew and what it should be, the face only: [B,S,S,3], −1 to 1."""
        mask, target, found = made["mask"], 2.0 * target - 1.0, {}
        if "reenact" in self.stages:
            found["reenact"] = made["reenact"].picture, target
        if "inpaint" in self.stages:
            found["inpaint"] = made["inpaint"], target
        if "blend" in self.stages:
            found["blend"] = made["blend"], poisson_clone(made["face"], target, mask)
        return {stage: (only(drawn, mask), only(answer, mask)) for stage, (drawn, answer) in found.items()}

    def discriminator_loss(self, params: PyTree, collections: PyTree, shown: Batch) -> tuple[jax.Array, PyTree]:
        """½ (least squares of what should be, 1, and of what was drawn, 0), averaged over the stages."""
        each = []
        for drawn, answer in shown.values():
            fake, collections = self.judged(params, collections, drawn)
            real, collections = self.judged(params, collections, answer)
            each.append(0.5 * (least_squares(real, 1.0) + least_squares(fake, 0.0)))
        return jnp.mean(jnp.stack(each)), collections

    def judged(self, params: PyTree, collections: PyTree, pictures: jax.Array) -> tuple[Any, PyTree]:
        """(features and logits of every scale, new batch statistics) for pictures, −1 to 1."""
        variables = {"params": params, **collections}
        return self.discriminator.apply(variables, pictures, train=True, mutable=list(collections))

    def work(self) -> Sequence[Work]:
        """The calls of the networks that a step is made of."""
        side, count = self.config.data.size, self.generator.config.points
        picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        points = jax.ShapeDtypeStruct((1, count, 2), jnp.float32)
        state = jax.eval_shape(self.init, jax.random.PRNGKey(0)).networks
        variables = state["generator"].variables
        calls = {
            "reenact": ("reenacted", (picture, points)),
            "inpaint": ("filled", (picture, mask)),
            "blend": ("blended", (picture, picture, mask)),
        }
        passes = {stage: flops.TRAINED if stage in self.stages else 0 for stage in STAGES}
        if "blend" in self.stages:  # what it blends is drawn for it
            passes["inpaint"] += flops.FORWARD
            passes["reenact"] += 0 if "reenact" in self.stages else flops.FORWARD

        def call(method: str, variables: PyTree, *given: jax.Array) -> Any:
            return self.generator.module.apply(variables, *given, False, method=method)

        return (
            *(
                Work(stage, functools.partial(call, method), (variables, *given), passes[stage])
                for stage, (method, given) in calls.items()
            ),
            Work(
                "discriminator", self.discriminator.apply, (state["discriminator"].variables, picture),
                len(self.stages) * flops.DISCRIMINATOR,
            ),
        )  # fmt: skip

    # ---- Around the step ----

    def batch_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """What `batches` gives, of the whole batch."""
        count, side, points = self.config.batch_size, self.config.data.size, self.generator.config.points
        picture = jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8)
        where = jax.ShapeDtypeStruct((count, points, 2), jnp.float32)
        same = jax.ShapeDtypeStruct((count,), jnp.bool_)
        return {
            "target": picture, "same_person": same, "source": picture, "target_points": where, "source_points": where,
        }  # fmt: skip

    def batches(self, people: People, cache: Path) -> loader.Batches:
        """Pairs of the training people, as the stage wants them, and their landmarks."""
        config = self.config
        options = pairs.PairingOptions(
            config.seed, config.batch_size, "mixed", SAME_FRACTION[config.stage], config.data.flip
        )
        pairing = pairs.Pairing(people.person, options, host_index=jax.process_index(), host_count=jax.process_count())
        iterator = loader.pair_batches(
            people, pairing, config.data.size, config.data.size, threads=config.data.threads,
            points=self.landmarks(people, cache),
        )  # fmt: skip
        return iterator

    def landmarks(self, people: People, cache: Path) -> np.ndarray:
        """Landmarks of every picture and of its mirror, float32 [N,2,P,2].

        Raises:
          UserError: nothing finds so many.
        """
        name, count = self.generator.config.landmarks, self.generator.config.points
        if ":" not in name:
            return landmarks.of_people(people, landmarks.network(name, count), cache, self.config.data.size)
        root = os.path.expanduser(self.config.data.root)
        known: np.ndarray = resolve(name, "generator.landmarks")(root, people.files)
        if known.shape != (len(people), 2, count, 2):
            raise UserError(
                f"config.generator.landmarks knows landmarks {list(known.shape)}, and {[len(people), 2, count, 2]} are "
                "needed; set config.generator.points to the number of points.",
                "known-landmarks-shape",
            )
        return known.astype(np.float32)

    @functools.cached_property
    def _steps(self) -> Any:
        def steps(variables: PyTree, targets: jax.Array, sources: jax.Array, points: jax.Array) -> Any:
            given = (x.astype(jnp.float32) / 255.0 for x in (targets, sources))
            return self.generator.module.apply(variables, *given, points, method="steps")

        return jax.jit(steps)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Source, target, and what the networks make of them; the source of a row is another row's, another person."""
        del frozen
        sources, targets = np.roll(np.asarray(batch["source"]), 1, axis=0), np.asarray(batch["target"])
        drawn = self._steps(self.averaged_variables(state), targets, sources, np.asarray(batch["target_points"]))
        columns = {"source": sources, "target": targets}
        for name, pictures in zip(("re-enacted", "completed", "result"), drawn):
            columns[name] = np.asarray(jnp.round(jnp.clip(pictures, 0.0, 1.0) * 255.0)).astype(np.uint8)
        return columns

    def model(self, state: TrainState) -> model_folder.ModelFolder:
        """What swapping loads, in memory; the card says what of FSGAN is not here."""
        made = super().model(state)
        return replace(made, card={**made.card, "lacks": LACKS})


def build(config: ml_collections.ConfigDict, people: People | None, axis_name: str | None = None) -> FSGAN:
    """The method of one experiment.

    Raises:
      UserError: the generator cannot be made.
    """
    del people
    generator = families.build(generator_config(config, 0), axis_name)
    discriminator = multi_scale_discriminator(config, axis_name)
    return FSGAN(ml_collections.FrozenConfigDict(config), generator, discriminator, axis_name)

"""FaceShifter's second stage, HEAR-Net (Li et al., arXiv 1912.13457, §3.2), as a method: it learns on a frozen AEI-Net.

The paper trains it on the tenth of its faces with the largest heuristic error (``config.data.top_errors``), and on
occluders of photographed hands and rendered objects. Here a share of the targets gets a drawn occluder.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax import losses
from simswap_jax.data import embeddings
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import arrays_sha256
from simswap_jax.io.progress import Progress
from simswap_jax.models import families
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.training import faceshifter, flops, schedules, simswap
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.faceshifter import squared_reconstruction
from simswap_jax.training.method import Batch, Metrics, Work
from simswap_jax.training.occluders import NUMBERS, occluded
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.state import PyTree, TrainState, network_state, with_variables
from simswap_jax.training.update import Gradients, per_sample_random
from simswap_jax.training.warm_start import RANDOM
from simswap_jax.weights import model_folder
from simswap_jax.weights.model_names import find_model

logger = logging.getLogger(__name__)

NEEDS_PEOPLE = False  # built and checked before any picture is read


# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """The paper's losses at 256 pixels; there is no discriminator."""
    config = faceshifter.default_config()
    config.method = "faceshifter_hear"
    # Model folder of a trained AEI-Net of the same shape; or "random": one that nobody trained.
    config.first_stage = ""
    config.data.same_fraction = 0.5  # paper
    config.data.occluded = 0.5  # chosen here: the share of the targets that something is drawn over
    # Off: all pictures are targets. Paper: 0.1, the share of them with the largest heuristic error.
    config.data.top_errors = 1.0
    config.generator = Experiment({"family": "faceshifter_hear", **families.get("faceshifter_hear").fields()})
    config.losses = Experiment({"identity": 1.0, "reconstruction": 1.0, "change": 1.0})  # paper
    del config.discriminator, config.optimizer.discriminator_learning_rate
    config.steps = 50_000  # chosen here
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that HEAR-Net cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    faceshifter.check(config)
    if not 0.0 <= config.data.occluded <= 1.0:
        raise UserError(f"config.data.occluded is {config.data.occluded}; it is a share, 0 to 1.", "hear-occluded")
    if not 0.0 < config.data.top_errors <= 1.0:
        raise UserError(
            f"config.data.top_errors is {config.data.top_errors}; it is a share of the pictures, above 0 to 1 (all).",
            "hear-top-errors",
        )
    if config.identity.robust:
        raise UserError(
            f"config.identity.robust is {config.identity.robust}, but HEAR-Net takes the target's own vector, which is "
            "the network's and not its copy's; leave it empty.",
            "hear-robust-copy",
        )
    if not config.first_stage and not config.init_from:
        raise UserError(
            "config.first_stage is empty; name the model folder of a trained AEI-Net (method 'faceshifter'), or say "
            "'random' for one that nobody trained.",
            "hear-without-first-stage",
        )


# ---- Which pictures are targets ----


def largest(errors: np.ndarray, share: float) -> np.ndarray:
    """The rows of the largest errors [N], a share of them, one or more: int [M], ascending."""
    count = max(1, round(share * len(errors)))
    rows: np.ndarray = np.sort(np.argsort(-errors, kind="stable")[:count])
    return rows


# ---- The method ----


@dataclass(frozen=True)
class FaceShifterHear(SimSwap):
    """HEAR-Net and its optimiser, beside AEI-Net in one state; batches, sheets and model folder are as SimSwap's."""

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for HEAR-Net; AEI-Net stays as it is."""
        trained = schedules.generator_optimizer(self.config)
        parts = optax.partition(
            {"hear": trained, "aei": optax.set_to_zero()},
            lambda params: {name: jax.tree.map(lambda _, part=name: part, tree) for name, tree in params.items()},
        )
        return {"generator": parts}

    def init(self, key: jax.Array) -> TrainState:
        """Fresh networks, optimiser and average; AEI-Net is found in `begin`."""
        generator_key, run_key = jax.random.split(key)
        generator = self.generator.init(generator_key, self.config.data.size)
        networks = {"generator": network_state(generator, self.update.optimizers["generator"])}
        return TrainState.create(run_key, networks, jax.tree.map(jnp.copy, generator) if self.config.ema else {})

    def begin(self, state: TrainState) -> TrainState:
        """A fresh state with the AEI-Net of ``config.first_stage``.

        Raises:
          UserError: there is no such model folder, or it was made for another identity network or is of another shape.
        """
        source = self.config.first_stage
        if self.config.init_from or source == RANDOM:  # a warm start brings both stages
            return state
        model = model_folder.read(find_model(source), identity_sha256=self.identity.sha256, with_identity=False)
        wanted = self.generator.config.first_stage
        if not isinstance(model.generator, type(wanted)) or replace(model.generator, dtype=wanted.dtype) != wanted:
            raise UserError(
                f"{source} (config.first_stage) is no AEI-Net of this experiment's shape; give config.generator the "
                "shape that it was trained in, or name another model folder.",
                "hear-other-first-stage",
            )
        found = {name: {"aei": jax.tree.map(np.asarray, tree)} for name, tree in model.variables.items()}
        generator = with_variables(state.networks["generator"], found)
        ema = jax.tree.map(jnp.copy, generator.variables) if self.config.ema else state.ema
        return replace(state, networks={"generator": generator}, ema=ema)

    # ---- The step ----

    def occlude(self, pictures: jax.Array, key: jax.Array) -> jax.Array:
        """Pictures [B,H,W,3] in [0, 1], a share of them with something drawn over the face."""
        random = per_sample_random(jax.random.uniform, key, (pictures.shape[0], NUMBERS), self.axis_name)
        return occluded(pictures, random, self.config.data.occluded)

    def given(self, floats: Batch, frozen: PyTree) -> dict[str, jax.Array]:
        """The source's vector, and the target's own."""
        pictures = denormalize(floats["target"], self.generator.convention)
        return {**super().given(floats, frozen), "target_vector": self.networks.identity.embed(frozen, pictures)}

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of HEAR-Net, from a batch of uint8 pictures: L_rec + L_id + L_chg. Pure; one program."""
        key = jax.random.fold_in(state.key, state.step)
        pictures = self.occlude(batch["target"].astype(jnp.float32) / 255.0, key)
        floats: Batch = {**self.decode(batch), "target": normalize(pictures, self.generator.convention)}

        def of_part(at: TrainState, part: Batch) -> Gradients:
            loss = jax.value_and_grad(self.loss, has_aux=True)
            (_, (collections, terms)), made = loss(at.networks["generator"].params, at, part, frozen)
            return {"generator": made}, {"generator": collections}, terms

        return self.update(of_part, state, floats)

    def loss(self, params: PyTree, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[jax.Array, Any]:
        """The weighted sum, and (the generator's new collections, the losses by name)."""
        collections = state.networks["generator"].collections
        given = jax.lax.stop_gradient(self.given(batch, frozen))
        (result, first), collections = self.generator.module.apply(
            {"params": params, **collections}, batch["target"], given["vector"], given["target_vector"],
            train=True, mutable=list(collections), method="with_first_stage",
        )  # fmt: skip
        vectors = self.networks.identity.embed(frozen, denormalize(result, self.generator.convention))
        terms = {
            "identity": losses.identity(vectors, given["vector"]),
            "reconstruction": squared_reconstruction(result, batch["target"], batch["same_person"]),
            "change": jnp.mean(jnp.abs(first - result)),
        }
        total = jnp.sum(jnp.stack([self.config.losses[name] * value for name, value in terms.items()]))
        return total, (collections, {**terms, "generator": total})

    def work(self) -> Sequence[Work]:
        """Both stages' calls, and the identity network's."""
        side = self.config.data.size
        variables = jax.eval_shape(self.init, jax.random.PRNGKey(0)).networks["generator"].variables
        picture, pair = (jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32) for channels in (3, 6))
        vector = jax.ShapeDtypeStruct((1, self.generator.identity_size), jnp.float32)

        def swap(variables: PyTree, target: jax.Array, vector: jax.Array) -> jax.Array:
            return self.generator.apply(variables, target, {"vector": vector, "target_vector": vector})

        def hear(variables: PyTree, pair: jax.Array) -> Any:
            return self.generator.module.apply(variables, pair, method=lambda module, x: module.hear(x, False))

        source = jax.ShapeDtypeStruct((1, self.config.data.source_size, self.config.data.source_size, 3), jnp.float32)
        embed = self.identity.network.embed
        of_source = 0 if self.config.data.precompute_embeddings else flops.FORWARD
        return (
            Work("both stages", swap, (variables, picture, vector), flops.FORWARD),
            Work("HEAR-Net's gradients", hear, (variables, pair), flops.TRAINED - flops.FORWARD),
            Work("identity, of a result", embed, (self.frozen, picture), flops.DIFFERENTIATED),
            Work("identity, of a target", embed, (self.frozen, picture), flops.FORWARD),
            Work("identity, of a source", embed, (self.frozen, source), of_source),
        )

    def shares(self, metrics: Mapping[str, Any], step: int) -> dict[str, dict[str, float]]:
        """As `SimSwap.shares`; the weights are constant, and there is no discriminator."""
        del step
        names = {"id": "identity", "rec": "reconstruction", "chg": "change"}
        return {"G": {short: float(self.config.losses[name] * metrics[name]) for short, name in names.items()}, "D": {}}

    # ---- Around the step ----

    @property
    def chooses_targets(self) -> bool:
        """Whether targets are some of the pictures, by AEI-Net's errors."""
        return bool(self.config.data.top_errors < 1.0)

    def with_targets(self, state: TrainState, people: People, cache: Path) -> "FaceShifterHear":
        """The same method, its targets being the pictures with the largest heuristic errors.

        Raises:
          UserError: as `heuristic_errors`.
        """
        errors = self.heuristic_errors(state, people, cache)
        rows = largest(errors, self.config.data.top_errors)
        logger.info(
            "targets are the %d of %d pictures with the largest heuristic errors, from %.4f on; the median is %.4f",
            *(len(rows), len(people), errors[rows].min(), np.median(errors)),
        )
        return replace(self, targets=rows)

    def heuristic_errors(self, state: TrainState, people: People, cache: Path) -> np.ndarray:
        """Mean |ΔY_t| of every picture, float32 [N], ΔY_t = X_t − AEI(X_t, z_id(X_t)); read from ``cache`` where the
        same networks had computed it of the same pictures before. The pictures are seen as they are, not mirrored.

        Raises:
          UserError: an error is not finite, or the file cannot be written.
        """
        aei = families.build(self.generator.config.first_stage)
        found = {name: tree["aei"] for name, tree in state.networks["generator"].variables.items()}
        given, size = {"aei": found, "identity": self.frozen}, self.config.data.size

        @jax.jit
        def errors(variables: PyTree, pictures: jax.Array) -> jax.Array:
            scaled = pictures.astype(jnp.float32) / 255.0
            target = normalize(scaled, aei.convention)
            own = self.networks.identity.embed(variables["identity"], scaled)
            return jnp.mean(jnp.abs(target - aei.apply(variables["aei"], target, {"vector": own})), (1, 2, 3))

        def compute() -> np.ndarray:
            count, on_device = len(people), jax.device_put(given)
            batch_size = min(embeddings.BATCH_SIZE, count)
            with Progress(count, "heuristic errors") as progress:
                made = embeddings.compute_in_batches(
                    errors, on_device, lambda row: people.picture(row, size), count, batch_size, progress.add
                )
            if not np.isfinite(made).all():
                raise UserError(
                    "AEI-Net (config.first_stage) draws pictures that are not finite; train it anew, or name another.",
                    "hear-errors-not-finite",
                )
            return made[:, None, None]

        key = f"heuristic errors {arrays_sha256(given)} {aei.config} {self.networks.identity.config}"
        return np.asarray(embeddings.cached(people, key, cache, size, compute, views=1)[:, 0, 0])

    @functools.cached_property
    def _jitted_stages(self) -> Any:
        def stages(variables: PyTree, batch: Batch, frozen: PyTree) -> tuple[jax.Array, ...]:
            numbers = jax.random.uniform(jax.random.PRNGKey(0), (batch["target"].shape[0], NUMBERS))
            target = occluded(batch["target"].astype(jnp.float32) / 255.0, numbers, 1.0)
            floats = {**self.decode(batch), "target": normalize(target, self.generator.convention)}
            given = self.given(floats, frozen)
            drawn = self.generator.module.apply(
                variables, floats["target"], given["vector"], given["target_vector"], method="with_first_stage"
            )
            pictures = (target, *(denormalize(each, self.generator.convention) for each in reversed(drawn)))
            return tuple(jnp.round(jnp.clip(each, 0.0, 1.0) * 255.0).astype(jnp.uint8) for each in pictures)

        return jax.jit(stages)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Source (where its picture is known), target with an occluder, and what either stage makes of it."""
        batch = simswap.of_two_people(batch)
        made = self._jitted_stages(self.averaged_variables(state), batch, frozen)
        columns = {"source": np.asarray(batch["source"])} if "source" in batch else {}
        return {**columns, **dict(zip(("target", "first stage", "result"), map(np.asarray, made), strict=True))}


build, from_networks = simswap.functions_of(FaceShifterHear, lambda config, axis_name: None)

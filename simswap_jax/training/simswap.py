"""SimSwap as a method: from an experiment to networks, steps, batches, samples and a model folder.

What a step computes stands in ``step.py``.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax.data import embeddings, loader, pairs
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.models import DiscriminatorConfig, MultiScaleDiscriminator, families
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.models.projected_discriminator import ProjectedDiscriminator
from simswap_jax.training import flops, schedules
from simswap_jax.training.config import common_config
from simswap_jax.training.experiment import Experiment, resolve
from simswap_jax.training.extra_losses import ExtraLoss, extra_losses, try_extra_losses, with_extra_losses
from simswap_jax.training.method import Batch, GeneratorMethod, Metrics, Work
from simswap_jax.training.simswap_checks import check_pairs, read_identity
from simswap_jax.training.state import PyTree, TrainState, network_state
from simswap_jax.training.step import Networks, generator_loss, train_step
from simswap_jax.training.update import per_sample_random
from simswap_jax.weights import identity_folder

NEEDS_PEOPLE = False  # built and checked before any picture is read

# (state, floats, frozen, key) → floats with another ``generator_input``
Augmentation = Callable[[TrainState, Batch, PyTree, jax.Array], Batch]
AnySimSwap = TypeVar("AnySimSwap", bound="SimSwap")


# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """The paper's recipe at 224 pixels, beside what every method has (`training.config.common_config`).

    Each value says whose it is: the paper's; not stated there, so chosen here; or off, because it is not in the paper.
    """
    config = common_config()
    config.method = "simswap"
    config.data.source_size = 112  # what ArcFace sees
    config.data.precompute_embeddings = False  # off; True: identity vectors computed once, in place of source pictures
    config.data.pairing = "alternate"  # paper: batches of either kind in turn; "mixed" (ours): both in each
    config.data.same_fraction = 0.5  # ours: of a "mixed" batch
    config.generator = Experiment({"family": "simswap", **families.get("simswap").fields()})  # paper: §3.2, nine blocks
    config.discriminator = Experiment(
        {
            "widths": (64, 128, 256, 512),  # paper: a multi-scale PatchGAN
            "tail": 512,
            "scales": 2,
            "norm": "batch",  # not stated
            "dtype": "float32",
        }
    )
    config.identity = Experiment(
        {
            "weights": "arcface_checkpoint.tar",  # paper: an ArcFace
            "robust": "",  # off; folder of a robust copy (config.method = "robust_identity"), by which L_id judges
            "dtype": "",  # what the step computes its maps in: "float32", "bfloat16", or "" for the network's own
        }
    )
    config.losses = Experiment(
        {
            "identity": 10.0,  # paper
            "reconstruction": 10.0,  # paper
            "adversarial": 1.0,  # paper
            "gradient_penalty": 1e-5,  # paper
            "feature_matching": 10.0,  # paper
            "feature_matching_first": 3,  # paper's m, counted from 0; its value is not stated
            "feature_matching_end": 0,  # off; maps from this one on are left out
            "identity_margin": 0.0,  # off; a sample whose 1 − cosine is below this is pulled no nearer
            "identity_ramp": 0,  # off; steps over which the identity weight grows from 0
            "rest_ramp": 0,  # off; steps over which the generator's other weights grow from a tenth
            "extra": Experiment(),  # none; NAME = {"function": "package.module:function", "weight": 1.0}
        }
    )
    config.augmentation = ""  # off; "package.module:function" of what is done to the generator's input
    config.augmentation_options = Experiment()
    config.optimizer.discriminator_learning_rate = 4e-4  # not stated
    config.optimizer.generator = "adam"  # paper; or "package.module:function"
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that SimSwap cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    if not 0.0 <= config.losses.identity_margin < 2.0:
        raise UserError(
            f"config.losses.identity_margin is {config.losses.identity_margin}; it is a 1 − cosine, 0 to below 2.",
            "config-identity-margin",
        )
    extra_losses(config)
    check_pairs(config)


# ---- The method ----


@dataclass(frozen=True)
class SimSwap(GeneratorMethod):
    """The networks and the optimisers of one experiment.

    Attributes:
      identity: the frozen identity network that source vectors come from.
      robust: variables of a copy of it that judges results in its place (``config.identity.robust``); or None.
      axis_name: the mapped axis under ``pmap``; None under ``jit``, where the batch is global by construction.
      targets: int [M], the pictures that targets are drawn from; None for all.
    """

    config: ml_collections.ConfigDict
    generator: SwapNetwork
    discriminator: MultiScaleDiscriminator | ProjectedDiscriminator
    identity: identity_folder.Identity
    axis_name: str | None = None
    robust: PyTree = None
    targets: np.ndarray | None = None

    @property
    def frozen(self) -> PyTree:
        """Variables of the identity network that judges results."""
        return self.identity.variables if self.robust is None else self.robust

    @functools.cached_property
    def networks(self) -> Networks:
        """The networks as the step runs them; the identity network in ``config.identity.dtype``, or in its own."""
        dtype = self.config.identity.dtype
        network = self.identity.network
        network = replace(network, config=replace(network.config, dtype=dtype)) if dtype else network
        return Networks(self.generator, self.discriminator, network)

    @property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Adam for both players."""
        config = self.config
        return {
            "generator": schedules.generator_optimizer(config),
            "discriminator": schedules.adam(config, config.optimizer.discriminator_learning_rate),
        }

    @functools.cached_property
    def augmentation(self) -> Augmentation | None:
        """What ``config.augmentation`` does to the generator's input, if anything; the paper does nothing."""
        if not self.config.augmentation:
            return None
        made: Augmentation | None = resolve(self.config.augmentation, "augmentation")(self)
        return made

    @functools.cached_property
    def extra(self) -> tuple[ExtraLoss, ...]:
        """The losses of ``config.losses.extra``; the paper has none."""
        return extra_losses(self.config)

    # ---- The step ----

    def init(self, key: jax.Array) -> TrainState:
        """Fresh networks, optimisers and average."""
        generator_key, discriminator_key, run_key = jax.random.split(key, 3)
        size = self.config.data.size
        generator = self.generator.init(generator_key, size)
        discriminator = self.discriminator.init(discriminator_key, jnp.zeros((2, size, size, 3)), train=False)
        networks = {
            "generator": network_state(generator, self.update.optimizers["generator"]),
            "discriminator": network_state(discriminator, self.update.optimizers["discriminator"]),
        }
        # A copy: the donated state must not hold one buffer twice.
        return TrainState.create(run_key, networks, jax.tree.map(jnp.copy, generator) if self.config.ema else {})

    def decode(self, batch: Batch) -> dict[str, jax.Array]:
        """uint8 pictures → the floats that the step takes."""
        target = normalize(batch["target"].astype(jnp.float32) / 255.0, self.generator.convention)
        floats = {"target": target, "generator_input": target, "same_person": batch["same_person"]}
        if "identity" in batch:
            return {**floats, "identity": batch["identity"]}
        return {**floats, "source": batch["source"].astype(jnp.float32) / 255.0}

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of generator and discriminators, from a batch of uint8 pictures. Pure; one program."""
        key = jax.random.fold_in(state.key, state.step)
        floats: Batch = self.decode(batch)
        alpha = per_sample_random(jax.random.uniform, key, (floats["target"].shape[0], 1, 1, 1), self.axis_name)
        if self.augmentation is not None:
            floats = self.augmentation(state, floats, frozen, jax.random.fold_in(key, 1))
        weights = schedules.loss_weights(self.config, state.step)
        loss = with_extra_losses(generator_loss, self.extra)
        return train_step(self.networks, weights, self.update, state, floats, frozen, alpha, loss)

    def work(self) -> Sequence[Work]:
        """The calls of the three networks that a step is made of."""
        data, weights = self.config.data, self.config.losses
        picture = jax.ShapeDtypeStruct((1, data.size, data.size, 3), jnp.float32)
        source = jax.ShapeDtypeStruct((1, data.source_size, data.source_size, 3), jnp.float32)
        vector = jax.ShapeDtypeStruct((1, self.generator.identity_size), jnp.float32)
        state = jax.eval_shape(self.init, jax.random.PRNGKey(0)).networks
        embed = self.identity.network.embed

        def swap(variables: PyTree, target: jax.Array, vector: jax.Array) -> jax.Array:
            return self.generator.apply(variables, target, {"vector": vector})

        more = getattr(self.augmentation, "generator_passes", 0)
        passes = flops.DISCRIMINATOR + (flops.PENALTY if weights.get("gradient_penalty") else 0)
        of_source = 0 if data.precompute_embeddings else flops.FORWARD
        variables = {name: network.variables for name, network in state.items()}
        discriminate = self.discriminator.apply
        return (
            Work("generator", swap, (variables["generator"], picture, vector), flops.TRAINED + more),
            Work("discriminator", discriminate, (variables["discriminator"], picture), passes),
            Work("identity, of a result", embed, (self.frozen, picture), flops.DIFFERENTIATED),
            Work("identity, of a source", embed, (self.frozen, source), of_source),
        )

    def shares(self, metrics: Mapping[str, Any], step: int) -> dict[str, dict[str, float]]:
        """The weighted losses of a step, for people: of generator (G) and discriminators (D), each with its total's.

        Args:
          metrics: of the step.
          step: which one, from 1.
        """
        return schedules.loss_shares(schedules.loss_weights(self.config, step - 1), metrics, extra=self.extra)

    # ---- Around the step ----

    def batches(self, people: People, cache: Path) -> loader.Batches:
        """Pairs of the training people, as the experiment pairs them."""
        data = self.config.data
        options = pairs.PairingOptions(
            self.config.seed, self.config.batch_size, data.pairing, data.same_fraction, data.flip,
            data.get("same_source", "person"),
        )  # fmt: skip
        host = {"host_index": jax.process_index(), "host_count": jax.process_count()}
        pairing = pairs.Pairing(people.person, options, **host, targets=self.targets)
        known = None
        if data.precompute_embeddings:
            known = embeddings.identity_vectors(
                people,
                self.identity,
                cache,
                size=data.size,  # as the results are seen
            )
        iterator = loader.pair_batches(
            people, pairing, data.size, data.source_size, vectors=known, threads=data.threads
        )
        return iterator

    def given(self, floats: Batch, frozen: PyTree) -> dict[str, jax.Array]:
        """What the generator takes beside the target, of a decoded batch."""
        known = "identity" in floats
        return {"vector": floats["identity"] if known else self.identity.network.embed(frozen, floats["source"])}

    def swap(self, variables: PyTree, batch: Batch, frozen: PyTree) -> jax.Array:
        """Results as an inference program would give them: [B, H, W, 3] in [0, 1]."""
        floats = self.decode(batch)
        result = self.generator.apply(variables, floats["target"], self.given(floats, frozen))
        return jnp.clip(denormalize(result, self.generator.convention), 0.0, 1.0)

    @functools.cached_property
    def _jitted_swap(self) -> Any:
        return jax.jit(self.swap)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Source (where its picture is known), target and result of one batch.

        A row whose source is the target's own person gets the source of the row before: sheets show swaps.
        """
        batch = of_two_people(batch)
        results = self._jitted_swap(self.averaged_variables(state), batch, frozen)
        columns = {"source": np.asarray(batch["source"])} if "source" in batch else {}
        return {
            **columns,
            "target": np.asarray(batch["target"]),
            "result": np.asarray(jnp.round(results * 255.0)).astype(np.uint8),
        }


def of_two_people(batch: Batch) -> dict[str, Any]:
    """The batch with the source of the row before where a source is the target's own person."""
    own = np.asarray(batch["same_person"], bool)
    others = {name: np.asarray(batch[name]) for name in ("source", "identity") if name in batch}
    for name, array in others.items():
        others[name] = np.where(own.reshape(-1, *[1] * (array.ndim - 1)), np.roll(array, 1, axis=0), array)
    return {**batch, **others}


# ---- From an experiment to the method ----


def build(config: ml_collections.ConfigDict, people: People | None, axis_name: str | None = None) -> SimSwap:
    """SimSwap for one experiment; reads the identity network.

    Raises:
      UserError: the identity network is missing, or the generator cannot be made.
    """
    del people
    return against_identity(from_networks, config, axis_name)


def against_identity(
    make: Callable[..., AnySimSwap], config: ml_collections.ConfigDict, axis_name: str | None
) -> AnySimSwap:
    """What ``make`` (a `from_networks`) makes with the identity network that the experiment names.

    Raises:
      UserError: the network, or its robust copy, is missing or does not fit.
    """
    identity = read_identity(config)
    return make(config, identity, axis_name, robust_copy(config, identity))


def robust_copy(config: ml_collections.ConfigDict, identity: identity_folder.Identity) -> PyTree:
    """Variables of the copy that ``config.identity.robust`` names; None if it names none.

    Raises:
      UserError: it is missing or another network's, or source vectors would have to come from it.
    """
    if not config.identity.robust:
        return None
    copy = identity_folder.read(config.identity.robust, "training against (config.identity.robust)")
    if copy.copy_of != identity.sha256:
        raise UserError(
            f"{config.identity.robust} is no robust copy of {identity.name}; "
            "make one with config.method = 'robust_identity'.",
            "robust-copy-of-another-network",
        )
    if not config.data.precompute_embeddings:
        raise UserError(
            "config.identity.robust needs config.data.precompute_embeddings = True: source vectors come from the "
            "network itself.",
            "robust-copy-needs-embeddings",
        )
    return copy.variables


def from_networks(
    config: ml_collections.ConfigDict,
    identity: identity_folder.Identity,
    axis_name: str | None = None,
    robust: PyTree = None,
) -> SimSwap:
    """SimSwap for one experiment, against an identity network in memory."""
    return assembled(SimSwap, config, identity, multi_scale_discriminator(config, axis_name), axis_name, robust)


def multi_scale_discriminator(config: ml_collections.ConfigDict, axis_name: str | None) -> MultiScaleDiscriminator:
    """The discriminators that ``config.discriminator`` describes.

    Raises:
      UserError: there are none of such fields.
    """
    fields = config.discriminator
    try:
        made = DiscriminatorConfig(
            widths=tuple(fields.widths), tail=fields.tail, scales=fields.scales, norm=fields.norm, dtype=fields.dtype
        )
    except ValueError as error:
        raise UserError(str(error), "config-discriminator") from error
    return MultiScaleDiscriminator(made, axis_name=axis_name)


def assembled(
    kind: type[AnySimSwap],
    config: ml_collections.ConfigDict,
    identity: identity_folder.Identity,
    discriminator: Any,
    axis_name: str | None,
    robust: PyTree,
) -> AnySimSwap:
    """A method of SimSwap's kind from its networks, with the generator that ``config.generator`` describes."""
    generator = families.build(generator_config(config, identity.network.config.embedding), axis_name)
    method = kind(ml_collections.FrozenConfigDict(config), generator, discriminator, identity, axis_name, robust)
    _ = method.update, method.augmentation  # what they refuse is refused before anything is compiled
    if config.losses.get("extra"):
        axis = (axis_name, config.devices or jax.local_device_count()) if axis_name else None
        batch = max(1, config.batch_size // (config.accumulate * (axis[1] if axis else 1)))
        try_extra_losses(method.extra, batch, config.data.size, identity.network.config.embedding, axis)
    return method


def functions_of(
    kind: type[AnySimSwap], discriminator: Callable[[ml_collections.ConfigDict, str | None], Any]
) -> tuple[Callable[..., AnySimSwap], Callable[..., AnySimSwap]]:
    """``build`` and ``from_networks``, as they are above, of another method of SimSwap's kind.

    Args:
      kind: its class.
      discriminator: (config, axis_name) → its discriminators, or None.
    """

    def make(
        config: ml_collections.ConfigDict,
        identity: identity_folder.Identity,
        axis_name: str | None = None,
        robust: PyTree = None,
    ) -> AnySimSwap:
        return assembled(kind, config, identity, discriminator(config, axis_name), axis_name, robust)

    def read(config: ml_collections.ConfigDict, people: People | None, axis_name: str | None = None) -> AnySimSwap:
        del people
        return against_identity(make, config, axis_name)

    return read, make


def generator_config(config: ml_collections.ConfigDict, identity_size: int) -> Any:
    """The configuration of the generator that an experiment asks for, in its family.

    Raises:
      UserError: there is no such family, or the face size is not a multiple of what the generator halves.
    """
    fields = config.generator.to_dict()
    try:
        made = families.get(fields.pop("family")).from_fields(fields, identity_size)
    except ValueError as error:
        raise UserError(str(error), "config-generator") from error
    if config.data.size % made.multiple:
        raise UserError(
            f"config.data.size is {config.data.size}, but this generator needs a multiple of {made.multiple}; "
            f"use {max(1, round(config.data.size / made.multiple)) * made.multiple}.",
            "config-size-no-multiple",
        )
    return made

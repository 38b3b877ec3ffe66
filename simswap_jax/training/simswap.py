"""SimSwap as a method (paper, section 3): one step updates generator and discriminators in one program."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from simswap_jax import losses
from simswap_jax.contrib.small_models import augmentation
from simswap_jax.data import embeddings, loader, pairs
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.models import DiscriminatorConfig, Generator, GeneratorConfig, MultiScaleDiscriminator
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.normalization import from_convention, to_convention
from simswap_jax.training import accumulation, flops, guard, optimizers
from simswap_jax.training.draws import drawn
from simswap_jax.training.method import Batch, Metrics
from simswap_jax.training.state import NetworkState, PyTree, TrainState, averaged, network_state
from simswap_jax.weights import identity_folder, model_folder


@dataclass(frozen=True)
class SimSwap:
    """The networks, the weights of the losses and the optimisers of one experiment.

    Attributes:
      hardened: variables of a copy of the identity network, which judges results in its place
        (`contrib/small_models/robust_identity.py`); or None.
      axis_name: the mapped axis under ``pmap``; None under ``jit``, where the batch is global by construction.
    """

    config: ml_collections.ConfigDict
    generator: Generator
    discriminator: MultiScaleDiscriminator
    identity: identity_folder.Identity
    axis_name: str | None = None
    hardened: PyTree = None

    @property
    def frozen(self) -> PyTree:
        """Variables of the identity network that judges results."""
        return self.identity.variables if self.hardened is None else self.hardened

    @functools.cached_property
    def recogniser(self) -> IdentityNetwork:
        """The identity network as the step runs it: in ``config.identity.dtype``, or in its own."""
        dtype = self.config.identity.dtype
        network = self.identity.network
        return replace(network, config=replace(network.config, dtype=dtype)) if dtype else network

    @functools.cached_property
    def optimizers(self) -> dict[str, optax.GradientTransformation]:
        """Optax, by the trained network's name."""
        rates = self.config.optimizer
        return {
            "generator": optimizers.generator(self.config),
            "discriminator": optimizers.adam(self.config, rates.discriminator_learning_rate),
        }

    def init(self, key: jax.Array) -> TrainState:
        """Fresh networks, optimisers and average."""
        of_generator, of_discriminator, of_run = jax.random.split(key, 3)
        size = self.config.data.size
        picture = jnp.zeros((2, size, size, 3))
        vector = jnp.zeros((2, self.generator.config.identity_size))
        generator = self.generator.init(of_generator, picture, vector, train=False)
        discriminator = self.discriminator.init(of_discriminator, picture, train=False)
        networks = {
            "generator": network_state(generator, self.optimizers["generator"]),
            "discriminator": network_state(discriminator, self.optimizers["discriminator"]),
        }
        # A copy: the donated state must not hold one buffer twice.
        return TrainState.create(of_run, networks, jax.tree.map(jnp.copy, generator) if self.config.ema else {})

    def decode(self, batch: Batch) -> dict[str, jax.Array]:
        """uint8 pictures → the floats that ``gradients`` takes."""
        floats = {
            "target": to_convention(batch["target"].astype(jnp.float32) / 255.0, self.generator.config.convention),
            "same_person": batch["same_person"],
        }
        if "identity" in batch:
            return {**floats, "identity": batch["identity"]}
        return {**floats, "source": batch["source"].astype(jnp.float32) / 255.0}

    def gradients(
        self,
        state: TrainState,
        batch: Mapping[str, jax.Array],
        frozen: PyTree,
        alpha: jax.Array,
        axis_name: str | None = None,
        micro_batches: int = 1,
    ) -> tuple[dict[str, PyTree], dict[str, PyTree], Metrics]:
        """Gradients of both players, at the same parameters and the same result I_R.

        The generator minimises, with λ from ``config.losses``,
        λ_id·L_id + λ_rec·L_rec + λ_adv·L_adv + λ_fm·L_wFM; the discriminators hinge + λ_gp·L_gp.

        Args:
          state: where the gradients are taken.
          batch: ``target`` float [B, H, W, 3] in the generator's convention; ``source`` float [B, S, S, 3] in [0, 1] or
            ``identity`` float32 [B, D] of unit length; ``same_person`` bool [B]; ``seen`` (optional), what the
            generator gets in place of ``target``, which stays the answer.
          frozen: variables of the identity network.
          alpha: float32 [B, 1, 1, 1] in [0, 1], where between real and fake the gradient penalty is taken.
          axis_name: average over this mapped axis.
          micro_batches: in how many parts, one after the other, the batch is taken.

        Returns:
          gradients and the new collections, each by network, and the metrics (scalars).
        """
        if micro_batches == 1:
            gradients, collections, metrics = self._gradients(state, batch, frozen, alpha)
        else:

            def take(at: TrainState, part: Mapping[str, jax.Array]) -> accumulation.Taken:
                floats = {name: array for name, array in part.items() if name != "alpha"}
                return self._gradients(at, floats, frozen, part["alpha"])

            parts = {**batch, "alpha": alpha}
            gradients, collections, metrics = accumulation.accumulated(take, state, parts, micro_batches)
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        metrics |= {f"{name}_gradient": optax.tree.norm(tree) for name, tree in gradients.items()}
        return gradients, collections, metrics

    def _gradients(
        self, state: TrainState, batch: Mapping[str, jax.Array], frozen: PyTree, alpha: jax.Array
    ) -> tuple[dict[str, PyTree], dict[str, PyTree], Metrics]:
        """``gradients`` of this device's part of one micro-batch."""
        weights = self.config.losses
        target = batch["target"]
        generator, discriminator = state.networks["generator"], state.networks["discriminator"]
        source_vectors = batch["identity"] if "identity" in batch else self.recogniser.embed(frozen, batch["source"])
        source_vectors = jax.lax.stop_gradient(source_vectors)
        mutable = list(discriminator.collections)

        def judge(params: PyTree, collections: PyTree, images: jax.Array) -> tuple[Any, PyTree]:
            return self.discriminator.apply({"params": params, **collections}, images, train=True, mutable=mutable)

        def generator_loss(params: PyTree) -> tuple[jax.Array, Any]:
            result, collections = self.generator.apply(
                {"params": params, **generator.collections},
                batch.get("seen", target),
                source_vectors,
                train=True,
                mutable=list(generator.collections),
            )
            fake, _ = judge(discriminator.params, discriminator.collections, result)
            real, _ = judge(discriminator.params, discriminator.collections, target)
            shown = from_convention(result, self.generator.config.convention)
            result_vectors = self.recogniser.embed(frozen, shown)
            terms = {
                "identity": losses.identity(result_vectors, source_vectors),
                "reconstruction": losses.reconstruction(result, target, batch["same_person"]),
                "adversarial": losses.adversarial_generator([scale.logits for scale in fake]),
                "weak_feature_matching": losses.weak_feature_matching(
                    [scale.features for scale in fake],
                    [scale.features for scale in real],
                    weights.feature_matching_first,
                    weights.feature_matching_end or None,
                ),
            }
            ramp = jnp.minimum(1.0, (state.step + 1.0) / weights.identity_ramp) if weights.identity_ramp else 1.0
            rest = jnp.minimum(1.0, 0.1 + 0.9 * state.step / weights.rest_ramp) if weights.rest_ramp else 1.0
            pull = terms["identity"]
            if weights.identity_margin:
                pull = losses.identity(result_vectors, source_vectors, weights.identity_margin)
            total = weights.identity * ramp * pull + rest * (
                weights.reconstruction * terms["reconstruction"]
                + weights.adversarial * terms["adversarial"]
                + weights.feature_matching * terms["weak_feature_matching"]
            )
            return total, (result, collections, {**terms, "generator": total})

        (_, (result, generator_collections, terms)), generator_gradients = jax.value_and_grad(
            generator_loss, has_aux=True
        )(generator.params)
        result = jax.lax.stop_gradient(result)

        def penalty(params: PyTree) -> jax.Array:
            variables = {"params": params, **discriminator.collections}
            inputs = zip(self.discriminator.pyramid(target), self.discriminator.pyramid(result), strict=True)
            return sum(
                losses.gradient_penalty(functools.partial(self._scale_logits, variables, scale), real, fake, alpha)
                for scale, (real, fake) in enumerate(inputs)
            )

        def discriminator_loss(params: PyTree) -> tuple[jax.Array, Any]:
            fake, collections = judge(params, discriminator.collections, result)
            real, collections = judge(params, collections, target)
            fake_logits, real_logits = [scale.logits for scale in fake], [scale.logits for scale in real]
            hinge = losses.adversarial_discriminator(real_logits, fake_logits)
            said = {
                "discriminator": hinge,
                "real_logits": jnp.mean(jnp.stack([jnp.mean(x) for x in real_logits])),
                "fake_logits": jnp.mean(jnp.stack([jnp.mean(x) for x in fake_logits])),
            }
            every = weights.gradient_penalty_every
            if not weights.gradient_penalty:
                return hinge, (collections, said)
            if every == 1:
                value = penalty(params)
            else:
                value = jax.lax.cond(state.step % every == 0, penalty, lambda _: jnp.zeros(()), params)
            said["gradient_penalty"] = value
            return hinge + weights.gradient_penalty * every * value, (collections, said)

        (_, (discriminator_collections, said)), discriminator_gradients = jax.value_and_grad(
            discriminator_loss, has_aux=True
        )(discriminator.params)
        gradients = {"generator": generator_gradients, "discriminator": discriminator_gradients}
        metrics = {**terms, **said}
        return gradients, {"generator": generator_collections, "discriminator": discriminator_collections}, metrics

    def _scale_logits(self, variables: PyTree, scale: int, images: jax.Array) -> jax.Array:
        """Logits of one scale on its own input, with batch statistics that are not kept."""
        output, _ = self.discriminator.apply(
            variables, scale, images, train=True, mutable=["batch_stats"], method=MultiScaleDiscriminator.scale
        )
        return output.logits

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of generator and discriminators: decode, gradients, Adam, average. Pure; one program."""
        key = jax.random.fold_in(state.key, state.step)
        floats = self.decode(batch)
        alpha = drawn(jax.random.uniform, key, (floats["target"].shape[0], 1, 1, 1), self.axis_name)
        if self.config.corruption.colour or self.config.corruption.swap:
            floats = self.corrupted(state, floats, frozen, jax.random.fold_in(key, 1))
        gradients, collections, metrics = self.gradients(
            state, floats, frozen, alpha, self.axis_name, self.config.accumulate
        )
        networks: dict[str, NetworkState] = {
            name: network.updated(gradients[name], collections[name], self.optimizers[name])
            for name, network in state.networks.items()
        }
        ema = state.ema
        if self.config.ema:
            ema = averaged(ema, networks["generator"].variables, self.config.ema, state.step)
        after = TrainState(step=state.step + 1, key=state.key, networks=networks, ema=ema)
        if self.config.nonfinite_limit:
            after, metrics[guard.SKIPPED] = guard.finite_or_unmoved(state, after, (metrics, collections))
        return after, metrics

    def corrupted(
        self, state: TrainState, floats: Mapping[str, jax.Array], frozen: PyTree, key: jax.Array
    ) -> dict[str, jax.Array]:
        """The batch with ``seen``: targets of same-person pairs with another's face, or in other colours, or both.

        See `augmentation.py`. The other face is drawn by the averaged generator as it is at this step.
        """
        settings, target = self.config.corruption, floats["target"]
        of_colour, of_choice = jax.random.split(key)
        seen, floats = target, dict(floats)
        if settings.swap:
            if "identity" not in floats:
                floats["identity"] = self.recogniser.embed(frozen, floats.pop("source"))
            other = augmentation.of_the_next(floats["identity"], self.axis_name)
            swapped = self.generator.apply(self.averaged_variables(state), target, other, train=False)
            chosen = drawn(jax.random.uniform, of_choice, (target.shape[0], 1, 1, 1), self.axis_name) < settings.swap
            seen = jnp.where(chosen, swapped, seen)
        if settings.colour:
            convention = self.generator.config.convention
            shown = augmentation.recoloured(
                from_convention(seen, convention), settings.colour, of_colour, self.axis_name
            )
            seen = to_convention(shown, convention)
        same = floats["same_person"][:, None, None, None]
        return {**floats, "seen": jax.lax.stop_gradient(jnp.where(same, seen, target))}

    def flops_per_image(self) -> float:
        """Model FLOPs of one step, an image of the batch."""
        return flops.simswap_step(self)

    def batches(self, people: People, cache: Path, start: loader.State | None = None) -> loader.Batches:
        """Pairs of the training people, as the experiment pairs them."""
        data = self.config.data
        options = pairs.PairingOptions(
            self.config.seed, self.config.batch_size, data.pairing, data.same_fraction, data.flip
        )
        pairing = pairs.Pairing(
            people.person, options, host_index=jax.process_index(), host_count=jax.process_count()
        )
        known = None
        if data.vectors:
            known = embeddings.identity_vectors(
                people,
                self.identity,
                cache,
                size=data.size,  # as the results are seen
            )
        iterator = loader.pair_batches(
            people, pairing, data.size, data.source_size, vectors=known, threads=data.threads
        )
        if start is not None:
            iterator.set_state(start)
        return iterator

    def swap(self, variables: PyTree, batch: Batch, frozen: PyTree) -> jax.Array:
        """Results as an inference program would give them: [B, H, W, 3] in [0, 1]."""
        floats = self.decode(batch)
        vector = floats["identity"] if "identity" in floats else self.identity.network.embed(frozen, floats["source"])
        result = self.generator.apply(variables, floats["target"], vector, train=False)
        return jnp.clip(from_convention(result, self.generator.config.convention), 0.0, 1.0)

    @functools.cached_property
    def _jitted_swap(self) -> Any:
        return jax.jit(self.swap)

    def sample(self, state: TrainState, batch: Batch, frozen: PyTree) -> dict[str, np.ndarray]:
        """Source (where there are pictures), target and result of one batch."""
        results = self._jitted_swap(self.averaged_variables(state), dict(batch), frozen)
        columns = {"source": np.asarray(batch["source"])} if "source" in batch else {}
        return {
            **columns,
            "target": np.asarray(batch["target"]),
            "result": np.asarray(jnp.round(results * 255.0)).astype(np.uint8),
        }

    def averaged_variables(self, state: TrainState) -> PyTree:
        """The generator that is shown and exported: the average if there is one."""
        return state.ema if self.config.ema else state.networks["generator"].variables

    def model(self, state: TrainState) -> model_folder.ModelFolder:
        """What swapping loads, in memory."""
        return model_folder.ModelFolder(
            generator=self.generator.config,
            variables=jax.device_get(self.averaged_variables(state)),
            face_size=self.config.data.size,
            alignment=self.config.data.alignment,
            identity=self.identity.network.config,
            identity_variables=jax.device_get(self.identity.variables),
            identity_sha256=self.identity.sha256,
            identity_name=self.identity.name,
            card={
                "step": int(state.step),
                "licence": "research only: the terms of the training pictures apply",
                "held_out": float(self.config.data.held_out),
            },
        )

    def export(self, state: TrainState, folder: Path) -> None:
        """Write the model folder; the identity network goes in only if it is this project's own."""
        model_folder.write(folder, self.model(state), include_identity=self.identity.ours)


def generator_config(config: ml_collections.ConfigDict, identity_size: int) -> GeneratorConfig:
    """The generator that an experiment asks for.

    Raises:
      UserError: the face size is not a multiple of what the generator halves.
    """
    fields = config.generator
    common = {
        "identity_size": identity_size,
        "convention": fields.convention,
        "dtype": fields.dtype,
        "remat": fields.remat,
    }
    try:
        if fields.preset:
            made = GeneratorConfig.from_preset(fields.preset, **common)
        else:
            made = GeneratorConfig(
                widths=tuple(fields.widths),
                blocks=fields.blocks,
                patch=fields.patch,
                edge_kernel=fields.edge_kernel,
                gated=fields.gated,
                gate_cell=fields.gate_cell,
                style_gain=fields.style_gain,
                **common,
            )
    except ValueError as error:
        raise UserError(str(error)) from error
    if config.data.size % made.multiple:
        raise UserError(
            f"config.data.size is {config.data.size}, but this generator needs a multiple of {made.multiple}; "
            f"use {max(1, round(config.data.size / made.multiple)) * made.multiple}."
        )
    return made


def build(config: ml_collections.ConfigDict, people: People, axis_name: str | None = None) -> SimSwap:
    """SimSwap for one experiment, with its identity network loaded."""
    identity = identity_folder.read(config.identity.weights, "training against (config.identity.weights)")
    return of_networks(config, identity, axis_name, hardened_copy(config, identity))


def hardened_copy(config: ml_collections.ConfigDict, identity: identity_folder.Identity) -> PyTree:
    """Variables of the copy that ``config.identity.hardened`` names; None if it names none.

    Raises:
      UserError: it is missing or another network's, or source vectors would have to come from it.
    """
    if not config.identity.hardened:
        return None
    copy = identity_folder.read(config.identity.hardened, "training against (config.identity.hardened)")
    if copy.copy_of != identity.sha256:
        raise UserError(
            f"{config.identity.hardened} is no hardened copy of {identity.name}; "
            "make one with config.method = 'hardening'."
        )
    if not config.data.vectors:
        raise UserError(
            "config.identity.hardened needs config.data.vectors = True: source vectors come from the network itself."
        )
    return copy.variables


def of_networks(
    config: ml_collections.ConfigDict,
    identity: identity_folder.Identity,
    axis_name: str | None = None,
    hardened: PyTree = None,
) -> SimSwap:
    """SimSwap for one experiment, against an identity network that is there."""
    generator = Generator(generator_config(config, identity.network.config.embedding), axis_name=axis_name)
    fields = config.discriminator
    discriminator = MultiScaleDiscriminator(
        DiscriminatorConfig(
            widths=tuple(fields.widths), tail=fields.tail, scales=fields.scales, norm=fields.norm, dtype=fields.dtype
        ),
        axis_name=axis_name,
    )
    return SimSwap(ml_collections.FrozenConfigDict(config), generator, discriminator, identity, axis_name, hardened)

"""SimSwap with other losses in each half of a batch, as a method: a step on a CPU saves what the other half costs.

Same-person pairs have their answer and learn by reconstruction. Pairs of two people have none and learn by identity,
discriminators and feature matching. The paper computes every loss on every pair, and L_rec is 0 for two people; what is
left out here is L_id, L_adv and L_wFM of same-person pairs. Discriminators without batch norm then give each pair that
is left the same gradient for the generator as in the paper's step; their own loss is the mean over these pairs. Not in
the paper, nor is what `Halves` can add: IFSR (`ifsr.py`), which pairs of two people can have; a perceptual loss, by the
identity network's maps, and more weight for eyes and mouth in L_rec, which same-person pairs can.

``config.method = "simswap_jax.contrib.small_models.split_batch:build"``, with ``config.data.pairing = "mixed"``.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float

from simswap_jax import losses
from simswap_jax.contrib.small_models import ifsr
from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import flops, schedules, simswap
from simswap_jax.training.config import check_choice, check_whole_batch
from simswap_jax.training.method import Batch, Metrics, Work
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.step import LossWeights, Networks, discriminate, gradients
from simswap_jax.training.update import Gradients
from simswap_jax.weights import identity_folder

NEEDS_PEOPLE = False
METHOD = "simswap_jax.contrib.small_models.split_batch:build"
OWN_LOSSES = ("ifsr", "perceptual", "eyes_and_mouth")  # of config.losses and of `Halves`
PART_RADIUS = 0.08  # of an eye, or half a mouth, in units of the crop's side: one standard deviation of its weight


@dataclass(frozen=True)
class Halves:
    """How a batch is split, and losses that the paper does not have; 0 leaves one out.

    Attributes:
      same: how many pairs, the first, are of one person.
      ifsr: weight of IFSR, ``config.losses.ifsr``; pairs of two people.
      perceptual: weight of Σ over an identity network's maps of 1 − cosine of result and target,
        ``config.losses.perceptual``; same-person pairs (Johnson et al. 2016, by other maps).
      eyes_and_mouth: what these weigh in L_rec beyond other pixels' 1, ``config.losses.eyes_and_mouth``.
    """

    same: int
    ifsr: float = 0.0
    perceptual: float = 0.0
    eyes_and_mouth: float = 0.0


@dataclass(frozen=True)
class SplitBatchSimSwap(SimSwap):
    """SimSwap with losses by half; the attributes are `SimSwap`'s."""

    @property
    def same(self) -> int:
        """How many pairs, the first of a batch, are of one person."""
        return round(self.config.data.same_fraction * self.config.batch_size)

    @property
    def share(self) -> float:
        """Share of the pairs of two people."""
        return 1.0 - self.same / float(self.config.batch_size)

    @property
    def halves(self) -> Halves:
        """The split and its own losses, from the experiment."""
        weights = self.config.losses
        return Halves(self.same, **{name: float(weights.get(name, 0.0)) for name in OWN_LOSSES})

    def augment(self, state: TrainState, batch: Batch, frozen: PyTree, key: jax.Array) -> Batch:
        """The batch with augmented inputs of same-person pairs; the generator draws for these only."""
        if self.augmentation is None:
            return batch
        first = self.augmentation(state, {name: value[: self.same] for name, value in batch.items()}, frozen, key)
        inputs = jnp.concatenate([first["generator_input"], batch["generator_input"][self.same :]])
        return {**batch, "generator_input": inputs}

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of generator and discriminators, from a batch of uint8 pictures whose first are same-person."""
        key = jax.random.fold_in(state.key, state.step)
        floats = self.augment(state, self.decode(batch), frozen, jax.random.fold_in(key, 1))
        weights = schedules.loss_weights(self.config, state.step)

        def of_part(at: TrainState, part: Mapping[str, Any]) -> Gradients:
            alpha = jax.random.uniform(key, (part["target"].shape[0] - self.same, 1, 1, 1))
            loss = functools.partial(generator_loss, halves=self.halves)
            return gradients(self.networks, weights, at, part, frozen, alpha, loss, self.same)

        return self.update(of_part, state, floats)

    def shares(self, metrics: Mapping[str, Any], step: int) -> dict[str, dict[str, float]]:
        """As `SimSwap.shares`; all but the reconstruction are means over a part of the batch."""
        return schedules.loss_shares(schedules.loss_weights(self.config, step - 1), metrics, self.share)

    def work(self) -> Sequence[Work]:
        """As `SimSwap.work`, with what is computed of a part only."""
        generator, *others = super().work()
        once = getattr(self.augmentation, "generator_passes", 0)
        saved = replace(generator, passes=generator.passes - once * self.share)
        return (saved, *(replace(work, passes=self._passes(work)) for work in others))

    def _passes(self, work: Work) -> float:
        """Of what is computed of a part only; maps of targets are counted with those of results."""
        if work.name == "identity, of a source":
            return work.passes
        if work.name != "identity, of a result":
            return work.passes * self.share
        of_same = bool(self.halves.perceptual) * (1.0 - self.share)
        maps = bool(self.halves.ifsr) * self.share + of_same
        return work.passes * (self.share + of_same) + flops.FORWARD * maps


def generator_loss(
    params: PyTree, networks: Networks, weights: LossWeights, state: TrainState, batch: Batch, frozen: PyTree,
    halves: Halves,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """As `training.step.generator_loss`: L_rec of same-person pairs, the first; the other losses of the rest.

    Args:
      params: of the generator.
      batch: ``target``, ``generator_input``, ``identity``, ``same_person``.
      frozen: variables of the identity network.
      halves: which pairs are of one person, and the weights of further losses.

    Returns:
      the sum, and (I_R, the generator's new collections, the losses by name; means over the pairs that have them).
    """
    same = halves.same
    share = 1.0 - same / float(batch["target"].shape[0])
    collections = state.networks["generator"].collections
    result, collections = networks.generator.apply(
        {"params": params, **collections},
        batch["generator_input"],
        {"vector": batch["identity"]},
        train=True,
        mutable=list(collections),
    )
    swapped, vectors, target = result[same:], batch["identity"][same:], batch["target"][same:]
    discriminator = state.networks["discriminator"]
    fake, _ = discriminate(networks, discriminator.params, discriminator.collections, swapped)
    real, _ = discriminate(networks, discriminator.params, discriminator.collections, target)
    result_vectors, distances = seen_by_identity(networks, frozen, result, batch["target"], halves)
    matched = (weights.feature_matching_first, weights.feature_matching_end)
    weight = part_weights(result.shape[1], halves.eyes_and_mouth)
    terms = {
        "identity": losses.identity(result_vectors, vectors),
        "reconstruction": losses.reconstruction(weight * result, weight * batch["target"], batch["same_person"]),
        "adversarial": losses.adversarial_generator([scale.logits for scale in fake]),
        "weak_feature_matching": losses.weak_feature_matching(
            [scale.features for scale in fake], [scale.features for scale in real], *matched
        ),
    }
    total = weights.reconstruction * terms["reconstruction"] + share * (
        weights.identity * losses.identity(result_vectors, vectors, weights.identity_margin)
        + weights.adversarial * terms["adversarial"]
        + weights.feature_matching * terms["weak_feature_matching"]
    )
    if halves.ifsr:
        terms["ifsr"] = ifsr.ifsr(distances[-swapped.shape[0] :])
        total += share * halves.ifsr * terms["ifsr"]
    if halves.perceptual:
        terms["perceptual"] = jnp.mean(jnp.sum(distances[:same], -1))
        total += (1.0 - share) * halves.perceptual * terms["perceptual"]
    return total, (result, collections, {**terms, "generator": total})


def seen_by_identity(
    networks: Networks, frozen: PyTree, result: jax.Array, target: jax.Array, halves: Halves
) -> tuple[jax.Array, jax.Array]:
    """Vectors of results of two people; and of all that have a loss on maps, how far these are from the target's.

    Args:
      result, target: [B,H,W,3] in the generator's convention.

    Returns:
      [B − same, D]; and 1 − cosine of each map, of same-person pairs with a perceptual loss, then of the others with
      IFSR: [pairs, maps].
    """
    first = 0 if halves.perceptual else halves.same
    shown, original = (denormalize(each[first:], networks.generator.convention) for each in (result, target))
    if not (halves.ifsr or halves.perceptual):
        return networks.identity.embed(frozen, shown), jnp.zeros((0, 0))
    vectors, of_result = ifsr.vectors_and_maps(networks.identity, frozen, shown)
    compared = original.shape[0] if halves.ifsr else halves.same
    _, of_target = ifsr.vectors_and_maps(networks.identity, frozen, original[:compared])
    return vectors[halves.same - first :], ifsr.distances([each[:compared] for each in of_result], of_target)


def part_weights(size: int, parts: float) -> Float[np.ndarray, "1 h w 1"]:
    """What each pixel of a `simswap-frontal` crop weighs: 1, and ``parts`` more at the eyes and the mouth's corners.

    Args:
      size: of the crop, in pixels.
      parts: 0 for the same weight everywhere.
    """
    at = (np.arange(size) + 0.5) / size
    points = np.delete(TEMPLATES["simswap-frontal"][0], 2, axis=0)  # without the nose
    squares = (at[None, :, None] - points[None, None, :, 1]) ** 2, (at[None, :, None] - points[None, None, :, 0]) ** 2
    rows, columns = (np.exp(-each[0] / (2 * PART_RADIUS**2)) for each in squares)
    near = np.max(rows[:, None, :] * columns[None, :, :], axis=-1)
    return (1.0 + parts * near[None, :, :, None]).astype(np.float32)


def default_config() -> ml_collections.ConfigDict:
    """SimSwap's, with both kinds of pairs in each batch and identity vectors computed once."""
    config = simswap.default_config()
    config.method = METHOD
    config.data.pairing, config.data.precompute_embeddings = "mixed", True
    config.discriminator.norm = "none"
    for name in OWN_LOSSES:
        config.losses[name] = 0.0
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment whose batches cannot be split so.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    simswap.check(config)
    check_choice(config, "data.pairing", ("mixed",))
    check_choice(config, "parallel", ("jit",))
    check_whole_batch(config)
    if config.losses.extra:
        raise UserError(
            f"config.losses.extra names {', '.join(config.losses.extra)}, but the method '{config.method}' has no "
            "extra losses; use method 'simswap'.",
            "split-batch-extra-losses",
        )
    if config.losses.get("eyes_and_mouth") and config.data.alignment != "simswap-frontal":
        raise UserError(
            f"config.losses.eyes_and_mouth is {config.losses.eyes_and_mouth}, but config.data.alignment is "
            f"'{config.data.alignment}', where eyes lie elsewhere; set it to 0, or use 'simswap-frontal' crops.",
            "split-batch-alignment",
        )
    same = round(config.data.same_fraction * config.batch_size)
    if not 1 <= same <= config.batch_size - 2:
        raise UserError(
            f"config.data.same_fraction is {config.data.same_fraction}, {same} of {config.batch_size} pairs; "
            "this method needs at least one pair of one person and two of two people.",
            "split-batch-fraction",
        )


def from_networks(
    config: ml_collections.ConfigDict,
    identity: identity_folder.Identity,
    axis_name: str | None = None,
    robust: PyTree = None,
) -> SplitBatchSimSwap:
    """The method for one experiment, against an identity network in memory.

    Raises:
      UserError: a loss on its maps is asked for, and it is no MobileFaceNet of as many blocks.
    """
    network, weights = identity.network.config, config.losses
    has_maps = network.family == "mobilefacenet" and sum(network.layers) > max(ifsr.BLOCKS)
    for name in ("ifsr", "perceptual"):
        if weights.get(name) and not has_maps:
            raise UserError(
                f"config.losses.{name} is {weights[name]}, a loss on maps of a MobileFaceNet, but "
                f"config.identity.weights is another network ({network.family}); set it to 0, or name a MobileFaceNet.",
                "split-batch-maps",
            )
    return _assembled(config, identity, axis_name, robust)


def build(config: ml_collections.ConfigDict, people: People | None, axis_name: str | None = None) -> SplitBatchSimSwap:
    """The method for one experiment; reads the identity network.

    Raises:
      UserError: the identity network is missing or has no such maps, or the generator cannot be made.
    """
    del people
    return simswap.against_identity(from_networks, config, axis_name)


_, _assembled = simswap.functions_of(SplitBatchSimSwap, simswap.multi_scale_discriminator)

"""One training step of SimSwap (Chen et al., ACM MM 2020, section 3): the losses of both players, and their update.

Everything is a pure function of its arguments. Pictures are float [B, H, W, 3] in the generator's normalization,
identity vectors float [B, D] of length one.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp

from simswap_jax import losses
from simswap_jax.models import MultiScaleDiscriminator
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.normalization import denormalize
from simswap_jax.models.projected_discriminator import ProjectedDiscriminator
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.update import Gradients, UpdateRule

Batch = Mapping[str, Any]
GeneratorLoss = Callable[..., tuple[jax.Array, Any]]  # as `generator_loss`


@dataclass(frozen=True)
class Networks:
    """The generator, the discriminators and the frozen identity network."""

    generator: SwapNetwork
    discriminator: MultiScaleDiscriminator | ProjectedDiscriminator
    identity: IdentityNetwork


@dataclass(frozen=True)
class LossWeights:
    """The λ of the paper's section 4, constants there.

    ``identity_margin``: see `losses.identity`; the paper's is 0.
    ``feature_matching_first``, ``feature_matching_end``: which maps of a discriminator L_wFM compares, from 0.
    ``discriminator``: the discriminators' own loss of real and fake logits, the paper's hinge.
    """

    identity: float | jax.Array = 10.0
    reconstruction: float | jax.Array = 10.0
    adversarial: float | jax.Array = 1.0
    gradient_penalty: float = 1e-5
    feature_matching: float | jax.Array = 10.0
    identity_margin: float = 0.0
    feature_matching_first: int = 3
    feature_matching_end: int | None = None
    discriminator: Callable[..., jax.Array] = losses.adversarial_discriminator


def generator_loss(
    params: PyTree, networks: Networks, weights: LossWeights, state: TrainState, batch: Batch, frozen: PyTree
) -> tuple[jax.Array, Any]:
    """λ_id·L_id + λ_rec·L_rec + λ_adv·L_adv + λ_wFM·L_wFM, with I_R = G(I_T, v_S); equations 3, 4, 6.

    Args:
      params: of the generator.
      batch: ``target`` I_T; ``generator_input``, the picture that G is given, I_T itself in the paper; ``identity``
        v_S; ``same_person`` bool [B].
      frozen: variables of the identity network.

    Returns:
      the sum, and (I_R, the generator's new collections, the losses by name).
    """
    variables = {"params": params, **state.networks["generator"].collections}
    given = {"vector": batch["identity"]}
    mutable = list(state.networks["generator"].collections)
    result, collections = networks.generator.apply(
        variables, batch["generator_input"], given, train=True, mutable=mutable
    )
    discriminator = state.networks["discriminator"]
    fake, _ = discriminate(networks, discriminator.params, discriminator.collections, result)
    real, _ = discriminate(networks, discriminator.params, discriminator.collections, batch["target"])
    result_vectors = networks.identity.embed(frozen, denormalize(result, networks.generator.convention))
    identity, margin = losses.identity(result_vectors, batch["identity"]), weights.identity_margin
    terms = {
        "identity": identity,
        "reconstruction": losses.reconstruction(result, batch["target"], batch["same_person"]),
        "adversarial": losses.adversarial_generator([scale.logits for scale in fake]),
        "weak_feature_matching": losses.weak_feature_matching(
            [scale.features for scale in fake],
            [scale.features for scale in real],
            weights.feature_matching_first,
            weights.feature_matching_end,
        ),
    }
    total = (
        weights.identity * (losses.identity(result_vectors, batch["identity"], margin) if margin else identity)
        + weights.reconstruction * terms["reconstruction"]
        + weights.adversarial * terms["adversarial"]
        + weights.feature_matching * terms["weak_feature_matching"]
    )
    return total, (result, collections, {**terms, "generator": total})


def discriminator_loss(
    params: PyTree, networks: Networks, weights: LossWeights, state: TrainState, target: jax.Array, result: jax.Array,
    alpha: jax.Array | None,
) -> tuple[jax.Array, Any]:  # fmt: skip
    """The hinge loss of D(I_T) and D(I_R), and λ_gp·L_GP (equation 5).

    Args:
      params: of the discriminators.
      target, result: I_T and I_R; the latter is not differentiated.
      alpha: uniform in [0, 1), [B, 1, 1, 1]: where between both the gradient penalty is taken; None without one.

    Returns:
      the sum, and (the discriminators' new collections, the losses by name).
    """
    fake, collections = discriminate(networks, params, state.networks["discriminator"].collections, result)
    real, collections = discriminate(networks, params, collections, target)
    fake_logits, real_logits = [scale.logits for scale in fake], [scale.logits for scale in real]
    hinge = weights.discriminator(real_logits, fake_logits)
    terms = {
        "discriminator": hinge,
        "real_logits": jnp.mean(jnp.stack([jnp.mean(x) for x in real_logits])),
        "fake_logits": jnp.mean(jnp.stack([jnp.mean(x) for x in fake_logits])),
    }
    if not weights.gradient_penalty or alpha is None:
        return hinge, (collections, terms)
    variables = {"params": params, **state.networks["discriminator"].collections}
    penalised = cast(MultiScaleDiscriminator, networks.discriminator)  # the recipe with another one has no penalty
    terms["gradient_penalty"] = gradient_penalty(penalised, variables, target, result, alpha)
    return hinge + weights.gradient_penalty * terms["gradient_penalty"], (collections, terms)


def gradients(  # eight parameters: all that they depend on
    networks: Networks, weights: LossWeights, state: TrainState, batch: Batch, frozen: PyTree,
    alpha: jax.Array | None, loss: GeneratorLoss = generator_loss, judged_from: int = 0,
) -> Gradients:  # fmt: skip
    """Gradients of both players at the same parameters and the same I_R; arguments as above.

    ``batch`` may hold ``source`` I_S, float [B, S, S, 3] in [0, 1], in place of ``identity``; another method's
    generator may have another ``loss``. The discriminators see the pairs from ``judged_from`` on.
    """
    vectors = batch["identity"] if "identity" in batch else networks.identity.embed(frozen, batch["source"])
    batch = {**batch, "identity": jax.lax.stop_gradient(vectors)}

    generator_fn = jax.value_and_grad(loss, has_aux=True)
    (_, (result, generator_collections, generator_terms)), generator_gradients = generator_fn(
        state.networks["generator"].params, networks, weights, state, batch, frozen
    )
    seen = batch["target"], jax.lax.stop_gradient(result)
    if judged_from:
        seen = seen[0][judged_from:], seen[1][judged_from:]
    discriminator_fn = jax.value_and_grad(discriminator_loss, has_aux=True)
    (_, (discriminator_collections, discriminator_terms)), discriminator_gradients = discriminator_fn(
        state.networks["discriminator"].params, networks, weights, state, *seen, alpha
    )
    return (
        {"generator": generator_gradients, "discriminator": discriminator_gradients},
        {"generator": generator_collections, "discriminator": discriminator_collections},
        {**generator_terms, **discriminator_terms},
    )


def train_step(  # eight parameters: all that a step depends on
    networks: Networks, weights: LossWeights, update: UpdateRule, state: TrainState, batch: Batch,
    frozen: PyTree, alpha: jax.Array, loss: GeneratorLoss = generator_loss,
) -> tuple[TrainState, dict[str, jax.Array]]:  # fmt: skip
    """One update of generator and discriminators: gradients, Adam, moving average (``update``)."""

    def of_part(at: TrainState, part: Batch) -> Gradients:
        return gradients(networks, weights, at, part, frozen, part["alpha"], loss)

    return update(of_part, state, {**batch, "alpha": alpha})


def discriminate(networks: Networks, params: PyTree, collections: PyTree, pictures: jax.Array) -> tuple[Any, PyTree]:
    """(features and logits of every scale, new batch statistics) for pictures [B, H, W, 3]."""
    return networks.discriminator.apply(
        {"params": params, **collections}, pictures, train=True, mutable=list(collections)
    )


def gradient_penalty(
    discriminator: MultiScaleDiscriminator, variables: PyTree, target: jax.Array, result: jax.Array, alpha: jax.Array
) -> jax.Array:
    """L_GP summed over the scales, each on its own input, with batch statistics that are not kept."""

    def logits(scale: int, pictures: jax.Array) -> jax.Array:
        output, _ = discriminator.apply(
            variables, scale, pictures, train=True, mutable=["batch_stats"], method=MultiScaleDiscriminator.scale
        )
        return output.logits

    inputs = zip(discriminator.pyramid(target), discriminator.pyramid(result), strict=True)
    each = [
        losses.gradient_penalty(functools.partial(logits, scale), real, fake, alpha)
        for scale, (real, fake) in enumerate(inputs)
    ]
    return functools.reduce(jnp.add, each)

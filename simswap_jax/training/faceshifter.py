"""FaceShifter's first stage, AEI-Net (Li et al., arXiv 1912.13457), as a method: SimSwap's with another loss.

Its second stage, HEAR-Net, which brings back what stands in front of a face, is `training.faceshifter_hear`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax import losses
from simswap_jax.models import families
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import flops, simswap
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.method import Batch, Metrics, Work
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.simswap_checks import check_drawn_size, check_pairs, refuse_augmentation
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.step import LossWeights, Networks, discriminate, gradients
from simswap_jax.training.update import Gradients

NEEDS_PEOPLE = False  # built and checked before any picture is read


# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """The paper's losses and weights at 256 pixels.

    Each value says whose it is: the paper's; its public re-implementations'; or chosen here.
    """
    config = simswap.default_config()
    config.method = "faceshifter"
    config.data.size = 256  # paper
    config.data.pairing, config.data.same_fraction = "mixed", 0.2  # paper, as of June 2020: 80 % of two people
    config.data.same_source = "picture"  # paper: the source is the target; "person": another picture of that person
    config.generator = Experiment({"family": "faceshifter", **families.get("faceshifter").fields()})
    config.discriminator.widths, config.discriminator.tail = (64, 128, 256), 512  # re-implementations
    config.discriminator.scales = 3  # re-implementations
    config.losses = Experiment(
        {
            "identity": 5.0,  # paper
            "reconstruction": 10.0,  # paper
            "attributes": 10.0,  # paper
            "adversarial": 1.0,  # paper: hinge, on several scales
        }
    )
    return config  # Adam 4e-4, β 0 and 0.999: re-implementations; 500,000 steps: chosen here


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that FaceShifter cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    check_pairs(config)
    refuse_augmentation(config)
    check_drawn_size(config, simswap.generator_config(config, 512).multiple)


# ---- The losses ----


@dataclass(frozen=True)
class AEIWeights(LossWeights):
    """The paper's λ; what SimSwap has besides is off."""

    identity: float | jax.Array = 5.0
    attributes: float | jax.Array = 10.0
    gradient_penalty: float = 0.0
    feature_matching: float | jax.Array = 0.0


def attribute_loss(of_result: Sequence[jax.Array], of_target: Sequence[jax.Array]) -> jax.Array:
    """L_att = ½ Σ_k mean (z_att^k(Y) − z_att^k(X_t))², over the levels k: a mean over each level's numbers."""
    each = [jnp.mean(jnp.square(y - x)) for y, x in zip(of_result, of_target, strict=True)]
    return 0.5 * jnp.sum(jnp.stack(each))


def squared_reconstruction(result: jax.Array, target: jax.Array, same: jax.Array) -> jax.Array:
    """L_rec = ½ mean (Y − X_t)² where the source is the target, else 0; over the whole batch."""
    of_each = jnp.mean(jnp.square(result - target), (1, 2, 3))
    return 0.5 * jnp.mean(of_each * same.astype(of_each.dtype))


def aei_loss(
    params: PyTree, networks: Networks, weights: AEIWeights, state: TrainState, batch: Batch, frozen: PyTree
) -> tuple[jax.Array, Any]:
    """λ_adv·L_adv + λ_att·L_att + λ_id·L_id + λ_rec·L_rec; arguments and results as of `generator_loss`.

    The attributes of the result are made by the same encoder, in a pass of its own whose batch statistics are not kept;
    gradients go through both passes.
    """
    variables = {"params": params, **state.networks["generator"].collections}
    mutable = list(state.networks["generator"].collections)
    module = networks.generator.module
    (result, of_target), collections = module.apply(
        variables, batch["target"], batch["identity"], train=True, mutable=mutable, method="with_attributes"
    )
    of_result, _ = module.apply(variables, result, train=True, mutable=mutable, method="attributes")
    discriminator = state.networks["discriminator"]
    fake, _ = discriminate(networks, discriminator.params, discriminator.collections, result)
    result_vectors = networks.identity.embed(frozen, denormalize(result, networks.generator.convention))
    terms = {
        "identity": losses.identity(result_vectors, batch["identity"]),
        "reconstruction": squared_reconstruction(result, batch["target"], batch["same_person"]),
        "attributes": attribute_loss(of_result, of_target),
        "adversarial": losses.adversarial_generator([scale.logits for scale in fake]),
    }
    total = (
        weights.identity * terms["identity"]
        + weights.reconstruction * terms["reconstruction"]
        + weights.attributes * terms["attributes"]
        + weights.adversarial * terms["adversarial"]
    )
    return total, (result, collections, {**terms, "generator": total})


# ---- The method ----


@dataclass(frozen=True)
class FaceShifter(SimSwap):
    """AEI-Net, its discriminators and their optimisers; batches, sheets and model folder are as SimSwap's."""

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of generator and discriminators, from a batch of uint8 pictures. Pure; one program."""
        weights = AEIWeights(**self.config.losses.to_dict())

        def of_part(at: TrainState, part: Batch) -> Gradients:
            return gradients(self.networks, weights, at, part, frozen, None, aei_loss)

        return self.update(of_part, state, self.decode(batch))

    def work(self) -> Sequence[Work]:
        """SimSwap's calls, and the encoder's of the result."""
        side = self.config.data.size
        state = jax.eval_shape(self.init, jax.random.PRNGKey(0)).networks
        picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)

        def attributes(variables: PyTree, result: jax.Array) -> Any:
            return self.generator.module.apply(variables, result, method="attributes")

        arguments = (state["generator"].variables, picture)
        return (*super().work(), Work("attributes, of a result", attributes, arguments, flops.TRAINED))

    def shares(self, metrics: Mapping[str, Any], step: int) -> dict[str, dict[str, float]]:
        """As `SimSwap.shares`; the weights are constant."""
        del step
        names = {"id": "identity", "rec": "reconstruction", "att": "attributes", "adv": "adversarial"}
        generator = {short: float(self.config.losses[name] * metrics[name]) for short, name in names.items()}
        return {"G": generator, "D": {"hinge": float(metrics["discriminator"])}}


build, from_networks = simswap.functions_of(FaceShifter, simswap.multi_scale_discriminator)

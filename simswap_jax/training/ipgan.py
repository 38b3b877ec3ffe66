"""IPGAN (Bao et al., arXiv 1803.11182) as a method: a variational encoder, and features matched through frozen judges.

Asymmetric, as the paper says: the discriminator learns by cross-entropy, the generator by the distance of features
that others make of its results. Small and faithful: the frozen identity network stands for the paper's own two, the
encoder of identities and the classifier, which it trains on its people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax import losses
from simswap_jax.models import families
from simswap_jax.models.ipgan import Distribution
from simswap_jax.models.normalization import denormalize
from simswap_jax.training import simswap
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.method import Batch, Metrics
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.simswap_checks import check_drawn_size, check_pairs, refuse_augmentation
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.step import LossWeights, Networks, discriminate, gradients
from simswap_jax.training.update import Gradients, per_sample_random

NEEDS_PEOPLE = False  # built and checked before any picture is read


# ---- The recipe ----


def default_config() -> ml_collections.ConfigDict:
    """The paper's losses at 128 pixels.

    Each value says whose it is: the paper's, or chosen here, for most could not be verified.
    """
    config = simswap.default_config()
    config.method = "ipgan"
    config.data.size = 128  # chosen here
    config.data.pairing, config.data.same_fraction = "mixed", 0.5  # chosen here: the paper takes both kinds in turn
    config.data.same_source = "picture"  # paper: the source is the target; "person": another picture of that person
    config.generator = Experiment({"family": "ipgan", **families.get("ipgan").fields()})
    config.discriminator.scales = 1  # paper: one discriminator; its layers were chosen here
    config.losses = Experiment(
        {
            "reconstruction": 1.0,  # paper: of the target itself
            "reconstruction_other": 0.1,  # paper's λ: of a target with another source
            "kl": 1.0,  # paper
            "identity": 30.0,  # chosen here: the paper's features are longer than one
            "feature_matching": 1.0,  # chosen here
        }
    )
    config.optimizer.learning_rate = config.optimizer.discriminator_learning_rate = 2e-4  # chosen here
    config.optimizer.b1 = 0.5  # chosen here
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that IPGAN cannot train.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    check_pairs(config)
    refuse_augmentation(config)
    check_drawn_size(config, simswap.generator_config(config, 512).multiple)


# ---- The losses ----


def cross_entropy(real_logits: Sequence[jax.Array], fake_logits: Sequence[jax.Array]) -> jax.Array:
    """L_D = −log D(x^a) − log(1 − D(x')), D the sigmoid of the logits; averaged over the scales' logits."""
    each = [
        jnp.mean(jax.nn.softplus(-real.astype(jnp.float32))) + jnp.mean(jax.nn.softplus(fake.astype(jnp.float32)))
        for real, fake in zip(real_logits, fake_logits, strict=True)
    ]
    return jnp.mean(jnp.stack(each))


@dataclass(frozen=True)
class IPGANWeights(LossWeights):
    """What each loss weighs; what SimSwap has besides is off, and the discriminator learns by cross-entropy."""

    reconstruction: float | jax.Array = 1.0
    reconstruction_other: float = 0.1
    kl: float = 1.0
    identity: float | jax.Array = 30.0
    feature_matching: float | jax.Array = 1.0
    gradient_penalty: float = 0.0
    discriminator: Any = cross_entropy


def half_squares(result: jax.Array, target: jax.Array) -> jax.Array:
    """½ ‖x' − x^a‖² of each sample, a *sum* over its numbers: [B, …] → [B].

    A sum, because the divergence is one over the attribute vector: against a mean it would be ten thousand times too
    strong, and everybody would get the mean face.
    """
    return 0.5 * jnp.sum(jnp.square(result - target), range(1, result.ndim))


def divergence(distribution: Distribution) -> jax.Array:
    """L_KL = ½ (μᵀμ + Σ (exp ε − ε − 1)) from N(0, 1), in nats, averaged over the batch; ε is the log of a variance."""
    mean, log_variance = distribution
    each = jnp.square(mean) + jnp.exp(log_variance) - log_variance - 1.0
    return jnp.mean(0.5 * jnp.sum(each, -1))


def patch_features(of_result: Sequence[Any], of_target: Sequence[Any]) -> jax.Array:
    """L_GD = ½ ‖f_D(x') − f_D(x^a)‖² of the last maps before the logits: a sum over channels, a mean over patches."""
    pairs = [(x.features[-1], y.features[-1]) for x, y in zip(of_result, of_target, strict=True)]
    each = [jnp.mean(jnp.sum(jnp.square(x.astype(jnp.float32) - y.astype(jnp.float32)), -1)) for x, y in pairs]
    return 0.5 * jnp.mean(jnp.stack(each))


def ipgan_loss(
    params: PyTree, networks: Networks, weights: IPGANWeights, state: TrainState, batch: Batch, frozen: PyTree
) -> tuple[jax.Array, Any]:
    """L_GR + L_KL + L_GC + L_GD, weighted; arguments and results as of `generator_loss`, with ``noise`` in the batch.

    L_GC is ½ ‖f_C(x') − f_C(x^s)‖², which for vectors of length one is 1 − cosine.
    """
    generator, discriminator = state.networks["generator"], state.networks["discriminator"]
    (result, distribution), collections = networks.generator.module.apply(
        {"params": params, **generator.collections}, batch["target"], batch["identity"], batch["noise"],
        train=True, mutable=list(generator.collections), method="with_distribution",
    )  # fmt: skip
    fake, _ = discriminate(networks, discriminator.params, discriminator.collections, result)
    real, _ = discriminate(networks, discriminator.params, discriminator.collections, batch["target"])
    result_vectors = networks.identity.embed(frozen, denormalize(result, networks.generator.convention))
    differences, same = half_squares(result, batch["target"]), batch["same_person"].astype(jnp.float32)
    terms = {
        "reconstruction": jnp.mean(differences * same),
        "reconstruction_other": jnp.mean(differences * (1.0 - same)),
        "kl": divergence(distribution),
        "identity": losses.identity(result_vectors, batch["identity"]),
        "feature_matching": patch_features(fake, real),
    }
    total = jnp.sum(jnp.stack([getattr(weights, name) * value for name, value in terms.items()]))
    return total, (result, collections, {**terms, "generator": total})


# ---- The method ----


@dataclass(frozen=True)
class IPGAN(SimSwap):
    """Encoder, decoder, a discriminator and their optimisers; batches, sheets and model folder are as SimSwap's.

    Training samples the attribute vector; sheets, validation and swapping take its mean.
    """

    def step(self, state: TrainState, batch: Batch, frozen: PyTree) -> tuple[TrainState, Metrics]:
        """One update of generator and discriminator, from a batch of uint8 pictures. Pure; one program."""
        weights = IPGANWeights(**self.config.losses.to_dict())
        floats = self.decode(batch)
        shape = (floats["target"].shape[0], self.generator.config.attributes)
        key = jax.random.fold_in(state.key, state.step)
        floats["noise"] = per_sample_random(jax.random.normal, key, shape, self.axis_name)

        def of_part(at: TrainState, part: Batch) -> Gradients:
            return gradients(self.networks, weights, at, part, frozen, None, ipgan_loss)

        return self.update(of_part, state, floats)

    def shares(self, metrics: Mapping[str, Any], step: int) -> dict[str, dict[str, float]]:
        """As `SimSwap.shares`; the weights are constant."""
        del step
        names = {
            "rec": "reconstruction", "other": "reconstruction_other", "kl": "kl", "id": "identity",
            "fm": "feature_matching",
        }  # fmt: skip
        generator = {short: float(self.config.losses[name] * metrics[name]) for short, name in names.items()}
        return {"G": generator, "D": {"ce": float(metrics["discriminator"])}}


build, from_networks = simswap.functions_of(IPGAN, simswap.multi_scale_discriminator)

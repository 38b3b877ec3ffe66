"""What changes with the step: learning rates and the weights of the losses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from simswap_jax.training.experiment import resolve
from simswap_jax.training.extra_losses import ExtraLoss
from simswap_jax.training.step import LossWeights


def learning_rate(config: ml_collections.ConfigDict, peak: float) -> optax.Schedule:
    """Learning rate by step: a linear warm-up to ``peak``, then constant or a cosine down to a twentieth of it."""
    warmup = config.optimizer.warmup
    if config.optimizer.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else peak, peak, warmup, max(config.steps, warmup + 1), end_value=peak / 20
        )
    if warmup:
        return optax.linear_schedule(0.0, peak, warmup)
    return optax.constant_schedule(peak)


def loss_weights(config: ml_collections.ConfigDict, step: jax.Array | int) -> LossWeights:
    """The weights of the losses at a step, from ``config.losses``: arrays of an int32 scalar, numbers of a number.

    With ``identity_ramp`` the identity weight grows from 0 over so many steps; with ``rest_ramp`` the generator's other
    weights do from a tenth. The paper's weights are constant.
    """
    fields = config.losses
    minimum: Callable[..., Any] = min if isinstance(step, int) else jnp.minimum
    identity_ramp = minimum(1.0, (step + 1.0) / fields.identity_ramp) if fields.identity_ramp else 1.0
    rest_ramp = minimum(1.0, 0.1 + 0.9 * step / fields.rest_ramp) if fields.rest_ramp else 1.0
    return LossWeights(
        identity=fields.identity * identity_ramp,
        reconstruction=fields.reconstruction * rest_ramp,
        adversarial=fields.adversarial * rest_ramp,
        gradient_penalty=fields.gradient_penalty,
        feature_matching=fields.feature_matching * rest_ramp,
        identity_margin=fields.identity_margin,
        feature_matching_first=fields.feature_matching_first,
        feature_matching_end=fields.feature_matching_end or None,
    )


def loss_shares(
    weights: LossWeights, metrics: Mapping[str, Any], of_swaps: float = 1.0, extra: Sequence[ExtraLoss] = ()
) -> dict[str, dict[str, float]]:
    """Weight × loss under a short name; what they leave of the generator's total (a margin, say) is ``rest``.

    Args:
      weights: at the step, as numbers.
      metrics: of the step; a method that extends this one may lack some.
      of_swaps: factor of all but the reconstruction.
      extra: losses from outside.
    """
    terms = {
        "id": ("identity", of_swaps * weights.identity),
        "rec": ("reconstruction", weights.reconstruction),
        "adv": ("adversarial", of_swaps * weights.adversarial),
        "fm": ("weak_feature_matching", of_swaps * weights.feature_matching),
    } | {one.name: (f"extra/{one.name}", one.weight) for one in extra}
    generator = {short: float(weight * metrics[name]) for short, (name, weight) in terms.items() if name in metrics}
    rest = float(metrics.get("generator", 0.0)) - sum(generator.values())
    if "generator" in metrics and abs(rest) > 0.005 + 1e-3 * abs(float(metrics["generator"])):
        generator["rest"] = rest
    terms = {"hinge": ("discriminator", 1.0), "gp": ("gradient_penalty", weights.gradient_penalty)}
    discriminator = {short: float(weight * metrics[name]) for short, (name, weight) in terms.items() if name in metrics}
    return {"G": generator, "D": discriminator}


def adam(config: ml_collections.ConfigDict, peak: float) -> optax.GradientTransformation:
    """Adam with the experiment's betas and the learning rate ``peak`` under the experiment's schedule."""
    return optax.adam(learning_rate(config, peak), b1=config.optimizer.b1, b2=config.optimizer.b2)


def generator_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """The generator's optimiser: Adam, or ``function(config)`` for ``optimizer.generator = "package.module:function"``.

    Raises:
      UserError: there is no such function.
    """
    if config.optimizer.generator == "adam":
        return adam(config, config.optimizer.learning_rate)
    made: optax.GradientTransformation = resolve(config.optimizer.generator, "optimizer.generator")(config)
    return made

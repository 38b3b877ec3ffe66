"""Adam as the paper uses it (β1 = 0), with a warm-up and, if wanted, a cosine decay."""

import ml_collections
import optax


def schedule(config: ml_collections.ConfigDict, peak: float) -> optax.Schedule:
    """Learning rate by step: a linear warm-up to ``peak``, then constant or a cosine down to a twentieth of it."""
    warmup = config.optimizer.warmup
    if config.optimizer.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if warmup else peak, peak, warmup, max(config.steps, warmup + 1), end_value=peak / 20
        )
    if warmup:
        return optax.linear_schedule(0.0, peak, warmup)
    return optax.constant_schedule(peak)


def adam(config: ml_collections.ConfigDict, peak: float) -> optax.GradientTransformation:
    """Adam with the experiment's betas."""
    return optax.adam(schedule(config, peak), b1=config.optimizer.b1, b2=config.optimizer.b2)

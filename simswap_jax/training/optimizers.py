"""Adam as the paper uses it (β1 = 0), or what ``config.optimizer.generator`` names."""

import ml_collections
import optax

from simswap_jax.training.config import resolve
from simswap_jax.training.schedules import learning_rate


def adam(config: ml_collections.ConfigDict, peak: float) -> optax.GradientTransformation:
    """Adam with the experiment's betas and the learning rate ``peak`` under the experiment's schedule."""
    return optax.adam(learning_rate(config, peak), b1=config.optimizer.b1, b2=config.optimizer.b2)


def generator(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """The generator's optimiser: Adam, or ``function(config)`` for ``optimizer.generator = "package.module:function"``.

    Raises:
      UserError: there is no such function.
    """
    if config.optimizer.generator == "adam":
        return adam(config, config.optimizer.learning_rate)
    made: optax.GradientTransformation = resolve(config.optimizer.generator, "optimizer.generator")(config)
    return made

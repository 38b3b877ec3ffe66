"""CelebA crops at 112 pixels against a frozen MobileFaceNet, narrow enough for a CPU, in eight stages.

They are: whose face it is; what the target keeps; a composition mask, by which the generator leaves alone what need not
change; discriminators that keep up, in two; and the growing weight of identity against them, in three.

Command:  simswap-jax train --config celeba_112 --workdir runs/celeba_112 \
              --config.data.root=CELEBA_CROPS --config.identity.weights=mobilefacenet_casia.ckpt \
              --config.identity.robust=runs/robust/model
          and the same with celeba_112:second, --workdir runs/celeba_112_second, --config.init_from=runs/celeba_112;
          with :third, runs/celeba_112_third, --config.init_from=runs/celeba_112_second; and so on to :eighth
Hardware, time, score: two CPU cores, 12 (first stage, on one of them) to 26 images a second; docs/experiments/celeba.md
has the table. Validated every 200 steps where SIMSWAP_JAX_WEIGHTS has the networks (contrib/small_models/recipe.py).
"""

import ml_collections

from simswap_jax.contrib.small_models.recipe import small_model_recipe, validated
from simswap_jax.errors import UserError
from simswap_jax.training.config import default_config, tiny_config

STAGES = {  # steps, weight of the identity loss, the generator's learning rate
    "first": (1_500, 10.0, 1.5e-3),
    "second": (1_600, 10.0, 1e-3),
    "third": (1_600, 10.0, 1e-3),
    "fourth": (1_000, 10.0, 3e-4),
    "fifth": (900, 6.0, 4e-4),
    "sixth": (900, 10.0, 6e-4),
    "seventh": (3_600, 20.0, 6e-4),
    "eighth": (2_400, 30.0, 6e-4),
}


def get_config(stage: str = "first") -> ml_collections.ConfigDict:
    """One stage; a later one starts from the networks of the one before (``config.init_from``).

    Raises:
      UserError: there is no stage of that name.
    """
    config = small_model_recipe(default_config())
    config.batch_size = 16
    config.data.size, config.data.alignment, config.data.held_out = 112, "simswap-frontal", 0.12
    config.generator.widths, config.generator.blocks = (32, 64, 128), 4
    config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
    config.identity.weights = "mobilefacenet_casia.ckpt"
    config.losses.identity_ramp, config.losses.feature_matching_first = 0, 2
    config.log_every, config.sample_every, config.checkpoint_every = 50, 200, 500
    validated(config, every=200)
    if stage not in STAGES:
        raise UserError(f"there is no stage '{stage}'; the stages are {', '.join(STAGES)}.", "experiment-stage")
    config.steps, config.losses.identity, config.optimizer.learning_rate = STAGES[stage]
    if stage in ("first", "fourth", "fifth"):
        config.optimizer.decay = "constant"
    if stage == "first":
        config.data.same_fraction = 0.25
        config.losses.rest_ramp, config.losses.feature_matching = 2_000, 1.0
        return config
    config.data.same_fraction, config.generator.composition_mask = 0.5, stage != "second"
    config.losses.reconstruction, config.optimizer.warmup = 40.0, 50
    if stage in ("second", "third"):
        config.losses.adversarial, config.losses.feature_matching = 0.2, 4.0
        return config
    config.losses.adversarial, config.losses.feature_matching = 0.5, 10.0
    config.optimizer.discriminator_learning_rate, config.optimizer.b1 = 1.5e-3, 0.5
    if stage in ("fourth", "fifth"):
        config.losses.feature_matching_first = 1
    return config


def get_test_config(stage: str = "first") -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return tiny_config(get_config(stage), (4, 8, 8), blocks=1)

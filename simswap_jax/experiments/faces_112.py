"""The model that ships: after `celeba_112`, faces of CelebA and LFW at 112 pixels, in six stages.

Of same-person pairs most targets first get another's face (swap-back), so that the untouched photo is the answer;
pairs of two people have IFSR from the third stage on, and the generator keeps the target's colour and light. From
the fourth on eyes and mouth weigh more; from the fifth on dark faces are shown more often, and same-person pairs have a
perceptual loss.

Command:  simswap-jax train --config faces_112 --workdir runs/faces_112 --config.init_from=runs/celeba_112_eighth \
              --config.data.root=PEOPLE --config.identity.weights=mobilefacenet_casia.ckpt \
              --config.identity.robust=runs/robust/model
          and the same with faces_112:second, --workdir runs/faces_112_second, --config.init_from=runs/faces_112; then
          to :sixth. examples/celeba_and_lfw.py makes PEOPLE of CelebA's and LFW's crops: one folder with --often 0 for
          the first four stages, another with --often 4 for the others.
Hardware, time, score: two CPU cores, 7.6 hours as it was run beside other work, 2.9 when it was repeated;
docs/experiments/celeba.md has the tables.
"""

import ml_collections

from simswap_jax.contrib.small_models import split_batch
from simswap_jax.contrib.small_models.augmentation import use_augmentation
from simswap_jax.errors import UserError
from simswap_jax.experiments import celeba_112
from simswap_jax.training.config import tiny_config

STAGES = {  # steps, weight of the identity loss, decay, warm-up, EMA
    "first": (1_064, 15.0, "constant", 500, 0.999),
    "second": (300, 15.0, "cosine", 30, 0.995),
    "third": (1_419, 20.0, "constant", 100, 0.998),
    "fourth": (427, 25.0, "constant", 50, 0.998),
    "fifth": (2_200, 15.0, "cosine", 50, 0.998),
    "sixth": (700, 24.0, "cosine", 20, 0.995),
}


def get_config(stage: str = "first") -> ml_collections.ConfigDict:
    """One stage; each starts from the networks of the one before (``config.init_from``).

    Raises:
      UserError: there is no stage of that name.
    """
    if stage not in STAGES:
        raise UserError(f"there is no stage '{stage}'; the stages are {', '.join(STAGES)}.", "experiment-stage")
    config = celeba_112.get_config("eighth")
    config.method = split_batch.METHOD
    for name in split_batch.OWN_LOSSES:
        config.losses[name] = 0.0
    use_augmentation(config, colour=0.4 if stage == "first" else 0.0, swap=0.7)
    config.steps, config.losses.identity, config.optimizer.decay, config.optimizer.warmup, config.ema = STAGES[stage]
    config.optimizer.learning_rate = 5e-4
    if stage not in ("first", "second"):
        config.generator.colour_cell, config.generator.light_cell = 4, 16
        config.losses.ifsr = 2.0
    if stage in ("fourth", "fifth", "sixth"):
        config.losses.eyes_and_mouth, config.losses.feature_matching_first = 4.0, 1
        config.optimizer.learning_rate = 5e-4 if stage == "sixth" else 6e-4
    if stage == "fourth":
        config.losses.adversarial, config.optimizer.discriminator_learning_rate = 1.0, 2e-3
    if stage in ("fifth", "sixth"):
        config.losses.perceptual = 3.0
    return config


def get_test_config(stage: str = "first") -> ml_collections.ConfigDict:
    """The same experiment in small: narrow networks at 48 pixels, two steps."""
    return tiny_config(get_config(stage), (4, 8, 8), blocks=1)

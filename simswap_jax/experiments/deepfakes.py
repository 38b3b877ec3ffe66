"""DeepFakes of a few people: the size in circulation at 64 pixels, or small at 64 or 112.

Command:  simswap-jax train --config deepfakes --workdir runs/deepfakes \
              --config.data.root=FOUR_PEOPLE
          and, small, deepfakes:small-64 or deepfakes:small-112; of a larger root,
              --config.generator.people="('anna', 'ben')" names who is drawn
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config, use_preset

SIZES = {"original": 64, "small-64": 64, "small-112": 112}


def get_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The method's values in either size; the small ones learn from CelebA crops.

    Raises:
      UserError: there is no preset of that name.
    """
    config = use_preset(default_config("deepfakes"), preset, SIZES)
    config.nonfinite_limit = 20
    if preset != "original":
        config.steps, config.batch_size, config.optimizer.learning_rate = 10_000, 32, 3e-4
        config.data.alignment = "simswap-frontal"
        config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The same experiment in small: two halvings at 48 pixels, two steps."""
    config = tiny_config(get_config(preset), ())
    config.generator.preset, config.generator.bottom = "", 12
    config.generator.encoder, config.generator.decoder = (4, 4), (4,)
    config.generator.dense = config.generator.shared = 8
    return config

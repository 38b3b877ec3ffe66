"""FaceShifter's second stage, HEAR-Net, on a trained AEI-Net: the published size at 256 pixels, or small at 64 or 112.

Command:  simswap-jax train --config faceshifter_hear --workdir runs/hear --config.first_stage=runs/faceshifter/model \
              --config.data.root=FACES --config.identity.weights=arcface_checkpoint.tar
          and, small, faceshifter_hear:small-64 or :small-112 on a model of the same preset of faceshifter
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.experiments.faceshifter import SIZES
from simswap_jax.training.config import default_config, tiny_config, use_preset


def get_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The paper's losses in either size; the small ones learn from CelebA crops, of which none is left out.

    Raises:
      UserError: there is no preset of that name.
    """
    config = use_preset(default_config("faceshifter_hear"), preset, SIZES)
    config.nonfinite_limit = 20
    config.data.top_errors = 0.1 if preset == "original" else 1.0  # paper: 0.1; a small set's tenth is few faces
    config.first_stage = "runs/faceshifter/model"  # what the command of the experiment faceshifter leaves
    if preset != "original":
        config.steps, config.batch_size = 2_000, 16
        config.data.alignment, config.data.held_out = "simswap-frontal", 0.12
        config.data.precompute_embeddings = True
        config.identity.weights = "mobilefacenet_casia.ckpt"
        config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The same experiment in small: two narrow levels at 48 pixels, two steps, on an AEI-Net that nobody trained."""
    config = tiny_config(get_config(preset), ())
    config.data.source_size, config.first_stage = 32, "random"
    config.generator.preset, config.generator.bottom = "", 12
    config.generator.encoder, config.generator.widths, config.generator.hear = (4, 4), (8, 4), (4, 4)
    config.generator.attribute_kernel = config.generator.mask_kernel = 1
    return config

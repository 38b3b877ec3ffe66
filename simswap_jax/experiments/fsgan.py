"""FSGAN, small and faithful, with its paper's losses: the published size at 256 pixels, or small at 64 or 112.

Command:  simswap-jax train --config fsgan --workdir runs/fsgan --config.data.root=FACES
          and, small, fsgan:small-64 or fsgan:small-112; of rendered people, whose landmarks are known,
              --config.generator.landmarks=simswap_jax.contrib.rendered.landmarks:of_files
              --config.generator.points=39 --config.generator.reach=1.1
          as in the paper one network after the other: --config.stage=reenact, then inpaint, then blend, each with
              --config.init_from=THE_RUN_BEFORE
Hardware, time, score: not trained here yet; no number is claimed.
"""

import ml_collections

from simswap_jax.training.config import default_config, tiny_config, use_preset

SIZES = {"original": 256, "small-64": 64, "small-112": 112}


def get_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The paper's losses in either size; the small ones take the detector's five landmarks.

    Raises:
      UserError: there is no preset of that name.
    """
    config = use_preset(default_config("fsgan"), preset, SIZES)
    config.nonfinite_limit = 20
    if preset != "original":
        config.generator.preset = "small"
        config.generator.landmarks, config.generator.points = "face_detection_yunet.onnx", 5
        config.generator.reach = 2.2  # from eyes and mouth to the whole face
        config.steps, config.batch_size = 5_000, 16
        config.data.alignment, config.data.held_out = "simswap-frontal", 0.12
        config.discriminator.widths, config.discriminator.tail = (24, 48, 96), 96
        config.optimizer.learning_rate, config.optimizer.discriminator_learning_rate = 5e-4, 1e-4
        config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def get_test_config(preset: str = "original") -> ml_collections.ConfigDict:
    """The same experiment in small: two narrow levels at 48 pixels, two steps."""
    config = tiny_config(get_config(preset), ())
    config.generator.preset, config.generator.pyramid = "", 1
    config.generator.widths, config.generator.flat, config.generator.flat_up = (4, 4), (0, 1), (0,)
    config.generator.landmarks, config.generator.points = "face_detection_yunet.onnx", 5
    config.discriminator.scales = 1
    return config

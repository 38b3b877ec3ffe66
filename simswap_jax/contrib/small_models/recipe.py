"""Recipes for two CPU cores: what narrow networks need to learn a swap in few steps, and experiments in small."""

import ml_collections

from simswap_jax.training.experiment import use_generator
from simswap_jax.weights import registry

EVALUATORS = {  # field of config.validation → file; none of them takes part in the training
    "recognition": "mobileface_v2.onnx",
    "pose": "headpose_fsanet.onnx",
    "landmarks": "landmarks98_pfld.onnx",
}


def small_model_recipe(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The recipe with which narrow networks learn a swap of real faces in thousands of steps.

    Changes ``config`` and gives it back. Where it differs from the paper: the compact generator (pixel-unshuffle stem,
    larger first styles), mixed batches, discriminators without norm or penalty, an identity weight that grows in,
    identity vectors computed once, a steadier Adam.
    """
    config.data.precompute_embeddings = True
    config.data.pairing, config.data.same_fraction = "mixed", 0.375
    use_generator(config, "compact")
    config.generator.unshuffle, config.generator.stem_kernel = 2, 3
    config.generator.adain_init_scale = 8.0
    config.discriminator.norm = "none"
    config.losses.identity, config.losses.identity_ramp = 10.0, 300
    config.losses.adversarial, config.losses.gradient_penalty = 0.1, 0.0
    config.losses.feature_matching = 2.0
    config.optimizer.learning_rate, config.optimizer.discriminator_learning_rate = 1.5e-3, 4e-4
    config.optimizer.b1, config.optimizer.warmup, config.optimizer.decay = 0.8, 100, "cosine"
    config.ema = 0.998
    return config


def validated(config: ml_collections.ConfigDict, every: int) -> ml_collections.ConfigDict:
    """An experiment on real faces, validated every so many steps if the recogniser is among this machine's weights, and
    with the other networks that are. Changes and gives ``config``; without the recogniser it stays as it is.
    """
    if registry.locate(EVALUATORS["recognition"]) is not None:
        config.validation.every = every
        for field, file in EVALUATORS.items():
            config.validation[field] = file if registry.locate(file) else ""
    return config

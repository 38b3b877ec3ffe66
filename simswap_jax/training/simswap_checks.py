"""What SimSwap and methods of its kind refuse before any picture is read: what does not fit, and what is missing."""

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.training.config import check_choice
from simswap_jax.weights import identity_folder, registry

PURPOSE = "training against (config.identity.weights)"


def check_same_fraction(config: ml_collections.ConfigDict) -> None:
    """Refuse shares of same-person pairs that are none.

    Raises:
      UserError: with the field, its value and what goes.
    """
    if not 0.0 <= config.data.same_fraction <= 1.0:
        raise UserError(
            f"config.data.same_fraction is {config.data.same_fraction}; it is a share of a batch, 0 to 1.",
            "config-same-fraction",
        )


def check_discriminator_sizes(config: ml_collections.ConfigDict) -> None:
    """Refuse pictures that are too small for the last of the discriminators.

    Raises:
      UserError: with the field, its value and what goes.
    """
    fields = config.get("discriminator", ml_collections.ConfigDict())
    if "scales" not in fields:  # none, or one of another kind, whose method knows what it needs
        return
    least = (3 * 2 ** len(fields.widths) - 1) * 2 ** (fields.scales - 1) + 1  # each scale sees ⌈half⌉ of the one before
    if config.data.size < least:
        raise UserError(
            f"config.data.size is {config.data.size}, but {fields.scales} discriminators of {len(fields.widths)} "
            f"widths need {least} or more; shorten config.discriminator.widths or lower config.discriminator.scales.",
            "config-size-of-discriminators",
        )


def check_pairs(config: ml_collections.ConfigDict) -> None:
    """What a method refuses that draws pairs as SimSwap does.

    Raises:
      UserError: with the field, its value and what goes.
    """
    check_choice(config, "data.pairing", ("alternate", "mixed"))
    if "same_source" in config.data:
        check_choice(config, "data.same_source", ("picture", "person"))
    check_choice(config, "identity.dtype", ("", "float32", "bfloat16"))
    check_same_fraction(config)
    check_discriminator_sizes(config)


def refuse_augmentation(config: ml_collections.ConfigDict) -> None:
    """Refuse ``augmentation``, for methods that have none.

    Raises:
      UserError: it is set.
    """
    if config.augmentation:
        raise UserError(
            f"config.augmentation is set, but the method '{config.method}' has none; set it to ''.",
            "config-augmentation-unsupported",
        )


def check_drawn_size(config: ml_collections.ConfigDict, side: int) -> None:
    """Refuse a face size other than the one that a generator draws.

    Raises:
      UserError: with the size.
    """
    if config.data.size != side:
        raise UserError(
            f"config.data.size is {config.data.size}, but this generator draws {side} pixels; use that, or another "
            "config.generator.preset, or its bottom and number of halvings (encoder).",
            "config-face-size",
        )


def read_identity(config: ml_collections.ConfigDict) -> identity_folder.Identity:
    """The identity network of an experiment, which must be able to see its sources and results.

    Raises:
      UserError: it is missing, and then what else could be trained against here; or a size does not fit it.
    """
    try:
        identity = identity_folder.read(config.identity.weights, PURPOSE)
    except UserError as error:
        ready = [name for name in registry.ready("train") if name != config.identity.weights]
        if not error.code.startswith("public-weights") or not ready:
            raise
        sentence = f"{error} Or train against another, which is at hand: --config.identity.weights={ready[0]}."
        raise UserError(sentence, error.code) from error
    check_sees(identity.network, "data.size", config.data.size)
    if not config.data.precompute_embeddings:
        check_sees(identity.network, "data.source_size", config.data.source_size)
    return identity


def check_sees(network: IdentityNetwork, field: str, size: int) -> None:
    """Refuse a size that an identity network cannot resize.

    Raises:
      UserError: with the field.
    """
    try:
        jax.eval_shape(network.preprocess, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    except ValueError as error:
        raise UserError(
            f"config.{field} does not suit the identity network: {error}", "config-identity-size"
        ) from error

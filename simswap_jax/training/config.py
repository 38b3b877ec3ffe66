"""The fields of an experiment that every method has, their checks, and the methods.

An experiment file changes what it changes and no more. Fields of one method stand in that method's module.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import ml_collections

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.io.atomic import refuse_address
from simswap_jax.training.experiment import RENAMED_VALUES, Experiment, flat, resolve
from simswap_jax.weights import model_folder

METHODS = {
    "simswap": "simswap_jax.training.simswap:build",
    "release": "simswap_jax.training.release:build",
    "faceshifter": "simswap_jax.training.faceshifter:build",
    "faceshifter_hear": "simswap_jax.training.faceshifter_hear:build",
    "deepfakes": "simswap_jax.training.deepfakes:build",
    "fsgan": "simswap_jax.training.fsgan:build",
    "ipgan": "simswap_jax.training.ipgan:build",
    "identity": "simswap_jax.training.identity:build",
    "robust_identity": "simswap_jax.contrib.small_models.robust_identity:build",
}

LEAST = {
    "steps": 1,
    "fsdp": 1,
    "accumulate": 1,
    "nonfinite_limit": 0,
    "keep": 1,
    "validation.every": 0,
    "validation.pairs": 1,
    "log_every": 1,
    "sample_every": 0,
    "checkpoint_every": 1,
    "devices": 0,
    "data.size": 1,
    "data.source_size": 1,
    "data.threads": 1,
    "data.warp": 0.0,
    "optimizer.warmup": 0,
    "optimizer.learning_rate": 0.0,
    "optimizer.discriminator_learning_rate": 0.0,
}
SHARES = ("optimizer.b1", "optimizer.b2", "ema")  # from 0 to below 1


# ---- Fields ----


def common_config() -> ml_collections.ConfigDict:
    """What every method's experiment has. Lengths are in steps, sizes in pixels."""
    return Experiment(
        {
            "method": "",  # a name of METHODS, or "package.module:build"
            "seed": 0,
            "init_from": "",  # workdir of another run, or a model folder, with whose networks this one starts
            "steps": 500_000,  # paper: more than 500 epochs of VGGFace2
            "batch_size": 16,  # not stated
            "data": Experiment(
                {
                    "root": "",  # <root>/<person>/<picture>
                    "cache": "",  # where the ArrayRecord files go; <workdir>/data if empty
                    "size": 224,  # paper
                    "alignment": "simswap",  # the template that the pictures were aligned to
                    "held_out": 0.0,  # share of the people kept out of training, chosen by name
                    "held_out_pictures": 0.0,  # share of the others' pictures kept out of training, likewise
                    "flip": True,  # ours
                    "threads": 2,
                }
            ),
            "optimizer": Experiment(
                {
                    "learning_rate": 4e-4,  # not stated in the paper
                    "b1": 0.0,  # paper
                    "b2": 0.999,  # paper
                    "warmup": 0,
                    "decay": "constant",  # or "cosine", to a twentieth at the last step
                }
            ),
            "ema": 0.999,  # ours: decay of the average of the weights that is shown and exported; 0 keeps none
            "log_every": 100,
            "sample_every": 5_000,
            "checkpoint_every": 5_000,
            "keep": 3,  # of the newest checkpoints
            # Besides metrics.jsonl, with sample sheets.
            "log": Experiment(
                {
                    "tensorboard": True,  # where tensorboardX is installed
                    "wandb": "",  # a project of Weights & Biases; "": none
                }
            ),
            # Held-out identities, swapped and measured while training; the best state by the score is kept besides.
            "validation": Experiment(
                {
                    "every": 0,  # steps; 0: never
                    "pairs": 64,
                    # Networks that are independent of the training: paths, or names to look for.
                    "recognition": "",  # of faces
                    "pose": "",  # "": head pose is not measured
                    "landmarks": "",  # "": expression is not measured
                    # Weights of what is measured. A tenth a degree: copying the source would else score best.
                    "score": Experiment(
                        {
                            "retrieval": 1.0,
                            "cosine_source": 1.0,
                            "cosine_target": -1.0,
                            "pose_error": -0.1,  # degrees
                            "expression_error": 0.0,  # percent
                            "self_l1": 0.0,
                            "self_psnr": 0.0,  # dB
                            "sharpness": 0.0,
                        }
                    ),
                    "evaluator": "simswap_jax.evaluation.validation:build",  # or "package.module:function"
                }
            ),
            "devices": 0,  # how many devices share a batch; 0: all
            "parallel": "jit",  # or "pmap": the same step, one copy a device
            "fsdp": 1,  # over how many devices each large array of the state is split
            "accumulate": 1,  # micro-batches a step, for batches that do not fit
            # Updates that are not finite are skipped, and so many in a row end the training. 0: the step has no such
            # guard; networks that are not finite end the training at the next log step or checkpoint, unsaved.
            "nonfinite_limit": 0,
            "processes": Experiment(
                {
                    "count": 0,  # that train together; 0: as the environment says, or one; -1: as the cluster says
                    "index": -1,  # which one this is; -1: as the environment says
                    "coordinator": "",  # host:port of process 0; "": as the environment says
                    "wait": 300,  # seconds for the others to come
                }
            ),
        }
    )


def reference_of(name: str) -> str:
    """``"package.module:build"`` of a method.

    Raises:
      UserError: there is no such method.
    """
    name = RENAMED_VALUES["method"].get(name, name)
    reference = METHODS.get(name, name)
    if ":" not in reference:
        raise UserError(
            f"there is no method '{name}'; set config.method to one of {', '.join(METHODS)}, or to "
            "package.module:build.",
            "method-unknown",
        )
    return reference


def module_of(name: str) -> ModuleType:
    """The module of a method.

    Raises:
      UserError: there is no such method.
    """
    reference = reference_of(name)
    resolve(reference, "method")
    return import_module(reference.partition(":")[0])


def needs_people(name: str) -> bool:
    """Whether a method can be built only when it is known who is trained on; its module says ``NEEDS_PEOPLE``.

    Raises:
      UserError: there is no such method.
    """
    return bool(getattr(module_of(name), "NEEDS_PEOPLE", True))


def default_config(method: str = "simswap") -> ml_collections.ConfigDict:
    """The experiment that a method starts from; SimSwap's has the paper's values.

    Raises:
      UserError: there is no such method.
    """
    config: ml_collections.ConfigDict = module_of(method).default_config()
    return config


def use_preset(config: ml_collections.ConfigDict, preset: str, sizes: Mapping[str, int]) -> ml_collections.ConfigDict:
    """An experiment with one of its generator's presets and the faces of its size. Changes and gives ``config``.

    Args:
      preset: its name.
      sizes: of every preset, in pixels.

    Raises:
      UserError: there is no preset of that name.
    """
    if preset not in sizes:
        raise UserError(f"there is no preset '{preset}'; the presets are {', '.join(sizes)}.", "experiment-preset")
    config.generator.preset, config.data.size = preset, sizes[preset]
    return config


def tiny_config(
    config: ml_collections.ConfigDict, widths: tuple[int, ...], maps: int = 3, blocks: int = 2
) -> ml_collections.ConfigDict:
    """An experiment as its test runs it: narrow networks at 48 pixels, two steps of four. Changes and gives ``config``.

    Args:
      widths: of SimSwap's generator, as many as the experiment's own has.
      maps: down-samplings of the multi-scale discriminators.
      blocks: ID blocks.
    """
    config.steps, config.batch_size = 2, 4
    config.data.size = 48
    config.log_every, config.sample_every, config.checkpoint_every = 1, 2, 2
    config.validation.every = 0
    if "discriminator" in config:
        if "source_size" in config.data:
            config.data.source_size = 32
        if "preset" in config.generator:
            config.generator.preset = ""
        if "blocks" in config.generator:
            config.generator.widths, config.generator.blocks = widths, blocks
        if "tail" in config.discriminator:
            config.discriminator.widths, config.discriminator.tail = (4,) * maps, 4
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that cannot work, before anything is built.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    check_common(config)
    check_method: Callable[[ml_collections.ConfigDict], None] | None = getattr(module_of(config.method), "check", None)
    if check_method is not None:
        check_method(config)


def check_common(config: ml_collections.ConfigDict) -> None:
    """Refuse what cannot work in any method, before anything is built.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    if config.batch_size < 2:
        raise UserError(
            f"config.batch_size is {config.batch_size}, but batch norm and pairs need at least 2; "
            "raise --config.batch_size.",
            "config-batch-size",
        )
    if not config.data.root and not config.data.cache:
        raise UserError(
            "config.data.root is empty; name the folder of people with --config.data.root=FOLDER, or with "
            "--config.data.cache=FOLDER the records that a training made of one.",
            "config-data-root",
        )
    check_addresses(config)
    check_choice(config, "parallel", ("jit", "pmap"))
    check_numbers(config)
    if config.fsdp > 1 and config.parallel == "pmap":
        raise UserError(
            f"config.fsdp is {config.fsdp}, but under pmap every device has the whole state; "
            "set config.parallel to 'jit', or config.fsdp to 1.",
            "config-fsdp-under-pmap",
        )
    if config.data.alignment not in model_folder.ALIGNMENTS:
        raise UserError(
            f"config.data.alignment is '{config.data.alignment}'; use the template that the pictures were aligned to: "
            f"{', '.join(model_folder.ALIGNMENTS)}.",
            "config-alignment",
        )
    if not 0.0 <= config.data.held_out < 1.0:
        raise UserError(
            f"config.data.held_out is {config.data.held_out}; it is a share of the people, 0 to below 1.",
            "config-held-out",
        )
    if not 0.0 <= config.data.held_out_pictures < 1.0:
        raise UserError(
            f"config.data.held_out_pictures is {config.data.held_out_pictures}; it is a share of the pictures, 0 to "
            "below 1.",
            "config-held-out-pictures",
        )
    check_choice(config, "optimizer.decay", ("constant", "cosine"))
    if config.log.wandb and find_spec("wandb") is None:
        raise missing_extra("wandb", "wandb", "config.log.wandb")


def check_numbers(config: ml_collections.ConfigDict) -> None:
    """Refuse numbers out of their range; fields that the method lacks are skipped.

    Raises:
      UserError: with the field, its value and the range.
    """
    values = flat(config.to_dict())
    for name, least in LEAST.items():
        if name in values and not values[name] >= least:
            raise UserError(f"config.{name} is {values[name]}; it must be at least {least}.", "config-too-small")
    for name in SHARES:
        if name in values and not 0.0 <= values[name] < 1.0:
            raise UserError(f"config.{name} is {values[name]}; it goes from 0 to below 1.", "config-out-of-range")
    for name, value in values.items():
        number = isinstance(value, int | float)
        if number and not math.isfinite(value) and name.startswith(("optimizer.", "losses.")):
            raise UserError(f"config.{name} is {value}; give a finite number.", "config-not-finite")
        if number and value < 0 and name.startswith("losses.") and not name.endswith("_margin"):  # it has a range
            raise UserError(f"config.{name} is {value}; it must be at least 0.", "config-too-small")


def check_addresses(config: Mapping[str, Any]) -> None:
    """Refuse ``gs://…`` and other addresses in any field.

    Raises:
      UserError: with the address.
    """
    for value in config.values():
        if isinstance(value, str):
            refuse_address(value)
        elif isinstance(value, (ml_collections.ConfigDict, dict)):
            check_addresses(value)


def check_choice(config: ml_collections.ConfigDict, name: str, choices: Iterable[str]) -> None:
    """Refuse a value of a dotted field that is not among the choices.

    Raises:
      UserError: with the field, its value and the choices.
    """
    if config[name] not in choices:
        known = ", ".join(f"'{choice}'" for choice in choices)
        raise UserError(f"config.{name} is '{config[name]}'; use one of {known}.", "config-unknown-choice")


def check_whole_batch(config: ml_collections.ConfigDict) -> None:
    """Refuse gradient accumulation, for methods that take a batch whole.

    Raises:
      UserError: ``accumulate`` is not 1.
    """
    if config.accumulate != 1:
        raise UserError(
            f"config.accumulate is {config.accumulate}, but the method '{config.method}' takes a batch whole; "
            "set it to 1.",
            "config-accumulate-unsupported",
        )

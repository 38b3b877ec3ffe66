"""The fields of an experiment, with the paper's values. An experiment file changes what it changes and no more."""

import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.weights import model_folder


def default_config() -> ml_collections.ConfigDict:
    """The ``paper`` recipe at 224 pixels (SimSwap, section 3; weights of the losses as in its section 4).

    Lengths are in steps, sizes in pixels. Fields that the paper leaves open carry a comment.
    """
    config = ml_collections.ConfigDict()
    config.method = "simswap"
    config.seed = 0
    config.start = ""  # workdir of another run, with whose networks this one begins
    config.steps = 500_000
    config.batch_size = 16
    config.data = ml_collections.ConfigDict(
        {
            "root": "",  # <root>/<person>/<picture>
            "cache": "",  # where the ArrayRecord files go; <workdir>/data if empty
            "size": 224,
            "source_size": 112,
            "alignment": "simswap",  # the template that the pictures were aligned to
            "vectors": False,  # identity vectors computed once, in place of source pictures
            "held_out": 0.0,  # share of the people kept out of training, chosen by name
            "pairing": "alternate",  # "alternate" (paper): batches of either kind in turn; "mixed": both in each
            "same_fraction": 0.5,  # of a "mixed" batch
            "flip": True,
            "threads": 2,
        }
    )
    config.generator = ml_collections.ConfigDict(
        {
            "preset": "224",  # or "" and the fields below
            "widths": (64, 128, 256, 512),
            "blocks": 9,
            "patch": 1,
            "edge_kernel": 7,
            "gated": False,
            "gate_cell": 1,
            "style_gain": 1.0,
            "convention": "unit",
            "dtype": "float32",
            "remat": False,
        }
    )
    config.discriminator = ml_collections.ConfigDict(
        {"widths": (64, 128, 256, 512), "tail": 512, "scales": 2, "norm": "batch", "dtype": "float32"}
    )
    config.identity = ml_collections.ConfigDict(
        {
            "weights": "arcface_checkpoint.tar",
            "hardened": "",  # folder of a hardened copy (config.method = "hardening"), by which results are judged
            "dtype": "",  # what the step computes its maps in: "float32", "bfloat16", or "" for the network's own
        }
    )
    config.losses = ml_collections.ConfigDict(
        {
            "identity": 10.0,
            # A sample whose 1 − cosine is below this is pulled no nearer; the paper's is 0. Two pictures of one person
            # are not at 0 either, and what a network gives beyond that it gives for scribbles.
            "identity_margin": 0.0,
            "reconstruction": 10.0,
            "adversarial": 1.0,
            "gradient_penalty": 1e-5,
            "gradient_penalty_every": 1,  # every k steps, weighted k times
            "feature_matching": 10.0,
            "feature_matching_first": 3,  # the paper's m, counted from 0; not stated there
            "feature_matching_end": 0,  # maps from this one on are left out; 0 leaves out none
            "rest_ramp": 0,  # steps over which the generator's other weights grow from a tenth
            "identity_ramp": 0,  # steps over which the identity weight grows from 0
        }
    )
    # Not in the paper: what the generator gets in place of same-person targets (contrib/small_models/augmentation.py).
    config.corruption = ml_collections.ConfigDict(
        {
            "colour": 0.0,  # strength of colours that are not the person's; 1 is strong
            "swap": 0.0,  # share of them that the generator itself first gives another's face
        }
    )
    config.optimizer = ml_collections.ConfigDict(
        {
            "learning_rate": 4e-4,  # not stated in the paper
            "discriminator_learning_rate": 4e-4,
            "muon_learning_rate": 0.0,  # of the generator's inner kernels, by Muon; 0: Adam for all
            "b1": 0.0,
            "b2": 0.999,
            "warmup": 0,
            "decay": "constant",  # or "cosine", to a twentieth at the last step
        }
    )
    config.ema = 0.999  # 0 keeps no average
    config.log_every = 100
    config.sample_every = 5_000
    config.score_every = 0  # steps between calls of the score handed to train(); 0 never
    config.checkpoint_every = 5_000
    config.keep = 3  # of the newest checkpoints
    config.keep_best = 1  # and of those with the highest scores
    config.devices = 0  # how many devices share a batch; 0: all
    config.parallel = "jit"  # or "pmap": the same step, one copy a device
    config.fsdp = 1  # over how many devices each large array of the state is split
    config.accumulate = 1  # micro-batches a step, for batches that do not fit
    # Updates that are not finite are skipped, and so many in a row end the training; 0 looks at nothing.
    config.nonfinite_limit = 0
    config.processes = ml_collections.ConfigDict(
        {
            "count": 0,  # that train together; 0: as the environment says, or this one alone; -1: as the cluster says
            "index": -1,  # which one this is; -1: as the environment says
            "coordinator": "",  # host:port of process 0; "": as the environment says
            "wait": 300,  # seconds for the others to come
        }
    )
    return config


def few_steps(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """The recipe with which narrow networks learn a swap of real faces in thousands of steps.

    Changes ``config`` and gives it back. Where it differs from the paper: pixel-unshuffled entry, larger first styles,
    mixed batches, discriminators without norm or penalty, an identity weight that grows in, identity vectors computed
    once, a steadier Adam.
    """
    config.data.vectors = True
    config.data.pairing, config.data.same_fraction = "mixed", 0.375
    config.generator.preset = ""
    config.generator.patch, config.generator.edge_kernel = 2, 3
    config.generator.style_gain = 8.0
    config.discriminator.norm = "none"
    config.losses.identity, config.losses.identity_ramp = 10.0, 300
    config.losses.adversarial, config.losses.gradient_penalty = 0.1, 0.0
    config.losses.feature_matching = 2.0
    config.optimizer.learning_rate, config.optimizer.discriminator_learning_rate = 1.5e-3, 4e-4
    config.optimizer.b1, config.optimizer.warmup, config.optimizer.decay = 0.8, 100, "cosine"
    config.ema = 0.998
    return config


def in_small(
    config: ml_collections.ConfigDict, widths: tuple[int, ...], maps: int = 3, blocks: int = 2
) -> ml_collections.ConfigDict:
    """An experiment as its test runs it: narrow networks at 48 pixels, two steps of four. Changes and gives ``config``.

    Args:
      widths: of the generator, as many as the experiment's own has.
      maps: down-samplings of the discriminators.
      blocks: ID blocks.
    """
    config.steps, config.batch_size = 2, 4
    config.data.size, config.data.source_size = 48, 32
    config.generator.preset, config.generator.widths, config.generator.blocks = "", widths, blocks
    config.discriminator.widths, config.discriminator.tail = (4,) * maps, 4
    config.log_every, config.sample_every, config.checkpoint_every = 1, 2, 2
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse what cannot work, before anything is built.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    if config.batch_size < 2:
        raise UserError(
            f"config.batch_size is {config.batch_size}, but batch norm and pairs need at least 2; "
            "raise --config.batch_size."
        )
    if not config.data.root:
        raise UserError("config.data.root is empty; name the folder of people with --config.data.root=FOLDER.")
    if config.steps < 1:
        raise UserError(f"config.steps is {config.steps}; it must be at least 1.")
    if config.parallel not in ("jit", "pmap"):
        raise UserError(f"config.parallel is '{config.parallel}'; use 'jit' or 'pmap'.")
    least_values = {"fsdp": 1, "accumulate": 1, "nonfinite_limit": 0, "keep": 1, "keep_best": 0}
    for name, least in least_values.items():
        if config[name] < least:
            raise UserError(f"config.{name} is {config[name]}; it must be at least {least}.")
    if config.fsdp > 1 and config.parallel == "pmap":
        raise UserError(
            f"config.fsdp is {config.fsdp}, but under pmap every device has the whole state; "
            "set config.parallel to 'jit', or config.fsdp to 1."
        )
    if config.method == "simswap" and config.data.pairing not in ("alternate", "mixed"):
        raise UserError(f"config.data.pairing is '{config.data.pairing}'; use 'alternate' (the paper's) or 'mixed'.")
    if config.data.alignment not in model_folder.ALIGNMENTS:
        raise UserError(
            f"config.data.alignment is '{config.data.alignment}'; use the template that the pictures were aligned to: "
            f"{', '.join(model_folder.ALIGNMENTS)}."
        )
    if not 0.0 <= config.data.held_out < 1.0:
        raise UserError(f"config.data.held_out is {config.data.held_out}; it is a share of the people, 0 to below 1.")
    if not 0.0 <= config.losses.identity_margin < 2.0:
        raise UserError(
            f"config.losses.identity_margin is {config.losses.identity_margin}; it is a 1 − cosine, 0 to below 2."
        )
    if config.corruption.colour < 0.0 or not 0.0 <= config.corruption.swap <= 1.0:
        raise UserError(
            f"config.corruption.colour is {config.corruption.colour} and config.corruption.swap "
            f"{config.corruption.swap}; the first must be 0 or more, the second a share, 0 to 1."
        )
    if config.identity.dtype not in ("", "float32", "bfloat16"):
        raise UserError(f"config.identity.dtype is '{config.identity.dtype}'; use 'float32', 'bfloat16' or ''.")
    if config.optimizer.muon_learning_rate < 0.0:
        raise UserError(
            f"config.optimizer.muon_learning_rate is {config.optimizer.muon_learning_rate}; "
            "use 0 (Adam for all) or more."
        )
    if config.optimizer.decay not in ("constant", "cosine"):
        raise UserError(f"config.optimizer.decay is '{config.optimizer.decay}'; use 'constant' or 'cosine'.")

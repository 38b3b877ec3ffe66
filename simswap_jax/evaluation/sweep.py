"""The paper's ablation as one run: many trainings that end in its table and its figure. Stopped, it can be resumed."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.evaluation import workdir_state
from simswap_jax.evaluation.evaluate import evaluate, find_recogniser, need_networks
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.evaluation.request import check as check_evaluation
from simswap_jax.training.loop import train
from simswap_jax.training.sharding import use_cpu_cores
from simswap_jax.training.workdir import CONFIG, refuse_another


def names(maps: int) -> list[str]:
    """All of them, for discriminators of so many feature maps.

    The paper's m is a number from 1 to ``maps`` − 1: wFM keeps the maps from m on, counted from 0, and not_wFM (the
    paper's wFM with a bar) those before it. fm5 halves the weight of feature matching and id20 doubles that of
    identity, as the paper's 5 and 20 do its 10 and 10.
    """
    later = range(1, maps)
    swept = [*(f"wFM_{m}" for m in later), *(f"not_wFM_{m}" for m in later)]
    return ["oFM", "nFM", *swept, "oFM_fm5", "oFM_id20", "wFM_id20"]


def feature_maps(config: ml_collections.ConfigDict) -> int:
    """How many maps a discriminator of an experiment has: one a width, and the one before the last convolution."""
    return len(config.discriminator.widths) + 1


def ablated(config: ml_collections.ConfigDict, name: str) -> ml_collections.ConfigDict:
    """A copy of an experiment with one thing changed.

    Raises:
      UserError: there is no ablation of that name for discriminators of so many maps.
    """
    known = names(feature_maps(config))
    if name not in known:
        raise UserError(f"there is no ablation '{name}'; choose one of {', '.join(known)}.", "ablation-unknown")
    config = config.copy_and_resolve_references()
    losses = config.losses
    if name == "nFM":
        losses.feature_matching = 0.0
    elif name.startswith("oFM"):
        losses.feature_matching_first, losses.feature_matching_end = 0, 0
    elif name.startswith("wFM_") and name != "wFM_id20":
        losses.feature_matching_first, losses.feature_matching_end = int(name.removeprefix("wFM_")), 0
    elif name.startswith("not_wFM_"):
        losses.feature_matching_first, losses.feature_matching_end = 0, int(name.removeprefix("not_wFM_"))
    if name.endswith("_fm5"):
        losses.feature_matching *= 0.5
    elif name.endswith("_id20"):
        losses.identity *= 2.0
    return config


# Called with workdir, people, identity_steps and steps; gives the experiment and its protocol, None if it was stopped.
SMALL_EXPERIMENT = "simswap_jax.contrib.rendered.demo:sweep_experiment"
SMALL_MAPS = 4  # of its discriminators
STATE = "sweep.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRequest:
    """One ablation; `sweep` carries it out.

    Attributes:
      workdir: gets ``variants/NAME`` and ``evaluation``.
      config: the experiment; None: the small one that comes with the package, minutes a variant on two CPU cores.
      variants: which of the paper's; None: all.
      steps: of each training; None: the experiment's.
      pairs: how many swaps each variant is evaluated by.
      people, identity_steps: size of the small experiment; None: its own.
      recogniser, pose, landmarks, features: as of `EvaluationRequest`.
    """

    workdir: Path
    config: ml_collections.ConfigDict | None = None
    variants: tuple[str, ...] | None = None
    steps: int | None = None
    pairs: int = 336
    people: int | None = None
    identity_steps: int | None = None
    recogniser: str | None = None
    pose: Path | None = None
    landmarks: Path | None = None
    features: Path | None = None


def sweep(request: SweepRequest) -> bool:
    """Train every variant and evaluate all of them together.

    Returns:
      False if it was stopped before its end.

    Raises:
      UserError: the request cannot be carried out, or the workdir holds variants of other steps or people.
    """
    check(request)
    workdir_state.open_state(request.workdir / STATE, fingerprint(request), "ablation")
    prepared = experiment(request)
    if prepared is None:
        return False
    config, protocol = prepared
    if request.steps:
        config.steps = request.steps
    variants = chosen(request.variants, names(feature_maps(config)))
    folders = {name: request.workdir / "variants" / name for name in variants}
    if not train_each({folders[name]: ablated(config, name) for name in variants}):
        return False
    models = {name: folder / "model" for name, folder in folders.items()}
    evaluate(evaluation_of(request, Path(config.data.root).expanduser(), protocol, models))
    return True


def check(request: SweepRequest) -> None:
    """Refuse what cannot work, before anything is made.

    Raises:
      UserError: a value out of its range, an unknown variant, networks that are missing, or an experiment of one's own
        that holds nobody out.
    """
    check_evaluation(EvaluationRequest(Path(), request.workdir / "evaluation", pairs=request.pairs))
    check_sizes(request.people, request.identity_steps)
    if request.steps is not None and request.steps < 1:
        raise UserError(f"--steps is {request.steps}; give at least 1.", "sweep-steps")
    chosen(request.variants, names(feature_maps(request.config) if request.config is not None else SMALL_MAPS))
    if request.config is not None and not request.config.data.held_out:
        raise UserError(
            "config.data.held_out is 0, so that every variant would be evaluated on people it was trained on; hold "
            "out a part, such as 0.12.",
            "sweep-holds-nobody-out",
        )
    recogniser = request.recogniser if request.config is None else find_recogniser(request.recogniser)
    need_networks(recogniser, request.pose, request.landmarks, request.features)


def check_sizes(people: int | None, identity_steps: int | None) -> None:
    """Refuse sizes that an experiment which comes with the package cannot have; None: its own.

    Raises:
      UserError: a value out of its range.
    """
    if people is not None and people < 2:
        raise UserError(f"--people is {people}, and people are swapped for each other; give at least 2.", "people-few")
    if identity_steps is not None and identity_steps < 1:
        raise UserError(f"--identity-steps is {identity_steps}; give at least 1.", "identity-steps")


def fingerprint(request: SweepRequest) -> dict[str, int | None]:
    """What all variants of the small experiment share: people, identity network and first stage.

    An experiment of one's own is held by the variants' workdirs, and may be trained for more steps.
    """
    if request.config is not None:
        return {}
    return {"steps": request.steps, "people": request.people, "identity_steps": request.identity_steps}


def train_each(experiments: Mapping[Path, ml_collections.ConfigDict]) -> bool:
    """Make the trainings that are not made yet: workdir → experiment, in order; False if one was stopped.

    Raises:
      UserError: one cannot run.
    """
    for number, (folder, config) in enumerate(experiments.items(), 1):
        logger.info("%d/%d %s", number, len(experiments), folder.name)
        if not is_trained(folder, config) and not train(config, folder).finished:
            return False
    return True


def experiment(request: SweepRequest) -> tuple[ml_collections.ConfigDict, str] | None:
    """The experiment to vary and the protocol to evaluate it by; None if preparing it was stopped."""
    if request.config is None:
        module, function = SMALL_EXPERIMENT.split(":")
        prepare = getattr(import_module(module), function)
        prepared: tuple[ml_collections.ConfigDict, str] | None = prepare(
            request.workdir, request.people, request.identity_steps, request.steps
        )
        return prepared
    if request.config.devices == 0 and request.config.fsdp == 1:
        use_cpu_cores(request.config.batch_size // max(1, request.config.accumulate))
    return request.config, "pairs"


def chosen(wanted: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The variants to train, in the paper's order.

    Raises:
      UserError: one is unknown, or none is named.
    """
    if wanted is None:
        return list(known)
    for name in wanted:
        if name not in known:
            raise UserError(f"there is no variant '{name}'; choose among {', '.join(known)}.", "variant-unknown")
    if not wanted:
        raise UserError(f"--variants names none; choose among {', '.join(known)}.", "no-variants")
    return [name for name in known if name in wanted]


def is_trained(folder: Path, config: ml_collections.ConfigDict) -> bool:
    """Has a training made its steps? Told by its workdir's experiment and its model's card.

    Raises:
      UserError: the workdir holds another experiment, or made more steps.
    """
    try:
        described = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
        step = int(described["card"]["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not (folder / CONFIG).is_file():
        return False
    refuse_another(folder / CONFIG, json.loads(config.to_json()), config.method)
    if step > config.steps:
        raise UserError(
            f"{folder} was trained for {step} steps, and {config.steps} are asked for; ask for as many, or use another "
            "--workdir.",
            "trained-for-more-steps",
        )
    return step == config.steps


def evaluation_of(request: SweepRequest, data: Path, protocol: str, models: dict[str, Path]) -> EvaluationRequest:
    """The one evaluation of all variants."""
    return EvaluationRequest(
        data=data,
        output=request.workdir / "evaluation",
        models=models,
        protocol=protocol,
        recogniser=request.recogniser,
        pose=request.pose,
        landmarks=request.landmarks,
        features=request.features,
        pairs=request.pairs,
    )

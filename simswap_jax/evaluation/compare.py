"""Methods compared: each trained alike on the same people, all judged by one evaluation. Stopped, it can be resumed."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import ml_collections

from simswap_jax.data.dataset import held_out, list_people
from simswap_jax.errors import UserError
from simswap_jax.evaluation import workdir_state
from simswap_jax.evaluation.budget import Pace, cost, left_of, measured_pace, steps_within, trained_seconds, with_fields
from simswap_jax.evaluation.entrants import BASELINES, ENTRANTS, Entrant, takes, title_of, what_it_takes
from simswap_jax.evaluation.evaluate import evaluate, find_recogniser, need_networks
from simswap_jax.evaluation.protocols.known import unseen_pictures
from simswap_jax.evaluation.report.comparison import Comparison, Method, write_comparison
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.evaluation.request import check as check_evaluation
from simswap_jax.evaluation.sweep import check_sizes, train_each
from simswap_jax.evaluation.warp import NEAREST
from simswap_jax.io.atomic import write_json
from simswap_jax.io.job_cache import exclusive_lock
from simswap_jax.io.progress import StageTimer
from simswap_jax.training.metrics import read_lines
from simswap_jax.training.sharding import use_cpu_cores
from simswap_jax.weights import model_folder

DEFAULT_SETTING = "simswap_jax.contrib.rendered.comparison:prepare"  # the setting where no data are named
HELD_OUT, HELD_OUT_PICTURES = 0.12, 0.2  # shares, where no experiment says others
MINUTES = 60.0  # for everything, where neither minutes nor steps are named
STATE, SHARE = "compare.json", "data.held_out_pictures"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareRequest:
    """One comparison; `compare` carries it out.

    Attributes:
      workdir: gets people and identity network where they are rendered, ``methods/NAME``, ``evaluation`` and the page.
      experiments: method → its experiment; those that name data name one root; where none does, people are rendered.
      baselines: rows without training, of `warp.NAMES`.
      minutes: for everything, about: trainings get equal seconds of what preparing and evaluating leave.
      steps: of each training, in place of minutes.
      pairs: swaps a protocol.
      known_people: how many people a method draws that knows people only.
      people, identity_steps: size of the rendered set; None: its own.
      recogniser, pose, landmarks, warp_landmarks, features: as of `EvaluationRequest`.
    """

    workdir: Path
    experiments: Mapping[str, ml_collections.ConfigDict]
    baselines: tuple[str, ...] = BASELINES
    minutes: float | None = None
    steps: int | None = None
    pairs: int = 240
    known_people: int = 4
    people: int | None = None
    identity_steps: int | None = None
    recogniser: str | None = None
    pose: Path | None = None
    landmarks: Path | None = None
    warp_landmarks: Path | None = None
    features: Path | None = None


@dataclass(frozen=True)
class Stage:
    """A part of a method's training: an experiment, and its share of the steps."""

    config: ml_collections.ConfigDict
    share: float = 1.0


@dataclass(frozen=True)
class Setting:
    """On whom methods are compared.

    Attributes:
      data: aligned crops, ``ROOT/PERSON/PICTURE``.
      fields: of every experiment that has them.
      known: whom a method draws that knows people only.
      protocols: of held-out identities, and of held-out pictures of known people.
      recipes: method → its stages, where they are not the request's experiment.
      lacks: method → what this recipe has not, in place of `Entrant.lacks`.
      batch_size: of every method but those that share a batch by people; None: the experiments'.
      knows_landmarks: whether the protocols know landmarks and pose.
    """

    data: Path
    fields: Mapping[str, Any]
    known: tuple[str, ...]
    protocols: tuple[str, str] = ("pairs", "known")
    recipes: Mapping[str, Callable[["Setting"], list[Stage]]] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)
    batch_size: int | None = None
    knows_landmarks: bool = False


def compare(request: CompareRequest) -> bool:
    """Prepare people, train every method, evaluate all together, and leave the page in the workdir.

    Returns:
      False if it was stopped before its end; the same request resumes it.

    Raises:
      UserError: the request cannot be carried out, or the workdir holds another comparison.
    """
    check(request)
    with exclusive_lock(request.workdir, f"comparing methods in {request.workdir}"):
        state = open_state(request)
        timer = StageTimer(request.workdir / "seconds.json")
        setting = default_setting(request, timer) if brings_no_data(request) else folder_of_people(request)
        if setting is None:
            return False
        check_known(setting)
        stages = {name: stages_of(request, setting, name) for name in request.experiments}
        steps = steps_of(request, stages, timer, state)
        if steps is None or not train_methods(request, stages, steps, timer):
            return False
        for protocol in setting.protocols:
            asked = evaluation_of(request, setting, protocol)
            with timer.stage(
                f"evaluating {protocol}", f"evaluating, {protocol}{left_of(request.minutes, timer.total)}"
            ):
                if not (asked.output / "metrics.json").is_file():
                    evaluate(asked)
        write_comparison(request.workdir, comparison_of(request, setting, stages))
    return True


# ---- What is asked ----


def check(request: CompareRequest) -> None:
    """Refuse what cannot work, before anything is made.

    Raises:
      UserError: a value out of its range, or networks are missing.
    """
    if request.minutes is not None and request.steps is not None:
        raise UserError("--minutes and --steps were both given; name one of them.", "compare-minutes-and-steps")
    if request.minutes is not None and not (math.isfinite(request.minutes) and request.minutes > 0):
        raise UserError(f"--minutes is {request.minutes:g}; give more than 0.", "compare-minutes")
    if request.steps is not None and request.steps < 2:
        raise UserError(f"--steps is {request.steps}; give at least 2.", "compare-steps")
    if request.known_people < 2:
        raise UserError(
            f"--known-people is {request.known_people}, and people are swapped for each other; give at least 2.",
            "compare-known-people",
        )
    check_sizes(request.people, request.identity_steps)
    if not request.experiments:
        raise UserError("no method to train is named; --methods names some.", "compare-nothing")
    roots = roots_of(request)
    if len(roots) > 1:
        raise UserError(
            f"the experiments name {len(roots)} folders of people ({', '.join(map(str, roots))}); name one by "
            "--config.data.root.",
            "compare-several-roots",
        )
    alignments = {name: config.data.alignment for name, config in request.experiments.items()}
    if roots and len({*alignments.values()}) > 1:
        told = ", ".join(f"{name} '{alignment}'" for name, alignment in alignments.items())
        raise UserError(
            f"the experiments name different alignments of the faces ({told}), and all methods get the same crops; "
            "name one by --config.data.alignment.",
            "compare-several-alignments",
        )
    check_evaluation(EvaluationRequest(Path(), request.workdir / "evaluation", pairs=request.pairs))
    recogniser = request.recogniser if brings_no_data(request) else find_recogniser(request.recogniser)
    need_networks(recogniser, request.pose, request.landmarks, request.warp_landmarks, request.features)


def brings_no_data(request: CompareRequest) -> bool:
    """Whether no data are named, so that people are rendered."""
    return not roots_of(request)


def roots_of(request: CompareRequest) -> list[Path]:
    """The folders of people that experiments name."""
    return sorted({Path(config.data.root).expanduser() for config in request.experiments.values() if config.data.root})


def fingerprint(request: CompareRequest) -> dict[str, Any]:
    """Everything that a resumed comparison must agree in, as JSON can hold it."""
    of_request = {name: value for name, value in vars(request).items() if name not in ("workdir", "experiments")}
    experiments = {name: json.loads(config.to_json()) for name, config in request.experiments.items()}
    plain: dict[str, Any] = json.loads(json.dumps({**of_request, "experiments": experiments}, default=str))
    return plain


def open_state(request: CompareRequest) -> dict[str, Any]:
    """What is known of this comparison so far: ``request``, ``paces`` and ``steps``.

    Raises:
      UserError: the workdir holds another one.
    """
    state = workdir_state.open_state(request.workdir / STATE, fingerprint(request), "comparison")
    return {"paces": {}, "steps": {}} | state


# ---- Who is swapped ----


def default_setting(request: CompareRequest, timer: StageTimer) -> Setting | None:
    """The setting that comes with the package, found by its name; None if making it was stopped."""
    module, function = DEFAULT_SETTING.split(":")
    made: Setting | None = getattr(import_module(module), function)(request, timer)
    return made


def folder_of_people(request: CompareRequest) -> Setting:
    """The setting of a folder of the user's: the people with most pictures are those whom some methods draw.

    Raises:
      UserError: too few people are left to train on.
    """
    configs = list(request.experiments.values())
    use_cpu_cores(math.gcd(*(config.batch_size // max(1, config.accumulate) for config in configs)))
    [root] = roots_of(request)
    fields: dict[str, Any] = {"data.root": str(root), "data.cache": str(request.workdir / "records")}
    for name, default in {"held_out": HELD_OUT, "held_out_pictures": HELD_OUT_PICTURES}.items():
        fields[f"data.{name}"] = max(config.data[name] for config in configs) or default
    people = list_people(root)
    away = set(held_out(sorted(people), fields["data.held_out"]))
    trained = sorted((name for name in people if name not in away), key=lambda name: (-len(people[name]), name))
    if len(trained) < request.known_people:
        raise UserError(
            f"{root} leaves {len(trained)} people to train on, and --known-people is {request.known_people}; lower it, "
            "or bring more people.",
            "compare-too-few-people",
        )
    return Setting(root, fields, tuple(trained[: request.known_people]))


def check_known(setting: Setting) -> None:
    """Refuse known people with too few held-out pictures before anything is trained.

    Raises:
      UserError: fewer than two have one, or nobody has two, among which a person is found.
    """
    people = {name: files for name, files in list_people(setting.data).items() if name in setting.known}
    counts = [len(some) for some in unseen_pictures(people, setting.known, setting.fields[SHARE]).values()]
    if len(counts) < 2 or max(counts) < 2:
        raise UserError(
            f"of the {len(setting.known)} people with most pictures in {setting.data}, {len(counts)} have pictures "
            f"held out ({setting.fields[SHARE]:g} of them), at most {max(counts, default=0)}; bring more, or raise "
            "config.data.held_out_pictures.",
            "compare-too-few-pictures",
        )


def stages_of(request: CompareRequest, setting: Setting, name: str) -> list[Stage]:
    """The stages of a method's training in a setting, their steps not set yet."""
    if name in setting.recipes:
        return setting.recipes[name](setting)
    config = with_fields(request.experiments[name], {**setting.fields, "validation.every": 0, "keep": 1})
    if "person" in takes(config):
        config.generator.people = setting.known
        shared = math.lcm(len(setting.known), jax.device_count())  # by people, and by devices
        config.batch_size = max(1, config.batch_size // shared) * shared
    elif setting.batch_size:
        config.batch_size = setting.batch_size
    return [Stage(config)]


# ---- Training ----


def steps_of(
    request: CompareRequest, stages: Mapping[str, Sequence[Stage]], timer: StageTimer, state: dict[str, Any]
) -> dict[str, int] | None:
    """Steps of each method: equal ones, or as many as fit equal seconds; decided once. None if it was stopped."""
    if not state["steps"] and request.steps:
        state["steps"] = dict.fromkeys(stages, request.steps)
    if not state["steps"]:
        for number, (name, parts) in enumerate(stages.items(), 1):
            if name not in state["paces"]:
                line = f"{number}/{len(stages)} measuring how fast {name} trains here"
                with timer.stage(f"pace of {name}", line):
                    pace = measured_pace(parts[-1].config, request.workdir / "pace")
                if pace is None:
                    return None
                state["paces"][name] = vars(pace)
                write_json(request.workdir / STATE, state)
        paces = {name: Pace(**state["paces"][name]) for name in stages}
        counts = {name: len(parts) for name, parts in stages.items()}
        state["steps"] = steps_within(request.minutes or MINUTES, timer.total, paces, counts)
    write_json(request.workdir / STATE, state)
    steps: dict[str, int] = state["steps"]
    return steps


def train_methods(
    request: CompareRequest, stages: Mapping[str, Sequence[Stage]], steps: Mapping[str, int], timer: StageTimer
) -> bool:
    """Train every method that is not trained yet; False if one was stopped."""
    for number, (name, parts) in enumerate(stages.items(), 1):
        line = f"{number}/{len(stages)} training {name}: {steps[name]:,} steps{left_of(request.minutes, timer.total)}"
        with timer.stage(f"training {name}", line):
            if not train_each(runs_of(request.workdir / "methods", name, parts, steps[name])):
                return False
    return True


def runs_of(folder: Path, name: str, stages: Sequence[Stage], steps: int) -> dict[Path, ml_collections.ConfigDict]:
    """Workdir → experiment of each stage; the last is called as the method is, and starts from the one before."""
    runs: dict[Path, ml_collections.ConfigDict] = {}
    for number, stage in enumerate(stages, 1):
        workdir = folder / (name if number == len(stages) else f"{name}_{number}")
        config = with_fields(stage.config, {"steps": max(1, round(steps * stage.share))})
        config.log_every = max(1, config.steps // 20)
        config.sample_every, config.checkpoint_every = max(1, config.steps // 2), max(1, config.steps // 8)
        if runs:
            config.init_from = str(list(runs)[-1])
        runs[workdir] = config
    return runs


# ---- Evaluating ----


def evaluation_of(request: CompareRequest, setting: Setting, protocol: str) -> EvaluationRequest:
    """The evaluation of all methods by one protocol."""
    methods = request.workdir / "methods"
    return EvaluationRequest(
        data=setting.data,
        output=request.workdir / "evaluation" / protocol,
        models={name: methods / name / "model" for name in request.experiments},
        baselines=tuple(name for name in request.baselines if name not in impossible(request, setting)),
        warp_landmarks=request.warp_landmarks,
        protocol=protocol,
        recogniser=request.recogniser,
        pose=request.pose,
        landmarks=request.landmarks,
        features=request.features,
        pairs=request.pairs,
    )


def impossible(request: CompareRequest, setting: Setting) -> dict[str, str]:
    """Baseline → why it cannot be made: nothing finds the landmarks or the pose that it needs."""
    landmarks = setting.knows_landmarks or request.landmarks or request.warp_landmarks
    found = {}
    for name in request.baselines:
        if not landmarks:
            found[name] = "needs landmarks: name a network by --warp-landmarks"
        elif name.endswith(NEAREST) and not (setting.knows_landmarks or request.pose):
            found[name] = "needs head pose: name a network by --pose"
    return found


def comparison_of(request: CompareRequest, setting: Setting, stages: Mapping[str, Sequence[Stage]]) -> Comparison:
    """What the page shows."""
    methods = {name: method_of(request, setting, name, parts) for name, parts in stages.items()}
    for name in request.baselines:
        methods[name] = Method(title_of(name), "picture, landmarks", lacks="no 3D model; no training")
    held, known = (request.workdir / "evaluation" / name for name in setting.protocols)
    return Comparison(methods, held, known, impossible(request, setting), brings_no_data(request))


def method_of(request: CompareRequest, setting: Setting, name: str, stages: Sequence[Stage]) -> Method:
    """A trained method's size, budget and what it lacks."""
    entrant = ENTRANTS.get(name) or Entrant(name, "", "")
    folders = list(runs_of(request.workdir / "methods", name, stages, 1))
    rows = [read_lines(folder) for folder in folders]
    parameters, gflop = cost(model_folder.read(folders[-1] / "model", with_identity=False))
    return replace(
        Method(entrant.title, what_it_takes(stages[-1].config)),
        parameters=parameters,
        gflop=gflop,
        batch=stages[-1].config.batch_size,
        steps=sum(int(some[-1]["step"]) for some in rows if some),
        seconds=sum(trained_seconds(some) for some in rows),
        lacks=setting.lacks.get(name, entrant.lacks),
    )

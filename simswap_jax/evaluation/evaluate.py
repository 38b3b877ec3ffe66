"""Evaluate: swap held-out identities and measure the results with independent networks."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.evaluation import agreement
from simswap_jax.evaluation.candidates import (
    BASELINE,
    BASELINES,
    GENUINE,
    GENUINE_TITLE,
    SOURCE,
    Candidate,
    ModelCandidate,
)
from simswap_jax.evaluation.clip import LEAST, clip_inputs, measure_clip
from simswap_jax.evaluation.contracts import read_contract
from simswap_jax.evaluation.external import ExternalNetwork, split_reference
from simswap_jax.evaluation.gallery import embed_gallery, gallery_cache, size_and_time
from simswap_jax.evaluation.geometry import FaceGeometry, crop_template
from simswap_jax.evaluation.judges.evaluators import Evaluators
from simswap_jax.evaluation.judges.networks import OnnxPose, open_features, open_recogniser
from simswap_jax.evaluation.metrics.summary import Measured, Scores, index_pairs, summarise
from simswap_jax.evaluation.protocols.pairs import readable
from simswap_jax.evaluation.protocols.protocol import (
    EvaluationProtocol,
    GroundTruth,
    ProtocolData,
    alignment_of,
    find_protocol,
    save_pairs,
)
from simswap_jax.evaluation.report.page import Report, example_sheet, how_measured, plots, write_report
from simswap_jax.evaluation.report.tables import (
    headlines,
    narrow_table,
    opening,
    paper_table,
    published_table,
    rows_table,
    tables,
    yaw_table,
)
from simswap_jax.evaluation.request import EvaluationRequest, check, fingerprint
from simswap_jax.evaluation.runner import EvalInputs, predict_real, predict_results
from simswap_jax.evaluation.warp import FAMILY, NEAREST, warp_baselines
from simswap_jax.inference.swapper import FaceSwapper
from simswap_jax.io.html_report import Table
from simswap_jax.io.job_cache import ChunkCache
from simswap_jax.provenance.writer import write_picture
from simswap_jax.weights import registry
from simswap_jax.weights.model_names import find_model
from simswap_jax.weights.onnx_network import open_landmarks

DEFAULT_SIZE = 112  # pixels, where no model says one
RECOGNISER = "face_recognition_sface_2021dec.onnx"  # of configs/weights.yaml: measures identity where none is named
UNFINISHED = ".unfinished"  # folder in the output: what is measured so far
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """An evaluation ready to run.

    Attributes:
      request: what was asked.
      protocol: which swaps.
      models: those of the request, loaded, that can show these people.
      left_out: name → why a model cannot.
      alignment: the template of the crops.
      evaluators: the metric networks, loaded.
      data: what the protocol prepared.
      inputs: its pairs at the evaluated size.
    """

    request: EvaluationRequest
    protocol: EvaluationProtocol
    models: Sequence[ModelCandidate]
    alignment: str
    evaluators: Evaluators
    data: ProtocolData
    inputs: EvalInputs
    left_out: Mapping[str, str]


def evaluate(request: EvaluationRequest, command: str = "") -> dict[str, Any]:
    """Carry out an evaluation and leave its report in ``request.output``.

    Args:
      request: what to evaluate.
      command: the command line that asks for it, for the page.

    Returns:
      what metrics.json holds; nothing if pairs were only exported.

    Raises:
      UserError: the request cannot be carried out.
    """
    setup = open_setup(request)
    if request.export_pairs:
        export_pairs(request.export_pairs, setup.inputs)
        return {}
    candidates = candidates_of(setup)
    cache = ChunkCache(request.output / UNFINISHED, job_fingerprint(setup, candidates))
    if cache.resumed:
        logger.info("resuming the evaluation that was stopped in %s", request.output)
    measured = measure(setup, candidates, cache)
    scores = summarise(measured, [candidate.key for candidate in candidates if not candidate.shows_source])
    metrics, further_tables = metrics_of(setup, candidates, measured, scores)
    further_tables.append(how_measured(metrics, setup.data.root, setup.models, command))
    write_report(request.output, report_of(setup, candidates, measured, scores, metrics, further_tables))
    cache.clear()
    return metrics


def open_setup(request: EvaluationRequest) -> Setup:
    """Load models and networks, and let the protocol prepare its data.

    Raises:
      UserError: the request cannot be carried out.
    """
    check(request)
    protocol = find_protocol(request.protocol)
    models = open_models(request)
    check_clip(request, models)
    alignment = alignment_of(request, models)
    evaluators = open_evaluators(request, protocol, alignment)
    size = request.size or max((model.swapper.face_size for model in models), default=DEFAULT_SIZE)
    data = protocol.prepare(request, models, size)
    check_data(data, request.false_accept_rate)
    known = data.geometry.landmarks if data.geometry else None
    inputs = EvalInputs(data.pairs, data.root, size, data.ground_truth, known, crop_template(alignment, size))
    left_out = reasons_against(request, models, data)
    models = [model for model in models if model.key not in left_out]
    check_clip(request, models)
    if request.clip is not None and request.clip_source is not None:  # what cannot be measured is told before the rest
        clip_inputs(request.clip, request.clip_source, models[0].swapper, size, LEAST)
    return Setup(request, protocol, models, alignment, evaluators, data, inputs, left_out)


def check_clip(request: EvaluationRequest, models: Sequence[ModelCandidate]) -> None:
    """Refuse a clip that no model swaps.

    Raises:
      UserError: there is one.
    """
    if request.clip is not None and not models:
        raise UserError("--clip needs a model; name one with --model.", "clip-without-model")


def reasons_against(request: EvaluationRequest, models: Sequence[ModelCandidate], data: ProtocolData) -> dict[str, str]:
    """Model → why it cannot be shown the sources' people.

    Raises:
      UserError: nothing is left to evaluate.
    """
    sources = {pair.source.rsplit("/", 1)[0] for pair in data.pairs.pairs}
    found = {model.key: reason for model in models if (reason := model.reason_against(sources))}
    if found and len(found) == len(models) and not (request.results or request.external or request.baselines):
        name, reason = next(iter(found.items()))
        raise UserError(f"'{name}' {reason}; evaluate it with --protocol known.", "model-not-for-these-people")
    return found


def open_models(request: EvaluationRequest) -> list[ModelCandidate]:
    """The request's models; the one that ships where neither models nor results are named."""
    folders: Mapping[str, Path | None] = request.models
    if not folders and not request.results and not request.external:
        folders = {"simswap_jax": None}
    return [
        ModelCandidate(
            name,
            FaceSwapper.from_pretrained(folder, face_size=request.size, alignment=request.alignment, runtime="jax"),
            request.strength,
        )
        for name, folder in folders.items()
    ]


def open_evaluators(request: EvaluationRequest, protocol: EvaluationProtocol, alignment: str) -> Evaluators:
    """The networks that were named; for recogniser and pose the protocol's own where none was, and where it has no
    recogniser the public one, `RECOGNISER`.

    Raises:
      UserError: a network cannot be opened, or the public one cannot be fetched.
    """
    if request.recogniser is None and protocol.recogniser is not None:
        recogniser = protocol.recogniser()
    else:
        recogniser = open_recogniser(find_recogniser(request.recogniser), alignment)
    pose = OnnxPose(network_file(request.pose)) if request.pose else protocol.pose() if protocol.pose else None
    landmarks = open_landmarks(network_file(request.landmarks)) if request.landmarks else None
    features = open_features(network_file(request.features), request.feature_range) if request.features else None
    return Evaluators(recogniser, pose, landmarks, features)


def find_recogniser(source: str | Path | None) -> Path:
    """Where the network that measures identity lies: what is named, as of `network_file`, else the public one.

    Raises:
      UserError: it is missing, or cannot be fetched.
    """
    return network_file(source) if source else registry.find(RECOGNISER, "identity metrics where --judge names none")


def need_networks(*sources: str | Path | None) -> None:
    """Refuse networks that are not here, for those who train long before they evaluate; None: nothing is named.

    Raises:
      UserError: one is missing.
    """
    for source in sources:
        if source is not None:
            registry.find_network(network_file(source), "evaluating")


def network_file(source: str | Path) -> Path:
    """Where a network lies: a path, a model's name, or the name of a file that is looked for as `registry.find` does.

    Raises:
      UserError: as `find_model` and `registry.find_network`.
    """
    path = Path(source).expanduser()
    path = path if path.suffix.lower() == ".onnx" else find_model(source)
    known = path.name == str(source) and (registry.locate(path.name) or path.name in registry.catalogue())
    return registry.find_network(source, "evaluating") if known else path


def check_data(data: ProtocolData, false_accept_rate: float) -> None:
    """Refuse pairs of pictures that are not in the data, and data that are too small.

    Raises:
      UserError: a pair's picture is not there, nobody has two pictures, or the rate needs more pictures.
    """
    here = {f"{name}/{file.name}" for name, files in data.people.items() for file in files}
    for pair in data.pairs.pairs:
        for name in (pair.source, pair.target, pair.genuine):
            if name is not None and name not in here:
                raise UserError(
                    f"the protocol names {name}, which is no picture of the data; use the data it was drawn from.",
                    "pair-not-in-data",
                )
    if not any(pair.genuine for pair in data.pairs.pairs):
        raise UserError(
            f"everybody who is a source has one picture only in {data.root}, and a person is retrieved by other "
            "pictures of theirs; bring at least two of each.",
            "single-pictures",
        )
    counts = [len(files) for files in data.people.values()]
    impostors = (sum(counts) ** 2 - sum(count**2 for count in counts)) // 2
    if impostors * false_accept_rate < 1:
        raise UserError(
            f"a false-accept rate of {false_accept_rate:g} needs {math.ceil(1 / false_accept_rate)} pairs of pictures "
            f"of different people, and there are {impostors}; set a larger --far or bring more pictures.",
            "too-few-pictures-for-rate",
        )


def candidates_of(setup: Setup) -> list[Candidate]:
    """The rows of the table: models, other programs' results, baselines.

    Raises:
      UserError: results are incomplete, or two candidates have one name.
    """
    results = [setup.data.read_external(name, folder) for name, folder in setup.request.results.items()]
    truth = setup.data.ground_truth
    candidates: list[Candidate] = [*setup.models, *results, *placed_candidates(setup), *BASELINES]
    candidates += truth.baselines if truth else ()
    taken = {GENUINE, SOURCE.key}
    for candidate in sorted(candidates, key=lambda one: one.kind != BASELINE):
        key = candidate.key
        if key.casefold() in taken:  # many disks, which hold what is measured so far, know no capitals
            raise UserError(
                f"there is already a row called '{key}'; choose another name: NAME=FOLDER.", "row-name-taken"
            )
        if not key.replace("_", "").replace("-", "").replace(".", "").isalnum():
            raise UserError(
                f"'{key}' cannot be a row's name; use letters, digits, '-', '_' and '.'.", "row-name-invalid"
            )
        taken.add(key.casefold())
    return candidates


def placed_candidates(setup: Setup) -> list[Candidate]:
    """Those that need to know where the faces are: other programs' networks, and warps.

    Raises:
      UserError: a network or a contract is not what it should be, or there are no landmarks.
    """
    request, data, inputs = setup.request, setup.data, setup.inputs
    if not request.external and not request.baselines:
        return []
    own = request.warp_landmarks
    landmarks = open_landmarks(network_file(own)) if own else setup.evaluators.landmarks
    geometry = FaceGeometry(inputs.read, landmarks, setup.evaluators.pose, data.geometry, inputs.template)
    networks = []
    for name, reference in request.external.items():
        path, contract = split_reference(reference)
        networks.append(ExternalNetwork(name, path, read_contract(contract), geometry, inputs.pairs))
    nearest = geometry.has_pose and any(name == FAMILY or name.endswith(NEAREST) for name in request.baselines)
    sources = {pair.source.rsplit("/", 1)[0] for pair in inputs.pairs.pairs} if nearest else set()
    pictures = {name: [f"{name}/{file}" for file in readable(data.people[name])] for name in sorted(sources)}
    return [*networks, *warp_baselines(request.baselines, geometry, inputs.pairs, inputs.read, pictures)]


def job_fingerprint(setup: Setup, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Everything that a resumed evaluation must agree in: the request, and what its paths hold."""
    return {
        "request": fingerprint(setup.request),
        "pairs": [[pair.source, pair.target] for pair in setup.data.pairs.pairs],
        "people": sorted(setup.data.pairs.people),
        "pictures": {
            name: [[file.name, *size_and_time(file)] for file in files] for name, files in setup.data.people.items()
        },
        "size": setup.inputs.size,
        "evaluators": setup.evaluators.describe(),
        "candidates": {candidate.key: candidate.sha256 for candidate in candidates},
    }


def measure(setup: Setup, candidates: Sequence[Candidate], cache: ChunkCache) -> Measured:
    """Run all networks on all pictures."""
    data, inputs, evaluators = setup.data, setup.inputs, setup.evaluators
    kept = gallery_cache(evaluators, data.people, setup.alignment) or cache
    gallery, broken = embed_gallery(evaluators, data.people, kept)
    for sentence in broken:
        logger.warning("left out: %s", sentence)
    index = index_pairs(data.pairs, gallery, setup.request.false_accept_rate, data.exclude_source)
    real = predict_real(inputs, evaluators, gallery, cache)
    return Measured(data.pairs, gallery, index, real, predict_results(inputs, evaluators, candidates, cache))


def metrics_of(
    setup: Setup, candidates: Sequence[Candidate], measured: Measured, scores: Scores
) -> tuple[dict[str, Any], list[Table]]:
    """The content of metrics.json, and the tables of what not every evaluation has."""
    request, evaluators, inputs = setup.request, setup.evaluators, setup.inputs
    titles, sha256 = titles_of(candidates), {candidate.key: candidate.sha256 for candidate in candidates}
    metrics: dict[str, Any] = {
        "protocol": protocol_of(setup, measured),
        "judges": evaluators.describe(),
        "judge_is_training_network": [
            model.key for model in setup.models if model.swapper.model.identity_sha256 == evaluators.recogniser.sha256
        ],
        "rows": {
            key: {"title": titles[key], "sha256": sha256.get(key, "")}
            | {name: vars(value) for name, value in estimates.items()}
            for key, estimates in scores.summary.items()
        },
    }
    further = []
    if setup.left_out:
        metrics["left_out"] = dict(setup.left_out)
        further.append(Table("Not for these pairs.", ["", "why"], [list(row) for row in setup.left_out.items()]))
    if setup.data.ground_truth is not None:
        metrics["agreement"], table = agreement_of(setup, setup.data.ground_truth, measured, scores)
        further.append(table)
    if scores.by_yaw is not None:
        metrics["by_yaw"] = scores.by_yaw.to_json()
        further.append(yaw_table(scores.by_yaw, titles))
    if request.clip is not None and request.clip_source is not None:
        metrics["clip"], table = measure_clip(
            request.clip, request.clip_source, setup.models[0], evaluators, inputs.size
        )
        further.append(table)
    return metrics, further


def protocol_of(setup: Setup, measured: Measured) -> dict[str, Any]:
    """What was evaluated, for the JSON."""
    pairs = setup.inputs.pairs
    return {
        "name": setup.protocol.name,
        "seed": pairs.seed,
        "pairs": len(pairs.pairs),
        "people": len({name.rsplit("/", 1)[0] for pair in pairs.pairs for name in (pair.source, pair.target)}),
        "people_in_training": setup.data.training.value,
        "gallery_people": len(measured.gallery.names),
        "gallery_pictures": len(measured.gallery.vectors),
        "size": setup.inputs.size,
        "false_accept_rate": setup.request.false_accept_rate,
        "accept_threshold": measured.index.threshold,
    }


def agreement_of(setup: Setup, truth: GroundTruth, measured: Measured, scores: Scores) -> tuple[dict[str, Any], Table]:
    """How far the metrics agree with the error against the ground truth."""
    pose, size, groups = setup.evaluators.pose, setup.inputs.size, measured.index.person
    within = agreement.within_all_pairs(truth, pose, size, scores.per_pair, groups)
    return agreement.described(within, agreement.across_candidates(scores.summary))


def titles_of(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Key → title, the genuine pair's among them."""
    return {candidate.key: candidate.title for candidate in candidates} | {GENUINE: GENUINE_TITLE}


def report_of(
    setup: Setup,
    candidates: Sequence[Candidate],
    measured: Measured,
    scores: Scores,
    metrics: Mapping[str, Any],
    further_tables: Sequence[Table],
) -> Report:
    """What is written: sentence, tables, plots, example swaps."""
    titles, summary = titles_of(candidates), scores.summary
    compared = [candidate for candidate in candidates if candidate.kind != BASELINE]
    keys, rate = [candidate.key for candidate in compared], setup.request.false_accept_rate
    people = len(measured.gallery.names)
    all_tables = [
        paper_table(summary, titles, people),
        *tables(summary, titles, rate),
        rows_table(candidates),
        *further_tables,
        published_table(),
    ]
    cosines = scores.per_pair[keys[0]]["cosine_source"]
    return Report(
        measured.pairs,
        metrics,
        opening(metrics, summary, keys[0]),
        headlines(summary, titles, keys, people),
        narrow_table(summary, titles, keys),
        all_tables,
        plots(measured.gallery, scores, titles, keys, rate),
        example_sheet(setup.inputs, setup.evaluators, compared, cosines),
    )


def export_pairs(folder: Path, inputs: EvalInputs) -> None:
    """Write the pairs' crops for other programs: ``sources/00000.png``, ``targets/00000.png``, …, and pairs.json."""
    for side in ("source", "target"):
        for index, pair in enumerate(inputs.pairs.pairs):
            write_picture(folder / f"{side}s" / f"{index:05d}.png", inputs.read(getattr(pair, side)))
    save_pairs(folder / "pairs.json", inputs.pairs)
    logger.info(
        "%d pairs of %d×%d pixels are in %s; name results by their indices, 00000.png, …",
        len(inputs.pairs.pairs),
        inputs.size,
        inputs.size,
        folder,
    )

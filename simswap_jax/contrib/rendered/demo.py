"""The demo: swaps of the example people in seconds, then the whole job in minutes on two CPU cores.

The second part has identities that are rendered and so belong to nobody: render people → train an identity network on
some, freeze it → train a small SimSwap against it → swap held-out identities → measure whose identity the results
carry with an independent recogniser, and compare with the ground truth.
"""

import logging
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from simswap_jax.contrib.rendered import dataset, identity_judge, scoring
from simswap_jax.contrib.rendered.demo_report import differences, write_report
from simswap_jax.contrib.rendered.pose_judge import PoseRegressor
from simswap_jax.contrib.small_models.augmentation import use_augmentation
from simswap_jax.contrib.small_models.muon import use_muon
from simswap_jax.data.dataset import held_out
from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.networks import Recogniser
from simswap_jax.evaluation.metrics import identity as identity_metrics
from simswap_jax.inference import example_people
from simswap_jax.inference.swapper import DEFAULT_MODEL, PRETRAINED, FaceSwapper
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import read_picture, resized
from simswap_jax.io.progress import StageTimer
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.writer import write_sheet
from simswap_jax.training import identity
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import PERTURBATION, PROTOTYPES, use_generator
from simswap_jax.training.loop import Trained, train
from simswap_jax.training.sharding import use_cpu_cores
from simswap_jax.weights import model_folder

PEOPLE, EACH, SIZE = 600, 40, 64
PEOPLE_SEED, ATTRIBUTE_SEED = 1, 2
HELD_OUT = 0.18
PAIRS = 336
BATCH = 8  # of SimSwap: four pictures a core fit its cache
SHOWN = 12
REAL = "real_faces.png"
SOURCES, TARGETS = slice(0, 5), slice(5, 10)  # of the example people, on the sheet of real faces
SWEEP_STEPS = 400  # of a variant of the ablation
SWEEP_FEATURE_MATCHING = 2.0  # the demo's weight is next to none, and what is ablated has to weigh something
logger = logging.getLogger(__name__)


def identity_config(people: Path, cache: Path) -> ml_collections.ConfigDict:
    """The demo's identity network: 128 dimensions from 32×32 pixels, additive angular margin 0.2."""
    config = identity.default_config()
    config.data.root, config.data.cache = str(people), str(cache)
    config.data.held_out = HELD_OUT
    config.steps, config.batch_size = 300, 64
    config.network.margin_ramp = 150
    config.network.perturbation, config.network.perturbation_radius = PERTURBATION, 0.7
    config.network.prototypes, config.network.scale = PROTOTYPES, 3.0
    config.checkpoint_every = 300
    return config


def simswap_config(people: Path, cache: Path, identity_network: Path) -> ml_collections.ConfigDict:
    """The demo's SimSwap: the project's own networks, losses and step, small; ``demo_report.differences`` lists what
    differs from the paper.

    It starts, by ``config.init_from``, from what its ``first_stage`` has learned.
    """
    config = default_config()
    config.data.root, config.data.cache = str(people), str(cache)
    config.data.held_out = HELD_OUT
    config.data.size, config.data.source_size, config.data.alignment = SIZE, SIZE, "rendered"
    config.data.pairing, config.data.same_fraction = "mixed", 0.625
    use_generator(config, "compact")
    config.generator.widths, config.generator.blocks, config.generator.unshuffle = (32, 64), 3, 2
    config.generator.stem_kernel = 3
    config.generator.composition_mask, config.generator.mask_stride = True, 2
    config.generator.adain_init_scale = 8.0
    config.discriminator.widths, config.discriminator.tail, config.discriminator.norm = (16, 32, 64), 48, "none"
    config.identity.weights = str(identity_network)
    config.losses.identity, config.losses.identity_margin, config.losses.reconstruction = 5.0, 0.04, 30.0
    # Little of the discriminators: in so few steps they teach stains and streaks (docs/experiments/rendered.md).
    config.losses.adversarial, config.losses.gradient_penalty = 0.01, 0.0
    config.losses.feature_matching, config.losses.feature_matching_first = 0.05, 2
    use_augmentation(config, colour=1.0, swap=0.8)
    config.optimizer.learning_rate, config.optimizer.discriminator_learning_rate = 1.5e-3, 1e-3
    use_muon(config, 0.008)
    config.optimizer.b1, config.optimizer.warmup, config.optimizer.decay = 0.5, 50, "cosine"
    config.ema = 0.99
    config.steps, config.batch_size = 500, BATCH
    config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def first_stage(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """What goes before ``simswap_config``: the same without the composition mask.

    A generator that has the mask from its first step on learns to leave brows and mouth as they are.
    """
    first = config.copy_and_resolve_references()
    first.generator.composition_mask, first.augmentation_options.swap = False, 0.0
    first.losses.identity, first.losses.identity_ramp = 4.0, 100
    first.steps, first.optimizer.decay = 300, "constant"
    first.optimizer.learning_rate, first.optimizer.muon_learning_rate = 2e-3, 0.026
    return first


def run(workdir: Path) -> bool:
    """Run the demo, or resume it; False if it was stopped before its end.

    Raises:
      UserError: the folder cannot be made.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{workdir} cannot be made ({error.strerror}); choose another --workdir.", "workdir-unwritable"
        ) from error
    timer = StageTimer(workdir / "seconds.json")
    people, cache = workdir / "people", workdir / "records"
    use_cpu_cores(BATCH)
    of_identity, of_swap, metrics_file = workdir / "identity", workdir / "simswap", workdir / "metrics.json"

    with timer.stage("swapping", "1/5 swapping real faces with the model that ships", (workdir / REAL).exists):
        swap_example_people(workdir / REAL)
    with timer.stage("rendering", f"2/5 rendering {PEOPLE} people, {EACH} pictures each", people.exists):
        render_people(people, PEOPLE)
    with timer.stage("identity", "3/5 training an identity network on some of them", (of_identity / "model").exists):
        known = train(identity_config(people, cache), of_identity)
    if not known.finished:
        return False
    with timer.stage("simswap", "4/5 training SimSwap against it, frozen", (of_swap / "model").exists):
        swap = train_in_two(simswap_config(people, cache, known.model), workdir / "simswap_first", of_swap)
    if not swap.finished:
        return False
    with timer.stage("judging", "5/5 swapping held-out identities, and measuring", metrics_file.exists):
        metrics, sheet = evaluate_held_out(swap.model, people)
    config = simswap_config(workdir, workdir, workdir)
    pictures = f"{PEOPLE} rendered people × {EACH}, {SIZE} pixels"
    differs = differences(config, first_stage(config).steps, pictures)
    write_report(workdir, metrics | {"seconds": round(timer.total, 1)}, sheet, differs)
    return True


def swap_example_people(path: Path) -> None:
    """Write a sheet of swaps of the example people by the model that ships, with all marks; needs no other file."""
    swapper = FaceSwapper(model_folder.read(PRETRAINED / DEFAULT_MODEL, with_identity=False))
    people = example_people.read_people(swapper.model)
    write_sheet(path, example_people.swap_sheet(swapper, people[SOURCES], people[TARGETS]))
    logger.info("    %s: photos of people who consented (CC BY, %s)", path, example_people.CREDIT)


def render_people(folder: Path, count: int) -> None:
    """Render the demo's people, unless they are there."""
    if not folder.exists():
        who, names = dataset.sample_people(PEOPLE_SEED, count), dataset.person_names(count)
        dataset.write_people(folder, who, names, EACH, ATTRIBUTE_SEED, SIZE)


def train_in_two(config: ml_collections.ConfigDict, first: Path, second: Path) -> Trained:
    """Train ``first_stage`` in one workdir and go on from it in another; a call after the end starts nothing."""
    before = train(first_stage(config), first)
    if not before.finished:
        return before
    config.init_from = str(first)
    return train(config, second)


def sweep_experiment(
    workdir: Path, people_count: int | None = None, identity_steps: int | None = None, steps: int | None = None
) -> tuple[ml_collections.ConfigDict, str] | None:
    """The small experiment of `simswap-jax sweep`: the demo up to its first stage, which all variants start from.

    Args:
      workdir: gets people, identity network and first stage.
      people_count: how many are rendered (the demo's by default).
      identity_steps: of the identity network's training (the demo's by default).
      steps: of the first stage (the demo's by default).

    Returns:
      the experiment and the evaluation protocol for it; None if it was stopped.
    """
    use_cpu_cores(BATCH)
    people, cache, count = workdir / "people", workdir / "records", people_count or PEOPLE
    if not people.exists():
        logger.info("rendering %d people, %d pictures each", count, EACH)
        render_people(people, count)
    network = identity_config(people, cache)
    if identity_steps:
        network.steps = identity_steps
    logger.info("training an identity network on some of them")
    known = train(network, workdir / "identity")
    if not known.finished:
        return None
    config = simswap_config(people, cache, known.model)
    first = first_stage(config)
    if steps:
        first.steps = steps
    logger.info("training what all variants start from")
    if not train(first, workdir / "first").finished:
        return None
    config.init_from, config.steps = str(workdir / "first"), SWEEP_STEPS
    config.losses.feature_matching = SWEEP_FEATURE_MATCHING
    return config, "synthetic"


def evaluate_held_out(model: Path, people: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Swap held-out identities and measure; returns the metrics and the contact sheet (uint8 [H, W, 3])."""
    labels = dataset.read_labels(people)
    names = held_out(labels.names, HELD_OUT)
    pairs = scoring.draw_rendered_pairs(labels, names, PAIRS)
    pictures = {
        row: read_picture(people / labels.files[row]) for row in {*pairs.source.tolist(), *pairs.target.tolist()}
    }
    sources = np.stack([pictures[row] for row in pairs.source.tolist()])
    targets = np.stack([pictures[row] for row in pairs.target.tolist()])
    swapper = FaceSwapper.from_pretrained(model)
    results = swapper.swap_aligned(targets, swapper.identity_vectors(list(sources)))

    recogniser = identity_judge.pretrained()
    vectors = [recogniser.embed(list(x)) for x in (results, sources, targets)]
    gallery, right = held_out_gallery(recogniser, people, labels, names, pairs)
    metrics = {
        **measure_identity(vectors, gallery, right),
        **scoring.truth_metrics(results, sources, targets, pairs, PoseRegressor.pretrained()),
        **scoring.attribute_transfer(results, pairs),
        **{f"{part}_of_target": share for part, share in scoring.attribute_transfer(targets, pairs).items()},
        "pairs": len(pairs),
        "people": len(names),
    }
    return metrics, example_sheet(sources, targets, results, pairs.ground_truth(SIZE))


def held_out_gallery(
    recogniser: Recogniser, people: Path, labels: dataset.Labels, names: list[str], pairs: scoring.RenderedPairs
) -> tuple[identity_metrics.Centroids, np.ndarray]:
    """Everybody held out as the recogniser sees them, and each pair's right answer among them: int [N]."""
    rows = np.flatnonzero(np.isin(labels.person, [labels.names.index(name) for name in names]))
    vectors = recogniser.embed([read_picture(people / labels.files[row]) for row in rows.tolist()])
    numbers, person = np.unique(labels.person[rows], return_inverse=True)
    right: np.ndarray = np.asarray(np.searchsorted(numbers, pairs.source_person))
    return identity_metrics.centroids(vectors, person, len(numbers)), right


def measure_identity(
    vectors: list[np.ndarray], gallery: identity_metrics.Centroids, right: np.ndarray
) -> dict[str, float]:
    """Identity metrics of results, sources and targets, whose vectors are [N, D] each."""
    result, source, target = vectors
    return {
        "retrieval": float(identity_metrics.retrieval(result, gallery, right, source).mean()),
        "nearer_source": float(identity_metrics.nearer_source(result, source, target).mean()),
        "cosine_source": float(identity_metrics.cosine(result, source).mean()),
        "cosine_target": float(identity_metrics.cosine(result, target).mean()),
        "retrieval_of_target": float(identity_metrics.retrieval(target, gallery, right, source).mean()),
        "retrieval_of_source": float(identity_metrics.retrieval(source, gallery, right, source).mean()),
        "cosine_between": float(identity_metrics.cosine(source, target).mean()),
    }


def example_sheet(sources: np.ndarray, targets: np.ndarray, results: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """The first swaps side by side, results with the visible label: uint8 [H, W, 3]."""
    rows = [[resized(picture[i], 2 * SIZE) for picture in (sources, targets, results, truths)] for i in range(SHOWN)]
    rows = [[source, target, draw_label(result), truth] for source, target, result, truth in rows]
    two_a_row = [first + second for first, second in zip(rows[::2], rows[1::2], strict=True)]
    return contact_sheet(two_a_row, ["source", "target", "result", "ground truth"] * 2)

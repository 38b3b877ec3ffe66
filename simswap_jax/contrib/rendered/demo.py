"""`simswap-jax demo`: the whole job in minutes on two CPU cores, with people who are drawn and so belong to nobody.

Render people → train an identity network on some, freeze it → train a small SimSwap against it → swap people that
neither ever saw → let a judge that took no part say whose faces came out, and compare with the true answer.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from simswap_jax.contrib.rendered import dataset, identity_judge, scoring
from simswap_jax.contrib.rendered.pose_judge import PoseRegressor
from simswap_jax.contrib.small_models.augmentation import use_augmentation
from simswap_jax.contrib.small_models.muon import use_muon
from simswap_jax.data.dataset import held_out
from simswap_jax.errors import UserError
from simswap_jax.evaluation.metrics import identity as identity_measures
from simswap_jax.inference.swapper import FaceSwapper, resized
from simswap_jax.io import contact_sheet
from simswap_jax.io.atomic import write_text
from simswap_jax.io.html_report import Figure, Table, curves_of, html_report, text_table
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.label_xmp import draw_label
from simswap_jax.provenance.writer import write_sheet
from simswap_jax.training import identity
from simswap_jax.training.config import PERTURBATION, PROTOTYPES, default_config, use_generator
from simswap_jax.training.loop import Trained, train
from simswap_jax.training.metrics import read_lines
from simswap_jax.training.sharding import use_cpu_cores

PEOPLE, EACH, SIZE = 600, 40, 64
PEOPLE_SEED, ATTRIBUTE_SEED = 1, 2
HELD_OUT = 0.18
PAIRS = 336
BATCH = 8  # of SimSwap: four pictures a core fit its cache
SHOWN = 12


def identity_config(people: Path, cache: Path) -> ml_collections.ConfigDict:
    """The demo's identity network: 128 numbers from 32×32 pixels, additive angular margin 0.2."""
    config = identity.default_config()
    config.data.root, config.data.cache = str(people), str(cache)
    config.data.held_out = HELD_OUT
    config.steps, config.batch_size = 600, 64
    config.network.margin_ramp = 300
    config.network.perturbation, config.network.perturbation_radius = PERTURBATION, 0.7
    config.network.prototypes, config.network.scale = PROTOTYPES, 3.0
    config.checkpoint_every = 300
    return config


def simswap_config(people: Path, cache: Path, identity_network: Path) -> ml_collections.ConfigDict:
    """The demo's SimSwap: the project's own networks, losses and step, small. ``differences`` says how it differs.

    It begins, by ``config.init_from``, with what ``first_stage`` of it has learned.
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
    config.steps, config.batch_size = 2000, BATCH
    config.log_every, config.sample_every, config.checkpoint_every = 100, 500, 500
    return config


def first_stage(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """What goes before ``simswap_config``: the same without the gate, so that nothing of the target comes for free.

    A generator that has the gate from its first step on learns to leave brows and mouth as they are.
    """
    first = config.copy_and_resolve_references()
    first.generator.composition_mask, first.augmentation_options.swap = False, 0.0
    first.losses.identity, first.losses.identity_ramp = 4.0, 100
    first.steps, first.optimizer.decay = 500, "constant"
    first.optimizer.learning_rate, first.optimizer.muon_learning_rate = 2e-3, 0.026
    return first


def main(arguments: Sequence[str]) -> int:
    """Run the verb. Status 0: done; 3: stopped before the end, the same command goes on."""
    parse = argparse.ArgumentParser("simswap-jax demo", description=__doc__)
    parse.add_argument("--workdir", type=Path, default=Path("runs/demo"), help="where everything goes (runs/demo)")
    workdir = parse.parse_args(arguments).workdir
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{workdir} cannot be made ({error.strerror}); choose another --workdir.") from error
    clock = Clock(workdir / "seconds.json")
    people, cache = workdir / "people", workdir / "records"
    use_cpu_cores(BATCH)
    of_identity, of_swap, told = workdir / "identity", workdir / "simswap", workdir / "metrics.json"

    with clock.stage("rendering", f"1/4 rendering {PEOPLE} people, {EACH} pictures each", people.exists):
        if not people.exists():
            dataset.write_people(
                people,
                dataset.sample_people(PEOPLE_SEED, PEOPLE),
                dataset.person_names(PEOPLE),
                EACH,
                ATTRIBUTE_SEED,
                SIZE,
            )
    with clock.stage("identity", "2/4 training an identity network on some of them", (of_identity / "model").exists):
        known = train(identity_config(people, cache), of_identity)
    if not known.finished:
        return 3
    with clock.stage("simswap", "3/4 training SimSwap against it, frozen", (of_swap / "model").exists):
        swap = train_in_two(simswap_config(people, cache, known.model), workdir / "simswap_first", of_swap)
    if not swap.finished:
        return 3
    with clock.stage("judging", "4/4 swapping people who were held out, and judging", told.exists):
        metrics, sheet = judge(swap.model, people)
    report(workdir, metrics | {"seconds": round(clock.total, 1)}, sheet)
    return 0


def train_in_two(config: ml_collections.ConfigDict, first: Path, second: Path) -> Trained:
    """Train ``first_stage`` in one workdir and go on from it in another; a call after the end starts nothing."""
    before = train(first_stage(config), first)
    if not before.finished:
        return before
    config.init_from = str(first)
    return train(config, second)


def judge(model: Path, people: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Swap held-out people and measure; returns the numbers and the contact sheet (uint8 [H, W, 3])."""
    labels = dataset.read_labels(people)
    names = held_out(labels.names, HELD_OUT)
    drawn = scoring.pairs(labels, names, PAIRS)
    pictures = {
        row: read_picture(people / labels.files[row]) for row in {*drawn.source.tolist(), *drawn.target.tolist()}
    }
    sources = np.stack([pictures[row] for row in drawn.source.tolist()])
    targets = np.stack([pictures[row] for row in drawn.target.tolist()])
    swapper = FaceSwapper.from_pretrained(model)
    results = swapper.swap_aligned(targets, swapper.identity_vectors(list(sources)))

    recogniser = identity_judge.pretrained()
    of_result, of_source, of_target = (recogniser.embed(list(x)) for x in (results, sources, targets))
    shown_to_judge = np.flatnonzero(np.isin(labels.person, [labels.names.index(name) for name in names]))
    vectors = recogniser.embed([read_picture(people / labels.files[row]) for row in shown_to_judge.tolist()])
    numbers, person = np.unique(labels.person[shown_to_judge], return_inverse=True)
    gallery = identity_measures.gallery(vectors, person, len(numbers))
    right: np.ndarray = np.asarray(np.searchsorted(numbers, drawn.source_person))
    metrics = {
        "retrieval": float(identity_measures.retrieval(of_result, gallery, right, of_source).mean()),
        "nearer_source": float(identity_measures.nearer_source(of_result, of_source, of_target).mean()),
        "cosine_source": float(identity_measures.cosine(of_result, of_source).mean()),
        "cosine_target": float(identity_measures.cosine(of_result, of_target).mean()),
        "retrieval_of_target": float(identity_measures.retrieval(of_target, gallery, right, of_source).mean()),
        "retrieval_of_source": float(identity_measures.retrieval(of_source, gallery, right, of_source).mean()),
        "cosine_between": float(identity_measures.cosine(of_source, of_target).mean()),
        **scoring.measures(results, sources, targets, drawn, PoseRegressor.pretrained()),
        **scoring.parts(results, drawn),
        **{f"{part}_of_target": share for part, share in scoring.parts(targets, drawn).items()},
        "pairs": len(drawn),
        "people": len(names),
    }
    truths = drawn.truths(SIZE)
    rows = [[resized(picture[i], 2 * SIZE) for picture in (sources, targets, results, truths)] for i in range(SHOWN)]
    rows = [[source, target, draw_label(result), truth] for source, target, result, truth in rows]
    two_a_row = [first + second for first, second in zip(rows[::2], rows[1::2], strict=True)]
    return metrics, contact_sheet.contact_sheet(two_a_row, ["source", "target", "result", "true answer"] * 2)


def opening(metrics: dict[str, Any]) -> str:
    """One sentence that says what the numbers mean."""
    pairs, people = metrics["pairs"], metrics["people"]
    gain = metrics["psnr_result"] - metrics["psnr_target"]
    return (
        f"Of {pairs} pictures of {people} rendered people whom the model never saw, each re-drawn with another's "
        f"identity, a judge that took no part in training names the right one of {people} people in "
        f"{metrics['retrieval']:.0%} (chance {1 / people:.1%}) and finds {metrics['nearer_source']:.0%} nearer to the "
        f"source than to the target, while the results lie {gain:.1f} dB nearer to the true answer than the untouched "
        "target does."
    )


def table(metrics: dict[str, Any]) -> Table:
    """The measures beside what doing nothing and what a perfect swap would score."""
    rows = [
        [
            "right person found, top-1",
            f"{metrics['retrieval']:.3f}",
            f"{metrics['retrieval_of_target']:.3f}",
            f"{metrics['retrieval_of_source']:.3f}",
        ],
        ["nearer to source than to target", f"{metrics['nearer_source']:.3f}", "0", "1"],
        ["cosine to source", f"{metrics['cosine_source']:.3f}", f"{metrics['cosine_between']:.3f}", "1"],
        ["cosine to target", f"{metrics['cosine_target']:.3f}", "1", f"{metrics['cosine_between']:.3f}"],
        ["PSNR against the true answer, dB", f"{metrics['psnr_result']:.2f}", f"{metrics['psnr_target']:.2f}", "∞"],
        ["the same for a mere colour shift, dB", f"{metrics['psnr_colour_shift']:.2f}", "", ""],
        ["pose kept, R²", f"{metrics['pose_r2']:.3f}", "", "1"],
        *(
            [f"{part} nearer to the source's", f"{metrics[part]:.3f}", f"{metrics[f'{part}_of_target']:.3f}", "1"]
            for part in scoring.PARTS
        ),
    ]
    return Table(
        f"{metrics['pairs']} swaps of {metrics['people']} held-out people; {metrics['seconds']:.0f} s in all",
        ["", "result", "untouched target", "source itself or true answer"],
        rows,
    )


def differences(config: ml_collections.ConfigDict) -> Table:
    """Where this small run differs from the paper."""
    generator, judges, weights, adam = config.generator, config.discriminator, config.losses, config.optimizer
    first = first_stage(config).steps
    rows = [
        ["pictures", "VGGFace2, 224 pixels", f"{PEOPLE} rendered people × {EACH}, {SIZE} pixels"],
        [
            "identity network",
            "ArcFace, 512 numbers",
            "four blocks on 32×32 pixels, 128 numbers, trained here against small adversarial changes; its class "
            "centres are the people's own numbers, so that brows and lips count",
        ],
        [
            "generator",
            "widths 64, 128, 256, 512; nine ID blocks; 55 M parameters",
            f"{generator.unshuffle}×{generator.unshuffle} pixels folded into channels, widths "
            f"{', '.join(map(str, generator.widths))}; {generator.blocks} ID blocks; "
            f"after {first} steps a composition mask, {generator.mask_stride} pixels fine, mixes drawing and target",
        ],
        ["discriminators", "widths 64 to 512, batch norm", f"widths {', '.join(map(str, judges.widths))}, no norm"],
        ["gradient penalty", "weight 1e-5", "none"],
        [
            "pairs",
            "batches of one person and of two, in turn",
            f"one person's are {config.data.same_fraction:.1%} of each batch",
        ],
        [
            "targets of one person's pairs",
            "as they are",
            f"recoloured, {config.augmentation_options.swap:.0%} of them after the generator has drawn another's face "
            "on them; the picture as it was is the answer",
        ],
        [
            "weights: identity, reconstruction, adversarial, feature matching",
            "10, 10, 1, 10",
            f"{weights.identity:g}, {weights.reconstruction:g}, {weights.adversarial:g}, "
            f"{weights.feature_matching:g} from map {weights.feature_matching_first} on",
        ],
        [
            "optimiser",
            "Adam, β1 0",
            f"Muon, learning rate {adam.muon_learning_rate:g}, for the generator's inner kernels; Adam, "
            f"β1 {adam.b1:g}, learning rate {adam.learning_rate:g}, for the rest; cosine decay",
        ],
        ["length", "more than 500 epochs", f"{first} + {config.steps} steps of {config.batch_size}"],
    ]
    return Table("Where this small run differs from the paper", ["", "paper", "here"], rows)


def report(workdir: Path, metrics: dict[str, Any], sheet: np.ndarray) -> None:
    """Write metrics.json, sheet.png and index.html, and print the sentence and the table."""
    write_text(workdir / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_sheet(workdir / "sheet.png", sheet)
    curves = curves_of(
        read_lines(workdir / "simswap"),
        {
            "Losses of the generator": ["identity", "reconstruction", "weak_feature_matching"],
            "Discriminators' mean answer": ["real_logits", "fake_logits"],
        },
    ) + curves_of(
        read_lines(workdir / "identity"),
        {"Identity network: loss; its margin and the adversarial radius grow at first": ["identity_loss"]},
    )
    differs = differences(simswap_config(workdir, workdir, workdir))
    figure = Figure(
        "Source, target, result, and the true answer: the source's person in the target's pose and light.",
        sheet,
    )
    page = html_report("The SimSwap demo", opening(metrics), [table(metrics), differs], curves, [figure])
    write_text(workdir / "index.html", page)
    print(f"\n{opening(metrics)}\n\n{text_table(table(metrics))}\n")
    print(f"{workdir}: sheet.png (pictures), index.html (with curves), metrics.json, simswap/model (the model folder)")


class Clock:
    """Seconds by stage, kept on disk, so that a demo that was stopped and taken up again still knows its whole time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self._seconds.values())

    @contextmanager
    def stage(self, name: str, line: str, finished: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Say ``line`` and time what happens inside, unless it had been ``finished`` by an earlier call."""
        say(line)
        before = finished()
        began = time.monotonic()
        yield
        if not before:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began
            write_text(self._path, json.dumps(self._seconds) + "\n")


def say(line: str) -> None:
    """A line at once, also into a pipe."""
    print(line, flush=True)

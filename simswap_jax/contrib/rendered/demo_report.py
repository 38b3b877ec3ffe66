"""The demo's report: its metrics as a sentence and a table, where it differs from the paper, and the page."""

import json
import logging
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from simswap_jax.contrib.rendered import scoring
from simswap_jax.inference import example_people
from simswap_jax.io.atomic import write_text
from simswap_jax.io.html_report import Curve, Figure, Table, curves_of, html_report, text_table
from simswap_jax.io.images import read_picture
from simswap_jax.provenance.writer import write_sheet
from simswap_jax.training.metrics import read_lines

REAL_FACES = f"Real faces, swapped by the model that ships (112 pixels). {example_people.CREDIT}."
logger = logging.getLogger(__name__)


def opening(metrics: dict[str, Any]) -> str:
    """One sentence that says what the metrics mean."""
    people, gain = metrics["people"], metrics["psnr_result"] - metrics["psnr_target"]
    return (
        f"{metrics['pairs']} swaps of {people} held-out synthetic identities: ID retrieval by an independent "
        f"recogniser {metrics['retrieval']:.0%} (top-1 of {people}, chance {1 / people:.1%}), "
        f"{metrics['nearer_source']:.0%} nearer to the source image than to the target, and results {gain:.1f} dB "
        "nearer to the ground truth than the untouched target."
    )


def table(metrics: dict[str, Any]) -> Table:
    """The metrics beside what doing nothing and what a perfect swap would score."""
    rows = [
        [
            f"ID retrieval (top-1 of {metrics['people']})",
            f"{metrics['retrieval']:.3f}",
            f"{metrics['retrieval_of_target']:.3f}",
            f"{metrics['retrieval_of_source']:.3f}",
        ],
        ["nearer to source than to target", f"{metrics['nearer_source']:.3f}", "0", "1"],
        ["cosine to source", f"{metrics['cosine_source']:.3f}", f"{metrics['cosine_between']:.3f}", "1"],
        ["cosine to target", f"{metrics['cosine_target']:.3f}", "1", f"{metrics['cosine_between']:.3f}"],
        ["PSNR to the ground truth, dB", f"{metrics['psnr_result']:.2f}", f"{metrics['psnr_target']:.2f}", "∞"],
        ["the same for a mere colour shift, dB", f"{metrics['psnr_colour_shift']:.2f}", "", ""],
        ["pose, R²", f"{metrics['pose_r2']:.3f}", "", "1"],
        *(
            [
                f"attribute transferred from the source: {part}",
                f"{metrics[part]:.3f}",
                f"{metrics[f'{part}_of_target']:.3f}",
                "1",
            ]
            for part in scoring.PARTS
        ),
    ]
    return Table(
        f"{metrics['pairs']} swaps of {metrics['people']} held-out identities; {metrics['seconds']:.0f} s in all",
        ["", "result", "untouched target", "source or ground truth"],
        rows,
    )


def differences(config: ml_collections.ConfigDict, first_steps: int, pictures: str) -> Table:
    """Where this small run differs from the paper.

    Args:
      config: the experiment of SimSwap.
      first_steps: of the stage before it.
      pictures: what it is trained on.
    """
    generator, discriminator, weights, adam = config.generator, config.discriminator, config.losses, config.optimizer
    rows = [
        ["pictures", "VGGFace2, 224 pixels", pictures],
        [
            "identity network",
            "ArcFace, 512 dimensions",
            "four blocks on 32×32 pixels, 128 dimensions, trained here with small adversarial perturbations; its class "
            "prototypes are the identities' own parameters, so that brows and lips count",
        ],
        [
            "generator",
            "widths 64, 128, 256, 512; nine ID blocks; 55 M parameters",
            f"{generator.unshuffle}×{generator.unshuffle} pixels folded into channels, widths "
            f"{', '.join(map(str, generator.widths))}; {generator.blocks} ID blocks; "
            f"after {first_steps} steps a composition mask, in cells of {generator.mask_stride} pixels, mixes the "
            "output with the target",
        ],
        [
            "discriminators",
            "widths 64 to 512, batch norm",
            f"widths {', '.join(map(str, discriminator.widths))}, no norm",
        ],
        ["gradient penalty", "weight 1e-5", "none"],
        [
            "pairs",
            "same-person and cross-person batches in turn",
            f"same-person pairs are {config.data.same_fraction:.1%} of each batch",
        ],
        [
            "targets of same-person pairs",
            "as they are",
            f"recoloured, {config.augmentation_options.swap:.0%} of them after the generator has swapped another "
            "identity in; the original picture is the ground truth",
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
        ["length", "more than 500 epochs", f"{first_steps} + {config.steps} steps of {config.batch_size}"],
    ]
    caption = "Where this small run differs from the paper"
    return Table(caption, ["", "paper", "here"], rows, folded=True, text=(1, 2))


def next_steps(workdir: Path) -> Table:
    """What to do next, with the commands."""
    rows = [
        ["swap your own photos", "simswap-jax swap --source a.jpg --target b.jpg --output c.jpg"],
        ["the same on a page in the browser", "simswap-jax app"],
        ["play with the model of this demo", f"simswap-jax app --model {workdir / 'simswap' / 'model'}"],
        ["train on your own photos", "simswap-jax prepare --photos FOLDER --output prepared, then simswap-jax train"],
    ]
    return Table("What to do next", ["", ""], rows, text=(1,))


def write_report(workdir: Path, metrics: dict[str, Any], sheet: np.ndarray, differs: Table) -> None:
    """Write metrics.json, sheet.png and index.html, and log the sentence and the table."""
    write_text(workdir / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_sheet(workdir / "sheet.png", sheet)
    figure = Figure(
        "Source, target, result, and the ground truth: the source's identity in the target's pose and light.", sheet
    )
    tables = [table(metrics), next_steps(workdir), differs]
    figures = [*(Figure(REAL_FACES, read_picture(path)) for path in workdir.glob("real_faces.png")), figure]
    curves = training_curves(workdir)
    page = html_report("The SimSwap demo", opening(metrics), tables, curves, figures, tables_last=True)
    write_text(workdir / "index.html", page)
    logger.info("\n%s\n\n%s\n", opening(metrics), text_table(tables[0]))
    logger.info(
        "%s: sheet.png (pictures), index.html (with curves), metrics.json, simswap/model (the model folder)", workdir
    )


def training_curves(workdir: Path) -> list[Curve]:
    """The losses of both trainings."""
    return curves_of(
        read_lines(workdir / "simswap"),
        {
            "Generator: identity loss": ["identity"],
            "Generator: reconstruction loss": ["reconstruction"],
            "Generator: weak feature matching loss": ["weak_feature_matching"],
            "Discriminators' mean answer": ["real_logits", "fake_logits"],
        },
    ) + curves_of(
        read_lines(workdir / "identity"),
        {"Identity network: loss; its margin and the adversarial radius grow at first": ["identity_loss"]},
    )

"""The page of a training run, ``report.html``: curves, the latest sheets, validations, speed and the experiment."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from PIL import Image

from simswap_jax.io.atomic import write_text
from simswap_jax.io.html_report import Curve, Figure, Table, curves_of, html_report
from simswap_jax.io.progress import format_duration
from simswap_jax.training import validation
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import flat
from simswap_jax.training.metrics import read_lines
from simswap_jax.training.terminal import NORM, format_speed
from simswap_jax.training.validation import BEST, PREFIX, SCORE, SECONDS, best_step, formula

REPORT, SAMPLES = "report.html", "samples"
EVERY = 60.0  # seconds between two pages while nothing new is to be seen
MOST_ROWS = 40  # of the table of validations, the newest
VALIDATIONS = {
    "Score, by which the best state is kept": (SCORE,),
    "Identity": ("retrieval", "cosine_source", "cosine_target"),
    "Pose error, °": ("pose_error",),
    "Expression error, %": ("expression_error",),
    "Self-swap: L1 (values 0 to 1)": ("self_l1",),
    "Self-swap: PSNR, dB": ("self_psnr",),
    "Sharpness (Laplacian energy; the target's is 1)": ("sharpness",),
}
TRAINING = {
    "Training: discriminators' logits": ("real_logits", "fake_logits"),
    "Speed, images a second": ("images_per_second",),
}
# The names of the losses of most interest, first; norms of gradients come last.
FIRST = ("generator", "identity", "reconstruction", "weak_feature_matching", "adversarial", "discriminator")
NOT_SHOWN = ("steps_per_second", "device_memory_bytes")


class Report:
    """Writes the page of one run now and then; only process 0 has one.

    Args:
      workdir: of the run; all that the page shows lies there.
      config: the experiment.
    """

    def __init__(self, workdir: Path, config: ml_collections.ConfigDict) -> None:
        self._workdir, self._config = workdir, config
        self._due = time.monotonic()

    def write(self, step: int, now: bool) -> None:
        """Write the page of a step, if it is due.

        Args:
          step: the last that was made.
          now: there is something new to be seen; else a page a minute is enough.
        """
        if now or time.monotonic() >= self._due:
            write_text(self._workdir / REPORT, page(self._workdir, self._config, step))
            self._due = time.monotonic() + EVERY


def page(workdir: Path, config: ml_collections.ConfigDict, step: int) -> str:
    """The page of a workdir at a step, as HTML."""
    measured = validation.rows_of(workdir)
    training = [row for row in read_lines(workdir) if f"{PREFIX}{SCORE}" not in row]
    best = best_step(measured)
    opening = [
        progress_sentence(training, step, config.steps),
        "Losses are drawn before their weights, which the log's have.",
    ]
    if measured:
        opening.append(validation_sentence(measured[-1], config.validation.score.to_dict()))
    return html_report(
        f"Training: {workdir.name}",
        " ".join(opening),
        [*([validations(measured, best)] if measured else []), experiment_table(config)],
        [*curves(measured, VALIDATIONS, "{}"), *curves(training, TRAINING, "Training: {}")],
        [
            *sheets(workdir / SAMPLES, step, "Samples of the training: the same images each time; step {:,}."),
            *sheets(workdir / validation.FOLDER, step, "The same held-out identities each time; step {:,}."),
        ],
        tables_last=True,
    )


# ---- Its parts ----


def progress_sentence(training: Sequence[Mapping[str, Any]], step: int, steps: int) -> str:
    """How far the run is, how fast, and how long the rest takes."""
    said = f"Step {step:,} of {steps:,} ({step / steps:.0%})."
    speeds = [row for row in training if row.get("steps_per_second")]
    if not speeds or step >= steps:
        return said
    left = format_duration((steps - step) / speeds[-1]["steps_per_second"])
    return f"{said} {format_speed(speeds[-1]['images_per_second'])} images a second; {left} left."


def validation_sentence(row: Mapping[str, Any], weights: Mapping[str, float]) -> str:
    """What the validations are, and what the score is made of."""
    return (
        "People that are held out of the training are swapped and measured now and then. The best state is kept by the "
        f"score = {formula(row, weights)}: the folder '{BEST}' is its model, and its checkpoint stays."
    )


def curves(rows: Sequence[Mapping[str, Any]], plots: Mapping[str, Sequence[str]], other: str) -> list[Curve]:
    """The plots that are listed, then one of each other value under the title ``other``."""
    named = {name for names in plots.values() for name in names} | {SECONDS, *NOT_SHOWN}
    names = sorted(names_of(rows), key=lambda name: (name.endswith(NORM), (*FIRST, name).index(name)))
    rest = {other.format(name): (name,) for name in names if name not in named}
    return curves_of(rows, {**plots, **rest} if other == "{}" else {**rest, **plots})


def names_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rows hold, in the order in which it came, without the step."""
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name != "step"]


def validations(rows: Sequence[Mapping[str, Any]], best: int | None) -> Table:
    """The newest validations and the best one."""
    names = names_of(rows)
    shown = [row for row in rows[:-MOST_ROWS] if row["step"] == best] + list(rows[-MOST_ROWS:])
    cells = [
        [f"{row['step']}{' (best)' if row['step'] == best else ''}", *(_cell(row.get(name)) for name in names)]
        for row in shown
    ]
    return Table("Validation on held-out identities", ["step", *names], cells)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def experiment_table(config: ml_collections.ConfigDict) -> Table:
    """Every field with its value; first those that differ from the method's default, with it."""
    fields, default = flat(config.to_dict()), flat(default_config(config.method).to_dict())
    changed = [name for name in fields if name not in default or default[name] != fields[name]]
    rows = [[name, str(fields[name]), str(default.get(name, ""))] for name in changed]
    rows += [[name, str(value), ""] for name, value in fields.items() if name not in changed]
    caption = f"The experiment: {len(changed)} of {len(fields)} fields differ from the default"
    return Table(caption, ["field", "value", "default, where another"], rows, folded=True)


def sheets(folder: Path, step: int, caption: str) -> list[Figure]:
    """The newest sheet of a folder up to a step; none where there is none that can be read."""
    files = {int(path.stem): path for path in folder.glob("*.png") if path.stem.isdigit()}
    for number in sorted((number for number in files if number <= step), reverse=True):
        try:
            with Image.open(files[number]) as image:
                return [Figure(caption.format(number), np.asarray(image.convert("RGB")))]
        except OSError:
            continue
    return []

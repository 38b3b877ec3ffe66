"""Numbers and sheets of a training: to the terminal, JSON lines, TensorBoard and Weights & Biases."""

import json
import logging
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.io import job_cache
from simswap_jax.io.atomic import write_text
from simswap_jax.io.images import read_picture
from simswap_jax.io.progress import clock
from simswap_jax.training.terminal import Shares, format_speed, loss_line
from simswap_jax.training.update import SKIPPED

logger = logging.getLogger(__name__)

FILE = "metrics.jsonl"


def read_lines(workdir: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; a last line cut short by a kill is left out."""
    return job_cache.read(workdir / FILE)


def json_row(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row with null in place of numbers that JSON does not know: NaN and the infinities."""
    lost = {name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)}
    return {name: None if name in lost else value for name, value in values.items()}


class Writers(Protocol):
    """Where a training's numbers and sample sheets go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the numbers of one step."""

    def image(self, step: int, name: str, path: Path) -> None:
        """Show a sheet that was just written as a file; nothing where there is none."""

    def close(self) -> None:
        """Hand over what is still on its way."""


class NoWriters:
    """Writes nothing: what the processes other than the first have."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def image(self, step: int, name: str, path: Path) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class JsonLines(NoWriters):
    """Numbers as ``metrics.jsonl``; sheets are files already.

    Args:
      workdir: gets the file.
      step: the step that training resumes from; rows after it (of a killed run) are dropped.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        kept = [row for row in read_lines(workdir) if row["step"] <= step]
        self._path = workdir / FILE
        write_text(self._path, "".join(json.dumps(json_row(row), allow_nan=False) + "\n" for row in kept))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row."""
        job_cache.append(self._path, [json_row({"step": step, **values})])


class TensorBoard:
    """TensorBoard's files, written by tensorboardX: no TensorFlow is needed.

    Args:
      folder: gets the files.
      step: the step that training resumes from; TensorBoard hides what came after it.

    Raises:
      ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A point of every curve; what is not finite has none, which tensorboardX would warn of at every step."""
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def image(self, step: int, name: str, path: Path) -> None:
        """The sheet, to be looked through by step."""
        if path.is_file():
            self._writer.add_image(name, read_picture(path), step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; a resumed training goes on with the run that it had.

    Args:
      project: that the run belongs to.
      workdir: gets ``wandb``, with the run's id; its name is the run's.
      fields: of the experiment, shown beside the run.

    Raises:
      UserError: wandb is not installed, or refuses.
    """

    def __init__(self, project: str, workdir: Path, fields: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise missing_extra("wandb", "wandb", "config.log.wandb") from error
        path = workdir / "wandb" / "id"
        if not path.is_file():
            write_text(path, secrets.token_hex(4))
        known = {"project": project, "id": path.read_text(encoding="utf-8").strip(), "name": workdir.resolve().name}
        try:
            self._run = wandb.init(**known, dir=str(workdir), resume="allow", config=dict(fields))
        except wandb.Error as error:
            raise UserError(
                f"Weights & Biases cannot start ({first_line(error)}); run `wandb login`, set WANDB_MODE=offline, or "
                "leave config.log.wandb empty.",
                "wandb-cannot-start",
            ) from error
        self._run.define_metric("*", step_metric="step")  # a resumed training may be behind the run's own count
        self._image = wandb.Image

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A point of every curve."""
        self._run.log({"step": step, **values})

    def image(self, step: int, name: str, path: Path) -> None:
        """The sheet, to be looked through by step."""
        if path.is_file():
            self._run.log({"step": step, name: self._image(str(path))})

    def close(self) -> None:
        """Send what is left, and end the run."""
        self._run.finish()


class AllWriters:
    """Several writers as one."""

    def __init__(self, *writers: Writers) -> None:
        self._writers = writers

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """To every one."""
        for writer in self._writers:
            writer.write(step, values)

    def image(self, step: int, name: str, path: Path) -> None:
        """To every one."""
        for writer in self._writers:
            writer.image(step, name, path)

    def close(self) -> None:
        """Every one."""
        for writer in self._writers:
            writer.close()


def open_writers(config: ml_collections.ConfigDict, workdir: Path, step: int) -> Writers:
    """JSON lines, and besides what ``config.log`` names; TensorBoard only where tensorboardX is installed.

    Args:
      config: the experiment.
      workdir: gets ``metrics.jsonl``, ``tensorboard`` and ``wandb``.
      step: the step that training resumes from.

    Raises:
      UserError: as ``WeightsAndBiases``.
    """
    writers: list[Writers] = [JsonLines(workdir, step)]
    if config.log.tensorboard:
        with suppress(ImportError):
            writers.append(TensorBoard(workdir / "tensorboard", step))
    if config.log.wandb:
        writers.append(WeightsAndBiases(config.log.wandb, workdir, json.loads(config.to_json())))
    return AllWriters(*writers)


class Progress:
    """Collects the steps' metrics on the device; at a log step fetches, averages and writes them.

    Args:
      writers: where the averages go.
      steps: the step that ends the training.
      batch_size: images a step.
      start: the step that training resumes from.
      image_share: model FLOPs of an image over what all devices could do in a second, or 0 where that is not known;
        times the images a second it is the MFU.
      shares: splits the losses for the terminal, as of `terminal.loss_line`.
    """

    def __init__(
        self,
        writers: Writers,
        steps: int,
        batch_size: int,
        start: int,
        image_share: float = 0.0,
        shares: Shares | None = None,
    ) -> None:
        self._writers, self._steps, self._batch_size = writers, steps, batch_size
        self._image_share, self._shares = image_share, shares
        self._waiting: list[Mapping[str, jax.Array]] = []
        self._since, self._at = time.monotonic(), start

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Keep one step's metrics, still on the device."""
        self._waiting.append(metrics)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out of the speed what happens inside: samples, checkpoints."""
        began = time.monotonic()
        yield
        self._since += time.monotonic() - began

    def log(self, step: int) -> dict[str, float]:
        """Average what was added, write it and log it; returns the row.

        Steps whose update was skipped are counted and left out of the averages: their numbers are not finite.
        """
        fetched = jax.device_get(self._waiting)
        self._waiting = []
        numbered = [(step - len(fetched) + index, values) for index, values in enumerate(fetched, 1)]
        numbered = [(number, values) for number, values in numbered if not values.get(SKIPPED, 0.0)]
        made = [values for _, values in numbered]
        row = {name: float(np.mean([values[name] for values in made])) for name in (made[0] if made else {})}
        if SKIPPED in fetched[0]:
            row[SKIPPED] = float(len(fetched) - len(made))
        shown = loss_line(row, numbered, self._shares)
        if row.get(SKIPPED):
            shown = " │ ".join(filter(None, [shown, f"{row[SKIPPED]:.0f} updates skipped: not finite"]))
        paces = ""
        if step > self._at:
            speed = (step - self._at) / max(time.monotonic() - self._since, 1e-9)
            row |= {"steps_per_second": speed, "images_per_second": speed * self._batch_size}
            left = clock((self._steps - step) / speed)
            paces = f" · {format_speed(speed * self._batch_size)} img/s · ETA {left}"
            if self._image_share:
                row["mfu"] = speed * self._batch_size * self._image_share
                paces += f" · MFU {100 * row['mfu']:.1f} %"
        used = jax.local_devices()[0].memory_stats() or {}  # a CPU keeps no count
        if "peak_bytes_in_use" in used:
            row["device_memory_bytes"] = float(used["peak_bytes_in_use"])
        self.start_clock(step)
        self._writers.write(step, row)
        logger.info("step %d/%d (%d %%)%s │ %s", step, self._steps, 100 * step // self._steps, paces, shown)
        return row

    def start_clock(self, step: int) -> None:
        """Measure the speed from here: what came before (compilation, say) is no training."""
        self._since, self._at = time.monotonic(), step

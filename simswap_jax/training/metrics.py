"""Numbers of a training: to the terminal, JSON lines and, where TensorFlow is installed, TensorBoard (clu)."""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from simswap_jax.io import job_cache
from simswap_jax.io.atomic import write_text
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


class Writers:
    """Where a training's numbers go.

    Args:
      workdir: gets ``metrics.jsonl`` and, with TensorFlow, ``tensorboard/``.
      step: the step that training resumes from; rows after it (of a killed run) are dropped.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        kept = [row for row in read_lines(workdir) if row["step"] <= step]
        self._path = workdir / FILE
        write_text(self._path, "".join(json.dumps(json_row(row), allow_nan=False) + "\n" for row in kept))
        self._tensorboard: Any = None
        with suppress(ImportError):  # clu's writers need TensorFlow and TensorBoard
            from clu.metric_writers import SummaryWriter

            self._tensorboard = SummaryWriter(str(workdir / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row."""
        job_cache.append(self._path, [json_row({"step": step, **values})])
        if self._tensorboard is not None:
            self._tensorboard.write_scalars(step, dict(values))
            self._tensorboard.flush()


class NoWriters(Writers):
    """Writes nothing: what the processes other than the first have."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""


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

"""Validation while training: held-out identities are swapped and measured now and then, and the best state is kept.

What is measured, and by which networks, is not known here: evaluation stands above training, so
``config.validation.evaluator`` names it.
"""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ml_collections
import numpy as np

from simswap_jax.data.dataset import People
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import write_bytes
from simswap_jax.io.contact_sheet import contact_sheet
from simswap_jax.io.images import encode_png
from simswap_jax.training import distributed
from simswap_jax.training.experiment import resolve
from simswap_jax.training.method import Method
from simswap_jax.training.metrics import Writers, read_lines
from simswap_jax.training.state import TrainState

logger = logging.getLogger(__name__)

FOLDER, BEST = "validation", "best"
PREFIX = "validation/"  # of a row's names, by which TensorBoard groups them
SCORE, SECONDS = "score", "seconds"
MARK = "AI-generated: swaps of held-out identities"  # the visible mark of the sheets


@dataclass(frozen=True)
class Measured:
    """What one validation found.

    Attributes:
      values: metric → value; those that are not finite were not measured.
      columns: of the sheet: caption → uint8 RGB pictures [H, W, 3], as many in each; empty where nothing is to be seen.
      captions: of the sheet's rows.
    """

    values: Mapping[str, float]
    columns: Mapping[str, Sequence[np.ndarray]]
    captions: Sequence[str] = ()


class Evaluator(Protocol):
    """What ``config.validation.evaluator`` builds from (config, people, names of those held out).

    It must answer the same for the same state, or a resumed run gives other rows. One that cannot measure every method
    may have ``check(method)``, which raises a `UserError`; it is called before the first step.
    """

    def measure(self, method: Method, state: TrainState) -> Measured:
        """Measure a state, whole and without optimisers; only process 0 asks."""


class Validation:
    """The validations of one run. Where several processes train, each calls the same methods; process 0 measures.

    Attributes:
      best: the step with the highest score so far, whose checkpoint is to be kept; None before the first.

    Args:
      config: the experiment; ``validation.every`` 0 measures never.
      workdir: gets ``validation/<step>.png`` and ``best`` (a model folder).
      method: what is trained.
      people: everybody, those held out among them.
      held_out: the names of those.
      start: the step that training resumes from.

    Raises:
      UserError: the evaluator cannot be imported, or refuses the experiment.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        workdir: Path,
        method: Method,
        people: People,
        held_out: Sequence[str],
        start: int,
    ) -> None:
        self._fields, self._steps, self._workdir, self._method = config.validation, config.steps, workdir, method
        self._evaluator: Evaluator | None = None
        self._began, self._spent = time.monotonic(), 0.0
        self.best: int | None = None

        def prepare() -> int | None:
            if self._fields.every:
                build = resolve(self._fields.evaluator, "validation.evaluator")
                self._evaluator = build(config, people, held_out)
                getattr(self._evaluator, "check", lambda method: None)(method)
            return best_step([row for row in rows_of(workdir) if row["step"] <= start])

        self.best = distributed.broadcast_from_primary(prepare)  # a workdir that is validated no more keeps its best

    def due(self, step: int) -> bool:
        """Whether this step is measured: every so many, and the last."""
        return bool(self._fields.every) and (step % self._fields.every == 0 or step == self._steps)

    def run(self, step: int, state: TrainState, writers: Writers) -> None:
        """Measure a state and write what is to be written; every process learns which step is the best.

        Args:
          step: that was just made.
          state: whole on one device, without optimisers.
          writers: where the row goes.

        Raises:
          UserError: in every process, where the evaluator refuses.
        """
        self.best = distributed.broadcast_from_primary(lambda: self._run(step, state, writers))

    def _run(self, step: int, state: TrainState, writers: Writers) -> int | None:
        assert self._evaluator is not None
        began = time.monotonic()
        measured = self._evaluator.measure(self._method, state)
        values = {name: float(value) for name, value in measured.values.items() if math.isfinite(value)}
        weights = self._fields.score.to_dict()
        values = {SCORE: score(values, weights), **values}
        before = rows_of(self._workdir)
        best = best_step([*before, {"step": step, **values}])
        if best == step:
            self._method.export(state, self._workdir / BEST)
        sheet = sheet_of(measured, step)
        if sheet is not None:
            path = self._workdir / FOLDER / f"{step:07d}.png"
            write_bytes(path, encode_png(sheet))
            writers.image(step, FOLDER, path)
        values[SECONDS] = time.monotonic() - began
        self._spent += values[SECONDS]
        writers.write(step, {f"{PREFIX}{name}": value for name, value in values.items()})
        self._tell(step, values, best, self._spent / max(time.monotonic() - self._began, 1e-9))
        return best

    def _tell(self, step: int, values: Mapping[str, float], best: int | None, share: float) -> None:
        shown = " · ".join(f"{name} {value:.3g}" for name, value in values.items() if name != SECONDS)
        place = "the best so far" if best == step else f"the best is step {best}"
        logger.info(
            "validation at step %d · %s (%s) · %.1f s, %.1f %% of the time",
            *(step, shown, place, values[SECONDS], 100 * share),
        )


# ---- The score ----


def score(values: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of the metrics that were measured; the higher the better.

    Raises:
      UserError: none of the weighted ones was.
    """
    weighted = [weight * values[name] for name, weight in weights.items() if weight and name in values]
    if not weighted:
        raise UserError(
            f"config.validation.score weighs nothing that was measured, which is {', '.join(values) or 'nothing'}; "
            "give one of these a weight, e.g. --config.validation.score.cosine_source=1.",
            "validation-score",
        )
    return float(sum(weighted))


def formula(values: Mapping[str, float], weights: Mapping[str, float]) -> str:
    """The score in words: ``retrieval + cosine_source − cosine_target − 0.1 pose_error``."""
    terms = [(weights[name], name) for name in values if weights.get(name)]
    text = " ".join(f"{'−' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g} '}{name}" for w, name in terms)
    return text.removeprefix("+ ")


def best_step(rows: Sequence[Mapping[str, Any]]) -> int | None:
    """The step of the highest score, of equal ones the first; None without a row."""
    return max(rows, key=lambda row: row[SCORE])["step"] if rows else None


# ---- What is written ----


def rows_of(workdir: Path) -> list[dict[str, Any]]:
    """The validations among a workdir's rows, their names without the prefix."""
    return [
        {name.removeprefix(PREFIX): value for name, value in row.items()}
        for row in read_lines(workdir)
        if f"{PREFIX}{SCORE}" in row
    ]


def sheet_of(measured: Measured, step: int) -> np.ndarray | None:
    """The pictures of a validation side by side, uint8 RGB [H, W, 3]; None where there are none."""
    if not measured.columns:
        return None
    rows = [list(row) for row in zip(*measured.columns.values(), strict=True)]
    return contact_sheet(rows, list(measured.columns), list(measured.captions), title=f"{MARK}, step {step}")

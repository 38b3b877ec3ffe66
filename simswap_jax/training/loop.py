"""train(config, workdir): one readable pass from an experiment to a model folder."""

import errno
import functools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from simswap_jax.data import loader, records
from simswap_jax.data.dataset import People, held_out
from simswap_jax.errors import UserError
from simswap_jax.io import contact_sheet
from simswap_jax.io.atomic import write_bytes, write_json
from simswap_jax.io.images import encode_png
from simswap_jax.training import chips, distributed, parallel
from simswap_jax.training import method as methods
from simswap_jax.training.checkpoints import Checkpoints, room
from simswap_jax.training.config import check, default_config
from simswap_jax.training.guard import Watch
from simswap_jax.training.method import Method, Score
from simswap_jax.training.metrics import NoWriters, Progress, Writers, read_lines
from simswap_jax.training.state import PyTree, TrainState, without_optimizers
from simswap_jax.training.warm_start import begun

CONFIG = "config.json"
SAMPLES = "AI-generated: samples of a training run"  # the visible mark of sample sheets
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
MEMORY = 2**30  # bytes of decoded pictures that are kept, if the whole data set fits
# Fields that may differ when a workdir is taken up again; everything else makes it another experiment.
FREE = {
    "steps",
    "log_every",
    "sample_every",
    "score_every",
    "checkpoint_every",
    "keep",
    "keep_best",
    "processes.count",
    "processes.index",
    "processes.coordinator",
    "processes.wait",
    "devices",
    "parallel",
    "fsdp",
    "nonfinite_limit",
    "data.root",
    "data.cache",
    "data.threads",
}


@dataclass(frozen=True)
class Trained:
    """What a call of ``train`` left.

    Attributes:
      method, state: as they ended.
      model: the model folder.
      finished: all steps were made; False after Ctrl-C or SIGTERM.
    """

    method: Method
    state: TrainState
    model: Path
    finished: bool


def train(
    config: ml_collections.ConfigDict,
    workdir: str | Path,
    score: Score | None = None,
    say: Callable[[str], None] = print,
) -> Trained:
    """Train, or go on where ``workdir`` stopped.

    Args:
      config: an experiment (``training.config.default_config`` and what an experiment file changes).
      workdir: gets checkpoints, metrics.jsonl, samples, the data set's records and, at the end, ``model``.
      score: called every ``config.score_every`` steps with the state, its optimisers left out; the state with the
        highest score is exported to ``best``.
      say: prints a line of progress.

    Raises:
      UserError: the experiment cannot run here, with the reason; nothing that stood in ``workdir`` is lost.
    """
    check(config)
    distributed.start(config.processes)
    if not distributed.is_first():
        say = silent
    workdir = Path(workdir).expanduser()
    distributed.first(lambda: claim(workdir, config))
    seen_by_all(workdir)
    cache = Path(config.data.cache).expanduser() if config.data.cache else workdir / "data"
    root = Path(config.data.root).expanduser()
    everybody = distributed.in_turn(lambda: records.build(root, cache)).remember(MEMORY)
    kept_out = set(held_out(everybody.names, config.data.held_out))
    people = everybody.select([name for name in everybody.names if name not in kept_out])
    if len(people.names) < 2:
        raise UserError(
            f"{config.data.root} leaves {len(people.names)} person to train on, and pairs of different people need 2; "
            "lower config.data.held_out or add people."
        )
    say(f"{len(people.names)} people, {len(people)} pictures to train on; {len(kept_out)} people held out")

    method = methods.build(config, people, parallel.axis_name(config))
    runner = parallel.runner(config, method)
    key = jax.random.PRNGKey(config.seed)
    like = runner.abstract(key)
    checkpoints = Checkpoints(workdir, config.keep, config.keep_best, say)
    distributed.first(lambda: room(checkpoints.folder, like))
    restored = checkpoints.restore(like)
    state, position = restored or (runner.init(key), None)
    start = int(state.step)
    if restored:
        say(f"going on from step {start}")
    elif config.start:
        state = begun(state, config, functools.partial(shapes, people=people, key=key), CONFIG)
        say(f"beginning with the networks of {config.start}")
    writers = Writers(workdir, start, say) if distributed.is_first() else NoWriters()
    progress = Progress(writers, config.steps, config.batch_size, start, image_share(method, runner.whole.mesh.size))
    best = max((row["score"] for row in read_lines(workdir) if "score" in row), default=-np.inf)
    finished = True
    shown = None
    watch = Watch(config.nonfinite_limit)

    batches = loader.prefetch(distributed.in_turn(lambda: method.batches(people, cache, position)), runner.place)
    # Nothing goes between host and device unasked: that would stop the device on every step.
    with asked_to_stop() as stop, told_plainly(workdir), jax.transfer_guard("disallow"):
        for step in range(start + 1, config.steps + 1):
            batch = read(batches, root, cache)
            if shown is None:  # one fixed batch for every sheet, so that sheets can be compared
                shown = {name: array[:8] for name, array in runner.fetch(batch).items()}
            state, metrics = runner.step(state, batch)
            if step == start + 1:
                jax.block_until_ready(metrics)
                progress.start_clock(step)
                compiled = runner.compiled
            elif runner.compiled > compiled:
                raise RuntimeError(f"the step was compiled again at step {step}: its inputs changed shape or place")
            if watch.too_many(metrics):
                kept = checkpoints.latest
                checkpoints.close()
                raise never_finite(config.nonfinite_limit, step - 1, kept)
            progress.add(metrics)
            if step % config.log_every == 0 or step == config.steps:
                progress.log(step)
            stopping = distributed.should_stop(step, stop())
            last = step == config.steps
            with progress.paused(), jax.transfer_guard("allow"):
                whole = functools.cache(lambda: runner.here(without_optimizers(state)))  # noqa: B023  # of this step
                if config.sample_every and (step % config.sample_every == 0 or last):
                    draw(method, whole(), shown, runner.here(runner.frozen), workdir / "samples" / f"{step:07d}.png")
                value = None
                if score is not None and config.score_every and step % config.score_every == 0:
                    value = scored(score, method, whole())
                    writers.write(step, {"score": value})
                better = value is not None and value > best
                if better:
                    best = value
                    export(method, whole(), workdir / "best")
                if last or stopping or better or step % config.checkpoint_every == 0:
                    checkpoints.save(state, batches.get_state(), value)
            if stopping:
                finished = last
                break
        with jax.transfer_guard("allow"):
            checkpoints.wait()
            checkpoints.close()
            export(method, runner.here(without_optimizers(state)), workdir / "model")
    distributed.wait_for_all()
    if not finished:
        say(f"stopped at step {int(state.step)}, saved; the same command goes on from there")
    else:
        say(f"done at step {int(state.step)}; model folder: {workdir / 'model'}")
    return Trained(method, state, workdir / "model", finished)


def shapes(config: ml_collections.ConfigDict, people: People, key: jax.Array) -> PyTree:
    """An experiment's state as shapes, types and shardings."""
    return parallel.runner(config, methods.build(config, people, parallel.axis_name(config))).abstract(key)


def image_share(method: Method, devices: int) -> float:
    """Model FLOPs of one image over the published peak of all devices; 0 where either is not known (a CPU's peak)."""
    chip = chips.chip_of(jax.devices()[0].device_kind)
    counted = getattr(method, "flops_per_image", None)
    return counted() / (chip.peak_flops * devices) if chip and counted else 0.0


def read(batches: Iterator[Any], root: Path, cache: Path) -> Any:
    """The next batch; what a disk can do wrong while it is read is one sentence."""
    try:
        return next(batches)
    except OSError as error:
        raise UserError(
            f"the training pictures cannot be read any more ({error.strerror or error}); look at {root} and {cache}, "
            "then start again: the last checkpoint stays."
        ) from error


def seen_by_all(workdir: Path) -> None:
    """Every process must see the workdir that process 0 made.

    Raises:
      UserError: in a process that does not.
    """
    if not (workdir / CONFIG).is_file():
        raise UserError(
            f"process {jax.process_index()} does not see the workdir {workdir} that process 0 made; use a folder that "
            "all hosts share."
        )


@contextmanager
def told_plainly(workdir: Path) -> Iterator[None]:
    """Turn what a disk can do wrong into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UserError(
            f"the workdir {workdir} cannot be written any more ({error.strerror}); make room, then start again: "
            "the last checkpoint stays."
        ) from error


def silent(line: str) -> None:
    """Say nothing: process 0 speaks for all."""
    del line


def scored(score: Score, method: Method, state: TrainState) -> float:
    """The score that process 0 finds."""
    return distributed.first(lambda: float(score(method, state)))


def export(method: Method, state: TrainState, folder: Path) -> None:
    """Let process 0 write a model folder."""
    distributed.first(lambda: method.export(state, folder))


def never_finite(limit: int, step: int, kept: int | None) -> UserError:
    """What is said when ``limit`` updates in a row, the last at ``step``, could not be made."""
    stays = f"the checkpoint of step {kept} stays" if kept else "there is no checkpoint yet"
    return UserError(
        f"the last {limit} updates up to step {step} were not finite and were not made; {stays}. "
        "Start again; if it happens again, use another --workdir and a lower config.optimizer.learning_rate."
    )


def draw(method: Method, state: TrainState, batch: dict[str, Any], frozen: PyTree, path: Path) -> None:
    """Write a sample sheet: a row a sample, a column a kind of picture; above them, that they are synthetic."""

    def write() -> None:
        columns = method.sample(state, batch, frozen)
        if columns:
            rows = [list(row) for row in zip(*columns.values(), strict=True)]
            write_bytes(path, encode_png(contact_sheet.contact_sheet(rows, list(columns), title=SAMPLES)))

    distributed.first(write)


def claim(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Make ``workdir`` this experiment's, or refuse.

    Raises:
      UserError: it holds another experiment, or cannot be written.
    """
    wanted = json.loads(config.to_json())
    path = workdir / CONFIG
    try:
        if path.exists():
            # A field that was not there yet when the workdir was made counts with its default: how it was done before.
            there = flat(json.loads(default_config().to_json())) | flat(json.loads(path.read_text(encoding="utf-8")))
            now = flat(wanted)
            for name in sorted(set(there) | set(now)):
                if name not in FREE and there.get(name) != now.get(name):
                    raise UserError(
                        f"{workdir} holds another experiment: config.{name} was {there.get(name)!r} and is now "
                        f"{now.get(name)!r}; use another --workdir, or the old value to go on."
                    )
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written: {error.strerror or error}; use another --workdir."
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged, so it cannot be told which experiment {workdir} holds; use another --workdir."
        ) from error


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question asked between two steps; a second Ctrl-C stops at once.

    Where several processes train, all have to stop after the same step: JAX's service hears SIGTERM, and Ctrl-C is
    handed on to it.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def note(signum: int, frame: Any) -> None:
        del frame
        if asked.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        if distributed.several():
            os.kill(os.getpid(), signal.SIGTERM)

    heard = (signal.SIGINT,) if distributed.several() else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""train(config, workdir): from an experiment to a model folder."""

import errno
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import ml_collections
import numpy as np

from simswap_jax.data import loader, records
from simswap_jax.data.dataset import People, held_out
from simswap_jax.errors import UserError
from simswap_jax.io import contact_sheet
from simswap_jax.io.atomic import write_bytes
from simswap_jax.io.images import encode_png
from simswap_jax.io.progress import format_duration
from simswap_jax.training import chips, distributed, flops, runner, terminal
from simswap_jax.training import config as fields
from simswap_jax.training import method as methods
from simswap_jax.training.checkpoints import Checkpoints, require_disk_space
from simswap_jax.training.method import Method
from simswap_jax.training.metrics import NoWriters, Progress, open_writers
from simswap_jax.training.report import SAMPLES, Report
from simswap_jax.training.signals import StopRequest, stop_signals
from simswap_jax.training.state import PyTree, TrainState, without_optimizers
from simswap_jax.training.update import NonFiniteMonitor
from simswap_jax.training.validation import Validation
from simswap_jax.training.warm_start import init_from
from simswap_jax.training.workdir import claim_workdir, connect_processes

logger = logging.getLogger(__name__)

MARK = "AI-generated: samples of a training run"  # the visible mark of sample sheets
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
SHOWN = 8  # rows of a sample sheet
MEMORY = 2**30  # bytes of decoded pictures that are kept, if the whole data set fits


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


def train(config: ml_collections.ConfigDict, workdir: str | Path, leave: Callable[[int], Any] | None = None) -> Trained:
    """Train, or resume where ``workdir`` stopped. Progress goes to this package's loggers.

    Args:
      config: an experiment (``training.config.default_config`` and what an experiment file changes).
      workdir: gets checkpoints, metrics.jsonl, samples, report.html, the data set's records and, at the end, ``model``;
        where it is validated, ``best``, a model folder, too.
      leave: ends the process with a status where Ctrl-C asks for it and there is nothing to save, or a second time; in
        a program of its own `distributed.hard_exit`. None: ``KeyboardInterrupt`` is raised as soon as Python runs.

    Raises:
      UserError: the experiment cannot run here, with the reason; nothing that stood in ``workdir`` is lost.
    """
    fields.check(config)
    workdir = Path(workdir).expanduser()
    connect_processes(config, workdir)
    with stop_signals(leave) as asked:
        return train_in(config, workdir, asked)


def train_in(config: ml_collections.ConfigDict, workdir: Path, asked: StopRequest) -> Trained:
    """``train`` once the processes are connected; ``asked`` says when to stop.

    Raises:
      UserError: as ``train``.
    """
    # ---- Set-up ----
    build = functools.partial(methods.build, config, axis_name=runner.axis_name(config))
    method = None if fields.needs_people(config.method) else build(None)  # checked before anything is written
    claim_workdir(config, workdir)
    root, cache = folders(config, workdir)
    everybody = distributed.primary_first(
        lambda: records.build(root, cache) if config.data.root else records.open_people(cache)
    ).remember(MEMORY)
    kept_out = held_out(everybody.names, config.data.held_out)
    people = training_people(config, everybody, kept_out)

    method = method or build(people)
    run = runner.build(config, method)
    terminal.introduce(config, method, run, workdir)
    checkpoints = Checkpoints(workdir, config.keep)
    state, position = initial_state(config, run, checkpoints, people, method)
    start = int(state.step)
    validation = Validation(config, workdir, method, everybody, kept_out, start)

    writers = open_writers(config, workdir, start) if distributed.is_primary() else NoWriters()
    share = image_share(method, run.replicated.mesh.size)
    shares = getattr(method, "shares", None)
    progress = Progress(writers, config.steps, config.batch_size, start, share, shares)
    report = Report(workdir, config) if distributed.is_primary() else None
    monitor = NonFiniteMonitor(config.nonfinite_limit)
    method = with_targets(method, run, state, people, (root, cache))
    iterator = distributed.primary_first(lambda: method.batches(people, cache))
    with picture_errors(root, cache):
        samples = first_samples(iterator) if config.sample_every and distributed.is_primary() else {}
    if position is not None:
        iterator.set_state(position)
    batches = loader.prefetch(iterator, run.shard_batch)
    compiled, finished = 0, True

    # ---- Loop: nothing goes between host and device unasked, for that would stop the device on every step ----
    with (
        ExitStack() as shown,
        disk_errors(workdir),
        closing(writers),
        closing(checkpoints),
        closing(batches),
        jax.transfer_guard("disallow"),
    ):
        for step in range(start + 1, config.steps + 1):
            with picture_errors(root, cache):
                batch = next(batches)
            if step == start + 1:
                state, metrics = first_step(run, state, batch)
                asked.preparing = False
                progress.start_clock(step)
                compiled = run.compiled
                count = shown.enter_context(terminal.step_bar(step, config.steps, config.batch_size))
            else:
                state, metrics = run.step(state, batch)
                count()
            if run.compiled > compiled:
                raise RuntimeError(f"the step was compiled again at step {step}: its inputs changed shape or place")
            if monitor.too_many(metrics):
                raise never_finite(config.nonfinite_limit, step - 1, checkpoints.latest)

            last = step == config.steps
            progress.add(metrics)
            if logged := last or terminal.is_logged(step, config.log_every):
                row = progress.log(step)
                if (last or step % config.log_every == 0) and not all(map(math.isfinite, row.values())):
                    require_finite(run, state, checkpoints)
            stopping = distributed.should_stop(step, asked())
            with progress.paused(), jax.transfer_guard("allow"):
                showing = config.sample_every and (step % config.sample_every == 0 or last)
                saving = last or stopping or step % config.checkpoint_every == 0
                validation_due = validation.due(step)
                if showing or saving or validation_due:
                    require_finite(run, state, checkpoints)
                if showing:
                    sheet = workdir / SAMPLES / f"{step:07d}.png"
                    write_samples(method, run, state, samples, sheet)
                    writers.image(step, SAMPLES, sheet)
                if validation_due:  # before the checkpoint: what resumes there has its row
                    validation.run(step, run.gather(without_optimizers(state)), writers)
                checkpoints.best = validation.best
                if saving or step == validation.best:
                    checkpoints.save(state, batches.get_state())
                if report and (logged or showing or validation_due):
                    report.write(step, now=bool(showing or validation_due or last or stopping))
            if stopping:
                finished = last
                break

        # ---- The model folder ----
        with jax.transfer_guard("allow"):
            checkpoints.wait()
            export(method, run.gather(without_optimizers(state)), workdir / "model")
    distributed.barrier()
    if finished:
        logger.info("done at step %d; model folder: %s", int(state.step), workdir / "model")
    else:
        logger.info("stopped at step %d, saved; the same command resumes there", int(state.step))
    return Trained(method, state, workdir / "model", finished)


# ---- Set-up ----


def folders(config: ml_collections.ConfigDict, workdir: Path) -> tuple[Path, Path]:
    """The folder of people and the one for what is computed from it."""
    cache = Path(config.data.cache).expanduser() if config.data.cache else workdir / "data"
    return Path(config.data.root).expanduser(), cache


def training_people(config: ml_collections.ConfigDict, everybody: People, kept_out: Sequence[str]) -> People:
    """The people that are not held out, and of their pictures those that are not.

    Raises:
      UserError: fewer than two are left.
    """
    without = set(kept_out)
    people = everybody.select([name for name in everybody.names if name not in without])
    if config.data.held_out_pictures:
        people = people.without(held_out(people.files, config.data.held_out_pictures))
    if len(people.names) < 2:
        given = config.data.root or config.data.cache
        raise UserError(
            f"{given} leaves {len(people.names)} person to train on, and pairs of different people need 2; "
            "lower config.data.held_out or add people.",
            "too-few-people",
        )
    logger.info("%d people, %d pictures to train on; %d people held out", len(people.names), len(people), len(without))
    return people


def initial_state(
    config: ml_collections.ConfigDict,
    run: runner.Runner,
    checkpoints: Checkpoints,
    people: People,
    method: Method,
) -> tuple[TrainState, Any]:
    """State and position of the newest checkpoint; else a fresh state, with the networks of ``config.init_from``.

    A fresh state is handed to the method's ``begin``, if it has one. Where it trains against an identity network, a
    model folder to start from must be made for the same one.

    Raises:
      UserError: there is no room for a checkpoint, or none can be read.
    """
    key = jax.random.PRNGKey(config.seed)
    like = run.abstract(key)
    distributed.broadcast_from_primary(lambda: require_disk_space(checkpoints.folder, like))
    restored = checkpoints.restore(like, run.is_finite)
    if restored:
        logger.info("resuming from step %d", int(restored[0].step))
        return restored
    logger.info("making the networks; what is compiled for the first time takes its time")
    began = time.monotonic()
    state = run.init(key)
    if hasattr(method, "begin"):
        state = method.begin(state)
    jax.block_until_ready(state.step)
    logger.info("made in %s", format_duration(time.monotonic() - began))
    if config.init_from:
        like_config = functools.partial(shapes, people=people, key=key)
        identity_sha256 = getattr(getattr(method, "identity", None), "sha256", None)
        state = init_from(state, config, like_config, identity_sha256)
        logger.info("initialized from the networks of %s", config.init_from)
    return state, None


def shapes(config: ml_collections.ConfigDict, people: People, key: jax.Array) -> PyTree:
    """An experiment's state as shapes, types and shardings."""
    return runner.build(config, methods.build(config, people, runner.axis_name(config))).abstract(key)


def image_share(method: Method, devices: int) -> float:
    """Model FLOPs of one image over the published peak of all devices; 0 where either is not known (a CPU's peak)."""
    chip = chips.chip_of(jax.devices()[0].device_kind)
    return flops.per_image(method) / (chip.peak_flops * devices) if chip else 0.0


def with_targets(
    method: Method, run: runner.Runner, state: TrainState, people: People, places: tuple[Path, Path]
) -> Method:
    """The method with the targets that its networks choose, where it ``chooses_targets``; else as it is.

    Args:
      places: as of `folders`.

    Raises:
      UserError: a picture cannot be read, or as the method's ``with_targets``.
    """
    if not getattr(method, "chooses_targets", False):
        return method
    whole, choosing = run.gather(without_optimizers(state)), cast(Any, method)
    with picture_errors(*places):
        chosen: Method = distributed.primary_first(lambda: choosing.with_targets(whole, people, places[1]))
    return chosen


def first_samples(batches: loader.Batches) -> dict[str, np.ndarray]:
    """The first samples of a training, which every sheet shows, also after a resume; the iterator is as it was.

    Where batches hold identity vectors in place of the sources, their pictures are added.
    """
    beginning, sources = batches.get_state(), getattr(batches, "sources", None)  # of another loader's there are none
    pictures = sources(SHOWN) if sources else None
    samples = {name: np.asarray(array[:SHOWN]) for name, array in next(batches).items()}
    batches.set_state(beginning)
    return samples if pictures is None else samples | {"source": pictures}


# ---- In the loop ----


def first_step(run: runner.Runner, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
    """The step that compiles; says that it does, and how long it took."""
    logger.info("compiling the training step; for large networks this takes minutes, the first time")
    began = time.monotonic()
    state, metrics = run.step(state, batch)
    jax.block_until_ready(metrics)
    logger.info("compiled, and the first step made, in %s", format_duration(time.monotonic() - began))
    return state, metrics


@contextmanager
def picture_errors(root: Path, cache: Path) -> Iterator[None]:
    """Turn what a disk can do wrong while pictures are read into one sentence."""
    try:
        yield
    except UserError:  # a `CannotWrite` is an OSError, too
        raise
    except OSError as error:
        raise UserError(
            f"the training pictures cannot be read any more ({error.strerror or error}); look at {root} and {cache}, "
            "then start again: the last checkpoint stays.",
            "pictures-cannot-be-read",
        ) from error


def write_samples(method: Method, run: runner.Runner, state: TrainState, batch: dict[str, Any], path: Path) -> None:
    """Write a sample sheet: a row a sample, a column a kind of picture; above them, that they are synthetic."""
    whole, frozen = run.gather(without_optimizers(state)), run.gather(run.frozen)

    def write() -> None:
        columns = method.sample(whole, batch, frozen)
        if columns:
            rows = [list(row) for row in zip(*columns.values(), strict=True)]
            write_bytes(path, encode_png(contact_sheet.contact_sheet(rows, list(columns), title=MARK)))

    distributed.broadcast_from_primary(write)


def export(method: Method, state: TrainState, folder: Path) -> None:
    """Let process 0 write a model folder."""
    distributed.broadcast_from_primary(lambda: method.export(state, folder))


def never_finite(limit: int, step: int, kept: int | None) -> UserError:
    """The error where ``limit`` updates in a row, the last at ``step``, could not be made."""
    stays = f"the checkpoint of step {kept} stays" if kept else "there is no checkpoint yet"
    return UserError(
        f"the last {limit} updates up to step {step} were not finite and were not made; {stays}. "
        "Start again; if it happens again, use another --workdir and a lower config.optimizer.learning_rate.",
        "updates-not-finite",
    )


def require_finite(run: runner.Runner, state: TrainState, checkpoints: Checkpoints) -> None:
    """Refuse to go on with, save or export networks that are not finite: they would push the good checkpoints out.

    Raises:
      UserError: they are not.
    """
    if run.is_finite(state):
        return
    kept = checkpoints.latest
    stays = f"the checkpoint of step {kept} stays" if kept else "there is no checkpoint yet"
    step = int(jax.device_get(state.step))  # explicit, for the loop forbids all other transfers
    raise UserError(
        f"at step {step} the networks are not finite and were not saved; {stays}. Start again with "
        "--config.nonfinite_limit=20, which leaves such updates out, and a lower config.optimizer.learning_rate.",
        "networks-not-finite",
    )


@contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Turn what a disk can do wrong into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise UserError(
            f"the workdir {workdir} cannot be written any more ({error.strerror}); make room, then start again: "
            "the last checkpoint stays.",
            "workdir-write-failed",
        ) from error

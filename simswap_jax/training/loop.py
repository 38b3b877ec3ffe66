"""train(config, workdir): from an experiment to a model folder."""

import errno
import functools
import json
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_collections

from simswap_jax.data import loader, records
from simswap_jax.data.dataset import People, held_out
from simswap_jax.errors import UserError
from simswap_jax.io import contact_sheet
from simswap_jax.io.atomic import refuse_address, write_bytes, write_json
from simswap_jax.io.images import encode_png
from simswap_jax.training import chips, distributed, experiment, flops, runner
from simswap_jax.training import config as fields
from simswap_jax.training import method as methods
from simswap_jax.training.checkpoints import Checkpoints, quiet_orbax, require_disk_space
from simswap_jax.training.method import Method
from simswap_jax.training.metrics import NoWriters, Progress, open_writers
from simswap_jax.training.state import PyTree, TrainState, without_optimizers
from simswap_jax.training.update import NonFiniteMonitor
from simswap_jax.training.validation import Validation
from simswap_jax.training.warm_start import init_from

logger = logging.getLogger(__name__)

CONFIG = "config.json"
SAMPLES = "AI-generated: samples of a training run"  # the visible mark of sample sheets
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
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


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> Trained:
    """Train, or resume where ``workdir`` stopped. Progress goes to this package's loggers.

    Args:
      config: an experiment (``training.config.default_config`` and what an experiment file changes).
      workdir: gets checkpoints, metrics.jsonl, samples, the data set's records and, at the end, ``model``; where it is
        validated, ``report.html`` and ``best``, a model folder, too.

    Raises:
      UserError: the experiment cannot run here, with the reason; nothing that stood in ``workdir`` is lost.
    """
    # ---- Set-up ----
    fields.check(config)
    workdir = set_up_workdir(config, Path(workdir).expanduser())
    root, cache = folders(config, workdir)
    everybody = distributed.primary_first(lambda: records.build(root, cache)).remember(MEMORY)
    kept_out = held_out(everybody.names, config.data.held_out)
    people = training_people(config, everybody, kept_out)

    method = methods.build(config, people, runner.axis_name(config))
    run = runner.build(config, method)
    checkpoints = Checkpoints(workdir, config.keep)
    identity_sha256 = getattr(getattr(method, "identity", None), "sha256", None)
    state, position = initial_state(config, run, checkpoints, people, identity_sha256)
    start = int(state.step)
    validation = Validation(config, workdir, method, everybody, kept_out, start)

    writers = open_writers(config, workdir, start) if distributed.is_primary() else NoWriters()
    share = image_share(method, run.replicated.mesh.size)
    progress = Progress(writers, config.steps, config.batch_size, start, share)
    monitor = NonFiniteMonitor(config.nonfinite_limit)
    batches = loader.prefetch(
        distributed.primary_first(lambda: method.batches(people, cache, position)), run.shard_batch
    )
    samples: dict[str, Any] | None = None
    compiled, finished = 0, True

    # ---- Loop: nothing goes between host and device unasked, for that would stop the device on every step ----
    with stop_signals() as asked, disk_errors(workdir), closing(writers), jax.transfer_guard("disallow"):
        for step in range(start + 1, config.steps + 1):
            batch = next_batch(batches, root, cache)
            if samples is None:  # one fixed batch for every sheet, so that sheets can be compared
                samples = {name: array[:8] for name, array in run.local_batch(batch).items()}
            state, metrics = run.step(state, batch)

            if step == start + 1:
                jax.block_until_ready(metrics)
                progress.start_clock(step)
                compiled = run.compiled
            elif run.compiled > compiled:
                raise RuntimeError(f"the step was compiled again at step {step}: its inputs changed shape or place")
            if monitor.too_many(metrics):
                kept = checkpoints.latest
                checkpoints.close()
                raise never_finite(config.nonfinite_limit, step - 1, kept)

            last = step == config.steps
            progress.add(metrics)
            if step % config.log_every == 0 or last:
                row = progress.log(step)
                if not all(map(math.isfinite, row.values())):
                    require_finite(run, state, checkpoints)
            stopping = distributed.should_stop(step, asked())
            with progress.paused(), jax.transfer_guard("allow"):
                showing = config.sample_every and (step % config.sample_every == 0 or last)
                saving = last or stopping or step % config.checkpoint_every == 0
                validation_due = validation.due(step)
                if showing or saving or validation_due:
                    require_finite(run, state, checkpoints)
                if showing:
                    sheet = workdir / "samples" / f"{step:07d}.png"
                    write_samples(method, run, state, samples, sheet)
                    writers.image(step, "samples", sheet)
                if validation_due:  # before the checkpoint: what resumes there has its row
                    validation.run(step, run.gather(without_optimizers(state)), writers)
                checkpoints.best = validation.best
                if saving or step == validation.best:
                    checkpoints.save(state, batches.get_state())
            if stopping:
                finished = last
                break

        # ---- The model folder ----
        with jax.transfer_guard("allow"):
            checkpoints.wait()
            checkpoints.close()
            export(method, run.gather(without_optimizers(state)), workdir / "model")
    distributed.barrier()
    if finished:
        logger.info("done at step %d; model folder: %s", int(state.step), workdir / "model")
    else:
        logger.info("stopped at step %d, saved; the same command resumes there", int(state.step))
    return Trained(method, state, workdir / "model", finished)


# ---- Set-up ----


def set_up_workdir(config: ml_collections.ConfigDict, workdir: Path) -> Path:
    """Connect the processes, let only the primary speak, and make the workdir this experiment's.

    Raises:
      UserError: as ``distributed.initialize`` and ``check_workdir_config``; it is an address, or a process does not see
        it.
    """
    refuse_address(workdir)
    distributed.initialize(config.processes)
    if not distributed.is_primary():
        logging.getLogger("simswap_jax").setLevel(logging.ERROR)
    quiet_orbax()
    distributed.broadcast_from_primary(lambda: check_workdir_config(workdir, config))
    require_shared(workdir)
    return workdir


def folders(config: ml_collections.ConfigDict, workdir: Path) -> tuple[Path, Path]:
    """The folder of people and the one for what is computed from it."""
    cache = Path(config.data.cache).expanduser() if config.data.cache else workdir / "data"
    return Path(config.data.root).expanduser(), cache


def training_people(config: ml_collections.ConfigDict, everybody: People, kept_out: Sequence[str]) -> People:
    """The people that are not held out.

    Raises:
      UserError: fewer than two are left.
    """
    without = set(kept_out)
    people = everybody.select([name for name in everybody.names if name not in without])
    if len(people.names) < 2:
        raise UserError(
            f"{config.data.root} leaves {len(people.names)} person to train on, and pairs of different people need 2; "
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
    identity_sha256: str | None = None,
) -> tuple[TrainState, Any]:
    """State and position of the newest checkpoint; else a fresh state, with the networks of ``config.init_from``.

    ``identity_sha256`` is of the identity network trained against, if any: a model folder must be made for it.

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
    state = run.init(key)
    if config.init_from:
        like_config = functools.partial(shapes, people=people, key=key)
        state = init_from(state, config, like_config, CONFIG, identity_sha256)
        logger.info("initialized from the networks of %s", config.init_from)
    return state, None


def shapes(config: ml_collections.ConfigDict, people: People, key: jax.Array) -> PyTree:
    """An experiment's state as shapes, types and shardings."""
    return runner.build(config, methods.build(config, people, runner.axis_name(config))).abstract(key)


def image_share(method: Method, devices: int) -> float:
    """Model FLOPs of one image over the published peak of all devices; 0 where either is not known (a CPU's peak)."""
    chip = chips.chip_of(jax.devices()[0].device_kind)
    return flops.per_image(method) / (chip.peak_flops * devices) if chip else 0.0


def require_shared(workdir: Path) -> None:
    """Every process must see the workdir that process 0 made.

    Raises:
      UserError: in a process that does not.
    """
    if not (workdir / CONFIG).is_file():
        raise UserError(
            f"process {jax.process_index()} does not see the workdir {workdir} that process 0 made; use a folder that "
            "all hosts share.",
            "workdir-not-shared",
        )


def check_workdir_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Make ``workdir`` this experiment's, or refuse.

    Raises:
      UserError: it holds another experiment, or cannot be written.
    """
    wanted = json.loads(config.to_json())
    path = workdir / CONFIG
    try:
        if path.exists():
            stored = experiment.upgraded(json.loads(path.read_text(encoding="utf-8")))
            for name, former, value in experiment.differing(stored, wanted, fields.default_config(config.method)):
                raise UserError(
                    f"{workdir} holds another experiment: config.{name} was {former!r} and is now {value!r}; "
                    "use another --workdir, or the old value to resume.",
                    "workdir-of-another-experiment",
                )
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, wanted)
    except OSError as error:
        raise UserError(
            f"the workdir {workdir} cannot be written: {error.strerror or error}; use another --workdir.",
            "workdir-cannot-be-written",
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is damaged, so it cannot be told which experiment {workdir} holds; use another --workdir.",
            "workdir-config-damaged",
        ) from error


# ---- In the loop ----


def next_batch(batches: Iterator[Any], root: Path, cache: Path) -> Any:
    """The next batch; what a disk can do wrong while it is read is one sentence."""
    try:
        return next(batches)
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
            write_bytes(path, encode_png(contact_sheet.contact_sheet(rows, list(columns), title=SAMPLES)))

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
    checkpoints.close()
    stays = f"the checkpoint of step {kept} stays" if kept else "there is no checkpoint yet"
    raise UserError(
        f"at step {int(state.step)} the networks are not finite and were not saved; {stays}. Start again with "
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


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
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
        if distributed.is_multiprocess():
            os.kill(os.getpid(), signal.SIGTERM)

    heard = (signal.SIGINT,) if distributed.is_multiprocess() else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

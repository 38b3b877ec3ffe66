"""What a training says in the terminal: on what it trains what, what looks wrong, the line of a step, and a bar."""

import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import ml_collections

from simswap_jax.errors import install_command
from simswap_jax.io.progress import Row, table
from simswap_jax.training.experiment import flat
from simswap_jax.training.state import TrainState
from simswap_jax.training.update import SKIPPED
from simswap_jax.weights.identity_folder import Identity

logger = logging.getLogger(__name__)

EARLY = (1, 2, 5, 10, 20, 50, 100)  # steps that are logged whatever log_every says
NORM = "_gradient"  # ends the names of what only the file of metrics gets
LARGE = 10_000_000  # parameters that are trained; on a CPU a step of such networks takes a minute or more
# By the name below /dev: what the machine has, and how JAX gets to use it.
ACCELERATORS = {
    "nvidia[0-9]*": ("an NVIDIA GPU", f"install JAX's plugin for it: {install_command('cuda')}"),
    "kfd": ("an AMD GPU", "install JAX's ROCm plugin"),
    "accel[0-9]*": ("a TPU", f"install JAX's plugin for it: {install_command('tpu')}"),
}


# ---- Before the first step ----


@dataclass(frozen=True)
class Devices:
    """What a run trains on.

    Attributes:
      kind: as JAX names it.
      platform: ``"cpu"``, ``"gpu"`` or ``"tpu"``.
      count: that share a batch.
      processes: that train together.
    """

    kind: str
    platform: str
    count: int
    processes: int = 1


def introduce(config: ml_collections.ConfigDict, method: Any, run: Any, workdir: Path) -> None:
    """Say what is trained, on what, and what looks wrong."""
    devices = devices_of(run.replicated.mesh)
    state = run.abstract(jax.random.PRNGKey(config.seed))
    for line in table(header(config, method, state, devices, workdir)).splitlines():
        logger.info(line)
    trained = sum(parameters(network.params) for network in state.networks.values())
    for sentence in warnings_of(devices, trained):
        logger.warning(sentence)


def devices_of(mesh: Any) -> Devices:
    """The devices of a mesh."""
    first = mesh.devices.flat[0]
    return Devices(first.device_kind, first.platform, mesh.size, jax.process_count())


def header(
    config: ml_collections.ConfigDict, method: Any, state: TrainState, devices: Devices, workdir: Path
) -> list[Row]:
    """The rows that say what is trained, on what, and for how long.

    Args:
      method: what is trained.
      state: its arrays, or their shapes.
    """
    data = config.data
    each = config.batch_size // (devices.count * config.accumulate)
    kind = f"{os.cpu_count()} CPU cores" if devices.platform == "cpu" else devices.kind
    where = f"{devices.count} × {kind}" if devices.platform != "cpu" or devices.count > 1 else kind
    if devices.platform == "cpu" and devices.count > 1:
        where = f"{kind} as {devices.count} devices"
    if devices.processes > 1:
        where += f" in {devices.processes} processes"
    parts = f" in {config.accumulate} micro-batches" if config.accumulate > 1 else ""
    sizes = f"{data.size}×{data.size} pixels"
    if "source_size" in data:
        sizes += f", sources {data.source_size}×{data.source_size}"
    sharing = f"{config.parallel}{f', fsdp over {config.fsdp}' if config.fsdp > 1 else ''}"
    return [
        Row("devices", f"{where}; {sharing}"),
        Row("networks", ", ".join(networks(method, state))),
        Row("precision", precision(config, getattr(method, "identity", None))),
        Row("batch", f"{config.batch_size} images, {each} a device{parts}; {sizes}"),
        Row("schedule", schedule(config)),
        Row("workdir", str(workdir)),
    ]


def networks(method: Any, state: TrainState) -> Iterator[str]:
    """``generator 55.1 M`` of each network that is trained, the largest first; then the frozen one with its name."""
    sizes = {name: parameters(network.params) for name, network in state.networks.items()}
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        yield f"{name} {short_count(size)} parameters"
    if frozen := parameters(method.frozen):
        name = getattr(getattr(method, "identity", None), "name", "")
        yield f"frozen {short_count(frozen)}{f' ({name})' if name else ''}"


def parameters(tree: Any) -> int:
    """How many numbers the arrays of a tree hold."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def short_count(count: int) -> str:
    """``55.1 M``, ``7.3 k``, ``512``."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def precision(config: ml_collections.ConfigDict, identity: Identity | None = None) -> str:
    """What the networks compute in: one type, or that of each. The frozen ``identity`` network may have its own."""
    own = identity.network.config.dtype if identity else "float32"
    fields = flat(config.to_dict())
    types = {name.removesuffix(".dtype"): value or own for name, value in fields.items() if name.endswith(".dtype")}
    if len(set(types.values())) <= 1:
        return str(next(iter(types.values()), "float32"))
    return ", ".join(f"{name} {value}" for name, value in types.items())


def schedule(config: ml_collections.ConfigDict) -> str:
    """Steps, learning rate, and how often something is written."""
    rate = config.optimizer
    warmup = f", warm-up {rate.warmup:,}" if rate.warmup else ""
    samples = f"samples every {config.sample_every:,}, " if config.sample_every else ""
    validated = f", validation every {config.validation.every:,}" if config.validation.every else ""
    return (
        f"{config.steps:,} steps; learning rate {rate.learning_rate:g} {rate.decay}{warmup}; "
        f"log every {config.log_every:,}, {samples}checkpoint every {config.checkpoint_every:,}{validated}"
    )


def warnings_of(
    devices: Devices,
    trained: int,
    environment: Mapping[str, str] = os.environ,
    system: Path = Path("/dev"),
) -> Iterator[str]:
    """Sentences on a training that runs on the CPU and perhaps should not.

    Args:
      trained: how many parameters are trained.
      environment: whoever sets ``JAX_PLATFORMS`` has chosen the CPU.
      system: where the system shows its devices.
    """
    if devices.platform != "cpu":
        return
    if not environment.get("JAX_PLATFORMS"):
        for pattern, (what, remedy) in ACCELERATORS.items():
            if any(system.glob(pattern)):
                yield f"warning: JAX runs on the CPU, though this machine has {what}; stop, and {remedy}."
                break
    if trained >= LARGE:
        yield (
            f"warning: {short_count(trained)} parameters are trained on a CPU, where a step may take a minute; "
            "this recipe is for GPUs and TPUs, celeba_64 and celeba_112 are for CPUs."
        )


# ---- The line of a step ----


def format_speed(images: float) -> str:
    """Images a second with three digits: ``0.83``, ``26.1``, ``1,240``."""
    return f"{images:,.0f}" if images >= 100 else f"{images:.3g}"


# (metrics of a step, the step) → total → label of a share → value
Shares = Callable[[Mapping[str, Any], int], Mapping[str, Mapping[str, float]]]


def is_logged(step: int, every: int) -> bool:
    """Whether a step gets a line and a row: every so many, and some of the first."""
    return step % every == 0 or step in EARLY


def loss_line(
    row: Mapping[str, float], steps: Sequence[tuple[int, Mapping[str, Any]]], shares: Shares | None = None
) -> str:
    """The losses of a row for people.

    Args:
      row: averages by name.
      steps: the steps that were averaged, each with its metrics.
      shares: splits the metrics of a step into totals and their weighted shares; without it, all is named but norms.

    Returns:
      ``G 18.6 = id 9.80 + rec 0.55 + adv 0.44 + fm 7.82 │ D 1.35 = hinge 1.27 + gp 0.08``, or ``loss 0.22 · …``.
    """
    if shares is None or not steps:
        shown = [f"{name} {value:.3g}" for name, value in row.items() if not name.endswith(NORM) and name != SKIPPED]
        return " · ".join(shown)
    split = [shares(metrics, step) for step, metrics in steps]
    lines = []
    for total in split[0]:
        labels = dict.fromkeys(label for each in split for label in each[total])  # a step without a rest names none
        means = {label: sum(each[total].get(label, 0.0) for each in split) / len(split) for label in labels}
        if not means:
            continue
        parts = "".join(f" {'−' if value < 0 else '+'} {label} {abs(value):.2f}" for label, value in means.items())
        lines.append(f"{total} {sum(means.values()):.2f} = {parts.removeprefix(' + ').lstrip()}")
    return " │ ".join(lines)


# ---- The bar ----


@contextmanager
def step_bar(start: int, steps: int, batch_size: int) -> Iterator[Callable[[], None]]:
    """Show a bar in a terminal; elsewhere there is none. Gives what counts a step.

    Args:
      start: how many steps are made.
      steps: the one that ends the training.
      batch_size: images a step.
    """
    if not sys.stderr.isatty() or start >= steps:
        yield lambda: None
        return
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg,unused-ignore]
        """tqdm's, with images a second."""

        @property
        def format_dict(self) -> dict[str, Any]:
            """What the format below may name."""
            found: dict[str, Any] = super().format_dict
            rate = found["rate"] or (found["n"] - found["initial"]) / max(found["elapsed"], 1e-9)
            return {**found, "speed": format_speed(rate * batch_size)}

    layout = "{percentage:3.0f} % |{bar}| {n_fmt}/{total_fmt} · {speed} img/s · ETA {remaining}"
    with Bar(total=steps, initial=start, leave=False, dynamic_ncols=True, bar_format=layout) as bar:

        def count() -> None:
            bar.update()

        yield count

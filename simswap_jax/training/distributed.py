"""Several processes that train together: how they connect, which one writes, and how they agree.

Every process runs the same program on its own devices (a host of a TPU pod, a task of a cluster, a terminal). Only
process 0, the primary, writes into the workdir. A process that was promised others never trains without them: each
would train a model of its own.
"""

import itertools
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import jax
import ml_collections
from jax.experimental import multihost_utils

from simswap_jax.errors import UserError

T = TypeVar("T")

ASK_CLUSTER = -1
TIMEOUT = 7 * 24 * 3600  # seconds that the others wait for what process 0 does; if it dies, they are ended anyway
SHUTDOWN_TIMEOUT = 15  # seconds that a process waits at its end for the others'
_numbers = itertools.count()  # every process asks in the same order, so a number names the question


@dataclass(frozen=True)
class DistributedConfig:
    """How the processes connect.

    Attributes:
      count, index: how many there are and which one this is, counted from 0; None: the cluster says.
      coordinator: ``host:port`` of process 0; None: the cluster says.
    """

    count: int | None
    index: int | None
    coordinator: str | None


def distributed_config(
    fields: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> DistributedConfig | None:
    """What the experiment's fields and the environment say; None where this process is the only one.

    Args:
      fields: ``config.processes``: ``count`` (0: as the environment says, 1: this one alone, −1: as the cluster says),
        ``index`` (−1: as the environment says) and ``coordinator`` ("": as the environment says).
      environment: ``JAX_NUM_PROCESSES``, ``JAX_PROCESS_ID`` and ``JAX_COORDINATOR_ADDRESS`` fill what the fields leave
        open; then SLURM, Open MPI and TPU pods are asked.

    Raises:
      UserError: something is missing, or makes no sense.
    """
    count = fields["count"] or _number(environment, "JAX_NUM_PROCESSES", 0)
    if count < ASK_CLUSTER:
        raise UserError(f"config.processes.count is {count}; use the number of processes, 0 or -1.", "processes-count")
    if count == 1:
        return None
    if count == ASK_CLUSTER or (count == 0 and in_cluster(environment)):
        return DistributedConfig(None, None, None)
    if count == 0:
        return None
    index = fields["index"] if fields["index"] >= 0 else _number(environment, "JAX_PROCESS_ID", -1)
    coordinator = fields["coordinator"] or environment.get("JAX_COORDINATOR_ADDRESS", "")
    if index < 0 and not coordinator and in_cluster(environment):
        return DistributedConfig(None, None, None)
    if not 0 <= index < count:
        raise UserError(
            f"this is process {index} of {count}; give every process its own --config.processes.index (or "
            f"JAX_PROCESS_ID) from 0 to {count - 1}."
            if index >= 0
            else f"there are {count} processes, but not which one this is; give every process its own "
            f"--config.processes.index (or JAX_PROCESS_ID) from 0 to {count - 1}.",
            "processes-index",
        )
    host, colon, port = coordinator.rpartition(":")
    if not host or not colon or not port.isdigit():
        raise UserError(
            f"{count} processes cannot meet at '{coordinator}'; give all of them "
            "--config.processes.coordinator=HOST:PORT (or JAX_COORDINATOR_ADDRESS): the host of process 0 and "
            "a free port there.",
            "processes-coordinator",
        )
    return DistributedConfig(count, index, coordinator)


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether SLURM, Open MPI or a TPU pod says that this process is one of several.

    A TPU pod that tells its workers only through its metadata server is not seen; ``config.processes.count`` −1 asks.
    """
    tasks = max(_number(environment, name, 1) for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
    in_step = "SLURM_STEP_NODELIST" in environment or "OMPI_COMM_WORLD_SIZE" in environment
    workers = environment.get("TPU_WORKER_HOSTNAMES", "").count(",") + 1
    return (tasks > 1 and in_step) or workers > 1 or _number(environment, "MEGASCALE_NUM_SLICES", 1) > 1


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    value = environment.get(name, "")
    try:
        return int(value) if value else otherwise
    except ValueError:
        raise UserError(
            f"the environment's {name} is '{value}'; it must be a whole number.", "processes-environment"
        ) from None


class ProcessesMissing(UserError):
    """Some process did not come in time. Unlike other mistakes it may go well when all are started again."""


def initialize(fields: ml_collections.ConfigDict) -> None:
    """Connect with the other processes, if there are any; call it before JAX makes its first array.

    A second call does nothing.

    Args:
      fields: ``config.processes``; ``wait`` is how many seconds to wait for the others.

    Raises:
      ProcessesMissing: the others did not come in time.
      UserError: they cannot connect.
    """
    here = distributed_config(fields)
    if here is None or jax.distributed.is_initialized():
        return
    failure: list[BaseException] = []

    def connect() -> None:
        try:
            jax.distributed.initialize(
                here.coordinator,
                here.count,
                here.index,
                cluster_detection_method=None if here.count is None else "deactivate",
                # Past its own limit it ends the program with a stack trace, so ours comes first.
                initialization_timeout=fields.wait + 3600,
                shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
            )
        except BaseException as error:
            failure.append(error)

    waiting = threading.Thread(target=connect, daemon=True, name="connecting")
    waiting.start()
    waiting.join(fields.wait)
    if waiting.is_alive():
        who = "processes of the cluster"
        if here.count is not None:
            who = f"{here.count} processes at {here.coordinator}"
        which = "" if here.index is None else f" (this is process {here.index})"
        raise ProcessesMissing(
            f"after {fields.wait} seconds not all of the {who} had come{which}; start all of them within that time "
            "with the same count and coordinator, or raise --config.processes.wait.",
            "processes-missing",
        )
    if failure:
        said = " ".join(str(failure[0]).split())[:200]
        raise UserError(
            f"the processes cannot meet ({said}); look at config.processes.count, index and coordinator.",
            "processes-cannot-connect",
        ) from failure[0]


def is_multiprocess() -> bool:
    """Whether other processes train with this one."""
    return jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def broadcast_from_primary(make: Callable[[], T]) -> T:
    """What ``make`` gives in process 0, told to all; only process 0 calls it.

    Args:
      make: gives something JSON-able.

    Raises:
      UserError: process 0 did.
    """
    if not is_multiprocess():
        return make()
    key = f"simswap_jax/{next(_numbers)}"
    if not is_primary():
        told = json.loads(_client().blocking_key_value_get(key, TIMEOUT * 1000))
        if "refused" in told:
            raise UserError(told["refused"], told["code"])
        return told["made"]
    try:
        made = make()
    except UserError as error:
        _client().key_value_set(key, json.dumps({"refused": str(error), "code": error.code}))
        raise
    _client().key_value_set(key, json.dumps({"made": made}))
    return made


def primary_first(make: Callable[[], T]) -> T:
    """What ``make`` gives here: process 0 calls it first, the others after it, so that they find what it left on disk.

    Raises:
      UserError: ``make`` did, here or in process 0.
    """
    kept: list[T] = []
    broadcast_from_primary(lambda: kept.append(make()))
    return kept[0] if kept else make()


def barrier() -> None:
    """Until every process is here."""
    if is_multiprocess():
        _client().wait_at_barrier(f"simswap_jax/{next(_numbers)}", TIMEOUT * 1000)


def should_stop(step: int, asked: bool) -> bool:
    """Whether all processes stop after this step; every process asks after each of its steps.

    Args:
      step: the step that was started last.
      asked: this process alone was asked to. Where there are several, a signal goes to JAX's own service instead, which
        finds a step that nobody has passed.
    """
    return multihost_utils.reached_preemption_sync_point(step) if is_multiprocess() else asked


def hard_exit(status: int) -> NoReturn:
    """End this process now. JAX would first wait for processes that may never come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _client() -> Any:
    # JAX gives no public door to the store that its processes share; Orbax goes through this one too.
    from jax._src import distributed

    return distributed.global_state.client

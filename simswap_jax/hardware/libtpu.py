"""libtpu where there is no TPU: it compiles, and says nothing of the TPU that it does not find."""

import os
from collections.abc import Iterator, MutableMapping
from importlib.util import find_spec
from pathlib import Path

# What libtpu asks its machine for: a TPU machine knows it, and any answer will do where nothing runs.
MACHINE = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5litepod-4"}
MESSAGES = ("TPU_STDERR_LOG_LEVEL", "TPU_MIN_LOG_LEVEL")
SILENT = {**dict.fromkeys(MESSAGES, "3"), "TPU_LOG_DIR": "disabled"}


def silence(environment: MutableMapping[str, str] = os.environ, devices: Path = Path("/dev")) -> None:
    """Let libtpu be silent in this process, unless a TPU is here or its messages were asked for (`MESSAGES`).

    JAX loads libtpu wherever it is installed, and it would complain on every machine without a TPU. Call it before JAX
    makes its first array.

    Args:
      environment: the process's.
      devices: where the system shows its devices.
    """
    if find_spec("libtpu") is None or any(name in environment for name in MESSAGES) or any(tpus(devices)):
        return
    for name, value in {**MACHINE, **SILENT}.items():
        environment.setdefault(name, value)


def tpus(devices: Path) -> Iterator[Path]:
    """Devices that are TPUs or, passed through to a virtual machine, may be."""
    yield from devices.glob("accel*")
    yield from devices.glob("vfio/[0-9]*")

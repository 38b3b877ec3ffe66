"""Devices to compile for that are not here: TPU slices as libtpu describes them, and CPU devices in place of GPUs."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from simswap_jax.errors import UserError, missing_extra
from simswap_jax.training.chips import Slice


def devices_of(where: Slice) -> Sequence[Any]:
    """Devices to compile for; call it before JAX makes its first array.

    Raises:
      UserError: libtpu is not installed or knows no such slice.
    """
    if where.chip.is_tpu:
        return tpu_devices(where)
    import jax

    with contextlib.suppress(RuntimeError):  # JAX has started
        jax.config.update("jax_num_cpu_devices", where.chips)
    here = jax.devices("cpu")
    if len(here) < where.chips:
        sentence = f"this process has {len(here)} CPU devices; start it with JAX_NUM_CPU_DEVICES={where.chips}."
        raise UserError(sentence, "too-few-cpu-devices")
    return here[: where.chips]


def tpu_devices(where: Slice) -> Sequence[Any]:
    """Devices of a TPU slice that is not here.

    Raises:
      UserError: as ``devices_of``.
    """
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise missing_extra("libtpu", "preflight", "Compiling for a TPU") from error
    # There is no metadata server to ask what TPU this is, and another process may be compiling at the same time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import jax
    from jax.experimental import topologies

    try:
        devices: Sequence[Any] = topologies.get_topology_desc(where.topology, "tpu", **where.chip.libtpu).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[:1] or [""]
        raise UserError(f"libtpu does not know the slice {where.topology} ({first[0]}).", "no-such-slice") from error
    if len(devices) != where.chips:
        sentence = f"the slice {where.topology} has {len(devices)} devices on {where.chips} chips."
        raise UserError(sentence, "slice-of-other-devices")
    return devices

"""XLA's compiler for GPUs that are not here: their devices, and its options where there is none to tune on."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.training.chips import Chip, Slice

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")
DNN = "dnn_version_info { major: 9 minor: 8 }"  # of cuDNN, which decides what convolutions may be asked for


def installed() -> bool:
    """Whether the plug-in that holds the compiler is."""
    return any(importlib.util.find_spec(name) for name in PLUGINS)


def devices(where: Slice) -> Sequence[Any]:
    """Devices to compile for. Without a driver the plug-in works only under ``JAX_PLATFORMS=cpu``.

    Raises:
      UserError: the plug-in is missing, or refuses.
    """
    if not installed():
        raise missing_extra("jax_cuda13_plugin", "preflight-gpu", "Compiling for a GPU")
    import jax
    from jax.experimental import topologies

    # The first axis would be groups of hosts.
    shape = f"1x{where.hosts}x{where.chips // where.hosts}"
    try:
        made: Sequence[Any] = topologies.get_topology_desc(
            where.chip.name, "cuda", target_config=description(where.chip), topology=shape
        ).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"the GPU compiler does not take {where.topology} ({first_line(error)}); set JAX_PLATFORMS=cpu.",
            "no-such-gpu",
        ) from error
    return made


def description(chip: Chip) -> str:
    """XLA's description of a GPU, as a text protocol buffer."""
    return (
        f"gpu_device_info {{ {fields(chip.target)} }} "
        f'platform_name: "CUDA" {DNN} device_description_str: "{chip.kinds[0]}"'
    )


def fields(values: Mapping[str, Any]) -> str:
    """A mapping as fields of a text protocol buffer."""
    return " ".join(
        f"{name} {{ {fields(value)} }}" if isinstance(value, Mapping) else f"{name}: {value}"
        for name, value in values.items()
    )


def options(triton_products: bool) -> dict[str, Any]:
    """XLA's options where there is no GPU to measure on: nothing is tuned.

    Args:
      triton_products: Triton may compile matrix products; else cuBLAS computes them all.
    """
    return {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": triton_products}

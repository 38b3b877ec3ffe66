"""Before hardware is rented: does the training step compile for it, does it fit, how fast can it be at most.

The real training step is lowered and compiled for TPUs or GPUs that are not here, over the mesh and shardings that a
training there would use: libtpu and XLA's GPU compiler run on any CPU.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_collections

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.hardware import gpu
from simswap_jax.hardware.collectives import collectives
from simswap_jax.hardware.costs import costs, estimated_cycles
from simswap_jax.hardware.libtpu import silence
from simswap_jax.hardware.program import read
from simswap_jax.hardware.report import Program, Report
from simswap_jax.training.chips import Slice


def devices_of(where: Slice) -> Sequence[Any]:
    """Devices to compile for; call it before JAX makes its first array.

    Raises:
      UserError: the compiler is not installed or knows no such slice.
    """
    return tpu_devices(where) if where.chip.is_tpu else gpu.devices(where)


def tpu_devices(where: Slice) -> Sequence[Any]:
    """Devices of a TPU slice that is not here.

    Raises:
      UserError: as ``devices_of``.
    """
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise missing_extra("libtpu", "preflight", "Compiling for a TPU") from error
    silence()
    # There is no metadata server to ask what TPU this is, and another process may be compiling at the same time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import jax
    from jax.experimental import topologies

    try:
        devices: Sequence[Any] = topologies.get_topology_desc(where.topology, "tpu", **where.chip.libtpu).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"libtpu does not know the slice {where.topology} ({first_line(error)}).", "no-such-slice"
        ) from error
    if len(devices) != where.chips:
        sentence = f"the slice {where.topology} has {len(devices)} devices on {where.chips} chips."
        raise UserError(sentence, "slice-of-other-devices")
    return devices


WITHOUT_WEIGHTS = "arcface101"  # the identity network's shape where its file is not here


@dataclass(frozen=True)
class PreflightRequest:
    """What is asked for.

    Attributes:
      config: an experiment; its batch size gives way to the slice's.
      where: the slice.
      identity: shape of the identity network, such as ``arcface50``; empty reads the experiment's file, or takes
        ``arcface101`` where that is not here.
      twice: compile for half the batch, too, which tells the largest one that fits.
      triton_products: on GPUs, let Triton compile matrix products; without a GPU to tune on, some do not compile.
    """

    config: ml_collections.ConfigDict
    where: Slice
    identity: str = ""
    twice: bool = False
    triton_products: bool = False


def preflight(request: PreflightRequest) -> Report:
    """Compile an experiment's step for a slice.

    Raises:
      UserError: it cannot be compiled here or does not fit (`DoesNotFit`), with the reason.
    """
    made = report_of(request)
    if not request.twice:
        return made
    batch, parts = request.where.batch_per_chip, request.config.accumulate
    half = max(1, batch // parts // 2) * parts
    second = half if half < batch else 2 * batch
    try:
        other = report_of(replace(request, where=replace(request.where, batch_per_chip=second)))
    except DoesNotFit:
        if second < batch:
            raise
        return made  # what was asked for fits
    return replace(made, growth=(made.memory - other.memory) / (batch - second))


def report_of(request: PreflightRequest) -> Report:
    """What one compilation of the step tells.

    Raises:
      UserError: as ``preflight``.
    """
    where = request.where
    config = checked_config(request)
    devices = devices_of(where)

    import jax

    from simswap_jax.training import flops

    method, network = abstract_method(config, request.identity)
    state = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    step, of_state = step_of(method, devices)
    batch = batch_shapes(method)
    given = per_device(batch, where.chips) if config.parallel == "pmap" else batch
    program = compiled(step, (state, given, method.frozen), request)
    return Report(
        where=where,
        identity=network,
        parameters={name: count_parameters(part.params) for name, part in state.networks.items()}
        | ({"identity (frozen)": count_parameters(method.frozen["params"])} if method.frozen else {}),
        state=bytes_per_chip(state, of_state),
        frozen=count_bytes(method.frozen),
        batch=count_bytes(batch) // where.chips,
        model_flops=flops.per_image(method),
        program=program,
    )


def step_of(method: Any, devices: Sequence[Any]) -> tuple[Any, Any]:
    """The step as the experiment's runner would compile it for these devices, and the shardings of its state.

    Raises:
      UserError: pmap would need several processes.
    """
    from jax.sharding import NamedSharding, PartitionSpec

    from simswap_jax.training import runner, sharding

    config, platform = method.config, devices[0].platform
    if config.parallel == "pmap":
        hosts = len({device.process_index for device in devices})
        if hosts > 1:
            raise UserError(
                f"config.parallel is 'pmap', which serves the devices of one process, and these are {hosts} hosts'; "
                "set it to 'jit'.",
                "pmap-of-several-hosts",
            )
        mesh = sharding.mesh_of(devices, 1)
        return runner.pmapped_step(method, devices, platform), NamedSharding(mesh, PartitionSpec())
    mesh = sharding.mesh_of(devices, config.fsdp)
    of_state = sharding.state_shardings(method, mesh)
    return runner.jitted_step(method, mesh, of_state, platform), of_state


def checked_config(request: PreflightRequest) -> ml_collections.ConfigDict:
    """A copy of the experiment with the slice's batch size.

    Raises:
      UserError: preflight cannot compile it for the slice.
    """
    from simswap_jax.training.config import module_of, needs_people

    config, where = ml_collections.ConfigDict(request.config.to_dict()), request.where
    config.batch_size = where.batch_per_chip * where.chips
    alone = "generator" in config and "identity" not in config and not needs_people(config.method)
    if not alone and not hasattr(module_of(config.method), "from_networks"):
        sentence = f"config.method is '{config.method}'; preflight knows methods that train a generator, as 'simswap'."
        raise UserError(sentence, "preflight-method")
    if where.chips % config.fsdp:
        raise UserError(f"config.fsdp is {config.fsdp}, which does not divide {where.chips} chips.", "fsdp-indivisible")
    if where.batch_per_chip % config.accumulate:
        sentence = f"batch_per_chip {where.batch_per_chip} does not divide by config.accumulate ({config.accumulate})."
        raise UserError(sentence, "accumulate-indivisible")
    return config


def abstract_method(config: ml_collections.ConfigDict, identity: str) -> tuple[Any, str]:
    """The experiment's method, without data or weights, and what its identity network is called, or "none"."""
    from simswap_jax.training import runner
    from simswap_jax.training.config import module_of

    if "identity" not in config:
        return module_of(config.method).build(config, None, runner.axis_name(config)), "none"
    network = identity_network(config, identity)
    return module_of(config.method).from_networks(config, network, runner.axis_name(config)), network.name


def identity_network(config: ml_collections.ConfigDict, shape: str = "") -> Any:
    """The experiment's identity network, or only its shape: what is compiled needs no weights."""
    import jax

    from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
    from simswap_jax.weights import identity_folder, registry

    source = config.identity.weights
    if not shape and (os.path.exists(os.path.expanduser(source)) or registry.locate(source)):
        return identity_folder.read(source, "training against (config.identity.weights)")
    try:
        network = IdentityNetwork(IdentityConfig.from_name(shape or WITHOUT_WEIGHTS))
    except ValueError as error:
        raise UserError(str(error), "no-identity-shape") from error
    name = shape or f"{WITHOUT_WEIGHTS} in place of {source}, which is not here"
    return identity_folder.Identity(network, jax.eval_shape(network.init, jax.random.PRNGKey(0)), "", name, ours=False)


def batch_shapes(method: Any) -> dict[str, Any]:
    """What the loader yields, as shapes of the whole batch."""
    import jax
    import numpy as np

    if hasattr(method, "batch_shapes"):
        shapes: dict[str, Any] = method.batch_shapes()
        return shapes
    data, size = method.config.data, method.config.batch_size
    width = method.generator.identity_size
    images: tuple[tuple[int, ...], Any] = ((size, data.source_size, data.source_size, 3), np.uint8)
    source = {"identity": ((size, width), np.float32)} if data.precompute_embeddings else {"source": images}
    whole = {"target": ((size, data.size, data.size, 3), np.uint8), **source, "same_person": ((size,), np.bool_)}
    return {name: jax.ShapeDtypeStruct(shape, kind) for name, (shape, kind) in whole.items()}


def per_device(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """Shapes of a batch [B, …] as pmap takes it, [devices, B/devices, …]."""
    import jax

    return {
        name: jax.ShapeDtypeStruct((count, whole.shape[0] // count, *whole.shape[1:]), whole.dtype)
        for name, whole in batch.items()
    }


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Compile within it what is not kept in JAX's compilation cache: without a device it could not be read again."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    wanted = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks the setting once
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", wanted)
        compilation_cache.reset_cache()


def compiled(step: Any, arguments: tuple[Any, ...], request: PreflightRequest) -> Program:
    """Lower and compile a jitted step.

    Raises:
      UserError: the compiler finds no room for it.
    """
    import jax

    where = request.where
    options = None if where.chip.is_tpu else gpu.options(request.triton_products)

    began = time.monotonic()
    lowered = step.lower(*arguments)
    lowering = time.monotonic() - began
    began = time.monotonic()
    try:
        with uncached():
            program = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        if request.triton_products and "RESOURCE_EXHAUSTED" not in str(error):
            layer = re.search(r'op_name="([^"]*)"', str(error))
            said = layer[1] if layer else first_line(error)
            raise UserError(
                f"the step does not compile for {where.topology} with Triton's products ({said}); "
                "leave out --triton-products.",
                "triton-products",
            ) from error
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", str(error))
        said = f" (it needs {used[1]} of {used[2]})" if used else ""
        raise DoesNotFit(
            f"{where.batch_per_chip} pictures a chip do not fit into {where.topology}{said}; lower --batch-per-chip, "
            "or set config.generator.remat, config.accumulate or config.fsdp.",
            "does-not-fit",
        ) from error
    compiling = time.monotonic() - began
    return program_of(program, request, lowering, compiling)


def program_of(program: Any, request: PreflightRequest, lowering: float, compiling: float) -> Program:
    """What a compiled step says of itself; the GPU compiler counts neither FLOPs nor bytes, so its text is read."""
    where, loops = request.where, request.config.accumulate
    memory, text = program.memory_analysis(), program.as_text()
    parsed = read(text)
    operations = tuple(costs(parsed, loops))
    # XLA's own count takes a loop's body once, whatever number of micro-batches runs through it.
    counted = (program.cost_analysis() or {}) if loops == 1 else {}
    cycles = estimated_cycles(text)
    return Program(
        # Donated arguments and the results in their place are one.
        arguments=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=counted.get("flops") or float(sum(cost.flops for cost in operations)),
        moved=counted.get("bytes accessed") or float(sum(cost.bytes for cost in operations)),
        cycles=cycles if loops == 1 else cycles and sum(cost.cycles for cost in operations),
        collectives=tuple(
            # A group of all chips is also one of all on another number of chips.
            replace(one, group=()) if len(one.group) == where.chips else one
            for one in collectives(parsed, loops)
        ),
        lowering=lowering,
        compiling=compiling,
        costs=operations,
    )


class DoesNotFit(UserError):
    """The compiler found no room for the step."""


def count_parameters(tree: Any) -> int:
    """Numbers in a tree of arrays."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count_bytes(tree: Any) -> int:
    """Bytes of a tree of arrays."""
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def bytes_per_chip(state: Any, shardings: Any) -> int:
    """Bytes of the state on one chip."""
    import jax

    leaves = jax.tree.leaves(state)
    each = jax.tree.leaves(shardings)
    each = each * len(leaves) if len(each) == 1 else each
    return sum(
        count_bytes(jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype))
        for leaf, sharding in zip(leaves, each, strict=True)
    )

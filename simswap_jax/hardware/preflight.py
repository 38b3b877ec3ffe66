"""`simswap-jax preflight`: before a pod is paid for, does the step compile, does it fit, how fast can it be at most.

The real training step is lowered and compiled for a TPU slice that is not here (libtpu compiles on any CPU), over the
mesh and shardings that a training there would use. GPUs have no compiler here: the same program is compiled for as many
CPU devices, which gives its FLOPs, its memory within reason, and its collectives.
"""

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.hardware.report import Program, Report, table
from simswap_jax.hardware.roofline import bound, collectives, estimated_cycles
from simswap_jax.training import chips
from simswap_jax.training.chips import Slice

WITHOUT_WEIGHTS = "arcface101"  # the identity network's shape where its file is not here


def preflight(config: ml_collections.ConfigDict, where: Slice, identity: str = "") -> Report:
    """Compile an experiment's step for a slice.

    Args:
      config: an experiment of the method ``simswap``; its batch size gives way to the slice's.
      where: the slice.
      identity: shape of the identity network, such as ``arcface50``; empty reads the experiment's file, or takes
        ``arcface101`` where that is not here.

    Raises:
      UserError: it cannot be compiled here or does not fit, with the reason.
    """
    config = ml_collections.ConfigDict(config.to_dict())
    config.batch_size = where.batch_per_chip * where.chips
    if config.method != "simswap":
        raise UserError(f"config.method is '{config.method}'; preflight knows the step of 'simswap'.")
    if config.parallel != "jit":
        raise UserError(f"config.parallel is '{config.parallel}'; preflight compiles the step of 'jit'.")
    if where.chips % config.fsdp:
        raise UserError(f"config.fsdp is {config.fsdp}, which does not divide {where.chips} chips.")
    if where.batch_per_chip % config.accumulate:
        raise UserError(f"batch_per_chip {where.batch_per_chip} does not divide by config.accumulate.")
    devices = devices_of(where)

    import jax

    from simswap_jax.training import flops, runner, sharding, simswap

    network = identity_network(config, identity)
    method: Any = simswap.from_networks(config, network)
    mesh = sharding.mesh_of(devices, config.fsdp)
    of_state = sharding.state_shardings(method, mesh)
    state = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    batch = batch_shapes(method)
    program = compiled(
        method,
        runner.jitted_step(method, mesh, of_state, "tpu" if where.chip.is_tpu else "gpu"),
        (state, batch, method.frozen),
        where,
    )
    return Report(
        where=where,
        identity=network.name,
        parameters={name: count(part.params) for name, part in state.networks.items()}
        | {"identity (frozen)": count(method.frozen["params"])},
        state=resting(state, of_state),
        frozen=size(method.frozen),
        batch=size(batch) // where.chips,
        model_flops=flops.per_image(method),
        program=program,
        bound=bound(program.flops, program.moved, program.collectives, where),
    )


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
        raise UserError(f"this process has {len(here)} CPU devices; start it with JAX_NUM_CPU_DEVICES={where.chips}.")
    return here[: where.chips]


def tpu_devices(where: Slice) -> Sequence[Any]:
    """Devices of a TPU slice that is not here.

    Raises:
      UserError: as ``devices_of``.
    """
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise UserError(
            "compiling for a TPU needs libtpu; install it with pip install 'simswap-jax[preflight]'."
        ) from error
    # There is no metadata server to ask what TPU this is, and another process may be compiling at the same time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    import jax
    from jax.experimental import topologies

    try:
        devices: Sequence[Any] = topologies.get_topology_desc(where.topology, "tpu", **where.chip.libtpu).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[:1] or [""]
        raise UserError(f"libtpu does not know the slice {where.topology} ({first[0]}).") from error
    if len(devices) != where.chips:
        raise UserError(f"the slice {where.topology} has {len(devices)} devices on {where.chips} chips.")
    return devices


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
        raise UserError(str(error)) from error
    name = shape or f"{WITHOUT_WEIGHTS} in place of {source}, which is not here"
    return identity_folder.Identity(network, jax.eval_shape(network.init, jax.random.PRNGKey(0)), "", name, ours=False)


def batch_shapes(method: Any) -> dict[str, Any]:
    """What the loader yields, as shapes of the whole batch."""
    import jax
    import numpy as np

    data, size = method.config.data, method.config.batch_size
    width = method.generator.identity_size
    seen: tuple[tuple[int, ...], Any] = ((size, data.source_size, data.source_size, 3), np.uint8)
    source = {"identity": ((size, width), np.float32)} if data.precompute_embeddings else {"source": seen}
    shapes = {"target": ((size, data.size, data.size, 3), np.uint8), **source, "same_person": ((size,), np.bool_)}
    return {name: jax.ShapeDtypeStruct(shape, kind) for name, (shape, kind) in shapes.items()}


def compiled(method: Any, step: Any, arguments: tuple[Any, ...], where: Slice) -> Program:
    """Lower and compile a jitted step.

    Raises:
      UserError: the compiler finds no room for it.
    """
    import jax

    began = time.monotonic()
    lowered = step.lower(*arguments)
    lowering = time.monotonic() - began
    began = time.monotonic()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", str(error))
        said = f" (it needs {used[1]} of {used[2]})" if used else ""
        raise DoesNotFit(
            f"{where.batch_per_chip} pictures a chip do not fit into {where.topology}{said}; lower --batch-per-chip, "
            "or set config.generator.remat, config.accumulate or config.fsdp."
        ) from error
    compiling = time.monotonic() - began
    memory, costs, text = program.memory_analysis(), program.cost_analysis(), program.as_text()
    return Program(
        # Donated arguments and the results in their place are one.
        arguments=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=costs["flops"],
        moved=costs["bytes accessed"] if where.chip.is_tpu else 0.0,
        cycles=estimated_cycles(text),
        collectives=tuple(collectives(text, method.config.accumulate)),
        lowering=lowering,
        compiling=compiling,
    )


class DoesNotFit(UserError):
    """The compiler found no room for the step."""


def count(tree: Any) -> int:
    """Numbers in a tree of arrays."""
    import jax

    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def size(tree: Any) -> int:
    """Bytes of a tree of arrays."""
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def resting(state: Any, shardings: Any) -> int:
    """Bytes of the state on one chip."""
    import jax

    leaves = jax.tree.leaves(state)
    each = jax.tree.leaves(shardings)
    each = each * len(leaves) if len(each) == 1 else each
    return sum(
        size(jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype))
        for leaf, sharding in zip(leaves, each, strict=True)
    )


def parser() -> argparse.ArgumentParser:
    """Of the verb; fields of the experiment (``--config.name=value``) go to the experiment's own parser."""
    made = argparse.ArgumentParser(
        prog="simswap-jax preflight",
        description="Compile a training step for hardware that is not here: does it fit, how fast can it be at most.",
        epilog="--config.field=value changes the experiment, as in simswap-jax train. Status: 0 fits, 1 does not fit.",
    )
    made.add_argument("--config", required=True, metavar="EXPERIMENT.py", help="an experiment file")
    made.add_argument(
        "--hardware", required=True, metavar="FILE", help="a file of configs/hardware, or a TPU slice such as v5e:16x16"
    )
    made.add_argument("--batch-per-chip", type=int, metavar="N", help="pictures a chip, in place of the file's")
    made.add_argument("--identity", default="", metavar="SHAPE", help="arcface50, …: compile without the weights' file")
    made.add_argument("--bfloat16", action="store_true", help="all three networks compute in bfloat16")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the verb. Status 0: it fits; 1: it does not."""
    words = list(arguments)
    fields = [word for word in words if word.startswith("--config.")]
    asked = parser().parse_args([word for word in words if word not in fields])
    from simswap_jax.cli import train as command

    config, _ = command.parse([f"--config={asked.config}", "--workdir=.", *fields])
    if asked.bfloat16:
        for part in (config.generator, config.discriminator, config.identity):
            part.dtype = "bfloat16"
    where = chips.read(asked.hardware)
    if asked.batch_per_chip is not None:
        if asked.batch_per_chip < 1:
            raise UserError(f"--batch-per-chip is {asked.batch_per_chip}; give 1 or more.")
        where = Slice(where.chip, where.torus, asked.batch_per_chip)
    # Nothing runs here; an accelerator, if there is one, is left alone.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        report = preflight(config, where, asked.identity)
    except DoesNotFit as error:
        print(json.dumps({"fits": False, "why": str(error)}) if asked.json else f"fits: NO. {error}")
        return 1
    print(json.dumps(report.as_dict(), indent=1) if asked.json else table(report))
    if not report.fits:
        print("simswap-jax: the step compiles but does not fit; lower --batch-per-chip.", file=sys.stderr)
    return 0 if report.fits else 1

"""What runs the generator: XLA through JAX, or onnxruntime on CPUs, with the same pixels within one grey level.

On a CPU onnxruntime is the faster one for large generators, and starts without compiling. Each generator is exported
once, into the cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.errors import UserError, first_line, missing_extra
from simswap_jax.inference import sources
from simswap_jax.io.atomic import CannotWrite, write_bytes
from simswap_jax.io.user_folders import cache_folder
from simswap_jax.models import families
from simswap_jax.models.families import SwapNetwork
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.weights.model_folder import ModelFolder

RUNTIMES = ("auto", "jax", "onnx")
_log = logging.getLogger(__name__)

EXPORT = 2  # of the files in the cache; another number exports anew

# (targets uint8 [B, H, W, 3], identity vectors float32 [B, D], where it takes them the targets' own [B, D])
# → (results uint8 [B, H, W, 3], whether all are finite)
Program = Callable[..., tuple[Any, Any]]


def choose(name: str, model: ModelFolder) -> tuple[str, Program]:
    """The runtime that a name stands for, and the generator in it.

    Args:
      name: ``"jax"``, ``"onnx"``, or ``"auto"``: onnxruntime on a CPU where the extra ``onnx`` is installed, else JAX.
      model: what is run.

    Raises:
      UserError: an unknown name; under ``"onnx"`` a generator that has no ONNX form or cannot be opened, or the extra
        is missing.
    """
    if name not in RUNTIMES:
        raise UserError(f"there is no runtime '{name}'; choose one of {', '.join(RUNTIMES)}.", "runtime-unknown")
    if name == "auto":
        exportable = families.of_config(model.generator).onnx is not None and model.generator.dtype == "float32"
        name = "onnx" if exportable and jax.default_backend() == "cpu" and has_extra() else "jax"
        try:
            return name, on_onnxruntime(model) if name == "onnx" else on_jax(model)
        except UserError as error:
            _log.warning("simswap-jax: %s JAX runs the generator.", error)
            return "jax", on_jax(model)
    return name, on_onnxruntime(model) if name == "onnx" else on_jax(model)


def has_extra() -> bool:
    """Whether the extra ``onnx`` can be imported."""
    try:
        return all(import_module(package) for package in ("onnxruntime", "onnx"))
    except ImportError:
        return False


def on_jax(model: ModelFolder) -> Program:
    """The generator compiled by XLA for the default device."""
    # The variables are arguments, never closed over: they would be baked into every program.
    return partial(jax.jit(partial(generate, model.network)), jax.device_put(model.variables))


def finite_results(program: Program, targets: np.ndarray, vectors: np.ndarray, *own: np.ndarray) -> np.ndarray:
    """What a program draws, uint8 [B, H, W, 3].

    Raises:
      UserError: it is not finite; NaN would become black.
    """
    results, finite = program(targets, vectors, *own)
    if not finite:
        raise UserError(
            "the model draws numbers that are not finite (its weights are too large, or damaged); use another "
            "model, or make it again.",
            "result-not-finite",
        )
    return np.asarray(results)


def generate(
    network: SwapNetwork, variables: Any, targets: jax.Array, vectors: jax.Array, own: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """I_R = G(I_T, v_S) on 8-bit pictures. Pure; to be jitted.

    Args:
      network: the generator.
      variables: its Flax variables.
      targets: uint8 [B, H, W, 3].
      vectors: float32 [B, D], as of `sources.given`.
      own: float32 [B, D], the targets' own vectors, of a generator that takes them.

    Returns:
      uint8 [B, H, W, 3]; and whether all results are finite, a bool.
    """
    values = normalize(targets.astype(jnp.float32) / 255.0, network.convention)
    given = sources.given(network, vectors, targets.shape[1])
    given |= {} if own is None else {"target_vector": own}
    results = denormalize(network.apply(variables, values, given).astype(jnp.float32), network.convention)
    return jnp.round(jnp.clip(results, 0.0, 1.0) * 255.0).astype(jnp.uint8), jnp.isfinite(results).all()


def on_onnxruntime(model: ModelFolder) -> Program:
    """The generator in onnxruntime, on the CPU.

    Raises:
      UserError: a generator that has no ONNX form, or the extra ``onnx`` is missing.
    """
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        raise missing_extra("onnxruntime", "onnx", "running the generator in onnxruntime") from error
    options = onnxruntime.SessionOptions()
    # Threads that wait give their core away: to JAX, to the detector, to the other stages of a video.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    place = _place(model)
    exported = _exported(model, place)
    try:
        session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own family of errors, without a common base
        if place is not None:
            place.unlink(missing_ok=True)  # it may be damaged; the next start exports anew
        raise UserError(
            f"onnxruntime cannot open the exported generator ({first_line(error)}); choose the runtime 'jax'.",
            "runtime-unusable",
        ) from error

    def run(targets: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        values = np.ascontiguousarray(targets.transpose(0, 3, 1, 2), np.float32)
        values /= np.float32(255)
        (results,) = session.run(["output"], {"target": values, "source": np.asarray(vectors, np.float32)})
        finite = np.isfinite(results).all()
        if not finite:
            results = np.nan_to_num(results)
        np.clip(results, 0.0, 1.0, out=results)
        results *= np.float32(255)
        pictures = np.rint(results, out=results).astype(np.uint8)
        return np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), finite

    return run


def _place(model: ModelFolder) -> Path | None:
    """Where a model's export is kept; None where there is no cache."""
    cache = cache_folder()
    return None if cache is None else cache / "onnx" / f"{content_hash(model)}.onnx"


def _exported(model: ModelFolder, place: Path | None) -> bytes:
    """The generator as an ONNX file's bytes: out of the cache, or exported and, where there is room, put there."""
    from simswap_jax.weights.onnx_export import export_generator

    if place is not None:
        with suppress(OSError):
            return place.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        written = export_generator(model.generator, model.variables, Path(folder) / "generator.onnx").read_bytes()
    if place is not None:
        with suppress(CannotWrite, OSError):  # no cache to write to: the next start exports again
            write_bytes(place, written)
    return written


def content_hash(model: ModelFolder) -> str:
    """SHA-256 of what an export is made of: the configuration, the weights and the export's version."""
    digest = hashlib.sha256(json.dumps([EXPORT, families.config_to_dict(model.generator)], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

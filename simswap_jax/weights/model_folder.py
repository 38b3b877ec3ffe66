"""The model folder: what training and import leave, and what everything else loads.

::

    config.json              generator, value convention, face size, alignment, identity network, card, sums
    generator.safetensors    Flax variables, names joined by "/" (params/first_layer/conv/kernel)
    identity.safetensors     the identity network, only where it may be passed on
    README.md                the card, for people and model hubs

An identity network that is not ours is named by its file's SHA-256 and looked for by `weights`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import traverse_util

from simswap_jax.errors import UserError
from simswap_jax.io.atomic import replacing_folder
from simswap_jax.io.hashing import file_sha256
from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, layouts, registry, torch_weights
from simswap_jax.weights.layouts import COUNTS

FORMAT = 1
CONFIG, GENERATOR, IDENTITY, CARD = "config.json", "generator.safetensors", "identity.safetensors", "README.md"
ALIGNMENTS = ("simswap", "simswap-frontal", "ffhq", "arcface", "rendered")
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class ModelFolder:
    """A generator with all that using it needs.

    Attributes:
      generator: shape and value convention.
      variables: Flax collections ``params`` and ``batch_stats`` (of the moving average), float32.
      face_size: side of the crops that it was trained on, pixels.
      alignment: the template that crops are aligned to, one of `ALIGNMENTS`.
      identity: shape of the identity network whose vectors it understands.
      identity_variables: that network's Flax collections, float32; None where it was not asked for.
      identity_sha256: of the identity network's weight file: vectors of any other are refused.
      identity_name: that file's name.
      card: licence, training step, experiment, the source file's SHA-256, …; what JSON can hold.
    """

    generator: GeneratorConfig
    variables: Mapping[str, Any]
    face_size: int
    alignment: str
    identity: IdentityConfig
    identity_variables: Mapping[str, Any] | None
    identity_sha256: str
    identity_name: str
    card: dict[str, Any] = field(default_factory=dict)


def write(folder: str | Path, model: ModelFolder, include_identity: bool, dtype: str = "float32") -> Path:
    """Writes a model folder; what stood there is replaced in one move.

    Args:
      folder: a new or empty place, or a model folder.
      model: what to write.
      include_identity: whether the identity network may be passed on (it is ours, or its licence allows it).
      dtype: of weights with two or more dimensions, ``"float32"`` or ``"bfloat16"``; all others stay float32.

    Raises:
      UserError: the parts do not fit each other, something else stands at that place, or it cannot be written.
    """
    folder = Path(folder)
    if dtype not in DTYPES:
        raise UserError(f"'{dtype}' is no number type of a model folder; choose {' or '.join(DTYPES)}.")
    _check_whole(model, f"the model for {folder}")
    if include_identity and model.identity_variables is None:
        raise UserError(f"the identity network for {folder} is to be included but was not loaded; load it first.")
    with replacing_folder(folder, CONFIG) as fresh:
        _fill(fresh, model, include_identity, dtype)
    return folder


def _fill(place: Path, model: ModelFolder, include_identity: bool, dtype: str) -> None:
    files.save(_flat(model.variables, dtype), place / GENERATOR)
    sums = {GENERATOR: file_sha256(place / GENERATOR)}
    if include_identity:
        files.save(_flat(model.identity_variables or {}, dtype), place / IDENTITY)
        sums[IDENTITY] = file_sha256(place / IDENTITY)
    described = {
        "format": FORMAT,
        "preset": model.generator.preset,
        "generator": model.generator.to_dict(),
        "face_size": model.face_size,
        "alignment": model.alignment,
        "identity": {
            "name": model.identity_name,
            "sha256": model.identity_sha256,
            "config": model.identity.to_dict(),
        },
        "card": model.card,
        "sha256": sums,
    }
    (place / CONFIG).write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (place / CARD).write_text(_card(model, include_identity, dtype), encoding="utf-8")


def read(
    folder: str | Path,
    *,
    face_size: int | None = None,
    alignment: str | None = None,
    identity_sha256: str | None = None,
    with_identity: bool = True,
) -> ModelFolder:
    """Reads a model folder.

    Args:
      folder: what `write` left.
      face_size, alignment, identity_sha256: what it is to be used with; a folder made for another is refused.
      with_identity: False leaves the identity network out (export needs none).

    Raises:
      UserError: it is missing, damaged, made for another use, or its identity network is not here.
    """
    folder = Path(folder)
    described = _described(folder)
    try:
        identity = described["identity"]
        model = ModelFolder(
            generator=GeneratorConfig.from_dict(described["generator"]),
            variables={},
            face_size=int(described["face_size"]),
            alignment=str(described["alignment"]),
            identity=IdentityConfig.from_dict(identity["config"]),
            identity_variables=None,
            identity_sha256=str(identity["sha256"]),
            identity_name=str(identity["name"]),
            card=dict(described["card"]),
        )
        sums = dict(described["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"is wrong: {error}".rstrip(".")
        raise UserError(f"the {CONFIG} of {folder} {what}; copy or make the model again.") from error
    check_use(model, folder, face_size, alignment, identity_sha256)
    variables = _read_weights(folder, GENERATOR, sums)
    found = _identity_variables(folder, model, sums) if with_identity else None
    model = replace(model, variables=variables, identity_variables=found)
    _check_whole(model, str(folder))
    return model


def check_use(
    model: ModelFolder,
    name: str | Path,
    face_size: int | None = None,
    alignment: str | None = None,
    identity_sha256: str | None = None,
) -> None:
    """Refuses, with the reason, to use a model with crops or identity vectors that it was not made for.

    Args:
      model: the model.
      name: of its folder, for the sentence.
      face_size, alignment, identity_sha256: what it is to be used with; None: whatever it says.
    """
    if face_size is not None and face_size != model.face_size:
        raise UserError(
            f"{name} was trained on crops of {model.face_size} pixels, not {face_size}; use it at {model.face_size}."
        )
    if alignment is not None and alignment != model.alignment:
        raise UserError(
            f"{name} was trained on faces aligned as '{model.alignment}', not '{alignment}'; align them as it wants."
        )
    if identity_sha256 is not None and identity_sha256 != model.identity_sha256:
        raise UserError(
            f"{name} understands identity vectors of {model.identity_name} (SHA-256 {model.identity_sha256[:16]}…), "
            f"not of another network ({identity_sha256[:16]}…); make the vectors with that one."
        )


def _described(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        reason = "does not exist" if not folder.exists() else f"is no model folder (it has no {CONFIG})"
        raise UserError(f"{folder} {reason}; name a folder that `simswap-jax train` or `simswap-jax import` left.")
    try:
        described = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"the {CONFIG} of {folder} is damaged; copy or make the model again.") from error
    if not isinstance(described, dict) or not isinstance(described.get("format"), int):
        raise UserError(f"the {CONFIG} of {folder} is no description of a model; copy or make the model again.")
    if described["format"] != FORMAT:
        raise UserError(
            f"{folder} is of format {described['format']}, this version reads {FORMAT}; update simswap_jax."
        )
    return described


def _read_weights(folder: Path, name: str, sums: Mapping[str, str]) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder} lacks its {name}; copy or make the model again.")
    content = files.read(path)
    if content.sha256 != sums.get(name):
        raise UserError(f"{path} is not the file that {CONFIG} describes (its SHA-256 differs); copy the model again.")
    flat = {key: np.asarray(a, np.float32) if a.dtype.kind in "fV" else a for key, a in content.tensors.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def _identity_variables(folder: Path, model: ModelFolder, sums: Mapping[str, str]) -> Mapping[str, Any]:
    if IDENTITY in sums:
        return _read_weights(folder, IDENTITY, sums)
    path = registry.find_by_sha256(model.identity_sha256, model.identity_name, f"the identity vectors of {folder}")
    network, variables = torch_weights.load_identity_network(path)
    # How it computes and is shown pictures is the folder's to say; of the file it needs the same weights.
    if list(layouts.identity(network.config)) != list(layouts.identity(model.identity)):
        raise UserError(f"{path} is not the identity network that {folder} describes; copy or make the model again.")
    return variables


def _check_whole(model: ModelFolder, name: str) -> None:
    """Refuses a model whose parts do not fit each other; the sentence names the first part that does not."""
    multiple = model.generator.multiple
    if model.face_size <= 0 or model.face_size % multiple:
        raise UserError(
            f"{name} has a face size of {model.face_size}, which is no multiple of its generator's {multiple}."
        )
    if model.alignment not in ALIGNMENTS:
        raise UserError(f"{name} has the alignment '{model.alignment}'; known are {', '.join(ALIGNMENTS)}.")
    if model.identity.embedding != model.generator.identity_size:
        raise UserError(
            f"{name} has an identity network of {model.identity.embedding} numbers and a generator that takes "
            f"{model.generator.identity_size}; choose the network that the generator was trained with."
        )
    side, length = multiple * 2, model.generator.identity_size
    inputs = (jnp.zeros((1, side, side, 3)), jnp.zeros((1, length)))
    check_tree(model.variables, jax.eval_shape(Generator(model.generator).init, jax.random.key(0), *inputs), name)
    if model.identity_variables is not None:
        wanted = jax.eval_shape(IdentityNetwork(model.identity).init, jax.random.key(0))
        check_tree(model.identity_variables, wanted, f"the identity network of {name}")


def check_tree(variables: Mapping[str, Any], wanted: Any, name: str) -> None:
    """Refuses variables that are not a network's own, naming the first that is missing, misshapen or too many.

    Args:
      variables: Flax collections.
      wanted: what the network's ``init`` makes, as shapes.
      name: what they are of, for the sentence.
    """
    counts = f"{COUNTS}/"  # PyTorch's, kept for the way back
    has = {key: tuple(np.shape(v)) for key, v in _flatten(variables).items() if not key.startswith(counts)}
    needs = {key: tuple(value.shape) for key, value in _flatten(wanted).items()}
    for key in needs:
        if key not in has:
            raise UserError(f"{name} lacks the weights {key}; copy or make it again.")
        if has[key] != needs[key]:
            raise UserError(f"{name} has {key} of shape {has[key]}, its configuration needs {needs[key]}.")
    for key in has:
        if key not in needs:
            raise UserError(f"{name} has weights {key}, which its configuration does not know; copy or make it again.")


def _flatten(variables: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(dict(variables), sep="/")


def _flat(variables: Mapping[str, Any], dtype: str) -> dict[str, np.ndarray]:
    def rounded(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind in "iu":  # PyTorch's counts
            return array
        return array.astype(DTYPES[dtype if array.ndim > 1 else "float32"], copy=False)

    return {name: rounded(np.asarray(value)) for name, value in _flatten(jax.device_get(variables)).items()}


def _card(model: ModelFolder, include_identity: bool, dtype: str) -> str:
    """README.md of a model folder: what a person, or a model hub, must know."""
    licence = str(model.card.get("licence", "unstated"))
    shape = model.generator
    rows = {
        "Generator": f"preset {shape.preset}, widths {list(shape.widths)}, {shape.blocks} ID blocks",
        "Value convention": shape.convention,
        "Face crops": f"{model.face_size}×{model.face_size}, aligned as '{model.alignment}'",
        "Identity network": f"{model.identity_name} ({model.identity.family}, {model.identity.embedding} numbers), "
        + ("included" if include_identity else "not included, found by its SHA-256"),
        "Identity network's SHA-256": f"`{model.identity_sha256}`",
        "Weights": dtype,
        **{_heading(key): _cell(value) for key, value in model.card.items()},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
license: other
license_name: {json.dumps(licence)}
library_name: simswap_jax
tags: [face-swapping, simswap, jax, flax]
---

# A SimSwap model

Re-draws a target face with the identity of a source (SimSwap, ACM MM 2020). Load it with
`FaceSwapper.from_pretrained(folder)` of simswap_jax. Swap only faces of people who agreed, and mark the results.

| | |
|---|---|
{table}
"""


def _heading(key: str) -> str:
    return key.replace("_", " ").capitalize().replace("sha256", "SHA-256")


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("|", "\\|").replace("\n", " ")

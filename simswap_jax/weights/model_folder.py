"""The model folder: what training and import leave, and what everything else loads.

::

    config.json              generator (with its family), face size, alignment, identity network, card, sums
    generator.safetensors    Flax variables, names joined by "/" (params/first_layer/conv/kernel)
    identity.safetensors     the identity network, only where it may be passed on
    README.md                the card, for people and model hubs

An identity network that is not ours is named by its file's SHA-256 and looked for by `weights`; a generator that takes
no identity vector may come without one. Format 2; format 1, of before there were families, is read, too.
"""

import functools
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util

from simswap_jax.errors import UserError, printable
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.io.atomic import file_sha256, is_file, is_folder, replacing_folder
from simswap_jax.models import families
from simswap_jax.models.families import FamilyConfig, SwapNetwork
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, folder_config, layouts, registry, torch_weights
from simswap_jax.weights.folder_config import CONFIG
from simswap_jax.weights.layouts import COUNTS
from simswap_jax.weights.model_names import find_model, shipped

FORMAT = 2
READ = (1, 2)
GENERATOR, IDENTITY, CARD = "generator.safetensors", "identity.safetensors", "README.md"
# Packages whose crops come aligned: the last word of the name is an alignment that no detector finds in photos.
ALIGNED_CROPS = ("simswap_jax.contrib.rendered",)
ALIGNMENTS = (*TEMPLATES, *(name.rpartition(".")[2] for name in ALIGNED_CROPS))
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class ModelFolder:
    """A generator with all that using it needs.

    Attributes:
      generator: the configuration of a generator of any family.
      variables: Flax collections ``params`` and ``batch_stats`` (of the moving average), float32.
      face_size: side of the crops that it was trained on, pixels.
      alignment: the template that crops are aligned to, one of `ALIGNMENTS`.
      identity: shape of the identity network whose vectors it understands; None where it takes no vector and comes
        without one.
      identity_variables: that network's Flax collections, float32; None where it was not asked for.
      identity_sha256: of the identity network's weight file: vectors of any other are refused.
      identity_name: that file's name.
      card: licence, training step, experiment, the source file's SHA-256, …; what JSON can hold.
    """

    generator: FamilyConfig
    variables: Mapping[str, Any]
    face_size: int
    alignment: str
    identity: IdentityConfig | None
    identity_variables: Mapping[str, Any] | None
    identity_sha256: str
    identity_name: str
    card: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def network(self) -> SwapNetwork:
        """The generator: ``network.apply(variables, target, given)``."""
        return families.build(self.generator)

    @functools.cached_property
    def identity_network(self) -> IdentityNetwork:
        """The identity network whose vectors it understands.

        Raises:
          UserError: it comes without one.
        """
        if self.identity is None:
            raise UserError(
                f"this model, a generator of the family {self.network.family.name}, has no identity network, and what "
                "was asked for looks at whose face a picture shows; use a model that takes identity vectors.",
                "model-takes-no-vectors",
            )
        return IdentityNetwork(self.identity)


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
        raise UserError(
            f"'{dtype}' is no number type of a model folder; choose {' or '.join(DTYPES)}.", "model-folder-dtype"
        )
    _check_whole(model, f"the model for {folder}")
    if include_identity and model.identity_variables is None:
        raise UserError(
            f"the identity network for {folder} is to be included but was not loaded; load it first.",
            "identity-not-loaded",
        )
    with replacing_folder(folder, (CONFIG, GENERATOR), optional=(IDENTITY, CARD)) as fresh:
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
        "generator": families.config_to_dict(model.generator),
        "face_size": model.face_size,
        "alignment": model.alignment,
        "identity": None
        if model.identity is None
        else {
            "name": model.identity_name,
            "sha256": model.identity_sha256,
            "config": model.identity.to_dict(),
        },
        "card": model.card,
        "sha256": sums,
    }
    (place / CONFIG).write_bytes(folder_config.dump(described))
    (place / CARD).write_bytes(_card(model, include_identity, dtype).encode("utf-8", "backslashreplace"))


def read(
    folder: str | Path,
    *,
    face_size: int | None = None,
    alignment: str | None = None,
    identity_sha256: str | None = None,
    with_identity: bool = True,
    with_included: bool = False,
) -> ModelFolder:
    """Reads a model folder.

    Args:
      folder: what `write` left, or the name of a model that ships (`find_model`).
      face_size, alignment, identity_sha256: what it is to be used with; a folder made for another is refused.
      with_identity: False leaves the identity network out (export needs none).
      with_included: reads the identity network, too, if it lies in the folder.

    Raises:
      UserError: it is missing, damaged, made for another use, or its identity network is not here.
    """
    folder = find_model(folder)
    fields, sums = _described(folder)
    model = ModelFolder(variables={}, identity_variables=None, **fields)
    check_use(model, folder, face_size, alignment, identity_sha256)
    variables = _read_weights(folder, GENERATOR, sums)
    wanted = model.identity is not None and (with_identity or (with_included and IDENTITY in sums))
    found = _identity_variables(folder, model, sums) if wanted else None
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
            f"{name} was trained on crops of {model.face_size} pixels, not {face_size}; use it at {model.face_size}.",
            "model-face-size",
        )
    if alignment is not None and alignment != model.alignment:
        raise UserError(
            f"{name} was trained on faces aligned as '{model.alignment}', not '{alignment}'; align them as it wants.",
            "model-alignment",
        )
    if identity_sha256 is not None and identity_sha256 != model.identity_sha256:
        raise UserError(
            f"{name} understands identity vectors of {model.identity_name} (SHA-256 {model.identity_sha256[:16]}…), "
            f"not of another network ({identity_sha256[:16]}…); make the vectors with that one.",
            "model-identity",
        )


def _described(folder: Path) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The fields of `ModelFolder` that its config.json tells, and the sums of its files."""
    if not is_file(folder / CONFIG):
        reason = f"is no model folder (it has no {CONFIG})" if is_folder(folder) else "does not exist"
        raise UserError(
            f"{printable(folder)} {reason}; name a folder that `simswap-jax train` or `simswap-jax import` left, or a "
            f"model that ships: {', '.join(shipped())}.",
            "not-a-model-folder",
        )
    try:
        described = folder_config.load(folder / CONFIG)
        if not isinstance(described, dict) or type(described.get("format")) is not int:
            raise ValueError("is no description of a model")
        _check_format(folder, described["format"])
        fields = folder_config.model(described)
    except (ValueError, OSError) as error:
        if isinstance(error, UserError):
            raise
        what = "cannot be read" if isinstance(error, OSError) else error
        raise UserError(
            f"the {CONFIG} of {folder} {what}; copy or make the model again.", "model-folder-config"
        ) from error
    return fields, fields.pop("sha256")


def _check_format(folder: Path, found: int) -> None:
    if found not in READ:
        known = " and ".join(map(str, READ))
        raise UserError(
            f"{folder} is of format {reprlib.repr(found)}, this version reads {known}; update simswap_jax.",
            "model-folder-format",
        )


def _read_weights(folder: Path, name: str, sums: Mapping[str, str]) -> dict[str, Any]:
    path = folder / name
    if not is_file(path):
        raise UserError(f"{folder} lacks its {name}; copy or make the model again.", "model-folder-incomplete")
    content = files.read(path)
    if content.sha256 != sums.get(name):
        raise UserError(
            f"{path} is not the file that {CONFIG} describes (its SHA-256 differs); copy the model again.",
            "model-folder-changed",
        )
    with np.errstate(over="ignore"):  # a number too large for float32 is found not to be finite
        flat = {key: np.asarray(a, np.float32) if a.dtype.kind in "fV" else a for key, a in content.tensors.items()}
    return unflattened(flat, path)


def _identity_variables(folder: Path, model: ModelFolder, sums: Mapping[str, str]) -> Mapping[str, Any]:
    if IDENTITY in sums:
        return _read_weights(folder, IDENTITY, sums)
    path = registry.find_by_sha256(model.identity_sha256, model.identity_name, f"the identity vectors of {folder}")
    network, variables = torch_weights.load_identity_network(path)
    # How it computes and is shown pictures is the folder's to say; of the file it needs the same weights.
    if list(layouts.identity(network.config)) != list(layouts.identity(model.identity_network.config)):
        raise UserError(
            f"{path} is not the identity network that {folder} describes; copy or make the model again.",
            "model-identity-file",
        )
    return variables


def _check_whole(model: ModelFolder, name: str) -> None:
    """Refuses a model whose parts do not fit each other; the sentence names the first part that does not."""
    network = model.network
    check_face_size(network, model.face_size, name)
    if model.alignment not in ALIGNMENTS:
        raise UserError(
            f"{name} has the alignment '{printable(model.alignment)}'; known are {', '.join(ALIGNMENTS)}.",
            "unknown-alignment",
        )
    check_identity_size(network, model.identity, name)
    check_tree(model.variables, _generator_shapes(network, model.face_size, name), name)
    if model.identity_variables is not None:
        wanted = layouts.flax_shapes(layouts.identity(model.identity_network.config))
        check_tree(model.identity_variables, wanted, f"the identity network of {name}")


def check_face_size(network: SwapNetwork, size: int, name: str) -> None:
    """A UserError for a side of the crops that a generator cannot draw; ``name`` is the model's, for the sentence."""
    if size < network.least_size or size % network.multiple:
        raise UserError(
            f"{name} has a face size of {size}; its generator needs a multiple of {network.multiple}, "
            f"{network.least_size} or more.",
            "model-face-size-multiple",
        )


def check_identity_size(network: SwapNetwork, identity: IdentityConfig | None, name: str) -> None:
    """A UserError for a generator of vectors without the network that makes them, or with one of another length."""
    if network.identity_size is None:
        return
    if identity is None:
        raise UserError(
            f"{name} has a generator that takes identity vectors, and no identity network; make the model again.",
            "model-without-identity-network",
        )
    if identity.embedding != network.identity_size:
        raise UserError(
            f"{name} has an identity network of {identity.embedding} dimensions and a generator that takes "
            f"{network.identity_size}; choose the network that the generator was trained with.",
            "model-identity-size",
        )


def _generator_shapes(network: SwapNetwork, size: int, name: str) -> Mapping[str, tuple[int, ...]]:
    """What the network's ``init`` makes: from its PyTorch layout, where it has one; tracing takes seconds."""
    family = network.family
    if family.torch is not None:
        return layouts.flax_shapes(families.resolve(family.torch.layout)(network.config))
    try:
        made = jax.eval_shape(lambda key: network.init(key, size), jax.random.key(0))
    except Exception as error:  # whatever a family from outside makes of a configuration that it cannot build
        what = printable(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(
            f"the generator of {name} cannot be built as its configuration says ({what}); copy or make it again.",
            "model-cannot-be-built",
        ) from error
    return {key: tuple(value.shape) for key, value in _flatten(made).items()}


def check_tree(variables: Mapping[str, Any], needs: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Refuses variables that are not a network's own or not finite, naming the first that is at fault.

    Args:
      variables: Flax collections.
      needs: the shapes of what the network's ``init`` makes, by names joined by "/".
      name: what they are of, for the sentence.
    """
    has = _flatten(variables)
    counts = {key: has.pop(key) for key in list(has) if key.startswith(f"{COUNTS}/")}  # PyTorch's, for the way back
    for key, shape in needs.items():
        if key not in has:
            raise UserError(f"{name} lacks the weights {key}; copy or make it again.", "variables-missing")
        if np.shape(has[key]) != shape:
            raise UserError(
                f"{name} has {key} of shape {np.shape(has[key])}, its configuration needs {shape}.", "variables-shape"
            )
    unknown = next((key for key in has if key not in needs), None)
    if unknown is not None:
        raise UserError(
            f"{name} has weights {printable(unknown)}, which its configuration does not know; copy or make it again.",
            "variables-unknown",
        )
    for key, value in {**has, **counts}.items():
        numbers = "iuf" if key in counts else "fV"  # former versions averaged counts
        if value.dtype.kind not in numbers or (key in counts and value.ndim):
            raise UserError(
                f"{name} has {printable(key)} of type {value.dtype}; copy or make it again.", "variables-type"
            )
    check_finite({**has, **counts}, name)


def check_finite(arrays: Mapping[str, Any], name: str) -> None:
    """Refuses arrays of which one is not finite.

    Args:
      arrays: by name.
      name: what they are of, for the sentence.
    """
    wrong = files.first_not_finite(arrays)
    if wrong:
        raise UserError(
            f"{name} has weights that are not finite (NaN or infinite), {wrong} the first of them: its training "
            "diverged, or it is damaged; take an earlier checkpoint or another copy.",
            "variables-not-finite",
        )


def unflattened(flat: Mapping[str, np.ndarray], path: Path) -> dict[str, Any]:
    """A tree of variables from names joined by "/".

    Args:
      flat: by name.
      path: the file that they are of, for the sentence.

    Raises:
      UserError: one name is a folder of another.
    """
    try:
        return traverse_util.unflatten_dict(flat, sep="/")
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise UserError(
            f"{path} has names that are part of each other; copy or make it again.", "variables-names"
        ) from error


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
    rows = {
        "Generator": f"{model.network.family.name}: {model.network.family.describe(model.generator)}",
        "Input normalization": model.network.convention,
        "Face crops": f"{model.face_size}×{model.face_size}, aligned as '{model.alignment}'",
        **_identity_rows(model, include_identity),
        "Weights": dtype,
        **{_heading(key): _cell(value) for key, value in model.card.items()},
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
license: other
license_name: {json.dumps(licence)}
library_name: simswap_jax
tags: [face-swapping, {model.network.family.name.replace(":", ".")}, jax, flax]
---

# A face-swapping model

Transfers the identity of a source face onto a target face. Load it with `FaceSwapper.from_pretrained(folder)` of
simswap_jax. Only swap faces of people who consented, and disclose that the result is synthetic.

| | |
|---|---|
{table}
"""


def _identity_rows(model: ModelFolder, include_identity: bool) -> dict[str, str]:
    if model.identity is None:
        return {"Identity network": "none"}
    where = "included" if include_identity else "not included, found by its SHA-256"
    shape = f"{model.identity.family}, {model.identity.embedding} dimensions"
    return {
        "Identity network": f"{model.identity_name} ({shape}), {where}",
        "Identity network's SHA-256": f"`{model.identity_sha256}`",
    }


def _heading(key: str) -> str:
    return key.replace("_", " ").capitalize().replace("sha256", "SHA-256")


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("|", "\\|").replace("\n", " ")

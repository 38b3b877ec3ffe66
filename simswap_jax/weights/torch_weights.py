"""PyTorch weights ↔ Flax variables, both directions, for every network.

``load_*`` take a path (``.pth``, ``.tar``, ``.ckpt``, ``.safetensors``), a `WeightFile` that was read already, or a
mapping of arrays with PyTorch's names, read the network's shape from the keys, and return ``(network, variables)``;
``*_state_dict`` go back, to PyTorch's names, order and shapes. A missing, unused or misshapen key is a UserError that
names it. Every number becomes float32; ``num_batches_tracked``, which Flax does not use, rides along as int64 in a
collection of its own where it is not 0.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from simswap_jax.errors import UserError, printable
from simswap_jax.models import DiscriminatorConfig, GeneratorConfig, MultiScaleDiscriminator, families
from simswap_jax.models.config import MOST_STAGES, AnyConfig
from simswap_jax.models.face_parsing import BiSeNet
from simswap_jax.models.families import Family
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.projected_discriminator import ProjectedConfig, ProjectedDiscriminator
from simswap_jax.weights import files, layouts
from simswap_jax.weights.files import WeightFile
from simswap_jax.weights.layouts import COUNTS, Leaf

Source = str | os.PathLike[str] | WeightFile | Mapping[str, Any]
Variables = dict[str, Any]
StateDict = dict[str, np.ndarray]

# A key that only one kind of network has, to say what a wrong file looks like.
_SIGNS = {
    "first_layer.1.weight": "a SimSwap generator",
    "conv2.0.weight": "a patch discriminator",
    "feature_network.scratch.layer0_ccm.weight": "a projected discriminator",
    "conv_stem.weight": "an EfficientNet",
    "dw_conv1.conv.weight": "a MobileFaceNet",
    "layer1.0.bn0.weight": "SimSwap's ArcFace",
    "features.weight": "an InsightFace iResNet",
    "cp.resnet.conv1.weight": "a BiSeNet for face parsing",
}
_SIGNS_OF = {kind: key for key, kind in _SIGNS.items()}
IDENTITY_SIGNS = [_SIGNS_OF[kind] for kind in ("a MobileFaceNet", "SimSwap's ArcFace", "an InsightFace iResNet")]
MOST_DIGITS = 9  # of a number in a key


# --- loading --------------------------------------------------------------------------------------------------------


def load_generator(
    src: Source,
    convention: str = "unit",
    *,
    preset: str | None = None,
    dtype: str = "float32",
    settings: Mapping[str, Any] | None = None,
    family: str = families.SIMSWAP.name,
) -> tuple[Any, Variables]:
    """A generator of any width; its shape is read from the keys.

    Args:
      src: a weight file, by its path or read already, or a mapping of arrays.
      convention: ``"unit"`` or ``"imagenet"``; nothing in the file tells which, so it is what you say.
      preset: refuse the weights unless they are of this preset.
      dtype: what the generator is to compute in.
      settings: fields of the configuration that no key tells, of the family's ``TorchNames.settings``: a compact
        generator's ``mask_stride``, ``colour_cell`` and ``light_cell``.
      family: whose layout the weights are in; the paper's generator and the compact one share theirs, and are told
        apart by the keys.

    Returns:
      The Flax module, which knows its ``config``, and its variables.

    Raises:
      UserError: the weights are not a generator's, or not the preset's, or a key is missing, unused or misshapen; or
        the family has no PyTorch layout, or no such setting.
    """
    try:
        names = _torch_names(families.get(family))
        _check_settings(settings or {}, names, family)
        tensors, name = _open(src, signs(family))
        untold = (settings or {},) if names.settings else ()
        config = families.resolve(names.config)(tensors, name, convention, dtype, *untold)
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, UserError) else UserError(str(error), "generator-config") from error
    found = getattr(config, "preset", "custom")
    if preset is not None and found != preset:
        described = families.of_config(config).describe(config)
        raise UserError(
            f"{name} holds a generator of preset {found} ({described}), not {preset}; ask for {found} or give another "
            "file.",
            "generator-preset",
        )
    variables = _to_variables(tensors, families.resolve(names.layout)(config), name)
    return families.build(config).module, variables


def _check_settings(settings: Mapping[str, Any], names: families.TorchNames, family: str) -> None:
    strange = next((name for name in settings if name not in names.settings), None)
    if strange is not None:
        known = f"they are {', '.join(names.settings)}" if names.settings else "there are none"
        raise UserError(
            f"{printable(strange)} is no setting that a PyTorch file of the family {family} leaves open; {known}.",
            "generator-setting",
        )


def generator_config(
    tensors: Mapping[str, np.ndarray], name: str, convention: str, dtype: str, settings: Mapping[str, Any]
) -> GeneratorConfig:
    """The paper's generator, or a compact one, that has these keys and shapes.

    Args:
      tensors: arrays under PyTorch's names.
      name: what to call them in a message.
      convention, dtype, settings: what no key tells.

    Raises:
      UserError: they are not a generator's.
      ValueError: they cannot be one's.
    """
    kind = "a SimSwap generator"
    downs = _numbers(tensors, r"(?:down|up)(\d+)\.", least=2)
    first_down = 0 if 0 in downs else 1
    stem = "first_layer.1.weight"
    widths = [_size(tensors, stem, 0, name, kind)]
    for number in range(first_down, max(downs, default=first_down) + 1):
        widths.append(_size(tensors, f"down{number}.0.weight", 0, name, kind))
    unshuffle = max(1, round((_size(tensors, stem, 1, name, kind) / 3) ** 0.5))
    return families.config_from_dict(  # a compact one only where the stem or the last layer is not the paper's
        {
            "widths": widths,
            "blocks": max(_numbers(tensors, r"BottleNeck\.(\d+)\.", least=2), default=0) + 1,
            "identity_size": _size(tensors, "BottleNeck.0.style1.linear.weight", 1, name, kind),
            "convention": convention,
            "first_down": first_down,
            "unshuffle": unshuffle,
            "stem_kernel": _size(tensors, stem, 2, name, kind),
            "composition_mask": _size(tensors, "last_layer.1.weight", 0, name, kind) == 4,
            "dtype": dtype,
            **settings,
        }
    )


def signs(family: str) -> tuple[str, ...]:
    """Keys by which a family's weights are known among others (`files.read`).

    Raises:
      ValueError: there is no such family.
    """
    names = families.get(family).torch
    return (names.sign,) if names is not None and names.sign else ()


def _torch_names(family: Family) -> families.TorchNames:
    if family.torch is None:
        raise UserError(
            f"Generators of the family {family.name} have no PyTorch layout; keep them as model folders.",
            "family-without-pytorch",
        )
    return family.torch


def load_discriminator(*sources: Source) -> tuple[MultiScaleDiscriminator, Variables]:
    """The multi-scale discriminator, one source per scale (``latest_net_D1.pth``, ``latest_net_D2.pth``), finest first.

    Raises:
      UserError: no source, weights of another network, scales that differ in shape, or a key at fault.
    """
    if not sources:
        raise UserError(
            "No weights were given for the discriminator; give one file per scale.", "no-discriminator-weights"
        )
    opened = [_open(src, [_SIGNS_OF["a patch discriminator"]]) for src in sources]
    configs = [_discriminator_config(tensors, name, len(sources)) for tensors, name in opened]
    for (_, name), config in zip(opened, configs):
        if config != configs[0]:
            raise UserError(
                f"{name} has another shape than {opened[0][1]}; all scales must have the same widths and norm.",
                "discriminator-scales-differ",
            )
    parts = [_to_variables(tensors, layouts.discriminator(configs[0]), name) for tensors, name in opened]
    variables: Variables = {}
    for i, part in enumerate(parts, start=1):
        for collection, tree in part.items():
            variables.setdefault(collection, {})[f"d{i}"] = tree
    return MultiScaleDiscriminator(configs[0]), variables


def _discriminator_config(tensors: Mapping[str, np.ndarray], name: str, scales: int) -> DiscriminatorConfig:
    kind = "a patch discriminator"
    last = max(_numbers(tensors, r"down(\d+)\."), default=1)
    fields = {
        "widths": [_size(tensors, f"down{i}.0.weight", 0, name, kind) for i in range(1, last + 1)],
        "tail": _size(tensors, "conv1.0.weight", 0, name, kind),
        "scales": scales,
        "norm": "batch" if any(re.match(r"(down\d+|conv1)\.1\.", key) for key in tensors) else "none",
    }
    return _made(DiscriminatorConfig.from_dict, fields, name, kind)


def load_projected_discriminator(src: Source) -> tuple[ProjectedDiscriminator, Variables]:
    """The public train script's discriminator (``*_net_D.pth``), or timm's ``tf_efficientnet_lite0``: its features.

    Returns:
      The Flax module, and its variables; of an EfficientNet only ``frozen``'s backbone.

    Raises:
      UserError: weights of another network, or a key is missing, unused or misshapen.
    """
    whole, backbone = "a projected discriminator", "an EfficientNet"
    tensors, name = _open(src, [_SIGNS_OF[whole], _SIGNS_OF[backbone]])
    if _SIGNS_OF[backbone] not in tensors:
        base = _size(tensors, _SIGNS_OF[whole], 0, name, whole)
        config = _projected_config(tensors, name, whole, layouts.LITE0, base)
        return ProjectedDiscriminator(config), _to_variables(tensors, layouts.projected_discriminator(config), name)
    config = _projected_config(tensors, name, backbone, layouts.TIMM_LITE0, ProjectedConfig.projected)
    features = {key: value for key, value in tensors.items() if not key.startswith(_CLASSIFIER)}
    leaves = layouts.projected_features(config, layouts.TIMM_LITE0)
    return ProjectedDiscriminator(config), _to_variables(features, leaves, name)


_CLASSIFIER = ("conv_head.", "bn2.", "classifier.")  # of an EfficientNet: what stands behind its features


def _projected_config(
    tensors: Mapping[str, np.ndarray], name: str, kind: str, names: Sequence[str], base: int
) -> ProjectedConfig:
    stem, _, *stages = names
    fields = {
        "stem": _size(tensors, f"{stem}.weight", 0, name, kind),
        "widths": [
            _size(tensors, f"{stage}.0.{'conv_pwl' if i else 'conv_pw'}.weight", 0, name, kind)
            for i, stage in enumerate(stages)
        ],
        "repeats": [
            max(_numbers(tensors, rf"{re.escape(stage)}\.(\d+)\.", least=2), default=0) + 1 for stage in stages
        ],
        "projected": base,
    }
    return _made(ProjectedConfig.from_dict, fields, name, kind)


def load_identity_network(src: Source) -> tuple[IdentityNetwork, Variables]:
    """SimSwap's ArcFace, an iResNet or a MobileFaceNet; family, depth, SE and width are read from the keys.

    Raises:
      UserError: none of the three, or a key is missing, unused or misshapen.
    """
    tensors, name = _open(src, IDENTITY_SIGNS)
    if any(key.startswith(("dw_conv1.", "linear7.")) for key in tensors):
        config = _mobilefacenet_config(tensors, name)
    elif any(re.match(r"layer\d+\.\d+\.", key) for key in tensors):
        config = _residual_config(tensors, name)
    else:
        raise UserError(
            f"{name} is not an identity network{_likeness(tensors)}; give an ArcFace, iResNet or MobileFaceNet.",
            "not-an-identity-network",
        )
    return IdentityNetwork(config), _to_variables(tensors, layouts.identity(config), name)


def _residual_config(tensors: Mapping[str, np.ndarray], name: str) -> IdentityConfig:
    # Only ArcFace's blocks have a bn0.
    arcface = any(re.match(r"layer\d+\.\d+\.bn0\.", key) for key in tensors)
    kind = "SimSwap's ArcFace" if arcface else "an InsightFace iResNet"
    last = max(_numbers(tensors, r"layer(\d+)\.\d+\."), default=1)
    layers, widths = [], []
    for stage in range(1, min(last, MOST_STAGES) + 1):
        layers.append(max(_numbers(tensors, rf"layer{stage}\.(\d+)\."), default=0) + 1)
        widths.append(_size(tensors, f"layer{stage}.0.conv2.weight", 0, name, kind))
    columns = _size(tensors, "fc.weight", 1, name, kind)
    side = round((columns / widths[-1]) ** 0.5)
    size = 112 if side == 7 else side * 2 ** len(layers)
    if arcface and side != 7:
        raise UserError(
            f"fc.weight of {name} has {columns} columns, which no 112×112 ArcFace has; give the whole, unchanged file.",
            "arcface-size",
        )
    fields = {
        "family": "arcface" if arcface else "iresnet",
        "layers": layers,
        "widths": widths,
        "se": any(".se." in key for key in tensors),
        "size": (size, size),
        "frame": (size, size),
        "embedding": _size(tensors, "fc.weight", 0, name, kind),
        "values": "imagenet" if arcface else "symmetric",
    }
    return _made(IdentityConfig.from_dict, fields, name, kind)


def _mobilefacenet_config(tensors: Mapping[str, np.ndarray], name: str) -> IdentityConfig:
    kind = "a MobileFaceNet"
    published = IdentityConfig.from_name("mobilefacenet").to_dict()
    embedding = _size(tensors, "linear1.conv.weight", 0, name, kind)
    return _made(IdentityConfig.from_dict, {**published, "embedding": embedding}, name, kind)


def _made(make: Callable[[Mapping[str, Any]], AnyConfig], fields: Mapping[str, Any], name: str, kind: str) -> AnyConfig:
    """A configuration of what was read from the keys; what no such network has is the file's fault."""
    try:
        return make(fields)
    except ValueError as error:
        raise UserError(
            f"{name} looks like {kind}, but its shapes are none's: {str(error).rstrip('.')}; give another file.",
            "impossible-network",
        ) from error


def load_face_parsing(src: Source) -> tuple[BiSeNet, Variables]:
    """The face-parsing BiSeNet (``79999_iter.pth``).

    Raises:
      UserError: weights of another network, or a key is missing, unused or misshapen.
    """
    kind = "a BiSeNet for face parsing"
    tensors, name = _open(src, [_SIGNS_OF[kind]])
    classes = _size(tensors, "conv_out.conv_out.weight", 0, name, kind)
    return BiSeNet(classes), _to_variables(tensors, layouts.face_parsing(classes), name)


# --- writing --------------------------------------------------------------------------------------------------------


def generator_state_dict(generator: Any, variables: Mapping[str, Any]) -> StateDict:
    """A generator's variables under PyTorch's names, in its order, float32.

    Args:
      generator: what knows its ``config``: the Flax module or a `SwapNetwork`.
      variables: its Flax variables.

    Raises:
      UserError: its family has no PyTorch layout, or the variables are another network's.
    """
    names = _torch_names(families.of_config(generator.config))
    return _to_state_dict(variables, families.resolve(names.layout)(generator.config))


def discriminator_state_dicts(networks: MultiScaleDiscriminator, variables: Mapping[str, Any]) -> list[StateDict]:
    """One state dict per scale, the finest first."""
    dicts = []
    for i in range(1, networks.config.scales + 1):
        part = {collection: tree[f"d{i}"] for collection, tree in variables.items() if f"d{i}" in tree}
        dicts.append(_to_state_dict(part, layouts.discriminator(networks.config)))
    return dicts


def projected_discriminator_state_dict(network: ProjectedDiscriminator, variables: Mapping[str, Any]) -> StateDict:
    """A projected discriminator's variables under PyTorch's names, in its order, float32."""
    return _to_state_dict(variables, layouts.projected_discriminator(network.config))


def identity_state_dict(network: IdentityNetwork, variables: Mapping[str, Any]) -> StateDict:
    """An identity network's variables under PyTorch's names, in its order, float32."""
    return _to_state_dict(variables, layouts.identity(network.config))


def face_parsing_state_dict(network: BiSeNet, variables: Mapping[str, Any]) -> StateDict:
    """BiSeNet's variables under PyTorch's names, in its order, float32."""
    return _to_state_dict(variables, layouts.face_parsing(network.classes))


def save(state_dict: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    """Writes a state dict as ``.pth`` (needs PyTorch) or ``.safetensors``, whole or not at all."""
    files.save(state_dict, Path(path))


# --- between the two ------------------------------------------------------------------------------------------------


def _open(src: Source, signs: Sequence[str]) -> tuple[dict[str, np.ndarray], str]:
    """The named arrays, without what stands before a network's names, and what to call them in a message.

    Args:
      src: as of the loaders.
      signs: keys of which the network has one.
    """
    if isinstance(src, str | os.PathLike):
        src = files.read(Path(src), signs=signs)
    if isinstance(src, WeightFile):
        tensors, name = dict(src.tensors), str(src.path)
    else:
        tensors, _ = files.unwrap({key: np.asarray(value) for key, value in src.items()})
        name = "the mapping"
    found = files.prefixes(tensors, signs)
    return files.behind(tensors, found[0])[0] if len(found) == 1 else tensors, printable(name)


def _numbers(tensors: Mapping[str, np.ndarray], pattern: str, least: int = 1) -> set[int]:
    """The numbers that stand in `least` matching keys or more.

    One beyond the count of keys cannot be a layer's, nor can one of a single key where layers have many: such a key is
    left to be found unused.
    """
    found = (re.match(pattern, key) for key in tensors)
    counts = Counter(int(match.group(1)) for match in found if match and len(match.group(1)) < MOST_DIGITS)
    return {number for number, count in counts.items() if count >= least and number <= len(tensors)}


def _size(tensors: Mapping[str, np.ndarray], key: str, axis: int, name: str, kind: str) -> int:
    """One dimension of an array that the network's shape is read from."""
    if key not in tensors and _SIGNS_OF[kind] in tensors:
        raise UserError(
            f"{name} has no key {key}, though it looks like {kind}; give a whole file of this network.", "key-missing"
        )
    if key not in tensors:
        raise UserError(
            f"{name} has no key {key}, so it is not {kind}{_likeness(tensors)}; give another file.", "wrong-network"
        )
    shape = tensors[key].shape
    if axis >= len(shape) or min(shape) < 1:
        raise UserError(
            f"Key {key} of {name} has shape {shape}, which {kind} cannot have; give another file.", "key-shape"
        )
    return shape[axis]


def _likeness(tensors: Mapping[str, np.ndarray]) -> str:
    for key, kind in _SIGNS.items():
        if key in tensors:
            return f" (it looks like {kind})"
    return ""


def _to_variables(tensors: Mapping[str, np.ndarray], leaves: Iterable[Leaf], name: str) -> Variables:
    """PyTorch's arrays as Flax collections; every key used once, every leaf filled."""
    leaves = list(leaves)
    # PyTorch before 0.4.1 did not write these numbers: none at all is no fault, a single missing one is.
    counted = any(leaf.collection == COUNTS and leaf.key in tensors for leaf in leaves)
    wanted = [leaf for leaf in leaves if counted or leaf.collection != COUNTS]
    _check_keys(tensors, wanted, name)
    flat: dict[tuple[str, ...], Any] = {}
    for leaf in wanted:
        array = tensors[leaf.key]
        if array.shape != leaf.shape:
            raise UserError(
                f"Key {leaf.key} of {name} has shape {array.shape} instead of {leaf.shape}; give another file.",
                "key-shape",
            )
        place = (leaf.collection, *leaf.path)
        if leaf.collection == COUNTS:
            if count := _count(array, leaf.key, name):
                flat[place] = np.asarray(count, np.int64)
        elif array.dtype.kind in "OUSVbiuc" and array.dtype.name not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
            raise UserError(
                f"Key {leaf.key} of {name} holds {array.dtype}, not real numbers; give another file.", "key-type"
            )
        else:
            flat[place] = jnp.asarray(_to_flax(_finite(array, leaf.key, name), leaf))
    return traverse_util.unflatten_dict(flat)


def _finite(array: np.ndarray, key: str, name: str) -> np.ndarray:
    """Any float array as float32; a UserError unless all of it is finite there."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = np.asarray(array, np.float32)
    if not np.isfinite(narrow).all():
        raise UserError(
            f"Key {key} of {name} holds numbers that are not finite (NaN or infinite, in float32): its training "
            "diverged, or it is damaged; give an earlier checkpoint or another copy.",
            "key-not-finite",
        )
    return narrow


def _count(array: np.ndarray, key: str, name: str) -> int:
    """A ``num_batches_tracked``."""
    value = array.item() if array.dtype.kind in "iuf" else -1
    if not 0 <= value < 1 << 63 or value != int(value):
        raise UserError(f"Key {key} of {name} is {value!r}, where batches are counted; give another file.", "key-count")
    return int(value)


def _check_keys(tensors: Mapping[str, np.ndarray], leaves: list[Leaf], name: str) -> None:
    wanted = {leaf.key for leaf in leaves}
    missing = [leaf.key for leaf in leaves if leaf.key not in tensors]
    unused = [key for key in tensors if key not in wanted]
    if missing:
        raise UserError(
            f"{name} has no key {_named(missing, 'nor')}; give a whole file of this network.", "key-missing"
        )
    if unused:
        raise UserError(
            f"{name} has a key that this network does not use: {_named(unused, 'and')}; remove it or give "
            "another file.",
            "key-unused",
        )


def _named(keys: list[str], word: str) -> str:
    first = printable(keys[0])
    return first if len(keys) == 1 else f"{first} ({word} {len(keys) - 1} more)"


def _to_flax(array: np.ndarray, leaf: Leaf) -> np.ndarray:
    if leaf.kind == "conv":
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if leaf.kind == "linear":
        return np.ascontiguousarray(array.T)
    if leaf.kind == "flat":
        out = array.shape[0]
        return array.reshape(out, leaf.channels, -1).transpose(2, 1, 0).reshape(-1, out)
    return array


def _to_torch(array: np.ndarray, leaf: Leaf) -> np.ndarray:
    if leaf.kind == "conv":
        array = array.transpose(3, 2, 0, 1)
    elif leaf.kind == "linear":
        array = array.T
    elif leaf.kind == "flat":
        array = array.reshape(-1, leaf.channels, array.shape[-1]).transpose(2, 1, 0).reshape(array.shape[::-1])
    return np.ascontiguousarray(array)


def _to_state_dict(variables: Mapping[str, Any], leaves: Iterable[Leaf]) -> StateDict:
    """Flax collections under PyTorch's names; a leaf missing, unused or misshapen is an error."""
    flat = traverse_util.flatten_dict({k: dict(v) for k, v in variables.items()})
    state_dict: StateDict = {}
    for leaf in leaves:
        place = (leaf.collection, *leaf.path)
        if leaf.collection == COUNTS:
            state_dict[leaf.key] = np.asarray(flat.pop(place, 0)).astype(np.int64).reshape(())
            continue
        if place not in flat:
            raise UserError(
                f"The variables have no {'/'.join(place)}; give those of this network.", "network-variables-missing"
            )
        array = _to_torch(np.asarray(flat.pop(place)).astype(np.float32), leaf)
        if array.shape != leaf.shape:
            raise UserError(
                f"The variables' {'/'.join(place)} makes {leaf.key} of shape {array.shape} instead of {leaf.shape}; "
                "give those of this network.",
                "network-variables-shape",
            )
        state_dict[leaf.key] = array
    if flat:
        raise UserError(
            f"The variables hold {'/'.join(next(iter(flat)))}, which this network does not use; remove it.",
            "network-variables-unknown",
        )
    return state_dict

"""One door to all generators: what each takes, how its configuration is read, and what applies it.

SimSwap's two families and those of `BESIDE` are known by name. Any other is named by where its `Family` lies, as
``"package.module:attribute"``; a configuration class of such a family carries that name as the class attribute
``family``. Nothing else in this package names a family: it asks.
"""

import dataclasses
import functools
import importlib
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from simswap_jax.models import compact
from simswap_jax.models.compact import FORMER_NAMES, CompactConfig, CompactGenerator
from simswap_jax.models.config import NO_FIELDS, refuse_other_shape
from simswap_jax.models.simswap import Generator, GeneratorConfig

# What a generator can take beside the target, in the order in which its module takes it.
INPUTS = ("vector", "person", "picture", "source_points", "target_points", "target_vector")
POINTS = 68  # facial landmarks, where the configuration does not say

# The methods that SimSwap is compared with; their modules are imported when they are asked for.
BESIDE = {
    "faceshifter": "simswap_jax.models.faceshifter:FAMILY",
    "faceshifter_hear": "simswap_jax.models.faceshifter_hear:FAMILY",
    "deepfakes": "simswap_jax.models.deepfakes:FAMILY",
    "fsgan": "simswap_jax.models.fsgan:FAMILY",
    "ipgan": "simswap_jax.models.ipgan:FAMILY",
}


@runtime_checkable
class FamilyConfig(Protocol):
    """What every family's configuration has, a frozen dataclass with further fields of its own."""

    family: ClassVar[str]  # the name by which `get` finds its family

    @property
    def convention(self) -> str:
        """Pixel range of the images: ``"unit"`` or ``"imagenet"``."""

    @property
    def dtype(self) -> str:
        """What layers compute in."""

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold; the class method ``from_dict`` undoes it."""


Params = Any
WarmStart = Callable[[Params, Params], Params]


@dataclasses.dataclass(frozen=True)
class TorchNames:
    """Where a family's PyTorch layout stands, both as ``"module:function"``.

    Attributes:
      layout: config → the leaves of the public state dict (`weights.layouts.Leaf`), in its order: all that the
        module's ``init`` makes.
      config: (named arrays, what to call them, convention, dtype) → config, reads the shape off the keys; where there
        are ``settings``, a dictionary of them is its fifth argument.
      sign: a key that every one of its state dicts has and no other network's, by which the weights are found among
        others and behind a prefix; empty: they stand alone.
      settings: fields of the configuration that no key tells, beside convention and dtype; each has a default.
    """

    layout: str
    config: str
    sign: str = ""
    settings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Family:
    """A kind of generator.

    Attributes:
      name: ``"simswap"``, ``"compact"``, one of `BESIDE` or ``"package.module:attribute"``.
      config_class: its configuration, a `FamilyConfig`.
      takes: what its module takes beside the target, of `INPUTS`.
      module: (config, axis_name) → the Flax module: ``module.apply(variables, target, *inputs, train=…)``, the inputs
        in the order of `INPUTS`.
      fields: the fields of an experiment's ``config.generator`` with their defaults.
      from_fields: (an experiment's fields, dimensions of the identity vector) → config; ValueError in one sentence.
      describe: config → the model card's row.
      warm_start: (former config, config) → how parameters of the former begin this one: (former's, fresh) → params;
        None where they do not fit.
      torch: its PyTorch layout, if it has one.
      onnx: ``"module:function"`` of what writes it as ONNX, if anything does: (config, variables, path, contract=…,
        facts=…, precision=…) → path, as of `onnx_export.export_generator`; only of one that takes a vector and nothing
        else, for that is what such files are run with.
    """

    name: str
    config_class: type[Any]
    takes: frozenset[str]
    module: Callable[[Any, str | None], nn.Module]
    fields: Callable[[], dict[str, Any]]
    from_fields: Callable[[Mapping[str, Any], int], Any]
    describe: Callable[[Any], str]
    warm_start: Callable[[Any, Any], WarmStart | None]
    torch: TorchNames | None = None
    onnx: str | None = None

    def __post_init__(self) -> None:
        strange = sorted(self.takes - set(INPUTS))
        if strange:
            raise ValueError(f"The family {self.name} takes {', '.join(strange)}; known are {', '.join(INPUTS)}.")
        if self.onnx is not None and self.takes != {"vector"}:
            raise ValueError(
                f"The family {self.name} takes {', '.join(sorted(self.takes)) or 'nothing'}; only one that takes a "
                "vector alone is written as ONNX: leave out onnx."
            )


def get(name: str) -> Family:
    """The family of that name.

    Raises:
      ValueError: there is no such family.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    shown = reprlib.repr(name)
    try:
        found = resolve(BESIDE[name]) if name in BESIDE else resolve(name) if _may_be_imported(name) else None
    except (Exception, SystemExit) as error:  # a module's own, too: the name may come from a file
        what = reprlib.repr(str(error))
        raise ValueError(f"The generator family {shown} cannot be imported ({what}); correct its name.") from error
    if not isinstance(found, Family):
        known = ", ".join([*_KNOWN, *BESIDE])
        raise ValueError(f"There is no generator family {shown}; choose {known} or name one as 'package.module:NAME'.")
    return found


def _may_be_imported(name: str) -> bool:
    """Whether a name, which a model folder may hold, is ``"package.module:attribute"`` and no program of its own."""
    module = name.partition(":")[0].split(".")
    named = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name) is not None
    return named and module[0] not in sys.stdlib_module_names and "__main__" not in module[1:]


def resolve(name: str) -> Any:
    """What ``"package.module:attribute"`` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def of_config(config: FamilyConfig) -> Family:
    """The family of a configuration.

    Raises:
      ValueError: no family has configurations of that class.
    """
    family = get(getattr(config, "family", ""))
    if type(config) is not family.config_class:
        raise ValueError(f"A {type(config).__name__} is no configuration of the family {family.name}.")
    return family


def config_from_dict(values: Mapping[str, Any]) -> Any:
    """A configuration from what `config_to_dict` made, or from a dict of before there were families.

    Raises:
      ValueError: an unknown family, an unknown field or a value that a field cannot have.
    """
    fields = {name: value for name, value in values.items() if name != "family"}
    if "family" in values:
        return get(str(values["family"])).config_class.from_dict(fields)
    return of_former_fields(fields).config_class.from_dict(_without_defaults(fields))


def config_to_dict(config: FamilyConfig) -> dict[str, Any]:
    """A dict that JSON can hold, with the family's name."""
    return {"family": of_config(config).name, **config.to_dict()}


def _without_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Former fields, without those of a compact generator that are at the paper's values."""
    papers = CompactConfig()
    return {
        name: value
        for name, value in fields.items()
        if name not in _COMPACT or value != getattr(papers, _COMPACT[name])
    }


def of_former_fields(fields: Mapping[str, Any]) -> Family:
    """Which of the two families a configuration, or an experiment's fields, without a family's name describes."""
    compact_ones = any(name in _COMPACT for name in _without_defaults(fields))
    return COMPACT if compact_ones and not fields.get("preset") else SIMSWAP


_COMPACT = {**FORMER_NAMES, **{name: name for name in (*FORMER_NAMES.values(), *compact.CELLS)}}


# --- applying one ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class SwapNetwork:
    """A generator of any family; variables are handed in at every call.

    Attributes:
      config: the family's configuration.
      axis_name: the pmap axis over which batch norm takes its statistics, if any.
    """

    config: Any
    axis_name: str | None = None

    @functools.cached_property
    def family(self) -> Family:
        """The family of the configuration."""
        return of_config(self.config)

    @functools.cached_property
    def module(self) -> nn.Module:
        """The Flax module."""
        return self.family.module(self.config, self.axis_name)

    @property
    def takes(self) -> frozenset[str]:
        """What it takes beside the target, of `INPUTS`."""
        return self.family.takes

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""
        return int(self.config.multiple)

    @property
    def least_size(self) -> int:
        """The least height and width: maps are mirrored at their edges."""
        known = isinstance(self.config, GeneratorConfig)
        return compact.as_compact(self.config).least_size if known else self.multiple

    @property
    def convention(self) -> str:
        """Pixel range of the images."""
        return str(self.config.convention)

    @property
    def identity_size(self) -> int | None:
        """Dimensions of the identity vector; None where it takes none."""
        return int(self.config.identity_size) if "vector" in self.takes else None

    def init(self, key: Array, size: int) -> Mapping[str, Any]:
        """Fresh variables, from images of ``size`` pixels."""
        target = jnp.zeros((1, size, size, 3))
        shapes = self.input_shapes(1, size)
        given = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in self._ordered}
        return self.module.init(key, target, *given.values())

    def input_shapes(self, batch: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and types of what `apply` takes as ``given``, for images of ``size`` pixels."""
        points = (batch, getattr(self.config, "points", POINTS), 2)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "vector": ((batch, self.identity_size or 0), jnp.float32),
            "person": ((batch,), jnp.int32),
            "picture": ((batch, size, size, 3), jnp.float32),
            "source_points": (points, jnp.float32),
            "target_points": (points, jnp.float32),
            "target_vector": ((batch, self.identity_size or 0), jnp.float32),
        }
        return {name: jax.ShapeDtypeStruct(*shapes[name]) for name in self._ordered}

    def apply(
        self,
        variables: Mapping[str, Any],
        target: Array,
        given: Mapping[str, Array],
        train: bool = False,
        mutable: Any = False,
    ) -> Any:
        """Redraws the target.

        Args:
          variables: Flax collections.
          target: [B,H,W,3] in the network's convention; H and W multiples of ``multiple``.
          given: what it takes: ``"vector"`` [B,D], L2-normalised; ``"person"`` int [B]; ``"picture"`` [B,H,W,3] of the
            source; ``"source_points"`` and ``"target_points"`` [B,P,2], fractions of the image; ``"target_vector"``
            [B,D], the target's own. More is not looked at.
          train: normalise by the batch's statistics.
          mutable: as of Flax's ``apply``; with it the changed collections are returned, too.

        Returns:
          The result, float32 [B,H,W,3] in the network's convention.

        Raises:
          ValueError: something that it takes is not given, or has another shape.
        """
        missing = [name for name in self._ordered if name not in given]
        if missing:
            raise ValueError(f"A generator of the family {self.family.name} needs {', '.join(missing)}; give it.")
        inputs = [given[name] for name in self._ordered]
        return self.module.apply(variables, target, *inputs, train=train, mutable=mutable)

    @property
    def _ordered(self) -> list[str]:
        return [name for name in INPUTS if name in self.takes]


def build(config: FamilyConfig, axis_name: str | None = None) -> SwapNetwork:
    """The generator of a configuration.

    Raises:
      ValueError: the configuration is of no family.
    """
    of_config(config)
    return SwapNetwork(config, axis_name)


# --- the two that are known by name ---------------------------------------------------------------------------------


def _fields(default: GeneratorConfig, **more: Any) -> dict[str, Any]:
    fields = {name: value for name, value in default.to_dict().items() if name not in NO_FIELDS}
    return {**more, **fields, "widths": default.widths}


def _simswap_config(fields: Mapping[str, Any], identity_size: int) -> GeneratorConfig:
    """With a preset, the shape is the preset's; a field that asks for another shape is refused."""
    values = _without_defaults(fields)
    preset = values.pop("preset", "")
    if not preset:
        return GeneratorConfig.from_dict({**values, "identity_size": identity_size})
    common = {name: values[name] for name in ("convention", "dtype", "remat") if name in values}
    config = GeneratorConfig.from_preset(preset, identity_size=identity_size, **common)
    plain = GeneratorConfig()
    known = plain.to_dict()
    asked = GeneratorConfig.from_dict({name: value for name, value in values.items() if name in known})
    refuse_other_shape(asked, config, plain, preset)
    return config


def _compact_config(fields: Mapping[str, Any], identity_size: int) -> CompactConfig:
    values = {name: value for name, value in fields.items() if name != "preset"}
    return CompactConfig.from_dict({**values, "identity_size": identity_size})


def _describe(config: GeneratorConfig) -> str:
    return f"preset {config.preset}, widths {list(config.widths)}, {config.blocks} ID blocks"


def _describe_compact(config: CompactConfig) -> str:
    mask = f", composition mask of stride {config.mask_stride}" if config.composition_mask else ""
    if config.keeps_colour:
        mask += f", the target's colour kept by {config.colour_cell} pixels and its light by {config.light_cell}"
    stem = f"pixel-unshuffle by {config.unshuffle}, stem kernel {config.stem_kernel}"
    return f"widths {list(config.widths)}, {config.blocks} ID blocks, {stem}{mask}"


_TORCH = TorchNames(
    layout="simswap_jax.weights.layouts:generator",
    config="simswap_jax.weights.torch_weights:generator_config",
    sign="first_layer.1.weight",
    settings=("mask_stride", *compact.CELLS),
)
_ONNX = "simswap_jax.weights.onnx_export:export_simswap"

SIMSWAP = Family(
    name="simswap",
    config_class=GeneratorConfig,
    takes=frozenset({"vector"}),
    module=Generator,
    fields=functools.partial(_fields, GeneratorConfig(), preset="224"),
    from_fields=_simswap_config,
    describe=_describe,
    warm_start=compact.warm_start,
    torch=_TORCH,
    onnx=_ONNX,
)
COMPACT = dataclasses.replace(  # with the same parameter names, and so the same warm start, PyTorch and ONNX layouts
    SIMSWAP,
    name="compact",
    config_class=CompactConfig,
    module=CompactGenerator,
    fields=functools.partial(_fields, CompactConfig()),
    from_fields=_compact_config,
    describe=_describe_compact,
)
_KNOWN = {family.name: family for family in (SIMSWAP, COMPACT)}

"""What all configurations of networks share: a frozen dataclass that JSON can hold, and what its fields may hold."""

import dataclasses
import numbers
import reprlib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

DTYPES = ("float32", "bfloat16")
MOST_STAGES = 16  # values in a list: widths, layers
MOST_LETTERS = 200  # of a text
WIDTH = (1, 16384)  # channels, dimensions of a vector
ANY_NUMBER = (-1e300, 1e300)
Ranges = Mapping[str, tuple[float, float]]
NO_FIELDS = ("identity_size", "first_down")  # of no experiment's generator: the identity network's and the preset's
NO_SHAPE = ("people", "attributes", "identity_size", "convention", "dtype")  # what a preset leaves as it is asked for
AnyConfig = TypeVar("AnyConfig", bound="DictConfig")
AnyPreset = TypeVar("AnyPreset", bound="PresetConfig")


class DictConfig:
    """A frozen dataclass that goes into a dict and back.

    What a dict may ask for is checked before anything is built: types by the fields' annotations, numbers by
    ``ranges``, so that no file can make a network of 2⁴⁰ channels be tried.

    Attributes:
      described: what it is the configuration of, for messages.
      ranges: field → the least and the most that a number may be, or each of a list of numbers.
    """

    described: ClassVar[str] = "network"
    ranges: ClassVar[Ranges] = {}

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls: type[AnyConfig], values: Mapping[str, Any]) -> AnyConfig:
        """Undoes :meth:`to_dict`.

        Raises:
          ValueError: a field that it does not have, or a value that a field cannot have.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})  # type: ignore[arg-type]
        if unknown:
            named = ", ".join(name if name.isidentifier() else reprlib.repr(name) for name in unknown[:MOST_STAGES])
            raise ValueError(f"The {cls.described}'s configuration has no field {named}; remove it.")
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        _check_fields(cls, fields)
        return cls(**fields)


class PresetConfig(DictConfig):
    """A configuration whose shape can be one of a few presets: what the families beside SimSwap's share.

    Attributes:
      presets: name → the fields of that shape that differ from the defaults; ``"original"`` has none.
      no_shape: fields that a preset leaves as they are asked for.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    no_shape: ClassVar[Sequence[str]] = NO_SHAPE

    @classmethod
    def from_preset(cls: type[AnyPreset], name: str, **more: Any) -> AnyPreset:
        """The shape of one of the presets, with other fields as given.

        Raises:
          ValueError: there is no such preset.
        """
        if name not in cls.presets:
            raise ValueError(f"{name!r} is no preset of the {cls.described}; choose one of {', '.join(cls.presets)}.")
        return cls(**{**cls.presets[name], **more})

    @classmethod
    def experiment_fields(cls) -> dict[str, Any]:
        """The fields of an experiment's ``config.generator``, beginning with the preset."""
        fields = {name: tuple(x) if isinstance(x, list) else x for name, x in cls().to_dict().items()}
        return {"preset": "original", **{name: x for name, x in fields.items() if name not in NO_FIELDS}}

    @classmethod
    def from_experiment(cls: type[AnyPreset], fields: Mapping[str, Any], identity_size: int) -> AnyPreset:
        """The configuration of an experiment's fields. With a preset, the shape is the preset's.

        Raises:
          ValueError: an unknown preset, or a field that asks for another shape than it.
        """
        values = dict(fields)
        preset = values.pop("preset", "")
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        given = {"identity_size": identity_size} if "identity_size" in known else {}
        asked = cls.from_dict({**values, **given})
        if not preset:
            return asked
        free = {name: getattr(asked, name) for name in cls.no_shape if name in known}
        made = cls.from_preset(preset, **free)
        refuse_other_shape(asked, made, cls(), preset)
        return made

    @classmethod
    def start_of_same(cls, former: Any, config: Any) -> Callable[[Any, Any], Any] | None:
        """A family's ``warm_start`` where parameters fit a generator of the same shape only."""
        same = dataclasses.replace(former, dtype=config.dtype) == config
        return (lambda there, fresh: there) if same else None


class OneSizeConfig(PresetConfig):
    """A configuration of a generator for faces of one size: dense layers, or the identity, make its smallest map.

    Attributes:
      encoder: channels after each halving of the target.
      bottom: side of the smallest map.
    """

    encoder: tuple[int, ...]
    bottom: int

    @property
    def side(self) -> int:
        """Height and width of its faces."""
        return self.bottom * 2 ** len(self.encoder)

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of."""
        return self.side


def refuse_other_shape(asked: DictConfig, made: DictConfig, plain: DictConfig, preset: str) -> None:
    """A ValueError where a field asks for a shape that is neither the preset's nor the default."""
    shape, default = made.to_dict(), plain.to_dict()
    for name, value in asked.to_dict().items():
        if name not in NO_FIELDS and value not in (default[name], shape[name]):
            raise ValueError(f"generator.{name} is {value}, and preset {preset!r} has {shape[name]}; set preset to ''.")


def check_dtype(dtype: str) -> None:
    """A ValueError unless ``dtype`` is one that networks compute in."""
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is no computing type; choose one of {', '.join(DTYPES)}.")


def _check_fields(cls: type[DictConfig], fields: Mapping[str, Any]) -> None:
    """A ValueError that names the first value whose type or size a field of ``cls`` cannot have."""
    types = _types(cls)
    for name, value in fields.items():
        least, most = cls.ranges.get(name, ANY_NUMBER)
        if not _fits(value, types[name], least, most):
            wanted = _words(types[name], least, most)
            raise ValueError(f"The {cls.described}'s {name} is {reprlib.repr(value)}; it must be {wanted}.")


def _types(cls: type[DictConfig]) -> dict[str, Any]:
    """Field → its type."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def _fits(value: Any, wanted: Any, least: float, most: float) -> bool:
    """Whether a value is of a type and in its range; types other than those below are not looked at."""
    if wanted in (bool, str):
        return isinstance(value, wanted) and (wanted is bool or len(value) <= MOST_LETTERS)
    if wanted in (int, float):
        kind = numbers.Integral if wanted is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and bool(least <= value <= most)  # type: ignore[operator]
    if typing.get_origin(wanted) is tuple:
        of, *rest = typing.get_args(wanted)
        right = isinstance(value, tuple) and len(value) in (range(MOST_STAGES + 1) if ... in rest else (1 + len(rest),))
        return right and all(_fits(each, of, least, most) for each in value)
    return True


def _words(wanted: Any, least: float, most: float) -> str:
    """What a value must be, for people."""
    if typing.get_origin(wanted) is tuple:
        of, *rest = typing.get_args(wanted)
        count = f"at most {MOST_STAGES}" if ... in rest else str(1 + len(rest))
        return f"a list of {count} values, each {_words(of, least, most)}"
    within = "" if (least, most) == ANY_NUMBER else f" of {least:g} to {most:g}"
    known = {bool: "true or false", int: f"a whole number{within}", float: f"a finite number{within}"}
    return known.get(wanted, f"a text of at most {MOST_LETTERS} letters")

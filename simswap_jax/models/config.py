"""What all configurations of networks share: a frozen dataclass that JSON can hold."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

DTYPES = ("float32", "bfloat16")
AnyConfig = TypeVar("AnyConfig", bound="DictConfig")


class DictConfig:
    """A frozen dataclass that goes into a dict and back.

    Attributes:
      described: what it is the configuration of, for messages.
    """

    described: ClassVar[str] = "network"

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
            raise ValueError(f"The {cls.described}'s configuration has no field {', '.join(unknown)}; remove it.")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_dtype(dtype: str) -> None:
    """A ValueError unless ``dtype`` is one that networks compute in."""
    if dtype not in DTYPES:
        raise ValueError(f"{dtype!r} is no computing type; choose one of {', '.join(DTYPES)}.")

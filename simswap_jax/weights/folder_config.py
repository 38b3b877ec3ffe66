"""The config.json of model and identity folders: read, and checked by type and range, before anything is built."""

import json
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from simswap_jax.models import families
from simswap_jax.models.identity import IdentityConfig
from simswap_jax.weights import layouts

CONFIG = "config.json"
MOST_BYTES = 1 << 20  # of a config.json; those that are written have two thousand
MOST_FACE = 2048  # pixels: the side of a crop


@dataclass(frozen=True)
class Field:
    """What a field of a config.json may be.

    Attributes:
      fits: whether a value may stand there.
      words: what it must be, for people.
    """

    fits: Callable[[Any], bool]
    words: str


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_file_name(value: Any) -> bool:
    return (
        isinstance(value, str) and len(value) <= 255 and not re.search(r"[/\\\0]", value) and value not in (".", "..")
    )


def _is_face_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST_FACE


def _are_sums(value: Any) -> bool:
    return isinstance(value, dict) and len(value) < 100 and all(_is_sha256(each) for each in value.values())


OBJECT = Field(lambda value: isinstance(value, dict), "an object")
OBJECT_OR_NULL = Field(lambda value: value is None or isinstance(value, dict), "an object or null")
MODEL = {
    "generator": OBJECT,
    "face_size": Field(_is_face_size, f"a whole number of pixels, at most {MOST_FACE}"),
    "alignment": Field(lambda value: isinstance(value, str), "a text"),
    "identity": OBJECT_OR_NULL,
    "card": OBJECT,
    "sha256": Field(_are_sums, "an object of SHA-256 in hexadecimal"),
}
IDENTITY = {
    "name": Field(_is_file_name, "the name of a file, without folders"),
    "sha256": Field(lambda value: value == "" or _is_sha256(value), "a SHA-256 in hexadecimal"),
    "config": OBJECT_OR_NULL,
}
IDENTITY_FOLDER = {"identity": OBJECT}


def load(path: Path) -> Any:
    """What a config.json holds.

    Raises:
      ValueError: it is no JSON, or larger than any; the message is a clause.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES >> 20} MiB")
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError("is damaged") from error


def dump(value: Mapping[str, Any]) -> bytes:
    """The bytes of a config.json; what is no letter of Unicode in a file's name is escaped.

    Raises:
      ValueError: it holds a number that JSON does not know, NaN or infinity.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")  # a lone surrogate becomes \udc80, which JSON reads again


def _no_number(constant: str) -> NoReturn:
    raise ValueError(constant)


def check(described: Mapping[str, Any], fields: Mapping[str, Field], of: str = "") -> None:
    """Raise a ValueError, whose message is a clause, if a field is missing or has a wrong value.

    Args:
      described: a JSON object.
      fields: of it.
      of: the name of the object that holds them, with a dot.
    """
    for name, field in fields.items():
        if name not in described:
            raise ValueError(f"has no '{of}{name}'")
        if not field.fits(described[name]):
            raise ValueError(f"is wrong: {of}{name} is {reprlib.repr(described[name])} and must be {field.words}")


def model(described: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model folder's description, checked, with configurations in place of their objects.

    Returns:
      ``generator`` (a family's configuration), ``face_size``, ``alignment``, ``card``, ``sha256``, and of the identity
      network ``identity`` (a configuration, or None), ``identity_name`` and ``identity_sha256``.

    Raises:
      ValueError: something is missing, of another type or out of range; the message is a clause.
    """
    check(described, MODEL)
    network = described["identity"] or {"config": None, "sha256": "", "name": ""}
    check(network, IDENTITY, "identity.")
    return {
        **{name: described[name] for name in ("face_size", "alignment", "card", "sha256")},
        "generator": _made(families.config_from_dict, described["generator"]),
        "identity": None if network["config"] is None else identity(network["config"]),
        "identity_name": network["name"],
        "identity_sha256": network["sha256"],
    }


def identity(fields: Mapping[str, Any]) -> IdentityConfig:
    """The configuration of an identity network.

    Raises:
      ValueError: it cannot be one; the message is a clause.
    """
    config: IdentityConfig = _made(IdentityConfig.from_dict, fields)
    if config.family != "mobilefacenet" and min(layouts.last_map(config)) < 1:
        raise ValueError(f"is wrong: nothing is left of {config.size} pixels after {len(config.layers)} stages")
    return config


def _made(make: Callable[[Mapping[str, Any]], Any], fields: Mapping[str, Any]) -> Any:
    """What ``make`` makes of an object; what a family from outside raises is the file's fault, too."""
    try:
        return make(fields)
    except Exception as error:
        raise ValueError(f"is wrong: {str(error).rstrip('.') or type(error).__name__}") from error

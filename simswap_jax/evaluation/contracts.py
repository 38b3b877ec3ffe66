"""What somebody else's swapping network takes and answers, as a short YAML: a *contract*, of ``configs/contracts`` or
the user's own (docs/guide/evaluate.md says what the fields are).
"""

import difflib
import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from simswap_jax.errors import UserError, first_line, printable
from simswap_jax.faces.alignment import TEMPLATES

MOST_BYTES = 1 << 12  # of a contract's file: the reader of YAML is slow where much is nested
SIDES = (16, 1024)  # pixels of a picture
LAST_INITIALIZER = "last_initializer"  # the matrix is the last weight of the swapping network's own file
Triple = tuple[float, float, float]
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

# Five points (eyes, tip of the nose, corners of the mouth) as fractions of the crop, placed by a similarity.
CONTRACT_TEMPLATES: dict[str, np.ndarray] = {
    name: np.array(points)
    for name, points in {
        "arcface_112_v1": ((0.3547, 0.4566), (0.6453, 0.4566), (0.5, 0.6115), (0.3791, 0.7769), (0.6209, 0.7769)),
        "arcface_112_v2": (
            (0.34192, 0.46157),
            (0.65653, 0.45983),
            (0.50023, 0.64051),
            (0.37097, 0.82469),
            (0.63152, 0.82325),
        ),
        "arcface_128": (
            (0.36168, 0.40388),
            (0.63697, 0.40235),
            (0.50020, 0.56044),
            (0.38710, 0.72161),
            (0.61508, 0.72034),
        ),
        "ffhq_512": (
            (0.37692, 0.46865),
            (0.62286, 0.46913),
            (0.50124, 0.61332),
            (0.39309, 0.72541),
            (0.61150, 0.72490),
        ),
        "mtcnn_512": (
            (0.36563, 0.46734),
            (0.63305, 0.46586),
            (0.50019, 0.61943),
            (0.39033, 0.77599),
            (0.61179, 0.77476),
        ),
    }.items()
} | {name: poses[0] for name, poses in TEMPLATES.items() if len(poses) == 1}


# ---- What a field may hold: value → what is kept, or a ValueError that says what it wants ----


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > 500:
        raise ValueError("a text")
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(" or ".join(f"'{choice}'" for choice in choices))
        return str(value)

    return check


def _side(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not SIDES[0] <= value <= SIDES[1]:
        raise ValueError(f"a whole number of pixels from {SIDES[0]} to {SIDES[1]}")
    return value


def _three(value: Any) -> Triple:
    numbers = value if isinstance(value, list) else [value] * 3
    sound = len(numbers) == 3 and all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in numbers)
    if not sound or not all(abs(one) < 1e9 for one in numbers):
        raise ValueError("a number, or three of them")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _spread(value: Any) -> Triple:
    three = _three(value)
    if min(three) <= 0:
        raise ValueError("a number above 0, or three of them")
    return three


def _template(value: Any) -> np.ndarray:
    if isinstance(value, str) and value in CONTRACT_TEMPLATES:
        return CONTRACT_TEMPLATES[value]
    try:
        points = np.array(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.zeros(0)
    inside = points.shape == (5, 2) and np.isfinite(points).all() and points.min() > -1 and points.max() < 2
    if not inside or np.ptp(points, axis=0).min() < 0.01:
        raise ValueError(f"one of {', '.join(CONTRACT_TEMPLATES)}, or five points as fractions of the crop")
    return points


def _output(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or (isinstance(value, int) and value < 0):
        raise ValueError("an output's name, or its number from 0 on")
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "input": _text,
    "size": _side,
    "template": _template,
    "mean": _three,
    "std": _spread,
    "channels": _choice("rgb", "bgr"),
    "takes": _choice("embedding", "picture"),
    "network": _text,
    "converter": _text,
    "converter_input": _text,
    "normalise": _choice("l2", "none"),
    "matrix": _text,
    "face": _output,
    "mask": _output,
}


@dataclass(frozen=True)
class TargetPicture:
    """The picture that is swapped.

    Attributes:
      input: name of the network's input.
      size: side in pixels.
      template: float [5, 2], where the landmarks lie, as fractions of the crop.
      mean, std: v of 0 to 1 → (v − mean) / std, in the order of ``channels``.
      channels: ``rgb`` or ``bgr``.
    """

    input: str
    size: int
    template: np.ndarray
    mean: Triple = ZEROS
    std: Triple = ONES
    channels: str = "rgb"


@dataclass(frozen=True)
class SourceInput(TargetPicture):
    """What the network gets of the source; size, template, mean, std and channels are of the picture that it takes, or
    its embedding network.

    Attributes:
      takes: ``picture`` or ``embedding``.
      network: file of the embedding network.
      converter, converter_input: file of a network from that embedding to another one, and its input's name.
      normalise: ``l2``: the embedding, converted, is divided by its length; or ``none``.
      matrix: which the row vector is then multiplied by: an .npy file, or `LAST_INITIALIZER`.
    """

    takes: str = "embedding"
    network: str = ""
    converter: str = ""
    converter_input: str = "input"
    normalise: str = "l2"
    matrix: str = ""


@dataclass(frozen=True)
class Output:
    """What the network answers.

    Attributes:
      face, mask: which output is the face [1, 3, H, W], and which its mask, 0 to 1; None: none.
      mean, std: y → y · std + mean, 0 to 1, in the order of ``channels``.
      channels: ``rgb`` or ``bgr``.
    """

    face: int | str = 0
    mask: int | str | None = None
    mean: Triple = ZEROS
    std: Triple = ONES
    channels: str = "rgb"


@dataclass(frozen=True)
class Contract:
    """One network's inputs and outputs.

    Attributes:
      name: of its file.
      source, target, output: its sections.
    """

    name: str
    source: SourceInput
    target: TargetPicture
    output: Output


SECTIONS = {"source": SourceInput, "target": TargetPicture, "output": Output}


def shipped() -> dict[str, Any]:
    """Name → file of ``configs/contracts``."""
    folder = importlib.resources.files("simswap_jax.configs") / "contracts"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}


def read_contract(reference: str) -> Contract:
    """A contract by its name in ``configs/contracts``, or from a YAML file.

    Raises:
      UserError: there is none of that name, or it is no contract: the field is named, and the nearest right one.
    """
    known = shipped()
    path = Path(reference).expanduser()
    file = path if path.is_file() else known.get(reference)
    if file is None:
        near = difflib.get_close_matches(reference, known, 1, 0.0)[0]
        raise UserError(
            f"there is no contract '{printable(reference)}'; the nearest is '{near}': choose among {', '.join(known)}, "
            "or name a YAML file.",
            "contract-unknown",
        )
    return contract_of(_parsed(file, reference), path.stem if file is path else reference)


def _parsed(file: Any, reference: str) -> Any:
    import yaml

    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES} bytes")
        return yaml.safe_load(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        says = first_line(error) or type(error).__name__
        raise UserError(f"{reference} is no contract in YAML ({says}).", "contract-unreadable") from error


def contract_of(content: Any, name: str) -> Contract:
    """A contract from what its YAML holds.

    Raises:
      UserError: a field is unknown, missing, or of another kind.
    """
    if not isinstance(content, dict):
        raise UserError(f"the contract {name} holds no fields; it has source, target and output.", "contract-empty")
    for key in content:
        if key not in SECTIONS and key != "about":
            raise _unknown(name, "", key, [*SECTIONS, "about"])
    sections = {title: _section(kind, content.get(title), title, name) for title, kind in SECTIONS.items()}
    contract = Contract(name, **sections)
    if contract.source.takes == "embedding" and not contract.source.network:
        raise _missing(name, "source.network")
    return contract


def _section(kind: type[Any], content: Any, title: str, name: str) -> Any:
    if content is None:
        raise _missing(name, title)
    if not isinstance(content, dict):
        raise UserError(f"{title} of the contract {name} holds no fields.", "contract-empty")
    known = {one.name: one for one in fields(kind)}
    values = {}
    for key, value in content.items():
        if key not in known:
            raise _unknown(name, f"{title}.", key, list(known))
        try:
            values[key] = CHECKS[key](value)
        except ValueError as error:
            raise UserError(
                f"{title}.{key} of the contract {name} is {printable(repr(value), 80)}; it must be {error}.",
                "contract-value",
            ) from error
    for key, one in known.items():
        if one.default is MISSING and key not in values:
            raise _missing(name, f"{title}.{key}")
    return kind(**values)


def _missing(name: str, what: str) -> UserError:
    return UserError(f"the contract {name} lacks {what}.", "contract-field-missing")


def _unknown(name: str, title: str, key: Any, known: Sequence[str]) -> UserError:
    """The error of a field that is none, with the nearest right one: of its section, else of another."""
    wrong = printable(key, 80)
    near = difflib.get_close_matches(wrong, known, 1)
    right = f"{title}{near[0]}" if near else _nearest_of_all(wrong, title, known)
    return UserError(
        f"contracts have no field '{title}{wrong}', which {name} has; the nearest right one is '{right}'.",
        "contract-field-unknown",
    )


def _nearest_of_all(wrong: str, title: str, known: Sequence[str]) -> str:
    every: Mapping[str, list[str]] = {section: [one.name for one in fields(kind)] for section, kind in SECTIONS.items()}
    elsewhere = [(f"{section}.{one}", one) for section, names in every.items() for one in names]
    elsewhere += [(f"{title}{one}", one) for one in known]
    return max(elsewhere, key=lambda pair: difflib.SequenceMatcher(None, wrong, pair[1]).ratio())[0]

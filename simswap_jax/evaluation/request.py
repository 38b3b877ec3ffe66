"""What an evaluation is asked to do."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from simswap_jax.errors import UserError
from simswap_jax.inference.options import check_strength

HELD_OUT, UNSEEN, ANY = PEOPLE = ("held-out", "unseen", "any")


@dataclass(frozen=True)
class EvaluationRequest:
    """One evaluation; `simswap_jax.evaluation.evaluate.evaluate` carries it out.

    Attributes:
      data: aligned face crops, ``ROOT/PERSON/PICTURE`` (or as the protocol wants them).
      output: folder for the results; a stopped evaluation is resumed there.
      models: name → model folder; None: the one that ships. Without models, results and external: the one that ships.
      results: name → folder of another program's results.
      external: name → ``FILE.onnx:CONTRACT``, another program's network.
      baselines: further baselines, names of ``warp.NAMES``, or ``"warp"`` for all of them.
      warp_landmarks: landmark network that these and external networks find faces by; None: ``landmarks``.
      protocol: a name of ``protocols.protocol.PROTOCOLS``, a pairs.json, or ``package.module:attribute``.
      recogniser: path of the recogniser that identity is measured with; None: the protocol's own, else the public one.
      pose, landmarks, features: paths of further metric networks; without one its metrics are left out.
      feature_range: RGB values that an ONNX feature network takes, a name of ``judges.networks.INPUT_RANGES``.
      strength: how far models move the identity from the target's own to the source's, and beyond (`SwapOptions`).
      alignment, size: template and side in pixels of the crops; models trained on others are refused.
      people: a name of `PEOPLE`: whom the models' trainings held out, people whom no training saw, or anybody.
      held_out_fraction: part of the people to evaluate; None: what the models' trainings held out, or everybody where
        ``people`` says that they were not trained on, or may have been.
      held_out_seed: of choosing that part; trainings choose with 0.
      pairs: how many swaps.
      seed: of drawing the pairs.
      false_accept_rate: at which true accepts are counted, in (0, 1).
      splits, frames: faceforensics: its files of pairs, and frames a video.
      clip, clip_source: video or folder of frames on which the first model's temporal stability is measured, and a
        picture of the identity it gets.
      export_pairs: only write the pairs' crops there, for other programs.
    """

    data: Path
    output: Path
    models: Mapping[str, Path | None] = field(default_factory=dict)
    results: Mapping[str, Path] = field(default_factory=dict)
    external: Mapping[str, str] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()
    warp_landmarks: Path | None = None
    protocol: str = "pairs"
    recogniser: str | Path | None = None
    pose: Path | None = None
    landmarks: Path | None = None
    features: Path | None = None
    feature_range: str = "255"
    strength: float = 1.0
    alignment: str | None = None
    size: int | None = None
    people: str = HELD_OUT
    held_out_fraction: float | None = None
    held_out_seed: int = 0
    pairs: int = 500
    seed: int = 0
    false_accept_rate: float = 1e-3
    splits: tuple[Path, ...] = ()
    frames: int = 10
    clip: Path | None = None
    clip_source: Path | None = None
    export_pairs: Path | None = None


def check(request: EvaluationRequest) -> None:
    """Refuse what cannot work, before anything is read.

    Raises:
      UserError: a value out of its range, or half of a pair of values.
    """
    if request.output.is_file():
        raise UserError(f"{request.output} is a file; name a folder for the results.", "output-is-file")
    if request.pairs < 1:
        raise UserError(f"--pairs is {request.pairs}; evaluate at least one.", "no-pairs")
    if request.seed < 0:
        raise UserError(f"--seed is {request.seed}; give 0 or more.", "seed-below-zero")
    check_strength(request.strength)
    if not 0 < request.false_accept_rate < 1:
        raise UserError(f"--far is {request.false_accept_rate}; it lies between 0 and 1.", "rate-out-of-range")
    if request.people not in PEOPLE:
        raise UserError(f"--people is '{request.people}'; choose one of {', '.join(PEOPLE)}.", "people-unknown")
    if request.frames < 2:
        raise UserError(f"--frames is {request.frames}; take at least 2 of a video.", "too-few-frames")
    if request.held_out_fraction is not None and not 0 < request.held_out_fraction <= 1:
        raise UserError(
            f"--held-out-fraction is {request.held_out_fraction}; it lies between 0 and 1.", "fraction-out-of-range"
        )
    if (request.clip is None) != (request.clip_source is None):
        raise UserError(
            "--clip and --clip-source go together: the clip, and a picture of the identity that it gets.",
            "clip-incomplete",
        )


def fingerprint(request: EvaluationRequest) -> dict[str, Any]:
    """The request as JSON can hold it: it is part of what a resumed evaluation must agree in."""
    return {name: _json(value) for name, value in asdict(request).items()}


def _json(value: Any) -> Any:
    """Paths as text, in mappings and tuples too."""
    if isinstance(value, dict):
        return {name: _json(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return str(value) if isinstance(value, Path) else value

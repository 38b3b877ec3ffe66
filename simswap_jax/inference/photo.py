"""Whole photos: find the faces, select those that are meant, swap them and paste them back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.faces.alignment import TEMPLATES, Alignment, align, crop
from simswap_jax.faces.blending import (
    below_brows,
    fine_detail,
    match_colour,
    match_tone,
    mouth_area,
    paste,
    paste_gradients,
    place,
    resolve_overlaps,
    soft_mask,
)
from simswap_jax.faces.detection import Detector, Face, FaceDetector
from simswap_jax.inference.arrays import check_photo
from simswap_jax.inference.options import DEFAULT_SWAP, SwapOptions
from simswap_jax.inference.parsing import WEIGHTS as PARSING
from simswap_jax.inference.parsing import FaceParser, parser_here
from simswap_jax.inference.selection import PhotoCandidate, needs_vectors, select_faces
from simswap_jax.weights import onnx_session, registry
from simswap_jax.weights.model_folder import ModelFolder

DETECTOR = "face_detection_yunet.onnx"  # of configs/weights.yaml
SMALLEST = 12.0  # pixels, of the shorter side of a face's box
REACH = 0.85  # of the mask's ellipse: at a face's edge generators draw outlines of the source's
# Of landmarks from their template, in units of the crop's side; a profile on a frontal template has more.
FARTHEST = 0.08

_log = logging.getLogger(__name__)

# A photo, a face's alignment in it and what is kept → which part of the crop is face, float32 [size, size]; None where
# it cannot be told.
Parse = Callable[[np.ndarray, Alignment, Sequence[str]], np.ndarray | None]


@dataclass(frozen=True)
class FoundFace:
    """A face that can be swapped, and how it is cut out."""

    face: Face
    alignment: Alignment

    def crop(self, photo: np.ndarray) -> np.ndarray:
        """The aligned face, uint8 RGB [size, size, 3]."""
        return crop(photo, self.alignment)


@dataclass(frozen=True, eq=False)
class ChosenFace:
    """The face of a photo that stands for a person.

    Attributes:
      picture: the aligned face, uint8 RGB [size, size, 3].
      number: which one it is from the left, from 1.
      count: of the faces of the photo that can be taken.
    """

    picture: np.ndarray
    number: int
    count: int

    def sentence(self, photo: str) -> str:
        """Which face of several was taken, of a photo called so; empty where there is one face only."""
        if self.count == 1:
            return ""
        return f"{photo} shows {self.count} faces; number {self.number} from the left is taken."


class AlignedSwapper(Protocol):
    """What whole photos need of a `FaceSwapper`."""

    model: ModelFolder
    face_size: int
    identity_size: int

    def identity_vectors(self, pictures: Sequence[np.ndarray], batch_size: int = ...) -> np.ndarray:
        """One identity vector for each of several aligned face crops."""

    def swap_faces(
        self, targets: Sequence[np.ndarray], vectors: np.ndarray, batch_size: int = ..., strength: float = ...
    ) -> list[np.ndarray]:
        """Aligned crops, swapped."""


class PhotoSwapper:
    """Swaps faces in whole photos: a `FaceSwapper` for aligned crops, with a face detector and face parsing.

    Attributes:
      swapper: the model.
      detector_file: what finds faces: YuNet or an SCRFD with landmarks, in ONNX; a path, or a name to look for. It is
        looked for when the first photo comes.
    """

    def __init__(self, swapper: AlignedSwapper, detector_file: str | Path = DETECTOR) -> None:
        self.swapper = swapper
        self.detector_file = detector_file

    @property
    def takes_photos(self) -> bool:
        """Whether the model's alignment template can be found in photos; other models take aligned crops only."""
        return self.swapper.model.alignment in TEMPLATES

    def check_takes_photos(self) -> None:
        """A UserError where the model takes aligned crops only."""
        if not self.takes_photos:
            raise UserError(
                f"this model was trained on {self.swapper.model.alignment} faces and knows no photos; use one of "
                "aligned photos, or give aligned crops and say so (aligned=True, --aligned).",
                "model-takes-crops-only",
            )

    @cached_property
    def _detector(self) -> Detector:
        return self.new_detector()

    def new_detector(self) -> Detector:
        """A face detector for one more thread; each must have its own.

        Raises:
          UserError: its file is missing or is none.
        """
        path = registry.find(self.detector_file, "finding faces in photos")
        try:
            onnx_session.check_yunet(path)
            return onnx_session.with_user_errors(FaceDetector(path))
        except ValueError as error:
            try:
                return onnx_session.scrfd(path)
            except UserError as other:
                sentence = error if other.code in ("onnx-unreadable", "extra-missing") else other
                raise UserError(str(sentence), "detector-unusable") from error

    def parser(self, required: bool = False) -> FaceParser | None:
        """Face parsing where its weights are here.

        Raises:
          UserError: it is required and they are missing; or they are damaged.
        """
        if required and self._parser is None:
            registry.find(PARSING, "keeping what is in front of a face")
        return self._parser

    @cached_property
    def _parser(self) -> FaceParser | None:
        return parser_here()

    def find_faces(self, photo: np.ndarray, role: str = "target") -> list[FoundFace]:
        """The faces of a photo that this model can swap, the most confident first.

        Args:
          photo: uint8 RGB [H, W, 3].
          role: what the photo is called in an error.

        Raises:
          UserError: there is none, the detector's file is missing, or the model takes aligned crops only.
        """
        check_photo(photo, role)
        self.check_takes_photos()
        return find_faces(self._detector, photo, self.swapper.model.alignment, self.swapper.face_size, role)

    def choose_face(self, photo: np.ndarray, role: str = "source", number: int = 0) -> ChosenFace:
        """The face of a photo that stands for a person.

        Args:
          photo: uint8 RGB [H, W, 3].
          role: what the photo is called in an error.
          number: of the face, from the left, from 1; 0: the largest.

        Raises:
          UserError: there is no face of that number, or what `find_faces` says.
        """
        found = sorted(self.find_faces(photo, role), key=lambda one: float(one.face.centre[0]))
        if not 0 <= number <= len(found):
            raise UserError(
                f"the {role} photo shows {len(found)} {'face' if len(found) == 1 else 'faces'} that can be taken, so "
                f"there is no number {number}; 1 is the face on the left, 0 the largest.",
                "source-face-missing",
            )
        index = number - 1 if number else max(range(len(found)), key=lambda i: found[i].face.area)
        return ChosenFace(found[index].crop(photo), index + 1, len(found))

    def swap(self, photo: np.ndarray, source: np.ndarray | None, options: SwapOptions = DEFAULT_SWAP) -> np.ndarray:
        """Swap faces in a photo.

        Args:
          photo: uint8 RGB [H, W, 3], upright.
          source: the source's identity vector [D]; None where the named people bring theirs.
          options: which faces, and how.

        Returns:
          uint8 RGB [H, W, 3]. It carries no mark: `provenance.writer.write_result` adds them.

        Raises:
          UserError: no face that can be swapped, a named person who is not there, or a source that does not fit.
        """
        found = self.find_faces(photo)
        vectors: Sequence[np.ndarray | None] = [None] * len(found)
        if needs_vectors(options):
            vectors = list(self.swapper.identity_vectors([one.crop(photo) for one in found], options.batch_size))
        candidates = [PhotoCandidate((one.face,), vector) for one, vector in zip(found, vectors)]
        return self.swap_chosen(
            photo, found, select_faces(candidates, source, options, self.swapper.identity_size), options
        )

    def swap_chosen(
        self,
        photo: np.ndarray,
        found: Sequence[FoundFace],
        chosen: Mapping[int, np.ndarray],
        options: SwapOptions = DEFAULT_SWAP,
    ) -> np.ndarray:
        """The photo with some of its faces swapped.

        Args:
          photo: uint8 RGB [H, W, 3]; not changed.
          found: all its faces, as from `find_faces`.
          chosen: index of a face → the identity vector [D] that it gets.
          options: how.

        Returns:
          uint8 RGB [H, W, 3].
        """
        parse = self.parser(required=options.needs_parsing)
        crops = [found[i].crop(photo) for i in chosen]
        vectors = np.stack(list(chosen.values()))
        results = self.swapper.swap_faces(crops, vectors, options.batch_size, options.strength)
        return put_back(photo, found, dict(zip(chosen, results)), options, parse, dict(zip(chosen, crops)))


def find_faces(
    detector: Detector, photo: np.ndarray, template: str, size: int, role: str = "target"
) -> list[FoundFace]:
    """The faces of a photo that can be swapped, the most confident first.

    Args:
      detector: YuNet or SCRFD.
      photo: uint8 RGB [H, W, 3].
      template: what crops are aligned to, a name of ``faces.alignment.TEMPLATES``.
      size: side of the crops.
      role: what the photo is called in the log and in errors.

    Raises:
      UserError: there is none; it says why those that were detected are left out.
    """
    found, left_out = detect_faces(detector, photo, template, size)
    if found:
        if left_out:
            counted = "a face that" if len(left_out) == 1 else f"{len(left_out)} faces; the most confident of them"
            _log.info("simswap-jax: left out of the %s photo: %s %s.", role, counted, left_out[0][1])
        return found
    reasons = [reason for _, reason in left_out]
    height, width = photo.shape[:2]
    if not reasons:
        raise UserError(
            f"no face was found in this {role} photo of {width}×{height} pixels; give one that shows a face.", "no-face"
        )
    counted = "the only face" if len(reasons) == 1 else f"the best of {len(reasons)} faces"
    raise UserError(
        f"{counted} in this {role} photo {reasons[0]}; give a photo that shows one better.", "no-usable-face"
    )


def detect_faces(
    detector: Detector, photo: np.ndarray, template: str, size: int
) -> tuple[list[FoundFace], list[tuple[Face, str]]]:
    """The faces of a photo that can be swapped, and those that cannot, each with why: `find_faces`' arguments."""
    found, left_out = [], []
    for face in detector.detect(photo):
        try:
            alignment = align(face.landmarks, template, size)
        except ValueError as error:
            raise UserError(str(error), "face-not-alignable") from error
        reason = unusable(face, alignment)
        if reason:
            left_out.append((face, reason))
        else:
            found.append(FoundFace(face, alignment))
    return found, left_out


def unusable(face: Face, alignment: Alignment) -> str:
    """Why a face cannot be swapped, as the end of a sentence; empty where it can."""
    width, height = face.box[2:]
    if min(width, height) < SMALLEST:
        return f"is too small ({width:.0f}×{height:.0f} pixels, {SMALLEST:.0f} are the least)"
    if not face.direction_known:
        return "lies at an angle from which its direction cannot be determined"
    if alignment.residual > FARTHEST:
        return "is turned too far away for this model"
    return ""


def face_mask(
    photo: np.ndarray, alignment: Alignment, keep: Sequence[str] = (), parse: Parse | None = None
) -> np.ndarray:
    """Which part of a crop is swapped, softly: float32 [size, size], 0 at the crop's border.

    Args:
      photo: uint8 RGB [H, W, 3].
      alignment: of the face in it.
      keep: some of ``options.KEEP``, which stay as they are in the photo; "front" needs ``parse``.
      parse: face parsing; without it, or where it finds no face, an ellipse from the landmarks.
    """
    landmarks, size = alignment.landmarks, alignment.size
    parsed = parse(photo, alignment, keep) if parse is not None else None
    mask = soft_mask(landmarks, size, REACH) if parsed is None else parsed
    if "mouth" in keep:
        mask = mask * (1.0 - mouth_area(landmarks, size))
    if "hair" in keep:
        mask = mask * below_brows(landmarks, size)
    return mask


def put_back(
    photo: np.ndarray,
    found: Sequence[FoundFace],
    results: Mapping[int, np.ndarray],
    options: SwapOptions = DEFAULT_SWAP,
    parse: Parse | None = None,
    crops: Mapping[int, np.ndarray] | None = None,
) -> np.ndarray:
    """The photo with swapped crops pasted into it; where its own are toned or without colour, so are they.

    Blended by colours, the photo's fine detail is added again where little was changed (`faces.blending.fine_detail`).

    Args:
      photo: uint8 RGB [H, W, 3]; not changed.
      found: all faces: also those that are not swapped keep what is theirs where faces overlap.
      results: index of a face → its crop, swapped: uint8 RGB [size, size, 3].
      options: what is kept of the target, whether colours are matched, and how results are blended.
      parse: as in `face_mask`.
      crops: index of a face → its crop of the photo, where they are at hand.

    Returns:
      uint8 RGB [H, W, 3].
    """
    if options.needs_parsing and parse is None:
        raise UserError(
            "keeping what is in front of a face needs face parsing; its weights are not here.", "parsing-missing"
        )
    masks = [face_mask(photo, one.alignment, options.keep, parse) for one in found]
    places = resolve_overlaps([place(photo.shape, one.alignment, mask) for one, mask in zip(found, masks)])
    picture = photo.copy()
    for i, result in results.items():
        target = found[i].crop(photo) if crops is None else crops[i]
        drawn = match_colour(result, target, masks[i]) if options.match_colour else result
        drawn = match_tone(drawn, target, masks[i])
        if options.blend == "poisson":
            paste_gradients(picture, drawn, found[i].alignment, places[i], photo)
            continue
        detail = fine_detail(photo, target, drawn, found[i].alignment, places[i])
        paste(picture, drawn, found[i].alignment, places[i], detail, photo)
    return picture

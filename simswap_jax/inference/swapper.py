"""FaceSwapper: a model folder made ready to re-draw faces."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.data.outliers import cosines_to_the_others
from simswap_jax.errors import UserError
from simswap_jax.faces.detection import Detector, FaceDetector
from simswap_jax.faces.scrfd import ScrfdDetector
from simswap_jax.inference import photo as whole_photos
from simswap_jax.inference.parsing import WEIGHTS as PARSING
from simswap_jax.inference.parsing import FaceParser, parser_here
from simswap_jax.inference.photo import THRESHOLD, FoundFace
from simswap_jax.models import Generator
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.models.normalization import from_convention, to_convention
from simswap_jax.weights import model_folder, registry

# Model folders that ship, as "package:folder in it"; the first that is there is the default.
DEFAULT_MODELS = ("simswap_jax:pretrained/faces", "simswap_jax.contrib.rendered:pretrained/generator")
BATCH_SIZE = 16
LEAST_ALIKE = 0.25  # cosine of a source photo to the mean of the others, with MobileFaceNet; docs/prepare.md
DETECTOR = "face_detection_yunet.onnx"  # of configs/weights.yaml

# Whom to swap: "largest", "best" or "all"; a person by an identity vector [D] of theirs; or several people, each with
# the source they get: (a vector of theirs, the source's). Pairs, because NumPy arrays cannot be the keys of a dict.
Faces = str | np.ndarray | Sequence[tuple[np.ndarray, np.ndarray]]


class FaceSwapper:
    """Re-draws target faces with the identity of a source.

    Attributes:
      model: the model folder as read.
      face_size: side of the crops that the generator sees, in pixels; other sizes are resized to it and back.
      identity_size: numbers in an identity vector.
    """

    def __init__(self, model: model_folder.ModelFolder, detector: str | Path = DETECTOR) -> None:
        """Make a model ready; ``detector`` is the file that finds faces, looked for when the first photo comes."""
        self.model = model
        self.detector_file = detector
        self.face_size = model.face_size
        self.identity_size = model.generator.identity_size
        # The variables are arguments, never closed over: they would be baked into every program.
        self._generator_variables = jax.device_put(model.variables)
        self._identity_variables = jax.device_put(model.identity_variables)
        self._redraw = jax.jit(partial(redraw, Generator(model.generator), model.generator.convention))
        # SimSwap's own ArcFace gets nearest-neighbour crops when swapping, as released; other networks bicubic ones.
        method = "nearest" if model.identity.family == "arcface" else "bicubic"
        self._embed = jax.jit(partial(embed, IdentityNetwork(model.identity), method))

    @classmethod
    def from_pretrained(
        cls, folder: str | Path | None = None, *, face_size: int | None = None, alignment: str | None = None
    ) -> FaceSwapper:
        """Load a model folder.

        Args:
          folder: what `simswap-jax train` leaves; if None, the first of `DEFAULT_MODELS` that is there.
          face_size, alignment: side in pixels and template of the crops that it is to be used on, where they are
            known; a model that was trained on others is refused.

        Raises:
          UserError: there is no such folder, it is damaged, made for other crops, or its identity network is missing.
        """
        if folder is None:
            here = [path for path in map(shipped_folder, DEFAULT_MODELS) if (path / "config.json").is_file()]
            if not here:
                raise UserError(
                    "no model ships with this installation; name a model folder that `simswap-jax train` left."
                )
            folder = here[0]
        return cls(model_folder.read(Path(folder), face_size=face_size, alignment=alignment))

    def identity(self, photos: np.ndarray | Sequence[np.ndarray], aligned: bool = False) -> np.ndarray:
        """The identity vector of one person, v_S of the paper.

        Args:
          photos: one or several uint8 RGB pictures of the same person; several are averaged, which steadies the vector.
          aligned: the pictures are face crops already; otherwise the largest face of each is taken.

        Returns:
          float32 [D], L2-normalised. Who does not belong among several is told by `one_identity`.

        Raises:
          UserError: no picture, none in which a face can be found, not uint8 RGB, or crops that are no squares.
        """
        pictures = [photos] if isinstance(photos, np.ndarray) and photos.ndim == 3 else list(photos)
        if not pictures:
            raise UserError("an identity needs at least one picture; give one.")
        crops = pictures if aligned else [self.largest_face(picture, "source") for picture in pictures]
        return normalised(self.identity_vectors(crops).mean(axis=0))

    def one_identity(self, faces: Sequence[np.ndarray], least: float = LEAST_ALIKE) -> tuple[np.ndarray, np.ndarray]:
        """The identity vector of several aligned faces of one person, without those that show somebody else.

        Args:
          faces: uint8 RGB squares; of three and more the odd ones can be told.
          least: the cosine to the mean of the others under which a face does not belong.

        Returns:
          float32 [D], L2-normalised; and of each face its cosine to the others, NaN of fewer than three.
        """
        vectors = self.identity_vectors(faces)
        cosines = cosines_to_the_others(vectors, least)
        belong = ~(cosines < least)
        return normalised(vectors[belong if belong.any() else slice(None)].mean(axis=0)), cosines

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
            return FaceDetector(path)
        except ValueError as error:
            with suppress(ValueError):
                return ScrfdDetector(path)
            raise UserError(str(error)) from error

    def find_faces(self, photo: np.ndarray, role: str = "target") -> list[FoundFace]:
        """The faces of a photo that this model can re-draw, the most confident first.

        Args:
          photo: uint8 RGB [H, W, 3].
          role: what the photo is called in an error.

        Raises:
          UserError: there is none, the detector's file is missing, or the model was trained on rendered faces.
        """
        check_photo(photo, role)
        self.check_takes_photos()
        return whole_photos.find_faces(self._detector, photo, self.model.alignment, self.face_size)

    def check_takes_photos(self) -> None:
        """A UserError where the model was trained on rendered faces."""
        if self.model.alignment == "rendered":
            raise UserError(
                "this model was trained on rendered faces and knows no photos; use one of aligned photos, or give "
                "aligned crops and say so (aligned=True, --aligned)."
            )

    def largest_face(self, photo: np.ndarray, role: str = "target") -> np.ndarray:
        """The largest face of a photo, aligned as the model wants it: uint8 RGB [face_size, face_size, 3]."""
        found = self.find_faces(photo, role)
        return found[whole_photos.choose(found, "largest")[0]].crop(photo)

    def swap(
        self,
        photo: np.ndarray,
        vector: np.ndarray | None,
        faces: Faces = "largest",
        *,
        threshold: float = THRESHOLD,
        strength: float = 1.0,
        match_colour: bool = False,
        keep: Sequence[str] = (),
        blend: str = whole_photos.BLENDS[0],
        batch_size: int = BATCH_SIZE,
    ) -> np.ndarray:
        """Re-draw faces in a photo.

        Args:
          photo: uint8 RGB [H, W, 3], upright.
          vector: the source's identity vector [D]; None where ``faces`` is pairs, which hold their sources.
          faces: ``"largest"``, ``"best"`` (the detector's most confident) or ``"all"``; or an identity vector [D] of
            the one person to be swapped; or pairs (such a vector, the source's vector), every person once.
          threshold: the least cosine by which a face is a named person.
          strength: as in `swap_aligned`.
          match_colour: give the results the mean and spread of the colours that they replace.
          keep: what stays of the target: ``"mouth"``, ``"hair"`` (the forehead's hairline), ``"front"`` (glasses; needs
            the weights of face parsing, with which hair and hands in front of a face stay anyway).
          blend: ``"feather"``, or ``"poisson"`` to carry over gradients instead of colours.
          batch_size: as in `swap_aligned`.

        Returns:
          uint8 RGB [H, W, 3]. It carries no mark: ``images.write_result`` draws it.

        Raises:
          UserError: no face that can be re-drawn, a named person who is not there, or arguments that do not fit.
        """
        found = self.find_faces(photo)
        crops = [one.crop(photo) for one in found]
        if isinstance(faces, str):
            chosen = whole_photos.choose(found, faces)
        else:
            named = [faces] if isinstance(faces, np.ndarray) else [reference for reference, _ in faces]
            if not named:
                raise UserError("nobody is named to be swapped; give at least one pair (person, source).")
            references = np.concatenate([self._checked_vectors(reference, 1) for reference in named])
            chosen = whole_photos.match(references @ self.identity_vectors(crops, batch_size).T, threshold)
        if isinstance(faces, (str, np.ndarray)):
            if vector is None:
                raise UserError("there is no source; give its identity vector.")
            wanted = self._checked_vectors(vector, len(chosen))
        elif vector is not None:
            raise UserError("the sources stand in the pairs (person, source); give None as the vector.")
        else:
            wanted = np.concatenate([self._checked_vectors(source, 1) for _, source in faces])
        results = self.swap_faces([crops[i] for i in chosen], wanted, batch_size, strength)
        parse = self.parser(required="front" in keep)
        drawn = dict(zip(chosen, results))
        return whole_photos.put_back(photo, found, drawn, match_colour, keep=keep, blend=blend, parse=parse)

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

    def identity_vectors(self, pictures: Sequence[np.ndarray], batch_size: int = BATCH_SIZE) -> np.ndarray:
        """One identity vector for each of several aligned face crops, which may differ in size and in person.

        Args:
          pictures: N uint8 RGB squares.
          batch_size: the most that go through the network at once.

        Returns:
          float32 [N, D], L2-normalised.
        """
        for picture in pictures:
            check_face(picture, "source")
        vectors = []
        for chunk, count in batches(len(pictures), batch_size):
            # At the size of training's faces first, so that the network sees a source as it saw them.
            faces = np.stack([resized(pictures[i], self.face_size) for i in chunk])
            vectors.append(np.asarray(self._embed(self._identity_variables, pad(faces, count)))[: len(chunk)])
        return normalised(np.concatenate([np.zeros((0, self.identity_size), np.float32), *vectors]))

    def swap_aligned(
        self,
        targets: np.ndarray,
        vectors: np.ndarray,
        batch_size: int = BATCH_SIZE,
        strength: float = 1.0,
    ) -> np.ndarray:
        """Re-draw aligned face crops with other identities.

        Args:
          targets: uint8 RGB [B, H, W, 3] or one [H, W, 3], H = W of any size.
          vectors: identity vectors [B, D], or one [D] for all.
          batch_size: the most that go through the generator at once; compiled once per power of two up to it.
          strength: how far the identity moves from the target's own (0) to the source's (1); both are L2-normalised
            vectors and so is the mixture.

        Returns:
          uint8, the shape of ``targets``.

        Raises:
          UserError: wrong shapes, types, vector length or strength.
        """
        single = isinstance(targets, np.ndarray) and targets.ndim == 3
        faces = [targets] if single else list(targets)
        results = self.swap_faces(faces, vectors, batch_size, strength)
        return results[0] if single else np.stack(results) if results else np.empty_like(targets)

    def swap_faces(
        self,
        targets: Sequence[np.ndarray],
        vectors: np.ndarray,
        batch_size: int = BATCH_SIZE,
        strength: float = 1.0,
    ) -> list[np.ndarray]:
        """``swap_aligned`` for crops that may differ in size: uint8 RGB squares in, squares of the same sizes out."""
        for target in targets:
            check_face(target, "target")
        if not 0.0 <= strength <= 1.0:
            raise UserError(f"strength is {strength}; it goes from 0 (the target's own identity) to 1 (the source's).")
        wanted = self._checked_vectors(vectors, len(targets))
        if strength < 1.0 and targets:
            own = self.identity_vectors(targets, batch_size)
            wanted = normalised((1.0 - strength) * own + strength * wanted)
        results: list[np.ndarray] = []
        for chunk, count in batches(len(targets), batch_size):
            faces = np.stack([resized(targets[i], self.face_size) for i in chunk])
            drawn = self._redraw(self._generator_variables, pad(faces, count), pad(wanted[chunk], count))
            results += [resized(face, targets[i].shape[0]) for i, face in zip(chunk, np.asarray(drawn))]
        return results

    def _checked_vectors(self, vectors: np.ndarray, count: int) -> np.ndarray:
        """Vectors as L2-normalised float32 [count, D], or a sentence."""
        vectors = np.asarray(vectors)
        if not np.issubdtype(vectors.dtype, np.floating) or vectors.ndim not in (1, 2):
            raise UserError(
                f"identity vectors must be float [B, D] or [D], not {vectors.dtype} {list(vectors.shape)}; "
                "take what identity() gives."
            )
        if vectors.shape[-1] != self.identity_size:
            raise UserError(
                f"the identity vectors have {vectors.shape[-1]} numbers and this model takes {self.identity_size}; "
                "make them with the same model's identity()."
            )
        if vectors.ndim == 2 and vectors.shape[0] != count:
            raise UserError(
                f"there are {count} targets and {vectors.shape[0]} identity vectors; give one for each, or one for all."
            )
        if not np.isfinite(vectors).all() or not (np.linalg.norm(vectors, axis=-1) > 0).all():
            raise UserError("an identity vector is zero or not finite; make it again with identity().")
        return normalised(np.broadcast_to(vectors.astype(np.float32), (count, self.identity_size)))


def shipped_folder(name: str) -> Path:
    """Where "package:folder in it" lies."""
    package, _, folder = name.partition(":")
    return Path(str(resources.files(package))) / folder


def redraw(generator: Generator, convention: str, variables: Any, targets: jax.Array, vectors: jax.Array) -> jax.Array:
    """I_R = G(I_T, v_S) on 8-bit pictures: uint8 [B, H, W, 3], [B, D] → uint8 [B, H, W, 3]. Pure; to be jitted."""
    values = to_convention(targets.astype(jnp.float32) / 255.0, convention)
    results = from_convention(generator.apply(variables, values, vectors, train=False).astype(jnp.float32), convention)
    return jnp.round(jnp.clip(results, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def embed(network: IdentityNetwork, method: str, variables: Any, pictures: jax.Array) -> jax.Array:
    """Identity vectors of 8-bit pictures: uint8 [B, H, W, 3] → float32 [B, D], L2-normalised. Pure; to be jitted."""
    return network.embed(variables, pictures.astype(jnp.float32) / 255.0, method)


def batches(count: int, batch_size: int) -> list[tuple[list[int], int]]:
    """Indices 0 … count − 1 in chunks, each with the size it is padded to: a power of two, or ``batch_size``.

    So at most log2(batch_size) + 1 programs are ever compiled, and a single face does not pay for a full batch.

    Raises:
      UserError: a batch size under one.
    """
    if batch_size < 1:
        raise UserError(f"the batch size is {batch_size}; it must be at least 1.")
    starts = range(0, count, batch_size)
    chunks = [list(range(start, min(start + batch_size, count))) for start in starts]
    return [(chunk, min(batch_size, 1 << (len(chunk) - 1).bit_length())) for chunk in chunks]


def pad(array: np.ndarray, count: int) -> np.ndarray:
    """Repeat the last row of ``array`` [n, …] until there are ``count``."""
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)]) if len(array) < count else array


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., D] scaled to length one, float32; a zero vector stays zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """A square uint8 picture at another side length: area-averaged going down, bicubic going up, itself if equal."""
    side = picture.shape[0]
    if side == size:
        return picture
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if size < side else cv2.INTER_CUBIC)


def check_photo(picture: np.ndarray, role: str) -> None:
    """A UserError unless ``picture`` is uint8 RGB [H, W, 3] with at least one pixel."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        found = f"{picture.dtype} {list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UserError(f"a {role} must be a uint8 RGB picture [H, W, 3], not {found}; convert it first.")
    if not picture.size:
        raise UserError(f"the {role} has no pixels; give another picture.")


def check_face(picture: np.ndarray, role: str) -> None:
    """A UserError unless ``picture`` is a uint8 RGB square [H, H, 3]."""
    check_photo(picture, role)
    height, width = picture.shape[:2]
    if height != width:
        raise UserError(f"an aligned {role} must be square, not {width}×{height}; crop it around the face first.")

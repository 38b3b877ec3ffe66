"""FaceSwapper: a model folder made ready to swap faces."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.data.embeddings import cosine_to_others
from simswap_jax.errors import UserError, printable
from simswap_jax.inference import sources
from simswap_jax.inference.arrays import batches, check_face, check_vectors, mixed, normalised, pad
from simswap_jax.inference.options import (
    BATCH_SIZE,
    DEFAULT_SWAP,
    Faces,
    FaceSelection,
    SwapOptions,
    check_strength,
    face_numbers,
)
from simswap_jax.inference.photo import DETECTOR, PhotoSwapper
from simswap_jax.inference.runtime import choose, finite_results
from simswap_jax.io.animation import refuse_animation
from simswap_jax.io.images import read_picture, resized
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.provenance import writer
from simswap_jax.provenance.label_xmp import provenance_of
from simswap_jax.provenance.options import ALL_MARKS, MarkOptions
from simswap_jax.weights import model_folder
from simswap_jax.weights.model_names import find_model

PRETRAINED = Path(__file__).parents[1] / "pretrained"
DEFAULT_MODEL = "faces"
LEAST_ALIKE = 0.25  # cosine of a source photo to the mean of the others, MobileFaceNet: docs/experiments/prepare.md

_log = logging.getLogger(__name__)


class FaceSwapper:
    """Swaps faces: targets get the identity of a source.

    Attributes:
      model: the model folder as read.
      face_size: side of the crops that the generator sees, in pixels; other sizes are resized to it and back.
      people: whom the generator can draw, where it knows people and no identity vectors; else empty. `person` makes
        vectors of their names, and all that takes identity vectors takes these.
      identity_size: dimensions of an identity vector; how many people, where it knows those; how many numbers a
        source's picture is, where it takes one (`source_vectors`).
      landmarks: finds those that the generator takes, where it takes any.
      photos: the same for whole photos, with a face detector.
      runtime: what runs the generator, ``"jax"`` or ``"onnx"``.
    """

    def __init__(self, model: model_folder.ModelFolder, detector: str | Path = DETECTOR, runtime: str = "auto") -> None:
        """Make a model ready.

        Args:
          model: as read.
          detector: the file that finds faces, looked for when the first photo comes.
          runtime: ``"jax"``, ``"onnx"``, or ``"auto"``: onnxruntime on a CPU where it is installed.

        Raises:
          UserError: there is no such runtime, or it cannot run this generator.
        """
        self.model = model
        self.photos = PhotoSwapper(self, detector)
        self.face_size = model.face_size
        self.people: tuple[str, ...] = tuple(getattr(model.generator, "people", ()))
        self.landmarks = sources.Landmarks(model)
        self.identity_size = model.network.identity_size or len(self.people)
        if sources.takes_pictures(model.network):
            self.identity_size = sources.row_size(model.network, model.face_size)
        self.runtime, self._program = choose(runtime, model)
        self._generate = partial(finite_results, self._program)
        # The variables are arguments, never closed over: they would be baked into every program.
        self._identity_variables = jax.device_put(model.identity_variables)
        if model.identity is not None:
            network = model.identity_network
            self._embed = jax.jit(partial(embed, network, network.config.swap_resize))

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path | None = None,
        *,
        revision: str | None = None,
        face_size: int | None = None,
        alignment: str | None = None,
        detector: str | Path = DETECTOR,
        runtime: str = "auto",
    ) -> FaceSwapper:
        """Load a model folder.

        Args:
          folder: what `simswap-jax train` leaves, the name of a model that ships, or ``"user/name"`` of the Hub; if
            None, ``"faces"``.
          revision: of the Hub's repository: branch, tag or commit.
          face_size, alignment: side in pixels and template of the crops that it is to be used on, where they are
            known; a model that was trained on others is refused.
          detector: the file that finds faces, looked for when the first photo comes.
          runtime: what runs the generator: ``"jax"``, ``"onnx"``, or ``"auto"``, onnxruntime on a CPU where it is
            installed.

        Raises:
          UserError: there is no such folder, it is damaged, made for other crops, or its identity network is missing.
        """
        if folder is None:
            folder = PRETRAINED / DEFAULT_MODEL
            if not (folder / "config.json").is_file():
                raise UserError(
                    "no model ships with this installation; name a model folder (--model), such as `simswap-jax train` "
                    "leaves.",
                    "model-missing",
                )
        folder = find_model(folder, revision)
        return cls(model_folder.read(folder, face_size=face_size, alignment=alignment), detector, runtime)

    def __repr__(self) -> str:
        generator, identity = self.model.generator, self.model.identity_name or "the model's own"
        return (
            f"FaceSwapper({generator.family}, {self.face_size} px, {generator.convention}, "
            f"alignment {self.model.alignment}, identity {identity} [{self.identity_size}], runtime {self.runtime})"
        )

    def with_generator(self, variables: Mapping[str, Any]) -> FaceSwapper:
        """The same swapper with other weights of a generator of the same shape; compiled programs are shared.

        Args:
          variables: its Flax collections.

        Raises:
          ValueError: the generator runs in onnxruntime, where an export holds its weights.
        """
        if not isinstance(self._program, partial):
            raise ValueError("weights can be changed under the runtime 'jax' only.")
        other = copy.copy(self)
        other.model = replace(self.model, variables=variables)
        other.photos = PhotoSwapper(other, self.photos.detector_file)
        other._program = partial(self._program.func, jax.device_put(variables))
        other._generate = partial(finite_results, other._program)
        return other

    def identity(
        self, photos: np.ndarray | Sequence[np.ndarray], aligned: bool = False, face: int | Sequence[int] = 0
    ) -> np.ndarray:
        """The identity vector of one person, v_S of the paper.

        Args:
          photos: one or several uint8 RGB pictures of the same person; several are averaged, which steadies the vector.
          aligned: the pictures are face crops already; otherwise one face of each is taken.
          face: which, of each photo or of all: its number from the left, or 0 for the largest. Where a photo shows
            several, the log says which was taken.

        Returns:
          float32 [D], L2-normalised. Who does not belong among several is told by `one_identity`.

        Raises:
          UserError: no picture, none in which a face can be found, not uint8 RGB, or crops that are no squares.
        """
        pictures = [photos] if isinstance(photos, np.ndarray) and photos.ndim == 3 else list(photos)
        if not pictures:
            raise UserError("an identity needs at least one picture; give one.", "identity-without-picture")
        crops = pictures if aligned else self._source_faces(pictures, face_numbers(face, len(pictures)))
        return self._mean(self.source_vectors(crops))

    def person(self, name: str) -> np.ndarray:
        """What stands for a person whom the generator was trained on, in place of an identity vector.

        Args:
          name: one of ``people``.

        Returns:
          float32 [people]: one for this person, zero for the others.

        Raises:
          UserError: it was not trained on such a person, or knows no names.
        """
        if name not in self.people:
            known = f"draws {', '.join(self.people)}" if self.people else "takes anybody's identity from a picture"
            raise UserError(
                f"this model {known}, and knows no person '{printable(name)}'; "
                f"{'name one of them' if self.people else 'give a source picture'}.",
                "person-not-trained",
            )
        vector: np.ndarray = np.eye(len(self.people), dtype=np.float32)[self.people.index(name)]
        return vector

    def _source_faces(self, photos: Sequence[np.ndarray], numbers: Sequence[int]) -> list[np.ndarray]:
        """The face of each photo that is meant, aligned; where there are several, the log says which."""
        chosen = [self.photos.choose_face(photo, "source", number) for photo, number in zip(photos, numbers)]
        for i, one in enumerate(chosen):
            if sentence := one.sentence("the source photo" if len(photos) == 1 else f"source photo {i + 1}"):
                _log.info("simswap-jax: %s identity(face=N) takes another.", sentence)
        return [one.picture for one in chosen]

    def one_identity(self, faces: Sequence[np.ndarray], least: float = LEAST_ALIKE) -> tuple[np.ndarray, np.ndarray]:
        """The identity vector of several aligned faces of one person, without those that show somebody else.

        Args:
          faces: uint8 RGB squares; of three and more the odd ones can be told.
          least: the cosine to the mean of the others under which a face does not belong.

        Returns:
          float32 [D], L2-normalised; and of each face its cosine to the others, NaN of fewer than three.
        """
        vectors = self.source_vectors(faces)
        cosines = cosine_to_others(vectors, least)
        belong = ~(cosines < least)
        return self._mean(vectors[belong if belong.any() else slice(None)]), cosines

    def _mean(self, vectors: np.ndarray) -> np.ndarray:
        """One vector of several that stand for one person.

        Raises:
          UserError: several pictures, which cannot be averaged.
        """
        if len(vectors) > 1 and sources.takes_pictures(self.model.network):
            raise UserError(
                f"this model draws from one picture of the source, and {len(vectors)} were given; give the one that "
                "shows the face best.",
                "one-source-picture",
            )
        return normalised(vectors.mean(axis=0))

    def swap(
        self,
        photo: np.ndarray,
        vector: np.ndarray | None,
        faces: Faces | None = None,
        *,
        options: SwapOptions = DEFAULT_SWAP,
        **changes: Any,
    ) -> np.ndarray:
        """Swap faces in a photo.

        Args:
          photo: uint8 RGB [H, W, 3], upright.
          vector: the source's identity vector [D]; None where ``faces`` is pairs, which hold their sources.
          faces: ``"largest"``, ``"best"`` (the detector's most confident) or ``"all"``; or an identity vector [D] of
            the one person to be swapped; or pairs (such a vector, the source's vector), every person once. None: as
            ``options`` say, which is the largest unless told otherwise.
          options: how.
          changes: single fields of ``options``, e.g. ``strength=0.5``.

        Returns:
          uint8 RGB [H, W, 3]. It carries no mark: `provenance.writer.write_result` adds them.

        Raises:
          UserError: no face that can be swapped, a named person who is not there, or arguments that do not fit.
        """
        if faces is not None:
            changes["faces"] = FaceSelection.of(faces)
        return self.photos.swap(photo, vector, replace(options, **changes))

    def swap_file(
        self,
        target: str | Path,
        *,
        source: str | Path | Sequence[str | Path],
        output: str | Path,
        options: SwapOptions = DEFAULT_SWAP,
        marks: MarkOptions = ALL_MARKS,
        **changes: Any,
    ) -> Path:
        """Swap faces in a photo file and write the result, with its marks and what the photo brings along.

        Args:
          target: the photo.
          source: a photo of the person who gives the identity, or several of one person.
          output: the file to write; its ending chooses the format.
          options: how.
          marks: which marks the result gets.
          changes: single fields of ``options``, e.g. ``strength=0.5``; ``faces`` as in ``swap``, but no pairs: there is
            one source.

        Returns:
          ``output``.

        Raises:
          UserError: a file cannot be read or written, or what `swap` and `identity` raise.
        """
        files = [source] if isinstance(source, str | Path) else list(source)
        writer.refuse_overwriting([output], [*files, target])
        refuse_animation(Path(target))
        faces = changes.get("source_faces", options.source_faces)
        vector = self.identity([read_picture(file) for file in files], face=faces)
        result = self.swap(read_picture(target), vector, options=options, **changes)
        writer.write_result(output, result, provenance_of(files, [target]), marks, parent=target)
        return Path(output)

    def source_vectors(self, pictures: Sequence[np.ndarray], batch_size: int = BATCH_SIZE) -> np.ndarray:
        """What stands for the source of each of several aligned face crops, in `swap_faces`: its identity vector, or,
        where the generator takes pictures, the picture as numbers; arguments as of `identity_vectors`.

        Returns:
          float32 [N, D].
        """
        if sources.takes_pictures(self.model.network):
            return sources.rows_of(pictures, self.model, self.landmarks)
        return self.identity_vectors(pictures, batch_size)

    def identity_vectors(self, pictures: Sequence[np.ndarray], batch_size: int = BATCH_SIZE) -> np.ndarray:
        """One identity vector for each of several aligned face crops, which may differ in size and in person.

        Args:
          pictures: N uint8 RGB squares.
          batch_size: the most that go through the network at once.

        Returns:
          float32 [N, D], L2-normalised.
        """
        _ = self.model.identity_network  # or a sentence that there is none
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
        """Give aligned face crops other identities.

        Args:
          targets: uint8 RGB [B, H, W, 3] or one [H, W, 3], H = W of any size.
          vectors: identity vectors [B, D], or one [D] for all.
          batch_size: the most that go through the generator at once; compiled once per power of two up to it.
          strength: how far the identity moves from the target's own (0) to the source's (1), or beyond it (up to 2);
            both are L2-normalised vectors and so is the mixture.

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
        target_points: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """``swap_aligned`` for crops that may differ in size: uint8 RGB squares in, squares of the same sizes out.

        ``target_points``, float [B, P, 2] in sides of the crop: the landmarks that the generator takes, where they are
        known; else they are found.
        """
        for target in targets:
            check_face(target, "target")
        check_strength(strength)
        wanted = check_vectors(vectors, len(targets), self.identity_size)
        takes_own = "target_vector" in self.model.network.takes
        own = self.identity_vectors(targets, batch_size) if targets and (strength != 1.0 or takes_own) else None
        if strength != 1.0 and own is not None:
            wanted = mixed(own, wanted, strength)
        results: list[np.ndarray] = []
        for chunk, count in batches(len(targets), batch_size):
            count = count if self.runtime == "jax" else len(chunk)  # onnxruntime compiles nothing: no padding
            faces = np.stack([resized(targets[i], self.face_size) for i in chunk])
            more = [pad(own[chunk], count)] if takes_own and own is not None else []
            rows = wanted[chunk]
            if sources.TARGETS in self.model.network.takes:
                points = self.landmarks(list(faces)) if target_points is None else np.asarray(target_points)[chunk]
                rows = sources.with_target_points(rows, points)
            elif sources.takes_pictures(self.model.network):
                rows = sources.unscaled(rows)
            drawn = self._generate(pad(faces, count), pad(rows, count), *more)
            results += [resized(face, targets[i].shape[0]) for i, face in zip(chunk, drawn)]
        return results


def embed(network: IdentityNetwork, method: str, variables: Any, pictures: jax.Array) -> jax.Array:
    """Identity vectors of 8-bit pictures: uint8 [B, H, W, 3] → float32 [B, D], L2-normalised. Pure; to be jitted."""
    return network.embed(variables, pictures.astype(jnp.float32) / 255.0, method)

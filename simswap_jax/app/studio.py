"""What the page does, without the page: find the faces of a photo or film, take a click, swap, write it marked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from simswap_jax.cli.swap_video import is_film
from simswap_jax.errors import UserError
from simswap_jax.inference.photo import BLENDS, FoundFace, put_back
from simswap_jax.inference.swapper import LEAST_ALIKE, FaceSwapper, check_face
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.provenance import writer
from simswap_jax.provenance.label_xmp import marks_of_files
from simswap_jax.video.decode import open_film
from simswap_jax.video.pipeline import FilmMarks, swap_film

LARGEST = 40_000_000  # pixels of a photo
SHOWN = 1024  # pixels of the longer side of what is shown to be clicked on
FORMATS = ("as the photo", "PNG", "JPEG", "WebP")
FIRST_FRAMES = 250  # of a film among which one with a face is looked for, every
EVERY = 10  # frames
CHOSEN, OTHER = (60, 200, 90), (235, 235, 235)  # colours of the frames around faces

Say = Callable[[float, str], None]  # how far (0 to 1), and what is done now


@dataclass(frozen=True)
class Target:
    """A photo, or a frame of a film, whose faces are found.

    Attributes:
      path: its file.
      size: width and height in pixels.
      faces: found in it; empty where the whole picture is one aligned face.
      chosen: indices of the faces that are to be swapped.
      still: the picture that is shown: the photo, or a frame of the film in a file of its own.
      frame: of a film, which frame that is; None for a photo.
    """

    path: Path
    size: tuple[int, int]
    faces: tuple[FoundFace, ...]
    chosen: frozenset[int]
    still: Path
    frame: int | None = None

    @property
    def scale(self) -> float:
        """Pixels of the shown picture per pixel of the photo."""
        return min(1.0, SHOWN / max(self.size))

    def clicked(self, x: float, y: float) -> "Target":
        """The same with the face at a place of the *shown* picture chosen, or not any more; the smallest one there."""
        place = np.array([x, y]) / self.scale
        hit = [i for i, one in enumerate(self.faces) if inside(place, one.face.box)]
        if not hit:
            return self
        face = min(hit, key=lambda i: self.faces[i].face.area)
        return replace(self, chosen=self.chosen ^ {face})


@dataclass(frozen=True)
class Manner:
    """How faces are drawn and put back; the fields are those of `FaceSwapper.swap`."""

    strength: float = 1.0
    match_colour: bool = False
    keep: tuple[str, ...] = ()
    blend: str = BLENDS[0]


@dataclass(frozen=True)
class Marks:
    """Which marks a result is to carry."""

    visible_label: bool = True
    metadata: bool = True
    c2pa: bool = True
    invisible_mark: bool = True


class Studio:
    """A model at work for the page. Its methods may be called from several threads; they take turns."""

    def __init__(self, swapper: FaceSwapper) -> None:
        self._swapper = swapper
        self._turn = threading.Lock()
        self.whole_photos = swapper.model.alignment != "rendered"

    def look(self, path: Path) -> Target:
        """Find the faces of a photo, or of one of a film's first frames; the largest is chosen.

        Raises:
          UserError: it is neither, too large, or shows no face that can be swapped.
        """
        if is_film(path):
            return self._look_at_film(path)
        picture = read(path)
        height, width = picture.shape[:2]
        if not self.whole_photos:
            check_face(picture, "target")
            return Target(path, (width, height), (), frozenset(), path)
        with self._turn:
            faces = self._swapper.find_faces(picture)
        return Target(path, (width, height), tuple(faces), largest(faces), path)

    def _look_at_film(self, path: Path) -> Target:
        self._swapper.check_takes_photos()
        with calling_by_name(path):
            film = open_film(path)
            with closing(film.frames()) as frames:
                for frame in islice(frames, 0, FIRST_FRAMES, EVERY):
                    picture = film.upright(frame.image)
                    with suppress(UserError), self._turn:  # no face in this one
                        faces = self._swapper.find_faces(picture)
                        still = path.with_name("frame.png")
                        still.write_bytes(encode_png(picture))
                        height, width = picture.shape[:2]
                        return Target(path, (width, height), tuple(faces), largest(faces), still, frame.index)
        raise UserError(f"no face was found at the beginning of {path.name}; cut it so that it begins with one.")

    def identity(self, sources: Sequence[Path]) -> tuple[np.ndarray, list[Path]]:
        """The identity vector [D] of one person, out of their pictures, and those that show somebody else: left out."""
        pictures = [read(path) for path in sources]
        if not self.whole_photos:
            for picture in pictures:
                check_face(picture, "source")
        with self._turn:
            faces = [
                self._swapper.largest_face(picture, "source") if self.whole_photos else picture for picture in pictures
            ]
            vector, cosines = self._swapper.one_identity(faces)
        return vector, [path for path, cosine in zip(sources, cosines) if cosine < LEAST_ALIKE]

    def swap(
        self,
        sources: Sequence[Path],
        target: Target,
        output: Path,
        marks: Marks,
        manner: Manner,
        say: Say = lambda share, what: None,
    ) -> tuple[str, ...]:
        """Write the photo with the chosen faces re-drawn; returns the marks that it carries.

        Raises:
          UserError: no source, nobody chosen, or what `look` and `identity` say.
        """
        if not sources:
            raise UserError("There is no source yet; add a picture of the person whose face is to appear.")
        if self.whole_photos and not target.chosen:
            raise UserError("No face is chosen; click on one in the photo.")
        say(0.05, "Reading the source")
        vector, _ = self.identity(sources)
        if target.frame is not None:
            return self._swap_film(sources, target, vector, output, marks, manner, say)
        photo = read(target.path)
        say(0.3, "Drawing (the first time takes longer)")
        with self._turn:
            if self.whole_photos:
                chosen = sorted(target.chosen)
                crops = [target.faces[i].crop(photo) for i in chosen]
                drawn = self._swapper.swap_faces(crops, vector, strength=manner.strength)
                result = put_back(
                    photo,
                    target.faces,
                    dict(zip(chosen, drawn)),
                    manner.match_colour,
                    keep=manner.keep,
                    blend=manner.blend,
                    parse=self._swapper.parser(required="front" in manner.keep),
                )
            else:
                result = self._swapper.swap_aligned(photo, vector, strength=manner.strength)
        say(0.85, "Marking and writing")
        return writer.write_result(
            output,
            result,
            marks_of_files(sources, [target.path]),
            visible_label=marks.visible_label,
            metadata=marks.metadata,
            c2pa=marks.c2pa,
            invisible_mark=marks.invisible_mark,
            parent=target.path,
        )

    def _swap_film(
        self,
        sources: Sequence[Path],
        target: Target,
        vector: np.ndarray,
        output: Path,
        marks: Marks,
        manner: Manner,
        say: Say,
    ) -> tuple[str, ...]:
        """Everybody who is chosen in the shown frame is followed through the film."""
        still = read(target.still)
        people = self._swapper.identity_vectors([target.faces[i].crop(still) for i in sorted(target.chosen)])
        with calling_by_name(target.path):
            result = swap_film(
                self._swapper,
                target.path,
                output,
                None,
                [(person, vector) for person in people],
                marks=marks_of_files(sources, [target.path]),
                strength=manner.strength,
                match_colour=manner.match_colour,
                keep=manner.keep,
                blend=manner.blend,
                film_marks=FilmMarks(marks.visible_label, marks.metadata, marks.c2pa, marks.invisible_mark),
                sink=lambda line: say(0.5, line),
            )
        return result.carried


def still_of(film: Path, number: int) -> np.ndarray:
    """A frame of a film, uint8 RGB [H, W, 3]."""
    opened = open_film(film)
    with closing(opened.frames()) as frames:
        return opened.upright(next(islice(frames, number, None)).image)


def largest(faces: Sequence[FoundFace]) -> frozenset[int]:
    """The one face that is chosen at first."""
    return frozenset([max(range(len(faces)), key=lambda i: faces[i].face.area)])


@contextmanager
def calling_by_name(path: Path) -> Iterator[None]:
    """In a UserError a file is called by its name, without the folder it lies in here."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def read(path: Path) -> np.ndarray:
    """A picture file as uint8 RGB, or a UserError that calls it by its name, without the folder it lies in here."""
    with calling_by_name(path):
        picture = read_picture(path)
    if picture.shape[0] * picture.shape[1] > LARGEST:
        raise UserError(f"{path.name} has more than {LARGEST // 1_000_000} megapixels; send a smaller one.")
    return picture


def shown(target: Target) -> np.ndarray:
    """The photo made small enough to look at, a numbered frame around every face: uint8 RGB."""
    photo = read(target.still)
    size = [max(1, round(side * target.scale)) for side in target.size]
    picture = cv2.resize(photo, size, interpolation=cv2.INTER_AREA) if target.scale < 1 else photo.copy()
    thick = max(2, round(max(size) / 300))
    for i in sorted(range(len(target.faces)), key=lambda i: i in target.chosen):
        left, top, width, height = (round(value * target.scale) for value in target.faces[i].face.box)
        colour = CHOSEN if i in target.chosen else OTHER
        cv2.rectangle(picture, (left, top), (left + width, top + height), (0, 0, 0), thick + 2)
        cv2.rectangle(picture, (left, top), (left + width, top + height), colour, thick)
        place, letters = (left + 2 * thick, top + 12 + 4 * thick), 0.25 * thick + 0.15
        cv2.putText(picture, str(i + 1), place, cv2.FONT_HERSHEY_SIMPLEX, letters, (0, 0, 0), thick + 2, cv2.LINE_AA)
        cv2.putText(picture, str(i + 1), place, cv2.FONT_HERSHEY_SIMPLEX, letters, colour, thick, cv2.LINE_AA)
    return picture


def output_suffix(target: Path, wanted: str) -> str:
    """The ending of a result's file: of the format that was asked for, or the photo's own where we can write that.

    Films become .mp4, which browsers play.
    """
    if is_film(target):
        return ".mp4"
    if wanted in FORMATS[1:]:
        return {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}[wanted]
    return target.suffix.lower() if target.suffix.lower() in writer.FORMATS else ".png"


def inside(place: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    """Whether a place, x and y, lies in a box (left, top, width, height)."""
    return bool(box[0] <= place[0] <= box[0] + box[2] and box[1] <= place[1] <= box[1] + box[3])

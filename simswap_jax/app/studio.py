"""What the page does, without the page: find the faces of a photo or video, take a click, swap, write it marked."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from simswap_jax.errors import UserError
from simswap_jax.inference import example_people
from simswap_jax.inference.arrays import check_face
from simswap_jax.inference.options import FaceSelection, MarkOptions, Source, SwapOptions
from simswap_jax.inference.photo import ChosenFace, FoundFace
from simswap_jax.inference.swapper import LEAST_ALIKE, FaceSwapper
from simswap_jax.io.images import SUFFIXES, encode_png, read_picture
from simswap_jax.provenance import writer
from simswap_jax.provenance.label_xmp import provenance_of
from simswap_jax.video.decode import SUFFIXES as VIDEO_SUFFIXES
from simswap_jax.video.decode import is_video, open_video
from simswap_jax.video.pipeline import swap_video

SHOWN = 1024  # pixels of the longer side of what is shown to be clicked on
FORMATS = ("as the photo", "PNG", "JPEG", "WebP")
MOST_PICTURES = 32  # of one source
EVERY = 10  # frames of a video a face is looked for, later more seldom: after a tenth of those that were seen, or
APART = 2  # seconds
CHOSEN, OTHER = (60, 200, 90), (235, 235, 235)  # colours of the frames around faces

Say = Callable[[float, str], None]  # how far (0 to 1), and what is done now


@dataclass(frozen=True)
class Target:
    """A photo, or a frame of a video, whose faces are found.

    Attributes:
      path: its file.
      size: width and height in pixels.
      faces: found in it; empty where the whole picture is one aligned face.
      chosen: indices of the faces that are to be swapped.
      still: the picture that is shown: the photo, or a frame of the video in a file of its own.
      frame: of a video, which frame that is; None for a photo.
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
class Sources:
    """Pictures of one person whose face appears.

    Attributes:
      paths: the files; none: nobody is chosen.
      face: which face of a picture that shows several: its number from the left, or 0 for the largest.
      example: they are an example, no uploads.
    """

    paths: tuple[Path, ...] = ()
    face: int = 0
    example: bool = False


@dataclass(frozen=True)
class Identity:
    """Who is seen in sources.

    Attributes:
      vector: float32 [D].
      faces: the face of each picture, uint8 RGB [size, size, 3].
      odd: the pictures that show somebody else, and are left out.
      sentences: which face was taken of pictures with several.
    """

    vector: np.ndarray
    faces: Sequence[np.ndarray]
    odd: Sequence[Path]
    sentences: Sequence[str]


class Studio:
    """A model at work for the page. Its methods may be called from several threads; they take turns."""

    def __init__(self, swapper: FaceSwapper, model_in_words: str = "") -> None:
        self._swapper, self.model_in_words = swapper, model_in_words
        self._turn = threading.Lock()
        self.whole_photos = swapper.photos.takes_photos

    def look(self, path: Path) -> Target:
        """Find the faces of a photo, or of a frame of a video; the largest is chosen.

        A video is looked at every `EVERY` frames, later every `APART` seconds; the first frame that shows faces counts.

        Raises:
          UserError: it is neither, too large, or shows no face that can be swapped.
        """
        if is_video(path):
            return self._look_at_video(path)
        picture = read(path)
        height, width = picture.shape[:2]
        if not self.whole_photos:
            check_face(picture, "target")
            return Target(path, (width, height), (), frozenset(), path)
        with self._turn:
            faces = self._swapper.photos.find_faces(picture)
        return Target(path, (width, height), tuple(faces), largest(faces), path)

    def _look_at_video(self, path: Path) -> Target:
        self._swapper.photos.check_takes_photos()
        with calling_by_name(path):
            video = open_video(path)
            due = 0
            with closing(video.frames()) as frames:
                for frame in frames:
                    if frame.index < due:
                        continue
                    due += max(EVERY, min(due // 10, round(APART * video.rate)))
                    picture = video.upright(frame.image)
                    faces = self._faces_if_any(picture)
                    if faces:
                        still = path.with_name(f"{path.stem}.frame.png")  # never the upload's own name
                        still.write_bytes(encode_png(picture))
                        height, width = picture.shape[:2]
                        return Target(path, (width, height), tuple(faces), largest(faces), still, frame.index)
        raise UserError(f"no face was found in {path.name}; choose a video that shows one.", "no-face-in-upload")

    def _faces_if_any(self, picture: np.ndarray) -> list[FoundFace]:
        """The faces of a frame that can be swapped; none where it shows none."""
        try:
            with self._turn:
                return self._swapper.photos.find_faces(picture)
        except UserError as error:
            if error.code in ("no-face", "no-usable-face"):
                return []
            raise  # the detector cannot be had, say: the next frame would not do either

    def identity(self, sources: Sources) -> Identity:
        """The identity of one person, out of their pictures.

        Raises:
          UserError: there are too many pictures, or one cannot be read or shows no face.
        """
        if len(sources.paths) > MOST_PICTURES:
            raise UserError(
                f"these are {len(sources.paths)} pictures of one person; choose at most {MOST_PICTURES}.",
                "too-many-source-pictures",
            )
        chosen = [self._face_in(path, sources.face) for path in sources.paths]
        with self._turn:
            vector, cosines = self._swapper.one_identity([one.picture for one in chosen])
        odd = [path for path, cosine in zip(sources.paths, cosines) if cosine < LEAST_ALIKE]
        said = [one.sentence(path.name) for path, one in zip(sources.paths, chosen)]
        return Identity(vector, [one.picture for one in chosen], odd, [sentence for sentence in said if sentence])

    def _face_in(self, path: Path, number: int) -> ChosenFace:
        """The face of a source's picture; the picture itself is not kept."""
        picture = read(path)
        if not self.whole_photos:
            check_face(picture, "source")
            return ChosenFace(picture, 1, 1)
        with self._turn:
            return self._swapper.photos.choose_face(picture, "source", number)

    def swap(
        self,
        sources: Mapping[int | None, Sources],
        target: Target,
        output: Path,
        swap: SwapOptions,
        marks: MarkOptions,
        say: Say = lambda share, what: None,
    ) -> tuple[str, ...]:
        """Write the photo or video with the chosen faces swapped; returns the marks that it carries.

        Args:
          sources: index of a face of the target → whose identity it gets; None: of all others that are chosen.
          target: a photo, or a frame of a video; who is chosen in it is followed through the video.
          output: the file to write.
          swap: how; its ``faces`` are those chosen in the target.
          marks: which marks it gets.
          say: is told how far it is.

        Raises:
          UserError: no source, nobody chosen, or what `look` and `identity` say.
        """
        if self.whole_photos and not target.chosen:
            raise UserError("No face is chosen; click on one in the photo.", "nobody-chosen")
        everybody = sources.get(None, Sources())
        swapped: list[int | None] = [*sorted(target.chosen)] or [None]
        whose = {i: sources.get(i, everybody) for i in swapped}
        if not all(one.paths for one in whose.values()):
            raise UserError(
                "There is no source yet; add a picture of the person whose face is to appear.", "source-not-chosen"
            )
        say(0.05, "Reading the source")
        vectors = {one: self.identity(one).vector for one in dict.fromkeys(whose.values())}
        given = {i: vectors[one] for i, one in whose.items()}
        files = tuple(dict.fromkeys(path for one in vectors for path in one.paths))
        if target.frame is not None:
            with progress_lines(lambda line: say(0.5, line)):
                return self._swap_video(Source(None, files), given, target, output, swap, marks)
        photo = read(target.path)
        say(0.3, "Drawing (the first time takes longer)")
        with self._turn:
            result = self._swap_chosen(photo, given, target, swap)
        say(0.85, "Marking and writing")
        made_of = provenance_of(files, [target.path])
        return writer.write_result(output, result, made_of, marks, parent=target.path)

    def _swap_chosen(
        self, photo: np.ndarray, given: Mapping[int | None, np.ndarray], target: Target, swap: SwapOptions
    ) -> np.ndarray:
        if not self.whole_photos:
            return self._swapper.swap_aligned(photo, given[None], strength=swap.strength)
        chosen = {i: vector for i, vector in given.items() if i is not None}
        return self._swapper.photos.swap_chosen(photo, target.faces, chosen, swap)

    def _swap_video(
        self,
        everybody: Source,
        given: Mapping[int | None, np.ndarray],
        target: Target,
        output: Path,
        swap: SwapOptions,
        marks: MarkOptions,
    ) -> tuple[str, ...]:
        """Everybody who is chosen in the shown frame is followed through the video."""
        still = read(target.still)
        people = self._swapper.identity_vectors([target.faces[i].crop(still) for i in given if i is not None])
        chosen = FaceSelection("named", tuple(zip(people, given.values())))
        with calling_by_name(target.path):
            return swap_video(self._swapper, target.path, output, everybody, replace(swap, faces=chosen), marks).carried


@contextmanager
def progress_lines(tell: Callable[[str], None]) -> Iterator[None]:
    """Give the package's log lines of this thread to a function within the block."""
    thread, package = threading.get_ident(), logging.getLogger("simswap_jax")
    handler = logging.Handler(logging.INFO)
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = lambda record: tell(record.getMessage())  # type: ignore[method-assign]
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)


def still_of(video: Path, number: int) -> np.ndarray:
    """A frame of a video, uint8 RGB [H, W, 3]."""
    opened = open_video(video)
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
        raise UserError(str(error).replace(str(path), path.name), error.code) from error


def read(path: Path) -> np.ndarray:
    """A picture file as uint8 RGB, or a UserError that calls it by its name, without the folder it lies in here."""
    with calling_by_name(path):
        return read_picture(path)


def picture_suffixes() -> list[str]:
    """Endings of the pictures that can be read here: HEIC only with its package."""
    Image.init()
    known = set(Image.registered_extensions()) | ({".heic", ".heif"} if find_spec("pillow_heif") else set())
    return sorted(SUFFIXES & known)


def video_suffixes() -> list[str]:
    """Endings of the videos that can be read here: none without PyAV."""
    return sorted(VIDEO_SUFFIXES) if find_spec("av") else []


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


def output_name(target: Path, wanted: str) -> str:
    """The name of a result's file: the target's, with what was done and the ending of `output_suffix`."""
    return f"{target.stem[:60]}_swapped{output_suffix(target, wanted)}"


def output_suffix(target: Path, wanted: str) -> str:
    """The ending of a result's file: of the format that was asked for, or the photo's own where we can write that.

    Videos become .mp4, which browsers play.
    """
    if is_video(target):
        return ".mp4"
    if wanted in FORMATS[1:]:
        return {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp"}[wanted]
    return target.suffix.lower() if target.suffix.lower() in writer.FORMATS else ".png"


def inside(place: np.ndarray, box: tuple[float, float, float, float]) -> bool:
    """Whether a place, x and y, lies in a box (left, top, width, height)."""
    return bool(box[0] <= place[0] <= box[0] + box[2] and box[1] <= place[1] <= box[1] + box[3])


# "package.module:function", called with a folder and whether targets may be more than a single face's crop; gives its
# source and target files back: faces for models that take no photos.
DRAWN = "simswap_jax.contrib.rendered.renderer:draw"


@dataclass(frozen=True)
class Examples:
    """Example sources and targets, files; and the credit that they ask for, empty where they show nobody."""

    sources: Sequence[Path]
    targets: Sequence[Path]
    credit: str = ""


def examples(folder: Path, photos: bool) -> Examples:
    """Put examples into a folder: the people who ship for a model of photos, drawn faces for another.

    Args:
      folder: is there.
      photos: whether the model takes photos.
    """
    if not photos:
        module, function = DRAWN.split(":")
        return Examples(*getattr(import_module(module), function)(folder, photos))
    shipped = sorted(example_people.FOLDER.glob("*.jpg"))
    copies = [Path(shutil.copyfile(path, folder / path.name.replace("_", " "))) for path in shipped]
    sources, smiling = ([path for path in copies if how in path.name] for how in ("neutral", "smiling"))
    return Examples(sources, [beside(sources[4], smiling[1], folder), *smiling[:0:-1]], example_people.CREDIT)


def beside(left: Path, right: Path, folder: Path) -> Path:
    """Two pictures of one size, without a sixth of each at the sides, as one photo in a folder."""
    path = folder / "two people.png"
    pictures = [read_picture(one) for one in (left, right)]
    edge = pictures[0].shape[1] // 6
    path.write_bytes(encode_png(np.concatenate([picture[:, edge:-edge] for picture in pictures], axis=1)))
    return path

"""The ``faceforensics`` protocol, the paper's: frames of FaceForensics++, its own pairs, other methods' videos.

    ROOT/original_sequences/youtube/<c23|c40|raw>/videos/000.mp4          (or images/000/0000.png …)
    ROOT/manipulated_sequences/<Method>/<c23|…>/videos/000_003.mp4        target 000 with the identity of 003
    ROOT/splits/{train,val,test}.json                                     [["000", "003"], …], meant both ways

Of each video some frames are cut into aligned crops once, into the evaluation's folder; then these are people and
pictures like any others. A method's frame is cut at the very place where the target's was. Methods may leave out a
target's last frames, so frames are chosen among those that the target and all results of it have.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import EXTERNAL, ModelCandidate, PairBatch, files_sha256
from simswap_jax.evaluation.frames import VIDEOS, frame_count, some_frames
from simswap_jax.evaluation.gallery import size_and_time
from simswap_jax.evaluation.protocols.pairs import as_stated
from simswap_jax.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Pair,
    PairList,
    ProtocolData,
    alignment_of,
)
from simswap_jax.evaluation.request import EvaluationRequest
from simswap_jax.faces.alignment import TEMPLATES, Alignment, crop
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.inference.photo import find_faces
from simswap_jax.inference.swapper import DETECTOR
from simswap_jax.io.atomic import file_sha256, json_fingerprint, replacing_file, write_text
from simswap_jax.io.images import encode_png
from simswap_jax.io.progress import Progress, to_terminal
from simswap_jax.provenance.writer import list_pictures
from simswap_jax.weights import onnx_session, registry

QUALITIES = ("raw", "c0", "c23", "c40")
PLACES = "places.json"  # frame → where its crop was cut
Places = Mapping[str, Sequence[float]]  # video/frame.png → the matrix that cut it, six values
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cutter:
    """How frames become crops.

    Attributes:
      detector: finds the face.
      detector_sha256: of its file.
      template: that crops are aligned to, a name of ``faces.alignment.TEMPLATES``.
      size: side in pixels.
      frames: how many of a video.
    """

    detector: FaceDetector
    detector_sha256: str
    template: str
    size: int
    frames: int

    def describe(self, videos: Sequence[Path]) -> str:
        """A hash of what the crops of a video depend on, it and its results."""
        stamps = [[str(file.resolve()), *size_and_time(file)] for file in files_of(videos)]
        return json_fingerprint([self.detector_sha256, self.template, self.size, self.frames, stamps])


class ExternalVideos:
    """Another method's videos of the same pairs, cut where the targets were."""

    kind = EXTERNAL
    shows_source = True

    def __init__(self, key: str, folder: Path, *, pairs: PairList, places: Places, size: int) -> None:
        """Find the videos.

        Raises:
          UserError: one of the pairs has none.
        """
        self.key = self.title = key
        self._pairs, self._places, self._size = pairs, places, size
        self._videos = result_videos(folder, [_names(pair) for pair in pairs.pairs])
        self.sha256 = files_sha256(files_of(self._videos.values()))

    def results(self, batch: PairBatch) -> list[np.ndarray]:
        """The frames, cut where the targets' were."""
        wanted: dict[tuple[str, str], dict[int, int]] = {}
        for position, index in enumerate(batch.indices):
            pair = self._pairs.pairs[index]
            wanted.setdefault(_names(pair), {})[position] = int(Path(pair.target).stem)
        found: dict[int, np.ndarray] = {}
        for names, positions in wanted.items():
            frames = some_frames(self._videos[names], sorted(set(positions.values())))
            for position, frame in positions.items():
                place = self._places[self._pairs.pairs[batch.indices[position]].target]
                found[position] = cut(frames[frame], place, self._size)
        return [found[position] for position in range(len(batch.indices))]

    def self_swaps(self, batch: PairBatch) -> None:
        """There are none."""


def _names(pair: Pair) -> tuple[str, str]:
    """The videos of a pair's target and source."""
    return pair.target.split("/")[0], pair.source.split("/")[0]


def files_of(videos: Iterable[Path]) -> list[Path]:
    """The files of videos, some of which are folders of frames."""
    return [file for video in videos for file in (list_pictures(video) if video.is_dir() else [video])]


def prepare(request: EvaluationRequest, models: Sequence[ModelCandidate], size: int) -> ProtocolData:
    """Cut the crops that are not there yet, and list the pairs.

    Raises:
      UserError: another layout than FaceForensics++'s, no pairs, or no face in any frame of a video.
    """
    originals = originals_of(request.data)
    template = alignment_of(request, models)
    if template not in TEMPLATES:
        raise UserError(
            f"this model takes crops aligned as '{template}', to which no photo can be aligned; name another --model.",
            "model-cannot-align-photos",
        )
    names_of_pairs = pairs_of(request.splits or sorted((request.data / "splits").glob("*.json")), request.data)
    names = sorted({name for pair in names_of_pairs for name in pair})
    check_complete(request.data, originals, names)
    crops = request.output / "crops"
    detector = registry.find(DETECTOR, "finding faces in frames")
    cutter = Cutter(onnx_session.yunet(detector), file_sha256(detector), template, size, request.frames)
    results = [result_videos(folder, names_of_pairs) for folder in request.results.values()]
    progress = Progress(len(names), "videos cut", to_terminal)
    places: dict[str, list[float]] = {}
    for name in names:
        of_target = [videos[pair] for videos in results for pair in names_of_pairs if pair[0] == name]
        places |= cut_video(originals[name], crops / name, cutter, of_target)
        progress.add()
    pairs = frame_pairs(names_of_pairs, places)
    people = {name: [crops / picture for picture in theirs] for name, theirs in by_video(places).items()}
    read_external = partial(ExternalVideos, pairs=pairs, places=places, size=size)
    return ProtocolData(crops, people, pairs, read_external, exclude_source=False, training=as_stated(request.people))


def originals_of(root: Path) -> dict[str, Path]:
    """Original videos by name."""
    for place in ("original_sequences/youtube", "original_sequences/actors", "original_sequences", "."):
        try:
            return videos_of(root / place)
        except UserError:
            continue
    raise UserError(
        f"{root} is not laid out as FaceForensics++: it has no original_sequences/youtube/c23/videos (or images).",
        "not-faceforensics",
    )


def videos_of(folder: Path) -> dict[str, Path]:
    """Videos, or folders of frames, by name: of ``<folder>/<quality>/{videos,images}`` or ``<folder>/{videos,images}``;
    of several qualities the best.

    Raises:
      UserError: there are none.
    """
    for quality in (*QUALITIES, "."):
        for kind in ("images", "videos"):
            place = folder / quality / kind
            if place.is_dir():
                entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
                found = {e.stem: e for e in entries if e.is_dir() or e.suffix.lower() in VIDEOS}
                if found:
                    return found
    raise UserError(
        f"there are no videos in {folder}; it should hold c23/videos or c23/images (or raw, c40).", "no-videos"
    )


def result_videos(folder: Path, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Path]:
    """Another method's video of each pair, which are (target, source) names: ``<target>_<source>``.

    Raises:
      UserError: one of the pairs has none.
    """
    needed = {f"{target}_{source}": (target, source) for target, source in sorted(pairs)}
    found = videos_of(folder)
    check_complete(folder, found, list(needed))
    return {pair: found[name] for name, pair in needed.items()}


def check_complete(folder: Path, found: Mapping[str, Path], needed: Sequence[str]) -> None:
    """A UserError where a folder lacks some of the videos that the pairs need, by name."""
    missing = [name for name in needed if name not in found]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(needed)} videos of the pairs (the first: {missing[0]}); "
            "bring them, or name --splits with the pairs that are there.",
            "videos-incomplete",
        )


def pairs_of(files: Sequence[Path], root: Path) -> list[tuple[str, str]]:
    """(target, source) names of all files of pairs, each pair both ways.

    Raises:
      UserError: no file, or one that is not such a list.
    """
    if not files:
        raise UserError(
            f"there are no pairs: put FaceForensics++'s files into {root}/splits, or name them by --splits.",
            "splits-missing",
        )
    pairs: list[tuple[str, str]] = []
    for file in files:
        try:
            for first, second in json.loads(file.read_text(encoding="utf-8")):
                pairs += [(str(first), str(second)), (str(second), str(first))]
        except OSError as error:
            raise UserError(
                f"{file} cannot be read ({error.strerror}); check the path.", "splits-unreadable"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is not a list of pairs of video names ({error}).", "splits-invalid") from error
    return list(dict.fromkeys(pairs))


def result_frames(video: Path) -> int:
    """How many frames another method's video has.

    Raises:
      UserError: it is a folder of some frames only, which would be taken for others.
    """
    if video.is_dir():
        digits = [re.findall(r"\d+", file.stem) for file in list_pictures(video)]
        numbers = [int(found[-1]) if found else -1 for found in digits]
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] < 0:
            raise UserError(
                f"{video} lacks frames between its first and its last, or does not number them; bring them all.",
                "frames-left-out",
            )
    return frame_count(video)


def cut_video(video: Path, folder: Path, cutter: Cutter, results: Sequence[Path] = ()) -> dict[str, list[float]]:
    """Crops of evenly spaced frames, ``<folder>/<frame, four digits>.png``; frames without a face are left out.

    Args:
      video: the target.
      folder: gets the crops.
      cutter: cuts them.
      results: other methods' videos of this target; only frames that all of them have are taken.

    Returns:
      ``video/frame.png`` → the six values of the matrix that cut it; read, if this cutter's crops are there.

    Raises:
      UserError: there is no face in any frame, or a result lacks some.
    """
    kept, about = folder / PLACES, cutter.describe([video, *results])
    if kept.is_file():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        if stored["about"] == about:
            return dict(stored["places"])
        kept.unlink()  # from here on its crops are replaced
    own = frame_count(video)
    total = min([own, *map(result_frames, results)])
    if 2 * total < own:
        logger.warning("of %s only the first %d of %d frames are taken: a result of it has no more", video, total, own)
    indices = sorted({round(i) for i in np.linspace(0, total - 1, min(cutter.frames, total)).tolist()})
    places: dict[str, list[float]] = {}
    for index, frame in some_frames(video, indices).items():
        try:
            found = find_faces(cutter.detector, frame, cutter.template, cutter.size)
        except UserError:
            logger.warning("left out: frame %d of %s, in which no face can be used", index, video.name)
            continue
        face = max(found, key=lambda one: one.face.area)
        name = f"{index:04d}.png"
        with replacing_file(folder / name) as temporary:
            temporary.write_bytes(encode_png(face.crop(frame)))
        places[f"{folder.name}/{name}"] = face.alignment.matrix.reshape(-1).tolist()
    if not places:
        raise UserError(
            f"no face can be used in any frame of {video}; leave this video out of the pairs.", "no-face-in-video"
        )
    write_text(kept, json.dumps({"about": about, "places": places}) + "\n")
    return places


def by_video(places: Places) -> dict[str, list[str]]:
    """Video → its crops, ``video/frame.png``, in order."""
    of_video: dict[str, list[str]] = {}
    for picture in sorted(places):
        of_video.setdefault(picture.split("/")[0], []).append(picture)
    return of_video


def frame_pairs(pairs: Sequence[tuple[str, str]], places: Places) -> PairList:
    """Every crop of a target video with a crop of its source's: the first with the first, and round again."""
    of_video = by_video(places)
    swaps = []
    for target, source in pairs:
        theirs = of_video[source]
        for number, picture in enumerate(of_video[target]):
            genuine = theirs[(number + len(theirs) // 2) % len(theirs)] if len(theirs) > 1 else None
            swaps.append(Pair(theirs[number % len(theirs)], picture, genuine))
    return PairList(0, tuple(sorted(of_video)), tuple(swaps))


def cut(frame: np.ndarray, place: Sequence[float], size: int) -> np.ndarray:
    """The crop at a place of `cut_video`."""
    return crop(frame, Alignment(np.array(place).reshape(2, 3), size, np.zeros((5, 2)), 0.0))


FACEFORENSICS = EvaluationProtocol("faceforensics", prepare)

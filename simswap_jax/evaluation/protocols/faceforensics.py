"""The ``faceforensics`` protocol, the paper's: frames of FaceForensics++, its own pairs, other methods' videos.

    ROOT/original_sequences/youtube/<c23|c40|raw>/videos/000.mp4          (or images/000/0000.png …)
    ROOT/manipulated_sequences/<Method>/<c23|…>/videos/000_003.mp4        target 000 with the identity of 003
    ROOT/splits/{train,val,test}.json                                     [["000", "003"], …], meant both ways

Of each video a number of frames is cut into aligned crops once, into the evaluation's folder; then these are people and
pictures like any others. A method's frame is cut at the very place where the target's was.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import GIVEN, Chunk, Row, files_sha256
from simswap_jax.evaluation.clip import VIDEOS, video_frames
from simswap_jax.evaluation.options import named
from simswap_jax.evaluation.protocols import pairs as protocol
from simswap_jax.faces.alignment import Alignment, crop
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.inference.photo import find_faces
from simswap_jax.inference.swapper import DETECTOR, FaceSwapper
from simswap_jax.io.atomic import replacing_file, write_text
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.io.progress import Progress, to_terminal
from simswap_jax.provenance.writer import list_pictures
from simswap_jax.weights import registry

QUALITIES = ("raw", "c0", "c23", "c40")
PLACES = "places.json"  # frame → where its crop was cut


@dataclass(frozen=True)
class Ready:
    """Crops in place of videos.

    Attributes:
      root: of the crops, ``<video>/<frame>.png``.
      plan: their pairs.
      rows: the methods whose videos are there and were asked for.
    """

    root: Path
    plan: protocol.Protocol
    rows: Sequence[Row]


class FramesRow:
    """Another method's videos of the same pairs."""

    kind = GIVEN

    def __init__(
        self, key: str, folder: Path, plan: protocol.Protocol, places: dict[str, list[float]], size: int
    ) -> None:
        self.key = self.title = key
        self._plan, self._places, self._size = plan, places, size
        self._videos = videos_of(folder)
        needed = {self._video(pair) for pair in plan.pairs}
        missing = sorted(needed - set(self._videos))
        if missing:
            raise UserError(
                f"{folder} lacks {len(missing)} of the {len(needed)} videos of the pairs (the first: {missing[0]}); "
                "bring them, or name --splits with the pairs that are there."
            )
        used = [self._videos[name] for name in sorted(needed)]
        files = [file for path in used for file in (list_pictures(path) if path.is_dir() else [path])]
        self.sha256 = files_sha256(files)

    def _video(self, pair: protocol.Pair) -> str:
        return f"{pair.target.split('/')[0]}_{pair.source.split('/')[0]}"

    def results(self, chunk: Chunk) -> list[np.ndarray]:
        """The frames, cut where the targets' were."""
        wanted: dict[str, dict[int, int]] = {}
        for position, number in enumerate(chunk.numbers):
            pair = self._plan.pairs[number]
            wanted.setdefault(self._video(pair), {})[position] = int(Path(pair.target).stem)
        found: dict[int, np.ndarray] = {}
        for video, positions in wanted.items():
            frames = picked(self._videos[video], sorted(set(positions.values())))
            for position, index in positions.items():
                if index not in frames:
                    raise UserError(
                        f"{self._videos[video]} has no frame {index}, which its target has; bring it whole."
                    )
                place = self._places[self._plan.pairs[chunk.numbers[position]].target]
                found[position] = cut(frames[index], place, self._size)
        return [found[position] for position in range(len(chunk.numbers))]

    def copies(self, chunk: Chunk) -> None:
        """There are none."""


def prepare(options: argparse.Namespace, swapper: FaceSwapper | None, size: int, say: Callable[[str], None]) -> Ready:
    """Cut the crops that are not there yet, and draw up the pairs.

    Raises:
      UserError: another layout than FaceForensics++'s, no pairs, or no face in any frame of a video.
    """
    originals = originals_of(options.data)
    alignment = options.alignment or (swapper.model.alignment if swapper else "simswap")
    if alignment == "rendered":
        raise UserError("this model was trained on rendered faces and knows no videos of people; name another --model.")
    pairs = pairs_of(options.splits or sorted((options.data / "splits").glob("*.json")), options.data)
    names = sorted({name for pair in pairs for name in pair})
    absent = [name for name in names if name not in originals]
    if absent:
        raise UserError(
            f"{options.data} lacks {len(absent)} of the {len(names)} original videos of its pairs (the first: "
            f"{absent[0]}); bring them, or name --splits with the pairs that are there."
        )
    crops = options.output / "crops"
    detector = FaceDetector(registry.find(DETECTOR, "finding faces in frames"))
    progress = Progress(len(names), "videos cut", to_terminal)
    places: dict[str, list[float]] = {}
    about = f"{alignment} {size} {options.frames}"
    for name in names:
        places |= cut_video(originals[name], crops / name, about, options.frames, detector, alignment, size, say)
        progress.add()
    plan = plan_of(pairs, places)
    folders = named(options.results, "results")
    rows: list[Row] = [FramesRow(key, folder, plan, places, size) for key, folder in folders.items()]
    return Ready(crops, plan, rows)


def originals_of(root: Path) -> dict[str, Path]:
    """Original videos by name."""
    for place in ("original_sequences/youtube", "original_sequences/actors", "original_sequences", "."):
        try:
            return videos_of(root / place)
        except UserError:
            continue
    raise UserError(
        f"{root} is not laid out as FaceForensics++: it has no original_sequences/youtube/c23/videos (or images)."
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
    raise UserError(f"there are no videos in {folder}; it should hold c23/videos or c23/images (or raw, c40).")


def pairs_of(files: Sequence[Path], root: Path) -> list[tuple[str, str]]:
    """(target, source) names of all files of pairs, each pair both ways.

    Raises:
      UserError: no file, or one that is not such a list.
    """
    if not files:
        raise UserError(
            f"there are no pairs: put FaceForensics++'s files into {root}/splits, or name them by --splits."
        )
    pairs: list[tuple[str, str]] = []
    for file in files:
        try:
            for first, second in json.loads(file.read_text(encoding="utf-8")):
                pairs += [(str(first), str(second)), (str(second), str(first))]
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); check the path.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is not a list of pairs of video names ({error}).") from error
    return list(dict.fromkeys(pairs))


def cut_video(
    video: Path,
    folder: Path,
    about: str,
    count: int,
    detector: FaceDetector,
    alignment: str,
    size: int,
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """Crops of evenly spaced frames, ``<folder>/<frame, four digits>.png``; frames without a face are left out.

    Returns:
      ``video/frame.png`` → the six numbers of the matrix that cut it; read, if the folder is there for this ``about``.
    """
    kept = folder / PLACES
    if kept.is_file():
        told = json.loads(kept.read_text(encoding="utf-8"))
        if told["about"] == about:
            return dict(told["places"])
    total = frame_count(video)
    indices = sorted({round(i) for i in np.linspace(0, total - 1, min(count, total)).tolist()})
    places: dict[str, list[float]] = {}
    for index, frame in picked(video, indices).items():
        try:
            face = max(find_faces(detector, frame, alignment, size), key=lambda found: found.face.area)
        except UserError:
            say(f"left out: frame {index} of {video.name}, in which no face can be used")
            continue
        name = f"{index:04d}.png"
        with replacing_file(folder / name) as temporary:
            temporary.write_bytes(encode_png(face.crop(frame)))
        places[f"{folder.name}/{name}"] = face.alignment.matrix.reshape(-1).tolist()
    if not places:
        raise UserError(f"no face can be used in any frame of {video}; leave this video out of the pairs.")
    write_text(kept, json.dumps({"about": about, "places": places}) + "\n")
    return places


def plan_of(pairs: Sequence[tuple[str, str]], places: dict[str, list[float]]) -> protocol.Protocol:
    """Every crop of a target video with a crop of its source's: the first with the first, and round again."""
    of_video: dict[str, list[str]] = {}
    for picture in sorted(places):
        of_video.setdefault(picture.split("/")[0], []).append(picture)
    swaps = []
    for target, source in pairs:
        theirs = of_video[source]
        for number, picture in enumerate(of_video[target]):
            other = theirs[(number + len(theirs) // 2) % len(theirs)] if len(theirs) > 1 else None
            swaps.append(protocol.Pair(theirs[number % len(theirs)], picture, other))
    return protocol.Protocol(0, tuple(sorted(of_video)), tuple(swaps))


def cut(frame: np.ndarray, place: Sequence[float], size: int) -> np.ndarray:
    """The crop at a place of `cut_video`."""
    return crop(frame, Alignment(np.array(place).reshape(2, 3), size, np.zeros((5, 2)), 0.0))


def picked(video: Path, indices: Sequence[int]) -> dict[int, np.ndarray]:
    """Some frames of a video, or of a folder of frames in order of their names."""
    if video.is_dir():
        files = list_pictures(video)
        return {index: read_picture(files[index]) for index in indices if index < len(files)}
    wanted, last = set(indices), max(indices, default=-1)
    found = {}
    for index, frame in enumerate(video_frames(video)):
        if index in wanted:
            found[index] = frame
        if index >= last:
            break
    return found


def frame_count(video: Path) -> int:
    """How many frames there are; a video is decoded to count them, because containers may be wrong."""
    if video.is_dir():
        return len(list_pictures(video))
    return sum(1 for _ in video_frames(video))

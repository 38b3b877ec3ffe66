"""A folder of people as a data set: a TFDS builder for ``<root>/<person>/<picture>`` (VGGFace2, VGGFace2-HQ, LFW,
yours) that writes ArrayRecord, and `People`, the data set as the rest of the project sees it. Neither building nor
reading imports TensorFlow.

Beside the records, in ``<data_dir>/identities/<version>/``, lie `people.json` (who has which pictures, in the
records' order, and the fingerprint of the folder they were made from) and `report.json` (what was left out, and why).
"""

import contextlib
import itertools
import json
import logging
import os
import shutil
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from simswap_jax.data.dataset import RECORDS_VERSION, People, folder_fingerprint, list_people
from simswap_jax.errors import UserError
from simswap_jax.io.images import BrokenPicture, plain_bytes, read_bytes
from simswap_jax.io.progress import Progress, format_duration

PER_SHARD = 10_000
SPLIT = "train"  # one split: who is held out is decided by name, in dataset.py

REMEDY = "build it from a folder of people (simswap_jax.data.records.build)"

logger = logging.getLogger(__name__)

Example = dict[str, Any]


class SameBytes(ExampleSerializer):
    """Examples as the same bytes in every process; without it each draws an order of the features."""

    def serialize_example(self, example: Example) -> bytes:
        """A dict of features → a serialised ``tf.Example``."""
        return self.get_tf_example(example).SerializeToString(deterministic=True)


class Identities(tfds.core.GeneratorBasedBuilder):
    """TFDS builder: features `picture` (an encoded upright 8-bit RGB JPEG or PNG), `person` and `file`
    (``person/picture.jpg``).

    The records keep the order of the people's and the files' names. Use `build`, which hands it the examples.
    """

    VERSION = tfds.core.Version(RECORDS_VERSION)
    code_path = (
        None  # spares TFDS looking for checksum files beside this one, which needs a package it does not declare
    )

    def __init__(self, *, examples: Callable[[], Iterator[Example]] | None = None, **kwargs: Any) -> None:
        """Args:
        examples: gives the examples when the builder prepares; not needed for reading.
        kwargs: TFDS's own (``data_dir``, ``file_format``).
        """
        self._examples = examples
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "person": tfds.features.Text(),
                "file": tfds.features.Text(),
            }
        )
        description = "Pictures of people, one folder for each person."
        info = tfds.core.DatasetInfo(builder=self, description=description, features=features, disable_shuffling=True)
        info.initialize_from_bucket = lambda: (
            None
        )  # nothing in the cloud has our name, and looking leaves a folder in /tmp
        return info

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Example]]]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, Example]]:
        if self._examples is None:
            raise ValueError("This builder was given no examples; use simswap_jax.data.records.build.")
        return enumerate(self._examples())

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        """Stream the examples into shards. TFDS's own writer holds a gigabyte in memory and beyond that needs
        TensorFlow.
        """
        info = self._info()  # a fresh one: its folder is the temporary one that TFDS renames when all is written
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=PER_SHARD, file_format="array_record")
        writer._serializer = SameBytes(info.features.get_serialized_info())
        writer.initialize_splits([SPLIT])
        examples = (example for _, example in self._generate_examples())
        while some := list(itertools.islice(examples, 256)):
            writer.add_examples({SPLIT: some})
        writer.close_splits([SPLIT])
        self.info.set_splits(info.splits)

    def _log_download_bytes(self) -> None:
        """TFDS would speak of downloading."""

    def _log_download_done(self) -> None:
        """The same."""


def build(
    root: str | os.PathLike,
    data_dir: str | os.PathLike,
    *,
    min_side: int = 16,
    min_people: int = 2,
    threads: int | None = None,
) -> People:
    """The data set of ``<root>/<person>/<picture>``: opened where `data_dir` holds it already, else built there.

    It is built anew when a file of the folder was added, removed or changed (name, size or time of change).
    Unreadable and too small pictures, and people left without a picture, are left out and listed with the reason in
    `report.json`.

    Args:
      root: the folder of people. Never written to.
      data_dir: where the records go; about as large as the pictures.
      min_side: pictures with a shorter side, in pixels, are left out.
      min_people: fewer than this is an error.
      threads: how many pictures are checked at once; None for twice the processors.

    Raises:
      UserError: when the folder is missing, empty or not one of people, nobody (or one person) has a readable
        picture, or the records cannot be written. Nothing half-written is left.
    """
    root, data_dir = Path(root), Path(data_dir)
    place = records_folder(data_dir)
    fingerprint = folder_fingerprint(root, min_side) if root.is_dir() else ""
    if not fingerprint or _recorded_fingerprint(place) != fingerprint:
        listing = list_people(root)
        survey = _Survey(root, listing, min_side, threads or 2 * (os.cpu_count() or 1))
        with _explain_disk_errors(data_dir):
            _write(survey, fingerprint, data_dir, place)
        logger.info("%s", survey.summary(place))
    people = open_people(data_dir)
    if len(people.names) < min_people:
        raise UserError(
            f"Only one person in {root} has readable pictures ({people.names[0]}), and swapping needs two or more; "
            f"add another folder {root}/<person>.",
            "one-person",
        )
    return people


def open_people(data_dir: str | os.PathLike) -> People:
    """The data set that `build` left in a folder.

    Raises:
      UserError: when there is none, or it is damaged.
    """
    place = records_folder(data_dir)
    try:
        index = json.loads((place / "people.json").read_text("utf-8"))
        records = tfds.builder_from_directory(str(place)).as_data_source(
            SPLIT, decoders={"picture": tfds.decode.SkipDecoding()}
        )
    except FileNotFoundError:
        raise UserError(f"There is no data set in {data_dir}; {REMEDY}.", "no-data-set") from None
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(data_dir, str(error)) from None
    pictures: dict[str, list[str]] = index["people"]
    counts = [len(files) for files in pictures.values()]
    if len(records) != sum(counts):
        raise _damaged(data_dir, "records are missing")
    person: np.ndarray = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    files = [f"{name}/{file}" for name, files in pictures.items() for file in files]
    return People(records, list(pictures), person, files, np.arange(len(files)), index["fingerprint"])


def _damaged(data_dir: str | os.PathLike, reason: str) -> UserError:
    sentence = f"The data set in {data_dir} is damaged ({reason}); remove {records_folder(data_dir)} and {REMEDY}."
    return UserError(sentence, "data-set-damaged")


def records_folder(data_dir: str | os.PathLike) -> Path:
    """Where the records of a data directory lie."""
    return Path(data_dir) / Identities.name / RECORDS_VERSION


class _Survey:
    """Reads and checks every picture of a listing, in order, and remembers what was good and what was not."""

    def __init__(self, root: Path, listing: Mapping[str, list[Path]], min_side: int, threads: int) -> None:
        self.root, self.listing, self.min_side, self.threads = root, listing, min_side, threads
        self.progress = Progress(sum(map(len, listing.values())), "pictures read")
        self.good: dict[str, list[str]] = {}
        self.left_out: list[dict[str, str]] = []
        self.bytes = 0

    def examples(self) -> Iterator[Example]:
        """The examples of the readable pictures.

        Raises:
          UserError: at the end, when there was none.
        """
        items = [(person, file) for person, files in self.listing.items() for file in files]
        with ThreadPoolExecutor(self.threads) as pool:
            for (person, file), (data, reason) in zip(items, _in_order(pool, self._check, (file for _, file in items))):
                self.progress.add()
                if reason:
                    self.left_out.append({"file": f"{person}/{file.name}", "reason": reason})
                    continue
                self.good.setdefault(person, []).append(file.name)
                self.bytes += len(data)
                name = f"{person}/{file.name}".encode("utf-8", "surrogateescape")
                yield {"picture": data, "person": person.encode("utf-8", "surrogateescape"), "file": name}
        if not self.good:
            first = self.left_out[0]
            raise UserError(
                f"No picture of {self.root} can be used: {len(self.left_out)} were tried, and the first, "
                f"{first['file']}, {first['reason']}; add pictures (jpg, png, webp, …).",
                "no-usable-pictures",
            )

    def _check(self, file: Path) -> tuple[bytes, str]:
        """(bytes for the record, "") or (nothing, why it is left out)."""
        try:
            data, height, width = plain_bytes(read_bytes(file), file.name)
        except BrokenPicture as error:
            return b"", error.reason
        except UserError:
            return b"", "is not there any more"
        if min(height, width) < self.min_side:
            return b"", f"is too small ({width}×{height}; {self.min_side} pixels are the least)"
        return data, ""

    @property
    def people_without_pictures(self) -> list[str]:
        """People without a usable picture."""
        return [person for person in self.listing if person not in self.good]

    def index(self, fingerprint: str) -> dict[str, Any]:
        return {"fingerprint": fingerprint, "people": self.good}

    def report(self) -> dict[str, Any]:
        return {
            "root": str(self.root.resolve()),
            "people": len(self.good),
            "pictures": sum(map(len, self.good.values())),
            "bytes": self.bytes,
            "seconds": round(self.progress.seconds, 1),
            "pictures_left_out": self.left_out,
            "people_left_out": self.people_without_pictures,
        }

    def summary(self, place: Path) -> str:
        report = self.report()
        time = format_duration(self.progress.seconds)
        line = f"{report['pictures']:,} pictures of {report['people']:,} people in {time}"
        if not self.left_out and not self.people_without_pictures:
            return line
        reasons = f"; e.g. {self.left_out[0]['file']} {self.left_out[0]['reason']}" if self.left_out else ""
        return (
            f"{line}; left out: {len(self.left_out):,} pictures, "
            f"{len(self.people_without_pictures):,} people without any{reasons} (all in {place / 'report.json'})"
        )


def _write(survey: _Survey, fingerprint: str, data_dir: Path, place: Path) -> None:
    """Build in a temporary folder of `data_dir`, check it, and put it in place in one step."""
    data_dir.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(data_dir)
    temporary = data_dir / f"building-{socket.gethostname()}-{os.getpid()}"
    try:
        temporary.mkdir()
        _need_room(
            data_dir, sum(file.stat().st_size for files in survey.listing.values() for file in files if file.exists())
        )
        builder = Identities(examples=survey.examples, data_dir=str(temporary), file_format="array_record")
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        built = records_folder(temporary)
        (built / "report.json").write_text(json.dumps(survey.report(), indent=1), "utf-8")
        (built / "people.json").write_text(json.dumps(survey.index(fingerprint)), "utf-8")
        records = builder.as_data_source(SPLIT, decoders={"picture": tfds.decode.SkipDecoding()})
        for row in range(
            0, len(records), max(1, len(records) // 100)
        ):  # a disk that filled up shows here at the latest
            records[row]
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place.rename(temporary / "former")
        built.rename(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _recorded_fingerprint(place: Path) -> str | None:
    """Of the folder that the records were made from; None where there are no whole records."""
    try:
        return json.loads((place / "people.json").read_text("utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_leftovers(data_dir: Path) -> None:
    """Remove what builds of this machine left that were killed."""
    if sys.platform == "win32":  # there is no asking whether a process is there without ending it
        return
    prefix = f"building-{socket.gethostname()}-"
    for folder in data_dir.glob(f"{prefix}*"):
        try:
            os.kill(int(folder.name.removeprefix(prefix)), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):
            continue
        else:
            if int(folder.name.removeprefix(prefix)) == os.getpid():
                shutil.rmtree(folder, ignore_errors=True)


def _need_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05 + 2**20:
        raise _no_room(folder, f"the records need about {needed / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free")


def _no_room(folder: Path, detail: str) -> UserError:
    return UserError(
        f"There is no room for the data set in {folder} ({detail}); free some or choose another folder for it.",
        "no-room-for-data",
    )


@contextlib.contextmanager
def _explain_disk_errors(data_dir: Path) -> Iterator[None]:
    """Turn what a disk can do wrong into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if getattr(error, "errno", None) in (28, 122) or "No space left" in str(error):  # ENOSPC, EDQUOT
            raise _no_room(data_dir, "the disk is full") from None
        if isinstance(error, OSError):
            raise UserError(
                f"The data set cannot be written to {data_dir} ({error.strerror or error}); choose another folder.",
                "data-not-writable",
            ) from None
        raise


def _in_order(
    pool: Executor, function: Callable[[Any], Any], items: Iterable[Any], some: int = 16, ahead: int = 16
) -> Iterator[Any]:
    """`map` on a pool, in order and `some` items at a time, that runs only so many handfuls ahead of its reader."""
    waiting: deque[Any] = deque()
    items = iter(items)
    while handful := list(itertools.islice(items, some)):
        waiting.append(pool.submit(lambda handful: [function(item) for item in handful], handful))
        if len(waiting) > ahead:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()

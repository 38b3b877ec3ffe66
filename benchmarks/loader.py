"""Pictures a second of the loader, by threads, beside torch's DataLoader; and a data set of VGGFace2's size.

    python benchmarks/loader.py [--size 224] [--pictures 2000 | --root PEOPLE]      # against threads
    python benchmarks/loader.py --simulate 3300000 --people 8631    # opening, memory, first batch, resuming

Pictures are noise over gradients, JPEG of quality 95, as crops of faces weigh. torch is measured where it is installed:
an ordinary Dataset that opens the same files with Pillow, in random pairs. The simulation writes records of small
pictures: what grows with their number is what is measured. Each part runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from simswap_jax.data import records
from simswap_jax.data.dataset import folder_fingerprint
from simswap_jax.data.loader import pair_batches
from simswap_jax.data.pairs import Pairing, PairingOptions
from simswap_jax.io.images import encode_jpeg

BATCH = 16
SECONDS = 8.0  # of each measurement


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--root", type=Path, help="a folder of people to read, in place of made pictures")
    parse.add_argument("--size", type=int, default=224)
    parse.add_argument("--pictures", type=int, default=2000)
    parse.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parse.add_argument("--simulate", type=int, metavar="PICTURES")
    parse.add_argument("--people", type=int, default=100)
    options = parse.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.simulate:
            simulate(Path(name), options.simulate, options.people)
        else:
            compare(Path(name), options)


# ---- Threads ----


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Ours by threads, torch's by workers."""
    root, cache = options.root or folder / "people", folder / "records"
    for index, picture in enumerate(pictures(options.size, 0 if options.root else options.pictures)):
        person = root / f"person_{index % options.people:04d}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{index}.jpg").write_bytes(encode_jpeg(picture))
    records.build(root, cache)
    rates = {threads: apart(our_rate, cache, options.size, threads) for threads in options.threads}
    for threads, rate in rates.items():
        linear = rate / (rates[options.threads[0]] * threads / options.threads[0])
        print(f"ours, {threads} threads: {rate:8.0f} pictures/s, {100 * linear:.0f} % of linear")
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed")
        return
    for workers in options.threads:
        print(f"torch DataLoader, {workers} workers: {apart(torch_rate, root, options.size, workers):8.0f} pictures/s")


def our_rate(cache: Path, size: int, threads: int) -> float:
    """Pictures a second: two to a sample."""
    cv2.setNumThreads(1)
    people = records.open_people(cache)
    return rate_of(pair_batches(people, Pairing(people.person, PairingOptions(0, BATCH)), size, size, threads=threads))


def torch_rate(root: Path, size: int, workers: int) -> float:
    """The same of torch: pairs of files, opened by Pillow, resized, as float tensors."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    files = sorted(root.glob("*/*.jpg"))

    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            chosen = np.random.default_rng(index).integers(len(files), size=2)
            target, source = (np.array(Image.open(files[i]).convert("RGB").resize((size, size))) for i in chosen)
            return torch.from_numpy(target), torch.from_numpy(source)

    return rate_of(
        iter(
            torch.utils.data.DataLoader(Pairs(), batch_size=BATCH, num_workers=workers, multiprocessing_context="fork")
        )
    )


def rate_of(batches: Iterator[Any]) -> float:
    """Pictures a second after the first batches."""
    for _ in range(4):
        next(batches)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        next(batches)
        count += 2 * BATCH
    return count / (time.perf_counter() - began)


def pictures(size: int, count: int) -> Iterator[np.ndarray]:
    """Noise over gradients, uint8 RGB [size, size, 3]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        slopes = rng.uniform(-120, 120, (2, 3))
        picture = 128 + x[..., None] * slopes[0] + y[..., None] * slopes[1] + rng.normal(0, 6, (size, size, 3))
        yield np.clip(picture, 0, 255).astype(np.uint8)


# ---- A data set of VGGFace2's size ----


def simulate(folder: Path, count: int, people: int) -> None:
    """Write records, then open, read and resume in processes of their own."""
    began = time.perf_counter()
    write_records(folder, count, people)
    print(f"{count:,} pictures of {people:,} people written in {time.perf_counter() - began:.0f} s")
    for name, numbers in (
        ("start", apart(start, folder, None)),
        ("resume", apart(start, folder, 1_000_000)),
        ("folder of people", apart(look_through, link_pictures(folder / "people", count, people))),
    ):
        print(f"{name}: " + ", ".join(f"{what} {value:,.1f}" for what, value in numbers.items()))


def write_records(folder: Path, count: int, people: int) -> None:
    """As `records.build` leaves them; pictures of 32 pixels, 256 different ones."""
    encoded = [encode_jpeg(picture) for picture in pictures(32, 256)]
    names = {f"n{person:06d}": count // people + (person < count % people) for person in range(people)}
    index = {name: [f"{i:04d}_01.jpg" for i in range(many)] for name, many in names.items()}

    def examples() -> Iterator[records.Example]:
        number = 0
        for name, files in index.items():
            for file in files:
                yield {"picture": encoded[number % 256], "person": name.encode(), "file": f"{name}/{file}".encode()}
                number += 1

    records.Identities(examples=examples, data_dir=str(folder), file_format="array_record").download_and_prepare()
    described = {"fingerprint": "simulated", "people": index}
    (records.records_folder(folder) / "people.json").write_text(json.dumps(described), "utf-8")


def link_pictures(root: Path, count: int, people: int) -> Path:
    """As many files as there are pictures, of the same few bytes."""
    for person in range(people):
        here = root / f"n{person:06d}"
        here.mkdir(parents=True)
        first = here / "0000_01.jpg"
        first.write_bytes(b"picture")
        for number in range(1, count // people + (person < count % people)):
            os.link(first, here / f"{number:04d}_01.jpg")
    return root


def look_through(root: Path) -> dict[str, float]:
    """What every start does where the records were made of a folder: is it as it was?"""
    began = time.perf_counter()
    folder_fingerprint(root)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"looked through in s": time.perf_counter() - began, "memory MiB": memory}


def start(folder: Path, step: int | None) -> dict[str, float]:
    """Seconds to open the data and to the first batch, pictures a second, and memory in MiB."""
    began = time.perf_counter()
    data = records.open_people(folder)
    opened = time.perf_counter() - began
    batches = pair_batches(data, Pairing(data.person, PairingOptions(0, BATCH)), 32, 32, threads=2)
    if step is not None:
        state = batches.get_state()
        state["position"]["next_index"] = step
        batches.set_state(state)
    next(batches)
    first = time.perf_counter() - began
    rate = rate_of(batches)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"opened after s": opened, "first batch after s": first, "pictures/s": rate, "memory MiB": memory}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()

"""How many photos per second `simswap-jax prepare` does on one core.

Told in seconds of the processor, which other jobs of the machine do not disturb.

Command: python benchmarks/prepare_photos.py FOLDER --size 224 --pixels 200000
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2

from simswap_jax.io.images import SUFFIXES, read_picture
from simswap_jax.preparation.crops import Job, worker
from simswap_jax.preparation.prepare import DETECTOR
from simswap_jax.preparation.sources import Photo, Settings
from simswap_jax.weights import registry


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("photos", type=Path)
    parse.add_argument("--size", type=int, default=224)
    parse.add_argument("--pixels", type=int, default=0, help="scale every photo to so many pixels first; 0: as it is")
    parse.add_argument("--rounds", type=int, default=10)
    options = parse.parse_args()
    cv2.setNumThreads(1)
    detector = registry.find(DETECTOR, "finding faces in photos")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = [path for path in sorted(options.photos.rglob("*")) if path.suffix.lower() in SUFFIXES]
        for number, path in enumerate(files):
            picture = read_picture(path)
            scale = (options.pixels / (picture.shape[0] * picture.shape[1])) ** 0.5 if options.pixels else 1.0
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(root / f"{number}.jpg"), cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        work = worker(Job(Settings(size=options.size), str(detector), root, root / "out"))
        photos = [Photo("p", root / f"{number}.jpg", f"p/{number}") for number in range(len(files))]
        for photo in photos:
            work(photo)
        start = time.process_time()
        for _ in range(options.rounds):
            records = [work(photo) for photo in photos]
        seconds = (time.process_time() - start) / (options.rounds * len(photos))
    kept = sum(not record.reason for record in records)
    hours = 3_310_000 * seconds / 3_600
    print(f"{len(photos)} photos, {kept} kept: {1000 * seconds:.1f} ms of one core, {1 / seconds:.1f} photos/s")
    print(f"3.31 million: {hours:.1f} hours of one core, {hours / 32:.2f} hours on 32")


if __name__ == "__main__":
    main()

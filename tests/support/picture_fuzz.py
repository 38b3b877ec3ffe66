"""Reads mutated picture files in a process of its own, where a crash or a hang is seen from outside.

python tests/support/picture_fuzz.py SEED COUNT FOLDER → one line of JSON: how many were read and how many refused.
"""

import faulthandler
import io
import json
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from simswap_jax.io.images import BrokenPicture, read_picture

SECONDS = 20  # for one file: a hang, even on a busy machine


def seeds():
    """One file of every kind that is read."""
    y, x = np.mgrid[:40, :56]
    scene = np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    image = Image.fromarray(scene)
    alpha = image.convert("RGBA")
    alpha.putalpha(Image.fromarray((3 * x).astype(np.uint8)))
    exif = image.getexif()
    exif[0x0112] = 6
    made = [
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}),
        (image.convert("CMYK"), "JPEG", {}),
        (image, "PNG", {}),
        (alpha, "PNG", {}),
        (image.quantize(16), "PNG", {}),
        (image, "WEBP", {}),
        (alpha, "WEBP", {"lossless": True}),
        (image, "TIFF", {"compression": "tiff_lzw"}),
        (image, "TIFF", {}),
        (image.quantize(16), "GIF", {}),
        (image, "BMP", {}),
        (image, "AVIF", {}),
    ]
    for picture, kind, options in made:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        yield stream.getvalue()
    deep = scene.astype(np.uint16) * 257
    for ending in (".png", ".tiff"):
        yield cv2.imencode(ending, deep)[1].tobytes()


def mutated(content, random):
    """One to four changes: bits, stretches, cuts, doubled parts, large numbers where lengths stand."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        if not data:
            break
        at = int(random.integers(0, len(data) if random.random() < 0.5 else min(len(data), 128)))
        match int(random.integers(0, 6)):
            case 0:
                data[at] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[at : at + 8] = random.integers(0, 256, 8, np.uint8).tobytes()
            case 2:
                del data[at:]
            case 3:
                del data[at : at + int(random.integers(1, 64))]
            case 4:
                data[at:at] = data[at : at + int(random.integers(1, 64))]
            case _:
                number = int(random.choice([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                data[at : at + 4] = number.to_bytes(4, ("little", "big")[int(random.integers(0, 2))])
    return bytes(data)


def read(path):
    """A picture and no sentence, or none and a sentence."""
    try:
        return read_picture(path), ""
    except BrokenPicture as error:
        return None, str(error)


def main():
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    random = np.random.default_rng(seed)
    files = list(seeds())
    outcomes = {"read": 0, "refused": 0}
    path = folder / "mutant.jpg"
    for number in range(count):
        content = files[number % len(files)] if number < len(files) else mutated(files[number % len(files)], random)
        path.write_bytes(content)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        picture, sentence = read(path)
        if picture is not None:
            assert picture.dtype == np.uint8
            assert picture.ndim == 3
            assert picture.shape[2] == 3
        else:
            assert number >= len(files), f"the file itself is refused: {sentence}"
            assert sentence.endswith(".")
            assert len(sentence.splitlines()) == 1
        outcomes["refused" if picture is None else "read"] += 1
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()

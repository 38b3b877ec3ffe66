"""Frames a second of a whole swap at 1080p: two example people who sway over a noisy background, with sound.

    python benchmarks/video.py [--frames 250] [--model faces]

YuNet is looked for as always (SIMSWAP_JAX_WEIGHTS). The clip is made first, and is not counted.
"""

import argparse
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import jax
import numpy as np

from simswap_jax import FaceSwapper, SwapOptions
from simswap_jax.inference.example_people import read_people
from simswap_jax.inference.options import Source
from simswap_jax.video.pipeline import swap_video

WIDTH, HEIGHT, RATE = 1920, 1080, 25
SIDES = 520, 380  # of the two people's photos in the picture, in pixels


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--frames", type=int, default=250)
    parse.add_argument("--model", default="faces")
    options = parse.parse_args()
    swapper = FaceSwapper.from_pretrained(options.model)
    people = read_people(swapper.model)
    with tempfile.TemporaryDirectory() as name:
        clip, result = Path(name, "clip.mp4"), Path(name, "result.mp4")
        photos = [cv2.resize(one.smiling.read(), (side, side)) for one, side in zip(people, SIDES)]
        write(clip, frames(photos, 16))
        source = Source(people[2].vector, [people[2].neutral.path])
        swap_video(swapper, clip, result, source, SwapOptions(faces="all"))  # compiles
        write(clip, frames(photos, options.frames))
        done = swap_video(swapper, clip, Path(name, "timed.mp4"), source, SwapOptions(faces="all"))
    print(f"{jax.devices()[0].device_kind}: {done.faces} faces in {done.frames} frames of {WIDTH}×{HEIGHT}")
    print(f"{done.seconds:.1f} s, {done.frames / done.seconds:.2f} frames/s")
    for stage, seconds in sorted(done.stages.items(), key=lambda one: -one[1]):
        print(f"{stage:<14}{seconds:8.1f} s")


def frames(photos: list[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """Frames uint8 RGB: the photos on circles of some pixels, two seconds a turn."""
    ground = np.random.default_rng(0).integers(70, 110, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for index in range(count):
        frame = ground.copy()
        for number, photo in enumerate(photos):
            turn = 2 * np.pi * index / (2 * RATE) + number
            left = round(WIDTH * (1 + 2 * number) / 4 - photo.shape[1] / 2 + 60 * np.cos(turn))
            top = round(HEIGHT / 2 - photo.shape[0] / 2 + 40 * np.sin(turn))
            frame[top : top + photo.shape[0], left : left + photo.shape[1]] = photo
        yield frame


def write(path: Path, pictures: Iterator[np.ndarray]) -> None:
    """An H.264 clip with a tone."""
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=RATE), out.add_stream("aac", rate=16_000, layout="mono")
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        samples = 0
        for index, picture in enumerate(pictures):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            while samples < (index + 1) * 16_000 // RATE:
                wave = 0.3 * np.sin(0.17 * np.arange(samples, samples + 1024, dtype=np.float32))
                tone = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
                tone.sample_rate, tone.pts, tone.time_base = 16_000, samples, Fraction(1, 16_000)
                out.mux(audio.encode(tone))
                samples += 1024
        out.mux(video.encode())
        out.mux(audio.encode())


if __name__ == "__main__":
    main()

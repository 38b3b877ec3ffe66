"""Small video files made and read with PyAV, and a detector that finds coloured squares in them."""

from fractions import Fraction
from itertools import chain, count
from pathlib import Path

import av
import numpy as np

from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.faces.detection import Face

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)
SIDE = 48  # of a coloured square
BASE = Fraction(1, 600)


def scene(*squares, shape=(128, 192)):
    """A grey picture with squares (colour, left, top)."""
    picture = np.full((*shape, 3), 90, np.uint8)
    for colour, left, top in squares:
        picture[top : top + SIDE, left : left + SIDE] = colour
    return picture


def two(frames=30):
    """A red and a green square, both moving a little."""
    return [scene((RED, 16 + i % 8, 40), (GREEN, 120, 30 + i % 8)) for i in range(frames)]


def write_clip(path, pictures, times=None, rotation=0, tone=True, crf=10, subtitles=None, mirrored=False):
    """A clip of these pictures, shown at ``times`` (in 600ths of a second; 25 a second if None), with a tone."""
    pictures = iter(pictures)
    first = next(pictures)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
        height, width = first.shape[:2]
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = video.time_base = BASE
        if rotation or mirrored:
            video.set_display_rotation(rotation, hflip=mirrored)
        audio = out.add_stream("aac", rate=16000, layout="mono") if tone else None
        if subtitles is not None:
            with av.open(str(subtitles)) as words:
                copy = out.add_stream_from_template(words.streams[0], opaque=True)
                for packet in words.demux():
                    if packet.size:
                        packet.stream = copy
                        out.mux(packet)
        for picture, pts in zip(chain([first], pictures), times or count(0, 24)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = pts, BASE
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            write_tone(out, audio, max(1, round(pts * float(BASE) * 16000)))
    return Path(path)


def write_tone(out, audio, samples):
    wave = np.sin(np.arange(samples) * 0.17).astype(np.float32) * 0.3
    for start in range(0, samples, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        out.mux(audio.encode(frame))
    out.mux(audio.encode())


def read_clip(path):
    """Frames uint8 [N, H, W, 3] as stored, times in seconds, rotation, audio samples (None: silent), duration."""
    with av.open(str(path)) as clip:
        frames = list(clip.decode(video=0))
        duration = clip.duration
    samples = None
    with av.open(str(path)) as clip:
        if clip.streams.audio:
            samples = np.concatenate([frame.to_ndarray() for frame in clip.decode(audio=0)], axis=1)
    pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    return pictures, [frame.pts * frame.time_base for frame in frames], frames[0].rotation, samples, duration


class Squares:
    """A detector that finds red, green and blue squares, with landmarks of a frontal face in them."""

    template = "simswap-frontal"
    side = 1280

    def __init__(self, _path=None):
        pass

    def glance(self, _picture):
        return []  # so the faces stay as `look` finds them

    def detect(self, photo):
        return self.look(photo)

    def look(self, photo):
        found = []
        for channel in range(3):
            others = np.delete(photo, channel, axis=2).max(axis=2)
            here = (photo[:, :, channel] > 140) & (others < 90)
            if here.sum() < SIDE * SIDE / 4:
                continue
            rows, columns = np.flatnonzero(here.any(axis=1)), np.flatnonzero(here.any(axis=0))
            left, top, width, height = columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1
            landmarks = TEMPLATES[self.template][0] * (width, height) + (left, top)
            found.append(Face((float(left), float(top), float(width), float(height)), landmarks, 0.9 - 0.1 * channel))
        return found

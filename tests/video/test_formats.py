"""Kinds of videos and animations that people bring: what becomes of colours, sizes, tracks, damage and transparency."""

import re
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from simswap_jax.cli import swap as command
from simswap_jax.inference.batch import Outcome, SwapRequest, swap_pictures
from simswap_jax.inference.options import EncodingOptions
from simswap_jax.io.animation import (
    FORMATS,
    Still,
    hundredths,
    is_animation,
    repetitions,
    stills,
    write_animation,
)
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.label_xmp import Provenance, xmp_packet
from simswap_jax.provenance.options import ALL_MARKS, MANIFEST, NO_MARKS
from simswap_jax.video import encode, pipeline
from simswap_jax.video.colour import BT2020, HLG, PQ, Colours, SdrMapping
from simswap_jax.video.decode import (
    SUFFIXES,
    append_xmp,
    has_manifest,
    is_video,
    mime_type,
    open_video,
    read_video_provenance,
    side_data,
)
from simswap_jax.video.encode import check_animation, container_of, encoding_for
from simswap_jax.video.pipeline import damages
from tests.support.clips import GREEN, RED, scene, two, write_clip, write_tone
from tests.support.errors import raises_user_error
from tests.video.test_pipeline import swap

SCREEN = "hdr10=1:master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50):max-cll=1000,400"
RED_AT, GREEN_AT, GROUND_AT = (64, 40), (60, 144), (110, 20)
SKIN, TAN = (200, 150, 130), (130, 70, 50)
TAN_AT, TAN_ROWS, TAN_COLUMNS = (112, 94), slice(96, 128), slice(76, 112)
# Y, Cb and Cr, 10 bits, of these colours at an SDR white of 203 cd/m²: worked out by hand from ITU-R BT.1886, BT.2087,
# BT.2100 and BT.2408, not by the package.
SKIN_CODES = {HLG: (547, 464, 557), PQ: (473, 492, 531), 14: (615, 462, 566)}
TAN_CODES = {HLG: (323, 455, 584), PQ: (350, 475, 550), 14: (354, 457, 579)}


def planes_of(frame):
    """Y, Cb and Cr of a deep frame as arrays [h, w] that share its memory."""
    return [np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]


def paint(frame, codes):
    """Write 10-bit Y, Cb and Cr into the patch of a 4:2:0 frame."""
    for plane, code, step in zip(planes_of(frame), codes, (1, 2, 2)):
        rows, columns = (slice(part.start // step, part.stop // step) for part in (TAN_ROWS, TAN_COLUMNS))
        plane[rows, columns] = code << (frame.format.components[0].bits - 10)


def codes_at(frame, place):
    """Y, Cb and Cr of a 4:2:0 frame at (row, column), as if of 10 bits."""
    one = 1 << (frame.format.components[0].bits - 10)
    return [plane[place[0] // step, place[1] // step] / one for plane, step in zip(planes_of(frame), (1, 2, 2))]


def write_deep(path, pictures, colours, pixels="yuv420p10le", codec="libx265", extra=""):
    """A clip in which these SDR pictures are written in other colours; in those of `TAN_CODES` with a tan patch."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25)
        context = video.codec_context
        height, width = pictures[0].shape[:2]
        context.width, context.height, context.pix_fmt = width, height, pixels
        context.color_range, context.colorspace = colours.range, colours.matrix
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        context.options = {"crf": "8", "preset": "ultrafast"}
        if codec == "libx265":
            context.options |= {"x265-params": f"log-level=none{extra}"}
        for i, picture in enumerate(pictures):
            if colours.is_plain:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            else:
                black = np.zeros_like(picture)
                values = colours.sdr.with_changes(np.zeros(picture.shape, np.uint16), black, picture)
                frame = av.VideoFrame.from_ndarray(values, format="rgb48le")
            matrix = {9: 9, 6: 5}.get(colours.matrix, 1)
            frame = frame.reformat(
                format=pixels, src_colorspace=matrix, dst_colorspace=matrix, dst_color_range=colours.range
            )
            if colours.transfer in TAN_CODES:
                paint(frame, TAN_CODES[colours.transfer])
            frame.colorspace, frame.color_range = colours.matrix, colours.range
            frame.color_primaries, frame.color_trc = colours.primaries, colours.transfer
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
    return path


def seen(path):
    """The frames of a video as people see them, and the first one as PyAV has it."""
    video = open_video(path)
    frames = [frame.image for frame in video.frames()]
    return np.stack([video.upright(frame) for frame in frames]), frames[0]


@pytest.mark.parametrize(
    ("colours", "pixels", "extra"),
    [
        (Colours(1, 9, BT2020, HLG), "yuv420p10le", ""),
        (Colours(1, 9, BT2020, PQ), "yuv420p10le", f":{SCREEN}"),
        (Colours(1, 9, BT2020, PQ), "yuv420p12le", ""),
        (Colours(1, 9, BT2020, 14), "yuv420p10le", ""),
    ],
    ids=["HLG", "HDR10", "PQ, 12 bits", "BT.2020 without HDR"],
)
def test_hdr_is_swapped_in_its_colours_and_stays_hdr(swapper, tmp_path, colours, pixels, extra):
    swapper._generate = lambda targets, vectors: np.full_like(targets, SKIN)
    source = write_deep(tmp_path / "a.mp4", two(6), colours, pixels, extra=extra)
    result = swap(swapper, source, tmp_path / "b.mp4", crf=8)
    pictures, frame = seen(tmp_path / "b.mp4")
    originals, original = seen(source)
    for place in (RED_AT, GREEN_AT):
        np.testing.assert_allclose(pictures[2][place], SKIN, atol=2)
        np.testing.assert_allclose(codes_at(frame, place), SKIN_CODES[colours.transfer], atol=3)
    for shown, deep in ((originals, original), (pictures, frame)):
        np.testing.assert_allclose(shown[2][TAN_AT].astype(int), TAN, atol=2)
        np.testing.assert_allclose(codes_at(deep, TAN_AT), TAN_CODES[colours.transfer], atol=1)
    np.testing.assert_allclose(pictures[2][GROUND_AT], 90, atol=3)
    written = Colours.of(frame)
    assert (written.matrix, written.primaries, written.transfer) == (9, BT2020, colours.transfer)
    assert frame.format.name == "yuv420p10le"
    with av.open(str(tmp_path / "b.mp4")) as clip:
        assert (clip.streams.video[0].codec_context.name, clip.streams.video[0].codec_context.codec_tag) == (
            "hevc",
            "hvc1",
        )
    assert "10-bit HEVC" in result.notes[0]
    assert ("12 bits" in result.notes[0]) == (pixels == "yuv420p12le")
    before = side_data(original)
    assert side_data(frame).get("CONTENT_LIGHT_LEVEL") == before.get("CONTENT_LIGHT_LEVEL")
    assert ("MASTERING_DISPLAY_METADATA" in side_data(frame)) == bool(extra)
    if extra:
        assert open_video(tmp_path / "b.mp4").light == f":{SCREEN}"


@pytest.mark.parametrize(
    ("colours", "pixels"),
    [
        (Colours(2, 1, 1, 1), "yuvj420p"),
        (Colours(1, 6, 6, 6), "yuv420p"),
        (Colours(1, 1, 1, 1), "yuv420p"),
        (Colours(1, 1, 1, 1), "yuv420p10le"),
    ],
    ids=["full range", "BT.601", "BT.709", "10 bits"],
)
def test_sdr_keeps_its_colours_and_how_they_are_written(swapper, tmp_path, colours, pixels):
    source = write_deep(tmp_path / "a.mp4", two(4), colours, pixels, codec="libx264")
    result = swap(swapper, source, tmp_path / "b.mp4", crf=8)
    pictures, frame = seen(tmp_path / "b.mp4")
    np.testing.assert_allclose(pictures[2][RED_AT], (0, 0, 255), atol=12)
    before = seen(source)[0][2][GROUND_AT].astype(int)
    np.testing.assert_allclose(pictures[2][GROUND_AT], before, atol=4)
    np.testing.assert_allclose(before, 90, atol=6)
    assert Colours.of(frame) == Colours(colours.range, colours.matrix, colours.primaries, colours.transfer)
    assert [("10 bits" in note) for note in result.notes] == ([True] if "10" in pixels else [])


def test_rgb_becomes_yuv_that_says_so(unchanged, tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("libx264rgb" if "libx264rgb" in av.codecs_available else "ffv1", rate=25)
        video.width, video.height = 192, 128
        video.pix_fmt = "rgb24" if video.codec_context.name == "libx264rgb" else "bgr0"
        for picture in two(3):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode())
    swap(unchanged, tmp_path / "a.mkv", tmp_path / "b.mp4", crf=4)
    pictures, frame = seen(tmp_path / "b.mp4")
    assert Colours.of(frame).matrix != 0
    np.testing.assert_allclose(pictures[1][GROUND_AT], 90, atol=3)
    np.testing.assert_allclose(pictures[1][RED_AT], RED, atol=6)


@pytest.mark.parametrize(
    "colours", [Colours(matrix=14), Colours(matrix=15), Colours(transfer=8), Colours(transfer=9), Colours(matrix=8)]
)
def test_colours_that_are_not_read_are_refused(colours):
    with raises_user_error("video-colours-unknown", "a.mp4"):
        colours.check(Path("a.mp4"), dolby_vision=False)
    Colours().check(Path("a.mp4"), dolby_vision=False)
    with raises_user_error("video-colours-unknown", "Dolby Vision"):
        Colours().check(Path("a.mp4"), dolby_vision=True)


@pytest.mark.parametrize(
    ("colours", "named"), [(Colours(1, 1, 1, 8), "transfer 8"), (Colours(1, 14, 1, 1), "matrix 14")]
)
def test_a_file_whose_colours_are_not_read_is_refused_when_it_is_opened(tmp_path, colours, named):
    source = write_deep(tmp_path / "a.mp4", two(2), colours, "yuv420p", codec="libx264")
    with raises_user_error("video-colours-unknown", "a.mp4", named):
        open_video(source)


def test_odd_sizes_become_even_ones_that_everybody_plays(unchanged, tmp_path):
    pictures = [scene((RED, 16, 40), (GREEN, 120, 30), shape=(131, 193))] * 4
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 193, 131, "yuv420p"
        for picture in pictures:
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode())
    result = swap(unchanged, tmp_path / "a.mkv", tmp_path / "b.mp4", crf=4)
    with av.open(str(tmp_path / "b.mp4")) as clip:
        context = clip.streams.video[0].codec_context
        assert (context.pix_fmt, context.width, context.height) == ("yuv420p", 194, 132)
        assert context.profile != "High 4:4:4 Predictive"
    shown, _ = seen(tmp_path / "b.mp4")
    assert np.abs(shown[0][:131, :193].astype(int) - seen(tmp_path / "a.mkv")[0][0]).mean() < 2
    np.testing.assert_allclose(shown[0][-1, :-1], shown[0][-2, :-1], atol=8)
    assert "193×131; the result is 194×132" in result.notes[0]


def lose_a_packet(path, count=30):
    """A transport stream without one packet of 188 bytes of its second group of pictures."""
    with av.open(str(path), "w", format="mpegts") as out:
        video = out.add_stream("libx264", rate=25, options={"x264-params": "keyint=10:scenecut=0:bframes=0"})
        video.width, video.height, video.pix_fmt = 192, 128, "yuv420p"
        noise = np.random.default_rng(0)
        for picture in two(count):
            noisy = np.clip(picture + noise.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        out.mux(video.encode())
    data = path.read_bytes()
    packets = [data[i : i + 188] for i in range(0, len(data), 188)]
    inner = [i for i, packet in enumerate(packets) if packet[1] == 1 and packet[2] == 0]  # PID 0x100, no beginning
    del packets[inner[len(inner) // 2]]
    path.write_bytes(b"".join(packets))
    return path


def test_a_lost_packet_is_said_and_no_frame_thrown_away(swapper, tmp_path):
    source = lose_a_packet(tmp_path / "a.ts")
    result = swap(swapper, source, tmp_path / "b.mp4")
    assert result.frames == 30
    count = int(re.match(r"(\d+) of 30 frames of a\.ts are damaged", result.notes[-1]).group(1))
    assert 1 <= count <= 10  # of one group of pictures
    assert len(seen(tmp_path / "b.mp4")[0]) == 30


def test_damage_is_said_by_a_run_that_only_puts_together(swapper, tmp_path, monkeypatch):
    source = lose_a_packet(tmp_path / "a.ts")
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            swap(swapper, source, tmp_path / "b.mp4")
    result = swap(swapper, source, tmp_path / "b.mp4")
    assert "frames of a.ts are damaged" in result.notes[-1]


def test_zeros_in_an_mp4_are_said(tmp_path):
    data = bytearray(write_clip(tmp_path / "a.mp4", two(20), tone=False).read_bytes())
    place = (data.find(b"mdat") + len(data)) // 2
    data[place : place + 300] = bytes(300)
    (tmp_path / "a.mp4").write_bytes(bytes(data))
    video = open_video(tmp_path / "a.mp4")
    read = sum(1 for _ in video.frames())
    assert read > 0
    assert 0 < video.damage.frames <= read
    (sentence,) = damages(video, video.damage.frames, read)
    assert f"{video.damage.frames} of {read} frames of a.mp4 are damaged" in sentence


def write_sound(path, codec, form=None):
    """A clip with a second of sound in a codec."""
    with av.open(str(path), "w", format=form) as out:
        video = out.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 192, 128, "yuv420p", 4_000_000
        sound = out.add_stream(codec, rate=48000, layout="mono")
        sound.codec_context.bit_rate = 96_000
        for i, picture in enumerate(two(25)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        write_tone(out, sound, 16000)
    return path


def sound_of(path):
    """Names of the sound tracks, and seconds and loudness of the first."""
    with av.open(str(path)) as clip:
        names = [stream.codec_context.name for stream in clip.streams.audio if stream.codec_context]
        frames = [frame.to_ndarray() for frame in clip.decode(audio=0)] if names else []
        rate = clip.streams.audio[0].codec_context.sample_rate if names else 1
    samples = np.concatenate(frames, axis=1) if frames else np.zeros((1, 1))
    return names, samples.shape[1] / rate, float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_that_a_container_does_not_take_is_converted(unchanged, tmp_path, ending):
    source = write_sound(tmp_path / "a.wmv", "wmav2", "asf")
    result = swap(unchanged, source, tmp_path / f"b.{ending}")
    names, seconds, loudness = sound_of(tmp_path / f"b.{ending}")
    assert names == ["aac"]
    assert abs(seconds - 1) < 0.2
    assert abs(loudness - 0.3 / np.sqrt(2)) < 0.03
    assert ["wmav2" in note and "converted to aac" in note for note in result.notes] == [True]


@pytest.mark.parametrize("name", ["CAM00001.MTS", "dvd.vob"])
def test_cameras_and_discs_are_read(unchanged, tmp_path, name):
    source = write_sound(
        tmp_path / name, "ac3" if name.endswith("MTS") else "mp2", "mpegts" if "CAM" in name else "vob"
    )
    assert is_video(source)
    assert swap(unchanged, source, tmp_path / "b.mp4").frames == 25
    (sound,) = sound_of(tmp_path / "b.mp4")[0]
    assert sound in (("ac3",) if "CAM" in name else ("mp2float", "mp3float"))  # MP4 tells the two not apart


def set_clock(path, seconds):
    """Rewrites a recording as if its clock had run for some seconds before it begins."""
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".new.ts")), "w", format="mpegts") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        for packet in source.demux():
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    path.with_suffix(".new.ts").replace(path)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_the_clock_of_a_broadcast_is_not_kept(unchanged, tmp_path, ending):
    write_sound(tmp_path / "a.ts", "ac3", "mpegts")
    set_clock(tmp_path / "a.ts", 36_000)
    with av.open(str(tmp_path / "a.ts")) as source:
        assert source.start_time > 35_000 * av.time_base
        apart = [float(stream.start_time * stream.time_base) for stream in source.streams]
    output = tmp_path / f"b.{ending}"
    assert swap(unchanged, tmp_path / "a.ts", output).frames == 25
    with av.open(str(output)) as made:
        times = {stream.type: [] for stream in made.streams}
        for packet in made.demux():
            if packet.size:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
    assert 0 <= min(times["video"]) < 0.1
    assert max(times["video"]) < 1.2
    assert min(times["video"]) - min(times["audio"]) == pytest.approx(apart[0] - apart[1], abs=0.03)


def test_joined_recordings_are_refused_before_anything_is_drawn(unchanged, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline.FrameSwapper, "run", lambda *_: pytest.fail("drawn"))
    one = write_clip(tmp_path / "one.ts", two(30), tone=False).read_bytes()
    (tmp_path / "a.ts").write_bytes(one + one)
    with raises_user_error("video-clock-restarts", "a.ts", "frame 30"):
        swap(unchanged, tmp_path / "a.ts", tmp_path / "b.mp4")


def make_unknown(path):
    """Turns the last sound track of a MOV into 'apac', Apple's spatial sound, which FFmpeg does not know."""
    data = bytearray(path.read_bytes())
    places, start = [], 0
    while (start := data.find(b"stsd", start)) >= 0:
        if data[start + 16 : start + 20] == b"mp4a":
            places.append(start + 16)
        start += 4
    place = places[-1]
    size = int.from_bytes(data[place - 4 : place], "big")
    data[place : place + 4] = b"apac"
    for name, new in ((b"wave", b"xave"), (b"esds", b"dapa")):
        if (found := data.find(name, place, place + size)) > 0:
            data[found : found + 4] = new
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("ending", ["mov", "mkv", "mp4"])
def test_a_track_that_nobody_knows_is_left_out_and_said(unchanged, tmp_path, ending):
    write_clip(tmp_path / "one.mp4", two(10))
    with av.open(str(tmp_path / "one.mp4")) as one, av.open(str(tmp_path / "a.mov"), "w") as out:
        video, sound, second = (out.add_stream_from_template(one.streams[i], opaque=True) for i in (0, 1, 1))
        for packet in one.demux():
            if packet.size:
                for stream in (video,) if packet.stream.index == 0 else (sound, second):
                    again = av.Packet(bytes(packet))
                    again.pts, again.dts, again.duration = packet.pts, packet.dts, packet.duration
                    again.time_base, again.is_keyframe, again.stream = packet.time_base, packet.is_keyframe, stream
                    out.mux_one(again)
    make_unknown(tmp_path / "a.mov")
    result = swap(unchanged, tmp_path / "a.mov", tmp_path / f"b.{ending}")
    assert sound_of(tmp_path / f"b.{ending}")[0] == ["aac"]
    assert [("track 2" in note and "left out" in note) for note in result.notes] == [True]


def test_an_alpha_channel_is_said(unchanged, tmp_path):
    with av.open(str(tmp_path / "a.mov"), "w") as out:
        video = out.add_stream("prores_ks", rate=25, options={"profile": "4444"})
        video.width, video.height, video.pix_fmt = 192, 128, "yuva444p10le"
        for picture in two(3):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuva444p10le")))
        out.mux(video.encode())
    result = swap(unchanged, tmp_path / "a.mov", tmp_path / "b.mp4")
    assert any("alpha channel" in note for note in result.notes)


def test_the_alpha_of_vp9_lies_beside_the_pictures_and_is_said(unchanged, tmp_path):
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        video = out.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime", "auto-alt-ref": "0"})
        video.width, video.height, video.pix_fmt = 192, 128, "yuva420p"
        video.metadata["alpha_mode"] = "1"
        for picture in two(3):
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuva420p")))
        out.mux(video.encode())
    assert open_video(tmp_path / "a.webm").alpha
    result = swap(unchanged, tmp_path / "a.webm", tmp_path / "c.mp4")
    assert [note for note in result.notes if "alpha" in note] == ["a.webm has an alpha channel; the result has none."]
    assert not open_video(write_clip(tmp_path / "b.mp4", two(2))).alpha


def test_a_watermarked_video_that_grows_is_said(unchanged, tmp_path):
    source = write_clip(tmp_path / "a.mp4", [scene((RED, 16, 40))] * 8, tone=False, crf=30)
    marks = replace(NO_MARKS, watermark=True)
    result = swap(unchanged, source, tmp_path / "b.mp4", marks=marks)
    assert ["times as large" in note and "--no-watermark" in note for note in result.notes] == [True]
    assert swap(unchanged, source, tmp_path / "c.mp4").notes == ()


TIMES = [40, 70, 100, 130, 50, 90]


def write_still(path, pictures=None, repeated=0):
    pictures = two(6) if pictures is None else pictures
    shown = [Still(picture, time) for picture, time in zip(pictures, TIMES)]
    write_animation(path, shown, FORMATS[path.suffix], repeated)
    return path


def test_a_webp_animation_has_the_quality_that_was_asked_for(unchanged, tmp_path):
    source = write_still(tmp_path / "a.webp")
    sizes = []
    for quality in (20, 95):
        swap(unchanged, source, tmp_path / f"{quality}.webp", quality=quality)
        sizes.append((tmp_path / f"{quality}.webp").stat().st_size)
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--target", "a.gif", "--output", "b.gif", "--crf", "30"], "crf-without-video"),
        (["--target", "a.gif", "--output", "b.mp4", "--quality", "30"], "quality-of-video"),
    ],
)
def test_a_flag_that_the_output_does_not_have_is_refused(tmp_path, monkeypatch, words, code):
    monkeypatch.chdir(tmp_path)
    write_still(tmp_path / "a.gif")
    Image.fromarray(two(1)[0]).save("source.png")
    with raises_user_error(code, words[3]):
        command.main(["--source", "source.png", *words])


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
@pytest.mark.parametrize("repeated", [0, 3, None])
def test_animations_are_read_as_they_were_written(tmp_path, ending, repeated):
    path = write_still(tmp_path / f"a.{ending}", repeated=repeated)
    found = list(stills(path))
    assert [still.milliseconds for still in found] == TIMES
    assert np.abs(np.stack([still.picture for still in found]).astype(int) - np.stack(two(6))).mean() < 2
    again = write_still(tmp_path / f"b.{ending}", repeated=encode.animation.repetitions(path))
    with Image.open(path) as one, Image.open(again) as other:
        assert one.info.get("loop") == other.info.get("loop")


@pytest.mark.parametrize("ending", ["gif", "webp", "png"])
def test_an_animation_becomes_an_animation(swapper, tmp_path, ending):
    source = write_still(tmp_path / f"a.{ending}")
    result = swap(swapper, source, tmp_path / f"b.{ending}", marks=ALL_MARKS)
    found = list(stills(tmp_path / f"b.{ending}"))
    assert result.frames == len(found) == 6
    assert [still.milliseconds for still in found] == TIMES
    assert [int(np.argmax(still.picture[RED_AT])) for still in found] == [2] * 6
    assert MANIFEST in result.carried
    assert read_video_provenance(tmp_path / f"b.{ending}").inputs
    assert has_manifest(tmp_path / f"b.{ending}")
    kind = mime_type(tmp_path / f"b.{ending}")
    assert c2pa.read_video(tmp_path / f"b.{ending}", kind).state == "trusted"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"b.{ending}"]


def test_the_command_says_what_it_did_to_an_animation(swapper, tmp_path):
    source = write_still(tmp_path / "a.gif")
    Image.fromarray(scene((RED, 40, 40))).save(tmp_path / "red.png")
    request = SwapRequest((tmp_path / "red.png",), (source,), tmp_path / "b.gif")
    said = command.run_video(swapper, request, EncodingOptions(), Outcome())
    assert "6 frames into" in said
    assert "Matroska" not in said
    assert len(list(stills(tmp_path / "b.gif"))) == 6


def test_a_picture_before_an_animation_is_no_part_of_it(tmp_path):
    cover, *frames = (Image.fromarray(picture) for picture in two(4))
    place = tmp_path / "a.png"
    cover.save(place, save_all=True, default_image=True, append_images=frames, duration=50)
    found = list(stills(place))
    assert [still.milliseconds for still in found] == [50] * 3
    np.testing.assert_array_equal(found[0].picture, np.asarray(frames[0]))
    assert open_video(place).length == 3
    cover.save(tmp_path / "b.png", save_all=True, default_image=True, append_images=frames[:1], duration=50)
    assert not is_animation(tmp_path / "b.png")


def test_metadata_is_found_wherever_its_box_lies(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", two(2))
    append_xmp(clip, xmp_packet(Provenance(inputs=(("source", "ab" * 32),))))
    expected = read_video_provenance(clip)
    assert expected is not None
    with clip.open("ab") as file:
        file.write((32).to_bytes(4, "big") + b"free" + b"\0" * 24)
    assert read_video_provenance(clip) == expected


def test_what_a_program_puts_behind_an_mp4_does_not_make_it_cut_off(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", two(2), tone=False)
    with clip.open("ab") as file:
        file.write(b"SEFH a trailer that is no box")
    assert open_video(clip).length == 2


def test_an_animation_becomes_a_video_by_name(swapper, tmp_path):
    source = write_still(tmp_path / "a.gif")
    result = swap(swapper, source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as clip:
        times = [float(frame.pts * frame.time_base) for frame in clip.decode(video=0)]
    np.testing.assert_allclose(times, np.cumsum([0, *TIMES[:-1]]) / 1000, atol=1e-6)
    assert result.notes == ()


def test_only_an_animation_becomes_one_and_not_too_large_a_one(tmp_path, monkeypatch):
    clip, moving = write_clip(tmp_path / "a.mp4", two(2)), write_still(tmp_path / "a.gif")
    with raises_user_error("video-format", ".mkv"):
        container_of(tmp_path / "b.gif", clip)
    with raises_user_error("video-format", ".mkv"):
        check_animation(open_video(clip), tmp_path / "b.gif")
    assert container_of(tmp_path / "b.webp", moving) == "WEBP"
    monkeypatch.setattr(encode, "_MOST_STILL", 1000)
    with raises_user_error("animation-too-large", ".mp4"):
        check_animation(open_video(moving), tmp_path / "b.gif")
    assert encoding_for(open_video(moving), EncodingOptions(), tmp_path / "b.gif").pixels == "rgb24"


def test_stills_and_broken_files_are_no_animations(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.png")
    Image.fromarray(scene()).save(tmp_path / "a.gif")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    assert not any(map(is_animation, (*tmp_path.iterdir(), tmp_path / "none.gif", tmp_path)))
    cut = write_still(tmp_path / "c.png")
    cut.write_bytes(cut.read_bytes()[:-400])
    with raises_user_error("animation-broken", "c.png"):
        list(stills(cut))


def test_transparent_places_are_laid_on_white(tmp_path):
    frames = [Image.new("RGBA", (40, 40), (200, 0, 0, 0 if i else 255)) for i in (1, 0)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=100)
    assert open_video(tmp_path / "a.png").alpha
    assert next(stills(tmp_path / "a.png")).picture.min() == 255


def test_an_animation_in_a_folder_is_named_and_left_out(swapper, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_still(folder / "a.gif")
    Image.fromarray(two(1)[0]).save(folder / "b.png")
    Image.fromarray(scene((RED, 40, 40))).save(tmp_path / "red.png")
    outcome = Outcome()
    request = SwapRequest((tmp_path / "red.png",), (folder,), tmp_path / "out", marks=NO_MARKS)
    assert "1 of 2" in swap_pictures(swapper, request, outcome)
    assert len(outcome.failures) == 1
    assert "a.gif" in outcome.failures[0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    one = SwapRequest((tmp_path / "red.png",), (folder / "a.gif",), tmp_path / "c.png", marks=NO_MARKS)
    with raises_user_error("animation-as-picture", "a.gif"):
        swap_pictures(swapper, one, outcome)


def test_the_table_of_formats_names_what_is_read_and_written():
    text = (Path(__file__).parents[2] / "docs/guide/formats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\.[a-z0-9]+)`", text))
    missing = (SUFFIXES | set(encode.FORMATS) | set(FORMATS)) - named
    assert not missing, missing
    videos = text[text.index("## Videos") : text.index("## Animations")]
    assert set(re.findall(r"`(\.[a-z0-9]+)`", videos)) == SUFFIXES
    written = re.search(r"\| written \|(.+)\|", videos).group(1)
    assert set(re.findall(r"`(\.[a-z0-9]+)`", written)) == set(encode.FORMATS)
    animations = text[text.index("## Animations") :].split("\n## ")[0]
    assert set(re.findall(r"`(\.[a-z0-9]+)`", animations)) == set(FORMATS) | set(encode.FORMATS)


def test_sdr_is_only_made_of_wide_primaries():
    assert Colours(primaries=1, transfer=PQ).sdr == SdrMapping(BT2020, PQ)


def test_a_gif_holds_times_in_tens_that_add_up():
    assert hundredths([40, 70, 100]) == [40, 70, 100]
    assert hundredths([33] * 3) == [30, 40, 30]
    assert hundredths([16, 16]) == [20, 20]  # less is shown as 100 by browsers


def test_sixty_frames_a_second_last_a_second(tmp_path):
    """Of an APNG, whose times are fractions: a 60th is 16.67 ms."""
    write_animation(tmp_path / "a.png", [Still(np.full((8, 8, 3), i, np.uint8), 20) for i in range(60)], "PNG", 0)
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.find(b"fcTL")
    while place >= 0:
        data[place + 24 : place + 28] = struct.pack(">HH", 1, 60)
        data[place + 30 : place + 34] = zlib.crc32(data[place : place + 30]).to_bytes(4, "big")
        place = data.find(b"fcTL", place + 4)
    (tmp_path / "a.png").write_bytes(bytes(data))
    times = [still.milliseconds for still in stills(tmp_path / "a.png")]
    assert set(times) == {16, 17}
    assert sum(times) == 1000


@pytest.mark.parametrize("repeated", [None, 0, 2])
@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_repetitions_mean_the_same_in_every_kind(tmp_path, kind, repeated):
    frames = [Still(np.full((8, 8, 3), grey, np.uint8), 40) for grey in (0, 255)]
    write_animation(tmp_path / f"a.{kind}", frames, kind.upper(), repeated)
    assert repetitions(tmp_path / f"a.{kind}") == repeated

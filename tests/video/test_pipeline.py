"""Videos: all but the faces stays, who is meant is swapped throughout, stops and mistakes leave nothing broken."""

import errno
import json
import random
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path

import av
import cv2
import filelock
import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.cli import swap as verb
from simswap_jax.errors import UserError
from simswap_jax.inference.options import EncodingOptions, FaceSelection, Source, SwapOptions
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import Credentials
from simswap_jax.provenance.label_xmp import Provenance, provenance_of
from simswap_jax.provenance.options import ALL_MARKS, MANIFEST, MARKS, NO_MARKS
from simswap_jax.provenance.watermark import FRAME_SURE, THRESHOLD, detect_frames, embed
from simswap_jax.video import pipeline, workdir
from simswap_jax.video.decode import has_manifest, open_video, read_video_provenance, reading
from simswap_jax.video.encode import Segment
from simswap_jax.video.pipeline import swap_video
from tests.support.clips import BLUE, GREEN, RED, SIDE, Squares, read_clip, scene, two, write_clip, write_tone
from tests.support.command_line import with_usual
from tests.support.errors import raises_user_error

WHO = np.eye(16, dtype=np.float32)[:3]


def swap(swapper, target, output, faces="all", source=2, files=(), marks=NO_MARKS, crf=18, quality=95, **options):
    giver = Source(None if isinstance(faces, list) else WHO[source], files)
    how = SwapOptions(faces=FaceSelection.of(faces), **options)
    return swap_video(swapper, target, output, giver, how, marks, EncodingOptions(crf, quality))


def nothing_but(folder, *names):
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_everything_but_the_faces_stays_as_it_was(unchanged, tmp_path, ending):
    times = np.cumsum(np.random.default_rng(0).integers(12, 60, 24)).tolist()
    source = write_clip(tmp_path / f"a.{ending}", two(24), times, rotation=-90 if ending != "mkv" else 0)
    result = swap(unchanged, source, tmp_path / f"b.{ending}", crf=4)
    pictures, when, rotation, samples, duration = read_clip(source)
    new_pictures, new_when, new_rotation, new_samples, new_duration = read_clip(tmp_path / f"b.{ending}")
    assert result.frames == len(pictures) == len(new_pictures) == 24
    assert new_when == when
    assert new_rotation == rotation
    # Microseconds: what the container itself rounds to; Matroska does not note how long the last frame is shown.
    assert abs(new_duration - duration) <= (20_000 if ending == "mkv" else 1000)
    np.testing.assert_array_equal(new_samples, samples)
    assert np.abs(new_pictures.astype(int) - pictures).mean() < 1.5
    assert nothing_but(tmp_path, f"a.{ending}", f"b.{ending}")


def test_turned_videos_are_looked_at_upright(swapper, tmp_path, monkeypatch):
    upright = [scene((RED, 20, 60), shape=(192, 128))] * 4
    source = write_clip(tmp_path / "a.mp4", [np.rot90(picture) for picture in upright], rotation=-90)
    seen = []
    monkeypatch.setattr(Squares, "look", lambda self, photo: seen.append(photo) or [])
    with raises_user_error("no-face"):
        swap(swapper, source, tmp_path / "b.mp4")
    assert np.abs(seen[0].astype(int) - upright[0]).mean() < 3


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_mirrored_videos_are_seen_and_written_as_they_are_shown(unchanged, tmp_path, rotation):
    upright = scene((RED, 20, 60), shape=(128, 192))
    stored = np.rot90(upright[:, ::-1], -rotation // 90)
    write_clip(tmp_path / "a.mp4", [stored] * 3, rotation=rotation, mirrored=True)
    swap(unchanged, tmp_path / "a.mp4", tmp_path / "b.mp4", crf=4)
    for name in ("a.mp4", "b.mp4"):
        video = open_video(tmp_path / name)
        (shown, *_) = (video.upright(frame.image) for frame in video.frames())
        assert np.abs(shown.astype(int) - upright).mean() < 3
    pictures, _, _, _, _ = read_clip(tmp_path / "b.mp4")
    assert np.abs(pictures[0].astype(int) - stored).mean() < 3


def test_subtitles_are_kept_or_converted_and_that_is_said(unchanged, tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,500\nHello\n")
    source = write_clip(tmp_path / "a.mkv", two(12), subtitles=tmp_path / "a.srt")
    swap(unchanged, source, tmp_path / "b.mkv")

    def spoken(path):
        with av.open(str(path)) as clip:
            return [(packet.pts, bytes(packet)) for packet in clip.demux(subtitles=0) if packet.size]

    assert spoken(tmp_path / "b.mkv") == spoken(source) == [(100, b"Hello")]
    result = swap(unchanged, source, tmp_path / "b.mp4")
    assert len(result.notes) == 1
    assert "track 2 (subtitles, srt)" in result.notes[0]
    assert "converted to mov_text" in result.notes[0]
    back = swap(unchanged, tmp_path / "b.mp4", tmp_path / "c.mkv")
    assert "converted to subrip" in back.notes[0]
    assert spoken(tmp_path / "c.mkv") == [(164, b"Hello")]  # all begin later by the silence before the AAC


def colours_at(path, places):
    """The main colour at a place of every frame: 0 red, 1 green, 2 blue."""
    pictures = read_clip(path)[0]
    return [[int(np.argmax(picture[y, x])) for x, y in where] for picture, where in zip(pictures, places)]


def centres(squares):
    return [(left + SIDE // 2, top + SIDE // 2) for _, left, top in squares]


def test_all_are_swapped_in_every_frame_also_where_one_is_missed(swapper, tmp_path, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", two(20))
    detect, count = Squares.look, []
    monkeypatch.setattr(
        Squares,
        "look",
        lambda self, photo: count.append(0) or detect(self, photo)[: 1 if len(count) in (7, 8) else 2],
    )
    result = swap(swapper, source, tmp_path / "b.mp4")
    places = [centres([(RED, 16 + i % 8, 40), (GREEN, 120, 30 + i % 8)]) for i in range(20)]
    assert colours_at(tmp_path / "b.mp4", places) == [[2, 2]] * 20
    assert result.faces == 40


def crossing(count=25):
    """Red goes right, green goes left and in front of it; then a cut, after which red is on the right at once."""
    squares = [[(RED, 4 + 5 * i, 40), (GREEN, 140 - 5 * i, 44)] for i in range(count)]
    return [*squares, *([[(GREEN, 10, 60), (RED, 130, 30)]] * 6)]


@pytest.mark.parametrize("person", [0, 1])
def test_a_person_is_swapped_wherever_they_go_and_nobody_else(swapper, tmp_path, person):
    squares = crossing()
    pictures = [scene(*both) for both in squares]
    pictures[25:] = [np.where(picture == 90, np.uint8(220), picture) for picture in pictures[25:]]
    source = write_clip(tmp_path / "a.mp4", pictures)
    swap(swapper, source, tmp_path / "b.mp4", faces=WHO[person], threshold=0.5)
    found = colours_at(tmp_path / "b.mp4", [centres(sorted(both)) for both in squares])
    apart = [i for i, both in enumerate(squares) if abs(both[0][1] - both[1][1]) > SIDE]
    assert len(apart) > 20
    wanted = [1, 2] if person == 0 else [2, 0]  # sorted: green stands first
    assert [found[i] for i in apart] == [wanted] * len(apart)


def test_a_map_gives_everybody_their_own_source_and_largest_is_a_person_of_the_video(swapper, tmp_path):
    squares = crossing()
    source = write_clip(tmp_path / "a.mp4", [scene(*both) for both in squares[:10]])
    places = [centres(both) for both in squares[:10]]
    swap(swapper, source, tmp_path / "b.mp4", faces=[(WHO[0], WHO[1]), (WHO[1], WHO[2])])
    assert colours_at(tmp_path / "b.mp4", places) == [[1, 2]] * 10
    alone = [*([scene((GREEN, 100, 40))] * 3), *(scene((RED, 10, 40), (GREEN, 100, 40)) for _ in range(9))]
    source = write_clip(tmp_path / "c.mp4", alone)
    swap(swapper, source, tmp_path / "d.mp4", faces="largest")
    assert colours_at(tmp_path / "d.mp4", [[(34, 64), (124, 64)]] * 12)[3:] == [[0, 2]] * 9


class Stopped(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("where", ["looking", "drawing", "putting together"])
def test_a_stopped_run_leaves_no_output_and_resumes_to_the_same_video(swapper, tmp_path, monkeypatch, where):
    source = write_clip(tmp_path / "a.mp4", two(34))
    swap(swapper, source, tmp_path / "whole.mp4", faces=WHO[0], threshold=0.5)

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        if where == "looking":
            embed, calls = swapper.identity_vectors, []
            patch.setattr(
                swapper, "identity_vectors", lambda *x: calls.append(0) or (stop() if len(calls) > 2 else embed(*x))
            )
        elif where == "drawing":
            finish, calls = Segment.finish, []
            patch.setattr(
                Segment, "finish", lambda self: calls.append(0) or (stop() if len(calls) > 2 else finish(self))
            )
        else:
            patch.setattr(pipeline, "assemble", stop)
        with pytest.raises(Stopped):
            swap(swapper, source, tmp_path / "b.mp4", faces=WHO[0], threshold=0.5)
    assert nothing_but(tmp_path, "a.mp4", "whole.mp4", ".b.mp4.parts")
    kept = len(list((tmp_path / ".b.mp4.parts").glob("*.json"))) - 1  # without job.json
    chunks = len((tmp_path / ".b.mp4.parts" / "faces.jsonl").read_text().splitlines())
    looked = []
    detect = Squares.look
    monkeypatch.setattr(Squares, "look", lambda self, photo: looked.append(0) or detect(self, photo))
    swap(swapper, source, tmp_path / "b.mp4", faces=WHO[0], threshold=0.5)
    assert len(looked) == (34 - 8 * chunks if where == "looking" else 0)
    assert chunks == {"looking": 3, "drawing": 5, "putting together": 5}[where]
    assert kept == {"looking": 0, "drawing": 2, "putting together": 4}[where]
    for one, other in zip(read_clip(tmp_path / "b.mp4"), read_clip(tmp_path / "whole.mp4")):
        np.testing.assert_array_equal(one, other)
    assert nothing_but(tmp_path, "a.mp4", "whole.mp4", "b.mp4")


def test_parts_of_another_job_are_not_resumed(swapper, tmp_path, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", two(12))
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "assemble", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            swap(swapper, source, tmp_path / "b.mp4", source=2)
    swap(swapper, source, tmp_path / "b.mp4", source=1)
    assert colours_at(tmp_path / "b.mp4", [[(40, 64)]] * 12) == [[1]] * 12


def test_parts_are_not_resumed_after_anything_that_matters_has_changed(tmp_path):
    parts = workdir.VideoWorkdir(tmp_path / "b.mp4")
    with parts.open({"model": 1}):
        parts.detections.write_text("seen")
    for job, there in (({"model": 1}, True), ({"model": 2}, False)):
        with parts.open(job):
            assert parts.detections.exists() == there
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    before = workdir.stamp_of(video)
    assert before == workdir.stamp_of(video)
    video.write_bytes(b"other")
    assert before != workdir.stamp_of(video)
    assert workdir.digest_of_file(video) != workdir.digest_of_file("no such weights.onnx") is None


def test_every_option_is_in_the_fingerprint_of_a_video_and_no_key_is(swapper, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")

    def job(vector=WHO[0], crf=18, **options):
        swap, marks = SwapOptions(**options), replace(ALL_MARKS, credentials=Credentials(b"chain", b"secret", "es256"))
        return pipeline.fingerprint(
            swapper, tmp_path / "a.mp4", Source(vector), Provenance(), (swap, marks, EncodingOptions(crf))
        )

    changes = {"threshold": 0.4, "strength": 0.5, "match_colour": True, "keep": ("mouth",), "blend": "poisson"}
    changes |= {"batch_size": 3, "faces": FaceSelection.of(WHO[1]), "source_faces": (2,), "vector": WHO[1], "crf": 20}
    assert set(changes) == {field.name for field in fields(SwapOptions)} | {"vector", "crf"}
    jobs = [json.dumps(job(), sort_keys=True), *(json.dumps(job(**{name: new})) for name, new in changes.items())]
    assert len(set(jobs)) == len(jobs)
    assert json.dumps(job(), sort_keys=True) == jobs[0]
    assert "secret" not in jobs[0]


def test_two_processes_do_not_make_the_same_video(tmp_path):
    parts = workdir.VideoWorkdir(tmp_path / "b.mp4")
    refused = pytest.raises(UserError, match=r"another process is making .*b\.mp4; wait for it")
    with parts.open({}), refused, workdir.VideoWorkdir(tmp_path / "b.mp4").open({}):
        pass
    assert parts.folder.is_dir()  # the one that was refused removed nothing
    with parts.open({}):
        parts.clear()
    assert nothing_but(tmp_path)


def test_a_disk_without_locks_is_one_sentence(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with (
        pytest.raises(UserError, match=r"cannot be locked \(No locks available\)"),
        workdir.VideoWorkdir(tmp_path / "b.mp4").open({}),
    ):
        pass


def test_marks_are_in_the_video_and_dropped_by_their_own_flags(swapper, tmp_path):
    source = write_clip(tmp_path / "a.mp4", two(12))
    (tmp_path / "anna.jpg").write_bytes(b"a picture")
    files = [tmp_path / "anna.jpg"]
    made_of = provenance_of(files, [source])
    result = swap(swapper, source, tmp_path / "b.mp4", files=files, marks=ALL_MARKS)
    assert result.carried == MARKS
    assert read_video_provenance(tmp_path / "b.mp4") == made_of
    manifest = c2pa.read_video(tmp_path / "b.mp4", "video/mp4")
    assert (manifest.state, manifest.inputs) == ("trusted", made_of.inputs)
    pictures = read_clip(tmp_path / "b.mp4")[0]
    assert detect_frames(pictures) > THRESHOLD
    assert detect_frames(read_clip(source)[0]) < THRESHOLD
    assert pictures[5, -12:, -40:].max() > 180 > scene().max()  # white letters
    again = swap(swapper, tmp_path / "b.mp4", tmp_path / "c.mp4", files=files, marks=ALL_MARKS)
    assert again.frames == 12
    edited = c2pa.read_video(tmp_path / "c.mp4", "video/mp4")
    assert (edited.state, edited.actions[0][0]) == ("trusted", "c2pa.opened")
    bare = swap(swapper, source, tmp_path / "d.mp4")
    assert bare.carried == ()
    assert read_video_provenance(tmp_path / "d.mp4") is None
    assert not has_manifest(tmp_path / "d.mp4")
    assert detect_frames(read_clip(tmp_path / "d.mp4")[0]) < THRESHOLD
    mkv = swap(swapper, source, tmp_path / "e.mkv", files=files, marks=ALL_MARKS)
    assert MANIFEST not in mkv.carried
    assert read_video_provenance(tmp_path / "e.mkv") == made_of


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_an_older_results_metadata_is_dropped_with_ones_own(swapper, tmp_path, ending):
    source = write_clip(tmp_path / "a.mp4", two(3), tone=False)
    swap(swapper, source, tmp_path / "b.mkv", marks=replace(NO_MARKS, xmp=True))
    assert read_video_provenance(tmp_path / "b.mkv") is not None
    swap(swapper, tmp_path / "b.mkv", tmp_path / f"c.{ending}")
    assert read_video_provenance(tmp_path / f"c.{ending}") is None


def test_the_watermark_is_found_over_frames_after_h264_at_crf_28(tmp_path):
    random = np.random.default_rng(0)
    sizes = [(9, 12), (36, 48), (144, 192), (576, 768)]
    layers = [cv2.resize(random.normal(0, 300 / w, (h, w, 3)), (768, 576)) for h, w in sizes]
    wide = np.clip(128 + sum(layers), 0, 255).astype(np.uint8)
    frames = [np.ascontiguousarray(wide[2 * i : 2 * i + 480, 3 * i : 3 * i + 640]) for i in range(12)]
    marked = [embed(frame, FRAME_SURE) for frame in frames]
    assert min(cv2.PSNR(one, other) for one, other in zip(frames, marked)) > 40
    zs = [
        detect_frames(read_clip(write_clip(tmp_path / "a.mp4", pictures, crf=28))[0]) for pictures in (frames, marked)
    ]
    assert zs[0] < THRESHOLD < zs[1], zs


@pytest.fixture
def run(swapper, folder, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(FaceSwapper, "from_pretrained", lambda *_, **__: swapper)
    Image.fromarray(scene((BLUE, 40, 40))).save("blue.png")
    Image.fromarray(scene((RED, 40, 40))).save("red.png")
    write_clip("a.mp4", two(12))
    return lambda *words: verb.main(["--model", str(folder), *words])


def test_the_verb_swaps_a_video_and_the_doctor_reads_its_marks(run, tmp_path, capsys, caplog):
    Path("b.mp4").touch()
    assert run("--source", "blue.png", "--target", "a.mp4", "--person", "red.png", "--output", "b.mp4") == 0
    assert "b.mp4 is there already and will be replaced." in caplog.text
    assert "Swapped 1 person (12 times) in 12 frames into b.mp4" in caplog.text
    marks = "a visible label, XMP metadata, a C2PA manifest and an invisible watermark"
    assert f"Marked as synthetic by {marks}." in caplog.text
    assert colours_at("b.mp4", [[(40, 64), (144, 56)]] * 12) == [[2, 1]] * 12
    assert cli.main(["doctor", "b.mp4"]) == 0
    assert capsys.readouterr().out.count(" found ") == 3
    assert cli.main(["doctor", "a.mp4"]) == 0
    assert "no mark found" in capsys.readouterr().out


def broken_clips():
    """Name → what makes it, and the code of its error."""

    def truncated():
        write_clip("bad.mp4", two(30))
        data = Path("bad.mp4").read_bytes()
        Path("bad.mp4").write_bytes(data[: len(data) * 2 // 3])

    def sound():
        with av.open("bad.mp4", "w") as out:
            write_tone(out, out.add_stream("aac", rate=16000, layout="mono"), 16000)

    def no_frames():
        with av.open("bad.mp4", "w", format="matroska") as out:
            video = out.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            write_tone(out, out.add_stream("aac", rate=16000, layout="mono"), 16000)

    def faceless():
        write_clip("bad.mp4", [scene()] * 4)

    return {
        "truncated": (truncated, "video-cut-off"),
        "sound only": (sound, "video-without-pictures"),
        "zero frames": (no_frames, "video-without-frames"),
        "text": (lambda: Path("bad.mp4").write_text("no video\n" * 99), "video-unreadable"),
        "empty": (lambda: Path("bad.mp4").touch(), "video-empty"),
        "no face": (faceless, "no-face"),
    }


@pytest.mark.parametrize("name", broken_clips())
def test_a_broken_video_gets_one_sentence_and_leaves_nothing(run, tmp_path, name):
    make, code = broken_clips()[name]
    make()
    refused(run, tmp_path, ["--target", "bad.mp4"], code)


REFUSED = {
    "output is the target": (["--output", "a.mp4"], "output-is-input", "a.mp4"),
    "output cannot be written": (["--output", "/proc/here/b.mp4"], "", "/proc/here"),
    "another ending": (["--output", "b.png"], "video-format", "b.png", ".mp4"),
    "a video of a photo": (["--target", "red.png"], "output-is-video", "red.png"),
    "aligned": (["--aligned"], "video-arguments", "--aligned"),
    "grid": (["--grid"], "video-arguments", "--grid"),
    "crf": (["--crf", "60"], "crf-range", 60),
    "strength": (["--strength", "3"], "strength-range", "3.0"),
    "crf of a photo": (["--target", "red.png", "--output", "x.png", "--crf", "20"], "crf-without-video"),
    "somebody else": (["--person", "blue.png", "--threshold", "0.9"], "person-not-found"),
    "a missing video": (["--target", "none.mp4"], "path-missing", "none.mp4"),
    "a video as source": (["--source", "a.mp4"], "", "a.mp4"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_get_one_sentence_and_leave_nothing(run, tmp_path, mistake):
    refused(run, tmp_path, *REFUSED[mistake])


def refused(run, tmp_path, words, code, *named):
    """A UserError of this code (empty: of another package's) that names these values; nothing is left."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        run(*with_usual(words, source="blue.png", target="a.mp4", output="b.mp4"))
    assert code in ("", caught.value.code)
    assert all(str(value) in str(caught.value) for value in named)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_not_blamed_on_the_video(swapper, tmp_path, monkeypatch):
    source = write_clip(tmp_path / "a.mp4", two(6))

    def full(*_):
        with reading(source):
            raise av.error.OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pipeline, "assemble", full)
    with raises_user_error("cannot-write", "b.mp4", "No space left on device"):
        swap(swapper, source, tmp_path / "b.mp4")
    assert nothing_but(tmp_path, "a.mp4")


def mutated(data, seed):
    """A clip with some bytes changed, cut out, or doubled, most of them where its structure is."""
    chance = random.Random(seed)
    data = bytearray(data)
    for _ in range(chance.choice((1, 3, 12, 60))):
        place = chance.randrange(len(data)) if chance.random() < 0.5 else chance.randrange(min(len(data), 4000))
        kind = chance.random()
        if kind < 0.7:
            data[place] = chance.choice((0, 255, chance.randrange(256)))
        elif kind < 0.85:
            del data[place : place + chance.choice((1, 4, 50))]
        else:
            data[place:place] = data[place : place + chance.choice((1, 8, 64))]
    return bytes(data)


def read_mutations(tmp_path, seeds):
    clips = [write_clip(tmp_path / f"a.{ending}", two(6)).read_bytes() for ending in ("mp4", "mkv", "avi")]
    outcomes = {"read": 0, "refused": 0}
    for seed in seeds:
        path = tmp_path / f"m.{('mp4', 'mkv', 'avi')[seed % 3]}"
        path.write_bytes(mutated(clips[seed % 3], seed))
        try:
            video = open_video(path)
            for frame in video.frames():
                assert video.upright(frame.image).shape == video.shape
            outcomes["read"] += 1
        except UserError:
            outcomes["refused"] += 1
        read_provenance_or_sentence(path)
    return outcomes


def read_provenance_or_sentence(path):
    with suppress(UserError):
        read_video_provenance(path)


def test_mutated_videos_are_read_or_refused(tmp_path):
    outcomes = read_mutations(tmp_path, range(45))
    assert min(outcomes.values()) > 0, outcomes


@pytest.mark.slow
def test_many_mutated_videos_are_read_or_refused(tmp_path):
    assert sum(read_mutations(tmp_path, range(45, 1245)).values()) == 1200

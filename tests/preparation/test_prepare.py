"""`simswap-jax prepare`: what is kept, every reason to refuse, resuming, and what training finds."""

import csv
import itertools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from simswap_jax.cli import main as cli
from simswap_jax.data import embeddings as vectors_module
from simswap_jax.data.records import open_people
from simswap_jax.errors import UserError
from simswap_jax.io import job_cache
from simswap_jax.io.images import read_picture
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.preparation import prepare as module
from simswap_jax.preparation.crops import NOT_READ_HERE
from simswap_jax.preparation.manifest import Manifest, PhotoRecord
from simswap_jax.preparation.prepare import PrepareRequest, prepare
from simswap_jax.preparation.sources import REASONS, Settings, dataset, datasets, list_photos
from simswap_jax.weights import identity_folder
from tests.conftest import TEST_DATA
from tests.support.errors import raises_user_error
from tests.support.raw_photos import write_tree
from tests.support.small_model import lively

ODD = Settings(size=112, template="simswap-frontal", least_picture=200, most_turned=0.05)
AS_CELEBA_192 = Settings(size=192, template="simswap-frontal")


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """The odd folder of people, and why each of its files is left out."""
    photos = TEST_DATA / "photos"
    if not photos.is_dir():
        pytest.skip("photos is not in the test data (set SIMSWAP_JAX_TEST_DATA)")
    root = tmp_path_factory.mktemp("raw")
    return root, write_tree(root, photos)


@pytest.fixture(scope="session")
def small_identity(tmp_path_factory):
    """An identity network that compiles quickly."""
    config = IdentityConfig(
        family="iresnet", layers=(1, 1), widths=(8, 8), size=(16, 16), frame=(16, 16), embedding=16, values="symmetric"
    )
    variables = lively(jax.eval_shape(IdentityNetwork(config).init, jax.random.key(0)))
    folder = tmp_path_factory.mktemp("identity") / "small"
    identity_folder.write(folder, config, variables, {})
    return folder


@pytest.fixture
def detector(outside):
    return str(outside("face_detection_yunet.onnx"))


def rows(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    """Every file's bytes; of the one report that says how long it took, all else."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    report = "records/identities/1.0.0/report.json"
    if report in found:
        found[report] = {**json.loads(found[report]), "seconds": 0, "root": ""}
    return found


@pytest.fixture(scope="session")
def prepared(raw, tmp_path_factory):
    """The odd folder prepared with MobileFaceNet, in two processes."""
    root, _ = raw
    data = TEST_DATA
    for name in ("face_detection_yunet.onnx", "mobilefacenet_casia.ckpt"):
        if not (data / name).is_file():
            pytest.skip(f"{name} is not in the test data (set SIMSWAP_JAX_TEST_DATA)")
    output = tmp_path_factory.mktemp("prepared") / "out"
    request = PrepareRequest(
        photos=root,
        output=output,
        settings=ODD,
        detector=str(data / "face_detection_yunet.onnx"),
        identity=str(data / "mobilefacenet_casia.ckpt"),
        vectors=True,
        processes=2,
        batch_size=8,
    )
    assert prepare(request)
    return request


def test_every_refusal_has_its_reason(raw, prepared):
    _, expected = raw
    request = prepared
    reasons = {row["photo"]: row["reason"] for row in rows(request.output / "left_out.csv")}
    assert reasons == {file: reason for file, reason in expected.items() if reason}
    assert set(reasons.values()) == set(REASONS) - {NOT_READ_HERE}  # each was tried
    assert all(row["detail"] for row in rows(request.output / "left_out.csv"))
    page = (request.output / "report.html").read_text()
    for reason in set(REASONS) - {NOT_READ_HERE}:
        count = sum(1 for one in reasons.values() if one == reason)
        assert f"<td>{reason}</td><td>{count}</td>" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched


def test_faces_lie_where_they_are_wanted(raw, prepared):
    _, expected = raw
    output = prepared.output
    kept = sorted(file.rsplit(".", 1)[0] for file, reason in expected.items() if not reason)
    faces = sorted(path.relative_to(output / "faces").as_posix() for path in (output / "faces").rglob("*.jpg"))
    assert [file.removesuffix(".jpg") for file in faces] == kept
    assert (output / "left_out/wrong-person/ana/other.jpg").is_file()
    assert (output / "left_out/duplicate/ana/again.jpg").is_file()
    assert all(read_picture(output / "faces" / file).shape == (112, 112, 3) for file in faces)
    assert not (output / "unfinished").exists()
    assert open_people(output / "records").files == faces


def test_a_second_run_does_nothing(prepared, caplog):
    request = prepared

    def states():
        paths = [path for path in request.output.rglob("*") if path.name != ".lock"]
        return {path: (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in paths}

    before = states()
    caplog.set_level(logging.INFO, "simswap_jax")
    assert not prepare(request)
    assert caplog.messages == [f"{request.output} is prepared already; nothing to do."]
    assert states() == before


def test_training_finds_the_vectors_and_needs_no_sources(prepared, tmp_path, monkeypatch):
    request = prepared
    identity = identity_folder.read(request.identity, "a test")
    records = request.output / "records"
    people = module.build(request.output / "faces", records)  # as training opens it
    fresh = vectors_module.identity_vectors(people, identity, tmp_path, size=112, batch_size=8)
    monkeypatch.setattr(vectors_module, "embedded", None)  # from here on nothing can be computed
    found = vectors_module.identity_vectors(people, identity, records)
    assert found.shape == (len(people), 2, 128)
    np.testing.assert_allclose(found, fresh, atol=1e-5)
    some = people.select(people.names[1:])
    chosen = vectors_module.identity_vectors(some, identity, records)
    np.testing.assert_array_equal(chosen, found[people.person > 0])


def test_crops_are_those_of_celeba_192(outside, tmp_path, detector):
    photos = outside("photos")
    known = {Path(row["file"]).name: row for row in rows(outside("celeba_192_landmarks.csv"))}
    whose = {path.name: known[path.name[4:]]["file"] for path in photos.iterdir() if path.name[4:] in known}
    names = tmp_path / "names.csv"
    names.write_text("file,person\n" + "".join(f"{name},{Path(file).parent}\n" for name, file in whose.items()))
    request = PrepareRequest(photos, tmp_path / "out", names, AS_CELEBA_192, detector)
    prepare(request)
    found = rows(tmp_path / "out" / "landmarks.csv")
    assert len(found) == len(whose) == 8
    for row in found:
        other = known[Path(row["file"]).name[4:]]
        assert Path(other["file"]).parent == Path(row["file"]).parent
        ours, theirs = (np.array(list(one.values())[1:], float).reshape(5, 2) for one in (row, other))
        assert np.hypot(*(ours - theirs).T).max() <= 1.5, row["file"]
        face = read_picture(tmp_path / "out" / "faces" / row["file"]).astype(int)
        assert np.abs(face - read_picture(outside("celeba_192") / other["file"])).mean() < 8, row["file"]


class Killed(BaseException):
    """As if the process had been killed here."""


QUICK, MORE = ["cut_out", "move_faces", "build", "report_page"], ["embedded", "write_vectors", "write_text"]
KILLS = [*QUICK, *(pytest.param(where, marks=pytest.mark.slow) for where in MORE)]


@pytest.fixture(scope="session")
def uninterrupted(raw, small_identity, tmp_path_factory):
    """The odd folder prepared at once, and the request."""
    request = small_request(raw[0], small_identity, tmp_path_factory.mktemp("whole") / "out")
    prepare(request)
    return request, contents(request.output)


def small_request(root, identity, output):
    detector = str(TEST_DATA / "face_detection_yunet.onnx")
    settings = replace(ODD, size=64, wrong_below=-1.0, keep_duplicates=True)
    return PrepareRequest(root, output, None, settings, detector, str(identity), vectors=True)


@pytest.mark.parametrize("where", KILLS)
def test_killed_anywhere_and_resumed_ends_in_the_same_bytes(uninterrupted, tmp_path, monkeypatch, where):
    request, expected = uninterrupted
    request = replace(request, output=tmp_path / "out")
    place = sys.modules["simswap_jax.preparation.prepare"] if where == "embedded" else module
    with monkeypatch.context() as patched:
        real = getattr(place, where)
        if where == "cut_out":

            def some(*arguments):
                for number, one in enumerate(real(*arguments)):
                    if number == 9:
                        raise Killed
                    yield one

            patched.setattr(place, where, some)
        else:

            def dies(*arguments, **options):
                if where == "move_faces":
                    real(*arguments, **options)
                raise Killed

            patched.setattr(place, where, dies)
        with pytest.raises(Killed):
            prepare(request)
    manifest = request.output / "manifest.jsonl"
    if where == "cut_out":  # as if the last line had been cut off in the middle
        manifest.write_bytes(manifest.read_bytes()[:-20])
    assert prepare(request)
    ours = contents(request.output)
    assert [name for name in sorted({*ours, *expected}) if ours.get(name) != expected.get(name)] == []
    assert not prepare(request)


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 5, 14])
def test_a_real_kill_and_a_resume_end_in_the_same_bytes(raw, small_identity, uninterrupted, tmp_path, lines):
    request, expected = uninterrupted
    request = small_request(raw[0], small_identity, tmp_path / "out")
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.preparation.test_prepare import small_request, prepare\n"
        "if __name__ == '__main__':\n"
        "    request = small_request(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))\n"
        "    prepare(replace(request, processes=2))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(program)
    words = [sys.executable, script, raw[0], small_identity, request.output]
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    manifest = request.output / "manifest.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if manifest.exists() and manifest.read_bytes().count(b"\n") > lines:
            break
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (request.output / "prepared.json").exists()
    subprocess.run(words, check=True)
    ours = contents(request.output)
    assert [name for name in sorted({*ours, *expected}) if ours.get(name) != expected.get(name)] == []


def test_a_changed_folder_is_done_where_it_changed(raw, small_identity, tmp_path, caplog):
    root = tmp_path / "raw"
    for person in ("ana", "eve"):
        shutil.copytree(raw[0] / person, root / person)
    request = small_request(root, small_identity, tmp_path / "out")
    prepare(request)
    shutil.copy(raw[0] / "gus" / "alone.png", root / "eve" / "new.png")
    (root / "ana" / "own.png").unlink()
    caplog.set_level(logging.INFO, "simswap_jax")
    assert prepare(request)
    assert "7 of 8 photos are done already" in caplog.messages
    assert (request.output / "faces" / "eve" / "new.jpg").is_file()
    assert not (request.output / "faces" / "ana" / "own.jpg").exists()
    assert "ana/own.jpg" not in open_people(request.output / "records").files
    whole = replace(request, output=tmp_path / "fresh")
    prepare(whole)
    ours, fresh = contents(request.output), contents(whole.output)
    assert [name for name in sorted({*ours, *fresh}) if ours.get(name) != fresh.get(name)] == []


def test_a_manifest_of_the_former_version_is_taken_up(uninterrupted, tmp_path, caplog):
    request, expected = uninterrupted
    shutil.copytree(request.output, tmp_path / "out")
    (tmp_path / "out" / "manifest.jsonl").rename(tmp_path / "out" / "journal.jsonl")
    (tmp_path / "out" / "prepared.json").unlink()  # as if it had been stopped
    caplog.set_level(logging.INFO, "simswap_jax")
    assert prepare(replace(request, output=tmp_path / "out"))
    assert any("photos are done already" in line for line in caplog.messages)
    assert sorted(contents(tmp_path / "out")) == sorted(expected)


def test_lines_of_another_kind_in_the_manifest_are_passed_over(tmp_path):
    manifest = Manifest(tmp_path / "manifest.jsonl", {"size": 64})
    record = PhotoRecord("a/b.jpg", "a/b.png", "1-2", landmarks=(1.0, 2.0), score=0.5)
    manifest.add([record])
    job_cache.append(manifest.path, [{"file": "c", "colour": "red"}])
    again = Manifest(tmp_path / "manifest.jsonl", {"size": 64})
    assert again.records == {"a/b.jpg": record}
    with raises_user_error("prepared-with-other-options", "size was 64 and is now 65"):
        Manifest(tmp_path / "manifest.jsonl", {"size": 65})


MISTAKES = {
    "no folder": ({"photos": "none"}, "no-folder", "none"),
    "a flat folder without names": ({"photos": "flat"}, "no-person-folders", "flat"),
    "no list": ({"names": "none.csv"}, "bad-list-of-names", "none.csv"),
    "a list without names": ({"names": "bad.csv"}, "bad-list-of-names", "line 1 of bad.csv"),
    "a list that leaves the folder": ({"names": "out.csv"}, "bad-list-of-names", "../a.png"),
    "the output among the photos": ({"output": "flat/out", "names": "good.csv"}, "output-among-photos", "flat/out"),
    "photos where faces go": ({"photos": "own/faces", "output": "own"}, "photos-in-output", "own/faces"),
    "photos below left_out": ({"photos": "own/left_out/x", "output": "own"}, "photos-in-output", "own/left_out"),
    "faces of somebody else": ({"output": "own", "names": "good.csv"}, "output-in-use", "own/faces"),
    "vectors without a network": ({"vectors": True, "names": "good.csv"}, "vectors-need-identity", "--identity"),
    "no detector": ({"detector": "none.onnx", "names": "good.csv"}, None, "none.onnx"),
    "no detector in the file": ({"detector": "text.onnx", "names": "good.csv"}, "not-a-detector", "is not YuNet"),
    "no face anywhere": ({"names": "good.csv"}, "no-face-kept", "left_out.csv"),
    "an output that is a file": ({"output": "good.csv", "names": "good.csv"}, "cannot-write", "good.csv"),
}


WITH_DETECTOR = {"no face anywhere", "an output that is a file"}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_a_sentence(tmp_path, monkeypatch, request, mistake):
    detector = request.getfixturevalue("detector") if mistake in WITH_DETECTOR else "none.onnx"
    monkeypatch.chdir(tmp_path)
    Path("flat").mkdir()
    Image.new("RGB", (300, 300)).save("flat/a.png")
    for folder in ("own/faces/ana", "own/left_out/x/ana"):
        Path(folder).mkdir(parents=True)
        shutil.copy("flat/a.png", folder)
    Path("good.csv").write_text("a.png,ana\n")
    Path("bad.csv").write_text("a.png\n")
    Path("out.csv").write_text("../a.png,ana\n")
    Path("text.onnx").write_text("no network")
    changes, code, named = MISTAKES[mistake]
    asked = PrepareRequest(Path("flat"), Path("out"), detector=detector)
    paths = {"photos", "names", "output"}
    changes = {name: Path(value) if name in paths else value for name, value in changes.items()}
    if mistake == "no detector in the file":
        changes["detector"] = str(tmp_path / "text.onnx")
    with pytest.raises(UserError, match=re.escape(named)) as caught:
        prepare(replace(asked, **changes))
    assert code in (None, caught.value.code)  # None: of another room
    assert Path("own/faces/ana/a.png").is_file()
    assert Path("own/left_out/x/ana/a.png").is_file()


def test_other_settings_are_refused_and_a_second_process_too(uninterrupted):
    request, expected = uninterrupted
    with raises_user_error("prepared-with-other-options", "size was 64 and is now 96"):
        prepare(replace(request, settings=replace(request.settings, size=96)))
    with module.exclusive_lock(request.output, "preparing it"), raises_user_error("locked", "preparing"):
        prepare(request)
    assert not prepare(request)
    ours = contents(request.output)
    assert [name for name in sorted({*ours, *expected}) if ours.get(name) != expected.get(name)] == []


@pytest.mark.parametrize("name", ["size", "least_score", "wrong_below", "least_picture"])
def test_settings_outside_their_range_get_a_sentence(name):
    with raises_user_error("setting-range", 10**6):
        Settings(**{name: 10**6})


@pytest.mark.parametrize("name", datasets())
def test_the_command_of_a_public_data_set_prepares_its_layout(name, tmp_path, monkeypatch, raw, detector):
    """A tiny folder laid out as the data set says goes through the command that stands in its file."""
    known = dataset(name)
    words = known.command.split()
    assert words[:2] == ["simswap-jax", "prepare"]
    given = dict(itertools.pairwise(words))
    root = tmp_path / given["--photos"]
    photos, names = known.places(root)
    photo = (raw[0] / "gus" / "alone.png").read_bytes()
    if names is None:
        (photos / "p1").mkdir(parents=True)
        (photos / "p1" / "0001.png").write_bytes(photo)
    else:
        photos.mkdir(parents=True)
        (photos / "000001.png").write_bytes(photo)
        names.parent.mkdir(parents=True)
        names.write_text("000001.png p1\n")
    monkeypatch.chdir(tmp_path)
    requests = []
    monkeypatch.setattr("simswap_jax.cli.prepare.prepare", requests.append)
    assert cli.main(words[1:]) == 0
    (request,) = requests
    for field, value in known.settings.items():
        assert getattr(request.settings, field) == value
    assert prepare(replace(request, detector=detector, identity="", vectors=False, processes=1))
    assert len(open_people(request.output / "records")) == 1


def test_what_is_known_of_a_data_set_is_said(capsys):
    assert cli.main(["prepare", "--about", "celeba"]) == 0
    said = capsys.readouterr().out
    assert "non-commercial research only" in said
    assert "identity_CelebA.txt" in said
    assert cli.main(["prepare", "--about", "nothing"]) == 2
    assert "there are celeba, faceforensics, vggface2" in capsys.readouterr().err


def test_a_list_of_names_leaves_the_others_named(tmp_path, caplog):
    for name in ("1.jpg", "2.jpg", "deep/3.jpg", "clip.mp4"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    (tmp_path / "names.csv").write_text("1.jpg,ana\n")
    photos = list_photos(tmp_path / "photos", tmp_path / "names.csv")
    assert [photo.name for photo in photos] == ["ana/1"]
    assert "2 .jpg (2.jpg, deep/3.jpg), 1 .mp4 (clip.mp4); taken are those that" in caplog.text


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1.jpg ana\n2.jpg Ana Bell\n", "line 2 of"),
        ("\nfile,person\n\n1.jpg,ana\n2.jpg\n", "line 5 of"),
    ],
)
def test_a_line_of_names_without_a_comma_has_two_words(tmp_path, text, named):
    (tmp_path / "names.txt").write_text(text)
    with raises_user_error("bad-list-of-names", named):
        list_photos(tmp_path, tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("\nfile person\n1.jpg ana\n\n2.jpg,Ana Bell\n")
    photos = list_photos(tmp_path, tmp_path / "names.txt")
    assert [photo.person for photo in photos] == ["Ana Bell", "ana"]


def test_faces_that_are_left_out_after_they_were_cut_are_named_with_their_reason(raw, tmp_path, detector):
    """The same shot under two names, and nothing else."""
    for person in ("ana", "bob"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        shutil.copy(raw[0] / "gus" / "alone.png", tmp_path / "photos" / person)
    request = PrepareRequest(tmp_path / "photos", tmp_path / "out", settings=ODD, detector=detector)
    with raises_user_error("no-face-kept", "(two people)"):
        prepare(request)


def test_a_photo_whose_package_is_missing_is_tried_again(raw, small_identity, tmp_path, monkeypatch, caplog):
    """Not once and for all: whoever installs the extra and runs the same command gets it."""
    pillow_heif = pytest.importorskip("pillow_heif")
    root = tmp_path / "raw"
    shutil.copytree(raw[0] / "eve", root / "eve")
    with Image.open(root / "eve" / "own.png") as own:
        pillow_heif.from_pillow(own.convert("RGB")).save(root / "eve" / "own.heic", quality=95)
    (root / "eve" / "own.png").unlink()
    request = small_request(root, small_identity, tmp_path / "out")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert prepare(request)
    left = {row["photo"]: row for row in rows(request.output / "left_out.csv")}
    assert left["eve/own.heic"]["reason"] == NOT_READ_HERE
    assert "pillow-heif" in left["eve/own.heic"]["detail"]
    assert "1 of 3 photos need a package" in caplog.text
    monkeypatch.undo()
    assert prepare(request)
    assert (request.output / "faces" / "eve" / "own.jpg").is_file()
    assert not prepare(request)

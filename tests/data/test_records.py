import errno
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from simswap_jax.data import records
from simswap_jax.data.dataset import People, held_out
from simswap_jax.data.records import build, open_people, records_folder
from simswap_jax.io.images import encode_png, read_picture
from tests.support.errors import raises_user_error

SIZE = 24


def picture(person, number):
    return np.random.default_rng([person, number]).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def make_people(root, counts):
    """Folders p0, p1, … with that many pictures each, all different."""
    for person, count in enumerate(counts):
        folder = root / f"p{person}"
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.png").write_bytes(encode_png(picture(person, number)))
    return root


@pytest.fixture
def root(tmp_path):
    return make_people(tmp_path / "photos", [3, 1, 2])


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def test_build_gives_every_picture_in_order(root, tmp_path):
    people = build(root, tmp_path / "records")
    assert len(people) == 6
    assert people.names == ["p0", "p1", "p2"]
    assert people.person.dtype == np.int32
    assert people.person.tolist() == [0, 0, 0, 1, 2, 2]
    assert people.files == ["p0/0.png", "p0/1.png", "p0/2.png", "p1/0.png", "p2/0.png", "p2/1.png"]
    for index, file in enumerate(people.files):
        np.testing.assert_array_equal(people.picture(index), read_picture(root / file))
        assert people.encoded(index) == (root / file).read_bytes()
    shrunk = cv2.resize(picture(2, 1), (8, 8), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(people.picture(5, 8), shrunk)


def test_any_tfds_reader_reads_the_records(root, tmp_path):
    build(root, tmp_path / "records")
    source = tfds.builder_from_directory(str(records_folder(tmp_path / "records"))).as_data_source("train")
    assert len(source) == 6
    assert source[4]["person"] == b"p2"
    assert source[4]["file"] == b"p2/0.png"
    np.testing.assert_array_equal(source[4]["picture"], picture(2, 0))


def test_unchanged_folders_are_opened_and_changed_ones_built_anew(root, tmp_path, monkeypatch):
    first = build(root, tmp_path / "records")
    write = records._write
    built = []
    monkeypatch.setattr(records, "_write", lambda *args: built.append(1) or write(*args))
    assert build(root, tmp_path / "records").fingerprint == first.fingerprint
    assert not built

    (root / "p1" / "1.png").write_bytes(encode_png(picture(1, 1)))
    added = build(root, tmp_path / "records")
    assert built == [1]
    assert len(added) == 7
    assert added.fingerprint != first.fingerprint

    file = root / "p0" / "0.png"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    build(root, tmp_path / "records")
    assert built == [1, 1]

    file.unlink()
    assert build(root, tmp_path / "records").files[0] == "p0/1.png"
    build(root, tmp_path / "records", min_side=5)
    assert built == [1, 1, 1, 1]
    assert contents(tmp_path / "records")[0] == "identities"  # nothing temporary beside it
    assert not [name for name in contents(tmp_path / "records") if "building" in name]


def test_broken_pictures_are_reported_and_left_out(root, tmp_path, caplog):
    (root / "p0" / "1.png").write_text("I am a text.")
    (root / "p0" / "tiny.png").write_bytes(encode_png(np.zeros((1, 1, 3), np.uint8)))
    (root / "p0" / "dangling.png").symlink_to(root / "nothing")
    whole = (root / "p2" / "1.png").read_bytes()
    (root / "p2" / "1.png").write_bytes(whole[:-100])
    (root / "p1" / "0.png").write_bytes(b"")
    (root / "p3").mkdir()
    caplog.set_level(logging.INFO, "simswap_jax")
    people = build(root, tmp_path / "records")
    lines = [record.message for record in caplog.records]
    assert people.files == ["p0/0.png", "p0/2.png", "p2/0.png"]
    assert people.names == ["p0", "p2"]
    assert people.person.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(people.picture(2), picture(2, 0))
    report = json.loads((records_folder(tmp_path / "records") / "report.json").read_text())
    reasons = {entry["file"]: entry["reason"] for entry in report["pictures_left_out"]}
    assert sorted(reasons) == ["p0/1.png", "p0/dangling.png", "p0/tiny.png", "p1/0.png", "p2/1.png"]
    assert "not a picture" in reasons["p0/1.png"]
    assert "too small (1×1; 16 pixels are the least)" in reasons["p0/tiny.png"]
    assert "cut off" in reasons["p2/1.png"]
    assert "empty" in reasons["p1/0.png"]
    assert report["people_left_out"] == ["p1", "p3"]
    assert (report["pictures"], report["people"]) == (3, 2)
    assert "3 pictures of 2 people" in lines[-1]
    assert "left out: 5 pictures, 2 people" in lines[-1]
    assert "report.json" in lines[-1]


def test_one_person_or_nobody(tmp_path):
    make_people(tmp_path / "one", [2])
    with raises_user_error("one-person", tmp_path / "one", "p0"):
        build(tmp_path / "one", tmp_path / "records")
    assert len(build(tmp_path / "one", tmp_path / "records", min_people=1)) == 2

    (tmp_path / "none" / "a").mkdir(parents=True)
    (tmp_path / "none" / "a" / "1.jpg").write_text("no picture")
    with raises_user_error("no-usable-pictures", tmp_path / "none", "1 were", "a/1.jpg"):
        build(tmp_path / "none", tmp_path / "other")
    assert contents(tmp_path / "other") == []
    with raises_user_error("no-folder", tmp_path / "missing"):
        build(tmp_path / "missing", tmp_path / "other")


def test_names_in_any_script(tmp_path):
    for person in ("Zoë Kravitz", "成龍", "it's 100% me"):
        (tmp_path / "photos" / person).mkdir(parents=True)
        (tmp_path / "photos" / person / "фото 1.PNG").write_bytes(encode_png(picture(0, 0)))
    people = build(tmp_path / "photos", tmp_path / "records")
    assert people.names == sorted(["Zoë Kravitz", "成龍", "it's 100% me"])
    assert people.files[0].endswith("/фото 1.PNG")
    assert people.picture(2).shape == (SIZE, SIZE, 3)


def test_progress_is_told(root, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "simswap_jax")
    monkeypatch.setattr(records, "Progress", lambda *args: _Eager(*args))
    build(root, tmp_path / "records")
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("1 of 6 pictures read, ")
    assert "/s, 0:0" in lines[0]
    assert lines[0].endswith("left")
    assert lines[-1].startswith("6 pictures of 3 people in ")


class _Eager(records.Progress):
    def __init__(self, *args):
        super().__init__(*args, first=0.0)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(root, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.SequentialWriter, "add_examples", full)
        with raises_user_error("no-room-for-data", tmp_path / "records"):
            build(root, tmp_path / "records")
        assert contents(tmp_path / "records") == []
    with monkeypatch.context() as patch:
        patch.setattr(records.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
        with raises_user_error("no-room-for-data", "0 MiB"):
            build(root, tmp_path / "records")
        assert contents(tmp_path / "records") == []
    people = build(root, tmp_path / "records")
    with monkeypatch.context() as patch:  # a rebuild that fails keeps what was there
        patch.setattr(tfds.core.SequentialWriter, "add_examples", full)
        (root / "p0" / "0.png").unlink()
        with raises_user_error("no-room-for-data"):
            build(root, tmp_path / "records")
    assert len(open_people(tmp_path / "records")) == len(people) == 6


def test_a_truly_full_disk(tmp_path):
    """A file system of 1.5 MiB; the check of the room beforehand is fooled, as pictures that become PNG fool it."""
    make_people(tmp_path / "photos", [400, 400])
    small = tmp_path / "small"
    small.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=False).returncode
    ):
        pytest.skip("mounting a small file system needs more rights")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "_need_room", lambda *args: None)
            with raises_user_error("no-room-for-data"):
                build(tmp_path / "photos", small / "records")
        assert contents(small / "records") == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_that_cannot_be_written(root, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with raises_user_error("data-not-writable", tmp_path / "file" / "records"):
        build(root, tmp_path / "file" / "records")


def test_a_killed_build_is_not_taken_for_whole(tmp_path):
    make_people(tmp_path / "photos", [20, 20])
    program = textwrap.dedent("""
        import sys, time
        from simswap_jax.data import records
        plain = records.plain_bytes
        def slow(data, name):
            time.sleep(0.05)
            return plain(data, name)
        records.plain_bytes = slow
        print("ready", flush=True)
        records.build(sys.argv[1], sys.argv[2], threads=1)
    """)
    arguments = [sys.executable, "-c", program, str(tmp_path / "photos"), str(tmp_path / "records")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while not list((tmp_path / "records").rglob("*array_record*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert any("building" in name for name in contents(tmp_path / "records"))
    with raises_user_error("no-data-set"):
        open_people(tmp_path / "records")
    assert len(build(tmp_path / "photos", tmp_path / "records")) == 40
    assert not [name for name in contents(tmp_path / "records") if "building" in name]


def test_damaged_records_are_told(root, tmp_path):
    with raises_user_error("no-data-set"):
        open_people(tmp_path)
    build(root, tmp_path)
    place = records_folder(tmp_path)
    index = json.loads((place / "people.json").read_text())
    index["people"]["p0"].append("more.png")
    (place / "people.json").write_text(json.dumps(index))
    with raises_user_error("data-set-damaged", "records are missing"):
        open_people(tmp_path)
    (place / "people.json").write_text("{")
    with raises_user_error("data-set-damaged"):
        open_people(tmp_path)


def test_a_record_that_cannot_be_decoded_names_its_file():
    records = [{"picture": b"broken"}]
    people = People(records, ["someone"], np.zeros(1), ["someone/1.png"], np.arange(1), "x")
    with raises_user_error("broken-picture", "someone/1.png"):
        people.picture(0)


def test_select_keeps_records_and_renumbers(root, tmp_path):
    people = build(root, tmp_path / "records")
    some = people.select(["p2", "p0"])
    assert some.names == ["p0", "p2"]
    assert some.person.tolist() == [0, 0, 0, 1, 1]
    assert some.files[3] == "p2/0.png"
    np.testing.assert_array_equal(some.picture(3), picture(2, 0))
    again = some.select(["p2"])
    assert again.person.tolist() == [0, 0]
    np.testing.assert_array_equal(again.picture(1), picture(2, 1))
    assert len({people.fingerprint, some.fingerprint, again.fingerprint, people.select(["p2"]).fingerprint}) == 4
    with raises_user_error("no-such-person", "q"):
        people.select(["p0", "q"])
    with raises_user_error("nobody-selected"):
        people.select([])


def test_pictures_are_taken_out_and_whoever_has_no_other_with_them():
    records = [{"picture": bytes([i])} for i in range(6)]
    files = ["a/0.png", "a/1.png", "b/0.png", "c/0.png", "c/1.png", "c/2.png"]
    people = People(records, list("abc"), np.array([0, 0, 1, 2, 2, 2]), files, np.arange(6), "x")
    some = people.without(["a/1.png", "b/0.png", "c/0.png"])
    assert some.names == ["a", "c"]
    assert some.files == ["a/0.png", "c/1.png", "c/2.png"]
    assert some.person.tolist() == [0, 1, 1]
    assert [some.encoded(i)[0] for i in range(3)] == [0, 4, 5]
    assert some.fingerprint != people.fingerprint
    assert some.whole == people.whole
    with raises_user_error("no-pictures-left"):
        people.without(files)


def test_remembered_pictures_are_decoded_once(root, tmp_path, monkeypatch):
    people = build(root, tmp_path / "records")
    fresh = [people.picture(index, 8) for index in range(6)]
    decoded = []
    original = People._decode
    monkeypatch.setattr(People, "_decode", lambda self, index: decoded.append(index) or original(self, index))
    people.remember(6 * 8 * 8 * 3)
    for _ in range(2):
        for index in range(6):
            np.testing.assert_array_equal(people.picture(index, 8), fresh[index])
    assert decoded == list(range(6))
    people.picture(0, 8)[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(people.picture(0, 8), fresh[0])
    people.picture(0, 9)  # too large to be kept
    people.picture(0, 9)
    assert decoded == [*range(6), 0, 0]


def test_neither_tensorflow_nor_the_network_is_touched(root, tmp_path):
    (tmp_path / "modules" / "tensorflow").mkdir(parents=True)
    (tmp_path / "modules" / "tensorflow" / "__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    program = textwrap.dedent("""
        import socket, sys
        def refuse(*args, **kwargs):
            raise SystemExit("the network was used")
        socket.socket.connect = socket.getaddrinfo = refuse
        from simswap_jax.data import loader, pairs, records
        for _ in range(2):
            people = records.build(sys.argv[1], sys.argv[2])
        batch = next(loader.pair_batches(people, pairs.Pairing(people.person, pairs.PairingOptions(0, 4)), 8, 8))
        assert batch["target"].shape == (4, 8, 8, 3)
        assert "tensorflow" not in sys.modules and "torch" not in sys.modules
        print("well")
    """)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), str(Path(__file__).parents[2])]),
    }
    done = subprocess.run(
        [sys.executable, "-c", program, str(root), str(tmp_path / "records")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "well\n", done.stderr


def test_held_out_people_stay_held_out():
    names = [f"person {number}" for number in range(4000)]
    some = held_out(names, 0.12)
    assert 0.10 < len(some) / 4000 < 0.14
    assert some == [name for name in names if zlib.crc32(f"0/{name}".encode()) / 2**32 < 0.12]
    assert held_out(names[::2], 0.12) == [name for name in names[::2] if name in set(some)]
    assert held_out(names, 0.12, seed=1) != some
    assert set(some) < set(held_out(names, 0.3))
    assert held_out(names, 0.0) == []
    assert held_out(names, 1.0) == names
    with pytest.raises(ValueError, match="between 0 and 1"):
        held_out(names, 12)


def test_real_faces(outside, tmp_path):
    """Four of CelebA's people: original bytes kept, sizes right."""
    celeba = outside("celeba_192")
    chosen = sorted(celeba.iterdir())[:4]
    for folder in chosen:
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / folder.name).symlink_to(folder)
    people = build(tmp_path / "photos", tmp_path / "records")
    assert people.names == [folder.name for folder in chosen]
    assert len(people) == sum(len(list(folder.iterdir())) for folder in chosen)
    assert people.picture(0).shape == (192, 192, 3)
    assert people.encoded(7) == (celeba / people.files[7]).read_bytes()

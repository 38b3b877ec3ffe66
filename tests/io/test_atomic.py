import errno
import json
import os
import pickle
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simswap_jax.io import atomic
from simswap_jax.io.atomic import (
    CannotWrite,
    is_file,
    is_folder,
    replacing_file,
    replacing_folder,
    write_bytes,
    write_json,
    write_text,
)
from tests.support.errors import raises_user_error


def test_a_file_takes_its_place_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "model.onnx"
    write_bytes(path, b"old")
    with replacing_file(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".onnx"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def fail(path, error):
    path.write_text("half")
    raise error


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), replacing_file(path) as temporary:
            fail(temporary, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_are_those_of_a_plain_file(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_text_and_json(tmp_path):
    write_text(tmp_path / "a", "Zoë \udcff\n")  # a file name that is no text
    assert (tmp_path / "a").read_bytes() == "Zoë ".encode() + b"\xff\n"
    write_json(tmp_path / "b", {"a": [1]})
    assert (tmp_path / "b").read_text() == json.dumps({"a": [1]}, indent=1) + "\n"


def test_a_place_that_cannot_be_written_is_one_sentence_and_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with raises_user_error("cannot-write", tmp_path / "file" / "a") as caught:
        write_text(tmp_path / "file" / "a", "")
    assert isinstance(caught.value, OSError)
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)


def test_a_full_disk_is_seen_before_the_file_takes_its_place(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with raises_user_error("cannot-write", "No space left") as caught:
        write_text(tmp_path / "a", "text")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_disk_without_sync_is_written_all_the_same(tmp_path, monkeypatch):
    def unknown(handle):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(atomic.os, "fsync", unknown)
    write_text(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def test_the_temporary_file_may_lie_elsewhere(tmp_path):
    with replacing_file(tmp_path / "a" / "b.txt", temporary_folder=tmp_path / "t") as temporary:
        assert temporary.parent == tmp_path / "t"
        temporary.write_text("b")
    assert (tmp_path / "a" / "b.txt").read_text() == "b"
    assert not list((tmp_path / "t").iterdir())


def test_a_folder_takes_its_place_whole(tmp_path):
    place = tmp_path / "model"
    for content in ("old", "new"):
        with replacing_folder(place, ["config.json"]) as fresh:
            (fresh / "config.json").write_text(content)
        assert (place / "config.json").read_text() == content
    with pytest.raises(RuntimeError), replacing_folder(place, ["config.json"]) as fresh:
        fail(fresh / "config.json", RuntimeError)
    assert (place / "config.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_with_something_else_in_it_stays(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    (place / "a.jpg").write_text("")
    for names in (["config.json"], []):
        with raises_user_error("folder-in-use", place), replacing_folder(place, names):
            pass
    assert [file.name for file in place.iterdir()] == ["a.jpg"]
    (place / "config.json").write_text("of another program")
    with raises_user_error("folder-in-use", place), replacing_folder(place, ["config.json", "weights"]):
        pass
    assert (place / "config.json").read_text() == "of another program"
    (tmp_path / "empty").mkdir()
    with replacing_folder(tmp_path / "empty") as fresh:
        (fresh / "b").write_text("")
    assert (tmp_path / "empty" / "b").is_file()


def test_files_that_somebody_laid_into_our_folder_are_kept(tmp_path):
    place = tmp_path / "model"
    with replacing_folder(place, ["c"], optional=["d"]) as fresh:
        (fresh / "c").write_text("old")
        (fresh / "d").write_text("old")
    (place / "thesis.txt").write_text("years of work")
    with replacing_folder(place, ["c"], optional=["d"]) as fresh:
        (fresh / "c").write_text("new")
    assert {file.name: file.read_text() for file in place.iterdir()} == {"c": "new", "thesis.txt": "years of work"}
    assert list(tmp_path.iterdir()) == [place]


def test_an_error_of_writing_crosses_processes(tmp_path):
    error = CannotWrite(tmp_path / "a", OSError(errno.ENOSPC, "No space left on device"))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, CannotWrite)
    assert (str(again), again.code, again.errno) == (str(error), error.code, errno.ENOSPC)
    assert again.strerror == "No space left on device"


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_bytes(tmp_path / ("a" * 251 + ".txt"), b"text")
    assert [len(file.name) for file in tmp_path.iterdir()] == [255]


def test_threads_read_the_umask_without_changing_it():
    before, interval = atomic._umask(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _: atomic._umask(), range(20_000)))
    finally:
        sys.setswitchinterval(interval)
    assert found == {before}
    assert atomic._umask() == before


def test_a_folder_on_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    place = tmp_path / "model"
    with replacing_folder(place, ["c"]) as fresh:
        (fresh / "c").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_put_in_place", full)
    with pytest.raises(CannotWrite), replacing_folder(place, ["c"]) as fresh:
        (fresh / "c").write_text("new")
    assert (place / "c").read_text() == "old"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    "address", ["gs://bucket/run/a.txt", "s3://b/a", "https://x.org/a", "file:///tmp/a", "a+b.c-1:/d"]
)
def test_an_address_never_becomes_a_folder(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    for place in (address, Path(address)):
        with raises_user_error("address-not-supported", Path(address)):
            write_text(place, "x")
        with raises_user_error("address-not-supported", Path(address)), replacing_folder(place):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="other limits")
def test_a_name_too_long_to_be_one_is_one_sentence(tmp_path):
    path = tmp_path / ("x" * 5000)
    assert not is_file(path)
    assert not is_folder(path)
    for place in (replacing_folder(path, "config.json"), replacing_folder(path), replacing_file(path)):
        with raises_user_error("cannot-write", "name too long"), place:
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["C:/models", "a:b/c", "gs/x", "a=b", "module.name:attribute", "1s://x"])
def test_what_only_looks_like_an_address_is_a_path(name):
    atomic.refuse_address(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert [is_file(tmp_path / name) for name in ("pipe", "file", "none", "a\0b")] == [False, True, False, False]
    assert [is_folder(place) for place in (tmp_path, tmp_path / "pipe", tmp_path / "file")] == [True, False, False]

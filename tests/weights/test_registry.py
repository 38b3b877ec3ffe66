"""Where weight files are found, what is fetched, what is refused. The origin is a file: no network."""

import dataclasses
import hashlib
import os
import tempfile
from pathlib import Path

import pytest

from simswap_jax.cli.main import VERBS
from simswap_jax.io import user_folders
from simswap_jax.weights import registry
from simswap_jax.weights.registry import Entry
from tests.support.errors import raises_user_error

CONTENT = b"these are weights"
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, one empty folder of weights, and a catalogue with one file whose origin is on this disk."""
    origin = tmp_path / "origin" / "net.pth"
    origin.parent.mkdir()
    origin.write_bytes(CONTENT)
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE", raising=False)
    entry = Entry("net.pth", "tests", ("swap",), "PyTorch", "none", "this test", url=origin.as_uri(), sha256=SHA)
    by_hand = Entry("hand.pth", "tests", ("swap",), "PyTorch", "none", "its author's page")
    monkeypatch.setattr(registry, "catalogue", lambda: {"net.pth": entry, "hand.pth": by_hand})
    return tmp_path


def test_the_catalogue_is_complete_and_only_checked_files_are_fetched():
    entries = registry.catalogue()
    for name in ("mobilefacenet_casia.ckpt", "arcface_checkpoint.tar", "latest_net_G.pth", "79999_iter.pth"):
        assert name in entries
    for entry in entries.values():
        assert entry.purpose
        assert entry.licence
        assert entry.origin
        assert set(entry.verbs) <= set(VERBS)
        assert entry.verbs or entry.note.endswith("yet"), "what is used by nothing has to say so"
        assert entry.sha256 or not entry.url
        assert not entry.url or entry.url.startswith("https://")
        assert not entry.sha256 or len(bytes.fromhex(entry.sha256)) == 32
        assert entry.sha256 or not entry.size


def test_a_path_is_itself(place):
    own = place / "own.bin"
    own.write_bytes(b"x")
    assert registry.find(own, "tests") == own


def test_a_folder_of_the_user_comes_before_the_cache(place):
    cached = registry.find("net.pth", "tests")
    mine = place / "mine" / "net.pth"
    mine.write_bytes(CONTENT)
    assert cached.parent == registry.cache_folder()
    assert registry.find("net.pth", "tests") == mine


def test_a_fetched_file_is_checked_kept_and_not_fetched_again(place, capsys):
    path = registry.find("net.pth", "swapping")
    assert path.read_bytes() == CONTENT
    assert "swapping" in capsys.readouterr().err
    (place / "origin" / "net.pth").unlink()
    assert registry.find("net.pth", "swapping") == path
    assert capsys.readouterr().err == ""


def test_a_damaged_cache_is_fetched_again(place):
    registry.find("net.pth", "tests").write_bytes(b"damaged")
    assert registry.find("net.pth", "tests").read_bytes() == CONTENT


def test_a_wrong_download_is_refused_and_leaves_nothing(place):
    (place / "origin" / "net.pth").write_bytes(b"something else")
    with raises_user_error("download-differs", "net.pth"):
        registry.find("net.pth", "tests")
    assert list(registry.cache_folder().iterdir()) == []


def test_an_unreachable_origin_is_one_sentence_and_leaves_nothing(place):
    (place / "origin" / "net.pth").unlink()
    with raises_user_error("download-failed", "net.pth", "swapping", "SIMSWAP_JAX_WEIGHTS"):
        registry.find("net.pth", "swapping")
    assert list(registry.cache_folder().iterdir()) == []


def test_a_users_file_that_only_shares_the_name_is_refused(place):
    (place / "mine" / "net.pth").write_bytes(b"my own")
    with raises_user_error("public-weights-differ", "net.pth"):
        registry.find("net.pth", "tests")


def test_a_file_without_known_sum_is_taken_but_never_fetched(place):
    with raises_user_error("public-weights-missing", "hand.pth", "its author's page"):
        registry.find("hand.pth", "tests")
    (place / "mine" / "hand.pth").write_bytes(b"anything")
    assert registry.find("hand.pth", "tests").read_bytes() == b"anything"


def test_offline_means_offline(place, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    with raises_user_error("public-weights-offline", "SIMSWAP_JAX_OFFLINE"):
        registry.find("net.pth", "tests")


def test_unknown_names_and_lost_paths_are_one_sentence(place):
    with raises_user_error("public-weights-missing", "nobody.pth"):
        registry.find("nobody.pth", "tests")
    with raises_user_error("weight-file-missing", "x.pth"):
        registry.find(place / "lost" / "x.pth", "tests")


def test_a_file_is_found_by_its_sum_whatever_its_name(place):
    renamed = place / "mine" / "renamed.pth"
    renamed.write_bytes(b"identity network")
    digest = hashlib.sha256(b"identity network").hexdigest()
    assert registry.find_by_sha256(digest, "original.pth", "tests") == renamed
    looked = (place / "mine", registry.cache_folder(), "SIMSWAP_JAX_WEIGHTS")
    with raises_user_error("weights-of-sha256-missing", "original.pth", "0" * 64, *looked):
        registry.find_by_sha256("0" * 64, "original.pth", "tests")
    with raises_user_error("weights-of-sha256-missing", f"{renamed} is another file"):
        registry.find_by_sha256("0" * 64, "renamed.pth", "tests")


def test_a_public_file_that_cannot_be_fetched_is_found_by_its_sum_under_another_name(place, monkeypatch):
    by_hand = Entry("hand.pth", "tests", ("swap",), "PyTorch", "none", "its author's page", sha256=SHA)
    monkeypatch.setattr(registry, "catalogue", lambda: {"hand.pth": by_hand})
    with raises_user_error("weights-of-sha256-missing", "hand.pth", SHA, "its author's page"):
        registry.find_by_sha256(SHA, "hand.pth", "tests")
    (place / "mine" / "renamed.pth").write_bytes(CONTENT)
    assert registry.find_by_sha256(SHA, "hand.pth", "tests") == place / "mine" / "renamed.pth"


def test_a_renamed_copy_of_a_public_file_is_taken_though_another_has_its_name(place, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    (place / "mine" / "net.pth").write_bytes(b"another network")
    with raises_user_error("public-weights-differ", "net.pth"):
        registry.find_by_sha256(SHA, "whatever.pth", "tests")
    renamed = place / "mine" / "renamed.pth"
    renamed.write_bytes(CONTENT)
    assert registry.find_by_sha256(SHA, "whatever.pth", "tests") == renamed


def test_files_of_another_name_are_read_only_where_their_size_fits(place, monkeypatch):
    sized = dataclasses.replace(registry.catalogue()["net.pth"], size=len(CONTENT))
    monkeypatch.setattr(registry, "catalogue", lambda: {"net.pth": sized})
    for name, content in {"a.pth": b"large" * 9, "b.pth": CONTENT, "c.txt": CONTENT}.items():
        (place / "mine" / name).write_bytes(content)
    read, sha256 = [], registry.file_sha256
    monkeypatch.setattr(registry, "file_sha256", lambda path: read.append(path.name) or sha256(path))
    assert registry.locate_sha256(SHA, "whatever.pth").name == "b.pth"
    (place / "mine" / "net.pth").write_bytes(CONTENT)
    assert registry.locate_sha256(SHA, "whatever.pth").name == "net.pth"
    assert read == ["b.pth", "net.pth"]


def test_files_that_may_not_be_read_are_passed_over(place, monkeypatch):
    for name in ("theirs.pth", "whatever.pth", "z.pth"):
        (place / "mine" / name).write_bytes(CONTENT)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name == "z.pth" or Path(path).is_dir())
    assert registry.locate_sha256(SHA, "whatever.pth") == place / "mine" / "z.pth"


def test_a_known_sum_is_fetched(place):
    assert registry.find_by_sha256(SHA, "whatever.pth", "tests").read_bytes() == CONTENT


def test_without_a_cache_what_is_fetched_goes_where_it_can(place, monkeypatch, capsys):
    """No home at all, or one that cannot be written: into this user's temporary folder, checked in every run."""
    (place / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "file"))
    found = registry.find("net.pth", "tests")
    assert found.read_bytes() == CONTENT
    assert found.parent.parent == place
    assert str(found.parent) in capsys.readouterr().err
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert registry.folders() == [place / "mine"]
    assert registry.find("net.pth", "tests") == found
    assert capsys.readouterr().err == ""  # not fetched again
    found.write_bytes(b"somebody else's")
    assert registry.find("net.pth", "tests").read_bytes() == CONTENT


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_where_nothing_can_be_written_a_sentence_says_so(place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "mine" / "net.txt"))
    (place / "mine" / "net.txt").write_text("")
    monkeypatch.setattr(user_folders, "temporary_folder", lambda: None)
    with raises_user_error("download-not-kept", "net.pth", "SIMSWAP_JAX_WEIGHTS"):
        registry.find("net.pth", "tests")

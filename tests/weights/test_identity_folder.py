"""Identity networks of ours at rest: written whole, read checked, refused with a sentence."""

import json
import os

import jax
import numpy as np
import pytest
from flax import traverse_util

from simswap_jax.io.atomic import file_sha256
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, identity_folder
from tests.support.errors import raises_user_error

CONFIG = IdentityConfig(layers=(1,), widths=(4,), size=(8, 8), frame=(8, 8), embedding=3)


def variables(seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(IdentityNetwork(CONFIG).init, jax.random.key(0))
    return jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)


@pytest.fixture
def folder(tmp_path):
    identity_folder.write(tmp_path / "identity", CONFIG, variables(), {"licence": "mine"})
    return tmp_path / "identity"


def test_what_is_written_is_read(folder):
    found = identity_folder.read(folder, "tests")
    assert found.network.config == CONFIG
    assert found.ours
    assert found.sha256 == file_sha256(folder / "identity.safetensors")
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables())


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        identity_folder.write(tmp_path / "identity", CONFIG, variables(), {})
    finally:
        os.umask(before)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "identity").iterdir()}
    assert modes == {"config.json": "0o640", "identity.safetensors": "0o640"}
    assert oct((tmp_path / "identity").stat().st_mode & 0o777) == "0o750"


def test_a_failed_write_leaves_the_old_network_and_nothing_else(folder, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(identity_folder.folder_config, "dump", full_disk)
    with raises_user_error("cannot-write", "No space left"):
        identity_folder.write(folder, CONFIG, variables(1), {})
    jax.tree.map(np.testing.assert_array_equal, identity_folder.read(folder, "tests").variables, variables())
    assert [p.name for p in folder.parent.iterdir()] == ["identity"]
    monkeypatch.undo()
    identity_folder.write(folder, CONFIG, variables(1), {})
    jax.tree.map(np.testing.assert_array_equal, identity_folder.read(folder, "tests").variables, variables(1))
    assert [p.name for p in folder.parent.iterdir()] == ["identity"]


def test_other_peoples_folders_are_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with raises_user_error("folder-in-use"):
        identity_folder.write(tmp_path / "photos", CONFIG, variables(), {})
    assert (tmp_path / "photos" / "me.jpg").exists()


def test_damage_is_one_sentence(folder):
    whole = files.read(folder / "identity.safetensors").tensors
    last = list(whole)[-1]
    files.save({k: v for k, v in whole.items() if k != last}, folder / "identity.safetensors")
    with raises_user_error("variables-missing", last):
        identity_folder.read(folder, "tests")
    files.save({**whole, last: np.zeros((9, 9), np.float32)}, folder / "identity.safetensors")
    with raises_user_error("variables-shape", last, "(9, 9)"):
        identity_folder.read(folder, "tests")
    (folder / "identity.safetensors").write_bytes(b"half")
    with raises_user_error("identity-folder-damaged"):
        identity_folder.read(folder, "tests")
    (folder / "config.json").unlink()
    with raises_user_error("not-an-identity-folder", "config.json"):
        identity_folder.read(folder, "tests")


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b'{"identity": []}',
        b'{"identity": {"layers": [NaN]}}',
        b'{"identity": {"layers": [4294967296], "widths": [4]}}',
        b'{"identity": {"size": [0, 0]}}',
        b'{"identity": {"\\u001b[2J": 1}}',
        b"\xff",
        b"[" * 100_000,
        b" " * (2 << 20),
    ],
    ids=range(10),
)
def test_an_absurd_description_is_one_sentence(folder, content):
    (folder / "config.json").write_bytes(content)
    with raises_user_error("identity-folder-damaged", "config.json") as caught:
        identity_folder.read(folder, "tests")
    assert str(caught.value).isprintable()


def test_strange_cards_are_no_matter(folder):
    for card in ([], None, {"copy_of": 3}, {"copy_of": {"sha256": []}}):
        described = json.loads((folder / "config.json").read_text()) | {"card": card}
        (folder / "config.json").write_text(json.dumps(described))
        assert identity_folder.read(folder, "tests").copy_of == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(folder):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with raises_user_error("not-an-identity-folder", "config.json"):
        identity_folder.read(folder, "tests")


def test_a_network_that_is_not_finite_is_neither_written_nor_read(folder, tmp_path):
    bad = variables()
    bad["params"]["fc"]["bias"][0] = np.nan
    with raises_user_error("variables-not-finite", "params/fc/bias"):
        identity_folder.write(tmp_path / "bad", CONFIG, bad, {})
    assert not (tmp_path / "bad").exists()
    files.save(traverse_util.flatten_dict(bad, sep="/"), folder / "identity.safetensors")
    with raises_user_error("variables-not-finite", "params/fc/bias"):
        identity_folder.read(folder, "tests")

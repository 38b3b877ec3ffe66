"""Identity networks of ours at rest: written whole, read checked, refused with a sentence."""

import os

import jax
import numpy as np
import pytest

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

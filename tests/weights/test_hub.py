"""The Hub, as a server on this machine: models are fetched, checked and put there; what is refused, in which words."""

import json
import shutil
import socket

import pytest

from simswap_jax.cli import main as cli
from simswap_jax.cli import push
from simswap_jax.weights import hub, model_folder
from simswap_jax.weights.model_names import find_model, shipped
from tests.support.errors import raises_user_error
from tests.support.hub_server import COMMIT, hub_here
from tests.support.small_model import write_small_model

package = pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub that has nothing yet, and a cache of its own."""
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "of-a-test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    with hub_here() as here:
        monkeypatch.setenv("HF_ENDPOINT", here.address)
        yield here


@pytest.fixture
def repository(server, folder):
    server.repositories["anna/swap"] = {path.name: path.read_bytes() for path in folder.iterdir()} | {"big.bin": b"-"}
    return server.repositories["anna/swap"]


def test_names_of_repositories_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert all(map(hub.is_repository, ("anna/swap-224", "anna/swap.v1@main", "a/b@refs/pr/1")))
    assert not any(
        map(hub.is_repository, ("runs/simswap", "faces", "/anna/swap", "./anna/swap", "a/b/c", "~/models/x"))
    )


def test_a_model_is_fetched_by_its_name_and_only_its_files(server, repository, folder):
    found = find_model("anna/swap")
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert model_folder.read("anna/swap").face_size == model_folder.read(folder).face_size
    for revision in ("v1", COMMIT):
        assert find_model("anna/swap", revision) == find_model(f"anna/swap@{revision}")
    assert not any("big.bin" in asked for asked in server.asked)


def test_a_changed_file_is_refused(server, repository):
    changed = bytearray(repository["generator.safetensors"])
    changed[-1] ^= 1
    repository["generator.safetensors"] = bytes(changed)
    with raises_user_error("model-folder-changed"):
        model_folder.read("anna/swap")


def test_doctor_knows_a_model_by_its_name(server, repository, capsys):
    assert cli.main(["doctor", "anna/swap"]) == 0
    assert "its files are whole" in capsys.readouterr().out


def test_what_is_not_there_is_one_sentence(server, repository, monkeypatch):
    with raises_user_error("hub-repository", "anna/other"):
        find_model("anna/other")
    with raises_user_error("hub-revision", "v9"):
        find_model("anna/swap", "v9")
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    with raises_user_error("hub-unreachable", "SIMSWAP_JAX_OFFLINE"):
        find_model("anna/swap")
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE")
    fetched = find_model("anna/swap")
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    assert find_model("anna/swap") == fetched  # from its cache


def test_a_model_is_put_there_without_other_files_and_comes_back(server, folder, tmp_path, capsys):
    ours = {path.name: path.read_bytes() for path in folder.iterdir()}
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "old").mkdir()
    for foreign in ("arcface.safetensors", "old/generator.safetensors", "old/config.json"):
        (copy / foreign).write_bytes(b"somebody else's")
    assert cli.main(["push", str(copy), "ben/mine", "--private"]) == 0
    assert f"ben/mine/commit/{COMMIT}" in capsys.readouterr().out
    assert server.repositories["ben/mine"] == ours
    assert server.private == {"ben/mine"}
    assert model_folder.read("ben/mine").card == model_folder.read(folder).card


def test_a_damaged_model_is_not_put_there(server, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "identity.safetensors").unlink()
    with raises_user_error("model-folder-incomplete", "identity.safetensors"):
        push.main([str(copy), "ben/mine"])
    assert server.asked == []


def test_a_name_that_may_be_pushed_to(server, folder, tmp_path):
    (tmp_path / "ben").mkdir()  # a folder that happens to be called like the user
    assert push.main([str(folder), "ben/mine"]) == 0
    for name in ("ben/mine@v1", "mine", "./mine"):
        with raises_user_error("push-repository-name", name):
            push.main([str(folder), name])


def test_without_a_connection_there_is_one_sentence(folder, tmp_path, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
    monkeypatch.setenv("HF_TOKEN", "of-a-test")
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with raises_user_error("hub-refused", "ben/mine"):
        push.main([str(folder), "ben/mine"])
    with raises_user_error("hub-unreachable", "anna/swap"):
        hub.fetch("anna/swap")


@pytest.mark.parametrize("licence", ["unstated", "", None])
def test_a_card_without_licence_is_not_put_there(server, folder, tmp_path, capsys, licence):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    described = json.loads((copy / "config.json").read_text())
    described["card"] = {} if licence is None else {"licence": licence}
    (copy / "config.json").write_text(json.dumps(described))
    assert cli.main(["push", str(copy), "ben/mine"]) == 2
    assert "states no licence" in capsys.readouterr().err
    assert server.asked == []


@pytest.mark.parametrize("name", ["anna/photo.jpg", "anna/clip.mp4"])
def test_a_file_that_is_not_there_is_no_model_of_the_hub(server, capsys, name):
    assert cli.main(["doctor", name]) == 2
    assert f"{name} cannot be read" in capsys.readouterr().err
    assert server.asked == []


def test_shipped_models_have_names():
    assert {"faces", "rendered"} <= shipped().keys()
    assert find_model("faces") == find_model("pretrained/faces") == shipped()["faces"]
    assert model_folder.read("rendered", with_identity=False).alignment == "rendered"


def test_a_folder_goes_before_a_name(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    assert find_model("faces") == shipped()["faces"]  # a folder of photos, say
    (tmp_path / "faces" / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert str(find_model("faces")) == "faces"

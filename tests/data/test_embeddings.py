import logging
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.data import embeddings as vectors_module
from simswap_jax.data.dataset import People
from simswap_jax.data.embeddings import identity_vectors
from simswap_jax.io.images import encode_png
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from tests.support.errors import raises_user_error

SIZE = 16


@dataclass
class Identity:
    network: Any
    variables: Any = 1.0
    sha256: str = "abc"


class LeftBrightness:
    """Says how bright the left half of every channel is, and counts the programs made."""

    def __init__(self):
        self.traced = 0

    def embed(self, variables, pictures, method="bicubic"):
        self.traced += 1
        means = pictures[:, :, : pictures.shape[2] // 2].mean((1, 2)) * variables
        return means / jnp.linalg.norm(means, axis=-1, keepdims=True)


@pytest.fixture
def people():
    generator = np.random.default_rng(0)
    records = [{"picture": encode_png(generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8))} for _ in range(11)]
    person = np.arange(11) // 3
    return People(records, list("abcd"), person, [f"{i}.png" for i in range(11)], np.arange(11), "fingerprint")


def expected_vectors(people):
    both = []
    for index in range(len(people)):
        picture = people.picture(index) / 255
        halves = np.stack([picture[:, : SIZE // 2].mean((0, 1)), picture[:, SIZE // 2 :].mean((0, 1))])
        both.append(halves / np.linalg.norm(halves, axis=1, keepdims=True))
    return np.stack(both)


def test_vectors_of_pictures_and_mirrors_in_one_program(people, tmp_path):
    network = LeftBrightness()
    vectors = identity_vectors(people, Identity(network), tmp_path, size=SIZE, batch_size=4)
    assert vectors.shape == (11, 2, 3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected_vectors(people), atol=1e-6)
    assert network.traced == 1  # the last batch is filled up, not compiled again


def test_vectors_are_computed_once_for_each_network_data_set_and_size(people, tmp_path):
    first = identity_vectors(people, Identity(LeftBrightness()), tmp_path / "cache", size=SIZE)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]
    again = LeftBrightness()
    np.testing.assert_array_equal(identity_vectors(people, Identity(again), tmp_path / "cache", size=SIZE), first)
    assert again.traced == 0
    some = identity_vectors(people.select("bd"), Identity(again), tmp_path / "cache", size=SIZE)
    np.testing.assert_array_equal(some, first[[3, 4, 5, 9, 10]])
    assert again.traced == 0  # those of the whole data set hold them
    for data, sha256, size in ((people, "abd", SIZE), (people.select("ab"), "abe", SIZE), (people, "abc", 8)):
        fresh = LeftBrightness()
        assert len(identity_vectors(data, Identity(fresh, 1.0, sha256), tmp_path / "cache", size=size)) == len(data)
        assert fresh.traced == 1
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_half_written_file_is_not_used(people, tmp_path):
    first = identity_vectors(people, Identity(LeftBrightness()), tmp_path, size=SIZE)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    np.testing.assert_array_equal(identity_vectors(people, Identity(LeftBrightness()), tmp_path, size=SIZE), first)
    assert np.load(file).shape == first.shape


def test_mistakes_are_explained_and_leave_nothing(people, tmp_path, monkeypatch):
    with raises_user_error("vectors-not-finite"):
        identity_vectors(people, Identity(LeftBrightness(), np.nan, "abc"), tmp_path / "cache", size=SIZE)
    (tmp_path / "file").write_text("in the way")
    with raises_user_error("cannot-write"):
        identity_vectors(people, Identity(LeftBrightness()), tmp_path / "file" / "cache", size=SIZE)

    def full(stream, values):
        stream.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vectors_module.np, "save", full)
    with raises_user_error("cannot-write", "No space left on device"):
        identity_vectors(people, Identity(LeftBrightness()), tmp_path / "cache", size=SIZE)
    assert list((tmp_path / "cache").iterdir()) == []


def test_progress_is_told(people, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "simswap_jax")
    eager = vectors_module.Progress
    monkeypatch.setattr(vectors_module, "Progress", lambda *args: eager(*args, first=0.0))
    options = {"size": SIZE, "batch_size": 4}
    identity_vectors(people, Identity(LeftBrightness()), tmp_path, **options)
    lines = [record.message for record in caplog.records]
    assert lines[0].startswith("4 of 11 pictures embedded, ")


@pytest.mark.slow
def test_a_real_network(people, tmp_path):
    config = IdentityConfig(
        family="iresnet",
        layers=(1, 1),
        widths=(4, 4),
        size=(SIZE, SIZE),
        frame=(SIZE, SIZE),
        embedding=8,
        values="symmetric",
    )
    network = IdentityNetwork(config)
    variables = jax.jit(network.init)(jax.random.key(0))
    vectors = identity_vectors(people, Identity(network, variables, "abc"), tmp_path, size=SIZE)
    assert vectors.shape == (11, 2, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    direct = network.embed(variables, jnp.asarray(people.picture(4)[None, :, ::-1] / 255, jnp.float32))
    np.testing.assert_allclose(vectors[4, 1], direct[0], atol=1e-5)
    unsized = identity_vectors(people, Identity(network, variables, "abc"), tmp_path)  # the network's own side
    np.testing.assert_array_equal(unsized, vectors)
    assert len(list(tmp_path.iterdir())) == 1

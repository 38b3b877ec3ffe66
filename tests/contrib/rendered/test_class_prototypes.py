"""Class centres that are people's own numbers: what lies between them, and that training leaves them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.rendered.dataset import OTHERS, WEIGHTS, class_prototypes
from simswap_jax.contrib.rendered.face_parameters import PERSON, PERSON_SIZE
from simswap_jax.errors import UserError
from simswap_jax.training import identity
from simswap_jax.training.experiment import PROTOTYPES
from simswap_jax.training.loop import train
from simswap_jax.training.metrics import read_lines
from simswap_jax.weights import identity_folder
from tests.support.errors import raises_user_error

COUNT = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six rendered people, four pictures each."""
    folder = tmp_path_factory.mktemp("rendered") / "people"
    dataset.write_people(folder, dataset.sample_people(3, COUNT), dataset.person_names(COUNT), 4, 4, 32)
    return folder


def experiment(root, cache):
    config = identity.default_config()
    config.data.root, config.data.cache = str(root), str(cache)
    config.network.widths, config.network.margin_ramp, config.network.scale = (4, 8, 8, 8), 1, 3.0
    config.network.prototypes = PROTOTYPES
    config.steps, config.batch_size, config.log_every, config.optimizer.warmup = 3, 8, 1, 1
    return config


def test_the_rotation_keeps_the_distances_of_the_weighted_numbers(root):
    people = dataset.read_labels(root).people
    names = dataset.person_names(COUNT)[::-1]
    centres = class_prototypes(root, names, 128)
    assert centres.dtype == np.float32
    weights = np.array([WEIGHTS.get(name, OTHERS) for name in PERSON])
    numbers = (weights * (people - people.mean(0)) / np.maximum(people.std(0), 1e-6))[::-1]
    apart = np.linalg.norm(numbers[:, None] - numbers[None], axis=-1)
    assert apart[0, 1] > 1
    np.testing.assert_allclose(np.linalg.norm(centres[:, None] - centres[None], axis=-1), apart, rtol=1e-4, atol=1e-4)


def test_every_weight_is_of_a_number_that_there_is():
    assert set(WEIGHTS) <= set(PERSON)


@pytest.mark.slow
def test_training_moves_the_network_and_not_the_centres(root, tmp_path):
    config = experiment(root, tmp_path / "records")
    step = identity.IdentityTraining.step

    def watched(self, state, batch, frozen):
        after, metrics = step(self, state, batch, frozen)
        for name in ("identity", "head"):
            moves = jax.tree.map(jnp.subtract, after.networks[name].params, state.networks[name].params)
            metrics[f"moved_{name}"] = optax.tree.norm(moves)
        return after, metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity.IdentityTraining, "step", watched)
        done = train(config, tmp_path / "run")
    rows = read_lines(tmp_path / "run")
    assert [row["moved_head"] for row in rows] == [0.0] * 3
    assert min(row["moved_identity"] for row in rows[1:]) > 0.0  # the rate of the first step is 0
    assert identity_folder.read(done.model, "").network.config.embedding == 128


def test_prototypes_that_are_nowhere_are_refused(root, tmp_path):
    config = experiment(root, tmp_path / "records")
    config.network.prototypes = "guessed"
    with raises_user_error("config-cannot-be-imported", "network.prototypes", "guessed"):
        train(config, tmp_path / "run")


def test_a_vector_too_short_for_the_prototypes_is_refused(root, tmp_path):
    config = experiment(root, tmp_path / "records")
    config.network.embedding = 8
    with pytest.raises(UserError, match=f"config.network.embedding is 8, .* at least {PERSON_SIZE}"):
        train(config, tmp_path / "run")


def test_people_without_numbers_are_refused(root, tmp_path):
    config = experiment(root, tmp_path / "records")
    photos = tmp_path / "photos"
    for person in ("p0000", "p0001"):
        (photos / person).mkdir(parents=True)
        for picture in (root / person).iterdir():
            (photos / person / picture.name).write_bytes(picture.read_bytes())
    config.data.root = str(photos)
    with pytest.raises(UserError, match=r"labels\.npz is missing"):
        train(config, tmp_path / "run")

"""The example people that ship are whole, and are swapped with nothing fetched."""

import json
from dataclasses import replace

import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.faces.alignment import align
from simswap_jax.inference import example_people
from simswap_jax.inference.swapper import DEFAULT_MODEL, PRETRAINED
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error


@pytest.fixture(scope="module")
def swapper():
    return FaceSwapper(model_folder.read(PRETRAINED / DEFAULT_MODEL, with_identity=False))


@pytest.fixture(scope="module")
def people(swapper):
    return example_people.read_people(swapper.model)


def test_each_has_two_photos_with_a_face_and_a_vector_of_length_one(people):
    assert len({person.name for person in people}) == 10
    for person in people:
        assert person.vector.shape == (128,)
        assert np.linalg.norm(person.vector) == pytest.approx(1.0, abs=1e-3)
        for picture in (person.neutral, person.smiling):
            assert picture.read().shape == (320, 320, 3)
            assert align(picture.face.landmarks, "simswap-frontal", 112).residual < 0.08


def test_everything_that_is_listed_ships_with_its_credit():
    described = json.loads((example_people.FOLDER / "people.json").read_text(encoding="utf-8"))
    files = {picture["file"] for person in described["people"] for picture in person["pictures"]}
    assert files == {path.name for path in example_people.FOLDER.glob("*.jpg")}
    assert "CC BY 4.0" in described["credit"]
    assert "10.6084/m9.figshare.5047666.v5" in example_people.CREDIT
    assert sum(path.stat().st_size for path in example_people.FOLDER.iterdir()) < 400_000


def test_a_swap_changes_the_face_and_nothing_else(swapper, people):
    source, target = people[0], people[1].smiling
    before, after = target.read().astype(int), example_people.swap(swapper, source, target).astype(int)
    left, top, width, height = (round(value) for value in target.face.box)
    changed = np.abs(after - before).max(axis=2)
    assert changed[top : top + height, left : left + width].mean() > 5
    outside = np.ones(changed.shape, bool)
    outside[max(0, top - height // 2) : top + 2 * height, max(0, left - width // 2) : left + 2 * width] = False
    assert outside.any()
    assert changed[outside].max() == 0


def test_the_sheet_has_a_row_a_target_and_a_column_a_source(swapper, people):
    sheet = example_people.swap_sheet(swapper, people[:2], people[2:3])
    assert 3 * 320 < sheet.shape[1] < 4 * 320
    assert 2 * 320 < sheet.shape[0] < 3 * 320


def test_a_model_of_another_identity_network_is_refused(swapper):
    with raises_user_error("example-people-other-identity"):
        example_people.read_people(replace(swapper.model, identity_sha256="00" * 32))

"""Rendered faces: fixed by their numbers, smooth, and every number changes what it names."""

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest

from simswap_jax.contrib.rendered.dataset import (
    ATTRIBUTE_SIZE,
    ATTRIBUTES,
    PERSON,
    PERSON_SIZE,
    person_names,
    pose,
    read_labels,
    render,
    render_ground_truth,
    sample_attributes,
    sample_people,
    write_people,
)
from simswap_jax.contrib.rendered.face_parameters import HOW_OFTEN
from simswap_jax.data.dataset import list_people
from simswap_jax.io.images import read_picture
from tests.support.errors import raises_user_error

SIZE = 64
NEUTRAL = {
    "scale": 1.0,
    "light_y": -0.2,
    "light_strength": 0.2,
    "exposure": 1.0,
    "background_red": 0.5,
    "background_red_2": 0.3,
    "background_green": 0.2,
    "background_blue_2": 0.6,
    "pattern_frequency": 4.0,
    "pattern_sharpness": 0.6,
    "clothes_green": 0.5,
}


def attributes(**values: float) -> np.ndarray:
    """One picture seen from the front, [1, A], with some numbers set."""
    return np.array([[{**NEUTRAL, **values}.get(name, 0.0) for name in ATTRIBUTES]], np.float32)


def person(**sliders: float) -> np.ndarray:
    """Somebody average without beard, glasses or marks, [1, P], with some sliders set."""
    return np.array(
        [[sliders.get(name, 0.0 if name.endswith("_amount") else 0.5) for name in PERSON]],
        np.float32,
    )


def changed(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Where two pictures [1, H, W, 3] differ by more than rounding: bool [H, W]."""
    return np.abs(one[0].astype(int) - two[0]).max(axis=-1) > 2


@pytest.mark.slow
def test_a_seed_fixes_people_and_pictures():
    for sample in (sample_people, sample_attributes):
        np.testing.assert_array_equal(sample(3, 40), sample(3, 40))
        np.testing.assert_array_equal(sample(3, 40)[:7], sample(3, 7))
        assert sample(3, 1).dtype == np.float32
    people, faces = sample_people(3, 70), sample_attributes(3, 70)
    drawn = render(people, faces, SIZE)
    assert drawn.shape == (70, SIZE, SIZE, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, render(people, faces, SIZE))
    # Whoever else is in the batch.
    np.testing.assert_array_equal(drawn[65:68], render(people[65:68], faces[65:68], SIZE))


def test_seeds_share_nobody():
    seeds = [sample_people(seed, 200) for seed in range(5)]
    everybody = np.concatenate(seeds)
    assert len(np.unique(everybody, axis=0)) == len(everybody)
    distance = np.abs(seeds[0][:, None] - seeds[1][None]).max(axis=-1)
    assert distance.min() > 0.2


def test_sliders_stay_in_range_and_some_have_nothing():
    people = sample_people(0, 1000)
    assert people.shape == (1000, PERSON_SIZE)
    assert people.min() == 0
    assert people.max() <= 1
    shares = {name: (people[:, PERSON.index(name)] > 0).mean() for name in PERSON if name.endswith("_amount")}
    assert shares == pytest.approx(HOW_OFTEN | {name: 1.0 for name in shares if name not in HOW_OFTEN}, abs=0.04)
    faces = sample_attributes(0, 1000)
    assert faces.shape == (1000, ATTRIBUTE_SIZE)
    assert np.isfinite(faces).all()


@pytest.mark.slow
def test_edges_are_smooth():
    """A small picture is what a large one shrinks to; one without anti-aliasing would not be."""
    people, faces = sample_people(1, 4), sample_attributes(1, 4)
    small, large = render(people, faces, SIZE).astype(float), render(people, faces, 4 * SIZE)
    shrunk = np.stack([cv2.resize(x, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for x in large]).astype(float)
    hard = large[:, 2::4, 2::4].astype(float)
    ours, theirs = np.mean((small - shrunk) ** 2), np.mean((hard - shrunk) ** 2)
    assert ours < 0.35 * theirs


@pytest.mark.parametrize("name", PERSON)
def test_every_slider_of_a_person_shows(name):
    base = {"mole_x": 0.9, "mole_amount": 0.8 * (name != "mole_amount")} if name.startswith("mole") else {}
    if name.startswith("glasses"):
        base = {"glasses_amount": 0.5}
    if name == "hair_wave":
        base = {"hair_length_amount": 0.7}
    low, high = (render(person(**{**base, name: value}), attributes(), SIZE) for value in (0.0, 1.0))
    seen = changed(low, high)
    assert seen.sum() >= 12
    # The picture's upper corners are never the person's.
    assert not seen[:10, :10].any()
    assert not seen[:10, -10:].any()


# Where in a front view (row, column, as fractions) each attribute may show, and how far it is moved.
PLACES = {
    "mouth_open": (1.0, (0.52, 1.0), (0.15, 0.85)),
    "smile": (1.0, (0.52, 0.95), (0.25, 0.75)),
    "mouth_skew": (1.0, (0.52, 0.95), (0.25, 0.75)),
    "brow_raise_left": (1.0, (0.2, 0.5), (0.1, 0.5)),
    "brow_raise_right": (1.0, (0.2, 0.5), (0.5, 0.9)),
    "eye_close_left": (0.8, (0.35, 0.6), (0.1, 0.5)),
    "eye_close_right": (0.8, (0.35, 0.6), (0.5, 0.9)),
    "gaze_x": (1.0, (0.35, 0.6), (0.1, 0.9)),
    "gaze_y": (1.0, (0.35, 0.6), (0.1, 0.9)),
    "clothes_red": (0.9, (0.8, 1.0), (0.0, 1.0)),
    "clothes_green": (0.9, (0.8, 1.0), (0.0, 1.0)),
    "clothes_blue": (0.9, (0.8, 1.0), (0.0, 1.0)),
    "collar": (1.0, (0.8, 1.0), (0.2, 0.8)),
}


@pytest.mark.parametrize("name", PLACES)
def test_an_attribute_changes_what_it_names_and_nothing_else(name):
    value, rows, columns = PLACES[name]
    seen = changed(*(render(person(), attributes(**extra), SIZE) for extra in ({}, {name: value})))
    assert seen.sum() >= 4
    inside = np.zeros_like(seen)
    inside[slice(*(int(SIZE * r) for r in rows)), slice(*(int(SIZE * c) for c in columns))] = True
    assert not (seen & ~inside).any()


@pytest.mark.parametrize("name", [name for name in ATTRIBUTES if name.startswith(("background", "pattern"))])
def test_the_background_never_touches_the_face(name):
    seen = changed(*(render(person(), attributes(**extra), SIZE) for extra in ({}, {name: 0.9})))
    assert seen[:16, :10].any() or seen[:16, -10:].any()
    assert not seen[16:48, 24:40].any()


@pytest.mark.parametrize("name", [name for name in ATTRIBUTES if name.startswith(("light", "exposure"))])
def test_light_falls_on_the_person_and_not_on_the_background(name):
    seen = changed(*(render(person(), attributes(**extra), SIZE) for extra in ({}, {name: 0.5})))
    assert seen[20:50, 24:40].mean() > 0.3
    assert not seen[:16, :10].any()
    assert not seen[:16, -10:].any()


def test_the_face_turns_moves_and_grows_as_its_pose_says():
    """A ginger moustache on dark skin: where is it?"""
    who = person(skin_tone=1.0, moustache_amount=1.0, hair_colour=4 / 7, hairline=0.0, lip_colour=1.0)

    def place(**values: float) -> tuple[float, float]:
        lower = render(who, attributes(background_red=0, background_red_2=0, **values), SIZE)[
            0, SIZE // 2 :, 8:56
        ].astype(int)
        rows, columns = np.nonzero(lower[..., 0] - lower[..., 2] > 90)
        return rows.mean() + SIZE // 2, columns.mean() + 8

    row, column = place()
    assert abs(column - (SIZE - 1) / 2) < 0.5
    assert place(yaw=20)[1] > column + 4
    assert place(yaw=-20)[1] < column - 4
    assert place(pitch=15)[0] < row - 3
    assert place(pitch=-15)[0] > row + 2  # the chin is near, and points near the outline move less
    assert place(roll=15)[1] < column - 1.5
    assert place(roll=-15)[1] > column + 1.5
    assert place(shift_x=0.1)[1] == pytest.approx(column + 0.1 * SIZE / 2, abs=0.7)
    assert place(shift_y=0.1)[0] == pytest.approx(row + 0.1 * SIZE / 2, abs=0.7)
    assert place(scale=1.15)[0] > row + 1


def test_pose_reads_the_angles():
    np.testing.assert_array_equal(pose(attributes(yaw=5, pitch=-3, roll=7)), [[5, -3, 7]])


def test_the_ground_truth_is_the_source_with_the_targets_attributes():
    people, faces = sample_people(5, 8), sample_attributes(5, 8)
    pictures = render(people, faces, SIZE)
    np.testing.assert_array_equal(render_ground_truth(people, faces, SIZE), pictures)
    swapped = render_ground_truth(people[::-1], faces, SIZE)
    difference = np.abs(swapped.astype(float) - pictures)
    # The background's upper corners stay the target's; the face becomes the source's.
    assert difference[:, :6, :6].max() <= 2
    assert difference[:, 16:48, 20:44].mean() > 20


def test_written_people_are_what_was_drawn(tmp_path):
    people = sample_people(2, 3)
    written = write_people(tmp_path / "faces", people, person_names(3), 25, 9, SIZE)
    labels = read_labels(tmp_path / "faces")
    assert labels.files == written.files
    assert labels.names == ["p0000", "p0001", "p0002"]
    np.testing.assert_array_equal(labels.people, people)
    np.testing.assert_array_equal(labels.attributes, sample_attributes(9, 75))
    listed = list_people(tmp_path / "faces")
    assert {name: len(files) for name, files in listed.items()} == dict.fromkeys(labels.names, 25)
    for name in ("p0000/000.png", "p0001/003.png", "p0002/024.png"):
        row = labels.row(str(tmp_path / "faces" / name))
        assert labels.names[labels.person[row]] == name[:5]
        face = render(people[labels.person[[row]]], labels.attributes[[row]], SIZE)[0]
        np.testing.assert_array_equal(read_picture(tmp_path / "faces" / name), face)
    again = write_people(tmp_path / "again", people, person_names(3), 25, 9, SIZE)
    for file in again.files[::10]:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "faces" / file).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with raises_user_error("folder-in-use", tmp_path):
        write_people(tmp_path, sample_people(0, 1), ["a"], 1, 0, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with raises_user_error("cannot-write", "faces", "No space left on device"):
        write_people(tmp_path / "faces", sample_people(0, 2), ["a", "b"], 2, 0, SIZE)
    assert not list(tmp_path.iterdir())


def test_unreadable_labels_are_named(tmp_path):
    with raises_user_error("labels-missing", "labels.npz"):
        read_labels(tmp_path)
    (tmp_path / "labels.npz").write_text("not a zip")
    with raises_user_error("labels-unreadable", "labels.npz"):
        read_labels(tmp_path)
    np.savez(
        tmp_path / "labels.npz",
        names=["a"],
        people=np.zeros((1, 3)),
        files=["a/000.png"],
        person=[0],
        attributes=np.zeros((1, 2)),
        person_numbers=["skin", "hair", "eyes"],
        attribute_numbers=["yaw", "pitch"],
    )
    with raises_user_error("labels-outdated", "labels.npz"):
        read_labels(tmp_path)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="render"):
        render(np.zeros((2, 3)), sample_attributes(0, 2), SIZE)
    with pytest.raises(ValueError, match="render"):
        render(sample_people(0, 2), sample_attributes(0, 2), 0)
    with pytest.raises(ValueError, match="different names"):
        write_people("nowhere", sample_people(0, 2), ["a", "a"], 1, 0, SIZE)
    assert render(sample_people(0, 0), sample_attributes(0, 0), SIZE).shape == (0, SIZE, SIZE, 3)

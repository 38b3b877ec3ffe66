"""Warped pictures of known people: whose they are, that they are a function of their number, what a warp does."""

import numpy as np

from simswap_jax.data.warped import moved, warped, warped_batches
from tests.support.small_model import faces

PICTURES = faces(6)


class Six:
    """Three people's six pictures, as `data.dataset.People` has them."""

    names = ("anna", "ben", "eve")
    person = np.array([0, 0, 0, 1, 2, 2])
    files = tuple(f"{i}.png" for i in range(6))

    def picture(self, index, size):
        return PICTURES[index]


def batches(**more):
    options = {"size": 32, "batch_size": 4, "seed": 1, "spread": 0.05, "threads": 0, **more}
    return warped_batches(Six(), [2, 0], **options)


def test_every_sample_is_of_its_own_person():
    first = next(batches())
    assert first["person"].tolist() == [0, 1, 0, 1]
    assert first["input"].shape == first["target"].shape == (4, 32, 32, 3)
    plain = next(batches(spread=0.0))
    np.testing.assert_array_equal(plain["input"], plain["target"])
    np.testing.assert_array_equal(plain["target"], first["target"])
    assert np.abs(first["input"].astype(int) - first["target"]).mean() > 1
    for number, picture in enumerate(first["target"]):  # eve's are 4 and 5, anna's 0 to 2
        apart = [min(np.abs(picture.astype(int) - seen).mean() for seen in (one, one[:, ::-1])) for one in PICTURES]
        assert int(np.argmin(apart)) in ((4, 5) if number % 2 == 0 else (0, 1, 2))


def test_a_position_is_a_number_and_hosts_share_a_batch():
    whole = batches()
    again, parts = batches(), [batches(batch_size=8, host_index=i, host_count=2) for i in range(2)]
    next(whole)
    again.set_state(whole.get_state())
    np.testing.assert_array_equal(next(again)["input"], next(whole)["input"])
    one = next(batches(batch_size=8))
    shared = [next(part) for part in parts]
    for name in one:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in shared]), one[name])


def test_a_warp_bends_and_a_move_turns():
    picture = PICTURES[0]
    np.testing.assert_array_equal(warped(picture, np.random.default_rng(0), 0.0), picture)
    for change in (moved(picture, np.random.default_rng(0)), warped(picture, np.random.default_rng(0), 0.05)):
        assert change.shape == picture.shape
        assert 1 < np.abs(change.astype(int) - picture).mean() < 60

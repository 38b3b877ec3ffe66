import itertools
import json
import threading
import time

import jax
import numpy as np
import pytest

from simswap_jax.data.dataset import People
from simswap_jax.data.loader import pair_batches, picture_batches, prefetch
from simswap_jax.data.pairs import Pairing, PairingOptions
from simswap_jax.data.records import build
from simswap_jax.errors import UserError
from simswap_jax.io.images import encode_png
from tests.support.errors import raises_user_error

SIZE = 16
COUNTS = [2, 3, 1, 4]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for person, count in enumerate(COUNTS):
        (root / f"p{person}").mkdir()
        for number in range(count):
            picture = generator.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            (root / f"p{person}" / f"{number}.png").write_bytes(encode_png(picture))
    return build(root, tmp_path_factory.mktemp("records"))


def pairing_of(people, **options):
    hosts = {name: options.pop(name) for name in ("host_index", "host_count") if name in options}
    return Pairing(people.person, PairingOptions(**{"seed": 5, "batch_size": 6, **options}), **hosts)


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def turned(picture, turn):
    return picture[:, ::-1] if turn else picture


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_are_the_pairs(people, threads):
    pairing = pairing_of(people)
    for step, batch in enumerate(take(pair_batches(people, pairing, 12, SIZE, threads=threads), 4)):
        assert set(batch) == {"target", "source", "same_person"}
        assert batch["target"].shape == (6, 12, 12, 3)
        assert batch["source"].shape == (6, SIZE, SIZE, 3)
        assert batch["target"].dtype == batch["source"].dtype == np.uint8
        assert batch["same_person"].dtype == bool
        assert batch["same_person"].tolist() == [step % 2 == 0] * 6
        for slot in range(6):
            pair = pairing.pair(6 * step + slot)
            np.testing.assert_array_equal(
                batch["target"][slot], turned(people.picture(pair.target, 12), pair.flip_target)
            )
            np.testing.assert_array_equal(batch["source"][slot], turned(people.picture(pair.source), pair.flip_source))


def test_vectors_take_the_place_of_sources(people):
    vectors = np.random.default_rng(1).standard_normal((len(people), 2, 7)).astype(np.float32)
    pairing = pairing_of(people)
    batch = next(pair_batches(people, pairing, SIZE, SIZE, vectors=vectors))
    assert set(batch) == {"target", "identity", "same_person"}
    assert batch["identity"].dtype == np.float32
    mirrored = 0
    for slot in range(6):
        pair = pairing.pair(slot)
        mirrored += pair.flip_source
        np.testing.assert_array_equal(batch["identity"][slot], vectors[pair.source, int(pair.flip_source)])
    assert 0 < mirrored < 6


def test_the_pictures_behind_vectors_are_those_of_the_next_batch(people):
    vectors = np.zeros((len(people), 2, 7), np.float32)
    seen = pair_batches(people, pairing_of(people, host_index=1, host_count=2), 12, 12)
    assert seen.sources(2) is None
    unseen = pair_batches(people, pairing_of(people, host_index=1, host_count=2), 12, SIZE, vectors=vectors)
    np.testing.assert_array_equal(unseen.sources(2), next(seen)["source"][:2])
    next(unseen)
    position = unseen.get_state()
    np.testing.assert_array_equal(unseen.sources(8), next(seen)["source"])  # at most a batch
    assert unseen.get_state() == position
    resumed = pair_batches(people, pairing_of(people, host_index=1, host_count=2), 12, SIZE, vectors=vectors)
    resumed.set_state(position)
    np.testing.assert_array_equal(resumed.sources(3), unseen.sources(3))


def test_hosts_together_make_the_batch_of_one(people):
    whole = take(pair_batches(people, pairing_of(people), SIZE, SIZE), 3)
    parts = [
        take(pair_batches(people, pairing_of(people, host_index=host, host_count=3), SIZE, SIZE), 3)
        for host in range(3)
    ]
    together = [{name: np.concatenate([part[step][name] for part in parts]) for name in whole[0]} for step in range(3)]
    assert_equal(together, whole)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_restored_position_goes_on_at_the_next_batch(people, threads):
    def fresh():
        return pair_batches(people, pairing_of(people), SIZE, SIZE, threads=threads)

    whole = take(fresh(), 8)
    first = fresh()
    take(first, 3)
    state = json.loads(json.dumps(first.get_state()))
    second = fresh()
    take(second, 1)
    second.set_state(state)
    assert_equal(take(second, 5), whole[3:])
    assert second.get_state()["position"] != state["position"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 6}, "seed"),
        ({"batch_size": 4}, "batch size"),
        ({"mode": "mixed"}, "pairing"),
        ({"flip": False}, "pairing"),
    ],
)
def test_the_position_of_another_run_is_refused(people, changes, name):
    state = pair_batches(people, pairing_of(people), SIZE, SIZE).get_state()
    other = pair_batches(people, pairing_of(people, **changes), SIZE, SIZE)
    with raises_user_error("position-of-another-run", name):
        other.set_state(state)
    fewer = people.select(["p0", "p1"])
    with raises_user_error("position-of-another-run", "list of pictures"):
        pair_batches(fewer, pairing_of(fewer), SIZE, SIZE).set_state(state)


def test_the_position_with_other_targets_is_refused(people):
    def of(*targets):
        made = pairing_of(people)
        made = Pairing(people.person, made.options, targets=np.array(targets)) if targets else made
        return pair_batches(people, made, SIZE, SIZE)

    chosen = of(0, 3).get_state()
    of(0, 3).set_state(chosen)
    for other, state in ((of(0, 2), chosen), (of(), chosen), (of(0, 3), of().get_state())):
        with raises_user_error("position-of-another-run", "choice of targets"):
            other.set_state(state)
    assert of(*range(len(people))).get_state() == of().get_state()  # as of former versions: no choice


def test_what_does_not_belong_together_is_refused(people):
    fewer = people.select(["p0", "p1"])
    with pytest.raises(ValueError, match=r"the data of 5; make it from people\.person"):
        pair_batches(fewer, pairing_of(people), SIZE, SIZE)
    with pytest.raises(ValueError, match=r"the data set needs \(10, 2, D\)"):
        pair_batches(people, pairing_of(people), SIZE, SIZE, vectors=np.zeros((10, 7), np.float32))
    with raises_user_error("batch-indivisible", 2):
        picture_batches(people, 7, SIZE, 0, host_count=2)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_broken_record_names_its_file(threads):
    records = [{"picture": encode_png(np.zeros((16, 16, 3), np.uint8))}, {"picture": b"broken"}]
    people = People(records, ["a", "b"], np.arange(2), ["a/good.png", "b/bad.png"], np.arange(2), "x")
    batches = pair_batches(people, Pairing(people.person, PairingOptions(0, 4)), 8, 8, threads=threads)
    with raises_user_error("broken-picture", "b/bad.png"):
        take(batches, 4)
    with prefetch(batches) as ahead, raises_user_error("broken-picture", "b/bad.png"):
        take(ahead, 4)


def test_picture_batches_visit_every_picture_once_an_epoch(people):
    batches = picture_batches(people, 5, SIZE, seed=0, flip=False)
    orders = []
    for _ in range(4):
        seen = []
        for batch in take(batches, 2):  # ten pictures: an epoch
            assert batch["image"].shape == (5, SIZE, SIZE, 3)
            assert batch["person"].dtype == np.int32
            for image, person in zip(batch["image"], batch["person"]):
                index = next(i for i in range(len(people)) if (people.picture(i) == image).all())
                assert people.person[index] == person
                seen.append(index)
        assert sorted(seen) == list(range(10))
        orders.append(tuple(seen))
    assert len(set(orders)) == 4


def test_picture_batches_flip_shard_and_resume(people):
    whole = take(picture_batches(people, 6, SIZE, seed=1), 20)
    turns = 0
    for batch in whole:
        for image in batch["image"]:
            straight = any((people.picture(i) == image).all() for i in range(10))
            assert straight or any((people.picture(i)[:, ::-1] == image).all() for i in range(10))
            turns += not straight
    assert 35 < turns < 85  # 60 ± 4.5 standard deviations
    parts = [take(picture_batches(people, 6, SIZE, seed=1, host_index=host, host_count=2), 20) for host in range(2)]
    together = [{name: np.concatenate([part[step][name] for part in parts]) for name in whole[0]} for step in range(20)]
    assert_equal(together, whole)
    other = picture_batches(people, 6, SIZE, seed=1)
    take(other, 7)
    state = json.loads(json.dumps(other.get_state()))
    fresh = picture_batches(people, 6, SIZE, seed=1)
    fresh.set_state(state)
    assert_equal(take(fresh, 13), whole[7:])
    with raises_user_error("position-of-another-run", "seed", 1):
        picture_batches(people, 6, SIZE, seed=2).set_state(state)


class Counting:
    """An iterator over numbers whose state is the next one."""

    def __init__(self, end=10**9):
        self.next, self.end = 0, end

    def __next__(self):
        if self.next >= self.end:
            raise StopIteration
        self.next += 1
        return self.next - 1

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_prefetch_knows_what_was_consumed(depth):
    with prefetch(Counting(), lambda number: 10 * number, depth=depth) as ahead:
        assert ahead.get_state() == {"next": 0}
        assert take(ahead, 4) == [0, 10, 20, 30]
        time.sleep(0.05)  # let it run ahead
        assert ahead.get_state() == {"next": 4}
        state = ahead.get_state()
        take(ahead, 3)
        ahead.set_state(state)
        assert ahead.get_state() == {"next": 4}
        assert take(ahead, 2) == [40, 50]


def test_prefetch_works_ahead_but_not_further_than_told():
    counting = Counting()
    with prefetch(counting, depth=3) as ahead:
        next(ahead)
        for _ in range(600):
            if counting.next >= 4:
                break
            time.sleep(0.1)
        time.sleep(0.05)  # let it run further, if it does
        assert 4 <= counting.next <= 5  # one given out, three waiting, one in hand


@pytest.mark.parametrize("depth", [0, 2])
def test_prefetch_ends_and_fails_as_what_it_wraps(depth):
    with prefetch(Counting(3), depth=depth) as ahead:
        assert list(ahead) == [0, 1, 2]
        assert list(ahead) == []
        assert ahead.get_state() == {"next": 3}

    def fail(number):
        if number == 2:
            raise UserError("number 2 is broken; remove it.", "broken")
        return number

    with prefetch(Counting(), fail, depth=depth) as ahead:
        assert take(ahead, 2) == [0, 1]
        with raises_user_error("broken", 2):
            next(ahead)
        assert ahead.get_state() == {"next": 2}


def test_prefetch_leaves_no_thread():
    before = set(threading.enumerate())  # of other tests, too; some of those end meanwhile
    ahead = prefetch(Counting())
    next(ahead)
    (ours,) = set(threading.enumerate()) - before
    ahead.close()
    ahead.close()
    assert not ours.is_alive()


def test_batches_reach_the_device(people):
    batches = pair_batches(people, pairing_of(people), SIZE, SIZE)
    with prefetch(batches, jax.device_put) as ahead:
        batch = next(ahead)
        assert isinstance(batch["target"], jax.Array)
        expected = next(pair_batches(people, pairing_of(people), SIZE, SIZE))
        assert_equal([batch], [expected])
        state = json.loads(json.dumps(ahead.get_state()))
    fresh = pair_batches(people, pairing_of(people), SIZE, SIZE)
    fresh.set_state(state)
    assert_equal([next(fresh)], take(pair_batches(people, pairing_of(people), SIZE, SIZE), 2)[1:])

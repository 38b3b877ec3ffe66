"""Pairs and positions, whatever the data set: deterministic, of whom they should be, shared out without loss."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simswap_jax.data.dataset import People, held_out
from simswap_jax.data.loader import pair_batches
from simswap_jax.data.pairs import Pairing, PairingOptions, below
from simswap_jax.io.images import encode_png
from tests.support.properties import few, very_few

people = st.lists(st.integers(0, 6), min_size=2, max_size=40).filter(lambda numbers: len(set(numbers)) > 1)
options = st.builds(
    PairingOptions,
    seed=st.integers(0, 2**63 - 1),
    batch_size=st.sampled_from([4, 8, 12]),
    mode=st.sampled_from(["alternate", "mixed"]),
    same_fraction=st.floats(0, 1),
    flip=st.booleans(),
)


@few
@given(people, options, st.integers(0, 2**40))
def test_a_pair_depends_on_seed_and_index_only_and_is_of_whom_it_says(person, options, index):
    person = np.array(person)
    pairing = Pairing(person, options)
    pair = pairing.pair(index)
    pairing.pair(index + 1)
    assert pairing.pair(index) == Pairing(person, options).pair(index) == pair
    assert (person[pair.target] == person[pair.source]) == pair.same_person == pairing.is_same_person(index)
    if pair.same_person and (person == person[pair.target]).sum() > 1:
        assert pair.target != pair.source
    assert options.flip or not (pair.flip_target or pair.flip_source)


@few
@given(people, options, st.sampled_from([1, 2, 4]), st.integers(0, 1000))
def test_hosts_share_every_batch_without_loss_or_overlap(person, options, hosts, step):
    shares = [Pairing(np.array(person), options, host_index=host, host_count=hosts) for host in range(hosts)]
    size = options.batch_size // hosts
    indices = [share.global_index(step * size + slot) for share in shares for slot in range(size)]
    assert indices == list(range(step * options.batch_size, (step + 1) * options.batch_size))


@few
@given(st.integers(0, 2**64 - 1), st.integers(1, 2**40))
def test_a_random_word_becomes_a_number_in_range(word, count):
    assert 0 <= below(word, count) < count


@few
@given(st.sets(st.text(min_size=1, max_size=8), max_size=20), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_more_people_or_a_larger_fraction_move_nobody_back(names, fraction, other, seed):
    names = sorted(names)
    chosen = held_out(names, fraction, seed)
    assert held_out(names[::2], fraction, seed) == [name for name in names[::2] if name in set(chosen)]
    if other >= fraction:
        assert set(chosen) <= set(held_out(names, other, seed))


def small_people(person):
    generator = np.random.default_rng(len(person))
    records = [{"picture": encode_png(generator.integers(0, 256, (4, 4, 3), np.uint8))} for _ in person]
    person = np.unique(sorted(person), return_inverse=True)[1]
    files = [f"{number}/{index}.png" for index, number in enumerate(person)]
    return People(records, [str(n) for n in range(person[-1] + 1)], person, files, np.arange(len(files)), "print")


@very_few
@given(people, options, st.integers(0, 3))
def test_a_position_that_went_through_json_goes_on_at_the_next_batch(person, options, count):
    data = small_people(person)

    def batches():
        return pair_batches(data, Pairing(data.person, options), 4, 4, threads=0)

    first = batches()
    for _ in range(count):
        next(first)
    state = json.loads(json.dumps(first.get_state()))
    second = batches()
    second.set_state(state)
    for _ in range(2):
        expected, found = next(first), next(second)
        assert expected.keys() == found.keys()
        for name in expected:
            np.testing.assert_array_equal(expected[name], found[name])

from collections import Counter

import numpy as np
import pytest

from simswap_jax.data.pairs import Pairing, PairingOptions, below, random_words
from tests.support.errors import raises_user_error

PERSON = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 13])  # 32 pictures
GOLDEN = [(0, 0), (6, 10), (21, 7), (13, 0), (23, 19)]
WORDS = [213000021201967259, 4455796210202625458]


def chi_square(counts, expected):
    counts, expected = np.asarray(counts, float), np.asarray(expected, float)
    return float(((counts - expected) ** 2 / expected).sum())


def limit(degrees):
    """Above the 99.99th percentile of chi-square (Wilson and Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.9 * np.sqrt(2 / (9 * degrees))) ** 3


def pairing_of(person, host_index=0, host_count=1, **options):
    return Pairing(person, PairingOptions(**options), host_index=host_index, host_count=host_count)


def test_pairs_are_a_pure_function_of_seed_and_index():
    pairing = pairing_of(PERSON, seed=3, batch_size=8)
    forward = [pairing.pair(index) for index in range(200)]
    again = pairing_of(PERSON, seed=3, batch_size=8)
    assert [again.pair(index) for index in reversed(range(200))] == forward[::-1]
    other = pairing_of(PERSON, seed=4, batch_size=8)
    assert sum(other.pair(index).target == forward[index].target for index in range(200)) < 30


def test_pairs_never_change_between_versions():
    """These very pairs belong to seed 0: a run resumed with a newer release must go on with its own."""
    pairing = pairing_of(PERSON, seed=0, batch_size=4, mode="mixed")
    pairs = [pairing.pair(index) for index in (0, 1, 2, 3, 10**9 * 4)]
    assert [(pair.target, pair.source) for pair in pairs] == GOLDEN
    assert random_words(0, 0, 2) == WORDS


def test_targets_are_those_that_may_be_and_sources_are_all():
    few = np.array([4, 9, 30])
    pairing = Pairing(PERSON, PairingOptions(0, 4, "mixed"), targets=few)
    pairs = [pairing.pair(index) for index in range(600)]
    assert {pair.target for pair in pairs} == set(few.tolist())
    assert {pair.source for pair in pairs} > set(range(20))
    assert all((PERSON[pair.target] == PERSON[pair.source]) == pair.same_person for pair in pairs)
    every = Pairing(PERSON, PairingOptions(0, 4, "mixed"), targets=np.arange(len(PERSON)))
    assert [every.pair(index) for index in range(50)] == [
        Pairing(PERSON, PairingOptions(0, 4, "mixed")).pair(index) for index in range(50)
    ]


def test_alternate_is_the_papers_schedule():
    pairing = pairing_of(PERSON, seed=0, batch_size=6)
    same = [pairing.pair(index).same_person for index in range(24)]
    assert same == [True] * 6 + [False] * 6 + [True] * 6 + [False] * 6


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 5), (0.25, 2), (0.0, 0), (1.0, 10)])
def test_mixed_batches_hold_their_share(fraction, count):
    pairing = pairing_of(PERSON, seed=0, batch_size=10, mode="mixed", same_fraction=fraction)
    for step in range(3):
        same = [pairing.pair(10 * step + slot).same_person for slot in range(10)]
        assert same == [True] * count + [False] * (10 - count)


def test_sources_are_who_they_should_be():
    pairing = pairing_of(PERSON, seed=1, batch_size=10, mode="mixed")
    for index in range(3000):
        pair = pairing.pair(index)
        same = PERSON[pair.target] == PERSON[pair.source]
        assert same == pair.same_person
        if pair.same_person:
            alone = (PERSON[pair.target] == PERSON).sum() == 1
            assert (pair.target == pair.source) == alone


def test_order_of_pictures_does_not_matter_for_whose_they_are():
    shuffled = np.random.default_rng(0).permutation(PERSON) * 3 + 1  # numbers with gaps, in no order
    pairing = pairing_of(shuffled, seed=1, batch_size=10, mode="mixed")
    for index in range(1000):
        pair = pairing.pair(index)
        assert (shuffled[pair.target] == shuffled[pair.source]) == pair.same_person


def test_targets_are_even_over_pictures():
    pairing = pairing_of(PERSON, seed=5, batch_size=2)
    count = Counter(pairing.pair(index).target for index in range(16000))
    assert chi_square([count[i] for i in range(32)], [500] * 32) < limit(31)


def test_other_people_are_even_over_people_then_pictures():
    pairing = pairing_of(PERSON, seed=6, batch_size=2, mode="mixed", same_fraction=0.0)
    pairs = [pairing.pair(index) for index in range(30000)]
    sources = [pair.source for pair in pairs if PERSON[pair.target] == 5]
    people = Counter(PERSON[sources])
    assert people[5] == 0
    assert chi_square([people[i] for i in range(5)], [len(sources) / 5] * 5) < limit(4)
    of_fourth = Counter(source for source in sources if PERSON[source] == 4)
    assert chi_square([of_fourth[i] for i in range(11, 19)], [sum(of_fourth.values()) / 8] * 8) < limit(7)


def test_same_person_sources_are_even_over_the_other_pictures():
    pairing = pairing_of(PERSON, seed=7, batch_size=2, mode="mixed", same_fraction=1.0)
    pairs = Counter((p.target, p.source) for p in map(pairing.pair, range(30000)) if PERSON[p.target] == 3)
    assert len(pairs) == 20
    assert chi_square(list(pairs.values()), [sum(pairs.values()) / 20] * 20) < limit(19)


def test_flips_are_fair_independent_and_can_be_turned_off():
    pairing = pairing_of(PERSON, seed=8, batch_size=2)
    pairs = [pairing.pair(index) for index in range(8000)]
    flips = Counter((p.same_person, p.flip_target, p.flip_source) for p in pairs)
    assert chi_square(list(flips.values()), [1000] * 8) < limit(7)
    still = pairing_of(PERSON, seed=8, batch_size=2, flip=False)
    assert not any(still.pair(index).flip_target or still.pair(index).flip_source for index in range(100))
    assert [still.pair(i).target for i in range(100)] == [pair.target for pair in pairs[:100]]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts_together_see_the_batch_of_one(hosts):
    alone = pairing_of(PERSON, seed=9, batch_size=8, mode="mixed")
    options = {"seed": 9, "batch_size": 8, "mode": "mixed"}
    shared = [pairing_of(PERSON, host, hosts, **options) for host in range(hosts)]
    size = 8 // hosts
    for step in range(5):
        together = [
            pairing.pair(pairing.global_index(step * pairing.local_batch_size + slot))
            for pairing in shared
            for slot in range(size)
        ]
        assert together == [alone.pair(step * 8 + slot) for slot in range(8)]


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"person": np.zeros(5, int)}, "too-few-people", 1),
        ({"person": np.zeros(0, int)}, "too-few-people", 0),
        ({"batch_size": 1}, "batch-too-small", 1),
        ({"host_count": 3}, "batch-indivisible", 3),
        ({"host_count": 2, "host_index": 2}, "batch-indivisible", 2),
        ({"mode": "random"}, "no-pairing-mode", "random"),
        ({"same_fraction": 1.5}, "same-fraction-range", 1.5),
    ],
)
def test_mistakes_are_explained(changes, code, named):
    with raises_user_error(code, named):
        pairing_of(**{"person": PERSON, "seed": 0, "batch_size": 8, **changes})


def test_below_covers_its_range():
    assert {below(word, 3) for word in random_words(0, 0, 50)} == {0, 1, 2}
    assert below(2**64 - 1, 7) == 6
    assert below(0, 7) == 0

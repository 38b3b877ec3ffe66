"""Identity metrics against values worked out by hand."""

import numpy as np
import pytest

from simswap_jax.contrib.rendered.identity_judge import pretrained
from simswap_jax.evaluation.metrics import identity


def test_the_gallery_is_the_mean_of_each_person():
    vectors = np.array([[1, 0], [0, 1], [0, 2], [np.nan, 0]], np.float32)
    found = identity.centroids(vectors, np.array([0, 1, 1, 0]), 2)
    np.testing.assert_array_equal(found.sums, [[1, 0], [0, 3]])
    np.testing.assert_array_equal(found.counts, [1, 2])
    with pytest.raises(ValueError, match="person 1"):
        identity.centroids(vectors[[0, 3]], np.array([0, 1]), 2)


def test_retrieval_takes_the_nearest_person_by_cosine():
    found = identity.centroids(np.eye(3)[[0, 0, 1, 2]] * [[5], [1], [1], [1]], np.array([0, 0, 1, 2]), 3)
    queries = np.array([[1.0, 0.2, 0], [0.2, 1, 0], [0.4, 0.5, 0]])
    np.testing.assert_array_equal(identity.retrieval(queries, found, np.array([0, 1, 0])), [True, True, False])


def test_the_picture_a_result_was_made_from_does_not_help_to_find_its_person():
    # Person 0 has two pictures that look nothing alike; the result repeats the first of them.
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
    found = identity.centroids(vectors, np.array([0, 0, 1]), 2)
    result, person = np.array([[1.0, 0, 0]]), np.array([0])
    assert identity.retrieval(result, found, person)[0]  # cosine 0.71 against 0.6
    assert not identity.retrieval(result, found, person, vectors[[0]])[0]  # 0 against 0.6
    alone = identity.centroids(vectors[[0, 2]], np.array([0, 1]), 2)
    assert identity.retrieval(result, alone, person, vectors[[0]])[0]  # an only picture stays in


def test_cosines_and_nearer_to_the_source():
    a, b = np.array([[3.0, 0], [1, 1]]), np.array([[2.0, 0], [0, 5]])
    np.testing.assert_allclose(identity.cosine(a, b), [1, np.sqrt(0.5)])
    np.testing.assert_array_equal(identity.nearer_source(a, b, a), [False, False])
    np.testing.assert_array_equal(identity.nearer_source(a, a, b), [False, True])


def test_untouched_pictures_give_the_recognisers_own_verification(drawn):
    """True accepts of real pairs, through the evaluation's functions, are those of the judge worked out by hand."""
    pictures, person, _ = drawn
    vectors = pretrained().embed(list(pictures))
    genuine, impostors = identity.pair_cosines(vectors, person)
    cosines = vectors @ vectors.T
    same = person[:, None] == person
    upper = np.triu(np.ones_like(same), 1).astype(bool)
    wanted = np.sort(cosines[~same & upper])[::-1]
    assert (len(genuine), len(impostors)) == (8 * 15, len(wanted))
    threshold = identity.threshold_at(impostors, 0.01)
    assert np.isclose((wanted >= threshold).mean(), 0.01, atol=1 / len(wanted))
    by_hand = (cosines[same & upper] >= threshold).mean()
    assert identity.roc(genuine, impostors, np.array([0.01])) == pytest.approx(by_hand)
    assert by_hand > 0.5
    # Best accuracy over all thresholds: the judge tells these people apart.
    accuracy = max(((genuine >= t).mean() + (impostors < t).mean()) / 2 for t in np.linspace(-0.2, 0.9, 100))
    assert accuracy > 0.9


def test_shuffled_pairs_fall_to_chance(drawn):
    pictures, person, _ = drawn
    vectors = pretrained().embed(list(pictures))
    everybody = identity.centroids(vectors, person, 8)
    assert identity.retrieval(vectors, everybody, person, vectors).mean() > 0.8
    shuffled = np.random.default_rng(0).permutation(np.tile(person, 20))
    many = np.tile(vectors, (20, 1))
    assert identity.retrieval(many, everybody, shuffled).mean() == pytest.approx(1 / 8, abs=0.05)
    assert identity.nearest_picture(many, vectors, person, shuffled).mean() == pytest.approx(1 / 8, abs=0.05)


def test_the_nearest_picture_may_be_barred():
    vectors = np.eye(4)
    person = np.array([0, 1, 1, 2])
    result = np.array([[0.0, 1.0, 0.5, 0.1]])
    assert identity.nearest_picture(result, vectors, person, np.array([1])).all()
    assert identity.nearest_picture(result, vectors, person, np.array([1]), np.array([1])).all()  # her other picture
    assert not identity.nearest_picture(result, vectors, np.array([0, 1, 2, 2]), np.array([1]), np.array([1])).any()
    assert identity.nearest_picture(result, vectors, np.array([0, 1, 2, 2]), np.array([1]), np.array([-1])).all()


def test_a_false_accept_rate_needs_enough_pairs():
    with pytest.raises(ValueError, match="needs 1000 pairs"):
        identity.threshold_at(np.zeros(999), 0.001)
    with pytest.raises(ValueError, match="between 0 and 1"):
        identity.threshold_at(np.zeros(999), 0.0)

"""From predictions to the table's values, for candidates that take the pairs' pictures and for those that choose."""

from pathlib import Path

import numpy as np

from simswap_jax.evaluation.candidates import SOURCE, TARGET
from simswap_jax.evaluation.gallery import gallery_of
from simswap_jax.evaluation.metrics.regions import PARTS
from simswap_jax.evaluation.metrics.summary import Measured, index_pairs, summarise
from simswap_jax.evaluation.protocols.protocol import Pair, PairList

PEOPLE = ("ana", "bob", "cleo", "dan")
PAIRS = PairList(
    0,
    PEOPLE,
    tuple(
        Pair(f"{source}/0.png", f"{target}/0.png", f"{source}/1.png")
        for source, target in zip(PEOPLE, PEOPLE[1:] + PEOPLE[:1])
    ),
)


def predictions(seed, **further):
    """What the networks may say of one picture for each pair, by chance."""
    random, count = np.random.default_rng(seed), len(PAIRS.pairs)
    vectors = random.normal(size=(count, 8))
    return {
        "vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        "angles": 20.0 * random.normal(size=(count, 3)),
        "laplacian": random.random(count),
        "surroundings": random.random((count, 16, 16, 3)),
        "light": random.normal(size=(count, 2)),
        **further,
    }


def scores_of(real=None, **results):
    pictures = [(name, Path(f"{number}.png")) for name in PEOPLE for number in range(2)]
    gallery = gallery_of(pictures, np.random.default_rng(0).normal(size=(len(pictures), 8)))
    every = {TARGET.key: predictions(1), SOURCE.key: predictions(2)} | results
    index = index_pairs(PAIRS, gallery, 0.5, exclude_source=True)
    return summarise(Measured(PAIRS, gallery, index, real or {}, every), [TARGET.key])


def test_a_candidate_that_chooses_its_source_picture_is_not_measured_against_the_pairs():
    known = {"kept_gaze": np.ones(4), "truth_l1": np.ones(4)}
    chosen = predictions(3, used=np.array([pair.genuine for pair in PAIRS.pairs]), **known)
    scores = scores_of(given=predictions(3, **known), nearest=chosen)
    against_pairs = {*PARTS, "kept_gaze"}
    assert against_pairs <= scores.summary["given"].keys()
    assert scores.summary["nearest"].keys() == scores.summary["given"].keys() - against_pairs
    assert {"given", TARGET.key} == scores.by_yaw.values.keys()


def test_faces_without_landmarks_are_counted_beside_the_expression_error():
    landmarks = np.random.default_rng(4).random((4, 5, 2))
    broken = landmarks.copy()
    broken[0] = np.nan
    names = np.array([pair.source for pair in PAIRS.pairs])
    real = {"name": names, "landmarks": landmarks, "angles": np.zeros((4, 3))}
    every = {TARGET.key: landmarks, SOURCE.key: landmarks, "whole": landmarks, "broken": broken}
    scores = scores_of(real, **{key: predictions(1, landmarks=points) for key, points in every.items()})
    assert scores.summary["whole"]["landmarks_found"].mean == 1
    assert scores.summary["broken"]["landmarks_found"].mean == 0.75
    assert np.isnan(scores.per_pair["broken"]["expression_error"]).tolist() == [True, False, False, False]

"""From predictions to the values of the table: one estimate with its interval for each candidate and metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import GENUINE, SOURCE, TARGET
from simswap_jax.evaluation.gallery import Gallery
from simswap_jax.evaluation.judges.evaluators import Predictions
from simswap_jax.evaluation.metrics import expression, face_parts, identity, reconstruction
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate, jackknife, ratio
from simswap_jax.evaluation.metrics.regions import leakage, third_people
from simswap_jax.evaluation.metrics.yaw import ByYaw, by_yaw
from simswap_jax.evaluation.protocols.protocol import PairList

JACKKNIFE_GROUPS = 20  # of people, left out one by one
LEAST_REAL = 50  # real pictures that FID and KID need beside those that are targets

Summary = Mapping[str, Mapping[str, Estimate]]  # candidate → metric → estimate
PerPair = Mapping[str, Mapping[str, np.ndarray]]  # candidate → metric → value of each pair [K]


@dataclass(frozen=True)
class PairIndex:
    """The protocol's pairs as rows of the gallery, [K] each, and the accept threshold.

    Attributes:
      source, target: the pictures.
      person: the sources' people, by whom intervals are drawn.
      genuine: another picture of that person, -1 where there is none.
      decoy: another pair whose source is neither this pair's source nor its target person; -1 where there is none.
      threshold: the cosine from which on two pictures are taken for one person.
      excluded: the gallery's picture that may not be the nearest one, or None: the paper excludes nothing.
    """

    source: np.ndarray
    target: np.ndarray
    person: np.ndarray
    genuine: np.ndarray
    decoy: np.ndarray
    threshold: float
    excluded: np.ndarray | None

    def subset(self, rows: np.ndarray) -> "PairIndex":
        """Some of them, without decoys, whose indices would be others."""
        return PairIndex(
            self.source[rows],
            self.target[rows],
            self.person[rows],
            self.genuine[rows],
            np.full(len(rows), -1),
            self.threshold,
            None if self.excluded is None else self.excluded[rows],
        )


def index_pairs(pairs: PairList, gallery: Gallery, false_accept_rate: float, exclude_source: bool) -> PairIndex:
    """Find the pairs in the gallery.

    Raises:
      UserError: a picture is not there, or there are too few for the false-accept rate.
    """
    source, target = (gallery.rows([getattr(pair, side) for pair in pairs.pairs]) for side in ("source", "target"))
    genuine = np.full(len(source), -1)
    known = [i for i, pair in enumerate(pairs.pairs) if pair.genuine is not None]
    genuine[known] = gallery.rows([str(pairs.pairs[i].genuine) for i in known])
    person, other = gallery.person[source], gallery.person[target]
    _, impostors = identity.pair_cosines(gallery.vectors, gallery.person)
    try:
        threshold = identity.threshold_at(impostors, false_accept_rate)
    except ValueError as error:
        raise UserError(str(error), "too-few-pictures-for-rate") from error
    decoys = third_people(person, other)
    return PairIndex(source, target, person, genuine, decoys, threshold, source if exclude_source else None)


def identity_metrics(
    gallery: Gallery, index: PairIndex, vectors: np.ndarray, rows: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Identity metrics of vectors [K, D] that should show the sources: arrays [K].

    Args:
      gallery: N pictures.
      index: K pairs.
      vectors: of what is evaluated.
      rows: rows of the gallery that these vectors are, or are made from; they, not the sources, are taken out of the
        gallery then, of single pictures only where ``index`` excludes some.
    """
    out = index.source if rows is None else rows
    centroids = identity.centroids(gallery.vectors, gallery.person, len(gallery.names))
    source, target = gallery.vectors[index.source], gallery.vectors[index.target]
    excluded = index.excluded if rows is None or index.excluded is None else rows
    to_source = identity.cosine(vectors, source)
    return {
        "retrieval": identity.retrieval(vectors, centroids, index.person, gallery.vectors[out]),
        "retrieval_picture": identity.nearest_picture(vectors, gallery.vectors, gallery.person, index.person, excluded),
        "accepted": to_source >= index.threshold,
        "nearer_source": identity.nearer_source(vectors, source, target),
        "cosine_source": to_source,
        "cosine_target": identity.cosine(vectors, target),
    }


def attribute_metrics(
    pairs: PairList,
    results: Predictions,
    targets: Predictions,
    shapes: expression.FaceShapes | None,
    shows_source: bool,
) -> dict[str, np.ndarray]:
    """Pose and expression error against the untouched targets, [K] each, where there are networks for them.

    Where no landmarks were found the expression error is NaN.
    The shape that is taken out of a picture is that of the person whom it should show: the source's if it was swapped.
    """
    values: dict[str, np.ndarray] = {}
    if "angles" in results:
        values["pose_error"] = np.linalg.norm(results["angles"] - targets["angles"], axis=1)
    if shapes is not None:
        sources_people, targets_people = (
            [getattr(pair, side).rsplit("/", 1)[0] for pair in pairs.pairs] for side in ("source", "target")
        )
        shown = sources_people if shows_source else targets_people
        left = expression.expressions(shapes, results["landmarks"], shown, results.get("angles"))
        wanted = expression.expressions(shapes, targets["landmarks"], targets_people, targets.get("angles"))
        values["expression_error"] = expression.expression_error(shapes, left, wanted)
    return values


def face_shapes(real: Predictions) -> expression.FaceShapes | None:
    """The people's face shapes by the landmarks of their real pictures, if there are any.

    Raises:
      UserError: a face was found in none of them.
    """
    if "landmarks" not in real:
        return None
    people = [str(name).rsplit("/", 1)[0] for name in real["name"].tolist()]
    try:
        return expression.fit(real["landmarks"], people, real.get("angles"))
    except ValueError as error:
        raise UserError(
            f"{error.args[0]} Name another landmark network, or leave --landmarks out.", "no-landmarks-found"
        ) from error


def distribution_metrics(features: np.ndarray, real: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """FID and KID (times 1000) of features [K, F] against real pictures' [M, F]; ``groups`` [K] for the intervals."""
    group = np.unique(groups, return_inverse=True)[1] % JACKKNIFE_GROUPS
    if len(np.unique(group)) < 2 or len(features) < 4 or len(real) < 2:
        return {}
    aa, bb, ab = (reconstruction.kernel(*both) for both in ((features, features), (real, real), (features, real)))
    return {
        "fid": jackknife(lambda kept: reconstruction.fid(features[kept], real), group),
        "kid": jackknife(lambda kept: reconstruction.kid_of(aa[np.ix_(kept, kept)], bb, ab[kept]), group).times(1000.0),
    }


def real_features(real: Predictions, pairs: PairList) -> np.ndarray | None:
    """Features of the people's real pictures that are no targets; of all where those are fewer than `LEAST_REAL`."""
    if "features" not in real:
        return None
    used = {pair.target for pair in pairs.pairs}
    spare = np.array([name not in used for name in real["name"].tolist()])
    return real["features"][spare] if spare.sum() >= LEAST_REAL else real["features"]


@dataclass(frozen=True)
class Measured:
    """All predictions of an evaluation.

    Attributes:
      pairs: what was swapped.
      gallery: everybody's pictures.
      index: the pairs in the gallery.
      real: predictions for the people's real pictures.
      results: candidate → predictions for its results, ``source`` and ``target`` among them.
    """

    pairs: PairList
    gallery: Gallery
    index: PairIndex
    real: Predictions
    results: Mapping[str, Predictions]


@dataclass(frozen=True)
class Scores:
    """All metrics of all candidates: with intervals, pair by pair for plots and sheets, and by difference of yaw, where
    there is a pose network.
    """

    summary: Summary
    per_pair: PerPair
    by_yaw: ByYaw | None = None


def summarise(measured: Measured, keeps_target: Sequence[str]) -> Scores:
    """All metrics of all candidates.

    Candidates that chose other pictures of the sources than the pairs' (``used``) get no leakage, no ``kept_`` metrics
    and no difference of yaw: these are measured against the pairs' pictures, which their results were not made from.

    Args:
      measured: the predictions.
      keeps_target: keys of the candidates that show the target's identity still.
    """
    gallery, index = measured.gallery, measured.index
    shapes, real = face_shapes(measured.real), real_features(measured.real, measured.pairs)
    target, source = measured.results[TARGET.key], measured.results[SOURCE.key]
    per_pair: dict[str, dict[str, np.ndarray]] = {}
    summary: dict[str, dict[str, Estimate]] = {}
    for key, results in measured.results.items():
        if key == SOURCE.key:
            continue
        used = gallery.rows(results["used"].tolist()) if "used" in results else None
        values = identity_metrics(gallery, index, results["vectors"], used)
        values |= attribute_metrics(measured.pairs, results, target, shapes, key not in keeps_target)
        if shapes is not None:
            values["landmarks_found"] = np.asarray(np.isfinite(results["landmarks"]).all(axis=(1, 2)))
        kinds = ("self_", "truth_", "kept_") if used is None else ("self_", "truth_")
        values |= {name: results[name] for name in results if name.startswith(kinds)}
        per_pair[key] = values
        estimates = means(values, index.person)
        estimates["sharpness"] = ratio(results["laplacian"], target["laplacian"], index.person)
        if shapes is not None:
            estimates |= face_parts.follows(results["landmarks"], target["landmarks"], index.person)
        if used is None:
            estimates |= leakage(results, target, source, index.decoy, index.person)
        if real is not None:
            estimates |= distribution_metrics(results["features"], real, index.person)
        summary[key] = estimates
    binned = None
    if "angles" in source:
        of_pairs = {key: values for key, values in per_pair.items() if "used" not in measured.results[key]}
        binned = by_yaw(of_pairs, source["angles"][:, 0], target["angles"][:, 0], index.person)
    known = np.flatnonzero(index.genuine >= 0)
    if len(known):
        some = index.subset(known)
        some = replace(some, excluded=some.genuine)  # the nearest picture to each is itself
        per_pair[GENUINE] = identity_metrics(gallery, some, gallery.vectors[some.genuine], some.genuine)
        summary[GENUINE] = {name: estimate(array, some.person) for name, array in per_pair[GENUINE].items()}
    return Scores(summary, per_pair, binned)


def means(values: Mapping[str, np.ndarray], groups: np.ndarray) -> dict[str, Estimate]:
    """Means with intervals of the metrics [K] that were measured at all."""
    return {name: estimate(array, groups) for name, array in values.items() if np.isfinite(array).any()}

"""From what the judges saw to the numbers of the table: one estimate with its interval for each row and measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.evaluation.candidates import SOURCE, TARGET, WITNESS
from simswap_jax.evaluation.judges.predictions import Sight
from simswap_jax.evaluation.metrics import distribution, expression, identity
from simswap_jax.evaluation.metrics.intervals import Estimate, estimate, jackknife, ratio
from simswap_jax.evaluation.metrics.regions import CELLS, share
from simswap_jax.evaluation.protocols.pairs import Protocol
from simswap_jax.evaluation.runner import Album

LEFT_OUT = 20  # groups of people that the jackknife leaves out one by one
LEAST_REAL = 50  # real pictures that FID and KID need beside those that are targets


@dataclass(frozen=True)
class Pairs:
    """The protocol's pairs as rows of the album, [K] each, and the accept threshold.

    Attributes:
      source, target: the pictures.
      person: the sources' people, by whom intervals are drawn.
      witness: another picture of that person, -1 where there is none.
      decoy: another pair whose source is neither this pair's source nor its target person; -1 where there is none.
      threshold: the cosine from which on the judge takes two pictures for one person.
      barred: the gallery's picture that may not be the nearest one, or None: the paper bars nothing.
    """

    source: np.ndarray
    target: np.ndarray
    person: np.ndarray
    witness: np.ndarray
    decoy: np.ndarray
    threshold: float
    barred: np.ndarray | None

    def some(self, rows: np.ndarray) -> "Pairs":
        """These of them, without decoys, whose numbers would be others."""
        barred = None if self.barred is None else self.barred[rows]
        none: np.ndarray = np.full(len(rows), -1)
        return Pairs(
            self.source[rows], self.target[rows], self.person[rows], self.witness[rows], none, self.threshold, barred
        )


def placed(plan: Protocol, album: Album, false_accepts: float, bar_source: bool) -> Pairs:
    """Find the pairs in the album.

    Raises:
      UserError: a picture is not there, or there are too few for the false-accept rate.
    """
    source, target = (album.rows([getattr(pair, side) for pair in plan.pairs]) for side in ("source", "target"))
    witness = np.full(len(source), -1)
    seen = [i for i, pair in enumerate(plan.pairs) if pair.witness is not None]
    witness[seen] = album.rows([str(plan.pairs[i].witness) for i in seen])
    person, other = album.person[source], album.person[target]
    _, impostors = identity.pair_cosines(album.vectors, album.person)
    try:
        threshold = identity.threshold_at(impostors, false_accepts)
    except ValueError as error:
        raise UserError(str(error)) from error
    return Pairs(source, target, person, witness, decoys(person, other), threshold, source if bar_source else None)


def decoys(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """For each pair the next one (going round) whose source is a third person: int [K], -1 where there is none."""
    count = len(source)
    found = np.full(count, -1)
    for i in range(count):
        for step in range(1, count):
            j = (i + step) % count
            if source[j] not in (source[i], target[i]):
                found[i] = j
                break
    return found


def of_identity(
    album: Album, pairs: Pairs, vectors: np.ndarray, judged: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The judge's verdict on vectors [K, D] that should show the sources: arrays [K].

    Args:
      album: the gallery.
      pairs: K of them.
      vectors: what is judged.
      judged: rows of the album that these very vectors are; they, not the sources, are taken out of the gallery then.
    """
    out = pairs.source if judged is None else judged
    everybody = identity.gallery(album.vectors, album.person, len(album.names))
    source, target = album.vectors[pairs.source], album.vectors[pairs.target]
    barred = pairs.barred if judged is None else judged
    to_source = identity.cosine(vectors, source)
    return {
        "retrieval": identity.retrieval(vectors, everybody, pairs.person, album.vectors[out]),
        "retrieval_picture": identity.nearest_picture(vectors, album.vectors, album.person, pairs.person, barred),
        "accepted": to_source >= pairs.threshold,
        "nearer_source": identity.nearer_source(vectors, source, target),
        "cosine_source": to_source,
        "cosine_target": identity.cosine(vectors, target),
    }


def of_attributes(
    plan: Protocol, row: Sight, target: Sight, shapes: expression.FaceShapes | None, swapped: bool
) -> dict[str, np.ndarray]:
    """Pose and expression error against the untouched targets, [K] each, where there are judges of them.

    The shape that is taken out of a picture is that of the person whom it should show: the source's if it was swapped.
    """
    values: dict[str, np.ndarray] = {}
    if "angles" in row:
        values["pose_error"] = np.linalg.norm(row["angles"] - target["angles"], axis=1)
    if shapes is not None:
        sources, targets = ([getattr(p, side).rsplit("/", 1)[0] for p in plan.pairs] for side in ("source", "target"))
        shown = sources if swapped else targets
        left = expression.expressions(shapes, row["landmarks"], shown, row.get("angles"))
        aim = expression.expressions(shapes, target["landmarks"], targets, target.get("angles"))
        values["expression_error"] = expression.expression_error(shapes, left, aim)
    return values


def shapes_of(known: Sight) -> expression.FaceShapes | None:
    """What the real pictures say of landmarks, if somebody looked for them."""
    if "landmarks" not in known:
        return None
    people = [str(name).rsplit("/", 1)[0] for name in known["name"].tolist()]
    try:
        return expression.fit(known["landmarks"], people, known.get("angles"))
    except ValueError as error:
        raise UserError(f"{error.args[0]} Name another landmark network, or leave --landmarks out.") from error


def leakage(row: Sight, target: Sight, source: Sight, decoy: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """What of the source beyond identity came through: 0 nothing, 1 everything.

    a(s) = Σ (r − t)·(s − t) / Σ |s − t|² says how far the results went from target towards a picture. A result that is
    merely paler or blurred goes towards everybody, so the share towards a third person's picture (the decoy d) is taken
    off, and the scale is set so that the source itself scores 1: (a(s) − a(d)) / (1 − a(d) of the source itself).
    """
    kept = decoy >= 0
    if not kept.any():
        return {}
    upper = np.arange(CELLS) < CELLS // 2
    parts = {
        "leak_hair": lambda seen: seen["surroundings"][:, upper],
        "leak_background": lambda seen: seen["surroundings"][:, ~upper],
        "leak_light": lambda seen: seen["light"],
    }
    found = {}
    for name, part in parts.items():
        r, t, s = (part(seen)[kept] for seen in (row, target, source))
        d = part(source)[decoy[kept]]
        own, way = share(r, t, s)
        other, away = share(r, t, d)
        whole, _ = share(s, t, d)
        if way.sum() == 0 or away.sum() == 0:
            continue
        scale = 1.0 - whole.sum() / away.sum()
        if scale > 1e-6:
            found[name] = estimate((own / way.mean() - other / away.mean()) / scale, groups[kept])
    return found


def of_sets(features: np.ndarray, real: np.ndarray, groups: np.ndarray) -> dict[str, Estimate]:
    """FID and KID (times 1000) of a row's features [K, F] against real pictures' [M, F]."""
    group = np.unique(groups, return_inverse=True)[1] % LEFT_OUT
    if len(np.unique(group)) < 2 or len(features) < 4 or len(real) < 2:
        return {}
    aa, bb, ab = (distribution.kernel(*both) for both in ((features, features), (real, real), (features, real)))
    return {
        "fid": jackknife(lambda kept: distribution.fid(features[kept], real), group),
        "kid": jackknife(lambda kept: distribution.kid_of(aa[np.ix_(kept, kept)], bb, ab[kept]), group).times(1000.0),
    }


def real_features(known: Sight, plan: Protocol) -> np.ndarray:
    """Features of the people's real pictures that are no targets; of all where those are fewer than `LEAST_REAL`."""
    used = {pair.target for pair in plan.pairs}
    spare = np.array([name not in used for name in known["name"].tolist()])
    return known["features"][spare] if spare.sum() >= LEAST_REAL else known["features"]


def summarise(
    plan: Protocol, album: Album, pairs: Pairs, known: Sight, seen: Mapping[str, Sight], unswapped: Sequence[str]
) -> tuple[dict[str, dict[str, Estimate]], dict[str, dict[str, np.ndarray]]]:
    """All numbers.

    Args:
      plan: the protocol.
      album: the gallery.
      pairs: of `placed`.
      known: what the judges saw in the people's real pictures.
      seen: what they saw in each row's, `SOURCE` and `TARGET` among them.
      unswapped: keys of the rows that still show the target's person.

    Returns:
      row → measure → estimate, and row → measure → each pair's value, for plots and sheets.
    """
    shapes, target, source = shapes_of(known), seen[TARGET.key], seen[SOURCE.key]
    real = real_features(known, plan) if "features" in known else None
    each: dict[str, dict[str, np.ndarray]] = {}
    summary: dict[str, dict[str, Estimate]] = {}
    for key, row in seen.items():
        if key == SOURCE.key:
            continue
        values = of_identity(album, pairs, row["vectors"])
        values |= of_attributes(plan, row, target, shapes, key not in unswapped)
        values |= {name: row[name] for name in row if name.startswith(("self_", "truth_"))}
        each[key] = values
        numbers = {name: estimate(array, pairs.person) for name, array in values.items() if np.isfinite(array).any()}
        numbers["sharpness"] = ratio(row["laplacian"], target["laplacian"], pairs.person)
        numbers |= leakage(row, target, source, pairs.decoy, pairs.person)
        if real is not None:
            numbers |= of_sets(row["features"], real, pairs.person)
        summary[key] = numbers
    there = np.flatnonzero(pairs.witness >= 0)
    if len(there):
        some = pairs.some(there)
        each[WITNESS] = of_identity(album, some, album.vectors[some.witness], some.witness)
        summary[WITNESS] = {name: estimate(array, some.person) for name, array in each[WITNESS].items()}
    return summary, each

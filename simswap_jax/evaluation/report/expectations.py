"""What the papers claim of each method, as sentences that a comparison's numbers show or do not show.

Shown is what holds with both 95 % intervals apart, or, of "at or above", what is not below the other's interval;
everything else is not shown here, with the two numbers, or cannot be asked of these rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simswap_jax.evaluation.candidates import GENUINE, TARGET
from simswap_jax.evaluation.metrics.intervals import Estimate
from simswap_jax.evaluation.metrics.summary import Summary
from simswap_jax.evaluation.metrics.yaw import BINS, ByYaw

SHOWN, NOT_SHOWN, NOT_ASKED = "shown", "not shown here", "not asked"
WARP = "warp_tps"
WARPED = "warp_"  # how rows of warped sources are called
SIMSWAP, FACESHIFTER, DEEPFAKES, IPGAN = "simswap", "faceshifter", "deepfakes", "ipgan"


@dataclass(frozen=True)
class Evaluated:
    """One evaluation.

    Attributes:
      summary: row → metric → estimate.
      by_yaw: by difference of yaw, where there is a pose network.
      left_out: row → why it is not there.
      people: how many are swapped.
    """

    summary: Summary
    by_yaw: ByYaw | None
    left_out: Mapping[str, str]
    people: int

    def value(self, row: str, metric: str) -> Estimate | None:
        """One estimate, where it was measured."""
        return self.summary.get(row, {}).get(metric)


@dataclass(frozen=True)
class Expectation:
    """A sentence, whether it was shown, and the two numbers, or in their place why there are none."""

    claim: str
    outcome: str
    first: str
    second: str = ""


def expectations(held_out: Evaluated, known: Evaluated, methods: Sequence[str]) -> list[Expectation]:
    """All sentences about rows that are there.

    Args:
      held_out: of people whom no method was trained on.
      known: of held-out pictures of people whom every method was trained on.
      methods: the compared rows, those without training among them.
    """
    found: list[Expectation] = []
    if DEEPFAKES in methods:
        found += [finds_known(known), refuses_others(held_out)]
    if {IPGAN, SIMSWAP} <= {*methods}:
        claim = "IPGAN's self-swaps are further from the target than SimSwap's (PSNR, dB)"
        found.append(below(claim, held_out, "self_psnr", (IPGAN, SIMSWAP), 2))
    if {FACESHIFTER, SIMSWAP} <= {*methods}:
        found += [identity_at_or_above(held_out), keeps_less(held_out)]
    if WARP in methods:
        found += [leaks_light(held_out, methods), falls_with_yaw(held_out)]
    if SIMSWAP in methods:
        found.append(best_pose(held_out, methods))
    return found


def below(claim: str, where: Evaluated, metric: str, rows: tuple[str, str], digits: int) -> Expectation:
    """Whether the first row lies below the second in a metric."""
    low, high = (where.value(row, metric) for row in rows)
    if low is None or high is None:
        return Expectation(claim, NOT_ASKED, "not measured")
    return Expectation(claim, outcome(low.high < high.low), *two(rows, (low, high), digits))


def outcome(shown: bool) -> str:
    """The word for it."""
    return SHOWN if shown else NOT_SHOWN


def two(rows: tuple[str, str], values: tuple[Estimate, Estimate], digits: int) -> list[str]:
    """Two rows with their estimates."""
    return [f"{row} {value.text(digits)}" for row, value in zip(rows, values)]


def finds_known(known: Evaluated) -> Expectation:
    """DeepFakes shows the people it was trained on: whom the recogniser takes its results for."""
    claim = "DeepFakes finds the source among the people it was trained on"
    value = known.value(DEEPFAKES, "retrieval")
    if value is None:
        return Expectation(claim, NOT_ASKED, known.left_out.get(DEEPFAKES, "not measured"))
    chance = 1.0 / max(1, known.people)
    at_random = f"one of its {known.people} people at random {chance:.3f}"
    return Expectation(claim, outcome(value.low > chance), f"ID retrieval {value.text(3)}", at_random)


def refuses_others(held_out: Evaluated) -> Expectation:
    """And can show nobody else."""
    claim = "DeepFakes refuses people it was not trained on"
    reason = held_out.left_out.get(DEEPFAKES)
    said = "left out, with the reason below" if reason else "it swapped people whom it was not trained on"
    return Expectation(claim, outcome(reason is not None), said)


def identity_at_or_above(held_out: Evaluated) -> Expectation:
    """FaceShifter's identity is not below SimSwap's."""
    claim = "FaceShifter's identity is at or above SimSwap's (cosine to the source)"
    rows = (FACESHIFTER, SIMSWAP)
    theirs, ours = (held_out.value(row, "cosine_source") for row in rows)
    if theirs is None or ours is None:
        return Expectation(claim, NOT_ASKED, "not measured")
    if not shows_identity(held_out, SIMSWAP):
        return Expectation(claim, NOT_ASKED, *two(rows, (theirs, ours), 3))
    return Expectation(claim, outcome(theirs.mean >= ours.low), *two(rows, (theirs, ours), 3))


def shows_identity(held_out: Evaluated, row: str) -> bool:
    """Whether a row is nearer to the source than the untouched target is."""
    theirs, none = (held_out.value(one, "cosine_source") for one in (row, TARGET.key))
    return theirs is not None and (none is None or theirs.low > none.high)


def keeps_less(held_out: Evaluated) -> Expectation:
    """FaceShifter keeps less of the target's gaze or mouth; on photos its expression error is larger."""
    claim, rows = "FaceShifter keeps less of the target's gaze or mouth than SimSwap", (FACESHIFTER, SIMSWAP)
    checks = [below(f"{claim} ({part})", held_out, f"kept_{part}", rows, 3) for part in ("gaze", "mouth")]
    asked = [check for check in checks if check.outcome != NOT_ASKED]
    if asked:
        return next((check for check in asked if check.outcome == SHOWN), asked[-1])
    return below(f"{claim} (expression error, %)", held_out, "expression_error", (SIMSWAP, FACESHIFTER), 2)


def leaks_light(held_out: Evaluated, methods: Sequence[str]) -> Expectation:
    """A warped source brings its light along, more than any method that redraws the target."""
    claim = "A warped source brings its light along, more than any trained method"
    ours = held_out.value(WARP, "leak_light")
    others = {
        row: value
        for row in methods
        if not row.startswith(WARPED) and (value := held_out.value(row, "leak_light")) is not None
    }
    if ours is None or not others:
        return Expectation(claim, NOT_ASKED, "not measured")
    worst = max(others, key=lambda row: others[row].high)
    return Expectation(claim, outcome(ours.low > others[worst].high), *two((WARP, worst), (ours, others[worst]), 3))


def falls_with_yaw(held_out: Evaluated) -> Expectation:
    """A warped source loses identity where source and target look in different directions."""
    claim = "A warped source loses identity with the difference of yaw (cosine to the source)"
    bins = held_out.by_yaw.values.get(WARP, {}).get("cosine_source") if held_out.by_yaw else None
    here = [(label, value) for label, value in zip(BINS, bins or ()) if value is not None]
    if len(here) < 2:
        return Expectation(claim, NOT_ASKED, "not measured")
    (near, first), (far, last) = here[0], here[-1]
    return Expectation(claim, outcome(last.high < first.low), *two((near, far), (first, last), 3))


def best_pose(held_out: Evaluated, methods: Sequence[str]) -> Expectation:
    """Nobody with SimSwap's identity keeps the pose as well."""
    claim = "SimSwap keeps pose best among the methods with its identity (pose error, °)"
    identity, pose = held_out.value(SIMSWAP, "cosine_source"), held_out.value(SIMSWAP, "pose_error")
    if identity is None or pose is None:
        return Expectation(claim, NOT_ASKED, "not measured")
    if not shows_identity(held_out, SIMSWAP):
        return Expectation(claim, NOT_ASKED, "simswap shows none", f"cosine to the source {identity.text(3)}")
    rivals = {
        row: error
        for row in methods
        if row != SIMSWAP
        and (cosine := held_out.value(row, "cosine_source")) is not None
        and cosine.high >= identity.low
        and (error := held_out.value(row, "pose_error")) is not None
    }
    if not rivals:
        return Expectation(claim, NOT_ASKED, "no other row has it", f"cosine to the source {identity.text(3)}")
    best = min(rivals, key=lambda row: rivals[row].mean)
    return Expectation(claim, outcome(pose.high < rivals[best].low), *two((SIMSWAP, best), (pose, rivals[best]), 2))


def above_real(held_out: Evaluated, methods: Sequence[str]) -> list[str]:
    """Rows nearer to the source than another real picture of the same person is: they have copied what is measured."""
    real = held_out.value(GENUINE, "cosine_source")
    values = {row: held_out.value(row, "cosine_source") for row in methods}
    return [row for row, value in values.items() if real is not None and value is not None and value.low > real.high]

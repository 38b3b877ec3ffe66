"""The plots of an evaluation: ROC, histograms of cosines, identity against attribute."""

from collections.abc import Mapping, Sequence

import numpy as np

from simswap_jax.evaluation.gallery import Gallery
from simswap_jax.evaluation.metrics import identity
from simswap_jax.evaluation.metrics.summary import Scores, Summary
from simswap_jax.io.html_report import Curve, Scatter

MOST_LINES = 6  # of one plot: as many as there are colours
BINS = 40

# (x, y): metrics, and what the axes are called
TRADES = (
    ("retrieval_picture", "self_l1", "ID retrieval", "reconstruction L1"),
    ("cosine_source", "pose_error", "cosine to source", "pose error, °"),
    ("cosine_source", "expression_error", "cosine to source", "expression error, %"),
    ("retrieval_picture", "truth_l1", "ID retrieval", "L1 to the ground truth"),
)


def plots(gallery: Gallery, scores: Scores, titles: Mapping[str, str], keys: Sequence[str]) -> list[Curve | Scatter]:
    """All plots of the candidates ``keys``, beside real pairs and the untouched target."""
    genuine, impostors = identity.pair_cosines(gallery.vectors, gallery.person)
    shown = [*keys[: MOST_LINES - 2], "target"]
    lines = {titles[key]: scores.per_pair[key]["cosine_source"] for key in shown}
    real = {"real pairs, same person": genuine} if len(genuine) else {}
    return [
        roc_curve({**real, **lines}, impostors),
        histogram("Cosine to the source", {**real, "real pairs, different people": impostors, **lines}),
        histogram("Cosine to the target", {titles[key]: scores.per_pair[key]["cosine_target"] for key in shown[:-1]}),
        *trade_offs(scores.summary, titles, [*keys, "target", "pasted"]),
    ]


def roc_curve(genuine: Mapping[str, np.ndarray], impostors: np.ndarray) -> Curve:
    """True accepts over the logarithm of false accepts.

    Args:
      genuine: what → cosines [K] of pairs that should be taken for one person.
      impostors: cosines [N] of real pictures of different people, which set the thresholds.
    """
    rates = np.logspace(np.log10(max(1.0 / len(impostors), 1e-5)), -0.01, 60)
    lines = {
        name: (np.log10(rates).tolist(), identity.roc(cosines, impostors, rates).tolist())
        for name, cosines in list(genuine.items())[:MOST_LINES]
    }
    return Curve("ROC: true accepts at a false-accept rate", lines, "log₁₀ of the false-accept rate")


def histogram(title: str, cosines: Mapping[str, np.ndarray]) -> Curve:
    """How cosines are spread: density over cosine, one stepped line each."""
    edges = np.linspace(-0.4, 1.0, BINS + 1)
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for name, values in list(cosines.items())[:MOST_LINES]:
        density = np.histogram(np.clip(values, edges[0], edges[-1]), edges, density=True)[0]
        lines[name] = (np.repeat(edges, 2)[1:-1].tolist(), np.repeat(density, 2).tolist())
    return Curve(title, lines, "cosine")


def trade_offs(summary: Summary, titles: Mapping[str, str], keys: Sequence[str]) -> list[Scatter]:
    """Identity against attribute, a point per candidate, as in the paper's figure of its ablation."""
    scatters = []
    for across, up, x_label, y_label in TRADES:
        points = {
            titles[key]: (summary[key][across].mean, summary[key][up].mean)
            for key in keys
            if across in summary[key] and up in summary[key]
        }
        if points:
            scatters.append(Scatter(f"{x_label} against {y_label}", points, x_label, y_label))
    return scatters

"""FID and KID against their formulas."""

import cv2
import numpy as np
import pytest

from simswap_jax.contrib.rendered.identity_judge import pretrained
from simswap_jax.evaluation.judges.networks import IdentityFeatures
from simswap_jax.evaluation.metrics import reconstruction


def kid(a, b):
    return reconstruction.kid_of(*(reconstruction.kernel(*both) for both in ((a, a), (b, b), (a, b))))


def test_fid_of_a_set_with_itself_is_zero_and_grows_with_blur(drawn):
    pictures, _, _ = drawn
    judge = IdentityFeatures(pretrained())
    real = judge.features(list(pictures))
    blurred = [judge.features([cv2.GaussianBlur(p, (0, 0), sigma) for p in pictures]) for sigma in (1.0, 2.0, 4.0)]
    assert reconstruction.fid(real, real) == pytest.approx(0, abs=1e-6)
    fids = [reconstruction.fid(features, real) for features in blurred]
    kids = [kid(features, real) for features in blurred]
    assert 0.01 < fids[0] < fids[1] < fids[2]
    assert kids[0] < kids[1] < kids[2]
    assert kid(real[::2], real[1::2]) < 0.25 * kids[2]  # unbiased: it may be below 0


def test_fid_of_gaussians_is_its_formula():
    """Against the matrix root, for more rows than columns and for fewer."""
    random = np.random.default_rng(0)
    for n, m in ((60, 50), (6, 5)):
        a, b = random.normal(0, 1, (n, 8)), random.normal(0.5, 2, (m, 8)) @ random.normal(size=(8, 8))
        cov_a, cov_b = np.cov(a.T), np.cov(b.T)
        roots = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
        mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
        wanted = mean + np.trace(cov_a) + np.trace(cov_b) - 2 * roots
        assert reconstruction.fid(a, b) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="two pictures"):
        reconstruction.fid(a[:1], b)


def test_kid_is_its_sums_written_out():
    random = np.random.default_rng(1)
    a, b = random.normal(size=(4, 3)), random.normal(size=(5, 3))

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    within = [np.mean([k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (a, b)]
    between = np.mean([k(x, y) for x in a for y in b])
    assert kid(a, b) == pytest.approx(sum(within) - 2 * between)

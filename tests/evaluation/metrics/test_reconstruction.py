"""L1, PSNR and SSIM against their formulas."""

import numpy as np
import pytest

from simswap_jax.evaluation.metrics import reconstruction
from tests.support.small_model import faces


def test_l1_and_psnr_of_known_differences():
    a = np.full((2, 16, 16, 3), 100, np.uint8)
    b = a.copy()
    b[1] += 51  # a fifth of the range
    np.testing.assert_allclose(reconstruction.l1(a, b), [0, 0.2])
    np.testing.assert_allclose(reconstruction.psnr(a, b), [99, -20 * np.log10(0.2)])


def test_ssim_is_one_for_equal_and_follows_its_formula():
    pictures = faces(2, 32)
    np.testing.assert_allclose(reconstruction.ssim(pictures, pictures), 1)
    noise = np.random.default_rng(0).integers(-40, 40, pictures.shape)
    worse = np.clip(pictures + noise, 0, 255).astype(np.uint8)
    assert (reconstruction.ssim(pictures, worse) < 0.9).all()
    # Two flat greys x, y: only the means count, (2xy + C1) / (x² + y² + C1).
    x, y = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    np.testing.assert_allclose(reconstruction.ssim(x, y), (2 * 15000 + c1) / (10000 + 22500 + c1), rtol=1e-6)
    with pytest.raises(ValueError, match="11×11"):
        reconstruction.ssim(x[:, :8], y[:, :8])


def test_ssim_against_the_window_written_out():
    x, y = faces(2, 24).astype(np.float64)
    luma = np.array([0.299, 0.587, 0.114])
    x, y = x @ luma, y @ luma
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2
    values = []
    for i in range(14):
        for j in range(14):
            p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            cov = (window * (p - mp) * (q - mq)).sum()
            c1, c2 = 2.55**2, 7.65**2
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    np.testing.assert_allclose(reconstruction.ssim(*faces(2, 24)[:, None]), np.mean(values), rtol=1e-6)

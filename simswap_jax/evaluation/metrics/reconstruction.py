"""L1, PSNR and SSIM of self-swaps; FID and KID, which compare sets of pictures."""

import cv2
import numpy as np

from simswap_jax.io.images import LUMA


def l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pair, in [0, 1]: uint8 [K, H, W, 3] twice → float64 [K]."""
    return np.abs(_values(a) - _values(b)).mean(axis=(1, 2, 3))


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each pair in dB: uint8 [K, H, W, 3] twice → float64 [K]; 99 for equal pictures.

    10·log10(1 / mean (a − b)²) with values in [0, 1].
    """
    error = ((_values(a) - _values(b)) ** 2).mean(axis=(1, 2, 3))
    return np.minimum(-10.0 * np.log10(np.maximum(error, 1e-20)), 99.0)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair (Wang et al. 2004): uint8 [K, H, W, 3] twice → float64 [K], 1 for equal ones.

    On the luma, with the paper's Gaussian window of σ 1.5 over 11 pixels, K₁ 0.01, K₂ 0.03; windows that reach over the
    edge are left out. H and W must be at least 11.

    Raises:
      ValueError: the pictures are smaller than the window.
    """
    if min(a.shape[1:3]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11×11 pixels, not {a.shape[2]}×{a.shape[1]}.")
    return np.array([_ssim(_luma(x), _luma(y)) for x, y in zip(a, b)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of two luma pictures, float64 [H, W], 0…255."""

    def window(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = window(x), window(y)
    vx, vy, vxy = window(x * x) - mx * mx, window(y * y) - my * my, window(x * y) - mx * my
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())


def _luma(picture: np.ndarray) -> np.ndarray:
    """ITU-R BT.601 luma of a uint8 RGB picture, float64 0…255."""
    return picture.astype(np.float64) @ LUMA


def _values(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(pictures, np.float64) / 255.0


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features (Heusel et al. 2017): float [N, D], [M, D]; at least two rows each.

    |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½). The trace of the root is the sum of the singular values of Xa Xbᵀ, X the
    centred features over √(N − 1), so that only an N×M matrix is decomposed and nothing of size D×D. Few pictures make
    it too large: compare only values of equal counts.

    Raises:
      ValueError: fewer than two rows.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a distance of sets needs two pictures in each; there are {len(a)} and {len(b)}.")
    mean = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    x, y = (_small((f - f.mean(axis=0)) / np.sqrt(len(f) - 1)) for f in (a, b))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(mean + (x**2).sum() + (y**2).sum() - 2.0 * root, 0.0))


def _small(centred: np.ndarray) -> np.ndarray:
    """Rows [N, D] as at most D rows with the same second moments, xᵀx: the R of a QR decomposition."""
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The kernel of KID (Bińkowski et al. 2018), (x·y / D + 1)³: float [N, D], [M, D] → float64 [N, M]."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def kid_of(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    """Kernel distance of two sets of features, unbiased, so it can be below 0; at least two of each.

    The squared maximum mean discrepancy without its diagonals, from kernels [N, N], [M, M], [N, M].
    """
    n, m = len(aa), len(bb)
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2.0 * ab.mean())

"""How much of a picture is lost when a face is swapped with itself: L1, PSNR and SSIM of 8-bit pictures."""

import cv2
import numpy as np


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
    return picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _values(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(pictures, np.float64) / 255.0

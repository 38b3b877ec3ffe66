"""How the set of results differs from the set of real pictures: FID and KID, on features of any network."""

import numpy as np


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two sets of features (Heusel et al. 2017): float [N, D], [M, D]; at least two rows each.

    |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½). The trace of the root is the sum of the singular values of Xa Xbᵀ, X the
    centred features over √(N − 1), so that only an N×M matrix is decomposed and nothing of size D×D. Few pictures make
    it too large: compare only values of equal counts.

    Raises:
      ValueError: fewer than two rows.
    """
    a, b = _checked(a, b)
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


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Kernel distance of two sets of features, unbiased, so it can be below 0: float [N, D], [M, D]."""
    a, b = _checked(a, b)
    return kid_of(kernel(a, a), kernel(b, b), kernel(a, b))


def kid_of(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    """The same from kernels [N, N], [M, M], [N, M]: the squared maximum mean discrepancy without its diagonals."""
    n, m = len(aa), len(bb)
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2.0 * ab.mean())


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a distance of sets needs two pictures in each; there are {len(a)} and {len(b)}.")
    return a, b

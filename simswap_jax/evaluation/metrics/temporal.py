"""Temporal stability of a swapped clip: does the result move as the target does, and stay who it is?

Clips are uint8 RGB [T, H, W, 3], masks float32 [T, H, W].
"""

import cv2
import numpy as np

from simswap_jax.evaluation.metrics.identity import cosine

BLOCK = 8  # pairs of frames resampled together by the bootstrap: neighbours flicker together


def warp_error(clip: np.ndarray, moved_as: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How a clip changes beyond its own motion: float64 [T − 1], L1 of values 0 to 1 inside the face.

    Each frame is fetched from the one before by the optical flow of ``moved_as`` (the target's clip: the same motion is
    asked of the result) and compared with what is there.
    """
    height, width = clip.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in moved_as]
    errors = []
    for now in range(1, len(clip)):
        back = finder.calc(grey[now], grey[now - 1], None)
        fetched = cv2.remap(clip[now - 1], grid + back, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = np.abs(fetched.astype(np.float64) - clip[now]).mean(axis=-1) / 255.0
        errors.append(float((difference * masks[now]).sum() / masks[now].sum()))
    return np.array(errors)


def identity_jitter(vectors: np.ndarray) -> np.ndarray:
    """1 − cosine of the identity vectors [T, D] of neighbouring frames: float64 [T − 1]."""
    return 1.0 - cosine(vectors[1:], vectors[:-1])


def jitter(values: np.ndarray) -> np.ndarray:
    """How values [T, …] (angles, landmarks) tremble: |xₜ₋₁ − 2 xₜ + xₜ₊₁|, 0 for steady motion: float64 [T − 2]."""
    second = np.diff(np.asarray(values, np.float64), n=2, axis=0)
    return np.sqrt((second.reshape(len(second), -1) ** 2).sum(axis=1))


def blocks(count: int) -> np.ndarray:
    """Groups for the bootstrap of ``count`` neighbouring values: int [count]."""
    return np.arange(count) // BLOCK

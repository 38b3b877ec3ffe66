"""Weights, images and identity vectors of the golden files, made by the rule of their definition from (seed, name).

``golden/`` holds what the public PyTorch networks answered under these weights, float32 on a CPU, and the networks'
keys and shapes in order (``state_dict_layouts.json``).
"""

import functools
import json
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    """The arrays of one golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@functools.cache
def layouts():
    """Network → key → shape, in PyTorch's order."""
    return json.loads((GOLDEN / "state_dict_layouts.json").read_text())


def _generator(seed, text):
    return np.random.default_rng([seed, zlib.crc32(text.encode())])


def state_dict(network, layout=None, seed=0):
    """The network's weights under PyTorch's names, in its order."""
    gain = 0.7 if network.startswith("arcface") else 2.0
    shapes = layouts()[layout or network]
    return {key: _leaf(key, tuple(shape), _generator(seed, f"{network}/{key}"), gain) for key, shape in shapes.items()}


def projected_state_dict(seed=0):
    """The projected discriminator's weights; u and v after twenty power iterations."""
    found = {}
    for key, shape in layouts()["projected_discriminator"].items():
        found[key] = _leaf(key, tuple(shape), _generator(seed, f"projected/{key}"), 2.0)
    for key in [key for key in found if key.endswith("weight_u")]:
        stem = key.removesuffix("_u")
        matrix = found[f"{stem}_orig"].reshape(len(found[key]), -1)
        u = found[key] / np.linalg.norm(found[key])
        for _ in range(20):
            v = matrix.T @ u / np.linalg.norm(matrix.T @ u)
            u = matrix @ v / np.linalg.norm(matrix @ v)
        found[key], found[f"{stem}_v"] = u, v
    return found


def _leaf(key, shape, rng, gain):
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    a = rng.standard_normal(shape, np.float32)
    if last == "running_var":
        return 1 + np.float32(0.1) * np.abs(a)
    if last in ("running_mean", "bias"):
        return np.float32(0.1) * a
    if len(shape) == 1:
        return np.float32(0.25) + np.float32(0.05) * a if shape == (1,) else 1 + np.float32(0.1) * a
    return a * np.float32(np.sqrt(gain / np.prod(shape[1:])))


def image(name, shape, seed=0):
    """Random pixels in [0,1), [B,H,W,3]."""
    return _generator(seed, f"image/{name}").random(shape, np.float32)


def latent(name, n=2, seed=0):
    """Identity vectors of length one, [n,512]."""
    a = _generator(seed, f"latent/{name}").standard_normal((n, 512), np.float32)
    return a / np.linalg.norm(a, axis=1, keepdims=True)


def repeated(small, times):
    """Every pixel of [B,H,W,3] as a square of times × times."""
    return small.repeat(times, 1).repeat(times, 2)


def assert_golden(actual, expected, tolerance=1e-4):
    """Within a part of the golden's own largest value, everywhere."""
    actual = np.asarray(actual)
    assert actual.shape == expected.shape
    worst = np.abs(actual.astype(np.float64) - expected).max() / np.abs(expected).max()
    assert worst <= tolerance, f"off by {worst:.2e} of the largest value"


def assert_norms(actual, expected):
    """Gradient norms: a bias in front of a batch norm has none but rounding, hence the second term."""
    assert actual.keys() == expected.keys()
    largest = max(expected.values())
    wrong = {k: (actual[k], v) for k, v in expected.items() if not abs(actual[k] - v) <= 1e-3 * v + 1e-6 * largest}
    assert not wrong, wrong

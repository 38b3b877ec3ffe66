"""A loss of your own: a function, named in the experiment. `python examples/custom_loss.py` trains 20 steps with one.

``edges`` needs nothing else. ``perceptual`` compares feature maps of VGG-16 and needs its weights: a .pth or
.safetensors file with PyTorch's names, in the environment variable ``VGG16_WEIGHTS``.
"""

import functools
import os
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from small_experiment import small_experiment

from simswap_jax.training.extra_losses import LossInputs
from simswap_jax.training.loop import train
from simswap_jax.training.metrics import read_lines
from simswap_jax.weights import files

# ---- A loss of arrays ----


def edges(inputs: LossInputs) -> jax.Array:
    """How far the results' horizontal and vertical slopes are from the targets': a mean absolute difference."""
    difference = inputs.result - inputs.target  # RGB in [0, 1], [B, H, W, 3]
    across, down = jnp.diff(difference, axis=2), jnp.diff(difference, axis=1)
    return jnp.mean(jnp.abs(across)) + jnp.mean(jnp.abs(down))


# ---- A loss of a frozen network ----

MEAN, STD = np.array((0.485, 0.456, 0.406), np.float32), np.array((0.229, 0.224, 0.225), np.float32)
STAGES = (("features.0", "features.2"), ("features.5", "features.7"))  # VGG-16's convolutions; a max-pool between


@functools.cache
def vgg16() -> dict[str, np.ndarray]:
    """VGG-16's tensors by PyTorch's names, read once (a pickle in the file is parsed, not run)."""
    return {name: np.asarray(each) for name, each in files.read(os.environ["VGG16_WEIGHTS"]).tensors.items()}


def vgg_maps(pictures: jax.Array) -> list[jax.Array]:
    """RGB in [0, 1], [B, H, W, 3] → the last map of each stage."""
    weights, maps = vgg16(), []
    x = (pictures - MEAN.reshape(1, 1, 1, 3)) / STD.reshape(1, 1, 1, 3)
    for number, stage in enumerate(STAGES):
        if number:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        for name in stage:
            kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)  # PyTorch's OIHW → HWIO
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + weights[f"{name}.bias"].reshape(1, 1, 1, -1))
        maps.append(x)
    return maps


def perceptual(inputs: LossInputs) -> jax.Array:
    """Mean absolute difference of VGG-16's maps of results and targets, over its first two stages."""
    pairs = zip(vgg_maps(inputs.result), vgg_maps(inputs.target), strict=True)
    return sum(jnp.mean(jnp.abs(result - jax.lax.stop_gradient(target))) for result, target in pairs)


# ---- Training with it ----


def main() -> None:
    """Train the small experiment with ``edges`` and print how the loss went."""
    with tempfile.TemporaryDirectory() as folder:
        config = small_experiment(Path(folder))
        config.losses.extra.edges = {"function": "custom_loss:edges", "weight": 5.0}
        train(config, Path(folder) / "run")
        for row in read_lines(Path(folder) / "run"):
            print(f"step {row['step']:3d}   edges {row['extra/edges']:.4f}   generator {row['generator']:.3f}")


if __name__ == "__main__":
    main()

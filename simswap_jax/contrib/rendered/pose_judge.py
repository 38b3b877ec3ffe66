"""A head-pose network for rendered faces: a small one that reads yaw, pitch and roll off a 32×32 picture.

It ships in `contrib/rendered/pretrained/judges/pose.safetensors`, trained on people nobody else uses. To train it again
(CPU: 4 minutes on two busy cores; prints R² on people it has not seen):

    python -m simswap_jax.contrib.rendered.cli pose-judge --output pose.safetensors
"""

import logging
import time
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.rendered.scoring import pose_r2
from simswap_jax.errors import UserError
from simswap_jax.weights import files

SIZE = 32
DEGREES = 20.0  # one unit of the network's output
PEOPLE_SEED, ATTRIBUTE_SEED, UNSEEN_SEED = 7_700_001, 7_700_002, 7_700_003
UNSEEN_PEOPLE = 500  # who it is measured on, four pictures each
_ADAM = optax.scale_by_adam()
WEIGHTS = Path(__file__).parent / "pretrained" / "judges" / "pose.safetensors"
logger = logging.getLogger(__name__)


class PoseNetwork(nn.Module):
    """[B, 32, 32, 3] in [0, 1] → yaw, pitch, roll in units of 20 degrees [B, 3]."""

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        """Predict the pose."""
        batch = pictures.shape[0]
        # Four pixels in one: twelve channels, which a CPU convolves much faster than three.
        x = (pictures - 0.5).reshape(batch, 16, 2, 16, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(batch, 16, 16, 12)
        x = nn.relu(nn.Conv(24, (3, 3), name="conv1")(x))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2, name="conv2")(x))
        x = nn.relu(nn.Conv(32, (3, 3), name="conv3")(x))
        x = nn.relu(nn.Conv(40, (3, 3), strides=2, name="conv4")(x))
        x = nn.relu(nn.Dense(16, name="dense1")(x.reshape(batch, -1)))
        return nn.Dense(3, name="dense2")(x)


class PoseRegressor:
    """The network with its weights: pictures in, degrees out."""

    def __init__(self, params: Any) -> None:
        self.params = params

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Predict the pose: uint8 RGB [B, H, W, 3], H, W ≥ 32 → yaw, pitch, roll in degrees, float32 [B, 3]."""
        batches = np.array_split(pictures, max(1, -(-len(pictures) // 256)))
        return np.concatenate([np.asarray(_degrees(self.params, jnp.asarray(batch))) for batch in batches])

    @classmethod
    def pretrained(cls) -> "PoseRegressor":
        """The one that ships with the package."""
        if not WEIGHTS.is_file():
            raise UserError(f"{WEIGHTS} is missing from the package; install it again.", "package-file-missing")
        flat = files.read(WEIGHTS).tensors
        return cls(traverse_util.unflatten_dict({tuple(name.split("/")): value for name, value in flat.items()}))

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, names joined by `/`."""
        flat = traverse_util.flatten_dict(jax.device_get(self.params), sep="/")
        files.save({name: np.asarray(value) for name, value in flat.items()}, path)


@jax.jit
def _small(pictures: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] → [B, 32, 32, 3] in [0, 1], averaged over the pixels each one covers."""
    return jax.image.resize(
        pictures.astype(jnp.float32) / 255, (len(pictures), SIZE, SIZE, 3), "linear", antialias=True
    )


@jax.jit
def _degrees(params: Any, pictures: jax.Array) -> jax.Array:
    turned: Any = PoseNetwork().apply({"params": params}, _small(pictures))
    return turned * DEGREES


def _disturbed(pictures: jax.Array, key: jax.Array) -> jax.Array:
    """As a swap leaves pictures: a little soft and noisy. [B, 32, 32, 3] → the same."""
    noise_key, soft_key = jax.random.split(key)
    soft = jax.image.resize(pictures, (len(pictures), SIZE // 2, SIZE // 2, 3), "linear")
    soft = jax.image.resize(soft, pictures.shape, "linear")
    share = jax.random.uniform(soft_key, (len(pictures), 1, 1, 1)) * 0.7
    return pictures + share * (soft - pictures) + 0.03 * jax.random.normal(noise_key, pictures.shape)


@jax.jit
def _step(
    params: Any, state: Any, pictures: jax.Array, wanted: jax.Array, key: jax.Array, rate: jax.Array
) -> tuple[Any, Any]:
    """One step of Adam down the Huber loss."""

    def loss(params: Any) -> jax.Array:
        read = PoseNetwork().apply({"params": params}, _disturbed(pictures, key))
        return optax.huber_loss(read, wanted, delta=0.5).mean()

    updates, state = _ADAM.update(jax.grad(loss)(params), state)
    return jax.tree.map(lambda value, update: value - rate * update, params, updates), state


def train(pictures: np.ndarray, degrees: np.ndarray, steps: int, seed: int, batch: int = 128) -> PoseRegressor:
    """Fit the network; the learning rate falls from 0.002 to 0 along a cosine.

    Args:
        pictures: uint8 RGB [N, H, W, 3], H, W ≥ 32.
        degrees: yaw, pitch, roll [N, 3].
        steps: how many batches.
        seed: of the first weights and of what each batch holds.
        batch: pictures in a batch.
    """
    parts = np.array_split(pictures, -(-len(pictures) // 512))
    small = np.concatenate([np.asarray(_small(jnp.asarray(part))) for part in parts])
    params = jax.jit(PoseNetwork().init)(jax.random.key(seed), small[:1])["params"]
    state, random = _ADAM.init(params), np.random.default_rng(seed)
    for number in range(steps):
        rows = random.integers(0, len(small), batch)
        key = jax.random.fold_in(jax.random.key(seed + 1), number)
        rate = np.float32(1e-3 * (1 + np.cos(np.pi * number / steps)))
        params, state = _step(params, state, small[rows], np.float32(degrees[rows] / DEGREES), key, rate)
    return PoseRegressor(params)


def rendered(people_seed: int, attribute_seed: int, people: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of freshly sampled people, uint8 [N, 64, 64, 3], and their pose in degrees [N, 3]."""
    who = np.repeat(dataset.sample_people(people_seed, people), each, axis=0)
    attributes = dataset.sample_attributes(attribute_seed, len(who))
    return dataset.render(who, attributes, 64), dataset.pose(attributes)


def train_judge(output: Path, people: int, steps: int) -> None:
    """Train the network that ships on ``people`` with eight pictures each, measure it on unseen people, write it."""
    start = time.monotonic()
    pictures, degrees = rendered(PEOPLE_SEED, ATTRIBUTE_SEED, people, 8)
    logger.info("%d pictures of %d people rendered in %.0f s", len(pictures), people, time.monotonic() - start)
    regressor = train(pictures, degrees, steps, seed=0)
    unseen, truth = rendered(UNSEEN_SEED, UNSEEN_SEED, UNSEEN_PEOPLE, 4)
    predicted = regressor(unseen)
    error = np.abs(predicted - truth).mean(axis=0)
    logger.info(
        f"on {UNSEEN_PEOPLE} unseen people: R² {pose_r2(predicted, truth):.3f}, mean error "
        f"yaw {error[0]:.1f}°, pitch {error[1]:.1f}°, roll {error[2]:.1f}° ({time.monotonic() - start:.0f} s in all)"
    )
    regressor.save(output)

"""A generator of your own: a `Family`. `python examples/custom_generator.py` trains it and swaps a face with it.

The network is a U of two convolutions whose middle is scaled by the identity vector. Losses, discriminators, resume,
model folder and swapping are the project's own.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from small_experiment import small_experiment

from simswap_jax import FaceSwapper
from simswap_jax.io.images import read_picture
from simswap_jax.models.config import DictConfig
from simswap_jax.models.families import Family
from simswap_jax.training.experiment import use_generator
from simswap_jax.training.loop import train

NAME = "custom_generator:SCALED"  # where the family lies; it stands in every model folder


@dataclass(frozen=True)
class ScaledConfig(DictConfig):
    """The network's shape."""

    family: ClassVar[str] = NAME
    described: ClassVar[str] = "scaled"
    multiple: ClassVar[int] = 2  # what height and width must be a multiple of

    width: int = 16
    identity_size: int = 128
    convention: str = "unit"  # RGB in [0, 1], in and out
    dtype: str = "float32"


class Scaled(nn.Module):
    """Target [B, H, W, 3] and identity vectors [B, D] → result [B, H, W, 3], RGB in [0, 1]."""

    config: ScaledConfig

    @nn.compact
    def __call__(self, target: jax.Array, vector: jax.Array, train: bool = False) -> jax.Array:
        """Redraw the target."""
        scale = nn.Dense(self.config.width, name="scale")(vector)[:, None, None, :]
        x = nn.relu(nn.Conv(self.config.width, (4, 4), strides=2, name="down")(target))
        x = x * (1.0 + scale)
        x = nn.ConvTranspose(self.config.width, (4, 4), strides=(2, 2), name="up")(x)
        return nn.sigmoid(nn.Conv(3, (3, 3), name="last")(jnp.concatenate([nn.relu(x), target], -1)))


def from_fields(fields: Mapping[str, Any], identity_size: int) -> ScaledConfig:
    """An experiment's ``config.generator`` → the network's shape."""
    return ScaledConfig(identity_size=identity_size, **fields)


SCALED = Family(
    name=NAME,
    config_class=ScaledConfig,
    takes=frozenset({"vector"}),
    module=lambda config, axis_name: Scaled(config),
    fields=lambda: {"width": 16, "convention": "unit", "dtype": "float32"},
    from_fields=from_fields,
    describe=lambda config: f"two convolutions of {config.width} channels, scaled by the identity",
    warm_start=lambda former, config: None,
)


def main() -> None:
    """Train it, then swap one face with the model folder that training left."""
    with tempfile.TemporaryDirectory() as folder:
        config = use_generator(small_experiment(Path(folder)), NAME)
        done = train(config, Path(folder) / "run")

        swapper = FaceSwapper.from_pretrained(done.model)
        source, target = (read_picture(Path(folder) / "people" / name / "000.png") for name in ("p0000", "p0001"))
        result = swapper.swap_aligned(target, swapper.identity(source, aligned=True))
        changed = abs(result.astype(float) - target).mean()
        print(f"{swapper.model.generator}\n{result.shape} {result.dtype}, {changed:.1f} of 255 from the target")


if __name__ == "__main__":
    main()

"""A model folder small enough for tests: a narrow generator and a two-block identity network, randomly initialised."""

from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import model_folder

FACE_SIZE = 32


def write_small_model(
    folder: Path, convention: str = "unit", family: str = "iresnet", card: dict[str, object] | None = None
) -> Path:
    generator = GeneratorConfig(widths=(8, 8, 8, 8), blocks=2, identity_size=16, convention=convention)
    values = "imagenet" if family == "arcface" else "symmetric"
    identity = IdentityConfig(
        family=family, layers=(1, 1), widths=(8, 8), size=(16, 16), frame=(16, 16), embedding=16, values=values
    )
    key = jax.random.key(3)
    inputs = jnp.zeros((1, FACE_SIZE, FACE_SIZE, 3)), jnp.zeros((1, 16))
    model = model_folder.ModelFolder(
        generator=generator,
        variables=lively(jax.eval_shape(Generator(generator).init, key, *inputs)),
        face_size=FACE_SIZE,
        alignment="rendered",
        identity=identity,
        identity_variables=lively(jax.eval_shape(IdentityNetwork(identity).init, key)),
        identity_sha256="ab" * 32,
        identity_name="small",
        card={"licence": "Apache-2.0"} | (card or {}),
    )
    return model_folder.write(folder, model, include_identity=True)


def lively(shapes):
    """Weights larger than a fresh network's, so that inputs show in outputs."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        noise = random.standard_normal(leaf.shape).astype(np.float32)
        if leaf.ndim >= 2:
            return noise * np.float32(np.sqrt(2.0 / np.prod(leaf.shape[:-1])))
        return np.abs(noise) * 0.1 + 1.0 if name in ("var", "scale") else noise * 0.1

    return jax.tree_util.tree_map_with_path(draw, shapes)


def faces(count: int, size: int = FACE_SIZE, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 [count, size, size, 3]."""
    coarse = np.random.default_rng(seed).random((count, 4, 4, 3), np.float32)
    return np.stack(
        [np.clip(cv2.resize(face, (size, size), interpolation=cv2.INTER_CUBIC) * 255, 0, 255) for face in coarse]
    ).astype(np.uint8)

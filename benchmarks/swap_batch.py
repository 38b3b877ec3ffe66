"""Faces a second when a hundred aligned faces are swapped in batches, against one by one; and what bounds both.

The arithmetic of a face is counted by XLA, and held against a matrix product of this machine: where one face alone
already runs at a good part of that, a batch cannot be much faster.

Command: python benchmarks/swap_batch.py --model FOLDER      (or --preset 224: random weights)
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from simswap_jax import FaceSwapper
from simswap_jax.inference.runtime import generate
from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import model_folder
from simswap_jax.weights.model_folder import ModelFolder

COUNT = 100


def random_model(preset: str) -> ModelFolder:
    """A generator of a preset with random weights, and an identity network that is never asked."""
    generator = GeneratorConfig.from_preset(preset)
    identity = IdentityConfig(
        family="iresnet", layers=(1, 1), widths=(8, 8), size=(16, 16), frame=(16, 16), embedding=512, values="symmetric"
    )
    key, size = jax.random.key(0), 512 if preset == "512" else 224
    inputs = jnp.zeros((1, size, size, 3)), jnp.zeros((1, 512))
    variables = jax.jit(Generator(generator).init)(key, *inputs)
    known = IdentityNetwork(identity).init(key)
    return ModelFolder(generator, variables, size, "simswap", identity, known, "", "none", {})


def best(action, rounds: int) -> float:
    """The least seconds of several rounds: other jobs only ever add to it."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_rate(side: int = 2048) -> float:
    """GFLOP/s of a float32 matrix product here."""
    a = jnp.ones((side, side))
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    return 2e-9 * side**3 / best(lambda: product(a).block_until_ready(), 10)


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--model", type=Path)
    parse.add_argument("--preset", default="224")
    parse.add_argument("--count", type=int, default=COUNT)
    parse.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parse.add_argument("--rounds", type=int, default=3)
    options = parse.parse_args()
    model = model_folder.read(options.model) if options.model else random_model(options.preset)
    swapper = FaceSwapper(model, runtime="jax")
    random = np.random.default_rng(0)
    size = swapper.face_size
    faces = random.integers(0, 256, (options.count, size, size, 3), np.uint8)
    vector = random.standard_normal(swapper.identity_size).astype(np.float32)
    lowered = jax.jit(partial(generate, model.network)).lower(model.variables, faces[:1], vector[None])
    flops = lowered.compile().cost_analysis()["flops"] * 1e-9
    peak = matrix_rate()
    print(
        f"{jax.devices()[0].device_kind}: {size}x{size}, {flops:.2f} GFLOP a face; a matrix product: {peak:.0f} GFLOP/s"
    )
    alone = 0.0
    for batch in options.batches:
        # With batches of one this is the loop of somebody who swaps face by face.
        def swap(batch: int = batch) -> None:
            if batch == 1:
                for face in faces:
                    swapper.swap_aligned(face, vector)
            else:
                swapper.swap_aligned(faces, vector, batch_size=batch)

        swapper.swap_aligned(faces[:batch], vector, batch_size=batch)
        seconds = best(swap, options.rounds) / options.count
        alone = alone or seconds
        rate = flops / seconds
        print(
            f"batch {batch:3d}: {1000 * seconds:8.2f} ms a face, {1 / seconds:8.1f} faces/s, "
            f"{alone / seconds:5.2f} times one by one, {rate:7.1f} GFLOP/s ({100 * rate / peak:.0f} % of the product)"
        )


if __name__ == "__main__":
    main()

"""A generator that was trained in one input normalization is recognised on a face, whichever it was."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.weights import range_check
from simswap_jax.weights.range_check import Drawing, Finding, check

SIZE = 32
SHAPE = {"widths": (8, 16), "blocks": 1, "identity_size": 16}
NETWORK = IdentityNetwork(IdentityConfig(layers=(1, 1), widths=(4, 8), size=(16, 16), frame=(16, 16), embedding=16))


def faces(count, seed=0):
    """Ovals with two eyes and a mouth on a plain ground, [count,32,32,3] in [0,1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pictures = []
    for _ in range(count):
        picture = np.ones((SIZE, SIZE, 3)) * rng.uniform(0.1, 0.9, 3)
        cx, cy = 0.5 + rng.uniform(-0.05, 0.05, 2)
        oval = ((x - cx) / 0.32) ** 2 + ((y - cy) / 0.42) ** 2 < 1
        picture[oval] = np.array([0.85, 0.65, 0.55]) * rng.uniform(0.5, 1.1)
        for dx, dy, r, colour in ((-0.13, -0.1, 0.05, 0.1), (0.13, -0.1, 0.05, 0.1), (0, 0.18, 0.07, 0.35)):
            picture[(x - cx - dx) ** 2 + ((y - cy - dy) * 1.3) ** 2 < r**2] = colour
        pictures.append(picture)
    return np.clip(pictures, 0, 1).astype(np.float32)


def small_random(shapes, scale):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape).astype(np.float32) * scale), shapes)


@pytest.fixture(scope="module")
def identity_variables():
    variables = small_random(jax.eval_shape(NETWORK.init, jax.random.key(0)), 0.2)
    ones = jax.tree.map(jnp.ones_like, variables["batch_stats"])
    return {**variables, "batch_stats": ones}


def trained(convention, vectors, steps=150):
    """A small generator that has learned to draw faces again."""
    config = GeneratorConfig(**SHAPE, convention=convention)
    generator = Generator(config)
    targets = normalize(jnp.asarray(faces(len(vectors))), convention)
    variables = jax.jit(generator.init)(jax.random.key(0), targets[:1], vectors[:1])
    optimiser = optax.adam(5e-3)

    def distance(params):
        result = generator.apply({**variables, "params": params}, targets, vectors)
        return jnp.abs(denormalize(result, convention) - faces(len(vectors))).mean()

    @jax.jit
    def step(params, state):
        updates, state = optimiser.update(jax.grad(distance)(params), state)
        return optax.apply_updates(params, updates), state

    params, state = variables["params"], optimiser.init(variables["params"])
    for _ in range(steps):
        params, state = step(params, state)
    return config, {**variables, "params": params}


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["unit", "imagenet"])
def test_the_convention_of_a_trained_generator_is_found(identity_variables, convention):
    pictures = faces(3)
    vectors = NETWORK.embed(identity_variables, jnp.asarray(pictures))
    config, variables = trained(convention, vectors)
    face = np.round(pictures[0] * 255).astype(np.uint8)
    finding = check(config, variables, NETWORK, identity_variables, [face], SIZE)
    assert finding.convention == convention
    assert finding.sentence().startswith(f"{convention} looks like the face")
    assert finding.drawings[convention][0].distance < 0.1
    assert finding.sheet().shape[1] > 3 * SIZE


def test_an_untrained_generator_looks_like_no_face(identity_variables):
    config = GeneratorConfig(**SHAPE)
    inputs = (jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, 16)))
    variables = small_random(jax.eval_shape(Generator(config).init, jax.random.key(0), *inputs), 0.1)
    variables = {**variables, "batch_stats": jax.tree.map(jnp.ones_like, variables["batch_stats"])}
    face = np.round(faces(1)[0] * 255).astype(np.uint8)
    finding = check(config, variables, NETWORK, identity_variables, [face], SIZE)
    assert finding.convention is None
    assert finding.sentence().startswith("neither looks like the face")


def test_several_faces_are_told_one_by_one_and_decide_on_average():
    picture = np.zeros((8, 8, 3), np.uint8)
    near, far = Drawing(picture, 0.1, 0.9), Drawing(picture, 0.4, 0.1)
    finding = Finding([picture] * 3, {"unit": [near, far, far], "imagenet": [far, near, near]}, "imagenet")
    assert finding.figures(0) == (
        "unit: 0.100 from the face, correlation 0.90, imagenet: 0.400 from the face, correlation 0.10"
    )
    assert finding.sentence() == (
        "imagenet looks like the faces (unit: 0.300 from the faces, correlation 0.37, "
        "imagenet: 0.200 from the faces, correlation 0.63 on average)"
    )
    assert finding.sheet().shape[0] > 3 * 96


def test_a_close_call_is_left_to_people():
    picture = np.zeros((8, 8, 3), np.uint8)
    close = {"unit": Drawing(picture, 0.10, 0.9), "imagenet": Drawing(picture, 0.12, 0.9)}
    clear = {"unit": Drawing(picture, 0.30, 0.9), "imagenet": Drawing(picture, 0.12, 0.9)}
    assert range_check._verdict(close) is None
    assert range_check._verdict(clear) == "imagenet"

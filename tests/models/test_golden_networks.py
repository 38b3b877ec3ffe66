"""Every network against the public PyTorch networks' own answers (1e-4 of the largest value, float32)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.weights import torch_weights as tw
from tests.support.golden_weights import assert_golden, golden, image, latent, repeated, state_dict

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.fixture(autouse=True)
def exact():
    with jax.default_matmul_precision("highest"):
        yield


def run_training_mode(network, variables, *inputs):
    """The answer in training mode and the variables afterwards."""
    run = jax.jit(lambda *args: network.apply(*args, train=True, mutable=["batch_stats"]))
    answer, moved = run(variables, *inputs)
    return answer, {**variables, **moved}


@pytest.mark.parametrize(
    ("name", "convention", "preset"),
    [
        ("generator_224_tanh", "unit", "224"),
        pytest.param("generator_224_linear", "imagenet", "224", marks=pytest.mark.slow),
        pytest.param("generator_224_deep_linear", "imagenet", "224-deep", marks=pytest.mark.slow),
        pytest.param("generator_512_tanh", "unit", "512", marks=pytest.mark.slow),
    ],
)
def test_generator(name, convention, preset):
    expected, weights = golden(name), state_dict(name)
    generator, variables = tw.load_generator(weights, convention)
    assert generator.config.preset == preset
    target = image(name, (2, int(expected["height"]), int(expected["width"]), 3))
    identity = latent(name)

    assert_golden(jax.jit(generator.apply)(variables, target, identity), expected["output_eval"])
    answer, moved = run_training_mode(generator, variables, target, identity)
    assert_golden(answer, expected["output_train"])

    after = tw.generator_state_dict(generator, moved)
    statistics = [key for key in expected if key.startswith("train_")]
    assert statistics
    for key in statistics:
        assert_golden(after[key.removeprefix("train_")], expected[key])


@pytest.mark.parametrize("train", [False, True])
def test_discriminator(train):
    expected = golden("discriminator")
    network, variables = tw.load_discriminator(state_dict("discriminator"))
    x = jnp.asarray(image("discriminator", (2, int(expected["height"]), int(expected["width"]), 3)))
    (output,), _ = network.apply(variables, x, train, mutable=["batch_stats"])
    maps = [*output.features, output.logits]
    assert len(maps) == 6
    for i, actual in enumerate(maps):
        assert_golden(actual, expected[f"{'train' if train else 'eval'}_{i}"])


@pytest.mark.parametrize(
    ("name", "family", "layers", "se"),
    [
        ("arcface_r18_se", "arcface", (2, 2, 2, 2), True),
        pytest.param("arcface_r101", "arcface", (3, 4, 23, 3), False, marks=pytest.mark.slow),
        pytest.param("arcface_r101_se", "arcface", (3, 4, 23, 3), True, marks=pytest.mark.slow),
        ("arcface_iresnet18", "iresnet", (2, 2, 2, 2), False),
        pytest.param("arcface_iresnet50", "iresnet", (3, 4, 14, 3), False, marks=pytest.mark.slow),
        pytest.param("arcface_iresnet100", "iresnet", (3, 13, 30, 3), False, marks=pytest.mark.slow),
        ("arcface_mobilefacenet", "mobilefacenet", (5, 1, 6, 1, 2), False),
    ],
)
def test_identity_network(name, family, layers, se):
    network, variables = tw.load_identity_network(state_dict(name))
    assert (network.config.family, network.config.layers, network.config.se) == (family, layers, se)
    small = image(name, (2, 7, 6 if family == "mobilefacenet" else 7, 3))
    faces = repeated(small * 4 - 2 if family == "arcface" else small * 2 - 1, 16)
    assert faces.shape[1:3] == network.config.size
    assert_golden(jax.jit(network.apply)(variables, faces), golden(name)["embedding"])


def test_face_parsing():
    name = "face_parsing_bisenet"
    expected = golden(name)
    network, variables = tw.load_face_parsing(state_dict(name))
    height, width = int(expected["height"]), int(expected["width"])
    pictures = repeated(image(name, (1, height // 16, width // 16, 3)), 16) * 4 - 2
    logits = jax.jit(network.apply)(variables, pictures)
    assert_golden(logits[:, ::4, ::4], expected["logits_stride4"])
    np.testing.assert_array_equal(np.argmax(logits, -1), expected["argmax"])

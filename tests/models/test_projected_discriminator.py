"""The projected discriminator in small: what is frozen, spectral norm, its PyTorch names, what it cannot see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models.projected_discriminator import (
    ProjectedConfig,
    ProjectedDiscriminator,
    ProjectedFeatures,
    SpectralConv,
    same_pad,
)
from simswap_jax.weights import layouts
from simswap_jax.weights import torch_weights as tw
from tests.support.errors import raises_user_error
from tests.support.golden_weights import assert_golden, golden, image, projected_state_dict
from tests.support.golden_weights import layouts as golden_layouts
from tests.support.small_model import lively

SMALL = ProjectedConfig(stem=4, widths=(4, 4, 4, 6, 4, 4, 8), repeats=(1, 1, 2, 1, 1, 1, 1), projected=4)


@pytest.fixture(scope="module")
def variables():
    network = ProjectedDiscriminator(SMALL)
    return lively(jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 128, 128, 3))))


@pytest.mark.slow  # compiles EfficientNet-Lite0
def test_it_answers_as_the_public_network():
    """Backbone maps and logits within 1e-4 of the golden's largest value."""
    expected, weights = golden("projected_discriminator"), projected_state_dict()
    network, variables = tw.load_projected_discriminator(weights)
    assert network.config == ProjectedConfig()
    assert tw.projected_discriminator_state_dict(network, variables).keys() == weights.keys()
    images = (image("projected", (2, int(expected["height"]), int(expected["width"]), 3)) - 0.5) * 4

    @jax.jit
    def judge(variables, images):
        features = ProjectedFeatures(network.config).apply(variables["frozen"]["features"], images)
        return network.apply(variables, images), features[0]

    with jax.default_matmul_precision("highest"):
        outputs, maps = judge(variables, images)
    for i, each in enumerate(maps):
        assert_golden(each[:, ::2, ::2], expected[f"backbone_{i}"])
    np.testing.assert_array_equal(outputs[0].features[0], maps[-1])
    assert_golden(jnp.concatenate([output.logits.reshape(2, -1) for output in outputs], 1), expected["logits"])


def test_names_order_and_shapes_are_the_public_ones():
    leaves = {leaf.key: list(leaf.shape) for leaf in layouts.projected_discriminator(ProjectedConfig())}
    assert list(leaves.items()) == list(golden_layouts()["projected_discriminator"].items())


def test_a_state_dict_says_its_shape(variables):
    network = ProjectedDiscriminator(SMALL)
    state_dict = tw.projected_discriminator_state_dict(network, variables)
    again, loaded = tw.load_projected_discriminator(state_dict)
    assert again.config == SMALL
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    missing = {key: value for key, value in state_dict.items() if not key.endswith("weight_v")}
    with raises_user_error("key-missing", "weight_v"):
        tw.load_projected_discriminator(missing)
    with raises_user_error("wrong-network"):
        tw.load_projected_discriminator({"conv2.0.weight": np.zeros((1, 4, 4, 4), np.float32)})


def test_timms_file_is_the_features_alone(variables):
    state_dict = tw.projected_discriminator_state_dict(ProjectedDiscriminator(SMALL), variables)
    renamed = {}
    for public, name in zip(layouts.LITE0, layouts.TIMM_LITE0, strict=True):
        for key, value in state_dict.items():
            if key.startswith(f"{public}."):
                renamed[name + key.removeprefix(public)] = value
    renamed |= {"conv_head.weight": np.zeros(3, np.float32), "classifier.bias": np.zeros(3, np.float32)}
    network, loaded = tw.load_projected_discriminator(renamed)
    assert (network.config.widths, network.config.repeats) == (SMALL.widths, SMALL.repeats)
    assert loaded.keys() == {"frozen"}
    backbone = {name: {"backbone": tree["backbone"]} for name, tree in variables["frozen"]["features"].items()}
    jax.tree.map(np.testing.assert_array_equal, loaded["frozen"]["features"], backbone)


def test_the_kernel_is_divided_by_its_largest_singular_value():
    """To which training calls come nearer."""
    random = np.random.default_rng(0)
    layer, x = SpectralConv(6, use_bias=False), random.standard_normal((2, 4, 4, 3)).astype(np.float32)
    kernel = random.standard_normal((4, 4, 3, 6)).astype(np.float32)
    largest = np.linalg.svd(kernel.transpose(3, 2, 0, 1).reshape(6, -1), compute_uv=False)[0]
    expected = np.einsum("bhwi,hwio->bo", x, kernel) / largest
    spectral = {"u": np.eye(6, dtype=np.float32)[0], "v": np.eye(48, dtype=np.float32)[0]}
    params = {"kernel": kernel}

    @jax.jit
    def train(spectral):
        _, moved = layer.apply({"params": params, "spectral": spectral}, x, train=True, mutable=["spectral"])
        return moved["spectral"]

    for _ in range(60):
        spectral = train(spectral)
    result = jax.jit(functools.partial(layer.apply, train=False))({"params": params, "spectral": spectral}, x)
    np.testing.assert_allclose(result[:, 0, 0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "before", "after"),
    [(8, 3, 2, 0, 1), (8, 5, 2, 1, 2), (7, 5, 2, 2, 2), (8, 3, 1, 1, 1)],
)
def test_zeros_stand_where_tensorflow_puts_them(side, kernel, stride, before, after):
    padded = np.asarray(same_pad(jnp.ones((1, side, side, 1)), kernel, stride))[0, :, :, 0]
    assert padded.shape == (side + before + after,) * 2
    assert padded[before, before] == 1
    assert padded[:before].sum() == padded[before + side :].sum() == 0


def test_pictures_that_it_cannot_see_are_refused():
    network = ProjectedDiscriminator(SMALL)
    for side in (96, 130):
        with pytest.raises(ValueError, match="multiple of 32 from 128"):
            jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    with pytest.raises(ValueError, match="7 widths"):
        ProjectedConfig(widths=(4, 4))

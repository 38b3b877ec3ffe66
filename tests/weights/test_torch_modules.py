"""Flax → .pth → PyTorch: modules written from the description load the files strictly and agree to 1e-5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import DiscriminatorConfig, GeneratorConfig
from simswap_jax.models.compact import CompactConfig
from simswap_jax.models.identity import IdentityConfig
from simswap_jax.weights import layouts
from simswap_jax.weights import torch_weights as tw

pytestmark = pytest.mark.torch
TOLERANCE = 1e-5  # of the largest value


@pytest.fixture(autouse=True)
def exact():
    with jax.default_matmul_precision("highest"):
        yield


def weights(leaves, seed=0, gain=2.0):
    """Random weights under PyTorch's names that keep values of order one; every count another number."""
    rng = np.random.default_rng(seed)
    found = {}
    for i, leaf in enumerate(leaves):
        a = rng.standard_normal(leaf.shape).astype(np.float32)
        if leaf.key.endswith("num_batches_tracked"):
            found[leaf.key] = np.array(i, np.int64)
        elif leaf.key.endswith("running_var"):
            found[leaf.key] = 1 + np.float32(0.1) * np.abs(a)
        elif len(leaf.shape) > 1:
            found[leaf.key] = a * np.float32(np.sqrt(gain / np.prod(leaf.shape[1:])))
        else:
            found[leaf.key] = np.float32(0.1) * a + (leaf.key.endswith("weight"))
    return found


def loaded(module, state_dict, path):
    """The PyTorch module with the weights of a file that was written for it, order, types and all."""
    import torch

    tw.save(state_dict, path)
    content = torch.load(path, weights_only=True)
    wanted = module.state_dict()
    assert list(content) == list(wanted)
    assert {k: v.dtype for k, v in content.items()} == {k: v.dtype for k, v in wanted.items()}
    module.load_state_dict(content, strict=True)
    return module.eval()


def nchw(x):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.asarray(x).transpose(0, 3, 1, 2)))


def agree(mine, theirs):
    theirs = theirs.detach().numpy()
    mine = np.asarray(mine)
    mine = mine.transpose(0, 3, 1, 2) if mine.ndim == 4 else mine
    assert np.max(np.abs(mine - theirs)) <= TOLERANCE * np.max(np.abs(theirs))


def same(first, second):
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


def images(*shape):
    return np.random.default_rng(1).random(shape, np.float32)


@pytest.mark.parametrize("convention", ["unit", "imagenet"])
@pytest.mark.parametrize(("widths", "first"), [((8, 12, 16, 24), 1), ((8, 12, 16, 24, 24), 1), ((4, 8, 12, 16, 24), 0)])
def test_generator(tmp_path, widths, first, convention):
    import torch

    from tests.support.torch_networks import Generator

    config = GeneratorConfig(widths=widths, first_down=first, identity_size=32, convention=convention)
    given = weights(layouts.generator(config))
    generator, variables = tw.load_generator(given, convention)
    state_dict = tw.generator_state_dict(generator, variables)
    same(state_dict, given)
    module = Generator(widths, config.blocks, 32, first, convention == "unit")
    module = loaded(module, state_dict, tmp_path / "net_G.pth")
    x, v = images(2, 96, 128, 3), images(2, 32)
    agree(generator.apply(variables, jnp.asarray(x), jnp.asarray(v)), module(nchw(x), torch.from_numpy(v)))


def test_discriminators(tmp_path):
    from tests.support.torch_networks import Discriminator

    config = DiscriminatorConfig(widths=(8, 12, 16, 24), tail=20)
    given = [weights(layouts.discriminator(config), seed) for seed in (0, 1)]
    networks, variables = tw.load_discriminator(*given)
    state_dicts = tw.discriminator_state_dicts(networks, variables)
    x = images(2, 128, 96, 3)
    outputs = networks.apply(variables, jnp.asarray(x), train=False)
    for i, state_dict in enumerate(state_dicts):
        same(state_dict, given[i])
        module = loaded(Discriminator(config.widths, config.tail), state_dict, tmp_path / f"net_D{i}.pth")
        import torch

        pooled = nchw(x)
        for _ in range(i):
            pooled = torch.nn.functional.avg_pool2d(pooled, 3, 2, 1, count_include_pad=False)
        for mine, theirs in zip((*outputs[i].features, outputs[i].logits), module(pooled)):
            agree(mine, theirs)


@pytest.mark.parametrize(
    ("family", "layers", "se"),
    [("arcface", (2, 1, 2, 1), False), ("arcface", (1, 1, 1, 1), True), ("iresnet", (2, 1, 2, 1), False)],
)
def test_residual_identity_networks(tmp_path, family, layers, se):
    from tests.support.torch_networks import Residual

    widths = (16, 16, 16, 32)
    config = IdentityConfig(
        family=family,
        layers=layers,
        widths=widths,
        se=se,
        embedding=64,
        values="imagenet" if family == "arcface" else "symmetric",
    )
    given = weights(layouts.identity(config), gain=0.7)
    network, variables = tw.load_identity_network(given)
    assert network.config == config
    state_dict = tw.identity_state_dict(network, variables)
    module = loaded(Residual(family, layers, widths, se, widths[-1] * 49, 64), state_dict, tmp_path / "identity.pth")
    x = images(2, 112, 112, 3) * 2 - 1
    agree(network.apply(variables, jnp.asarray(x)), module(nchw(x)))


def test_mobilefacenet(tmp_path):
    from tests.support.torch_networks import MobileFaceNet

    given = weights(layouts.identity(IdentityConfig.from_name("mobilefacenet")), gain=0.7)
    network, variables = tw.load_identity_network(given)
    state_dict = tw.identity_state_dict(network, variables)
    same(state_dict, given)
    module = loaded(MobileFaceNet(), state_dict, tmp_path / "mobilefacenet.pth")
    x = images(2, 112, 96, 3) * 2 - 1
    agree(network.apply(variables, jnp.asarray(x)), module(nchw(x)))


def test_generator_of_our_own_shape(tmp_path):
    """Folded pixels and a small window at the edges: the names are SimSwap's, the shape is no public one."""
    import torch

    from tests.support.torch_networks import Generator

    config = CompactConfig(widths=(8, 12, 16), blocks=2, identity_size=32, unshuffle=2, stem_kernel=3)
    given = weights(layouts.generator(config))
    generator, variables = tw.load_generator(given)
    assert generator.config == config
    state_dict = tw.generator_state_dict(generator, variables)
    same(state_dict, given)
    module = Generator(config.widths, config.blocks, 32, 1, tanh=True, patch=2, edge=3)
    module = loaded(module, state_dict, tmp_path / "net_G.pth")
    x, v = images(2, 48, 64, 3), images(2, 32)
    agree(generator.apply(variables, jnp.asarray(x), jnp.asarray(v)), module(nchw(x), torch.from_numpy(v)))


def test_face_parsing(tmp_path):
    from tests.support.torch_networks import BiSeNet

    given = weights(layouts.face_parsing(19))
    network, variables = tw.load_face_parsing(given)
    state_dict = tw.face_parsing_state_dict(network, variables)
    same(state_dict, given)
    module = loaded(BiSeNet(19), state_dict, tmp_path / "79999_iter.pth")
    x = images(2, 96, 128, 3) * 4 - 2
    agree(network.apply(variables, jnp.asarray(x)), module(nchw(x)))

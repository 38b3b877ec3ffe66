"""PyTorch weights in and out: names, order, shapes, every bit; and a sentence for every fault."""

import dataclasses
import math
import signal

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import traverse_util

from simswap_jax.errors import UserError
from simswap_jax.models import DiscriminatorConfig, Generator, GeneratorConfig, MultiScaleDiscriminator, families
from simswap_jax.models.compact import CompactConfig
from simswap_jax.models.face_parsing import BiSeNet
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.identity.config import MOBILEFACENET_STAGES
from simswap_jax.models.identity.mobilefacenet import EXPANSIONS, STRIDES
from simswap_jax.weights import files
from simswap_jax.weights import layouts as torch_layouts
from simswap_jax.weights import torch_weights as tw
from tests.support.errors import raises_user_error
from tests.support.golden_weights import layouts

NETWORKS = [name for name in layouts() if name != "projected_discriminator"]
IDENTITY = [name for name in NETWORKS if name.startswith("arcface")]


def numbered(shapes):
    """Cheap weights in which every number is another, so that a wrong permutation shows."""
    counts = {key: math.prod(shape) for key, shape in shapes.items()}
    weights = {key: np.arange(counts[key], dtype=np.float32).reshape(shape) - 0.5 for key, shape in shapes.items()}
    return {key: np.asarray(7, np.int64) if key.endswith("tracked") else value for key, value in weights.items()}


def load(name, weights):
    if name.startswith("generator"):
        return tw.load_generator(weights, "unit" if name.endswith("tanh") else "imagenet")
    if name == "discriminator":
        return tw.load_discriminator(weights)
    return tw.load_identity_network(weights) if name in IDENTITY else tw.load_face_parsing(weights)


def back(name, network, variables):
    if name.startswith("generator"):
        return tw.generator_state_dict(network, variables)
    if name == "discriminator":
        return tw.discriminator_state_dicts(network, variables)[0]
    writer = tw.identity_state_dict if name in IDENTITY else tw.face_parsing_state_dict
    return writer(network, variables)


def example(name, network):
    """The module and arguments of its ``init``."""
    if name.startswith("generator"):
        return network, (jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 512)))
    if name in IDENTITY:
        return network.module, (jnp.zeros((1, *network.config.size, 3)),)
    return network, (jnp.zeros((1, 64, 64, 3)),)


@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back_is_the_same_to_the_bit(name):
    weights = numbered(layouts()[name])
    network, variables = load(name, weights)
    again = back(name, network, variables)
    assert list(again) == list(weights)
    for key, value in weights.items():
        assert again[key].dtype == value.dtype, key
        assert again[key].shape == value.shape, key
        assert np.array_equal(again[key], value), key
        assert again[key].flags.c_contiguous, key


@pytest.mark.parametrize("name", ["generator_512_tanh", "discriminator", "arcface_r18_se", "arcface_iresnet18",
                                  "arcface_mobilefacenet", "face_parsing_bisenet"])  # fmt: skip
def test_loaded_variables_are_those_the_network_makes(name):
    network, variables = load(name, numbered(layouts()[name]))
    module, inputs = example(name, network)
    made = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    loaded = {collection: tree for collection, tree in variables.items() if collection != torch_layouts.COUNTS}
    assert jax.tree.structure(loaded) == jax.tree.structure(dict(made))
    jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail(f"{a} {b}"), loaded, dict(made))


@pytest.mark.parametrize("stages", [1, 3, 5])
def test_a_mobilefacenet_of_any_number_of_stages_is_as_its_layout_says(stages):
    config = IdentityConfig(family="mobilefacenet", layers=(1,) * stages, widths=(8,) * stages, size=(30, 24))
    made = traverse_util.flatten_dict(jax.eval_shape(IdentityNetwork(config).init, jax.random.key(0)), sep="/")
    assert {name: leaf.shape for name, leaf in made.items()} == torch_layouts.flax_shapes(
        torch_layouts.identity(config)
    )


def test_a_mobilefacenet_has_no_sixth_stage():
    assert len(EXPANSIONS) == len(STRIDES) == MOBILEFACENET_STAGES
    with pytest.raises(ValueError, match="6 stages"):
        IdentityConfig(family="mobilefacenet", layers=(1,) * 6, widths=(8,) * 6)


@pytest.mark.parametrize("name", IDENTITY)
def test_published_names_have_the_published_shapes(name):
    if name == "arcface_mobilefacenet":
        config = IdentityConfig.from_name("mobilefacenet")
    else:
        kind = name.removesuffix("_se").removeprefix("arcface_")
        config = IdentityConfig.from_name(kind.replace("r", "arcface", 1) if kind[0] == "r" else kind)
        config = dataclasses.replace(config, se=name.endswith("_se"))
    leaves = {leaf.key: list(leaf.shape) for leaf in torch_layouts.identity(config)}
    assert leaves == layouts()[name]
    network, _ = tw.load_identity_network(numbered(layouts()[name]))
    assert network.config == config


def test_flattened_rows_follow_the_channels():
    """An iResNet's fc sees NCHW in PyTorch and NHWC here: the same sum must come out."""
    config = IdentityConfig(layers=(1,), widths=(3,), size=(8, 8), frame=(8, 8), embedding=2)
    shapes = {leaf.key: leaf.shape for leaf in torch_layouts.identity(config)}
    weights = numbered(shapes)
    network, variables = tw.load_identity_network(weights)
    assert network.config == config
    feature = np.random.default_rng(0).random((3, 4, 4), np.float32)
    ours = feature.transpose(1, 2, 0).reshape(-1) @ np.asarray(variables["params"]["fc"]["kernel"])
    np.testing.assert_allclose(ours, weights["fc.weight"] @ feature.reshape(-1), rtol=1e-5)


SMALL = GeneratorConfig(widths=(4, 6), blocks=2, identity_size=5, first_down=1)


def small_weights(config=SMALL):
    return numbered({leaf.key: leaf.shape for leaf in torch_layouts.generator(config)})


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        CompactConfig(widths=(4, 6, 6, 8), blocks=1, identity_size=3, first_down=0, unshuffle=2, convention="imagenet"),
        CompactConfig(widths=(4, 6), blocks=1, identity_size=3, unshuffle=2, stem_kernel=3),
        CompactConfig(widths=(4, 6), blocks=1, identity_size=3, composition_mask=True),
    ],
)
def test_any_generators_shape_is_read_from_its_keys(config):
    generator, variables = tw.load_generator(small_weights(config), config.convention)
    assert generator.config == config
    size = 8 * config.multiple
    inputs = jnp.zeros((1, size, size, 3)), jnp.zeros((1, config.identity_size))
    assert jax.eval_shape(generator.apply, variables, *inputs).shape == (1, size, size, 3)


def test_the_files_own_counts_travel():
    weights = small_weights()
    _, variables = tw.load_generator(weights)
    assert set(variables) == {"params", "batch_stats", torch_layouts.COUNTS}
    assert tw.generator_state_dict(Generator(SMALL), variables)["down1.1.num_batches_tracked"] == 7
    fresh = {collection: variables[collection] for collection in ("params", "batch_stats")}
    assert tw.generator_state_dict(Generator(SMALL), fresh)["down1.1.num_batches_tracked"] == 0
    # Files of PyTorch before 0.4.1 count nothing.
    _, old = tw.load_generator({key: value for key, value in weights.items() if not key.endswith("tracked")})
    assert set(old) == {"params", "batch_stats"}


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_become_float32(dtype):
    weights = {key: value if key.endswith("tracked") else value.astype(dtype) for key, value in small_weights().items()}
    _, variables = tw.load_generator(weights)
    again = tw.generator_state_dict(Generator(SMALL), variables)
    for key, value in weights.items():
        np.testing.assert_array_equal(again[key], value.astype(again[key].dtype))
    floats = (variables["params"], variables["batch_stats"])
    assert {leaf.dtype for leaf in jax.tree.leaves(floats)} == {jnp.dtype("float32")}


def test_a_data_parallel_prefix_is_taken_off():
    _, variables = tw.load_generator({f"module.{key}": value for key, value in small_weights().items()})
    assert "first_layer" in variables["params"]


def test_two_scales():
    config = DiscriminatorConfig(widths=(4, 6), tail=5, norm="none")
    one = numbered({leaf.key: leaf.shape for leaf in torch_layouts.discriminator(config)})
    two = {key: value + 100 for key, value in one.items()}
    networks, variables = tw.load_discriminator(one, two)
    assert networks.config == config
    outputs = jax.eval_shape(networks.apply, variables, jnp.zeros((1, 32, 32, 3)))
    assert len(outputs) == 2
    for weights, again in zip((one, two), tw.discriminator_state_dicts(networks, variables), strict=True):
        assert list(again) == list(weights)
        assert all(np.array_equal(again[key], weights[key]) for key in weights)
    other = numbered(
        {leaf.key: leaf.shape for leaf in torch_layouts.discriminator(dataclasses.replace(config, tail=7))}
    )
    with raises_user_error("discriminator-scales-differ"):
        tw.load_discriminator(one, other)
    with raises_user_error("no-discriminator-weights"):
        tw.load_discriminator()


@pytest.mark.parametrize("shape", [{}, {"unshuffle": 2, "stem_kernel": 3}, {"composition_mask": True}])
def test_files_there_and_back(tmp_path, shape):
    config = families.config_from_dict({**SMALL.to_dict(), **shape})
    weights = small_weights(config)
    _, variables = tw.load_generator(weights)
    tw.save(tw.generator_state_dict(families.build(config), variables), tmp_path / "x.safetensors")
    generator, again = tw.load_generator(tmp_path / "x.safetensors")
    assert generator.config == config
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    state_dict = tw.generator_state_dict(generator, again)
    assert list(state_dict) == list(weights)
    jax.tree.map(np.testing.assert_array_equal, state_dict, weights)


def test_a_file_that_was_read_is_not_read_again(tmp_path):
    tw.save(small_weights(), tmp_path / "x.safetensors")
    content = files.read(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").unlink()
    assert tw.load_generator(content)[0].config == SMALL
    with raises_user_error("wrong-network", "x.safetensors", "conv_out"):
        tw.load_face_parsing(content)


# --- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", list(small_weights()))
def test_a_missing_or_misshapen_key_is_named(key):
    weights = small_weights()
    without = {k: v for k, v in weights.items() if k != key}
    with pytest.raises(UserError) as caught:  # without some keys it is no generator at all
        tw.load_generator(without)
    assert caught.value.code in ("key-missing", "wrong-network")
    assert key in str(caught.value)
    if not key.endswith("weight"):  # The shapes of some weights say how wide the network is.
        with raises_user_error("key-shape", key):
            tw.load_generator({**weights, key: np.zeros((2, *weights[key].shape), np.float32)})


STRAY = [
    *("extra.weight", "fc.weight", "BottleNeck.7.conv1.1.bias", "BottleNeck.2.conv1.1.bias", "down0.0.weight"),
    *("down2.0.weight", "down9.0.weight", "up9.1.bias", "down99999999999.0.weight"),
]


@pytest.mark.parametrize("key", STRAY)
def test_an_unused_key_is_named(key):
    with raises_user_error("key-unused", key):
        tw.load_generator({**small_weights(), key: np.zeros(3, np.float32)})


def test_a_faulty_generator_is_not_said_to_be_none():
    weights = small_weights(dataclasses.replace(SMALL, widths=(4, 6, 8)))
    del weights["down1.0.weight"]
    with raises_user_error("key-missing", "the mapping", "down1.0.weight"):
        tw.load_generator(weights)


def test_what_the_weights_are_not():
    weights = small_weights()
    with raises_user_error("generator-preset", "custom", "224"):
        tw.load_generator(weights, preset="224")
    with raises_user_error("generator-config", "rgb"):
        tw.load_generator(weights, "rgb")
    with raises_user_error("wrong-network", "a SimSwap generator"):
        tw.load_discriminator(weights)
    with raises_user_error("not-an-identity-network", "a SimSwap generator"):
        tw.load_identity_network(weights)
    with raises_user_error("wrong-network", "BiSeNet"):
        tw.load_face_parsing(weights)
    with raises_user_error("wrong-network", "first_layer"):
        tw.load_generator({})
    with raises_user_error("key-type", "down1.0.bias"):
        tw.load_generator({**weights, "down1.0.bias": np.zeros(6, np.complex64)})
    with raises_user_error("weight-path-missing", "nowhere.pth"):
        tw.load_generator("nowhere.pth")


@pytest.mark.parametrize(
    "prefix", ["module.", "netG.", "model.generator.", "_orig_mod.module.", "generator._orig_mod."]
)
def test_any_prefix_is_taken_off(tmp_path, prefix):
    weights = {f"{prefix}{key}": value for key, value in small_weights().items()}
    others = {"netD.conv2.0.weight": np.zeros((1, 2, 4, 4), np.float32)}
    files.save(weights | others, tmp_path / "x.safetensors")
    for src in (weights, weights | others, tmp_path / "x.safetensors", files.read(tmp_path / "x.safetensors")):
        assert tw.load_generator(src)[0].config == SMALL


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    weights = small_weights()
    weights["up1.1.bias"][-1] = bad
    with raises_user_error("key-not-finite", "up1.1.bias", "the mapping"):
        tw.load_generator(weights)


def test_a_number_beyond_float32_is_not_finite():
    weights = small_weights()
    weights["up1.1.bias"] = np.full(4, 1e300)
    with raises_user_error("key-not-finite", "up1.1.bias"):
        tw.load_generator(weights)


@pytest.mark.parametrize("count", [np.nan, np.inf, -1, 1.5, 2**63, True, 1j, 1e30])
def test_counts_that_count_nothing_are_refused(count):
    dtype = np.uint64 if count == 2**63 else None
    with raises_user_error("key-count", "down1.1.num_batches_tracked"):
        tw.load_generator({**small_weights(), "down1.1.num_batches_tracked": np.asarray(count, dtype)})


@pytest.fixture
def five_seconds_of_the_processor():
    """Raises where a test takes more of it, whatever else runs."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("this system does not count a process's time")

    def stop(number, frame):
        raise TimeoutError("it took 5 s of the processor")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, 5)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def many_blocks(count):
    names = small_weights(dataclasses.replace(SMALL, blocks=1))
    block = {key: value for key, value in names.items() if key.startswith("BottleNeck.0.")}
    more = {key.replace(".0.", f".{i}.", 1): value for i in range(count) for key, value in block.items()}
    return {**names, **more}


@pytest.mark.parametrize(
    ("load", "weights"),
    [
        (tw.load_generator, {**small_weights(), f"down{'9' * 5000}.0.weight": np.zeros(3), f"up{'9' * 5000}.": 0}),
        (tw.load_generator, many_blocks(3000)),
        (tw.load_generator, {"first_layer.1.weight": np.zeros((2**20, 0, 7, 7), np.float32)}),
        (tw.load_discriminator, {"conv2.0.weight": 0, **{f"down{'9' * n}.0.weight": np.zeros(3) for n in (1, 5000)}}),
        (tw.load_discriminator, {f"down{i}.0.weight": np.zeros((1, 1, 4, 4)) for i in range(1, 99)}
         | {"conv1.0.weight": np.zeros((1, 1, 4, 4))}),
        (tw.load_identity_network, {"layer99.0.bn0.weight": np.zeros(3)}),
        (tw.load_identity_network, {f"layer{'9' * 5000}.0.bn0.weight": np.zeros(3)}),
        (tw.load_identity_network, {f"layer{i}.{i}.conv2.weight": np.zeros((4, 4, 3, 3)) for i in range(1, 3000)}),
        (tw.load_identity_network, {"dw_conv1.conv.weight": 0, "linear1.conv.weight": np.zeros((2**20, 1, 1, 1))}),
        (tw.load_face_parsing, {"conv_out.conv_out.weight": np.float32(0)}),
        (tw.load_generator, {f"\x1b[2J{i}": np.zeros(3) for i in range(9)}),
    ],
    ids=range(11),
)  # fmt: skip
@pytest.mark.usefixtures("five_seconds_of_the_processor")
def test_state_dicts_with_absurd_names_and_shapes_are_one_sentence(load, weights):
    with pytest.raises(UserError) as caught:
        load(weights)
    assert caught.value.code in ("key-unused", "key-missing", "key-shape", "wrong-network", "impossible-network",
                                 "generator-config", "not-an-identity-network")  # fmt: skip
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_512_generator_is_not_a_224():
    with raises_user_error("generator-preset", "512", "224"):
        tw.load_generator(numbered(layouts()["generator_512_tanh"]), preset="224")


def test_variables_of_another_network_are_refused():
    _, variables = tw.load_generator(small_weights())
    wider = Generator(dataclasses.replace(SMALL, widths=(4, 7)))
    with raises_user_error("network-variables-shape", "down1.0.weight"):
        tw.generator_state_dict(wider, variables)
    with raises_user_error("network-variables-missing", "params/bottleneck_2"):
        tw.generator_state_dict(Generator(dataclasses.replace(SMALL, blocks=3)), variables)
    with raises_user_error("network-variables-unknown"):
        tw.generator_state_dict(Generator(dataclasses.replace(SMALL, blocks=1)), variables)
    with raises_user_error("network-variables-missing"):
        tw.face_parsing_state_dict(BiSeNet(), variables)
    with raises_user_error("network-variables-missing"):
        tw.discriminator_state_dicts(MultiScaleDiscriminator(), variables)
    with raises_user_error("network-variables-missing"):
        tw.identity_state_dict(IdentityNetwork(IdentityConfig.from_name("iresnet18")), variables)


def test_every_number_of_the_published_checkpoint_is_used(outside):
    path = outside("mobilefacenet_casia.ckpt")
    network, variables = tw.load_identity_network(path)
    assert network.config == IdentityConfig.from_name("mobilefacenet")
    tensors, again = files.read(path).tensors, tw.identity_state_dict(network, variables)
    assert list(again) == list(tensors)
    assert all(np.array_equal(again[key], tensors[key]) for key in tensors)
    assert again["conv1.bn.num_batches_tracked"] > 0

"""The layers against plain formulas, both ways of writing a convolution against each other, the networks' contracts."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from simswap_jax import losses
from simswap_jax.models import DiscriminatorConfig, Generator, GeneratorConfig, MultiScaleDiscriminator
from simswap_jax.models import layers as L
from simswap_jax.models.compact import CompactConfig, CompactGenerator, with_colours_of
from simswap_jax.models.discriminator import average_pool
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.models.ops.convolution import convolve
from simswap_jax.models.ops.cpu import shifted_depthwise
from simswap_jax.models.ops.norm import Norm, normalised
from simswap_jax.models.ops.platform import lowering_for
from simswap_jax.models.simswap import AdaIN

SMALL = GeneratorConfig(widths=(4, 8, 8), blocks=2, identity_size=6)


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def same(actual, expected, tolerance=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1e-6, np.abs(expected).max()))


def gradients_agree(one, other, *arrays):
    """Values and gradients of two functions with respect to all their arrays."""
    weight = random(*jax.eval_shape(one, *arrays).shape, seed=9)
    positions = tuple(range(len(arrays)))

    def both(f):
        def loss(*arrays):
            y = f(*arrays)
            return jnp.sum(jnp.tanh(y) * weight), y

        with jax.default_matmul_precision("highest"):
            gradients, values = jax.jit(jax.grad(loss, positions, has_aux=True))(*arrays)
        return values, gradients

    jax.tree.map(same, both(one), both(other))


# --- convolutions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "inside", "out", "kernel", "stride", "padding"),
    [
        (11, 10, 3, 8, 7, 1, 0),
        (11, 15, 8, 3, 7, 1, 0),
        (9, 8, 12, 8, 5, 1, 2),
        (8, 8, 3, 4, 4, 2, 1),
        (7, 7, 3, 4, 3, 2, 1),
        (6, 5, 4, 6, 1, 2, 0),
        (6, 6, 4, 6, 3, 1, 1),
    ],
)
def test_convolutions_for_the_cpu_are_convolutions(height, width, inside, out, kernel, stride, padding):
    def plain(x, w):
        pads = ((padding, padding),) * 2
        return lax.conv_general_dilated(x, w, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def ours(x, w):
        return convolve(x, w, stride, padding)

    arrays = random(2, height, width, inside), random(kernel, kernel, inside, out, seed=1)
    for platform in (None, "cpu", "gpu"):
        with lowering_for(platform):
            gradients_agree(lambda x, w: ours(x, w), plain, *arrays)  # a new function: nothing of another trace serves


def test_the_platform_compiled_for_decides():
    x, w = jnp.ones((1, 9, 9, 8)), jnp.ones((3, 3, 1, 8))
    module = L.DepthwiseConv((3, 3))
    with lowering_for(None):
        traced = jax.jit(lambda x, w: module.apply({"params": {"kernel": w}}, x)).trace(x, w)
    programs = {name: traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda", "tpu")}
    assert [name for name, text in programs.items() if "feature_group_count = 8" in text] == ["cuda", "tpu"]

    def kinds():
        return str(jax.make_jaxpr(lambda x, w: module.apply({"params": {"kernel": w}}, x))(x, w))

    with lowering_for("cpu"):
        assert "feature_group_count" not in kinds()
        with lowering_for("tpu"):
            assert "feature_group_count=8" in kinds()
        assert "platform_index" not in kinds()
    with lowering_for(None):
        assert "platform_index" in kinds()


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride", "padding"),
    [(8, 6, (3, 3), 1, 1), (8, 6, (3, 3), 2, 1), (7, 9, (3, 3), 2, 1), (7, 6, (7, 6), 1, 0), (9, 7, (3, 2), 3, 0)],
)
def test_depthwise(height, width, kernel, stride, padding):
    def plain(x, w):
        pads, names = ((padding, padding),) * 2, ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w, (stride,) * 2, pads, dimension_numbers=names, feature_group_count=4)

    def ours(x, w):
        return shifted_depthwise(x, w, stride, padding)

    x, w = random(2, height, width, 4), random(*kernel, 1, 4, seed=1)
    gradients_agree(ours, plain, x, w)

    def slope(f):
        return lambda x, w: jax.grad(lambda x: jnp.sum(jnp.tanh(f(x, w))))(x)

    gradients_agree(slope(ours), slope(plain), x, w)


# --- norms ----------------------------------------------------------------------------------------------------------


def test_batch_norm_keeps_torchs_statistics():
    x = 3 + 2 * random(2, 3, 2, 4)
    norm = L.BatchNorm()
    variables = norm.init(jax.random.key(0), x)
    variables["params"]["scale"] = jnp.array([1.0, 2.0, 3.0, 4.0])
    y, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    flat = np.asarray(x, np.float64).reshape(-1, 4)
    same(y.reshape(-1, 4), (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * [1, 2, 3, 4])
    same(moved["batch_stats"]["mean"], 0.1 * flat.mean(0))
    same(moved["batch_stats"]["var"], 0.9 + 0.1 * flat.var(0, ddof=1))
    # Frozen statistics: used, not moved; a training pass that may not move them works too.
    y, kept = norm.apply({**variables, **moved}, x, mutable=["batch_stats"])
    jax.tree.map(same, kept["batch_stats"], moved["batch_stats"])
    stats = {k: np.asarray(v, np.float64) for k, v in kept["batch_stats"].items()}
    same(y.reshape(-1, 4), (flat - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * [1, 2, 3, 4])
    norm.apply(variables, x, train=True)


def test_batch_norm_over_devices_is_that_of_the_whole_batch():
    x, weight = random(4, 2, 3, 3, 5), random(4, 2, 3, 3, 5, seed=1)
    whole, split = L.BatchNorm(), L.BatchNorm(axis_name="devices")
    variables = whole.init(jax.random.key(0), x[0])

    def run(norm, x):
        y, moved = norm.apply(variables, x, train=True, mutable=["batch_stats"])
        return y, moved["batch_stats"]

    y, moved = run(whole, x.reshape(8, 3, 3, 5))
    parts, each = jax.vmap(lambda x: run(split, x), axis_name="devices")(x)
    same(parts.reshape(y.shape), y)
    jax.tree.map(lambda a, b: same(a, jnp.broadcast_to(b, a.shape)), each, moved)

    slope = jax.grad(lambda x: jnp.sum(run(whole, x)[0] * weight.reshape(8, 3, 3, 5)))(x.reshape(8, 3, 3, 5))

    def of_part(x, weight):  # a device's own loss; what it owes to the others' comes through the statistics
        return jax.grad(lambda x: jnp.sum(run(split, x)[0] * weight))(x)

    over_devices = jax.vmap(of_part, axis_name="devices")(x, weight)
    same(over_devices.reshape(slope.shape), slope, 1e-4)


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.2])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)], ids=["batch", "instance"])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_norms_own_gradients_are_those_jax_derives_twice_over(axes, slope, platform):
    """Of map, scale and bias; and theirs, which the gradient penalty takes."""
    kept = [1 if axis in axes else size for axis, size in enumerate((3, 4, 4, 5))]
    x, scale, bias = 7 + 2 * random(3, 4, 4, 5), random(*kept, seed=1), random(*kept, seed=2)
    weight, shift, norm = random(3, 4, 4, 5, seed=3), 7 + random(*kept, seed=4), Norm(axes, 1e-5, slope, jnp.float32)

    def plain(x, scale, bias):
        centred = x - jnp.mean(x, axes, keepdims=True)
        z = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + 1e-5) * scale + bias
        return jnp.where(z > 0, z, slope * z)

    def ours(*arguments):
        return normalised(*arguments, shift, norm)[0]

    def penalty(form, *arguments):
        slopes = jax.grad(lambda *given: jnp.sum(form(*given) * weight), (0, 1, 2))(*arguments)
        return sum(jnp.sum(jnp.sin(each)) for each in slopes)

    with lowering_for(platform):
        same(ours(x, scale, bias), plain(x, scale, bias), 1e-5)
        for order in (lambda form, *given: jnp.sum(form(*given) * weight), penalty):
            got, wanted = (
                jax.grad(functools.partial(order, form), (0, 1, 2))(x, scale, bias) for form in (ours, plain)
            )
            jax.tree.map(lambda a, b: same(a, b, 1e-4), got, wanted)


def test_batch_norm_of_a_single_value_is_refused():
    norm, x = L.BatchNorm(), jnp.ones((1, 4))
    with pytest.raises(ValueError, match="batch of at least two"):
        norm.apply(norm.init(jax.random.key(0), x), x, train=True)


def test_bfloat16_keeps_statistics_in_float32():
    x = (1000 + random(64, 4)).astype(jnp.bfloat16)
    norm = L.BatchNorm(dtype=jnp.bfloat16)
    y, moved = norm.apply(norm.init(jax.random.key(0), x), x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert moved["batch_stats"]["mean"].dtype == jnp.float32
    same(moved["batch_stats"]["mean"], 0.1 * np.asarray(x, np.float64).mean(0))


def test_adain_styles_a_normalised_map():
    x, identity = 2 + 3 * random(2, 4, 4, 3), random(2, 5, seed=1)
    module = AdaIN()
    params = module.init(jax.random.key(0), x, identity)["params"]
    params["linear"]["bias"] = jnp.arange(6.0)
    gamma, beta = np.split(np.asarray(identity @ params["linear"]["kernel"] + jnp.arange(6.0)[None]), 2, axis=1)
    flat = np.asarray(x, np.float64)
    centred = flat - flat.mean((1, 2), keepdims=True)
    expected = centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-8)
    expected = expected * (1 + gamma[:, None, None]) + beta[:, None, None]
    same(module.apply({"params": params}, x, identity), expected, 1e-4)


# --- networks -------------------------------------------------------------------------------------------------------


@functools.cache
def started(config, size=16):
    generator = (CompactGenerator if isinstance(config, CompactConfig) else Generator)(config)
    inputs = random(2, size, size, 3), random(2, config.identity_size, seed=1)
    return generator, jax.jit(generator.init)(jax.random.key(0), *inputs), inputs


@pytest.mark.slow
def test_remat_changes_nothing():
    plain, variables, inputs = started(SMALL)
    other = Generator(dataclasses.replace(SMALL, remat=True))

    def loss(generator):
        return lambda params: jnp.sum(generator.apply({**variables, "params": params}, *inputs) ** 2)

    ours, theirs = (jax.jit(jax.value_and_grad(loss(g)))(variables["params"]) for g in (other, plain))
    jax.tree.map(lambda a, b: same(a, b, 1e-4), ours, theirs)


def test_bfloat16_is_near_and_its_parameters_are_float32():
    exact, variables, inputs = started(SMALL)
    rounded = Generator(dataclasses.replace(SMALL, dtype="bfloat16"))
    made = jax.eval_shape(rounded.init, jax.random.key(0), *inputs)
    assert {a.dtype for a in jax.tree.leaves(made)} == {jnp.dtype("float32")}
    y, expected = (jax.jit(generator.apply)(variables, *inputs) for generator in (rounded, exact))
    assert y.dtype == jnp.float32
    same(y, expected, 0.05)
    assert not np.array_equal(y, expected)


@pytest.mark.parametrize("convention", ["unit", "imagenet"])
def test_pixel_unshuffle_and_conventions(convention):
    config = CompactConfig(**{**SMALL.to_dict(), "unshuffle": 2, "convention": convention})
    assert config.multiple == 8
    generator, variables, inputs = started(config, 24)
    y = jax.jit(generator.apply)(variables, *inputs)
    assert y.shape == (2, 24, 24, 3)
    assert bool(jnp.all((y > 0) & (y < 1))) == (convention == "unit")


def test_generator_configs():
    assert [GeneratorConfig.from_preset(name).preset for name in ("224", "224-deep", "512")] == [
        "224",
        "224-deep",
        "512",
    ]
    assert [GeneratorConfig.from_preset(name).multiple for name in ("224", "224-deep", "512")] == [8, 16, 16]
    assert GeneratorConfig.from_preset("512").downs == ("down0", "down1", "down2", "down3")
    assert GeneratorConfig.from_preset("512").ups == ("up3", "up2", "up1", "up0")
    assert SMALL.preset == "custom"
    for config in (SMALL, GeneratorConfig.from_preset("512", convention="imagenet", dtype="bfloat16", remat=True)):
        assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    discriminator = DiscriminatorConfig(widths=(8, 16), scales=3, norm="none")
    assert DiscriminatorConfig.from_dict(json.loads(json.dumps(discriminator.to_dict()))) == discriminator


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"convention": "rgb"}, "input normalization"),
        ({"dtype": "float16"}, "computing type"),
        ({"widths": (8,)}, "nothing to down-sample"),
        ({"blocks": 0}, "must be positive"),
    ],
)
def test_wrong_generator_configs(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **change)


@pytest.mark.parametrize(
    ("target", "identity", "words"),
    [
        ((2, 18, 16, 3), (2, 6), "18×16; its height and width must be multiples of 4"),
        ((2, 16, 16, 4), (2, 6), r"\[batch, height, width, 3\]"),
        ((2, 16, 16, 3), (2, 7), r"this generator takes \[2, 6\]"),
        ((2, 16, 16, 3), (1, 6), r"this generator takes \[2, 6\]"),
    ],
)
def test_wrong_inputs_are_named(target, identity, words):
    generator, variables, _ = started(SMALL)
    with pytest.raises(ValueError, match=words):
        generator.apply(variables, jnp.zeros(target), jnp.zeros(identity))


def test_halving_does_not_count_the_padding():
    x = random(1, 5, 6, 2)
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
    expected = [[np.nanmean(padded[0, i : i + 3, j : j + 3], (0, 1)) for j in (0, 2, 4)] for i in (0, 2, 4)]
    same(average_pool(x)[0], np.array(expected))


@pytest.mark.slow
def test_one_scale_alone_is_that_scale():
    networks = MultiScaleDiscriminator(DiscriminatorConfig(widths=(4, 4), tail=4, norm="none"))
    x = random(1, 32, 32, 3)
    variables = jax.jit(networks.init)(jax.random.key(0), x)
    assert set(variables) == {"params"}
    assert set(variables["params"]) == {"d1", "d2"}
    outputs = jax.jit(networks.apply)(variables, x)
    for i, (own, output) in enumerate(zip(networks.pyramid(x), outputs, strict=True)):
        alone = networks.apply(variables, i, own, method="scale")
        jax.tree.map(same, alone, output)
        assert len(output.features) == 3
    with pytest.raises(ValueError, match="cannot see 8×8 pixels"):
        networks.apply(variables, jnp.zeros((1, 8, 8, 3)))


def test_weak_feature_matching_takes_the_last_maps():
    fake = [(jnp.zeros((1, 2, 2, 1)),) * 3] * 2
    real = [tuple(jnp.full((1, 2, 2, 1), 10.0**i) for i in range(3))] * 2
    assert float(losses.weak_feature_matching(fake, real, 1)) == 220
    assert float(losses.weak_feature_matching(fake, real, 0)) == 222
    assert float(losses.weak_feature_matching(fake, real, 3)) == 0
    assert float(losses.weak_feature_matching(fake, real, 0, last=2)) == 22


# --- identity networks ----------------------------------------------------------------------------------------------


def test_faces_enter_as_each_network_wants_them():
    x = jnp.asarray(np.random.default_rng(0).random((1, 112, 112, 3), np.float32))
    mobile, arcface, resnet = (
        IdentityNetwork(IdentityConfig.from_name(name)) for name in ("mobilefacenet", "arcface50", "iresnet100")
    )
    same(mobile.preprocess(x), (255 * x[:, :, 8:104] - 127.5) / 128)
    same(resnet.preprocess(x), 255 * x / 127.5 - 1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    same(arcface.preprocess(x), (np.asarray(x) - mean) / std)
    large = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    same(resnet.preprocess(large, "nearest"), resnet.preprocess(x))
    assert not np.allclose(resnet.preprocess(large), resnet.preprocess(x))
    with pytest.raises(ValueError, match="no way of resizing"):
        resnet.preprocess(x, "linear")


def test_a_small_identity_network_of_any_size_trains_and_embeds():
    config = IdentityConfig(layers=(1, 1), widths=(8, 8), size=(16, 16), frame=(16, 16), embedding=7)
    network = IdentityNetwork(config)
    assert IdentityConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    variables = jax.jit(network.init)(jax.random.key(0))
    faces = jnp.asarray(np.random.default_rng(0).random((3, 20, 20, 3), np.float32))
    train = jax.jit(lambda *args: network.module.apply(*args, train=True, mutable=["batch_stats"]))
    raw, moved = train(variables, network.preprocess(faces))
    assert raw.shape == (3, 7)
    vectors = jax.jit(network.embed)({**variables, **moved}, faces)
    assert vectors.dtype == jnp.float32
    same(jnp.linalg.norm(vectors, axis=-1), np.ones(3))


def test_the_dropped_field_of_former_identity_networks():
    config = IdentityConfig.from_name("mobilefacenet")
    assert IdentityConfig.from_dict({**config.to_dict(), "products": "float32"}) == config
    with pytest.raises(ValueError, match="no longer supported"):
        IdentityConfig.from_dict({**config.to_dict(), "products": "bfloat16"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IdentityConfig.from_name("iresnet51"), "choose one of arcface18"),
        (lambda: IdentityConfig(family="facenet"), "is no identity network"),
        (lambda: IdentityConfig(layers=(1,)), "differ in length"),
        (lambda: IdentityConfig(size=(128, 128)), "enlarge the frame"),
        (lambda: IdentityConfig(values="bgr"), "is no value range"),
        (lambda: IdentityConfig.from_dict({"depth": 50}), "has no field depth"),
    ],
)
def test_wrong_identity_configs(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.slow
def test_a_mask_with_a_stride_is_smooth_and_shuts_and_opens_like_another():
    target, vector = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3), minval=0.5), jnp.ones((1, 3))
    shape = {"widths": (4, 6), "blocks": 1, "identity_size": 3, "stem_kernel": 3, "composition_mask": True}
    fine, coarse = (CompactGenerator(CompactConfig(**shape, mask_stride=stride)) for stride in (1, 8))
    variables = jax.jit(fine.init)(jax.random.key(1), target, vector)
    last = variables["params"]["last_layer"]

    def mask(generator, bias, gain):
        """How much of the target is mixed in: the drawing is black."""
        kernel = last["kernel"].at[..., :3].set(0.0).at[..., 3].multiply(gain)
        params = {**variables["params"], "last_layer": {"kernel": kernel, "bias": jnp.array([-50.0] * 3 + [bias])}}
        return (generator.apply({**variables, "params": params}, target, vector) / target)[0, ..., 0]

    for bias in (-50.0, 0.0, 50.0):
        same(mask(fine, bias, 0.0), mask(coarse, bias, 0.0))
    steps = [np.abs(np.diff(mask(generator, 0.0, 30.0), axis=0)).max() for generator in (fine, coarse)]
    assert steps[1] < 0.5 * steps[0]


def test_a_cast_of_colour_is_taken_off_and_what_is_finer_stays():
    target = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
    cast, light = jnp.array([[[[0.3, -0.1, 0.2]]]]), 0.1
    checks = 0.1 * jnp.where(jnp.indices((16, 16)).sum(0) % 2, 1.0, -1.0)[None, :, :, None]
    same(with_colours_of(target, target + cast + light + checks, 4, 8), target + checks)
    grey = float(cast.ravel() @ jnp.array([0.299, 0.587, 0.114]))
    same(with_colours_of(target, target + cast, 4, 0), target + grey)  # its light is the picture's own
    same(with_colours_of(target, target + cast, 0, 8), target + cast - grey)


def test_only_a_generator_of_plain_rgb_keeps_colours():
    shape = {"widths": (4, 6), "blocks": 1, "identity_size": 3}
    config = CompactConfig(**shape, colour_cell=2, light_cell=8)
    assert (config.multiple, config.preset) == (8, "custom")
    with pytest.raises(ValueError, match="set them to 0, or convention to 'unit'"):
        CompactConfig(**shape, light_cell=8, convention="imagenet")
    with pytest.raises(ValueError, match="colour_cell is 3; maps are doubled"):
        CompactConfig(**shape, colour_cell=3)
    target = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    result, _ = CompactGenerator(config).init_with_output(jax.random.key(1), target, jnp.ones((1, 3)))
    of_cells = np.asarray(result - target).reshape(2, 8, 2, 8, 3).mean((1, 3)) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(of_cells).max() < 0.05  # about the target's light, where the drawing has another


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["unit", "imagenet"])
def test_a_composition_mask_mixes_the_drawing_with_the_target(convention):
    shape = {"widths": (4, 6), "blocks": 1, "identity_size": 3, "convention": convention}
    target, vector = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3)), jnp.ones((2, 3))
    masked, plain = (
        CompactGenerator(CompactConfig(**shape, unshuffle=2, stem_kernel=3, composition_mask=mask))
        for mask in (True, False)
    )
    variables = jax.jit(masked.init)(jax.random.key(1), target, vector)
    last = variables["params"]["last_layer"]

    def with_mask(logit):
        kernel = last["kernel"].at[..., 3].set(0.0)
        params = {**variables["params"], "last_layer": {"kernel": kernel, "bias": last["bias"].at[3].set(logit)}}
        return masked.apply({**variables, "params": params}, target, vector)

    three = {"kernel": last["kernel"][..., :3], "bias": last["bias"][:3]}
    drawn = plain.apply({**variables, "params": {**variables["params"], "last_layer": three}}, target, vector)
    same(with_mask(-50.0), drawn)
    same(with_mask(50.0), target)
    same(with_mask(0.0), 0.5 * drawn + 0.5 * target)

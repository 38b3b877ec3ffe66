"""FSGAN's networks: their published size, heat maps and masks of landmarks, who draws what, what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax.models import families
from simswap_jax.models.fsgan import FSGANConfig, face_mask, heat_maps
from tests.support.small_model import lively

SMALL = FSGANConfig(widths=(4, 4), flat=(0, 0), flat_up=(0,), pyramid=1, points=5)
FACE = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7)], np.float32)
MASK = jax.jit(face_mask, static_argnums=(1, 2))


@functools.cache
def shapes_of(config):
    network = families.build(config)
    return jax.eval_shape(lambda key: network.init(key, 64), jax.random.key(0))


@pytest.mark.parametrize(
    ("preset", "points", "published"),
    [("original", 98, {"reenact": 76.0, "inpaint": 74.2, "blend": 74.2}),
     ("small", 21, {"reenact": 0.67, "inpaint": 0.65, "blend": 0.65})],
)  # fmt: skip
def test_parameters_are_counted_as_published(preset, points, published):
    """With the norms' statistics, as the published files hold them."""
    made = shapes_of(FSGANConfig.from_preset(preset, points=points))
    for name, millions in published.items():
        counted = sum(leaf.size for tree in made.values() for leaf in jax.tree.leaves(tree[name])) / 1e6
        assert round(counted, 1 if preset == "original" else 2) == millions


def test_the_published_layers():
    params = shapes_of(FSGANConfig())["params"]
    kernels = {name: part["conv"]["kernel"].shape for name, part in params["reenact"].items() if "conv" in part}
    assert kernels == {
        "in0": (7, 7, 101, 128), "in1": (7, 7, 101, 256), "down2": (3, 3, 256, 512), "down2_second": (3, 3, 512, 512),
        "down3": (3, 3, 512, 1024), "down3_second": (3, 3, 1024, 1024), "up2": (3, 3, 1024, 512),
        "up1": (3, 3, 512, 256), "up0": (3, 3, 256, 128),
    }  # fmt: skip
    blocks = [name for name in params["reenact"] if name.startswith("flat")]
    assert sorted(blocks) == [f"flat{level}_block{i}" for level in range(4) for i in (1, 2)]
    assert {name: net["last"]["kernel"].shape for name, net in params.items()} == {
        "reenact": (7, 7, 128, 6), "inpaint": (7, 7, 128, 3), "blend": (7, 7, 128, 3),
    }  # fmt: skip
    assert (params["inpaint"]["in0"]["conv"]["kernel"].shape[2], params["blend"]["in0"]["conv"]["kernel"].shape[2]) == (
        4,
        7,
    )
    assert all("bias" not in part.get("conv", {}) for net in params.values() for part in net.values())


def test_heat_maps_stand_where_the_landmarks_are():
    side = 64
    points = jnp.array([[((10 + 0.5) / side, (20 + 0.5) / side), (1.5, 0.5)]])
    maps = np.asarray(jax.jit(heat_maps, static_argnums=1)(points, side))
    assert maps.shape == (1, side, side, 2)
    assert np.unravel_index(maps[0, ..., 0].argmax(), (side, side)) == (20, 10)
    assert maps[0, 20, 10, 0] == 1.0
    around = (1 - 2 / side / np.sqrt(2)) ** 8  # a pixel on: d = 2 / 64
    np.testing.assert_allclose([maps[0, 20, 11, 0], maps[0, 21, 10, 0]], around, rtol=1e-5)
    assert np.count_nonzero(maps[0, ..., 0]) == 5  # the next ones are below 0.8
    assert not maps[0, ..., 1].any()  # outside of the picture


def test_the_mask_is_the_hull_of_the_landmarks():
    side = 40
    points = jnp.array([[(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75), (0.5, 0.5)]])
    mask = np.asarray(MASK(points, side, 1.0))[0, ..., 0]
    expected = np.zeros((side, side))
    expected[10:30, 10:30] = 1
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_allclose(np.asarray(MASK(points, side, 1.5)).sum(), 30 * 30)
    whole = np.asarray(MASK(points, side, 9.0))[0, ..., 0]
    assert whole[1:-1, 1:-1].all()
    assert not whole[0].any()
    assert not whole[:, -1].any()


@pytest.mark.slow  # compiles the chain
def test_the_target_stands_outside_of_the_face_and_the_source_is_drawn_inside():
    network = families.build(SMALL)
    variables = lively(jax.eval_shape(lambda key: network.init(key, 16), jax.random.key(0)))
    target, source, other = jax.random.uniform(jax.random.key(1), (3, 2, 16, 16, 3))
    points = jnp.asarray(np.stack([FACE, FACE + np.float32([0.1, 0])]))
    draw = jax.jit(lambda *given: network.apply(variables, given[0], {"picture": given[1], "target_points": given[2]}))
    result, of_other = draw(target, source, points), draw(target, other, points)
    inside = np.asarray(MASK(points, 16, SMALL.reach))[..., 0] > 0
    np.testing.assert_allclose(np.asarray(result)[~inside], np.asarray(target)[~inside], atol=1e-6)
    assert np.abs(np.asarray(result - of_other))[inside].max() > 1e-4
    assert np.abs(np.asarray(result - draw(target, source, points[::-1]))).max() > 1e-4
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "small", "pyramid": 3}, r"pyramid is 3, and preset 'small'"),
        ({"preset": "huge"}, "no preset of the FSGAN generator"),
        ({"preset": "", "flat": (1, 1)}, "as many numbers in flat"),
        ({"preset": "", "pyramid": 5}, "pyramid is 5"),
        ({"convention": "imagenet"}, "convention 'unit'"),
        ({"points": 2}, "3 to 1000"),
    ],
)
def test_a_shape_that_cannot_be_is_one_sentence(fields, words):
    family = families.get("fsgan")
    with pytest.raises(ValueError, match=words):
        family.from_fields({**family.fields(), **fields}, 0)


def test_presets_leave_the_landmarks_free():
    family = families.get("fsgan")
    made = family.from_fields({**family.fields(), "preset": "small", "points": 5, "reach": 2.0}, 0)
    assert (made.widths, made.points, made.reach, made.multiple) == ((16, 32, 64, 96), 5, 2.0, 16)
    assert family.warm_start(made, family.config_class.from_preset("small", points=5)) is None
    assert family.warm_start(made, made) is not None

"""The door to all generators is open to the outside: a family that this test defines is saved, loaded and applied."""

import dataclasses
import functools
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from simswap_jax.models import families
from simswap_jax.models.compact import CLOSED, CompactConfig, CompactGenerator
from simswap_jax.models.config import DictConfig
from simswap_jax.models.families import Family, SwapNetwork
from simswap_jax.models.simswap import Generator, GeneratorConfig
from simswap_jax.weights import model_folder, onnx_export, torch_weights
from tests.support.errors import raises_user_error

NAME = "tests.models.test_families:TOY"
FORMER = {"patch": 1, "edge_kernel": 7, "gated": False, "gate_cell": 1, "style_gain": 1.0}


@dataclasses.dataclass(frozen=True)
class ToyConfig(DictConfig):
    family: ClassVar[str] = NAME
    described: ClassVar[str] = "toy"
    people: int = 3
    convention: str = "unit"
    dtype: str = "float32"

    @property
    def multiple(self):
        return 4


class Toy(nn.Module):
    """Tints the target by person and by the mean of a picture."""

    config: ToyConfig

    @nn.compact
    def __call__(self, target, person, picture, train=False):
        tints = self.param("tints", nn.initializers.normal(), (self.config.people, 3))
        return target + tints[person][:, None, None, :] + picture.mean((1, 2), keepdims=True)


TOY = Family(
    name=NAME,
    config_class=ToyConfig,
    takes=frozenset({"person", "picture"}),
    module=lambda config, axis_name: Toy(config),
    fields=lambda: ToyConfig().to_dict(),
    from_fields=lambda fields, identity_size: ToyConfig.from_dict(fields),
    describe=lambda config: f"{config.people} tints",
    warm_start=lambda former, config: None,
)


@pytest.fixture(scope="module")
def model():
    config = ToyConfig(people=2)
    return model_folder.ModelFolder(
        generator=config,
        variables=jax.jit(families.build(config).init, static_argnums=1)(jax.random.key(0), 8),
        face_size=8,
        alignment="simswap",
        identity=None,
        identity_variables=None,
        identity_sha256="",
        identity_name="",
    )


def test_a_family_from_outside_is_saved_loaded_and_applied(tmp_path, model):
    again = model_folder.read(model_folder.write(tmp_path / "toy", model, include_identity=False))
    assert again.generator == model.generator
    described = json.loads((tmp_path / "toy" / "config.json").read_text())
    assert (described["format"], described["generator"]["family"], described["identity"]) == (2, NAME, None)
    assert "2 tints" in (tmp_path / "toy" / "README.md").read_text()
    assert again.network.takes == {"person", "picture"}
    assert again.network.identity_size is None
    target, picture = jnp.zeros((2, 8, 8, 3)), jnp.full((2, 8, 8, 3), 0.5)
    given = {"person": jnp.array([1, 0]), "picture": picture, "vector": jnp.zeros((2, 4))}
    result = again.network.apply(again.variables, target, given)
    np.testing.assert_allclose(result[:, 0, 0], model.variables["params"]["tints"][::-1] + 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="needs picture"):
        again.network.apply(again.variables, target, {"person": jnp.array([1, 0])})


def test_what_a_family_has_no_writer_for_is_refused_in_one_sentence(tmp_path, model):
    with raises_user_error("family-without-onnx", NAME):
        onnx_export.export_generator(model.generator, model.variables, tmp_path / "toy.onnx")
    with raises_user_error("family-without-pytorch", NAME):
        torch_weights.generator_state_dict(model.network, model.variables)
    with raises_user_error("family-without-pytorch", NAME):
        torch_weights.load_generator({}, family=NAME)
    with raises_user_error("model-takes-no-vectors", NAME):
        _ = model.identity_network
    assert list(tmp_path.iterdir()) == []


def test_a_generator_of_vectors_needs_its_identity_network(tmp_path, model):
    config = GeneratorConfig(widths=(4, 6), blocks=1, identity_size=8)
    with raises_user_error("model-without-identity-network"):
        model_folder.write(tmp_path / "x", dataclasses.replace(model, generator=config), include_identity=False)


def test_configurations_go_into_dicts_and_back():
    for config in (GeneratorConfig(widths=(4, 6)), CompactConfig(unshuffle=2, composition_mask=True), ToyConfig()):
        values = json.loads(json.dumps(families.config_to_dict(config)))
        assert families.config_from_dict(values) == config
        assert families.of_config(config).name == values["family"] == config.family
        fields = families.of_config(config).fields()
        assert isinstance(families.of_config(config).from_fields(fields, 512), type(config))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, GeneratorConfig()),
        ({"gated": True}, CompactConfig(composition_mask=True)),
        ({"patch": 2, "edge_kernel": 3}, CompactConfig(unshuffle=2, stem_kernel=3)),
        ({"gate_cell": 4, "style_gain": 8.0}, CompactConfig(mask_stride=4, adain_init_scale=8.0)),
    ],
)
def test_dicts_of_before_there_were_families_are_read(change, expected):
    former = {**GeneratorConfig().to_dict(), **FORMER, **change}
    assert families.config_from_dict(former) == expected
    fields = {key: value for key, value in former.items() if key not in ("identity_size", "first_down")}
    family = families.of_former_fields({**fields, "preset": ""})
    assert family.from_fields({**fields, "preset": ""}, 512) == expected
    # A preset said the whole shape.
    assert families.of_former_fields({**fields, "preset": "512"}).from_fields(
        {**fields, "preset": "512"}, 128
    ) == GeneratorConfig.from_preset("512", identity_size=128)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", "choose simswap, compact"),
        ("no.such:thing", "cannot be imported"),
        (f"{NAME}s", "cannot be imported"),
    ],
)
def test_an_unknown_family_is_one_sentence(name, words):
    with pytest.raises(ValueError, match=words):
        families.get(name)
    with pytest.raises(ValueError, match=words):
        families.config_from_dict({"family": name})


def test_wrong_families_and_fields():
    with pytest.raises(ValueError, match="takes sound; known are vector, person"):
        dataclasses.replace(TOY, takes=frozenset({"sound"}))
    with pytest.raises(ValueError, match="The toy's configuration has no field depth"):
        families.config_from_dict({"family": NAME, "depth": 3})


def test_only_a_family_of_vectors_is_written_as_onnx():
    with pytest.raises(ValueError, match="takes person, picture; only one that takes a vector alone"):
        dataclasses.replace(TOY, onnx="tests.models.test_families:write")
    assert dataclasses.replace(TOY, takes=frozenset({"vector"}), onnx="tests.models.test_families:write").onnx
    with pytest.raises(ValueError, match="is no configuration of the family"):
        families.build(type("Other", (ToyConfig,), {})())


@pytest.mark.parametrize(
    "config", [GeneratorConfig(widths=(4, 6), blocks=1, identity_size=3), CompactConfig((4, 6), 1, 3)]
)
def test_the_door_gives_what_the_module_gives(config):
    network = families.build(config)
    module = (CompactGenerator if isinstance(config, CompactConfig) else Generator)(config)
    key, target, vector = jax.random.key(0), jax.random.uniform(jax.random.key(1), (2, 8, 8, 3)), jnp.ones((2, 3))
    variables = jax.jit(network.init, static_argnums=1)(key, 8)
    expected = jax.jit(module.init)(key, target, vector)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert network.module == module
    assert isinstance(network, SwapNetwork)
    np.testing.assert_array_equal(
        jax.jit(network.apply)(variables, target, {"vector": vector}), jax.jit(module.apply)(variables, target, vector)
    )
    trained = functools.partial(network.apply, train=True, mutable=["batch_stats"])
    _, moved = jax.eval_shape(trained, variables, target, {"vector": vector})
    assert set(moved) == {"batch_stats"}


def test_a_generator_grows_a_mask_that_is_nearly_closed():
    small = {"widths": (4, 6), "blocks": 1, "identity_size": 3}
    plain, masked = GeneratorConfig(**small), CompactConfig(**small, composition_mask=True, mask_stride=2)
    assert families.of_config(plain).warm_start(masked, plain) is None
    assert families.of_config(masked).warm_start(dataclasses.replace(plain, blocks=2), masked) is None
    former, fresh = (
        jax.tree.map(lambda x: jnp.ones(x.shape), jax.eval_shape(lambda n=n: n.init(jax.random.key(0), 8)))["params"]
        for n in (families.build(plain), families.build(masked))
    )
    grown = families.of_config(masked).warm_start(plain, masked)(former, fresh)
    assert jax.tree.map(jnp.shape, grown) == jax.tree.map(jnp.shape, fresh)
    assert grown["last_layer"]["bias"].tolist() == [1, 1, 1, CLOSED]
    assert not grown["last_layer"]["kernel"][..., 3].any()
    assert families.of_config(masked).warm_start(masked, masked)(fresh, fresh)["last_layer"]["bias"].tolist() == [1] * 4

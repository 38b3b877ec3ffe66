"""The model folder: what is written is read again, and nothing is used for what it was not made for."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, model_folder, registry, torch_weights
from simswap_jax.weights.model_folder import ModelFolder, check_use, read, write
from tests.support.errors import raises_user_error


def random(shapes):
    """Random arrays of the given shapes: far faster than running a network's own initialisers."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape, np.float32), shapes)


@pytest.fixture(scope="module")
def model():
    """A small generator and a small identity network, with random weights."""
    generator = GeneratorConfig(widths=(4, 6, 8), blocks=2, identity_size=16, convention="imagenet")
    identity = IdentityConfig(
        family="iresnet", layers=(1, 1), widths=(4, 8), size=(16, 16), frame=(16, 16), embedding=16
    )
    inputs = (jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 16)))
    return ModelFolder(
        generator=generator,
        variables=random(jax.eval_shape(Generator(generator).init, jax.random.key(0), *inputs)),
        face_size=32,
        alignment="rendered",
        identity=identity,
        identity_variables=random(jax.eval_shape(IdentityNetwork(identity).init, jax.random.key(1))),
        identity_sha256="ab" * 32,
        identity_name="small.safetensors",
        card={"licence": "Apache-2.0", "step": 7, "note": "a | b"},
    )


@pytest.fixture
def folder(tmp_path, model):
    return write(tmp_path / "model", model, include_identity=True)


def flat(variables):
    return traverse_util.flatten_dict(variables, sep="/")


def rewrite(folder, change):
    described = json.loads((folder / "config.json").read_text())
    change(described)
    (folder / "config.json").write_text(json.dumps(described))


def test_what_is_written_is_read(folder, model):
    again = read(folder)
    for field in dataclasses.fields(ModelFolder):
        if not field.name.endswith("variables"):
            assert getattr(again, field.name) == getattr(model, field.name)
    for mine, theirs in ((again.variables, model.variables), (again.identity_variables, model.identity_variables)):
        assert flat(mine).keys() == flat(theirs).keys()
        for name, value in flat(mine).items():
            np.testing.assert_array_equal(value, flat(theirs)[name])
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "generator.safetensors",
        "identity.safetensors",
    ]


def test_the_card_tells_people_what_they_must_know(folder):
    card = (folder / "README.md").read_text()
    for text in (
        "Apache-2.0",
        "imagenet",
        "32×32",
        "rendered",
        "small.safetensors",
        "ab" * 32,
        "a \\| b",
        "| Step | 7 |",
    ):
        assert text in card


def test_bfloat16_rounds_matrices_and_nothing_else(tmp_path, model):
    again = read(write(tmp_path / "half", model, include_identity=True, dtype="bfloat16"))
    full = write(tmp_path / "full", model, include_identity=True)
    for name, value in flat(again.variables).items():
        wanted = flat(model.variables)[name]
        assert value.dtype == np.float32
        if wanted.ndim > 1:
            np.testing.assert_allclose(value, wanted, rtol=2**-8)
        else:
            np.testing.assert_array_equal(value, wanted)
    assert (tmp_path / "half" / "generator.safetensors").stat().st_size < (
        full / "generator.safetensors"
    ).stat().st_size


def test_writing_again_replaces_all_of_it(folder, model):
    write(folder, dataclasses.replace(model, face_size=64), include_identity=False)
    assert not (folder / "identity.safetensors").exists()
    assert read(folder, with_identity=False).face_size == 64
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_model_and_nothing_else(folder, model, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "_card", full_disk)
    with raises_user_error("cannot-write", "No space left"):
        write(folder, dataclasses.replace(model, face_size=64), include_identity=True)
    monkeypatch.undo()
    assert read(folder).face_size == 32
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_other_peoples_folders_are_not_replaced(tmp_path, model):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with raises_user_error("folder-in-use"):
        write(tmp_path / "photos", model, include_identity=False)
    assert (tmp_path / "photos" / "me.jpg").exists()


@pytest.mark.parametrize(
    ("expectation", "code", "named"),
    [
        ({"face_size": 224}, "model-face-size", (32, 224)),
        ({"alignment": "ffhq"}, "model-alignment", ("rendered", "ffhq")),
        ({"identity_sha256": "cd" * 32}, "model-identity", ("small.safetensors", "cdcd")),
    ],
)
def test_use_for_something_else_is_refused_with_the_reason(folder, model, expectation, code, named):
    with raises_user_error(code, *named):
        read(folder, **expectation)
    with raises_user_error(code, *named):
        check_use(model, "it", **expectation)
    check_use(model, "it", face_size=32, alignment="rendered", identity_sha256="ab" * 32)


def test_an_identity_network_that_is_not_ours_is_found_by_its_sum(tmp_path, model, monkeypatch):
    folder = write(tmp_path / "model", model, include_identity=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    with raises_user_error("weights-of-sha256-missing", "small.safetensors"):
        read(folder)
    assert read(folder, with_identity=False).identity_variables is None


def test_pytorchs_counts_and_a_public_identity_network_come_back(tmp_path, model, monkeypatch):
    network = IdentityNetwork(model.identity)
    counts = {"num_batches_tracked": {"bn1": {"count": np.array(5, np.int64)}}}
    state_dict = torch_weights.identity_state_dict(network, {**model.identity_variables, **counts})
    path = files.save(state_dict, tmp_path / "public.safetensors")
    public = dataclasses.replace(
        model, identity_sha256=registry.file_sha256(path), variables={**model.variables, **counts}
    )
    folder = write(tmp_path / "model", public, include_identity=False)
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    again = read(folder)
    assert again.variables["num_batches_tracked"]["bn1"]["count"] == 5
    for name, value in torch_weights.identity_state_dict(network, again.identity_variables).items():
        np.testing.assert_array_equal(value, state_dict[name])
    shown_otherwise = dataclasses.replace(model.identity, resize="area", dtype="bfloat16")
    write(folder, dataclasses.replace(public, identity=shown_otherwise), include_identity=False)
    assert read(folder).identity == shown_otherwise
    deeper = dataclasses.replace(model.identity, layers=(9, *model.identity.layers[1:]))
    write(folder, dataclasses.replace(public, identity=deeper, identity_variables=None), include_identity=False)
    with raises_user_error("model-identity-file", "public.safetensors"):
        read(folder)


def damage_config(folder):
    (folder / "config.json").write_text("{ not json")


def damage_field(folder):
    rewrite(folder, lambda d: d.pop("alignment"))


def damage_generator(folder):
    rewrite(folder, lambda d: d["generator"].update(depth=3))


def damage_format(folder):
    rewrite(folder, lambda d: d.update(format=99))


def damage_list(folder):
    (folder / "config.json").write_text("[1]")


def damage_truncate(folder):
    data = (folder / "generator.safetensors").read_bytes()
    (folder / "generator.safetensors").write_bytes(data[: len(data) // 2])


def damage_bit(folder):
    data = bytearray((folder / "generator.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "generator.safetensors").write_bytes(data)


def damage_gone(folder):
    (folder / "identity.safetensors").unlink()


def damage_width(folder):
    rewrite(folder, lambda d: d["generator"].update(widths=[4, 6, 10]))


def damage_size(folder):
    rewrite(folder, lambda d: d.update(face_size=30))


def damage_alignment(folder):
    rewrite(folder, lambda d: d.update(alignment="sideways"))


def damage_identity(folder):
    rewrite(folder, lambda d: d["identity"]["config"].update(embedding=8))


@pytest.mark.parametrize(
    ("damage", "code", "named"),
    [
        (damage_config, "model-folder-config", "config.json"),
        (damage_field, "model-folder-config", "alignment"),
        (damage_generator, "model-folder-config", "depth"),
        (damage_format, "model-folder-format", "99"),
        (damage_list, "model-folder-config", "config.json"),
        (damage_truncate, "weight-file-damaged", "generator.safetensors"),
        (damage_bit, "model-folder-changed", "generator.safetensors"),
        (damage_gone, "model-folder-incomplete", "identity.safetensors"),
        (damage_width, "variables-shape", "10"),
        (damage_size, "model-face-size-multiple", "30"),
        (damage_alignment, "unknown-alignment", "sideways"),
        (damage_identity, "model-identity-size", "8 dimensions"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_damaged_folder_is_one_sentence(folder, damage, code, named):
    damage(folder)
    with raises_user_error(code, named) as caught:
        read(folder)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_foreign_one_are_one_sentence(tmp_path):
    with raises_user_error("not-a-model-folder", "nowhere"):
        read(tmp_path / "nowhere")
    with raises_user_error("not-a-model-folder", "config.json"):
        read(tmp_path)


def test_parts_that_do_not_fit_are_not_written(tmp_path, model):
    lacking = {"params": model.variables["params"]}
    with raises_user_error("variables-missing", "batch_stats/"):
        write(tmp_path / "model", dataclasses.replace(model, variables=lacking), include_identity=False)
    extra = {**model.variables, "more": {"x": np.zeros(3)}}
    with raises_user_error("variables-unknown", "more/x"):
        write(tmp_path / "model", dataclasses.replace(model, variables=extra), include_identity=False)
    with raises_user_error("model-folder-dtype", "float8"):
        write(tmp_path / "model", model, include_identity=False, dtype="float8")
    assert os.listdir(tmp_path) == []


def test_the_sum_of_a_file_is_that_of_its_bytes(folder):
    described = json.loads((folder / "config.json").read_text())
    assert described["sha256"]["generator.safetensors"] == registry.file_sha256(folder / "generator.safetensors")

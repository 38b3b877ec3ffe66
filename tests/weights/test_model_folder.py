"""The model folder: what is written is read again, and nothing is used for what it was not made for."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from simswap_jax.errors import UserError
from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, model_folder, registry, torch_weights
from simswap_jax.weights.model_folder import GENERATOR, ModelFolder, check_use, read, write
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


ABSURD = [
    *({"generator": {"blocks": value}} for value in (0, 3000, 2**40, -1, 1.5, True, None, "many", [2], float("nan"))),
    *({"generator": {"widths": value}} for value in ([], [4], [4, 2**40], [4, "6", 8], "468", 4, [[4]], [4] * 99)),
    *({"generator": {"first_down": value}} for value in (2**40, "1", None, float("inf"))),
    *({"generator": {"unshuffle": value}} for value in (3, 2**40, -2, 0.5, "2")),
    *({"generator": {"edge_kernel": value}} for value in (2, 2**40, -3, 5.0, {})),
    *({"generator": {"gated": True, "gate_cell": value}} for value in (2**40, 0, 1e9, "8")),
    *({"generator": {"style_gain": value}} for value in (float("-inf"), 1e300, "1", False)),
    *({"generator": {"convention": value}} for value in ("rgb", 1, None, "unit" * 99)),
    *({"generator": value} for value in (None, [], "simswap", {"family": 3}, {"family": "nowhere:X"})),
    *(
        {"generator": {"family": value}}
        for value in ("this:s", "pip.__main__:x", ":", "os:path", "../x:y", "\x1b[2J:a")
    ),
    *({"face_size": value} for value in (2**20, 0, -32, 32.0, "32", None, True, float("nan"), 4)),
    *({"alignment": value} for value in (None, 7, "\x1b[31m", [])),
    *({"identity": {"config": {"layers": value}}} for value in ([], [1] * 99, [2**40, 1], [1, None], "11", [200, 200])),
    *({"identity": {"config": {"size": value}}} for value in ([0, 0], [2**40, 16], [16], [1.5, 2])),
    *({"identity": {"name": value}} for value in ("../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, None, "..")),
    *({"identity": {"sha256": value}} for value in ("ab", 7, "AB" * 32, "\x1b" * 64)),
    *({"identity": value} for value in ([], "none", 3)),
    *({"card": value} for value in (None, [], "mine")),
    *({"sha256": value} for value in (None, [], {"generator.safetensors": 1}, {"generator.safetensors": "x"})),
    *({"format": value} for value in (True, 2.0, "2", None, 10**400)),
]


def merged(into, change):
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict) and value:
            merged(into[name], value)
        else:
            into[name] = value


def test_absurd_values_are_refused_before_anything_is_built(folder, monkeypatch):
    def too_late(*_):
        raise AssertionError("the weights were looked at")

    written = (folder / "config.json").read_bytes()
    described = json.loads(written)
    described["generator"].pop("family")  # so that the compact one's fields may stand there, under their former names
    monkeypatch.setattr(model_folder, "_read_weights", too_late)
    for change in ABSURD:
        if change in ({"face_size": 4}, {"alignment": "\x1b[31m"}):
            continue  # which are refused against the rest
        changed = json.loads(json.dumps(described))
        merged(changed, change)
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(UserError) as caught:
            read(folder)
        assert caught.value.code in ("model-folder-config", "model-folder-format"), (change, caught.value)
        assert str(caught.value).isprintable(), change
        assert len(str(caught.value)) < 1000, change


def test_what_is_refused_against_the_rest(folder):
    for change, code in (({"alignment": "\x1b"}, "unknown-alignment"), ({"face_size": 4}, "model-face-size-multiple")):
        rewrite(folder, lambda described, change=change: described.update(change))
        with raises_user_error(code):
            read(folder)


def test_a_description_larger_than_any_or_nested_beyond_measure_is_refused(folder):
    for content in (b" " * (2 << 20), b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"1" * 5000, b""):
        (folder / "config.json").write_bytes(content)
        with raises_user_error("model-folder-config"):
            read(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["config.json", "generator.safetensors", "identity.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with raises_user_error("not-a-model-folder" if name == "config.json" else "model-folder-incomplete"):
        read(folder)


def test_a_name_that_cannot_be_one_is_a_folder_that_does_not_exist(tmp_path):
    for name in ("x" * 5000, "a\0b"):
        with raises_user_error("not-a-model-folder", "does not exist"):
            read(tmp_path / name)


def spoilt(variables, value, dtype=np.float32):
    """The variables with one number, the last of the last array, replaced."""
    made = {name: np.array(array) for name, array in flat(variables).items()}
    last = list(made)[-1]
    made[last] = made[last].astype(dtype)
    made[last].flat[-1] = value
    return traverse_util.unflatten_dict(made, sep="/"), last


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_is_neither_written_nor_read(tmp_path, folder, model, value):
    variables, last = spoilt(model.variables, value)
    with raises_user_error("variables-not-finite", last):
        write(tmp_path / "bad", dataclasses.replace(model, variables=variables), include_identity=False)
    assert not (tmp_path / "bad").exists()
    of_identity, last = spoilt(model.identity_variables, value)
    with raises_user_error("variables-not-finite", "the identity network", last):
        write(tmp_path / "bad", dataclasses.replace(model, identity_variables=of_identity), include_identity=True)
    replace_weights(folder, flat(variables))
    with raises_user_error("variables-not-finite"):
        read(folder)


def replace_weights(folder, arrays):
    files.save(arrays, folder / "generator.safetensors")
    rewrite(folder, lambda d: d["sha256"].update({"generator.safetensors": registry.file_sha256(folder / GENERATOR)}))


def test_a_number_too_large_for_float32_is_not_finite(folder, model):
    variables, last = spoilt(model.variables, 1e300, np.float64)
    replace_weights(folder, flat(variables))
    with raises_user_error("variables-not-finite", last):
        read(folder)


def test_weights_of_another_kind_are_refused(folder, model):
    whole = flat(model.variables)
    last = list(whole)[-1]
    for arrays, code in (
        ({**whole, last: whole[last].astype(np.int32)}, "variables-type"),
        ({**whole, last: whole[last].astype(bool)}, "variables-type"),
        ({**whole, "num_batches_tracked/a/count": np.float32(np.nan)}, "variables-not-finite"),
        ({**whole, "num_batches_tracked/a/count": np.bool_(True)}, "variables-type"),
        ({**whole, "num_batches_tracked/a/count": np.ones((3,), np.int64)}, "variables-type"),
        ({**whole, f"{last}/more": whole[last]}, "variables-names"),
        ({**whole, "\x1b[2Jx": whole[last]}, "weight-file-impossible-name"),
    ):
        replace_weights(folder, arrays)
        with raises_user_error(code) as caught:
            read(folder)
        assert str(caught.value).isprintable()


def test_names_that_are_no_unicode_come_back(tmp_path, model):
    strange = os.fsdecode(b"\xff network.pth")
    folder = write(tmp_path / "model", dataclasses.replace(model, identity_name=strange), include_identity=True)
    (folder / "config.json").read_text(encoding="utf-8")
    assert read(folder).identity_name == strange


def test_json_stays_json(tmp_path, model):
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "model", dataclasses.replace(model, card={"loss": float("nan")}), include_identity=False)
    assert os.listdir(tmp_path) == []


def test_a_layout_says_what_a_network_makes(model):
    """Shapes are checked by the layout: tracing the network takes seconds."""
    made = jax.eval_shape(lambda key: model.network.init(key, model.face_size), jax.random.key(0))
    wanted = model_folder._generator_shapes(model.network, model.face_size, "it")
    assert {key: value.shape for key, value in flat(made).items()} == wanted


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

"""`simswap-jax import`, `export`, `doctor`: what they write, what they say, what they refuse."""

import json
import os
import re
import shutil
from dataclasses import replace

import cv2
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from simswap_jax import __version__
from simswap_jax.cli import doctor
from simswap_jax.cli import import_weights as command
from simswap_jax.cli import main as cli
from simswap_jax.models import Generator, GeneratorConfig
from simswap_jax.models.compact import CompactConfig
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.weights import files, identity_folder, model_folder
from simswap_jax.weights import registry as weights
from simswap_jax.weights import torch_weights as tw
from simswap_jax.weights.range_check import Drawing, Finding
from tests.support.errors import raises_user_error
from tests.support.torch_containers import Tensor, saved

CONFIG = GeneratorConfig(widths=(4, 6, 8), blocks=2, identity_size=16)
NETWORK = IdentityNetwork(IdentityConfig(layers=(1, 1), widths=(4, 8), size=(16, 16), frame=(16, 16), embedding=16))


def random(shapes):
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: 0.2 * rng.standard_normal(s.shape, np.float32), shapes)
    return {**variables, "batch_stats": jax.tree.map(lambda a: 1 + np.abs(a), variables["batch_stats"])}


def generator_variables():
    inputs = (jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 16)))
    return random(jax.eval_shape(Generator(CONFIG).init, jax.random.key(0), *inputs))


def identity_variables():
    return random(jax.eval_shape(NETWORK.init, jax.random.key(0)))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Generator and identity network as files, a face, and nowhere else to look for weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    state_dict = tw.generator_state_dict(Generator(CONFIG), generator_variables())
    (tmp_path / "net_G.pth").write_bytes(saved({f"module.{k}": Tensor(v) for k, v in state_dict.items()}))
    files.save(tw.identity_state_dict(NETWORK, identity_variables()), tmp_path / "identity.safetensors")
    face = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "face.png"), face)
    whole = (tmp_path / "net_G.pth").read_bytes()
    for name, content in {"half": whole[: len(whole) // 2], "empty": b"", "notes": b"my notes on weights\n"}.items():
        (tmp_path / f"{name}.pth").write_bytes(content)
    return tmp_path


TOLD = ["--identity", "identity.safetensors", "--face-size", "32", "--alignment", "rendered"]


def imported(*more):
    return cli.main(["import", "net_G.pth", "--output", "model", *TOLD, *more])


def test_import_without_a_convention_says_what_it_assumed_and_how_to_say_otherwise(place, capsys):
    assert imported() == 0
    said = capsys.readouterr()
    line = next(line for line in said.out.splitlines() if line.startswith("convention"))
    assert "unit" in line
    assert "ASSUMED" in line
    assert "--check FACE" in line
    assert "--convention imagenet" in line
    assert "'module.' taken off" in said.out
    assert "reading net_G.pth" in said.err
    model = model_folder.read("model")
    assert model.generator == CONFIG
    assert (model.face_size, model.alignment) == (32, "rendered")
    assert model.identity_sha256 == weights.file_sha256(place / "identity.safetensors")
    assert model.card["source_sha256"] == weights.file_sha256(place / "net_G.pth")
    assert "ASSUMED" in (place / "model" / "README.md").read_text()
    assert not (place / "model" / "identity.safetensors").exists()


def test_import_finds_the_generator_behind_any_prefix_and_says_so(place, capsys):
    weights = dict(files.read("net_G.pth").tensors)
    ema = {name: value + 1 if value.ndim else value for name, value in weights.items()}
    module = {f"model.netG.{name}": Tensor(value) for name, value in weights.items()}
    module |= {"model.netD.conv2.0.weight": Tensor(np.ones((1, 2, 4, 4), np.float32))}
    (place / "net_G.pth").write_bytes(saved({"state_dict": module, "epoch": 7}))
    assert imported() == 0
    said = capsys.readouterr().out
    for word in ("part 'state_dict'", "'model.netG.' taken off the names", "left out: epoch, model.netD"):
        assert word in said
    assert "replaced" not in said
    module |= {f"model.netG_ema.{name}": Tensor(value) for name, value in ema.items()}
    (place / "net_G.pth").write_bytes(saved({"state_dict": module, "epoch": 7}))
    assert imported() == 2
    assert "'state_dict/model.netG_ema'" in capsys.readouterr().err
    assert imported("--part", "state_dict/model.netG_ema") == 0
    assert "model is there already and will be replaced." in capsys.readouterr().out
    found = tw.generator_state_dict(Generator(CONFIG), model_folder.read("model", with_identity=False).variables)
    np.testing.assert_array_equal(found["last_layer.1.bias"], ema["last_layer.1.bias"])


def test_the_ending_bin_is_pytorchs_too_and_runs_nothing(place, capsys):
    (place / "net_G.pth").rename(place / "generator.bin")
    assert cli.main(["import", "generator.bin", "--output", "model", *TOLD]) == 0
    assert model_folder.read("model", with_identity=False).generator == CONFIG
    (place / "evil.bin").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    assert cli.main(["import", "evil.bin", "--output", "evil", *TOLD]) == 2
    assert "evil.bin is a plain pickle" in capsys.readouterr().err


def test_a_generator_that_is_not_finite_is_not_imported(place, capsys):
    weights = {name: np.array(value) for name, value in files.read("net_G.pth").tensors.items()}
    weights["last_layer.1.bias"][1] = np.nan
    (place / "net_G.pth").write_bytes(saved({k: Tensor(v) for k, v in weights.items()}))
    assert imported() == 2
    assert "last_layer.1.bias of net_G.pth holds numbers that are not finite" in capsys.readouterr().err
    assert not (place / "model").exists()


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_a_terminal_would_obey_are_written_out(place, capfd):
    strange = os.fsdecode(b"\xff \x1b[31m.pth")
    (place / strange).write_bytes((place / "net_G.pth").read_bytes())
    assert cli.main(["import", strange, "--output", "model", *TOLD]) == 0
    assert model_folder.read("model").card["source_file"] == "\\udcff \\x1b[31m.pth"
    assert cli.main(["import", f"{strange}2", "--output", "model", *TOLD]) == 2
    said = capfd.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[31m.pth2 does not exist" in said.err


def test_import_keeps_every_weight(place):
    imported("--convention", "imagenet", "--licence", "CC BY-NC 4.0")
    model = model_folder.read("model")
    assert model.generator.convention == "imagenet"
    assert model.card["licence"] == "CC BY-NC 4.0"
    wanted = tw.generator_state_dict(Generator(CONFIG), generator_variables())
    for name, array in tw.generator_state_dict(Generator(CONFIG), model.variables).items():
        np.testing.assert_array_equal(array, wanted[name])


def finding(convention):
    picture = np.zeros((8, 8, 3), np.uint8)
    return Finding([picture], {name: [Drawing(picture, 0.1, 0.9)] for name in ("unit", "imagenet")}, convention)


@pytest.mark.parametrize(
    ("found", "told", "kept", "said"),
    [
        ("imagenet", [], "imagenet", "found on face.png"),
        (None, [], "unit", "ASSUMED: the check did not decide"),
        ("unit", ["--convention", "imagenet"], "imagenet", "as you said, AGAINST the check"),
        ("imagenet", ["--convention", "imagenet"], "imagenet", "as you said"),
    ],
)
def test_the_check_on_a_face_decides_unless_told(place, capsys, monkeypatch, found, told, kept, said):
    monkeypatch.setattr("simswap_jax.weights.range_check.check", lambda *_: finding(found))
    assert imported("--check", "face.png", *told) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "Checked on face.png: " in out
    assert model_folder.read("model", with_identity=False).generator.convention == kept


def test_the_check_really_draws_faces_of_files_and_folders(place, capsys, monkeypatch):
    (place / "faces").mkdir()
    for number in range(3):
        cv2.imwrite(str(place / "faces" / f"{number}.png"), cv2.imread("face.png") // (number + 1))
    monkeypatch.setattr(command, "CHECKED", 2)
    assert imported("--check", "face.png", "--check", "faces") == 0
    said = capsys.readouterr().out
    assert "Checked are the first 2 of 3 pictures in faces." in said
    assert all(f"{name}: unit: " in said for name in ("face.png", "faces/0.png", "faces/1.png"))
    assert "Checked on 3 faces: " in said
    assert "on average)" in said
    assert cv2.imread(str(place / "model-conventions.png")).shape[0] > 3 * 96


def test_the_check_wants_vectors_of_the_generators_length(place, capsys):
    network = IdentityNetwork(replace(NETWORK.config, embedding=24))
    variables = random(jax.eval_shape(network.init, jax.random.key(0)))
    files.save(tw.identity_state_dict(network, variables), place / "longer.safetensors")
    with raises_user_error("model-identity-size", 24, 16):
        command.main(
            ["net_G.pth", "--output", "model", *TOLD[2:], "--identity", "longer.safetensors", "--check", "face.png"]
        )
    assert not (place / "model-conventions.png").exists()


def test_an_identity_network_of_ours_goes_into_the_folder(place):
    identity_folder.write(place / "ours", NETWORK.config, identity_variables(), {})
    assert cli.main(["import", "net_G.pth", "--output", "model", *TOLD[2:], "--identity", "ours"]) == 0
    assert (place / "model" / "identity.safetensors").exists()
    assert model_folder.read("model").identity_variables is not None


def test_a_preset_settles_what_it_is_known_for(monkeypatch):
    options = command.parser().parse_args(["net_G.pth", "--output", "model"])
    assert command._crops(GeneratorConfig.from_preset("224"), options) == (224, "simswap")
    assert command._crops(GeneratorConfig.from_preset("512"), options) == (512, "ffhq")
    options = command.parser().parse_args(["x", "--output", "m", "--face-size", "256"])
    assert command._crops(GeneratorConfig.from_preset("224"), options) == (256, "simswap")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nothing.pth", *TOLD], "nothing.pth does not exist"),
        (["runs/mien/latest_net_G.pth", *TOLD], "latest_net_G.pth does not exist"),
        (["latest_net_G.pth", *TOLD], "latest_net_G.pth, needed for import, is missing: get it from"),
        (["net_G.pth", "--preset", "512", *TOLD], "holds a generator of preset custom"),
        (["identity.safetensors", *TOLD], "it looks like an InsightFace iResNet"),
        (["net_G.pth"], "say --face-size and --alignment"),
        (["net_G.pth", *TOLD[2:]], "arcface_checkpoint.tar, needed for the identity vectors of net_G.pth (--identity)"),
        (["net_G.pth", *TOLD[:2], "--face-size", "30", "--alignment", "rendered"], "face size of 30"),
        (["net_G.pth", *TOLD[:2], "--face-size", "30", "--alignment", "rendered", "--check", "face.png"], "size of 30"),
        (["net_G.pth", *TOLD[:2], "--face-size", "32", "--alignment", "mine"], "the alignment 'mine'"),
        (["net_G.pth", "--part", "ema", *TOLD], "has no part 'ema'"),
        (["face.png", *TOLD], "of no kind known here"),
        (["half.pth", *TOLD], "half.pth cannot be used: its end is missing or damaged (was the download complete?)"),
        (["empty.pth", *TOLD], "empty.pth is empty; fetch it again."),
        (["notes.pth", *TOLD], "notes.pth is a text file, not weights"),
        ([".", *TOLD], "is a folder"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence_and_leaves_nothing(place, capsys, words, sentence):
    before = sorted(p.name for p in place.iterdir())
    assert cli.main(["import", *words, "--output", "model"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert sentence in said[-1]
    assert sum(line.startswith("simswap-jax: ") for line in said) == 1
    assert sorted(p.name for p in place.iterdir()) == before


def without_last(weights):
    return dict(list(weights.items())[:-1])


FAULTS = {
    "a missing key": (without_last, "has no key last_layer.1.bias"),
    "an extra key": (lambda w: {**w, "ema.weight": np.ones(3, np.float32)}, "does not use: ema.weight"),
    "a misshapen key": (
        lambda w: {**w, "BottleNeck.1.conv2.1.bias": np.ones(9, np.float32)},
        "BottleNeck.1.conv2.1.bias of net_G.pth has shape (9,) instead of (8,)",
    ),
    "a text for a number": (
        lambda w: {**w, "last_layer.1.bias": np.ones(3, np.uint8)},
        "last_layer.1.bias of net_G.pth holds uint8",
    ),
    "a stray level": (lambda w: {**w, "down7.0.weight": np.ones(3, np.float32)}, "does not use: down7.0.weight"),
    "another network": (lambda w: {"conv1.weight": np.ones((4, 3, 3, 3), np.float32)}, "not a SimSwap generator"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_keys_is_one_sentence_that_names_it(place, capsys, fault):
    change, sentence = FAULTS[fault]
    arrays = change(dict(files.read("net_G.pth").tensors))
    (place / "net_G.pth").write_bytes(saved({k: Tensor(v) for k, v in arrays.items()}))
    assert imported() == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (place / "model").exists()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files_become_float32(place, dtype):
    arrays = {k: v.astype(dtype) if v.ndim else v for k, v in files.read("net_G.pth").tensors.items()}
    (place / "net_G.pth").write_bytes(saved({k: Tensor(v) for k, v in arrays.items()}))
    assert imported() == 0
    found = tw.generator_state_dict(Generator(CONFIG), model_folder.read("model", with_identity=False).variables)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(found[name].dtype))


def test_export_to_safetensors_is_what_was_imported(place, capsys):
    imported()
    assert cli.main(["export", "model", "--output", "out.safetensors"]) == 0
    assert "PyTorch's file cannot say so itself" in capsys.readouterr().out
    wanted = files.read("net_G.pth").tensors
    found = files.read("out.safetensors").tensors
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    (place / "id.safetensors").touch()
    assert cli.main(["export", "model", "--part", "identity", "--output", "id.safetensors"]) == 0
    assert "id.safetensors is there already and will be replaced." in capsys.readouterr().out
    assert set(files.read("id.safetensors").tensors) == set(files.read("identity.safetensors").tensors)


def test_what_export_says_to_remember_makes_the_same_generator_again(place, capsys):
    imported()
    config = CompactConfig(widths=(4, 6, 8), blocks=2, identity_size=16, mask_stride=2, colour_cell=4)
    model_folder.write("kept", replace(model_folder.read("model"), generator=config), include_identity=False)
    capsys.readouterr()
    assert cli.main(["export", "kept", "--output", "out.safetensors"]) == 0
    settings = re.findall(r"--setting \w+=\w+", capsys.readouterr().out)
    assert settings == ["--setting mask_stride=2", "--setting colour_cell=4"]
    words = " ".join(settings).split()
    assert cli.main(["import", "out.safetensors", "--output", "again", *TOLD, *words]) == 0
    assert model_folder.read("again").generator == config
    assert cli.main(["import", "out.safetensors", "--output", "again", *TOLD]) == 0
    assert model_folder.read("again").generator == CONFIG


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--setting", "colour_cell"], "import-setting", "colour_cell"),
        (["--setting", "widths=4"], "generator-setting", "widths"),
        (["--setting", "colour_cell=blue"], "generator-config", "'blue'"),
        (["--setting", "colour_cell=3"], "generator-config", "colour_cell is 3"),
        (["--setting", "colour_cell=4", "--convention", "imagenet"], "generator-config", "convention"),
        (["--setting", "colour_cell=4", "--check", "face.png"], "import-check-one-convention", "--convention"),
    ],
)
def test_a_wrong_setting_is_refused(place, words, code, named):
    with raises_user_error(code, named):
        command.main(["net_G.pth", "--output", "model", *TOLD, *words])
    assert not (place / "model").exists()


@pytest.mark.torch
def test_export_to_pth_is_what_torch_loads(place):
    import torch

    imported()
    assert cli.main(["export", "model", "--output", "out.pth"]) == 0
    loaded = torch.load("out.pth", weights_only=True)
    wanted = files.read("net_G.pth").tensors
    assert list(loaded) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)


def test_export_to_onnx_is_checked(place, capsys):
    imported()
    assert cli.main(["export", "model", "--output", "out.onnx"]) == 0
    said = capsys.readouterr().out
    assert "largest difference from Flax in onnxruntime" in said
    assert float(next(line for line in said.splitlines() if line.startswith("checked")).split()[1]) < 1e-4
    assert cli.main(["export", "model", "--part", "identity", "--output", "id.onnx"]) == 0
    assert (place / "id.onnx").exists()


def test_export_to_onnx_in_eight_bits(place, capsys):
    import onnx

    imported()
    assert cli.main(["export", "model", "--output", "out.onnx", "--precision", "int8"]) == 0
    assert "contract plain, int8" in capsys.readouterr().out
    model = onnx.load("out.onnx")
    assert "DequantizeLinear" in {node.op_type for node in model.graph.node}
    assert {p.key: p.value for p in model.metadata_props}["precision"] == "int8"


def test_rounding_that_costs_too_much_is_refused(place, capsys, monkeypatch):
    """In the precision that was asked for, with what to do; float32's own limit is for the graph."""
    imported()
    lost = iter([1e-6, 0.05, 1e-6, 0.05])
    monkeypatch.setattr("simswap_jax.weights.onnx_export.difference_from", lambda *_: next(lost))
    assert cli.main(["export", "model", "--output", "out.onnx", "--precision", "float16"]) == 2
    assert "in float16; nothing was written. Choose another --precision." in capsys.readouterr().err
    assert not (place / "out.onnx").exists()
    assert cli.main(["export", "model", "--output", "out.onnx", "--precision", "int8"]) == 0


def test_an_onnx_file_that_differs_leaves_what_was_there(place, capsys, monkeypatch):
    imported()
    (place / "out.onnx").write_text("an earlier one")
    monkeypatch.setattr("simswap_jax.weights.onnx_export.difference_from", lambda *_: 0.5)
    assert cli.main(["export", "model", "--output", "out.onnx"]) == 2
    said = capsys.readouterr()
    assert "nothing was written" in said.err
    assert "replaced" not in said.out
    assert (place / "out.onnx").read_text() == "an earlier one"
    assert not list(place.glob(".out.onnx*"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model", "--output", "x.h5"], "says no format"),
        (["nowhere", "--output", "x.pth"], "does not exist"),
        (["model", "--output", "x.onnx", "--contract", "facefusion-256"], "this generator takes 16"),
        (["model", "--output", "x.pth", "--contract", "facefusion-256"], "--contract is of generators in ONNX"),
        (["model", "--output", "x.onnx", "--part", "identity", "--precision", "int8"], "--precision is of generators"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(place, capsys, words, sentence):
    imported()
    capsys.readouterr()
    assert cli.main(["export", *words]) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert not (place / words[2]).exists()


def test_import_says_where_the_identity_network_is_looked_for(place, capsys, monkeypatch):
    assert imported() == 0
    assert "copy identity.safetensors" not in capsys.readouterr().out  # it lies in a folder that is searched
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(place / "weights"))
    assert imported() == 0
    (place / "weights").mkdir()
    (place / "weights" / "identity.safetensors").write_bytes(b"another")
    assert imported() == 0
    assert f"copy identity.safetensors into {place / 'weights'}" in capsys.readouterr().out
    shutil.copy(place / "identity.safetensors", place / "weights" / "renamed.safetensors")
    assert imported() == 0
    assert "copy identity.safetensors" not in capsys.readouterr().out


def test_doctor_begins_with_what_works(place, capsys, monkeypatch):
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.match(rf"simswap-jax {re.escape(__version__)}, Python 3.* on \d+ CPU cores", said[0])
    works = dict(line.split("  ", 1) for line in said[3 : said.index("", 3)])
    assert "fetches face_detection_yunet.onnx and mobilefacenet_casia.ckpt first" in works["swap photos"]
    assert "mobilefacenet_casia.ckpt" in works["train"]
    assert works["evaluate"].strip() == "ready, by face_recognition_sface_2021dec.onnx; fetched first"
    assert any(map(doctor._recognises, weights.catalogue()))
    monkeypatch.setenv("SIMSWAP_JAX_OFFLINE", "1")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "needs face_detection_yunet.onnx from GitHub ShiqiYu" in said
    assert "ready, with a recogniser of yours (--judge)" in said


def test_doctor_says_what_is_here_and_where_to_get_the_rest(place, capsys, monkeypatch):
    monkeypatch.delenv("SIMSWAP_JAX_OFFLINE")
    (place / "latest_net_G.pth").write_bytes(b"anything")
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"here, not checked (no SHA-256 is known): {place / 'latest_net_G.pth'}" in said
    lines = said.splitlines()
    fetched, missing = (next(line for line in lines if line.startswith(what)) for what in ("Fetched", "Not here"))
    assert "face_detection_yunet.onnx" in fetched
    assert "arcface_checkpoint.tar" in missing
    assert "latest_net_G.pth" not in missing
    assert cli.main(["doctor", "--all"]) == 0
    said = capsys.readouterr().out
    assert "fetched when needed from GitHub ShiqiYu" in said
    assert "missing; get it from the release page" in said
    (place / "face_detection_yunet.onnx").write_bytes(b"something else")
    assert cli.main(["doctor"]) == 1
    assert "NOT the known file" in capsys.readouterr().out
    assert cli.main(["doctor", "--json"]) == 1
    states = json.loads(capsys.readouterr().out)
    assert states["face_detection_yunet.onnx"]["state"] == "wrong"
    assert states["latest_net_G.pth"] == {"state": "unchecked", "path": str(place / "latest_net_G.pth")}


def test_doctor_says_which_files_may_not_be_read(place, capsys, monkeypatch):
    file = place / "face_detection_yunet.onnx"
    file.write_bytes(b"a colleague's")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != file and access(path, mode))
    assert cli.main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert f"here, but you may not read it: {file}" in said
    photos = next(line for line in said.splitlines() if line.startswith("swap photos"))
    assert "needs face_detection_yunet.onnx" in photos


def test_doctor_fetches_nothing_offline(place, capsys):
    assert cli.main(["doctor", "--all"]) == 0
    said = capsys.readouterr().out
    assert "fetched when needed" not in said
    assert "(SIMSWAP_JAX_OFFLINE forbids fetching it)" in said
    assert "mobilefacenet_casia.ckpt" in next(line for line in said.splitlines() if line.startswith("swap photos"))


def test_doctor_says_what_a_model_is_and_whether_it_is_whole(place, capsys):
    imported()
    capsys.readouterr()
    assert cli.main(["doctor", "model"]) == 0
    said = capsys.readouterr().out
    for word in ("its files are whole", "32×32, aligned as 'rendered'", "identity.safetensors", "unit"):
        assert word in said
    (place / "model" / "generator.safetensors").write_bytes(b"another file")
    assert cli.main(["doctor", "model"]) == 2
    assert "is damaged" in capsys.readouterr().err
    for name in ("faces", "pretrained/faces"):
        assert cli.main(["doctor", name]) == 0
        assert "mobilefacenet_casia.ckpt" in capsys.readouterr().out


def test_doctor_reads_the_identity_network_of_a_model_folder(place):
    identity_folder.write(place / "ours", NETWORK.config, identity_variables(), {})
    assert cli.main(["import", "net_G.pth", "--output", "model", *TOLD[2:], "--identity", "ours"]) == 0
    rows = {row.what: row for row in doctor.examine_model(place / "model")}
    assert rows["identity network"].how == "included"
    path = place / "model" / "identity.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with raises_user_error("model-folder-changed", "identity.safetensors"):
        doctor.examine_model(place / "model")
    path.unlink()
    with raises_user_error("model-folder-incomplete", "identity.safetensors"):
        doctor.examine_model(place / "model")


def test_doctor_knows_an_identity_network_elsewhere_by_its_sha256(place):
    imported()

    def said():
        return next(row.how for row in doctor.examine_model(place / "model") if row.what == "identity network")

    (place / "identity.safetensors").rename(place / "renamed.safetensors")
    (place / "identity.safetensors").write_bytes(b"another file")
    assert said() == f"here, its SHA-256 matches: {place / 'renamed.safetensors'}"
    (place / "renamed.safetensors").unlink()
    assert said().startswith("missing")


def test_doctor_writes_out_what_a_card_would_do_to_a_terminal(place, capsys):
    imported("--licence", "\x1b[31mfree")
    capsys.readouterr()
    assert cli.main(["doctor", "model"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_wrong_use_of_an_imported_folder_is_refused(place):
    imported()
    with raises_user_error("model-face-size", 32, 224):
        model_folder.read("model", face_size=224)

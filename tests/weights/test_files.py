"""Every container that PyTorch has written, and safetensors: read to the same arrays. Everything else: one sentence."""

import hashlib
import json
import os
import sys
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError

from simswap_jax.weights import files
from simswap_jax.weights.files import read, save
from tests.support.errors import raises_user_error
from tests.support.torch_containers import (
    CONTAINERS,
    Global,
    Module,
    Storage,
    Tensor,
    legacy_bytes,
    pickled,
    saved,
    zip_bytes,
)

RNG = np.random.default_rng(0)
ARRAYS = {
    "first.weight": RNG.standard_normal((4, 3, 2), np.float32),
    "first.bias": RNG.standard_normal(4, np.float32),
    "norm.num_batches_tracked": np.array(17),
    "norm.running_mean": RNG.standard_normal(4, np.float32),
}
GOLDEN = Path(__file__).parents[1] / "golden" / "state_dict_layouts.json"


def tensors(arrays=ARRAYS, prefix=""):
    return OrderedDict((prefix + name, Tensor(array)) for name, array in arrays.items())


def same(content, arrays=ARRAYS):
    assert list(content.tensors) == list(arrays)
    for name, array in arrays.items():
        assert content.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(content.tensors[name], array)


def place(tmp_path, content, name="net.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict(tmp_path, container, protocol):
    path = place(tmp_path, saved(tensors(), container, protocol))
    content = read(path)
    same(content)
    assert content.format == f"PyTorch {container}"
    assert content.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (content.part, content.module, content.wrapper, content.ignored) == ("", "", "", ())


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_checkpoint_with_an_optimiser_keeps_only_the_weights(tmp_path, container):
    optimiser = {
        "state": {0: {"exp_avg": Tensor(np.ones(4, np.float32))}},
        "param_groups": [{"params": [0], "lr": 0.1}],
    }
    loss = Tensor(np.float32(0.5))
    checkpoint = {"epoch": 3, "loss": loss, "net_state_dict": tensors(prefix="module."), "optimizer": optimiser}
    content = read(place(tmp_path, saved(checkpoint, container), "068.ckpt"))
    same(content)
    assert (content.part, content.wrapper) == ("net_state_dict", "module.")
    assert set(content.ignored) == {"epoch", "optimizer", "loss"}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_whole_pickled_module(tmp_path, container, wrapped):
    first = Module(
        Global("nets", "First"), {"weight": Tensor(ARRAYS["first.weight"]), "bias": Tensor(ARRAYS["first.bias"])}
    )
    numbers = {key: Tensor(ARRAYS[f"norm.{key}"]) for key in ("num_batches_tracked", "running_mean")}
    scratch = Tensor(np.zeros(3, np.float32))
    norm = Module(
        Global("torch.nn.modules.batchnorm", "BatchNorm2d"),
        {"weight": None},
        {**numbers, "scratch": scratch},
        _non_persistent_buffers_set={"scratch"},
    )
    module = Module(Global("nets", "Net"), modules={"first": first, "act": None, "norm": norm}, weights_of_old=scratch)
    if wrapped:
        module = Module(Global("torch.nn.parallel.data_parallel", "DataParallel"), modules={"module": module})
        module = {"model": module, "optimizer": Module(Global("torch.optim.adam", "Adam"))}
    content = read(place(tmp_path, saved(module, container), "arcface_checkpoint.tar"))
    same(content)
    assert content.module == ("torch.nn.parallel.data_parallel.DataParallel" if wrapped else "nets.Net")
    assert content.wrapper == ("module." if wrapped else "")
    assert "nets" not in sys.modules


def test_spectral_norm_keeps_its_three_names(tmp_path):
    arrays = {name: np.ones(2, np.float32) for name in ("bias", "weight_orig", "weight_u", "weight_v")}
    split = {"bias": arrays["bias"], "weight_orig": arrays["weight_orig"]}
    rest = {"weight_u": arrays["weight_u"], "weight_v": arrays["weight_v"]}
    module = Module(Global("torch.nn", "Linear"), tensors(split), tensors(rest), weight=Tensor(np.zeros(2, np.float32)))
    same(read(place(tmp_path, saved(module))), arrays)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_other_number_types(tmp_path, container, kind):
    dtype = np.dtype(ml_dtypes.bfloat16) if kind == "bfloat16" else np.dtype(kind)
    arrays = {"w": np.array([1.5, -2.25, 300], dtype)}
    same(read(place(tmp_path, saved(tensors(arrays), container))), arrays)


@pytest.mark.parametrize("container", CONTAINERS)
def test_views_parameters_and_tied_weights(tmp_path, container):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    shared = Storage(base)
    parameter = Global("torch._utils", "_rebuild_parameter")

    class Parameter:
        def __reduce__(self):
            return parameter, (Tensor(base, storage=shared), True, OrderedDict())

    content = {
        "all": Parameter(),
        "turned": Tensor(base.transpose(2, 1, 0), storage=shared),
        "row": Tensor(base, (3, 4), (4, 1), 12, shared),
        "expanded": Tensor(base, (5, 4), (0, 1), 0, shared),
        "empty": Tensor(base, (0, 4), (4, 1), 0, shared),
    }
    found = read(place(tmp_path, saved(content, container))).tensors
    np.testing.assert_array_equal(found["all"], base)
    np.testing.assert_array_equal(found["turned"], base.transpose(2, 1, 0))
    np.testing.assert_array_equal(found["row"], base[1])
    np.testing.assert_array_equal(found["expanded"], np.broadcast_to(base[0, 0], (5, 4)))
    assert found["empty"].shape == (0, 4)


@pytest.mark.parametrize("container", CONTAINERS)
def test_several_sets_of_weights_must_be_told_apart(tmp_path, container):
    path = place(tmp_path, saved({"G": tensors(), "deep": {"D": tensors({"w": np.ones(2, np.float32)})}}, container))
    with raises_user_error("weight-file-several-parts", "'G' (4 tensors)", "'deep/D' (1 tensors)"):
        read(path)
    same(read(path, part="G"))
    assert list(read(path, part="deep/D").tensors) == ["w"]
    with raises_user_error("weight-file-part", "E"):
        read(path, part="E")


def test_the_mobilefacenet_of_the_data_set(outside):
    content = read(outside("mobilefacenet_casia.ckpt"))
    layout = json.loads(GOLDEN.read_text())["arcface_mobilefacenet"]
    assert [[name, list(array.shape)] for name, array in content.tensors.items()] == [[k, v] for k, v in layout.items()]
    assert content.part == "net_state_dict"
    assert content.sha256.startswith("e839247c")


def test_safetensors_there_and_back(tmp_path):
    arrays = {**ARRAYS, "half": np.ones((2, 2), ml_dtypes.bfloat16), "turned": ARRAYS["first.weight"].T}
    content = read(save(arrays, tmp_path / "net.safetensors", {"preset": "224"}))
    assert set(content.tensors) == set(arrays)
    for name, array in arrays.items():
        assert content.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(content.tensors[name], array)
    assert content.format == "safetensors"


def test_safetensors_takes_off_wrappers_too(tmp_path):
    path = save({f"_orig_mod.module.{k}": v for k, v in ARRAYS.items()}, tmp_path / "net.safetensors")
    content = read(path)
    assert set(content.tensors) == set(ARRAYS)
    assert content.wrapper == "_orig_mod.module."


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = save(ARRAYS, tmp_path / "net.safetensors")
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    def fails(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for failing in (full_disk, fails):
        monkeypatch.setattr("safetensors.numpy.save_file", failing)
        with raises_user_error("cannot-write", path, "No space left on device"):
            save({"other": np.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_another_ending_and_a_missing_torch_are_one_sentence(tmp_path, monkeypatch):
    with raises_user_error("weight-file-ending", ".pth or .safetensors"):
        save(ARRAYS, tmp_path / "net.h5")
    monkeypatch.setitem(sys.modules, "torch", None)
    with raises_user_error("extra-missing", "net.pth", "torch"):
        save(ARRAYS, tmp_path / "net.pth")
    assert list(tmp_path.iterdir()) == []


GOOD = {container: saved(tensors(), container) for container in CONTAINERS}


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        (b"", "empty", ""),
        (b"these are not weights\n" * 50, "text", ""),
        (b"<!DOCTYPE html><html>sign in</html>", "web-page", ""),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "lfs-pointer", ""),
        (b"\x00" * 257 + b"ustar\x00" + b"\x00" * 300, "tar", ""),
        (b"\x08\x08\x12\x07pytorch" + b"\x00" * 99, "onnx", ""),
        (b"\x80\x02}q\x00.", "plain-pickle", ""),
        (bytes(range(256)), "unknown", ""),
        (b"\x89PNG\r\n\x1a\n" + b"\x00" * 64, "unknown", ""),
        (GOOD["zip"][: len(GOOD["zip"]) // 2], "refused", "end is missing or damaged"),
        (GOOD["zip"][:-1], "refused", "end is missing or damaged"),
        (GOOD["legacy"][: len(GOOD["legacy"]) // 2], "refused", ""),
        (GOOD["legacy"][:-1], "refused", "it is cut off"),
        (GOOD["zip"].replace(ARRAYS["first.bias"].tobytes(), b"\x00" * 16), "refused", "checksum does not match"),
        (zip_bytes(b"", root="a").replace(b"data.pkl", b"data.txt"), "refused", "not one that PyTorch wrote"),
        (zip_bytes(pickled(3)[0], more={"constants.pkl": b""}), "refused", "TorchScript program"),
        (saved({"epoch": 3}), "without-weights", ""),
        (
            saved({"w": Tensor(np.ones(3, np.float32), storage=Storage(np.ones(2, np.float32)))}),
            "refused",
            "outside its storage",
        ),
        (
            saved({"w": Tensor(np.ones(2, np.float32), storage=Storage(np.ones(2, np.float32), 3))}),
            "refused",
            "shorter than it claims",
        ),
        (
            saved({"w": Tensor([1.0], storage=Storage([1.0], kind=Global("torch", "ComplexFloatStorage")))}),
            "refused",
            "unknown kind",
        ),
        (saved({"a\nb": Tensor(np.ones(2, np.float32))}), "refused", "impossible name"),
        (legacy_bytes(pickled(tensors(), legacy=True)[0]), "refused", "storage '0' is missing"),
        (legacy_bytes(*pickled(tensors(), legacy=True), keys=["0", "0"]), "refused", "list of its storages is damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes hold the time of day
)
def test_what_is_no_weight_file_is_one_sentence(tmp_path, content, code, named):
    with raises_user_error(f"weight-file-{code}", named, "net.pth") as caught:
        read(place(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_damaged_safetensors_are_one_sentence(tmp_path):
    good = save(ARRAYS, tmp_path / "net.safetensors").read_bytes()
    for content in (good[: len(good) // 2], good[:-1], b"{}", b"\xff" * 64, good[:8] + b"[" * 100 + good[108:]):
        with raises_user_error("weight-file-damaged"):
            read(place(tmp_path, content, "bad.safetensors"))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_file_that_is_written_anew_does_not_change_what_was_read(tmp_path, container):
    path = place(tmp_path, saved(tensors(), container))
    content = read(path)
    path.write_bytes(b"")  # as torch.save opens it
    same(content)


SIGN = ["first.weight"]
PREFIXES = ["module.", "_orig_mod.module.", "model.generator.", "netG.", "generator._orig_mod.", "module.G.", "a/b/"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("container", [*CONTAINERS, "safetensors"])
def test_whatever_stands_before_the_names_is_found_and_said(tmp_path, prefix, container):
    others = {"disc.first.bias": ARRAYS["first.bias"], "loss.vgg.0.weight": ARRAYS["first.weight"]}
    for more in ({}, others):
        arrays = {prefix + name: array for name, array in ARRAYS.items()} | more
        if container == "safetensors":
            path = save(arrays, tmp_path / "net.safetensors")
        else:
            path = place(tmp_path, saved({"state_dict": tensors(arrays), "epoch": 3}, container))
        content = read(path, signs=SIGN)
        assert set(content.tensors) == set(ARRAYS)
        np.testing.assert_array_equal(content.tensors["first.weight"], ARRAYS["first.weight"])
        said = content.wrapper.replace("…", "")
        assert sorted(said.split(".")) == sorted(prefix.split("."))
        left_out = " ".join(content.ignored)
        assert not more or ("disc" in left_out and "loss" in left_out)


def test_what_frameworks_put_inside_of_names_is_taken_out(tmp_path):
    inside = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module")
    arrays = {f"{inside[0]}.{name.replace('.', f'.{inside[1]}.')}": array for name, array in ARRAYS.items()}
    content = read(place(tmp_path, saved(tensors(arrays))))
    same(content)
    assert content.wrapper == "_fsdp_wrapped_module.…_checkpoint_wrapped_module."


def test_of_several_sets_the_one_with_the_sign_is_taken(tmp_path):
    other = {"w": np.ones(2, np.float32)}
    content = read(place(tmp_path, saved({"G": tensors(prefix="module."), "D": tensors(other)})), signs=SIGN)
    same(content)
    assert (content.part, content.wrapper, content.ignored) == ("G", "module.", ("D",))
    both = {"sd": tensors({f"{net}.{name}": a for net in ("netG", "netG_ema") for name, a in ARRAYS.items()})}
    path = place(tmp_path, saved(both))
    with raises_user_error("weight-file-several-parts", "'sd/netG' (4 tensors)", "'sd/netG_ema' (4 tensors)"):
        read(path, signs=SIGN)
    found = read(path, "sd/netG_ema", SIGN)
    same(found)
    assert (found.wrapper, found.ignored) == ("netG_ema.", ("netG",))
    with raises_user_error("weight-file-part", "netD", "'sd/netG'"):
        read(path, "netD", SIGN)
    assert set(read(path).tensors) == set(both["sd"])  # nobody said what is looked for


def test_thousands_of_prefixes_are_no_work(tmp_path):
    arrays = {f"a{i}.first.weight": np.zeros(1, np.float32) for i in range(3_000)}
    with raises_user_error("weight-file-several-parts", "and 24 more"):
        read(save(arrays, tmp_path / "net.safetensors"), signs=SIGN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with raises_user_error("weight-path-missing", "no regular file"):
        read(tmp_path / name)


def test_names_do_not_reach_the_terminal_as_they_are(tmp_path):
    for name in ("\x1b[2Jw", "w" * 501, "w\n", "\u202ew"):
        with raises_user_error("weight-file-impossible-name") as caught:
            read(save({name: np.zeros(1, np.float32)}, tmp_path / "net.safetensors"))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500


def test_missing_files_and_folders_are_one_sentence(tmp_path):
    for name in ("nothing.pth", "x" * 5000, "a\0b", os.fsdecode(b"\xff\x1b.pth")):
        with raises_user_error("weight-path-missing") as caught:
            read(tmp_path / name)
        assert str(caught.value).isprintable()
    with raises_user_error("weight-file-is-folder"):
        read(tmp_path)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_pth_is_what_torch_loads(tmp_path, kind):
    import torch

    dtype = np.dtype(ml_dtypes.bfloat16) if kind == "bfloat16" else np.dtype(kind)
    arrays = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in ARRAYS.items()}
    path = save(arrays, tmp_path / "net.pth")
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name].double().numpy(), array.astype(np.float64))
    same(read(path), arrays)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("new", [True, False])
def test_what_torch_writes_is_read(tmp_path, new):
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            norm = torch.nn.BatchNorm2d(4)
            self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), norm, torch.nn.PReLU())
            self.again = norm
            self.register_buffer("scratch", torch.ones(3), persistent=False)

    Net.__qualname__ = "Net"
    Net.__module__ = __name__
    globals()["Net"] = Net
    net = Net()
    wrapped = torch.nn.DataParallel(net)
    optimiser = torch.optim.Adam(net.parameters())
    wanted = {name: value.numpy() for name, value in net.state_dict().items()}
    for i, content in enumerate([net.state_dict(), net, wrapped, {"net": wrapped, "optimiser": optimiser}]):
        path = tmp_path / f"{i}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=new)
        same(read(path), wanted)


def test_the_reader_needs_no_torch():
    assert "torch" not in vars(files)

"""Hostile files: nothing of them runs, each is one sentence, and none takes more memory than a few times its size."""

import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from simswap_jax.errors import UserError
from simswap_jax.weights import files
from simswap_jax.weights.pickle_reader import Inert, Name, PickleRefused, load
from tests.support.torch_containers import CONTAINERS, Global, Module, Storage, Tensor, pickled, saved, zip_bytes

WEIGHTS = {"w": Tensor(np.ones(3, np.float32))}
TRACE = "trace-of-a-hostile-file"
COMMAND = f"touch {TRACE}"

# --- nothing runs: what the interpreter itself reports while a file is read

_watching = False
_events = []
_FORBIDDEN = ("os.", "subprocess.", "exec", "compile", "import", "pickle.", "socket.", "ctypes.", "shutil.", "code.")


def _listen(event, arguments):
    if _watching and event.startswith(_FORBIDDEN) and not (event == "import" and arguments[1] is None):
        _events.append((event, str(arguments)[:100]))


sys.addaudithook(_listen)


class Watch:
    """Fails if reading made the interpreter run, import or unpickle anything."""

    def __enter__(self):
        global _watching
        _events.clear()
        _watching = True

    def __exit__(self, *_):
        global _watching
        _watching = False
        assert _events == []


def test_the_watch_sees_what_a_real_unpickler_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watch = Watch()
    watch.__enter__()
    pickle.loads(pickle.dumps(Run()))
    with pytest.raises(AssertionError):
        watch.__exit__()
    assert (tmp_path / TRACE).exists()


# --- the hostile files


class Run:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return os.system, (COMMAND,)


class Call:
    """Calls anything when unpickled."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __call__(self):
        raise AssertionError("never called: pickle only asks whether it could be")

    def __reduce__(self):
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


class Key(Run):
    """A dictionary key that runs a command."""

    def __hash__(self):
        return 1


def raw(*parts):
    """A protocol-2 pickle from instructions, with a state dict's beginning before them."""
    return b"\x80\x02" + b"".join(parts) + b"."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SYSTEM = b"cposix\nsystem\n"
ARGUMENT = text(COMMAND) + b"\x85"
MEMOISED = raw(SYSTEM, b"q\x00", b"0", b"}", text("w"), b"h\x00", ARGUMENT, b"R", b"s")
DUPLICATED = raw(SYSTEM, b"2", ARGUMENT, b"R", b"1" if False else b"0", b"0", b"}")
REMEMBERED = raw(b"}", b"r\xff\xff\xff\x7f", SYSTEM, b"r\xff\xff\xff\x7f", ARGUMENT, b"R", b"j\xff\xff\xff\x7f")

HOSTILE = {
    "os.system": {"w": Run()},
    "nested": {"a": [{"b": (1, {"c": [Run()]})}], **WEIGHTS},
    "in the optimiser's state": {"net": WEIGHTS, "optimizer": {"state": {0: Run()}, "param_groups": []}},
    "in a module's hooks": Module(Global("nets", "Net"), WEIGHTS, _forward_hooks=OrderedDict([(0, Run())])),
    "in a tensor's hooks": {"w": Tensor(np.ones(3, np.float32), hooks=Run())},
    "as a dictionary key": {**WEIGHTS, Key(): 1},
    "as a module's class": Module(Global("subprocess", "Popen"), WEIGHTS),
    "as a tensor's storage": {"w": Call(Global("torch._utils", "_rebuild_tensor_v2"), Run(), 0, (3,), (1,), 0, {})},
    "as a tensor's shape": {
        "w": Call(Global("torch._utils", "_rebuild_tensor_v2"), Storage(np.ones(3)), 0, Run(), (1,))
    },
    "a tensor of another function": {"w": Tensor(np.ones(3, np.float32), function=Global("posix", "system"))},
    "a wrapped rebuilding": {
        "w": Call(
            Global("torch._tensor", "_rebuild_from_type_v2"),
            Global("os", "system"),
            Global("torch", "Tensor"),
            (COMMAND,),
            {},
        )
    },
    "eval": {"x": Call(eval, f"__import__('os').system('{COMMAND}')"), **WEIGHTS},
    "exec": {"x": Call(exec, f"import os; os.system('{COMMAND}')"), **WEIGHTS},
    "import": {"x": Call(__import__, "os"), **WEIGHTS},
    "Popen": {"x": Call(subprocess.Popen, COMMAND, -1, None, None, None, None, None, True, True), **WEIGHTS},
    "a chain of getattr": {"w": Call(Call(getattr, Call(__import__, "os"), "system"), COMMAND)},
    "runpy": {"w": Call(Global("runpy", "_run_code"), "import os", {})},
    "pickle in pickle": {"w": Call(pickle.loads, pickle.dumps(Run()))},
    "open": {"x": Call(open, TRACE, "w"), **WEIGHTS},
    "Python 2's commands": {"x": Call(Global("commands", "getoutput"), COMMAND), **WEIGHTS},
    "a state for a function": {"x": Call(Global("types", "FunctionType"), state={"__code__": 1}), **WEIGHTS},
    "a storage of a look-alike class": {
        "w": Tensor(np.ones(3), storage=Storage(np.ones(3), kind=Global("torch.storage", "FloatStorage")))
    },
    "a storage of a hostile class": {"w": Tensor(np.ones(3), storage=Storage(np.ones(3), kind=Global("os", "system")))},
    "memo trick": MEMOISED,
    "duplicate trick": DUPLICATED,
    "far memo trick": REMEMBERED,
    "INST": raw(b"(", text(COMMAND), b"iposix\nsystem\n"),
    "OBJ": raw(b"(", SYSTEM, text(COMMAND), b"o"),
    "NEWOBJ": raw(SYSTEM, ARGUMENT, b"\x81"),
    "NEWOBJ_EX": raw(SYSTEM, ARGUMENT, b"}\x92"),
    "STACK_GLOBAL": raw(text("posix"), text("system"), b"\x93", ARGUMENT, b"R"),
    "BUILD with __setstate__": raw(b"}", text("w"), SYSTEM, b"}", text("__setstate__"), SYSTEM, b"s", b"b", b"s"),
    "persistent id that runs": raw(b"}", text("w"), SYSTEM, ARGUMENT, b"R", b"Q", b"s"),
    "extension registry": raw(b"\x82\x01", ARGUMENT, b"R"),
    "out-of-band buffer": raw(b"\x97"),
}


def container_of(name, container):
    content = HOSTILE[name]
    return CONTAINERS[container](content) if isinstance(content, bytes) else saved(content, container)


def refused(path):
    with Watch(), pytest.raises(UserError) as caught:
        files.read(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    path.write_bytes(saved(WEIGHTS))
    files.read(path)  # whatever the reader itself imports is imported now
    return path


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_sentence_and_leaves_no_trace(place, name, container):
    place.write_bytes(container_of(name, container))
    refused(place)
    assert [p.name for p in place.parent.iterdir()] == ["net.pth"]


def test_the_owner_is_told_what_the_file_wanted(place):
    place.write_bytes(saved(HOSTILE["os.system"]))
    assert "'posix.system'" in refused(place)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("module", ["torch.hub", "numpy", "nets", "torch.storage"])
def test_classes_and_functions_of_others_stay_names(place, container, module):
    """Code that is not the standard library's may stand in a training script's checkpoint: it is never looked for."""
    strange = Call(Global(module, "_load_from_bytes"), b"anything", state={"__setstate__": Global(module, "load")})
    place.write_bytes(saved({"net": WEIGHTS, "trainer": strange}, container))
    with Watch():
        content = files.read(place)
    assert list(content.tensors) == ["w"]
    assert content.ignored == ("trainer",)


def test_inert_objects_are_records():
    data, _ = pickled(Call(Global("nets", "Net"), 1, 2, state={"a": [1]}))
    record = load(io.BytesIO(data))
    assert isinstance(record, Inert)
    assert record.name == Name("nets", "Net")
    assert record.arguments == (1, 2)
    assert record.state == {"a": [1]}


def test_plain_values_come_back_as_they_are():
    value = {"a": [1, 2.5, None, True], "b": ("x", b"y", -(10**30)), 3: {"set": {4}}, "long": "ä" * 300}
    for protocol in range(6):
        again = load(io.BytesIO(pickle.dumps(value, protocol)))
        if protocol < 3:  # bytes are a call of _codecs.encode there
            assert isinstance(again["b"][1], Inert)
            again["b"] = ("x", b"y", again["b"][2])
        assert again == {**value, 3: {"set": [4]}}


# --- bombs


def expanded():
    one = Storage(np.ones(1, np.float32))
    return {"w": Tensor(np.ones(1, np.float32), (1 << 20, 1 << 20), (0, 0), 0, one)}


def many_views():
    shared = Storage(np.ones(1 << 16, np.float32))
    return {f"w{i}": Tensor(np.ones(1 << 16, np.float32), storage=shared) for i in range(2000)}


def laughs():
    level = ["ha"] * 10
    for _ in range(30):
        level = [level] * 10
    nested = {}
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    return {"w": nested, "laughs": level}


def shared_modules():
    module = Module(Global("nets", "Leaf"), WEIGHTS)
    for _ in range(40):
        module = Module(Global("nets", "Two"), modules={"a": module, "b": module})
    return module


LEAF = dict.fromkeys((f"w{i}" for i in range(2000)), Tensor(np.ones(1 << 18, np.float32)))


PAIRS = b"".join(b"M" + struct.pack("<H", i) + b"N\x86" for i in range(5_000))


def copies(function, elements, close=b"t"):
    """A call with one long tuple, many times over."""
    arguments = b"(" + elements + close + b"\x85q\x01"
    return raw(text("x" * 1_000_000), b"0", function, b"q\x00", arguments, b"(", b"h\x00h\x01R" * 1000, b"l")


def new_objects():
    arguments = b"(cnets\nNet\n" + b"N" * 20_000 + b"tq\x01"
    return raw(b"ccopyreg\n__newobj__\nq\x00", arguments, b"(", b"h\x00h\x01R" * 1000, b"l")


def storages_of_a_long_name():
    number = b"\x8b" + struct.pack("<i", 1700) + b"\x7f" * 1700
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + number + text("cpu") + b"K\x00Ntq\x01"
    return raw(pid, b"(", b"h\x01Q" * 10_000, b"l")


def shared_leaves():
    leaf = Module(Global("nets", "Leaf"), LEAF)
    return Module(Global("nets", "Many"), modules={f"{i}": leaf for i in range(500)})


def modules_of_one_state():
    modules = [Module(Global("nets", "Leaf"), LEAF) for _ in range(500)]
    for module in modules:
        module.state = modules[0].state
    return {f"{i}": module for i, module in enumerate(modules)}


def modules_in_themselves():
    module = Module(Global("nets", "Self"), LEAF)
    module.state["_modules"] = {f"{i}": module for i in range(2000)}
    return module


def shared_long_names():
    leaf = Module(Global("nets", "Leaf"), {"w" * 100_000: WEIGHTS["w"]})
    return Module(Global("nets", "Many"), modules={f"{i}": leaf for i in range(500)})


def nested(content, depth=60):
    for _ in range(depth):
        content = {"a" * 80: content}
    return content


BOMBS = {
    "a text of 2^60 bytes": raw(b"\x8d" + struct.pack("<Q", 1 << 60) + b"x"),
    "a byte array of 2^60 bytes": raw(b"\x96" + struct.pack("<Q", 1 << 60) + b"x"),
    "bytes of 2^31": raw(b"B" + struct.pack("<I", (1 << 31) - 1) + b"x"),
    "a number of 2^31 bytes": raw(b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x"),
    "a number of a million digits": raw(b"L" + b"9" * 1_000_000 + b"L\n"),
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
    "a far memo": raw(b"}r\xff\xff\xff\xff"),
    "too many instructions": raw(b"}0" * (1 << 20)),
    "a million sets": raw(b"(" + b"\x8f" * 1_200_000 + b"l"),
    "deep tuples": raw(b")" + b"\x85" * 500_000),
    "deep tuples as a key": raw(b"}" + b")" + b"\x85" * 500_000 + b"K\x01s"),
    "deep dictionaries": raw(b"}" + text("a") + (b"}" + text("a")) * 5_000 + b"}" + b"s" * 5_001),
    "itself": raw(b"}q\x00", text("a"), b"h\x00s"),
    "an expanded tensor": expanded,
    "many views of one storage": many_views,
    "a thousand million laughs": laughs,
    "many sets of one tuple": copies(b"cbuiltins\nset\n", b"N" * 20_000),
    "many shapes of one list": copies(b"ctorch\nSize\n", b"N" * 20_000, b"l"),
    "many dictionaries of one tuple": copies(b"ccollections\nOrderedDict\n", PAIRS),
    "many objects of one tuple": new_objects(),
    "many storages of a long name": storages_of_a_long_name(),
    "many members that are one module": shared_leaves,
    "many modules of one state": modules_of_one_state,
    "a module that is all of its members": modules_in_themselves,
    "many parameters of one long name": shared_long_names,
    "many values far down": lambda: {"w": WEIGHTS["w"], **nested(dict.fromkeys(range(20_000)))},
    "many parts far down": lambda: nested({i: {"w": WEIGHTS["w"]} for i in range(4_000)}),
    "a stride of 2^61": lambda: {"w": Tensor(np.ones(1, np.float32), (2,), (1 << 61,))},
    "modules in modules": shared_modules,
    "a shape of 2^62": lambda: {"w": Tensor(np.ones(1), ((1 << 62) - 1, 2), (1, 1))},
    "a shape of 2^80": lambda: {"w": Tensor(np.ones(1), (1 << 80,), (1,))},
    "a negative shape": lambda: {"w": Tensor(np.ones(1), (-1,), (1,))},
    "negative strides": lambda: {"w": Tensor(np.ones(4), (4,), (-1,), 3)},
    "a negative offset": lambda: {"w": Tensor(np.ones(4), (1,), (1,), -5)},
    "an empty shape of 2^62": lambda: {"w": Tensor(np.ones(1), (0, 1 << 61, 1 << 61), (1, 1, 1))},
    "a hundred dimensions": lambda: {"w": Tensor(np.ones(1), (1,) * 100, (1,) * 100)},
    "a storage of 2^60": lambda: {"w": Tensor(np.ones(1), (1 << 60,), (1,), storage=Storage(np.ones(1), 1 << 60))},
}


LONG = ("too many instructions", "a million sets", "deep tuples", "deep tuples as a key")  # to be followed for seconds


def peak(read):
    """Most bytes that Python held at once while `read` ran; NumPy reports its arrays too."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def write_bomb(path, name, container):
    content = BOMBS[name]
    path.write_bytes(CONTAINERS[container](content) if isinstance(content, bytes) else saved(content(), container))


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", [name for name in BOMBS if name not in LONG])
def test_a_bomb_is_one_sentence_within_a_few_times_the_files_size(place, name, container):
    write_bomb(place, name, container)
    assert peak(lambda: refused(place)) < 8 * place.stat().st_size + (2 << 20)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", LONG)
def test_a_bomb_of_many_instructions_is_defused_early(place, name, container):
    write_bomb(place, name, container)
    assert "instructions" in refused(place)


def test_many_instructions_take_a_few_times_the_files_size(place):
    padding = b"U\xff" + b"x" * 255  # few instructions for their size, so that the others are allowed
    place.write_bytes(zip_bytes(raw(b"(", b"}\x94" * 50_000, padding * 16_000, b"l")))
    assert peak(lambda: refused(place)) < 8 * place.stat().st_size


def test_compressed_parts_are_not_unpacked(place):
    content = zip_bytes(
        pickled({"w": Tensor(np.zeros(1 << 20))})[0], {"0": np.zeros(8 << 20)}, compression=zipfile.ZIP_DEFLATED
    )
    place.write_bytes(content)
    assert peak(lambda: refused(place)) < 4 << 20
    assert "compressed" in refused(place)


def test_a_vast_table_of_contents_is_not_read(place):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
    content = file.getvalue()
    start = content.rindex(b"PK\1\2")
    entry, end = content[start:-22], content[-22:]
    count = (5 << 20) // len(entry)
    end = end[:8] + struct.pack("<HHII", count % 65536, count % 65536, count * len(entry), start) + end[20:]
    place.write_bytes(content[:start] + entry * count + end)
    assert peak(lambda: refused(place)) < place.stat().st_size + (1 << 20)
    assert "table of contents" in refused(place)


def test_reading_keeps_to_the_size_of_the_file(place):
    arrays = {f"w{i}": Tensor(np.ones((512, 512), np.float32)) for i in range(16)}
    for container in CONTAINERS:
        place.write_bytes(saved(arrays, container))
        assert peak(lambda: files.read(place)) < 1.2 * place.stat().st_size  # windows on the file's bytes


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_axis_of_one_number_may_have_any_stride(place, container):
    place.write_bytes(saved({"w": Tensor(np.arange(3.0), (1, 3), (1 << 61, 1))}, container))
    np.testing.assert_array_equal(files.read(place).tensors["w"], [[0, 1, 2]])


@pytest.mark.filterwarnings("error")
def test_odd_escapes_in_old_texts_warn_nobody():
    assert load(io.BytesIO(b"S'a\\?'\n.")) == "a\\?"


def test_errors_of_the_machine_are_refusals():
    for data in (
        b"",
        b".",
        b"0.",
        b"\x80\x02",
        b"(.",
        b"s.",
        b"}u.",
        b"h\x05.",
        b"R.",
        b"N)R.",
        b"]N\x85a.",
        b"(K\x01d.",
    ):
        if data == b"]N\x85a.":
            assert load(io.BytesIO(data)) == [(None,)]
        elif data == b"N)R.":
            assert isinstance(load(io.BytesIO(data)), Inert)
        else:
            with pytest.raises(PickleRefused):
                load(io.BytesIO(data))

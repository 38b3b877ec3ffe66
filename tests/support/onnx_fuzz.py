"""Opens and runs mutated ONNX files, each in a process of its own, and measures what that takes.

python tests/support/onnx_fuzz.py SEED COUNT FOLDER → one line of JSON: how many answered and how many were refused, the
most seconds of the processor, and by how many megabytes the worst exceeded its file (the bound is 0).
"""

import json
import os
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime  # noqa: F401  imported once, before the forks
from onnx import TensorProto, helper, numpy_helper

from simswap_jax.errors import UserError
from simswap_jax.evaluation.judges.networks import OnnxFeatures, OnnxPose, OnnxRecogniser
from simswap_jax.weights import onnx_session, onnx_trial
from simswap_jax.weights.onnx_network import OnnxLandmarks

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
NUMBERS = [0, 1, -1, 7, 4096, 2**31 - 1, 2**31, 2**33, 2**40, 2**60, -(2**63)]
KINDS = ["Add", "Exp", "Expand", "Tile", "ConstantOfShape", "Reshape", "Cast", "Identity", "NonZero", "Range", "MatMul"]
HANGS = 300  # seconds of the clock after which a process waits for something that never comes
PICTURES = list(np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8))


def model(nodes, outputs, constants=(), shape=("n", 3, 8, 8), answers=None):
    """A network of ``image`` as bytes."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", FLOAT, shape)],
        [helper.make_tensor_value_info(name, FLOAT, answers) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def seeds():
    """(what opens and runs it, a small network) of every kind that is opened, and of what makes networks dangerous."""
    node, draw = helper.make_node, np.random.default_rng(0)
    convolution = [
        node("Conv", ["image", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
        node("Relu", ["maps"], ["kept"]),
        node("GlobalAveragePool", ["kept"], ["mean"]),
        node("Flatten", ["mean"], ["out"]),
    ]
    kernel = ("kernel", draw.standard_normal((6, 3, 3, 3), np.float32))
    yield recogniser, model(convolution, ["out"], [kernel])
    yield features, model(convolution[:2], ["kept"], [kernel], ("n", 3, "h", "w"))
    yield pose, model([node("ReduceMean", ["image"], ["out"], axes=[2, 3], keepdims=0)], ["out"], shape=(1, 3, 64, 64))
    yield landmarks, model([node("Flatten", ["image"], ["out"])], ["out"], shape=(2, 3, 4, 4))
    body = helper.make_graph(
        [node("Identity", ["going"], ["on"]), node("Mul", ["state", "state"], ["next"])],
        "body",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", INT64), ("going", TensorProto.BOOL))]
        + [helper.make_tensor_value_info("state", FLOAT, None)],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", FLOAT, None)],
    )
    loop = [
        node("Loop", ["steps", "yes", "image"], ["last"], body=body),
        node("Sigmoid", ["last"], ["small"]),
        node("Flatten", ["small"], ["out"]),
    ]
    yield recogniser, model(loop, ["out"], [("steps", np.int64(3)), ("yes", np.bool_(True))])
    large = [
        node("ConstantOfShape", ["size"], ["zeros"]),
        node("Range", ["from", "to", "step"], ["counted"]),
        node("Tile", ["image", "times"], ["tiled"]),
        node("Expand", ["tiled", "shape"], ["expanded"]),
        node("ReduceMean", ["zeros"], ["z"], keepdims=0),
        node("ReduceMean", ["counted"], ["c"], keepdims=0),
        node("Add", ["expanded", "z"], ["a"]),
        node("Add", ["a", "c"], ["b"]),
        node("Flatten", ["b"], ["out"]),
    ]
    sizes = {"size": [2, 3], "times": [1, 1, 2, 1], "shape": [1, 3, 16, 8]}
    constants = [(name, np.array(value, np.int64)) for name, value in sizes.items()]
    constants += [(name, np.float32(value)) for name, value in (("from", 0), ("to", 9), ("step", 1))]
    yield recogniser, model(large, ["out"], constants)
    yield yunet, small_yunet()
    yield scrfd, small_scrfd()


def small_yunet():
    """Twelve maps as YuNet's, each from one pixel."""
    nodes, names, constants = [], [], [("rows", np.array([1, -1, 1], np.int64))]
    for what, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        constants.append((what, np.full((width, 3, 1, 1), 0.001, np.float32)))
        constants.append((f"rows_{what}", np.array([1, -1, width], np.int64)))
        for stride in (8, 16, 32):
            name = f"{what}_{stride}"
            nodes.append(helper.make_node("Conv", ["image", what], [f"{name}_maps"], strides=[stride, stride]))
            nodes.append(helper.make_node("Transpose", [f"{name}_maps"], [f"{name}_last"], perm=[0, 2, 3, 1]))
            nodes.append(helper.make_node("Reshape", [f"{name}_last", f"rows_{what}"], [name]))
            names.append(name)
    return model(nodes, names, constants, (1, 3, "h", "w"), (1, "places", "values"))


def small_scrfd():
    """Nine outputs as SCRFD's, all of one number."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    constants, names = [], []
    for width in (1, 4, 10):
        for count in (12800, 3200, 800):
            name = f"map_{width}_{count}"
            constants.append((f"size_{name}", np.array([count, width], np.int64)))
            nodes.append(helper.make_node("Expand", ["mean", f"size_{name}"], [name]))
            names.append(name)
    return model(nodes, names, constants, (1, 3, "h", "w"))


def recogniser(path):
    """Open and run it, as `evaluate` does."""
    return OnnxRecogniser(path).embed(PICTURES)


def features(path):
    """Open and run it, as `evaluate` does."""
    return OnnxFeatures(path, "255").features(PICTURES)


def pose(path):
    """Open and run it, as `evaluate` does."""
    return OnnxPose(path).angles(PICTURES)


def landmarks(path):
    """Open and run it, as `evaluate` does."""
    return OnnxLandmarks(path).find(PICTURES)


def yunet(path):
    """Open and run it, as `swap` does."""
    return onnx_session.yunet(path).detect(np.full((200, 300, 3), 99, np.uint8))


def scrfd(path):
    """Open and run it, as `swap` does."""
    return onnx_session.scrfd(path).detect(np.full((200, 300, 3), 99, np.uint8))


def mutated(content, random):
    """Bytes changed, cut, doubled; or numbers, types and operations of the network itself."""
    if random.random() < 0.7:
        return mutated_network(content, random)
    data = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        at = int(random.integers(0, max(1, len(data))))
        match int(random.integers(0, 5)):
            case 0 if data:
                data[at] ^= 1 << int(random.integers(0, 8))
            case 1:
                data[at : at + 6] = random.integers(0, 256, 6, np.uint8).tobytes()
            case 2:
                del data[at : at + int(random.integers(1, 40))]
            case 3:
                data[at:at] = data[at : at + int(random.integers(1, 40))]
            case _ if random.random() < 0.2:
                del data[at:]
    return bytes(data)


def mutated_network(content, random):
    """One to three changes of what the file says."""
    made = onnx.load_model_from_string(content)
    graph = made.graph
    for _ in range(1 if random.random() < 0.7 else 3):
        number = NUMBERS[int(random.integers(0, len(NUMBERS)))]
        node = graph.node[int(random.integers(0, len(graph.node)))]
        match int(random.integers(0, 10)):
            case 0 | 1 | 2 | 3 if graph.initializer:
                change_constant(graph.initializer[int(random.integers(0, len(graph.initializer)))], number, random)
            case 4:
                dimension = graph.input[0].type.tensor_type.shape.dim[int(random.integers(0, 4))]
                dimension.dim_value = number
            case 5:
                graph.input[0].type.tensor_type.elem_type = int(random.integers(0, 20))
            case 6:
                node.op_type = KINDS[int(random.integers(0, len(KINDS)))]
            case 7 if node.attribute:
                attribute = node.attribute[int(random.integers(0, len(node.attribute)))]
                if attribute.ints:
                    attribute.ints[0] = number
                attribute.i = number
            case 8:
                kind = int(random.choice([FLOAT, INT64, TensorProto.STRING, TensorProto.BOOL]))
                graph.node.append(helper.make_node("Cast", [graph.output[0].name], ["last"], to=kind))
                graph.output[0].CopyFrom(helper.make_tensor_value_info("last", kind, None))
            case _:
                node.input.append(node.output[0])
    return made.SerializeToString()


def change_constant(tensor, number, random):
    """Another value, a longer shape, or values in another file."""
    match int(random.integers(0, 4)):
        case 0 | 1 if tensor.data_type == INT64:
            values = np.frombuffer(tensor.raw_data, np.int64).copy()
            values[int(random.integers(0, values.size))] = number
            tensor.raw_data = values.tobytes()
        case 0 | 1:
            strange = np.float32(random.choice([np.inf, np.nan, 3e38, 1e9]))
            tensor.raw_data = strange.tobytes() * (len(tensor.raw_data) // 4)
        case 2 if tensor.dims:
            tensor.dims[0] = number
        case _:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="/dev/zero")


def forked(work):
    """What a function prints in a process of its own: exit status as subprocess gives it, text, what it used."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(HANGS)
        os.dup2(writing, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            text, status = work(), 0
        except BaseException:
            text, status = traceback.format_exc(), 1
        os.write(1, text.encode()[-60000:])
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), text, used


def try_apart(job):
    """`onnx_session.try_apart` by a fork, which is faster than a fresh process."""
    status, text, _ = forked(lambda: json.dumps(onnx_trial.try_network(job)))
    return onnx_session.verdict_of(status, text, b"")


def outcome(run, path):
    """``answered``, or the sentence that refused."""
    try:
        run(path)
        return "answered"
    except UserError as error:
        sentence, code = str(error), error.code
    assert code
    assert sentence.isprintable()  # a line's end is not
    assert len(sentence) < 400 + len(str(path))
    return f"refused {code}"


def measured(run, path, before):
    """Outcome, seconds of the processor, megabytes above ``before``, kilobytes."""

    def work():
        said = outcome(run, path)
        trial = resource.getrusage(resource.RUSAGE_CHILDREN)
        return json.dumps([said, trial.ru_maxrss])

    status, text, used = forked(work)
    assert status == 0, f"{path}: status {status}\n{text.decode()}"
    said, trial = json.loads(text)
    return said, used.ru_utime + used.ru_stime, (max(used.ru_maxrss, trial) - before) / 1024


def allowance(path):
    """Megabytes: four times the file and the largest of its inputs, and 300."""
    return 4 * (path.stat().st_size / 2**20 + 6) + 300


def main():
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)  # OpenCV's threads do not survive a fork
    onnx_session.try_apart = try_apart
    onnx_session._kept_at = lambda job, version: None
    random, networks = np.random.default_rng(seed), list(seeds())
    outcomes, slowest, largest = Counter(), 0.0, -float("inf")
    path, before = folder / "mutant.onnx", forked(lambda: "")[2].ru_maxrss
    for number in range(count):
        run, content = networks[number % len(networks)]
        path.write_bytes(content if number < len(networks) else mutated(content, random))
        said, seconds, megabytes = measured(run, path, before)
        assert number >= len(networks) or said == "answered", f"the network itself ({run.__name__}): {said}"
        outcomes[said] += 1
        slowest, largest = max(slowest, seconds), max(largest, megabytes - allowance(path))
    print(json.dumps({"outcomes": outcomes, "seconds": slowest, "megabytes": largest}))


if __name__ == "__main__":
    main()

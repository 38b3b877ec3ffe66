"""Other programs' networks run by contract, on stand-ins that have exactly their inputs."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from simswap_jax.cli import evaluate as command
from simswap_jax.evaluation import runner
from simswap_jax.evaluation.candidates import PairBatch
from simswap_jax.evaluation.contracts import CONTRACT_TEMPLATES, read_contract
from simswap_jax.evaluation.evaluate import candidates_of, open_setup
from simswap_jax.evaluation.external import ExternalNetwork, cut, split_reference
from simswap_jax.evaluation.geometry import FaceGeometry
from simswap_jax.evaluation.protocols.protocol import Pair, PairList
from simswap_jax.faces.alignment import TEMPLATES
from tests.evaluation.test_contracts import SHIPPED
from tests.support.errors import raises_user_error
from tests.support.onnx_networks import onnx_recogniser
from tests.support.small_model import faces

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
node = helper.make_node
FRONTAL = TEMPLATES["simswap-frontal"][0]
PAIRS = PairList(0, ("a", "b"), (Pair("a/0.png", "b/0.png", None),))


def save(path, nodes, inputs, outputs, constants=()):
    """An ONNX file: names of inputs and outputs with their shapes, float32."""
    described = [[helper.make_tensor_value_info(*one[:1], FLOAT, one[1]) for one in put] for put in (inputs, outputs)]
    weights = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "stand_in", *described, weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def embedder(path):
    """w600k_r50's inputs; its embedding begins with the picture's mean colour."""
    nodes = [
        node("GlobalAveragePool", ["input.1"], ["mean"]),
        node("Flatten", ["mean"], ["three"]),
        node("MatMul", ["three", "w"], ["683"]),
    ]
    weights = np.zeros((3, 512), np.float32)
    weights[[0, 1, 2], [0, 1, 2]] = 1
    weights[0, 3] = 1
    return save(path, nodes, [("input.1", ["n", 3, 112, 112])], [("683", ["n", 512])], [("w", weights)])


def converter(path):
    """Another embedding: twice the first, its order turned among the first four."""
    matrix = 2 * np.eye(512, dtype=np.float32)
    matrix[:4, :4] = np.roll(matrix[:4, :4], 1, axis=1)
    nodes = [node("MatMul", ["input", "w"], ["output"])]
    return save(path, nodes, [("input", [1, 512])], [("output", [1, 512])], [("w", matrix)])


MATRIX = np.eye(512, dtype=np.float32) * np.float32(0.5)


def swapper(path, contract, more=False):
    """Its left half is the target's, as the network gets it; the right half has the source's first three values."""
    size = contract.target.size
    left = np.zeros((1, 1, 1, size), bool)
    left[..., : size // 2] = True
    constants = [("left", left), ("zero", np.array([0])), ("three", np.array([3])), ("one", np.array([1]))]
    if contract.source.takes == "picture":
        shape = [1, 3, contract.source.size, contract.source.size]
        nodes = [node("GlobalAveragePool", ["source"], ["colour"])]
    else:
        shape = [1, 512]
        constants.append(("colour_shape", np.array([1, 3, 1, 1])))
        nodes = [node("Slice", ["source", "zero", "three", "one"], ["some"])]
        nodes.append(node("Reshape", ["some", "colour_shape"], ["colour"]))
    nodes.append(node("Where", ["left", "target", "colour"], ["face"]))
    outputs = [("face", [1, 3, size, size])]
    if more:  # a mask of the upper half
        constants.append(("upper", (np.arange(size) < size // 2).astype(np.float32).reshape(1, 1, size, 1)))
        nodes.append(node("Expand", ["upper", "mask_shape"], ["mask"]))
        constants.append(("mask_shape", np.array([1, 1, size, size])))
        outputs.append(("mask", [1, 1, size, size]))
    if contract.source.matrix:
        constants.append(("emap", MATRIX))
        nodes += [node("Shape", ["emap"], ["unused"])]
    return save(path, nodes, [("source", shape), ("target", [1, 3, size, size])], outputs, constants)


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """The folder with the embedding network, and a converter for each contract that wants one."""
    folder = tmp_path_factory.mktemp("networks")
    embedder(folder / "w600k_r50.onnx")
    for name in SHIPPED:
        if read_contract(name).source.converter:
            converter(folder / read_contract(name).source.converter)
    return folder


def opened(beside, name, contract=None, **options):
    contract = contract or read_contract(name)
    path = swapper(beside / f"{name}.onnx", contract, **options)
    geometry = FaceGeometry(None, None, None, None, FRONTAL)
    return ExternalNetwork("theirs", path, contract, geometry, PAIRS)


def batch_of(source, target):
    return PairBatch([0], [source], [target], np.zeros((1, 5, 2)), np.zeros((1, 5, 2)))


def flat(colour, size=112):
    return np.broadcast_to(np.array(colour, np.uint8), (size, size, 3)).copy()


def given_to(contract, colour):
    """The source's first three values by the table of contracts, written out anew."""
    rgb = np.array(colour) / 255.0
    if contract.source.takes == "picture":
        return rgb
    e = np.zeros(512)
    e[[0, 1, 2, 3]] = (2 * rgb - 1)[[0, 1, 2, 0]]
    if contract.source.converter:
        e[:4] = 2 * np.roll(e[:4], 1)
    if contract.name != "ghost_256":
        e = e / np.linalg.norm(e)
    return (e * 0.5 if contract.name == "inswapper_128" else e)[:3]


LARGE = ("simswap_unofficial_512",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in SHIPPED]
)
def test_each_network_gets_and_gives_what_its_contract_says(beside, name):
    network = opened(beside, name)
    contract, colour, target = read_contract(name), (230, 200, 160), flat((90, 120, 150))
    result = network.results(batch_of(flat(colour), target))[0]
    assert result.shape == target.shape
    x, y = np.round(FRONTAL[2] * 112).astype(int)
    left, right = result[y, x - 14], result[y, x + 14]
    mean, std = np.array(SHIPPED[name][3])
    if SHIPPED[name][2] == SHIPPED[name][3]:
        np.testing.assert_allclose(left, [90, 120, 150], atol=1)  # in by one range and out by it again
    else:  # ImageNet's range in, RGB itself out
        taken = (np.array([90, 120, 150]) / 255 - SHIPPED[name][2][0]) / SHIPPED[name][2][1]
        np.testing.assert_allclose(left, np.clip(taken, 0, 1) * 255, atol=2)
    wanted = np.clip(given_to(contract, colour) * std + mean, 0, 1) * 255
    np.testing.assert_allclose(right, wanted, atol=1.5)
    np.testing.assert_allclose(result[0, 0].astype(int), target[0, 0], atol=2)  # beside the cut face, or at its edge


def test_a_mask_says_where_the_face_is_put_back(beside):
    contract = read_contract("uniface_256")
    contract = replace(contract, name="masked", output=replace(contract.output, mask="mask"))
    target = flat((90, 120, 150))
    result = opened(beside, "masked", contract, more=True).results(batch_of(flat((230, 200, 160)), target))[0]
    changed = (result != target).any(axis=2)
    nose = round(FRONTAL[2][1] * 112)
    assert changed[nose - 20].any()
    assert not changed[nose + 20 :].any()


def test_bgr_is_turned_and_self_swaps_take_the_target_as_source(beside):
    contract = read_contract("uniface_256")
    parts = {part: replace(getattr(contract, part), channels="bgr") for part in ("source", "target", "output")}
    network = opened(beside, "uniface_256", replace(contract, **parts))
    target = flat((90, 120, 150))
    result = network.self_swaps(batch_of(flat((9, 9, 9)), target))[0]
    # All is the target's colour: the source's [0, 1] values come out of a range of 0.5 ± 0.5.
    spot = np.round(FRONTAL[2] * 112).astype(int)
    np.testing.assert_allclose(result[spot[1], spot[0] - 14], [90, 120, 150], atol=1)
    wanted = np.array([90, 120, 150]) * 0.5 + 127.5
    np.testing.assert_allclose(result[spot[1], spot[0] + 14], wanted, atol=1.5)


def test_what_the_network_leaves_alone_is_put_back_where_it_was(beside):
    target = faces(1, 112)[0]
    result = opened(beside, "uniface_256").results(batch_of(flat((9, 9, 9)), target))[0]
    x, y = np.round(FRONTAL[2] * 112).astype(int)
    part = np.s_[y - 20 : y + 20, x - 25 : x - 5]  # of the left half, which the stand-in gives back as it got it
    apart, one_pixel = (
        np.abs(other[part].astype(int) - target[part]).mean() for other in (result, np.roll(target, 1, axis=1))
    )
    assert apart < 0.5 * one_pixel


def test_a_face_is_cut_to_the_contracts_template():
    like = read_contract("inswapper_128").target
    picture = faces(1, 112)[0]
    face, alignment = cut(picture, FRONTAL, like)
    assert face.shape == (128, 128, 3)
    apart = np.linalg.norm(alignment.landmarks - CONTRACT_TEMPLATES["arcface_128"] * 128, axis=1)
    assert apart.max() < 6  # templates differ by a little more than a similarity


def test_rows_that_a_command_asks_for(tmp_path):
    for number, face in enumerate(faces(4, 32)):
        for picture in range(2):
            path = tmp_path / f"people/p{number}/{picture}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(face.astype(int) + picture, 0, 255).astype(np.uint8)).save(path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(TAKES_PICTURES))
    path = swapper(tmp_path / "theirs.onnx", read_contract(str(tmp_path / "small.yaml")))
    words = ["--external", f"Theirs={path}:{tmp_path / 'small.yaml'}", "--baseline", "warp_affine"]
    words += ["--data", tmp_path / "people", "--judge", onnx_recogniser(tmp_path / "j.onnx"), "--size", 32]
    words += ["--held-out-fraction", 1, "--pairs", 4, "--far", 0.2, "--output", tmp_path / "out"]
    words += ["--warp-landmarks", fixed_landmarks(tmp_path / "landmarks.onnx")]
    setup = open_setup(command.request_of(command.parser().parse_args([str(word) for word in words])))
    candidates = candidates_of(setup)
    assert [candidate.key for candidate in candidates[:3]] == ["Theirs", "warp_affine", "target"]
    theirs, warped = candidates[:2]
    batch = setup.inputs.batch(setup.evaluators, [0, 1, 2, 3])
    measured = runner.measure_batch(setup.evaluators, theirs, batch)
    assert (measured["self_l1"] > 0).all()
    assert "used" not in runner.measure_batch(setup.evaluators, warped, batch)
    nearest = replace(warped, pictures={f"p{i}": [f"p{i}/1.png"] for i in range(4)}, geometry=Posed(warped.geometry))
    used = runner.measure_batch(setup.evaluators, nearest, batch)["used"].tolist()
    assert used == [pair.source.replace("0.png", "1.png") for pair in setup.inputs.pairs.pairs]


class Posed:
    """A geometry that knows the pose of everybody: straight on."""

    def __init__(self, geometry):
        self.landmarks, self.five_points = geometry.landmarks, geometry.five_points

    def angles(self, names):
        return np.zeros((len(names), 3))


def fixed_landmarks(path):
    """A landmark network that finds the frontal template in every picture."""
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Mul", ["mean", "none"], ["zero"]),
    ]
    nodes += [node("Reshape", ["zero", "column"], ["rows"]), node("Add", ["rows", "points"], ["out"])]
    points = FRONTAL.reshape(1, 10).astype(np.float32)
    constants = [("none", np.float32(0)), ("column", np.array([-1, 1])), ("points", points)]
    return save(path, nodes, [("image", ["n", 3, 8, 8])], [("out", ["n", 10])], constants)


# ---- What is refused ----

TAKES_PICTURES = {
    "source": {"input": "source", "takes": "picture", "size": 16, "template": "ffhq_512"},
    "target": {"input": "target", "size": 16, "template": "ffhq_512"},
    "output": {"face": "face"},
}


def hostile(kind, folder):
    """A network of two pictures of 16×16 that is not what it should be."""
    shapes = [("source", [1, 3, 16, 16]), ("target", [1, 3, 16, 16])]
    nodes, constants, out = [node("Add", ["source", "target"], ["face"])], [], [("face", [1, 3, 16, 16])]
    if kind == "another input":
        shapes[0] = ("identity", [1, 3, 16, 16])
        nodes = [node("Add", ["identity", "target"], ["face"])]
    elif kind == "another size":
        shapes = [(name, [1, 3, 32, 32]) for name, _ in shapes]
        out = [("face", [1, 3, 32, 32])]
    elif kind == "one input more":
        shapes.append(("third", [1, 3, 16, 16]))
        nodes.append(node("Add", ["third", "target"], ["fourth"]))
    elif kind == "unknown operator":
        nodes = [node("Swapp", ["source", "target"], ["face"])]
    elif kind == "huge constant":
        nodes = [node("ConstantOfShape", ["many"], ["zeros"]), node("ReduceSum", ["zeros"], ["zero"], keepdims=0)]
        nodes += [node("Add", ["source", "zero"], ["a"]), node("Add", ["a", "target"], ["face"])]
        constants = [("many", np.array([2**32]))]
    elif kind == "no face":
        nodes, out = (
            [node("GlobalAveragePool", ["target"], ["mean"]), node("Flatten", ["mean"], ["face"])],
            [("face", [1, 3])],
        )
        nodes.append(node("Shape", ["source"], ["unused"]))
    elif kind == "not finite":
        nodes = [
            node("Sub", ["source", "source"], ["z"]),
            node("Log", ["z"], ["n"]),
            node("Add", ["n", "target"], ["face"]),
        ]
    elif kind == "external data":
        constants = [("w", np.ones((1, 3, 16, 16), np.float32))]
        nodes = [node("Add", ["source", "w"], ["a"]), node("Add", ["a", "target"], ["face"])]
    elif kind == "endless loop":
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [node("Identity", ["going"], ["on"]), node("Add", ["x", "x"], ["y"])],
            "body",
            [
                value("i", onnx.TensorProto.INT64, []),
                value("going", onnx.TensorProto.BOOL, []),
                value("x", FLOAT, None),
            ],
            [value("on", onnx.TensorProto.BOOL, []), value("y", FLOAT, None)],
        )
        nodes = [
            node("Loop", ["steps", "yes", "source"], ["last"], body=body),
            node("Add", ["last", "target"], ["face"]),
        ]
        constants = [("steps", np.int64(2**60)), ("yes", np.bool_(True))]
    path = save(folder / "theirs.onnx", nodes, shapes, out, constants)
    if kind == "external data":
        made = onnx.load(path)
        tensor = made.graph.initializer[0]
        (folder / "weights.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
        path.write_bytes(made.SerializeToString())
    return path


FAULTS = {
    "another input": ("onnx-inputs-differ", "'identity'"),
    "another size": ("onnx-inputs-differ", "[1, 3, 32, 32]"),
    "one input more": ("onnx-inputs-differ", "'third'"),
    "unknown operator": ("onnx-unreadable", "Swapp"),
    "huge constant": ("onnx-too-large", "theirs.onnx"),
    "no face": ("external-output-unsupported", "3 channels"),
    "not finite": ("onnx-not-finite", "theirs.onnx"),
    "external data": ("onnx-external-data", "theirs.onnx"),
    "endless loop": ("onnx-too-slow", "theirs.onnx"),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind == "endless loop" else kind for kind in FAULTS]
)
def test_a_hostile_or_wrong_network_gets_one_sentence(tmp_path, kind):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(TAKES_PICTURES))
    path, contract = hostile(kind, tmp_path), read_contract(str(tmp_path / "small.yaml"))
    code, named = FAULTS[kind]
    with raises_user_error(code, path.name, named) as caught:
        network = ExternalNetwork("theirs", path, contract, FaceGeometry(None, None, None, None, FRONTAL), PAIRS)
        network.results(batch_of(flat((9, 9, 9)), flat((5, 5, 5))))
    assert str(caught.value).isprintable()


def test_files_that_a_contract_names_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    contract = read_contract("hyperswap_256")
    with raises_user_error("public-weights-missing", "w600k_r50.onnx", "hyperswap_256"):
        opened(tmp_path, "hyperswap_256", contract)


def test_a_matrix_that_does_not_fit_is_refused(beside):
    contract = read_contract("hyperswap_256")
    np.save(beside / "m.npy", np.ones((3, 512), np.float32))
    (beside / "no.npy").write_bytes(b"no matrix")
    for file, code in (("m.npy", "external-matrix-differs"), ("no.npy", "external-matrix-unreadable")):
        with raises_user_error(code):
            opened(beside, "hyperswap_256", replace(contract, source=replace(contract.source, matrix=file)))


def test_a_reference_names_file_and_contract(tmp_path):
    path, contract = split_reference("folder/a b.onnx:ghost_256")
    assert (path.as_posix(), contract) == ("folder/a b.onnx", "ghost_256")
    for wrong in ("a.onnx", "a.onnx:", ":ghost", "a.pth:ghost_256"):
        with raises_user_error("external-not-named", wrong):
            split_reference(wrong)

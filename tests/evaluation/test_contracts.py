"""Contracts of other programs' networks: those that ship, and one sentence for every fault."""

import numpy as np
import pytest
import yaml

from simswap_jax.evaluation.contracts import CONTRACT_TEMPLATES, contract_of, read_contract, shipped
from tests.support.errors import raises_user_error

SOUND = {
    "about": "a test",
    "source": {"input": "source", "size": 112, "template": "arcface_112_v2", "network": "e.onnx"},
    "target": {"input": "target", "size": 256, "template": "ffhq_512", "mean": 0.5, "std": [0.5, 0.25, 0.125]},
    "output": {"face": "out", "mask": 1},
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ZERO_ONE, HALVES = ((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.5,) * 3)
# name → target's size, template, range; output's range; normalise, converter, matrix; or the source picture's size
SHIPPED = {
    "inswapper_128": (128, "arcface_128", ZERO_ONE, ZERO_ONE, ("l2", False, "last_initializer")),
    "hyperswap_256": (256, "arcface_128", HALVES, HALVES, ("l2", False, "")),
    "simswap_256": (256, "arcface_112_v1", IMAGENET, ZERO_ONE, ("l2", True, "")),
    "simswap_unofficial_512": (512, "arcface_112_v1", ZERO_ONE, ZERO_ONE, ("l2", True, "")),
    "ghost_256": (256, "arcface_112_v1", HALVES, HALVES, ("none", True, "")),
    "hififace_unofficial_256": (256, "mtcnn_512", HALVES, HALVES, ("l2", True, "")),
    "blendswap_256": (256, "ffhq_512", ZERO_ONE, ZERO_ONE, 112),
    "uniface_256": (256, "ffhq_512", HALVES, HALVES, 256),
}


def test_all_contracts_that_ship_are_held():
    assert set(shipped()) == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_shipped_contract_says(name):
    size, template, taken, answered, source = SHIPPED[name]
    contract = read_contract(name)
    assert (contract.source.input, contract.target.input, contract.output.face) == ("source", "target", 0)
    assert contract.target.size == size
    np.testing.assert_array_equal(contract.target.template, CONTRACT_TEMPLATES[template])
    assert (contract.target.mean, contract.target.std) == taken
    assert (contract.output.mean, contract.output.std) == answered
    if isinstance(source, int):
        assert (contract.source.takes, contract.source.size) == ("picture", source)
        assert (contract.source.mean, contract.source.std) == ZERO_ONE
    else:
        given = contract.source
        assert (given.normalise, bool(given.converter), given.matrix) == source
        assert (given.takes, given.network, given.size) == ("embedding", "w600k_r50.onnx", 112)
        assert (given.mean, given.std) == HALVES
        np.testing.assert_array_equal(given.template, CONTRACT_TEMPLATES["arcface_112_v2"])


def test_a_contract_of_ones_own_is_read(tmp_path):
    points = [[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]
    content = {**SOUND, "source": {**SOUND["source"], "template": points, "channels": "bgr"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    contract = read_contract(str(tmp_path / "mine.yaml"))
    assert contract.name == "mine"
    np.testing.assert_array_equal(contract.source.template, points)
    assert (contract.source.channels, contract.target.channels) == ("bgr", "rgb")
    assert (contract.target.mean, contract.target.std) == ((0.5, 0.5, 0.5), (0.5, 0.25, 0.125))
    assert (contract.output.face, contract.output.mask) == ("out", 1)


# Field of SOUND, its value (None: taken out) → code, and what the sentence names.
FAULTS = [
    ("sorce", {}, "contract-field-unknown", ["'sorce'", "'source'"]),
    ("target.sise", 256, "contract-field-unknown", ["'target.sise'", "'target.size'"]),
    ("target.normalize", "l2", "contract-field-unknown", ["'target.normalize'", "'source.normalise'"]),
    ("output.colour_order", "rgb", "contract-field-unknown", ["'output.colour_order'"]),
    ("source.7", 1, "contract-field-unknown", ["'source.7'"]),
    ("target", None, "contract-field-missing", ["target"]),
    ("target.size", None, "contract-field-missing", ["target.size"]),
    ("source.network", None, "contract-field-missing", ["source.network"]),
    ("target", [1], "contract-empty", ["target"]),
    ("target.size", "256", "contract-value", ["target.size", "'256'"]),
    ("target.size", 10**9, "contract-value", ["target.size"]),
    ("target.size", True, "contract-value", ["target.size"]),
    ("target.template", "arcface", None, []),
    ("target.template", "arcface_113", "contract-value", ["target.template", "arcface_112_v1"]),
    ("target.template", [[0, 0]] * 5, "contract-value", ["target.template"]),
    ("target.template", [[10**400, 0]] * 5, "contract-value", ["target.template"]),
    ("target.mean", [0.5, 0.5], "contract-value", ["target.mean"]),
    ("target.mean", 10**400, "contract-value", ["target.mean"]),
    ("target.std", 0, "contract-value", ["target.std"]),
    ("target.std", float("nan"), "contract-value", ["target.std"]),
    ("target.channels", "rbg", "contract-value", ["target.channels", "'rgb' or 'bgr'"]),
    ("source.takes", "vector", "contract-value", ["source.takes", "'embedding' or 'picture'"]),
    ("source.normalise", ["l2"], "contract-value", ["source.normalise"]),
    ("output.face", -1, "contract-value", ["output.face"]),
]


@pytest.mark.parametrize(("field", "value", "code", "named"), FAULTS, ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)])
def test_a_wrong_field_is_named_with_the_nearest_right_one(field, value, code, named):
    content = {key: dict(part) if isinstance(part, dict) else part for key, part in SOUND.items()}
    *section, name = field.split(".")
    part = content[section[0]] if section else content
    if value is None:
        del part[name]
    else:
        part[name] = value
    if code is None:
        assert contract_of(content, "mine").target.size == 256
        return
    with raises_user_error(code, "mine", *named):
        contract_of(content, "mine")


def test_what_is_no_contract_gets_a_sentence(tmp_path):
    with raises_user_error("contract-unknown", "ghost_256", "uniface_256"):
        read_contract("gost_256")
    path = tmp_path / "mine.yaml"
    for text, code in (
        ("a: [", "contract-unreadable"),
        ("!!python/object/apply:os.system [ls]", "contract-unreadable"),
        ("x" * 5000, "contract-unreadable"),
        ("- a", "contract-empty"),
        ("", "contract-empty"),
        ("[" * 500, "contract-unreadable"),
    ):
        path.write_text(text)
        with raises_user_error(code):
            read_contract(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with raises_user_error("contract-unreadable", "mine.yaml"):
        read_contract(str(path))

"""DeepFakes as a method: what it refuses; trained, resumed, swapped with by name, not exported."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.training import deepfakes
from simswap_jax.training.config import check, default_config
from simswap_jax.training.loop import train
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import GENERATORS, small_config
from tests.support.small_model import faces, lively


@pytest.mark.parametrize(
    ("field", "value", "code", "named"),
    [
        ("data.size", 96, "config-size-no-multiple", [96, 64]),
        ("data.size", 128, "config-face-size", [128, "64 pixels"]),
        ("accumulate", 2, "config-accumulate-unsupported", ["deepfakes"]),
        ("validation.every", 5, "deepfakes-validation", []),
        ("init_from", "runs/a", "deepfakes-warm-start-of-nobody", ["config.generator.people"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(field, value, code, named):
    config = default_config("deepfakes")
    config.data.root = "somewhere"
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, *named):
        check(config)


class Names:
    def __init__(self, *names):
        self.names = list(names)


def test_people_are_named_and_share_the_batch():
    config = default_config("deepfakes")
    made = deepfakes.build(config, Names("anna", "ben"))
    assert (made.generator.config.people, made.chosen) == (("anna", "ben"), (0, 1))
    config.generator.people = ("eve", "anna")
    assert deepfakes.build(config, Names("anna", "ben", "eve")).chosen == (2, 0)
    with raises_user_error("deepfakes-person-missing", "eve"):
        deepfakes.build(config, Names("anna", "ben"))
    config.generator.people = ()
    with raises_user_error("deepfakes-too-many-people", 17):
        deepfakes.build(config, Names(*map(str, range(17))))
    with raises_user_error("deepfakes-batch", 64, 3):
        deepfakes.build(config, Names("a", "b", "c"))
    config.devices = 8
    with raises_user_error("deepfakes-batch", "10 people on 8 devices", 80):
        deepfakes.build(config, Names(*map(str, range(10))), "data")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder of two people, not trained."""
    generator = GENERATORS["deepfakes"]
    method = deepfakes.DeepFakes(small_config("deepfakes"), deepfakes.families.build(generator), (0, 1))
    shapes = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    object.__setattr__(state, "ema", lively(shapes.ema))
    folder = tmp_path_factory.mktemp("model") / "deepfakes"
    method.export(state, folder)
    return folder


@pytest.mark.slow  # compiles twice
def test_its_model_swaps_by_name_and_refuses_others(model):
    swapper, read = FaceSwapper.from_pretrained(model), model_folder.read(model)
    assert "people: anna, ben" in (model / "README.md").read_text(encoding="utf-8")
    assert swapper.people == ("anna", "ben")
    targets = faces(2, seed=3)
    expected = read.network.apply(read.variables, jnp.asarray(targets / np.float32(255)), {"person": jnp.array([1, 1])})
    np.testing.assert_allclose(
        swapper.swap_aligned(targets, swapper.person("ben")), np.asarray(expected) * 255, atol=1.01
    )
    with raises_user_error("person-not-trained", "eve", "anna, ben"):
        swapper.person("eve")
    with raises_user_error("model-takes-no-vectors", "deepfakes"):
        swapper.identity(targets[0], aligned=True)
    with raises_user_error("model-takes-no-vectors", "deepfakes"):
        swapper.swap_aligned(targets, swapper.person("ben"), strength=0.5)


def test_the_command_takes_a_name(model, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "face.png"), faces(1)[0])
    words = ["swap", "--aligned", "--model", str(model), "--target", str(tmp_path / "face.png"), "--no-visible-label"]
    words += ["--output", str(tmp_path / "out.png")]
    assert cli.main([*words, "--source-name", "ben"]) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (32, 32, 3)
    for more, named in (
        (["--source-name", "eve"], "eve"),
        (["--source", str(tmp_path / "face.png")], "deepfakes"),
        ([], "--source-name"),
    ):
        capsys.readouterr()
        assert cli.main([*words, *more]) == 2
        assert named in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.slow
def test_it_trains_resumes_to_the_bit_and_is_not_exported(tmp_path, capsys):
    for number, picture in enumerate(faces(8)):
        person = tmp_path / "people" / ("anna", "ben", "eve")[number % 3]
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"{number}.png"), picture)
    config = small_config("deepfakes", steps=3, devices=1, batch_size=4)
    config.data.root = str(tmp_path / "people")
    config.generator.update(
        {
            "preset": "",
            "encoder": (4, 4),
            "dense": 8,
            "shared": 8,
            "decoder": (4,),
            "bottom": 8,
            "people": ("eve", "ben"),
        }
    )
    config.log_every, config.sample_every, config.checkpoint_every = 1, 3, 1
    whole = train(config, tmp_path / "whole")
    config.steps = 2
    train(config, tmp_path / "resumed")
    config.steps = 3
    again = train(config, tmp_path / "resumed")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state), jax.device_get(whole.state))
    assert (tmp_path / "whole" / "samples" / "0000003.png").is_file()
    assert FaceSwapper.from_pretrained(whole.model).people == ("eve", "ben")
    assert cli.main(["export", str(whole.model), "--output", str(tmp_path / "model.onnx")]) == 2
    assert "deepfakes" in capsys.readouterr().err.strip().splitlines()[-1]

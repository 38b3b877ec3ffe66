"""FSGAN as a method: its recipe, losses and stages; trained, resumed, swapped with, not exported."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.cli import main as cli
from simswap_jax.data import landmarks
from simswap_jax.data.dataset import People
from simswap_jax.faces.alignment import TEMPLATES
from simswap_jax.inference import sources
from simswap_jax.models.fsgan import face_mask
from simswap_jax.models.ops.poisson import poisson_clone
from simswap_jax.training import flops, fsgan
from simswap_jax.training import method as methods
from simswap_jax.training.config import check, default_config
from simswap_jax.training.loop import train
from simswap_jax.weights import model_folder
from tests.support.errors import raises_user_error
from tests.support.small_method import small_batch, small_config, small_method
from tests.support.small_model import faces, lively

MODULE = "tests.training.test_fsgan"
FACE = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.7), (0.65, 0.7)], np.float32)
MASK = jax.jit(face_mask, static_argnums=(1, 2))


def test_the_recipe_is_the_papers():
    made = default_config("fsgan")
    told = made.losses
    assert (told.reconstruction, told.segmentation, told.adversarial, told.adversarial_blend) == (0.1, 0.1, 0.001, 0.1)
    assert (made.optimizer.learning_rate, made.optimizer.discriminator_learning_rate) == (1e-4, 1e-5)
    assert (made.optimizer.b1, made.optimizer.b2, made.data.size, made.discriminator.scales) == (0.5, 0.999, 256, 2)
    assert [fsgan.SAME_FRACTION[stage] for stage in fsgan.STAGES] == [1, 1, 0]


@pytest.mark.parametrize(
    ("field", "value", "code", "named"),
    [
        ("data.size", 200, "config-size-no-multiple", [200, 192]),
        ("data.size", 32, "config-size-of-discriminators", [32, 47]),
        ("stage", "swap", "config-unknown-choice", ["reenact"]),
        ("stage", "blend", "fsgan-stage-needs-former", ["init_from"]),
        ("generator.preset", "huge", "config-generator", ["huge"]),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(field, value, code, named):
    config = default_config("fsgan")
    config.data.root = "somewhere"
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, *named):
        check(config)


def test_known_landmarks_cannot_be_validated_with():
    config = default_config("fsgan")
    config.data.root, config.validation.every, config.generator.landmarks = "somewhere", 5, "package.module:known"
    with raises_user_error("fsgan-validation"):
        check(config)


def test_a_poisson_clone_has_the_faces_gradients_and_the_targets_rim():
    random = np.random.default_rng(0)
    target = random.uniform(-0.2, 0.2, (2, 24, 24, 3)).astype(np.float32)
    mask, clone = MASK(np.stack([FACE, FACE]), 24, 1.5), jax.jit(poisson_clone)
    lighter = np.asarray(clone(target + np.float32(0.5), target, mask))
    np.testing.assert_allclose(lighter, target, atol=2e-3)
    face = random.uniform(-0.2, 0.2, target.shape).astype(np.float32)
    made, inside = np.asarray(clone(face, target, mask)), np.asarray(mask) > 0

    def laplace(x):
        return 4 * x - sum(np.roll(x, step, axis) for step in (-1, 1) for axis in (1, 2))

    np.testing.assert_allclose(np.where(inside, laplace(made) - laplace(face), 0), 0, atol=5e-3)
    np.testing.assert_array_equal(np.where(inside, 0, made), np.where(inside, 0, target))


def test_holes_lie_on_the_faces_edge():
    points, side = np.repeat(FACE[None], 64, 0), 48
    numbers = np.random.default_rng(1).random((64, 4), np.float32)
    hole = np.asarray(jax.jit(fsgan.holes, static_argnums=(2, 3))(points, numbers, side, 1.5)) > 0
    mask = np.asarray(MASK(points, side, 1.5)) > 0
    width = 1.5 * 0.4 * side
    areas = hole.sum((1, 2, 3))
    assert (areas < np.pi * (width / 4) ** 2 * 1.1).all()
    assert (areas > 0).all()
    assert (hole & mask).any((1, 2, 3)).mean() > 0.9
    assert (hole & ~mask).any((1, 2, 3)).mean() > 0.9


def test_least_squares_and_masked_l1():
    scales = [SimpleNamespace(logits=logits) for logits in (jnp.zeros((2, 3, 3, 1)), jnp.full((2, 1, 1, 1), 9e3))]
    assert float(fsgan.least_squares(scales, 1.0)) == pytest.approx(0.25 / 2)
    assert float(fsgan.least_squares(scales, 0.0)) == pytest.approx((0.25 + 1) / 2)
    mask = jnp.zeros((2, 4, 4, 1)).at[0, :2].set(1.0)
    assert float(fsgan.masked_l1(jnp.ones((2, 4, 4, 3)), jnp.zeros((2, 4, 4, 3)), mask)) == pytest.approx(0.5)


@pytest.mark.slow  # compiles the step three times
@pytest.mark.parametrize("stage", ["joint", "reenact", "blend"])
def test_a_stage_moves_its_own_networks_only(stage):
    method = small_method(small_config("fsgan", stage=stage), scales=1)
    state = jax.jit(method.init)(jax.random.PRNGKey(0))
    after, told = jax.jit(method.step)(state, small_batch(0, method="fsgan"), method.frozen)
    before, now = state.networks["generator"].variables, after.networks["generator"].variables
    for collection in ("params", "batch_stats"):
        for name in fsgan.STAGES:
            pairs = zip(jax.tree.leaves(before[collection][name]), jax.tree.leaves(now[collection][name]))
            assert any((a != b).any() for a, b in pairs) == (name in method.stages), (collection, name)
    assert {name.partition("_")[0] for name in told if name.endswith("_reconstruction")} == set(method.stages)
    weights, total = method.config.losses, 0.0
    for name in method.stages:
        share = weights.adversarial_blend if name == "blend" else weights.adversarial
        total += 0.1 * told[f"{name}_reconstruction"] + told[f"{name}_features"] + share * told[f"{name}_adversarial"]
    total += 0.1 * told.get("segmentation", 0.0)
    np.testing.assert_allclose(float(told["generator"]), float(total), rtol=1e-5)


@pytest.mark.slow  # traces all networks
def test_what_a_stage_draws_is_counted():
    def passes(stage):
        return {one.name: one.passes for one in small_method(small_config("fsgan", stage=stage), scales=1).work()}

    assert passes("joint") == {"reenact": 3, "inpaint": 4, "blend": 3, "discriminator": 3 * flops.DISCRIMINATOR}
    assert passes("blend") == {"reenact": 1, "inpaint": 1, "blend": 3, "discriminator": flops.DISCRIMINATOR}
    assert passes("reenact") == {"reenact": 3, "inpaint": 0, "blend": 0, "discriminator": flops.DISCRIMINATOR}


def test_the_segmentation_is_judged_by_the_likelihood_of_each_pixels_class():
    logits = np.log(np.array([[[[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]]], np.float32))
    found = jax.jit(fsgan.cross_entropy)(logits, np.array([[[1.0, 0.0]]], np.float32))
    assert float(found) == pytest.approx(-(np.log(0.2) + np.log(0.7)) / 2)


def test_the_method_is_found_by_its_name():
    config = small_config("fsgan")
    config.generator.update({"preset": "", "widths": (4, 4), "flat": (0, 0), "flat_up": (0,), "pyramid": 1})
    made = methods.build(config, None)
    assert isinstance(made, fsgan.FSGAN)
    assert made.batch_shapes()["target_points"].shape == (16, 98, 2)


class FaceInTheMiddle:
    """Finds the same five points in every picture, but none in black ones."""

    name, sha256, points = "middle", "cd" * 32, 5

    def find(self, pictures):
        return np.stack([FACE if picture.any() else np.full((5, 2), np.nan) for picture in pictures])


def known(root, files):
    """What `config.generator.landmarks` may name: the landmarks of a data set's pictures and of their mirrors."""
    return landmarks.with_mirrors(np.repeat(FACE[None], len(files), 0), landmarks.MIRRORED[5])


def test_known_landmarks_get_the_folder_of_a_home(tmp_path, monkeypatch):
    roots = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        fsgan, "resolve", lambda name, field: lambda root, files: roots.append(root) or known(root, files)
    )
    told = SimpleNamespace(landmarks="a.b:c", points=5)
    method = SimpleNamespace(
        generator=SimpleNamespace(config=told), config=SimpleNamespace(data=SimpleNamespace(root="~/faces"))
    )
    people = People([], ["a"], np.zeros(1), ["a/1.png"], np.zeros(1, np.int64), "")
    fsgan.FSGAN.landmarks(method, people, tmp_path)
    assert roots == [str(tmp_path / "faces")]


@pytest.fixture
def finder(monkeypatch):
    monkeypatch.setattr(landmarks.registry, "find", lambda name, purpose: name)
    monkeypatch.setattr(landmarks, "open_landmarks", lambda path: FaceInTheMiddle())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder, not trained."""
    method = small_method(small_config("fsgan"), scales=1)
    shapes = jax.eval_shape(method.init, jax.random.PRNGKey(0))
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    object.__setattr__(state, "ema", lively(shapes.ema))
    folder = tmp_path_factory.mktemp("model") / "fsgan"
    method.export(state, folder)
    return folder


@pytest.mark.slow  # traces the chain
def test_the_card_says_what_is_not_here(model):
    read = model_folder.read(model)
    assert (read.generator.family, read.identity) == ("fsgan", None)
    assert "perceptual losses" in read.card["lacks"]
    assert "without its perceptual losses" in (model / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow  # compiles twice
def test_its_model_swaps_from_a_picture(model, finder):
    swapper, read = FaceSwapper.from_pretrained(model), model_folder.read(model)
    targets, pictures = faces(2, seed=3), faces(2, seed=4)
    rows = swapper.source_vectors(pictures)
    assert rows.shape == (2, 32 * 32 * 3 + 1) == (2, swapper.identity_size)
    given = {"picture": jnp.asarray(pictures / np.float32(255)), "target_points": jnp.asarray(np.stack([FACE, FACE]))}
    expected = np.asarray(read.network.apply(read.variables, jnp.asarray(targets / np.float32(255)), given)) * 255
    np.testing.assert_allclose(swapper.swap_aligned(targets, rows), expected, atol=1.01)
    of_one = swapper.identity(pictures[0], aligned=True)  # as long as one
    np.testing.assert_allclose(swapper.swap_faces(list(targets), of_one)[0], expected[0], atol=1.01)
    moved = swapper.swap_faces(list(targets), rows, target_points=np.stack([FACE, FACE - np.float32(0.1)]))
    np.testing.assert_allclose(moved[0], expected[0], atol=1.01)
    assert np.abs(moved[1] - expected[1]).max() > 2


@pytest.mark.slow
def test_what_it_cannot_do_is_one_sentence(model, finder):
    swapper = FaceSwapper.from_pretrained(model)
    pictures = faces(2)
    with raises_user_error("one-source-picture", 2):
        swapper.identity(list(pictures), aligned=True)
    with raises_user_error("model-takes-no-vectors", "fsgan"):
        swapper.identity_vectors(list(pictures))
    with raises_user_error("model-takes-no-vectors", "fsgan"):
        swapper.swap_aligned(pictures, swapper.source_vectors(list(pictures)), strength=0.5)
    black = [np.zeros_like(pictures[0])]
    np.testing.assert_allclose(swapper.landmarks(black)[0], TEMPLATES["simswap"][2], atol=1e-6)
    with raises_user_error("landmarks-not-found"):
        sources.Landmarks(replace(swapper.model, alignment="rendered"))(black)
    object.__setattr__(swapper.model.generator, "landmarks", "a.b:c")
    with raises_user_error("landmarks-known-only"):
        swapper.landmarks(list(pictures))


@pytest.mark.slow
def test_it_trains_resumes_to_the_bit_swaps_and_is_not_exported(tmp_path, capsys, finder):
    for number, picture in enumerate(faces(8)):
        person = tmp_path / "people" / f"person{number % 4}"
        person.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(person / f"{number}.png"), picture)
    config = small_config("fsgan", steps=3, devices=1, batch_size=4)
    config.data.root, config.data.alignment = str(tmp_path / "people"), "simswap-frontal"
    config.generator.update(
        {"preset": "", "widths": (4, 4), "flat": (0, 0), "flat_up": (0,), "pyramid": 1, "points": 5}
        | {"landmarks": f"{MODULE}:known", "reach": 1.5}
    )
    config.discriminator.widths, config.discriminator.tail, config.discriminator.scales = (4, 4), 4, 1
    config.log_every, config.sample_every, config.checkpoint_every = 1, 3, 1
    whole = train(config, tmp_path / "whole")
    config.steps = 2
    train(config, tmp_path / "resumed")
    config.steps = 3
    again = train(config, tmp_path / "resumed")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.state), jax.device_get(whole.state))
    assert (tmp_path / "whole" / "samples" / "0000003.png").is_file()

    # The next stage goes on from there, and leaves the others as they are; its landmarks come from a network.
    config.stage, config.init_from, config.steps = "blend", str(tmp_path / "whole"), 1
    config.generator.landmarks = "middle.onnx"
    blended = train(config, tmp_path / "blend")
    before, after = (jax.device_get(run.state.networks["generator"].variables) for run in (whole, blended))
    for name in ("reenact", "inpaint"):
        jax.tree.map(np.testing.assert_array_equal, after["params"][name], before["params"][name])
    assert np.abs(after["params"]["blend"]["last"]["kernel"] - before["params"]["blend"]["last"]["kernel"]).max() > 0

    words = ["swap", "--aligned", "--model", str(blended.model), "--output", str(tmp_path / "out.png")]
    picture = next((tmp_path / "people" / "person0").iterdir())
    words += ["--source", str(picture), "--target", str(next((tmp_path / "people" / "person1").iterdir()))]
    assert cli.main([*words, "--no-visible-label"]) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (32, 32, 3)
    capsys.readouterr()
    assert cli.main(["export", str(whole.model), "--output", str(tmp_path / "model.onnx")]) == 2
    assert "fsgan" in capsys.readouterr().err.strip().splitlines()[-1]

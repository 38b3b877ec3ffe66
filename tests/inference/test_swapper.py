"""FaceSwapper: the same as the networks by hand, for any size, batch and convention, and sentences for mistakes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from simswap_jax import FaceSwapper
from simswap_jax.inference import arrays
from simswap_jax.inference import photo as photos
from simswap_jax.inference import swapper as module
from simswap_jax.io.images import encode_png, read_picture
from simswap_jax.models import Generator
from simswap_jax.models.identity import IdentityNetwork
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.provenance.options import NO_MARKS
from simswap_jax.weights import model_folder
from tests.support.clips import Squares
from tests.support.errors import raises_user_error
from tests.support.small_model import FACE_SIZE, faces, write_small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def swapper(folder):
    return FaceSwapper.from_pretrained(folder)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_it_is_the_generator_on_8_bit_pictures(folder, swapper):
    model = model_folder.read(folder)
    targets, vectors = faces(3), unit(np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32))
    wanted = jax.jit(Generator(model.generator).apply)(
        model.variables, jnp.asarray(targets / 255.0, jnp.float32), vectors
    )
    results = swapper.swap_aligned(targets, vectors)
    assert results.dtype == np.uint8
    assert results.shape == targets.shape
    np.testing.assert_allclose(results, np.asarray(wanted) * 255.0, atol=0.51)
    assert results.std() > 5  # a picture, not a constant


def test_the_imagenet_convention_is_undone(tmp_path):
    model = model_folder.read(write_small_model(tmp_path / "m", convention="imagenet"))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    targets, vector = faces(2), np.ones(16, np.float32)
    values = jnp.asarray((targets / 255.0 - mean) / std, jnp.float32)
    raw = jax.jit(Generator(model.generator).apply)(model.variables, values, jnp.full((2, 16), 0.25))
    wanted = np.clip(np.asarray(raw) * std + mean, 0, 1) * 255
    np.testing.assert_allclose(FaceSwapper(model).swap_aligned(targets, vector), wanted, atol=0.51)


@pytest.mark.parametrize("size", [20, 32, 50])
def test_any_square_size_comes_back_in_its_size(swapper, size):
    results = swapper.swap_aligned(faces(2, size), np.ones(16, np.float32))
    assert results.shape == (2, size, size, 3)
    assert results.dtype == np.uint8


def test_one_picture_and_one_vector(swapper):
    targets, vectors = faces(2), unit(np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32))
    both = swapper.swap_aligned(targets, vectors)
    one = swapper.swap_aligned(targets[1], vectors[1])
    assert one.shape == (FACE_SIZE, FACE_SIZE, 3)
    np.testing.assert_allclose(one.astype(int), both[1], atol=1)
    assert np.abs(both[0].astype(int) - swapper.swap_aligned(targets[0], vectors[1])).max() > 3  # the vector matters


def test_batches_change_nothing_and_compile_little(folder):
    swapper = FaceSwapper.from_pretrained(folder, runtime="jax")
    targets, vectors = faces(7), unit(np.random.default_rng(1).standard_normal((7, 16)).astype(np.float32))
    whole = swapper.swap_aligned(targets, vectors, batch_size=8)
    split = swapper.swap_aligned(targets, vectors, batch_size=4)  # 4 + 3 padded to 4: one more program
    np.testing.assert_allclose(whole.astype(int), split, atol=1)
    swapper.swap_aligned(faces(5, 50), vectors[:5], batch_size=8)  # another size, padded to 8: none
    assert swapper._program.func._cache_size() == 2
    assert swapper.swap_aligned(targets[:0], vectors[:0]).shape == (0, FACE_SIZE, FACE_SIZE, 3)


def test_padding_sizes():
    assert arrays.batches(5, 4) == [([0, 1, 2, 3], 4), ([4], 1)]
    assert arrays.batches(3, 12) == [([0, 1, 2], 4)]
    assert arrays.batches(11, 12) == [(list(range(11)), 12)]
    assert arrays.batches(0, 4) == []


def test_identity_is_the_networks_own_and_averages(folder, swapper):
    model = model_folder.read(folder)
    pictures = faces(3)
    wanted = jax.jit(IdentityNetwork(model.identity).embed)(
        model.identity_variables, jnp.asarray(pictures / 255.0, jnp.float32)
    )
    vectors = swapper.identity_vectors(list(pictures))
    np.testing.assert_allclose(vectors, np.asarray(wanted), atol=1e-5)
    np.testing.assert_allclose(swapper.identity(pictures[0], aligned=True), vectors[0], atol=1e-6)
    mean = swapper.identity(list(pictures), aligned=True)
    np.testing.assert_allclose(mean, unit(vectors.mean(0)), atol=1e-6)
    assert mean.shape == (16,)
    assert mean.dtype == np.float32
    assert abs(np.linalg.norm(mean) - 1) < 1e-6


def test_pictures_of_different_sizes_have_identities(swapper):
    vectors = swapper.identity_vectors([faces(1, size)[0] for size in (16, 40, 33)])
    assert vectors.shape == (3, 16)
    assert np.isfinite(vectors).all()


def test_simswaps_arcface_is_fed_by_nearest(tmp_path):
    # The release swaps with nearest-neighbour crops (index floor(i·in/out)); only its own family is treated so.
    swapper = FaceSwapper.from_pretrained(write_small_model(tmp_path / "m", family="arcface"))
    picture = faces(1)[0]
    noisy = picture.copy()
    noisy[1::2, 1::2] = 255  # pixels that nearest never sees: 32 → 16
    np.testing.assert_array_equal(swapper.identity_vectors([picture]), swapper.identity_vectors([noisy]))


def test_strength_goes_from_the_targets_own_identity_to_the_sources(swapper):
    target, vector = faces(1)[0], unit(np.arange(16, dtype=np.float32) - 8)
    own = swapper.swap_aligned(target, swapper.identity(target, aligned=True))
    full = swapper.swap_aligned(target, vector)
    np.testing.assert_array_equal(swapper.swap_aligned(target, vector, strength=0.0), own)
    half = swapper.swap_aligned(target, vector, strength=0.5)
    gap = np.abs(full.astype(int) - own).mean()
    assert gap > 1
    assert np.abs(half.astype(int) - own).mean() < gap
    assert np.abs(half.astype(int) - full).mean() < gap
    beyond = swapper.swap_aligned(target, vector, strength=1.5)
    assert np.abs(beyond.astype(int) - own).mean() > gap
    extrapolated = unit(1.5 * vector - 0.5 * swapper.identity(target, aligned=True))
    np.testing.assert_array_equal(beyond, swapper.swap_aligned(target, extrapolated))


def test_weights_are_arguments_of_the_program(folder):
    swapper = FaceSwapper.from_pretrained(folder, runtime="jax")
    # Closed over, a generator's hundreds of megabytes would be baked into every compiled program.
    inputs = (jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.zeros((1, 16)))
    program = swapper._program.func.lower(*swapper._program.args, *inputs)
    arguments = len(jax.tree.leaves(program.args_info))
    assert arguments == len(jax.tree.leaves(swapper.model.variables)) + 2


def test_a_face_that_is_not_finite_is_no_result(folder):
    """NaN would be drawn black."""
    model = model_folder.read(folder)
    variables = jax.tree.map(np.array, model.variables)
    variables["params"]["last_layer"]["kernel"][..., 0] = np.nan  # one channel is enough
    swapper = FaceSwapper(replace(model, variables=variables))
    with raises_user_error("result-not-finite"):
        swapper.swap_aligned(faces(1), GOOD)


def test_another_generator_shares_the_program_and_leaves_the_first_alone(folder):
    swapper = FaceSwapper.from_pretrained(folder, runtime="jax")
    targets, vectors = faces(2), unit(np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32))
    before = swapper.swap_aligned(targets, vectors)
    compiled = swapper._program.func._cache_size()
    other = swapper.with_generator(jax.tree.map(lambda leaf: leaf * 0.9, swapper.model.variables))
    changed = other.swap_aligned(targets, vectors)
    assert np.abs(changed.astype(int) - before).max() > 2
    assert other._program.func._cache_size() == compiled
    assert other.photos.swapper is other
    np.testing.assert_array_equal(swapper.swap_aligned(targets, vectors), before)


GOOD = np.ones(16, np.float32)
MISTAKES = {
    "float picture": (faces(1) / 255.0, GOOD, {}, "picture-not-uint8-rgb"),
    "grey": (faces(1)[..., :1], GOOD, {}, "picture-not-uint8-rgb"),
    "not square": (faces(1)[:, :20], GOOD, {}, "face-not-square"),
    "short vector": (faces(1), GOOD[:8], {}, "vector-size"),
    "too few vectors": (faces(3), np.ones((2, 16), np.float32), {}, "vector-count"),
    "integer vector": (faces(1), np.ones(16, int), {}, "vector-type"),
    "zero vector": (faces(1), np.zeros(16, np.float32), {}, "vector-not-finite"),
    "nan vector": (faces(1), GOOD * np.nan, {}, "vector-not-finite"),
    "strength": (faces(1), GOOD, {"strength": 2.5}, "strength-range"),
    "batch": (faces(1), GOOD, {"batch_size": 0}, "batch-size-range"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_a_sentence(swapper, mistake):
    targets, vectors, options, code = MISTAKES[mistake]
    with raises_user_error(code):
        swapper.swap_aligned(targets, vectors, **options)


def test_identity_needs_a_picture_and_a_model_of_photos(swapper):
    with raises_user_error("model-takes-crops-only", "aligned=True"):
        swapper.identity(faces(1)[0])  # a model of rendered faces
    with raises_user_error("identity-without-picture"):
        swapper.identity([], aligned=True)


def test_the_folder_that_ships_is_found_or_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PRETRAINED", tmp_path)
    with raises_user_error("model-missing"):
        FaceSwapper.from_pretrained()
    write_small_model(tmp_path / "faces")
    assert FaceSwapper.from_pretrained().face_size == FACE_SIZE


def test_it_says_what_it_is(swapper):
    assert repr(swapper).startswith("FaceSwapper(")
    for part in (f"{FACE_SIZE} px", "unit", swapper.model.alignment, "[16]", swapper.runtime):
        assert part in repr(swapper)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A source and a target photo whose faces are squares, and a swapper that finds them."""
    monkeypatch.setattr(photos, "FaceDetector", Squares)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: tmp_path / name)
    for name, colour in (("a.png", (200, 40, 0)), ("b.png", (0, 60, 200))):
        photo = np.full((140, 160, 3), 20, np.uint8)
        photo[30:110, 40:120] = colour
        (tmp_path / name).write_bytes(encode_png(photo))
    return tmp_path


def test_files_are_swapped_as_arrays_are_and_carry_marks(folder, files):
    swapper = FaceSwapper(replace(model_folder.read(folder), alignment="simswap-frontal"))
    a, b = files / "a.png", files / "b.png"
    plain = swapper.swap_file(b, source=str(a), output=files / "c.png", marks=NO_MARKS, strength=0.5)
    wanted = swapper.swap(read_picture(b), swapper.identity(read_picture(a)), strength=0.5)
    np.testing.assert_array_equal(read_picture(plain), wanted)
    assert read_provenance(plain) is None
    marked = swapper.swap_file(b, source=[a, a], output=str(files / "d.png"))
    assert [role for role, _ in read_provenance(marked).inputs] == ["source", "source", "target"]
    with raises_user_error("output-is-input", "b.png"):
        swapper.swap_file(b, source=a, output=b)


def test_a_face_of_the_source_file_may_be_named_and_an_animation_is_refused(folder, files):
    swapper = FaceSwapper(replace(model_folder.read(folder), alignment="simswap-frontal"))
    with raises_user_error("source-face-missing", "2"):
        swapper.swap_file(files / "b.png", source=files / "a.png", output=files / "c.png", source_faces=(2,))
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(files / "moves.gif", save_all=True, append_images=frames[1:])
    with raises_user_error("animation-as-picture", "moves.gif"):
        swapper.swap_file(files / "moves.gif", source=files / "a.png", output=files / "c.png")
    assert not (files / "c.png").exists()

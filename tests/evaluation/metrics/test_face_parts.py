"""Expression part by part, on landmarks made for it and on the photos of people who smile."""

import numpy as np
import pytest

from simswap_jax.evaluation.metrics import face_parts
from simswap_jax.evaluation.metrics.intervals import correlation
from simswap_jax.faces.detection import FaceDetector
from simswap_jax.inference.photo import find_faces
from simswap_jax.io.images import read_picture
from simswap_jax.weights.onnx_network import open_landmarks


def made_faces(opening, lids, brows, seed=0):
    """98 points each with parts so far open, at any place, size and roll."""
    random = np.random.default_rng(seed)
    faces = np.tile(np.random.default_rng(7).uniform(0.2, 0.8, (1, 98, 2)), (len(opening), 1, 1))
    for part, x in ((face_parts.LEFT_EYE, 0.35), (face_parts.RIGHT_EYE, 0.65)):
        faces[:, part] = [x, 0.4]
    for upper, lower in face_parts.LIDS:
        faces[:, upper, 1] -= lids / 2
        faces[:, lower, 1] += lids / 2
    for part, x in ((face_parts.LEFT_BROW, 0.35), (face_parts.RIGHT_BROW, 0.65)):
        faces[:, part] = np.stack([np.full(len(brows), x), 0.4 - brows], axis=1)[:, None]
    faces[:, 90], faces[:, 94] = [0.5, 0.7], np.stack([np.full(len(opening), 0.5), 0.7 + opening], axis=1)
    turn = np.exp(1j * random.uniform(-0.4, 0.4, len(faces)))[:, None] * random.uniform(0.7, 1.3, (len(faces), 1))
    z = (faces @ np.array([1, 1j])) * turn + random.uniform(-0.2, 0.2, (len(faces), 1))
    return np.stack([z.real, z.imag], axis=-1)


def test_each_part_is_followed_by_itself_whatever_place_size_and_roll():
    random = np.random.default_rng(0)
    opening, lids, brows, other = random.uniform(0.02, 0.1, (4, 200))
    groups = np.arange(200) // 10
    target = made_faces(opening, lids, brows)
    np.testing.assert_allclose(face_parts.lengths(target)["brow_height"], brows / 0.3)
    same = face_parts.follows(made_faces(opening, lids, brows, seed=1), target, groups)
    assert all(same[name].mean == pytest.approx(1.0) for name in ("mouth_opening", "eye_opening", "brow_height"))
    odd = face_parts.follows(made_faces(other, lids, brows, seed=1), target, groups)
    assert odd["mouth_opening"].low < 0.1 < 0.99 < odd["eye_opening"].low
    assert face_parts.follows(target[:, :68], target[:, :68], groups) == {}


def test_a_correlation_is_numpys_and_leaves_out_what_was_not_measured():
    random = np.random.default_rng(1)
    x = random.normal(size=400)
    y = 0.8 * x + 0.6 * random.normal(size=400)
    found = correlation(np.append(x, np.nan), np.append(y, 1.0), np.arange(401) // 4)
    assert found.mean == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.low < 0.8 < found.high
    assert found.high - found.low < 0.15
    assert correlation(np.ones(9), np.arange(9.0), np.arange(9)) is None


def test_real_smiles_widen_the_mouth_and_mirrored_photos_say_the_same(outside):
    people = sorted(path for path in outside("london_cc_by").iterdir() if path.is_dir())[:30]
    detector, network = (
        FaceDetector(outside("face_detection_yunet.onnx")),
        open_landmarks(outside("landmarks98_pfld.onnx")),
    )

    def lengths(expression, step=1):
        photos = [np.ascontiguousarray(read_picture(person / f"{expression}.jpg")[:, ::step]) for person in people]
        crops = [find_faces(detector, photo, "simswap-frontal", 112)[0].crop(photo) for photo in photos]
        return face_parts.lengths(network.find(crops))

    neutral, smiling, mirrored = lengths("neutral"), lengths("smiling"), lengths("smiling", -1)
    assert np.mean(smiling["mouth_width"] > neutral["mouth_width"]) > 0.9
    for name in face_parts.PARTS:
        assert np.corrcoef(smiling[name], mirrored[name])[0, 1] > 0.8, name

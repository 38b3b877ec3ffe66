"""The invisible watermark: hard to see, found again after JPEG and shrinking, not found where it is not.

docs/experiments/watermark.md holds the counts on 200 and 1,000 photographs; here are a few rendered faces and noise.
"""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from simswap_jax.contrib.rendered.face_parameters import sample_attributes, sample_people
from simswap_jax.contrib.rendered.renderer import render
from simswap_jax.provenance.watermark import SMALLEST, THRESHOLD, detect, detect_frames, embed

COUNT = 6


@pytest.fixture(scope="module")
def drawn():
    return render(sample_people(7, COUNT), sample_attributes(7, COUNT), 224)


@pytest.fixture(params=[112, 160, 224, 300])
def pictures(drawn, request):
    return [cv2.resize(face, (request.param, request.param), interpolation=cv2.INTER_AREA) for face in drawn]


def jpeg(picture, quality):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def shrunk(picture, share):
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((int(width * share), int(height * share)), Image.BICUBIC))


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


def test_it_is_hard_to_see(pictures):
    for picture in pictures:
        before = picture.copy()
        marked = embed(picture)
        np.testing.assert_array_equal(picture, before)
        assert marked.dtype == np.uint8
        assert 41 < psnr(picture, marked) < 70  # small, and not nothing


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: jpeg(p, 60),
        lambda p: shrunk(p, 0.5),
        lambda p: cv2.convertScaleAbs(p, alpha=0.8, beta=20),
    ],
    ids=["as it is", "JPEG 60", "half the size", "another brightness"],
)
def test_it_is_found_again(pictures, change):
    assert [detect(change(embed(picture))) > THRESHOLD for picture in pictures] == [True] * COUNT


def test_it_is_found_in_wide_and_tall_pictures(drawn):
    for shape in ((240, 480), (600, 300)):
        picture = cv2.resize(drawn[0], shape)
        assert detect(shrunk(jpeg(embed(picture), 60), 0.5)) > THRESHOLD


def test_it_is_not_found_where_it_is_not(pictures):
    assert max(detect(picture) for picture in pictures) < THRESHOLD - 1
    assert max(detect(jpeg(picture, 60)) for picture in pictures) < THRESHOLD - 1


def test_noise_is_spread_as_the_bound_says():
    """Unmarked noise: z has mean 0 and variance 1 in every band, so the largest of four rarely passes 4."""
    rng = np.random.default_rng(0)
    found = [detect(rng.integers(0, 256, (130, 130, 3), np.uint8)) for _ in range(60)]
    assert max(found) < 4.5
    assert 0.5 < np.mean(found) < 1.6  # 1.03 is the mean of the largest of four


def test_frames_add_up(drawn):
    frames = [jpeg(shrunk(embed(face), 0.5), 30) for face in drawn]  # too much for each alone
    alone = [detect(frame) for frame in frames]
    assert max(alone) < THRESHOLD < detect_frames(frames)
    assert detect_frames(list(drawn)) < THRESHOLD - 1
    assert detect_frames([]) == 0.0


def test_small_pictures_come_back_as_they_are(drawn):
    small = cv2.resize(drawn[0], (300, SMALLEST - 1))
    np.testing.assert_array_equal(embed(small), small)


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (200, 200)])
def test_flat_and_tiny_pictures_are_taken(shape):
    for level in (0, 128, 255):
        picture = np.full((*shape, 3), level, np.uint8)
        assert detect(picture) < THRESHOLD
        assert embed(picture).shape == picture.shape
    if min(shape) > SMALLEST:
        assert detect(embed(np.full((*shape, 3), 128, np.uint8))) > THRESHOLD

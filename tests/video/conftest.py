"""A swapper that finds coloured squares, for the tests of videos."""

from dataclasses import replace

import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.inference import photo as photos
from simswap_jax.video import detect, pipeline
from simswap_jax.video import swap as second_pass
from simswap_jax.weights import model_folder
from tests.support.clips import Squares
from tests.support.small_model import write_small_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("model")
    model = model_folder.read(write_small_model(here / "rendered"))
    return model_folder.write(here / "photos", replace(model, alignment="simswap-frontal"), include_identity=True)


@pytest.fixture
def swapper(folder, monkeypatch):
    """Finds coloured squares; re-draws them in the source's first three dimensions; identity is the mean colour."""
    monkeypatch.setattr(photos, "FaceDetector", Squares)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: name)
    monkeypatch.setattr(second_pass, "SEGMENT", 10)
    monkeypatch.setattr(detect, "CHUNK", 8)
    monkeypatch.setattr(pipeline, "WORKERS", 2)
    made = FaceSwapper.from_pretrained(folder)
    made._generate = lambda targets, vectors: (
        0 * targets + np.uint8(255) * (np.round(vectors[:, None, None, :3]).astype(np.uint8))
    )
    made._embed = lambda variables, pictures: np.pad(np.float32(pictures.mean(axis=(1, 2))) - 60, [(0, 0), (0, 13)])
    return made


@pytest.fixture
def unchanged(swapper):
    """A generator that returns its input."""
    swapper._generate = lambda targets, vectors: targets
    return swapper

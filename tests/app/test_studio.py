"""What stands behind the page, without the page."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("gradio", reason="gradio is not installed (extra `app`)")

from simswap_jax.app.page import Tab, said_of_sources
from simswap_jax.app.studio import Studio
from simswap_jax.inference.swapper import FaceSwapper


class Dark:
    """Tells dark people from light ones."""

    model = SimpleNamespace(alignment="arcface")
    one_identity = FaceSwapper.one_identity

    def largest_face(self, picture, role):
        assert role == "source"
        return picture

    def identity_vectors(self, faces):
        return np.array([[1.0, 0.0] if face.mean() < 128 else [0.0, 1.0] for face in faces], np.float32)


def test_a_source_that_shows_somebody_else_is_left_out_and_named(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, grey in zip(paths, (10, 240, 20, 30)):
        cv2.imwrite(str(path), np.full((32, 32, 3), grey, np.uint8))
    vector, odd = Studio(Dark()).identity(paths)
    np.testing.assert_allclose(vector, [1, 0])
    assert odd == [paths[1]]
    said = said_of_sources(Tab(tuple(paths)), odd)
    assert said == "Source: 3 pictures of one person, averaged. Left out, somebody else: 1.png."
    assert said_of_sources(Tab(tuple(paths))) == "Source: 4 pictures of one person, averaged."

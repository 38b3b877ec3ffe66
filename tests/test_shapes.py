"""Arrays of another shape than an annotation names are refused in tests; other annotations are mypy's business."""

import importlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest

jaxtyping = pytest.importorskip("jaxtyping")
pytest.importorskip("beartype")
pytest.importorskip("tests.support.shapes")

MODULE = """
import jax
from jaxtyping import Array, Float

def mean(images: Float[Array, "b h w c"], weight: float = 1.0) -> Float[Array, " b"]:
    return weight * images.mean((1, 2, 3))

def wrong(images: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    return images.mean((2, 3))

def plain(images: jax.Array) -> jax.Array:
    return images
"""


@pytest.fixture
def shaped(tmp_path, monkeypatch):
    (tmp_path / "shaped_for_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with jaxtyping.install_import_hook("shaped_for_a_test", "tests.support.shapes.checked"):
        yield importlib.import_module("shaped_for_a_test")
    del sys.modules["shaped_for_a_test"]


def test_a_right_shape_passes(shaped):
    assert shaped.mean(jnp.ones((2, 4, 4, 3)), 2).shape == (2,)


def test_a_wrong_argument_and_a_wrong_result_are_refused(shaped):
    with pytest.raises(jaxtyping.TypeCheckError):
        shaped.mean(jnp.ones((4, 4, 3)))
    with pytest.raises(jaxtyping.TypeCheckError):
        shaped.wrong(jnp.ones((2, 4, 4, 3)))


def test_annotations_without_shapes_are_left_alone(shaped):
    assert shaped.plain(np.ones(2)).shape == (2,)

"""The model that ships: that it can be read, is small, and swaps people whom it never saw."""

import json

import numpy as np

from simswap_jax.data import split
from simswap_jax.data.pictures import read_picture
from simswap_jax.interop import model_folder
from simswap_jax.swapping.swapper import PRETRAINED, FaceSwapper, resized

FACES = PRETRAINED / "faces"


def test_the_model_is_small_and_keeps_what_is_not_ours_out():
    model = model_folder.read(FACES, with_identity=False)
    assert (model.face_size, model.alignment) == (112, "simswap-frontal")
    assert model.identity_variables is None
    assert model.identity_sha256 == "e839247cdbdfc023fb7cadeaf53a4549d50c8fc24ad154c02e35920ea8910d99"
    assert sum(path.stat().st_size for path in FACES.iterdir()) < 32 * 2**20
    assert {path.suffix for path in FACES.iterdir()} == {".json", ".safetensors", ".md"}
    assert "research" in json.loads((FACES / "config.json").read_text())["card"]["licence"]
    card = (FACES / "README.md").read_text(encoding="utf-8")
    for word in ("CelebA", "non-commercial", "Recipe", "Limits", "mobilefacenet_casia.ckpt"):
        assert word in card, word


def test_it_swaps_people_it_never_saw(outside, monkeypatch):
    root = outside("celeba_192")
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(outside("mobilefacenet_casia.ckpt").parent))
    people = [root / name for name in split.held_out(sorted(path.name for path in root.iterdir()), 0.12)]
    swapper = FaceSwapper.from_pretrained(None)
    faces = np.stack([resized(read_picture(sorted(person.glob("*.jpg"))[0]), swapper.face_size) for person in people])
    vectors = swapper.identity_vectors(list(faces))
    results = swapper.swap_aligned(np.roll(faces, 1, axis=0), vectors)
    found = swapper.identity_vectors(list(results))
    to_source, to_target = np.sum(found * vectors, -1), np.sum(found * np.roll(vectors, 1, axis=0), -1)
    assert np.mean(to_source) > np.mean(to_target) + 0.2
    again = swapper.swap_aligned(faces, vectors)
    assert np.mean(np.abs(again.astype(np.float32) - faces)) < 16

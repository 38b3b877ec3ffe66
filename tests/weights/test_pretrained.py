"""The models that ship: that they can be read, are small, and swap people whom they never saw."""

import json
from pathlib import Path

import numpy as np

from simswap_jax.contrib.rendered import dataset, identity_judge
from simswap_jax.data.dataset import held_out
from simswap_jax.evaluation.metrics import identity as measures
from simswap_jax.inference.swapper import PRETRAINED, FaceSwapper
from simswap_jax.io.images import read_picture, resized
from simswap_jax.weights import model_folder

FACES = PRETRAINED / "faces"
RENDERED = Path(dataset.__file__).parent / "pretrained" / "generator"


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
    people = [root / name for name in held_out(sorted(path.name for path in root.iterdir()), 0.12)]
    model = FaceSwapper.from_pretrained(None)
    faces = np.stack([resized(read_picture(sorted(person.glob("*.jpg"))[0]), model.face_size) for person in people])
    vectors = model.identity_vectors(list(faces))
    results = model.swap_aligned(np.roll(faces, 1, axis=0), vectors)
    found = model.identity_vectors(list(results))
    to_source, to_target = np.sum(found * vectors, -1), np.sum(found * np.roll(vectors, 1, axis=0), -1)
    assert np.mean(to_source) > np.mean(to_target) + 0.2
    again = model.swap_aligned(faces, vectors)
    assert np.mean(np.abs(again.astype(np.float32) - faces)) < 16


def test_the_rendered_model_comes_whole_and_swaps_drawn_people():
    model = FaceSwapper.from_pretrained(RENDERED)
    assert (model.face_size, model.model.alignment) == (64, "rendered")
    people = dataset.sample_people(97, 24)
    sources, targets = (dataset.render(people, dataset.sample_attributes(seed, 24), 64) for seed in (98, 99))
    targets = np.roll(targets, 1, axis=0)
    results = model.swap_aligned(targets, model.identity_vectors(list(sources)))
    judge = identity_judge.pretrained()
    found, source, target = (judge.embed(list(pictures)) for pictures in (results, sources, targets))
    assert np.mean(measures.cosine(found, source)) > np.mean(measures.cosine(found, target)) + 0.2
    assert np.mean(measures.nearer_source(found, source, target)) > 0.75


def test_what_ships_is_small():
    shipped = [*FACES.rglob("*"), *RENDERED.parent.rglob("*")]
    assert sum(path.stat().st_size for path in shipped if path.is_file()) < 32 * 2**20

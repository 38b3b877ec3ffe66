"""onnxruntime draws what JAX draws, within one grey level, from an export that is made once."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from simswap_jax import FaceSwapper
from simswap_jax.inference import runtime
from simswap_jax.inference.swapper import DEFAULT_MODEL, PRETRAINED
from simswap_jax.models import GeneratorConfig, families
from simswap_jax.models.compact import CompactConfig
from simswap_jax.weights import model_folder, onnx_export
from tests.support.errors import raises_user_error

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def shipped():
    return model_folder.read(PRETRAINED / DEFAULT_MODEL, with_identity=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "simswap_jax" / "onnx"


def of_config(shipped, config):
    """A model of fresh weights."""
    variables = jax.jit(families.build(config).init, static_argnums=1)(jax.random.PRNGKey(0), 32)
    return replace(shipped, generator=config, variables=jax.device_get(variables), face_size=32)


def inputs(model, count=3):
    random = np.random.default_rng(0)
    size = model.face_size
    vectors = random.normal(size=(count, model.generator.identity_size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return random.integers(0, 256, (count, size, size, 3), np.uint8), vectors


@pytest.mark.parametrize(
    "config",
    [
        None,
        GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8, convention="imagenet"),
        GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8),
        CompactConfig(widths=(4, 8), blocks=1, identity_size=8, unshuffle=2, stem_kernel=3, composition_mask=True),
    ],
    ids=["shipped", "imagenet", "unit", "compact"],
)
def test_both_runtimes_draw_the_same_within_one_grey_level(shipped, config):
    model = shipped if config is None else of_config(shipped, config)
    targets, vectors = inputs(model)
    one, other = (run(model)(targets, vectors)[0] for run in (runtime.on_jax, runtime.on_onnxruntime))
    one = np.asarray(one)
    assert one.dtype == other.dtype == np.uint8
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_an_export_is_made_once_for_each_model(shipped, cache, monkeypatch):
    model = of_config(shipped, GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8))
    runtime.on_onnxruntime(model)
    (made,) = cache.iterdir()
    monkeypatch.setattr(onnx_export, "export_generator", None)  # calling it would fail
    runtime.on_onnxruntime(model)
    changed = jax.tree.map(lambda x: x + 1, model.variables)
    assert f"{runtime.content_hash(replace(model, variables=changed))}.onnx" != made.name


def test_a_damaged_export_is_made_anew_and_auto_goes_on_with_jax(shipped, cache, caplog):
    model = of_config(shipped, GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8))
    runtime.on_onnxruntime(model)
    (made,) = cache.iterdir()
    made.write_bytes(b"no network")
    with raises_user_error("runtime-unusable"):
        runtime.on_onnxruntime(model)
    made.write_bytes(b"no network")
    assert runtime.choose("auto", model)[0] == "jax"
    assert "JAX runs the generator" in caplog.text
    assert runtime.choose("auto", model)[0] == "onnx"


def test_without_a_cache_it_runs_all_the_same(shipped, cache):
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file where the cache should be")
    model = of_config(shipped, GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8))
    targets, vectors = inputs(model)
    assert runtime.on_onnxruntime(model)(targets, vectors)[0].shape == targets.shape


def test_auto_is_onnxruntime_on_a_cpu_where_it_is_installed(shipped, monkeypatch):
    assert FaceSwapper(shipped).runtime == "onnx"
    half = of_config(shipped, GeneratorConfig(widths=(4, 8), blocks=1, identity_size=8, dtype="bfloat16"))
    assert FaceSwapper(half).runtime == "jax"
    monkeypatch.setattr(runtime, "has_extra", lambda: False)
    assert FaceSwapper(shipped).runtime == "jax"


def test_an_unknown_runtime_is_refused(shipped):
    with raises_user_error("runtime-unknown", "torch"):
        FaceSwapper(shipped, runtime="torch")

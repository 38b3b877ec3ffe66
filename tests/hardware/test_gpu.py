"""What XLA's GPU compiler is told of a GPU that is not here."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from simswap_jax.errors import install_command
from simswap_jax.hardware import costs, gpu, program
from simswap_jax.hardware.preflight import uncached
from simswap_jax.models.ops.convolution import convolve
from simswap_jax.models.ops.platform import traced_for
from simswap_jax.models.ops.resize import resize_bicubic
from simswap_jax.training import chips
from tests.support.errors import raises_user_error

GPUS = [chip for chip in chips.chips().values() if not chip.is_tpu]


@pytest.mark.parametrize("chip", GPUS, ids=lambda chip: chip.name)
def test_every_gpu_is_described(chip):
    text = gpu.description(chip)
    assert f'device_description_str: "{chip.kinds[0]}"' in text
    assert "cuda_compute_capability { major: " in text
    assert chip.target["device_memory_size"] == pytest.approx(chip.memory, rel=0.02)
    assert chip.target["memory_bandwidth"] == pytest.approx(chip.bandwidth, rel=0.01)
    # Tensor cores: 1,024 multiply-adds a cycle and core on A100, 2,048 on Hopper.
    per_cycle = {8: 1024, 9: 2048}[chip.target["cuda_compute_capability"]["major"]]
    peak = 2 * per_cycle * chip.target["core_count"] * chip.target["clock_rate_ghz"] * 1e9
    assert peak == pytest.approx(chip.peak_flops, rel=0.1)  # Hopper's peak is stated at a lower clock


def test_fields_nest():
    assert gpu.fields({"a": 1, "b": {"c": 2.5}}) == "a: 1 b { c: 2.5 }"


def test_without_the_plugin_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setattr(gpu, "installed", lambda: False)
    with raises_user_error("extra-missing", install_command("preflight-gpu")):
        gpu.devices(chips.read("h100:8"))


@pytest.mark.slow
@pytest.mark.skipif(not gpu.installed(), reason="the GPU compiler is not installed (extra `preflight-gpu`)")
def test_a_strided_1x1_convolution_compiles_with_tritons_products():
    """As a product of a slice, without a GPU to tune on, it did not: no tiles were found."""
    here = SingleDeviceSharding(gpu.devices(chips.read("h100:1"))[0])
    x = jax.ShapeDtypeStruct((16, 56, 56, 64), jnp.bfloat16, sharding=here)
    kernel = jax.ShapeDtypeStruct((1, 1, 64, 128), jnp.bfloat16, sharding=here)

    def loss(x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel, 2)))

    lowered = jax.jit(traced_for("gpu", jax.grad(loss))).lower(x, kernel)
    with uncached():
        text = lowered.compile(compiler_options=gpu.options(triton_products=True)).as_text()
    kinds = {cost.kind for cost in costs.costs(program.read(text))}
    assert "__cudnn$convForward" in kinds


@pytest.mark.slow
@pytest.mark.skipif(not gpu.installed(), reason="the GPU compiler is not installed (extra `preflight-gpu`)")
@pytest.mark.parametrize("size", [224, 512])
@pytest.mark.parametrize("name", [chip.name for chip in GPUS])
def test_resizing_for_the_identity_network_compiles_with_tritons_products(name, size):
    """JAX's own products, of the map by a matrix, did not: no tiles for 224 × 112, nor for 512 × 112 on an A100."""
    here = SingleDeviceSharding(gpu.devices(chips.read(f"{name}:1"))[0])
    x = jax.ShapeDtypeStruct((8, size, size, 3), jnp.bfloat16, sharding=here)

    def loss(x):
        return jnp.sum(jnp.sin(resize_bicubic(x, 112, 112)))

    lowered = jax.jit(traced_for("gpu", jax.grad(loss))).lower(x)
    with uncached():
        assert lowered.compile(compiler_options=gpu.options(triton_products=True)) is not None

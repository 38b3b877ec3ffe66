"""Bytes, FLOPs and cycles of operations; the least time that follows."""

import jax
import jax.numpy as jnp
import pytest

from simswap_jax.hardware import costs, program
from simswap_jax.training import chips
from tests.hardware.program_text import TEXT


@pytest.fixture(scope="module")
def found():
    return {cost.name: cost for cost in costs.costs(program.read(TEXT), loops=5)}


def test_flops_of_a_convolution_are_those_of_its_gradients(found):
    products = (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert {found[name].flops for name in ("conv", "dx", "dk")} == {2 * products}


def test_zeros_between_the_inputs_of_a_transposed_convolution_are_not_counted():
    text = """ENTRY %main (g: f32[2,4,4,5], k: f32[3,3,3,5]) -> f32[2,8,8,3] {
  %g = f32[2,4,4,5]{3,2,1,0} parameter(0)
  %k = f32[3,3,3,5]{3,2,1,0} parameter(1)
  ROOT %dx = f32[2,8,8,3]{3,2,1,0} convolution(%g, %k), window={size=3x3 lhs_dilate=2x2}, dim_labels=b01f_01oi->b01f
}
"""
    (cost,) = costs.costs(program.read(text))
    assert cost.flops == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)  # as of the convolution whose gradient it is


def test_flops_of_a_product_whoever_computes_it(found):
    assert {found[name].flops for name in ("gemm", "triton")} == {2 * (4 * 2) * 8}
    assert found["cut"].flops == 0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("conv", 2 * (2 * 8 * 8 * 3 + 5 * 3 * 3 * 3 + 2 * 4 * 4 * 5)),  # without the workspace
        ("gemm", 2 * (4 * 8 + 8 * 2 + 4 * 2)),
        ("cut", 4 * (4 * 8 + 4 + 4 * 8)),  # of 16 rows it reads 4
        ("copy.1", 5 * 2 * 4 * 4),
        ("sent", 2 * 4 * 4),
    ],
)
def test_bytes_are_what_is_read_and_written(found, name, size):
    assert found[name].bytes == size


def test_the_longer_of_arithmetic_and_bytes_counts():
    h100 = chips.chips()["h100"]
    one = costs.Cost("a", "fusion", "jit(step)/G/conv/dot", "", bytes=3350, flops=0, cycles=7)
    assert one.seconds(h100) == pytest.approx(1e-9)
    many = costs.Cost("a", "fusion", "", "", bytes=3350, flops=int(989.4e6), cycles=7)
    assert many.seconds(h100) == pytest.approx(1e-6)
    assert many.seconds(chips.chips()["v5e"]) == pytest.approx(7 / 1.5e9)
    assert (one.scope, many.scope) == ("jit(step)/G/conv", "(compiler's fusion)")


CYCLES = """ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %f = f32[4]{0} fusion(%a), kind=kLoop, backend_config={"estimated_cycles":"1200","x":"1"}
  ROOT %g = f32[4]{0} fusion(%f), kind=kLoop, backend_config={"estimated_cycles":"300"}
}
"""


def test_cycles_are_the_compilers():
    assert costs.estimated_cycles(CYCLES) == 1500
    assert [cost.cycles for cost in costs.costs(program.read(CYCLES))] == [1200, 300]
    unknown = CYCLES.replace('"300"', f'"{2**63 - 1}"')  # what v6e's compiler says of some
    assert costs.estimated_cycles(unknown) == 0
    assert [cost.cycles for cost in costs.costs(program.read(unknown))] == [1200, 0]


def test_flops_of_a_program_of_this_machine():
    """Where this compiler leaves a product or a convolution one, it is counted."""

    def layers(x, kernel, matrix):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=names) @ matrix

    shapes = [(2, 8, 8, 4), (3, 3, 4, 5), (5, 6)]
    lowered = jax.jit(layers).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    text = lowered.compile().as_text()
    flops = sum(cost.flops for cost in costs.costs(program.read(text)))
    convolution, product = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 4), 2 * (2 * 4 * 4 * 6) * 5
    assert flops in (convolution + product, convolution, product)

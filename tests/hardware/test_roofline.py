"""What a program exchanges, read from its text, and the least time that peaks allow."""

import pytest

from simswap_jax.hardware.report import (
    SMALL,
    Collective,
    array_bytes,
    bound,
    collectives,
    estimated_cycles,
    torus,
    weak_scaling,
)
from simswap_jax.training import chips as hardware

PROGRAM = """HloModule jit_step, is_scheduled=true

%body (x: f32[4]) -> f32[4] {
  %all-reduce.9 = f32[4]{0} all-reduce(%x), channel_id=9, to_apply=%add, metadata={op_name="jit(step)/while/body"}
}

ENTRY %main (a: f32[512]) -> f32[512] {
  %all-reduce = f32[512]{0:T(512)S(1)} all-reduce(%a), metadata={op_name="jit(step)/norm/reduce_sum"}
  %all-reduce.1 = (f32[4,2]{1,0:T(8,128)}, /*index=1*/bf16[8]{0:T(256)(128)(2,1)S(1)}) all-reduce(%a, %b), channel_id=2
  %ag = (f32[64]{0}, f32[256]{0}) all-gather-start(%c), dimensions={0}
  %agd = f32[256]{0} all-gather-done(%ag), metadata={op_name="no all-reduce( here"}
  %f = f32[4]{0} fusion(%agd), kind=kLoop, backend_config={"estimated_cycles":"1200","x":"1"}
  ROOT %g = f32[4]{0} fusion(%f), kind=kLoop, backend_config={"estimated_cycles":"300"}
}
"""


def test_collectives_are_found_with_their_bytes():
    found = collectives(PROGRAM)
    assert [(one.kind, one.bytes) for one in found] == [
        ("all-reduce", 16),
        ("all-reduce", 2048),
        ("all-reduce", 48),
        ("all-gather", 1024),
    ]
    assert found[1].where == "jit(step)/norm/reduce_sum"
    assert estimated_cycles(PROGRAM) == 1500
    assert estimated_cycles(PROGRAM.replace('"300"', f'"{2**63 - 1}"')) == 0  # what v6e's compiler says of some


def test_what_stands_in_a_loop_counts_as_often_as_it_runs():
    assert [one.bytes for one in collectives(PROGRAM, in_a_loop=3)] == [16] * 3 + [2048, 48, 1024]


def test_bytes_of_types():
    assert array_bytes("(f32[4,2]{1,0}, bf16[8]{0}, pred[3], s32[], u8[5])") == 32 + 16 + 3 + 4 + 5


def test_an_all_reduce_moves_every_byte_twice():
    where = hardware.Slice(hardware.chips()["v5e"], (4, 4), 16)
    reduced = Collective("all-reduce", 10**9, "").seconds(where)
    gathered = Collective("all-gather", 10**9, "").seconds(where)
    assert reduced == pytest.approx(2e9 * 15 / 16 / 100e9 + 8e-6)
    assert gathered == pytest.approx(1e9 * 15 / 16 / 100e9 + 8e-6)
    alone = hardware.Slice(where.chip, (1, 1), 16)
    assert Collective("all-reduce", 10**9, "").seconds(alone) == 0.0


def test_the_bound_is_the_slowest_part_and_what_nothing_hides():
    where = hardware.read("v5e:4x4")
    small, large = Collective("all-reduce", 1024, ""), Collective("all-reduce", SMALL, "")
    least = bound(197e9, 819e7, [small, small, large], where)
    assert (least.arithmetic, least.memory) == pytest.approx((1e-3, 10e-3))
    assert least.by == "memory"
    assert least.small_collectives == pytest.approx(2 * small.seconds(where))
    assert least.seconds == pytest.approx(10e-3 + least.small_collectives)
    assert least.exposed_share == pytest.approx(least.small_collectives / least.seconds)
    assert bound(1.0, 1.0, [large] * 100, where).by == "interconnect"


@pytest.mark.parametrize(
    ("chip", "chips", "shape"),
    [("v5e", 8, (2, 4)), ("v6e", 256, (16, 16)), ("v4", 4, (1, 2, 2)), ("v5p", 512, (8, 8, 8)), ("h200", 8, (8,))],
)
def test_slices_on_paper_are_compact(chip, chips, shape):
    assert torus(hardware.chips()[chip], chips) == shape


def test_more_chips_do_more_and_each_a_little_less():
    rows = weak_scaling(1e12, 1e9, [Collective("all-reduce", 4096, "")] * 60, hardware.read("v5e:2x2"), (4, 16, 256))
    assert [row["chips"] for row in rows] == [4, 16, 256]
    each = [row["images_per_second"] / row["chips"] for row in rows]
    assert each[0] > each[1] > each[2]
    assert rows[0]["exchange_share"] < rows[2]["exchange_share"] < 1

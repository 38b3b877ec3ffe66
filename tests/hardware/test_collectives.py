"""What a program exchanges, read from its text, and the least time that it takes."""

import pytest

from simswap_jax.hardware.collectives import Collective, collectives, group_of
from simswap_jax.hardware.program import read
from simswap_jax.training import chips as hardware

PROGRAM = """HloModule jit_step, is_scheduled=true

%body (x: f32[4]) -> f32[4] {
  %all-reduce.9 = f32[4]{0} all-reduce(%x), channel_id=9, to_apply=%add, metadata={op_name="jit(step)/while/body"}
}

%called (x: f32[6]) -> f32[6] {
  %all-reduce.8 = f32[6]{0} all-reduce(%x), channel_id=8, to_apply=%add
}

%wrapped (x: f32[64]) -> f32[8] {
  ROOT %reduce-scatter.1 = f32[8]{0} reduce-scatter(%x), channel_id=7, to_apply=%add
}

ENTRY %main (a: f32[512]) -> f32[512] {
  %w = (f32[4]{0}) while(%t), condition=%condition, body=%body
  %k = f32[6]{0} call(%x), to_apply=%called
  %all-reduce = f32[512]{0:T(512)S(1)} all-reduce(%a), metadata={op_name="jit(step)/norm/reduce_sum"}
  %all-reduce.1 = (f32[4,2]{1,0:T(8,128)}, /*index=1*/bf16[8]{0:T(256)(128)(2,1)S(1)}) all-reduce(%a, %b), channel_id=2
  %ag = (f32[64]{0}, f32[256]{0}) all-gather-start(%c), dimensions={0}
  %agd = f32[256]{0} all-gather-done(%ag), metadata={op_name="no all-reduce( here"}
  %started = ((f32[64]{0}), f32[8]{0}, u32[]) async-start(%a), calls=%wrapped
  ROOT %f = f32[4]{0} fusion(%agd), kind=kLoop
}
"""


def test_collectives_are_found_with_their_bytes():
    found = collectives(read(PROGRAM))
    assert [(one.kind, one.bytes) for one in found] == [
        ("all-reduce", 16),
        ("all-reduce", 24),
        ("all-reduce", 2048),
        ("all-reduce", 48),
        ("all-gather", 1024),
        ("reduce-scatter", 32),
    ]
    assert found[2].where == "jit(step)/norm/reduce_sum"


def test_what_stands_in_a_loop_counts_as_often_as_it_runs():
    assert [one.bytes for one in collectives(read(PROGRAM), loops=3)] == [16] * 3 + [24, 2048, 48, 1024, 32]


def test_an_all_reduce_moves_every_byte_twice():
    where = hardware.Slice(hardware.chips()["v5e"], (4, 4), 16)
    reduced = Collective("all-reduce", 10**9, "").seconds(where)
    gathered = Collective("all-gather", 10**9, "").seconds(where)
    assert reduced == pytest.approx(2e9 * 15 / 16 / 200e9 + 8e-6)
    assert gathered == pytest.approx(1e9 * 15 / 16 / 200e9 + 8e-6)
    alone = hardware.Slice(where.chip, (1, 1), 16)
    assert Collective("all-reduce", 10**9, "").seconds(alone) == 0.0


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("replica_groups={{0,2},{1,3}}, x", (0, 2)),
        ("replica_groups=[2,4]<=[8], x", (0, 1, 2, 3)),
        ("replica_groups=[2,4]<=[4,2]T(1,0), x", (0, 2, 4, 6)),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=4] {'c'}, dimensions={3}", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=4] {'a'}, x", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}, x", (0, 1, 2, 3)),
        ("replica_groups={}, x", ()),
    ],
)
def test_who_takes_part(text, group):
    assert group_of(text) == group


def test_between_nodes_every_gpu_sends_its_part_of_the_sum():
    where = hardware.read("h100:2x8")
    everywhere = Collective("all-reduce", 8 * 10**9, "")
    assert everywhere.chips(where) == (8, 2)
    assert everywhere.sent(where) == (2 * 7e9, 1e9)
    assert everywhere.seconds(where) == pytest.approx(14e9 / 450e9 + 12e-6)  # longer than 1 GB at 50 GB/s
    inside = Collective("all-gather", 8 * 10**9, "", tuple(range(8)))
    assert inside.sent(where) == (7e9, 0.0)
    across = Collective("all-reduce", 10**9, "", (0, 8))
    assert across.sent(where) == (0.0, 1e9)
    assert across.seconds(where) == pytest.approx(1 / 50 + 12e-6)


def test_a_scattered_sum_is_as_large_as_all_its_parts():
    where = hardware.read("h100:8")
    assert Collective("reduce-scatter", 10**6, "").sent(where) == (7e6, 0.0)
    assert Collective("all-reduce", 10**6, "", (0,)).seconds(where) == 0.0

"""The least time that peaks allow."""

import pytest

from simswap_jax.hardware.collectives import Collective
from simswap_jax.hardware.report import SMALL, bound, torus, weak_scaling
from simswap_jax.training import chips as hardware


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
    [
        ("v5e", 8, (2, 4)),
        ("v6e", 256, (16, 16)),
        ("v4", 4, (1, 2, 2)),
        ("v5p", 512, (8, 8, 8)),
        ("h200", 8, (8,)),
        ("h200", 32, (4, 8)),
    ],
)
def test_slices_on_paper_are_compact(chip, chips, shape):
    assert torus(hardware.chips()[chip], chips) == shape


def test_more_chips_do_more_and_each_a_little_less():
    rows = weak_scaling(1e12, 1e9, [Collective("all-reduce", 4096, "")] * 60, hardware.read("v5e:2x2"), (4, 16, 256))
    assert [row["chips"] for row in rows] == [4, 16, 256]
    each = [row["images_per_second"] / row["chips"] for row in rows]
    assert each[0] > each[1] > each[2]
    assert rows[0]["exchange_share"] < rows[2]["exchange_share"] < 1

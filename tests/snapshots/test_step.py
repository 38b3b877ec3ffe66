"""The training step's operations are those of the snapshot: a refactoring must not change them."""

import pytest

from tests.snapshots import step


def same(way, counts):
    """Compare with the snapshot, count by count; they are JAX's, so only those of the same version."""
    before = step.stored()[way]
    if before["jax"] != counts["jax"]:
        pytest.skip(f"the snapshot was made with jax {before['jax']}, this is {counts['jax']}")
    before, now = flat(before), flat(counts)
    changed = [
        f"{name}: {before.get(name, 0)} → {now.get(name, 0)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, 0) != now.get(name, 0)
    ]
    assert changed == [], "`python -m tests.snapshots.regenerate --step` if this is meant:\n" + "\n".join(changed)


def flat(tree, before=""):
    """Nested counts as one dictionary."""
    rows = {}
    for name, value in tree.items():
        rows |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return rows


def test_the_papers_step_holds_the_same_operations():
    counts = step.counted("lowered")
    assert counts["results of convolutions turned round"] == 0  # slow on CPUs, and what a TPU compiler fell over
    same("lowered", counts)


@pytest.mark.slow  # compiles for eight devices
def test_the_compiled_step_exchanges_the_same():
    same("compiled", step.counted("compiled"))


def test_operations_and_collectives_are_counted():
    program = """
    %0 = stablehlo.convolution(%a, %b) : tensor<1x2x2x3xf32>
    %1 = stablehlo.reverse %0, dims = [1, 2] : tensor<1x2x2x3xf32>
    %2 = stablehlo.reverse %b, dims = [0, 1] : tensor<3x3x3x3xf32>
    """
    assert step.operations(program) == {"convolution": 1, "reverse": 2}
    assert step.turned_results(program) == 1
    hlo = "%x = f32[4,2]{1,0} all-reduce(%y)\n%z = (f32[3], s32[]) all-reduce-start(%y)\n%w = bf16[8] all-gather(%y)"
    assert step.collectives(hlo) == {
        "all-reduce": {"count": 2, "bytes": 32 + 12 + 4},
        "all-gather": {"count": 1, "bytes": 16},
    }

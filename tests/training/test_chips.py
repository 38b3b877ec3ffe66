"""Every file of configs/hardware is read by the code that uses it; mistakes get a sentence."""

from pathlib import Path

import pytest

from simswap_jax.errors import UserError
from simswap_jax.training import chips

FOLDER = Path(__file__).parents[2] / "configs" / "hardware"
GOOGLES = {"v4": "v4-{1}", "v5e": "v5litepod-{0}", "v5p": "v5p-{1}", "v6e": "v6e-{0}"}  # of chips, of TensorCores
SLICES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != chips.CHIPS)


@pytest.mark.parametrize("path", SLICES, ids=lambda path: path.stem)
def test_a_file_says_what_its_name_says(path):
    where = chips.read(path)
    platform, chip, count = path.stem.split("-")
    assert where.chip.name == chip
    assert where.chips == int(count)
    assert where.chip.is_tpu == (platform == "tpu")
    assert f"--hardware configs/hardware/{path.name}" in path.read_text()
    if where.chip.is_tpu:
        assert f"(Google's {GOOGLES[chip].format(where.chips, 2 * where.chips)})" in path.read_text()


def test_the_slices_that_were_asked_for_are_there():
    tpus = {f"tpu-{chip}-{2**i}" for chip in ("v4", "v5e", "v5p", "v6e") for i in range(3, 9)}
    assert {path.stem for path in SLICES} >= tpus | {
        f"gpu-{chip}-{n}" for chip in ("a100", "h100", "h200") for n in (1, 8)
    }


def test_peaks_are_of_the_size_that_chips_have():
    for chip in chips.chips().values():
        assert 1e14 < chip.peak_flops < 1e16
        assert 15e9 < chip.memory < 200e9
        assert 5e11 < chip.bandwidth < 1e13
        assert 5e10 < chip.link < 1e12
        assert (chip.clock > 0) == chip.is_tpu
        assert (chip.network > 0) == bool(chip.target) == (not chip.is_tpu)


def test_jax_names_are_known_once():
    kinds = [kind for chip in chips.chips().values() for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))
    assert chips.chip_of("NVIDIA H200").name == "h200"
    assert chips.chip_of("cpu") is None


def test_a_slice_by_its_tpu_name():
    where = chips.read("v5p:4x4x8")
    assert (where.chips, where.topology, where.hops, where.hosts) == (128, "v5p:4x4x8", 16, 1)


def test_nodes_of_gpus():
    where = chips.read(FOLDER / "gpu-h100-16.yaml")
    assert (where.chips, where.hosts, where.hops) == (16, 2, 4)
    assert chips.read("h100:8").hosts == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chip: v5e\ntopology: 2x2\n", "exactly the fields"),
        ("chip: v9\ntopology: 2x2\nbatch_per_chip: 8\n", "the chip 'v9'; choose one of"),
        ("chip: v5e\ntopology: 2by2\nbatch_per_chip: 8\n", "topology '2by2'"),
        ("chip: v5e\ntopology: 2x2\nbatch_per_chip: 0\n", "batch_per_chip 0"),
        ("chip: [", "is no YAML"),
        ("- 1\n", "exactly the fields"),
    ],
)
def test_a_wrong_file_gets_a_sentence(tmp_path, text, said):
    path = tmp_path / "here.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"here\.yaml") as caught:
        chips.read(path)
    assert said in str(caught.value)


def test_a_missing_file_gets_a_sentence_with_the_names():
    with pytest.raises(UserError, match="tpu-v5e-256"):
        chips.read("configs/hardware/tpu-v5e-7.yaml")

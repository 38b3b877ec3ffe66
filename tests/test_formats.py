"""docs/guide/formats.md says what the code does: photos, limits, systems."""

import re
from pathlib import Path

import pytest

from simswap_jax.inference.photo import SMALLEST
from simswap_jax.io import image_limits
from simswap_jax.io.images import SUFFIXES
from simswap_jax.provenance import watermark, writer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guide" / "formats.md").read_text(encoding="utf-8")
PHOTOS = PAGE.split("## Photos")[1].split("\n## ")[0]
SYSTEMS = PAGE.split("## Systems")[1].split("\n## ")[0]


def rows(section, head):
    """The cells of a table that begins with a heading, row by row."""
    table = section.split(f"| {head} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def endings(cell):
    return re.findall(r"`(\.\w+)`", cell)


def test_every_ending_of_a_photo_is_in_the_table_once():
    read = [ending for row in rows(PHOTOS, "format") for ending in endings(row[1])]
    assert sorted(read) == sorted(SUFFIXES)


def test_what_is_written_is_what_the_writer_knows():
    written = [ending for row in rows(PHOTOS, "format") if not row[3].startswith("no") for ending in endings(row[3])]
    assert sorted(written) == sorted(writer.FORMATS)


def test_limits_are_those_of_the_code():
    limits = {row[0]: row[1] for row in rows(PHOTOS, "limit")}
    memory = limits["memory of a photo"]
    assert f"Up to {image_limits.ALWAYS / 1e6:.0f} MB always" in memory
    assert f"at most {image_limits.MOST / 1e6:,.0f} MB" in memory
    assert image_limits.SHARE == 4  # a quarter
    assert "7 bytes a pixel" in memory
    assert f"({image_limits.MOST // 7 // 10**6} megapixels)" in memory
    assert f"{200e6 * 7 * image_limits.SHARE / 1e9:.1f} GB free" in memory
    assert limits["scans of a JPEG"] == str(image_limits.MOST_SCANS)
    assert f"up to {image_limits.MOST_SCANS} scans" in PHOTOS
    assert limits["faces"].startswith(f"{SMALLEST:.0f} pixels")
    assert limits["watermark"].endswith(f"{watermark.SMALLEST} pixels on")


@pytest.mark.parametrize(("mode", "deep", "each"), [("RGB", False, 7), ("RGBA", False, 7), ("RGBA", True, 11)])
def test_bytes_a_pixel_are_those_of_the_code(mode, deep, each):
    image = type("Opened", (), {"mode": mode, "info": {}})
    assert image_limits.held(image, deep) + image_limits.RESULT == each


def test_systems_and_variables_are_those_of_the_code():
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "simswap_jax").rglob("*.py")))
    variables = {row[0].strip("`") for row in rows(SYSTEMS, "variable")}
    assert variables >= set(re.findall(r'"(SIMSWAP_JAX_\w+)"', text))
    assert all(f'"{variable}"' in text for variable in variables)
    least = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)
    systems = {row[0]: row[1] for row in rows(SYSTEMS, "system")}
    assert any(f"Python {least}" in system for system in systems)
    assert (ROOT / re.search(r"`(tests/[\w/]+\.py)`", systems["Windows"]).group(1)).is_file()

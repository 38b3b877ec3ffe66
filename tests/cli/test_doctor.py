"""`simswap-jax doctor FILE`: a table for any file, whatever has been done to it; never a traceback."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from simswap_jax.cli import main as cli
from simswap_jax.contrib.rendered.face_parameters import sample_attributes, sample_people
from simswap_jax.contrib.rendered.renderer import render
from simswap_jax.errors import install_command
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import local_credentials
from simswap_jax.provenance.label_xmp import Provenance, xmp_packet
from simswap_jax.provenance.options import MarkOptions
from simswap_jax.provenance.writer import write_picture, write_result

MADE_OF = Provenance(inputs=(("source", "ab" * 32), ("target", "cd" * 32)))
WHAT = ["picture", "visible label", "XMP metadata", "C2PA manifest", "invisible watermark", "so"]


@pytest.fixture(scope="module")
def face():
    return cv2.resize(render(sample_people(7, 6), sample_attributes(7, 6), 224)[0], (240, 240))


@pytest.fixture
def doctor(capsys):
    """Runs the verb; gives {row: (found, says)}, and holds the plain table to the same rows."""

    def run(path):
        assert cli.main(["doctor", str(path)]) == 0
        assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == WHAT
        assert cli.main(["doctor", str(path), "--json"]) == 0
        return {name: (row["found"], row["says"]) for name, row in json.loads(capsys.readouterr().out).items()}

    return run


def test_marked(tmp_path, face, doctor, monkeypatch):
    monkeypatch.setattr(c2pa, "available", lambda: False)
    write_result(tmp_path / "x.png", face, MADE_OF)
    rows = doctor(tmp_path / "x.png")
    assert rows["picture"] == ("PNG 240×240", "")
    assert rows["visible label"][0] == "not looked for"
    assert rows["XMP metadata"][0] == "found"
    assert (
        "compositeWithTrainedAlgorithmicMedia; of source abababababab, target cdcdcdcdcdcd" in rows["XMP metadata"][1]
    )
    assert rows["C2PA manifest"][0] == "none"
    assert rows["invisible watermark"][0] == "found"
    assert rows["so"] == ("swapped by simswap-jax", "without C2PA manifest")


@pytest.mark.skipif(not c2pa.available(), reason="the extra 'provenance' is not installed")
def test_signed_changed_and_cut(tmp_path, face, doctor, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))
    path = tmp_path / "x.jpg"
    write_result(path, face, MADE_OF)
    rows = doctor(path)
    assert rows["C2PA manifest"][0] == "found"
    assert rows["C2PA manifest"][1].endswith("unchanged, signed by this machine")
    assert rows["so"] == ("swapped by simswap-jax", "every mark that can be read")
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "another machine"))
    assert "whom this machine does not know" in doctor(path)["C2PA manifest"][1]
    content = path.read_bytes()
    changed = bytearray(content)
    changed[-100] ^= 1
    path.write_bytes(changed)
    assert doctor(path)["C2PA manifest"][0] == "not valid"
    for size in (100, 3_000, len(content) // 2, len(content) - 40):
        path.write_bytes(content[:size])
        assert doctor(path)["C2PA manifest"][0] in ("none", "not valid", "there, broken")


def test_a_manifest_that_cannot_be_read_here_is_named(tmp_path, face, doctor, monkeypatch):
    monkeypatch.setattr(c2pa, "can_read", lambda: False)
    write_picture(tmp_path / "x.png", face)
    with open(tmp_path / "x.png", "ab") as file:
        file.write(b"jumdc2pa")
    rows = doctor(tmp_path / "x.png")
    assert rows["C2PA manifest"][0] == "there, not read"
    assert install_command("provenance") in rows["C2PA manifest"][1]
    assert rows["so"][0] == "marked"


def test_unmarked(tmp_path, face, doctor):
    write_picture(tmp_path / "x.png", face)
    rows = doctor(tmp_path / "x.png")
    assert [rows[name][0] for name in WHAT[2:]] == ["none", "none", "none", "no mark found"]
    assert "proves nothing" in rows["so"][1]


def test_stripped_and_encoded_again(tmp_path, face, doctor):
    write_result(tmp_path / "x.png", face, MADE_OF, MarkOptions(c2pa=False))
    Image.open(tmp_path / "x.png").save(tmp_path / "y.jpg", quality=60)
    rows = doctor(tmp_path / "y.jpg")
    assert rows["XMP metadata"][0] == "none"
    assert rows["invisible watermark"][0] == "found"
    assert rows["so"] == ("swapped by simswap-jax", "without XMP metadata and C2PA manifest")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_truncated(tmp_path, face, doctor, suffix, share):
    path = tmp_path / f"x.{suffix}"
    write_result(path, face, MADE_OF, MarkOptions(c2pa=False))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    rows = doctor(path)
    assert rows["invisible watermark"][0] == "not looked for"
    assert "cannot be read" in rows["invisible watermark"][1]


def test_marked_by_another_program(tmp_path, face, doctor):
    foreign = Provenance(tool="Other\x1b[31m\nTool", version="3")
    write_picture(tmp_path / "x.jpg", face, xmp_packet(foreign).replace(b"\x1b", "\N{RIGHT-TO-LEFT OVERRIDE}".encode()))
    rows = doctor(tmp_path / "x.jpg")
    assert rows["XMP metadata"][0] == "found, another program's"
    assert rows["XMP metadata"][1].startswith("Other?[31m?Tool 3: composite")
    assert rows["so"][0] == "marked"


@pytest.mark.skipif(not c2pa.available(), reason="the extra 'provenance' is not installed")
def test_signed_by_another_program(tmp_path, face, doctor, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "another machine"))
    write_picture(tmp_path / "x.webp", face)
    c2pa.sign(tmp_path / "x.webp", Provenance(tool="Camera", version="3"), local_credentials())
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))
    rows = doctor(tmp_path / "x.webp")
    assert rows["C2PA manifest"][0] == "found, another program's"
    assert rows["C2PA manifest"][1].startswith("Camera 3: c2pa.created")
    assert rows["so"][0] == "marked"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_damaged_file_gets_its_table(tmp_path, face, doctor, suffix, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))
    path = tmp_path / f"x.{suffix}"
    write_result(path, face, MADE_OF)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(8):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 12):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        doctor(path)  # which holds it to the rows of the table


def test_what_is_no_picture(tmp_path, doctor, capsys):
    (tmp_path / "notes.txt").write_text("hello")
    assert doctor(tmp_path / "notes.txt")["so"][0] == "nothing found"
    for path, said in ((tmp_path / "none.png", "cannot be read"), (tmp_path, "is no model folder")):
        assert cli.main(["doctor", str(path)]) == 2
        assert said in capsys.readouterr().err

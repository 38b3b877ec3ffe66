"""C2PA: what is signed is read back and holds; what is changed is seen; certificates are made once and checked."""

import io
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simswap_jax.errors import UserError
from simswap_jax.provenance import c2pa as c2pa_manifest
from simswap_jax.provenance import certificates, writer
from simswap_jax.provenance.label_xmp import SOURCE_TYPE, Provenance, read_provenance
from simswap_jax.provenance.options import LABEL, MANIFEST, MARKS, METADATA, NO_MARKS, WATERMARK, MarkOptions
from tests.support.errors import raises_user_error
from tests.support.small_model import faces

MADE_OF = Provenance(inputs=(("source", "ab" * 32), ("target", "cd" * 32)))
CREATED = {
    "label": "c2pa.actions.v2",
    "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]},
}
needs_extra = pytest.mark.skipif(not c2pa_manifest.available(), reason="the extra 'provenance' is not installed")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(tmp_path / "config"))
    return tmp_path


def write(path, parent=None, **marks):
    return writer.write_result(path, faces(1, 128)[0], MADE_OF, MarkOptions(**marks), parent=parent)


@needs_extra
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_manifest_is_read_back_and_trusted_here(place, suffix):
    path = place / f"x.{suffix}"
    assert write(path) == MARKS
    manifest = c2pa_manifest.read(path)
    assert manifest.state == "trusted"
    assert manifest.problems == ()
    assert manifest.tool.startswith("simswap-jax ")
    assert manifest.actions == (("c2pa.created", SOURCE_TYPE),)
    assert manifest.inputs == MADE_OF.inputs
    assert read_provenance(path) == MADE_OF  # the XMP packet is still there
    assert [file.name for file in place.iterdir() if file.name != "config"] == [path.name]


@needs_extra
def test_the_library_alone_reads_it_and_it_says_what_else_is_there(place):
    """By the library's own reader under its own settings, as another program would."""
    import c2pa

    write(place / "x.jpg", xmp=False)
    with c2pa.Reader(str(place / "x.jpg")) as reader:
        store = json.loads(reader.json())
    active = store["manifests"][store["active_manifest"]]
    assert store["validation_state"] == "Valid"  # nobody else trusts a local authority
    assert {item["code"] for item in store["validation_status"]} == {"signingCredential.untrusted"}
    inputs = next(item["data"] for item in active["assertions"] if item["label"] == c2pa_manifest.INPUTS)
    assert inputs["other_marks"] == ["a visible label", "an invisible watermark"]
    assert "thumbnail" not in active


@needs_extra
def test_a_changed_pixel_is_seen(place):
    write(place / "x.jpg")
    content = bytearray((place / "x.jpg").read_bytes())
    content[-100] ^= 1
    (place / "x.jpg").write_bytes(content)
    manifest = c2pa_manifest.read(place / "x.jpg")
    assert manifest.state == "invalid"
    assert "assertion.dataHash.mismatch" in manifest.problems


@needs_extra
def test_the_history_of_a_target_is_kept(place):
    write(place / "target.jpg")
    write(place / "x.png", parent=place / "target.jpg")
    manifest = c2pa_manifest.read(place / "x.png")
    assert [name for name, _ in manifest.actions] == ["c2pa.opened", "c2pa.edited"]
    assert manifest.actions[1][1] == SOURCE_TYPE
    assert manifest.state == "trusted"
    Image.fromarray(faces(1)[0]).save(place / "plain.png")  # without a history there is nothing to keep
    write(place / "x.png", parent=place / "plain.png")
    assert c2pa_manifest.read(place / "x.png").actions[0][0] == "c2pa.created"


@needs_extra
@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        ("MPO", "image/jpeg"),
        ("TIFF", "image/tiff"),
        ("AVIF", "image/avif"),
        ("HEIF", "image/heif"),
        ("GIF", "image/gif"),
    ],
)
def test_the_history_of_a_target_in_a_format_that_is_only_read_is_kept(place, kind, mime):
    """The library signs these, too, so that they can be made here."""
    import c2pa

    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    plain, signed = io.BytesIO(), io.BytesIO()
    small, *more = (Image.fromarray(picture) for picture in faces(2))
    small.save(plain, kind, **({"save_all": True, "append_images": more} if kind == "MPO" else {}))
    definition = json.dumps({"claim_generator_info": [{"name": "camera"}], "assertions": [CREATED]})
    credentials = certificates.local_credentials()
    info = c2pa.C2paSignerInfo(credentials.algorithm.encode(), credentials.chain, credentials.key, None)
    with c2pa.Builder(definition) as builder:
        builder.sign(c2pa.Signer.from_info(info), mime, plain, signed)
    (place / "target").write_bytes(signed.getvalue())
    assert c2pa_manifest.read(place / "target").tool == "camera"
    write(place / "x.png", parent=place / "target")
    manifest = c2pa_manifest.read(place / "x.png")
    assert [name for name, _ in manifest.actions] == ["c2pa.opened", "c2pa.edited"]
    assert manifest.state == "trusted"


@needs_extra
def test_the_certificate_is_made_once_and_its_key_is_the_owners(place):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: certificates.local_credentials(), range(4)))
    assert len({each.chain for each in made}) == 1
    assert made[0].algorithm == "es256"
    folder = certificates.certificate_folder()
    assert sorted(file.name for file in folder.iterdir()) == ["authority.pem", "signer.key", "signer.pem"]
    assert [file.name for file in folder.parent.iterdir()] == ["certificates"]
    if os.name == "posix":
        assert stat.S_IMODE((folder / "signer.key").stat().st_mode) == 0o600
    assert b"PRIVATE" not in repr(made[0]).encode()


@needs_extra
def test_one_that_has_run_out_is_made_anew(place, monkeypatch):
    monkeypatch.setattr(certificates, "_DAYS", 0)
    old = certificates.local_credentials()
    monkeypatch.undo()
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(place / "config"))
    new = certificates.local_credentials()
    assert new.chain != old.chain
    assert certificates.local_credentials() == new


@needs_extra
def test_your_own_certificate_signs_and_mistakes_get_sentences(place, monkeypatch):
    certificates.local_credentials()
    mine = certificates.certificate_folder()
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(place / "other"))
    own = certificates.read_credentials(mine / "signer.pem", mine / "signer.key")
    write(place / "x.png", credentials=own)
    assert c2pa_manifest.read(place / "x.png").state == "valid"  # this "machine" does not know the authority
    assert not (place / "other").exists()
    certificates.local_credentials()
    other = certificates.certificate_folder()
    with raises_user_error("key-mismatch", other / "signer.key"):
        certificates.read_credentials(mine / "signer.pem", other / "signer.key")
    with raises_user_error("certificate-invalid"):
        certificates.read_credentials(mine / "signer.key", mine / "signer.key")
    with raises_user_error("key-invalid"):
        certificates.read_credentials(mine / "signer.pem", mine / "signer.pem")
    with raises_user_error("certificate-unreadable", mine / "none.pem"):
        certificates.read_credentials(mine / "none.pem", mine / "signer.key")


@needs_extra
@pytest.mark.parametrize("home", ["unwritable", "unreadable certificate", "none"])
def test_without_a_place_for_the_certificate_results_have_no_manifest_and_it_is_said(place, monkeypatch, caplog, home):
    monkeypatch.setenv("SIMSWAP_JAX_CONFIG", str(place / "config"))
    if home == "unwritable":
        (place / "config").write_text("")
    elif home == "unreadable certificate":
        certificates.local_credentials()
        monkeypatch.setattr(certificates, "read_credentials", another_users)
    else:
        monkeypatch.delenv("SIMSWAP_JAX_CONFIG")
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    with raises_user_error("certificate-unreadable" if "unreadable" in home else "certificate-folder"):
        certificates.local_credentials()
    certificates._say_once.cache_clear()
    for name in ("x.png", "y.jpg"):
        assert write(place / name) == (LABEL, METADATA, WATERMARK)
        assert not c2pa_manifest.has_manifest(place / name)
        assert c2pa_manifest.read(place / name) is None
    assert caplog.text.count("results get no C2PA manifest") == 1


def no_home():
    raise RuntimeError("Could not determine home directory.")


def another_users(chain, key):
    raise UserError(f"{key} cannot be read (Permission denied).", "certificate-unreadable")


@needs_extra
def test_a_certificate_that_was_given_must_sign(place):
    """What is asked for by name is not left out."""
    broken = certificates.Credentials(b"no certificate", b"no key", "es256")
    with raises_user_error("c2pa-signing"):
        write(place / "x.png", credentials=broken)
    assert not (place / "x.png").exists()


def test_without_the_extra_the_other_marks_are_there(place, monkeypatch):
    monkeypatch.setattr(c2pa_manifest, "available", lambda: False)
    assert write(place / "x.png") == ("a visible label", "XMP metadata", "an invisible watermark")
    assert not c2pa_manifest.has_manifest(place / "x.png")
    assert c2pa_manifest.read(place / "x.png") is None


def test_each_mark_is_dropped_by_its_own_flag(place, monkeypatch):
    monkeypatch.setattr(c2pa_manifest, "available", lambda: False)
    flags = {"label": LABEL, "xmp": METADATA, "watermark": WATERMARK}
    for flag, name in flags.items():
        assert set(MARKS) - set(write(place / "x.png", **{flag: False})) == {name, MANIFEST}
    assert writer.write_result(place / "x.png", faces(1, 128)[0], MADE_OF, NO_MARKS) == ()
    np.testing.assert_array_equal(np.asarray(Image.open(place / "x.png")), faces(1, 128)[0])

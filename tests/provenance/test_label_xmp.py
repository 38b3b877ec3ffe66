"""Marks: what is written is read, in every format; the label is there, small and legible."""

import hashlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from simswap_jax import __version__
from simswap_jax.provenance import label_xmp
from simswap_jax.provenance.label_xmp import Provenance, draw_label, provenance_of, read_provenance, xmp_packet
from simswap_jax.provenance.writer import write_picture
from tests.support.errors import raises_user_error
from tests.support.small_model import faces

MADE_OF = Provenance(inputs=(("source", "ab" * 32), ("source", "cd" * 32), ("target", "ef" * 32)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp"])
def test_marks_survive_the_file(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    write_picture(path, faces(1)[0], xmp_packet(MADE_OF))
    assert read_provenance(path) == MADE_OF
    raw = path.read_bytes()  # uncompressed, where any tool looks for it
    assert b"http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in raw
    assert f"simswap-jax {__version__}".encode() in raw


def test_the_packet_uses_the_standards_own_names():
    root = ElementTree.fromstring(xmp_packet(MADE_OF).decode().split("?>", 1)[1].rsplit("<?", 1)[0])
    description = root.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    found = {child.tag: child.text for child in description}
    assert found["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"].endswith("AlgorithmicMedia")
    assert found["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemUsed"] == "simswap-jax"
    assert "{http://ns.adobe.com/xap/1.0/mm/}Ingredients" in found


def test_names_of_inputs_are_their_contents_not_their_paths(tmp_path):
    path = tmp_path / "secret name.bin"
    path.write_bytes(b"hello")
    made_of = provenance_of([path], [path])
    digest = hashlib.sha256(b"hello").hexdigest()
    assert made_of.inputs == (("source", digest), ("target", digest))
    assert b"secret" not in xmp_packet(made_of)


def test_an_editors_rewriting_as_attributes_is_read(tmp_path):
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'e:DigitalSourceType="{label_xmp.SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>'
    )
    write_picture(tmp_path / "x.png", faces(1)[0], packet.encode())
    assert read_provenance(tmp_path / "x.png") == Provenance((), "", "", label_xmp.SOURCE_TYPE)


@pytest.mark.parametrize(
    "packet",
    [None, b"<not xml", b"<a/>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
    ids=["none", "broken", "other", "dtd"],
)
def test_what_carries_no_marks_has_none(tmp_path, packet):
    write_picture(tmp_path / "x.png", faces(1)[0], packet)
    assert read_provenance(tmp_path / "x.png") is None


RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">%s</rdf:Description></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize(
    "inside",
    [
        '<e:DigitalSourceType rdf:resource="u:x"/>',
        "<e:DigitalSourceType> u:x\n</e:DigitalSourceType><e:DigitalSourceType>second</e:DigitalSourceType>",
        "<e:DigitalSourceType><![CDATA[u:x]]></e:DigitalSourceType>",
        "<!-- a --><e:DigitalSourceType>u:x<b/></e:DigitalSourceType>",
    ],
)
def test_a_property_is_read_however_it_is_written(inside):
    packet = f"<?xpacket begin='\ufeff'?>\n<?xml version='1.0'?>{RDF % inside}<?xpacket end='w'?>\n \0"
    for given in (packet, packet.encode()):
        assert label_xmp.parse_packet(given) == Provenance((), "", "", "u:x")


def test_ingredients_elsewhere_are_not_taken():
    packet = xmp_packet(MADE_OF).decode()
    moved = packet.replace("rdf:Bag>", "rdf:Seq>")
    assert label_xmp.parse_packet(moved).inputs == ()
    assert label_xmp.parse_packet(packet).inputs == MADE_OF.inputs


@pytest.mark.parametrize(
    ("piece", "many"),
    [(b"<", False), (b"<?xpacket ", False), (b"<a>", False), (b"<a/>", True), (b"<!--", False), (b"<![CDATA[", False)],
)
def test_megabytes_of_brackets_are_none_or_too_large(piece, many):
    """Broken or too deep, they are none; many small elements are a packet that would take long, whatever is in it."""
    repeated = piece * (2_600_000 // len(piece))
    assert label_xmp.parse_packet(repeated) is None
    inside = (RDF % "<e:DigitalSourceType>u:x</e:DigitalSourceType>%s").encode() % repeated
    if many:
        with raises_user_error("xmp-too-large"):
            label_xmp.parse_packet(inside)
    else:
        assert label_xmp.parse_packet(inside) is None
    with raises_user_error("xmp-too-large"):
        label_xmp.parse_packet(piece * (label_xmp.MOST_XMP // len(piece) + 1))


def test_as_many_elements_as_are_read_are_read():
    few = RDF % ("<e:DigitalSourceType>u:x</e:DigitalSourceType>" + "<a/>" * 99_000)
    assert label_xmp.parse_packet(few).source_type == "u:x"


def test_what_is_no_picture_gets_a_sentence(tmp_path):
    (tmp_path / "x.png").write_text("hello")
    with raises_user_error("picture-unreadable", "x.png"):
        read_provenance(tmp_path / "x.png")


@pytest.mark.parametrize("size", [48, 64, 112, 224, 512])
def test_the_label_is_small_in_the_corner_and_legible(size):
    picture = np.full((size, size, 3), 200, np.uint8)
    before = picture.copy()
    labelled = draw_label(picture)
    np.testing.assert_array_equal(picture, before)
    changed = np.argwhere((labelled != picture).any(axis=2))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert left >= size / 2 - 1  # no more than half of the width,
    assert top >= size * 0.7  # in the lower part,
    assert bottom >= size * 0.95  # at the corner,
    assert right >= size * 0.95
    height, width = bottom - top + 1, right - left + 1
    assert height >= 9  # and large enough to read:
    assert height * width < 0.1 * size * size
    inside = labelled[top : bottom + 1, left : right + 1].astype(int).sum(axis=2)
    assert (inside > 700).sum() >= 8  # white strokes
    assert (inside < 300).mean() > 0.3  # on a dark ground


def test_the_text_grows_with_the_room(monkeypatch):
    drawn = []
    real = label_xmp.ImageDraw.Draw

    class Recorder:
        def __init__(self, image):
            self._draw = real(image)
            self.rectangle = self._draw.rectangle

        def text(self, place, text, *rest):
            drawn.append(text)
            self._draw.text(place, text, *rest)

    monkeypatch.setattr(label_xmp.ImageDraw, "Draw", Recorder)
    for size in (16, 64, 112, 224):
        assert draw_label(np.zeros((size, size, 3), np.uint8)).shape == (size, size, 3)
    assert drawn == ["AI", "AI", "AI swap", "AI face swap"]


def test_a_label_is_still_there_after_a_jpeg(tmp_path):
    write_picture(tmp_path / "x.jpg", draw_label(np.full((112, 112, 3), 200, np.uint8)), quality=60)
    decoded = np.asarray(Image.open(tmp_path / "x.jpg")).astype(int)
    assert decoded[:50].min() > 180
    assert (decoded[-12:, -40:].sum(axis=2) < 330).mean() > 0.3

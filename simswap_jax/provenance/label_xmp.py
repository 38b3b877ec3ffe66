"""How a result says that it is synthetic: a label people can see and metadata machines can read.

Both are there by default, as Art. 50 of the EU AI Act asks; each is left out only on request. Metadata is the IPTC
digital source type in an XMP packet (with the tool, its version and the SHA-256 of what went in); it is lost when a
picture is encoded again, which is why the label stands beside it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simswap_jax import __version__
from simswap_jax.errors import UserError
from simswap_jax.io.atomic import file_sha256

TOOL = "simswap-jax"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
LABELS = ("AI face swap", "AI swap", "AI")  # the longest that fits is drawn

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "simswap": "urn:simswap-jax:provenance:1#",
}


@dataclass(frozen=True)
class Provenance:
    """What a result is made of and by: what its metadata says.

    Attributes:
      inputs: (role, SHA-256 in hex) of every file that went in; roles are ``"source"``, ``"target"`` and ``"model"``.
      tool: the program's name.
      version: the program's version.
      source_type: the IPTC digital source type, a URI.
    """

    inputs: tuple[tuple[str, str], ...] = ()
    tool: str = TOOL
    version: str = __version__
    source_type: str = SOURCE_TYPE


def provenance_of(sources: Iterable[str | Path] = (), targets: Iterable[str | Path] = ()) -> Provenance:
    """The provenance of a result made from these files: the SHA-256 of each."""
    files = [("source", path) for path in sources] + [("target", path) for path in targets]
    return Provenance(inputs=tuple((role, file_sha256(path)) for role, path in files))


def xmp_packet(provenance: Provenance) -> bytes:
    """The XMP packet (UTF-8) of a provenance: IPTC Extension, XMP basic, XMP media management (ingredients)."""
    spaces = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in _NAMESPACES.items() if prefix != "rdf")
    ingredients = "".join(
        f'<rdf:li rdf:parseType="Resource"><stRef:documentID>sha256:{escape(digest)}</stRef:documentID>'
        f"<simswap:role>{escape(role)}</simswap:role></rdf:li>"
        for role, digest in provenance.inputs
    )
    body = (
        f"<Iptc4xmpExt:DigitalSourceType>{escape(provenance.source_type)}</Iptc4xmpExt:DigitalSourceType>"
        f"<Iptc4xmpExt:AISystemUsed>{escape(provenance.tool)}</Iptc4xmpExt:AISystemUsed>"
        f"<Iptc4xmpExt:AISystemVersionUsed>{escape(provenance.version)}</Iptc4xmpExt:AISystemVersionUsed>"
        f"<xmp:CreatorTool>{escape(provenance.tool)} {escape(provenance.version)}</xmp:CreatorTool>"
        f"<xmpMM:Ingredients><rdf:Bag>{ingredients}</rdf:Bag></xmpMM:Ingredients>"
    )
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_NAMESPACES["rdf"]}">'
        f'<rdf:Description rdf:about=""{spaces}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    )
    return packet.encode("utf-8")


def read_provenance(path: str | Path) -> Provenance | None:
    """What the metadata of a picture file says of its making.

    Args:
      path: a PNG, JPEG or WebP.

    Returns:
      The provenance, or None where the file carries no digital source type (never marked, or lost in re-encoding).

    Raises:
      UserError: the file is not a readable picture, or its XMP is larger than any is.
    """
    try:
        with Image.open(path) as image:
            packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as a picture ({error}); give a PNG, JPEG or WebP.", "picture-unreadable"
        ) from error
    return parse_packet(packet) if packet else None


def parse_packet(packet: bytes | str) -> Provenance | None:
    """The provenance in an XMP packet.

    Returns:
      None where it carries no digital source type, is no XMP, or is nested deeper than XMP is.

    Raises:
      UserError: it is larger than any program needs.
    """
    if len(packet) > MOST_XMP:
        raise too_large()
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else packet
    text = text.strip(_PADDING)
    if text.startswith("<?xpacket"):  # some write an XML declaration behind it, which may only come first
        text = text.partition("?>")[2].strip(_PADDING)
    found = _Reader()
    parser = ElementTree.XMLParser(target=found)
    try:
        parser.feed(text)
        parser.close()
    except UserError:  # a ValueError, too
        raise
    except (ElementTree.ParseError, ValueError):
        return None
    return found.provenance()


class _Reader:
    """What an XML parser tells of an XMP packet as it goes: nothing is built but the few values that are wanted."""

    def __init__(self) -> None:
        self._within: list[str] = []  # names of the elements that are open
        self._text: list[str] | None = None  # of the innermost one, until a child begins; None where it is not wanted
        self._values: dict[str, str] = {}
        self._ingredient: dict[str, str] = {}
        self._inputs: list[tuple[str, str]] = []
        self._elements = 0

    def doctype(self, *_: str | None) -> None:
        """A DOCTYPE could define entities that expand without end; XMP has none."""
        raise ValueError("XMP has no DOCTYPE")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins. A property may stand in an attribute, as some editors rewrite it."""
        self._keep()
        self._within.append(name)
        self._elements += 1
        if self._elements > _MOST_ELEMENTS:
            raise too_large()
        if len(self._within) > _DEEPEST:
            raise ValueError("no XMP is nested so deep")
        if attributes:
            for key in _PROPERTIES & attributes.keys():
                self._values.setdefault(key, attributes[key].strip())
            if name in _PROPERTIES and _RESOURCE in attributes:
                self._values.setdefault(name, attributes[_RESOURCE].strip())
        if name == _ITEM and self._within[-3:] == _INGREDIENT:
            self._ingredient = {}
        if name in _PROPERTIES or (name in (_ROLE, _DOCUMENT) and self._within[-4:-1] == _INGREDIENT):
            self._text = []

    def data(self, text: str) -> None:
        """Text of the innermost element."""
        if self._text is not None:
            self._text.append(text)

    def end(self, name: str) -> None:
        """An element ends."""
        self._keep()
        if name == _ITEM and self._within[-3:] == _INGREDIENT:
            digest = self._ingredient.get(_DOCUMENT, "").removeprefix("sha256:")
            self._inputs.append((self._ingredient.get(_ROLE, ""), digest))
        self._within.pop()

    def close(self) -> None:
        """The packet ends."""

    def _keep(self) -> None:
        """Take the text of the innermost element, which is complete."""
        if self._text is None:
            return
        name, text = self._within[-1], "".join(self._text)
        if name in _PROPERTIES:
            self._values.setdefault(name, text.strip())
        else:
            self._ingredient.setdefault(name, text)
        self._text = None

    def provenance(self) -> Provenance | None:
        """What was found; None without a digital source type."""
        if _SOURCE_TYPE not in self._values:
            return None
        tool, version = self._values.get(_TOOL, ""), self._values.get(_VERSION, "")
        return Provenance(tuple(self._inputs), tool, version, self._values[_SOURCE_TYPE])


def too_large() -> UserError:
    """A packet that would take long to read."""
    return UserError(
        f"its XMP has more than {MOST_XMP >> 20} MB or {_MOST_ELEMENTS:,} elements; no program needs that much.",
        "xmp-too-large",
    )


def _name(prefixed: str) -> str:
    """A name such as ``rdf:li`` as the parser gives it, with its namespace."""
    prefix, _, name = prefixed.partition(":")
    return f"{{{_NAMESPACES[prefix]}}}{name}"


MOST_XMP = 4 << 20  # bytes; the packets of cameras and editors have up to some hundred thousand
_MOST_ELEMENTS = 100_000
_DEEPEST = 64  # elements in one another
_PADDING = "\x00 \n\r\t\ufeff"
_SOURCE_TYPE, _TOOL, _VERSION = map(
    _name, ("Iptc4xmpExt:DigitalSourceType", "Iptc4xmpExt:AISystemUsed", "Iptc4xmpExt:AISystemVersionUsed")
)
_PROPERTIES = {_SOURCE_TYPE, _TOOL, _VERSION}
_ITEM = _name("rdf:li")
_INGREDIENT = [_name("xmpMM:Ingredients"), _name("rdf:Bag"), _ITEM]
_ROLE, _DOCUMENT, _RESOURCE = map(_name, ("simswap:role", "stRef:documentID", "rdf:resource"))


@cache
def _font(size: int) -> Any:
    """Reading the letters takes longer than drawing them."""
    return ImageFont.load_default(size)


def draw_label(picture: np.ndarray) -> np.ndarray:
    """A copy of a result with the visible label in its lower right corner.

    White letters on a dark, half-transparent ground; the font is a 25th of the picture's shorter side, but never under
    10 pixels, and the text is the longest of ``LABELS`` that takes less than half of the picture's width, so that 64
    pixels still carry a legible "AI".

    Args:
      picture: uint8 RGB [H, W, 3].

    Returns:
      uint8 RGB [H, W, 3]; the input is not changed.
    """
    height, width = picture.shape[:2]
    size = max(10, round(min(height, width) / 25))
    font = _font(size)
    margin = max(1, size // 6)
    fitting = [text for text in LABELS if font.getlength(text) + 4 * margin <= width / 2]
    text = fitting[0] if fitting else LABELS[-1]
    left, top, right, bottom = font.getbbox(text)
    box = (
        width - (right - left) - 4 * margin,
        height - (bottom - top) - 4 * margin,
        width - margin,
        height - margin,
    )
    # Drawn on a copy of the corner alone: a large photo is not taken through Pillow for it.
    edge_x, edge_y = max(0, int(box[0]) - size), max(0, int(box[1]) - size)
    labelled = np.ascontiguousarray(picture).copy()
    corner = Image.fromarray(labelled[edge_y:, edge_x:])
    ground = Image.new("RGB", corner.size)
    mask = Image.new("L", corner.size)
    inside = (box[0] - edge_x, box[1] - edge_y, box[2] - 1 - edge_x, box[3] - 1 - edge_y)
    ImageDraw.Draw(mask).rectangle(inside, fill=165)
    corner.paste(ground, mask=mask)
    place = (inside[0] + margin * 1.5 - left, inside[1] + margin * 1.5 - top)
    ImageDraw.Draw(corner).text(place, text, (255, 255, 255), font)
    labelled[edge_y:, edge_x:] = np.asarray(corner)
    return labelled

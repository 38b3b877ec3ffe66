"""Metadata of video files: XMP in the container, and where a C2PA manifest stands."""

from pathlib import Path

from simswap_jax.provenance.label_xmp import Provenance, parse_packet
from simswap_jax.video.decode import boxes, reading

_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the UUID of Adobe's box
TAG = "XMP"  # of a Matroska file; there is no standard place in one
_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_MOST = 16 * 2**20  # bytes of an XMP packet that is read


def append_xmp(path: Path, packet: bytes) -> None:
    """Add an XMP packet to an MP4 or MOV as its last box, as Adobe's specification says (ISO base media: ``uuid``)."""
    with path.open("ab") as file:
        file.write((24 + len(packet)).to_bytes(4, "big") + b"uuid" + _XMP + packet)


def read_video_provenance(path: str | Path) -> Provenance | None:
    """What the metadata of a video file says of its making; None where there is no digital source type.

    Raises:
      UserError: the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _XMP:
                found = parse_packet(file.read(min(box.size, _MOST)))
                if found is not None:
                    return found
    with reading(path) as container:
        packet = container.metadata.get(TAG)
    return None if packet is None else parse_packet(packet)


def mime_type(path: str | Path) -> str | None:
    """What C2PA calls a video file by its first box and ending; None for kinds that it has no place in."""
    first = next(boxes(path), None)
    if first is None or first.kind != b"ftyp":
        return None
    return "video/quicktime" if Path(path).suffix.lower() == ".mov" else "video/mp4"


def has_manifest(path: str | Path) -> bool:
    """Whether an MP4 or MOV holds a C2PA store."""
    with Path(path).open("rb") as file:
        for box in boxes(path):
            file.seek(box.content)
            if box.kind == b"uuid" and file.read(16) == _C2PA:
                return True
    return False

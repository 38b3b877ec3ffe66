"""Lets `doctor` look at pictures with mutated XMP, in a process of its own, where a hang is seen from outside.

python tests/support/xmp_fuzz.py SEED COUNT FOLDER → one line of JSON: how many marks were found, not found and not
readable, and by how many MB the process grew.
"""

import io
import json
import resource
import signal
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from simswap_jax.cli.doctor import examine
from simswap_jax.provenance.label_xmp import Provenance, xmp_packet

SECONDS = 5  # of the processor for one file; the system then ends the process
GROWTH = 300  # MB; the pictures are 32 pixels wide
LARGE_EVERY = 50
MADE_OF = Provenance(inputs=(("source", "ab" * 32), ("target", "cd" * 32)))
# What is repeated, once or some hundred thousand times.
PIECES = (
    b"<",
    b">",
    b"&",
    b"<a>",
    b"</a>",
    b"<a/>",
    b"<?xpacket ",
    b"?>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"\0",
    b"\xff",
    b'<!DOCTYPE a [<!ENTITY b "cc">]>',
    b"&b;",
    b"&amp;",
    b"&#65;",
    b"&#xD800;",
    b' x="1"',
    b'"',
    b"'",
    b"\xef\xbb\xbf",
    b"<rdf:li rdf:parseType='Resource'>",
    b"<xmpMM:Ingredients><rdf:Bag>",
    b"<?xml version='1.0' encoding='utf-16'?>",
    b"<Iptc4xmpExt:DigitalSourceType>",
    b"\xe2\x80\xae",
    b"\x1b[31m",
    b"\n",
    b" ",
    b"xmlns:a='u'",
)
WHOLE = (
    b"<a/>",
    b"<a><b/></a>",
    b"<!-- a -->",
    b"<![CDATA[<]]>",
    b"&amp;",
    b"text",
    b"\n",
    b"<?a b?>",
    b"&#65;",
    b"<rdf:li/>",
    b'<a x="1"/>',
    b"<a xmlns='u'/>",
    b"\xf0\x9f\x98\x80",
)

# What once took long, by its megabytes; the first mutants.
LARGE = tuple(
    before + piece * (2_600_000 // len(piece)) + behind
    for piece in (b"<", b"<?xpacket ", b"<a>", b"<a/>", b"<!--", b"<![CDATA[")
    for before, behind in ((b"", b""), (b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>", b"</x:xmpmeta>"))
)


def mutated(packet, random, large):
    """One to four changes, or well-formed ones; of a large one, one piece is there for megabytes."""
    data = bytearray(packet)
    if random.random() < 0.5:
        ends = [at + 1 for at in range(len(packet)) if packet[at : at + 1] == b">"][1:-1]
        for at in sorted(random.choice(ends, 3), reverse=True):
            data[at:at] = WHOLE[int(random.integers(0, len(WHOLE)))] * int(random.integers(1, 200_000 if large else 60))
        return bytes(data)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(data) + 1))
        piece = PIECES[int(random.integers(0, len(PIECES)))]
        match int(random.integers(0, 6)):
            case 0:
                data[at : at + 1] = bytes([int(random.integers(0, 256))])
            case 1:
                del data[at : at + int(random.integers(1, 200))]
            case 2:
                data[at:at] = piece * int(random.integers(1, 80))
            case 3:
                data[at:at] = data[at : at + int(random.integers(1, 200))]
            case 4:
                other = int(random.integers(0, len(data) + 1))
                data[at : at + 40] = data[other : other + 40]
            case _:
                data[at : at + 8] = random.integers(0, 256, 8, np.uint8).tobytes()
    if large:
        piece = PIECES[int(random.integers(0, len(PIECES)))]
        at = len(data) if random.random() < 0.5 else int(random.integers(0, len(data) + 1))
        data[at:at] = piece * int(random.integers(1 << 18, 5 << 20) // len(piece))
    return bytes(data)


def picture(packet, kind):
    """A small picture with the packet, as any program could write it: nothing is checked."""
    stream = io.BytesIO()
    if kind == "PNG":
        Image.new("RGB", (32, 32), (90, 120, 150)).save(stream, "PNG")
        data, body = stream.getvalue(), b"iTXt" + b"XML:com.adobe.xmp\0\0\0\0\0" + packet
        return data[:33] + (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big") + data[33:]
    Image.new("RGB", (32, 32), (90, 120, 150)).save(stream, kind, xmp=packet)
    return stream.getvalue()


def main():
    seed, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    warnings.simplefilter("ignore")
    random = np.random.default_rng(seed)
    outcomes = {"found": 0, "none": 0, "not readable": 0}
    packet, path = xmp_packet(MADE_OF), folder / "mutant.bin"
    path.write_bytes(picture(packet, "PNG"))
    assert examine(path)[2].value == "found"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        large = number % LARGE_EVERY == LARGE_EVERY - 1
        content = LARGE[number] if number < len(LARGE) else mutated(packet, random, large)
        kinds = ("PNG", "WEBP") if len(content) > 60_000 else ("PNG", "WEBP", "JPEG")
        path.write_bytes(picture(content, kinds[number % len(kinds)]))
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        rows = examine(path)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        found = rows[2]
        assert found.what == "XMP metadata"
        assert all("\n" not in row.how and len(row.how) <= 600 for row in rows)
        outcomes[found.value.removesuffix(", another program's")] += 1
    outcomes["MB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert outcomes["MB"] < GROWTH, outcomes
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()

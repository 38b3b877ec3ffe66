"""What a picture file may ask for: memory by its pixels × bytes as they are decoded, and scans of a JPEG."""

import contextlib
import re
from pathlib import Path

from PIL import Image

ALWAYS = 2**28  # bytes that a picture may take on any machine: 38 megapixels of 8-bit RGB
MOST = 2**31  # bytes that none may exceed: 306 megapixels of 8-bit RGB
SHARE = 4  # of the memory that is free, one part: a swap needs about four times what its photo takes
RESULT = 3  # bytes a pixel of the uint8 RGB that is made
MOST_SCANS = 100  # of a JPEG; cameras and editors write 1 to about 20
# Pillow warns from here on and raises from twice as many: the fewest bytes a pixel takes are these.
MOST_PIXELS = MOST // (1 + RESULT)
_CONTAINER = Path("/sys/fs/cgroup")
# A marker inside a scan: 0xFF is followed by 0 where it is data, by D0 to D7 where a decoder may start anew.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SCAN, _END, _ALONE = 0xDA, 0xD9, (0x01, *range(0xD0, 0xD9))


def free_memory() -> int:
    """Bytes that are free on this machine, or in the container that it is."""
    import psutil

    free: int = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no container, or "max"
        said = {
            name: (_CONTAINER / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current", "stat")
        }
        cached = re.search(r"^inactive_file (\d+)", said["stat"], re.MULTILINE)  # is given up when it is needed
        used = int(said["current"]) - (int(cached[1]) if cached else 0)
        free = max(0, min(free, int(said["max"]) - used))
    return free


def excess(image: Image.Image, deep: bool) -> tuple[str, str] | None:
    """What is wrong with a picture that would take too much memory, and what to do; None where it may be decoded.

    Args:
      image: opened, not loaded.
      deep: whether it has 16 bits a channel.
    """
    pixels, each = image.width * image.height, held(image, deep) + RESULT
    if pixels * each <= ALWAYS:
        return None
    limit = min(MOST, max(ALWAYS, free_memory() // SHARE))
    if pixels * each <= limit:
        return None
    reason = (
        f"has {pixels / 1e6:,.0f} megapixels, which take {pixels * each / 1e9:.1f} GB as they are decoded; "
        f"{limit / 1e9:.1f} GB may be taken here"
    )
    smaller = f"save it with at most {limit // each // 10**6} megapixels"
    return reason, smaller if limit == MOST else f"{smaller}, or close other programs"


def held(image: Image.Image, deep: bool) -> int:
    """The bytes of a pixel while a picture is decoded, without those of the result."""
    if deep:
        return 8  # four channels, as OpenCV reads them
    each = {"1": 1, "L": 1, "P": 1}.get(image.mode, 4)
    return each + 2 * len(image.getbands()) if image.info.get("progressive") else each


def scan_count(data: bytes) -> int:
    """How many scans the first picture of a JPEG file has, counted up to one more than `MOST_SCANS`."""
    if data.count(b"\xff\xda") <= MOST_SCANS:  # those within metadata too: quick, and enough for most files
        return data.count(b"\xff\xda")
    scans, at = 0, 2
    while scans <= MOST_SCANS and at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == _END:
            break
        if marker in _ALONE or marker == 0xFF:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            scans += 1
            found = _AFTER_SCAN.search(data, at)
            at = found.start() if found else len(data)
    return scans

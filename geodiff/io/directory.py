"""Tags of a TIFF's first directory, byte by byte, for the few things that GDAL's bindings lose on the way.

TIFF 6.0, section 2; BigTIFF.
"""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["GDAL_METADATA", "GDAL_NODATA", "overwrite", "text_of"]

GDAL_METADATA = 42112
GDAL_NODATA = 42113


def text_of(path: Path, tag: int) -> str | None:
    """The text of an ASCII tag; None where the file is no TIFF or has no such tag."""
    try:
        place = _place(path, tag)
        if place is None:
            return None
        with path.open("rb") as file:
            file.seek(place[0])
            return file.read(place[1]).split(b"\0")[0].decode("utf-8", "replace")
    except (OSError, struct.error):
        return None


def overwrite(path: Path, tag: int, text: bytes, padding: bytes) -> bool:
    """Put a text in the place of an ASCII tag's, filled up with `padding`; False where there is no room for it."""
    place = _place(path, tag)
    if place is None or len(text) >= place[1]:
        return False
    with path.open("r+b") as file:
        file.seek(place[0])
        file.write(text + padding * (place[1] - 1 - len(text)) + b"\0")
    return True


def _place(path: Path, wanted: int) -> tuple[int, int] | None:
    """Byte position and size of an ASCII tag's text."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[:2] not in (b"II", b"MM"):
            return None
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        width = 8 if big else 4
        first = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
        file.seek(first)
        count = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))[0]
        entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
        for _ in range(count):
            tag, _kind, size, position = entry.unpack(file.read(entry.size))
            if tag == wanted:
                return (position, size) if size > width else (file.tell() - width, size)
    return None

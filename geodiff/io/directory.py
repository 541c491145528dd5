"""Directories of a TIFF, byte by byte, for the few things that GDAL's bindings lose on the way.

TIFF 6.0, section 2; BigTIFF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["GDAL_METADATA", "GDAL_NODATA", "is_whole", "overwrite", "text_of"]

GDAL_METADATA = 42112
GDAL_NODATA = 42113

_PLACES, _SIZES = {273, 324}, {279, 325}
"""Where the strips and tiles of an image begin, and how many bytes each has."""
_INTEGERS = {3: "u2", 4: "u4", 16: "u8"}
"""Types of TIFF's numbers that those come in."""


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


def is_whole(path: Path) -> bool:
    """Whether every tile or strip of every directory was written, and lies within the file.

    GDAL writes the last of them when it closes a file, and tells nobody where that fails, as on a full disk.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            return all(_lies_within(file, entries, size) for entries in _directories(file))
    except (struct.error, ValueError):  # a directory that breaks off
        return False


def _lies_within(file: BinaryIO, entries: list[_Entry], size: int) -> bool:
    places, sizes = (
        np.concatenate([entry.integers(file) for entry in entries if entry.tag in tags]) for tags in (_PLACES, _SIZES)
    )
    return bool((sizes > 0).all() and (places + sizes <= size).all())


def _place(path: Path, wanted: int) -> tuple[int, int] | None:
    """Byte position and size of an ASCII tag's text in the first directory."""
    with path.open("rb") as file:
        found = (entry for entry in next(_directories(file), []) if entry.tag == wanted)
        return next(((entry.position, entry.count) for entry in found), None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tag of a directory."""

    tag: int
    kind: int
    """TIFF's number of the type."""
    count: int
    position: int
    """Byte at which its values begin."""
    order: str

    def integers(self, file: BinaryIO) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Its values; raises ValueError where they are no integers, or the file ends before them."""
        if self.kind not in _INTEGERS:
            raise ValueError(f"type {self.kind} of tag {self.tag} is no integer")
        dtype = np.dtype(self.order + _INTEGERS[self.kind])
        file.seek(self.position)
        return np.frombuffer(file.read(self.count * dtype.itemsize), dtype, self.count).astype(np.int64)


_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of each of TIFF's types."""


def _directories(file: BinaryIO) -> Iterator[list[_Entry]]:
    """The directories of a TIFF one after the other, overviews and masks as well; none of any other file."""
    head = file.read(16)
    if head[:2] not in (b"II", b"MM"):
        return
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    width, pointer = (8, struct.Struct(order + "Q")) if big else (4, struct.Struct(order + "I"))
    entry, counter = struct.Struct(order + ("HHQQ" if big else "HHII")), struct.Struct(order + ("Q" if big else "H"))
    (place,) = pointer.unpack(head[8:16] if big else head[4:8])
    while place:
        file.seek(place)
        (count,) = counter.unpack(file.read(counter.size))
        entries = []
        for _ in range(count):
            tag, kind, number, position = entry.unpack(file.read(entry.size))
            inside = number * _WIDTHS.get(kind, 1) <= width  # the values then stand where their position would
            entries.append(_Entry(tag, kind, number, file.tell() - width if inside else position, order))
        (following,) = pointer.unpack(file.read(pointer.size))
        yield entries
        place = following

"""The parts of windows that the network has to look at: what is wanted, with its surroundings.

A call costs as much as it has pixels, and some time whatever it has: 64 x 64 pixels take two fifths of the time of
128 x 128. Which part is cut follows from the window alone, so answers do not depend on how a raster is tiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Crop", "by_size", "crops"]

CELL = 8
"""Pixels that the network's coarsest level makes one of; crops begin at multiples, so that it sees the same cells."""
MARGIN = 2
"""Cells of surroundings on each side."""
STEP = 4
"""Cells in which sizes differ: few sizes make full batches."""
_CALL = 50
"""Cells whose time a call takes beside that of its own: 4.5, 7.1 and 11 ms at 64, 96 and 128 pixels a side in bfloat16,
11, 22 and 33 ms in float32."""
_WORTH = 0.9
"""Crops that take more than this share of the window's time are not worth it."""

_Slices = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of one sample."""

    sample: int
    inner: tuple[slice, slice]
    """Rows and columns that the part answers for."""
    outer: tuple[slice, slice]
    """The same with the surroundings."""

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.outer
        return rows.stop - rows.start, columns.stop - columns.start

    def of(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(..., row, column) of planes (sample, ..., row, column), with the surroundings."""
        part: NDArray[Any] = planes[self.sample, ..., *self.outer]
        return part

    def put(self, answer: NDArray[np.float32], planes: NDArray[np.float32]) -> None:
        """What was found for the part, (plane, row, column), into planes (sample, plane, row, column)."""
        own = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True))
        answer[self.sample, :, *self.inner] = planes[:, *own]


def crops(wanted: NDArray[np.bool_]) -> Iterator[Crop]:
    """Parts of samples (sample, row, column) that answer for every wanted pixel; none of a sample without any."""
    seen: dict[bytes, list[tuple[_Slices, _Slices]]] = {}
    for sample, plane in enumerate(wanted):
        key = np.packbits(plane).tobytes()  # members of a window want the same
        if key not in seen:
            seen[key] = list(_parts(plane)) if plane.any() else []
        for inner, outer in seen[key]:
            yield Crop(sample, inner, outer)


def by_size(parts: Iterator[Crop]) -> Mapping[tuple[int, int], list[Crop]]:
    """Parts of one shape together, as they come."""
    found: dict[tuple[int, int], list[Crop]] = {}
    for part in parts:
        found.setdefault(part.shape, []).append(part)
    return found


def _parts(wanted: NDArray[np.bool_]) -> Iterator[tuple[_Slices, _Slices]]:
    """Inner and outer rows and columns of each part of a plane."""
    shape = _Box(0, wanted.shape[0], 0, wanted.shape[1])
    if any(n % CELL for n in wanted.shape):
        yield shape.slices, shape.slices
        return
    cells = np.asarray(wanted.reshape(wanted.shape[0] // CELL, CELL, -1, CELL).any(axis=(1, 3)))
    boxes = _grouped(cells)
    if sum(box.cost(cells.shape) for box in boxes) > _WORTH * (cells.size + _CALL):
        yield shape.slices, shape.slices
        return
    for box in boxes:
        yield box.times(CELL).slices, box.widened(cells.shape).times(CELL).slices


class _Box(NamedTuple):
    """Rows and columns, first and last but one."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> _Slices:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def times(self, factor: int) -> _Box:
        return _Box(*(factor * edge for edge in self))

    def with_(self, other: _Box) -> _Box:
        """The smallest box around two."""
        top, left = min(self.top, other.top), min(self.left, other.left)
        return _Box(top, max(self.bottom, other.bottom), left, max(self.right, other.right))

    def cost(self, shape: tuple[int, ...]) -> int:
        """Time of a call for the box with its margin, in that of a cell."""
        wide = self.widened(shape)
        return (wide.bottom - wide.top) * (wide.right - wide.left) + _CALL

    def widened(self, shape: tuple[int, ...]) -> _Box:
        """With the margin, of a size that is a multiple of `STEP` where the window allows."""
        rows, columns = _span(self.top, self.bottom, shape[0]), _span(self.left, self.right, shape[1])
        return _Box(*rows, *columns)


def _span(first: int, last: int, count: int) -> tuple[int, int]:
    size = min(-(-(last - first + 2 * MARGIN) // STEP) * STEP, count)
    start = min(max((first + last - size) // 2, 0), count - size)
    return start, start + size


def _grouped(cells: NDArray[np.bool_]) -> list[_Box]:
    """Boxes around cells that touch; two are made one as long as that takes no longer than both."""
    from scipy import ndimage

    found = ndimage.find_objects(ndimage.label(cells, np.ones((3, 3), int))[0])
    boxes = sorted(_Box(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in found)
    while True:
        for one, other in combinations(boxes, 2):
            both = one.with_(other)
            if both.cost(cells.shape) <= one.cost(cells.shape) + other.cost(cells.shape):
                boxes = sorted({*(box for box in boxes if box not in (one, other)), both})
                break
        else:
            return boxes

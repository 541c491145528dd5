"""Where windows lie: a lattice fixed to the ground, so that a fill does not depend on the tiling.

Every estimate is made in windows of 128 x 128 pixels, 96 apart, on a lattice anchored at the grid's absolute origin.
Blocks are units of I/O and have no influence on the result: a block computes every lattice window that touches its
gaps and blends them with weights that form a partition of unity. The precedent is InfiniteDiffusion (arXiv 2512.08309).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray

__all__ = [
    "STRIDE", "WINDOW", "Lattice", "Window", "blocks", "overlap_shrinkage", "reflected_indices", "repeated", "weights",
]  # fmt: skip

WINDOW = 128
STRIDE = 96
RAMP = WINDOW - STRIDE


@dataclass(frozen=True, order=True, slots=True)
class Window:
    """A rectangle of pixels in a raster's own index space; it may reach beyond the raster."""

    row: int
    """First row; negative above the raster."""
    column: int
    """First column; negative left of the raster."""
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def stop(self) -> tuple[int, int]:
        """Row and column just after the last ones."""
        return self.row + self.height, self.column + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices into an array that holds the whole raster; only for windows inside it."""
        return slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)

    def expand(self, pixels: int) -> Window:
        """The window grown by `pixels` on each side."""
        return Window(self.row - pixels, self.column - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def intersect(self, other: Window) -> Window | None:
        """The common part, or None where there is none."""
        row, column = max(self.row, other.row), max(self.column, other.column)
        height, width = min(self.stop[0], other.stop[0]) - row, min(self.stop[1], other.stop[1]) - column
        return Window(row, column, height, width) if height > 0 and width > 0 else None

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices of this window in an array that covers `outer`."""
        row, column = self.row - outer.row, self.column - outer.column
        return slice(row, row + self.height), slice(column, column + self.width)


def _nearest(place: float) -> int:
    """The nearest integer, halves always up: grids with centres on multiples of the step begin at halves."""
    return floor(place + 0.5 + 1e-6)


@dataclass(frozen=True, slots=True)
class Lattice:
    """The canonical windows over one raster."""

    shape: tuple[int, int]
    """Rows and columns of the raster."""
    origin: tuple[int, int] = (0, 0)
    """Absolute row and column of the raster's first pixel on the ground's own pixel lattice."""
    periodic: bool = False
    """Whether the raster goes once around the globe, or a radar: its last column is then next to its first one."""

    @classmethod
    def of(cls, shape: tuple[int, int], affine: Affine | None, turn: float | None = None) -> Lattice:
        """The lattice of a grid; two crops of one scene share it, so they draw the same noise.

        A grid that is rotated or has no georeferencing starts at its own first pixel. `turn` is how far once around is
        in the units of the grid, 360 for degrees of longitude; None where nothing goes around.
        """
        if affine is None or affine.b or affine.d or affine.is_identity or not affine.a or not affine.e:
            return cls(shape)
        around = turn is not None and abs(shape[1] * abs(affine.a) - turn) < 0.01 * abs(affine.a)
        return cls(shape, (_nearest(affine.f / affine.e), _nearest(affine.c / affine.a)), around)

    def folded(self, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the raster that stand for a window's: mirrored at its edges, or around the globe."""
        rows, columns = self._lines(window)
        return rows, columns % self.shape[1]

    def cover(self, windows: Sequence[Window]) -> Window:
        """The smallest part from which all `windows` can be cut; around the globe it may reach beyond the raster."""
        lines = [self._lines(window) for window in windows]
        (top, bottom), (left, right) = (
            (min(int(line[axis].min()) for line in lines), max(int(line[axis].max()) for line in lines))
            for axis in (0, 1)
        )
        return Window(top, left, bottom - top + 1, right - left + 1)

    def places(self, window: Window, covers: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of a window in an array of what `cover` gave."""
        rows, columns = self._lines(window)
        return rows - covers.row, columns - covers.column

    def _lines(self, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns, mirrored at the raster's edges; columns around the globe go on beyond it."""
        rows = reflected_indices(window.row, window.height, self.shape[0])
        if self.periodic:
            return rows, np.arange(window.column, window.column + window.width)
        return rows, reflected_indices(window.column, window.width, self.shape[1])

    def pieces(self, window: Window) -> tuple[list[Window], NDArray[np.intp] | slice]:
        """Windows in the raster for one that may reach around the globe, and its columns once they lie abreast."""
        width = self.shape[1]
        if not self.periodic:
            return [window], slice(None)
        first = window.column % width
        if window.width >= width:
            return [Window(window.row, 0, window.height, width)], (first + np.arange(window.width)) % width
        left = Window(window.row, first, window.height, min(window.width, width - first))
        rest = window.width - left.width
        return [left, Window(window.row, 0, window.height, rest)] if rest else [left], slice(None)

    @property
    def extent(self) -> Window:
        """The whole raster as a window."""
        return Window(0, 0, *self.shape)

    def windows(self, within: Window | None = None) -> Iterator[Window]:
        """Every lattice window that touches `within` (default the whole raster), row by row.

        A window that reaches into the raster with its ramp alone is left out: its neighbour covers all of that strip.
        """
        area = self.extent if within is None else within.intersect(self.extent)
        if area is None:
            return
        for row in _starts(area.row, area.stop[0], self.origin[0], self.shape[0]):
            for column in _starts(area.column, area.stop[1], self.origin[1], self.shape[1]):
                yield Window(row, column, WINDOW, WINDOW)

    def absolute(self, window: Window) -> tuple[int, int]:
        """Absolute row and column of a window's first pixel, the key of its noise."""
        return window.row + self.origin[0], window.column + self.origin[1]


def _starts(first: int, stop: int, origin: int, length: int) -> list[int]:
    """Starts, in raster indices, of the 1-D windows that touch [first, stop) of a raster of that length."""
    needed = [start for start in _touching(0, length, origin) if _reach(start, length) > RAMP]
    needed = needed or [max(_touching(0, length, origin), key=lambda start: _reach(start, length))]
    return [start for start in _touching(first, stop, origin) if needed[0] <= start <= needed[-1]]


def _touching(first: int, stop: int, origin: int) -> range:
    lowest = (first + origin - WINDOW) // STRIDE + 1
    highest = (stop - 1 + origin) // STRIDE
    return range(lowest * STRIDE - origin, highest * STRIDE - origin + 1, STRIDE)


def _reach(start: int, length: int) -> int:
    """Pixels of the raster that a 1-D window covers."""
    return min(start + WINDOW, length) - max(start, 0)


@cache
def weights() -> NDArray[np.float32]:
    """Feather weights (128, 128) of a window; over the lattice they sum to exactly 1, at the raster's rim to less.

    Ramps of 32 pixels in steps of 1/32 are dyadic fractions, so the sum is exact in float32.
    """
    ramp = (np.arange(RAMP, dtype=np.float32) + 0.5) / RAMP
    line = np.concatenate([ramp, np.ones(WINDOW - 2 * RAMP, np.float32), ramp[::-1]])
    field = np.outer(line, line)
    field.setflags(write=False)
    return field


def overlap_shrinkage(weight_sum_of_squares: NDArray[np.float32], correlation: float) -> NDArray[np.float32]:
    """Standard deviation of a blend of unit-variance fields whose errors have the given correlation.

    With weights w that sum to 1, Var(sum w_i r_i) = rho + (1 - rho) * sum w_i^2. Dividing a blended residual by the
    root of it restores its spread; without that the overlaps show as smooth seams.
    """
    variance = correlation + (1.0 - correlation) * weight_sum_of_squares
    return np.asarray(np.sqrt(variance), np.float32)


def blocks(shape: tuple[int, int], size: int) -> Iterator[Window]:
    """Cores that partition a raster, row by row; the last ones are smaller."""
    rows, columns = shape
    for row in range(0, rows, size):
        for column in range(0, columns, size):
            yield Window(row, column, min(size, rows - row), min(size, columns - column))


def reflected_indices(start: int, count: int, length: int) -> NDArray[np.intp]:
    """Indices start..start+count-1 folded into 0..length-1 by reflection about the raster's edges."""
    index = np.arange(start, start + count) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def repeated(planes: NDArray[Any], factor: int) -> NDArray[Any]:
    """Every pixel of the last two axes `factor` times each way."""
    return planes if factor == 1 else np.repeat(np.repeat(planes, factor, axis=-2), factor, axis=-1)

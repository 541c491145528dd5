"""The scene's low-resolution fill: what a window deep inside a large gap can still know of the whole.

Cells of F x F pixels hold the mean of their known pixels; empty cells are filled by push-pull (Gortler et al. 1996)
and a few sweeps of relaxation. Sums and counts are added up while the source is scanned once; they are linear, so
hidden pixels can be taken out again for an honest trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = ["CellSums", "cell_size", "fill_cells", "sample_cells"]

_SMALLEST_CELL = 8
_MOST_CELLS = 1 << 24


def cell_size(planes: int, rows: int, columns: int) -> int:
    """Pixels along a cell: a power of two from 8 up, so that all planes together stay under 16 million cells."""
    size = _SMALLEST_CELL
    while planes * -(-rows // size) * -(-columns // size) > _MOST_CELLS:
        size *= 2
    return size


@dataclass
class CellSums:
    """Running sums and counts of known pixels by cell, (date, band, cell row, cell column); filled during the scan."""

    total: NDArray[np.float64]
    count: NDArray[np.int64]
    cell: int

    @classmethod
    def empty(cls, dates: int, bands: int, rows: int, columns: int, cell: int | None = None) -> CellSums:
        """All zero; `cell` is the size that an earlier scan of the same ground chose."""
        cell = cell or cell_size(dates * bands, rows, columns)
        shape = (dates, bands, -(-rows // cell), -(-columns // cell))
        return cls(np.zeros(shape), np.zeros(shape, np.int64), cell)

    def add(
        self, date: int, window: Window, values: NDArray[np.float64], known: NDArray[np.bool_], sign: int = 1
    ) -> None:
        """Add (or, with sign -1, take out) the known pixels of a window, arrays (band, row, column)."""
        row, column = window.row // self.cell, window.column // self.cell
        sums = _by_cell(np.where(known, values, 0.0), window, self.cell)
        counts = _by_cell(known, window, self.cell, np.int64)
        area = (date, slice(None), slice(row, row + sums.shape[1]), slice(column, column + sums.shape[2]))
        self.total[area] += sign * sums
        self.count[area] += sign * counts

    def copy(self) -> CellSums:
        return CellSums(self.total.copy(), self.count.copy(), self.cell)


def _by_cell(values: NDArray[Any], window: Window, cell: int, dtype: Any = None) -> NDArray[Any]:
    """Sums of (band, row, column) over the cells a window touches; cells are anchored at the raster's first pixel."""
    rows = _cell_starts(window.row, window.height, cell)
    columns = _cell_starts(window.column, window.width, cell)
    stops = [*rows[1:].tolist(), window.height]
    lines = [values[:, first:stop].sum(axis=1, dtype=dtype) for first, stop in zip(rows.tolist(), stops, strict=True)]
    by_row = np.stack(lines, axis=1)  # reduceat goes down each column by itself, in ten times the time
    return np.asarray(np.add.reduceat(by_row, columns, axis=2, dtype=dtype))


def _cell_starts(first: int, count: int, cell: int) -> NDArray[np.intp]:
    """Offsets inside a window at which a new cell begins."""
    return np.concatenate([[0], np.arange(cell - first % cell, count, cell)]).astype(np.intp)


def fill_cells(
    sums: CellSums, fallback: NDArray[np.float64], dates: Iterable[int] | None = None, *, around: bool = False
) -> NDArray[np.float64]:
    """Mean of every cell, empty ones filled; a plane without any known pixel gets its band's `fallback` (band,).

    With `dates`, of these alone; the others get the fallback. `around`: the last column is next to the first one.
    """
    beside = sums.total.shape[-1] // 2 if around else 0
    filled = np.empty_like(sums.total)
    filled[...] = fallback[:, None, None]
    for date in range(len(filled)) if dates is None else dates:
        for band, (total, count) in enumerate(zip(sums.total[date], sums.count[date], strict=True)):
            if count.any():
                planes = (np.pad(plane, ((0, 0), (beside, beside)), mode="wrap") for plane in (total, count))
                whole, weight = planes if beside else (total, count)
                found = _push_pull(whole, weight.astype(np.float64))
                filled[date, band] = found[:, beside : beside + total.shape[1]]
    return filled


def _push_pull(total: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fill the cells of zero weight from coarser levels, then relax them towards their neighbours' mean."""
    empty = weight <= 0
    mean = np.divide(total, weight, out=np.zeros_like(total), where=~empty)
    if not empty.any():
        return mean
    if min(total.shape) == 1 and max(total.shape) == 1:
        return mean
    # Each cell weighs at most 1, so that full cells do not drown the ones at a gap's rim.
    unit = np.minimum(weight, 1.0)
    coarser = _push_pull(_halve(mean * unit), _halve(unit))
    del unit
    rows, columns = np.nonzero(empty)  # only there is anything worked out: a large scene has millions of full cells
    mean[rows, columns] = _double(coarser, rows, columns)
    flat, cells, (up, down, left, right) = mean.reshape(-1), *_neighbours(rows, columns, mean.shape)
    for _ in range(8):
        flat[cells] = (flat[up] + flat[down] + flat[left] + flat[right]) / 4
    return mean


def _halve(values: NDArray[np.float64]) -> NDArray[np.float64]:
    odd = [(0, n % 2) for n in values.shape]
    padded = np.pad(values, odd) if any(n for _, n in odd) else values
    return padded[0::2, 0::2] + padded[1::2, 0::2] + padded[0::2, 1::2] + padded[1::2, 1::2]


def _double(coarse: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float64]:
    """Bilinear refinement by two, cell-centred, at single cells (n,)."""
    row, row_share = _split((rows + 0.5) / 2 - 0.5, coarse.shape[0])
    column, column_share = _split((columns + 0.5) / 2 - 0.5, coarse.shape[1])
    below, right = np.minimum(row + 1, coarse.shape[0] - 1), np.minimum(column + 1, coarse.shape[1] - 1)
    upper = coarse[row, column] * (1 - column_share) + coarse[row, right] * column_share
    lower = coarse[below, column] * (1 - column_share) + coarse[below, right] * column_share
    return np.asarray(upper * (1 - row_share) + lower * row_share)


def _neighbours(
    rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], tuple[NDArray[np.intp], ...]]:
    """Single cells (n,) as indices into all of them, and their four neighbours; beyond the edge a cell is its own."""
    last_row, last_column = shape[0] - 1, shape[1] - 1
    line = rows * shape[1]
    above, below = np.maximum(rows - 1, 0) * shape[1], np.minimum(rows + 1, last_row) * shape[1]
    before, after = np.maximum(columns - 1, 0), np.minimum(columns + 1, last_column)
    return line + columns, (above + columns, below + columns, line + before, line + after)


def _split(index: NDArray[np.float64], length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Whole and fractional part of an index clipped to 0..length-1."""
    clipped = np.clip(index, 0, length - 1)
    whole = np.minimum(clipped.astype(np.intp), max(length - 2, 0))
    return whole, clipped - whole


def sample_cells(
    cells: NDArray[np.float64],
    cell: int,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    chosen: Sequence[int] | slice = slice(None),
    *,
    around: bool = False,
) -> NDArray[np.float32]:
    """The low-resolution fill at pixel indices, bilinear between cell centres and constant beyond the outermost.

    Parameters
    ----------
    cells : (date, .., cell row, cell column), finite.
    chosen : dates to sample.
    around : beyond the last column comes the first one.

    Returns
    -------
    float32 (date, .., row, column)
    """
    down = _interpolation((rows + 0.5) / cell - 0.5, cells.shape[-2])
    place, width = (columns + 0.5) / cell - 0.5, cells.shape[-1]
    beyond = around and (place.min() < 0 or place.max() > width - 1)
    across = _around(place, width) if beyond else _interpolation(place, width)
    part = cells[chosen, ..., down.places, across.places].astype(np.float32)
    sampled: NDArray[np.float32] = down.shares @ (part @ across.shares.T)
    return sampled


class _Interpolation(NamedTuple):
    """Linear interpolation along one axis as a product of matrices, which is several times faster than its sums."""

    places: slice
    """The cells that take part."""
    shares: NDArray[np.float32]
    """(pixel, cell)."""


def _interpolation(index: NDArray[np.float64], length: int) -> _Interpolation:
    """Of fractional cell indices (pixel,)."""
    whole, share = _split(index, length)
    after = np.minimum(whole + 1, length - 1)
    first = int(whole.min())
    shares = np.zeros((len(index), int(after.max()) + 1 - first), np.float32)
    pixel = np.arange(len(index))
    shares[pixel, whole - first] = 1 - share
    shares[pixel, after - first] += share
    return _Interpolation(slice(first, first + shares.shape[1]), shares)


def _around(index: NDArray[np.float64], length: int) -> _Interpolation:
    """The same where the first cell follows the last one."""
    whole = np.floor(index).astype(np.intp)
    share = index - whole
    shares = np.zeros((len(index), length), np.float32)
    pixel = np.arange(len(index))
    shares[pixel, whole % length] = 1 - share
    shares[pixel, (whole + 1) % length] += share
    return _Interpolation(slice(0, length), shares)

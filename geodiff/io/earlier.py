"""A product of fewer dates that is being extended: where its arrays are, and which of their chunks are taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import TargetError
from geodiff.io.contents import Cube, OutputArray
from geodiff.io.cube import FileSource, stored_numbers
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io.contents import Region

__all__ = ["Earlier", "Spliced", "open_earlier"]

_MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Earlier:
    """The product as it is, and what of each variable stays."""

    path: str
    source: FileSource
    places: Mapping[str, tuple[int, ...]]
    """By variable: each date's place among those of the earlier product, -1 where it is new."""
    same: Mapping[str, NDArray[np.bool_]]
    """By variable: (date, chunk row, chunk column), True where every layer is taken over."""
    chunk: int
    """Rows and columns of those chunks."""

    def spliced(self, variable: str, cube: Cube) -> Cube | Spliced:
        """A layer of a variable, with what stays read from the earlier product."""
        if variable not in self.same:
            return cube
        return Spliced(cube, self.path, self.source, self.places[variable], self.same[variable], self.chunk)


def open_earlier(
    target: str, places: Mapping[str, tuple[int, ...]], same: Mapping[str, NDArray[np.bool_]], chunk: int
) -> Earlier:
    """Open the product at `target`, a local Zarr store or NetCDF file."""
    source: FileSource
    if Path(target.rstrip("/")).suffix.lower() == ".zarr":
        from geodiff.io.zarr import ZarrSource

        source = ZarrSource(target)
    else:
        from geodiff.io.netcdf import NetcdfSource

        source = NetcdfSource(target, "h5netcdf")
    source.fresh()
    return Earlier(target, source, places, same, chunk)


@dataclass(frozen=True, slots=True)
class Spliced:
    """A layer of which some chunks are taken over from an earlier product as they are stored."""

    cube: Cube
    path: str
    source: FileSource
    places: tuple[int, ...]
    same: NDArray[np.bool_]
    chunk: int

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """One date, all bands, whole parts of rows and as many columns as fit and come from one place."""
        for date, window, stays in self.parts(array):
            region = self.region(array, date, window)
            if stays:
                yield region, self._earlier(array, self.region(array, self.places[date], window))
                continue
            numbers = self.cube.read(date, window, array.dtype)
            for kept in self._kept(date, window):  # of a shard some chunks may stay
                there = self.region(array, date, kept)
                place = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(there, region, strict=True))
                numbers[place] = self._earlier(array, self.region(array, self.places[date], kept))
            yield region, numbers

    def parts(self, array: OutputArray) -> Iterator[tuple[int, Window, bool]]:
        """(date, window, whether all of it is taken over) for every part of the array, in order.

        A part is a chunk of the array or, where it is sharded, a shard, which is several of the flags' chunks.
        """
        sizes, steps = (dict(zip(array.dims, numbers, strict=True)) for numbers in (array.shape, array.chunks))
        layout, whole = self.cube.layout, self.cube.window
        rows, columns = steps[layout.y], steps[layout.x]
        line = array.dtype.itemsize * rows * columns
        for dim in array.dims:
            line *= sizes[dim] if dim not in {layout.time, layout.y, layout.x} else 1
        most = max(1, _MOST_BYTES // line)
        same = _by_part(_by_part(self.same, rows // self.chunk, 1), columns // self.chunk, 2)
        for date, strip in enumerate(same):
            for row, chunks in enumerate(strip):
                for stays, first, last in _runs(chunks.tolist(), most):
                    window = Window(row * rows, first * columns, rows, (last - first) * columns).intersect(whole)
                    if window is not None:
                        yield date, window, stays

    def _kept(self, date: int, window: Window) -> Iterator[Window]:
        """Chunks of a part that stay although not all of it does."""
        size = self.chunk
        for row in range(window.row // size, -(-window.stop[0] // size)):
            for column in range(window.column // size, -(-window.stop[1] // size)):
                if self.same[date, row, column]:
                    kept = Window(row * size, column * size, size, size).intersect(window)
                    if kept is not None:
                        yield kept

    def region(self, array: OutputArray, date: int, window: Window) -> Region:
        """Slices of the array, the axes in front whole."""
        front = len(array.dims) - len(self.cube.layout.dims)
        return (*(slice(0, n) for n in array.shape[:front]), *self.cube.layout.region(date, window))

    def _earlier(self, array: OutputArray, region: Region) -> NDArray[Any]:
        held = self.source.dataset().variables.get(array.name)
        time = self.cube.layout.time
        alike = held is not None and held.dims == array.dims and held.dtype == array.dtype
        sizes = zip(array.dims, array.shape, strict=True)
        if held is None or not alike or any(held.sizes[dim] != n for dim, n in sizes if dim != time):
            raise TargetError(
                f"{self.path} cannot be extended: its array {array.name} is "
                f"{'gone' if held is None else f'{held.dtype} {dict(held.sizes)}'}, where {array.dtype} "
                f"{array.dims} is wanted; use --overwrite"
            )
        return stored_numbers(held, array.name, region)


def _by_part(flags: NDArray[np.bool_], count: int, axis: int) -> NDArray[np.bool_]:
    """Flags of parts of `count` chunks each: whether all of a part stays."""
    if count <= 1:
        return flags
    starts = range(0, flags.shape[axis], count)
    return np.stack([flags.take(range(s, min(s + count, flags.shape[axis])), axis).all(axis) for s in starts], axis)


def _runs(flags: list[bool], most: int) -> Iterator[tuple[bool, int, int]]:
    """Runs of equal flags, cut to `most`: (flag, first, behind the last)."""
    at = 0
    for flag, run in groupby(flags):
        end = at + len(list(run))
        for first in range(at, end, most):
            yield flag, first, min(first + most, end)
        at = end

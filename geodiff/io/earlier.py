"""A product of fewer dates that is being extended: where its arrays are, and which of their chunks are taken over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.errors import TargetError
from geodiff.io.contents import Cube, OutputArray
from geodiff.io.cube import FileSource, stored_numbers
from geodiff.lattice import Window

if TYPE_CHECKING:
    import numpy as np
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

    def spliced(self, variable: str, cube: Cube) -> Cube | Spliced:
        """A layer of a variable, with what stays read from the earlier product."""
        if variable not in self.same:
            return cube
        return Spliced(cube, self.path, self.source, self.places[variable], self.same[variable])


def open_earlier(target: str, places: Mapping[str, tuple[int, ...]], same: Mapping[str, NDArray[np.bool_]]) -> Earlier:
    """Open the product at `target`, a local Zarr store or NetCDF file."""
    source: FileSource
    if Path(target.rstrip("/")).suffix.lower() == ".zarr":
        from geodiff.io.zarr import ZarrSource

        source = ZarrSource(target)
    else:
        from geodiff.io.netcdf import NetcdfSource

        source = NetcdfSource(target, "h5netcdf")
    source.fresh()
    return Earlier(target, source, places, same)


@dataclass(frozen=True, slots=True)
class Spliced:
    """A layer of which some chunks are taken over from an earlier product as they are stored."""

    cube: Cube
    path: str
    source: FileSource
    places: tuple[int, ...]
    same: NDArray[np.bool_]

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """One date, all bands, whole chunks of rows and as many columns as fit and come from one place."""
        for date, window, stays in self.parts(array):
            region = self.region(array, date, window)
            if stays:
                yield region, self._earlier(array, self.region(array, self.places[date], window))
            else:
                yield region, self.cube.read(date, window, array.dtype)

    def parts(self, array: OutputArray) -> Iterator[tuple[int, Window, bool]]:
        """(date, window, whether it is taken over) for every part of the array, in order."""
        sizes, steps = (dict(zip(array.dims, numbers, strict=True)) for numbers in (array.shape, array.chunks))
        layout, whole = self.cube.layout, self.cube.window
        rows, columns = steps[layout.y], steps[layout.x]
        line = array.dtype.itemsize * rows * columns
        for dim in array.dims:
            line *= sizes[dim] if dim not in {layout.time, layout.y, layout.x} else 1
        most = max(1, _MOST_BYTES // line)
        for date, strip in enumerate(self.same):
            for row, chunks in enumerate(strip):
                for stays, first, last in _runs(chunks.tolist(), most):
                    window = Window(row * rows, first * columns, rows, (last - first) * columns).intersect(whole)
                    if window is not None:
                        yield date, window, stays

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

    def lazy(self, array: OutputArray) -> Any:
        """The layer itself: what is asked for lazily extends nothing."""
        return self.cube.lazy(array)


def _runs(flags: list[bool], most: int) -> Iterator[tuple[bool, int, int]]:
    """Runs of equal flags, cut to `most`: (flag, first, behind the last)."""
    at = 0
    for flag, run in groupby(flags):
        end = at + len(list(run))
        for first in range(at, end, most):
            yield flag, first, min(first + most, end)
        at = end

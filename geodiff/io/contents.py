"""Arrays of a product and where their numbers come from: each is written region by region, or handed on lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as cartesian
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geodiff.io import Reader, Variable
from geodiff.io.cube import Layout, Source, stored_numbers
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CHUNK",
    "Cube",
    "Numbers",
    "OutputArray",
    "PickedPixels",
    "PickedReader",
    "ReaderPixels",
    "Stored",
    "at_hand",
    "cube_array",
    "free_name",
    "line",
    "scalar",
]

Region = tuple[slice, ...]

CHUNK = 256
"""Rows and columns of a chunk."""
_BAND_BYTES = 2 * 2**20
_BLOCK_BYTES = 32 * 2**20


class Content(Protocol):
    """Where an array's numbers come from."""

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """Parts that cover the array, each of whole chunks and of bounded size."""
        ...


@dataclass(frozen=True, slots=True)
class OutputArray:
    """One array of the product, in its stored form."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    attributes: Mapping[str, Any]
    """With `_FillValue`, `scale_factor` and the others as they are to be stored."""
    chunks: tuple[int, ...]
    content: Content
    exact: bool = False
    """Every bit counts, also in chunks that equal the fill value."""

    def regions(self) -> Iterator[tuple[Region, NDArray[Any]]]:
        """Parts that cover the array, each of whole chunks and of bounded size."""
        return self.content.regions(self)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A small array at hand."""

    values: NDArray[Any]

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """All of it."""
        yield tuple(slice(0, n) for n in array.shape), self.values


@dataclass(frozen=True, slots=True)
class Stored:
    """An array of the source, copied as it is stored."""

    source: Source

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """Whole chunks, many at a time."""
        variable = self.source.dataset().variables[array.name]
        for region in _slabs(array.shape, array.chunks, array.dtype.itemsize):
            yield region, stored_numbers(variable, array.name, region)


@dataclass(frozen=True, slots=True)
class Cube:
    """A layer that is sliced as (..., date, band, row, column) and turned into the target's dimensions."""

    pixels: Any
    layout: Layout
    dates: int
    window: Window
    """The whole raster."""

    @classmethod
    def of(cls, pixels: Any, layout: Layout, variable: Variable) -> Cube:
        """A layer of a variable."""
        return cls(pixels, layout, variable.shape[0], Window(0, 0, *variable.shape[2:]))

    def regions(self, array: OutputArray) -> Iterator[tuple[Region, NDArray[Any]]]:
        """One date, all bands, whole chunks of rows and as many columns as fit."""
        front = len(array.dims) - len(self.layout.dims)
        rows, columns = (
            dict(zip(array.dims, array.chunks, strict=True))[dim] for dim in (self.layout.y, self.layout.x)
        )
        line = prod(array.shape[:front]) * self.layout.bands * rows * columns * array.dtype.itemsize
        columns *= max(1, _BLOCK_BYTES // max(1, line))
        for date, row, column in cartesian(
            range(self.dates), range(0, self.window.height, rows), range(0, self.window.width, columns)
        ):
            window = Window(row, column, rows, columns).intersect(self.window)
            if window is not None:
                ahead = tuple(slice(0, n) for n in array.shape[:front])
                yield (*ahead, *self.layout.region(date, window)), self.read(date, window, array.dtype)

    def read(self, date: int, window: Window, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A region in the target's dimensions and stored dtype."""
        rows, columns = window.slices
        block = np.asarray(self.pixels[(Ellipsis, date, slice(None), rows, columns)])
        block = block.view(dtype) if block.dtype != dtype and block.dtype.itemsize == dtype.itemsize else block
        return np.ascontiguousarray(self.layout.arrange(block.astype(dtype, copy=False)))


@dataclass(frozen=True, slots=True)
class ReaderPixels:
    """A reader as something that is sliced like a layer."""

    variable: Variable

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.variable.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        date, bands, rows, columns = key[-4:]
        window = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        read: NDArray[Any] = self.variable.reader.read(date, window)[bands]
        return read


@dataclass(frozen=True, slots=True)
class PickedReader:
    """Some bands of what another reader reads."""

    reader: Reader
    bands: tuple[int, ...]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) of those bands."""
        return self.reader.read(date, window)[list(self.bands)]

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """As the other says."""
        return self.reader.valid(date, window)


@dataclass(frozen=True, slots=True)
class PickedPixels:
    """Some bands of a layer, sliced like it, one date and all bands at a time."""

    pixels: Any
    bands: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.pixels.dtype
        return dtype

    @property
    def shape(self) -> tuple[int, ...]:
        *front, _, rows, columns = self.pixels.shape
        return (*front, len(self.bands), rows, columns)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.pixels[key])[..., list(self.bands), :, :]


def cube_array(
    name: str,
    front: tuple[str, ...],
    count: tuple[int, ...],
    layout: Layout,
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    content: Content,
    *,
    exact: bool = False,
) -> OutputArray:
    """One date a chunk, 256 x 256 pixels; all bands together while that is under 2 MiB."""
    together = layout.bands * CHUNK * CHUNK * dtype.itemsize <= _BAND_BYTES
    sizes = {dim: layout.sizes[dim] if together else 1 for dim in layout.extras}
    sizes |= {layout.y: min(CHUNK, layout.sizes[layout.y]), layout.x: min(CHUNK, layout.sizes[layout.x])}
    chunks = (*(1 for _ in front), *(sizes.get(dim, 1) for dim in layout.dims))
    return OutputArray(
        name, (*front, *layout.dims), (*count, *layout.shape), dtype, attributes, chunks, content, exact=exact
    )


def line(name: str, values: NDArray[Any], attributes: Mapping[str, Any]) -> OutputArray:
    """A coordinate: numbers along the one dimension that is called as it is."""
    content = Numbers(values)
    return OutputArray(name, (name,), values.shape, values.dtype, attributes, values.shape, content, exact=True)


def scalar(name: str, attributes: Mapping[str, Any]) -> OutputArray:
    """A variable without dimensions that only carries attributes, as a grid mapping does."""
    values = np.array(0, np.int32)
    return OutputArray(name, (), (), values.dtype, attributes, (), Numbers(values), exact=True)


def free_name(name: str, taken: set[str]) -> str:
    """That name where it is not taken, else with the first number behind it that is free."""
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 9999))) if n not in taken)


def at_hand(array: OutputArray) -> Any:
    """The numbers of a layer that is NumPy or Dask, all of them, in the array's dimensions."""
    content = array.content
    if isinstance(content, Numbers):
        return content.values
    assert isinstance(content, Cube)
    layout, whole = content.layout, content.pixels
    front = whole.ndim - 4
    if whole.dtype != array.dtype:
        whole = whole.view(array.dtype) if whole.dtype.itemsize == array.dtype.itemsize else whole.astype(array.dtype)
    times = (layout.sizes[layout.time],) if layout.time is not None else ()
    spread = whole.reshape(*whole.shape[:front], *times, *(layout.sizes[d] for d in layout.extras), *whole.shape[-2:])
    order = [*((layout.time,) if times else ()), *layout.extras, layout.y, layout.x]
    return spread.transpose([*range(front), *(front + order.index(dim) for dim in layout.dims)])


def _slabs(shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> Iterator[Region]:
    """Regions of whole chunks and about 32 MiB that cover an array."""
    steps = list(chunks)
    for axis in reversed(range(len(steps))):
        room = _BLOCK_BYTES // max(1, prod(steps) * itemsize)
        steps[axis] = max(1, min(-(-shape[axis] // steps[axis]), max(1, room)) * steps[axis])
    for starts in cartesian(*(range(0, n, step) for n, step in zip(shape, steps, strict=True))):
        yield tuple(slice(a, min(a + step, n)) for a, step, n in zip(starts, steps, shape, strict=True))

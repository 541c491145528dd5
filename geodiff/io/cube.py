"""One array of a dataset seen as (date, band, row, column), whatever its dimensions are called and in which order."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geodiff.errors import SourceError

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = [
    "CubeReader",
    "FileSource",
    "Layout",
    "MemorySource",
    "Source",
    "files_closed",
    "native",
    "native_dtype",
    "pick",
    "stored_numbers",
]

_SMALL = 16 << 20
"""Bytes of a variable that is kept once it was read."""
_HANDLES = 16
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Layout:
    """Which dimension of an array is which."""

    dims: tuple[str, ...]
    """Dimensions in the array's own order."""
    sizes: Mapping[str, int]
    time: str | None
    y: str
    x: str

    @property
    def extras(self) -> tuple[str, ...]:
        """Dimensions that are neither time nor space (level, member, wavelength): together they are the bands."""
        return tuple(dim for dim in self.dims if dim not in {self.time, self.y, self.x})

    @property
    def bands(self) -> int:
        """How many bands the extra dimensions make."""
        return prod(self.sizes[dim] for dim in self.extras)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the array's own order."""
        return tuple(self.sizes[dim] for dim in self.dims)

    def region(self, date: int, window: Window) -> tuple[slice, ...]:
        """Slices, in the array's own order, of all bands of one date in a window."""
        rows, columns = window.slices
        cut = {self.y: rows, self.x: columns}
        if self.time is not None:
            cut[self.time] = slice(date, date + 1)
        return tuple(cut.get(dim, slice(0, self.sizes[dim])) for dim in self.dims)

    def collect(self, raw: NDArray[Any]) -> NDArray[Any]:
        """A region as read, in the array's own order, to (band, row, column)."""
        order = (*((self.time,) if self.time is not None else ()), *self.extras, self.y, self.x)
        turned = raw.transpose([self.dims.index(dim) for dim in order])
        return turned.reshape(self.bands, *turned.shape[-2:])

    def arrange(self, block: NDArray[Any]) -> NDArray[Any]:
        """(..., band, row, column) to a region in the array's own order, the axes in front kept."""
        front = block.shape[:-3]
        one = (1,) if self.time is not None else ()
        spread = block.reshape(*front, *one, *(self.sizes[dim] for dim in self.extras), *block.shape[-2:])
        order = (*((self.time,) if self.time is not None else ()), *self.extras, self.y, self.x)
        axes = [*range(len(front)), *(len(front) + order.index(dim) for dim in self.dims)]
        return spread.transpose(axes)


class Source(Protocol):
    """Where a dataset comes from; equal sources give equal datasets, in any process."""

    def dataset(self) -> xr.Dataset:
        """The dataset with numbers and attributes as they are stored."""
        ...


@dataclass(frozen=True, eq=False)
class MemorySource:
    """A dataset that is at hand already; pickles with what it holds."""

    held: xr.Dataset

    def dataset(self) -> xr.Dataset:
        """The dataset itself."""
        return self.held


class FileSource:
    """A dataset in a file or store, opened once a process and thread: the libraries below share nothing safely."""

    def dataset(self) -> xr.Dataset:
        """The dataset, opened by this thread; it stays open until fifteen others were."""
        handles, key = _handles(), (os.getpid(), self)
        if key not in handles:
            handles[key] = self.open()
            if len(handles) > _HANDLES:
                handles.popitem(last=False)[1].close()
        handles.move_to_end(key)
        return handles[key]

    def fresh(self) -> xr.Dataset:
        """The dataset as it is now, in case the file was replaced since this thread opened it."""
        held = _handles().pop((os.getpid(), self), None)
        if held is not None:
            held.close()
        return self.dataset()

    def open(self) -> xr.Dataset:
        """Open it anew."""
        raise NotImplementedError


def _handles() -> OrderedDict[Hashable, xr.Dataset]:
    handles: OrderedDict[Hashable, xr.Dataset] = _local.__dict__.setdefault("handles", OrderedDict())
    return handles


def close_handles() -> None:
    """Close what this thread has open; for tests and before a file is replaced."""
    handles = _handles()
    while handles:
        handles.popitem()[1].close()


@contextmanager
def files_closed() -> Iterator[None]:
    """Leave no file open behind, whatever happens: HDF5 locks those it reads, and who writes one anew then loses it."""
    try:
        yield
    finally:
        close_handles()


@dataclass(frozen=True, slots=True)
class CubeReader:
    """Reads windows of one array of a dataset."""

    source: Source
    name: str
    layout: Layout
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype("f4"))
    """What the stored numbers mean: another sign than stored where `_Unsigned` says so."""

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column), a copy in the stored dtype and the machine's byte order."""
        variable = self.source.dataset().variables[self.name]
        raw = stored_numbers(variable, self.name, self.layout.region(date, window))
        return np.array(self.layout.collect(raw).view(self.dtype), order="C", copy=True)

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """None: these formats say missing in the numbers themselves."""
        return None


def stored_numbers(variable: xr.Variable, name: str, region: Any) -> NDArray[Any]:
    """A region of a variable as it is stored; raises SourceError for what its library cannot decode.

    Small variables are read whole the first time and stay with their open file: to find a region costs xarray
    milliseconds, and a fit asks for hundreds.
    """
    try:
        if variable.chunks is None and variable.dtype.kind in "biuf" and variable.nbytes <= _SMALL:
            variable.load()
        return native(_numbers(variable[region]))
    except (ValueError, TypeError, RuntimeError, KeyError) as error:  # what h5py and zarr raise for odd contents
        raise SourceError(f"variable {name} cannot be read ({error}); remove it from the source first") from error


def _numbers(part: xr.Variable) -> NDArray[Any]:
    """The numbers of a part; Dask ones are computed here and now, by this thread.

    A window is read within a task, whose neighbours may hold every thread of a cluster: asking the cluster would be
    waiting for oneself, and would send what can be read here over the wire. What the cluster holds already (persisted)
    can only come from there.
    """
    if part.chunks is None:
        return np.asarray(part.values)
    return np.asarray(part.data.compute(scheduler=None if _persisted(part.data) else "synchronous"))


def _persisted(array: Any) -> bool:
    """Whether a Dask array's numbers lie in the memory of a cluster."""
    tables = [getattr(layer, "mapping", None) for layer in array.dask.layers.values()]
    firsts = [next(iter(table.values()), None) for table in tables if isinstance(table, dict)]
    return any(type(first).__name__ == "Future" for first in firsts)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the machine's byte order; strings of any length as Python's."""
    return array.astype(native_dtype(array.dtype), copy=False)


def native_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in the machine's byte order; objects for strings of any length."""
    return np.dtype(object) if dtype.kind == "T" else dtype.newbyteorder("=")


def pick(variable: xr.Variable, key: str, default: Any = None) -> Any:
    """A CF attribute, wherever xarray has put it: in the attributes, or among the encodings."""
    return variable.attrs.get(key, variable.encoding.get(key, default))

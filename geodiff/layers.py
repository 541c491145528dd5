"""The product's layers as seen through the source, the gaps and the working store.

The working store holds estimates of blocks with gaps only. A view puts them together with everything else when a writer
asks for a window: known pixels come from the source as they are stored, so they stay bit-identical, and blocks without
gaps are copied at the speed of reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from geodiff.encoding import unpack
from geodiff.fillers import OBSERVED, OUTSIDE, UNFILLED
from geodiff.gaps import stored_reason
from geodiff.io import Kind, ProductVariable
from geodiff.io.filledbefore import filled_before
from geodiff.lattice import Window
from geodiff.scan import occupied_parts, read_occupied

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band
    from geodiff.io.filledbefore import FilledBefore
    from geodiff.io.store import WorkStore
    from geodiff.scan import GapReader
    from geodiff.scene import Cube

__all__ = ["LayerView", "product_variable"]


class _WindowReader(Protocol):
    def __call__(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column), or with one more axis in front."""
        ...


@dataclass(frozen=True, slots=True)
class LayerView:
    """An array-like (..., date, band, row, column) that is put together window by window when it is sliced."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: _WindowReader

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        *front, dates, bands, rows, columns = _expand(key, self.shape)
        row, height, row_key = _span(rows, self.shape[-2])
        column, width, column_key = _span(columns, self.shape[-1])
        window = Window(row, column, height, width)
        wanted = np.atleast_1d(np.arange(self.shape[-4])[dates])
        stack = np.stack([self.read(int(date), window) for date in wanted], axis=-4)
        if isinstance(dates, (int, np.integer)):
            return np.asarray(stack[(*front, 0, bands, row_key, column_key)])
        return np.asarray(stack[(*front, slice(None), bands, row_key, column_key)])


def _expand(key: Any, shape: tuple[int, ...]) -> list[Any]:
    """A key with every axis named: Ellipsis and missing axes become full slices."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in [p for p in parts if p is Ellipsis]:
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    return parts + [slice(None)] * (len(shape) - len(parts))


def _span(part: Any, length: int) -> tuple[int, int, Any]:
    """First index, count, and the key that remains to be applied to the part read."""
    if isinstance(part, (int, np.integer)):
        return int(part) % length, 1, 0
    start, stop, step = part.indices(length)
    if step != 1:
        raise IndexError(f"layers are read in whole runs of rows and columns, not in steps of {step}")
    return start, max(stop - start, 0), slice(None)


def product_variable(cube: Cube, gaps: GapReader, work: WorkStore) -> ProductVariable:
    """All layers of one cube; what no block filled is a copy of the source."""
    views = _Views(cube, gaps, work, filled_before(cube.variable))
    dates, bands, rows, columns = cube.variable.shape
    shape = (dates, bands, rows, columns)
    layers = work.layers(cube.name)
    members = work.array(cube.name, "members").shape[0] if "members" in layers else 0
    quantiles = work.array(cube.name, "quantiles").shape[0] if "quantiles" in layers else 0
    return ProductVariable(
        variable=cube.variable,
        value=LayerView(shape, cube.variable.dtype, views.value),
        source=LayerView(shape, np.dtype("u1"), views.source),
        reason=LayerView(shape, np.dtype("u2"), views.reason),
        standard_error=LayerView(shape, np.dtype("f4"), views.standard_error),
        members=LayerView((members, *shape), cube.variable.dtype, views.members) if members else None,
        quantiles=LayerView((quantiles, *shape), np.dtype("f4"), views.quantiles) if quantiles else None,
    )


@dataclass(frozen=True, slots=True)
class _Views:
    """How each layer of one cube is read; bands that are only copied count as observed."""

    cube: Cube
    gaps: GapReader
    work: WorkStore
    before: FilledBefore | None
    """Of the fill that the source is the product of: its estimates are known here, and go on to say what they are."""

    def _stored(self, layer: str, date: int, window: Window) -> NDArray[Any]:
        array, index = self.work.array(self.cube.name, layer), self.gaps.occupied
        wanted = None if index is None else index.wanted[date]
        front = tuple(int(n) for n in (*array.shape[:-4], array.shape[-3]))
        return read_occupied(array, (Ellipsis, date, slice(None)), window, wanted, front)

    def _parts(self, date: int, window: Window) -> list[Window]:
        """The parts of a window in which anything is missing; all of it where a band was not asked for."""
        index = self.gaps.occupied
        if index is None or self._others():
            return [window]
        return list(occupied_parts(index.reason[date] | index.wanted[date], window))

    def _others(self) -> list[tuple[int, Band]]:
        """Continuous bands that were not to be filled, by their place in the source."""
        bands = enumerate(self.cube.variable.bands)
        return [(i, band) for i, band in bands if band.kind is Kind.CONTINUOUS and i not in self.cube.bands]

    def _by_parts(
        self, date: int, window: Window, dtype: str, read: Callable[[int, Window], NDArray[Any]]
    ) -> NDArray[Any]:
        """(band, row, column) of all bands, 0 without a look where nothing is missing and nothing was filled before."""
        whole = np.zeros((len(self.cube.variable.bands), *window.shape), dtype)
        for part in self._parts(date, window):
            whole[(..., *part.within(window))] = read(date, part)
        return whole

    def _or_before(
        self, now: NDArray[Any], layer: str, date: int, window: Window, codes: NDArray[np.uint8] | None = None
    ) -> NDArray[Any]:
        """A layer with what it said before of values that an earlier fill estimated and that are known now."""
        if self.before is None:
            return now
        earlier = self.before.source.read(date, window)
        codes = self._by_parts(date, window, "u1", self._source) if codes is None else codes
        stays = (codes == OBSERVED) & (earlier != OBSERVED) & (earlier < OUTSIDE)
        return np.where(stays, getattr(self.before, layer).read(date, window), now) if stays.any() else now

    def _spread(self, part: NDArray[Any], fill: float, window: Window) -> NDArray[Any]:
        """Put the filled bands (..., band, row, column) among all bands."""
        shape = (*part.shape[:-3], len(self.cube.variable.bands), *window.shape)
        whole = np.full(shape, fill, part.dtype)
        whole[..., list(self.cube.bands), :, :] = part
        return whole

    def _unasked(self, date: int, window: Window) -> NDArray[np.uint16]:
        """(band, row, column) of all bands: why values of continuous bands that were not to be filled are missing."""
        reason = np.zeros((len(self.cube.variable.bands), *window.shape), np.uint16)
        others = self._others()
        if others:
            places, reader = [place for place, _ in others], self.cube.variable.reader
            stored, encodings = reader.read(date, window)[places], [band.encoding for _, band in others]
            reason[places] = stored_reason(stored, encodings, reader.valid(date, window))
        return reason

    def _estimated(self, date: int, window: Window) -> NDArray[np.bool_]:
        """(band, row, column) of the filled bands: True where an estimate stands in the working store."""
        codes = self._stored("source", date, window)
        return np.asarray((codes != OBSERVED) & (codes < OUTSIDE))

    def _blank(self, values: NDArray[Any], date: int, window: Window, estimated: NDArray[np.bool_]) -> None:
        """Nodata, where the band has such a number, in what was to be filled and was not: (..., band, row, column).

        What a mask calls missing still bears the cloud's number in the source. Dates not asked for are copies.
        """
        markers = [self.cube.variable.bands[band].encoding.nodata for band in self.cube.bands]
        if date not in self.cube.targets or all(nodata is None for nodata in markers):
            return
        left = self.gaps.read(date, window).wanted & ~estimated
        for band, nodata, where in zip(self.cube.bands, markers, left, strict=True):
            if nodata is not None and where.any():
                values[..., band, :, :][..., where] = nodata

    def value(self, date: int, window: Window) -> NDArray[Any]:
        values = self.cube.variable.reader.read(date, window)
        parts = self._parts(date, window)
        values = np.array(values) if parts else values  # a reader may hand out the very numbers it holds
        bands = list(self.cube.bands)
        for part in parts:
            estimated = self._estimated(date, part)
            if estimated.any():
                here = (bands, *part.within(window))
                values[here] = np.where(estimated, self._stored("value", date, part), values[here])
            self._blank(values[(..., *part.within(window))], date, part, estimated)
        return values

    def members(self, date: int, window: Window) -> NDArray[Any]:
        values = self.cube.variable.reader.read(date, window)
        drawn = self.work.array(self.cube.name, "members").shape[0]
        repeated = np.repeat(values[None], drawn, axis=0)
        estimated = self._estimated(date, window)
        if estimated.any():
            bands = list(self.cube.bands)
            repeated[:, bands] = np.where(estimated, self._stored("members", date, window), repeated[:, bands])
        self._blank(repeated, date, window, estimated)
        return repeated

    def source(self, date: int, window: Window) -> NDArray[np.uint8]:
        codes = self._by_parts(date, window, "u1", self._source)
        return self._or_before(codes, "source", date, window, codes)

    def _source(self, date: int, window: Window) -> NDArray[np.uint8]:
        gaps = self.gaps.read(date, window)
        codes = np.where(gaps.missing, np.uint8(UNFILLED), np.uint8(OBSERVED))
        codes[gaps.missing & ~gaps.fillable] = OUTSIDE
        stored = self._stored("source", date, window)
        whole = self._spread(np.where(stored != OBSERVED, stored, codes).astype(np.uint8), OBSERVED, window)
        whole[self._unasked(date, window) != 0] = UNFILLED
        return whole

    def reason(self, date: int, window: Window) -> NDArray[np.uint16]:
        return self._or_before(self._by_parts(date, window, "u2", self._reason), "reason", date, window)

    def _reason(self, date: int, window: Window) -> NDArray[np.uint16]:
        return self._spread(self.gaps.read(date, window).reason, 0, window) | self._unasked(date, window)

    def standard_error(self, date: int, window: Window) -> NDArray[np.float32]:
        errors = self._by_parts(date, window, "f4", self._standard_error)
        return self._or_before(errors, "standard_error", date, window)

    def _standard_error(self, date: int, window: Window) -> NDArray[np.float32]:
        unknown = self.gaps.read(date, window).missing & ~self._estimated(date, window)
        errors = self._stored("standard_error", date, window)
        whole = self._spread(np.where(unknown, np.float32(np.nan), errors), 0.0, window)
        whole[self._unasked(date, window) != 0] = np.nan
        return whole

    def quantiles(self, date: int, window: Window) -> NDArray[np.float32]:
        """Estimated quantiles; at known pixels the observation itself, NaN where nothing is known."""
        stored = self.cube.variable.reader.read(date, window)
        observed = np.full(stored.shape, np.nan, np.float32)
        for place, band in enumerate(self.cube.variable.bands):
            if band.kind is Kind.CONTINUOUS:
                observed[place] = unpack(stored[place], band.encoding)[0]
        observed[self._reason(date, window) != 0] = np.nan
        array = self.work.array(self.cube.name, "quantiles")
        whole, filled = np.repeat(observed[None], array.shape[0], axis=0), list(self.cube.bands)
        estimated = self._estimated(date, window)
        whole[:, filled] = np.where(estimated, self._stored("quantiles", date, window), whole[:, filled])
        return whole

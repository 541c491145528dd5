"""One pass over the source: why pixels are missing, where an estimate is allowed, and the scene's low-resolution mean.

The reasons go to the working store, so that everything after reads them back instead of decoding flags again. A second
look at the reasons alone, strip by strip, finds the collar and counts the gaps by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.collar import find_collar
from geodiff.encoding import Normalisation, unpack
from geodiff.gaps import Gaps, auto_fillable, collar_candidates, never_seen, outside_counts, tally
from geodiff.lattice import Window
from geodiff.pyramid import CellSums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scene import Cube

__all__ = ["CHUNK", "GapReader", "Scan", "scan_cube", "tile_count"]

CHUNK = 256
"""Rows and columns of the working store's chunks, and of a Zarr target's."""
_TILE = (2 * CHUNK, 8 * CHUNK)
_SAMPLE = 400_000
"""Known pixels a band from which the normalisation is taken."""

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class GapReader:
    """Gaps of one cube by window, from the scanned reasons; what blocks, fit and product all read."""

    reason: Any
    """(date, band, row, column) uint16 array of the working store, before the buffer."""
    outside: Any
    """(row, column) bool array: collar, never seen, or not in the user's fillable area."""
    shape: tuple[int, int]
    buffer: int
    everything: bool
    """`--fillable all`: the quality band's own fill is filled too."""

    def read(self, date: int, window: Window) -> Gaps:
        """Gaps (band, row, column) of a window inside the raster."""
        outer = window.expand(self.buffer).intersect(Window(0, 0, *self.shape))
        assert outer is not None
        reason = np.asarray(self.reason[(date, slice(None), *outer.slices)])
        outside = np.asarray(self.outside[outer.slices])
        fillable = np.broadcast_to(~outside, reason.shape) if self.everything else auto_fillable(reason, outside)
        gaps = Gaps.of(reason, fillable)
        if not self.buffer:
            return gaps
        gaps, inner = gaps.dilate(self.buffer), (slice(None), *window.within(outer))
        return Gaps.of(gaps.reason[inner], gaps.fillable[inner])


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a cube found."""

    gap_counts: NDArray[np.int64]
    """(date, chunk row, chunk column): pixels to fill in any band."""
    missing: int
    """Missing (date, band, row, column) values, whatever the cause."""
    wanted_by_date: NDArray[np.int64]
    """(date,): those of them that may be filled."""
    known: int
    total: int
    reasons: NDArray[np.int64]
    """How many values bear each reason bit, lowest first."""
    left_out: dict[str, int]
    """Missing values that `--fillable` leaves as they are, by cause."""
    cells: CellSums
    normalisations: tuple[Normalisation, ...]
    """One a band, fixed for the whole scene."""

    @property
    def wanted(self) -> int:
        """Missing values that may be filled, over all dates, asked for or not."""
        return int(self.wanted_by_date.sum())


def scan_cube(cube: Cube, reason: Any, outside: Any, buffer: int, tick: Tick = lambda: None) -> tuple[Scan, GapReader]:
    """Scan a cube once and write its reasons; arrays as in `GapReader`. `tick` is called after each tile."""
    cells, sample, candidates = _first_pass(cube, reason, outside, tick)
    _find_outside(cube, outside, candidates)
    gaps = GapReader(reason, outside, cube.shape, buffer, cube.rules.fill_everything)
    scan = _count(cube, gaps, cells, _normalise(cube, sample))
    return scan, gaps


def _tiles(shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(0, shape[0], _TILE[0]):
        for column in range(0, shape[1], _TILE[1]):
            yield Window(row, column, min(_TILE[0], shape[0] - row), min(_TILE[1], shape[1] - column))


def _first_pass(
    cube: Cube, reason: Any, outside: Any, tick: Tick
) -> tuple[CellSums, list[list[NDArray[np.float64]]], bool]:
    """Write reasons and what may be outside; gather cell sums and a sample of known values a band."""
    dates, bands = len(cube.variable.dates), len(cube.bands)
    cells = CellSums.empty(dates, bands, *cube.shape)
    sample: list[list[NDArray[np.float64]]] = [[] for _ in cube.bands]
    every = max(1, int(np.ceil(np.sqrt(dates * cube.shape[0] * cube.shape[1] / _SAMPLE))))
    may_be_outside = False
    for tile in _tiles(cube.shape):
        collar, unseen = np.ones(tile.shape, bool), np.ones(tile.shape, bool)
        for date in range(dates):
            why = cube.reason(date, tile)
            if why.any():
                reason[(date, slice(None), *tile.slices)] = why
            collar &= collar_candidates(why)
            unseen &= never_seen(why != 0)
            values = _values(cube, date, tile)
            cells.add(date, tile, values, why == 0)
            _gather(sample, values, why == 0, tile, every)
        beyond = _beyond(cube, tile, unseen if dates > 1 else collar)
        if beyond.any():
            outside[tile.slices] = beyond
            may_be_outside = True
        tick()
    return cells, sample, may_be_outside


def _beyond(cube: Cube, tile: Window, automatic: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is outside: the user's own area, or under `auto` what no date saw (final) or may be collar (not yet)."""
    if cube.rules.fill_everything:
        return np.zeros(tile.shape, bool)
    if cube.rules.fillable is not None:
        return ~cube.rules.fillable(tile)
    stack = len(cube.variable.dates) > 1
    return automatic if stack or cube.variable.georeferenced else np.zeros(tile.shape, bool)


def _find_outside(cube: Cube, outside: Any, candidates: bool) -> None:
    """Under `auto`, keep of the collar's candidates only what the opening leaves and the edge touches."""
    automatic = cube.rules.fillable is None and not cube.rules.fill_everything
    if not candidates or not automatic or len(cube.variable.dates) > 1:
        return

    def read(rows: slice) -> NDArray[np.bool_]:
        return np.asarray(outside[rows])

    collar = find_collar(read, cube.shape, CHUNK)
    held: list[tuple[slice, NDArray[np.bool_]]] = []
    for first in range(0, cube.shape[0], CHUNK):
        part = slice(first, min(first + CHUNK, cube.shape[0]))
        held.append((part, collar.outside(part, read)))
        if len(held) > 1:  # the strip below has been read, so this one's candidates are not needed any more
            done, kept = held.pop(0)
            outside[done] = kept
    for done, kept in held:
        outside[done] = kept


def _values(cube: Cube, date: int, window: Window) -> NDArray[np.float64]:
    """Transformed physical values (band, row, column) of the bands to fill."""
    stored = cube.read(date, window)
    plain = Normalisation(0.0, 1.0, cube.transform)
    physical = [unpack(n, cube.variable.bands[b].encoding)[0] for b, n in zip(cube.bands, stored, strict=True)]
    return np.stack([plain.transformed(p) for p in physical])


def _gather(
    sample: list[list[NDArray[np.float64]]],
    values: NDArray[np.float64],
    known: NDArray[np.bool_],
    tile: Window,
    every: int,
) -> None:
    """Add every n-th row's and column's known values of a tile, counted from the raster's first pixel."""
    thin = (slice(None), slice(-tile.row % every, None, every), slice(-tile.column % every, None, every))
    for band, (plane, good) in enumerate(zip(values[thin], known[thin], strict=True)):
        sample[band].append(plane[good])


def _normalise(cube: Cube, sample: list[list[NDArray[np.float64]]]) -> tuple[Normalisation, ...]:
    """Median and robust scale of each band's sampled values."""
    recipes = []
    for parts in sample:
        values = np.concatenate(parts) if parts else np.zeros(0)
        if not values.size:
            recipes.append(Normalisation(0.0, 1.0, cube.transform))
            continue
        low, centre, high = np.percentile(values, [16, 50, 84])
        # Half the 16-84 % range is a Gaussian's standard deviation; where it is 0 (mostly constant), the plain one.
        scale = (high - low) / 2 or float(values.std()) or 1.0
        recipes.append(Normalisation(float(centre), float(scale), cube.transform))
    return tuple(recipes)


def _count(cube: Cube, gaps: GapReader, cells: CellSums, normalisations: tuple[Normalisation, ...]) -> Scan:
    """Count gaps by chunk, and take buffered pixels out of the cell sums again."""
    rows, columns = cube.shape
    dates, bands = len(cube.variable.dates), len(cube.bands)
    counts = np.zeros((dates, -(-rows // CHUNK), -(-columns // CHUNK)), np.int64)
    missing, wanted = 0, np.zeros(dates, np.int64)
    bits = np.zeros(16, np.int64)
    left_out: dict[str, int] = {}
    for tile in _tiles(cube.shape):
        for date in range(dates):
            found = gaps.read(date, tile)
            if not found.missing.any():
                continue
            missing += int(found.missing.sum())
            wanted[date] += int(found.wanted.sum())
            bits += tally(found.reason)
            for cause, n in _left_out(cube, gaps, found, tile).items():
                left_out[cause] = left_out.get(cause, 0) + n
            _count_chunks(counts[date], tile, np.asarray(found.wanted.any(axis=0)))
            if gaps.buffer:
                bare = np.asarray(gaps.reason[(date, slice(None), *tile.slices)]) == 0
                cells.add(date, tile, _values(cube, date, tile), bare & found.missing, sign=-1)
    total = dates * bands * rows * columns
    return Scan(counts, missing, wanted, total - missing, total, bits, left_out, cells, normalisations)


def _left_out(cube: Cube, gaps: GapReader, found: Gaps, tile: Window) -> dict[str, int]:
    """Missing values that are not fillable, by cause."""
    outside = np.asarray(gaps.outside[tile.slices])
    if cube.rules.fillable is not None:
        return {"not in --fillable": int((found.missing & ~found.fillable).sum())}
    if gaps.everything:
        return {}
    stack = len(cube.variable.dates) > 1
    return outside_counts(found.reason, None if stack else outside, outside if stack else None)


def tile_count(shape: tuple[int, int]) -> int:
    """How many tiles a scan of that many rows and columns takes."""
    return -(-shape[0] // _TILE[0]) * -(-shape[1] // _TILE[1])


def _count_chunks(counts: NDArray[np.int64], tile: Window, wanted: NDArray[np.bool_]) -> None:
    row, column = tile.row // CHUNK, tile.column // CHUNK
    by_row = np.add.reduceat(wanted.astype(np.int64), np.arange(0, tile.height, CHUNK), axis=0)
    by_chunk = np.add.reduceat(by_row, np.arange(0, tile.width, CHUNK), axis=1)
    counts[row : row + by_chunk.shape[0], column : column + by_chunk.shape[1]] += by_chunk

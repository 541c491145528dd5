"""One pass over the source: why pixels are missing, where they may be filled, and the scene's low-resolution mean.

The reasons are written to the working store, so that later steps read them instead of decoding flags again. A second
pass over the reasons alone, strip by strip, finds the collar and counts the gaps by chunk.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.channels import Turns, bands_of, in_channels, outside_of_channels, reasons_of_channels, turns_in
from geodiff.collar import find_collar, in_long_runs
from geodiff.encoding import LOGARITHMS, Normalisation, unpack
from geodiff.errors import TargetError
from geodiff.gaps import Gaps, auto_fillable, below_ground, collar_candidates, never_seen, outside_counts, tally
from geodiff.lattice import Window
from geodiff.normalising import normalise
from geodiff.pyramid import CellSums
from geodiff.suspects import Suspect, suspects_of, told, told_of_edge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band
    from geodiff.scene import Cube

__all__ = [
    "CHUNK",
    "GapReader",
    "Occupied",
    "Scan",
    "beyond",
    "chunk_span",
    "occupied_parts",
    "read_occupied",
    "scan_cube",
    "tile_count",
]

CHUNK = 256
"""Rows and columns of the chunks of a Zarr target, by which gaps are counted."""
_TILE = (2 * CHUNK, 8 * CHUNK)
_SAMPLE = 400_000
"""Known pixels per band from which the normalisation is computed."""
_SCATTERED = 0.3
"""Known share below which nodata along the edge is not remarkable, as it is everywhere: stations, tracks."""
_ENDED = 0.1
"""Share of values at or below the least value of a logarithm above which a quantity is filled without it."""
_GOLDEN = 0.618
"""Shift of the sampled columns from row to row, as a share of their spacing: the golden section spreads them evenly."""
_KEPT = 1 << 20
"""Most pixels of the windows that a reader caches."""

Tick = Callable[[], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Occupied:
    """Which chunks hold anything; the others are blank and need not be read."""

    reason: NDArray[np.bool_]
    """(date, chunk row, chunk column): some value is missing, before the buffer."""
    outside: NDArray[np.bool_]
    """(chunk row, chunk column): some pixel is outside."""
    wanted: NDArray[np.bool_]
    """(date, chunk row, chunk column): some value is to be filled, buffer included."""

    @classmethod
    def empty(cls, dates: int, rows: int, columns: int) -> Occupied:
        plane = (-(-rows // CHUNK), -(-columns // CHUNK))
        return cls(np.zeros((dates, *plane), bool), np.zeros(plane, bool), np.zeros((dates, *plane), bool))


def chunk_span(window: Window) -> tuple[slice, slice]:
    """Slices of the chunks that a window touches."""
    (row, column), (bottom, right) = (window.row, window.column), window.stop
    return slice(row // CHUNK, -(-bottom // CHUNK)), slice(column // CHUNK, -(-right // CHUNK))


def occupied_parts(index: NDArray[np.bool_], window: Window) -> Iterator[Window]:
    """Full-height parts of a window whose chunks hold anything; `index` is (chunk row, chunk column)."""
    rows, columns = chunk_span(window)
    busy = np.concatenate([[False], index[rows, columns].any(axis=0), [False]])
    edges = np.flatnonzero(np.diff(busy.astype(np.int8))) + columns.start
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        left, right = max(int(first) * CHUNK, window.column), min(int(last) * CHUNK, window.stop[1])
        yield Window(window.row, left, window.height, right - left)


def read_occupied(
    array: Any, key: tuple[Any, ...], window: Window, index: NDArray[np.bool_] | None, front: tuple[int, ...]
) -> NDArray[Any]:
    """Read a window (*front, row, column) of a stored array at `key`; blank chunks are 0 without being read.

    Raises TargetError for a chunk that cannot be unpacked.
    """
    try:
        if index is None:
            return np.asarray(array[(*key, *window.slices)])
        values = np.zeros((*front, *window.shape), array.dtype)
        for part in occupied_parts(index, window):
            values[(..., *part.within(window))] = array[(*key, *part.slices)]
    except (RuntimeError, ValueError) as reason:  # of codecs
        raise TargetError(
            f"a chunk of {array.store_path} is damaged ({reason}); delete that working store, and give the same "
            "command again"
        ) from reason
    return values


def _read_outside(outside: Any, window: Window, index: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Read a window of the pixels outside, with leading axes as in `Cube.outside_shape`; see `read_occupied`."""
    bands = tuple(outside.shape[:-2])
    return read_occupied(outside, (slice(None),) * len(bands), window, index, bands)


@dataclass(frozen=True, slots=True)
class GapReader:
    """Gaps of one cube by window, from the scanned reasons; used by blocks, fit and product alike."""

    reason: Any
    """(date, band, row, column) uint16 array of the working store, before the buffer."""
    outside: Any
    """Bool array (`Cube.outside_shape`, row, column): collar, never seen, or not in the user's fillable area."""
    shape: tuple[int, int]
    buffer: int
    everything: bool
    """Fill also where the quality band itself has its fill value; False under `--fillable auto`."""
    occupied: Occupied | None = None
    """Which chunks have to be read; None reads all."""
    _latest: dict[tuple[int, Window], Gaps] = field(default_factory=dict, repr=False, compare=False)
    """Cache of small windows: a block needs its own more than once, the fit of a small raster a hundred times."""

    def read(self, date: int, window: Window) -> Gaps:
        """Gaps (band, row, column) of a window inside the raster."""
        found = self._latest.get((date, window))
        if found is None:
            found = self._read(date, window)
            pixels = window.height * window.width
            if pixels + sum(kept.height * kept.width for _, kept in self._latest) > _KEPT:
                self._latest.clear()
            if pixels <= _KEPT:
                self._latest[date, window] = found
        return found

    def _read(self, date: int, window: Window) -> Gaps:
        outer = window.expand(self.buffer).intersect(Window(0, 0, *self.shape))
        assert outer is not None
        gaps = Gaps.of(*self.stored(date, outer))
        if not self.buffer:
            return gaps
        gaps, inner = gaps.dilate(self.buffer), (slice(None), *window.within(outer))
        return Gaps.of(gaps.reason[inner], gaps.fillable[inner])

    def stored(self, date: int, window: Window) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Reasons before the buffer, and fillable pixels, of a window inside the raster: (band, row, column) each."""
        index = self.occupied
        bands = (int(self.reason.shape[1]),)
        missing_in = None if index is None else index.reason[date]
        reason = read_occupied(self.reason, (date, slice(None)), window, missing_in, bands)
        outside = _read_outside(self.outside, window, None if index is None else index.outside)
        return reason, np.broadcast_to(~outside, reason.shape) if self.everything else auto_fillable(reason, outside)


@dataclass(frozen=True, slots=True)
class Scan:
    """The result of a pass over a cube."""

    gap_counts: NDArray[np.int64]
    """(date, chunk row, chunk column): pixels to fill in any band."""
    missing: int
    """Number of missing values over all dates and bands, whatever the cause."""
    wanted_by_date: NDArray[np.int64]
    """(date,) number of missing values that may be filled."""
    known: int
    total: int
    reasons: NDArray[np.int64]
    """Number of values with each reason bit, lowest bit first."""
    left_out: dict[str, int]
    """Number of missing values that `--fillable` leaves as they are, by cause."""
    cells: CellSums
    normalisations: tuple[Normalisation, ...]
    """One for each channel, which is a band unless `turns` says otherwise; fixed for the whole scene."""
    occupied: Occupied
    suspects: tuple[Suspect, ...] = ()
    """Numbers that count as known but may stand for missing."""
    turns: Turns = ()
    """Periods of cyclic bands, which are estimated as two channels each, as are `cells`; None for the others."""
    edge: float = 0.0
    """Share of the raster's edge with nodata that is too narrow for a collar and will be filled."""

    def warnings(self, filler: str = "") -> list[str]:
        """A line for each thing that is probably not what it seems, except where it does not matter to the filler."""
        return [*told(self.suspects, filler), *told_of_edge(self.edge)]

    @property
    def by_band(self) -> tuple[Normalisation | None, ...]:
        """The normalisation of each band; None for a cyclic one."""
        if not self.turns:
            return self.normalisations
        of = dict(zip(bands_of(self.turns), self.normalisations, strict=True))
        return tuple(of[band] if turn is None else None for band, turn in enumerate(self.turns))

    @property
    def wanted(self) -> int:
        """Number of missing values that may be filled, over all dates, requested or not."""
        return int(self.wanted_by_date.sum())


def scan_cube(
    cube: Cube,
    reason: Any,
    outside: Any,
    buffer: int,
    tick: Tick = lambda: None,
    cell: int | None = None,
    turns: Turns | None = None,
) -> tuple[Scan, GapReader]:
    """Scan a cube once and write its reasons; arrays as in `GapReader`. `tick` is called after each tile.

    When dates are added, `cell` is the cell size of the low-resolution fill that the earlier scan chose, and `turns`
    are the cyclic bands that it found. By default both are determined here; an empty `turns` means no cyclic band.
    """
    index = Occupied.empty(len(cube.variable.dates), *cube.shape)
    cells, sample, ends = _first_pass(cube, reason, outside, index, tick, cell)
    known = [np.concatenate(parts) if parts else np.zeros(0) for parts in sample]
    if cube.transform in LOGARITHMS and _not_positive(known, cube.transform):
        _log.warning("%s: too many values are zero, negative or beyond its units for a logarithm of it", cube.name)
        return scan_cube(replace(cube, transform="linear"), reason, outside, buffer, cell=cell)
    turns = turns_in(cube, known) if turns is None else turns
    if turns:
        return _scan_channels(cube, reason, outside, buffer, cell, known, turns)
    _find_outside(cube, outside, index)
    found = Occupied(index.reason, index.outside, np.ones_like(index.wanted))
    gaps = GapReader(reason, outside, cube.shape, buffer, cube.rules.fill_everything, found)
    recipes = normalise(cube, known, ends)
    if not all(recipe.measured(own[np.isfinite(own)]).all() for recipe, own in zip(recipes, ends, strict=True)):
        cells = _sums_of_measurements(cube, gaps, cells, recipes)
    scan = _count(cube, gaps, cells, recipes)
    if scan.known >= _SCATTERED * (scan.known + scan.wanted):
        scan = replace(scan, edge=_narrow_edge(cube, gaps))
    if cube.transform not in LOGARITHMS:  # these treat no number below their least value as known
        bands = _bands(cube)
        rain = cube.transform == "cbrt"
        physical = [values**3 for values in known] if rain else known
        suspects = suspects_of(bands, physical, whole=not (scan.missing or rain), rain=rain)
        scan = replace(scan, suspects=suspects)
    return scan, replace(gaps, occupied=scan.occupied, _latest={})


def _bands(cube: Cube) -> list[Band]:
    return [cube.variable.bands[band] for band in cube.bands]


def _scan_channels(
    cube: Cube,
    reason: Any,
    outside: Any,
    buffer: int,
    cell: int | None,
    known: Sequence[NDArray[np.float64]],
    turns: Turns,
) -> tuple[Scan, GapReader]:
    """Scan a cube with cyclic bands again as their cosines and sines; the counts returned are those of bands."""
    reasons, channels = reasons_of_channels(reason, turns), in_channels(cube, turns)
    scan, gaps = scan_cube(channels, reasons, outside_of_channels(outside, turns), buffer, cell=cell, turns=())
    gaps = replace(gaps, reason=reason, outside=outside, _latest={})
    counted = replace(_count(cube, gaps, scan.cells, scan.normalisations, summed=True), edge=scan.edge)
    suspects = suspects_of(_bands(cube), known, turns, whole=not counted.missing)
    return replace(counted, suspects=suspects, turns=turns), replace(gaps, occupied=counted.occupied, _latest={})


def _not_positive(sample: list[NDArray[np.float64]], transform: str) -> bool:
    """Whether too many values are at or below the least of a logarithm; a few failed retrievals may be zero."""
    floor, values = np.log10(LOGARITHMS[transform]), np.concatenate(sample)
    return bool(np.count_nonzero(values <= floor) > _ENDED * values.size)


def _tiles(shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(0, shape[0], _TILE[0]):
        for column in range(0, shape[1], _TILE[1]):
            yield Window(row, column, min(_TILE[0], shape[0] - row), min(_TILE[1], shape[1] - column))


def _first_pass(
    cube: Cube, reason: Any, outside: Any, index: Occupied, tick: Tick, cell: int | None
) -> tuple[CellSums, list[list[NDArray[np.float64]]], NDArray[np.float64]]:
    """Write reasons and candidates for outside, note the occupied chunks, and gather statistics of the known values.

    Returns
    -------
    cell sums, known values of each band, and the least and greatest known value (band, 2).
    """
    dates, bands = len(cube.variable.dates), len(cube.bands)
    cells = CellSums.empty(dates, bands, *cube.shape, cell)
    sample: list[list[NDArray[np.float64]]] = [[] for _ in cube.bands]
    ends = np.tile([np.inf, -np.inf], (bands, 1))
    every = max(1, -(-dates * cube.shape[0] * cube.shape[1] // _SAMPLE))
    for tile in _tiles(cube.shape):
        collar, unseen = np.ones(tile.shape, bool), np.ones((*cube.outside_shape[:-2], *tile.shape), bool)
        for date in range(dates):
            stored = cube.read(date, tile)
            why = cube.reason(date, tile, stored)
            if why.any():
                reason[(date, slice(None), *tile.slices)] = why
                index.reason[(date, *chunk_span(tile))] = chunk_any(np.asarray(why.any(axis=0)))
            collar &= collar_candidates(why)
            unseen &= never_seen((why != 0)[None], cube.by_level)
            values, known = _values(cube, stored), why == 0
            with np.errstate(over="ignore", invalid="ignore"):  # numbers that are not measurements; summed anew later
                cells.add(date, tile, values, known)
            _gather(sample, values, known, tile, every)
            _widen(ends, values, known)
        left = beyond(cube, tile, unseen if dates > 1 else collar)
        if left.any():
            outside[(..., *tile.slices)] = np.broadcast_to(left, unseen.shape)
            index.outside[chunk_span(tile)] = chunk_any(np.asarray(left.any(axis=tuple(range(left.ndim - 2)))))
        tick()
    return cells, sample, ends


def beyond(cube: Cube, tile: Window, automatic: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels outside: not in the user's area or, under `auto`, never seen (final), or a collar candidate (not yet).

    A user's area is a map; in it, levels below the ground are outside too.
    """
    if cube.rules.fillable is not None:
        left = ~cube.rules.fillable(tile)
        below = below_ground(automatic) if cube.by_level and left.ndim == 2 else False
        return np.asarray(left | below)
    if cube.rules.fill_everything:
        return np.zeros(tile.shape, bool)
    stack = len(cube.variable.dates) > 1
    return automatic if stack or cube.variable.georeferenced else np.zeros(tile.shape, bool)


def _find_outside(cube: Cube, outside: Any, index: Occupied) -> None:
    """Under `auto`, keep only collar candidates that survive a morphological opening and connect to the edge."""
    automatic = cube.rules.fillable is None and not cube.rules.fill_everything
    if not index.outside.any() or not automatic or len(cube.variable.dates) > 1:
        return
    candidates = index.outside.copy()

    def read(rows: slice) -> NDArray[np.bool_]:
        first, last, _ = rows.indices(cube.shape[0])
        return read_occupied(outside, (), Window(first, 0, last - first, cube.shape[1]), candidates, ())

    collar = find_collar(read, cube.shape, CHUNK, around=cube.lattice.periodic)
    held: list[tuple[slice, NDArray[np.bool_]]] = []
    for first in range(0, cube.shape[0], CHUNK):
        part = slice(first, min(first + CHUNK, cube.shape[0]))
        held.append((part, collar.outside(part, read)))
        if len(held) > 1:  # the strip below has been read, so the candidates of this one are no longer needed
            _keep_outside(outside, index, candidates, *held.pop(0))
    for rows, kept in held:
        _keep_outside(outside, index, candidates, rows, kept)


def _keep_outside(
    outside: Any, index: Occupied, candidates: NDArray[np.bool_], rows: slice, kept: NDArray[np.bool_]
) -> None:
    """Replace the candidates of one strip of chunks by those that are kept."""
    row = rows.start // CHUNK
    index.outside[row] = chunk_any(kept)[0]
    if candidates[row].any():
        outside[rows] = kept


def _narrow_edge(cube: Cube, gaps: GapReader) -> float:
    """Share of the raster's edge in long runs of nodata that are too narrow to be a collar."""
    automatic = cube.rules.fillable is None and not cube.rules.fill_everything
    if len(cube.variable.dates) > 1 or not automatic or not cube.variable.georeferenced:
        return 0.0
    rows, columns = cube.shape
    edges = [Window(0, 0, 1, columns), Window(rows - 1, 0, 1, columns)]
    if not cube.lattice.periodic:
        edges += [Window(0, 0, rows, 1), Window(0, columns - 1, rows, 1)]
    narrow = 0
    for edge in edges:
        reason, fillable = gaps.stored(0, edge)
        filled = ((reason != 0) & fillable).all(axis=0)
        narrow += in_long_runs(filled.ravel(), (collar_candidates(reason) & filled).ravel())  # other gaps end no run
    return narrow / sum(edge.height * edge.width for edge in edges)


def _values(cube: Cube, stored: NDArray[Any]) -> NDArray[np.float64]:
    """Transformed physical values (band, row, column) of stored ones, as from `cube.read`."""
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
    """Add one of every n known values of a tile: one column in n, shifted from row to row.

    No row or column is skipped altogether, because all known pixels may be in it: every other line may be missing.
    """
    step = next(n for n in range(max(1, round(every * _GOLDEN)), 2 * every + 1) if math.gcd(n, every) == 1)
    first = -((tile.row + np.arange(tile.height)) * step + tile.column) % every
    columns = first[:, None] + every * np.arange(-(-tile.width // every))
    rows = np.broadcast_to(np.arange(tile.height)[:, None], columns.shape)
    inside = columns < tile.width
    place = rows[inside], columns[inside]
    for band in range(len(values)):
        sample[band].append(values[(band, *place)][known[(band, *place)]])


def _widen(ends: NDArray[np.float64], values: NDArray[np.float64], known: NDArray[np.bool_]) -> None:
    """Extend the least and greatest known value of each band, (band, 2), by values (band, row, column)."""
    for band, (plane, good) in enumerate(zip(values, known, strict=True)):
        ends[band, 0] = min(ends[band, 0], float(plane.min(where=good, initial=np.inf)))
        ends[band, 1] = max(ends[band, 1], float(plane.max(where=good, initial=-np.inf)))


def _sums_of_measurements(cube: Cube, gaps: GapReader, cells: CellSums, recipes: Sequence[Normalisation]) -> CellSums:
    """Recompute the cell sums from measurements alone, and warn of the other numbers.

    They cannot be subtracted: after adding and subtracting 1e20, nothing of a sum is left.
    """
    sums = CellSums(np.zeros_like(cells.total), np.zeros_like(cells.count), cells.cell)
    far = np.zeros(len(recipes), np.int64)
    for tile in _tiles(cube.shape):
        for date in range(len(cube.variable.dates)):
            values = _values(cube, cube.read(date, tile))
            known = np.asarray(gaps.reason[(date, slice(None), *tile.slices)]) == 0
            measured = known & _measured(values, recipes)
            far += np.count_nonzero(known & ~measured, axis=(1, 2))
            sums.add(date, tile, values, measured)
    for band, count in zip(cube.bands, far.tolist(), strict=True):
        if count:
            _log.warning(
                "%s: %d known values are so far from all others that they are not used to fill gaps; they stay as they "
                "are. If they are not measurements, mark them with --nodata or --valid-range to have them filled too",
                cube.variable.bands[band].name, count,
            )  # fmt: skip
    return sums


def _measured(values: NDArray[np.float64], recipes: Sequence[Normalisation]) -> NDArray[np.bool_]:
    """Whether transformed values (band, row, column) can be measurements."""
    return np.stack([recipe.measured(plane) for recipe, plane in zip(recipes, values, strict=True)])


def _count(
    cube: Cube, gaps: GapReader, cells: CellSums, normalisations: tuple[Normalisation, ...], *, summed: bool = False
) -> Scan:
    """Count gaps by chunk, and subtract buffered pixels from the cell sums unless that is done already (`summed`)."""
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
            missing += int(np.count_nonzero(found.missing))
            wanted[date] += int(np.count_nonzero(found.wanted))
            bits += tally(found.reason)
            for cause, n in _left_out(cube, gaps, found, tile).items():
                left_out[cause] = left_out.get(cause, 0) + n
            _count_chunks(counts[date], tile, np.asarray(found.wanted.any(axis=0)))
            if gaps.buffer and not summed:
                bare = np.asarray(gaps.reason[(date, slice(None), *tile.slices)]) == 0
                values = _values(cube, cube.read(date, tile))
                cells.add(date, tile, values, bare & found.missing & _measured(values, normalisations), sign=-1)
    total = dates * bands * rows * columns
    assert gaps.occupied is not None
    index = replace(gaps.occupied, wanted=counts > 0)
    return Scan(counts, missing, wanted, total - missing, total, bits, left_out, cells, normalisations, index)


def _left_out(cube: Cube, gaps: GapReader, found: Gaps, tile: Window) -> dict[str, int]:
    """Number of missing values that are not fillable, by cause."""
    if cube.rules.fillable is not None:
        left = found.missing & ~found.fillable
        below = int(np.count_nonzero(left & below_ground(~found.fillable))) if cube.by_level else 0
        return {"not in --fillable": int(np.count_nonzero(left)) - below, **({"below_ground": below} if below else {})}
    if gaps.everything:
        return {}
    assert gaps.occupied is not None
    outside = _read_outside(gaps.outside, tile, gaps.occupied.outside)
    stack = len(cube.variable.dates) > 1
    return outside_counts(found.reason, None if stack else outside, outside if stack else None)


def tile_count(shape: tuple[int, int]) -> int:
    """Number of tiles in a scan of that many rows and columns."""
    return -(-shape[0] // _TILE[0]) * -(-shape[1] // _TILE[1])


def _count_chunks(counts: NDArray[np.int64], tile: Window, wanted: NDArray[np.bool_]) -> None:
    by_row = np.stack([wanted[row : row + CHUNK].sum(axis=0, dtype=np.int64) for row in range(0, tile.height, CHUNK)])
    counts[chunk_span(tile)] += np.add.reduceat(by_row, np.arange(0, tile.width, CHUNK), axis=1)


def chunk_any(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any pixel is True in each chunk of a plane (row, column) that begins at a chunk's corner."""
    by_row = np.logical_or.reduceat(plane, np.arange(0, plane.shape[0], CHUNK), axis=0)
    return np.asarray(np.logical_or.reduceat(by_row, np.arange(0, plane.shape[1], CHUNK), axis=1))

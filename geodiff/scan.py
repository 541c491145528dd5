"""One pass over the source: why pixels are missing, where an estimate is allowed, and the scene's low-resolution mean.

The reasons go to the working store, so that everything after reads them back instead of decoding flags again. A second
look at the reasons alone, strip by strip, finds the collar and counts the gaps by chunk.
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
"""Rows and columns of a Zarr target's chunks, by which gaps are counted too."""
_TILE = (2 * CHUNK, 8 * CHUNK)
_SAMPLE = 400_000
"""Known pixels a band from which the normalisation is taken."""
_SCATTERED = 0.3
"""Share known of what may be filled below which nodata lies everywhere as it does along the edge: stations, tracks."""
_ENDED = 0.1
"""Share of values at the end of a logarithm from which a quantity is filled without it."""
_GOLDEN = 0.618
"""Columns from the sample of one row to that of the next, in those between two of one row: the most even spread."""
_KEPT = 1 << 20
"""Pixels of the windows that a reader keeps."""

Tick = Callable[[], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Occupied:
    """Which chunks hold anything at all: the others are known to be blank, and are not read."""

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
    """The chunks that a window touches."""
    (row, column), (bottom, right) = (window.row, window.column), window.stop
    return slice(row // CHUNK, -(-bottom // CHUNK)), slice(column // CHUNK, -(-right // CHUNK))


def occupied_parts(index: NDArray[np.bool_], window: Window) -> Iterator[Window]:
    """The parts of a window, full height, whose chunks hold anything; `index` is (chunk row, chunk column)."""
    rows, columns = chunk_span(window)
    busy = np.concatenate([[False], index[rows, columns].any(axis=0), [False]])
    edges = np.flatnonzero(np.diff(busy.astype(np.int8))) + columns.start
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        left, right = max(int(first) * CHUNK, window.column), min(int(last) * CHUNK, window.stop[1])
        yield Window(window.row, left, window.height, right - left)


def read_occupied(
    array: Any, key: tuple[Any, ...], window: Window, index: NDArray[np.bool_] | None, front: tuple[int, ...]
) -> NDArray[Any]:
    """A window (*front, row, column) of a stored array at `key`; 0 without reading where no chunk holds anything.

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
    """A window of what is outside, `Cube.outside_shape`; see `read_occupied`."""
    bands = tuple(outside.shape[:-2])
    return read_occupied(outside, (slice(None),) * len(bands), window, index, bands)


@dataclass(frozen=True, slots=True)
class GapReader:
    """Gaps of one cube by window, from the scanned reasons; what blocks, fit and product all read."""

    reason: Any
    """(date, band, row, column) uint16 array of the working store, before the buffer."""
    outside: Any
    """Bool array, `Cube.outside_shape`: collar, never seen, or not in the user's fillable area."""
    shape: tuple[int, int]
    buffer: int
    everything: bool
    """Not `--fillable auto`: the quality band's own fill is filled too, where it is not outside."""
    occupied: Occupied | None = None
    """What need not be read; None reads everything."""
    _latest: dict[tuple[int, Window], Gaps] = field(default_factory=dict, repr=False, compare=False)
    """The last small windows: a block asks for its own more than once, the fit of a small raster a hundred times."""

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
        """Reasons before the buffer, and where may be filled, both (band, row, column), of a window inside."""
        index = self.occupied
        bands = (int(self.reason.shape[1]),)
        missing_in = None if index is None else index.reason[date]
        reason = read_occupied(self.reason, (date, slice(None)), window, missing_in, bands)
        outside = _read_outside(self.outside, window, None if index is None else index.outside)
        return reason, np.broadcast_to(~outside, reason.shape) if self.everything else auto_fillable(reason, outside)


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
    """One a channel, which is a band where `turns` says nothing else, fixed for the whole scene."""
    occupied: Occupied
    suspects: tuple[Suspect, ...] = ()
    """Numbers that count as known and may stand for missing."""
    turns: Turns = ()
    """Of the bands that go round, which are estimated by way of two channels each, as are `cells`."""
    edge: float = 0.0
    """Share of the raster's edge along which nodata that is too narrow for a collar will be filled."""

    def warnings(self, filler: str = "") -> list[str]:
        """What is probably not what it passes for, a line each; but for what that filler does no harm to."""
        return [*told(self.suspects, filler), *told_of_edge(self.edge)]

    @property
    def by_band(self) -> tuple[Normalisation | None, ...]:
        """The normalisation of each band, None for one that goes round."""
        if not self.turns:
            return self.normalisations
        of = dict(zip(bands_of(self.turns), self.normalisations, strict=True))
        return tuple(of[band] if turn is None else None for band, turn in enumerate(self.turns))

    @property
    def wanted(self) -> int:
        """Missing values that may be filled, over all dates, asked for or not."""
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

    `cell` is the cell size of the low-resolution fill that an earlier scan chose, when dates are added to it, and
    `turns` are what it found; by default they are found here, and empty ones are none.
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
    if cube.transform not in LOGARITHMS:  # which know no number below their beginning
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
    """A second look at a cube some of whose bands go round, of their cosines and sines; counts are those of bands."""
    reasons, channels = reasons_of_channels(reason, turns), in_channels(cube, turns)
    scan, gaps = scan_cube(channels, reasons, outside_of_channels(outside, turns), buffer, cell=cell, turns=())
    gaps = replace(gaps, reason=reason, outside=outside, _latest={})
    counted = replace(_count(cube, gaps, scan.cells, scan.normalisations, summed=True), edge=scan.edge)
    suspects = suspects_of(_bands(cube), known, turns, whole=not counted.missing)
    return replace(counted, suspects=suspects, turns=turns), replace(gaps, occupied=counted.occupied, _latest={})


def _not_positive(sample: list[NDArray[np.float64]], transform: str) -> bool:
    """Whether so many values lie where the logarithm ends that it is not theirs; a few failed retrievals are zero."""
    floor, values = np.log10(LOGARITHMS[transform]), np.concatenate(sample)
    return bool(np.count_nonzero(values <= floor) > _ENDED * values.size)


def _tiles(shape: tuple[int, int]) -> Iterator[Window]:
    for row in range(0, shape[0], _TILE[0]):
        for column in range(0, shape[1], _TILE[1]):
            yield Window(row, column, min(_TILE[0], shape[0] - row), min(_TILE[1], shape[1] - column))


def _first_pass(
    cube: Cube, reason: Any, outside: Any, index: Occupied, tick: Tick, cell: int | None
) -> tuple[CellSums, list[list[NDArray[np.float64]]], NDArray[np.float64]]:
    """Write reasons and what may be outside, note in which chunks; gather cell sums and known values a band.

    The last answer is the least and the greatest known value, (band, 2).
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
            with np.errstate(over="ignore", invalid="ignore"):  # of numbers that are no measurements: summed anew later
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
    """What is outside: the user's own area, or under `auto` what no date saw (final) or may be collar (not yet).

    An area is one of the map: of levels, those below the ground are outside in it too.
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
    """Under `auto`, keep of the collar's candidates only what the opening leaves and the edge touches."""
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
        if len(held) > 1:  # the strip below has been read, so this one's candidates are not needed any more
            _keep_outside(outside, index, candidates, *held.pop(0))
    for rows, kept in held:
        _keep_outside(outside, index, candidates, rows, kept)


def _keep_outside(
    outside: Any, index: Occupied, candidates: NDArray[np.bool_], rows: slice, kept: NDArray[np.bool_]
) -> None:
    """Put what remains of one strip of chunks in the place of its candidates."""
    row = rows.start // CHUNK
    index.outside[row] = chunk_any(kept)[0]
    if candidates[row].any():
        outside[rows] = kept


def _narrow_edge(cube: Cube, gaps: GapReader) -> float:
    """Share of the raster's edge that lies in long runs of nodata which are no collar, because they are narrow."""
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
        narrow += in_long_runs(filled.ravel(), (collar_candidates(reason) & filled).ravel())  # other gaps cut no run
    return narrow / sum(edge.height * edge.width for edge in edges)


def _values(cube: Cube, stored: NDArray[Any]) -> NDArray[np.float64]:
    """Transformed physical values (band, row, column) of the bands to fill, as `cube.read` gives them."""
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
    """Add one of every n known values of a tile: in each row one of n columns, in the next one some columns on.

    No row and no column is passed over, for that may be where all that is known lies: every other line may be missing.
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
    """Least and greatest known value of each band, (band, 2), with those of (band, row, column) among them."""
    for band, (plane, good) in enumerate(zip(values, known, strict=True)):
        ends[band, 0] = min(ends[band, 0], float(plane.min(where=good, initial=np.inf)))
        ends[band, 1] = max(ends[band, 1], float(plane.max(where=good, initial=-np.inf)))


def _sums_of_measurements(cube: Cube, gaps: GapReader, cells: CellSums, recipes: Sequence[Normalisation]) -> CellSums:
    """The cell sums anew, of measurements alone: taken out of a sum, 1e20 would leave nothing of it. Warns of them."""
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
                "%s: %d known values lie so far from all others that gaps are filled without them; they stay as they "
                "are. If they are no measurements, name them with --nodata or --valid-range, and they are filled too",
                cube.variable.bands[band].name, count,
            )  # fmt: skip
    return sums


def _measured(values: NDArray[np.float64], recipes: Sequence[Normalisation]) -> NDArray[np.bool_]:
    """Where transformed values (band, row, column) may be measurements."""
    return np.stack([recipe.measured(plane) for recipe, plane in zip(recipes, values, strict=True)])


def _count(
    cube: Cube, gaps: GapReader, cells: CellSums, normalisations: tuple[Normalisation, ...], *, summed: bool = False
) -> Scan:
    """Count gaps by chunk, and take buffered pixels out of the cell sums again, where that is not done (`summed`)."""
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
    """Missing values that are not fillable, by cause."""
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
    """How many tiles a scan of that many rows and columns takes."""
    return -(-shape[0] // _TILE[0]) * -(-shape[1] // _TILE[1])


def _count_chunks(counts: NDArray[np.int64], tile: Window, wanted: NDArray[np.bool_]) -> None:
    by_row = np.stack([wanted[row : row + CHUNK].sum(axis=0, dtype=np.int64) for row in range(0, tile.height, CHUNK)])
    counts[chunk_span(tile)] += np.add.reduceat(by_row, np.arange(0, tile.width, CHUNK), axis=1)


def chunk_any(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any pixel is True, by chunk, of a plane (row, column) that begins with one."""
    by_row = np.logical_or.reduceat(plane, np.arange(0, plane.shape[0], CHUNK), axis=0)
    return np.asarray(np.logical_or.reduceat(by_row, np.arange(0, plane.shape[1], CHUNK), axis=1))

"""Tiles for the page: every layer as 8 bits, in levels that halve, none larger than what is looked at.

A value becomes the code 0 to 255 of a monotone table, half linear and half by rank, so that both a bright outlier and
a dark plain keep their steps; the page turns codes back into values and stretches those. Which pixels are observed,
filled or outside, and why, is kept without loss: a coarse pixel counts as filled where any pixel in it was.
"""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import OBSERVED, OUTSIDE
from geodiff.lattice import Window
from geodiff.report.product import Layers, Picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["TILE", "Coding", "Pyramid", "Tile", "encode"]

TILE = 256
"""Pixels along a tile."""
_SAMPLE_DATES, _SAMPLE_SIDE = 8, 5
_PASSED, _THINNED = 1 << 28, 1 << 18
"""Values that are read to choose the codes, but one date at least; how many of a date have a say."""
_KEPT = 2048
"""Pixels along the finest level that is kept in memory; finer ones are read when asked for."""
_KEPT_BYTES = 256 << 20
"""Memory for the coarse levels of the dates last looked at."""
_SLAB = 1024
"""Pixels along what is read at once: whole tiles, and whole pixels of every level that is kept."""
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Coding:
    """How the numbers of one band become 8 bits."""

    table: NDArray[np.float64]
    """(256,) ascending: the value of each code."""
    histogram: NDArray[np.int64]
    """(256,) how often each code occurs in the sample; all 0 where the band has no value."""
    error: float
    """The standard error of code 255; 0 where nothing was filled."""
    typical: float = 0.0
    """The median standard error of what was filled; 0 where nothing was."""

    def range(self, share: float) -> tuple[float, float]:
        """The values between which all but a share at either end lie."""
        below = np.cumsum(self.histogram)
        low, high = (np.searchsorted(below, part * below[-1]) for part in (share, 1 - share))
        return float(self.table[low]), float(self.table[min(high, 255)])

    def codes(self, value: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes of values, any shape; 0 for NaN."""
        place = np.interp(np.nan_to_num(value, nan=self.table[0]), self.table, np.arange(256.0))
        return np.asarray(np.rint(place), np.uint8)

    def error_codes(self, error: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Codes of standard errors, linear; 0 for NaN."""
        share = np.nan_to_num(error, nan=0.0, posinf=self.error) / (self.error or 1.0)
        return np.asarray(np.rint(np.clip(share, 0.0, 1.0) * 255), np.uint8)


def _sample_dates(picture: Picture) -> list[int]:
    return [int(date) for date in np.unique(np.linspace(0, len(picture.dates) - 1, _SAMPLE_DATES).astype(int))]


def _sample(picture: Picture) -> Iterator[tuple[int, Window]]:
    rows, columns = picture.shape
    side = min(TILE, rows), min(TILE, columns)
    dates = _sample_dates(picture)
    across = _SAMPLE_SIDE if len(dates) < 3 else 2
    for date in dates:
        for row in np.unique(np.linspace(0, rows - side[0], across).astype(int)):
            for column in np.unique(np.linspace(0, columns - side[1], across).astype(int)):
                yield date, Window(int(row), int(column), *side)


def _thinned(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most about `_THINNED` of the numbers there are, flat, the smallest and the largest among them."""
    there = values[np.isfinite(values)]
    if there.size <= _THINNED:
        return there
    return np.append(there[:: -(-there.size // _THINNED)], [there.min(), there.max()]).astype(np.float32)


def _coding(values: NDArray[np.float32], errors: NDArray[np.float32]) -> Coding:
    sample = values.astype(np.float64) if values.size else np.array([0.0, 1.0])
    rank = np.quantile(sample, np.linspace(0, 1, 256))
    low, high = np.quantile(sample, [0.0005, 0.9995])
    table = 0.5 * rank + 0.5 * np.linspace(low, high, 256)
    table[0], table[-1] = min(rank[0], table[0]), max(rank[-1], table[-1])
    span = max(table[-1] - table[0], abs(table[0]) * 1e-6, 1e-12)
    table = np.maximum.accumulate(table) + span * 1e-6 * np.arange(256)  # strictly ascending, as interpolation asks
    typical, largest = np.quantile(errors, [0.5, 0.995]).tolist() if errors.size else (0.0, 0.0)
    coding = Coding(table, np.zeros(256, np.int64), largest, typical)
    return replace(coding, histogram=np.bincount(coding.codes(values), minlength=256))


@dataclass(frozen=True, slots=True)
class Level:
    """Part of a level of one date, (band, row, column)."""

    value: NDArray[np.float32]
    key: NDArray[np.uint32]
    """Rank (0 outside, 1 observed, 2 gap), source and reason in one number, so that the largest is what to show."""
    error: NDArray[np.float32]

    def cut(self, rows: slice, columns: slice) -> Level:
        part = (slice(None), rows, columns)
        return Level(self.value[part], self.key[part], self.error[part])


def _level(layers: Layers) -> Level:
    rank = np.where(layers.source == OUTSIDE, 0, np.where(layers.source == OBSERVED, 1, 2)).astype(np.uint32)
    key = rank << 24 | layers.source.astype(np.uint32) << 16 | layers.reason
    return Level(layers.value, np.asarray(key, np.uint32), np.nan_to_num(layers.error))


def _halved(level: Level) -> Level:
    """The next coarser level: mean of the values there are, the key to show, the largest error."""
    parts = [_quarters(array, fill) for array, fill in ((level.value, np.nan), (level.key, 0), (level.error, 0.0))]
    there = np.isfinite(parts[0])
    count = there.sum(axis=0)
    total = np.where(there, parts[0], 0.0).sum(axis=0)
    value = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return Level(value, parts[1].max(axis=0), parts[2].max(axis=0))


def _quarters(array: NDArray[Any], fill: float) -> NDArray[Any]:
    """The four pixels of each coarser one, stacked; beyond the edge `fill`."""
    odd = [(0, 0), (0, array.shape[1] % 2), (0, array.shape[2] % 2)]
    even = np.pad(array, odd, constant_values=fill) if odd != [(0, 0)] * 3 else array
    return np.stack([even[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A place in the pyramid of one picture and date."""

    level: int
    row: int
    column: int

    @property
    def key(self) -> str:
        return f"{self.level}/{self.row}/{self.column}"


@dataclass
class Pyramid:
    """The levels of one picture; coarse ones are made once a date, in one pass, and kept."""

    picture: Picture
    _coarse: dict[int, list[Level]] = field(default_factory=dict)
    _counts: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def codings(self) -> tuple[Coding, ...]:
        """One coding a band, the same for all dates.

        From windows of some dates at full resolution, and from all of these dates as far as time allows, or a small
        gap between the windows would have no error; where nothing was filled on them, from the first date with a fill.
        """
        values: list[list[NDArray[np.float32]]] = [[] for _ in self.picture.bands]
        errors: list[list[NDArray[np.float32]]] = [[] for _ in self.picture.bands]

        def add(value: NDArray[np.float32], error: NDArray[np.float32]) -> None:
            for band in range(len(self.picture.bands)):
                values[band].append(_thinned(value[band]))
                errors[band].append(_thinned(error[band][error[band] > 0]))

        size = len(self.picture.bands) * self.picture.shape[0] * self.picture.shape[1]
        for date, window in _sample(self.picture):
            layers = self.picture.read(date, window)
            add(layers.value, layers.error)
        chosen = _sample_dates(self.picture)[: max(1, _PASSED // size)]
        for date in (*chosen, *(d for d in range(len(self.picture.dates)) if d not in chosen)):
            if date not in chosen and any(part.size for band in errors for part in band):
                break
            kept = self.whole(date, 0)
            add(kept.value, kept.error)
        return tuple(_coding(np.concatenate(v), np.concatenate(e)) for v, e in zip(values, errors, strict=True))

    @property
    def levels(self) -> int:
        """How many levels there are; the last fits into one screen."""
        return 1 + _halvings(max(self.picture.shape), _SLAB)

    @property
    def kept_from(self) -> int:
        """The finest level that is kept."""
        return _halvings(max(self.picture.shape), _KEPT)

    def size(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        rows, columns = (-(-n // (1 << level)) for n in self.picture.shape)
        return rows, columns

    def tiles(self, level: int) -> list[Tile]:
        """Every tile of a level."""
        rows, columns = (-(-n // TILE) for n in self.size(level))
        return [Tile(level, row, column) for row in range(rows) for column in range(columns)]

    def has(self, tile: Tile) -> bool:
        """Whether there is such a tile."""
        if not 0 <= tile.level < self.levels:
            return False
        rows, columns = self.size(tile.level)
        return 0 <= tile.row * TILE < rows and 0 <= tile.column * TILE < columns

    def gap_pixels(self, date: int, tile: Tile) -> int:
        """How many filled or unfilled values a tile covers, over all bands."""
        if date not in self._counts:
            self._of(date)
        counts, reach = self._counts[date], 1 << tile.level
        rows = slice(tile.row * reach, (tile.row + 1) * reach)
        return int(counts[rows, tile.column * reach : (tile.column + 1) * reach].sum())

    def read(self, date: int, tile: Tile) -> Level:
        """One tile of all bands."""
        rows, columns = self.size(tile.level)
        row, column = tile.row * TILE, tile.column * TILE
        part = slice(row, min(row + TILE, rows)), slice(column, min(column + TILE, columns))
        if tile.level >= self.kept_from:
            return self._of(date)[tile.level - self.kept_from].cut(*part)
        window = Window(row << tile.level, column << tile.level, TILE << tile.level, TILE << tile.level)
        return self._reduced(date, window, tile.level)

    def whole(self, date: int, level: int) -> Level:
        """All of a level; what is finer than the kept ones comes from the finest of those."""
        return self._of(date)[max(level - self.kept_from, 0)]

    def _reduced(self, date: int, window: Window, times: int) -> Level:
        inside = window.intersect(Window(0, 0, *self.picture.shape))
        assert inside is not None
        level = _level(self.picture.read(date, inside))
        for _ in range(times):
            level = _halved(level)
        return level

    def _of(self, date: int) -> list[Level]:
        """Kept levels of a date, finest first; made in one pass over it."""
        with self._lock:
            if date not in self._coarse:
                rows, columns = self.size(self.kept_from)
                keep = max(2, _KEPT_BYTES // (len(self.picture.bands) * rows * columns * 16))
                while len(self._coarse) >= keep:
                    self._coarse.pop(next(iter(self._coarse)))
                self._coarse[date], self._counts[date] = self._pass(date)
            return self._coarse[date]

    def _pass(self, date: int) -> tuple[list[Level], NDArray[np.int64]]:
        times, (rows, columns) = self.kept_from, self.picture.shape
        bands, size = len(self.picture.bands), self.size(times)
        finest = Level(
            np.full((bands, *size), np.nan, np.float32),
            np.zeros((bands, *size), np.uint32),
            np.zeros((bands, *size), np.float32),
        )
        counts = np.zeros((-(-rows // TILE), -(-columns // TILE)), np.int64)
        for window in _windows(rows, columns, _SLAB):
            level = _level(self.picture.read(date, window))
            _count(counts, level.key, window)
            for _ in range(times):
                level = _halved(level)
            at = (slice(None), *(slice(o >> times, (o >> times) + n) for o, n in zip(
                (window.row, window.column), level.key.shape[1:], strict=True)))  # fmt: skip
            finest.value[at], finest.key[at], finest.error[at] = level.value, level.key, level.error
        levels = [finest]
        while times + len(levels) < self.levels:
            levels.append(_halved(levels[-1]))
        return levels, counts


def _halvings(length: int, most: int) -> int:
    times = 0
    while -(-length // (1 << times)) > most:
        times += 1
    return times


def _windows(rows: int, columns: int, step: int) -> Iterator[Window]:
    for row in range(0, rows, step):
        for column in range(0, columns, step):
            yield Window(row, column, min(step, rows - row), min(step, columns - column))


def _count(counts: NDArray[np.int64], key: NDArray[np.uint32], window: Window) -> None:
    gaps = (key >> 24 == 2).sum(axis=0)
    rows = np.add.reduceat(gaps, np.arange(0, window.height, TILE), axis=0)
    cells = np.add.reduceat(rows, np.arange(0, window.width, TILE), axis=1)
    row, column = window.row // TILE, window.column // TILE
    counts[row : row + cells.shape[0], column : column + cells.shape[1]] += cells


def encode(level: Level, band: int, coding: Coding, *, exact: bool = True) -> list[Any]:
    """One band of a tile as the page reads it.

    Parameters
    ----------
    level : the tile, all bands.
    exact : keep every code; otherwise values and errors are compressed as photographs are, to about a third, which
        leaves ripples beside what is bright and steps in what is even.

    Returns
    -------
    list
        Height, width, then images as base64 text or None: value (PNG or JPEG, grey), standard error (the same), and
        source and reason (PNG: red is the source, green and blue the reason), or one number where all have one source
        and no reason.
    """
    drawn = _grey_png if exact else _jpeg
    value, key, error = level.value[band], level.key[band], level.error[band]
    height, width = value.shape
    there = np.isfinite(value)
    codes = coding.codes(value)
    if there.any():
        codes[~there] = int(np.median(codes[there]))  # an even ground costs nothing and makes no ripples
    gap = (key >> 24 == 2) & there
    errors = coding.error_codes(error)
    if gap.any():
        errors[~gap] = int(errors[gap].mean())
    return [
        height,
        width,
        _text(drawn(codes)) if there.any() else None,
        _text(drawn(errors)) if gap.any() else None,
        int(key[0, 0] >> 16 & 255) if (key == key[0, 0]).all() and not key[0, 0] & 0xFFFF else _text(_png(key)),
    ]


def _jpeg(codes: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(codes).save(held, "JPEG", quality=_QUALITY, optimize=True)
    return held.getvalue()


def _grey_png(codes: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(codes).save(held, "PNG")
    return held.getvalue()


def _png(key: NDArray[np.uint32]) -> bytes:
    from PIL import Image

    colours = np.stack([key >> 16 & 255, key >> 8 & 255, key & 255], axis=-1).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(colours).save(held, "PNG", optimize=True)
    return held.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

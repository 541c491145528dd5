"""Which tiles go into one file of bounded size: an overview of every date that fits, then finer levels where gaps are.

The order says what the page is for. First the overviews, dates with the most gaps first; then, level by level down to
full resolution, the tiles that hold gaps, each level with a share of what room is left; last, coarse before fine, what
holds no gap. A small product is there whole, at full resolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from geodiff.report.pyramid import Pyramid, Tile, encode

__all__ = ["BUDGET", "Embedded", "embed"]

BUDGET = 9_300_000
"""Characters of base64 text and JSON that all tiles together may take; the page adds about 100 kB."""
_EXACT = 1_500_000
"""Values of all pictures up to which each is kept to its step of grey, in two megabytes or less."""
_OVERVIEWS = 0.5
"""Share of the budget for overviews, where there are many dates."""
_LEVEL_SHARE = 0.35
"""Share of the remaining room that each level may take; full resolution may take all of it."""
_TRIES = 3
"""Tiles that may turn out too large before a level is given up."""
_SURVEYED = 400
"""Dates whose gaps are counted; of more, an even choice."""


@dataclass
class Embedded:
    """The tiles of one picture that are in the file."""

    tiles: dict[str, list[Any]] = field(default_factory=dict)
    """By `date/band/level/row/column`."""
    dates: list[int] = field(default_factory=list)
    """Dates that are shown at all."""
    full: int = 0
    """Tiles of full resolution that hold gaps and are in the file, over the dates shown."""
    full_of: int = 0
    """Tiles of full resolution that hold gaps, over the dates shown."""
    whole: bool = True
    """Every tile of every date is in the file."""
    exact: bool = False
    """No tile lost a step of grey to compression."""


def embed(pyramids: Sequence[Pyramid], budget: int = BUDGET) -> list[Embedded]:
    """Choose and encode tiles of several pictures so that together they stay within the budget."""
    chosen: list[Embedded] = []
    exact = sum(_values(pyramid) for pyramid in pyramids) <= _EXACT
    for place, pyramid in enumerate(pyramids):
        done, spent = _embedded(pyramid, budget // (len(pyramids) - place), Embedded(exact=exact))
        chosen.append(done)
        budget -= spent
    return chosen


def _values(pyramid: Pyramid) -> int:
    picture = pyramid.picture
    return len(picture.dates) * len(picture.bands) * picture.shape[0] * picture.shape[1]


def _embedded(pyramid: Pyramid, budget: int, done: Embedded) -> tuple[Embedded, int]:
    top = pyramid.levels - 1
    left = int(budget * (_OVERVIEWS if len(pyramid.picture.dates) > 1 else 1.0))
    spent = 0
    for date in _by_gaps(pyramid):
        size = _add(pyramid, done, date, pyramid.tiles(top), left - spent)
        if size is None:
            break
        spent += size
        done.dates.append(date)
    gaps = _gap_tiles(pyramid, done.dates)
    for level in range(top - 1, -1, -1):
        room = budget - spent if level == 0 else int((budget - spent) * _LEVEL_SHARE)
        spent += _add_while_they_fit(pyramid, done, gaps[level], room)
    done.full_of = len(gaps[0])
    done.full = sum(f"{date}/0/{tile.key}" in done.tiles for date, tile in gaps[0])
    whole = True
    for date in done.dates:
        size, complete = _rest(pyramid, done, date, budget - spent)
        whole, spent = whole and complete, spent + size
    done.whole = whole and len(done.dates) == len(pyramid.picture.dates)
    done.dates.sort()
    return done, spent


def _by_gaps(pyramid: Pyramid) -> list[int]:
    """Dates, those with the most gaps first."""
    dates = len(pyramid.picture.dates)
    top = pyramid.tiles(pyramid.levels - 1)
    surveyed = range(0, dates, -(-dates // _SURVEYED))
    count = {date: sum(pyramid.gap_pixels(date, tile) for tile in top) for date in surveyed}
    return sorted(count, key=lambda date: (-count[date], date))


def _gap_tiles(pyramid: Pyramid, dates: Sequence[int]) -> list[list[tuple[int, Tile]]]:
    """For each level, (date, tile) of the tiles that hold gaps, the fullest first."""
    levels = []
    for level in range(pyramid.levels):
        every = [(date, tile) for date in dates for tile in pyramid.tiles(level)]
        count = {place: pyramid.gap_pixels(*place) for place in every}
        levels.append(sorted((p for p in every if count[p]), key=lambda p: (-count[p], p)))
    return levels


def _add_while_they_fit(pyramid: Pyramid, done: Embedded, places: Iterable[tuple[int, Tile]], room: int) -> int:
    spent = failed = 0
    for date, tile in places:
        size = _add(pyramid, done, date, [tile], room - spent)
        failed += size is None
        spent += size or 0
        if failed == _TRIES:
            break
    return spent


def _rest(pyramid: Pyramid, done: Embedded, date: int, room: int) -> tuple[int, bool]:
    """Add what holds no gap, coarse levels first; the size of it, and whether the date is whole now."""
    spent = 0
    for level in range(pyramid.levels - 2, -1, -1):
        size = _add(pyramid, done, date, pyramid.tiles(level), room - spent)
        if size is None:
            return spent, False
        spent += size
    return spent, True


def _add(pyramid: Pyramid, done: Embedded, date: int, tiles: Iterable[Tile], room: int) -> int | None:
    """Put tiles of all bands into the file; their size, or None where they do not all fit and none was put in."""
    made: dict[str, list[Any]] = {}
    size = 0
    for tile in tiles:
        if f"{date}/0/{tile.key}" in done.tiles:
            continue
        for key, parts in _encoded(pyramid, date, tile, exact=done.exact):
            made[key] = parts
            size += _size(key, parts)
        if size > room:
            return None
    done.tiles.update(made)
    return size


def _encoded(pyramid: Pyramid, date: int, tile: Tile, *, exact: bool) -> Iterator[tuple[str, list[Any]]]:
    level = pyramid.read(date, tile)
    for band, coding in enumerate(pyramid.codings):
        yield f"{date}/{band}/{tile.key}", encode(level, band, coding, exact=exact)


def _size(key: str, parts: Iterable[Any]) -> int:
    return len(key) + 16 + sum(len(part) + 3 if isinstance(part, str) else 6 for part in parts)

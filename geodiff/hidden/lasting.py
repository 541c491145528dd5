"""What lasts in a stack: dates without a known pixel, and gaps that stay in one place for many consecutive dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geodiff.context import context, lost_beside, lost_spans, seen_dates
from geodiff.fillers import Filler
from geodiff.fillers.calibration import FAR, NEAR, around_in_time, dates_around
from geodiff.hidden.spots import (
    LEAST_LEFT,
    MOST_TRIALS,
    Hidden,
    gap_shape,
    hidden_already,
    in_order,
    known_in,
    laid,
    thinned,
    with_gaps,
)
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import GapReader, Scan
    from geodiff.scene import Cube

__all__ = ["MOST_LASTING", "lasting_gaps", "lost_dates"]

_LOST_EVERY = 5
"""In a stack, every fifth trial hides a whole date."""
_LEAST_LOST = 5
"""Fewest such trials, each of another date: two dates say little about how much dates differ."""
_LEAST_SHOWN = (0.5, 0.1)
"""Known share of a window that qualifies it for hiding all of it; the second where too few dates reach the first."""
_UNEVEN = 0.2
"""With two dates, least ratio of their numbers of known pixels for one to be hidden and predicted from the other."""
_LASTING, _ENDS = 5, 3
"""Most trials that hide a gap together with the dates on which it lasts, each on another date; and most at its ends."""
MOST_LASTING = _LASTING + _ENDS
_LEAST_FAR, _MORE_FAR = 0.02, 3.0
"""Such trials are made where at least this share of the missing pixels is far from dates that know them, and at least
this many times the share of the known pixels for which that holds. Under clouds that come and go the shares are alike,
and gaps hidden on single dates represent all gaps."""
_LEAST_MOVED, _TRIES, _LAPS = 0.25, 20, 3
"""Share of the far pixels of such a gap that must fall on known ones, number of positions tried, and number of rounds
over all windows after which the gap is also shifted within a window."""


def lost_dates(cube: Cube, scan: Scan, gaps: GapReader, most: int) -> list[Hidden]:
    """Windows of a stack in which all of a date is hidden, as predicting it from other dates is a problem of its own.

    One window per date; one pixel in 3 x 3 is judged.
    """
    seen = seen_dates(scan)
    dates = int(sum(seen))
    if dates < 2 or (dates == 2 and _uneven(scan)):
        return []
    wanted = min(max(_LEAST_LOST, most // _LOST_EVERY), dates, most // 3)
    outages = lost_spans(cube.seconds, seen)
    found: list[Hidden] = []
    for least in _LEAST_SHOWN:
        for date, window in islice(in_order(cube), 20 * most):
            common = window.intersect(cube.lattice.extent)
            if len(found) >= wanted or common is None or any(spot.date == date for spot in found):
                continue
            known = known_in(cube, gaps, date, window)
            if dates == 2:  # how well one predicts the other can be judged only where both are known
                known &= known_in(cube, gaps, next(d for d, shown in enumerate(seen) if shown and d != date), window)
            if known.mean() >= least * common.height * common.width / (window.height * window.width):
                gone = lost_beside(cube.seconds, seen, date, outages, len(found))
                found.append(Hidden(date, window, thinned(known), whole=True, gone=gone))
    return found


def _uneven(scan: Scan) -> bool:
    """Whether one of two dates knows few pixels: their difference there says little about the rest."""
    shown = np.sort(scan.cells.count.sum(axis=(1, 2, 3)))
    return bool(shown[-2] < _UNEVEN * shown[-1])


def lasting_gaps(
    cube: Cube, scan: Scan, gaps: GapReader, filler: Filler, found: list[Hidden], most: int
) -> list[Hidden]:
    """Copy gaps of a stack together with all the dates on which they last, where other trials do not represent them.

    In other trials, a pixel hidden on one date is mostly known on the dates around it. A place that is lost for many
    consecutive dates is harder to fill than that.
    """
    sources: list[tuple[int, _Gap]] = []
    ends: list[tuple[int, _Gap]] = []
    seen, pixels, looked = seen_dates(scan), np.zeros(4), 0
    for date, window in islice(with_gaps(cube, scan), 20 * MOST_TRIALS):
        if looked >= 2 * MOST_TRIALS:
            break
        alone = dates_around(cube.seconds, date).sum() == 1  # every pixel is far from other dates, missing or not
        if not seen[date] or alone or not gap_shape(cube, gaps, date, window).any():
            continue
        looked += 1
        gap = _Gap.of(cube, gaps, date, window, context(cube, filler, date, seen))
        known = known_in(cube, gaps, date, window).all(axis=0)
        pixels += [gap.far.sum(), gap.shape.sum(), gap.known_far.sum(), known.sum()]
        if gap.far.sum() >= LEAST_LEFT and sum(d == date for d, _ in sources) < 2 and len(sources) < 4 * _LASTING:
            sources.append((date, gap))
        elif gap.apart.sum() >= LEAST_LEFT:
            ends.append((date, gap))
    far, known_far = pixels[0] / max(pixels[1], 1), pixels[2] / max(pixels[3], 1)
    if far < _LEAST_FAR or far < _MORE_FAR * known_far:
        return []
    ends.sort(key=lambda end: -int(end[1].apart.sum()))
    made = _moved(cube, gaps, sources, found, most - min(_ENDS, most // 2))
    return made + _moved(cube, gaps, ends, found + made, min(_ENDS, most - len(made)))


@dataclass(frozen=True, slots=True)
class _Gap:
    """The gap of one window on one date, and how far in time its pixels are from dates that know them."""

    shape: NDArray[np.bool_]
    """(row, column)."""
    far: NDArray[np.bool_]
    """(row, column) its pixels that are far from any date that knows them."""
    apart: NDArray[np.bool_]
    """(row, column) the same, and pixels known near in time on one side only, which are at the ends of an outage."""
    known_far: NDArray[np.bool_]
    """(row, column) pixels that are known on this date and on none around it."""
    window: Window
    """The window of the gap."""
    dates: list[int]
    """The context of its date."""

    @classmethod
    def of(cls, cube: Cube, gaps: GapReader, date: int, window: Window, dates: list[int]) -> _Gap:
        """The gap of a window that touches the raster; `dates` are the context of its date."""
        shape, known = gap_shape(cube, gaps, date, window), known_in(cube, gaps, date, window).all(axis=0)
        sides = _sides(cube, gaps, date, window, dates, shape | known)
        far = sides == FAR
        return cls(shape, shape & far, shape & (sides != NEAR), known & far, window, dates)

    def lasting(self, cube: Cube, gaps: GapReader, date: int) -> NDArray[np.bool_]:
        """The consecutive dates on which each pixel of the gap is missing, (context date, row, column)."""
        known = np.stack([known_in(cube, gaps, d, self.window).all(axis=0) for d in self.dates])
        order = list(np.argsort(cube.seconds[self.dates], kind="stable"))
        return _without_break(known, order, self.dates.index(date)) & self.shape


def _sides(
    cube: Cube, gaps: GapReader, date: int, window: Window, dates: list[int], asked: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """What `around_in_time` says of the pixels `asked` for, (row, column); reads no more dates than necessary."""
    near, known = dates_around(cube.seconds[dates], dates.index(date)), np.zeros((len(dates), *window.shape), bool)
    for own in sorted(np.flatnonzero(np.array(dates) != date), key=lambda i: not near[i]):
        if not near[own] and not (asked & ~known.any(axis=0)).any():
            break
        known[own] = known_in(cube, gaps, dates[own], window).all(axis=0)
    return np.where(asked, around_in_time(known, cube.seconds[dates], dates.index(date)), NEAR).astype(np.int8)


def _without_break(known: NDArray[np.bool_], order: list[int], place: int) -> NDArray[np.bool_]:
    """Pixels missing on a date and on all dates between it and the one at `place`, (date, row, column).

    `order` sorts the dates by time. False at `place` itself.
    """
    lasting, at = np.zeros_like(known), order.index(place)
    for side in (order[:at][::-1], order[at + 1 :]):
        on = np.ones(known.shape[1:], bool)
        for date in side:
            on &= ~known[date]
            lasting[date] = on
    return lasting


def _moved(
    cube: Cube, gaps: GapReader, sources: Sequence[tuple[int, _Gap]], found: list[Hidden], most: int
) -> list[Hidden]:
    """Copies of at most `most` of the gaps, each of another date, together with the dates on which they last."""
    places: dict[int, list[Window]] = {date: [] for date, _ in sources}
    for date, window in in_order(cube, places):
        if len(places[date]) < _TRIES:
            places[date].append(window)
    made: list[Hidden] = []
    for number, (date, gap) in enumerate(sources):
        if len(made) < most and not any(spot.date == date for spot in made):
            tries = range(number, number + _TRIES)
            lasting = gap.lasting(cube, gaps, date)
            spots = (_elsewhere(cube, gaps, gap, lasting, date, places[date], tried, found + made) for tried in tries)
            made += islice((spot for spot in spots if spot is not None), 1)
    return made


def _elsewhere(
    cube: Cube,
    gaps: GapReader,
    gap: _Gap,
    lasting: NDArray[np.bool_],
    date: int,
    windows: list[Window],
    tried: int,
    found: list[Hidden],
) -> Hidden | None:
    """Lay a gap and its dates into one of the windows of its date; None where too little falls on known pixels."""
    window, lap = windows[tried % len(windows)], tried // len(windows)
    shape, apart, *lost = (
        _shifted(laid(cube, window, part, tried + lap, tried + lap), lap) for part in (gap.shape, gap.apart, *lasting)
    )
    known = known_in(cube, gaps, date, window)
    hidden = known & shape & ~hidden_already(found, date, window)
    judged = (hidden & apart).any(axis=0).sum()
    if judged < max(LEAST_LEFT, _LEAST_MOVED * gap.apart.sum()):
        return None
    if (known & ~hidden).sum() < LEAST_LEFT * len(cube.bands):
        return None
    return Hidden(date, window, hidden, lasting=np.stack(lost))


def _shifted(shape: NDArray[np.bool_], lap: int) -> NDArray[np.bool_]:
    """The gap shape, shifted within the window after `_LAPS` rounds over all windows."""
    return np.roll(shape, max(lap - _LAPS, 0) * np.array([7919, 104729]), axis=(0, 1))

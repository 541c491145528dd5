"""Which dates of a stack a filler looks at, and which are lost with a date that is hidden to try it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filler
from geodiff.fillers.nearness import by_nearness
from geodiff.undated import has_season

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.scan import Scan
    from geodiff.scene import Cube

__all__ = ["LEAST_DATES", "SERIES", "Span", "context", "lost_beside", "lost_spans", "nearest_dates", "seen_dates"]

Span = tuple[float, float]
"""Time from a date to the nearest seen before and after it, `inf` for none."""

LEAST_DATES = 3
"""Of a stack that shows fewer, gaps that last are not looked for, and one of two dates is hidden whole."""
SERIES = 24
"""Nearest dates that come before any that is looked at for its season."""
_DAY = 86_400
_YEAR, _FORTNIGHT = round(365.2425 * _DAY), 14 * _DAY
_GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it fill the unit interval evenly, however many are taken."""


def seen_dates(scan: Scan) -> tuple[bool, ...]:
    """Whether a date shows anything at all."""
    return tuple(bool(n) for n in scan.cells.count.sum(axis=(1, 2, 3)))


def context(cube: Cube, filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """Indices of the dates a filler looks at for one target date, ascending, the target included; see `nearest_dates`.

    Where dates show the day's course, those of the same hour on days around are near as well.
    A filler says with `context_dates` how many neighbours it wants: 0 (the default) none, -1 every date. Dates that
    show nothing at all are none of them.
    """
    return nearest_dates(cube.seconds, filler, target, seen)


def nearest_dates(seconds: NDArray[np.int64], filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """`context` for dates in seconds since 1970; without dates the nearest are those beside it in the stack.

    Of more than `SERIES` those beyond that are of the same season, be it in other years: the nearest need not reach
    around the year.
    """
    wanted = int(getattr(filler, "context_dates", 0))
    line = _time_line(seconds)
    shown = np.flatnonzero(seen)
    others = by_nearness(line, target, shown[shown != target], wanted, day=_DAY).tolist()
    if SERIES < wanted < len(others) and has_season(int(seconds[target])):
        rest = np.array(others[SERIES:])
        others[SERIES:] = rest[np.argsort(_from_season(np.abs(line[rest] - line[target])), kind="stable")].tolist()
    return sorted([target, *(others if wanted < 0 else others[:wanted])])


def _from_season(apart: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fortnights from the same time of the year, of dates so many seconds apart."""
    into = apart % _YEAR
    return np.asarray(np.minimum(into, _YEAR - into) // _FORTNIGHT, np.int64)


def lost_spans(seconds: NDArray[np.int64], seen: Sequence[bool]) -> list[Span]:
    """Of each date that shows nothing; the nearest first.

    What other dates say of one in the middle of many lost ones is not what they say of one between two that are seen.
    """
    line = _time_line(seconds)
    found = (_span(line[list(seen)] - moment) for moment in line[~np.array(seen)])
    return sorted(found, key=lambda span: (min(span), max(span), span))


def lost_beside(
    seconds: NDArray[np.int64], seen: Sequence[bool], date: int, spans: Sequence[Span], turn: int
) -> frozenset[int]:
    """Seen dates that would be lost with a seen one, were it as far from the others as one of the lost dates.

    Turns take spans from all over the list; half of the dates stay. None where the others are farther already.
    """
    others, line = np.flatnonzero(seen), _time_line(seconds)
    others = others[others != date]
    apart = line[others] - line[date]
    now = _span(apart)
    for number in range(len(spans)):
        before, after = spans[(int(len(spans) * (turn * _GOLDEN % 1)) + number) % len(spans)]
        near = (apart > -before) & (apart < after)
        left = 1 + np.count_nonzero(~near)
        if left > max(LEAST_DATES, (1 + len(others)) // 2) and now[0] <= before and now[1] <= after:
            return frozenset(others[near].tolist())
    return frozenset()


def _span(apart: NDArray[np.int64]) -> Span:
    """Of a date so far from each of the others."""
    before, after = (float(side.min()) if side.size else math.inf for side in (-apart[apart <= 0], apart[apart >= 0]))
    return before, after


def _time_line(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where dates in seconds since 1970 lie in time; those of no date as they follow each other in the stack."""
    return seconds if np.ptp(seconds) else np.arange(len(seconds))

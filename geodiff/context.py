"""Which dates of a stack a filler uses, and which a trial hides along with a date."""

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
"""With fewer seen dates, trials copy no lasting gaps, and each of two dates is hidden whole."""
SERIES = 24
"""Nearest dates that are used before any that is used for its season."""
_DAY = 86_400
_YEAR, _FORTNIGHT = round(365.2425 * _DAY), 14 * _DAY
_GOLDEN = (math.sqrt(5) - 1) / 2
"""The fractional parts of its multiples fill the unit interval evenly, however many are taken."""


def seen_dates(scan: Scan) -> tuple[bool, ...]:
    """Whether each date has any known pixel."""
    return tuple(bool(n) for n in scan.cells.count.sum(axis=(1, 2, 3)))


def context(cube: Cube, filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """Indices of the dates that a filler uses for a target date, ascending, the target included; see `nearest_dates`.

    Where the dates resolve the day, those of the same hour on neighbouring days count as near too. A filler declares
    the number of neighbours it uses by `context_dates`: 0 (the default) for none, -1 for all. Dates without known
    pixels are left out.
    """
    return nearest_dates(cube.seconds, filler, target, seen)


def nearest_dates(seconds: NDArray[np.int64], filler: Filler, target: int, seen: Sequence[bool]) -> list[int]:
    """`context` for dates in seconds since 1970; in a stack without dates, those beside the target are the nearest.

    Beyond the `SERIES` nearest ones, dates of the same season in any year are taken.
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
    """Fortnights between the seasons of dates that are so many seconds apart."""
    into = apart % _YEAR
    return np.asarray(np.minimum(into, _YEAR - into) // _FORTNIGHT, np.int64)


def lost_spans(seconds: NDArray[np.int64], seen: Sequence[bool]) -> list[Span]:
    """Spans of the dates without known pixels, those with the nearest seen date first.

    A date amid many lost ones is harder to predict than one between two seen ones.
    """
    line = _time_line(seconds)
    found = (_span(line[list(seen)] - moment) for moment in line[~np.array(seen)])
    return sorted(found, key=lambda span: (min(span), max(span), span))


def lost_beside(
    seconds: NDArray[np.int64], seen: Sequence[bool], date: int, spans: Sequence[Span], turn: int
) -> frozenset[int]:
    """Seen dates that a trial must hide along with `date` for it to be as far from others as one of the lost dates.

    Successive turns take spans from all over the list. At least half of the dates stay; empty where the others are
    farther away already.
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
    """The span of a date from its time differences to the others."""
    before, after = (float(side.min()) if side.size else math.inf for side in (-apart[apart <= 0], apart[apart >= 0]))
    return before, after


def _time_line(seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times in seconds since 1970; indices in the stack where the source has no dates."""
    return seconds if np.ptp(seconds) else np.arange(len(seconds))

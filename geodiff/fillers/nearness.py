"""Which dates are near another one, where a day's course counts too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["by_nearness", "has_hours", "time_apart"]

_SAME_DAY = (1 / 24, 0.4)
"""Days between dates that show one day at two hours: tiles of a pass lie nearer together, day and night farther."""
_OTHER_DAY = 1 / 8
"""Days as which a whole day counts where dates show the day's course: yesterday's noon is as near as three hours."""
_APART, _FAR_APART = 0.25, 0.03
"""Share of the time to the target that dates of a day's course are apart at least, from one to the next, and days that
are always enough: by the hour every date is one to look at."""
_EXACT = 1e-6
"""Days by which times in days may be off for being floating numbers."""


def by_nearness(
    times: NDArray[Any], target: int, others: NDArray[np.intp], most: int, *, day: int
) -> NDArray[np.intp]:
    """`others` from the nearest to the farthest; the first `most` (-1: all) of them are those to look at.

    Where dates show the day's course, those that lie close beside one that is taken tell little more than that, the
    less the farther both are: of series by the minute the nearest thirty would not reach beyond a cloud. So they are
    passed over as long as there are others.
    """
    apart = time_apart(times, target, day)
    order = others[np.argsort(apart[others], kind="stable")]
    if not 0 < most < len(order) or not has_hours(times, day):
        return order
    taken: list[int] = []
    for date in order.tolist():
        if len(taken) == most:
            break
        enough = min(_APART * apart[date], _FAR_APART * day) - _EXACT * day
        if not taken or np.abs(times[taken] - times[date]).min() >= enough:
            taken.append(date)
    return np.concatenate([np.array(taken, np.intp), order[~np.isin(order, taken)]])


def time_apart(times: NDArray[Any], target: int, day: int) -> NDArray[Any]:
    """(date,) how far dates are from one of them, in the units of `times`, of which a day has `day`.

    Where most dates show some day at several hours, the same hour of another day is near too: light and warmth go
    round with the day, and noon is more like yesterday's noon than like the night between.
    """
    straight = np.asarray(np.abs(times - times[target]))
    if not has_hours(times, day):
        return straight
    turns = np.rint(straight / day)
    return np.asarray(np.minimum(straight, np.abs(straight - day * turns) + _OTHER_DAY * day * turns))


def has_hours(times: NDArray[Any], day: int) -> bool:
    """Whether dates show the day's course: most of them have another one of the same day, some hours away."""
    line = np.sort(times)
    low, high = (share * day for share in _SAME_DAY)
    seen = _any_between(line, low, high) | _any_between(line, -high, -low)
    return bool(2 * np.count_nonzero(seen) > len(line))


def _any_between(line: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    """(date,) whether one of the dates, ascending, lies so far after each."""
    return np.asarray(np.searchsorted(line, line + high, "right") > np.searchsorted(line, line + low))

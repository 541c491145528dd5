"""One band of a patch over time: its known pixels on all dates, and curves through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.nearness import by_nearness, has_hours
from geodiff.fillers.relaxation import push, push_weights
from geodiff.undated import UNDATED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch

    Planes = NDArray[np.float32]
    Known = NDArray[np.bool_]

__all__ = [
    "Series",
    "climatology",
    "days_of",
    "harmonic",
    "interpolated",
    "linear",
    "near_mean",
    "screened",
    "seasonal",
    "spacing",
    "spread",
    "times_around",
    "whittaker",
]

DAY = 86_400.0
YEAR = 365.2425
_FEWEST = 0.01
"""Known share below which a date is not used as one of the nearest."""
_TINY = 1e-6
_SEASONS = 1.5
"""Years that dates must span to separate a season from a trend."""
_TOGETHER = 4096
"""Pixels whose series are smoothed together: about 30 dates of them fit into the cache of a core."""
_DAYS = 1.5
"""Days that dates must span to separate a daily cycle from a trend."""
_HOUR = 1.5 / 24
"""Standard deviation, in days, of the weights by hour of the day."""
_STICKS_OUT = 6.0
"""Robust standard deviations; 4 and 8 gained as much or less on validation stacks."""


@dataclass(frozen=True, slots=True)
class Series:
    """Planes of one band in the order of time, one of which is the target."""

    values: Planes
    """(date, row, column), normalised; 0 where not known."""
    known: Known
    days: NDArray[np.float64]
    """(date,) days since 1970, ascending; the index along the axis where the source has no dates."""
    target: int
    """Index of the plane to estimate."""
    band: int = 0
    """Index of the band in the scene."""

    @classmethod
    def of(cls, patch: Patch, target: int, band: int, most: int) -> Series:
        """A band of a patch on the target date and on the `most` nearest dates with data.

        Parameters
        ----------
        target : index into the patch's dates.
        most : number of dates besides the target; -1 for all.
        """
        days = days_of(patch.dates)
        chosen = _nearest(days, target, most, patch.known[:, band])
        order = chosen[np.argsort(days[chosen], kind="stable")]
        place = int(np.flatnonzero(order == target)[0])
        if (np.diff(order) == 1).all():  # most often; a view
            dates = slice(order[0], order[-1] + 1)
            return cls(patch.values[dates, band], patch.known[dates, band], days[dates], place, patch.first_band + band)
        return cls(patch.values[order, band], patch.known[order, band], days[order], place, patch.first_band + band)

    @property
    def others(self) -> NDArray[np.intp]:
        """Indices of the dates that are not the target."""
        return np.delete(np.arange(len(self.days)), self.target)

    @property
    def seen(self) -> Known:
        """Pixels known on some other date: (row, column)."""
        anywhere = np.zeros(self.known.shape[1:], np.bool_)
        for date in self.others:
            anywhere |= self.known[date]
        return anywhere


def days_of(seconds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Days since 1970; counted from 0 where the source has no dates, and evenly spaced where all dates are the same."""
    if len(seconds) > 1 and (seconds == seconds[0]).all():
        return np.arange(len(seconds), dtype=np.float64)
    since = UNDATED if len(seconds) and seconds[0] <= UNDATED // 2 else 0
    return (seconds - since) / DAY


def _nearest(days: NDArray[np.float64], target: int, most: int, known: Known) -> NDArray[np.intp]:
    """Indices of the target and the nearest other dates with data; the earlier of two equally near."""
    share = np.array([np.count_nonzero(plane) / plane.size for plane in known])
    useful = np.flatnonzero((share > _FEWEST) & (np.arange(len(days)) != target))
    order = by_nearness(days, target, useful, most, day=1)
    return np.append(order[:most] if most >= 0 else order, target)


def spacing(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Steps between dates in units of the median step; at least a tenth, for duplicate dates."""
    return np.maximum(np.diff(days) / median_step(days), 0.1)


def median_step(days: NDArray[np.float64]) -> float:
    """Median step between dates, in days, without duplicates; 1 where there is no step."""
    steps = np.diff(days)
    positive = steps[steps > 0]
    return float(np.median(positive)) if positive.size else 1.0


def linear(series: Series) -> NDArray[np.float32]:
    """Linear interpolation of the target (row, column) between the nearest dates that know the pixel.

    The nearest date where they all lie on one side; NaN where no other date knows the pixel.
    """
    line: Planes = interpolated(series, [series.target])[0]
    return line


def interpolated(series: Series, wanted: Sequence[int]) -> Planes:
    """`linear` for several dates (wanted, row, column), each from the other dates alone and never from the target."""
    first = _last_known(series.values, series.known, series.target, wanted, forward=True)
    second = _last_known(series.values, series.known, series.target, wanted, forward=False)
    share, nothing = _shares(series.known, tuple(_relative(series).tolist()), series.target, tuple(wanted))
    second -= first
    second *= share
    second += first
    second[nothing] = np.nan
    return second


def _relative(series: Series) -> NDArray[np.float32]:
    """Days since the target (date,); single precision resolves minutes over decades."""
    return np.asarray(series.days - series.days[series.target], np.float32)


@once_a_mask
def _shares(
    known: Known, days: tuple[float, ...], target: int, wanted: tuple[int, ...]
) -> tuple[NDArray[np.float32], Known]:
    """Weight of the next known date against the last one, and where there is neither: (wanted, row, column) each."""
    at = np.array(days, np.float32)
    ahead = _last_known(at, known, target, wanted, forward=True, before=-np.inf)
    behind = _last_known(at, known, target, wanted, forward=False, before=np.inf)
    never = np.isinf(ahead)
    with np.errstate(invalid="ignore"):  # infinite over infinite, replaced below
        share: Planes = (at[list(wanted), None, None] - ahead) / np.maximum(behind - ahead, np.float32(1e-6))
    share[never] = 1  # and 0 where nothing follows
    return share, never & np.isinf(behind)


def times_around(series: Series, wanted: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Days from the last date that knows a pixel and to the next one, `inf` for none: (wanted, row, column) each."""
    at = _relative(series)
    ahead = _last_known(at, series.known, series.target, wanted, forward=True, before=-np.inf)
    behind = _last_known(at, series.known, series.target, wanted, forward=False, before=np.inf)
    own = at[list(wanted), None, None]
    return (own - ahead).astype(np.float64), (behind - own).astype(np.float64)


def _last_known(
    values: NDArray[np.float32], known: Known, target: int, wanted: Sequence[int], *, forward: bool, before: float = 0
) -> Planes:
    """Value on the last date before each wanted one that knows a pixel, or on the next: (wanted, row, column).

    Parameters
    ----------
    values : (date, row, column), or one for all pixels of a date; those of the target are not used.
    forward : whether to take the last date before the wanted one, rather than the next after it.
    before : value where there is no such date.
    """
    value, found = np.full(known.shape[1:], before, np.float32), np.empty((len(wanted), *known.shape[1:]), np.float32)
    places = {date: place for place, date in enumerate(wanted)}
    last = max(wanted) if forward else min(wanted)
    for date in range(last + 1) if forward else range(len(known) - 1, last - 1, -1):
        if date in places:
            found[places[date]] = value
        if date != target:
            np.copyto(value, values[date], where=known[date])
    return found


def screened(series: Series) -> Series:
    """The series without outliers in time, mostly clouds and shadows that the product does not flag.

    Applied twice, because the largest of several consecutive outliers is removed first. Short real changes are removed
    as well, so callers have to check that screening pays.
    """
    known = series.known
    for _ in range(2):
        known = known & ~_sticking_out(replace(series, known=known))
    return replace(series, values=np.where(known, series.values, np.float32(0)), known=known)


def _sticking_out(series: Series) -> Known:
    """Outliers (date, row, column): farther from the line between their neighbours in time than these are from theirs.

    The scale combines that of the window and that of the pixel in equal parts, as some ground changes more than other.
    """
    dates = range(len(series.days))
    departure = np.abs(series.values - interpolated(series, dates))
    departure = np.where(series.known, departure, np.float32(np.nan))
    if np.isnan(departure).all():
        return np.zeros_like(series.known)
    own = np.nan_to_num(_median_of_known(departure))
    scale = 1.4826 * np.sqrt(0.5 * np.nanmedian(departure) ** 2 + 0.5 * own**2)
    height = np.nan_to_num(departure / np.maximum(scale, _TINY))
    around = [_last_known(height, series.known, series.target, dates, forward=way) for way in (True, False)]
    out: Known = (height > _STICKS_OUT) & (height >= np.maximum(*around))
    out[series.target] = False
    return out


def _median_of_known(planes: Planes) -> Planes:
    """Median over the dates (row, column), the lower one of two; NaN where every date is NaN."""
    ordered = np.sort(planes, axis=0)  # NaN last
    middle = np.maximum(np.isfinite(planes).sum(axis=0) - 1, 0) // 2
    median: Planes = np.take_along_axis(ordered, middle[None], axis=0)[0]
    return median


def spread(planes: Planes, known: Known) -> Planes:
    """Spread known values over their planes at half resolution by push-pull; cheap, for planes that serve as context.

    `planes` are 0 where not known. A plane without known pixels becomes 0.
    """
    count, rows, columns = planes.shape
    if rows % 2 or columns % 2:
        even = ((0, 0), (0, rows % 2), (0, columns % 2))
        planes, known = np.pad(planes, even), np.pad(known, even)
    (weight, weights), total = _half_weights(known), _blocks(planes)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    half = push(mean, weights) if count else mean
    return _doubled(_doubled(half, 1), 2)[:, :rows, :columns]


@once_a_mask
def _half_weights(known: Known) -> tuple[Planes, list[tuple[Planes, Planes]]]:
    """Number of known pixels in each block of 2 x 2, and the weights that `push` needs for it."""
    weight = _blocks(known.view(np.uint8)).astype(np.float32)
    return weight, push_weights(weight, None)


def _blocks(planes: NDArray[Any]) -> NDArray[Any]:
    """Sums over blocks of 2 x 2."""
    pairs = planes[:, ::2] + planes[:, 1::2]
    return np.asarray(pairs[..., ::2] + pairs[..., 1::2])


def _doubled(planes: Planes, axis: int) -> Planes:
    """Twice as many rows (axis 1) or columns (axis 2), linear between the centres of the old ones."""
    shape = list(planes.shape)
    shape[axis] *= 2
    fine, steps = np.empty(shape, np.float32), np.empty_like(planes)
    old, step, new = (np.swapaxes(each, 1, axis) for each in (planes, steps, fine))  # views: nothing is moved
    np.subtract(old[:, :-1], old[:, 1:], out=step[:, 1:])
    step[:, :1] = 0
    steps *= np.float32(0.25)
    np.add(old, step, out=new[:, ::2])
    np.subtract(old[:, 1:], old[:, :-1], out=step[:, :-1])
    step[:, -1:] = 0
    steps *= np.float32(0.25)
    np.add(old, step, out=new[:, 1::2])
    return fine


# curves through the known dates of each pixel


def harmonic(series: Series, order: int, ridge: float) -> NDArray[np.float32]:
    """A trend and `order` yearly harmonics through each pixel's other dates, at the target; NaN where there is none.

    Daily harmonics of the same order are added where the dates resolve the day. The coefficients of a pixel are shrunk
    by ridge regression to those of the whole window (Roerink et al. 2000, with the penalty of Zhou et al. 2015), the
    constant a hundred times less.
    """
    terms, coefficients = _harmonics(series, order, ridge)
    curve = (coefficients @ terms[series.target]).reshape(series.seen.shape)
    return _within_range(np.where(series.seen, curve, np.nan).astype(np.float32), series)


def _harmonics(series: Series, order: int, ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The terms that `harmonic` fits (date, term), and their coefficients (pixel, term)."""
    terms = _waves(series.days, series.days[series.target], order)
    others = series.others
    known = series.known[others].reshape(len(others), -1).astype(np.float64)
    values = series.values[others].reshape(len(others), -1) * known
    design, count = terms[others], terms.shape[1]
    penalty = ridge * np.diag([0.01] + [1.0] * (count - 1))
    total = known.sum(axis=1)
    regular = (design * total[:, None]).T @ design + 1e-6 * max(float(total.sum()), 1.0) * np.eye(count)
    pooled = np.linalg.solve(regular, design.T @ values.sum(axis=1))
    departure = values - known * (design @ pooled)[:, None]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(others), -1)
    normal = (known.T @ products).reshape(-1, count, count) + penalty
    own = np.linalg.solve(normal, (departure.T @ design)[..., None])[..., 0]
    return terms, np.asarray(own + pooled, np.float64)


def seasonal(series: Series, order: int = 2, ridge: float = 1.0) -> NDArray[np.float32]:
    """Harmonics through the other dates plus `linear` of the departures from them; NaN where `linear` is.

    A line between two dates cuts off the peak of a year, or of a day, the more the farther apart they are. Equal to
    `linear` where the dates span less than a year and a half and do not resolve the day, as a trend and harmonics are
    not constrained then.
    """
    others = series.others
    if not len(others) or not (np.ptp(series.days[others]) >= _SEASONS * YEAR or _tells_hours(series.days)):
        return linear(series)
    terms, coefficients = _harmonics(series, order, ridge)
    curve = (terms @ coefficients.T).reshape(series.values.shape).astype(np.float32)
    departed = replace(series, values=np.where(series.known, series.values - curve, np.float32(0)))
    moved: Planes = linear(departed) + curve[series.target]
    return moved


def _within_range(curve: Planes, series: Series) -> Planes:
    """The curve, bounded by the least and greatest value of the pixel's other dates, to prevent extrapolation."""
    low, high = np.full(curve.shape, np.inf, np.float32), np.full(curve.shape, -np.inf, np.float32)
    for date in series.others:
        np.minimum(low, series.values[date], out=low, where=series.known[date])
        np.maximum(high, series.values[date], out=high, where=series.known[date])
    held: Planes = np.minimum(np.maximum(curve, low), high)
    return held


def _waves(days: NDArray[np.float64], centre: float, order: int) -> NDArray[np.float64]:
    """Terms (date, term): 1, years from `centre`, cosines and sines of the year, and of the day if resolved."""
    years = (days - centre) / YEAR
    span = max(float(np.ptp(years)), 1e-6)
    periods = (YEAR, 1.0) if _tells_hours(days) else (YEAR,)
    waves = [f(2 * np.pi * (n + 1) * days / p) for p in periods for n in range(order) for f in (np.cos, np.sin)]
    return np.stack([np.ones_like(years), years / span, *waves], axis=1)


def _tells_hours(days: NDArray[np.float64]) -> bool:
    """Whether the dates resolve the daily cycle and span more than a day."""
    return bool(np.ptp(days) >= _DAYS) and has_hours(days, 1)


def climatology(series: Series, width: float, background: float = 0.02) -> NDArray[np.float32]:
    """Mean of the other dates weighted by nearness in the year, at the target; NaN where no other date knows a pixel.

    Where the dates resolve the day, nearness in the hour of the day counts too.

    Parameters
    ----------
    width : standard deviation of the weights, in days of the year.
    background : weight of a date half a year away, for pixels that are known in no other season.
    """
    apart = np.abs(series.days - series.days[series.target]) % YEAR
    squares = (np.minimum(apart, YEAR - apart) / width) ** 2
    if _tells_hours(series.days):
        straight = np.abs(series.days - series.days[series.target])
        squares += ((straight - np.rint(straight)) / _HOUR) ** 2
    return _weighted_mean(series, (np.exp(-0.5 * squares) + background).astype(np.float32))


def near_mean(series: Series) -> NDArray[np.float32]:
    """Mean of the other dates, weighted by one over the time between; NaN where none knows a pixel."""
    apart = np.abs(series.days - series.days[series.target])
    return _weighted_mean(series, (1.0 / (apart / median_step(series.days) + 0.3)).astype(np.float32))


def _weighted_mean(series: Series, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted mean over the other dates, pixel by pixel; NaN where none knows the pixel."""
    total, mean = np.zeros(series.seen.shape, np.float32), np.zeros(series.seen.shape, np.float32)
    for date in series.others:
        held = series.known[date] * weight[date]
        total += held
        mean += held * series.values[date]
    return np.divide(mean, total, out=np.full(mean.shape, np.nan, np.float32), where=total > 0)


def whittaker(series: Series, smoothness: float) -> NDArray[np.float32]:
    """Whittaker's smoother with second divided differences through each pixel's other dates, at the target.

    Eilers (2003), with steps in units of the median one, so that dates may be irregular. NaN where no other date knows
    a pixel.
    """
    count = len(series.days)
    seen = series.seen
    if count < 3:
        return linear(series)
    weight, values = series.known[:, seen].astype(np.float64), series.values[:, seen]
    weight[series.target] = 0.0
    diagonals = _second_differences(spacing(series.days), smoothness)
    mean = (weight * values).sum(axis=0) / weight.sum(axis=0)
    smooth = np.empty(mean.shape)
    for first in range(0, len(mean), _TOGETHER):
        some = np.s_[first : first + _TOGETHER]
        held = weight[:, some]
        solved = _pentadiagonal(diagonals, held, held * (values[:, some] - mean[some]))
        smooth[some] = solved[series.target]
    curve = np.full(seen.shape, np.nan, np.float32)
    curve[seen] = smooth + mean
    return _within_range(curve, series)


def _second_differences(steps: NDArray[np.float64], smoothness: float) -> NDArray[np.float64]:
    """Main, first and second diagonal (3, date) of smoothness x D'D plus a small ridge that keeps it regular."""
    count = len(steps) + 1
    rows = np.zeros((count - 2, count))
    for i in range(count - 2):
        left, right = steps[i], steps[i + 1]
        rows[i, i : i + 3] = np.array([1 / left, -1 / left - 1 / right, 1 / right]) * 2 / (left + right)
    penalty = smoothness * rows.T @ rows + 1e-3 * np.eye(count)
    return np.stack([np.pad(np.diagonal(penalty, k), (0, k)) for k in range(3)])


def _pentadiagonal(
    diagonals: NDArray[np.float64], weight: NDArray[np.float64], right: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve (W + P) z = r for every pixel, (date, pixel), by an L D L' factorisation along the dates."""
    count = len(right)
    pivot, first, second, z = np.empty_like(right), np.zeros_like(right), np.zeros_like(right), right.copy()
    for i in range(count):
        pivot[i] = weight[i] + diagonals[0, i]
        lower = np.full(right.shape[1], diagonals[1, i])
        if i > 0:
            pivot[i] -= first[i - 1] ** 2 * pivot[i - 1]
            lower -= first[i - 1] * second[i - 1] * pivot[i - 1]
            z[i] -= first[i - 1] * z[i - 1]
        if i > 1:
            pivot[i] -= second[i - 2] ** 2 * pivot[i - 2]
            z[i] -= second[i - 2] * z[i - 2]
        first[i], second[i] = lower / pivot[i], diagonals[2, i] / pivot[i]
    z /= pivot
    for i in reversed(range(count - 1)):
        z[i] -= first[i] * z[i + 1]
        if i + 2 < count:
            z[i] -= second[i] * z[i + 2]
    return z

"""Optimal interpolation in space and time, for stacks of which little is known: tracks, narrow swaths, casts, ships.

Each missing pixel is the best linear unbiased prediction from what all dates around know nearby (Bretherton, Davis and
Fandry 1976). The covariance is a Matern one in space times one in time, part of which may last; it is chosen by
likelihood on some of the scene's own pixels. Lines and points do not show a covariance lag by lag, as images do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geodiff.fillers.kriging import RING, tiles
from geodiff.fillers.series import days_of, median_step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch

    Numbers = NDArray[np.float64]

__all__ = ["Coupled", "Points", "filled_between", "likeliest"]

_MOST = 300
"""Known pixels of one system, those that tell most of a tile."""
_AMONG = 1500
"""Points that tell something of a tile, among which they are chosen."""
_LEVEL = 10.0
"""Variance of the unknown mean, in variances of the field: large makes the prediction unbiased."""
_GROUP = 48
"""Known pixels near one place, and as many from all over a patch, that are looked at together by the likelihood."""
_STEP = 4.0
"""Pixels as which a step in time counts where pixels near one place are chosen."""
_TURNS = 80
"""Evaluations of the likelihood for each pair of shapes."""
_SHAPES = ((1.5, 0.5), (1.5, 1.5), (0.5, 0.5))
"""Smoothness in space and in time."""
_START = np.log([12.0, 4.0, 0.1, 0.02])
_LEAST, _GREATEST = np.log([0.7, 0.2, 0.01, 1e-4]), np.log([150.0, 200.0, 0.99, 3.0])


@dataclass(frozen=True, slots=True)
class Coupled:
    """A covariance in space and time."""

    smoothness: float
    """Of the Matern covariance in space: 0.5, 1.5 or 2.5."""
    steadiness: float
    """The same in time."""
    length: float
    """Pixels."""
    lasting: float
    """Steps between dates."""
    static: float
    """Share that all dates have in common."""
    nugget: float
    """Variance that belongs to single pixels, in shares of the field's."""
    variance: float
    """Of the field, in squares of normalised values."""
    step: float | None = None
    """Days, the median between the dates that it was learnt from; None: between those of each patch."""

    def correlation(self, apart: Numbers, later: Numbers) -> Numbers:
        """Of the field, so many pixels and steps apart."""
        return np.asarray(self.in_space(apart) * self.in_time(later), np.float64)

    def in_space(self, apart: Numbers) -> Numbers:
        """Correlation on one date, so many pixels apart."""
        return _matern(apart / self.length, self.smoothness)

    def in_time(self, later: Numbers) -> Numbers:
        """Correlation of one pixel, so many steps apart."""
        return np.asarray(self.static + (1.0 - self.static) * _matern(later / self.lasting, self.steadiness))


class _Group(NamedTuple):
    """Known pixels (point,) that the likelihood looks at together."""

    apart: Numbers
    """(point, point) pixels."""
    later: Numbers
    """(point, point) days; steps where the likelihood looks at them."""
    level: Numbers
    """(point,) less their mean."""


@dataclass(frozen=True, slots=True)
class Points:
    """Known pixels of one band of a patch."""

    index: NDArray[np.intp]
    """(3, point): date, row, column."""
    place: Numbers
    """(point, 3): days, row, column."""
    value: Numbers
    """(point,) normalised."""
    step: float
    """Days, the median between the patch's dates."""

    @classmethod
    def of(cls, patch: Patch, band: int) -> Points:
        """All that is known, with its margin; once: mirrored beyond the raster it would count as seen there too."""
        known = np.zeros_like(patch.known[:, band])
        known[:, *patch.real] = patch.known[:, band, *patch.real]
        index = np.stack(np.nonzero(known))
        date, row, column = index
        days = days_of(patch.dates)
        place = np.stack([days[date] - days.min(), row, column], axis=1)
        return cls(index, place, patch.values[date, band, row, column].astype(np.float64), median_step(np.sort(days)))

    def group(self, number: int) -> _Group:
        """As many near one place as from all over."""
        centre = self.place[(2 * number + 1) * 7919 % len(self.value)]
        order = np.argsort(np.abs((self.place - centre) * [_STEP / self.step, 1.0, 1.0]).sum(axis=1), kind="stable")
        rest = order[_GROUP:]
        chosen = np.concatenate([order[:_GROUP], rest[:: max(1, -(-len(rest) // _GROUP))]])
        place, value = self.place[chosen].astype(np.float64), self.value[chosen]
        apart = np.hypot(*(place[:, None, axis] - place[:, axis] for axis in (1, 2)))
        return _Group(apart, np.abs(place[:, None, 0] - place[:, 0]), value - value.mean())


def likeliest(some: Iterable[Points]) -> Coupled | None:
    """The covariance under which groups of known pixels are likeliest; None where hardly any are known.

    Times are in steps of one length: dates that lie closer together in one patch than in another change no less a day.
    """
    enough = ((number, points) for number, points in enumerate(some) if len(points.value) > _GROUP)
    found = [(points.group(number), points.step) for number, points in enough]  # one patch's points at a time
    step = float(np.median([own for _, own in found])) if found else 1.0
    groups = [group._replace(later=group.later / step) for group, _ in found]
    best: tuple[float, Coupled] | None = None
    start = _START
    for shapes in _SHAPES if groups else ():
        loss, start, coupled = _fitted(groups, shapes, start, step)
        if best is None or loss < best[0]:
            best = loss, coupled
    return best[1] if best else None


def _fitted(
    groups: Sequence[_Group], shapes: tuple[float, float], start: Numbers, step: float
) -> tuple[float, Numbers, Coupled]:
    """Of such shapes: twice the negative log likelihood, the logarithms that it is least with, and what they say."""
    from scipy.optimize import minimize

    def coupled(numbers: Numbers, variance: float = 1.0) -> Coupled:
        length, lasting, static, nugget = np.exp(np.clip(numbers, _LEAST, _GREATEST)).tolist()
        return Coupled(*shapes, length, lasting, static, nugget, variance, step)

    def both(numbers: Numbers) -> tuple[float, float]:
        return _likelihood(groups, coupled(numbers))

    found = minimize(lambda numbers: both(numbers)[0], start, method="Nelder-Mead", options={"maxfev": _TURNS})
    loss, variance = both(found.x)
    return loss, found.x, coupled(found.x, variance)


def _likelihood(groups: Sequence[_Group], coupled: Coupled) -> tuple[float, float]:
    """Twice the negative log likelihood, and the variance of the field, which is the likeliest."""
    from scipy.linalg.lapack import dpotrf, dtrtrs

    squares, logarithms, count = 0.0, 0.0, 0
    for group in groups:
        system = coupled.correlation(group.apart, group.later) + _LEVEL
        system[np.diag_indices(len(system))] += coupled.nugget
        factor, failed = dpotrf(system, lower=True, overwrite_a=True)
        if failed:
            return np.inf, 1.0
        half, _ = dtrtrs(factor, group.level, lower=True)
        squares += float(half @ half)
        logarithms += 2.0 * float(np.log(np.diagonal(factor)).sum())
        count += len(half)
    variance = max(squares / count, 1e-12)
    return count * float(np.log(variance)) + logarithms, variance


def filled_between(
    patch: Patch, target: int, band: int, coupled: Coupled
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(row, column) twice, with margin: a target's band, and its standard error where something is to be estimated."""
    from scipy.ndimage import maximum_filter

    wanted: NDArray[np.bool_] = np.zeros(patch.known.shape[2:], bool)
    wanted[patch.core] = patch.missing[patch.targets.index(target), band]
    points = Points.of(patch, band)
    if not len(points.value):
        return patch.coarse[target, band], np.ones(wanted.shape, np.float32)
    times = days_of(patch.dates) / (points.step if coupled.step is None else coupled.step)
    tables = _Tables(coupled, wanted.shape, times)
    rim = patch.known[target, band] & maximum_filter(wanted, size=2 * RING + 1)
    value, error = _interpolated(points, coupled, tables, target, wanted, rim)
    return np.where(wanted, value, patch.values[target, band]), np.where(wanted, error, np.float32(1))


class _Tables:
    """Correlations of a patch's pixels by lag, and of its dates."""

    def __init__(self, coupled: Coupled, shape: tuple[int, ...], times: Numbers) -> None:
        rows, columns = (np.abs(np.arange(1 - n, n, dtype=np.float64)) for n in shape)
        self._in_space = coupled.in_space(np.hypot(rows[:, None], columns)).ravel()
        self._in_time = coupled.in_time(np.abs(times[:, None] - times))
        self._width = len(columns)
        self._centre = (shape[0] - 1) * self._width + shape[1] - 1

    def between(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> Numbers:
        """(first, second) of places (3, point): date, row, column."""
        one, other = (places[1] * self._width + places[2] for places in (first, second))
        found = self._in_space.take((self._centre + one)[:, None] - other)
        found *= self._in_time[first[0][:, None], second[0]]
        return np.asarray(found)


def _interpolated(
    points: Points,
    coupled: Coupled,
    tables: _Tables,
    date: int,
    wanted: NDArray[np.bool_],
    rim: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(row, column) twice: prediction and its standard error, where wanted on a date; 0 elsewhere.

    `rim` is what that date knows next to what is wanted, of which nothing is passed over.
    """
    value, variance, weight = (np.zeros(wanted.shape) for _ in range(3))
    beside = (points.index[0] == date) & rim[points.index[1], points.index[2]]
    for (rows, columns), share in tiles(wanted):
        targets = np.stack([np.full(len(rows), date), rows, columns])
        found, unsure = _solved(points, coupled, tables, targets, beside)
        value[rows, columns] += share * found
        variance[rows, columns] += share * unsure
        weight[rows, columns] += share
    weight[~wanted] = 1.0
    return (value / weight).astype(np.float32), np.sqrt(variance / weight).astype(np.float32)


def _solved(
    points: Points, coupled: Coupled, tables: _Tables, targets: NDArray[np.intp], beside: NDArray[np.bool_]
) -> tuple[Numbers, Numbers]:
    """Prediction of the targets of one tile, and its variance."""
    from scipy.linalg.lapack import dpotrf, dtrtrs

    middle = np.rint(targets.mean(axis=1, keepdims=True)).astype(np.intp)
    lowest, highest = targets.min(axis=1)[:, None] - RING, targets.max(axis=1)[:, None] + RING
    near = np.flatnonzero(beside & ((points.index >= lowest) & (points.index <= highest)).all(axis=0))
    chosen = _telling(tables.between(middle, points.index)[0], near)
    place, values = points.index[:, chosen], points.value[chosen]
    mean = values.mean()
    system = tables.between(place, place) + _LEVEL
    system[np.diag_indices(len(system))] += max(coupled.nugget, 1e-4)
    factor, _ = dpotrf(system.T, lower=True, overwrite_a=True)
    asked = tables.between(targets, place) + _LEVEL
    half, _ = dtrtrs(factor, np.concatenate([asked, (values - mean)[None]]).T, lower=True, overwrite_b=True)
    weights, level = half[:, :-1], half[:, -1]
    left = np.maximum(1.0 + _LEVEL - np.einsum("st,st->t", weights, weights), 0.0) + coupled.nugget
    return np.clip(level @ weights + mean, values.min(), values.max()), coupled.variance * left


def _telling(correlation: Numbers, near: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of correlated points that are looked at: near ones, the most correlated, and some of the `_AMONG` next.

    A third each: swaths would otherwise fill all of a system with what one edge of theirs says already.
    """
    if len(correlation) <= _MOST:
        return np.arange(len(correlation))
    count = min(_AMONG, len(correlation) - 1)
    some = np.argpartition(-correlation, count)[:count]
    order = some[np.argsort(-correlation[some], kind="stable")]
    near = _evenly(near, _MOST // 3)
    order = order[~np.isin(order, near)]
    most = (_MOST - len(near)) // 2
    return np.concatenate([near, order[:most], _evenly(order[most:], most)])


def _evenly(some: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return some[:: max(1, -(-len(some) // most))]


def _matern(distance: Numbers, smoothness: float) -> Numbers:
    """Correlation at distances in lengths, in closed form (Rasmussen and Williams 2006, 4.17)."""
    scaled = np.sqrt(2.0 * smoothness) * distance
    series = {0.5: 1.0, 1.5: 1.0 + scaled, 2.5: 1.0 + scaled + scaled * scaled / 3.0}[smoothness]
    return np.asarray(series * np.exp(-scaled))

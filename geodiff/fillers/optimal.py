"""Optimal interpolation in space and time, for sparse stacks: tracks, narrow swaths, casts, ships.

Each missing pixel is the best linear unbiased prediction from known pixels nearby in space and time (Bretherton, Davis
and Fandry 1976). The covariance is a Matern covariance in space times one in time, part of which may be constant in
time. It is chosen by likelihood on some of the scene's own pixels, because lines and points do not allow it to be
measured lag by lag, as images do.
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
"""Most known pixels of one system, the most informative ones for a tile."""
_AMONG = 1500
"""Most correlated points of a tile, among which these are chosen."""
_LEVEL = 10.0
"""Variance of the unknown mean, in variances of the field: large makes the prediction unbiased."""
_GROUP = 48
"""Known pixels near one place, and as many from all over a patch, that form one group of the likelihood."""
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
    """Smoothness of the Matern covariance in space: 0.5, 1.5 or 2.5."""
    steadiness: float
    """The same in time."""
    length: float
    """Correlation length in space, in pixels."""
    lasting: float
    """Correlation length in time, in steps between dates."""
    static: float
    """Share of the variance that is constant in time."""
    nugget: float
    """Variance of pixel noise, as a share of that of the field."""
    variance: float
    """Variance of the field, in normalised units squared."""
    step: float | None = None
    """Median step, in days, between the dates of the fit; None uses that of each patch."""

    def correlation(self, apart: Numbers, later: Numbers) -> Numbers:
        """Correlation of the field at so many pixels and steps apart."""
        return np.asarray(self.in_space(apart) * self.in_time(later), np.float64)

    def in_space(self, apart: Numbers) -> Numbers:
        """Correlation on one date, so many pixels apart."""
        return _matern(apart / self.length, self.smoothness)

    def in_time(self, later: Numbers) -> Numbers:
        """Correlation of one pixel, so many steps apart."""
        return np.asarray(self.static + (1.0 - self.static) * _matern(later / self.lasting, self.steadiness))


class _Group(NamedTuple):
    """Known pixels (point,) of one group of the likelihood."""

    apart: Numbers
    """(point, point) pixels."""
    later: Numbers
    """(point, point) days; in steps within `likeliest`."""
    level: Numbers
    """(point,) values less their mean."""


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
    """Median step between the patch's dates, in days."""

    @classmethod
    def of(cls, patch: Patch, band: int) -> Points:
        """All known pixels of a band, margin included, but without their mirror images beyond the raster."""
        known = np.zeros_like(patch.known[:, band])
        known[:, *patch.real] = patch.known[:, band, *patch.real]
        index = np.stack(np.nonzero(known))
        date, row, column = index
        days = days_of(patch.dates)
        place = np.stack([days[date] - days.min(), row, column], axis=1)
        return cls(index, place, patch.values[date, band, row, column].astype(np.float64), median_step(np.sort(days)))

    def group(self, number: int) -> _Group:
        """A group of known pixels, half of them near one place and half from all over."""
        centre = self.place[(2 * number + 1) * 7919 % len(self.value)]
        order = np.argsort(np.abs((self.place - centre) * [_STEP / self.step, 1.0, 1.0]).sum(axis=1), kind="stable")
        rest = order[_GROUP:]
        chosen = np.concatenate([order[:_GROUP], rest[:: max(1, -(-len(rest) // _GROUP))]])
        place, value = self.place[chosen].astype(np.float64), self.value[chosen]
        apart = np.hypot(*(place[:, None, axis] - place[:, axis] for axis in (1, 2)))
        return _Group(apart, np.abs(place[:, None, 0] - place[:, 0]), value - value.mean())


def likeliest(some: Iterable[Points]) -> Coupled | None:
    """The covariance that maximises the likelihood of groups of known pixels; None where hardly any are known.

    Times are in steps of one common length, so that patches with closer dates get the same covariance per day.
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
    """For these smoothnesses, the least of twice the negative log likelihood, its parameters in log, and the result."""
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
    """Twice the negative log likelihood, and the variance of the field that minimises it."""
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
    """Value of a band on a target date, and standard error where it is estimated; (row, column), with margin."""
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
        """Correlations (first, second) between places (3, point): date, row, column."""
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
    """Prediction and standard error (row, column) each, where wanted on a date; 0 elsewhere.

    `rim` are the known pixels of that date next to wanted ones, which are always considered.
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
    """Indices of the points to use, a third each: near ones, the most correlated, and some of the `_AMONG` next.

    The most correlated points alone would all lie along one edge of a swath and repeat each other.
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

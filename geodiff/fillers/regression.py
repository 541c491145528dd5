"""The target date as a regression on its neighbours: gaps of the neighbours filled first, coefficients by ridge.

The ridge draws the estimate to linear interpolation in time, so that a window with little to learn from falls back to
it. Beside it stand the regressions on one date each, which use a neighbour only where it was really seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers.series import Series, interpolated, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]
    Plane = NDArray[np.float32]

__all__ = ["Regressors", "one_date_regressions", "regressors"]

_REFILL_RIDGE = 0.03
_REFILLS, _SETTLED = 6, 1e-3
"""Times at most that the neighbours are regressed on one another, and the mean square of a change that is the last,
over their variance: the first time they learn from interpolation in time, which is far off where light changes from
date to date. There the error was 2.46, 2.33 and 2.27 with 1, 2 and 4 times, of which 2.0 is noise; on two validation
stacks it stayed.
"""
_THINNING = 25.0
"""Known pixels that count as one independent one."""
_EVERY = 11
"""One pixel in eleven tells enough of how the neighbours go together, as one in three does; 11 divides no window, so
columns mix."""
_SHARED = 40.0
"""Such pixels of a neighbour at which its own correlations weigh as much as those of the filled window."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Regressors:
    """What the regression of one target needs, whatever its ridge."""

    planes: Planes
    """(regressor, pixel), centred at the mean of the target's known pixels, of unit variance there."""
    base: NDArray[np.float32]
    """(pixel,) linear interpolation in time through the filled neighbours."""
    offset: float
    """Mean departure of the target from `base`."""
    gram: NDArray[np.float64]
    """(regressor, regressor) correlations over the target's known pixels."""
    response: NDArray[np.float64]
    """(regressor,) covariance of the departure with each."""
    pixels: int
    """Known pixels of the target."""

    def trend(self, ridge: float) -> NDArray[np.float32]:
        """(pixel,) the estimate for one strength of the ridge, in units of the regressors' variance."""
        if not self.pixels:
            return self.base
        penalty = (ridge + _THINNING / self.pixels) * np.eye(len(self.gram))
        weights = np.linalg.solve(self.gram + penalty, self.response).astype(np.float32)
        estimate: NDArray[np.float32] = self.base + np.float32(self.offset) + weights @ self.planes
        return estimate


def regressors(series: Series) -> Regressors:
    """Fill the neighbours' gaps and gather the moments of the target's known pixels; needs at least one neighbour."""
    planes = _filled_neighbours(series)
    base = _linear_through(planes, series)
    known = series.known[series.target].reshape(-1)
    pixels = int(known.sum())
    if not pixels:
        return Regressors(planes, base, 0.0, np.zeros((0, 0)), np.zeros(0), 0)
    sample = planes[:, known]
    centre = sample.mean(axis=1, dtype=np.float64)
    scale = np.maximum(sample.std(axis=1, dtype=np.float64), 1e-3)
    planes = (planes - centre[:, None].astype(np.float32)) / scale[:, None].astype(np.float32)
    departure = (series.values[series.target].reshape(-1) - base)[known]
    offset = float(departure.mean(dtype=np.float64))
    sample = planes[:, known]
    gram = (sample @ sample.T).astype(np.float64) / pixels
    response = (sample @ (departure - np.float32(offset))).astype(np.float64) / pixels
    return Regressors(planes, base, offset, gram, response, pixels)


def _linear_through(planes: Planes, series: Series) -> NDArray[np.float32]:
    """Linear in time between the two filled neighbours around the target."""
    days, target = series.days[series.others], series.days[series.target]
    after = series.target
    if after == 0 or after == len(days):
        nearest: NDArray[np.float32] = planes[min(after, len(days) - 1)]
        return nearest
    share = (target - days[after - 1]) / max(float(days[after] - days[after - 1]), _TINY)
    line: NDArray[np.float32] = planes[after - 1] + np.float32(share) * (planes[after] - planes[after - 1])
    return line


def _filled_neighbours(series: Series) -> Planes:
    """(neighbour, pixel): the other dates, their gaps filled in time and space, then by regression on one another."""
    others = series.others
    filled, known = series.values[others], series.known[others]
    gaps = np.flatnonzero(~known.all(axis=(1, 2)))
    if not gaps.size:
        return filled.reshape(len(others), -1)
    lacking = slice(None) if gaps.size == len(others) else gaps  # most often a view
    shown, lines = known[lacking], known.reshape(len(others), -1)
    filled[lacking] = _restored(_without_holes(interpolated(series, others[gaps].tolist())), filled[lacking], shown)
    settled = _SETTLED * float(filled.var(dtype=np.float64))
    for _ in range(_REFILLS if len(others) > 1 else 0):
        refined = _regressed(filled.reshape(len(others), -1), lines, gaps).reshape(len(gaps), *known.shape[1:])
        restored = _restored(refined, filled[lacking], shown)
        change = restored - filled[lacking]
        filled[lacking] = restored
        if float(np.vdot(change, change)) <= settled * change.size:
            break
    return filled.reshape(len(others), -1)


def _without_holes(trend: Planes) -> Planes:
    """Where no other date knows a pixel, what its surroundings say."""
    defined = np.isfinite(trend)
    if defined.all():
        return trend
    return np.where(defined, trend, spread(np.where(defined, trend, np.float32(0)), defined))


def _restored(trend: Planes, values: Planes, known: NDArray[np.bool_]) -> Planes:
    """The known pixels as they are, elsewhere the trend and what they depart from it, spread into the gaps."""
    filled = spread(np.where(known, values - trend, np.float32(0)), known)
    filled += trend
    np.copyto(filled, values, where=known)
    return filled


def _regressed(filled: Planes, known: NDArray[np.bool_], gaps: NDArray[np.intp]) -> Planes:
    """(gap date, pixel): dates with gaps as ridge regressions on the other, filled, ones; learnt where ever seen."""
    places = np.flatnonzero(known.any(axis=0))[::_EVERY]
    sample, seen = np.ascontiguousarray(filled[:, places].T), known[:, places]
    centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.maximum(sample.std(axis=0, dtype=np.float64), 1e-3).astype(np.float32)
    sample = (sample - centre) / scale
    shared = (sample.T @ sample).astype(np.float64) / len(sample)
    weights = np.zeros((len(gaps), len(filled)), np.float32)
    for place, date in enumerate(gaps):
        others = np.delete(np.arange(len(filled)), date)
        gram = _own_correlations(sample, seen[date], shared)
        penalised = gram[np.ix_(others, others)] + _REFILL_RIDGE * np.eye(len(others))
        weights[place, others] = np.linalg.solve(penalised, gram[others, date])
    weights *= scale[gaps, None] / scale
    refined: Planes = weights @ filled
    refined += (centre[gaps] - weights @ centre)[:, None]
    return refined


def _own_correlations(
    z: NDArray[np.float32], known: NDArray[np.bool_], shared: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Covariances of (pixel, date) where one date is known, drawn to those of the whole window where that is little."""
    own = z[known]
    count = len(own)
    if count < 2:
        return shared
    mean = (np.ones(count, np.float32) @ own).astype(np.float64) / count
    covariance = (own.T @ own).astype(np.float64) / count - np.outer(mean, mean)
    trust = count / (count + _SHARED)
    mixed: NDArray[np.float64] = trust * covariance + (1.0 - trust) * shared
    return mixed


def one_date_regressions(series: Series, power: float = 4.0) -> NDArray[np.float32]:
    """(row, column): regressions of the target on each other date alone, weighted by 1 / (mean squared error)^power.

    A date takes part only at pixels where it is known; NaN where none is, or the target shares too little with any.
    """
    target, own = series.values[series.target], series.known[series.target]
    total, weight_sum = np.zeros(own.shape, np.float64), np.zeros(own.shape, np.float64)
    for date in series.others:
        both = own & series.known[date]
        if np.count_nonzero(both) < 30:
            continue
        x, y = series.values[date][both].astype(np.float64), target[both].astype(np.float64)
        slope = np.cov(x, y, bias=True)[0, 1] / (x.var() + 1e-4)
        left = y - y.mean() - slope * (x - x.mean())
        weight = series.known[date] * (np.mean(left**2) + 1e-4) ** -power
        total += weight * (y.mean() + slope * (series.values[date] - x.mean()))
        weight_sum += weight
    return np.divide(total, weight_sum, out=np.full(own.shape, np.nan), where=weight_sum > 0).astype(np.float32)

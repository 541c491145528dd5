"""Standard error of lost dates, by the time to the dates around them and by place.

A date lost between two seen ones is predicted well, one in the middle of a cloudy month badly; and fields change where
water does not. The first is measured by the variogram in time of the scene's dates, the second by the errors of
interpolation in time on seen dates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter

from geodiff.fillers.calibration import lost_planes
from geodiff.fillers.members import broad_share
from geodiff.fillers.series import Series, interpolated, times_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch, Trial

    Numbers = NDArray[np.float64]

__all__ = ["common_share", "drift_error", "fitted_drift"]

_DATES = 24
"""Nearest dates that are used besides the lost one."""
_MOST_TRIALS, _LEAST_COMMON = 12, 30
"""Most trials whose dates are compared, and fewest pixels that two dates must have in common."""
_THIN = 4
"""Step in rows and columns by which pixels are thinned."""
_LAGS, _DECAYS = 12, 16
"""Classes of the time between dates, and number of decay times that are tried."""
_OWN = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Shares of the variance particular to each date, such as haze or light, that are tried."""
_STEADY = (1.0, 1.0, 1.0)
"""Used where no two dates can be compared: a date is as far from the next one as from any other."""
_REACH = 3
"""Pixels to either side over which errors of interpolation are averaged."""
_MOST_COMMON = 0.8
"""Bound on the share of a lost date's variance that is common to the whole date."""
_SCENE_WORTH = 4.0
"""Number of dates as which the variance of the scene counts beside the dates of a place."""


def fitted_drift(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """Exponential variogram in time: (3,) nugget as a share of the variance, decay time in days, and the variance.

    Fitted by least squares in log to mean squared differences of pairs of dates by the time between them, in normalised
    units.
    """
    days, squares = _differences(trials)
    if not days.size:
        return np.array(_STEADY, np.float32)
    edges = np.geomspace(days.min(), days.max() * 1.001, _LAGS + 1)
    place = np.minimum(np.searchsorted(edges, days, side="right") - 1, _LAGS - 1)
    count = np.bincount(place, minlength=_LAGS)
    some = count > 0
    lag = np.exp(np.bincount(place, np.log(days), _LAGS)[some] / count[some])
    seen = np.log(np.bincount(place, squares, _LAGS)[some] / count[some])
    weight = np.sqrt(count[some]) / np.sqrt(count[some]).sum()
    best, least = _STEADY, np.inf
    for own in _OWN:
        for decay in np.geomspace(days.min() / 2, days.max() * 8, _DECAYS):
            apart = seen - np.log(2.0 * _semivariance(lag, own, decay))
            level = float(weight @ apart)
            if (loss := float(weight @ (apart - level) ** 2)) < least:
                best, least = (own, float(decay), float(np.exp(level))), loss
    return np.array(best, np.float32)


def common_share(trials: Sequence[Trial]) -> float:
    """Share of the mean squared error of interpolation in time that is common to a whole date, such as haze or light.

    Measured on dates between two others, over the trials' windows, less the part that members share over a window
    anyway. 0 where there is no such date.
    """
    common, whole, local = 0.0, 0.0, 0.0
    for misses, shape in _missed_by_date(trials):
        square = float(np.square(misses, dtype=np.float64).sum())
        common += misses.size * float(misses.mean(dtype=np.float64)) ** 2
        whole, local = whole + square, local + square * broad_share(shape, _THIN)
    return float(np.clip((common - local) / (whole - local), 0.0, _MOST_COMMON)) if whole > local else 0.0


def _missed_by_date(trials: Sequence[Trial]) -> Iterator[tuple[NDArray[np.float32], tuple[int, ...]]]:
    """Errors of interpolation (pixel,) on each date between others, and the shape of the plane they come from."""
    for trial in trials[:: max(1, -(-len(trials) // _MOST_TRIALS))]:
        patch = trial.patch
        for band in range(patch.values.shape[1]):
            series = Series.of(patch, patch.targets[0], band, _DATES)
            values = series.values[:, *patch.core][:, *patch.inside][:, ::_THIN, ::_THIN]
            known = series.known[:, *patch.core][:, *patch.inside][:, ::_THIN, ::_THIN]
            series = replace(series, values=values, known=known)
            others = series.others.tolist()
            before, after = times_around(series, others)
            missed = values[others] - interpolated(series, others)
            told = known[others] & np.isfinite(before) & np.isfinite(after)
            for plane, shown in zip(missed, told, strict=True):
                if np.count_nonzero(shown) >= _LEAST_COMMON:
                    yield plane[shown], shown.shape


def _differences(trials: Sequence[Trial]) -> tuple[Numbers, Numbers]:
    """Days between two dates of a trial other than the hidden one, and their mean squared difference: (pair,) each."""
    found: list[tuple[float, float]] = []
    for trial in trials[:: max(1, -(-len(trials) // _MOST_TRIALS))]:
        for band in range(trial.patch.values.shape[1]):
            series = Series.of(trial.patch, trial.patch.targets[0], band, _DATES)
            values, known = series.values[:, ::_THIN, ::_THIN], series.known[:, ::_THIN, ::_THIN]
            for first, second in combinations(series.others, 2):
                both, days = known[first] & known[second], series.days[second] - series.days[first]
                if days > 0 and np.count_nonzero(both) >= _LEAST_COMMON:
                    found.append((days, float(np.square(values[second][both] - values[first][both]).mean())))
    days, squares = np.array(found, np.float64).reshape(-1, 2).T
    return days, np.maximum(squares, 1e-8)


def _semivariance(days: Numbers, own: float, decay: float) -> Numbers:
    """Semivariance of dates so many days apart, in units of the variance."""
    return own - (1.0 - own) * np.expm1(-days / decay)


def _variance(before: Numbers, after: Numbers, own: float, decay: float) -> Numbers:
    """Error variance of linear interpolation between dates so many days before and after, `inf` for none.

    In units of the variance.
    """
    whole = np.maximum(before + after, 1e-6)
    with np.errstate(invalid="ignore"):  # infinite over infinite, replaced
        share = np.where(np.isinf(before), 1.0, np.where(np.isinf(after), 0.0, before / whole))
    apart = (1 - share) * _semivariance(before, own, decay) + share * _semivariance(after, own, decay)
    return np.asarray(2.0 * apart - 2.0 * share * (1 - share) * _semivariance(whole, own, decay))


def _untold(nearest: float, own: float, decay: float) -> float:
    """Error variance of pixels that no other date knows: twice that of the nearest date, `nearest` days away.

    In units of the variance, and at most that of two dates without anything in common.
    """
    return min(4.0 * float(_semivariance(np.array(nearest), own, decay)), 2.0)


def drift_error(patch: Patch, drift: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard error of interpolation in time on dates without data, 1 on others: (target, band, row, column).

    It is moved half of the way, in log, to the errors of interpolation at that place on other dates.

    Parameters
    ----------
    drift : as `fitted_drift` gives it.
    """
    own, decay, level = map(float, drift)
    lost, reach = lost_planes(patch), min(_REACH, patch.halo)
    rows, columns = (slice(cut.start - reach, cut.stop + reach) for cut in patch.core)
    errors = np.ones((*lost.shape, patch.window.height, patch.window.width), np.float32)
    for place, band in np.argwhere(lost).tolist():
        series = Series.of(patch, patch.targets[place], band, _DATES)
        series = replace(series, values=series.values[:, rows, columns], known=series.known[:, rows, columns])
        before, after = times_around(series, [series.target, *series.others])
        variance = _variance(before, after, own, decay)
        if len(series.others):
            nearest = float(np.abs(series.days[series.others] - series.days[series.target]).min())
            variance[0][np.isinf(before[0]) & np.isinf(after[0])] = _untold(nearest, own, decay)
        error = np.sqrt(level * variance[0] * np.sqrt(_relative(series, variance[1:], level)))
        errors[place, band] = error[reach : reach + patch.window.height, reach : reach + patch.window.width]
    return errors


def _relative(series: Series, variance: Numbers, level: float) -> Numbers:
    """Mean squared error of interpolating the other dates around a place over the expected one: (row, column).

    Parameters
    ----------
    variance : (other date, row, column) expected, in units of `level`.
    """
    others = series.others
    missed = np.subtract(series.values[others], interpolated(series, others.tolist()))
    told = series.known[others] & np.isfinite(missed)
    dates = np.count_nonzero(told) / told[0].size if len(told) else 0
    if not dates:
        return np.ones(series.known.shape[1:])
    square = np.where(told, missed, 0).astype(np.float64) ** 2 / level
    missed_around, may_around = (
        uniform_filter(planes.sum(axis=0), 2 * _REACH + 1) for planes in (square, np.where(told, variance, 0))
    )
    scene = _SCENE_WORTH * float(np.where(told, variance, 0).sum()) / told[0].size / dates
    return np.asarray((missed_around + scene) / (may_around + scene))

"""How far a date may lie from what the dates around it say: by the time to them, and by place.

A date lost between two seen ones is known well, one in the middle of a month of clouds badly; and fields change where
water does not. The variogram in time of the scene's own dates says the one, what interpolation in time misses of the
dates that are seen the other.
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
"""Dates looked at besides the lost one, the nearest."""
_MOST_TRIALS, _LEAST_COMMON = 12, 30
"""Trials whose dates are held against each other, and pixels that two dates must both know."""
_THIN = 4
"""One pixel in so many rows and columns stands for the others there."""
_LAGS, _DECAYS = 12, 16
"""Classes of time between dates, and times to forget that are tried."""
_OWN = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Shares of the variance, of those tried, that may be each date's own, as haze or light."""
_STEADY = (1.0, 1.0, 1.0)
"""Where no two dates can be held against each other: as far from the next date as from any."""
_REACH = 3
"""Pixels to either side over which what interpolation misses is taken together."""
_MOST_COMMON = 0.8
"""Bound on the share of the variance of a lost date that is one departure all over it."""
_SCENE_WORTH = 4.0
"""Dates that the scene's variance is worth beside those of a place."""


def fitted_drift(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """(3,) share of the variance that is each date's own, days after which the rest is forgotten, and the variance.

    An exponential variogram with a nugget: least squares in log against mean squared differences of pairs of dates, by
    the time between them. In normalised units.
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
    """Share of the mean square of what interpolation in time misses that is the same all over a date, as haze or light.

    Of every date that shows something and lies between two that do, over the trials' windows; less what members share
    over a window anyhow. 0 where no date tells.
    """
    common, whole, local = 0.0, 0.0, 0.0
    for misses, shape in _missed_by_date(trials):
        square = float(np.square(misses, dtype=np.float64).sum())
        common += misses.size * float(misses.mean(dtype=np.float64)) ** 2
        whole, local = whole + square, local + square * broad_share(shape, _THIN)
    return float(np.clip((common - local) / (whole - local), 0.0, _MOST_COMMON)) if whole > local else 0.0


def _missed_by_date(trials: Sequence[Trial]) -> Iterator[tuple[NDArray[np.float32], tuple[int, ...]]]:
    """(pixel,) what interpolation misses of each date that others surround, and the shape it was taken from."""
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
    """(pair,) days between two dates of a trial, neither of them its own, and their mean squared difference."""
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
    """Of dates so far apart, in units of the variance."""
    return own - (1.0 - own) * np.expm1(-days / decay)


def _variance(before: Numbers, after: Numbers, own: float, decay: float) -> Numbers:
    """Of linear interpolation between dates so many days before and after, `inf` for none; in units of the variance."""
    whole = np.maximum(before + after, 1e-6)
    with np.errstate(invalid="ignore"):  # infinite over infinite, replaced
        share = np.where(np.isinf(before), 1.0, np.where(np.isinf(after), 0.0, before / whole))
    apart = (1 - share) * _semivariance(before, own, decay) + share * _semivariance(after, own, decay)
    return np.asarray(2.0 * apart - 2.0 * share * (1 - share) * _semivariance(whole, own, decay))


def _untold(nearest: float, own: float, decay: float) -> float:
    """Of what no other date knows, filled from what they say around it: twice that of the nearest, so many days away.

    In units of the variance, and no more than two dates that have nothing in common.
    """
    return min(4.0 * float(_semivariance(np.array(nearest), own, decay)), 2.0)


def drift_error(patch: Patch, drift: NDArray[np.float32]) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: standard error of interpolation in time where a date shows nothing.

    1 elsewhere. Half of the way, in log, by what interpolation misses at that place on other dates.

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
    """(row, column) mean square of what interpolation misses of the other dates around a place, over what it may.

    Parameters
    ----------
    variance : (other date, row, column) in units of the `level`.
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

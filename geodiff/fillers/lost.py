"""What of a window is of a lost date, and how far that may be from what is said.

Far from the little that a date shows it is told by the others as if it showed nothing: what was learnt of gaps in other
dates, some tens of pixels deep, is no use there, and a surface laid through a corner runs wild.

Where few dates are seen no trial tells what a date between others costs. Each of two dates is hidden whole, and what
they differ by stands for all others, less between the two and more the farther beyond; where one is seen, what dates
differ by in other stacks does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.calibration import Z90, hidden_errors, hidden_pixels, lost_factor, lost_planes, target_distance
from geodiff.fillers.drift import common_share, drift_error, fitted_drift
from geodiff.fillers.series import days_of
from geodiff.fillers.weights import FEW_DATES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch, SceneSample, Trial

__all__ = [
    "as_lost",
    "beyond_corner",
    "few_dates",
    "lost_dates",
    "lost_error",
    "lost_errors",
    "lost_share",
    "lost_step",
]

_FEW_SEEN = 3
"""Dates from which on trials that hide whole ones tell of a date that is lost between others."""
_UNTRIED = 1.1
"""Standard error, in normalised units, of a date that shows nothing where no trial told: what one seen date says of
another, 1,400 times on nine training and validation stacks and eight made-up ones, then holds 0.92 of it (0.89 on the
real ones). These errors are 0.7 in the middle and spread by 0.8 in log."""
_ONE_STEP = 0.7
"""What it is in the middle."""
_PAIR_WORTH = 2.0
"""What a scene's own pair of dates is worth beside that."""
_ONE_PAIR = 0.3
"""How much wider, in log, where all that is known is what two dates differ by: errors of lost dates spread by 0.5
around what that says. On those stacks intervals hold 0.91 of lost dates, with half of this 0.88."""
_FEW_LOST = 0.3
"""Over the number of seen dates, of a stack that shows few: how much wider, in log, what a factor claims of lost dates
has to be. Two that are lost of five, all under clouds, then are held by 0.90; without it by 0.87."""
_OWN_SHARE = 0.2
"""Share of the variance between two dates that is each date's own, as haze or light; the rest grows with the time
between, as a random walk does. Errors beyond the two seen dates grow by the power 0.46 of the time on those stacks;
with this share intervals hold 0.89 of dates between and 0.90 of those beyond, with none 0.84 and 0.90."""
_UNRELATED = 1.5
"""Bound on errors beyond: two dates that have nothing in common are sqrt(2) apart, in normalised units."""
_NEAR, _FAR = 4.0, 24.0
"""Pixels from what a date shows: up to the first a pixel is none of a lost date, from the second on it may be."""
_LITTLE, _PLENTY = 0.15, 0.35
"""Share of a window: where a date shows less than the first, parts that were fitted to it are not heard far from it;
where it shows more than the second they are. With clouds of 100 pixels and more over half of each date, what lies
beyond what is known of it is told a quarter worse by the others alone (made-up stacks; real ones the same to 0.02)."""
_AROUND = 3.0
"""How many times as far as what is known is looked around. Before a straight edge a third is then known, in the middle
of a long gap two thirds."""
_STILL, _WHOLLY = 48.0, 112.0
"""Pixels from what a date shows: from the first on standard errors go over to what they would be were the date lost, at
the second they are. Windows that see nothing of what is known claim that too, and would else show in a map."""
_AS_LOST = 0.7
"""How far, in log, standard errors go over to a lost date's. Four pixels and more beyond the corners of nine validation
and training stacks intervals then hold 0.87 to 0.88, without it 0.69 to 0.79; all of it makes those of made-up ones
hold everything."""


def lost_dates(sample: SceneSample, errors: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What a fit stores of how far lost dates may be from what is said of them; nothing where no trial shows it.

    Parameters
    ----------
    errors : of each trial, value less truth over its window.
    """
    if few := few_dates(sample, errors):
        return few
    lost = [i for i, trial in enumerate(sample.trials) if lost_planes(trial.patch).all()]
    trials = [sample.trials[i] for i in lost]
    drift = fitted_drift(sample.trials)
    claimed = hidden_pixels(trials, [drift_error(trial.patch, drift) for trial in trials])
    dates = [np.full(trial.hidden.shape, trial.patch.dates[trial.patch.targets[0]]) for trial in trials]
    ratio = hidden_errors(trials, [errors[i] for i in lost]) / claimed
    factor = lost_factor(ratio, hidden_pixels(trials, dates))
    if factor is None:
        return {}
    if 0 < sum(sample.seen) <= FEW_DATES:
        factor *= math.exp(_FEW_LOST / sum(sample.seen))
    level = np.median(claimed) * factor
    figures = {"lost_factor": factor, "lost_level": level, "lost_common": common_share(sample.trials)}
    return {"drift": drift, **{name: np.array(figure, np.float32) for name, figure in figures.items()}}


def few_dates(sample: SceneSample, errors: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What one seen date says of another, for lost ones, where a scene shows no more than two; else nothing."""
    if len(sample.seen) < 2 or sum(sample.seen) >= _FEW_SEEN:
        return {}
    lost = [i for i, trial in enumerate(sample.trials) if lost_planes(trial.patch).all()]
    trials = [sample.trials[i] for i in lost]
    error, step = lost_error(hidden_errors(trials, [errors[i] for i in lost])), lost_step(trials)
    return {"lost_error": np.array(error, np.float32), "lost_step": np.array(step, np.float32)}


def lost_error(error: NDArray[np.floating[Any]]) -> float:
    """Standard error of a date that shows nothing, told by one date; of a stack of which two dates are seen.

    Each was predicted by the other, and both misses are one and the same difference: it counts as one date, beside what
    one date says of another in other stacks.

    Parameters
    ----------
    error : (pixel,) as `informative_errors` gives it, where one of the two dates was hidden.
    """
    telling = error[~np.isnan(error)]
    if not telling.size:
        return _UNTRIED
    own = math.log(max(float(np.quantile(telling, 0.9)), 1e-6) / Z90)
    return math.exp((_PAIR_WORTH * own + math.log(_ONE_STEP)) / (_PAIR_WORTH + 1.0) + _ONE_PAIR)


def lost_step(trials: Sequence[Trial]) -> float:
    """Days between a date that was hidden whole and the one that told of it, of such trials; NaN without any."""
    return max(float(np.ptp(days_of(trials[0].patch.dates))), 1e-3) if trials else math.nan


def lost_errors(patch: Patch, error: float, step: float) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: standard error where a date shows nothing.

    A pixel that is known before and after is told by both (a Brownian bridge); beyond them errors grow with the time to
    it. What no other date knows is as far in time as the nearest that shows anything; 0 where none does.

    Parameters
    ----------
    error, step : of a date told by another one so many days away; of any date where `step` is NaN.
    """
    days, known = days_of(patch.dates), patch.known[..., *patch.core]
    errors = np.zeros((len(patch.targets), *known.shape[1:]), np.float32)
    for place, band in np.ndindex(*errors.shape[:2]):
        target = patch.targets[place]
        away = days - days[target]
        shown = [date for date in np.flatnonzero(patch.known[:, band].any(axis=(1, 2))) if date != target]
        if not shown:
            continue
        before, after = (np.full(known.shape[2:], np.inf) for _ in range(2))
        for date in shown:
            for side, apart in ((before, -away[date]), (after, away[date])):
                if apart >= 0:
                    np.minimum(side, apart, out=side, where=known[date, band])
        nearest = float(np.abs(away[shown]).min())
        growth = 1.0 if math.isnan(step) else np.sqrt(_variance(before, after, nearest, step))
        errors[place, band] = np.minimum(error * growth, max(error, _UNRELATED))
    return errors


def _variance(
    before: NDArray[np.float64], after: NDArray[np.float64], nearest: float, step: float
) -> NDArray[np.float64]:
    """Of pixels known so many days before and after, in units of that of two dates a step apart; `inf` is never."""
    near = np.minimum(before, after)
    near[np.isinf(near)] = nearest
    variance = (1.0 - _OWN_SHARE) * near / step + _OWN_SHARE
    both = np.isfinite(before) & np.isfinite(after)
    first, second = before[both], after[both]
    share = first / np.maximum(first + second, 1e-9)
    own = (1.0 + share**2 + (1.0 - share) ** 2) / 2.0
    variance[both] = (1.0 - _OWN_SHARE) * share * second / step + _OWN_SHARE * own
    return variance


def lost_share(patch: Patch) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: how far the value of a pixel is to be that of a lost date, 0 to 1.

    All of it where the date shows nothing here, and far from what it shows where that is little.
    """
    targets = list(patch.targets)
    known = patch.known[targets]
    shown = known.sum(axis=(2, 3)) / np.maximum((known | patch.fillable[targets]).sum(axis=(2, 3)), 1)
    little = np.clip((_PLENTY - shown) / (_PLENTY - _LITTLE), 0.0, 1.0)
    if not little.any():
        return np.zeros(patch.missing.shape, np.float32)
    return np.asarray(little[..., None, None] * _far(patch), np.float32)


def _far(patch: Patch, near: float = _NEAR, far: float = _FAR) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: how far from what is known, 0 to 1."""
    away = np.maximum(target_distance(patch)[..., *patch.core], np.float32(1))
    return np.asarray(np.clip(np.log2(away / near) / np.log2(far / near), 0.0, 1.0), np.float32)


def _beyond(patch: Patch) -> NDArray[np.float32]:
    """(target, band, row, column) of the window: how far a pixel lies beyond all that its date shows, 0 to 1.

    Trials hide pixels with known ones around them, and what is found there holds between known pixels, not beyond.
    """
    targets, away, beyond = list(patch.targets), target_distance(patch), _far(patch)
    known = patch.known[targets]
    asked = known | patch.fillable[targets]
    for plane in np.ndindex(*beyond.shape[:2]):
        places = np.nonzero(beyond[plane])
        if places[0].size:
            rows, columns = places[0] + patch.halo, places[1] + patch.halo
            reach = np.ceil(_AROUND * away[plane][rows, columns]).astype(np.intp)
            shown = _shown_around(known[plane], asked[plane], rows, columns, reach)
            one_side = 0.5 - 0.5 / _AROUND
            beyond[plane][places] *= np.clip(2.0 - shown / one_side, 0.0, 1.0)
    return beyond


def _shown_around(
    known: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    reach: NDArray[np.intp],
) -> NDArray[np.float64]:
    """(pixel,) share that is known of what is asked for in the square around each pixel, as far as it reaches."""
    height, width = known.shape
    top, bottom = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, height)
    left, right = np.maximum(columns - reach, 0), np.minimum(columns + reach + 1, width)
    counts = []
    for plane in (known, asked):
        sums = np.zeros((height + 1, width + 1), np.int32)
        sums[1:, 1:] = plane.cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
        counts.append(sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left])
    return np.asarray(counts[0] / np.maximum(counts[1], 1), np.float64)


def beyond_corner(
    patch: Patch, error: NDArray[np.float32], level: float, if_lost: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Standard errors, nearer to a lost date's beyond all that a date shows: what was fitted to that claims too little.

    Parameters
    ----------
    error : (target, band, row, column) of the window, as claimed.
    level : what is claimed of lost dates; less than `error` it is to be where values are a lost date's as well.
    if_lost : gives what would be claimed of this patch were its dates lost; asked for where it matters.
    """
    wholly = lost_planes(patch)[..., None, None]  # these have a factor of their own
    beyond = np.where(wholly, np.float32(0), _beyond(patch))
    share = np.where(level > error, beyond, np.where(wholly, np.float32(0), lost_share(patch)))
    if share.any():
        share *= _AS_LOST
        error = np.asarray(error ** (1 - share) * np.float32(level) ** share, np.float32)
    if (wholly_so := beyond * _far(patch, _STILL, _WHOLLY)).any():
        error = np.asarray(error ** (1 - wholly_so) * np.maximum(if_lost(), np.float32(1e-6)) ** wholly_so, np.float32)
    return error


def as_lost(patch: Patch) -> Patch:
    """The patch as if nothing were known of the dates to estimate, nor of what a low-resolution fill made of them."""
    known, coarse = patch.known.copy(), patch.coarse.copy()
    known[list(patch.targets)], coarse[list(patch.targets)] = False, 0
    return replace(patch, known=known, coarse=coarse, values=np.where(known, patch.values, np.float32(0)))

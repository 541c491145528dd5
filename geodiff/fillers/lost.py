"""Lost dates, on which nothing or little is known: which pixels are treated as such, and their standard errors.

Far from the few known pixels of a date, its values are predicted from other dates as if it had no data. What was learnt
from gaps a few tens of pixels deep does not apply there, and a surface extrapolated from a corner diverges.

With few seen dates, no trial shows the error of a date between two others. With two, each is hidden in turn, and their
difference sets the error of all lost dates: smaller between the two, larger with the time beyond them. With one, the
differences between dates in other stacks do.
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
"""Seen dates from which trials that hide whole dates represent a date lost between others."""
_UNTRIED = 1.1
"""Standard error of a lost date, in normalised units, where no trial informs it. On nine training and validation stacks
and eight synthetic ones, 1,400 pairs of dates, 90 % intervals then cover 0.92 (0.89 on the real ones). These errors
have a median of 0.7 and a spread of 0.8 in log."""
_ONE_STEP = 0.7
"""Median of these errors."""
_PAIR_WORTH = 2.0
"""Weight of a scene's own pair of dates relative to that median."""
_ONE_PAIR = 0.3
"""Added to the log of a standard error that rests on the difference of two dates alone: errors of lost dates spread by
0.5 in log around it. On those stacks intervals cover 0.91 of lost dates; with half of this, 0.88."""
_FEW_LOST = 0.3
"""Divided by the number of seen dates, in a stack of few: added to the log of the factor for lost dates. With two of
five cloudy dates lost, intervals then cover 0.90; without it, 0.87."""
_OWN_SHARE = 0.2
"""Share of the variance between two dates that is particular to each date, such as haze or light; the rest grows with
the time between them, as in a random walk. Errors beyond the two seen dates grow with the time to the power 0.46 on
those stacks; with this share, intervals cover 0.89 of dates between and 0.90 of dates beyond, and without, 0.84 and
0.90."""
_UNRELATED = 1.5
"""Bound on errors beyond: two dates without anything in common differ by sqrt(2), in normalised units."""
_NEAR, _FAR = 4.0, 24.0
"""Pixels from the known pixels of a date up to which a pixel is not treated as lost, and from which it fully may be."""
_LITTLE, _PLENTY = 0.15, 0.35
"""Known share of a window below which parts fitted to a date get no weight far from its known pixels, and above which
they keep theirs. With clouds of 100 pixels and more over half of each date, other dates alone predict pixels beyond
the known ones a quarter worse in synthetic stacks, and the same to 0.02 in real ones."""
_AROUND = 3.0
"""Side of the square searched for known pixels, in distances to data. At a straight edge a third of it is known, in the
middle of a long gap two thirds."""
_STILL, _WHOLLY = 48.0, 112.0
"""Pixels from the known pixels of a date between which standard errors pass into those of a lost date. Windows without
any known pixel have the latter too, and would otherwise be visible in a map."""
_AS_LOST = 0.7
"""Share of the way, in log, that standard errors move to those of a lost date. From four pixels beyond the corners of
nine validation and training stacks, intervals then cover 0.87 to 0.88, without it 0.69 to 0.79; with a share of 1,
those of synthetic stacks cover everything."""


def lost_dates(sample: SceneSample, errors: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """What a fit stores about the errors of lost dates; empty where no trial informs them.

    Parameters
    ----------
    errors : value less truth over the window of each trial.
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
    """How well one seen date predicts another, in a scene of at most two seen dates; empty otherwise."""
    if len(sample.seen) < 2 or sum(sample.seen) >= _FEW_SEEN:
        return {}
    lost = [i for i, trial in enumerate(sample.trials) if lost_planes(trial.patch).all()]
    trials = [sample.trials[i] for i in lost]
    error, step = lost_error(hidden_errors(trials, [errors[i] for i in lost])), lost_step(trials)
    return {"lost_error": np.array(error, np.float32), "lost_step": np.array(step, np.float32)}


def lost_error(error: NDArray[np.floating[Any]]) -> float:
    """Standard error of a lost date in a stack with two seen dates.

    Each was predicted from the other, and both errors are the same difference, so they count as one pair of dates, to
    be combined with the pairs of other stacks.

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
    """Days between the date that a trial hides and the one that predicts it; NaN without such trials."""
    return max(float(np.ptp(days_of(trials[0].patch.dates))), 1e-3) if trials else math.nan


def lost_errors(patch: Patch, error: float, step: float) -> NDArray[np.float32]:
    """Standard error of dates without data over the window: (target, band, row, column).

    A pixel that is known before and after is predicted from both (a Brownian bridge); otherwise errors grow with the
    time. A pixel that no other date knows counts as known on the nearest date with data; 0 where there is none.

    Parameters
    ----------
    error, step : standard error of a date predicted from one `step` days away; of any date if `step` is NaN.
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
    """Variance of pixels known so many days before and after, `inf` for never; in units of that over one step."""
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
    """Degree, 0 to 1, to which a pixel is treated as one of a lost date: (target, band, row, column) of the window.

    It is 1 where the date has no data here, and increases with the distance to its data where these are few.
    """
    targets = list(patch.targets)
    known = patch.known[targets]
    shown = known.sum(axis=(2, 3)) / np.maximum((known | patch.fillable[targets]).sum(axis=(2, 3)), 1)
    little = np.clip((_PLENTY - shown) / (_PLENTY - _LITTLE), 0.0, 1.0)
    if not little.any():
        return np.zeros(patch.missing.shape, np.float32)
    return np.asarray(little[..., None, None] * _far(patch), np.float32)


def _far(patch: Patch, near: float = _NEAR, far: float = _FAR) -> NDArray[np.float32]:
    """Distance to data on a logarithmic scale, 0 at `near` and 1 at `far`: (target, band, row, column)."""
    away = np.maximum(target_distance(patch)[..., *patch.core], np.float32(1))
    return np.asarray(np.clip(np.log2(away / near) / np.log2(far / near), 0.0, 1.0), np.float32)


def _beyond(patch: Patch) -> NDArray[np.float32]:
    """Degree, 0 to 1, to which a pixel lies beyond the known pixels of its date: (target, band, row, column).

    Trials hide pixels among known ones, and what they show holds for interpolation, not for extrapolation.
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
    """Known share of the pixels `asked` for in the square of `reach` pixels to each side of a pixel: (pixel,)."""
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
    """Standard errors, moved towards those of a lost date beyond the known pixels of a date, where they are too small.

    Parameters
    ----------
    error : (target, band, row, column) over the window, before this correction.
    level : typical standard error of lost dates; below `error` it applies where values are those of a lost date too.
    if_lost : computes the standard error of this patch with its dates lost; called only where needed.
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
    """The patch without the known pixels of its target dates, and without their low-resolution fill."""
    known, coarse = patch.known.copy(), patch.coarse.copy()
    known[list(patch.targets)], coarse[list(patch.targets)] = False, 0
    return replace(patch, known=known, coarse=coarse, values=np.where(known, patch.values, np.float32(0)))

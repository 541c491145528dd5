"""What of a window is of a lost date; and, where a stack shows two dates or one, how far that may be from what is said.

Far from the little that a date shows it is told by the others as if it showed nothing: what was learnt of gaps in other
dates, some tens of pixels deep, is no use there, and a surface laid through a corner runs wild.

Where few dates are seen no trial tells what a date between others costs. Each of two dates is hidden whole, and what
they differ by stands for all others, less between the two and more the farther beyond; where one is seen, what dates
differ by in other stacks does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.calibration import Z90, hidden_errors, lost_planes, target_distance
from geodiff.fillers.series import days_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch, SceneSample, Trial

__all__ = ["beyond_corner", "few_dates", "lost_error", "lost_errors", "lost_share", "lost_step"]

_FEW_SEEN = 3
"""Dates from which on trials that hide whole ones tell of a date that is lost between others."""
_ALL_BUT = 0.2
"""Share of a window of which less is known on a date that is all but lost."""
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
_OWN_SHARE = 0.2
"""Share of the variance between two dates that is each date's own, as haze or light; the rest grows with the time
between, as a random walk does. Errors beyond the two seen dates grow by the power 0.46 of the time on those stacks;
with this share intervals hold 0.89 of dates between and 0.90 of those beyond, with none 0.84 and 0.90."""
_UNRELATED = 1.5
"""Bound on errors beyond: two dates that have nothing in common are sqrt(2) apart, in normalised units."""
_NEAR, _FAR = 12.0, 24.0
"""Pixels from what is known: up to the first a date that is all but lost is no lost one, from the second on it is."""
_AS_LOST = 0.6
"""How far, in log, standard errors go over to a lost date's far from a corner. On the corners of nine validation and
training stacks intervals then hold 0.90, with the whole of it 0.95, with none 0.77; of eight made-up ones 0.93, 0.96,
0.90."""


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
    error : (pixel,) as `told` gives it, where one of the two dates was hidden.
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
    """(target, band, row, column) of the window: how far a pixel is one of a lost date, from 0 to 1.

    All of it where the date shows nothing here, and far from the little that it shows where that is less than a fifth.
    """
    targets = list(patch.targets)
    asked = patch.known[targets] | patch.fillable[targets]
    little = patch.known[targets].sum(axis=(2, 3)) < _ALL_BUT * asked.sum(axis=(2, 3))
    away = np.log2(np.maximum(target_distance(patch)[..., *patch.core], np.float32(1)))
    far = np.clip((away - np.log2(_NEAR)) / np.log2(_FAR / _NEAR), 0.0, 1.0)
    return np.where(little[..., None, None], far, 0.0).astype(np.float32)


def beyond_corner(patch: Patch, error: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Standard errors far from the little that a date shows, where parts that were fitted to a corner claim too little.

    Parameters
    ----------
    error : (target, band, row, column) of the window, as claimed.
    level : what is claimed of lost dates.
    """
    wholly = lost_planes(patch)[..., None, None]  # these have a factor of their own
    share = np.where(wholly, np.float32(0), np.float32(_AS_LOST) * lost_share(patch))
    return np.asarray(error ** (1 - share) * np.float32(level) ** share, np.float32) if share.any() else error

"""Fillers that use other dates: linear, harmonic, Whittaker, climatology, space-time relaxation, regression.

Each predicts the target date from the others. A prediction never uses the target's value at the pixel itself, so its
error at known pixels is of the same kind as in the gap: it is relaxed into the gap to correct the prediction, and gives
the scale of the standard error. In windows that no other date knows, the fill is harmonic, with the source code of
`laplace`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.ndimage import uniform_filter

from geodiff.fillers import CODES, Filled, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.calibration import conformal_factors, far_apart, informative_errors, patch_factors, strata
from geodiff.fillers.optimal import Coupled, Points, filled_between, likeliest
from geodiff.fillers.regression import one_date_regressions, regressors
from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.series import (
    Series,
    climatology,
    harmonic,
    linear,
    near_mean,
    screened,
    seasonal,
    spread,
    whittaker,
)
from geodiff.fillers.spacetime import relaxed_in_time
from geodiff.fillers.weights import simplex_minimum
from geodiff.fillers.whitening import FLOOR, expected_error, local_spread, mirrored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = [
    "Climatology",
    "Harmonic",
    "LinearTime",
    "Regression",
    "SpaceTime",
    "TemporalFiller",
    "Whittaker",
]

_FEWEST = 50
"""Fewest known pixels of the target date from which the scale of the error is estimated."""
_BLIND = 0.5
"""Standard error, in normalised units, of a target date without data where no trial informs it."""
_LEAST_WEIGHT = 0.05
_CAUTION = 3.0
"""Number of trial dates as which linear interpolation counts for lost dates, which differ from the trials' dates."""
_MOST_TRIALS = 12
"""Most trials, with one band each, by which settings are chosen."""
_MOST_BLIND = 6
"""Most trials, with one band each and all of different dates, by which the error of dates without data is estimated."""
_MOST_ALONE = 24
"""Most trials, all of different dates, by which the predictors of lost dates are chosen. Only the middle of each patch
is used, so that together they cost as much as six whole patches."""
_PAIR, _BROAD = 2, 32
"""Number of seen dates for which a lost one may be predicted by the mean around a pixel, and pixels to each side over
which that mean is taken: the halo, so that the result does not depend on the window."""
_LITTLE = 0.3
"""Known share of the trials' patches, over all dates, up to which a stack counts as sparse."""
_MOST_CALIBRATED = 30
"""Most trials, with one band each, by which the standard error is calibrated."""


class TemporalFiller(ABC):
    """Base of the temporal fillers: each target date and band is filled by itself, without members.

    The standard error is the expected error of relaxing the departures of the known pixels from the prediction, times
    factors by distance to data and nearest date, learnt from the trials. For a target date without data it is the
    error of the prediction in trials that hide the whole date.
    """

    name: ClassVar[str]
    halo: ClassVar[int] = 32
    context_dates: ClassVar[int] = -1
    """Number of dates used besides the target, the nearest ones as in `context.nearest_dates`; -1 for all."""
    needs_dates: ClassVar[bool] = True
    fixed: ClassVar[bool] = True
    """A fit chooses one of a few settings, which hardly depends on any single trial, so a stack need not refit it."""
    defaults: ClassVar[tuple[float, ...]] = (1.0,) * 5
    """Factors on the expected error by distance class where a scene has too few trials; measured on other scenes."""
    corrected: ClassVar[bool] = True
    """Whether the departures of the known pixels from the prediction are relaxed into the gap."""
    settings: ClassVar[tuple[Mapping[str, float], ...]] = ({},)
    """Settings among which the fit chooses; the first is used where there are no trials."""

    @abstractmethod
    def trend(self, series: Series, fitted: Fitted) -> Plane:
        """The target (row, column) predicted from the other dates; NaN where none of them knows the pixel."""

    def fit(self, sample: SceneSample) -> Fitted:
        """Choose the setting with the least squared error on the trials, then calibrate the standard error."""
        return self.calibrated(sample, self.learnt(sample))

    def learnt(self, sample: SceneSample) -> Fitted:
        """The fit before calibration."""
        candidates = [Fitted(self.name, dict(setting)) for setting in self.settings]
        if len(candidates) == 1 or not sample.trials:
            return candidates[0]
        losses = np.zeros(len(candidates))
        for trial, band in _some(sample.trials):
            for place, candidate in enumerate(candidates):
                value = self._value(trial.patch, trial.patch.targets[0], band, candidate)
                losses[place] += _squared_error(trial, band, value)
        return candidates[int(np.argmin(losses))]

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:  # noqa: ARG002 (no chance)
        """Fill each patch by itself."""
        return [self._fill(patch, fitted) for patch in patches]

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """The value over the window: (target, band, row, column)."""
        value = np.empty(patch.missing.shape, np.float32)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            target, band = patch.targets[place[0]], place[1]
            plane = self._value(patch, target, band, fitted) if wanted else patch.coarse[target, band]
            value[place] = plane[patch.core]
        return value

    def standard_error(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """The standard error over the window: (target, band, row, column)."""
        error = np.ones(patch.missing.shape, np.float32)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            if wanted:
                error[place] = self._error(patch, patch.targets[place[0]], place[1], fitted)[patch.core]
        return error * patch_factors(patch, fitted.arrays["factors"])

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:  # noqa: ARG002 (whatever was learnt)
        """Source codes (target, band, row, column); that of `laplace` where no other date knows a pixel."""
        codes = np.full(patch.missing.shape, CODES[self.name], np.uint8)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            if wanted:
                seen = self._seen(patch, patch.targets[place[0]], place[1])[patch.core]
                codes[place][~seen] = CODES["laplace"]
        return codes

    def calibrated(self, sample: SceneSample, fitted: Fitted) -> Fitted:
        """The fit with the calibration factors and the error of dates without data, both learnt from the trials."""
        blind = self._blind(sample.trials, fitted)
        fitted = replace(fitted, facts={**fitted.facts, "blind": blind, "trials": len(sample.trials)})
        none = np.empty(0, np.float32)
        errors, truths, claimed, classes = [none], [none], [none], [np.empty(0, np.int8)]
        bands, table = [np.empty(0, np.int64)], far_apart(sample.trials)
        for trial, band in _some(sample.trials, _MOST_CALIBRATED):
            target, hidden = trial.patch.targets[0], trial.hidden[0, band]
            value = self._value(trial.patch, target, band, fitted)
            errors.append((value[trial.patch.core] - trial.truth[0, band])[hidden])
            truths.append(trial.truth[0, band][hidden])
            claimed.append(self._error(trial.patch, target, band, fitted)[trial.patch.core][hidden])
            bands.append(np.full(int(hidden.sum()), band))
            classes.append(strata(trial.patch, table=table)[0, band][hidden])
        miss = informative_errors(np.concatenate(errors), np.concatenate(truths), np.concatenate(bands))
        with np.errstate(invalid="ignore"):  # right where no error was expected, as in what never changes: NaN
            ratio = np.asarray(miss / np.concatenate(claimed), np.float32)
        factors = conformal_factors(ratio, np.concatenate(classes), self.defaults)
        return replace(fitted, arrays={**fitted.arrays, "factors": factors})

    def _blind(self, trials: Sequence[Trial], fitted: Fitted) -> float:
        """Root mean square error of the prediction when the whole target date is hidden."""
        squares, count = 0.0, 0
        for trial, band in _some(_one_a_date(trials), _MOST_BLIND):
            patch, target = trial.patch, trial.patch.targets[0]
            known = patch.known.copy()
            known[target] = False
            value = self._value(replace(patch, known=known), target, band, fitted)
            squares += _squared_error(trial, band, value)
            count += int(trial.hidden[0, band].sum())
        return float(np.sqrt(squares / count)) if count else _BLIND

    def _fill(self, patch: Patch, fitted: Fitted) -> Filled:
        value, error = self.estimate(patch, fitted), self.standard_error(patch, fitted)
        return Filled(value, error, None, self.source(patch, fitted))

    def _series(self, patch: Patch, target: int, band: int) -> Series:
        """The dates used for one target date and band."""
        return Series.of(patch, target, band, self.context_dates)

    def _seen(self, patch: Patch, target: int, band: int) -> NDArray[np.bool_]:
        """Pixels known on another of those dates: (row, column)."""
        key = ("seen", self.context_dates, target, band)
        return patch.once(key, lambda: self._series(patch, target, band).seen)

    def _value(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """The value of one target date and band, with the margin; harmonic where no other date has data."""
        values, known = patch.values[target, band], patch.known[target, band]
        if not self._seen(patch, target, band).any():
            harmonic: Plane = relaxed_fill(values[None], known[None], patch.coarse[target, band][None])[0]
            return harmonic
        trend = self._trend(patch, target, band, fitted)
        told, trend = np.isfinite(trend), _without_holes(trend)
        if not self.corrected and told.all():
            return trend
        departure = np.where(known, values - trend, np.float32(0))[None]
        spread_out: Plane = trend + relaxed_fill(departure, known[None], np.zeros_like(departure))[0]
        return spread_out if self.corrected else np.where(told, trend, spread_out)

    def _error(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """The standard error of the same plane before calibration, from the departures of the known pixels."""
        values, known = patch.values[target, band][None], patch.known[target, band][None]
        if not self._seen(patch, target, band).any():
            return np.asarray(expected_error(values, known, copies=mirrored(patch))[0])
        if np.count_nonzero(known) < _FEWEST:
            blind = float(fitted.facts.get("blind", _BLIND))
            return np.full(known.shape[1:], blind / self.defaults[-1], np.float32)
        trend = _without_holes(self._trend(patch, target, band, fitted))
        departure = np.where(known, values - trend, np.float32(0))
        error = expected_error(departure, known) if self.corrected else _typical(departure, known)
        return np.asarray(error[0])

    def _trend(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """The prediction from which value and standard error are made."""
        key = (*_setting(fitted), "trend", target, band)
        return patch.once(key, lambda: self.trend(self._series(patch, target, band), fitted))


def _setting(fitted: Fitted) -> tuple[str, ...]:
    """The part of a fit on which predictions depend, as a key under which they are cached."""
    facts = {name: fact for name, fact in fitted.facts.items() if name not in ("blind", "trials")}
    return fitted.filler, repr(sorted(facts.items()))


def _without_holes(trend: Plane) -> Plane:
    """The prediction, with pixels that no other date knows filled harmonically from those around them."""
    defined = np.isfinite(trend)
    if defined.all():
        return trend
    filled: Plane = relaxed_fill(
        np.where(defined, trend, np.float32(0))[None], defined[None], spread(np.nan_to_num(trend)[None], defined[None])
    )[0]
    return filled


def _typical(departure: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square departure of the known pixels nearby, for predictions that are not corrected."""
    mean = spread(departure, known)
    return np.maximum(np.hypot(local_spread(departure, known), mean), FLOOR).astype(np.float32)


def _some(trials: Sequence[Trial], most: int = _MOST_TRIALS) -> Iterator[tuple[Trial, int]]:
    """At most `most` evenly spaced trials, each with one band, the bands taken in turn."""
    step = max(1, -(-len(trials) // most))
    for place, trial in enumerate(trials[::step]):
        bands = np.flatnonzero(trial.hidden.any(axis=(0, 2, 3)))
        if bands.size:
            yield trial, int(bands[place % bands.size])


def _shown(trials: Sequence[Trial]) -> float:
    """Known share of the fillable pixels, over all dates of the trials' patches."""
    known = sum(int(np.count_nonzero(trial.patch.known)) for trial in trials)
    return known / max(sum(int(np.count_nonzero(trial.patch.fillable)) for trial in trials), 1)


def _one_a_date(trials: Sequence[Trial]) -> list[Trial]:
    """For each date the trial with most hidden pixels, as two trials of one date are not independent.

    All trials where the source has no dates to distinguish them.
    """
    largest: dict[int, Trial] = {}
    for trial in trials:
        date = int(trial.patch.dates[trial.patch.targets[0]])
        if date not in largest or trial.hidden.sum() > largest[date].hidden.sum():
            largest[date] = trial
    return list(largest.values()) if len(largest) > 1 else list(trials)


def _squared_error(trial: Trial, band: int, plane: Plane) -> float:
    """Sum of squared errors over the hidden pixels of the first target; `plane` includes the margin."""
    error = (plane[trial.patch.core] - trial.truth[0, band])[trial.hidden[0, band]]
    return float(np.square(error, dtype=np.float64).sum())


class LinearTime(TemporalFiller):
    """Linear interpolation in time, pixel by pixel; the nearest date before the first and after the last known one."""

    name = "linear-time"
    defaults = (0.9, 1.15, 1.3, 1.35, 1.35)
    context_dates = 30
    corrected = False

    def trend(self, series: Series, fitted: Fitted) -> Plane:  # noqa: ARG002 (nothing to fit)
        return linear(series)


class Harmonic(TemporalFiller):
    """A trend and yearly harmonics through each pixel's series, shrunk to those of the window."""

    name = "harmonic"
    defaults = (1.25, 1.4, 1.45, 1.5, 1.5)
    settings = (
        {"order": 1, "ridge": 1.0},
        {"order": 2, "ridge": 1.0},
        {"order": 2, "ridge": 0.1},
        {"order": 3, "ridge": 1.0},
    )

    def trend(self, series: Series, fitted: Fitted) -> Plane:
        return harmonic(series, int(fitted.facts["order"]), float(fitted.facts["ridge"]))


class Whittaker(TemporalFiller):
    """Whittaker's smoother through each pixel's series."""

    name = "whittaker"
    defaults = (1.3, 1.4, 1.45, 1.4, 1.4)
    context_dates = 30
    settings = ({"smoothness": 1.0}, {"smoothness": 0.1}, {"smoothness": 10.0}, {"smoothness": 100.0})

    def trend(self, series: Series, fitted: Fitted) -> Plane:
        return whittaker(series, float(fitted.facts["smoothness"]))


class Climatology(TemporalFiller):
    """The mean of the same season on other dates."""

    name = "climatology"
    defaults = (1.25, 1.4, 1.5, 1.55, 1.6)
    settings = ({"width": 20.0}, {"width": 10.0}, {"width": 45.0})

    def trend(self, series: Series, fitted: Fitted) -> Plane:
        return climatology(series, float(fitted.facts["width"]))


class SpaceTime(TemporalFiller):
    """Relaxation coupled in space and time; optimal interpolation in sparse stacks.

    The coupling in time is chosen on the trials. On validation stacks, errors with the six nearest dates are up to a
    tenth lower than with ten. In sparse stacks (tracks, points), a covariance chosen by likelihood is used instead.
    """

    name = "spacetime"
    defaults = (1.5, 1.7, 1.8, 1.6, 1.5)
    context_dates = 6
    settings = ({"coupling": 0.1}, {"coupling": 0.03}, {"coupling": 0.3})

    def learnt(self, sample: SceneSample) -> Fitted:
        """The coupling or, for a sparse stack of several dates, a covariance of space and time."""
        dated = any(len(trial.patch.dates) > 1 for trial in sample.trials)
        if dated and _shown(sample.trials) <= _LITTLE:
            coupled = likeliest(Points.of(trial.patch, band) for trial, band in _some(sample.trials))
            if coupled is not None:
                return Fitted(self.name, {"around": True, **asdict(coupled)})
        return super().learnt(sample)

    def trend(self, series: Series, fitted: Fitted) -> Plane:  # noqa: ARG002 (the fit is for the value)
        """The prediction behind the standard error: the relaxation itself reproduces the target's known pixels."""
        return linear(series)

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:
        """Source codes (target, band, row, column); its own everywhere where pixels around one are used too."""
        if fitted.facts.get("around"):
            return np.full(patch.missing.shape, CODES[self.name], np.uint8)
        return super().source(patch, fitted)

    def _value(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """The coupled relaxation or the optimal interpolation; harmonic where no other date has data."""
        if fitted.facts.get("around"):
            return self._optimal(patch, target, band, fitted)[0]
        if not self._seen(patch, target, band).any():
            return super()._value(patch, target, band, fitted)
        coupling = float(fitted.facts["coupling"])
        key = (*_setting(fitted), target, band)
        return patch.once(key, lambda: relaxed_in_time(self._series(patch, target, band), coupling))

    def _error(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        if fitted.facts.get("around"):
            return self._optimal(patch, target, band, fitted)[1]
        return super()._error(patch, target, band, fitted)

    def _optimal(self, patch: Patch, target: int, band: int, fitted: Fitted) -> tuple[Plane, Plane]:
        """Value and standard error by optimal interpolation."""
        facts = fitted.facts
        coupled = Coupled(**{field.name: facts[field.name] for field in fields(Coupled) if field.name in facts})
        key = (*_setting(fitted), target, band)
        return patch.once(key, lambda: filled_between(patch, target, band, coupled))


def _filled_linear(series: Series) -> Plane:
    """Linear interpolation in time between dates whose gaps are filled."""
    return regressors(series).base.reshape(series.seen.shape)


def _broad(series: Series) -> Plane:
    """Linear interpolation in time, averaged around each pixel: fine detail differs between two dates."""
    line = linear(series)
    told = np.isfinite(line)
    total, count = (uniform_filter(plane, 2 * _BROAD + 1) for plane in (np.where(told, line, 0.0), told * 1.0))
    mean: Plane = np.divide(total, count, out=np.full(line.shape, np.nan), where=told).astype(np.float32)
    return mean


_ALONE: Mapping[str, Callable[[Series], Plane]] = {
    "linear": linear,
    "smooth": lambda series: whittaker(series, 1.0),
    "smoother": lambda series: whittaker(series, 10.0),
    "relaxed": lambda series: relaxed_in_time(series, 0.3),
    "filled": _filled_linear,
    "mean": near_mean,
    "screened": lambda series: linear(screened(series)),
    "screened smooth": lambda series: whittaker(screened(series), 1.0),
    "seasonal": seasonal,
    "harmonic": lambda series: harmonic(series, 2, 1.0),
}
"""Predictors of a date without data: from interpolation to an average, with and without screening of outliers."""
_ALONE_OF_TWO = {**_ALONE, "broad": _broad}
"""The predictors for stacks with two seen dates."""


class Regression(TemporalFiller):
    """Ridge regression of the target on its neighbours, shrunk to linear in time, mixed with regressions on one date.

    The ridge strength and the share of the one-date regressions are chosen on the trials.
    """

    name = "regression"
    defaults = (1.2, 1.3, 1.35, 1.35, 1.45)
    context_dates = 24
    settings = tuple({"ridge": r, "single": s} for s in (0.0, 0.25, 0.5) for r in (0.03, 0.01, 0.1, 0.3))

    def trend(self, series: Series, fitted: Fitted) -> Plane:
        """The regression; for a date without data here, the predictors that the fit chose for such dates."""
        if not series.known[series.target].any():
            return _alone(series, fitted.facts.get("alone", {"linear": 1.0}))
        share = float(fitted.facts["single"])
        ridge = regressors(series).trend(float(fitted.facts["ridge"])).reshape(series.seen.shape)
        return _mixed(ridge, one_date_regressions(series), share) if share else ridge

    def _series(self, patch: Patch, target: int, band: int) -> Series:
        """The dates used; all of them, and those of the same season in other years, for a date without data here."""
        return Series.of(patch, target, band, self.context_dates if patch.known[target, band].any() else -1)

    def learnt(self, sample: SceneSample) -> Fitted:
        """Choose the setting, computing what all settings share once per trial, and the predictors of lost dates."""
        losses, alone = np.zeros(len(self.settings)), np.zeros((len(_ALONE_OF_TWO), len(_ALONE_OF_TWO)))
        for trial, band in _some(sample.trials):
            series = Series.of(trial.patch, trial.patch.targets[0], band, self.context_dates)
            if series.seen.any():
                losses += [_squared_error(trial, band, plane) for plane in self._candidates(series)]
        for trial, band in _some(_one_a_date(sample.trials), _MOST_ALONE):
            series = Series.of(trial.patch, trial.patch.targets[0], band, -1)
            if series.seen.any():
                alone += _alone_products(series, trial, band)
        if sum(sample.seen) == _PAIR:  # each is predicted from the other: both errors are the same difference
            weights = _alone_weights(alone / 2, _ALONE_OF_TWO)
        else:
            weights = _alone_weights(alone[: len(_ALONE), : len(_ALONE)], _ALONE)
        return Fitted(self.name, {**self.settings[int(np.argmin(losses))], "alone": weights})

    def _candidates(self, series: Series) -> Iterator[Plane]:
        """Estimates with each setting, with the departures spread at half resolution."""
        prepared, shape = regressors(series), series.seen.shape
        ridges = {s["ridge"]: prepared.trend(s["ridge"]).reshape(shape) for s in self.settings}
        single = one_date_regressions(series)
        single = np.where(np.isnan(single), ridges[self.settings[0]["ridge"]], single)
        single = _corrected(single, series)
        ridges = {strength: _corrected(trend, series) for strength, trend in ridges.items()}
        for setting in self.settings:
            yield _mixed(ridges[setting["ridge"]], single, setting["single"])


def _alone(series: Series, weights: Mapping[str, float]) -> Plane:
    """The weighted mean of predictors by name."""
    planes = [np.float32(weight) * _without_holes(_ALONE_OF_TWO[name](series)) for name, weight in weights.items()]
    mean: Plane = np.sum(planes, axis=0, dtype=np.float32)
    return mean


def _alone_products(series: Series, trial: Trial, band: int) -> NDArray[np.float64]:
    """Products of the errors of the predictors `_ALONE_OF_TWO` with all of the target date hidden.

    Over the middle of the patch, in units of the first predictor's squared error, so that no trial dominates.
    """
    truth, shown = series.values[series.target].copy(), series.known[series.target].copy()
    hidden = trial.hidden[0, band]
    truth[trial.patch.core][hidden] = trial.truth[0, band][hidden]
    shown[trial.patch.core] |= hidden
    middle = tuple(slice(side // 4, side - side // 4) for side in truth.shape)
    truth, shown, known = truth[middle], shown[middle], series.known[:, *middle].copy()
    known[series.target] = False
    blind = replace(series, values=series.values[:, *middle], known=known)
    errors = np.stack([(_without_holes(of(blind)) - truth)[shown] for of in _ALONE_OF_TWO.values()]).astype(np.float64)
    products = errors @ errors.T
    scaled: NDArray[np.float64] = products / max(float(products[0, 0]), 1e-12)
    return scaled


def _alone_weights(products: NDArray[np.float64], names: Iterable[str]) -> dict[str, float]:
    """Convex weights of predictors, shrunk to the first, linear, small ones dropped; linear alone without trials."""
    trials, linear_alone = float(products[0, 0]), np.eye(len(products))[0]
    if not trials:
        return {"linear": 1.0}
    weights = (trials * simplex_minimum(products) + _CAUTION * linear_alone) / (trials + _CAUTION)
    kept = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight >= _LEAST_WEIGHT}
    return {name: weight / sum(kept.values()) for name, weight in kept.items()}


def _corrected(trend: Plane, series: Series) -> Plane:
    """The trend plus the departures of the target's known pixels from it, spread at half resolution."""
    known, values = series.known[series.target], series.values[series.target]
    corrected: Plane = trend + spread(np.where(known, values - trend, np.float32(0))[None], known[None])[0]
    return corrected


def _mixed(ridge: Plane, single: Plane, share: float) -> Plane:
    """The ridge regression mixed with a share of the one-date regressions, where there are any."""
    mixed: Plane = np.where(np.isnan(single), ridge, ridge + np.float32(share) * (single - ridge))
    return mixed

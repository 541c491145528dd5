"""Fillers that look at other dates: linear, harmonic, Whittaker, climatology, space-time relaxation, regression.

Each predicts the target from the other dates. A prediction never uses the target's own pixels in place, so its error
at the known ones is what it would be in the gap: that is relaxed into the gap and gives the standard error its scale.
Where no other date knows a window, the fill is harmonic and carries the source code of `laplace`.
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
"""Known pixels of the target date from which the scale of the error can be told."""
_BLIND = 0.5
"""Error, in normalised units, where the target date is unknown and no trial told better."""
_LEAST_WEIGHT = 0.05
_CAUTION = 3.0
"""Dates that linear interpolation is worth where a date shows nothing: a lost date is not like the trials' dates."""
_MOST_TRIALS = 12
"""Trials, of one band each, that choose among settings."""
_MOST_BLIND = 6
"""Trials, of one band and another date each, that tell how well a date is predicted of which nothing is known."""
_MOST_ALONE = 24
"""Trials, of another date each, that choose what a lost date is predicted by; of each the middle of its patch, so that
all cost what six whole ones would."""
_PAIR, _BROAD = 2, 32
"""Seen dates of which a third, lost one is drawn to the mean around, and pixels to each side over which that is taken,
which is the halo: every window sees the same."""
_LITTLE = 0.3
"""Share of the trials' patches, all dates together, up to which a stack shows little."""
_MOST_CALIBRATED = 30
"""Trials, of one band each, that scale the standard error."""


class TemporalFiller(ABC):
    """What the temporal fillers share: each target date and band by itself, no members, one calibration.

    The standard error is the expected error of what the known pixels depart from the prediction, times factors by
    distance to data and nearest date, learnt from the trials; where the target date shows nothing, it is the error of
    the prediction with the whole date hidden.
    """

    name: ClassVar[str]
    halo: ClassVar[int] = 32
    context_dates: ClassVar[int] = -1
    """Dates besides the target that it looks at, the nearest ones, as `context.nearest_dates` takes them; -1 all."""
    needs_dates: ClassVar[bool] = True
    fixed: ClassVar[bool] = True
    """A fit chooses one of a few settings; that hardly depends on any one trial, so a stack need not refit it."""
    defaults: ClassVar[tuple[float, ...]] = (1.0,) * 5
    """Factors on the expected error by distance class where a scene has too few trials; measured on other scenes."""
    corrected: ClassVar[bool] = True
    """Whether what the known pixels depart from the prediction is relaxed into the gap."""
    settings: ClassVar[tuple[Mapping[str, float], ...]] = ({},)
    """Candidates for the fit to choose from; the first where there are no trials."""

    @abstractmethod
    def trend(self, series: Series, fitted: Fitted) -> Plane:
        """The target (row, column) predicted from other dates that know something; NaN where they say nothing."""

    def fit(self, sample: SceneSample) -> Fitted:
        """Choose the setting of least squared error on the trials, then learn the factors of the standard error."""
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
        """Estimate each patch by itself."""
        return [self._fill(patch, fitted) for patch in patches]

    def estimate(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """(target, band, row, column) of the window: values alone."""
        value = np.empty(patch.missing.shape, np.float32)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            target, band = patch.targets[place[0]], place[1]
            plane = self._value(patch, target, band, fitted) if wanted else patch.coarse[target, band]
            value[place] = plane[patch.core]
        return value

    def standard_error(self, patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
        """(target, band, row, column) of the window: standard errors alone."""
        error = np.ones(patch.missing.shape, np.float32)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            if wanted:
                error[place] = self._error(patch, patch.targets[place[0]], place[1], fitted)[patch.core]
        return error * patch_factors(patch, fitted.arrays["factors"])

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:  # noqa: ARG002 (whatever was learnt)
        """(target, band, row, column) of the window: whose values they are; harmonic where no date knows a pixel."""
        codes = np.full(patch.missing.shape, CODES[self.name], np.uint8)
        for place, wanted in np.ndenumerate(patch.missing.any(axis=(2, 3))):
            if wanted:
                seen = self._seen(patch, patch.targets[place[0]], place[1])[patch.core]
                codes[place][~seen] = CODES["laplace"]
        return codes

    def calibrated(self, sample: SceneSample, fitted: Fitted) -> Fitted:
        """The fit with the factors, and the error without any known pixel, that the trials ask for."""
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
        """The dates it looks at for one target date and band."""
        return Series.of(patch, target, band, self.context_dates)

    def _seen(self, patch: Patch, target: int, band: int) -> NDArray[np.bool_]:
        """(row, column): known on another of those dates."""
        key = ("seen", self.context_dates, target, band)
        return patch.once(key, lambda: self._series(patch, target, band).seen)

    def _value(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """One target date and band, with margin; harmonic where no other date knows anything."""
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
        """Its standard error before calibration: what the known pixels depart from the prediction tells it."""
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
        """The prediction, which both are made from."""
        key = (*_setting(fitted), "trend", target, band)
        return patch.once(key, lambda: self.trend(self._series(patch, target, band), fitted))


def _setting(fitted: Fitted) -> tuple[str, ...]:
    """What a prediction depends on, of all that a fit learnt: trials ask for it more than once."""
    facts = {name: fact for name, fact in fitted.facts.items() if name not in ("blind", "trials")}
    return fitted.filler, repr(sorted(facts.items()))


def _without_holes(trend: Plane) -> Plane:
    """Where no other date knows a pixel, what its surroundings say."""
    defined = np.isfinite(trend)
    if defined.all():
        return trend
    filled: Plane = relaxed_fill(
        np.where(defined, trend, np.float32(0))[None], defined[None], spread(np.nan_to_num(trend)[None], defined[None])
    )[0]
    return filled


def _typical(departure: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square departure of the known pixels nearby, for predictions that are left as they are."""
    mean = spread(departure, known)
    return np.maximum(np.hypot(local_spread(departure, known), mean), FLOOR).astype(np.float32)


def _some(trials: Sequence[Trial], most: int = _MOST_TRIALS) -> Iterator[tuple[Trial, int]]:
    """A few trials, evenly chosen, each with one band; the bands in turn."""
    step = max(1, -(-len(trials) // most))
    for place, trial in enumerate(trials[::step]):
        bands = np.flatnonzero(trial.hidden.any(axis=(0, 2, 3)))
        if bands.size:
            yield trial, int(bands[place % bands.size])


def _shown(trials: Sequence[Trial]) -> float:
    """Share that is known of what could be, on all dates of the trials' patches."""
    known = sum(int(np.count_nonzero(trial.patch.known)) for trial in trials)
    return known / max(sum(int(np.count_nonzero(trial.patch.fillable)) for trial in trials), 1)


def _one_a_date(trials: Sequence[Trial]) -> list[Trial]:
    """Of each date the trial that judges most pixels: a date that was left out tells the same of itself twice.

    All of them where the source has no dates to tell them apart by.
    """
    largest: dict[int, Trial] = {}
    for trial in trials:
        date = int(trial.patch.dates[trial.patch.targets[0]])
        if date not in largest or trial.hidden.sum() > largest[date].hidden.sum():
            largest[date] = trial
    return list(largest.values()) if len(largest) > 1 else list(trials)


def _squared_error(trial: Trial, band: int, plane: Plane) -> float:
    """Over the hidden pixels of the first target; `plane` has the margin."""
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
    """A trend and yearly harmonics through each pixel's series, drawn to those of the window."""

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
    """Relaxation with known neighbours in space and time; optimal interpolation where a stack shows little.

    How firmly time couples is chosen on the trials. On validation stacks errors with the six nearest dates are up to a
    tenth below those with ten. Between tracks and points a covariance, chosen by likelihood, takes the place of that.
    """

    name = "spacetime"
    defaults = (1.5, 1.7, 1.8, 1.6, 1.5)
    context_dates = 6
    settings = ({"coupling": 0.1}, {"coupling": 0.03}, {"coupling": 0.3})

    def learnt(self, sample: SceneSample) -> Fitted:
        """The coupling, or a covariance of space and time, of which a single date would tell nothing."""
        dated = any(len(trial.patch.dates) > 1 for trial in sample.trials)
        if dated and _shown(sample.trials) <= _LITTLE:
            coupled = likeliest(Points.of(trial.patch, band) for trial, band in _some(sample.trials))
            if coupled is not None:
                return Fitted(self.name, {"around": True, **asdict(coupled)})
        return super().learnt(sample)

    def trend(self, series: Series, fitted: Fitted) -> Plane:  # noqa: ARG002 (the fit is for the value)
        """What the error is told by: the relaxation keeps the target's own pixels and cannot tell it."""
        return linear(series)

    def source(self, patch: Patch, fitted: Fitted) -> NDArray[np.uint8]:
        """(target, band, row, column) of the window; its own throughout where what lies around a pixel tells of it."""
        if fitted.facts.get("around"):
            return np.full(patch.missing.shape, CODES[self.name], np.uint8)
        return super().source(patch, fitted)

    def _value(self, patch: Patch, target: int, band: int, fitted: Fitted) -> Plane:
        """The coupled relaxation itself where another date is known."""
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
        """Value and standard error."""
        facts = fitted.facts
        coupled = Coupled(**{field.name: facts[field.name] for field in fields(Coupled) if field.name in facts})
        key = (*_setting(fitted), target, band)
        return patch.once(key, lambda: filled_between(patch, target, band, coupled))


def _filled_linear(series: Series) -> Plane:
    """Linear in time through filled neighbours."""
    return regressors(series).base.reshape(series.seen.shape)


def _broad(series: Series) -> Plane:
    """Linear in time, each pixel the mean of what is told around it: what two dates do not share is no fine detail."""
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
"""Predictions of a date of which nothing is known: between interpolation and an average, with and without outliers."""
_ALONE_OF_TWO = {**_ALONE, "broad": _broad}
"""Those where two dates are seen, which are no series to take a mean of."""


class Regression(TemporalFiller):
    """Ridge regression of the target on its neighbours, drawn to linear in time, mixed with regressions on one date.

    The strength of the ridge and the share of the mixture are chosen on the trials.
    """

    name = "regression"
    defaults = (1.2, 1.3, 1.35, 1.35, 1.45)
    context_dates = 24
    settings = tuple({"ridge": r, "single": s} for s in (0.0, 0.25, 0.5) for r in (0.03, 0.01, 0.1, 0.3))

    def trend(self, series: Series, fitted: Fitted) -> Plane:
        """The regression; on a date that shows nothing here, what the fit found best without it."""
        if not series.known[series.target].any():
            return _alone(series, fitted.facts.get("alone", {"linear": 1.0}))
        share = float(fitted.facts["single"])
        ridge = regressors(series).trend(float(fitted.facts["ridge"])).reshape(series.seen.shape)
        return _mixed(ridge, one_date_regressions(series), share) if share else ridge

    def _series(self, patch: Patch, target: int, band: int) -> Series:
        """Of a date that shows nothing here all dates, those of the same season in other years too."""
        return Series.of(patch, target, band, self.context_dates if patch.known[target, band].any() else -1)

    def learnt(self, sample: SceneSample) -> Fitted:
        """All settings on one preparation of each trial."""
        losses, alone = np.zeros(len(self.settings)), np.zeros((len(_ALONE_OF_TWO), len(_ALONE_OF_TWO)))
        for trial, band in _some(sample.trials):
            series = Series.of(trial.patch, trial.patch.targets[0], band, self.context_dates)
            if series.seen.any():
                losses += [_squared_error(trial, band, plane) for plane in self._candidates(series)]
        for trial, band in _some(_one_a_date(sample.trials), _MOST_ALONE):
            series = Series.of(trial.patch, trial.patch.targets[0], band, -1)
            if series.seen.any():
                alone += _alone_products(series, trial, band)
        if sum(sample.seen) == _PAIR:  # each of them is told by the other: both misses are one and the same difference
            weights = _alone_weights(alone / 2, _ALONE_OF_TWO)
        else:
            weights = _alone_weights(alone[: len(_ALONE), : len(_ALONE)], _ALONE)
        return Fitted(self.name, {**self.settings[int(np.argmin(losses))], "alone": weights})

    def _candidates(self, series: Series) -> Iterator[Plane]:
        """Estimates by each setting, the departures spread at half resolution."""
        prepared, shape = regressors(series), series.seen.shape
        ridges = {s["ridge"]: prepared.trend(s["ridge"]).reshape(shape) for s in self.settings}
        single = one_date_regressions(series)
        single = np.where(np.isnan(single), ridges[self.settings[0]["ridge"]], single)
        single = _corrected(single, series)
        ridges = {strength: _corrected(trend, series) for strength, trend in ridges.items()}
        for setting in self.settings:
            yield _mixed(ridges[setting["ridge"]], single, setting["single"])


def _alone(series: Series, weights: Mapping[str, float]) -> Plane:
    """The weighted mean of predictions by name."""
    planes = [np.float32(weight) * _without_holes(_ALONE_OF_TWO[name](series)) for name, weight in weights.items()]
    mean: Plane = np.sum(planes, axis=0, dtype=np.float32)
    return mean


def _alone_products(series: Series, trial: Trial, band: int) -> NDArray[np.float64]:
    """Products of the errors of `_ALONE_OF_TWO` on what the target really shows, all of it hidden.

    In the middle of the patch, and in units of the first one's squared error, so that no trial outweighs the others.
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
    """Convex weights of predictions, drawn to the first, linear, which has it all without trials; small ones go."""
    trials, linear_alone = float(products[0, 0]), np.eye(len(products))[0]
    if not trials:
        return {"linear": 1.0}
    weights = (trials * simplex_minimum(products) + _CAUTION * linear_alone) / (trials + _CAUTION)
    kept = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight >= _LEAST_WEIGHT}
    return {name: weight / sum(kept.values()) for name, weight in kept.items()}


def _corrected(trend: Plane, series: Series) -> Plane:
    """The trend and what the target's known pixels depart from it, spread at half resolution."""
    known, values = series.known[series.target], series.values[series.target]
    corrected: Plane = trend + spread(np.where(known, values - trend, np.float32(0))[None], known[None])[0]
    return corrected


def _mixed(ridge: Plane, single: Plane, share: float) -> Plane:
    """A share of the one-date regressions where there are any."""
    mixed: Plane = np.where(np.isnan(single), ridge, ridge + np.float32(share) * (single - ridge))
    return mixed

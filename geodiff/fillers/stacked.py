"""Fillers combined: convex weights by distance to data, learnt on hidden pixels, with one calibrated standard error.

Stacking as in Wolpert (1992) and Breiman (1996): the weights minimise the squared error of cross-fitted estimates, are
non-negative and sum to one. The weights of a stratum come from its own error moments plus the pooled ones, so that a
stratum with few pixels follows the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers import Filled, Filler, FillerSettings, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.abilities import AnswersItsFit, Estimates
from geodiff.fillers.calibration import (
    DISTANCES,
    STRATA,
    conformal_factors,
    far_apart,
    hidden_errors,
    hidden_pixels,
    lost_planes,
    patch_factors,
    strata,
)
from geodiff.fillers.crossband import across_bands
from geodiff.fillers.drift import drift_error
from geodiff.fillers.earning import earns, promises
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.likeness import NonLocal
from geodiff.fillers.lost import as_lost, beyond_corner, few_dates, lost_dates, lost_errors, lost_share
from geodiff.fillers.members import shared, stretched
from geodiff.fillers.spatial import Biharmonic, Laplace, SpatialFiller, window_error
from geodiff.fillers.weights import (
    DEFAULT_WEIGHTS,
    FEW_DATES,
    default_weights,
    lost_weights,
    patch_weights,
    sole_or_mixed,
    weights_by_stratum,
)
from geodiff.fillers.widths import member_widths, width_field
from geodiff.metrics import crps_gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DEFAULT_WEIGHTS", "Auto", "Stacked"]

WHITENING = "whitening"
"""The scale of the standard error that needs no part to be run."""
_DEFAULT_FACTORS = (0.62, 0.85, 1.08, 1.45, 1.7)
"""By distance class; between the mean over training scenes and the factors that cover 90 % of all their pixels."""
_SCALE_GAIN = 0.99
"""A part's own standard error becomes the scale where it lowers the CRPS to less than this share."""
_NETWORK = "diffusion"
_APART = 8.0
"""Bound on the ratio of the standard errors of stack and network, either way, by which members are widened."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """The weight of each part."""

    table: NDArray[np.float64]
    """(20 or 30, part) by stratum."""
    lost: NDArray[np.float64] | None = None
    """(part,) where a date has no data in or around the window, or far from its few data; None uses the table there."""

    def fields(self, patch: Patch) -> NDArray[np.float32]:
        """Weights over the window: (part, target, band, row, column)."""
        fields = patch_weights(patch, self.table)
        if self.lost is not None and (share := lost_share(patch)).any():
            fields = (1 - share) * fields + share * self.lost.astype(np.float32)[:, None, None, None, None]
        return fields


@dataclass(frozen=True, slots=True)
class Stacked:
    """A convex combination of fillers, weighted by their errors in trials at the same distance from data."""

    fillers: tuple[Filler, ...]
    """From cheap to expensive: dispensable parts are left out from the end."""
    name: str = "auto"
    fixed: frozenset[str] = frozenset()
    """Names of parts whose values do not depend on their fit, besides those that declare it; they are not refitted."""

    @property
    def halo(self) -> int:
        return max(part.halo for part in self.fillers)

    @property
    def context_dates(self) -> int:
        """Number of neighbouring dates that the parts use; -1 means all."""
        wanted = [int(getattr(part, "context_dates", 0)) for part in self.fillers]
        return -1 if min(wanted) < 0 else max(wanted)

    @property
    def planes_at_once(self) -> int:
        """Number of planes that a part would like to fill together."""
        return max(int(getattr(part, "planes_at_once", 0)) for part in self.fillers)

    def warm_up(self) -> None:
        """Load what the parts need."""
        for part in self.fillers:
            if hasattr(part, "warm_up"):
                part.warm_up()

    def fit(self, sample: SceneSample) -> Fitted:
        """Fit the parts, weight them by cross-fitted estimates of the trials' hidden pixels, calibrate the result."""
        suited = self._suited(sample)
        parts = [part for part in suited if not getattr(part, "must_earn", False)]
        told = {
            part.name: part.fitted_answers(sample)
            for part in parts
            if part.name in self.fixed and isinstance(part, AnswersItsFit)
        }
        fits = {part.name: told[part.name][0] if part.name in told else _tuned(part, sample) for part in parts}
        if not sum(int(t.hidden.sum()) for t in sample.trials):
            return self._default_fit(sample, parts, fits)
        estimates = {
            part.name: told[part.name][1] if part.name in told else self._cross_fitted(part, sample, fits[part.name])
            for part in parts
        }
        few = 1 < sum(sample.seen) <= FEW_DATES
        weights = _learnt(parts, fits, sample.trials, estimates, few=few)
        for part in [part for part in suited if part not in parts]:
            errors = _stacked_errors(sample.trials, weights, [p.name for p in parts], estimates)
            if not promises(part, sample.trials, errors):
                continue
            own = _tuned(part, sample)
            more, all_parts = {**estimates, part.name: self._cross_fitted(part, sample, own)}, [*parts, part]
            found = _learnt(all_parts, {**fits, part.name: own}, sample.trials, more, few=few)
            if earns(sample.trials, errors, _stacked_errors(sample.trials, found, [p.name for p in all_parts], more)):
                parts, estimates, weights = all_parts, more, found
                fits[part.name] = own
        return self._calibrated(sample, parts, fits, estimates, weights)

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """Fill each patch; parts without weight in it are not run."""
        return self.combined(patches, fitted, {}, seed=seed)

    def combined(
        self, patches: Sequence[Patch], fitted: Fitted, given: Mapping[str, Sequence[Filled]], *, seed: int
    ) -> list[Filled]:
        """As `fill`, with the answers of some parts `given` by name, one for each patch."""
        shares = [_shares(patch, fitted) for patch in patches]
        answers: list[dict[str, Filled]] = [{} for _ in patches]
        for part in self.fillers:
            scale = part.name == fitted.facts["scale"]
            if isinstance(part, Estimates) and not scale:  # `_answer` asks it for its values alone
                continue
            wanted = [i for i, own in enumerate(shares) if part.name in own or scale]
            if part.name in given:
                filled: Sequence[Filled] = [given[part.name][i] for i in wanted]
            else:
                filled = part.fill([patches[i] for i in wanted], fitted.parts[part.name], seed=seed) if wanted else []
            for i, answer in zip(wanted, filled, strict=True):
                answers[i][part.name] = answer
        return [self._combined(*each, fitted) for each in zip(patches, shares, answers, strict=True)]

    def _combined(
        self, patch: Patch, shares: Mapping[str, NDArray[np.float32]], runs: Mapping[str, Filled], fitted: Fitted
    ) -> Filled:
        """The stack's answer for one patch, from the weights of its parts and the answers in `runs`."""
        names, weights = list(shares), list(shares.values())
        by_name = {part.name: part for part in self.fillers}
        answers = [_answer(by_name[n], patch, runs.get(n), fitted.parts[n]) for n in names]
        value = weights[0] * answers[0][0]
        for weight, (estimate, _) in zip(weights[1:], answers[1:], strict=True):
            value = value + weight * estimate
        source = np.choose(np.argmax(weights, axis=0), [code for _, code in answers])
        return Filled(value, self._error(patch, runs, fitted), None, source.astype(np.uint8))

    def _error(self, patch: Patch, runs: Mapping[str, Filled], fitted: Fitted) -> NDArray[np.float32]:
        """The calibrated standard error over the window."""
        factor = patch_factors(patch, fitted.arrays["factors"])
        error = (self._scale(patch, runs, fitted) * factor).astype(np.float32)
        if "never_factors" in fitted.arrays:
            error = _never_known(patch, error, fitted.arrays["never_factors"])
        if "drift" in fitted.arrays:
            if (wholly := lost_planes(patch)).any():
                error = np.where(wholly[..., None, None], _error_if_lost(patch, fitted), error)
            level = float(fitted.arrays["lost_level"])
            error = beyond_corner(patch, error, level, lambda: _error_if_lost(as_lost(patch), fitted))
        if "lost_error" not in fitted.arrays:
            return error
        lost = lost_errors(patch, *(float(fitted.arrays[name]) for name in ("lost_error", "lost_step")))
        error[lost_planes(patch)[..., None, None] & (lost > 0)] = 0
        return np.asarray(np.maximum(error, lost * lost_share(patch)))

    def _scale(self, patch: Patch, runs: Mapping[str, Filled], fitted: Fitted) -> NDArray[np.float32]:
        """The standard error before calibration."""
        name = fitted.facts["scale"]
        return window_error(patch) if name == WHITENING else runs[name].standard_error

    def _suited(self, sample: SceneSample) -> list[Filler]:
        """Parts that suit this scene: those that need other dates only where there are any."""
        dates = max((len(t.patch.dates) for t in sample.trials), default=1)
        dates = max(dates, len(sample.seen))
        return [part for part in self.fillers if dates > 1 or not getattr(part, "needs_dates", False)]

    def _cross_fitted(self, part: Filler, sample: SceneSample, fitted: Fitted) -> list[Filled]:
        """The part's answers for the trials, each from a fit that did not see that trial."""
        trials = sample.trials
        known_ways = ("fixed", "chosen_once")
        if len(trials) < 2 or part.name in self.fixed or any(getattr(part, way, False) for way in known_ways):
            return _filled(part, trials, fitted)
        answers: dict[int, Filled] = {}
        for fold in (0, 1):
            others = replace(sample, trials=trials[1 - fold :: 2])
            own = _filled(part, trials[fold::2], _tuned(part, others))
            answers.update(zip(range(fold, len(trials), 2), own, strict=True))
        return [answers[i] for i in range(len(trials))]

    def _default_fit(self, sample: SceneSample, parts: Sequence[Filler], fits: Mapping[str, Fitted]) -> Fitted:
        """The fit of scenes that are too small to spare pixels for trials."""
        names = [part.name for part in parts]
        weights = _Weights(default_weights(names))
        factors = conformal_factors(np.empty(0), np.empty(0, np.int8), _DEFAULT_FACTORS)
        fit = _as_fitted(self.name, names, fits, weights, factors, WHITENING, "stored defaults: no pixel to hide")
        return replace(fit, arrays={**fit.arrays, **few_dates(sample, [])})

    def _calibrated(
        self,
        sample: SceneSample,
        parts: Sequence[Filler],
        fits: Mapping[str, Fitted],
        estimates: Mapping[str, Sequence[Filled]],
        weights: _Weights,
    ) -> Fitted:
        """Choose the scale of the standard error, and learn its factors from the errors of the stack."""
        names = [part.name for part in parts]
        errors = _stacked_errors(sample.trials, weights, names, estimates)
        origin = f"cross-validation on {sum(int(t.hidden.sum()) for t in sample.trials):,} hidden pixels"
        none = np.ones(STRATA, np.float32)
        draft = _as_fitted(self.name, names, fits, weights, none, WHITENING, origin)
        draft = replace(draft, arrays={**draft.arrays, **lost_dates(sample, errors), **_untried(sample.trials)})
        best, least = draft, np.inf
        for scale in (WHITENING, *(part.name for part in parts if not isinstance(part, SpatialFiller))):
            trial = replace(draft, facts={**draft.facts, "scale": scale})
            factors, score = _calibration(sample.trials, errors, estimates, trial)
            if score < least * _SCALE_GAIN:
                best, least = replace(trial, arrays={**trial.arrays, "factors": factors}), score
        if _NETWORK not in names:
            return best
        dated = any(getattr(part, "needs_dates", False) for part in parts)
        spreads = [
            self._trial_error(trial, i, estimates, best) if dated else estimates[_NETWORK][i].standard_error
            for i, trial in enumerate(sample.trials)
        ]
        drawn = fits[_NETWORK].arrays.get("drawn", far_apart(sample.trials))
        widths = member_widths(sample.trials, errors, spreads, drawn)
        return replace(best, facts={**best.facts, "dated": dated}, arrays={**best.arrays, **widths})

    def _trial_error(
        self, trial: Trial, place: int, estimates: Mapping[str, Sequence[Filled]], fitted: Fitted
    ) -> NDArray[np.float32]:
        """The stack's standard error over the window of a trial."""
        return self._error(trial.patch, {name: filled[place] for name, filled in estimates.items()}, fitted)


def _learnt(
    parts: Sequence[Filler],
    fits: Mapping[str, Fitted],
    trials: Sequence[Trial],
    estimates: Mapping[str, Sequence[Filled]],
    *,
    few: bool = False,
) -> _Weights:
    """Weights by stratum from trials of dates with data, and weights for lost dates from the other trials.

    Where no other date knows a pixel, parts that use other dates get no weight, except those that also use pixels
    around it there.
    """
    names = [part.name for part in parts]
    errors = [np.stack([_error(trial, estimates[n][i]) for n in names]) for i, trial in enumerate(trials)]
    rows = far_apart(trials)
    classes = [np.repeat(strata(trial.patch, table=rows)[trial.hidden], trial.worth) for trial in trials]
    whole = [bool(lost_planes(trial.patch).all()) for trial in trials]
    shown = [i for i, lost in enumerate(whole) if not lost] or range(len(trials))
    temporal = [place for place, part in enumerate(parts) if getattr(part, "needs_dates", False)]
    in_place = [place for place in temporal if not fits[names[place]].facts.get("around")]
    told = [errors[i] for i in shown], [classes[i] for i in shown]
    table = weights_by_stratum(names, in_place, *told, few=few)
    if len(in_place) < len(temporal):
        around = next(place for place in temporal if place not in in_place)
        table = sole_or_mixed(names, in_place, *told, table, around, few=few)
    blind = [errors[i][temporal] for i, lost in enumerate(whole) if lost]
    if not blind or not temporal:
        return _Weights(table)
    weights = np.zeros(len(parts))
    weights[temporal] = lost_weights([names[place] for place in temporal], blind)
    return _Weights(table, weights)


def _stacked_errors(
    trials: Sequence[Trial],
    weights: _Weights,
    names: Sequence[str],
    estimates: Mapping[str, Sequence[Filled]],
) -> list[NDArray[np.float32]]:
    """Value of the stack less the truth over each trial's window."""
    errors = []
    for i, trial in enumerate(trials):
        fields = weights.fields(trial.patch)
        value = sum(w * estimates[n][i].value for w, n in zip(fields, names, strict=True))
        errors.append(np.asarray(value - trial.truth, np.float32))
    return errors


def _calibration(
    trials: Sequence[Trial],
    errors: Sequence[NDArray[np.float32]],
    estimates: Mapping[str, Sequence[Filled]],
    fitted: Fitted,
) -> tuple[NDArray[np.float32], float]:
    """Conformal factors for one choice of scale, and the mean Gaussian CRPS of the calibrated stack.

    Trials that hide a whole date are left out, as lost dates have an error of their own.
    """
    scales, classes, dates, whole, rows = [], [], [], [], far_apart(trials)
    for i, trial in enumerate(trials):
        stratum = strata(trial.patch, table=rows)
        scale = fitted.facts["scale"]
        error = window_error(trial.patch) if scale == WHITENING else estimates[scale][i].standard_error
        scales.append(np.maximum(error, np.float32(1e-6)))
        classes.append(stratum)
        dates.append(np.broadcast_to(trial.patch.dates[trial.patch.targets[0]], stratum.shape))
        whole.append(np.broadcast_to(lost_planes(trial.patch)[..., None, None], stratum.shape))
    residual, width = hidden_pixels(trials, errors), hidden_pixels(trials, scales)
    stratum, date = hidden_pixels(trials, classes).astype(np.int8), hidden_pixels(trials, dates)
    lost = hidden_pixels(trials, whole)
    seen = ~lost | lost.all()
    # a part's own standard error is calibrated already
    defaults = _DEFAULT_FACTORS if fitted.facts["scale"] == WHITENING else (1.0,) * DISTANCES
    ratio = np.where(seen, hidden_errors(trials, errors) / width, np.float32(np.nan))
    factors = conformal_factors(ratio, stratum, defaults, date)
    claimed = (width * factors[stratum])[seen]
    return factors, crps_gaussian(np.zeros_like(claimed), claimed, residual[seen])


def _as_fitted(
    name: str,
    names: Sequence[str],
    fits: Mapping[str, Fitted],
    weights: _Weights,
    factors: NDArray[np.float32],
    scale: str,
    origin: str,
) -> Fitted:
    """What a stack stores; `weights` among the facts are those of pixels that no other date knows."""
    never = weights.table[STRATA - DISTANCES : STRATA]
    shown = {n: [round(float(w), 4) for w in never[:, i]] for i, n in enumerate(names)}
    facts = {"parts": list(names), "weights": shown, "weights_from": origin, "scale": scale}
    arrays: dict[str, NDArray[Any]] = {"weights": weights.table, "factors": factors}
    if weights.lost is not None:
        arrays["lost_weights"] = weights.lost
    return Fitted(name, facts, arrays, dict(fits))


def _active(fitted: Fitted) -> list[str]:
    """Names of the parts that have weight in some stratum."""
    anywhere = np.asarray(fitted.arrays["weights"]).max(axis=0) > 0
    if "lost_weights" in fitted.arrays:
        anywhere |= np.asarray(fitted.arrays["lost_weights"]) > 0
    return [name for name, some in zip(fitted.facts["parts"], anywhere, strict=True) if some]


def _shares(patch: Patch, fitted: Fitted) -> dict[str, NDArray[np.float32]]:
    """Weights (target, band, row, column) over the window of each part that has weight at a missing pixel.

    In most windows of a stack every missing pixel is known on some other date, and the network has no weight.
    """
    names = _active(fitted)
    fields = _columns(fitted, names).fields(patch)
    missing = patch.missing  # computed anew on each access
    heard = [bool(field[missing].any()) for field in fields]
    return {name: field for name, field, some in zip(names, fields, heard, strict=True) if some or not any(heard)}


def _columns(fitted: Fitted, names: Sequence[str]) -> _Weights:
    """The weights of some parts."""
    places = [list(fitted.facts["parts"]).index(name) for name in names]
    lost = fitted.arrays.get("lost_weights")
    table = np.asarray(fitted.arrays["weights"], np.float64)[:, places]
    return _Weights(table, None if lost is None else np.asarray(lost, np.float64)[places])


def _untried(trials: Sequence[Trial]) -> dict[str, NDArray[np.float32]]:
    """Default factors for pixels that no other date knows, where no trial hid such a pixel; empty otherwise."""
    if any((strata(trial.patch)[trial.hidden] >= STRATA - DISTANCES).any() for trial in trials):
        return {}
    return {"never_factors": conformal_factors(np.empty(0), np.empty(0, np.int8), _DEFAULT_FACTORS)}


def _never_known(patch: Patch, error: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard errors, at least the default ones where no other date knows a pixel.

    Such a pixel is predicted from space alone, and errors of pixels predicted from other dates do not apply to it.
    """
    never = (strata(patch) >= STRATA - DISTANCES) & ~lost_planes(patch)[..., None, None]
    if not never.any():
        return error
    stored = window_error(patch) * patch_factors(patch, factors)
    return np.asarray(np.where(never, np.maximum(error, stored), error), np.float32)


def _error_if_lost(patch: Patch, fitted: Fitted) -> NDArray[np.float32]:
    """Standard error over the window for dates without data: (target, band, row, column)."""
    return np.asarray(drift_error(patch, fitted.arrays["drift"]) * np.float32(fitted.arrays["lost_factor"]))


def _answer(
    part: Filler, patch: Patch, run: Filled | None, fitted: Fitted
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A part's value and source codes over the window."""
    if run is None and isinstance(part, Estimates):
        return part.estimate(patch, fitted), part.source(patch, fitted)
    if run is None:
        raise KeyError(f"{part.name} has weight but was not filled; hand its answer to `combined`")
    return run.value, run.source


def _tuned(part: Filler, sample: SceneSample) -> Fitted:
    """The part's fit; without a calibration of its own for spatial parts, of which only the estimate is used."""
    return part.tuned(sample) if isinstance(part, SpatialFiller) else part.fit(sample)


def _filled(part: Filler, trials: Sequence[Trial], fitted: Fitted) -> list[Filled]:
    """A part's answers for trials; for spatial parts only the value, and that only at hidden pixels."""
    if not isinstance(part, SpatialFiller):
        return part.fill([t.patch for t in trials], fitted, seed=0)
    values = (part.estimate_hidden(t, fitted) for t in trials)
    unit, code = np.float32(1), np.uint8(0)  # not used; broadcast views take no memory
    return [Filled(v, np.broadcast_to(unit, v.shape), None, np.broadcast_to(code, v.shape)) for v in values]


def _error(trial: Trial, filled: Filled) -> NDArray[np.float32]:
    """Errors at a trial's hidden pixels, each repeated `Trial.worth` times."""
    cut: NDArray[np.float32] = np.repeat((filled.value - trial.truth)[trial.hidden], trial.worth)
    return cut


def priors_around(network: Filler) -> tuple[Filler, ...]:
    """The parts of the default stack, from cheap to expensive; temporal parts take part where there are other dates."""
    from geodiff.fillers.eof import LocalDineof
    from geodiff.fillers.temporal import LinearTime, Regression, SpaceTime

    spatial = Laplace(), Kriging(), NonLocal(), network, Biharmonic()
    return *spatial, LinearTime(), SpaceTime(), Regression(), LocalDineof()


@dataclass(frozen=True, slots=True)
class Auto:
    """The default filler: priors and the network stacked, or one of them alone; members always from the diffusion."""

    stack: Stacked
    diffusion: Filler | None = None
    """Draws the members; None where no members are wanted."""

    @classmethod
    def configured(cls, settings: FillerSettings) -> Auto:
        """The stack of the spatial priors, the network and, where a scene has dates, the best temporal fillers."""
        from geodiff.fillers.diffusion import Diffusion

        network = Diffusion.configured(replace(settings, members=0))
        stack = Stacked(priors_around(network), fixed=frozenset({network.name}))
        return cls(stack, Diffusion.configured(settings) if settings.members else None)

    @property
    def name(self) -> str:
        return "auto"

    @property
    def halo(self) -> int:
        return self.stack.halo

    @property
    def context_dates(self) -> int:
        return self.stack.context_dates

    @property
    def planes_at_once(self) -> int:
        return self.stack.planes_at_once

    def warm_up(self) -> None:
        """Load the network."""
        self.stack.warm_up()

    @property
    def quiet(self) -> Auto:
        """The same value and standard error without members."""
        return replace(self, diffusion=None)

    def fit(self, sample: SceneSample) -> Fitted:
        """Fit the stack."""
        return self.stack.fit(sample)

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """The value and standard error of the stack, and members of the diffusion moved and widened to match them."""
        return across_bands(patches, lambda some: self._fill(some, fitted, seed=seed))

    def _fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        if self.diffusion is None:
            return self.stack.fill(patches, fitted, seed=seed)
        name = self.diffusion.name
        drawn = self.diffusion.fill(patches, fitted.parts[name], seed=seed)
        stacked = self.stack.combined(patches, fitted, {name: drawn}, seed=seed)
        return [
            replace(filled, members=_members(patch, own, filled, fitted, seed=seed))
            for patch, own, filled in zip(patches, drawn, stacked, strict=True)
        ]


def _wider(patch: Patch, drawn: Filled, filled: Filled, fitted: Fitted) -> NDArray[np.float32]:
    """Factor on the network's departures: (target, band, row, column).

    In a stack of dates, members follow the standard error of the stack, which accounts for how hard a date is to
    predict from the others; the network does not know that.
    """
    factor = width_field(patch, fitted)
    if not fitted.facts.get("dated"):
        return factor
    ratio = filled.standard_error / np.maximum(drawn.standard_error, np.float32(1e-6))
    return factor * np.clip(ratio, 1 / _APART, _APART)


def _members(patch: Patch, drawn: Filled, filled: Filled, fitted: Fitted, *, seed: int) -> NDArray[np.float32] | None:
    """Members around the value of the stack instead of that of the network, with the spread of the stack's errors.

    For a lost date, part of their departures is common to the whole scene.
    """
    from geodiff.fillers.correlated import date_wide

    if drawn.members is None:
        return None
    departures, factor = drawn.members - drawn.value, _wider(patch, drawn, filled, fitted)
    share = lost_share(patch) * np.float32(fitted.arrays.get("lost_common", 0))
    network = fitted.parts[_NETWORK]
    width = factor * drawn.standard_error * patch_factors(patch, network.arrays.get("drawn", np.ones(STRATA)))
    for plane in np.ndindex(*factor.shape[:2]):
        own = stretched(departures[(slice(None), *plane)], factor[plane])
        if share[plane].any():
            numbers = date_wide(patch, plane, network, len(own), seed=seed)
            own = shared(own, numbers, width[plane], share[plane])
        departures[(slice(None), *plane)] = own
    return np.asarray(filled.value + departures, np.float32)

"""Calibrated standard errors: split-conformal factors by stratum, shrunk to stored defaults.

The expected error of a filler has the right pattern but the wrong scale. The ratio |error| / expected error is ranked
over hidden known pixels; the factor of a stratum is such that value +- 1.645 x factor x expected error covers 90 % of
them, with the finite-sample correction of split-conformal prediction (Lei et al. 2018). Neighbouring pixels are not
independent, so the quantile of a stratum is weighed against the defaults by its thinned number of pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GeodiffError, JobError
from geodiff.fillers import Filled, Filler, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.series import days_of, median_step
from geodiff.fillers.whitening import FLOOR, distance_to_known

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FAR",
    "NEAR",
    "ONE_SIDE",
    "THINNING",
    "Z90",
    "Calibrated",
    "around_in_time",
    "between_classes",
    "conformal_factors",
    "dates_around",
    "error_ratio",
    "factor_field",
    "far_apart",
    "hidden_errors",
    "hidden_pixels",
    "informative_errors",
    "lost_factor",
    "lost_planes",
    "patch_factors",
    "patch_table",
    "plane_distance",
    "strata",
    "target_distance",
    "tried",
]

_log = logging.getLogger(__name__)

Z90 = 1.6448536269514722
"""Half-width of a 90 % interval in standard errors."""
DISTANCE_EDGES = (2.0, 4.0, 8.0, 16.0)
"""Pixels to the nearest known pixel: <= 2, 2-4, 4-8, 8-16, more."""
DAY_EDGES = (5.0, 15.0)
"""Days to the nearest date on which the pixel is known: <= 5, 5-15, more, never."""
DISTANCES, DAYS = len(DISTANCE_EDGES) + 1, len(DAY_EDGES) + 2
STRATA = DISTANCES * DAYS
_FAR = 2.5
"""Median steps between dates beyond which the nearest date that knows a pixel counts as far in time."""
NEAR, FAR, ONE_SIDE = 0, 1, 2
"""Whether dates around the target know a pixel: before and after it, not at all, or on one side only."""
_KNOTS = np.log2(np.array([1.0, 3.0, 6.0, 12.0, 24.0]))
"""log2 of the distances, in pixels, at which the factor of a class applies exactly."""
THINNING = 25
"""Hidden pixels per independent one."""
_PRIOR = 10.0
"""Number of independent pixels as which the defaults count."""
_PER_DATE = 3.0
"""Most independent pixels that one date counts as, because the errors of a date are correlated."""
_FEW_DATES = 0.2
"""Divided by the number of dates: added to the log of a factor, because few dates rarely include the hardest ones.

Error levels of dates spread by tau = 0.35 in log (leave-one-date-out errors of linear interpolation, 17 training and
validation stacks). Nine tenths of a new date's Gaussian errors then ask for 0.85 tau^2 (1 + 1/K) above the mean level,
the pooled quantile of K dates gives 0.85 tau^2 (1 - 1/K): 1.7 tau^2 / K is missing. Measured there, intervals from 2,
3, 5 and 8 dates hold 0.87, 0.88, 0.89 and 0.90 without it.
"""
_COMMON = 0.25
"""Share of a band's hidden pixels above which a number counts as a state (no rain, open water, black sky)."""
_LOST_PRIOR = 1.0
"""Number of dates as which a factor of 1 counts for lost dates."""


def target_distance(patch: Patch) -> NDArray[np.float32]:
    """Pixels to the nearest known pixel of the same plane: (target, band, row, column), with the margin."""
    away: NDArray[np.float32] = patch.once("distance", lambda: distance_to_known(patch.known[list(patch.targets)]))
    return away


def plane_distance(patch: Patch, plane: tuple[int, int]) -> NDArray[np.float32]:
    """`target_distance` of one plane, given as (date, band): (row, column), with the margin."""
    date, band = plane
    away: NDArray[np.float32] = target_distance(patch)[patch.targets.index(date), band]
    return away


def lost_planes(patch: Patch) -> NDArray[np.bool_]:
    """Whether a band has no known pixel on a target date, in the window or its margin: (target, band)."""
    return np.asarray(~patch.known[list(patch.targets)].any(axis=(2, 3)), np.bool_)


def strata(patch: Patch, *, table: NDArray[Any] | None = None) -> NDArray[np.int8]:
    """Stratum of each pixel of the window, 0 to 19: distance class + 5 x class of the nearest date.

    Parameters
    ----------
    table : what is looked up by stratum. If it has 30 rows, pixels far in time are strata 20 to 24, and those known on
        one side only 25 to 29, by distance class.
    """
    apart = table is not None and len(table) > STRATA
    stratum: NDArray[np.int8] = patch.once(("strata", apart), lambda: _strata(patch, apart=apart))
    return stratum


def _strata(patch: Patch, *, apart: bool) -> NDArray[np.int8]:
    near = np.searchsorted(np.array(DISTANCE_EDGES, np.float32), target_distance(patch)[..., *patch.core])
    days = _day_class(patch)
    if apart:
        known = patch.known[..., *patch.core]
        for own, target in zip(days, patch.targets, strict=True):
            sides = around_in_time(known, patch.dates, target)
            np.copyto(own, DAYS + sides - FAR, where=sides != NEAR)
    return (near + DISTANCES * days).astype(np.int8)


def far_apart(trials: Sequence[Trial]) -> NDArray[np.float32]:
    """A table of ones, (30,) where some trial hides pixels that are then far in time, and (20,) otherwise."""
    shown = any(trial.lasting and trial.hidden.any() for trial in trials)
    return np.ones(STRATA + 2 * DISTANCES * shown, np.float32)


def around_in_time(known: NDArray[np.bool_], dates: NDArray[np.int64], target: int) -> NDArray[np.int8]:
    """Classify pixels by whether the dates around the target know them.

    Parameters
    ----------
    known : (date, ...).
    dates : (date,) seconds since 1970, as a patch has them.
    target : index into the dates.

    Returns
    -------
    (...) `NEAR`, `FAR` or `ONE_SIDE`. Also `NEAR` where no other date at all knows the pixel, where another date of the
    same time does, and for the first and last dates where their only side does.
    """
    around, days = dates_around(dates, target), days_of(dates)
    sides = [side for side in (days < days[target], days > days[target]) if side.any()]
    told = sum((known[side & around].any(axis=0).astype(np.int8) for side in sides), np.zeros(known.shape[1:], np.int8))
    others = np.arange(len(known)) != target
    ever, twin = known[others].any(axis=0), known[others & (days == days[target])].any(axis=0)
    found = np.where((told == len(sides)) | twin, NEAR, np.where(told > 0, ONE_SIDE, FAR))
    return np.where(ever, found, NEAR).astype(np.int8)


def dates_around(dates: NDArray[np.int64], target: int) -> NDArray[np.bool_]:
    """Which dates are around the target, itself included: (date,); `dates` as in `around_in_time`."""
    days = days_of(dates)
    return np.asarray(np.abs(days - days[target]) <= _FAR * median_step(np.sort(days)), np.bool_)


def _day_class(patch: Patch) -> NDArray[np.intp]:
    """Class of the nearest other date on which a pixel of the window is known: (target, band, row, column)."""
    known = patch.known[(..., *patch.core)]
    classes = np.full((len(patch.targets), *known.shape[1:]), DAYS - 1)
    for own, target in zip(classes, patch.targets, strict=True):
        apart = np.searchsorted(DAY_EDGES, np.abs(patch.dates - patch.dates[target]) / 86400.0)
        seen = np.zeros(known.shape[1:], bool)
        for place in range(DAYS - 1):
            for date in np.flatnonzero(apart == place):
                if date != target:
                    seen |= known[date]
            np.subtract(own, seen, out=own)
    return classes


def conformal_factors(
    ratio: NDArray[np.floating[Any]],
    stratum: NDArray[np.integer[Any]],
    defaults: Sequence[float],
    date: NDArray[np.integer[Any]] | None = None,
) -> NDArray[np.float32]:
    """Factors on the expected error by stratum.

    Few hidden pixels are deep in gaps, and the pooled ones are mostly near data, so the factor of a distance class is
    shrunk to that of the class before it. Compared with shrinkage to all pixels, the interval score (Gneiting & Raftery
    2007) is up to 5 % lower, 1 % higher on the worst of eight kinds of single images, and coverage is within .01.

    With dates, factors must hold on a date not yet seen. The errors of a date are correlated, so every date has the
    same weight however many of its pixels are hidden, and counts as a few independent pixels at most.

    Parameters
    ----------
    ratio : (pixel,) |value - truth| / expected error at hidden pixels; NaN is left out, see `informative_errors`.
    stratum : (pixel,) as `strata` counts them, with those far in time or without.
    defaults : 5 factors by distance class, for strata without pixels.
    date : (pixel,) the date of each pixel; with None, or a single date, pixels are the sampling unit.

    Returns
    -------
    (20,) float32, positive; (30,) where some pixel is far in time.
    """
    classes = DAYS + 2 * bool((stratum >= STRATA).any())
    prior = np.log(np.tile(np.asarray(defaults, np.float64), classes))
    telling = ~np.isnan(ratio)
    ratio, stratum, date = ratio[telling], stratum[telling], None if date is None else date[telling]
    if not ratio.size:
        return _exponential(prior)
    excess = _excess(ratio, stratum, defaults)
    own = np.empty(len(prior))
    if date is None or len(np.unique(date)) < 2:
        common = _shrunk(excess, 0.0)
        for s in range(len(own)):
            own[s] = _shrunk(excess[stratum == s], own[s - 1] if s % DISTANCES else common)
    else:
        common = _shrunk_by_date(excess, date, 0.0)
        own[:] = [_shrunk_by_date(excess[stratum == s], date[stratum == s], common) for s in range(len(own))]
    return _exponential(prior + own)


def lost_factor(ratio: NDArray[np.floating[Any]], date: NDArray[np.integer[Any]]) -> float | None:
    """The factor for dates without data; None where no pixel informs it.

    Such dates are predicted from other dates alone, so pixels deep in a gap of a date say nothing about them.

    Parameters
    ----------
    ratio : (pixel,) |value - truth| / expected error at pixels hidden with all of their date; NaN is left out.
    date : (pixel,) the date of each pixel.
    """
    ratio, date = ratio[telling := ~np.isnan(ratio)], date[telling]
    if not ratio.size:
        return None
    dates = len(np.unique(date))
    quantile = _quantile_by_date(np.log(np.maximum(ratio, 1e-6)), date)
    return math.exp(dates * quantile / (dates + _LOST_PRIOR))


def _excess(
    ratio: NDArray[np.floating[Any]], stratum: NDArray[np.integer[Any]], defaults: Sequence[float]
) -> NDArray[np.float64]:
    """Log of the ratio over the default factor, (pixel,)."""
    excess: NDArray[np.float64] = np.log(np.maximum(ratio, 1e-6)) - np.log(np.asarray(defaults))[stratum % DISTANCES]
    return excess


def _shrunk_by_date(excess: NDArray[np.floating[Any]], date: NDArray[np.integer[Any]], towards: float) -> float:
    """As `_shrunk`, with each date of the same weight and counting as at most `_PER_DATE` independent pixels."""
    if not excess.size:
        return towards
    pixels = np.unique(date, return_counts=True)[1]
    count = float(np.minimum(pixels / THINNING, _PER_DATE).sum())
    return (count * _quantile_by_date(excess, date) + _PRIOR * towards) / (count + _PRIOR)


def _quantile_by_date(excess: NDArray[np.floating[Any]], date: NDArray[np.integer[Any]]) -> float:
    """Log factor that covers nine tenths of the errors of a date not yet seen, with equal weight on each date seen."""
    _, which, pixels = np.unique(date, return_inverse=True, return_counts=True)
    order = np.argsort(excess, kind="stable")
    reached = np.cumsum(1.0 / pixels[which][order]) / len(pixels)
    place = min(int(np.searchsorted(reached, 0.9)), excess.size - 1)
    return float(excess[order[place]]) - math.log(Z90) + _FEW_DATES / len(pixels)


def _exponential(logarithm: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.exp(logarithm).astype(np.float32)


def _shrunk(excess: NDArray[np.floating[Any]], towards: float) -> float:
    """Log factor of a sample of log ratios, shrunk to `towards` where the sample is small."""
    quantile = _conformal_quantile(excess, 0.9)
    if quantile is None:
        return towards
    count = excess.size / THINNING
    return (count * (quantile - math.log(Z90)) + _PRIOR * towards) / (count + _PRIOR)


def _conformal_quantile(sample: NDArray[np.floating[Any]], level: float) -> float | None:
    """The ceil((n + 1) level)-th smallest, or None where the sample is too small to have one."""
    rank = math.ceil((sample.size + 1) * level)
    return float(np.partition(sample, rank - 1)[rank - 1]) if 0 < rank <= sample.size else None


def factor_field(
    factors: NDArray[np.float32], stratum: NDArray[np.int8], distance: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The factor at each pixel, interpolated between the distance classes of its stratum.

    Parameters
    ----------
    factors : (20,) or (30,), positive.
    stratum, distance : any one shape; `distance` in pixels to the nearest known one.
    """
    return np.exp(between_classes(np.log(factors), stratum, distance)).astype(np.float32)


def between_classes(
    table: NDArray[np.floating[Any]], stratum: NDArray[np.int8], distance: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Rows of a table (20 or 30, ...) at each pixel, linear in log distance between the distance classes.

    Steps at the edges of a class would show as contours in the result.
    """
    return _mixed(table, *_rows(stratum, distance))


def patch_table(patch: Patch, table: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """`between_classes` over a patch's window: (target, band, row, column, ...)."""
    rows = "rows", len(table) > STRATA
    first, share = patch.once(
        rows, lambda: _rows(strata(patch, table=table), target_distance(patch)[..., *patch.core])
    )
    return _mixed(table, first, share)


def patch_factors(patch: Patch, factors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """`factor_field` over a patch's window: (target, band, row, column)."""
    return np.exp(patch_table(patch, np.log(factors))).astype(np.float32)


def _rows(
    stratum: NDArray[np.int8], distance: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The first of the two rows of a table to interpolate between at each pixel, and the weight of the second."""
    place, missing = np.zeros(distance.shape), distance > 1.0  # most pixels are known
    place[missing] = np.interp(np.log2(distance[missing]), _KNOTS, np.arange(float(DISTANCES)))
    low = np.minimum(place.astype(np.uint8), np.uint8(DISTANCES - 2))  # bytes: they are kept while a patch is
    return low + np.uint8(DISTANCES) * (stratum.astype(np.uint8) // np.uint8(DISTANCES)), place - low


def _mixed(
    table: NDArray[np.floating[Any]], first: NDArray[np.uint8], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    share = share.reshape(share.shape + (1,) * (table.ndim - 1))
    low, high = table.take(first, axis=0), table.take(first + 1, axis=0)
    return np.asarray((1.0 - share) * low + share * high, np.float64)


def hidden_pixels(trials: Sequence[Trial], fields: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Values of fields over the trials' windows at the hidden pixels, concatenated; each `Trial.worth` times."""
    kept = [np.repeat(field[trial.hidden], trial.worth) for trial, field in zip(trials, fields, strict=True)]
    return np.concatenate(kept) if kept else np.empty(0, np.float32)


def informative_errors(
    error: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]], band: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """|error| of hidden pixels (pixel,), NaN where it says nothing about other pixels.

    Most of a rain field is dry, and every filler is right there. If nine tenths of the pixels were such, intervals
    would have no width where it rains either. Common numbers (no rain, open water, black sky) that were predicted
    right are therefore left out, and intervals cover nine tenths of the rest.

    Parameters
    ----------
    error, truth : (pixel,) value less truth, and the truth; normalised.
    band : (pixel,) the band of each pixel, as each band has its own common numbers.
    """
    found: NDArray[np.float32] = np.abs(error).astype(np.float32)
    for own in np.unique(band):
        numbers, counts = np.unique(truth[band == own], return_counts=True)
        common = numbers[counts >= _COMMON * counts.sum()]
        found[(band == own) & np.isin(truth, common) & (found <= FLOOR)] = np.nan
    return found


def hidden_errors(trials: Sequence[Trial], errors: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """`informative_errors` of the hidden pixels of all trials; `errors` are value less truth over their windows."""
    bands = [np.repeat(np.nonzero(trial.hidden)[1], trial.worth) for trial in trials]
    if not bands:
        return np.empty(0, np.float32)
    truth = hidden_pixels(trials, [trial.truth for trial in trials])
    return informative_errors(hidden_pixels(trials, errors), truth, np.concatenate(bands))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Any filler, with standard errors scaled so that 90 % intervals cover 90 % of the trials' hidden pixels."""

    filler: Filler
    members: int = 0
    """Number of members that the job asks for; a filler that gives another number, or none, is refused."""

    @property
    def name(self) -> str:
        return self.filler.name

    @property
    def halo(self) -> int:
        return self.filler.halo

    @property
    def context_dates(self) -> int:
        return int(getattr(self.filler, "context_dates", 0))

    @property
    def needs_dates(self) -> bool:
        return bool(getattr(self.filler, "needs_dates", False))

    def warm_up(self) -> None:
        """Warm up the filler, if it can be."""
        getattr(self.filler, "warm_up", lambda: None)()

    def fit(self, sample: SceneSample) -> Fitted:
        """Fit the filler, fill the trials with it and learn the factors."""
        inner = self.filler.fit(sample)
        trials, filled = tried(
            self.name, sample.trials, lambda some: self._answers([t.patch for t in some], inner, seed=0)
        )
        table = far_apart(trials)
        factors = conformal_factors(
            error_ratio(trials, filled),
            hidden_pixels(trials, [strata(t.patch, table=table) for t in trials]).astype(np.int8),
            (1.0,) * DISTANCES,
        )
        return Fitted(self.name, {"trials": len(trials)}, {"factors": factors}, {self.name: inner})

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """Fill with the wrapped filler and scale its standard errors; members keep their own spread."""
        filled = self._answers(patches, fitted.parts[self.name], seed=seed)
        return [_scaled(f, patch_factors(p, fitted.arrays["factors"])) for p, f in zip(patches, filled, strict=True)]

    def _answers(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        """The filler's answers; raises GeodiffError where their shapes do not match the patches."""
        filled = list(self.filler.fill(patches, fitted, seed=seed))
        if len(filled) != len(patches):
            raise GeodiffError(f"filler {self.name!r} gave {len(filled)} answers for {len(patches)} patches; one each")
        for patch, one in zip(patches, filled, strict=True):
            for layer in ("value", "standard_error", "source"):
                shape = np.shape(getattr(one, layer))
                if shape != patch.missing.shape:
                    raise GeodiffError(
                        f"filler {self.name!r} gave a {layer} of shape {shape}; it must have that of `patch.missing`, "
                        f"(target, band, row, column) of the window: {patch.missing.shape}"
                    )
            drawn = () if one.members is None else np.shape(one.members)
            if self.members and drawn != (self.members, *patch.missing.shape):
                gave = f"members of shape {drawn}" if drawn else "no members"
                raise JobError(
                    f"filler {self.name!r} gave {gave} where --members {self.members} asks for "
                    f"{(self.members, *patch.missing.shape)}; use --members 0 with it"
                )
        return filled


def tried(
    name: str, trials: Sequence[Trial], answers: Callable[[Sequence[Trial]], list[Filled]]
) -> tuple[list[Trial], list[Filled]]:
    """The trials that a filler could fill, and its answers; a failure at one place does not rule out the others.

    Raises what the filler raised if it fails on all trials; GeodiffError and MemoryError are raised at once.
    """
    try:
        return list(trials), answers(trials)
    except (GeodiffError, MemoryError):
        raise
    except Exception as reason:
        answered: list[tuple[Trial, Filled]] = []
        for trial in trials:
            with suppress(Exception):
                answered += zip([trial], answers([trial]), strict=True)
        if not answered:
            raise
        _log.warning(
            "filler %r failed on %d of the %d places it was tried on (%s: %s); it is judged by the others",
            name, len(trials) - len(answered), len(trials), type(reason).__name__, reason,
        )  # fmt: skip
    return [trial for trial, _ in answered], [filled for _, filled in answered]


def error_ratio(trials: Sequence[Trial], filled: Sequence[Filled]) -> NDArray[np.float32]:
    """|value - truth| in standard errors at the trials' hidden pixels; NaN as in `informative_errors`."""
    errors = [one.value - trial.truth for trial, one in zip(trials, filled, strict=True)]
    claimed = np.maximum(hidden_pixels(trials, [one.standard_error for one in filled]), np.float32(1e-6))
    return np.asarray(hidden_errors(trials, errors) / claimed, np.float32)


def _scaled(filled: Filled, factor: NDArray[np.float32]) -> Filled:
    return replace(filled, standard_error=filled.standard_error * factor)

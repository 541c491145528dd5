"""Error bars that hold what they promise: split-conformal factors by stratum, shrunk to stored defaults.

A filler's expected error is right in shape and wrong in scale. On hidden known pixels the ratio |error| / expected is
ranked; the factor of a stratum makes value +- 1.645 x factor x expected hold 90 % of them, with the finite-sample
correction of split-conformal prediction (Lei et al. 2018). Neighbouring pixels are not independent, so a stratum's own
quantile only counts as far as its number of pixels, thinned, outweighs the defaults.
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
    "lost_factor",
    "lost_planes",
    "patch_factors",
    "patch_table",
    "plane_distance",
    "strata",
    "target_distance",
    "told",
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
"""Median steps between dates beyond which the nearest known one is far: those before and after it are lost too."""
NEAR, FAR, ONE_SIDE = 0, 1, 2
"""Whether dates around know a pixel: before and after, none, or those of one side alone."""
_KNOTS = np.log2(np.array([1.0, 3.0, 6.0, 12.0, 24.0]))
"""Distances, on a logarithmic scale, at which a class's figure holds exactly."""
THINNING = 25
"""Hidden pixels that count as one independent one."""
_PRIOR = 10.0
"""Independent pixels that the defaults are worth."""
_PER_DATE = 3.0
"""Independent pixels that one date is worth at most: errors of one date go together."""
_FEW_DATES = 0.2
"""Over the number of dates: how much wider, in log, a factor has to be because the hardest dates are not among few.

Error levels of dates spread by tau = 0.35 in log (leave-one-date-out errors of linear interpolation, 17 training and
validation stacks). Nine tenths of a new date's Gaussian errors then ask for 0.85 tau^2 (1 + 1/K) above the mean level,
the pooled quantile of K dates gives 0.85 tau^2 (1 - 1/K): 1.7 tau^2 / K is missing. Measured there, intervals from 2,
3, 5 and 8 dates hold 0.87, 0.88, 0.89 and 0.90 without it.
"""
_COMMON = 0.25
"""Share of a band's hidden pixels from which on a number is no measurement but a state: no rain, open water, black sky.
"""
_LOST_PRIOR = 1.0
"""Dates that a factor of 1 is worth where a date shows nothing."""


def target_distance(patch: Patch) -> NDArray[np.float32]:
    """(target, band, row, column) of the patch with its margin: pixels to the nearest known one of the same plane."""
    away: NDArray[np.float32] = patch.once("distance", lambda: distance_to_known(patch.known[list(patch.targets)]))
    return away


def plane_distance(patch: Patch, plane: tuple[int, int]) -> NDArray[np.float32]:
    """(row, column) of a target date's band with its margin, as `target_distance`."""
    date, band = plane
    away: NDArray[np.float32] = target_distance(patch)[patch.targets.index(date), band]
    return away


def lost_planes(patch: Patch) -> NDArray[np.bool_]:
    """(target, band): nothing is known of that band on that date, in the window or its margin."""
    return np.asarray(~patch.known[list(patch.targets)].any(axis=(2, 3)), np.bool_)


def strata(patch: Patch, *, table: NDArray[Any] | None = None) -> NDArray[np.int8]:
    """Stratum of each pixel of the window, 0 to 19: distance class + 5 x class of the nearest date.

    Parameters
    ----------
    table : what is looked up by stratum; where it has 30 rows, pixels far in time are 20 to 24, those that dates around
        know on one side alone 25 to 29, by distance class.
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
    """A table (20 or 30,) of ones: what is learnt from trials has rows for pixels far in time where some show these."""
    shown = any(trial.lasting and trial.hidden.any() for trial in trials)
    return np.ones(STRATA + 2 * DISTANCES * shown, np.float32)


def around_in_time(known: NDArray[np.bool_], dates: NDArray[np.int64], target: int) -> NDArray[np.int8]:
    """Which of the dates around the target know a pixel that some other date knows.

    Parameters
    ----------
    known : (date, ...).
    dates : (date,) seconds since 1970, as a patch has them.
    target : index into the dates.

    Returns
    -------
    (...) `NEAR`, also where no other date knows the pixel or another one of the same time does, and at either end of
    the dates where the one side there is does; `FAR` or `ONE_SIDE`.
    """
    around, days = dates_around(dates, target), days_of(dates)
    sides = [side for side in (days < days[target], days > days[target]) if side.any()]
    told = sum((known[side & around].any(axis=0).astype(np.int8) for side in sides), np.zeros(known.shape[1:], np.int8))
    others = np.arange(len(known)) != target
    ever, twin = known[others].any(axis=0), known[others & (days == days[target])].any(axis=0)
    found = np.where((told == len(sides)) | twin, NEAR, np.where(told > 0, ONE_SIDE, FAR))
    return np.where(ever, found, NEAR).astype(np.int8)


def dates_around(dates: NDArray[np.int64], target: int) -> NDArray[np.bool_]:
    """(date,) which dates are around the target, itself among them; `dates` as `around_in_time` takes them."""
    days = days_of(dates)
    return np.asarray(np.abs(days - days[target]) <= _FAR * median_step(np.sort(days)), np.bool_)


def _day_class(patch: Patch) -> NDArray[np.intp]:
    """(target, band, row, column) of the window: class of the nearest other date on which the pixel is known."""
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

    Few hidden pixels are deep in gaps, and all together are mostly those near data: a distance class is drawn to the
    one before it. The interval score (Gneiting & Raftery 2007) is up to 5 % less than with classes drawn to all pixels,
    1 % more on the worst of eight kinds of single images, and coverage within .01 of theirs.

    With dates the factors are to hold on a date not yet seen: errors of one date go together, so every date counts the
    same however many of its pixels are hidden, and is worth a few independent pixels at most.

    Parameters
    ----------
    ratio : (pixel,) |value - truth| / expected error at hidden pixels; NaN is left out, see `told`.
    stratum : (pixel,) as `strata` counts them, with those far in time or without.
    defaults : 5 factors by distance class, for strata without pixels.
    date : (pixel,) which date each pixel is of; None, and dates that are all one, take pixels for what is drawn.

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
    """The factor where a date shows nothing; None where no pixel tells of it.

    What is said of such dates comes from the other dates alone, so that pixels deep inside a gap are another question.

    Parameters
    ----------
    ratio : (pixel,) |value - truth| / expected error at pixels hidden with all of their date; NaN is left out.
    date : (pixel,) which date each is of.
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
    """(pixel,) log of the ratio over the default factor."""
    excess: NDArray[np.float64] = np.log(np.maximum(ratio, 1e-6)) - np.log(np.asarray(defaults))[stratum % DISTANCES]
    return excess


def _shrunk_by_date(excess: NDArray[np.floating[Any]], date: NDArray[np.integer[Any]], towards: float) -> float:
    """As `_shrunk`, each date of the same weight and worth `_PER_DATE` independent pixels at most."""
    if not excess.size:
        return towards
    pixels = np.unique(date, return_counts=True)[1]
    count = float(np.minimum(pixels / THINNING, _PER_DATE).sum())
    return (count * _quantile_by_date(excess, date) + _PRIOR * towards) / (count + _PRIOR)


def _quantile_by_date(excess: NDArray[np.floating[Any]], date: NDArray[np.integer[Any]]) -> float:
    """Log factor that holds nine tenths of the errors of a date not yet seen, each seen date of the same weight."""
    _, which, pixels = np.unique(date, return_inverse=True, return_counts=True)
    order = np.argsort(excess, kind="stable")
    reached = np.cumsum(1.0 / pixels[which][order]) / len(pixels)
    place = min(int(np.searchsorted(reached, 0.9)), excess.size - 1)
    return float(excess[order[place]]) - math.log(Z90) + _FEW_DATES / len(pixels)


def _exponential(logarithm: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.exp(logarithm).astype(np.float32)


def _shrunk(excess: NDArray[np.floating[Any]], towards: float) -> float:
    """Log factor of a sample of log ratios, drawn to `towards` where the sample is small."""
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
    """The factor at each pixel: that of its stratum, without a step where a distance class ends.

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

    Steps at a class's edge would draw contours into what is made of it.
    """
    return _mixed(table, *_rows(stratum, distance))


def patch_table(patch: Patch, table: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """As `between_classes`, (target, band, row, column, ...) of a patch's window."""
    rows = "rows", len(table) > STRATA
    first, share = patch.once(
        rows, lambda: _rows(strata(patch, table=table), target_distance(patch)[..., *patch.core])
    )
    return _mixed(table, first, share)


def patch_factors(patch: Patch, factors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """As `factor_field`, (target, band, row, column) of a patch's window."""
    return np.exp(patch_table(patch, np.log(factors))).astype(np.float32)


def _rows(
    stratum: NDArray[np.int8], distance: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The first of two rows of a table that count at each pixel, and the share of the second."""
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
    """Fields of the trials' windows, cut at the hidden pixels and put end to end; each as often as it is worth."""
    kept = [np.repeat(field[trial.hidden], trial.worth) for trial, field in zip(trials, fields, strict=True)]
    return np.concatenate(kept) if kept else np.empty(0, np.float32)


def told(
    error: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]], band: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """|error| (pixel,) of hidden pixels, NaN where it teaches nothing of others.

    Most of a rain field is dry, and there every filler is right. Nine tenths such pixels would make intervals of
    nothing where it rains as well; so numbers that are common (no rain, open water, black sky) and were guessed count
    for nothing, and intervals hold nine tenths of all else.

    Parameters
    ----------
    error, truth : (pixel,) value less truth, and the truth; normalised.
    band : (pixel,) which band each pixel is of: each has its own common numbers.
    """
    found: NDArray[np.float32] = np.abs(error).astype(np.float32)
    for own in np.unique(band):
        numbers, counts = np.unique(truth[band == own], return_counts=True)
        common = numbers[counts >= _COMMON * counts.sum()]
        found[(band == own) & np.isin(truth, common) & (found <= FLOOR)] = np.nan
    return found


def hidden_errors(trials: Sequence[Trial], errors: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """As `told`, of the trials' hidden pixels put end to end; `errors` are value less truth over their windows."""
    bands = [np.repeat(np.nonzero(trial.hidden)[1], trial.worth) for trial in trials]
    if not bands:
        return np.empty(0, np.float32)
    return told(hidden_pixels(trials, errors), hidden_pixels(trials, [t.truth for t in trials]), np.concatenate(bands))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Any filler, with its standard errors scaled so that they hold 90 % of the trials' hidden pixels."""

    filler: Filler
    members: int = 0
    """How many the job asks for; where the filler gives others, or none, it is refused."""

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
        """What the filler does before the first patch, if it does anything."""
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
        """What the filler says; raises GeodiffError where that does not fit the patches."""
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
    """The trials that a filler answers, and its answers: what fails at one place is no reason to fill no other.

    Raises what the filler raised where it answers none, and GeodiffError and MemoryError at once.
    """
    try:
        return list(trials), answers(trials)
    except (GeodiffError, MemoryError):
        raise
    except Exception as reason:
        told: list[tuple[Trial, Filled]] = []
        for trial in trials:
            with suppress(Exception):
                told += zip([trial], answers([trial]), strict=True)
        if not told:
            raise
        _log.warning(
            "filler %r failed on %d of the %d places it was tried on (%s: %s); it is judged by the others",
            name, len(trials) - len(told), len(trials), type(reason).__name__, reason,
        )  # fmt: skip
    return [trial for trial, _ in told], [filled for _, filled in told]


def error_ratio(trials: Sequence[Trial], filled: Sequence[Filled]) -> NDArray[np.float32]:
    """|value - truth| in standard errors at the trials' hidden pixels, NaN where it teaches nothing."""
    errors = [one.value - trial.truth for trial, one in zip(trials, filled, strict=True)]
    claimed = np.maximum(hidden_pixels(trials, [one.standard_error for one in filled]), np.float32(1e-6))
    return np.asarray(hidden_errors(trials, errors) / claimed, np.float32)


def _scaled(filled: Filled, factor: NDArray[np.float32]) -> Filled:
    return replace(filled, standard_error=filled.standard_error * factor)

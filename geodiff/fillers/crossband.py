"""Gaps of one band where others are known: regress it on them, fill the residual, and add the two.

The detector of one band fails, one of its lines saturates, or a product flags bands one by one. The other bands at the
same pixel then predict it better than anything nearby. The residual of the regression is left to the fillers, as a
field with an expected error of its own (regression kriging: Odeh, McBratney & Chittleborough 1995).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filled, Patch
from geodiff.fillers.series import Series, days_of, interpolated

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = ["BandPrediction", "across_bands", "predictions_by_bands"]

_FEWEST = 300
"""Fewest pixels known in all bands of a regression."""
_COVERED = 0.95
"""Share of the gap pixels known in any other band that a band must know to help with the whole gap at once."""
_SETS, _LEFT = 3, 100
"""Most sets of helping bands for one gap, each for the pixels that the sets before do not know, and the fewest such
pixels worth another set."""
_OFTEN = 4
"""A set of bands may be known together at this many times fewer pixels than the most common set."""
_NEARLY_ALL = 0.75
"""Share of the bands of such a set that must know nearly all of a gap for these to be used for all of it at once."""
_SHARED = 0.5
"""Share of a band's known pixels on other dates that a helping band must know: only there is the residual known."""
_TOGETHER = 16
"""Bands whose residuals are filled in one call; does not affect the result."""
_WORTH = 0.9
"""Standard deviation of the residual over that of the band above which the other bands do not help."""
_LINE = 1.5**0.5
"""Grain of departures from a line between two dates over that of one date: the line contributes half of a variance."""
_RIDGE = 1e-4
"""Ridge over the variance of a band, so that nearly equal bands share their weight."""


@dataclass(frozen=True, slots=True)
class BandPrediction:
    """Prediction of one band from others: value = trend (+ its line in time) + scale x residual."""

    place: tuple[int, int]
    """Target and band."""
    helpers: NDArray[np.intp]
    slopes: NDArray[np.float64]
    """(helper,) regression coefficients."""
    level: float
    """Value of the band where all helpers are 0."""
    where: NDArray[np.bool_]
    """(row, column) of the target, with the margin: the pixels that are predicted."""
    scale: float
    """By which the residual is multiplied, to be of unit size or of the size of the band's own departures."""
    line: Plane | None
    """(row, column) residual interpolated in time between other dates; NaN where none knows the pixel.

    It is subtracted too, because the residual may have any level, and weights of space and time were learnt on the
    band itself."""
    least: float
    """Least standard error, in units of `scale`: the difference of neighbouring residuals. Residuals are grainier than
    bands, for which the expected error is made."""

    def rest(self, patch: Patch) -> Patch:
        """A patch of the scaled residual of that band alone."""
        target, band = patch.targets[self.place[0]], self.place[1]
        own = np.s_[:, band : band + 1]
        values, coarse = np.zeros_like(patch.values[own]), np.zeros_like(patch.coarse[own])
        known, fillable = _common(patch, band, self.helpers)[:, None], np.zeros_like(patch.fillable[own])
        if self.line is not None:
            known &= np.isfinite(self.line)
        for date, common in enumerate(known[:, 0]):
            left = patch.values[date, band] - self.trend(patch, date)
            values[date, 0] = np.where(common, left / self.scale, 0)
            if self.line is None:
                told = _said(patch.coarse[date, self.helpers], self.slopes, self.level)
                coarse[date, 0] = (patch.coarse[date, band] - told) / self.scale
        fillable[target, 0] = patch.fillable[target, band] & (known[target, 0] | self.where)
        first = patch.first_band + band
        return replace(patch, values=values, known=known, fillable=fillable, coarse=coarse, first_band=first)

    def trend(self, patch: Patch, date: int) -> NDArray[np.float64]:
        """What is subtracted from the band on one date: (row, column), with the margin."""
        said = _said(patch.values[date, self.helpers], self.slopes, self.level)
        return said if self.line is None else said + self.line


def across_bands(patches: Sequence[Patch], fill: Callable[[Sequence[Patch]], list[Filled]]) -> list[Filled]:
    """The answers of `fill` for the patches, using other bands where they are known in a gap."""
    told = [list(predictions_by_bands(patch)) for patch in patches]
    made = fill([_without(patch, own) for patch, own in zip(patches, told, strict=True)])
    for place, (patch, own) in enumerate(zip(patches, told, strict=True)):
        if own:
            made[place] = _copied(made[place])
        for first in range(0, len(own), _TOGETHER):  # fillers cache as much for each as for a patch of few bands
            some = own[first : first + _TOGETHER]
            for each, rest in zip(some, fill([each.rest(patch) for each in some]), strict=True):
                _put_back(patch, made[place], each, rest)
    return made


def predictions_by_bands(patch: Patch) -> Iterator[BandPrediction]:
    """Predictions of each band with a gap in the window from the other bands.

    Where other dates know a pixel, they predict most of it, and the other bands predict the departure of the date from
    them. Elsewhere the other bands predict the value itself.
    """
    if patch.known.shape[1] < 2:
        return
    for target, band in np.argwhere(patch.missing.any(axis=(2, 3))).tolist():
        known = patch.known[patch.targets[target]]
        gap = ~known[band] & patch.fillable[patch.targets[target], band]
        gap &= known.any(axis=0)  # pixels lost in all bands cannot be predicted
        dated = np.delete(patch.known[:, band], patch.targets[target], axis=0).any(axis=0)
        for asked, how in ((gap & dated, _departing), (gap & ~dated, _level)):
            left = asked
            for number in range(_SETS):
                if np.count_nonzero(left) < (_LEFT if number else 1):
                    break
                helpers = _helpers(patch, (target, band), left, last=number == _SETS - 1)
                if not len(helpers):
                    break
                found = how(patch, (target, band), left, helpers)
                if found is not None:
                    yield found
                left = left & ~known[helpers].all(axis=0)


def _helpers(patch: Patch, place: tuple[int, int], asked: NDArray[np.bool_], *, last: bool) -> NDArray[np.intp]:
    """Bands known together at the pixels `asked` for, and at most of the band's known pixels on other dates.

    Those that know nearly all of the pixels, unless they are far fewer than another set known together; in the `last`
    set always those.
    """
    date, band = patch.targets[place[0]], place[1]
    others = np.delete(np.arange(len(patch.dates)), date)
    own = patch.known[others, band]
    shared = np.array([np.count_nonzero(own & patch.known[others, b]) for b in range(patch.known.shape[1])])
    seen = patch.known[date][:, asked] & (shared >= _SHARED * np.count_nonzero(own))[:, None]
    here, together = seen.mean(axis=1) >= _COVERED, _commonest(seen)
    enough = 1 if last else math.ceil(_NEARLY_ALL * together.sum())
    return np.flatnonzero(here if here.sum() >= max(1, enough) else together)


def _commonest(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A set of bands (band,) often known together, given pixels (band, pixel): the largest, then the most frequent."""
    some = seen[:, seen.any(axis=0)]
    if not some.size:
        return np.zeros(len(seen), bool)
    _, first, counts = np.unique(np.packbits(some, axis=0), axis=1, return_index=True, return_counts=True)
    bands = np.where(_OFTEN * counts >= counts.max(), some[:, first].sum(axis=0), 0)
    return np.asarray(some[:, first[np.lexsort((counts, bands))[-1]]])


def _level(
    patch: Patch, place: tuple[int, int], asked: NDArray[np.bool_], helpers: NDArray[np.intp]
) -> BandPrediction | None:
    """Regress a band on helpers known in its gap, over the pixels known in all of them.

    Pixels of the target date are used or, if they are too few, those of all dates.
    """
    date, band = patch.targets[place[0]], place[1]
    common = _common(patch, band, helpers)
    learnt = common.copy()
    learnt[np.arange(len(learnt)) != date] = False
    if np.count_nonzero(learnt) < _FEWEST:
        learnt = common
    if np.count_nonzero(learnt) < _FEWEST:
        return None
    own = patch.values[:, band][learnt].astype(np.float64)
    seen = np.stack([patch.values[:, helper][learnt] for helper in helpers]).astype(np.float64)
    middle, mean = seen.mean(axis=1), own.mean()
    apart = seen - middle[:, None]
    slopes = _slopes(apart @ apart.T, apart @ (own - mean))
    level = float(mean - slopes @ middle)
    left = np.zeros(learnt.shape)
    left[learnt] = own - (slopes @ seen + level)
    scale = max(float(left[learnt].std()), 1e-6)
    if not scale < _WORTH * own.std():
        return None
    where = asked & patch.known[date, helpers].all(axis=0)
    return BandPrediction(place, helpers, slopes, level, where, scale, None, _grain(left, learnt) / scale)


def _departing(
    patch: Patch, place: tuple[int, int], asked: NDArray[np.bool_], helpers: NDArray[np.intp]
) -> BandPrediction | None:
    """Regress the departure of a band from its other dates on those of helpers; the residual keeps their scale.

    The mean departure of a date is excluded if the date has enough pixels of the band, as fillers see it then.
    """
    date, band = patch.targets[place[0]], place[1]
    common = _common(patch, band, helpers)
    if not common.any():
        return None
    apart, lines, learnt = _departures(patch, date, np.append(band, helpers), common)
    if np.count_nonzero(learnt) < _FEWEST:
        return None
    if np.count_nonzero(common[date]) >= _FEWEST:
        count = np.maximum(learnt.sum(axis=(1, 2)), 1)
        apart -= (apart.sum(axis=(2, 3), dtype=np.float64) / count)[..., None, None].astype(np.float32)
    products = np.zeros((len(apart), len(apart)))
    for own, some in zip(apart.swapaxes(0, 1), learnt, strict=True):
        seen = own[:, some].astype(np.float64)
        products += seen @ seen.T
    slopes = _slopes(products[1:, 1:], products[1:, 0])
    left = np.where(learnt, apart[0] - np.tensordot(slopes.astype(np.float32), apart[1:], axes=1), 0).astype(np.float64)
    scale = max(float(np.sqrt(np.sum(left**2) / max(products[0, 0], 1e-12))), 1e-6)
    if not scale < _WORTH or not products[0, 0]:
        return None
    line = np.asarray(lines[0] - np.tensordot(slopes, lines[1:], axes=1), np.float32)
    where = asked & np.isfinite(line) & patch.known[date, helpers].all(axis=0)
    return BandPrediction(place, helpers, slopes, 0.0, where, scale, line, _grain(left, learnt) / (scale * _LINE))


def _common(patch: Patch, band: int, helpers: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Pixels known in a band and all its helpers: (date, row, column)."""
    known = patch.known[:, band].copy()
    for helper in helpers:
        known &= patch.known[:, helper]
    return known


def _departures(
    patch: Patch, date: int, bands: NDArray[np.intp], common: NDArray[np.bool_]
) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Departures of bands from linear interpolation between other dates, where all of them are known.

    Returns
    -------
    apart : (band, date, row, column) departures; 0 where not `learnt`.
    lines : (band, row, column) interpolation on the target date, NaN where no other date knows all bands.
    learnt : (date, row, column) whether all bands are known on the date and on another.
    """
    days = days_of(patch.dates)
    order = np.argsort(days, kind="stable")
    target = int(np.flatnonzero(order == date)[0])
    apart = np.empty((len(bands), *common.shape), np.float32)
    lines = np.empty((len(bands), *common.shape[1:]), np.float32)
    for place, band in enumerate(bands):
        series = Series(patch.values[order, band], common[order], days[order], target)
        line = interpolated(series, range(len(order)))
        apart[place, order], lines[place] = series.values - line, line[target]
    learnt = common & np.isfinite(apart[0])
    apart[:, ~learnt] = 0
    return apart, lines, learnt


def _slopes(products: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ridge regression (helper,) from sums of products of the helpers, and of helpers and band."""
    system = products.copy()
    system[np.diag_indices(len(system))] += _RIDGE * (np.trace(system) / len(system) + 1e-12)
    return np.asarray(np.linalg.solve(system, right), np.float64)


def _said(planes: Plane, slopes: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Prediction (row, column) from the helpers' planes."""
    return np.asarray(np.tensordot(slopes, planes.astype(np.float64), axes=1) + level)


def _grain(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Root of the semivariance of neighbouring pixels (..., row, column); 0 where there are none."""
    down = (plane[..., 1:, :] - plane[..., :-1, :])[known[..., 1:, :] & known[..., :-1, :]]
    across = (plane[..., 1:] - plane[..., :-1])[known[..., 1:] & known[..., :-1]]
    apart = np.concatenate([down, across])
    return float(np.sqrt(0.5 * np.mean(apart**2))) if apart.size else 0.0


def _without(patch: Patch, told: Sequence[BandPrediction]) -> Patch:
    """The patch without the pixels to fill that other bands predict."""
    if not told:
        return patch
    fillable = patch.fillable.copy()
    for each in told:
        fillable[patch.targets[each.place[0]], each.place[1]] &= ~each.where
    return replace(patch, fillable=fillable)


def _copied(filled: Filled) -> Filled:
    """The answer with copies of its arrays."""
    members = None if filled.members is None else filled.members.copy()
    return Filled(filled.value.copy(), filled.standard_error.copy(), members, filled.source.copy())


def _put_back(patch: Patch, filled: Filled, told: BandPrediction, rest: Filled) -> None:
    """Write the prediction of one band into the answer; `rest` is the fill of its residual."""
    plane, own = told.place, (told.place[0], 0)
    where, trend = told.where[patch.core], told.trend(patch, patch.targets[plane[0]])[patch.core]
    error = told.scale * np.maximum(rest.standard_error[own], told.least)
    np.copyto(filled.value[plane], trend + told.scale * rest.value[own], where=where, casting="same_kind")
    np.copyto(filled.standard_error[plane], error, where=where, casting="same_kind")
    np.copyto(filled.source[plane], rest.source[own], where=where)
    if filled.members is not None and rest.members is not None:
        drawn = trend + told.scale * rest.members[:, *own]
        np.copyto(filled.members[:, *plane], drawn, where=where, casting="same_kind")

"""Gaps of one band where others are known: what they say of it is taken out, the rest is filled, and it is put back.

A detector of one band dies, a line of it saturates, a product masks bands one by one. What the others show at the same
pixel then says more than anything nearby, and what they do not say is left to the fillers, as a field of its own with
an expected error of its own (regression kriging: Odeh, McBratney & Chittleborough 1995).
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

__all__ = ["Told", "across_bands", "told_by_bands"]

_FEWEST = 300
"""Pixels known in all bands of a regression; fewer say nothing of how bands go together."""
_COVERED = 0.95
"""Share of what any other band shows of a band's gap that one must show to be asked in the end, about all of it."""
_SETS, _LEFT = 3, 100
"""Sets of bands that are asked about one gap, each about what those before do not show; and pixels worth asking."""
_OFTEN = 4
"""A set may be known together at so much fewer pixels than the commonest."""
_NEARLY_ALL = 0.75
"""Of the bands of such a set how many have to show nearly all of a gap for these to be asked about all at once."""
_SHARED = 0.5
"""Share of what other dates show of a band that one must show to take part: what is left is known only there."""
_TOGETHER = 16
"""Bands whose rest is filled in one call; has no influence on the result."""
_WORTH = 0.9
"""Standard deviation that is left, over that of the band: with more the others say next to nothing."""
_LINE = 1.5**0.5
"""Grain of the departures from a line between two dates, over that of one date: half the variance is the line's."""
_RIDGE = 1e-4
"""Over the variance of a band: bands that are nearly the same share their weight."""


@dataclass(frozen=True, slots=True)
class Told:
    """What other bands say of one: value = trend (+ what the rest is from other dates) + scale x what is left."""

    place: tuple[int, int]
    """Target and band."""
    helpers: NDArray[np.intp]
    slopes: NDArray[np.float64]
    """(helper,)."""
    level: float
    """Of the band where all helpers are 0."""
    where: NDArray[np.bool_]
    """(row, column) of the target, with the margin: what is told."""
    scale: float
    line: Plane | None
    """(row, column): what helpers leave of the band, linear in time between other dates; NaN where none tells.

    Taken out too: the level of the rest may be anything, and the shares of space and time were learnt on the band."""
    least: float
    """Standard error at least, over `scale`: how far neighbours are apart. What bands leave is grainier than they are,
    and the expected error goes by fields as smooth as nature's."""

    def rest(self, patch: Patch) -> Patch:
        """What is left, scaled: a patch of that band alone."""
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
        """(row, column) with the margin: what is taken out on one date, where it is known."""
        said = _said(patch.values[date, self.helpers], self.slopes, self.level)
        return said if self.line is None else said + self.line


def across_bands(patches: Sequence[Patch], fill: Callable[[Sequence[Patch]], list[Filled]]) -> list[Filled]:
    """What `fill` says of the patches, with the help of other bands where they are known."""
    told = [list(told_by_bands(patch)) for patch in patches]
    made = fill([_without(patch, own) for patch, own in zip(patches, told, strict=True)])
    for place, (patch, own) in enumerate(zip(patches, told, strict=True)):
        if own:
            made[place] = _copied(made[place])
        for first in range(0, len(own), _TOGETHER):  # what fillers keep of each is as large as the patch of few bands
            some = own[first : first + _TOGETHER]
            for each, rest in zip(some, fill([each.rest(patch) for each in some]), strict=True):
                _put_back(patch, made[place], each, rest)
    return made


def told_by_bands(patch: Patch) -> Iterator[Told]:
    """Of each band with a gap in the window that others tell something of.

    Where other dates know the pixel they tell the most of it, and bands are asked how the date departs from them;
    elsewhere bands are asked for the whole.
    """
    if patch.known.shape[1] < 2:
        return
    for target, band in np.argwhere(patch.missing.any(axis=(2, 3))).tolist():
        known = patch.known[patch.targets[target]]
        gap = ~known[band] & patch.fillable[patch.targets[target], band]
        gap &= known.any(axis=0)  # what all have lost nobody tells
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
    """Bands that are known together where one is asked for, and on most that is known of it on other dates.

    Those that show nearly all of it, where they are not far fewer; and those are the `last` to be asked in any case.
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
    """(band,) bands often known together of some pixels (band, pixel): the most of them, then the most often."""
    some = seen[:, seen.any(axis=0)]
    if not some.size:
        return np.zeros(len(seen), bool)
    _, first, counts = np.unique(np.packbits(some, axis=0), axis=1, return_index=True, return_counts=True)
    bands = np.where(_OFTEN * counts >= counts.max(), some[:, first].sum(axis=0), 0)
    return np.asarray(some[:, first[np.lexsort((counts, bands))[-1]]])


def _level(patch: Patch, place: tuple[int, int], asked: NDArray[np.bool_], helpers: NDArray[np.intp]) -> Told | None:
    """The regression of a band on those that are known in its gap, over the pixels that are known in all of them.

    Those of the target date, and where these are too few of all dates.
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
    return Told(place, helpers, slopes, level, where, scale, None, _grain(left, learnt) / scale)


def _departing(
    patch: Patch, place: tuple[int, int], asked: NDArray[np.bool_], helpers: NDArray[np.intp]
) -> Told | None:
    """The regression of what a band departs from its other dates on what others do; the rest keeps their size.

    A date's mean departure is left out where the date shows the band: fillers see it there.
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
    return Told(place, helpers, slopes, 0.0, where, scale, line, _grain(left, learnt) / (scale * _LINE))


def _common(patch: Patch, band: int, helpers: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(date, row, column): a band and all its helpers are known."""
    known = patch.known[:, band].copy()
    for helper in helpers:
        known &= patch.known[:, helper]
    return known


def _departures(
    patch: Patch, date: int, bands: NDArray[np.intp], common: NDArray[np.bool_]
) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """How bands depart from other dates, those on which all of them are known.

    Returns
    -------
    apart : (band, date, row, column) less what is linear in time between other dates; 0 where not `learnt`.
    lines : (band, row, column) that line on the target date, NaN where no other date knows all bands.
    learnt : (date, row, column) where all bands are known on the date and on another.
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
    """(helper,) of the ridge regression with these sums of products of helpers, and of helpers and band."""
    system = products.copy()
    system[np.diag_indices(len(system))] += _RIDGE * (np.trace(system) / len(system) + 1e-12)
    return np.asarray(np.linalg.solve(system, right), np.float64)


def _said(planes: Plane, slopes: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(row, column) from the helpers' planes."""
    return np.asarray(np.tensordot(slopes, planes.astype(np.float64), axes=1) + level)


def _grain(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Of (..., row, column) the root of the semivariance of neighbours; 0 where there are none."""
    down = (plane[..., 1:, :] - plane[..., :-1, :])[known[..., 1:, :] & known[..., :-1, :]]
    across = (plane[..., 1:] - plane[..., :-1])[known[..., 1:] & known[..., :-1]]
    apart = np.concatenate([down, across])
    return float(np.sqrt(0.5 * np.mean(apart**2))) if apart.size else 0.0


def _without(patch: Patch, told: Sequence[Told]) -> Patch:
    """The patch of which nothing is asked that other bands tell."""
    if not told:
        return patch
    fillable = patch.fillable.copy()
    for each in told:
        fillable[patch.targets[each.place[0]], each.place[1]] &= ~each.where
    return replace(patch, fillable=fillable)


def _copied(filled: Filled) -> Filled:
    """An answer whose arrays are nobody else's."""
    members = None if filled.members is None else filled.members.copy()
    return Filled(filled.value.copy(), filled.standard_error.copy(), members, filled.source.copy())


def _put_back(patch: Patch, filled: Filled, told: Told, rest: Filled) -> None:
    """Write what was said of one band into the answer; `rest` is of that band alone."""
    plane, own = told.place, (told.place[0], 0)
    where, trend = told.where[patch.core], told.trend(patch, patch.targets[plane[0]])[patch.core]
    error = told.scale * np.maximum(rest.standard_error[own], told.least)
    np.copyto(filled.value[plane], trend + told.scale * rest.value[own], where=where, casting="same_kind")
    np.copyto(filled.standard_error[plane], error, where=where, casting="same_kind")
    np.copyto(filled.source[plane], rest.source[own], where=where)
    if filled.members is not None and rest.members is not None:
        drawn = trend + told.scale * rest.members[:, *own]
        np.copyto(filled.members[:, *plane], drawn, where=where, casting="same_kind")

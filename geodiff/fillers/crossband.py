"""Gaps of one band where others are known: what they say of it is taken out, the rest is filled, and it is put back.

A detector of one band dies, a line of it saturates, a product masks bands one by one. What the others show at the same
pixel then says more than anything nearby, and what they do not say is left to the fillers, as a field of its own with
an expected error of its own (regression kriging: Odeh, McBratney & Chittleborough 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filled, Patch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]

__all__ = ["across_bands"]

_FEWEST = 300
"""Pixels known in all bands of a regression; fewer say nothing of how bands go together."""
_COVERED = 0.95
"""Share of what any other band shows of a band's gap that one must show to take part."""
_WORTH = 0.9
"""Standard deviation that is left, over that of the band: with more the others say next to nothing."""
_RIDGE = 1e-4
"""Over the variance of a band: bands that are nearly the same share their weight."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What other bands say of one: value = trend + scale x what is left."""

    band: int
    helpers: NDArray[np.intp]
    slopes: NDArray[np.float64]
    """(helper,)."""
    level: float
    """Of the band where all helpers are 0."""
    common: NDArray[np.bool_]
    """(row, column) with the margin: the band and all helpers are known."""
    where: NDArray[np.bool_]
    """The same: the helpers are, the band is not."""
    trend: NDArray[np.float64]
    """The same: what they say, where they are known."""
    scale: float
    least: float
    """Standard error at least, over `scale`: how far neighbours are apart. What bands leave is grainier than they are,
    and the expected error goes by fields as smooth as nature's."""

    def rest(self, patch: Patch) -> Patch:
        """What is left, of unit scale; the other bands are neither known nor asked for."""
        values, coarse = np.zeros_like(patch.values), np.zeros_like(patch.coarse)
        known, fillable = np.zeros_like(patch.known), np.zeros_like(patch.fillable)
        plane = (0, self.band)
        values[plane] = np.where(self.common, (patch.values[plane] - self.trend) / self.scale, 0)
        told = _said(patch.coarse[0, self.helpers], self.slopes, self.level)
        coarse[plane] = (patch.coarse[plane] - told) / self.scale
        known[plane], fillable[plane] = self.common, patch.fillable[plane] & (self.common | self.where)
        return replace(patch, values=values, known=known, fillable=fillable, coarse=coarse)


def across_bands(patches: Sequence[Patch], fill: Callable[[Sequence[Patch]], list[Filled]]) -> list[Filled]:
    """What `fill` says of the patches, with the help of other bands where they are known.

    Patches of one date only; in a stack the other dates are asked.
    """
    told = [list(_told(patch)) for patch in patches]
    made = fill([_without(patch, own) for patch, own in zip(patches, told, strict=True)])
    for place, (patch, own) in enumerate(zip(patches, told, strict=True)):
        for each in own:  # one at a time: what is left is as large as the patch
            made[place] = _put_back(patch, made[place], each, fill([each.rest(patch)])[0])
    return made


def _told(patch: Patch) -> Iterator[_Told]:
    """Of each band with a gap in the window that others tell something of."""
    if len(patch.dates) > 1 or patch.known.shape[1] < 2:
        return
    for band in np.flatnonzero(patch.missing[0].any(axis=(1, 2))).tolist():
        found = _regressed(patch, band)
        if found is not None:
            yield found


def _regressed(patch: Patch, band: int) -> _Told | None:
    """The regression of a band on those that are known in its gap, over the pixels that are known in all of them."""
    known = patch.known[0]
    asked = ~known[band] & patch.fillable[0, band] & known.any(axis=0)  # what all have lost nobody tells
    if not asked.any():
        return None
    helpers = np.flatnonzero(known[:, asked].mean(axis=1) >= _COVERED)
    shown = known[helpers].all(axis=0)
    common = shown & known[band]
    if not len(helpers) or np.count_nonzero(common) < _FEWEST:
        return None
    own, others = patch.values[0, band].astype(np.float64), patch.values[0, helpers]
    seen = others[:, common].astype(np.float64)
    middle, mean = seen.mean(axis=1), own[common].mean()
    apart = seen - middle[:, None]
    system = apart @ apart.T
    system[np.diag_indices(len(system))] += _RIDGE * (np.trace(system) / len(system) + 1e-12)
    slopes = np.linalg.solve(system, apart @ (own[common] - mean))
    level = float(mean - slopes @ middle)
    trend = np.where(shown, _said(others, slopes, level), 0)
    left = np.where(common, own - trend, 0)
    scale = max(float(left[common].std()), 1e-6)
    if not scale < _WORTH * own[common].std():
        return None
    return _Told(band, helpers, slopes, level, common, shown & ~known[band], trend, scale, _grain(left, common) / scale)


def _said(planes: Plane, slopes: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(row, column) from the helpers' planes."""
    return np.asarray(np.tensordot(slopes, planes.astype(np.float64), axes=1) + level)


def _grain(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """The root of the semivariance of neighbours; 0 where there are none."""
    down = (plane[1:] - plane[:-1])[known[1:] & known[:-1]]
    across = (plane[:, 1:] - plane[:, :-1])[known[:, 1:] & known[:, :-1]]
    apart = np.concatenate([down, across])
    return float(np.sqrt(0.5 * np.mean(apart**2))) if apart.size else 0.0


def _without(patch: Patch, told: Sequence[_Told]) -> Patch:
    """The patch of which nothing is asked that other bands tell."""
    if not told:
        return patch
    fillable = patch.fillable.copy()
    for each in told:
        fillable[0, each.band] &= ~each.where
    return replace(patch, fillable=fillable)


def _put_back(patch: Patch, filled: Filled, told: _Told, rest: Filled) -> Filled:
    """The answer with what was said of one band in it."""
    where, trend = told.where[patch.core], told.trend[patch.core]
    plane = (0, told.band)
    value, error, source = filled.value.copy(), filled.standard_error.copy(), filled.source.copy()
    value[plane] = np.where(where, trend + told.scale * rest.value[plane], value[plane])
    error[plane] = np.where(where, told.scale * np.maximum(rest.standard_error[plane], told.least), error[plane])
    source[plane] = np.where(where, rest.source[plane], source[plane])
    members = filled.members
    if members is not None and rest.members is not None:
        members = members.copy()
        own = trend + told.scale * rest.members[:, 0, told.band]
        members[:, 0, told.band] = np.where(where, own, members[:, 0, told.band])
    return Filled(value, error, members, source)

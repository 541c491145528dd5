"""Gaps of one band where others are known: what they say of it is taken out, the rest is filled, and it is put back.

A detector of one band dies, a line of it saturates, a product masks bands one by one. What the others show at the same
pixel then says more than anything nearby, and what they do not say is left to the fillers, as a field of its own with
an expected error of its own (regression kriging: Odeh, McBratney & Chittleborough 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
"""Share of a band's gap in which another must be known to take part."""
_WORTH = 0.9
"""Standard deviation that is left, over that of the band: with more the others say next to nothing."""
_RIDGE = 1e-4
"""Over the variance of a band: bands that are nearly the same share their weight."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the other bands say of one: value = trend + scale x what is left."""

    band: int
    rest: Patch
    """What is left, of unit scale; the other bands are neither known nor asked for."""
    where: NDArray[np.bool_]
    """(row, column) with the margin: where it holds."""
    trend: Plane
    scale: np.float32
    least: np.float32
    """Standard error at least, in units of `rest`: how far neighbours are apart. What bands leave is grainier than they
    are, and the expected error goes by fields as smooth as nature's."""


def across_bands(patches: Sequence[Patch], fill: Callable[[Sequence[Patch]], list[Filled]]) -> list[Filled]:
    """What `fill` says of the patches, with the help of other bands where they are known.

    Patches of one date only; in a stack the other dates are asked.
    """
    told = [_places(patch) for patch in patches]
    made = fill([_without(patch, own) for patch, own in zip(patches, told, strict=True)])
    for place, (patch, own) in enumerate(zip(patches, told, strict=True)):
        for band in own:  # one at a time: each is as large as the patch
            each = _regressed(patch, band)
            assert each is not None
            made[place] = _put_back(patch, made[place], each, fill([each.rest])[0])
    return made


def _places(patch: Patch) -> dict[int, NDArray[np.bool_]]:
    """The bands of which others tell something, and where (row, column) with the margin."""
    told = {}
    if len(patch.dates) == 1 and patch.known.shape[1] > 1:
        for band in np.flatnonzero(patch.missing[0].any(axis=(1, 2))).tolist():
            found = _regressed(patch, band)
            if found is not None:
                told[band] = found.where
    return told


def _regressed(patch: Patch, band: int) -> _Told | None:
    """The regression of a band on those that are known in its gap, over the pixels that are known in all of them."""
    known = patch.known[0]
    helpers = np.flatnonzero(known[:, ~known[band] & patch.fillable[0, band]].mean(axis=1) >= _COVERED)
    shown = known[helpers].all(axis=0)
    common = shown & known[band]
    if not len(helpers) or np.count_nonzero(common) < _FEWEST:
        return None
    own, others = patch.values[0, band].astype(np.float64), patch.values[0, helpers].astype(np.float64)
    middle, level = others[:, common].mean(axis=1), own[common].mean()
    apart = others[:, common] - middle[:, None]
    system = apart @ apart.T
    system[np.diag_indices(len(system))] += _RIDGE * (np.trace(system) / len(system) + 1e-12)
    slopes = np.linalg.solve(system, apart @ (own[common] - level))

    def said(planes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.tensordot(slopes, planes - middle[:, None, None], axes=1) + level)

    trend = np.where(shown, said(others), 0)
    left = np.where(common, own - trend, 0)
    scale = max(float(left[common].std()), 1e-6)
    if not scale < _WORTH * own[common].std():
        return None
    values, coarse = np.zeros_like(patch.values), np.zeros_like(patch.coarse)
    left_known, left_fillable = np.zeros_like(patch.known), np.zeros_like(patch.fillable)
    values[0, band], left_known[0, band] = left / scale, common
    left_fillable[0, band] = patch.fillable[0, band] & shown
    coarse[0, band] = (patch.coarse[0, band] - said(patch.coarse[0, helpers].astype(np.float64))) / scale
    rest = replace(patch, values=values, known=left_known, fillable=left_fillable, coarse=coarse)
    where = shown & ~patch.known[0, band]
    return _Told(band, rest, where, trend.astype(np.float32), np.float32(scale), _grain(left / scale, common))


def _grain(plane: NDArray[np.float64], known: NDArray[np.bool_]) -> np.float32:
    """The root of the semivariance of neighbours; 0 where there are none."""
    down = (plane[1:] - plane[:-1])[known[1:] & known[:-1]]
    across = (plane[:, 1:] - plane[:, :-1])[known[:, 1:] & known[:, :-1]]
    apart = np.concatenate([down, across])
    return np.float32(np.sqrt(0.5 * np.mean(apart**2)) if apart.size else 0.0)


def _without(patch: Patch, told: Mapping[int, NDArray[np.bool_]]) -> Patch:
    """The patch of which nothing is asked that other bands tell."""
    if not told:
        return patch
    fillable = patch.fillable.copy()
    for band, where in told.items():
        fillable[0, band] &= ~where
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

"""Gaps filled from places that look alike: the normal prediction of a patch from the known part of it.

Lebrun, Buades & Morel 2013 (non-local Bayes), turned to inpainting: patches near a gap that look like the known part of
a patch at its rim are draws of one normal distribution; its mean and covariance, drawn to the covariance of the whole
surroundings because they are few, predict the missing part. Kriging knows one covariance for a whole window; this one
knows that beside an edge there is another than on the plain. Deep in a gap no patch shows enough, and kriging stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from geodiff.fillers import Fitted, Patch, Trial
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.spatial import SpatialFiller
from geodiff.fillers.whitening import distance_to_known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float32]
    Numbers = NDArray[np.float64]

__all__ = ["NonLocal", "predicted"]

SIDE, STEP = 8, 4
"""Pixels of a patch, and from one patch to the next."""
REACH = 14
"""How far from a patch others may lie, in pixels along rows and columns."""
ALIKE = 48
"""Patches taken for draws of one distribution."""
MOST_MISSING = 0.8
"""Of a patch: with less known it says too little."""
_STATIONARY = 0.5
"""Share of the surroundings' covariance in a patch's: of .1, .3 and .5 the best on rover and orbiter frames."""
_FEWEST, _SURVEYED = 200, 3000
"""Whole patches without which there is no covariance of the surroundings, and those that are enough for it."""
_ROUNDING = 1e-3
"""Noise taken for granted, in mean variances of a pixel: without it smooth fields make singular systems."""
_WITHIN, _BEYOND = 3.0, 7.0
"""Distances from data between which kriging takes over; patches reach no farther."""


class NonLocal(SpatialFiller):
    """Prediction from patches that look alike; kriging deep in a gap, and where little is known."""

    name = "nonlocal"
    defaults = (0.62, 0.85, 1.08, 1.45, 1.7)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:
        """Fill every missing pixel of the plane."""
        return predicted(values, known, ~known, Kriging().plane(values, known, coarse, fitted))

    def whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        """As the base says; in the margin, which nobody asks for, what kriging says."""
        wanted = np.zeros(patch.known.shape[2:], bool)
        wanted[patch.core][patch.inside] = (~patch.known[plane] & patch.fillable[plane])[patch.core][patch.inside]
        return self._at(patch, plane, fitted, wanted)

    def estimate_hidden(self, trial: Trial, fitted: Fitted) -> Plane:
        """Only patches over hidden pixels: a trial hides little beside large gaps."""
        patch, value = trial.patch, np.zeros(trial.hidden.shape, np.float32)
        for place in np.argwhere(trial.hidden.any(axis=(2, 3))):
            target, band = int(place[0]), int(place[1])
            wanted = np.zeros(patch.known.shape[2:], bool)
            wanted[patch.core] = trial.hidden[target, band]
            value[target, band] = self._at(patch, (patch.targets[target], band), fitted, wanted)[patch.core]
        return value

    def _at(self, patch: Patch, plane: tuple[int, int], fitted: Fitted, wanted: NDArray[np.bool_]) -> Plane:
        known, smooth = patch.known[plane], Kriging().whole(patch, plane, fitted)
        return predicted(patch.values[plane], known, wanted, smooth) if known.any() else smooth


def predicted(values: Plane, known: NDArray[np.bool_], wanted: NDArray[np.bool_], smooth: Plane) -> Plane:
    """What patches that look alike say of the wanted pixels near data, `smooth` everywhere else.

    Parameters
    ----------
    values, known, wanted : (row, column); `wanted` is nowhere known.
    smooth : another estimate of whatever is missing.
    """
    if min(known.shape) < SIDE:
        return smooth
    missing = _lost_by_patch(~known)
    whole = missing == 0
    if np.count_nonzero(whole) < _FEWEST:
        return smooth
    patches = sliding_window_view(values, (SIDE, SIDE))
    common = _covariance(patches, whole)
    total, weight = np.zeros(values.shape), np.zeros(values.shape)
    for row, column in _references(missing, wanted):
        gap = ~known[row : row + SIDE, column : column + SIDE]
        like = _alike(patches, whole, (row, column), gap)
        if like is not None:
            told, worth = _told(patches[row, column], gap, like, common)
            total[row : row + SIDE, column : column + SIDE][gap] += worth * told
            weight[row : row + SIDE, column : column + SIDE][gap] += worth
    nearness = np.clip((_BEYOND - distance_to_known(known)) / (_BEYOND - _WITHIN), 0.0, 1.0)
    found = wanted & (weight > 0)
    mean = np.divide(total, weight, out=smooth.astype(np.float64), where=found)
    return np.where(found, smooth + nearness * (mean - smooth), smooth).astype(np.float32)


def _lost_by_patch(missing: NDArray[np.bool_]) -> NDArray[np.intp]:
    """How many pixels the patch that begins at each pixel lacks: differences of a summed area."""
    total: NDArray[np.intp] = np.pad(missing, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.intp).cumsum(axis=1)
    along = total[SIDE:] - total[:-SIDE]
    return along[:, SIDE:] - along[:, :-SIDE]


def _covariance(patches: NDArray[np.float32], whole: NDArray[np.bool_]) -> Numbers:
    """Of all patches in which nothing is missing, or of enough of them, (pixel, pixel)."""
    rows, columns = np.nonzero(whole)
    every = max(1, len(rows) // _SURVEYED)
    some = patches[rows[::every], columns[::every]].reshape(-1, SIDE * SIDE).astype(np.float64)
    apart = some - some.mean(axis=0)
    return np.asarray(apart.T @ apart / (len(apart) - 1))


def _references(missing: NDArray[np.intp], wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First pixels of the patches, every `STEP`, that show enough and miss something that is wanted."""
    grid = missing[::STEP, ::STEP]
    asked = sliding_window_view(wanted, (SIDE, SIDE))[::STEP, ::STEP].any(axis=(2, 3))
    rows, columns = np.nonzero(asked & (grid <= MOST_MISSING * SIDE * SIDE))
    return [(STEP * row, STEP * column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]


def _alike(
    patches: NDArray[np.float32], whole: NDArray[np.bool_], at: tuple[int, int], gap: NDArray[np.bool_]
) -> Numbers | None:
    """(patch, pixel): those around a place that are most like what is known there; None where there are too few."""
    near = tuple(slice(max(first - REACH, 0), first + REACH + 1) for first in at)
    candidates = patches[near][whole[near]].reshape(-1, SIDE * SIDE)
    if len(candidates) < ALIKE:
        return None
    apart = candidates - patches[at].ravel()
    distance = (apart * apart) @ (~gap).ravel().astype(np.float32)
    nearest = np.argpartition(distance, ALIKE - 1)[:ALIKE]
    return np.asarray(candidates[nearest], np.float64)


def _told(
    patch: NDArray[np.float32], gap: NDArray[np.bool_], like: Numbers, common: Numbers
) -> tuple[Numbers, Numbers]:
    """The normal prediction of a patch's missing pixels from the others, and its weight: one over its variance."""
    from scipy.linalg.lapack import dposv  # solve's own: its checks would take as long as the system

    lost = gap.ravel()
    seen = ~lost
    mean = like.mean(axis=0)
    apart = like - mean
    covariance = ((1 - _STATIONARY) / (len(like) - 1)) * (apart.T @ apart) + _STATIONARY * common
    noise = _ROUNDING * float(np.trace(covariance)) / len(covariance) + 1e-9
    system = covariance[np.ix_(seen, seen)]
    system[np.diag_indices(len(system))] += noise
    across = covariance[np.ix_(seen, lost)]
    gain = dposv(system, across)[1]
    observed = patch.ravel()[seen].astype(np.float64)
    told = mean[lost] + (observed - mean[seen]) @ gain
    left = np.diagonal(covariance)[lost] - np.einsum("sl,sl->l", across, gain)
    lowest, highest = min(observed.min(), like.min()), max(observed.max(), like.max())
    return np.clip(told, lowest, highest), 1.0 / (np.maximum(left, 0.0) + noise)

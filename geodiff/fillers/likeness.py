"""Gaps filled from places that look alike: the normal prediction of a patch from the known part of it.

Lebrun, Buades & Morel 2013 (non-local Bayes), turned to inpainting: patches near a gap that look like the known part of
a patch at its rim are draws of one normal distribution; its mean and covariance, drawn to the covariance of the whole
surroundings because they are few, predict the missing part. Kriging knows one covariance for a whole window; this one
knows that beside an edge there is another than on the plain. Deep in a gap no patch shows enough, and kriging stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from geodiff.fillers import Fitted, Patch, Trial
from geodiff.fillers.calibration import plane_distance
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
_TAPER = np.multiply.outer(*[np.sin(np.pi * (np.arange(SIDE) + 0.5) / SIDE)] * 2)
"""(row, column) say of a patch: with as much at its edges as in its middle each would draw a line where it ends."""
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
_TOGETHER = 16
"""References whose covariances are worked out at once: half a MiB of them, which a core's cache holds."""
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
        if not known.any():
            return smooth
        return predicted(patch.values[plane], known, wanted, smooth, plane_distance(patch, plane))


def predicted(
    values: Plane, known: NDArray[np.bool_], wanted: NDArray[np.bool_], smooth: Plane, distance: Plane | None = None
) -> Plane:
    """What patches that look alike say of the wanted pixels near data, `smooth` everywhere else.

    Parameters
    ----------
    values, known, wanted : (row, column); `wanted` is nowhere known.
    smooth : another estimate of whatever is missing.
    distance : what `distance_to_known(known)` gives, where it is at hand.
    """
    if min(known.shape) < SIDE:
        return smooth
    missing = _lost_by_patch(~known)
    whole = missing == 0
    if np.count_nonzero(whole) < _FEWEST:
        return smooth
    shown = _Shown.of(values, known, whole)
    common = shown.covariance()
    total, weight = np.zeros(values.shape), np.zeros(values.shape)
    for some in _batches(shown.like(at) for at in _references(missing, wanted)):
        places = np.concatenate([one.lost_places(values.shape[1]) for one in some])
        told, worth = _told(some, common)
        say = worth * _TAPER.take(np.concatenate([one.lost for one in some]))
        np.add.at(total.reshape(-1), places, say * told)
        np.add.at(weight.reshape(-1), places, say)
    distance = distance_to_known(known) if distance is None else distance
    nearness = np.clip((_BEYOND - distance) / (_BEYOND - _WITHIN), 0.0, 1.0)
    found = wanted & (weight > 0)
    mean = np.divide(total, weight, out=smooth.astype(np.float64), where=found)
    return np.where(found, smooth + nearness * (mean - smooth), smooth).astype(np.float32)


def _lost_by_patch(missing: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many pixels the patch that begins at each pixel lacks: differences of a summed area."""
    down = np.pad(missing, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int32)
    total: NDArray[np.int32] = down.cumsum(axis=1, dtype=np.int32)
    along = total[SIDE:] - total[:-SIDE]
    return along[:, SIDE:] - along[:, :-SIDE]


def _references(missing: NDArray[np.int32], wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First pixels of the patches, every `STEP`, that show enough and miss something that is wanted."""
    grid = missing[::STEP, ::STEP]
    asked = _lost_by_patch(wanted)[::STEP, ::STEP] > 0
    rows, columns = np.nonzero(asked & (grid <= MOST_MISSING * SIDE * SIDE))
    return [(STEP * row, STEP * column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class _Reference:
    """A patch with missing pixels, and those found to look like it. In these its known pixels come first."""

    at: tuple[int, int]
    """First row and column."""
    gap: NDArray[np.bool_]
    """(row, column): what it misses."""
    order: NDArray[np.intp]
    """(pixel,) of the patch row by row: the known ones, then the missing."""
    seen: NDArray[np.float32]
    """(known pixel,) values."""
    like: NDArray[np.float32]
    """(patch, pixel), pixels in that order."""

    @property
    def lost(self) -> NDArray[np.intp]:
        """(missing pixel,) of the patch row by row."""
        return self.order[len(self.seen) :]

    def lost_places(self, width: int) -> NDArray[np.intp]:
        """(missing pixel,) of a plane of that width, row by row."""
        return (self.at[0] * width + self.at[1]) + _within(width).take(self.lost)


@cache
def _within(width: int) -> NDArray[np.intp]:
    """(pixel,) of a patch, how far each is from its first one in a plane of that width, row by row."""
    return np.add.outer(np.arange(SIDE) * width, np.arange(SIDE)).ravel()


@dataclass(frozen=True, slots=True)
class _Shown:
    """The patches of a plane, one for each first pixel, by their rows: laid out whole they take eight times as much."""

    known: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    """(first row, first column): which patches lack nothing."""
    places: NDArray[np.intp]
    """Same shape: index into `rows` of a patch's first one."""
    rows: NDArray[np.float32]
    """(row, pixel): the `SIDE` pixels that begin at each."""

    @classmethod
    def of(cls, values: Plane, known: NDArray[np.bool_], whole: NDArray[np.bool_]) -> _Shown:
        """All patches of a plane (row, column)."""
        rows = np.ascontiguousarray(sliding_window_view(values, SIDE, axis=1)).reshape(-1, SIDE)
        return cls(known, whole, np.arange(whole.size).reshape(whole.shape), rows)

    def patches(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """(patch, pixel) of those whose first rows are there."""
        every = places[:, None] + self.whole.shape[1] * np.arange(SIDE)
        return np.asarray(self.rows.take(every, axis=0).reshape(len(places), SIDE * SIDE))

    def covariance(self) -> Numbers:
        """Of all patches in which nothing is missing, or of enough of them, (pixel, pixel)."""
        every = self.places[self.whole]
        apart = self.patches(every[:: max(1, len(every) // _SURVEYED)]).astype(np.float64)
        apart -= apart.mean(axis=0)
        return np.asarray(apart.T @ apart / (len(apart) - 1))

    def like(self, at: tuple[int, int]) -> _Reference | None:
        """The patch there, and those around it most like what is known of it; None where too few lack nothing."""
        around = tuple(slice(max(first - REACH, 0), first + REACH + 1) for first in at)
        near = self.places[around][self.whole[around]]
        if len(near) < ALIKE:
            return None
        gap = ~self.known[at[0] : at[0] + SIDE, at[1] : at[1] + SIDE]
        lost, patch = gap.ravel(), self.patches(self.places[at].reshape(1))[0]
        alike = self.patches(near)
        apart = alike - patch
        apart *= apart
        nearest = np.argpartition(apart @ (~lost).astype(np.float32), ALIKE - 1)[:ALIKE]
        order = np.argsort(lost, kind="stable")
        return _Reference(at, gap, order, patch[~lost], alike.take(nearest, axis=0).take(order, axis=1))


def _batches(found: Iterable[_Reference | None]) -> Iterator[list[_Reference]]:
    """Those that were found, some at a time."""
    every = (one for one in found if one is not None)
    while some := list(islice(every, _TOGETHER)):
        yield some


def _told(references: Sequence[_Reference], common: Numbers) -> tuple[Numbers, Numbers]:
    """The normal prediction of missing pixels from the others, and their weights: one over the variance.

    (missing pixel,) of one reference after the other. `common` is the covariance of the surroundings, (pixel, pixel).
    """
    from scipy.linalg.lapack import dposv  # solve's own: its checks would take as long as the system

    like = np.stack([one.like for one in references])
    lowest, highest = like.min(axis=(1, 2)), like.max(axis=(1, 2))
    order = np.stack([one.order for one in references])
    apart = like.astype(np.float64)
    mean = apart.mean(axis=1, keepdims=True)
    apart -= mean
    covariance = apart.swapaxes(1, 2) @ apart
    covariance *= (1 - _STATIONARY) / (ALIKE - 1)
    covariance += (_STATIONARY * common).take(common.shape[1] * order[:, :, None] + order[:, None])
    diagonal = np.einsum("rpp->rp", covariance)
    variance = diagonal.copy()
    noise = _ROUNDING * variance.mean(axis=1) + 1e-9
    diagonal += noise[:, None]
    told, left = [], []
    for i, one in enumerate(references):
        seen = len(one.seen)
        across = covariance[i, :seen, seen:]
        gain = dposv(covariance[i, :seen, :seen], across)[1]
        told.append(mean[i, 0, seen:] + (one.seen - mean[i, 0, :seen]) @ gain)
        left.append(variance[i, seen:] - (across * gain).sum(axis=0))
    lowest = np.minimum(lowest, [one.seen.min() for one in references])
    highest = np.maximum(highest, [one.seen.max() for one in references])
    counts = [len(one) for one in told]
    weight = 1.0 / (np.maximum(np.concatenate(left), 0.0) + noise.repeat(counts))
    return np.clip(np.concatenate(told), lowest.repeat(counts), highest.repeat(counts)), weight

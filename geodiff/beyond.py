"""Far from all that is known: how wrong values may be there, by the scene's own variogram at long lags.

Trials hide no more than a scene can spare, and what they hide has known pixels not far off. The variogram of the
low-resolution cells (Matheron 1963) goes on growing with the lag where a field does: as a power of it, faster in one
direction than in another, up to the largest that is seen. What is far inside a gap is filled harmonically, a weighted
mean of the gap's rim; the variogram says what the mean square error of any weighted mean is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.members import stretched
from geodiff.fillers.variogram import variogram
from geodiff.patches import Cells
from geodiff.pyramid import sample_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geodiff.encoding import Normalisation
    from geodiff.fillers import Filled, Patch
    from geodiff.lattice import Lattice
    from geodiff.pyramid import CellSums

__all__ = ["far_errors", "no_less"]

_MOST = 32
"""Cells a side at most: of larger scenes coarser ones, which makes systems of a thousand unknowns."""
_NEAR = 2.0
"""Cells from a known one up to which nothing is said: trials tell of these."""
_PAIRS = 0.15
"""Pairs that a lag must have, in known cells, to be looked at."""
_LEAST_LAGS = 4
_LAST, _MORE = 100, 0.25
"""One in so many cells at each end may be one hot pixel's; it counts as that much of the others' range beyond them."""
_TURNS, _STRETCHES = 12, (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Directions, over half a turn, and how many times longer lags in one of them may be than across."""
_UNLIKELY = 0.1
"""What the square of the logarithm of that costs, in squares of the logarithm of the variogram."""
_LEAST = 1e-6
"""Share of the largest half square that the least counts as: its logarithm would be that of rounding."""


def far_errors(sums: CellSums, recipes: Sequence[Normalisation], *, around: bool = False) -> Cells | None:
    """Standard errors to expect far inside the gaps of a single image, by cells of its own size.

    Normalised; 0 where a cell, or one beside it, shows something, and in bands of which too little is known. None where
    nothing is that far from data, and for stacks, where other dates tell. `around`: the last column is next to the
    first one.
    """
    if len(sums.total) != 1:
        return None
    total, count, cell = sums.total[0], sums.count[0], sums.cell
    while max(total.shape[1:]) > _MOST:
        total, count, cell = _halved(total), _halved(count), 2 * cell
    known = count > 0
    mean = np.divide(total, count, out=np.zeros_like(total), where=known)
    scales = [recipe.scale for recipe in recipes]
    errors = [_errors(m / s, k, around=around) for m, k, s in zip(mean, known, scales, strict=True)]
    return Cells(np.stack(errors)[None], cell) if np.any(errors) else None


def _halved(cells: NDArray[Any]) -> NDArray[Any]:
    """(band, row, column) sums of 2 x 2 cells."""
    bands, rows, columns = cells.shape
    padded = np.pad(cells, ((0, 0), (0, rows % 2), (0, columns % 2)))
    return np.asarray(padded.reshape(bands, -(-rows // 2), 2, -(-columns // 2), 2).sum(axis=(2, 4)))


def _errors(mean: NDArray[np.float64], known: NDArray[np.bool_], *, around: bool) -> NDArray[np.float64]:
    """(row, column) of one band."""
    errors, held = np.zeros(mean.shape), _harmonic(known, around)
    growth = None if held is None else _Growth.of(_without_ends(mean, known), known)
    if held is None or growth is None:
        return errors
    far, rim, shares = held
    columns = mean.shape[1] if around else None
    apart = growth.between(far, rim, columns)
    squares = 2.0 * (shares * apart).sum(axis=1) - (shares @ growth.between(rim, rim, columns) * shares).sum(axis=1)
    errors[far[:, 0], far[:, 1]] = np.sqrt(np.maximum(squares, 0.0))
    return errors


def _without_ends(mean: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    ordered = np.sort(mean[known])
    last = ordered.size // _LAST
    low, high = ordered[last], ordered[-1 - last]
    more = _MORE * (high - low)
    return np.clip(mean, low - more, high + more) if last else mean


@once_a_mask
def _harmonic(
    known: NDArray[np.bool_], around: bool
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]] | None:
    """Places of far cells (far, 2) and of the gaps' rim (rim, 2), and how much each far one takes from the rim.

    Shares (far, rim) sum to 1 over the rim. None where nothing is far, or nothing known.
    """
    from scipy.linalg import solve
    from scipy.ndimage import distance_transform_edt

    beside = known.shape[1] if around else 0
    wide = np.pad(known, ((0, 0), (beside, beside)), mode="wrap")
    away = distance_transform_edt(~wide)[:, beside : beside + known.shape[1]]
    if not known.any() or not (away >= _NEAR).any():
        return None
    links = _neighbours(known.shape, around)
    free, held = np.flatnonzero(~known), np.flatnonzero(known)
    held = held[links[np.ix_(held, free)].any(axis=1)]
    inner = np.diag(links.sum(axis=1)[free]) - links[np.ix_(free, free)]
    shares = solve(inner, links[np.ix_(free, held)], assume_a="pos")
    far = away.ravel()[free] >= _NEAR
    place = np.argwhere(np.ones_like(known))
    return place[free[far]], place[held], shares[far]


def _neighbours(shape: tuple[int, int], around: bool) -> NDArray[np.float64]:
    """(cell, cell) 1 where two cells have a side in common."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    links = np.zeros((number.size, number.size))
    pairs = [(number[1:], number[:-1]), (number[:, 1:], number[:, :-1])]
    if around:
        pairs.append((number[:, :1], number[:, -1:]))
    for first, second in pairs:
        links[first, second] = links[second, first] = 1.0
    return links


@dataclass(frozen=True, slots=True)
class _Growth:
    """Half the mean squared difference of two cells: a power of the lag, which counts more in one direction.

    No more than the largest that was measured: 90 % intervals hold the same without that bound, with a higher score.
    """

    level: float
    power: float
    """0 to 2."""
    stretch: float
    turn: float
    """Direction in which the field changes most, from that of a row to that of a column."""
    most: float
    """The largest that was measured."""

    @classmethod
    def of(cls, values: NDArray[np.float64], known: NDArray[np.bool_]) -> _Growth | None:
        """By least squares of logarithms, each octave of the lag of the same weight; None where too little is known."""
        reach = max(known.shape)
        measured, pairs = variogram(values, known, reach)
        lag = np.r_[0:reach, -reach:0]
        down, across = (each.astype(np.float64) for each in np.meshgrid(lag, lag, indexing="ij"))
        half = (down > 0) | ((down == 0) & (across > 0))
        looked = half & (pairs >= _PAIRS * np.count_nonzero(known))
        down, across, halves = down[looked], across[looked], measured[looked]
        if len(halves) < _LEAST_LAGS or halves.max() <= 0.0:
            return None
        log = np.log(np.maximum(halves, _LEAST * halves.max()))
        weight = pairs[looked] / (down**2 + across**2)
        weight /= weight.sum()
        turns = [turn * math.pi / _TURNS for turn in range(_TURNS)]
        tried = [(s, t) for s in _STRETCHES for t in (turns if s > 1 else turns[:1])]
        found = [_fitted(np.log(_length(down, across, s, t)), log, weight) for s, t in tried]
        costs = [cost + _UNLIKELY * math.log(s) ** 2 for (*_, cost), (s, _) in zip(found, tried, strict=True)]
        best = int(np.argmin(costs))
        level, power, _ = found[best]
        return cls(math.exp(level), power, *tried[best], float(halves.max()))

    def between(
        self, first: NDArray[np.intp], second: NDArray[np.intp], columns: int | None
    ) -> NDArray[np.float64]:
        """(first, second) of places (cell, 2); so many `columns` are once around."""
        down, across = (np.subtract.outer(first[:, axis], second[:, axis]) for axis in (0, 1))
        if columns is not None:
            across = (across + columns // 2) % columns - columns // 2
        length = _length(down, across, self.stretch, self.turn)
        return np.where(length > 0, np.minimum(self.level * length**self.power, self.most), 0.0)


def _length(down: NDArray[Any], across: NDArray[Any], stretch: float, turn: float) -> NDArray[np.float64]:
    """Of lags, those along `turn` made longer and those across shorter."""
    longer = math.sqrt(stretch)
    along, beside = across * math.cos(turn) + down * math.sin(turn), down * math.cos(turn) - across * math.sin(turn)
    return np.asarray(np.hypot(along * longer, beside / longer), np.float64)


def _fitted(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Level and slope, 0 to 2, of the line through y over x, and the mean square of what is left."""
    x_mean, y_mean = float(weight @ x), float(weight @ y)
    spread = max(float(weight @ (x - x_mean) ** 2), 1e-12)
    slope = min(max(float(weight @ ((x - x_mean) * y)) / spread, 0.0), 2.0)
    level = y_mean - slope * x_mean
    return level, slope, float(weight @ (y - level - slope * x) ** 2)


def no_less(filled: Filled, patch: Patch, least: Cells, lattice: Lattice) -> Filled:
    """The answer for a patch with standard errors no less than those, where no band knows a pixel; members follow."""
    rows, columns = lattice.folded(patch.window)
    floor = sample_cells(least.values, least.cell, rows, columns, around=lattice.periodic)
    floor[:, :, patch.known[..., *patch.core].any(axis=(0, 1))] = 0
    error = np.maximum(filled.standard_error, floor)
    members = filled.members
    if members is not None:
        ratio = np.asarray(error / np.maximum(filled.standard_error, np.float32(1e-6)), np.float32)
        departures = members - filled.value
        for plane in np.ndindex(*error.shape[:2]):
            if (ratio[plane] > 1).any():
                departures[(slice(None), *plane)] = stretched(departures[(slice(None), *plane)], ratio[plane])
        members = np.asarray(filled.value + departures, np.float32)
    return replace(filled, standard_error=error, members=members)

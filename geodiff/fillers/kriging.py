"""Ordinary kriging with a covariance, by lag and direction, that is measured on the known pixels around a window.

It gives the best linear unbiased prediction of each missing pixel from the known ones nearby (Matheron 1963). Streaks,
layers and smooth surfaces are continued as such.

The covariance is measured on the known pixels and on the harmonic fill next to them. Where pixels or lines are missing
here and there, each lag would otherwise be measured on different pairs of pixels. Their sampling noise varies from lag
to lag, and clipping the spectrum turns it into grain that the field does not have: with every other pixel missing,
errors were a third larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers import Fitted, Patch
from geodiff.fillers.calibration import plane_distance
from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.spatial import Laplace, SpatialFiller
from geodiff.fillers.variogram import REACH, covariances
from geodiff.fillers.whitening import distance_to_known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = tuple[NDArray[np.intp], NDArray[np.intp]]
    Plane = NDArray[np.float32]

__all__ = ["Kriging", "predicted", "tiles"]

TILE, OVERLAP = 16, 8
"""Pixels. The missing pixels of a tile share one system; tiles overlap and are blended, so that edges do not show."""
RING = 3
"""Known pixels within this distance of a tile's missing ones are used; they screen those farther away."""
RIM, THINNED = 20, 6
"""One in `THINNED` of the known pixels at the rims of gaps is used up to this distance, to carry slopes across."""
_SPAN = TILE + OVERLAP + 2 * RIM
"""Rows and columns that one system spans at most."""
MOST = 500
"""Most known pixels of one system, the nearest ones: a Cholesky factorisation of 3 ms."""
_FEWEST = 300
"""Known pixels below which no variogram is measured."""
_COMPLETED = 8.0
"""Distance from data, in pixels, up to which the harmonic fill enters the variogram: all of it between specks and
lines, and only the rim of a large gap, as the fill is too smooth deep inside."""
_NUGGETS = (1e-5, 1e-3, 1e-1)
"""Shares of the variance added to the diagonal, in turn, until a system can be solved: the taper at the far end of a
table can make the system of a very smooth field singular."""
_SMOOTH_NUGGETS = (1e-8, 1e-7, 1e-6)
"""Tried before these where the table is a likeliest covariance, which includes its own grain: in a pressure field that
varies over 400 pixels, neighbours differ by less than a hundred thousandth of the variance."""
_APART = 3.0
"""Distance from data, in pixels, from which the covariance for pixels next to data is not used any more."""
_LEVEL = 10.0
"""Variance of the unknown mean, in variances of the field: large makes the prediction unbiased."""
_WITHIN, _BEYOND = 16.0, 28.0
"""Distances from data, in pixels, between which kriging passes into the harmonic fill, which uses the whole patch."""


class Kriging(SpatialFiller):
    """Kriging with the patch's own covariance; deep inside a gap, and where little is known, the harmonic fill."""

    name = "kriging"
    defaults = (0.62, 0.85, 1.08, 1.45, 1.7)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:
        """Fill every missing pixel of the plane."""
        return self.within(values, known, ~known, Laplace().plane(values, known, coarse, fitted))

    def whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        """As in the base class; missing pixels in the margin, which are not used, are filled harmonically."""
        made: Plane = patch.once((self.name, *plane), lambda: self._whole(patch, plane, fitted))
        return made

    def _whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        known = patch.known[plane]
        if not known.any():
            return np.asarray(patch.coarse[plane], np.float32)
        inside = np.zeros(known.shape, bool)
        inside[patch.core][patch.inside] = (~known & patch.fillable[plane])[patch.core][patch.inside]
        harmonic = Laplace().whole(patch, plane, fitted)
        return self.within(patch.values[plane], known, inside, harmonic, plane_distance(patch, plane))

    def within(
        self,
        values: Plane,
        known: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
        harmonic: Plane,
        distance: Plane | None = None,
    ) -> Plane:
        """Kriging where `wanted`, and the harmonic fill of all other missing pixels; (row, column) each.

        `distance` is `distance_to_known(known)`, if the caller has it.
        """
        if np.count_nonzero(known) < _FEWEST:
            return harmonic
        distance = distance_to_known(known) if distance is None else distance
        near = wanted & (distance < _BEYOND)
        low, high = _ends(values[known])
        plane = _plane(np.clip(values, low, high), known)
        whole, shown = np.where(known, values, harmonic), known | (distance <= _COMPLETED)
        table, close, share = covariances(np.clip(whole, low, high) - plane, shown, span=_SPAN, seen=known)
        found = predicted(whole - plane, known, near, table)
        if close is not None:
            beside = near & (distance < _APART)
            nearness = share * np.clip((_APART - distance) / (_APART - 1.0), 0.0, 1.0)
            found += np.where(beside, nearness, 0.0) * (predicted(whole - plane, known, beside, close) - found)
        found += plane
        weight = np.where(near, np.clip((_BEYOND - distance) / (_BEYOND - _WITHIN), 0.0, 1.0), 0.0)
        return np.asarray(harmonic + weight * (found - harmonic), np.float32)


def _ends(values: Plane) -> tuple[np.float32, np.float32]:
    """Bounds to which values (pixel,) are clipped for slopes and covariance, which depend on squares.

    The range without one in a thousand pixels at each end, extended by a quarter. A single hot pixel twenty deviations
    off would otherwise double standard errors. Predictions use the values as they are.
    """
    last = values.size // 1000
    ordered = np.partition(values, (last, values.size - 1 - last))
    low, high = ordered[last], ordered[-1 - last]
    if low == high:  # nearly all pixels are the same number, such as a plain of zeros with a lake
        return values.min(), values.max()
    beyond = (high - low) / 4
    return low - beyond, high + beyond


def _plane(values: Plane, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The least-squares plane through the known pixels, subtracted because a trend has no covariance."""
    rows, columns = (np.linspace(-1.0, 1.0, n) for n in known.shape)
    held = known.astype(np.float64)
    kept = values * held
    by_row, by_column, mixed = held.sum(axis=1), held.sum(axis=0), rows @ held @ columns
    first, second = rows @ by_row, columns @ by_column
    products = [[held.sum(), first, second], [first, rows**2 @ by_row, mixed], [second, mixed, columns**2 @ by_column]]
    sums = [kept.sum(), rows @ kept.sum(axis=1), columns @ kept.sum(axis=0)]
    level, down, across = np.linalg.lstsq(np.array(products), np.array(sums), rcond=None)[0]
    return np.asarray(level + down * rows[:, None] + across * columns)


def predicted(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], wanted: NDArray[np.bool_], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Best linear unbiased prediction of wanted pixels, tile by tile, clipped to the range of the pixels used.

    Parameters
    ----------
    values, known, wanted : (row, column); no wanted pixel is known.
    table : covariance by lag, as from `covariances`.

    Returns
    -------
    float64 (row, column); `values` where not wanted, or where no known pixel is in reach.
    """
    total, weight = np.zeros(values.shape), np.zeros(values.shape)
    lookup = _Lookup(table)
    for targets, share, sources in _places(known, wanted):
        if len(sources[0]):
            total[targets] += share * _solved(values[sources].astype(np.float64), sources, targets, lookup)
            weight[targets] += share
    return np.where(weight > 0, total / np.maximum(weight, 1e-9), values)


@once_a_mask
def _places(known: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> list[tuple[Places, NDArray[np.float64], Places]]:
    """For each tile its wanted pixels, its weight in them, and the known pixels from which they are predicted."""
    rim = _thinned_rim(known)
    return [(targets, share, _sources(known, rim, targets)) for targets, share in tiles(wanted)]


class _Lookup:
    """Covariances between places of a field with unknown mean, looked up in a table by lag."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.variance = float(table[0, 0])
        self.nuggets = _NUGGETS if len(table) == 2 * REACH else _SMOOTH_NUGGETS + _NUGGETS
        self._width = 4 * len(table)
        padded = np.zeros((self._width, self._width))  # 0 beyond the table's reach
        half = len(table) // 2
        middle = slice(self._width // 2 - half, self._width // 2 + half)
        padded[middle, middle] = np.fft.fftshift(table)
        self._flat = padded.ravel() + _LEVEL * self.variance

    def between(self, first: Places, second: Places) -> NDArray[np.float64]:
        """Covariances of each first place with each second one: (first, second)."""
        one, other = (rows * self._width + columns for rows, columns in (first, second))
        centre = self._width * (self._width // 2) + self._width // 2
        return self._flat.take((centre + one)[:, None] - other)


def tiles(wanted: NDArray[np.bool_]) -> Iterator[tuple[Places, NDArray[np.float64]]]:
    """Wanted pixels of each tile that has any, and its weight in them.

    The weights of the tiles over a pixel sum to 1, except beside tiles without wanted pixels: divide by their sum.
    """
    half, side = OVERLAP // 2, TILE + OVERLAP
    ramp = (np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / OVERLAP
    ramp = np.minimum(ramp, 1.0)
    padded = np.pad(wanted, half)
    for row in range(0, wanted.shape[0], TILE):
        for column in range(0, wanted.shape[1], TILE):
            if wanted[row : row + TILE, column : column + TILE].any():
                rows, columns = np.nonzero(padded[row : row + side, column : column + side])
                yield (rows + row - half, columns + column - half), ramp[rows] * ramp[columns]


def _sources(known: NDArray[np.bool_], rim: NDArray[np.bool_], targets: Places) -> Places:
    """Known pixels from which a tile is predicted: all near its targets, and some of the rims farther away."""
    low, high = [int(t.min()) for t in targets], [int(t.max()) for t in targets]
    box = tuple(slice(max(first - RIM, 0), last + RIM + 1) for first, last in zip(low, high, strict=True))
    top, left = (part.start for part in box)
    chosen, asked = rim[box].copy(), np.zeros(known[box].shape, bool)
    asked[targets[0] - top, targets[1] - left] = True
    near = tuple(
        slice(max(first - RING - part.start, 0), last + RING + 1 - part.start)
        for first, last, part in zip(low, high, box, strict=True)
    )
    chosen[near] |= _ring(asked[near])
    chosen &= known[box]
    if np.count_nonzero(chosen) < RING:
        chosen = known[box]
    below, beside = np.nonzero(chosen)
    if len(below) > MOST:
        distance = _distance(asked)[below, beside]
        nearest = np.sort(np.argsort(distance, kind="stable")[:MOST])
        below, beside = below[nearest], beside[nearest]
    return below + top, beside + left


def _distance(asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance from each pixel to the nearest one asked for."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~asked))


def _ring(asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels within `RING` of those asked for, by shifts of rows: a tenth of the cost of a distance transform."""
    height, width = asked.shape
    wide = np.zeros((height + 2 * RING, width + 2 * RING), bool)
    near = np.zeros_like(asked)
    for across in range(RING + 1):
        wide[RING : RING + height, RING - across : RING - across + width] |= asked
        wide[RING : RING + height, RING + across : RING + across + width] |= asked
        for down in range(-RING, RING + 1):
            if math.isqrt(RING * RING - down * down) == across:
                near |= wide[RING + down : RING + down + height, RING : RING + width]
    return near


def _thinned_rim(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One in `THINNED` of the known pixels with a missing neighbour."""
    padded = np.pad(known, 1, constant_values=True)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.ogrid[: known.shape[0], : known.shape[1]]
    return np.asarray(known & ~inner & ((rows + columns) % THINNED == 0), np.bool_)


def _solved(values: NDArray[np.float64], sources: Places, targets: Places, lookup: _Lookup) -> NDArray[np.float64]:
    """Kriging of the targets of one tile from its sources."""
    from scipy.linalg.lapack import dposv  # as in scipy's `solve`, without the condition number, which takes longer

    mean = values.mean()
    if lookup.variance <= 0.0:
        return np.full(len(targets[0]), mean)
    for nugget in lookup.nuggets:
        system = lookup.between(sources, sources)
        system[np.diag_indices(len(system))] += nugget * lookup.variance
        _, weights, failed = dposv(system.T, values - mean, overwrite_a=True)  # in place, as it is symmetric
        if not failed:
            break
    else:
        return np.full(len(targets[0]), mean)
    answer: NDArray[np.float64] = lookup.between(targets, sources) @ weights + mean
    return np.clip(answer, values.min(), values.max())

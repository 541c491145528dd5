"""Ordinary kriging with the covariance that the known pixels around a window show themselves, in any direction.

No family of covariances is assumed: the variogram of every lag up to `REACH` pixels is measured on the patch (Matheron
1963), by Fourier transform (Marcotte 1996), turned into the nearest covariance that is not negative definite by
clipping its spectrum, and used in the best linear unbiased prediction of each missing pixel from the known ones nearby.
What is streaked, layered or smooth is continued as what it is.

It is measured on the known pixels and on the harmonic fill next to them. Without that fill each lag has pairs of its
own wherever pixels or lines are missing here and there, their chance scatters from lag to lag, and clipping turns the
scatter into grain that the field does not have: with every other pixel missing errors were a third larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers import Fitted, Patch
from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.spatial import Laplace, SpatialFiller
from geodiff.fillers.whitening import distance_to_known

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = tuple[NDArray[np.intp], NDArray[np.intp]]
    Plane = NDArray[np.float32]

__all__ = ["REACH", "Kriging", "covariance", "predicted", "variogram"]

REACH = 48
"""Pixels over which the variogram is measured, and to which the covariance is tapered."""
TILE, OVERLAP = 16, 8
"""Missing pixels of a tile share one system; neighbouring tiles overlap and are blended, or their edges would show."""
RING = 3
"""Known pixels this near to a tile's missing ones take part: the others are screened by them."""
RIM, THINNED = 20, 6
"""One in `THINNED` of the known pixels at a gap's rim takes part up to this distance, to carry slopes across."""
MOST = 500
"""Known pixels of one system, the nearest: a Cholesky factorisation of 3 ms."""
_FEWEST = 300
"""Known pixels below which no variogram is measured."""
_COMPLETED = 8.0
"""Distance from data, in pixels, up to which the harmonic fill takes part in the variogram: all of a field of specks or
lines, and of a large gap its rim, since deep inside the fill is too smooth."""
_PAIRS, _FARTHER = 200.0, 0.1
"""Pairs that the mean over directions is worth at a lag, and what the cube of the lag adds: far pairs go together, and
what they seem to say of a direction draws streaks."""
_FLOOR = 1e-4
"""Least power of the covariance, in shares of the variance: without it smooth fields make singular systems."""
_NUGGETS = (1e-5, 1e-3, 1e-1)
"""Shares of the variance that are added to the diagonal until a system can be solved: what a table has lost at its far
end can make one of a very smooth field singular."""
_LEVEL = 10.0
"""Variance of the unknown mean, in variances of the field: large makes the prediction unbiased."""
_WITHIN, _BEYOND = 16.0, 28.0
"""Distances from data between which it gives way to the harmonic fill, which sees the whole patch."""


class Kriging(SpatialFiller):
    """Kriging with the patch's own covariance; deep inside a gap, and where little is known, the harmonic fill."""

    name = "kriging"
    defaults = (0.62, 0.85, 1.08, 1.45, 1.7)

    def plane(self, values: Plane, known: NDArray[np.bool_], coarse: Plane, fitted: Fitted) -> Plane:
        """Fill every missing pixel of the plane."""
        return self.within(values, known, ~known, Laplace().plane(values, known, coarse, fitted))

    def whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        """As the base says; what is missing in the margin, which nobody asks for, is filled harmonically."""
        made: Plane = patch.once((self.name, *plane), lambda: self._whole(patch, plane, fitted))
        return made

    def _whole(self, patch: Patch, plane: tuple[int, int], fitted: Fitted) -> Plane:
        known = patch.known[plane]
        if not known.any():
            return np.asarray(patch.coarse[plane], np.float32)
        inside = np.zeros(known.shape, bool)
        inside[patch.core][patch.inside] = (~known & patch.fillable[plane])[patch.core][patch.inside]
        return self.within(patch.values[plane], known, inside, Laplace().whole(patch, plane, fitted))

    def within(self, values: Plane, known: NDArray[np.bool_], wanted: NDArray[np.bool_], harmonic: Plane) -> Plane:
        """Kriging where wanted, the harmonic fill of whatever else is missing; (row, column) each."""
        if np.count_nonzero(known) < _FEWEST:
            return harmonic
        distance = distance_to_known(known)
        near = wanted & (distance < _BEYOND)
        plane = _plane(values, known)
        rest, shown = np.where(known, values, harmonic) - plane, known | (distance <= _COMPLETED)
        found = predicted(rest, known, near, covariance(rest, shown)) + plane
        weight = np.where(near, np.clip((_BEYOND - distance) / (_BEYOND - _WITHIN), 0.0, 1.0), 0.0)
        return np.asarray(harmonic + weight * (found - harmonic), np.float32)


def _plane(values: Plane, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The plane of least squares through the known pixels: slopes have no covariance."""
    rows, columns = (np.linspace(-1.0, 1.0, n) for n in known.shape)
    design = np.stack(np.broadcast_arrays(1.0, rows[:, None], columns), axis=-1)
    seen = design[known]
    terms = np.linalg.lstsq(seen.T @ seen, seen.T @ values[known].astype(np.float64), rcond=None)[0]
    found: NDArray[np.float64] = design @ terms
    return found


def variogram(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], reach: int = REACH
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the mean squared difference of known pixels, and the pairs it comes from, by lag.

    Returns
    -------
    Two float64 (2 reach, 2 reach), lags in the order of the discrete Fourier transform: 0 to reach - 1, -reach to -1.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    level = np.where(known, values - values[known].mean(dtype=np.float64), 0.0)
    rows, columns = (next_fast_len(n + reach, real=True) for n in known.shape)
    shape = rows, columns
    first, second = (rfft2(field, shape) for field in (level, level * level))
    lags = np.r_[0:reach, -reach:0]
    count, pairs = _counted(known, shape, reach)
    square = np.stack([2.0 * (count * second.conj()).real, 2.0 * np.abs(first) ** 2])
    own, product = irfft2(square, shape)[:, lags[:, None], lags]
    return np.maximum(own - product, 0.0) / np.maximum(2.0 * pairs, 1.0), pairs


@once_a_mask
def _counted(
    known: NDArray[np.bool_], shape: tuple[int, int], reach: int
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """The spectrum of a mask, and the pairs of known pixels by lag."""
    from scipy.fft import irfft2, rfft2

    count, lags = rfft2(known.astype(np.float64), shape), np.r_[0:reach, -reach:0]
    pairs = irfft2(np.abs(count) ** 2, shape)[lags[:, None], lags]
    return count, np.maximum(np.rint(pairs), 0.0)


def covariance(values: NDArray[np.floating[Any]], known: NDArray[np.bool_], reach: int = REACH) -> NDArray[np.float64]:
    """Covariance by lag, (2 reach, 2 reach) in the order of `variogram`; not negative definite, 0 at the far end.

    Rare and long lags are drawn to the mean over directions. 0 everywhere for a constant field.
    """
    measured, pairs = variogram(values, known, reach)
    lag = np.minimum(np.arange(2 * reach), 2 * reach - np.arange(2 * reach))
    radius = np.hypot(lag[:, None], lag)
    ring = np.rint(radius).astype(np.intp)
    total = np.bincount(ring.ravel(), (pairs * measured).ravel())
    mean = total / np.maximum(np.bincount(ring.ravel(), pairs.ravel()), 1.0)
    worth = _PAIRS + _FARTHER * radius**3
    shrunk = (pairs * measured + worth * mean[ring]) / (pairs + worth)
    shrunk[0, 0] = 0.0
    sill = np.quantile(shrunk[radius < reach], 0.95)
    taper = np.where(radius < reach, 0.5 + 0.5 * np.cos(np.pi * radius / reach), 0.0)
    power = np.fft.fft2((sill - shrunk) * taper).real
    found: NDArray[np.float64] = np.fft.ifft2(np.maximum(power, _FLOOR * sill)).real
    return found


def predicted(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], wanted: NDArray[np.bool_], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The best linear unbiased prediction of wanted pixels, tile by tile, within the range of the pixels it is from.

    Parameters
    ----------
    values, known, wanted : (row, column); `wanted` is nowhere known.
    table : covariance by lag as `covariance` gives it.

    Returns
    -------
    float64 (row, column); `values` where not wanted, or where nothing known is in reach.
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
    """Of each tile the wanted pixels, its share in them, and the known ones that they are predicted from."""
    return [(targets, share, _sources(known, targets)) for targets, share in _tiles(wanted)]


class _Lookup:
    """Covariances between places from a table by lag; 0 beyond its reach."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.variance = float(table[0, 0])
        self._width = 4 * len(table)
        padded = np.zeros((self._width, self._width))
        half = len(table) // 2
        middle = slice(self._width // 2 - half, self._width // 2 + half)
        padded[middle, middle] = np.fft.fftshift(table)
        self._flat = padded.ravel()

    def between(self, first: Places, second: Places) -> NDArray[np.float64]:
        """(first, second)."""
        one, other = (rows * self._width + columns for rows, columns in (first, second))
        centre = self._width * (self._width // 2) + self._width // 2
        return self._flat.take((centre + one)[:, None] - other)


def _tiles(wanted: NDArray[np.bool_]) -> Iterator[tuple[Places, NDArray[np.float64]]]:
    """Wanted pixels of each tile that has some, and its share in them: shares of the tiles over a pixel sum to 1."""
    half, side = OVERLAP // 2, TILE + OVERLAP
    ramp = (np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5) / OVERLAP
    ramp = np.minimum(ramp, 1.0)
    padded = np.pad(wanted, half)
    for row in range(0, wanted.shape[0], TILE):
        for column in range(0, wanted.shape[1], TILE):
            if wanted[row : row + TILE, column : column + TILE].any():
                rows, columns = np.nonzero(padded[row : row + side, column : column + side])
                yield (rows + row - half, columns + column - half), ramp[rows] * ramp[columns]


def _sources(known: NDArray[np.bool_], targets: Places) -> Places:
    """Known pixels that a tile is predicted from: all near its targets, some of the rim farther off."""
    first = [max(int(t.min()) - RIM, 0) for t in targets]
    box = known[tuple(slice(low, int(t.max()) + RIM + 1) for low, t in zip(first, targets, strict=True))]
    asked = np.zeros(box.shape, bool)
    asked[targets[0] - first[0], targets[1] - first[1]] = True
    rows, columns = np.ogrid[: box.shape[0], : box.shape[1]]
    thinned = (rows + columns + sum(first)) % THINNED == 0
    chosen = box & (_ring(asked) | (_rim(box) & thinned))
    if np.count_nonzero(chosen) < RING:
        chosen = box
    below, beside = np.nonzero(chosen)
    if len(below) > MOST:
        distance = _distance(asked)[below, beside]
        nearest = np.sort(np.argsort(distance, kind="stable")[:MOST])
        below, beside = below[nearest], beside[nearest]
    return below + first[0], beside + first[1]


def _distance(asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """From each pixel to the nearest that is asked for."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~asked))


def _ring(asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What lies within `RING` of the pixels asked for: row by row, at a tenth of a distance transform's cost."""
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


def _rim(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Known pixels with a missing neighbour."""
    padded = np.pad(known, 1, constant_values=True)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return known & ~inner


def _solved(values: NDArray[np.float64], sources: Places, targets: Places, lookup: _Lookup) -> NDArray[np.float64]:
    """Kriging of the targets of one tile from its sources."""
    from scipy.linalg.lapack import dposv  # solve's own, without the condition number, which takes longer

    mean = values.mean()
    if lookup.variance <= 0.0:
        return np.full(len(targets[0]), mean)
    level = _LEVEL * lookup.variance
    between = lookup.between(sources, sources) + level
    for nugget in _NUGGETS:
        system = between.copy()
        system[np.diag_indices(len(system))] += nugget * lookup.variance
        _, weights, failed = dposv(system, values - mean)
        if not failed:
            break
    else:
        return np.full(len(targets[0]), mean)
    answer: NDArray[np.float64] = (lookup.between(targets, sources) + level) @ weights + mean
    return np.clip(answer, values.min(), values.max())

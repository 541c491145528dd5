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
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodiff.fillers import Fitted, Patch
from geodiff.fillers.calibration import plane_distance
from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.spatial import Laplace, SpatialFiller
from geodiff.fillers.variogram_models import matern_sum
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
_GRAINY, _TOO_GRAINY = 1.5, 2.5
"""How much more than measured neighbours may differ by the table until a sum of Matern covariances begins to take its
place, and has taken it."""
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
        """Kriging where wanted, the harmonic fill of whatever else is missing; (row, column) each.

        `distance` is what `distance_to_known(known)` gives, where it is at hand.
        """
        if np.count_nonzero(known) < _FEWEST:
            return harmonic
        distance = distance_to_known(known) if distance is None else distance
        near = wanted & (distance < _BEYOND)
        plane = _plane(values, known)
        rest, shown = np.where(known, values, harmonic) - plane, known | (distance <= _COMPLETED)
        found = predicted(rest, known, near, covariance(rest, shown)) + plane
        weight = np.where(near, np.clip((_BEYOND - distance) / (_BEYOND - _WITHIN), 0.0, 1.0), 0.0)
        return np.asarray(harmonic + weight * (found - harmonic), np.float32)


def _plane(values: Plane, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The plane of least squares through the known pixels: slopes have no covariance."""
    rows, columns = (np.linspace(-1.0, 1.0, n) for n in known.shape)
    held = known.astype(np.float64)
    kept = values * held
    by_row, by_column, mixed = held.sum(axis=1), held.sum(axis=0), rows @ held @ columns
    first, second = rows @ by_row, columns @ by_column
    products = [[held.sum(), first, second], [first, rows**2 @ by_row, mixed], [second, mixed, columns**2 @ by_column]]
    sums = [kept.sum(), rows @ kept.sum(axis=1), columns @ kept.sum(axis=0)]
    level, down, across = np.linalg.lstsq(np.array(products), np.array(sums), rcond=None)[0]
    return np.asarray(level + down * rows[:, None] + across * columns)


def variogram(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], reach: int = REACH
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the mean squared difference of known pixels, and the pairs it comes from, by lag.

    In float32: what it rounds away is a ten thousandth of what `_FLOOR` adds.

    Returns
    -------
    Two float64 (2 reach, 2 reach), lags in the order of the discrete Fourier transform: 0 to reach - 1, -reach to -1.
    """
    from scipy.fft import fft, next_fast_len, rfft

    shape = next_fast_len(known.shape[0] + reach, real=True), next_fast_len(known.shape[1] + reach, real=True)
    level = np.where(known, values - values[known].mean(dtype=np.float64), 0.0).astype(np.float32)
    count, pairs = _counted(known, shape, reach)
    first, second = fft(rfft(np.stack([level, level * level]), shape[1]), shape[0], axis=1)
    apart = _by_lag((count * second.conj()).real - _power(first), shape[1], reach)
    return np.maximum(apart, 0.0) / np.maximum(pairs, 1.0), pairs


def _by_lag(spectrum: NDArray[np.float32], columns: int, reach: int) -> NDArray[np.float64]:
    """(2 reach, 2 reach) of a spectrum that is its own mirror image, from half of the lags."""
    from scipy.fft import ifft, irfft

    half = irfft(ifft(spectrum, axis=0)[: reach + 1], columns).astype(np.float64)
    lags = np.r_[0:reach, -reach:0]
    return np.concatenate([half[:reach, lags], half[reach:0:-1, -lags]])


def _power(spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    return spectrum.real**2 + spectrum.imag**2


class _Lags(NamedTuple):
    """What is the same for every table of a reach, (2 reach, 2 reach) each."""

    ring: NDArray[np.intp]
    """Length of each lag, rounded."""
    worth: NDArray[np.float64]
    """Pairs that the mean over directions is worth."""
    taper: NDArray[np.float64]


@cache
def _lags(reach: int) -> _Lags:
    lag = np.minimum(np.arange(2 * reach), 2 * reach - np.arange(2 * reach))
    radius = np.hypot(lag[:, None], lag)
    taper = np.where(radius < reach, 0.5 + 0.5 * np.cos(np.pi * radius / reach), 0.0)
    return _Lags(np.rint(radius).astype(np.intp), _PAIRS + _FARTHER * radius**3, taper)


@once_a_mask
def _counted(
    known: NDArray[np.bool_], shape: tuple[int, int], reach: int
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """The spectrum of a mask, and the pairs of known pixels by lag."""
    from scipy.fft import fft, rfft

    count = fft(rfft(known.astype(np.float32), shape[1]), shape[0], axis=0)
    return count, np.maximum(np.rint(_by_lag(_power(count), shape[1], reach)), 0.0)


def covariance(values: NDArray[np.floating[Any]], known: NDArray[np.bool_], reach: int = REACH) -> NDArray[np.float64]:
    """Covariance by lag in the order of `variogram`; not negative definite. 0 everywhere for a constant field.

    (2 reach, 2 reach), 0 at the far end, rare and long lags drawn to the mean over directions. Where clipping its
    spectrum gives a smooth field grain that it does not show, a sum of Matern covariances of the longest lags between
    pixels of one system.
    """
    from scipy.fft import irfft2, rfft2

    measured, pairs = variogram(values, known, reach)
    ring, worth, taper = _lags(reach)
    total = np.bincount(ring.ravel(), (pairs * measured).ravel())
    mean = total / np.maximum(np.bincount(ring.ravel(), pairs.ravel()), 1.0)
    shrunk = (pairs * measured + worth * mean[ring]) / (pairs + worth)
    shrunk[0, 0] = 0.0
    sill = np.quantile(shrunk[taper > 0], 0.95)
    power = rfft2((sill - shrunk) * taper).real
    found: NDArray[np.float64] = irfft2(np.maximum(power, _FLOOR * sill), s=shrunk.shape)
    grain = (2.0 * found[0, 0] - found[0, 1] - found[1, 0]) / max(measured[0, 1] + measured[1, 0], 1e-30)
    smooth = float(min((grain - _GRAINY) / (_TOO_GRAINY - _GRAINY), 1.0))
    if smooth <= 0.0 or sill <= 0.0:
        return found
    size = max(reach, TILE + OVERLAP + 2 * RIM)
    table, here = smooth * matern_sum(measured, pairs, size), np.r_[0:reach, -reach:0]
    table[np.ix_(here, here)] += (1.0 - smooth) * found
    return table


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
    rim = _thinned_rim(known)
    return [(targets, share, _sources(known, rim, targets)) for targets, share in _tiles(wanted)]


class _Lookup:
    """Covariances between places of a field about an unknown mean, from a table by lag."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.variance = float(table[0, 0])
        self._width = 4 * len(table)
        padded = np.zeros((self._width, self._width))  # 0 beyond the table's reach
        half = len(table) // 2
        middle = slice(self._width // 2 - half, self._width // 2 + half)
        padded[middle, middle] = np.fft.fftshift(table)
        self._flat = padded.ravel() + _LEVEL * self.variance

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


def _sources(known: NDArray[np.bool_], rim: NDArray[np.bool_], targets: Places) -> Places:
    """Known pixels that a tile is predicted from: all near its targets, some of the rim farther off."""
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


def _thinned_rim(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One in `THINNED` of the known pixels with a missing neighbour."""
    padded = np.pad(known, 1, constant_values=True)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.ogrid[: known.shape[0], : known.shape[1]]
    return np.asarray(known & ~inner & ((rows + columns) % THINNED == 0), np.bool_)


def _solved(values: NDArray[np.float64], sources: Places, targets: Places, lookup: _Lookup) -> NDArray[np.float64]:
    """Kriging of the targets of one tile from its sources."""
    from scipy.linalg.lapack import dposv  # solve's own, without the condition number, which takes longer

    mean = values.mean()
    if lookup.variance <= 0.0:
        return np.full(len(targets[0]), mean)
    for nugget in _NUGGETS:
        system = lookup.between(sources, sources)
        system[np.diag_indices(len(system))] += nugget * lookup.variance
        _, weights, failed = dposv(system.T, values - mean, overwrite_a=True)  # in place, as it is symmetric
        if not failed:
            break
    else:
        return np.full(len(targets[0]), mean)
    answer: NDArray[np.float64] = lookup.between(targets, sources) @ weights + mean
    return np.clip(answer, values.min(), values.max())

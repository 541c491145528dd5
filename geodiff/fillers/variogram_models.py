"""A covariance of smooth fields from their variogram: a sum of Matern covariances of many lengths.

Between neighbouring pixels of a smooth field (pressure, temperature of the sea) lies a thousandth of its variance, and
to be that of any field at all a variogram measured lag by lag must be changed by more. A sum of covariances is one
(nested structures: Journel and Huijbregts 1978), and its weights can heed each lag in proportion to what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["matern_sum"]

_LENGTHS = 2.0 ** np.arange(9)
"""Pixels: 1 to 256, beyond any window, for what looks like a slope within it."""
_SMOOTHNESS = (0.5, 1.5, 2.5)
_EDGES = np.concatenate([[0.5], np.arange(0.75, 8.0, 0.5), np.geomspace(8.0, 48.0, 14)])
"""Of the classes of lags that are fitted, pixels."""
_FULL = 0.1
"""Share of the pairs of the fullest class with which a class counts in full."""
_NEAR = 4.0
"""Lags, in pixels, that say how much faster the field changes in one direction than in another."""
_FEWEST = 6
"""Of these lags that differ at all, without which there are no directions."""
_ROUNDEST = 25.0
"""Bound on the ratio of the squares of these rates."""


def matern_sum(measured: Numbers, pairs: Numbers, size: int) -> Numbers:
    """Covariance by lag, (2 size, 2 size): the mean of the fits with and without directions.

    Directions that the surroundings of a gap show may be a slope of theirs; half of each has served better than either.

    Parameters
    ----------
    measured, pairs : variogram and what it is from, lags in the order of the discrete Fourier transform.
    size : lags wanted, 0 to size - 1 and -size to -1.
    """
    lags, wanted = _lags(len(measured) // 2), _lags(size)
    shapes = np.eye(2), _directions(measured, pairs, lags)
    fits = [_fitted(measured, pairs, _length(lags, shape), _length(wanted, shape)) for shape in shapes]
    return np.asarray((fits[0] + fits[1]) / 2.0)


def _lags(reach: int) -> Numbers:
    """(row and column, 2 reach, 2 reach), in pixels, signed."""
    signed = np.r_[0:reach, -reach:0].astype(np.float64)
    return np.stack(np.meshgrid(signed, signed, indexing="ij"))


def _length(lags: Numbers, shape: Numbers) -> Numbers:
    """Of each lag where distances are those of an ellipse."""
    return np.asarray(np.sqrt(np.einsum("iyx,ij,jyx->yx", lags, shape, lags)))


def _directions(measured: Numbers, pairs: Numbers, lags: Numbers) -> Numbers:
    """(2, 2) of unit determinant: the ellipse of equal difference, from the shortest lags.

    Differences there grow as a power of the length; of that power they are squares of lengths.
    """
    radius = np.hypot(*lags)
    use = (radius > 0) & (radius <= _NEAR) & (pairs > 0)
    some = use & (measured > 0)
    if np.count_nonzero(some) < _FEWEST:
        return np.eye(2)
    power = np.clip(np.polyfit(np.log(radius[some]), np.log(measured[some]), 1, w=np.sqrt(pairs[some]))[0], 0.3, 2.0)
    (row, column), square = lags[:, use], measured[use] ** (2.0 / power)
    weight = np.sqrt(pairs[use] / pairs[use].max()) / radius[use] ** 2
    design = np.stack([row * row, 2 * row * column, column * column], axis=1)
    down, mixed, across = np.linalg.lstsq(design * weight[:, None], square * weight, rcond=None)[0]
    rates, axes = np.linalg.eigh([[down, mixed], [mixed, across]])
    rates = np.maximum(rates, rates.max() / _ROUNDEST)
    return np.asarray((axes * (rates / np.sqrt(rates.prod()))) @ axes.T)


def _fitted(measured: Numbers, pairs: Numbers, length: Numbers, wanted: Numbers) -> Numbers:
    """Covariance at the wanted lengths; weights that are not negative, of least relative error in the variogram."""
    from scipy.optimize import nnls

    use = (length > 0) & (length < _EDGES[-1]) & (pairs > 0)
    place = np.digitize(length[use], _EDGES)
    sums = np.stack([np.bincount(place, (pairs * what)[use]) for what in (np.ones_like(length), measured, length)])
    count, square, far = sums[:, (sums[0] > 0) & (sums[1] > 0)]
    square, far = square / count, far / count
    each = [(smoothness, scale) for smoothness in _SMOOTHNESS for scale in _LENGTHS]
    columns = [np.ones_like(far), *(1.0 - _matern(far / scale, smoothness) for smoothness, scale in each)]
    weight = np.sqrt(np.minimum(count / (_FULL * count.max()), 1.0)) / square
    (grain, *shares), _ = nnls(np.stack(columns, axis=1) * weight[:, None], square * weight)
    table = np.where(wanted == 0, grain, 0.0)
    for share, (smoothness, scale) in zip(shares, each, strict=True):
        if share > 0:
            table += share * _matern(wanted / scale, smoothness)
    return table


def _matern(distance: Numbers, smoothness: float) -> Numbers:
    """Correlation at distances in lengths, in closed form (Rasmussen and Williams 2006, 4.17)."""
    scaled = np.sqrt(2.0 * smoothness) * distance
    series = {0.5: 1.0, 1.5: 1.0 + scaled, 2.5: 1.0 + scaled + scaled * scaled / 3.0}[smoothness]
    return np.asarray(series * np.exp(-scaled))

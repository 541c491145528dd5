"""The covariance of a plane by lag, measured on its known pixels.

No family of covariances is assumed: the variogram of every lag up to `REACH` pixels is measured (Matheron 1963), by
Fourier transform (Marcotte 1996), and turned into a positive semi-definite covariance by clipping its spectrum. In very
smooth fields clipping would add roughness, and the likeliest Matern covariance is used instead.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geodiff.fillers.masks import once_a_mask
from geodiff.fillers.variogram_models import likeliest_covariance

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["REACH", "Covariances", "covariances", "variogram"]

REACH = 48
"""Pixels over which the variogram is measured, and to which the covariance is tapered."""
_PAIRS, _FARTHER = 200.0, 0.1
"""Number of pairs as which the mean over directions counts at a lag, and its growth with the cube of the lag: distant
pairs are correlated, and their apparent anisotropy would cause streaks."""
_FLOOR = 1e-4
"""Least power of the covariance as a share of the variance; without it, systems of smooth fields are singular."""
_GRAINY, _TOO_GRAINY = 1.5, 2.5
"""Ratio of the table's variogram between neighbours to the measured one from which the likeliest Matern covariance is
mixed in, and from which it is used alone."""
_STEEP, _STEEPEST = (3.1, 3.3), (3.75, 3.85)
"""Ratios of the variogram at two pixels to that at one, 4 for a differentiable field and 2 for a rough one, between
which the likeliest Matern covariance takes over next to data, and between which it takes over everywhere. Photographs
and most satellite images are below 3.1."""


def variogram(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], reach: int = REACH
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the mean squared difference of known pixels by lag, and the number of pairs.

    Computed in float32, whose rounding is a ten thousandth of what `_FLOOR` adds.

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
    """Inverse transform (2 reach, 2 reach) of a symmetric spectrum, from half of the lags."""
    from scipy.fft import ifft, irfft

    half = irfft(ifft(spectrum, axis=0)[: reach + 1], columns).astype(np.float64)
    lags = np.r_[0:reach, -reach:0]
    return np.concatenate([half[:reach, lags], half[reach:0:-1, -lags]])


def _power(spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    return spectrum.real**2 + spectrum.imag**2


class _Lags(NamedTuple):
    """What all tables of a reach have in common, (2 reach, 2 reach) each."""

    ring: NDArray[np.intp]
    """Length of each lag, rounded."""
    worth: NDArray[np.float64]
    """Number of pairs as which the mean over directions counts."""
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
    """The spectrum of the known pixels, and the number of their pairs by lag."""
    from scipy.fft import fft, rfft

    count = fft(rfft(known.astype(np.float32), shape[1]), shape[0], axis=0)
    return count, np.maximum(np.rint(_by_lag(_power(count), shape[1], reach)), 0.0)


class Covariances(NamedTuple):
    """Covariance of a plane by lag, and another one for pixels next to data where the plane is smooth."""

    table: NDArray[np.float64]
    """(2 reach, 2 reach), or larger, in the order of `variogram`; positive semi-definite."""
    close: NDArray[np.float64] | None = None
    """The likeliest Matern covariance, for missing pixels next to known ones; None where it is of no use."""
    share: float = 0.0
    """Weight of the prediction with `close` next to data, 0 to 1."""


def covariances(
    values: NDArray[np.floating[Any]],
    known: NDArray[np.bool_],
    reach: int = REACH,
    span: int = 64,
    seen: NDArray[np.bool_] | None = None,
) -> Covariances:
    """Covariances of a plane by lag; 0 everywhere for a constant field.

    The table is tapered to 0 at the far end, with rare and long lags shrunk to the mean over directions. Where clipping
    the spectrum gives a smooth field grain that it does not have, it is the likeliest Matern covariance, for lags below
    `span`. A plane that is smooth from pixel to pixel and rough over longer lags has that one next to data only.

    Parameters
    ----------
    seen : bool (row, column), the pixels of `known` that are observed and enter the likelihood; None for all of them.
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
    if sill <= 0.0:
        return Covariances(found)
    first = max(measured[0, 1] + measured[1, 0], 1e-30)
    steepness = (measured[0, 2] + measured[2, 0]) / first
    grain = (2.0 * found[0, 0] - found[0, 1] - found[1, 0]) / first
    smooth = max(_ramp(grain, _GRAINY, _TOO_GRAINY), _ramp(steepness, *_STEEPEST))
    beside = _ramp(steepness, *_STEEP) if smooth < 1.0 else 0.0
    if smooth <= 0.0 and beside <= 0.0:
        return Covariances(found)
    size, here = max(reach, span), np.r_[0:reach, -reach:0]
    likeliest = likeliest_covariance(values, known if seen is None else seen, size, refined=smooth > 0.0)
    if likeliest is None:
        return Covariances(found)
    if smooth <= 0.0:
        return Covariances(found, likeliest, beside)
    table = smooth * likeliest
    table[np.ix_(here, here)] += (1.0 - smooth) * found
    return Covariances(table, likeliest if beside > 0.0 else None, beside)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))

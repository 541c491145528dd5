"""Scores of fills: NumPy in, numbers out; arrays may have any shape, and sums run in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.floating[Any]]

__all__ = [
    "Interval",
    "bootstrap_interval",
    "crps_ensemble_field",
    "crps_gaussian",
    "crps_gaussian_field",
    "log_spectral_distance",
    "octave_power",
]


# probability


def crps_ensemble_field(members: Array, truth: Array) -> NDArray[np.float64]:
    """Fair CRPS, shape of `truth`, of independent draws (member, ...) (Ferro 2014): unbiased in the ensemble's size.

    E|X - y| - E|X - X'| / 2 with the second mean over pairs of different members. Not for members that were
    re-centred on their mean: those are not independent. With one member it is the absolute error.
    """
    x, y = np.asarray(members, np.float64), np.asarray(truth, np.float64)
    count = len(x)
    skill: NDArray[np.float64] = np.abs(x - y).mean(axis=0)
    if count < 2:
        return skill
    rank = 2.0 * np.arange(1, count + 1) - count - 1.0
    spread = np.tensordot(rank, np.sort(x, axis=0), 1) * 2.0 / (count * (count - 1))
    return np.asarray(skill - 0.5 * spread)


def crps_gaussian(value: Array, standard_error: Array, truth: Array) -> float:
    """Mean CRPS of N(value, standard_error^2), in closed form (Gneiting and Raftery 2007, eq. 21)."""
    return float(np.mean(crps_gaussian_field(value, standard_error, truth)))


def crps_gaussian_field(value: Array, standard_error: Array, truth: Array) -> NDArray[np.float64]:
    """What `crps_gaussian` averages: the CRPS at every pixel, shape of `truth`; |error| where the width is 0."""
    from scipy.special import ndtr

    error = np.asarray(truth, np.float64) - value
    width = np.asarray(standard_error, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = error / width
        score = width * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * _density(z) - 1.0 / np.sqrt(np.pi))
    return np.where(width > 0, score, np.abs(error))


def _density(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))


# texture


def octave_power(plane: Array) -> list[float]:
    """Radial power of a plane (row, column) by octave, from the finest (1/4-1/2 cycles a pixel) on; sums may be pooled.

    Detrended by a plane and tapered (Hann), so that edges and slopes do not leak. As many octaves as the shorter side
    holds twice.
    """
    rows, columns = plane.shape
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    power = _power(plane)
    octaves = max(1, int(np.log2(min(rows, columns))) - 2)
    bands = [(frequency > 2.0 ** -(k + 2)) & (frequency <= 2.0 ** -(k + 1)) for k in range(octaves)]
    return [float(power[band].sum()) for band in bands]


def log_spectral_distance(power: ArrayLike, expected: ArrayLike) -> float:
    """The decibels by which the octave that is furthest off departs from what was expected, with its sign.

    NaN where no octave of the truth has power; -inf where one that has is empty.
    """
    pairs = zip(np.asarray(power, np.float64), np.asarray(expected, np.float64), strict=True)
    apart = [_decibels(float(p), float(e)) for p, e in pairs if e > 0]
    return max(apart, key=abs) if apart else float("nan")


def _decibels(power: float, expected: float) -> float:
    if expected <= 0:
        return float("nan")
    return float(10.0 * np.log10(power / expected)) if power > 0 else float("-inf")


def _power(plane: Array) -> NDArray[np.float64]:
    rows, columns = plane.shape
    y, x = np.linspace(-1.0, 1.0, rows)[:, None], np.linspace(-1.0, 1.0, columns)[None, :]
    design = np.stack([np.ones(plane.shape), y + 0 * x, x + 0 * y], axis=-1).reshape(-1, 3)
    values = np.asarray(plane, np.float64).ravel()
    level = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    taper = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[None, 1:-1]
    power: NDArray[np.float64] = np.abs(np.fft.rfft2(level.reshape(plane.shape) * taper)) ** 2
    power[:, 1 : (columns + 1) // 2] *= 2.0  # the half of the spectrum that rfft2 leaves out
    return power


# comparison


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval; the ends are NaN where a single scene, or none, says how it varies."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(estimate: float, drawn: ArrayLike, count: int, level: float = 0.95) -> Interval:
    """The interval of an estimate from its bootstrap draws over `count` scenes.

    By expanded percentiles (Hesterberg 2015): as much wider than the plain ones as Student's interval of a mean is than
    the bootstrap's. For 12 scenes plain 95 % intervals hold 89 % of the time, these 93 %; for 4 scenes 80 and 88 %.
    """
    from scipy.special import ndtr, stdtrit

    told = np.asarray(drawn, np.float64)
    told = told[np.isfinite(told)]
    if count < 2 or not told.size:
        return Interval(estimate, float("nan"), float("nan"))
    tail = float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - level) / 2)))
    low, high = np.quantile(told, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))

"""Scores of fills: NumPy in, numbers out.

Arrays may have any shape; `where` keeps the pixels to score. Sums run in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.floating[Any]]

__all__ = [
    "Interval",
    "bias",
    "bootstrap_interval",
    "coverage",
    "crps_ensemble",
    "crps_ensemble_field",
    "crps_gaussian",
    "crps_gaussian_field",
    "log_spectral_distance",
    "mae",
    "octave_power",
    "paired_bootstrap",
    "pit",
    "psnr",
    "r2",
    "rmse",
    "spectral_angle",
    "spectrum_ratio",
    "spread_skill",
    "ssim",
]


# value


def _errors(value: ArrayLike, truth: ArrayLike, where: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    error = np.asarray(value, np.float64) - np.asarray(truth, np.float64)
    return error.ravel() if where is None else error[where]


def mae(value: ArrayLike, truth: ArrayLike, where: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(_errors(value, truth, where))))


def rmse(value: ArrayLike, truth: ArrayLike, where: NDArray[np.bool_] | None = None) -> float:
    """Root mean square error."""
    return float(np.sqrt(np.mean(_errors(value, truth, where) ** 2)))


def bias(value: ArrayLike, truth: ArrayLike, where: NDArray[np.bool_] | None = None) -> float:
    """Mean of value - truth."""
    return float(np.mean(_errors(value, truth, where)))


def r2(value: ArrayLike, truth: ArrayLike, where: NDArray[np.bool_] | None = None) -> float:
    """Coefficient of determination: 1 - residual / total sum of squares; NaN where the truth is constant."""
    error = _errors(value, truth, where)
    departure = _errors(truth, 0.0, where)
    total = float(np.sum((departure - departure.mean()) ** 2))
    return 1.0 - float(np.sum(error**2)) / total if total > 0 else float("nan")


def psnr(value: ArrayLike, truth: ArrayLike, data_range: float, where: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in decibels for a stated range of the data; infinite without any error."""
    error = rmse(value, truth, where)
    return float("inf") if error == 0 else float(20.0 * np.log10(data_range / error))


def ssim(value: Array, truth: Array, data_range: float, where: NDArray[np.bool_] | None = None) -> float:
    """Structural similarity (Wang et al. 2004; Gaussian window, sigma 1.5) of two planes, averaged over `where`."""
    from skimage.metrics import structural_similarity

    index = structural_similarity(  # type: ignore[no-untyped-call]
        np.asarray(value, np.float64),
        np.asarray(truth, np.float64),
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1]
    return float(np.mean(index if where is None else index[where]))


def spectral_angle(value: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Mean angle in degrees between spectra (band, ...); `where` has the shape without bands.

    Pixels where either spectrum is zero have no angle and are left out; NaN where none is left.
    """
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (value, truth))
    if where is not None:
        a, b = a[:, where.ravel()], b[:, where.ravel()]
    length = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    has = length > 0
    cosine = np.clip(np.sum(a * b, axis=0)[has] / length[has], -1.0, 1.0)
    return float(np.degrees(np.mean(np.arccos(cosine)))) if has.any() else float("nan")


# probability


def crps_ensemble(members: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Mean fair CRPS of an ensemble (member, ...) of independent draws (Ferro 2014): unbiased in the ensemble's size.

    E|X - y| - E|X - X'| / 2 with the second mean over pairs of different members. Not for members that were
    re-centred on their mean: those are not independent. With one member it is the absolute error.
    """
    return float(np.mean(_kept(crps_ensemble_field(members, truth), where)))


def crps_ensemble_field(members: Array, truth: Array) -> NDArray[np.float64]:
    """What `crps_ensemble` averages: the fair CRPS at every pixel, shape of `truth`."""
    x, y = np.asarray(members, np.float64), np.asarray(truth, np.float64)
    count = len(x)
    skill: NDArray[np.float64] = np.abs(x - y).mean(axis=0)
    if count < 2:
        return skill
    rank = 2.0 * np.arange(1, count + 1) - count - 1.0
    spread = np.tensordot(rank, np.sort(x, axis=0), 1) * 2.0 / (count * (count - 1))
    return np.asarray(skill - 0.5 * spread)


def crps_gaussian(value: Array, standard_error: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Mean CRPS of N(value, standard_error^2), in closed form (Gneiting and Raftery 2007, eq. 21)."""
    return float(np.mean(_kept(crps_gaussian_field(value, standard_error, truth), where)))


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


def coverage(
    value: Array, standard_error: Array, truth: Array, level: float = 0.9, where: NDArray[np.bool_] | None = None
) -> float:
    """Share of truths inside the central Gaussian interval of that level around the value."""
    from scipy.special import ndtri

    inside = np.abs(_errors(value, truth, where)) <= float(ndtri(0.5 + level / 2)) * _kept(standard_error, where)
    return float(np.mean(inside))


def spread_skill(members: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Ensemble spread over the error of its mean; 1 for a perfect ensemble of any size (Fortin et al. 2014).

    sqrt((N + 1) / N mean variance) / RMSE of the mean; needs two members.
    """
    x = np.asarray(members, np.float64)
    count = len(x)
    variance = float(np.mean(_kept(x.var(axis=0, ddof=1), where)))
    return float(np.sqrt((count + 1) / count * variance)) / rmse(x.mean(axis=0), truth, where)


def pit(value: Array, standard_error: Array, truth: Array, where: NDArray[np.bool_] | None = None) -> Array:
    """Where the truths (pixel,) fall in N(value, standard_error^2), as probabilities; uniform if calibrated."""
    from scipy.special import ndtr

    transforms: Array = ndtr(_errors(truth, value, where) / _kept(standard_error, where))
    return transforms


def _kept(field: ArrayLike, where: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    values = np.asarray(field, np.float64)
    return values.ravel() if where is None else values[where]


# texture


def spectrum_ratio(field: Array, truth: Array) -> list[float]:
    """Radial power of a plane against the truth's, in decibels per octave, from the finest (1/4-1/2 cycles a pixel) on.

    Planes (row, column) are detrended by a plane and tapered (Hann), so that edges and slopes do not leak. As many
    octaves as the shorter side holds twice; NaN where the truth has no power.
    """
    pairs = zip(octave_power(field), octave_power(truth), strict=True)
    return [_decibels(power, expected) for power, expected in pairs]


def octave_power(plane: Array) -> list[float]:
    """Radial power of a plane (row, column) by octave, from the finest (1/4-1/2 cycles a pixel) on; sums may be pooled.

    Detrended and tapered as `spectrum_ratio` says, which compares two of these.
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


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float] | None = None,
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of a comparison of two methods on the same scenes (Efron and Tibshirani 1993).

    Parameters
    ----------
    first, second : (scene,) scores of the two methods, in the same order.
    statistic : what to compare; default the mean of first - second.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise ValueError(f"scores of shapes {a.shape} and {b.shape} are not pairs; give one number a scene for each")
    compare = statistic or (lambda x, y: float(np.mean(x - y)))
    picks = np.random.default_rng(seed).integers(0, a.size, (draws, a.size))
    return bootstrap_interval(compare(a, b), [compare(a[pick], b[pick]) for pick in picks], a.size, level)

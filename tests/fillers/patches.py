"""Fields, stacks of dates with clouds, patches cut from them, and scores, that several test files share."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from geodiff.fillers import Patch
from geodiff.fillers.series import YEAR
from geodiff.lattice import Window

DAY = 86_400
HALO, SIDE = 8, 48


def rmse(value: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((value - truth) ** 2, dtype=np.float64)))


def covered(value: np.ndarray, error: np.ndarray, truth: np.ndarray) -> float:
    """Share of truths in the interval that claims to hold 90 %."""
    return float((np.abs(value - truth) <= 1.645 * error).mean())


def rough(rng: np.random.Generator, shape: tuple[int, ...], exponent: float = 1.0) -> np.ndarray:
    """Fields of power 1/f^(2 exponent) and unit variance."""
    frequency = np.hypot(np.fft.fftfreq(shape[-2])[:, None], np.fft.fftfreq(shape[-1])[None, :])
    frequency[0, 0] = 1.0 / max(shape[-2:])
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) / frequency**exponent).real
    return ((field - field.mean((-2, -1), keepdims=True)) / field.std((-2, -1), keepdims=True)).astype(np.float32)


def blobs(rng: np.random.Generator, shape: tuple[int, ...], share: float, width: float = 3) -> np.ndarray:
    """True in `share` of the pixels, in blobs."""
    smooth = gaussian_filter(rng.normal(size=shape), (0,) * (len(shape) - 2) + (width, width))
    return smooth < np.quantile(smooth, share)


def a_stack(dates: int = 9, seed: int = 0, share: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and known (date, row, column) with blobs missing, and days: a pattern that waxes and wanes, and noise."""
    random = np.random.default_rng(seed)
    size = SIDE + 2 * HALO
    days = np.arange(dates) * 8 + random.integers(0, 3, dates)
    patterns = 8 * gaussian_filter(random.standard_normal((2, size, size)), (0, 4, 4))
    time = np.stack([np.sin(days / 40), np.cos(days / 25)])
    noise = 0.6 * gaussian_filter(random.standard_normal((dates, size, size)), (0, 2, 2))
    values = np.tensordot(time.T, patterns, 1) + time[0][:, None, None] + noise
    blobs = gaussian_filter(random.standard_normal((dates, size, size)), (0, 5, 5))
    known = blobs > np.quantile(blobs, share)
    return values.astype(np.float32), known, days.astype(np.int64) * DAY


def a_patch(values: np.ndarray, known: np.ndarray, dates: np.ndarray, target: int = 4) -> Patch:
    held = known[:, None]
    return Patch(
        values=np.where(held, values[:, None], np.float32(0)),
        known=held,
        fillable=np.ones_like(held),
        coarse=np.zeros(held.shape, np.float32),
        window=Window(0, 0, SIDE, SIDE),
        halo=HALO,
        absolute=(0, 0),
        dates=dates,
        targets=(target,),
    )


def months(count: int, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(month, row, column) that come and go with the year, each place in its own way, and days."""
    rng, days = np.random.default_rng(2), 30.4375 * np.arange(count) + 7_000
    phase, height = rng.uniform(0, 1, (16, 16)), rng.uniform(0.5, 2, (16, 16))
    wave = height * np.cos(2 * np.pi * (days[:, None, None] / YEAR - phase))
    return (wave + noise * rng.normal(size=wave.shape)).astype(np.float32), days

"""The null model of texture: a value, and stationary Gaussian noise that has the spectrum of the value's own residuals.

The noise is conditioned on the data: it is zero where something is known, by simple kriging of the unconditional draw
(Journel and Huijbregts 1978, section VII.A). A generative model that does not beat it on CRPS or spectrum earns
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geodiff.peers import Plane
from geodiff.peers.scattered import points_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.float64]

__all__ = ["NAME", "Null", "Residual", "fit_null", "radial_covariance"]

NAME = "spectral-null"
_REACH = 48
"""Pixels up to which the covariance is measured; beyond it is taken as 0."""
_POINTS = 500
"""Known pixels that the noise is conditioned on."""


@dataclass(frozen=True, slots=True)
class Residual:
    """How a value erred on one plane with hidden pixels."""

    plane: Plane
    error: NDArray[np.float32]
    """value - truth, (row, column); looked at where the plane is wanted."""


def radial_covariance(residuals: Sequence[Residual], reach: int = _REACH) -> Field:
    """Covariance of the residuals at lags 0..reach pixels, (reach + 1,), over pairs of hidden pixels.

    Pairs are counted by FFT; every lag is the mean over the ring of that radius.
    """
    top, pairs = np.zeros((reach + 1) * 4), np.zeros((reach + 1) * 4)
    for residual in residuals:
        where = residual.plane.wanted
        field = np.where(where, residual.error, 0).astype(np.float64)
        lags = _lags(tuple(n + reach for n in where.shape))
        keep = lags <= reach
        ring = np.rint(lags[keep]).astype(np.intp)
        top += np.bincount(ring, _correlated(field, reach)[keep], len(top))
        pairs += np.bincount(ring, _correlated(where.astype(np.float64), reach)[keep], len(pairs))
    top, pairs = top[: reach + 1], pairs[: reach + 1]
    return np.divide(top, pairs, out=np.zeros_like(top), where=pairs > 0.5)


def _lags(shape: tuple[int, ...]) -> Field:
    rows, columns = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    return np.hypot(rows[:, None], columns[None, :])


def _correlated(field: Field, reach: int) -> Field:
    """Autocorrelation sums of a field, padded so that no lag up to `reach` wraps."""
    shape = tuple(n + reach for n in field.shape)
    return np.asarray(np.fft.irfft2(np.abs(np.fft.rfft2(field, shape)) ** 2, shape))


@dataclass(frozen=True, slots=True)
class Null:
    """Stationary Gaussian noise, ready to be drawn around any gap."""

    covariance: Field
    """(lag,) in pixels, a valid one: its spectrum has no negative part."""
    scale: float
    """Factor on the noise by which its conditional variance equals the mean squared residual."""

    def spread(self, plane: Plane) -> NDArray[np.float32]:
        """Standard deviation (row, column) of the conditional noise; 0 where not wanted."""
        out = np.zeros(plane.known.shape, np.float32)
        points, targets = points_around(plane, _POINTS), np.argwhere(plane.wanted)
        reduction = np.zeros(len(targets))
        if len(points):
            cross = self._between(targets, points)
            reduction = np.einsum("ij,ji->i", cross, np.linalg.solve(self._gram(points), cross.T))
        out[plane.wanted] = self.scale * np.sqrt(np.maximum(self.covariance[0] - reduction, 0))
        return out

    def draw(self, plane: Plane, count: int, seed: int) -> NDArray[np.float32]:
        """Independent draws (draw, row, column); 0 where not wanted."""
        drawn = np.zeros((count, *plane.known.shape), np.float32)
        points, targets = points_around(plane, _POINTS), np.argwhere(plane.wanted)
        noise = self._unconditional(plane.known.shape, count, np.random.default_rng(seed))
        at_targets = noise[:, targets[:, 0], targets[:, 1]]
        if len(points):
            weights = np.linalg.solve(self._gram(points), noise[:, points[:, 0], points[:, 1]].T)
            at_targets = at_targets - (self._between(targets, points) @ weights).T
        drawn[:, plane.wanted] = self.scale * at_targets
        return drawn

    def _at(self, lag: Field) -> Field:
        return np.interp(lag, np.arange(len(self.covariance)), self.covariance, right=0.0)

    def _between(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> Field:
        from scipy.spatial.distance import cdist

        return self._at(cdist(first, second))

    def _gram(self, points: NDArray[np.intp]) -> Field:
        """Covariance of the points; the small ridge keeps a smooth one solvable."""
        return self._between(points, points) + 1e-3 * max(float(self.covariance[0]), 1e-12) * np.eye(len(points))

    def _unconditional(self, shape: tuple[int, int], count: int, rng: np.random.Generator) -> Field:
        """Circulant embedding: white noise, filtered to the covariance on a torus that is larger than its range."""
        rows, columns = (n + len(self.covariance) for n in shape)
        power = np.maximum(np.fft.rfft2(self._at(_lags((rows, columns)))).real, 0)
        white = np.fft.rfft2(rng.standard_normal((count, rows, columns)))
        field = np.fft.irfft2(white * np.sqrt(power), (rows, columns))
        return np.asarray(field[:, : shape[0], : shape[1]])


def fit_null(residuals: Sequence[Residual]) -> Null:
    """Learn the noise from residuals that are not those it will be judged on."""
    covariance = _valid(radial_covariance(residuals))
    plain = Null(covariance, 1.0)
    squares = sum(float((r.error[r.plane.wanted].astype(np.float64) ** 2).sum()) for r in residuals)
    claimed = sum(float((plain.spread(r.plane)[r.plane.wanted].astype(np.float64) ** 2).sum()) for r in residuals)
    return Null(covariance, float(np.sqrt(squares / claimed)) if claimed > 0 else 1.0)


def _valid(covariance: Field) -> Field:
    """The nearest covariance without negative power: tapered to 0 at its reach, its spectrum clipped."""
    reach = len(covariance) - 1
    lags = _lags((4 * reach, 4 * reach))
    tapered = np.interp(
        lags, np.arange(reach + 1), covariance * np.cos(np.linspace(0, np.pi / 2, reach + 1)), right=0.0
    )
    power = np.maximum(np.fft.rfft2(tapered).real, 0)
    clean = np.fft.irfft2(power, lags.shape)
    return np.asarray(clean[0, : reach + 1])

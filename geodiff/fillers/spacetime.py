"""Relaxation coupled along time: the Gaussian Markov field whose neighbours are four in space and two in time.

The field is what remains of the stack after each date's mean over the window and each pixel's
mean over the dates. Its missing pixels minimise the squared differences to their neighbours, those along time
weighted by the coupling over the days between. Solved by conjugate gradients with the diagonal as preconditioner
(Hestenes and Stiefel 1952).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers.series import Series, interpolated, spacing, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["relaxed_in_time"]

_STEPS = 30
_TOLERANCE = 1e-6
"""Squared residual, as a share of the first one, at which the iteration stops."""


def relaxed_in_time(series: Series, coupling: float) -> NDArray[np.float32]:
    """(row, column): the target date, known pixels as they are.

    Parameters
    ----------
    coupling : weight of the difference to the next date, at the median step between dates; 1 is that of a neighbour
        in space.
    """
    start = _start(series)
    background = start.mean(axis=0, keepdims=True)
    background = background + (start - background).mean(axis=(1, 2), keepdims=True)
    weights = (coupling / spacing(series.days)).astype(np.float32)
    field = _solve(start - background, ~series.known, weights)
    target: NDArray[np.float32] = (field + background)[series.target]
    return np.where(series.known[series.target], series.values[series.target], target)


def _start(series: Series) -> Planes:
    """Every date filled linearly in time, what its known pixels depart from that spread into its gaps."""
    trend = interpolated(series, range(len(series.days)))
    defined = np.isfinite(trend)
    trend = np.where(defined, trend, spread(np.where(defined, trend, np.float32(0)), defined))
    departure = np.where(series.known, series.values - trend, np.float32(0))
    return np.where(series.known, series.values, trend + spread(departure, series.known))


def _solve(u: Planes, missing: NDArray[np.bool_], weights: NDArray[np.float32]) -> Planes:
    """Minimise over the missing pixels, starting at u."""
    free = missing.astype(np.float32)
    step = _jacobi(u.shape, weights)
    u = u.copy()
    residual = _differences(u, weights) * free
    direction = residual * step
    product = first = float(np.vdot(residual, direction))
    for _ in range(_STEPS):
        if product <= _TOLERANCE * first or product <= 0.0:
            break
        image = _differences(direction, weights) * free
        length = np.float32(-product / float(np.vdot(direction, image)))
        u += length * direction
        residual += length * image
        scaled = residual * step
        product, before = float(np.vdot(residual, scaled)), product
        direction *= np.float32(product / before)
        direction += scaled
    return u


def _differences(u: Planes, weights: NDArray[np.float32]) -> Planes:
    """Weighted sum over the neighbours of (neighbour - u), (date, row, column)."""
    total = np.zeros_like(u)
    for axis in (1, 2):
        _add(total, np.diff(u, axis=axis), axis)
    _add(total, np.diff(u, axis=0) * weights[:, None, None], 0)
    return total


def _add(total: Planes, difference: Planes, axis: int) -> None:
    ahead = [slice(None)] * 3
    behind = [slice(None)] * 3
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    total[tuple(ahead)] -= difference
    total[tuple(behind)] += difference


def _jacobi(shape: tuple[int, ...], weights: NDArray[np.float32]) -> Planes:
    """One over the diagonal of each date; that of the frame's pixels is taken as any other's."""
    diagonal = np.full(shape[0], 4.0, np.float32)
    diagonal[1:] += weights
    diagonal[:-1] += weights
    return (np.float32(1) / diagonal)[:, None, None]

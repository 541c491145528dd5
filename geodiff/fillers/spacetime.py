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
_FRAME = (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])
"""Where pixels have other neighbours than those within."""
_TOLERANCE = 1e-4
"""Squared residual, as a share of the first one, at which the iteration stops: with 1e-6 errors are the same."""


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
    start = interpolated(series, range(len(series.days)))
    defined = np.isfinite(start)
    if not defined.all():
        start = np.where(defined, start, spread(np.where(defined, start, np.float32(0)), defined))
    start += spread(np.where(series.known, series.values - start, np.float32(0)), series.known)
    np.copyto(start, series.values, where=series.known)
    return start


def _solve(u: Planes, missing: NDArray[np.bool_], weights: NDArray[np.float32]) -> Planes:
    """Minimise over the missing pixels, starting at u. Date by date, because a plane or two fit into a core's cache."""
    free, step, degree = missing.astype(np.float32), _jacobi(u.shape, weights), _degree(u.shape, weights)
    u, dates, (rows, columns) = u.copy(), range(len(u)), u.shape[1:]
    image, part = np.empty_like(u), np.empty_like(u[0])

    def differences(of: Planes) -> None:
        """Weighted sum over the neighbours of (neighbour - pixel) at the missing pixels, into `image`."""
        for date in dates:
            total, plane = image[date], of[date]
            np.multiply(plane, degree[date, rows // 2, columns // 2], out=total)
            for side in _FRAME:
                np.multiply(plane[side], degree[date][side], out=total[side])
            total[1:] += plane[:-1]
            total[:-1] += plane[1:]
            total[:, 1:] += plane[:, :-1]
            total[:, :-1] += plane[:, 1:]
            for other, between in ((date - 1, date - 1), (date + 1, date)):
                if 0 <= other < len(of):
                    total += np.multiply(of[other], weights[between], out=part)
            total *= free[date]

    differences(u)
    residual = image.copy()
    direction = residual * step
    product = first = float(np.vdot(residual, direction))
    for _ in range(_STEPS):
        if product <= _TOLERANCE * first or product <= 0.0:
            break
        differences(direction)
        length, before, product = np.float32(-product / float(np.vdot(direction, image))), product, 0.0
        for date in dates:
            u[date] += np.multiply(direction[date], length, out=part)
            residual[date] += np.multiply(image[date], length, out=part)
            np.multiply(residual[date], step[date], out=image[date])
            product += float(np.vdot(residual[date], image[date]))
        for date in dates:
            direction[date] *= np.float32(product / before)
            direction[date] += image[date]
    return u


def _degree(shape: tuple[int, ...], weights: NDArray[np.float32]) -> Planes:
    """Less the sum of the weights of each pixel's neighbours."""
    dates, rows, columns = (np.zeros(n, np.float32) for n in shape)
    for line, weight in ((dates, weights), (rows, np.float32(1)), (columns, np.float32(1))):
        line[1:] += weight
        line[:-1] += weight
    return -(dates[:, None, None] + rows[:, None] + columns)


def _jacobi(shape: tuple[int, ...], weights: NDArray[np.float32]) -> Planes:
    """One over the diagonal of each date; that of the frame's pixels is taken as any other's."""
    diagonal = np.full(shape[0], 4.0, np.float32)
    diagonal[1:] += weights
    diagonal[:-1] += weights
    return (np.float32(1) / diagonal)[:, None, None]

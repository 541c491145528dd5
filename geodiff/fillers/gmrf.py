"""Kriging on a lattice: the Gaussian Markov field of the SPDE (kappa^2 - Laplacian)^(alpha/2) x = white noise.

Lindgren, Rue and Lindstroem (2011). The field of unit variance is observed with a nugget at known pixels; the sparse
system covers the gaps and a ring of known pixels around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.noise import ground_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Kriged", "MaternField", "domain", "krige"]

_LEAST_NUGGET = 1e-4
"""Below it the system is close to singular in float64 for rough fields; it is not seen in a fill."""
RING = 4
"""Known pixels around a gap that take part; farther ones are screened by them (8 changes the RMSE by 0.1 %)."""
_PROBES = 12
_SMOOTH = 3


@dataclass(frozen=True, slots=True)
class MaternField:
    """Hyper-parameters of the field, in pixels and shares of its variance."""

    alpha: int
    """Smoothness: 2 gives a Matern field with nu = 1, 1 the rougher one with nu = 0."""
    kappa2: float
    """Square of the inverse range; correlation dies out at about sqrt(8 nu) / kappa pixels."""
    nugget: float
    """Variance of what does not belong to the field, as a share of the field's."""

    @property
    def variance(self) -> float:
        """Variance of the field that unscaled white noise drives on the lattice."""
        if self.alpha == 2:
            return 1.0 / (4.0 * math.pi * self.kappa2)
        return math.log(1.0 + 32.0 / self.kappa2) / (4.0 * math.pi)


def domain(missing: NDArray[np.bool_], wanted: NDArray[np.bool_], reach: int | None = None) -> NDArray[np.bool_]:
    """The pixels of a plane that take part: gaps with their ring, where connected to a wanted pixel.

    With a `reach`, none that is farther than that from a wanted pixel, along rows or columns: a large gap is cut off.
    """
    from scipy.ndimage import label, maximum_filter

    near: NDArray[np.bool_] = maximum_filter(missing, size=2 * RING + 1, mode="constant", cval=False)
    if reach is not None:
        near &= maximum_filter(wanted, size=2 * reach + 1, mode="constant", cval=False)
    labels, _ = label(near)
    return np.isin(labels, np.unique(labels[wanted])) & near


def krige(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], inside: NDArray[np.bool_], model: MaternField
) -> Kriged:
    """Condition the field on known pixels.

    Parameters
    ----------
    values : (plane, row, column) planes that share one `known`, less their trend.
    known, inside : bool (row, column); `inside` as `domain` gives it.
    """
    across, down = inside[:, 1:] & inside[:, :-1], inside[1:] & inside[:-1]
    gradient = _gradient(inside, across, down)
    root = _root(gradient, model)
    observed = known[inside] / max(model.nugget, _LEAST_NUGGET)
    solve = _factorised(root.T @ root, observed)
    mean = np.zeros(values.shape)
    mean[:, inside] = solve(np.ascontiguousarray((values[:, inside] * observed).T)).T
    return Kriged(mean, inside, root, observed, solve)


@dataclass(frozen=True, slots=True)
class Kriged:
    """A field conditioned on known pixels."""

    mean: NDArray[np.float64]
    """(plane, row, column), 0 outside the domain."""
    inside: NDArray[np.bool_]
    root: Any
    """R with precision of the field = R'R, sparse."""
    observed: NDArray[np.float64]
    """Precision of the observation of each pixel of the domain; 0 where missing."""
    solve: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def deviation(self, origin: tuple[int, int], probes: int = _PROBES) -> NDArray[np.float64]:
        """Conditional standard deviation (row, column) of a field of unit variance, from draws of the posterior.

        A draw solves P x = R'z + sqrt(observed) w with white z and w, so that x has covariance P^-1 (Papandreou and
        Yuille 2010); squares are averaged over draws and the missing pixels among 3 x 3. `origin` places the noise
        on the ground. 0 where known.
        """
        draws = self.solve(np.stack([self._probe(origin, k) for k in range(probes)], axis=1))
        square = np.zeros(self.inside.shape)
        square[self.inside] = (draws**2).mean(axis=1)
        missing = np.zeros(self.inside.shape, bool)
        missing[self.inside] = self.observed == 0
        return np.sqrt(np.clip(_smoothed(square, missing), 0.0, 1.0))

    def _probe(self, origin: tuple[int, int], k: int) -> NDArray[np.float64]:
        """R'z + sqrt(observed) w: one number a pixel, and for alpha 1 one an edge, each at its place on the ground."""
        (row, column), inside = origin, self.inside

        def white(step: int) -> NDArray[np.float64]:
            return ground_noise(inside.shape, row=row, column=column, seed=0, member=k, step=step).astype(np.float64)

        z, w = white(0)[inside], white(1)
        if self.root.shape[0] > z.size:
            across, down = white(2)[:, :-1], white(3)[:-1]
            z = np.concatenate([z, across[inside[:, 1:] & inside[:, :-1]], down[inside[1:] & inside[:-1]]])
        drawn: NDArray[np.float64] = self.root.T @ z + np.sqrt(self.observed) * w[inside]
        return drawn


def _gradient(inside: NDArray[np.bool_], across: NDArray[np.bool_], down: NDArray[np.bool_]) -> Any:
    """Differences over the edges of the domain, sparse (edge, pixel): no edge, no flux."""
    from scipy.sparse import csr_matrix

    index = np.cumsum(inside.ravel()).reshape(inside.shape) - 1
    first = np.concatenate([index[:, :-1][across], index[:-1][down]])
    second = np.concatenate([index[:, 1:][across], index[1:][down]])
    edge, ones = np.arange(first.size), np.ones(first.size)
    shape = (first.size, int(inside.sum()))
    return csr_matrix((np.concatenate([ones, -ones]), (np.tile(edge, 2), np.concatenate([first, second]))), shape=shape)


def _root(gradient: Any, model: MaternField) -> Any:
    """R with R'R the precision of the field of unit variance: kappa^2 - Laplacian itself for alpha 2."""
    from scipy.sparse import identity, vstack

    unit, scale = identity(gradient.shape[1], format="csr"), math.sqrt(model.variance)
    if model.alpha == 2:
        return (model.kappa2 * unit + gradient.T @ gradient) * scale
    return vstack([math.sqrt(model.kappa2) * unit, gradient], format="csr") * scale


def _factorised(precision: Any, observed: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """The solver of (precision + diag(observed)) x = b; symmetric ordering halves the fill-in of the general one."""
    from scipy.sparse import diags
    from scipy.sparse.linalg import splu

    system = (precision + diags(observed)).tocsc()
    factors = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solve: Callable[[NDArray[np.float64]], NDArray[np.float64]] = factors.solve
    return solve


def _smoothed(field: NDArray[np.float64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means over those pixels among 3 x 3; 0 elsewhere."""
    from scipy.ndimage import uniform_filter

    share = uniform_filter(where.astype(np.float64), _SMOOTH, mode="constant")
    mean: NDArray[np.float64] = uniform_filter(field * where, _SMOOTH, mode="constant") / np.maximum(share, 1e-3)
    return np.where(where, mean, 0.0)

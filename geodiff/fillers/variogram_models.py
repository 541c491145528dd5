"""Covariance of a smooth field by likelihood: a Matern covariance with smoothness, length, grain and anisotropy.

The variogram of a smooth field says little about what matters in a gap, which is how small differences continue. The
likelihood of groups of known pixels, some neighbouring and some far apart (composite likelihood: Varin, Reid and Firth
2011), weights each lag by its information (Stein 1999, chapter 6). Slopes of a group are excluded (restricted
likelihood).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["likeliest_covariance"]

_GROUPS, _NEAR, _FAR = 16, 32, 32
"""Groups of known pixels, and pixels in each: the nearest to a place, and some of those around."""
_REACH = 40
"""Rows and columns to either side of a place from which its group is taken, if there are enough."""
_GOLDEN = 0.6180339887498949
"""Step from the place of one group to the next, as a share of all known pixels: places are spread over the patch."""
_SLOPES, _SLOPE = 100.0, 20.0
"""Prior variance of a group's level, in variances of the field, and pixels over which its slope contributes as much."""
_SMOOTHNESS = (0.5, 1.0, 1.5, 2.5, 3.5)
_LENGTHS, _GRAINS = np.log([5.0, 15.0, 50.0, 150.0]), np.log([1e-6, 1e-3])
"""Starting points of the search."""
_STEPS = np.diag([0.5, 1.5, 0.2, 0.2])
_LEAST, _GREATEST = np.array([0.0, -16.0, -0.8, -0.8]), np.array([6.0, 0.0, 0.8, 0.8])
"""Bounds on the logarithms of length, grain and anisotropy: lengths may differ up to five times by direction."""
_SEARCHED, _TURNS = 2, 45
"""Number of smoothnesses that are searched from their best starting point, and evaluations for each."""
_BELOW = np.tril_indices(_NEAR + _FAR)
"""First and second point of each pair of a group."""
_LARGE = 1e60
"""More than any sum of squares."""
_IMPOSSIBLE = 1e12
"""Loss of parameters whose system cannot be solved."""


class _Model(NamedTuple):
    """A Matern covariance of unit variance."""

    smoothness: float
    numbers: Numbers
    """(4,) logarithms of length, grain and the two components of the anisotropy."""

    @property
    def grain(self) -> float:
        """Variance of pixel noise, in variances of the field."""
        return float(np.exp(self.bounded[1]))

    @property
    def bounded(self) -> Numbers:
        return np.clip(self.numbers, _LEAST, _GREATEST)

    def correlation(self, down: Numbers, across: Numbers) -> Numbers:
        """Correlation at lags in pixels, without the grain."""
        length, _, axis, diagonal = self.bounded.tolist()
        rates, axes = np.linalg.eigh([[axis, diagonal], [diagonal, -axis]])
        (rows, mixed), (_, columns) = (axes * np.exp(2.0 * (rates - length))) @ axes.T
        square = rows * down * down + 2.0 * mixed * down * across + columns * across * across
        scaled = np.sqrt(2.0 * self.smoothness * np.maximum(square, 0.0))
        return _matern(scaled, self.smoothness)


def _matern(scaled: Numbers, smoothness: float) -> Numbers:
    """Closed form (Rasmussen and Williams 2006, 4.14); `scaled` are distances times sqrt(2 smoothness)."""
    from scipy.special import k1

    if smoothness == 1.0:
        above = np.maximum(scaled, 1e-8)
        return np.asarray(above * k1(above))
    third, fourth = {0.5: (0.0, 0.0), 1.5: (0.0, 0.0), 2.5: (1 / 3, 0.0), 3.5: (0.4, 1 / 15)}[smoothness]
    series = 1.0 if smoothness == 0.5 else 1.0 + scaled * (1.0 + scaled * (third + scaled * fourth))
    return np.asarray(series * np.exp(-scaled))


class _Groups(NamedTuple):
    """Known pixels (group, point) whose joint likelihoods are multiplied."""

    down: Numbers
    """(group, pair) row differences of the pairs `_BELOW`, the only ones that a factorisation uses."""
    across: Numbers
    level: Numbers
    """(group, point) less their mean."""
    slopes: Numbers
    """(group, pair) covariance of level and slope."""

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]], known: NDArray[np.bool_]) -> _Groups:
        """Groups all over a plane of which at least `_NEAR + _FAR` pixels are known."""
        places = np.argwhere(known)
        numbers = [int(len(places) * ((k + 0.5) * _GOLDEN % 1.0)) for k in range(_GROUPS)]
        point = np.stack([_group(places, known, number) for number in numbers])
        level = values[point[..., 0], point[..., 1]].astype(np.float64)
        first, second = (point[:, one].astype(np.float64) for one in _BELOW)
        middle = point.mean(axis=1, keepdims=True)
        slopes = _SLOPES * (1.0 + ((first - middle) * (second - middle)).sum(axis=2) / _SLOPE**2)
        down, across = np.moveaxis(first - second, 2, 0)
        return cls(down, across, level - level.mean(axis=1, keepdims=True), slopes)

    def some(self, step: int) -> _Groups:
        """Every `step`-th group."""
        return _Groups(*(part[::step] for part in self))

    def loss(self, model: _Model) -> tuple[float, float]:
        """Twice the negative log likelihood, and the variance that minimises it."""
        count, size = self.level.shape
        system, place = np.zeros((count, size + 1, size + 1)), np.arange(size)
        system[:, *_BELOW] = model.correlation(self.down, self.across) + self.slopes
        system[:, place, place] += model.grain
        system[:, size, :size], system[:, size, size] = self.level, _LARGE
        try:
            factor = np.linalg.cholesky(system)  # its last row is what solving for the level would give
        except np.linalg.LinAlgError:
            return _IMPOSSIBLE, 1.0
        white = factor[:, size, :size]
        logarithms = 2.0 * float(np.log(factor[:, place, place]).sum())
        variance = max(float(np.mean(white**2)), 1e-30)
        return white.size * float(np.log(variance)) + logarithms, variance


def _group(places: NDArray[np.intp], known: NDArray[np.bool_], centre: int) -> NDArray[np.intp]:
    """Row and column (point, 2) of the known pixels nearest to the `centre`-th one, and of some around it."""
    row, column = places[centre].tolist()
    top, left = max(row - _REACH, 0), max(column - _REACH, 0)
    around = np.argwhere(known[top : row + _REACH + 1, left : column + _REACH + 1]) + np.array([top, left])
    if len(around) < _NEAR + _FAR:
        around = places
    order = np.argsort(((around - (row, column)) ** 2).sum(axis=1), kind="stable")
    rest = order[_NEAR:]
    far = rest[np.arange(_FAR) * len(rest) // _FAR]
    return np.asarray(around[np.concatenate([order[:_NEAR], far])])


def likeliest_covariance(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], size: int, *, refined: bool = True
) -> NDArray[np.float64] | None:
    """Covariance by lag, (2 size, 2 size) in the order of the discrete Fourier transform, with the grain at lag 0.

    None where too few pixels are known, or where all have the same value.

    Parameters
    ----------
    values, known : (row, column); `values` without a trend.
    refined : whether to search beyond the starting points; without, by a quarter of the groups, in a tenth of the time.
    """
    if np.count_nonzero(known) < _NEAR + _FAR or np.ptp(values[known]) == 0:
        return None
    groups = _Groups.of(values, known)
    model = _searched(groups, refined=refined)
    signed = np.r_[0:size, -size:0].astype(np.float64)
    table = model.correlation(signed[:, None], signed)
    table[0, 0] += model.grain
    return table * groups.loss(model)[1]


def _searched(groups: _Groups, *, refined: bool = True) -> _Model:
    """The likeliest model: the best smoothnesses by a grid of starting points, then refined by Nelder-Mead."""
    from scipy.optimize import minimize

    begun, some = [], groups.some(2 if refined else 4)
    for smoothness in _SMOOTHNESS:
        tried = [_Model(smoothness, np.array([length, grain, 0.0, 0.0])) for length in _LENGTHS for grain in _GRAINS]
        losses = [some.loss(model)[0] for model in tried]
        begun.append((min(losses), smoothness, tried[int(np.argmin(losses))]))
    begun.sort(key=lambda one: one[:2])
    if not refined:
        return begun[0][2]
    found = []
    for _, smoothness, start in begun[:_SEARCHED]:
        corners = start.numbers + np.concatenate([np.zeros((1, 4)), _STEPS])
        answer = minimize(
            lambda numbers, smoothness=smoothness: groups.loss(_Model(smoothness, numbers))[0],
            start.numbers,
            method="Nelder-Mead",
            options={"maxfev": _TURNS, "initial_simplex": corners},
        )
        found.append((float(answer.fun), smoothness, _Model(smoothness, answer.x)))
    return min(found, key=lambda one: one[:2])[2]

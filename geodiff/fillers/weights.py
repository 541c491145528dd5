"""Convex weights of stacked fillers: from moments of their errors to fields over a patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.fillers.calibration import DISTANCES, STRATA, patch_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.fillers import Patch

__all__ = [
    "DEFAULT_WEIGHTS",
    "FEW_DATES",
    "Moments",
    "convex_weights",
    "default_weights",
    "lost_weights",
    "patch_weights",
    "simplex_minimum",
    "sole_or_mixed",
    "weights_by_stratum",
]

DEFAULT_WEIGHTS: Mapping[str, float | tuple[float, ...]] = {
    "laplace": 0.05,
    "kriging": 0.1,
    "nonlocal": (0.35, 0.2, 0.1, 0.0, 0.0),
    "diffusion": 0.85,
    "linear-time": 1.0,
    "spacetime": 1.0,
    "regression": 4.0,
}
"""Weights for scenes without trials, rescaled to the parts at hand; good on average over scenes of other places. One
per distance class for a part that helps near data only."""
LEAST = 0.02
"""Weights below this are set to zero: they are not worth the part's running time."""
SPARED = 1.004
"""A part is left out if the mean squared error without it is less than this many times that with it."""
_CROWD = 1000.0
"""Number of pixels as which the pooled moments count in each stratum."""
_PRIOR = 50.0
"""Number of independent pixels as which the default weights count."""
_LEAST_ERROR = 1e-3
_TOLERATED = 1.01**2
_ENOUGH = 0.6
_HEARD = 0.4
"""Trust up to which no part with a default weight is left out; reached with about 3,300 hidden pixels."""
_THINNING = 100.0
_PER_TRIAL = 10.0
_DISTINCT = 25.0
"""Hidden pixels per independent one in the test of whether the default weights suit this kind of scene."""
_ORDINARY = 3.0
"""Prior odds that they do."""
FEW_DATES = 5
"""Most dates with data for a stack to count as one of few dates. Its trials hide pixels near data, or pixels that no
other date knows."""
_DEEP = (0.0, 0.0, 1 / 3, 2 / 3, 2 / 3)
"""Share of the stored weights in such a stack, by distance class."""
_GAIN = 0.95
"""Squared error of a mixture, as a share of that of optimal interpolation alone, below which the mixture is used."""
_FOLDS = (0, 1)
"""Halves of the trials: a mixture learnt from one is evaluated on the other."""
_KNOWN_LAST = STRATA - 2 * DISTANCES
"""First row of the pixels known on some date, but on none within 15 days; pixels far in time take these rows."""
_CAUTIOUS = ("regression", "linear-time")
"""The part, the first of these at hand, to which the weights for lost dates are shrunk where few such dates were tried.
The regression has chosen its predictor by many dates, and is itself shrunk to linear interpolation."""
_CAUTION = 1.0
"""Number of lost dates as which that part counts."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums of products of the parts' errors by stratum."""

    products: NDArray[np.float64]
    """(20, part, part)."""
    counts: NDArray[np.float64]
    """(20,) pixels."""
    trials: int

    @classmethod
    def of(cls, errors: NDArray[np.floating[Any]], stratum: NDArray[np.integer[Any]], trials: int) -> Moments:
        """Moments of errors (part, pixel) with the stratum of each pixel and the number of trials they come from."""
        parts = errors.shape[0]
        products, counts = np.zeros((STRATA, parts, parts)), np.zeros(STRATA)
        for s in np.unique(stratum):
            own = errors[:, stratum == s].astype(np.float64)
            products[s], counts[s] = own @ own.T, own.shape[1]
        return cls(products, counts, trials)

    @classmethod
    def of_trials(
        cls, errors: Sequence[NDArray[np.floating[Any]]], strata: Sequence[NDArray[np.integer[Any]]]
    ) -> Moments:
        """Moments of each trial's errors (part, pixel), divided by the square root of the trial's typical error.

        Dates differ in difficulty. Without the division the hardest dates would determine the weights; with errors
        divided by the typical error itself, the easiest would. The typical error is that of the median part.
        """
        typical = [np.median(np.square(e, dtype=np.float64).mean(axis=1)) if e.size else 1.0 for e in errors]
        scaled = [e / max(float(t) ** 0.25, _LEAST_ERROR) for e, t in zip(errors, typical, strict=True)]
        return cls.of(np.concatenate(scaled, axis=1), np.concatenate(strata), len(errors))

    def evened(self) -> Moments:
        """The moments with each stratum in units of its own typical error, that of the median part.

        Errors deep in gaps are many times those near data, so that a few pixels there would otherwise determine which
        parts are kept.
        """
        level = np.median(np.diagonal(self.products, axis1=1, axis2=2), axis=1) / np.maximum(self.counts, 1.0)
        return replace(self, products=self.products / np.maximum(level, _LEAST_ERROR**2)[:, None, None])

    @property
    def trust(self) -> float:
        """Share of the measured weights, 0 to 1, in a scene of the usual kind; the defaults have the rest.

        Errors within a gap are correlated, and those within a trial partly so: pixels are thinned, and what a trial
        contributes is bounded.
        """
        independent = self._independent(_THINNING)
        return independent / (independent + _PRIOR)

    def trust_beside(self, defaults: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same by stratum (20,), up to 1 where the scene is of another kind than those the defaults come from.

        The default weights (20, part) come from ordinary optical scenes, and a few pixels are enough to show that, say,
        a smooth weather field is none. The posterior odds are the prior odds times the likelihood ratio for Gaussian
        errors of independent pixels, less the gain that so many free weights have by chance (Wilks 1938). They apply at
        distances at which pixels were hidden and beyond, within the classes that have hidden pixels at all.
        """
        free = 0.5 * (defaults.shape[1] - 1)
        least = self.squared_error(_by_stratum(self.products, float(self.counts.sum())))
        worse = max(self.squared_error(_normalised(defaults)), 1e-30) / max(least, 1e-30)
        odds = 0.5 * self._independent(_DISTINCT) * np.log(worse) - free - np.log(_ORDINARY)
        another = 1.0 / (1.0 + np.exp(-np.clip(odds, -50.0, 50.0)))
        counts = np.maximum.accumulate(self.counts.reshape(-1, DISTANCES), axis=1).ravel()
        return np.asarray(self.trust + (1.0 - self.trust) * another * counts / (counts + _DISTINCT))

    def _independent(self, thinning: float) -> float:
        return min(float(self.counts.sum()) / thinning, self.trials * _PER_TRIAL)

    def squared_error(self, table: NDArray[np.float64]) -> float:
        """Sum of squared errors of the stack with weights (20, part)."""
        return float(np.einsum("sp,spq,sq->", table, self.products, table))


def convex_weights(moments: Moments, defaults: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (20, part), non-negative and of sum 1 in each row, that minimise the squared error.

    `defaults` are (20, part). Dispensable parts are left out, later ones first, so list them from cheap to expensive.
    Where the RMSE of the result is more than 1 % above that of the best single part, that part gets all the weight,
    unless so few pixels were hidden that the defaults count about as much as they do.
    """
    if not moments.counts.any():
        return _normalised(defaults)
    moments = moments.evened()
    trust = moments.trust_beside(defaults)
    kept = _needed(moments, defaults, trust)
    table = _table(moments, kept, defaults, trust)
    single = np.tile(np.eye(defaults.shape[1])[_best(moments)], (STRATA, 1))
    worse = moments.squared_error(table) > _TOLERATED * moments.squared_error(single)
    return single if worse and _typical(trust, moments) > _ENOUGH else table


def weights_by_stratum(
    names: Sequence[str],
    temporal: Sequence[int],
    errors: Sequence[NDArray[np.floating[Any]]],
    strata: Sequence[NDArray[np.integer[Any]]],
    *,
    few: bool = False,
) -> NDArray[np.float64]:
    """Weights (20 or 30, part) from each trial's errors (part, pixel) and strata.

    Pixels that no other date knows are treated apart: parts that use the pixel's other dates get no weight there, and
    errors there do not affect the weights elsewhere. So are pixels far in time, if `strata` has any; their weights are
    shrunk to those of the other pixels.

    Parameters
    ----------
    temporal : indices of the parts that use the pixel itself on other dates.
    few : whether few dates have data; weights deep in gaps are then shrunk to the default ones.
    """
    defaults = default_weights(names)
    if not temporal:
        return convex_weights(Moments.of_trials(errors, strata), defaults)
    never = [(stratum >= STRATA - DISTANCES) & (stratum < STRATA) for stratum in strata]
    far = [stratum >= STRATA for stratum in strata]
    spatial = np.setdiff1d(np.arange(len(names)), temporal)
    near = [stratum < STRATA - DISTANCES for stratum in strata]
    table = convex_weights(_moments_where(near, errors, strata), defaults)
    farther = _far_weights(far, errors, strata, table)
    if spatial.size:
        alone = _moments_where(never, [e[spatial] for e in errors], strata)
        own = convex_weights(alone, default_weights([names[i] for i in spatial]))
        table[-DISTANCES:] = 0.0
        table[-DISTANCES:, spatial] = own[-DISTANCES:]
    return np.concatenate([_steadied(table, defaults, temporal) if few else table, farther])


def _steadied(
    table: NDArray[np.float64], defaults: NDArray[np.float64], temporal: Sequence[int]
) -> NDArray[np.float64]:
    """Weights (20, part) that pass into the default ones deep in gaps, which trials of few dates rarely reach.

    A pixel that no other date knows may be far from the known pixels of its own date and still near those of others.
    There, the default share goes to the parts that use other dates, which interpolate between the two.
    """
    stored = _normalised(defaults)
    told = np.zeros(table.shape[1])
    told[list(temporal)] = 1.0
    stored[-DISTANCES:] = _normalised(defaults[-DISTANCES:] * told)
    share = np.tile(_DEEP, STRATA // DISTANCES)[:, None]
    rows = (1.0 - share) * table + share * stored
    rows[(rows < LEAST) & (share > 0)] = 0.0
    return _normalised(rows)


def sole_or_mixed(
    names: Sequence[str],
    temporal: Sequence[int],
    errors: Sequence[NDArray[np.floating[Any]]],
    strata: Sequence[NDArray[np.integer[Any]]],
    table: NDArray[np.float64],
    part: int,
    *,
    few: bool = False,
) -> NDArray[np.float64]:
    """The table (20 or 30, part), or all weight on `part` where a cross-validated mixture is hardly better.

    Optimal interpolation already is the best linear predictor. Trials between tracks are few, and most of what other
    parts seem to add there is chance. The arguments are those of `weights_by_stratum`, and `table` is its result.
    """
    sole = np.tile(np.eye(len(names))[part], (len(table), 1))
    if len(errors) < len(_FOLDS):  # there are no other trials
        return sole
    mixed, alone = 0.0, 0.0
    for fold in _FOLDS:
        rest = weights_by_stratum(names, temporal, errors[1 - fold :: 2], strata[1 - fold :: 2], few=few)
        for error, stratum in zip(errors[fold::2], strata[fold::2], strict=True):
            typical = max(float(np.square(error[part], dtype=np.float64).sum()) ** 0.5, _LEAST_ERROR)
            rows = np.where(stratum < len(rest), stratum, _KNOWN_LAST + stratum % DISTANCES)
            mixed += float(np.square(np.einsum("np,pn->n", rest[rows], error)).sum()) / typical
            alone += float(np.square(error[part], dtype=np.float64).sum()) / typical
    return sole if mixed > _GAIN * alone else table


def _far_weights(
    far: Sequence[NDArray[np.bool_]],
    errors: Sequence[NDArray[np.floating[Any]]],
    strata: Sequence[NDArray[np.integer[Any]]],
    crowd: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weights (10, part) of pixels far in time, shrunk to `crowd`; (0, part) where no trial has such pixels.

    The first five rows are for pixels that no date around knows, the last five for those known on one side only. Their
    errors are entered as those of pixels known more than 15 days before or after, the farthest ordinary class.
    """
    rows = slice(_KNOWN_LAST, _KNOWN_LAST + DISTANCES)
    if not any(some.any() for some in far):
        return np.empty((0, crowd.shape[1]))
    found = []
    for first in (STRATA, STRATA + DISTANCES):
        own = [(stratum >= first) & (stratum < first + DISTANCES) for stratum in strata]
        moments = _moments_where(own, errors, [stratum - (first - rows.start) for stratum in strata])
        found.append(convex_weights(moments, crowd)[rows])
    return np.concatenate(found)


def _moments_where(
    where: Sequence[NDArray[np.bool_]],
    errors: Sequence[NDArray[np.floating[Any]]],
    strata: Sequence[NDArray[np.integer[Any]]],
) -> Moments:
    """Moments of the pixels selected by `where` in each trial."""
    kept = [i for i, some in enumerate(where) if some.any()]
    if not kept:
        return Moments.of(np.empty((len(errors[0]), 0)), np.empty(0, np.int8), 0)
    return Moments.of_trials([errors[i][:, where[i]] for i in kept], [strata[i][where[i]] for i in kept])


def lost_weights(names: Sequence[str], errors: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """Weights (part,) for dates without data: least squared error on lost dates, shrunk to the regression.

    Parameters
    ----------
    names : the parts that use other dates.
    errors : (part, pixel) of each lost date; dates are put into units of their own error, so that each counts the same.
    """
    products = np.stack([e.astype(np.float64) @ e.T.astype(np.float64) for e in errors])
    level = np.maximum(np.median(np.diagonal(products, axis1=1, axis2=2), axis=1), _LEAST_ERROR)
    best = simplex_minimum((products / level[:, None, None]).sum(axis=0))
    steady = next((name for name in _CAUTIOUS if name in names), None)
    cautious = np.array([float(name == steady) for name in names])
    caution = _CAUTION if cautious.any() else 0.0
    weights = (len(errors) * best + caution * cautious) / (len(errors) + caution)
    weights[weights < LEAST] = 0.0
    return _normalised(weights)


def _best(moments: Moments) -> int:
    """Index of the part with the least squared error over all strata."""
    return int(np.argmin(np.diagonal(moments.products, axis1=1, axis2=2).sum(axis=0)))


def _typical(trust: NDArray[np.float64], moments: Moments) -> float:
    """Mean trust over the strata, weighted by their pixels."""
    return float(trust @ moments.counts / moments.counts.sum())


def _needed(moments: Moments, defaults: NDArray[np.float64], trust: NDArray[np.float64]) -> list[int]:
    """Indices of the parts that remain after backward elimination, the most expensive part first.

    A part with a default weight is not dropped on the evidence of few pixels: eleven small trials of a rover frame
    favoured the harmonic fill, which was a third worse than the network in the gaps.
    """
    kept = list(range(defaults.shape[1]))
    most = SPARED * moments.squared_error(_table(moments, kept, defaults, trust))
    for part in reversed(range(defaults.shape[1])):
        if defaults[:, part].any() and _typical(trust, moments) <= _HEARD:
            continue
        rest = [k for k in kept if k != part]
        if rest and moments.squared_error(_table(moments, rest, defaults, trust)) <= most:
            kept = rest
    return kept


def _table(
    moments: Moments, kept: Sequence[int], defaults: NDArray[np.float64], trust: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of each stratum from its own moments and the pooled ones, shrunk to the defaults by `trust`."""
    chosen = np.asarray(kept)
    products = moments.products[:, chosen[:, None], chosen]
    own = _by_stratum(products, float(moments.counts.sum()))
    share = trust[:, None]
    rows = share * own + (1.0 - share) * _normalised(defaults[:, chosen])
    rows[rows < LEAST] = 0.0
    table = np.zeros(defaults.shape)
    table[:, chosen] = rows / rows.sum(axis=1, keepdims=True)
    return table


def _by_stratum(products: NDArray[np.float64], pixels: float) -> NDArray[np.float64]:
    """Best weights (20, part) of each stratum from its own error moments and the pooled ones."""
    pooled = products.sum(axis=0) / max(pixels, 1.0)
    return np.stack([simplex_minimum(p + _CROWD * pooled) for p in products])


def simplex_minimum(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w >= 0 of sum 1 that minimises w' products w, for a symmetric positive semi-definite matrix.

    With a penalty (1'w - 1)^2 the minimiser over w >= 0 is a multiple of the one of sum 1, whatever the penalty,
    because both terms are quadratic. One non-negative least squares and a division are therefore enough.
    """
    from scipy.optimize import nnls

    parts = len(products)
    level = max(float(np.trace(products)) / parts, 1e-30)
    scaled = products / level + 1e-6 * np.eye(parts)
    root = np.linalg.cholesky(scaled).T
    solution, _ = nnls(np.vstack([root, np.ones(parts)]), np.append(np.zeros(parts), 1.0))
    return _normalised(solution)


def default_weights(names: Sequence[str]) -> NDArray[np.float64]:
    """Default weights (20, part) of the parts at hand; equal ones where none is stored."""
    shares = [np.broadcast_to(DEFAULT_WEIGHTS.get(name, 0.0), DISTANCES) for name in names]
    return np.tile(_normalised(np.stack(shares, axis=-1)), (STRATA // DISTANCES, 1))


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (..., part) scaled to sum 1; equal ones where all are zero."""
    total = weights.sum(axis=-1, keepdims=True)
    equal = np.full_like(weights, 1.0 / weights.shape[-1])
    return np.asarray(np.divide(weights, total, out=equal, where=total > 0))


def patch_weights(patch: Patch, table: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights (part, target, band, row, column) of a patch's window; `table` is (20 or 30, part), rows of sum 1."""
    return np.ascontiguousarray(np.moveaxis(patch_table(patch, table), -1, 0), np.float32)

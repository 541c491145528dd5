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
"""Shares where a scene has no trials, rescaled to the parts at hand; good on average over scenes of other places. One
for each distance class where a part has something of its own to say near data only."""
LEAST = 0.02
"""A smaller weight is not worth a part's running time."""
SPARED = 1.004
"""A part is left out where that raises the mean squared error by less than this factor."""
_CROWD = 1000.0
"""Pixels that the pooled moments are worth in a stratum."""
_PRIOR = 50.0
"""Independent pixels that the default weights are worth."""
_LEAST_ERROR = 1e-3
_TOLERATED = 1.01**2
_ENOUGH = 0.6
_HEARD = 0.4
"""Trust up to which no part of the default stack is left out: some 3,300 hidden pixels."""
_THINNING = 100.0
_PER_TRIAL = 10.0
_DISTINCT = 25.0
"""Pixels that count as an independent one where it is asked whether the defaults are of another kind of scene."""
_ORDINARY = 3.0
"""Odds, before any pixel is seen, that they are of this kind."""
FEW_DATES = 5
"""Seen dates up to which a stack shows few: what its trials hide lies near data, or where no other date knows it."""
_DEEP = (0.0, 0.0, 1 / 3, 2 / 3, 2 / 3)
"""Share of the stored weights there, by distance class."""
_GAIN = 0.95
"""Of the squared error of optimal interpolation alone, what is left by a mixture that is worth having."""
_CAUTIOUS = ("regression", "linear-time")
"""The first at hand is what few lost dates are no evidence against. What the regression says of them it has chosen by
many dates, and is drawn to linear interpolation itself."""
_CAUTION = 1.0
"""Lost dates that this is worth where a date shows nothing."""


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
        """From errors (part, pixel), each pixel's stratum, and how many trials they come from."""
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
        """From each trial's errors (part, pixel) and strata, divided by the root of the trial's own error.

        Dates differ in how hard they are, and the hardest would else choose for all; where each counted the same, the
        easiest would. The trial's own error is that of its middling part.
        """
        typical = [np.median(np.square(e, dtype=np.float64).mean(axis=1)) if e.size else 1.0 for e in errors]
        scaled = [e / max(float(t) ** 0.25, _LEAST_ERROR) for e, t in zip(errors, typical, strict=True)]
        return cls.of(np.concatenate(scaled, axis=1), np.concatenate(strata), len(errors))

    def evened(self) -> Moments:
        """Each stratum in units of its own error, that of its middling part.

        Deep in gaps errors are many times those near data, and few pixels there would choose the parts for all.
        """
        level = np.median(np.diagonal(self.products, axis1=1, axis2=2), axis=1) / np.maximum(self.counts, 1.0)
        return replace(self, products=self.products / np.maximum(level, _LEAST_ERROR**2)[:, None, None])

    @property
    def trust(self) -> float:
        """The share that what was measured has in the weights in a scene like others, the defaults having the rest.

        Errors in one gap go together, those of one trial partly, so pixels are thinned and trials have a limit.
        """
        independent = self._independent(_THINNING)
        return independent / (independent + _PRIOR)

    def trust_beside(self, defaults: NDArray[np.float64]) -> NDArray[np.float64]:
        """(20,) the same by stratum, up to all of it where the scene is of another kind than that of the defaults.

        The stored shares (20, part) are those of ordinary optical scenes, and few pixels show that a smooth field of
        the weather is none. The odds that it is none are what they were before, times the likelihood ratio of Gaussian
        errors of independent pixels, less what as many free weights gain by chance (Wilks 1938). They hold at the
        distances where pixels were hidden and beyond: small grids hide nothing deep, and are not others there.
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
        """Summed squared error of the stack with weights (20, part)."""
        return float(np.einsum("sp,spq,sq->", table, self.products, table))


def convex_weights(moments: Moments, defaults: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (20, part), each row not negative and of sum 1, that minimise the squared error; `defaults` (20, part).

    Parts that the others can do without are left out, the later ones first: give them from cheap to dear. Where
    the result is more than 1 % worse, in RMSE, than the best single part, that one gets all the weight; but not on the
    word of so few pixels that the defaults count as much as they.
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

    Where no other date knows a pixel, parts that look at other dates have nothing to say, and what others do there
    tells nothing of pixels that other dates do know: the two are learnt apart. So are pixels far in time, where
    `strata` has any: these are drawn to what the others ask for.

    Parameters
    ----------
    temporal : places of the parts that look at the pixel itself on other dates.
    few : whether few dates are seen: deep in gaps weights are then drawn to stored ones.
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
    """Weights (20, part) that go over to the stored ones deep in gaps, where few trials of few dates reach.

    What no other date knows may lie far from what its own date shows and still near to what others do: there parts
    that look at other dates, which fill between the two, have that share.
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
    """The table (20 or 30, part); all of it that part's where a mixture learnt from other trials does no better.

    Optimal interpolation is the best linear predictor already. Trials between tracks are few, and what others seem to
    add to it there is mostly chance. Arguments as of `weights_by_stratum`, of which `table` is the answer.
    """
    mixed, alone = 0.0, 0.0
    for fold in (0, 1):
        rest = weights_by_stratum(names, temporal, errors[1 - fold :: 2], strata[1 - fold :: 2], few=few)
        for error, stratum in zip(errors[fold::2], strata[fold::2], strict=True):
            typical = max(float(np.square(error[part], dtype=np.float64).sum()) ** 0.5, _LEAST_ERROR)
            rows = np.minimum(stratum, len(rest) - 1)
            mixed += float(np.square(np.einsum("np,pn->n", rest[rows], error)).sum()) / typical
            alone += float(np.square(error[part], dtype=np.float64).sum()) / typical
    sole = np.tile(np.eye(len(names))[part], (len(table), 1))
    return sole if mixed > _GAIN * alone else table


def _far_weights(
    far: Sequence[NDArray[np.bool_]],
    errors: Sequence[NDArray[np.floating[Any]]],
    strata: Sequence[NDArray[np.integer[Any]]],
    crowd: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(10, part) where pixels are far in time, (0, part) where no trial has any; in place of stored shares the crowd's.

    First those that no date around knows, then those that dates of one side alone do. They take the rows of pixels
    known last more than 15 days before or after, the farthest that have any.
    """
    rows = slice(STRATA - 2 * DISTANCES, STRATA - DISTANCES)
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
    """Of some pixels of each trial."""
    kept = [i for i, some in enumerate(where) if some.any()]
    if not kept:
        return Moments.of(np.empty((len(errors[0]), 0)), np.empty(0, np.int8), 0)
    return Moments.of_trials([errors[i][:, where[i]] for i in kept], [strata[i][where[i]] for i in kept])


def lost_weights(names: Sequence[str], errors: Sequence[NDArray[np.floating[Any]]]) -> NDArray[np.float64]:
    """Weights (part,) where a date shows nothing: least squared error on lost dates, drawn to the regression.

    Parameters
    ----------
    names : the parts; those that look at no other date have nothing to say and are not among them.
    errors : of each lost date (part, pixel); in units of the date's own error, so that each counts the same.
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
    """The part of least squared error over all strata."""
    return int(np.argmin(np.diagonal(moments.products, axis1=1, axis2=2).sum(axis=0)))


def _typical(trust: NDArray[np.float64], moments: Moments) -> float:
    """Over the strata, by their pixels."""
    return float(trust @ moments.counts / moments.counts.sum())


def _needed(moments: Moments, defaults: NDArray[np.float64], trust: NDArray[np.float64]) -> list[int]:
    """Backward elimination: drop each part, the dearest first, that is hardly missed.

    Those that are good on average over scenes are not dropped on the word of few pixels: eleven small trials of a rover
    frame liked the harmonic fill best, which was a third worse than the network in the gaps.
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
    """Each stratum's weights from its own moments and the pooled ones; those of the pool drawn to the defaults."""
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
    """(20, part): each stratum's best weights from its own error moments and the pooled ones."""
    pooled = products.sum(axis=0) / max(pixels, 1.0)
    return np.stack([simplex_minimum(p + _CROWD * pooled) for p in products])


def simplex_minimum(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w >= 0 of sum 1 that minimises w' products w, for a symmetric non-negative definite matrix.

    With a penalty (1'w - 1)^2 the minimiser over w >= 0 has the direction of the one with sum 1, whatever the penalty,
    because both terms are quadratic; so one non-negative least squares and a division do.
    """
    from scipy.optimize import nnls

    parts = len(products)
    level = max(float(np.trace(products)) / parts, 1e-30)
    scaled = products / level + 1e-6 * np.eye(parts)
    root = np.linalg.cholesky(scaled).T
    solution, _ = nnls(np.vstack([root, np.ones(parts)]), np.append(np.zeros(parts), 1.0))
    return _normalised(solution)


def default_weights(names: Sequence[str]) -> NDArray[np.float64]:
    """(20, part) stored shares of the parts at hand; equal ones where none is stored."""
    shares = [np.broadcast_to(DEFAULT_WEIGHTS.get(name, 0.0), DISTANCES) for name in names]
    return np.tile(_normalised(np.stack(shares, axis=-1)), (STRATA // DISTANCES, 1))


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., part) of sum 1; equal shares where there are none."""
    total = weights.sum(axis=-1, keepdims=True)
    equal = np.full_like(weights, 1.0 / weights.shape[-1])
    return np.asarray(np.divide(weights, total, out=equal, where=total > 0))


def patch_weights(patch: Patch, table: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights (part, target, band, row, column) of a patch's window; `table` is (20 or 30, part), rows of sum 1."""
    return np.ascontiguousarray(np.moveaxis(patch_table(patch, table), -1, 0), np.float32)

"""Whether a part earns a place in a stack: by how much it reduces errors on the trials.

A part that most scenes do not need would cost them time and change their fills by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geodiff.fillers import Filler, Fitted, Trial
from geodiff.fillers.abilities import Estimates
from geodiff.fillers.calibration import DISTANCES, lost_planes, strata
from geodiff.fillers.weights import simplex_minimum

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["earns", "promises"]

_EARNED = 0.96
"""Share of the squared error on the trials, 2 % in RMSE, to which a part must reduce it to be taken: smaller gains may
be chance, and stacks that do not need the part stay as they are."""
_LOOKED_AT, _FEWEST_TRIALS = 24, 5
"""Most and fewest trials on which such a part is tried before it is fitted."""
_LEAST_LEVEL = 1e-3
"""Least error of a trial, in normalised units, so that a trial without any error does not dominate."""


def promises(part: Filler, trials: Sequence[Trial], errors: Sequence[NDArray[np.float32]]) -> bool:
    """Whether mixing the part into a stack with these errors would earn it a place on some trials, before any fit."""
    shown = _shown(trials)
    if len(shown) < _FEWEST_TRIALS or not isinstance(part, Estimates):
        return False
    chosen = shown[:: -(-len(shown) // _LOOKED_AT)]
    own = [trials[i] for i in chosen]
    other = [part.estimate(trial.patch, Fitted(part.name)) - trial.truth for trial in own]
    products, counts = _products(own, [errors[i] for i in chosen], other)
    mixed = [w @ p @ w for p in products for w in (simplex_minimum(p),)]
    return _gains(products[:, 0, 0], np.array(mixed), counts)


def earns(
    trials: Sequence[Trial], old: Sequence[NDArray[np.float32]], new: Sequence[NDArray[np.float32]]
) -> bool:
    """Whether the `new` errors, with one part more, are enough smaller, on trials of dates with data."""
    shown = _shown(trials)
    products, counts = _products([trials[i] for i in shown], [old[i] for i in shown], [new[i] for i in shown])
    return _gains(products[:, 0, 0], products[:, 1, 1], counts)


def _shown(trials: Sequence[Trial]) -> list[int]:
    """Indices of the trials that hide pixels of a date with other data."""
    return [i for i, t in enumerate(trials) if t.hidden.any() and not lost_planes(t.patch).all()]


def _products(
    trials: Sequence[Trial], old: Sequence[NDArray[np.float32]], new: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of products of two errors at hidden pixels (distance class, 2, 2), and their counts (distance class,).

    They are divided by the error of the trial, so that neither the hardest nor the easiest dates dominate.
    """
    products, counts = np.zeros((DISTANCES, 2, 2)), np.zeros(DISTANCES)
    for trial, *both in zip(trials, old, new, strict=True):
        errors = np.stack([error[trial.hidden] for error in both]).astype(np.float64)
        level = max(float(np.sqrt(np.mean(np.square(errors[0])))), _LEAST_LEVEL)
        near = strata(trial.patch)[trial.hidden] % DISTANCES
        for distance in np.unique(near):
            own = errors[:, near == distance]
            products[distance] += own @ own.T / level
            counts[distance] += own.shape[1]
    return products, counts


def _gains(old: NDArray[np.float64], new: NDArray[np.float64], counts: NDArray[np.float64]) -> bool:
    """Whether squared errors fall enough; relative to the old ones in each distance class, as deep ones are large."""
    share = np.divide(new, old, out=np.ones_like(new), where=old > 0)
    return bool(counts @ share <= _EARNED * counts.sum())

"""Whether a part earns a place in a stack: by how much errors on the trials fall with it.

What most scenes have no use for would cost them time, and change their fills by chance.
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
"""A part that must earn its place joins where squared errors on the trials fall to this share, 2 % of the RMSE: less
may be chance, and stacks that have no use for it stay as they are."""
_LOOKED_AT, _FEWEST_TRIALS = 24, 5
"""Trials, at most and at least, on which such a part is looked at before it is fitted."""
_LEAST_LEVEL = 1e-3
"""Of a trial's error, in normalised units: what is as good as exact chooses for nobody."""


def promises(part: Filler, trials: Sequence[Trial], errors: Sequence[NDArray[np.float32]]) -> bool:
    """Whether mixtures of the stack, of these errors, and one part more would do on some trials: before any fit."""
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
    """Whether errors are less enough with one part more, on the trials that show something of their date."""
    shown = _shown(trials)
    products, counts = _products([trials[i] for i in shown], [old[i] for i in shown], [new[i] for i in shown])
    return _gains(products[:, 0, 0], products[:, 1, 1], counts)


def _shown(trials: Sequence[Trial]) -> list[int]:
    """Places of trials that hide something and show something of their date."""
    return [i for i, t in enumerate(trials) if t.hidden.any() and not lost_planes(t.patch).all()]


def _products(
    trials: Sequence[Trial], old: Sequence[NDArray[np.float32]], new: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(distance class, 2, 2) sums of products of two errors at hidden pixels, and (distance class,) how many these are.

    Each trial's are divided by its own error, so that neither the hardest dates nor the easiest choose for all.
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
    """Whether squared errors fall enough, those of each distance class in units of their own: deep ones are large."""
    share = np.divide(new, old, out=np.ones_like(new), where=old > 0)
    return bool(counts @ share <= _EARNED * counts.sum())

"""Photon noise made even: the generalised Anscombe transform and its exact unbiased inverse.

A count of photons varies with its own mean. The transform of z = gain * Poisson(x / gain) + read noise has noise of
standard deviation 1 at every brightness, so that whatever removes even noise removes this one (Starck, Murtagh &
Bijaoui 1998). Plain algebra the other way would be biased where it is dark; the inverse here is the closed form of
Makitalo & Foi 2011 ("A closed-form approximation of the exact unbiased inverse of the Anscombe variance-stabilizing
transformation"; 2013 for read noise).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["flattened", "raised", "slope"]

_DARKEST = 2 * np.sqrt(3 / 8)
"""The transform of no light without read noise; the inverse is 0 below."""


def flattened(values: NDArray[np.floating[Any]], gain: float, read: float = 0.0) -> Numbers:
    """The transform f(z) = 2 sqrt(z' + 3/8 + s'^2) with z' = z / gain and s' = read / gain.

    Parameters
    ----------
    values : observed numbers, any shape; 0 is no light.
    gain : units of the values for one photon.
    read : standard deviation of the read noise, in the units of the values.
    """
    light = np.asarray(values, np.float64) / gain + 3 / 8 + (read / gain) ** 2
    return np.asarray(2 * np.sqrt(np.maximum(light, 0)))


def raised(flat: NDArray[np.floating[Any]], gain: float, read: float = 0.0) -> Numbers:
    """What the light was whose transform has the mean `flat`; never below 0."""
    d = np.maximum(np.asarray(flat, np.float64), _DARKEST)
    root = np.sqrt(3 / 2)
    light = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8 - (read / gain) ** 2
    return np.asarray(gain * np.maximum(light, 0))


def slope(flat: NDArray[np.floating[Any]], gain: float) -> Numbers:
    """How a small error of the transform grows: the leading term of the inverse's derivative."""
    return np.asarray(gain * np.maximum(np.asarray(flat, np.float64), _DARKEST) / 2)

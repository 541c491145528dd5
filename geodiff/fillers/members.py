"""Realisations around a value: re-centred, and as wide as the calibration says."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["BANDS", "octave_bands", "recentred", "shaped", "stretched"]

_WIDTHS = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations in pixels of the Gaussians between which bands lie."""
BANDS = len(_WIDTHS) + 1
_SMOOTH = 4.0
"""Pixels; what a Gaussian of this width leaves of a departure is more than texture."""
_GROWTH = 3.0
"""Bound on how much of that is added."""


def recentred(members: Planes, value: Planes, spread: Planes | float = 1.0) -> Planes:
    """Members (member, row, column) around the value, their departures `spread` times as wide.

    From four members on their mean is made the value, and what that takes from the spread is given back by
    sqrt(N / (N - 1)); fewer keep their own mean, which is as uncertain as they are.
    """
    count = len(members)
    if count < 4:
        return np.asarray(value + stretched(members - value, spread), np.float32)
    widened = np.float32(np.sqrt(count / (count - 1)))
    return np.asarray(value + stretched(widened * (members - members.mean(axis=0)), spread), np.float32)


def stretched(departures: Planes, spread: Planes | float) -> Planes:
    """Departures (member, row, column) with `spread` times their standard deviation, and the grain they had.

    Draws get their texture right before they get their whole spread: what is missing deep in a gap is how far a draw as
    a whole may lie from the value. So more spread is added to what is left of the departures by a Gaussian of 4 pixels,
    as much of it as the variance asks for; less spread is taken from all of them.
    """
    from scipy import ndimage

    wide = np.broadcast_to(np.asarray(spread, np.float32), departures.shape[-2:])
    if not len(departures) or float(wide.max(initial=1.0)) <= 1:
        return np.asarray(departures * wide, np.float32)
    low = ndimage.gaussian_filter(departures, (0, _SMOOTH, _SMOOTH), mode="constant")
    variance = max(float((departures**2).mean()), 1e-12)
    shared, own = float((departures * low).mean()) / variance, max(float((low**2).mean()) / variance, 1e-6)
    asked = np.maximum(wide, 1) ** 2
    # Var(d + g low) = 1 + 2 g shared + g^2 own; where little is left of d, the rest is taken from all of it
    grow = np.minimum((np.sqrt(shared**2 + own * (asked - 1)) - shared) / own, _GROWTH)
    rest = np.sqrt(asked / (1 + 2 * grow * shared + grow**2 * own))
    return np.asarray(np.minimum(wide, 1) * rest * (departures + grow * low), np.float32)


def octave_bands(fields: Planes) -> Planes:
    """Fields (.., row, column) as a sum of bands (band, .., row, column), from the finest on: differences of Gaussians.

    Fields are 0 where nothing departs; what they are at a window's rim is continued by its mirror image.
    """
    from scipy import ndimage

    spans = (0,) * (fields.ndim - 2)
    smooth = [fields, *(ndimage.gaussian_filter(fields, (*spans, w, w), mode="reflect") for w in _WIDTHS)]
    return np.stack([*(a - b for a, b in pairwise(smooth)), smooth[-1]]).astype(np.float32)


def shaped(departures: Planes, gains: Planes) -> Planes:
    """Departures (member, row, column) with each band times its gain (band, row, column)."""
    return np.asarray((octave_bands(departures) * gains[:, None]).sum(axis=0), np.float32)

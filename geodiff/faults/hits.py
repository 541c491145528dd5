"""Hot and dead pixels, and tracks of particles: few pixels that stand alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.faults.measures import roughness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.faults.measures import Frame, Plane

__all__ = ["find_hits"]

ALONE = 6.0
"""A hit is beyond its neighbours by this many typical differences at least."""
DEEP = (0.25, 0.4)
"""And by this share of the range that the numbers could take: a single pixel, and one of a track."""
TRACK = 2.0
"""One of a track is beyond its other neighbours by this many times their range; a single pixel by once theirs all."""
OTHERS = 5
"""So many of the 24 neighbours may belong to the same track."""
LONGEST = 16
"""Most pixels of one hit; what is longer is a thing of the scene."""


def find_hits(frame: Frame, known: Plane) -> Plane:
    """Single pixels, and thin short tracks, beyond the extremes of their neighbours by far more than those differ.

    Neighbours are the 24 around, without the `OTHERS` that are most like the pixel.
    """
    from scipy import ndimage

    away = _away(frame, known)
    usual, reach = ALONE * roughness(frame, known), _reach(frame[known])
    single, track = (max(usual, share * reach) for share in DEEP)
    rows, columns = np.nonzero(away > single)
    lone = np.zeros(frame.shape, bool)
    for first in range(0, rows.size, 1 << 16):
        part = slice(first, first + (1 << 16))
        lone[rows[part], columns[part]] = _alone(frame, known, rows[part], columns[part], (single, track))
    labels, count = ndimage.label(lone, np.ones((3, 3), bool))
    small = np.append(False, np.bincount(labels.ravel(), minlength=count + 1)[1:] <= LONGEST)
    return np.asarray(small[labels])


def _reach(seen: Frame) -> float:
    """The range that the numbers could take: whole ones come with 8, 12 or so many bits, all others with their own."""
    if not seen.size:
        return 0.0
    low, high = np.percentile(seen, [0.1, 99.9])
    counted = bool((seen[:4096] == np.rint(seen[:4096])).all())
    return float(2.0 ** np.ceil(np.log2(max(abs(low), abs(high)) + 1)) if counted else high - low)


def _away(frame: Frame, known: Plane) -> Frame:
    """How far known pixels are from the middle of the values around them; 0 for missing ones."""
    from scipy import ndimage

    shown = np.where(known, frame, np.median(frame[known]) if known.any() else 0.0)
    return np.where(known, np.abs(frame - ndimage.median_filter(shown, 5, mode="nearest")), 0.0)


def _alone(
    frame: Frame, known: Plane, rows: NDArray[np.intp], columns: NDArray[np.intp], least: tuple[float, float]
) -> Plane:
    """(pixel,) bool for candidates by place."""
    steps = [(r, c) for r in range(-2, 3) for c in range(-2, 3) if (r, c) != (0, 0)]
    shown = np.pad(np.where(known, frame, np.nan), 2, constant_values=np.nan)
    around = np.sort([shown[rows + r + 2, columns + c + 2] for r, c in steps], axis=0)  # NaN last
    count = np.isfinite(around).sum(axis=0)
    value, every = frame[rows, columns], np.arange(rows.size)
    low, high = around[0], around[np.maximum(count - 1, 0), every]
    below, above = around[OTHERS], around[np.maximum(count - 1 - OTHERS, 0), every]
    single = np.maximum(value - high, low - value) > np.maximum(high - low, least[0])
    hot = value - above > np.maximum(TRACK * (above - low), least[1])
    cold = below - value > np.maximum(TRACK * (high - below), least[1])
    return np.asarray((count >= 12) & (single | hot | cold))

"""Hot and dead pixels, and tracks of particles: few pixels that stand alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.faults.measures import roughness

if TYPE_CHECKING:
    from geodiff.faults.measures import Frame, Plane

__all__ = ["find_hits"]

ALONE = 6.0
"""A hit is beyond its neighbours by this many typical differences at least."""
DEEP = 0.25
"""And by this share of the range that the numbers could take."""
APART = 0.5
"""And by this many times the range of those neighbours."""
SOFT = 0.12
"""Next to a point of light there is this share of its height, of what the lens spread."""
LONGEST = 16
"""Most pixels of one hit; what is longer is a thing of the scene."""
_RIM = 2
"""Pixels around a hit that are its neighbours."""


def find_hits(frame: Frame, known: Plane) -> Plane:
    """Pixels, and thin short tracks of them, whose faintest is far beyond the extremes of all pixels around.

    Glints and stars have a soft rim, which is neither far beyond what is around nor part of it, or shines where it is
    too faint for that. Those that a lens draws less than two pixels wide at half their height are as sharp as a hit.
    """
    least = max(ALONE * roughness(frame, known), DEEP * _reach(frame[known]))
    away = _away(frame, known)
    return _lone(frame, known, away > least, least) | _lone(-frame, known, away < -least, least)


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
    return np.where(known, frame - ndimage.median_filter(shown, 5, mode="nearest"), 0.0)


def _lone(frame: Frame, known: Plane, far: Plane, least: float) -> Plane:
    """Which groups of pixels that lie far above the middle of their surroundings lie far above all of them."""
    from scipy import ndimage

    square = np.ones((3, 3), bool)
    labels, count = ndimage.label(far, square)
    small = np.bincount(labels.ravel(), minlength=count + 1) <= LONGEST
    lost = np.zeros(frame.shape, bool)
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if not small[number]:
            continue
        near = tuple(slice(max(side.start - _RIM, 0), side.stop + _RIM) for side in place)
        hit = labels[near] == number
        around = ndimage.binary_dilation(hit, square, _RIM) & ~hit
        seen = frame[near][around & known[near]]
        if 2 * seen.size < around.sum():
            continue
        margin = frame[near][hit].min() - seen.max()
        alone = margin > max(least, APART * (seen.max() - seen.min()))
        if alone and not _point_of_light(frame[near], known[near], hit):
            lost[near] |= hit
    return lost


def _point_of_light(near: Frame, known: Plane, hit: Plane) -> bool:
    """Whether a hit is the core of what a lens makes of a star: its light is on what is next to it too."""
    from scipy import ndimage

    rim = ndimage.binary_dilation(hit, np.ones((3, 3), bool)) & ~hit & known
    beyond = ndimage.binary_dilation(hit, np.ones((3, 3), bool), _RIM) & ~hit & ~rim & known
    if not rim.any() or not beyond.any():
        return False
    ground = near[beyond].mean()
    return bool(near[rim].mean() - ground > SOFT * (near[hit].max() - ground))

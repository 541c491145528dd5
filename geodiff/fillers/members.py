"""Realisations around a value: re-centred, and as wide as the calibration says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

__all__ = ["Broad", "White", "broad_share", "matched", "recentred", "shared", "starts", "stretched"]

White = Callable[[int, int], "Planes"]
"""(margin, number) to standard normal noise of a window with that margin; members start from the numbers 0, 1, ..."""

_SMOOTH = 4.0
"""Pixels; what a Gaussian of this width leaves of a departure is more than texture."""
_GROWTH = 3.0
"""Bound on how much of that is added."""
_NEAR = 8.0
"""Pixels; the Gaussian over which the width of departures is taken."""
_UNLIKE = 8.0
"""Bound on how far that width may be from the value's own."""
_BROAD, _DEEP = 12.0, 10.0
"""Pixels; the Gaussian that makes broad noise, and the distance from data over which it takes its part. On 33 large
gaps of validation patches octaves of one draw are within 0.7 dB of the truth's, pooled; 1.5 dB without it."""
_BROAD_PART = 0.5
"""Share of broad noise in the variance of members of a lost date."""
_MARGIN = 36
"""Pixels of white noise beyond a window that its broad noise is made from: the Gaussian is cut there."""


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


def starts(white: White, members: int) -> Planes:
    """The noise (member, row, column) that members start from."""
    return np.stack([white(0, member) for member in range(members)])


@dataclass(frozen=True, slots=True)
class Broad:
    """What a window is too small to draw: how far a draw as a whole may lie from the value, deep in a gap."""

    noise: Planes
    """(member, row, column), standard normal in each pixel, alike over some 12 pixels."""
    share: Planes
    """(row, column), 0 beside data to 1 deep in a gap: its part of what draws lack."""

    @classmethod
    def of(cls, white: White, members: int, distance: Planes) -> Broad:
        """From white noise that no member starts from, and the distance to data (row, column) in pixels."""
        from scipy import ndimage

        drawn = np.stack([white(_MARGIN, -1 - member) for member in range(members)])
        inner = np.s_[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        smooth = ndimage.gaussian_filter(drawn, (0, _BROAD, _BROAD), mode="constant", truncate=_MARGIN / _BROAD)
        unit = np.float32(2 * _BROAD * np.sqrt(np.pi))
        return cls(unit * smooth[inner], np.asarray(1 - np.exp(-((distance / _DEEP) ** 2)), np.float32))


def matched(departures: Planes, width: Planes, inside: NDArray[np.bool_], broad: Broad | None = None) -> Planes:
    """Departures (member, row, column) whose local mean square is that of `width` (row, column).

    The reverse diffusion and the value's own standard deviation come from one network and should agree on how much is
    not known; where the other says more, it is the value's that was trained for it, and is calibrated. The width is
    compared over a Gaussian of 8 pixels within the gap, so that the texture of a draw is kept. Departures that are too
    wide are narrowed. Those that are too narrow are right in their texture and lack what is broader than a training
    crop: deep in a gap `broad` noise makes that up, beside data, or without such noise, they are widened.
    """
    from scipy import ndimage

    def near(plane: Planes) -> Planes:
        smooth: Planes = ndimage.gaussian_filter(np.where(inside, plane, np.float32(0)), _NEAR, mode="constant")
        return np.maximum(smooth, np.float32(1e-12))

    if not len(departures):
        return departures
    own, asked = near((departures**2).mean(axis=0)), near(width**2)
    ratio = np.clip(asked / own, 1 / _UNLIKE**2, _UNLIKE**2)
    if broad is None:
        return np.asarray(departures * np.sqrt(ratio), np.float32)
    beyond = np.maximum(ratio - 1, 0)
    kept = np.sqrt(np.minimum(ratio, 1) + (1 - broad.share) * beyond)
    lack = np.where(inside, width * np.sqrt(broad.share * beyond / (1 + beyond)), np.float32(0))
    return np.asarray(departures * kept + lack * broad.noise, np.float32)


def broad_share(shape: tuple[int, ...], step: int = 1) -> float:
    """Share of the variance of members of a lost date that is their mean over (rows, columns), `step` pixels apart."""
    share = _BROAD_PART
    for count in shape:
        places = step * np.arange(count)
        share *= float(np.exp(-(((places[:, None] - places) / (2 * _BROAD)) ** 2)).mean())
    return share


def shared(departures: Planes, numbers: Planes, width: Planes, share: Planes) -> Planes:
    """Departures (member, row, column) with a share (row, column) of their variance one number all over the date.

    Windows draw nothing broader than a few tens of pixels, so that over a large raster departures cancel out, while a
    lost date may be hazier or warmer as a whole.

    Parameters
    ----------
    numbers : (member,) standard normal, the same for every window of the date.
    width : (row, column) standard deviation of members.
    """
    whole = np.sqrt(share) * width * numbers[:, None, None]
    return np.asarray(np.sqrt(1 - share) * departures + whole, np.float32)

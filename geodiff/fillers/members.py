"""Ensemble members around a value: re-centred, and with calibrated spread."""

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
"""(margin, number) to standard normal noise over a window with that margin; members use the numbers 0, 1, ..."""

_SMOOTH = 4.0
"""Pixels; a departure smoothed by a Gaussian of this width has lost its texture."""
_GROWTH = 3.0
"""Bound on the multiple of the smoothed departure that is added."""
_NEAR = 8.0
"""Pixels; width of the Gaussian over which the spread of departures is averaged."""
_UNLIKE = 8.0
"""Bound on the ratio of that spread to the value's standard error, either way."""
_BROAD, _DEEP = 12.0, 10.0
"""Pixels; width of the Gaussian of the broad noise, and distance from data over which the noise sets in. On 33 large
gaps of validation patches, pooled, the octaves of one draw are within 0.7 dB of the truth's; without it, 1.5 dB."""
_BROAD_PART = 0.5
"""Share of broad noise in the variance of members of a lost date."""
_MARGIN = 36
"""Pixels of white noise beyond a window that enter its broad noise; the Gaussian is truncated there."""


def recentred(members: Planes, value: Planes, spread: Planes | float = 1.0) -> Planes:
    """Members (member, row, column) around the value, with departures `spread` times as wide.

    Four or more members are shifted so that their mean is the value, and the loss of spread is compensated by
    sqrt(N / (N - 1)). Fewer keep their own mean, which is as uncertain as they are.
    """
    count = len(members)
    if count < 4:
        return np.asarray(value + stretched(members - value, spread), np.float32)
    widened = np.float32(np.sqrt(count / (count - 1)))
    return np.asarray(value + stretched(widened * (members - members.mean(axis=0)), spread), np.float32)


def stretched(departures: Planes, spread: Planes | float) -> Planes:
    """Departures (member, row, column) with `spread` times their standard deviation and unchanged texture.

    Draws have the right texture but too little spread deep in a gap, where a draw as a whole may be far from the value.
    Spread is therefore added to the departures smoothed by a Gaussian of 4 pixels, as much as the variance asks for.
    A `spread` below 1 narrows the departures themselves.
    """
    from scipy import ndimage

    wide = np.broadcast_to(np.asarray(spread, np.float32), departures.shape[-2:])
    if not len(departures) or float(wide.max(initial=1.0)) <= 1:
        return np.asarray(departures * wide, np.float32)
    low = ndimage.gaussian_filter(departures, (0, _SMOOTH, _SMOOTH), mode="constant")
    variance = max(float((departures**2).mean()), 1e-12)
    shared, own = float((departures * low).mean()) / variance, max(float((low**2).mean()) / variance, 1e-6)
    asked = np.maximum(wide, 1) ** 2
    # Var(d + g low) = 1 + 2 g shared + g^2 own; `rest` scales all of it where the bound on g leaves too little
    grow = np.minimum((np.sqrt(shared**2 + own * (asked - 1)) - shared) / own, _GROWTH)
    rest = np.sqrt(asked / (1 + 2 * grow * shared + grow**2 * own))
    return np.asarray(np.minimum(wide, 1) * rest * (departures + grow * low), np.float32)


def starts(white: White, members: int) -> Planes:
    """Noise (member, row, column) from which the members are drawn."""
    return np.stack([white(0, member) for member in range(members)])


@dataclass(frozen=True, slots=True)
class Broad:
    """Departures too broad for a window to draw: deep in a gap, a draw as a whole may be far from the value."""

    noise: Planes
    """(member, row, column), standard normal in each pixel, correlated over about 12 pixels."""
    share: Planes
    """(row, column), from 0 beside data to 1 deep in a gap: share of the missing variance that it provides."""

    @classmethod
    def of(cls, white: White, members: int, distance: Planes) -> Broad:
        """From white noise that no member uses, and the distance to data (row, column) in pixels."""
        from scipy import ndimage

        drawn = np.stack([white(_MARGIN, -1 - member) for member in range(members)])
        inner = np.s_[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        smooth = ndimage.gaussian_filter(drawn, (0, _BROAD, _BROAD), mode="constant", truncate=_MARGIN / _BROAD)
        unit = np.float32(2 * _BROAD * np.sqrt(np.pi))
        return cls(unit * smooth[inner], np.asarray(1 - np.exp(-((distance / _DEEP) ** 2)), np.float32))


def matched(departures: Planes, width: Planes, inside: NDArray[np.bool_], broad: Broad | None = None) -> Planes:
    """Departures (member, row, column) whose local mean square is that of `width` (row, column).

    Reverse diffusion and the standard error of the value come from one network and should agree on the uncertainty;
    where they differ, the latter is followed, as it was trained for this and is calibrated. The spread is compared over
    a Gaussian of 8 pixels within the gap, which preserves the texture of a draw. Departures that are too wide are
    narrowed. Those that are too narrow have the right texture and lack structure broader than a training crop: deep in
    a gap `broad` noise supplies it; beside data, or without such noise, they are widened.
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
    """Share of a lost date's member variance that is in the mean over (rows, columns), `step` pixels apart."""
    share = _BROAD_PART
    for count in shape:
        places = step * np.arange(count)
        share *= float(np.exp(-(((places[:, None] - places) / (2 * _BROAD)) ** 2)).mean())
    return share


def shared(departures: Planes, numbers: Planes, width: Planes, share: Planes) -> Planes:
    """Departures (member, row, column) of which a share (row, column) of the variance is one number for the whole date.

    Departures drawn in windows are no broader than a few tens of pixels and average out over a large raster, while a
    lost date may be hazier or warmer as a whole.

    Parameters
    ----------
    numbers : (member,) standard normal, the same for every window of the date.
    width : (row, column) standard deviation of the members.
    """
    whole = np.sqrt(share) * width * numbers[:, None, None]
    return np.asarray(np.sqrt(1 - share) * departures + whole, np.float32)

"""Seams: whether a field is steeper across the lines on which windows of the lattice begin or end than elsewhere.

NumPy in, numbers out. Sums of parts of a raster add up to those of the whole, but for the lines between the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.lattice import STRIDE, WINDOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["seam", "steps_by_line", "window_lines"]

_END = WINDOW - STRIDE
"""Windows end this many lines after others begin."""
_LEAST_STEPS = 200
"""Differences across window lines, and elsewhere, from which on a seam can be told."""
_BLURRED = 3
"""Lines to either side of where windows begin and end that a seam may show on."""


def steps_by_line(
    field: NDArray[Any], kept: NDArray[np.bool_], first: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sums and counts of |difference| between kept neighbours, (96,) each, by the place on the lattice of the line.

    Windows begin on every 96th line, rows and columns alike.

    Parameters
    ----------
    field, kept : (..., row, column); a difference counts where both its pixels are kept.
    first : absolute row and column of the first pixel.
    """
    sums, counts = np.zeros(STRIDE), np.zeros(STRIDE, np.int64)
    for axis, start in zip((-2, -1), first, strict=True):
        lines, there = np.moveaxis(field, axis, 0), np.moveaxis(kept, axis, 0)
        both = there[1:] & there[:-1]
        steps = np.abs(lines[1:][both] - lines[:-1][both])
        place = (np.nonzero(both)[0] + 1 + start) % STRIDE
        sums += np.bincount(place, steps, STRIDE)
        counts += np.bincount(place, minlength=STRIDE)
    return sums, counts


def window_lines(line: int = 0) -> NDArray[np.bool_]:
    """(96,): on which lines windows begin or end, were the lattice moved by `line`."""
    on = np.zeros(STRIDE, bool)
    on[[line, (line + _END) % STRIDE]] = True
    return on


def seam(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float | None, float | None]:
    """Mean |difference| across lines on which windows begin or end over that elsewhere, and how far chance moves it.

    Other lines, as far from each other, say that: twice the standard deviation of what they give. Fields are alike over
    tens of pixels, so that thousands of differences may be few. None where there are next to none.
    """
    ratios = {line: _steeper(sums, counts, line) for line in range(STRIDE)}
    windows = [(line + shift) % STRIDE for line in (0, _END, -_END) for shift in range(-_BLURRED, _BLURRED + 1)]
    told = [ratio for line, ratio in ratios.items() if line not in windows and ratio is not None]
    return (None, None) if ratios[0] is None or len(told) < 2 else (ratios[0], 2.0 * float(np.std(told)))


def _steeper(sums: NDArray[np.float64], counts: NDArray[np.int64], line: int) -> float | None:
    """The ratio for windows that begin at another place; None where too little was filled along their lines."""
    on = window_lines(line)
    if min(counts[on].sum(), counts[~on].sum()) < _LEAST_STEPS or not sums[~on].sum():
        return None
    return float(sums[on].sum() / counts[on].sum() / (sums[~on].sum() / counts[~on].sum()))

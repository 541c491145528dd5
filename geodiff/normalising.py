"""How the numbers of a band are brought to units of their own: centre, scale, the ends there are, what is measured.

All of it is told by a sample of the known values, once for the whole scene.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geodiff.encoding import Normalisation, piles_up
from geodiff.quantities import is_elevation, may_be_amount

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band
    from geodiff.scene import Cube

__all__ = ["normalise"]

_PILE = 0.01
"""Share of a band's values at its least or greatest from which that is taken for a bound."""
_WHOLE, _AT_END = (1.0, 100.0), 0.01
"""The whole that shares and percentages are of, and how near to both ends, as a part of it, some lie."""
_UNEVEN = 0.1
"""How far the median lies from the middle between the 16th and the 84th percentile, in what these are apart."""
_NEXT_TO_NOTHING = 0.1
"""Of the least known amount, below which none is estimated."""
_FEWEST_WET = 100
"""Sampled pixels with rain from which their least one is the least there is."""
_EXACT = 1e-9
"""Share of its size below which a band's deviation is that of rounding."""
_MEASURABLE = 1e15
"""In units of the scale: sums of a million squares of such numbers are still within float32."""
_FAR_OUT, _FEW = ((100_000, 1e2), (1_000, 1e6)), 3
"""One of how many values at each end, or a few, may be no measurement, and how far beyond the others, in what these
are apart, it has to be for that."""


def normalise(
    cube: Cube, sample: list[NDArray[np.float64]], ends: NDArray[np.float64]
) -> tuple[Normalisation, ...]:
    """Median and robust scale of each band's sampled values, and its ends where they are bounds."""
    recipes = []
    for values, own, band in zip(sample, ends, cube.bands, strict=True):
        if not values.size:
            recipes.append(Normalisation(0.0, 1.0, cube.transform))
            continue
        low, centre, high = np.percentile(values, [16, 50, 84])
        # Half the 16-84 % range is a Gaussian's standard deviation; where it is 0 (mostly constant), the plain one.
        # One number alone, however often, tells no scale but its own size.
        with np.errstate(over="ignore"):
            spread = float(values.std())
        scale = (high - low) / 2 or (spread if spread > _EXACT * abs(centre) else abs(float(centre))) or 1.0
        least = max(_PILE * values.size, 2)
        lowest, highest = (float(end) if piles_up(values, float(end), least) else None for end in own)
        if cube.transform == "linear" and not is_elevation(cube.variable, cube.variable.bands[band]):
            least_known, top = _known_bounds((low, centre, high), own, cube.variable.bands[band])
            lowest, highest = least_known if lowest is None else lowest, top if highest is None else highest
        far = _far_out(values, own, float(centre), float(scale))
        trace = _trace(values) if cube.transform == "cbrt" else None
        recipes.append(Normalisation(float(centre), float(scale), cube.transform, lowest, highest, *far, trace))
    return tuple(recipes)


def _trace(roots: NDArray[np.float64]) -> float | None:
    """The least rain that is any, from sampled cube roots; None where few are wet, or none are dry."""
    wet = roots[roots > 0]
    return float(wet.min()) ** 3 if _FEWEST_WET <= wet.size < roots.size else None


def _known_bounds(
    middle: tuple[float, float, float], ends: NDArray[np.float64], band: Band
) -> tuple[float | None, float | None]:
    """The least and the greatest there can be of sampled values that end at `ends`, by what they are like; else None.

    `middle` are their 16th, 50th and 84th percentile.

    Shares and percentages, which fill 0 to 1 or 0 to 100, and amounts, whose logarithm is more even than they are
    themselves and which are nowhere negative: power, concentrations, counts, depths. Those that are nowhere nothing
    are not nothing in a gap either, for their logarithm is taken: of radar, to have it in dB. Of whole numbers the next
    to the least may well be 0.
    """
    for top in _WHOLE:
        if 0 <= ends[0] <= _AT_END * top and (1 - _AT_END) * top <= ends[1] <= top:
            return 0.0, top
    if ends[0] < 0 or not may_be_amount(band.units):
        return None, None
    low, centre, high = middle
    if not 0 < low < high:
        return None, None
    ways = ((low, centre, high), np.log((low, centre, high)))
    uneven, in_logarithm = (abs(c - (a + b) / 2) / (b - a) for a, c, b in ways)
    is_amount = centre < (low + high) / 2 and uneven > max(_UNEVEN, in_logarithm)
    least = 0.0 if band.encoding.step else _NEXT_TO_NOTHING * float(ends[0])
    return (least if is_amount else None), None


def _far_out(
    values: NDArray[np.float64], ends: NDArray[np.float64], centre: float, scale: float
) -> tuple[float | None, float | None]:
    """From where on, down and up, values that end at `ends` are no measurements.

    That is a hundred times as far from the others as these, all but a hundred thousandth at each end, are apart, or a
    million times where up to a thousandth lies there: floods, fires and ships, whose few large values are no end of
    what there is but a tail, stay within it; 1e20 among temperatures does not. Nor are measurements, however many,
    whose squares no float32 holds in units of the scale: the lowest number of all, as nodata that nothing names.
    """
    least, most = -np.inf, np.inf
    if max(centre - ends[0], ends[1] - centre) > _MEASURABLE * scale:
        least, most = centre - _MEASURABLE * scale, centre + _MEASURABLE * scale
    for share, reach in _FAR_OUT:
        last = min(max(_FEW, values.size // share), (values.size - 1) // 3)
        ordered = np.partition(values, (last, values.size - 1 - last))
        low, high = float(ordered[last]), float(ordered[-1 - last])
        if last and high > low:
            least, most = max(least, low - reach * (high - low)), min(most, high + reach * (high - low))
    return (least, most) if np.isfinite([least, most]).all() else (None, None)

"""Numbers that are probably not what they pass for.

A nodata tag that was lost on the way, classes as quantities, directions that go round.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band

__all__ = ["Suspect", "few_numbers", "goes_round", "many_zeros", "suspect_values", "suspects_of", "told"]

_LEAST = 20
"""Values that must be the same number, and as many that are not."""
_LEAST_SHARE = 0.0005
_FAR = 0.5
"""Distance to the nearest other value, as a share of what 98 % of the others span."""
_MOST_CODES = 8
"""Different numbers that may lie beyond all others as codes do: land, coast, pole hole, missing."""
_ENOUGH = 1000
"""Values from which few different numbers among them are no accident."""
_CLASSES, _NAMED_CLASSES = 32, 256
"""Different numbers at most: pictures of 8 bits have more, however dark; and where a band is called by its classes."""
_CLASS_NAMES = re.compile(r"class|land_?(cover|use)|lulc|categor|corine|\bclc|\blc_?type|igbp|soil_?type")


_MANY, _OFTENER = 0.01, 5
"""Share of zeros that are many, and how much oftener than any other number they are."""
_TURNS = (360.0, 2 * math.pi)
_ANGLES = (re.compile(r"(deg|degrees?|°)([ _](true|t|north|east))?"), re.compile(r"rad(ians?)?"))
"""A turn in degrees and in radians, and the units of either."""
_DIRECTIONS = ("direction", "aspect", "azimuth", "phase")
"""Words in the name of a band of directions that has no units."""
_ROUNDING = 1e-6
"""Share of a turn by which float32 may take an angle beyond its end."""
_SEAM, _UNNAMED_SEAM, _AT_EACH_END = 1 / 36, 1 / 360, 0.001
"""How near to both ends of a turn numbers lie that go all the way round, as a share of it; where only the numbers
themselves say so, as GDAL writes aspects, nearer, and none beyond, and how many of them lie at either end."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stored number of one band that is probably not an observation, or a band of classes or of directions."""

    band: str
    value: float
    share: float
    """Of the band's values that count as known."""
    distinct: int = 0
    """How many different numbers there are, where they may be classes."""
    near: bool = False
    """Not far from others, but the only explanation at hand where nothing at all is missing."""
    round: bool = False
    """All numbers are directions, whose least and greatest are neighbours."""
    codes: tuple[float, ...] = ()
    """More numbers beside that one, as far from all others."""

    def __str__(self) -> str:
        if self.round:
            return (
                f"{self.band} holds directions all the way round, and a fill between 350 and 10 degrees comes out near "
                "180; fill their sine and cosine (or u and v) and make directions of these"
            )
        if self.distinct:
            return (
                f"{self.band} holds {self.distinct} different numbers only; if they are classes, use --filler nearest, "
                "which invents none between them"
            )
        if self.near:
            return (
                f"nothing is missing, and about {100 * self.share:.2g} % of the values of {self.band} are exactly "
                f"{self.value:.10g}; if that stands for missing, add --nodata {self.value:.10g}"
            )
        if self.codes:
            listed = ", ".join(f"{code:.10g}" for code in (self.value, *self.codes[:-1]))
            return (
                f"about {100 * self.share:.2g} % of the known values of {self.band} are exactly {listed} or "
                f"{self.codes[-1]:.10g}, far from all others; if these are codes, add --valid-range with the ends of "
                "what is measured"
            )
        return (
            f"about {100 * self.share:.2g} % of the known values of {self.band} are exactly {self.value:.10g}, far "
            f"from all others; if that stands for missing, add --nodata {self.value:.10g}"
        )


def told(suspects: Sequence[Suspect]) -> list[str]:
    """One line for each number, also where many bands (the months of a series, often) hold it."""
    alike: dict[tuple[bool, int, tuple[float, ...]], list[Suspect]] = {}
    for suspect in suspects:
        values = () if suspect.distinct else (suspect.value, *suspect.codes)
        alike.setdefault((suspect.round, suspect.distinct, values), []).append(suspect)
    return [str(replace(max(some, key=lambda s: s.share), band=_named(some))) for some in alike.values()]


def _named(suspects: Sequence[Suspect]) -> str:
    names = [suspect.band for suspect in suspects]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more bands"


def suspect_values(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The smallest or largest numbers, and their share, where they occur often and lie far from every other.

    Mostly one; none where there are no such. A few beside each other are codes of land, clouds and the like.
    """
    numbers, counts = np.unique(values, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(counts)])
    most = _MOST_CODES if numbers.size > _CLASSES + _MOST_CODES else 1  # few numbers are classes all of them
    for count in range(1, min(most, numbers.size - 1) + 1):
        for codes, others in (
            (slice(0, count), slice(count, numbers.size)),
            (slice(numbers.size - count, numbers.size), slice(0, numbers.size - count)),
        ):
            alike = int(upto[codes.stop] - upto[codes.start])
            if min(alike // count, values.size - alike) < _LEAST or alike < _LEAST_SHARE * values.size:
                continue
            first, last = upto[others.start], upto[others.stop] - 1
            ranks = first + np.array([0.01, 0.99]) * (last - first)
            low, high = numbers[np.searchsorted(upto, ranks, "right") - 1]
            gap = max(numbers[others.start] - numbers[codes.stop - 1], numbers[codes.start] - numbers[others.stop - 1])
            if high > low and gap > max(_FAR * (high - low), _between_classes(numbers[others])):
                return numbers[codes], alike / values.size
    return numbers[:0], 0.0


def _between_classes(numbers: NDArray[np.float64]) -> float:
    """How far neighbours among few different numbers are apart: classes 1, 2 and 3 are no farther than that."""
    return float(np.diff(numbers).max()) if 1 < numbers.size <= _CLASSES else 0.0


def many_zeros(values: NDArray[np.float64]) -> float:
    """The share of zeros where none is smaller and each other number rare beside them, as around radar; else 0."""
    if values.size < _ENOUGH or values.min() != 0:
        return 0.0
    share = float(np.mean(values == 0))
    _, counts = np.unique(values[values != 0], return_counts=True)
    rare = counts.size and counts.max() * _OFTENER < share * values.size
    return share if share >= _MANY and rare else 0.0


def few_numbers(values: NDArray[np.float64], name: str = "") -> int:
    """How many different whole numbers there are, where they are few enough to be classes; 0 where not.

    Those of a band that is called by its classes may be more. One alone is no map of classes.
    """
    most = _NAMED_CLASSES if _CLASS_NAMES.search(name.lower()) else _CLASSES
    found = np.unique(values) if values.size >= _ENOUGH else values[:0]
    return found.size if 1 < found.size <= most else 0


def goes_round(band: Band, values: NDArray[np.float64]) -> bool:
    """Whether a band holds angles on both sides of north (0 and a turn) or of south (half a turn either way).

    By its units or its name; a band that has neither, by numbers that fill a turn exactly, as aspects in degrees and
    the phase of an interferogram in radians do.
    """
    if values.size < _ENOUGH:
        return False
    units, low, high = band.units.lower().strip(), float(values.min()), float(values.max())
    named = any(word in band.name.lower() for word in _DIRECTIONS)
    for turn, spelt in zip(_TURNS, _ANGLES, strict=True):
        for start in (0.0, -turn / 2):
            near = max(abs(low - start), abs(high - start - turn)) < _SEAM * turn
            if near and (spelt.fullmatch(units) or named):
                return True
    return not units and any(_fills(values, turn, start) for turn in _TURNS for start in (0.0, -turn / 2))


def _fills(values: NDArray[np.float64], turn: float, start: float) -> bool:
    """Whether angles reach from the start of a turn to its end and no farther, with many at either."""
    end, rounding = start + turn, _ROUNDING * turn
    ends = [np.abs(values - place) <= _UNNAMED_SEAM * turn for place in (start, end)]
    inside = start - rounding <= values.min() and values.max() <= end + rounding
    return bool(inside and min(there.mean() for there in ends) >= _AT_EACH_END)


def suspects_of(
    bands: Sequence[Band], known: Sequence[NDArray[np.float64]], *, whole: bool = False
) -> tuple[Suspect, ...]:
    """Suspects among known physical values, one array a band, as the numbers that are stored.

    Where nothing is missing (`whole`), zeros are asked about that may well be observations elsewhere.
    """
    found = []
    for band, every in zip(bands, known, strict=True):
        suspects, share = suspect_values(every)
        if suspects.size:
            value, *codes = (_as_stored(band, number) for number in suspects.tolist())
            found.append(Suspect(band.name, value, share, codes=tuple(codes)))
        values = every[~np.isin(every, suspects)] if suspects.size else every
        if goes_round(band, values):
            found.append(Suspect(band.name, 0.0, 1.0, round=True))
        elif _whole(band, values) and (distinct := few_numbers(values, band.name)):
            found.append(Suspect(band.name, float(values[0]), 1.0, distinct))
        elif whole and not suspects.size and band.encoding.offset == 0 and (share := many_zeros(values)):
            found.append(Suspect(band.name, 0.0, share, near=True))
    return tuple(found)


def _as_stored(band: Band, value: float) -> float:
    """A physical value as the number that is stored."""
    stored = (value - band.encoding.offset) / band.encoding.scale
    return round(stored) if band.encoding.dtype.kind in "iu" else float(f"{stored:.10g}")


def _whole(band: Band, values: NDArray[np.float64]) -> bool:
    """Whether numbers are stored whole, or were before somebody put NaN where nothing is."""
    return band.encoding.dtype.kind in "iu" or bool((values == np.round(values)).all())

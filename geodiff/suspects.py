"""Numbers that are probably not what they pass for.

A nodata tag that was lost on the way, classes as quantities, directions that go round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io import Band

__all__ = ["Suspect", "few_numbers", "goes_round", "many_zeros", "suspect_value", "suspects_of", "told"]

_LEAST = 20
"""Values that must be the same number, and as many that are not."""
_LEAST_SHARE = 0.0005
_FAR = 0.5
"""Distance to the nearest other value, as a share of what 98 % of the others span."""
_ENOUGH = 1000
"""Values from which few different numbers among them are no accident."""
_CLASSES = 32
"""Different numbers at most; pictures of 8 bits have more, however dark."""


_MANY, _OFTENER = 0.01, 5
"""Share of zeros that are many, and how much oftener than any other number they are."""
_DEGREES = re.compile(r"(deg|degrees?|°)([ _](true|t))?")
_DIRECTIONS = ("direction", "aspect", "azimuth")
"""Units of directions; and words in the name of a band that has none."""
_TURN, _SEAM = 360.0, 10.0
"""Degrees of a turn, and how near to both ends of it numbers lie that go all the way round."""


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
        return (
            f"about {100 * self.share:.2g} % of the known values of {self.band} are exactly {self.value:.10g}, far "
            f"from all others; if that stands for missing, add --nodata {self.value:.10g}"
        )


def told(suspects: Sequence[Suspect]) -> list[str]:
    """One line for each number, also where many bands (the months of a series, often) hold it."""
    alike: dict[tuple[bool, int, float], list[Suspect]] = {}
    for suspect in suspects:
        value = 0.0 if suspect.distinct else suspect.value
        alike.setdefault((suspect.round, suspect.distinct, value), []).append(suspect)
    return [str(replace(max(some, key=lambda s: s.share), band=_named(some))) for some in alike.values()]


def _named(suspects: Sequence[Suspect]) -> str:
    names = [suspect.band for suspect in suspects]
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more bands"


def suspect_value(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """The smallest or largest number and its share, where it occurs often and lies far from every other; else None."""
    for end in (values.min(), values.max()) if values.size else ():
        others = values[values != end]
        alike = values.size - others.size
        if min(alike, others.size) < _LEAST or alike < _LEAST_SHARE * values.size:
            continue
        low, high = np.percentile(others, (1, 99))
        if high > low and np.abs(others - end).min() > max(_FAR * (high - low), _between_classes(others)):
            return float(end), alike / values.size
    return None


def _between_classes(values: NDArray[np.float64]) -> float:
    """How far neighbours among few different numbers are apart: classes 1, 2 and 3 are no farther than that."""
    numbers = np.unique(values)
    return float(np.diff(numbers).max()) if 1 < numbers.size <= _CLASSES else 0.0


def many_zeros(values: NDArray[np.float64]) -> float:
    """The share of zeros where none is smaller and each other number rare beside them, as around radar; else 0."""
    if values.size < _ENOUGH or values.min() != 0:
        return 0.0
    share = float(np.mean(values == 0))
    _, counts = np.unique(values[values != 0], return_counts=True)
    rare = counts.size and counts.max() * _OFTENER < share * values.size
    return share if share >= _MANY and rare else 0.0


def few_numbers(values: NDArray[np.float64]) -> int:
    """How many different numbers there are, where they are few enough to be classes; 0 where not."""
    found = np.unique(values).size if values.size >= _ENOUGH else 0
    return found if found <= _CLASSES else 0


def goes_round(band: Band, values: NDArray[np.float64]) -> bool:
    """Whether a band in degrees has numbers on both sides of north (0 and 360) or of south (-180 and 180)."""
    named = any(word in band.name.lower() for word in _DIRECTIONS)
    if not (named or _DEGREES.fullmatch(band.units.lower().strip())) or values.size < _ENOUGH:
        return False
    low, high = float(values.min()), float(values.max())
    return any(abs(low - start) < _SEAM and abs(high - start - _TURN) < _SEAM for start in (0.0, -_TURN / 2))


def suspects_of(
    bands: Sequence[Band], known: Sequence[NDArray[np.float64]], *, whole: bool = False
) -> tuple[Suspect, ...]:
    """Suspects among known physical values, one array a band, as the numbers that are stored.

    Where nothing is missing (`whole`), zeros are asked about that may well be observations elsewhere.
    """
    found = []
    for band, values in zip(bands, known, strict=True):
        suspect = suspect_value(values)
        if suspect is not None:
            stored = (suspect[0] - band.encoding.offset) / band.encoding.scale
            exact = round(stored) if band.encoding.dtype.kind in "iu" else float(f"{stored:.10g}")
            found.append(Suspect(band.name, exact, suspect[1]))
        elif goes_round(band, values):
            found.append(Suspect(band.name, 0.0, 1.0, round=True))
        elif band.encoding.dtype.kind in "iu" and (distinct := few_numbers(values)):
            found.append(Suspect(band.name, float(values[0]), 1.0, distinct))
        elif whole and band.encoding.offset == 0 and (share := many_zeros(values)):
            found.append(Suspect(band.name, 0.0, share, near=True))
    return tuple(found)

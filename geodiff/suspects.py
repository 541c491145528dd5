"""Numbers that are probably not what they pass for.

A nodata tag that was lost on the way, classes and dates as quantities, directions that go round, a collar among gaps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geodiff.turns import Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.channels import Turns
    from geodiff.io import Band

__all__ = [
    "Suspect",
    "are_dates",
    "called_classes",
    "few_numbers",
    "goes_round",
    "many_zeros",
    "may_go_round",
    "suspect_values",
    "suspects_of",
    "told",
    "told_of_edge",
    "told_of_turns",
    "turns_of",
]

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
_CLASS_NAMES = re.compile(r"class|land_?(cover|use)|lulc|categor|corine|(?<![a-z])(clc|lc_?type)|igbp|soil_?type")
_NO_CLASSES = re.compile(
    r"prob|conf|frac|percent|pct|share|ratio|count|number|area|dens|intens|divers|uncert|error|std|variance|score|entropy"
    r"|mean|height|depth|elev|dist|classic"
)
"""Parts of names that are quantities about classes: how likely, how many, how large."""

_MANY, _OFTENER = 0.01, 5
"""Share of zeros that are many, and how much oftener than any other number they are."""
_TURNS = (360.0, 2 * math.pi)
_ANGLES = (
    re.compile(r"(deg|degrees?|°)([ _]?(true|t|north|east)|[ _](clockwise|from|compass)\b.*)?"),
    re.compile(r"rad(ians?)?"),
)
"""A turn in degrees and in radians, and the units of either."""
_NO_UNITS = ("", "1", "-", "none", "unitless")
"""How it is said that a band has none: a phase centre at 355 m is no direction."""
_DIRECTIONS = ("direction", "aspect", "azimuth", "phase")
"""Words in the name of a band of directions that has no units."""
_DAYS = re.compile(r"(^|[^a-z])doy([^a-z]|$)|day_?of_?(the_?)?year|julian_?day")
_YEAR = Turn(365.25, 0.5)
"""Days from 1 to 365 or 366, by which 1 January is next to 31 December."""
_YEARS, _MONTH_DAY, _DAY_OF_YEAR = (1850, 2150), 10_000, 1000
"""In which years dates lie, and what their years count in 20240131 and in 2024031."""
_NO_ECHO = (-100.0, 0.0)
"""dBZ between which no echo is written; beyond it stands for missing."""
_ROUNDING = 1e-6
"""Share of a turn by which float32 may take an angle beyond its end."""
_SEAM, _UNNAMED_SEAM, _AT_EACH_END = 1 / 36, 1 / 360, 0.001
"""How near to both ends of a turn numbers lie that go all the way round, as a share of it; where only the numbers
themselves say so, as GDAL writes aspects, nearer, and none beyond, and how many of them lie at either end."""


_MUCH_OF_EDGE = 0.4
"""Share of a raster's edge that no lost lines along one side of it make up."""


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
    dates: bool = False
    """All numbers are dates whose digits are those of year, month and day, or of year and day of the year."""
    codes: tuple[float, ...] = ()
    """More numbers beside that one, as far from all others."""

    def __str__(self) -> str:
        if self.dates:
            return (
                f"{self.band} holds dates written as {self.value:.10g}, and the mean of two is mostly not a date; "
                "use --filler nearest, or convert to day counts first"
            )
        if self.distinct:
            return (
                f"{self.band} holds only {self.distinct} different values; if they are classes, use --filler nearest, "
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
                f"{self.codes[-1]:.10g}, far from all others; if these are codes, add --valid-range with the bounds of "
                "the measurements"
            )
        return (
            f"about {100 * self.share:.2g} % of the known values of {self.band} are exactly {self.value:.10g}, far "
            f"from all others; if that stands for missing, add --nodata {self.value:.10g}"
        )


def told(suspects: Sequence[Suspect], filler: str = "") -> list[str]:
    """One line for each number, also where many bands (the months of a series, often) hold it.

    Nothing of classes and dates where the filler is `nearest`, which is what would be advised.
    """
    alike: dict[tuple[bool, int, tuple[float, ...]], list[Suspect]] = {}
    for suspect in suspects:
        if filler == "nearest" and (suspect.distinct or suspect.dates):
            continue
        values = () if suspect.distinct or suspect.dates else (suspect.value, *suspect.codes)
        alike.setdefault((suspect.dates, suspect.distinct, values), []).append(suspect)
    found = ((max(some, key=lambda s: s.share), [suspect.band for suspect in some]) for some in alike.values())
    return [str(replace(first, band=_named(names))) for first, names in found]


def told_of_edge(share: float) -> list[str]:
    """A line where nodata along much of the raster's edge, as share of it, is too narrow for a collar and is filled."""
    line = (
        f"along {100 * share:.0f} % of the raster's edge there is nodata too narrow for `--fillable auto` to treat as "
        "the scene's collar, so it is filled, from one side only; if the scene ends there, give its outline with "
        "--fillable PATH"
    )
    return [line] if share >= _MUCH_OF_EDGE else []


def told_of_turns(bands: Sequence[str], turns: Turns) -> list[str]:
    """One line for all bands that go round once in the same number, that nobody takes them for anything else."""
    alike: dict[float, list[str]] = {}
    for band, turn in zip(bands, turns, strict=False):
        if turn is not None:
            alike.setdefault(turn.length, []).append(band)
    return [
        f"{_named(names)}: circular values with period {length:.6g}; gaps are filled through their cosine and "
        "sine"
        for length, names in alike.items()
    ]


def _named(names: Sequence[str]) -> str:
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


def called_classes(band: Band) -> bool:
    """Whether the name of a band of whole numbers, neither scaled nor measured in anything, says they are classes."""
    stored, name = band.encoding, band.name.lower()
    plain = stored.dtype.kind in "iu" and (stored.scale, stored.offset) == (1.0, 0.0)
    unmeasured = band.units.lower().strip() in (*_NO_UNITS, "class", "classes")
    return plain and unmeasured and bool(_CLASS_NAMES.search(name)) and not _NO_CLASSES.search(name)


def few_numbers(values: NDArray[np.float64], name: str = "") -> int:
    """How many different whole numbers there are, where they are few enough to be classes; 0 where not.

    Those of a band that is called by its classes may be more. One alone is no map of classes.
    """
    most = _NAMED_CLASSES if _CLASS_NAMES.search(name.lower()) else _CLASSES
    found = np.unique(values) if values.size >= _ENOUGH else values[:0]
    return found.size if 1 < found.size <= most else 0


def turns_of(bands: Sequence[Band], known: Sequence[NDArray[np.float64]], called: str = "") -> Turns:
    """What `goes_round` says of each band by its known physical values; empty where none goes round."""
    turns = tuple(goes_round(band, values, called) for band, values in zip(bands, known, strict=True))
    return turns if any(turns) else ()


def may_go_round(band: Band, called: str = "") -> bool:
    """Whether units or names are those of what goes round, before any number is read."""
    name, units = f"{band.name} {called}".lower(), band.units.lower().strip()
    of_angles = any(spelt.fullmatch(units) for spelt in _ANGLES)
    return of_angles or any(word in name for word in _DIRECTIONS) or bool(_DAYS.search(name))


def goes_round(band: Band, values: NDArray[np.float64], called: str = "") -> Turn | None:
    """The turn of a band of angles on both sides of north (0 and a turn) or of south (half a turn either way).

    By its units, or by its name (it may be `called` otherwise too) where it has none; what both say are angles may
    leave out more of a turn, up to half. A band that has neither, by numbers that fill a turn exactly, as aspects in
    degrees and the phase of an interferogram in radians do. None for what does not go round.
    """
    if not values.size:
        return None
    units, low, high = band.units.lower().strip(), float(values.min()), float(values.max())
    name = f"{band.name} {called}".lower()
    named = any(word in name for word in _DIRECTIONS)
    for length, spelt in zip(_TURNS, _ANGLES, strict=True):
        for turn in (Turn(length, 0.0), Turn(length, -length / 2)):
            of_angles = spelt.fullmatch(units) is not None
            at_ends = (of_angles or (named and units in _NO_UNITS)) and _at_both_ends(turn, low, high)
            across = of_angles and named and _within(turn, low, high) and high - low > length / 2
            if at_ends or across or (not units and _fills(values, turn)):
                return _as_rounded(turn, band.encoding.step, low, high)
    return _YEAR if _DAYS.search(name) and _at_both_ends(_YEAR, low, high) else None


def _as_rounded(turn: Turn, step: float, low: float, high: float) -> Turn:
    """The turn from which whole numbers come out as the known ones do: north is 0 where these end at 359, else 360."""
    if step and high < turn.start + turn.length - step / 2:
        return replace(turn, start=turn.start - step / 2)
    return replace(turn, start=turn.start + step / 2) if step and low > turn.start + step / 2 else turn


def _at_both_ends(turn: Turn, low: float, high: float) -> bool:
    return max(abs(low - turn.start), abs(high - turn.start - turn.length)) < _SEAM * turn.length


def _within(turn: Turn, low: float, high: float) -> bool:
    rounding = _ROUNDING * turn.length
    return turn.start - rounding <= low and high <= turn.start + turn.length + rounding


def _fills(values: NDArray[np.float64], turn: Turn) -> bool:
    """Whether angles reach from the start of a turn to its end and no farther, with many at either.

    Among aspects -1 stands for flat ground.
    """
    values = values[values != -1] if turn.start == 0 else values
    if values.size < _ENOUGH:
        return False
    ends = [np.abs(values - place) <= _UNNAMED_SEAM * turn.length for place in (turn.start, turn.start + turn.length)]
    inside = _within(turn, float(values.min()), float(values.max()))
    return bool(inside and min(there.mean() for there in ends) >= _AT_EACH_END)


def are_dates(values: NDArray[np.float64]) -> bool:
    """Whether all numbers are dates by their digits, as 20240131 (or 2024031, by the day of the year) is one."""
    if values.size < _ENOUGH or values.min() == values.max() or not (values == np.round(values)).all():
        return False
    years, rest = np.divmod(values, _MONTH_DAY)
    months, days = np.divmod(rest, 100)
    by_month = (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)
    years_of_days, days_of_year = np.divmod(values, _DAY_OF_YEAR)
    by_day = (days_of_year >= 1) & (days_of_year <= 366)
    first, last = _YEARS
    return any(
        bool((right & (years >= first) & (years <= last)).all())
        for right, years in ((by_month, years), (by_day, years_of_days))
    )


def suspects_of(
    bands: Sequence[Band],
    known: Sequence[NDArray[np.float64]],
    turns: Turns = (),
    *,
    whole: bool = False,
    rain: bool = False,
) -> tuple[Suspect, ...]:
    """Suspects among known physical values, one array a band, as the numbers that are stored.

    Of what goes round, no more than numbers far from all others. Where nothing is missing (`whole`), zeros are asked
    about that may well be observations elsewhere. Of `rain` there is no less than none, however near.
    """
    found = []
    for band, every, turn in zip(bands, known, turns or (None,) * len(bands), strict=True):
        suspects, share = suspect_values(every)
        if rain and not suspects.size and every.size and every.min() < 0:
            suspects, share = every.min(keepdims=True), float(np.mean(every == every.min()))
        if suspects.size and not _no_echo(band, suspects):
            value, *codes = (_as_stored(band, number) for number in suspects.tolist())
            found.append(Suspect(band.name, value, share, codes=tuple(codes)))
        values = every[~np.isin(every, suspects)] if suspects.size else every
        if turn is not None:
            continue
        if are_dates(values):
            found.append(Suspect(band.name, _as_stored(band, float(values.max())), 1.0, dates=True))
        elif _whole(band, values) and (distinct := few_numbers(values, band.name)):
            found.append(Suspect(band.name, float(values[0]), 1.0, distinct))
        elif whole and not suspects.size and band.encoding.offset == 0 and (share := many_zeros(values)):
            found.append(Suspect(band.name, 0.0, share, near=True))
    return tuple(found)


def _no_echo(band: Band, numbers: NDArray[np.float64]) -> bool:
    """Whether a number far below all others is what a radar has where it sees no rain (-32 dBZ), which is a value."""
    low, high = _NO_ECHO
    return band.units.strip().lower() == "dbz" and numbers.size == 1 and low <= float(numbers[0]) <= high


def _as_stored(band: Band, value: float) -> float:
    """A physical value as the number that is stored."""
    stored = (value - band.encoding.offset) / band.encoding.scale
    return round(stored) if band.encoding.dtype.kind in "iu" else float(f"{stored:.10g}")


def _whole(band: Band, values: NDArray[np.float64]) -> bool:
    """Whether numbers are stored whole, or were before somebody put NaN where nothing is."""
    return band.encoding.dtype.kind in "iu" or bool((values == np.round(values)).all())

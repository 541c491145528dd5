"""Times as files count them, to `datetime64` and back; other calendars are placed where the season is the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geodiff.io.cube import native, pick

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["dates_after", "dates_of", "decode", "encode"]

_log = logging.getLogger(__name__)

_GREGORIAN = frozenset({"", "standard", "gregorian", "proleptic_gregorian", "none"})
_UNITS = re.compile(r"\s*(\w+)\s+since\s+(.+?)\s*$", re.IGNORECASE)
_ABSOLUTE = re.compile(r"(day|month|year) as %Y", re.IGNORECASE)
_UNTOLD = frozenset({"", "1", "year", "years", "yyyymmdd", "yyyymm", "yyyy"})
"""Units that say nothing of what is counted since when."""
_SPANS = {"day": (18000101, 22001231), "month": (180001, 220012), "year": (1800, 2200)}
_WRITTEN = {"day": "YYYYMMDD", "month": "YYYYMM", "year": "years"}
_AHEAD = {
    re.compile(r"d(ays?)?"): 86_400_000_000,
    re.compile(r"h((ou)?rs?)?"): 3_600_000_000,
    re.compile(r"min(ute)?s?"): 60_000_000,
    re.compile(r"s(ec(ond)?s?)?"): 1_000_000,
}
"""Microseconds of the units in which lead times are counted."""
Date = np.datetime64 | None


def dates_of(variable: xr.Variable) -> tuple[Date, ...]:
    """The dates of a time coordinate in the order of the file, None where it holds none or cannot be understood."""
    values = native(np.asarray(variable.values)).ravel()
    units, calendar = str(pick(variable, "units", "")), str(pick(variable, "calendar", "standard")).lower()
    dates = decode(values, units, calendar)
    marked = [pick(variable, key) for key in ("_FillValue", "missing_value")]
    absent = np.zeros(values.shape, bool)
    for blank in marked if values.dtype.kind in "iuf" else ():
        absent |= values == blank if isinstance(blank, (int, float, np.number)) else False
    return tuple(None if gone else date for date, gone in zip(dates, absent, strict=True))


def dates_after(began: np.datetime64, ahead: xr.Variable) -> tuple[Date, ...]:
    """The dates that lie so far `ahead` of a moment, by its units; None where it does not count hours or the like."""
    values, units = native(np.asarray(ahead.values)).ravel(), str(pick(ahead, "units", "")).lower()
    if values.dtype.kind == "m":
        return tuple(None if np.isnat(value) else began + value.astype("m8[us]") for value in values)
    step = next((length for unit, length in _AHEAD.items() if unit.fullmatch(units)), None)
    if step is None or values.dtype.kind not in "iuf" or not np.isfinite(values.astype(np.float64)).all():
        return (None,) * len(values)
    return tuple(began + np.timedelta64(round(float(value) * step), "us") for value in values)


def decode(values: NDArray[Any], units: str, calendar: str = "standard") -> tuple[Date, ...]:
    """Numbers with CF units (or dates of any sort) to `datetime64`.

    Calendars without leap years, or with 30-day months, keep month and day; what our February lacks lies at its end.
    """
    if values.dtype.kind == "M":
        return tuple(None if np.isnat(value) else value for value in values.astype("M8[us]"))
    if values.dtype.kind in "SUOT":
        return _decode_objects(values.tolist())
    if values.dtype.kind not in "iuf":
        return (None,) * len(values)
    written = _written(values, units)
    if written is not None:
        return written
    known = np.isfinite(values.astype(np.float64))
    moments = _moments(np.where(known, values, 0), units, calendar)
    if moments is None:
        return (None,) * len(values)
    return tuple(date if ok else None for date, ok in zip(_to_datetime64(moments), known, strict=True))


def _decode_objects(values: Sequence[Any]) -> tuple[Date, ...]:
    if values and all(hasattr(value, "calendar") for value in values):
        return _to_datetime64(values)
    return tuple(
        _from_text(value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)) for value in values
    )


def _from_text(text: str) -> Date:
    try:
        date = np.datetime64(text.strip().removesuffix("Z"), "us")
    except ValueError:
        return None
    return None if np.isnat(date) else date


def _written(values: NDArray[Any], units: str) -> tuple[Date, ...] | None:
    """Dates of numbers that are written as dates are: 20170131, 201701 or 2017; None where they are not.

    Units may say so, as CDO's absolute time axes do. Without units all of the numbers must be such dates, months and
    years whole and in ascending order: what merely counts is not mistaken for them.
    """
    told = _ABSOLUTE.match(units)
    if told:
        read = _READ[told[1].lower()]
        return tuple(read(float(value)) if np.isfinite(value) else None for value in values)
    if units.lower() not in _UNTOLD or not len(values):
        return None
    rising = bool((np.diff(values.astype(np.float64)) > 0).all() and not (values % 1).any())
    for unit, (first, last) in _SPANS.items():
        if ((values >= first) & (values <= last)).all():
            dates = tuple(_READ[unit](float(value)) for value in values)
            if None not in dates and (unit == "day" or rising) and (unit != "year" or len(values) > 1):
                _log.info("time %s to %s without units is read as %s", values[0], values[-1], _WRITTEN[unit])
                return dates
    return None


def _compact(value: float) -> Date:
    text = f"{int(value):08d}"
    day = _from_text(f"{text[:4]}-{text[4:6]}-{text[6:]}")
    return None if day is None else day + np.timedelta64(round((value % 1) * 86_400_000_000), "us")


def _compact_month(value: float) -> Date:
    """201701.5 is the middle of January."""
    text = f"{int(value):06d}"
    return _within(_from_text(f"{text[:4]}-{text[4:6]}-01"), value % 1, "M")


def _compact_year(value: float) -> Date:
    return _within(_from_text(f"{int(value):04d}-01-01"), value % 1, "Y")


def _within(start: Date, share: float, unit: Literal["M", "Y"]) -> Date:
    """The instant at that share of the month or year that begins then."""
    if start is None:
        return None
    following = (start.astype(f"M8[{unit}]") + 1).astype("M8[us]")
    return start + np.timedelta64(round(share * int((following - start).astype(np.int64))), "us")


_READ: dict[str, Callable[[float], Date]] = {"day": _compact, "month": _compact_month, "year": _compact_year}


def _moments(values: NDArray[Any], units: str, calendar: str) -> Sequence[Any] | None:
    """Dates of cftime, or None where the units are no time since a moment."""
    import cftime

    match = _UNITS.match(units)
    if match is None:
        return None
    kind = "standard" if calendar in _GREGORIAN else calendar
    if kind == "standard" and re.match(r"0+-", match[2]):  # a mean year, as Ferret and COADS count it
        kind = "proleptic_gregorian"
    step = match[1].lower().removesuffix("s")
    if step in {"month", "year"} and not (kind == "360_day" and step == "month"):
        return _months(values, 12 if step == "year" else 1, match[2], kind)
    try:
        return list(np.atleast_1d(cftime.num2date(values, units, kind, only_use_cftime_datetimes=True)))
    except (ValueError, OverflowError, TypeError):
        return None


def _months(values: NDArray[Any], length: int, since: str, calendar: str) -> Sequence[Any] | None:
    """Calendar months or years since a moment, a fraction of one in days of that month."""
    import cftime

    try:
        origin = cftime.num2date(0, f"days since {since}", calendar, only_use_cftime_datetimes=True)
    except (ValueError, OverflowError):
        return None
    return [_month_later(origin, float(value) * length) for value in values]


def _month_later(origin: Any, months: float) -> Any:
    import datetime as dt

    year, month = divmod(origin.year * 12 + origin.month - 1 + int(np.floor(months)), 12)
    start = origin.replace(year=year, month=month + 1, day=1)
    day = min(origin.day, start.daysinmonth)
    return start.replace(day=day) + dt.timedelta(days=(months % 1) * start.daysinmonth)


def _to_datetime64(moments: Sequence[Any]) -> tuple[Date, ...]:
    placed = (_placed(moment) for moment in moments)
    return tuple(None if date is None else _tidy(date) for date in placed)


def _placed(moment: Any) -> Date:
    """The same month, day and time of our calendar, whatever other dates there are.

    A February that is longer than ours shares what ours has from the 28th on among its days from then on, in order.
    """
    if moment.month != 2 or moment.day < 28:
        return _from_text(moment.isoformat())
    start = _from_text(f"{moment.year:04d}-02-28")
    if start is None:
        return None
    theirs = moment.daysinmonth - 27
    ours = min(theirs, int((np.datetime64(f"{moment.year:04d}-03-01") - start) / np.timedelta64(1, "D")))
    since = ((moment.day - 28) * 86400 + moment.hour * 3600 + moment.minute * 60 + moment.second) * 1_000_000
    return start + np.timedelta64(round((since + moment.microsecond) * ours / theirs), "us")


def _tidy(date: np.datetime64) -> np.datetime64:
    """Whole seconds where the fraction is only what floating days leave over (under a millisecond)."""
    whole = (date + np.timedelta64(500_000, "us")).astype("M8[s]").astype("M8[us]")
    return whole if abs(date - whole) < np.timedelta64(1, "ms") else date


def encode(dates: Sequence[Date]) -> tuple[NDArray[Any], dict[str, str]] | None:
    """Numbers and attributes of a CF time coordinate, in days or seconds if they suffice; None if a date is unknown."""
    if any(date is None for date in dates):
        return None
    stamps = np.array(dates, "M8[us]").astype(np.int64)
    units = (("days", 86_400_000_000), ("seconds", 1_000_000), ("microseconds", 1))
    unit, step = next((unit, step) for unit, step in units if not (stamps % step).any())
    numbers = stamps // step
    small = np.abs(numbers).max(initial=0) < 2**31  # older CF knows no 64-bit integers
    attributes = {
        "standard_name": "time",
        "long_name": "time",
        "axis": "T",
        "units": f"{unit} since 1970-01-01",
        "calendar": "proleptic_gregorian",
    }
    return numbers.astype("i4" if small else "i8"), attributes

"""GRIB files: one band is one field at one time; fields of one quantity and level are one variable with dates."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.io import Band, OpenOptions, Variable
from geodiff.io.geotiff import band_of, variable_of
from geodiff.io.stack import StackReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodiff.io.header import Header

__all__ = ["grib_variables"]


def grib_variables(header: Header, options: OpenOptions) -> tuple[Variable, ...]:
    """Variables of a GRIB file, named after quantity and level (`TMP_2_HTGL`), dated by the time they are valid for.

    Fields of one quantity, level and time (members of an ensemble, spans of an accumulation) become variables of
    their own, numbered in the order of the file: the first of each time are one variable over all times, and so on.
    Where times have different numbers of fields, each field is a variable.
    """
    groups: dict[str, list[int]] = {}
    for index in range(header.count):
        groups.setdefault(_name(header, index), []).append(index)
    return tuple(v for name, indexes in groups.items() for v in _variables(header, name, indexes, options))


def _name(header: Header, index: int) -> str:
    tags = header.band_tags[index].get("", {})
    parts = (tags.get("GRIB_ELEMENT", ""), tags.get("GRIB_SHORT_NAME", ""))
    return re.sub(r"\W+", "_", "_".join(part for part in parts if part)).strip("_") or "field"


def _variables(header: Header, name: str, indexes: Sequence[int], options: OpenOptions) -> list[Variable]:
    times = [_valid_time(header, index) for index in indexes]
    series = _series(times) if None not in times and _alike(header, indexes) else [[i] for i in range(len(indexes))]
    names = [name] if len(series) == 1 else [f"{name}_{number}" for number in range(1, len(series) + 1)]
    return [
        _over_time([_single(header, own, indexes[place], times[place], options) for place in places])
        for own, places in zip(names, series, strict=True)
    ]


def _series(times: Sequence[np.datetime64 | None]) -> list[list[int]]:
    """Places of the first field of each time, of the second, and so on, in the order of time."""
    places: dict[np.datetime64 | None, list[int]] = {}
    for place, time in enumerate(times):
        places.setdefault(time, []).append(place)
    if len({len(fields) for fields in places.values()}) > 1:
        return [[place] for place in range(len(times))]
    in_order = sorted(places, key=lambda time: time or np.datetime64(0, "ns"))
    return [list(each) for each in zip(*(places[time] for time in in_order), strict=True)]


def _over_time(singles: Sequence[Variable]) -> Variable:
    """One variable of several with one date each."""
    if len(singles) == 1:
        return singles[0]
    reader = StackReader(tuple(single.reader for single in singles))
    return replace(singles[0], reader=reader, dates=tuple(single.dates[0] for single in singles))


def _single(header: Header, name: str, index: int, time: np.datetime64 | None, options: OpenOptions) -> Variable:
    tags: dict[str, Any] = dict(header.band_tags[index].get("", {}))
    band: Band = band_of(header, index, name, options)
    # GDAL converts kelvins and calls the result C, which to UDUNITS, and so to CF, is the coulomb
    attributes = {"units": "degC" if band.units == "C" else band.units, "long_name": tags.get("GRIB_COMMENT", name)}
    return replace(variable_of(header, name, (index,), (band,)), dates=(time,), attributes=attributes)


def _alike(header: Header, indexes: Sequence[int]) -> bool:
    return len({(header.dtypes[i], str(header.nodata[i]), header.masks[i]) for i in indexes}) == 1


def _valid_time(header: Header, index: int) -> np.datetime64 | None:
    """GRIB_VALID_TIME is in seconds since 1970, UTC; of images it is 0, and the time of observation beside it."""
    tags = header.band_tags[index].get("", {})
    numbers = [re.match(r"\s*(-?\d+)", tags.get(f"GRIB_{name}_TIME", "")) for name in ("VALID", "REF")]
    seconds = [int(found[1]) for found in numbers if found is not None]
    return np.datetime64(next(filter(None, seconds), 0), "s").astype("datetime64[ns]") if seconds else None

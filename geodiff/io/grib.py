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

    from geodiff.io.gdal import Header

__all__ = ["grib_variables"]


def grib_variables(header: Header, options: OpenOptions) -> tuple[Variable, ...]:
    """Variables of a GRIB file, named after quantity and level (`TMP_2_HTGL`), dated by the time they are valid for.

    Fields of one quantity, level and time (members of an ensemble, spans of an accumulation) become variables of
    their own, numbered in the order of the file.
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
    alone = len(indexes) == 1
    if alone or None in times or len(set(times)) < len(times) or not _alike(header, indexes):
        names = [name] if alone else [f"{name}_{number}" for number in range(1, len(indexes) + 1)]
        return [_single(header, n, i, t, options) for n, i, t in zip(names, indexes, times, strict=True)]
    order = sorted(range(len(indexes)), key=lambda place: times[place] or np.datetime64(0, "ns"))
    singles = [_single(header, name, indexes[place], times[place], options) for place in order]
    reader = StackReader(tuple(single.reader for single in singles))
    return [replace(singles[0], reader=reader, dates=tuple(times[place] for place in order))]


def _single(header: Header, name: str, index: int, time: np.datetime64 | None, options: OpenOptions) -> Variable:
    tags: dict[str, Any] = dict(header.band_tags[index].get("", {}))
    band: Band = band_of(header, index, name, options)
    attributes = {"units": band.units, "long_name": tags.get("GRIB_COMMENT", name)}
    return replace(variable_of(header, name, (index,), (band,)), dates=(time,), attributes=attributes)


def _alike(header: Header, indexes: Sequence[int]) -> bool:
    return len({(header.dtypes[i], str(header.nodata[i]), header.masks[i]) for i in indexes}) == 1


def _valid_time(header: Header, index: int) -> np.datetime64 | None:
    """GRIB_VALID_TIME is in seconds since 1970, UTC."""
    found = re.match(r"\s*(-?\d+)", header.band_tags[index].get("", {}).get("GRIB_VALID_TIME", ""))
    return None if found is None else np.datetime64(int(found[1]), "s").astype("datetime64[ns]")

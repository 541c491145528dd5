"""Stacks: rasters or scene folders of one date each, on one grid, as variables with dates.

Dates come from metadata where it says when the data was acquired, else from the names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError, SourceError
from geodiff.io import OpenOptions, QualityBand, Raster, Variable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = ["StackReader", "date_of", "open_stack", "stack_rasters", "usable"]

_RASTERS = (
    ".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".vrt", ".cub", ".lbl", ".vic", ".mrf", ".grb", ".grib",
    ".grib2", ".grb2",
)  # fmt: skip
_OWN_LAYERS = re.compile(r".*_(source|reason|standard_error|members|quantiles)\.tif")
_RECORD = "geodiff-product.json"


@dataclass(frozen=True, slots=True)
class StackReader:
    """One reader a date."""

    readers: tuple[Any, ...]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) of one date in the stored dtype."""
        values: NDArray[Any] = self.readers[date].read(0, window)
        return values

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column) of one date, True where the file's mask says valid; None without one."""
        valid: NDArray[np.bool_] | None = self.readers[date].valid(0, window)
        return valid


def open_stack(members: Sequence[str], source: str, options: OpenOptions) -> Raster:
    """Open rasters or scene folders of one date each as one raster with dates, in the order of time.

    Raises
    ------
    SourceError
        Where there is nothing to open, a date cannot be told, or two members have the same.
    GridError
        Where members differ in grid, bands or dtype.
    """
    paths = usable(members)
    if not paths:
        raise SourceError(
            f"{source} holds no raster and no scene folder; give a raster, a folder or a quoted glob of them"
        )
    return stack_rasters([_open_member(path, options) for path in paths], source)


def stack_rasters(opened: Sequence[Raster], source: str) -> Raster:
    """Rasters of one date each as one with dates, in the order of time; raises as `open_stack` does."""
    dates = [_required_date(raster) for raster in opened]
    order = sorted(range(len(opened)), key=lambda i: dates[i])
    _refuse_doubles([dates[i] for i in order], [opened[i].path for i in order])
    ordered = [opened[i] for i in order]
    times = tuple(dates[i] for i in order)
    first = ordered[0]
    variables = tuple(_stacked(ordered, variable, times) for variable in first.variables)
    return Raster(
        path=source,
        driver="stack",
        variables=variables,
        quality=tuple(_stacked_quality(ordered, number, times) for number in range(len(first.quality))),
        attributes=_common([raster.attributes for raster in ordered]),
        files=tuple(name for raster in ordered for name in raster.files),
    )


def usable(members: Sequence[str]) -> list[str]:
    """The rasters and scene folders among some paths, without the layers of our own products."""
    from geodiff.io.scenes import is_scene

    paths = [Path(member) for member in members]
    ours = any((folder / _RECORD).is_file() for folder in {path.parent for path in paths})
    rasters = [path for path in paths if path.is_file() and path.suffix.lower() in _RASTERS]
    scenes = [path for path in paths if path.is_dir() and is_scene(str(path))]
    return [str(path) for path in (*rasters, *scenes) if not (ours and _OWN_LAYERS.fullmatch(path.name))]


def _open_member(path: str, options: OpenOptions) -> Raster:
    from geodiff.io.opening import open_source

    return open_source(path, options)


def _required_date(raster: Raster) -> np.datetime64:
    found = date_of(raster)
    if found is None:
        raise SourceError(
            f"{raster.path} says nowhere when it was acquired, so it has no place in a stack; "
            "put the date in its name (2021-01-31 or 20210131), or fill it alone"
        )
    return found


def date_of(raster: Raster) -> np.datetime64 | None:
    """When a raster of one date was acquired: its own dates, tags, a STAC Item beside it, its name; else None."""
    own = raster.variables[0].dates
    if len(own) == 1 and own[0] is not None:
        return own[0]
    from geodiff.io.stac import date_beside

    told = _tagged(raster.attributes)
    if told is None:
        told = date_beside(raster.path)
    return told if told is not None else _named(Path(raster.path.rstrip("/")).name)


_TIME_TAGS = (
    "time", "ACQUISITIONDATETIME", "IMAGERY:ACQUISITIONDATETIME", "SENSING_TIME", "DATE_ACQUIRED", "START_TIME",
    "RANGEBEGINNINGDATE",
)  # fmt: skip


def _tagged(attributes: Any) -> np.datetime64 | None:
    for name in _TIME_TAGS:
        text = str(attributes.get(name, "")).strip().strip('"').rstrip("Z")
        if re.match(r"\d{4}-\d{2}-\d{2}", text):
            try:
                return np.datetime64(text.split(";")[0].replace(" ", "T").split("+")[0], "ns")
            except ValueError:
                continue
    return None


_DAY = re.compile(
    r"(?<!\d)((?:19|20)\d{2})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?:[T_-]?([01]\d|2[0-3])([0-5]\d)([0-5]\d))?(?!\d)"
)
_ORDINAL = re.compile(r"(?<!\d)(?:A|a)?((?:19|20)\d{2})(00[1-9]|0[1-9]\d|[12]\d{2}|3[0-5]\d|36[0-6])(?!\d)")
_YEAR = re.compile(r"(?<!\d)((?:19|20)\d{2})(?!\d)")


def _named(name: str) -> np.datetime64 | None:
    """The first date in a name: 20210131, 2021-01-31, 20210131T101500, 2021031 (day of the year) or a year alone."""
    if found := _DAY.search(name):
        year, _, month, day, *clock = found.groups()
        time = "T" + ":".join(clock) if clock[0] else ""
        try:
            return np.datetime64(f"{year}-{month}-{day}{time}", "ns")
        except ValueError:
            return None  # 20210231
    if found := _ORDINAL.search(name):
        return np.datetime64(found[1], "ns") + np.timedelta64(int(found[2]) - 1, "D")
    found = _YEAR.search(name)
    return None if found is None else np.datetime64(found[1], "ns")


def _refuse_doubles(dates: Sequence[np.datetime64], paths: Sequence[str]) -> None:
    for one, other, first, second in zip(dates, dates[1:], paths, paths[1:], strict=False):
        if one == other:
            raise SourceError(
                f"{first} and {second} are both of {str(one)[:19]}; a stack has one raster a date: mosaic them first"
            )


def _stacked(rasters: Sequence[Raster], variable: Variable, dates: tuple[np.datetime64, ...]) -> Variable:
    reader = StackReader(tuple(_same(raster, variable).reader for raster in rasters))
    return replace(variable, reader=reader, dates=dates)


def _same(raster: Raster, variable: Variable) -> Variable:
    """The variable of that name in another member, which must have the same grid, bands and dtype."""
    found = next((v for v in raster.variables if v.name == variable.name), None)
    if found is None:
        said = f"{raster.path} has no {variable.name}, which the first of the stack has"
        raise GridError(f"{said}; leave one of them out")
    for what, one, other in (
        ("size", tuple(found.geobox.shape), tuple(variable.geobox.shape)),
        ("affine", _rounded(found), _rounded(variable)),
        ("CRS", str(found.geobox.crs), str(variable.geobox.crs)),
        ("dtype", found.dtype, variable.dtype),
        ("bands", [b.name for b in found.bands], [b.name for b in variable.bands]),
        ("encoding", [str(b.encoding) for b in found.bands], [str(b.encoding) for b in variable.bands]),
    ):
        if one != other:
            raise GridError(
                f"{raster.path} has the {what} {one} and the first of the stack {other}; bring all to one grid first "
                "(gdalwarp -t_srs -te -tr), or leave it out"
            )
    return found


def _rounded(variable: Variable) -> tuple[float, ...]:
    """The affine to a thousandth of a pixel: files of one grid differ in the last digits."""
    affine = variable.geobox.affine
    pixel = max(abs(affine.a), abs(affine.b), 1e-12)
    return tuple(round(float(number) / pixel, 3) for number in tuple(affine)[:6])


def _stacked_quality(rasters: Sequence[Raster], number: int, dates: tuple[np.datetime64, ...]) -> QualityBand:
    first = rasters[0].quality[number]
    alike = [_same_quality(raster, first) for raster in rasters]
    reader = StackReader(tuple(quality.variable.reader for quality in alike))
    return replace(first, variable=replace(first.variable, reader=reader, dates=dates))


def _same_quality(raster: Raster, wanted: QualityBand) -> QualityBand:
    name = (wanted.preset, wanted.layer, wanted.variable.name)
    for quality in raster.quality:
        if (quality.preset, quality.layer, quality.variable.name) == name:
            return quality
    said = f"{raster.path} has no {wanted.variable.name} ({wanted.preset}), which the first of the stack has"
    raise SourceError(f"{said}; leave one of them out")


def _common(attributes: Sequence[Any]) -> dict[str, Any]:
    """What all members say alike."""
    first = dict(attributes[0])
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in attributes[1:])}

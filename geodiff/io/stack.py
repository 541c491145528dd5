"""Stacks: rasters or scene folders as variables with dates, on one grid or on grids that are shifted by whole pixels.

Dates come from metadata where it says when the data was acquired, else from the names. A file of several dates gives
all of them; two files of one date are two dates that are the same, in the order of their names.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError, SourceError
from geodiff.io import Kind, OpenOptions, QualityBand, Raster, Variable
from geodiff.io.axes import curvilinear
from geodiff.io.cube import CubeReader
from geodiff.io.placed import assert_same_ground, assert_shifted_only, common_grid, on_grid
from geodiff.io.places import exists, local_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.lattice import Window

__all__ = [
    "PASS", "DateReader", "StackReader", "by_date", "common", "date_of", "open_stack", "required_date", "same_quality",
    "same_variable", "stack_rasters", "usable",
]  # fmt: skip

logger = logging.getLogger(__name__)

_RASTERS = (
    ".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".vrt", ".cub", ".lbl", ".vic", ".mrf", ".grb", ".grib",
    ".grib2", ".grb2",
)  # fmt: skip
_PICTURES = (".png", ".jpg", ".jpeg")
"""Previews, where they lie beside files of these:"""
_CONTAINERS = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf", ".zarr", ".zarr.zip")
_OWN_LAYERS = re.compile(r".*_(source|reason|standard_error|members|quantiles)\.tif")
_RECORD = "geodiff-product.json"
PASS = np.timedelta64(10, "m")
"""Tiles that a satellite sees later than this belong to another pass."""

_ONE_LAYER = (
    "if they are layers of one product, give those of one layer, as 'folder/*_NDVI_*.tif' in quotes, and the quality "
    "layer as --qa PRESET:'folder/*_QA_*.tif' or --mask; else write all with one dtype"
)


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


@dataclass(frozen=True, slots=True)
class DateReader:
    """One date of a reader of several."""

    reader: Any
    date: int

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype."""
        del date
        values: NDArray[Any] = self.reader.read(self.date, window)
        return values

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column), True where the file's mask says valid; None without one."""
        del date
        valid: NDArray[np.bool_] | None = self.reader.valid(self.date, window)
        return valid


def open_stack(members: Sequence[str], source: str, options: OpenOptions) -> Raster:
    """Open rasters, NetCDF files, Zarr stores or scene folders as one raster with dates, in the order of time.

    Raises
    ------
    SourceError
        Where there is nothing to open, or a date cannot be told.
    GridError
        Where members differ in CRS, pixel size, bands or dtype, or lie nowhere near each other.
    """
    paths = usable(members)
    if not paths:
        raise SourceError(
            f"{source} holds no raster and no scene folder; give a raster, a folder or a quoted glob of them"
        )
    _refuse_bands(paths, source)
    return stack_rasters([_open_member(path, options) for path in paths], source)


def _refuse_bands(paths: Sequence[str], source: str) -> None:
    """The files of a scene are its bands, which would pass for dates."""
    from geodiff.io.scenes import parsed

    bands = sorted({file.band for path in paths if (file := parsed(path)) is not None})
    if len(bands) > 1:
        raise SourceError(
            f"{source} names the bands of scenes file by file ({', '.join(bands[:4])}), and a stack is of dates; give "
            "the folder of a scene, or the one that holds several"
        )


def stack_rasters(opened: Sequence[Raster], source: str) -> Raster:
    """Rasters as one with all their dates, in the order of time; raises as `open_stack` does."""
    single = [one for raster in opened for one in by_date(raster)]
    dates = [required_date(raster) for raster in single]
    order = sorted(range(len(single)), key=lambda i: dates[i])
    ordered = [single[i] for i in order]
    times = tuple(dates[i] for i in order)
    _say_doubles(times, ordered)
    first, names = ordered[0], tuple(str(raster.attributes.get("scene", "")) for raster in ordered)
    variables = tuple(_stacked(ordered, variable, times) for variable in first.variables)
    _say_tiles(times, ordered)
    return Raster(
        path=source,
        driver="stack",
        variables=variables,
        quality=tuple(_stacked_quality(ordered, number, times) for number in range(len(first.quality))),
        attributes=common([raster.attributes for raster in ordered]),
        files=tuple(dict.fromkeys(name for raster in ordered for name in raster.files)),
        names=names if all(names) else (),
    )


def by_date(raster: Raster) -> list[Raster]:
    """A raster of several dates as one a date; what has no dates is the same on each.

    Raises SourceError where it has layers along time but does not say when, or variables of different dates.
    """
    several = [variable.dates for variable in raster.variables if len(variable.dates) > 1]
    if not several:
        return [raster]
    if None in several[0] or any(dates != several[0] for dates in several):
        why = "does not say when they are" if None in several[0] else "has others of other dates"
        raise SourceError(
            f"{raster.path} has {len(several[0])} layers along time and {why}, so they have no place in a stack; "
            "leave it out, or fill it by itself"
        )
    return [_at(raster, date) for date in range(len(several[0]))]


def _at(raster: Raster, date: int) -> Raster:
    def cut(variable: Variable) -> Variable:
        if len(variable.dates) == 1:
            return variable
        return replace(variable, reader=DateReader(variable.reader, date), dates=(variable.dates[date],))

    quality = tuple(replace(band, variable=cut(band.variable)) for band in raster.quality)
    return replace(raster, variables=tuple(map(cut, raster.variables)), quality=quality)


def usable(members: Sequence[str]) -> list[str]:
    """The rasters and scene folders among some paths; where there are none the NetCDF, HDF5 and Zarr ones.

    Layers of our own products are left out, and a cube of ours beside what it was made from.
    """
    from geodiff.io.scenes import is_scene

    ours = any(exists(f"{folder}/{_RECORD}") for folder in {_folder(member) for member in members})
    rasters = [member for member in members if member.lower().endswith(_RASTERS) and _is_file(member)]
    scenes = [member for member in members if Path(member).is_dir() and is_scene(member)]
    containers = [member for member in members if _is_container(member)]
    if containers and not scenes and all(member.lower().endswith(_PICTURES) for member in rasters):
        foreign = [member for member in containers if not exists(f"{member.rpartition('.')[0]}.geodiff.json")]
        return foreign or containers
    return [path for path in (*rasters, *scenes) if not (ours and _OWN_LAYERS.fullmatch(Path(path).name))]


def _folder(member: str) -> str:
    return member.rpartition("/")[0] or "."


def _is_file(member: str) -> bool:
    """A file here, or anything that a remote place has listed under the name of one."""
    local = local_path(member)
    return local is None or local.is_file()


def _is_container(member: str) -> bool:
    name, local = member.rstrip("/").lower(), local_path(member)
    if not name.endswith(_CONTAINERS) or name.endswith((".geodiff-work.zarr", ".geodiff-fit.zarr")):
        return False
    return local is None or (local.is_dir() if name.endswith(".zarr") else local.is_file())


def _open_member(path: str, options: OpenOptions) -> Raster:
    from geodiff.io.opening import open_source

    return open_source(path, options)


def required_date(raster: Raster) -> np.datetime64:
    """When a raster of one date was acquired; raises SourceError with the cure where it is not told."""
    found = date_of(raster)
    if found is None:
        written = raster.attributes.get(_WRITTEN)
        but = f" (its {_WRITTEN}, {written}, is when the file was written)" if written else ""
        raise SourceError(
            f"{raster.path} says nowhere when it was acquired{but}, so it has no place in a stack; "
            "put the date in its name (2021-01-31 or 20210131), or fill it alone; if these are bands of one image, put "
            "them into one file first (gdalbuildvrt -separate)"
        )
    return found


def date_of(raster: Raster) -> np.datetime64 | None:
    """When a raster of one date was acquired: its own dates, tags, a STAC Item beside it, its name; else None."""
    own = next((v.dates[0] for v in raster.variables if len(v.dates) == 1 and v.dates[0] is not None), None)
    if own is not None:
        return own
    from geodiff.io.stac import date_beside

    told = _tagged(raster.attributes)
    if told is None:
        told = date_beside(raster.path)
    return told if told is not None else _named(Path(raster.path.rstrip("/")).name)


_WRITTEN = "TIFFTAG_DATETIME"
"""By TIFF 6.0 when the image was created: programs put the time there at which they wrote it, another for each."""
_TIME_TAGS = (
    "time", "ACQUISITIONDATETIME", "IMAGERY:ACQUISITIONDATETIME", "SENSING_TIME", "DATE_ACQUIRED", "START_TIME",
    "RANGEBEGINNINGDATE", "time_coverage_start",
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


_HOUR, _SIXTY = r"([01]\d|2[0-3])", r"([0-5]\d)"
_CLOCK = rf"(?:{_HOUR}{_SIXTY}{_SIXTY}?|{_HOUR}([:-]){_SIXTY}(?:\5{_SIXTY})?)(?!\d)"
_TIME = re.compile(rf"(?!.?(?:19|20)\d{{2}}[-_.]\d{{2}})(?:[T_.-]|[-_]S)?{_CLOCK}|T?{_HOUR}(?!\d)")
"""What follows a day: T0600, _060000, -S003000, T06:00, _06-00-00, T06, hours right behind it; no second day."""
_YEARS = r"((?:19|20)\d{2})"
_DAY = re.compile(rf"(?<!\d){_YEARS}([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])")
_DAY_LAST = re.compile(rf"(?<!\d)(\d\d)([-.])(\d\d)\2{_YEARS}(?!\d)")
_ORDINAL = re.compile(rf"(?<!\d)(?:A|a)?{_YEARS}(00[1-9]|0[1-9]\d|[12]\d{{2}}|3[0-5]\d|36[0-6])")
_COUNTED = re.compile(
    rf"_s{_YEARS}(\d{{3}})(\d{{6}})\d_e\d{{14}}|(?<![A-Za-z0-9])[A-Z]{_YEARS}(\d{{3}})(?:19|20)\d{{5}}\.L3"
)
"""Days of the year in 14 digits that could be a month, a day and a time: ABI's start, and ocean colour's span."""
_MONTH = re.compile(rf"(?<!\d){_YEARS}[-_.](0[1-9]|1[0-2])(?!\d)")
_YEAR = re.compile(rf"(?<!\d){_YEARS}(?!\d)")
_SHORT = re.compile(rf"(?<!\d){_YEARS}(0[1-9]|1[0-2])(?!\d)")
"""202101, which a path and row could be as well: last of all."""


def _named(name: str) -> np.datetime64 | None:
    """The first date in a name: 20210131, 2021-01-31, 20210131T1015, 2021031 (day of the year), 2021-01, a year alone.

    31-01-2021 is one too; 02-01-2021 is none, because it may be of January or of February.
    """
    if found := _COUNTED.search(name):
        year, number, clock = found[1] or found[4], found[2] or found[5], found[3] or ""
        return _day_of_year(year, number, clock)
    for found in _DAY.finditer(name):
        clock = name[found.end() :]
        if _TIME.match(clock) or not clock[:1].isdigit():
            return _instant(f"{found[1]}-{found[3]}-{found[4]}", clock)
    if found := _DAY_LAST.search(name):
        return _instant(f"{found[4]}-{found[3]}-{found[1]}", "") if int(found[1]) > 12 else None
    for found in _ORDINAL.finditer(name):
        clock = name[found.end() :]
        if _TIME.match(clock) or not clock[:1].isdigit():
            return _day_of_year(found[1], found[2], clock)
    found = _MONTH.search(name) or _YEAR.search(name) or _SHORT.search(name)
    return None if found is None else np.datetime64("-".join(found.groups()), "ns")


def _day_of_year(year: str, number: str, clock: str) -> np.datetime64 | None:
    return _instant(str(np.datetime64(year, "D") + np.timedelta64(int(number) - 1, "D")), clock)


def _instant(day: str, clock: str) -> np.datetime64 | None:
    """A day with the time that the text behind it begins with, if any; None where there is no such day (20210231)."""
    found = _TIME.match(clock)
    parts = [part for part in (found.groups() if found else ()) if part and part.isdigit()]
    hour, minute, second = [*parts, "00", "00", "00"][:3]
    try:
        return np.datetime64(f"{day}T{hour}:{minute}:{second}", "ns")
    except ValueError:
        return None


def _say_doubles(dates: Sequence[np.datetime64], rasters: Sequence[Raster]) -> None:
    doubles = [place for place, (one, other) in enumerate(pairwise(dates)) if one == other]
    if doubles:
        first, second, when = rasters[doubles[0]].path, rasters[doubles[0] + 1].path, str(dates[doubles[0]])[:19]
        logger.warning(
            "%s and %s are both of %s (%d such pairs) and are kept as two dates; if they are bands of one, put them "
            "into one file first (gdalbuildvrt -separate)", first, second, when, len(doubles),
        )  # fmt: skip


def _say_tiles(dates: Sequence[np.datetime64], rasters: Sequence[Raster]) -> None:
    """Tiles of one pass are no dates: each would be filled as far as the other one reaches."""
    boxes = [raster.variables[0].geobox for raster in rasters]
    tiles = [n for n, (a, b) in enumerate(pairwise(dates)) if b - a <= PASS and boxes[n] != boxes[n + 1]]
    if tiles:
        first, second = rasters[tiles[0]].path, rasters[tiles[0] + 1].path
        logger.warning(
            "%s and %s are of one pass and on different grids (%d such pairs), as tiles are, and are kept as two "
            "dates: each is filled where only the other was seen; merge the tiles of a pass first (gdalwarp)",
            first, second, len(tiles),
        )  # fmt: skip


def _stacked(rasters: Sequence[Raster], variable: Variable, dates: tuple[np.datetime64, ...]) -> Variable:
    alike = [same_variable(raster, variable) for raster in rasters]
    return _joined(alike, [raster.path for raster in rasters], dates)


def _joined(alike: Sequence[Variable], paths: Sequence[str], dates: tuple[np.datetime64, ...]) -> Variable:
    """One variable of one date a member; raises GridError where they cannot lie on one grid."""
    first = alike[0]
    for variable, path in zip(alike, paths, strict=True):
        assert_shifted_only(variable, first, path)
        assert_same_ground(variable, first, path)
    grid = common_grid([variable.geobox for variable in alike], first.name)
    reader = StackReader(tuple(on_grid(variable, grid) for variable in alike))
    attributes = common([variable.attributes for variable in alike])
    return replace(first, geobox=grid, reader=reader, dates=dates, attributes=attributes)


def same_variable(raster: Raster, variable: Variable) -> Variable:
    """The variable of that name in another member, which must have the same bands and dtype."""
    found = next((v for v in raster.variables if v.name == variable.name), None)
    if found is None:
        said = f"{raster.path} has no {variable.name}, which the first of the stack has"
        raise GridError(f"{said}; leave one of them out")
    for what, one, other, cure in (
        ("dtype", found.dtype, variable.dtype, _ONE_LAYER),
        ("bands", [b.name for b in found.bands], [b.name for b in variable.bands], "give all the same bands"),
        (
            "encoding", [str(b.encoding) for b in found.bands], [str(b.encoding) for b in variable.bands],
            "write all with one nodata, scale and offset",
        ),
        ("units", *_units(found, variable), "convert them, or spell them alike, first"),
        ("2-D coordinates", _ground(found), _ground(variable), "bring all to one grid first"),
    ):  # fmt: skip
        if one != other:
            raise GridError(
                f"{raster.path} has the {what} {one} and the first of the stack {other}; {cure}, or leave it out"
            )
    return found


def _units(one: Variable, other: Variable) -> tuple[list[str], list[str]]:
    """Units of the measurements that both have in units, as they are written; equal ones where they mean the same."""
    pairs = [
        (a.units, b.units)
        for a, b in zip(one.bands, other.bands, strict=False)
        if a.kind is Kind.CONTINUOUS and a.units and b.units and _spelled_alike(a.units) != _spelled_alike(b.units)
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _spelled_alike(units: str) -> str:
    plain = re.sub(r"[\s_*^.]+", "", units.lower())
    celsius = re.fullmatch(r"(deg(ree)?s?|°)?c(elsius)?", plain)
    return "degc" if celsius else re.sub(r"^(deg(ree)?s?)?k(elvins?)?$", "k", plain)


def _ground(variable: Variable) -> str:
    """A digest of the 2-D coordinates of a swath or curvilinear grid, which lie beside it; empty for any other."""
    reader = getattr(variable.reader, "reader", variable.reader)
    if variable.georeferenced or not isinstance(reader, CubeReader):
        return ""
    dataset = reader.source.dataset()
    names = curvilinear(dataset, dataset.variables[reader.name]) or ()
    first = (dataset.variables[name][(0,) * (dataset.variables[name].ndim - 2)] for name in names)  # of their times
    return hashlib.sha256(b"".join(np.asarray(place.values).tobytes() for place in first)).hexdigest()[:12]


def _stacked_quality(rasters: Sequence[Raster], number: int, dates: tuple[np.datetime64, ...]) -> QualityBand:
    first = rasters[0].quality[number]
    alike = [same_quality(raster, first).variable for raster in rasters]
    return replace(first, variable=_joined(alike, [raster.path for raster in rasters], dates))


def same_quality(raster: Raster, wanted: QualityBand) -> QualityBand:
    """The same quality band of another member; raises SourceError where it has none."""
    name = (wanted.preset, wanted.layer, wanted.variable.name)
    for quality in raster.quality:
        if (quality.preset, quality.layer, quality.variable.name) == name:
            return quality
    said = f"{raster.path} has no {wanted.variable.name} ({wanted.preset}), which the first of the stack has"
    raise SourceError(f"{said}; leave one of them out")


def common(attributes: Sequence[Any]) -> dict[str, Any]:
    """What all members say alike."""
    first = dict(attributes[0])
    return {key: value for key, value in first.items() if all(_equal(o.get(key), value) for o in attributes[1:])}


def _equal(one: Any, other: Any) -> bool:
    """Equal, NaN too; attributes may be arrays."""
    return repr(np.asarray(one).tolist()) == repr(np.asarray(other).tolist())

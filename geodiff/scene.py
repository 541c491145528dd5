"""The scene: what is to be filled, and why each of its pixels is missing.

`open_scene(job)` resolves names, bands, dates, quality flags and masks once; afterwards a `Cube` answers two questions
by window: what is stored, and for which reasons a pixel is missing. Nothing is loaded until it is asked.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import CODES
from geodiff.credentials import redacted
from geodiff.encoding import can_hold
from geodiff.errors import EncodingError, JobError, SourceError
from geodiff.faults import detect_window
from geodiff.flags import decode, load_preset, slc_off_as_nodata
from geodiff.gaps import Reason, stored_reason
from geodiff.io import Kind, OpenOptions, QualityBand, Raster, Variable, open_raster
from geodiff.io.ancillary import is_layer
from geodiff.io.globe import Space, space_of
from geodiff.lattice import Lattice, Window
from geodiff.quality import band_places, quality_of, read_aligned, same_date
from geodiff.quantities import transform_of
from geodiff.suspects import called_classes
from geodiff.undated import ordinals

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.job import FillJob

__all__ = ["Cube", "Scene", "open_scene", "scene_of"]

_log = logging.getLogger(__name__)

PlaneReader = Callable[[Window], "NDArray[np.bool_]"]
"""(window) to bool (row, column)."""

_UNCERTAINTY = re.compile(
    r"(^|_)(precision|uncertainty|uncert|error|err|std(dev|ev)?|rms[de]|sses|standard_(error|deviation))(_|$)"
)
_SCAN_GAPS = re.compile(r"LE07_\w{4}_\d{6}_(\d{8})")
"""Landsat 7 product names; its scan line corrector failed on 2003-05-31."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Why pixels are missing beyond what the numbers say themselves; opened once, read by window."""

    quality: tuple[QualityBand, ...] = ()
    masks: tuple[PlaneReader, ...] = ()
    detect: tuple[str, ...] = ()
    fillable: PlaneReader | None = None
    """A user's own fillable area; None leaves it to `auto` or `all`."""
    fill_everything: bool = False
    """`all`, or a user's own area, which decides alone: no reason of the quality band forbids an estimate."""
    scan_gaps: bool = False
    """Landsat 7 without its scan line corrector: the quality band calls the wedges fill, which would be outside."""
    space: Space | None = None
    """What the map shows beyond the globe, where nothing can be missing; None where it shows ground alone."""


@dataclass(frozen=True, slots=True)
class Cube:
    """One variable to fill: which bands and dates, how its numbers are transformed, why its pixels are missing."""

    variable: Variable
    bands: tuple[int, ...]
    """Indices of the bands that may be filled; the others are copied."""
    targets: tuple[int, ...]
    """Indices of the dates to fill; the others stay context."""
    rules: Rules
    transform: str = "linear"
    seconds: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    """(date,) seconds since 1970; `ordinals` where the source has no dates, 0 where one lacks among others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", _seconds(self.variable.dates))  # every window asks for them many times

    @property
    def name(self) -> str:
        return self.variable.name

    @property
    def called(self) -> str:
        """Its names beside its own."""
        return " ".join(str(self.variable.attributes.get(key, "")) for key in ("standard_name", "long_name"))

    @property
    def of_the_sea(self) -> bool:
        """Whether its standard or long name says that it exists at sea only."""
        return self.variable.of_the_sea

    @property
    def of_uncertainty(self) -> bool:
        """Whether its standard name or its name says that it tells how sure an observation is."""
        standard = str(self.variable.attributes.get("standard_name", "")).split()
        return "standard_error" in standard[1:] or bool(_UNCERTAINTY.search(self.name.lower()))

    @property
    def land_is_told(self) -> bool:
        """Whether anything sets apart what has no value at all: flags, codes, an area of the user's, or other dates."""
        rules, coded = self.rules, any(self.variable.bands[band].encoding.undefined for band in self.bands)
        flagged = any("NO_PLACE" not in quality.constants for quality in rules.quality)
        return flagged or coded or rules.fill_everything or len(self.variable.dates) > 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.variable.shape[2:]

    @property
    def by_level(self) -> bool:
        """Whether each band has an outside of its own, which dates tell: below the sea floor there is no water."""
        return self.variable.levels and len(self.variable.dates) > 1

    @property
    def floor_unknown(self) -> bool:
        """Whether nothing sets apart, of levels, what lies below the ground."""
        variable = self.variable
        return variable.levels and len(variable.bands) > 1 and not (self.by_level or self.rules.fill_everything)

    @property
    def outside_shape(self) -> tuple[int, ...]:
        """Of what is outside: rows and columns, of each band where these are levels."""
        return (len(self.bands), *self.shape) if self.by_level else self.shape

    @property
    def lattice(self) -> Lattice:
        if self.variable.around:
            return Lattice(self.shape, periodic=True)
        box = self.variable.geobox
        degrees = box.crs is not None and box.crs.geographic
        return Lattice.of(self.shape, box.affine, 360.0 if degrees else None)

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """Stored numbers (band, row, column) of the bands to fill."""
        numbers = self.variable.reader.read(date, window)
        return numbers if self.bands == tuple(range(len(numbers))) else numbers[list(self.bands)]

    def reason(self, date: int, window: Window, stored: NDArray[Any] | None = None) -> NDArray[np.uint16]:
        """Why each pixel is missing, before any buffer: (band, row, column) of the bands to fill, 0 where known.

        `stored` is what `read` gives of the window, where it is at hand.
        """
        reason = self._named_reason(date, window, stored)
        if self.rules.detect:
            reason |= detect_window(
                lambda outer: self._judged(date, outer), self.shape, window, self.rules.detect,
                ends=not self.variable.georeferenced,
            )  # fmt: skip
        return reason

    def _named_reason(self, date: int, window: Window, stored: NDArray[Any] | None = None) -> NDArray[np.uint16]:
        stored = self.read(date, window) if stored is None else stored
        own = self._own_reason(date, window, stored)
        reason = own | self._flagged(date, window, own)
        return slc_off_as_nodata(reason) if self.rules.scan_gaps else reason

    def _judged(self, date: int, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """What damage is sought in: stored numbers, and which of them are known so far."""
        return self.read(date, window), self._named_reason(date, window) == 0

    def _own_reason(self, date: int, window: Window, stored: NDArray[Any]) -> NDArray[np.uint16]:
        """Nodata, values out of range, and the dataset's own mask; beyond the globe such pixels are undefined."""
        encodings = [self.variable.bands[band].encoding for band in self.bands]
        reason = stored_reason(stored, encodings, self.variable.reader.valid(date, window))
        if self.rules.space is not None and reason.any():
            space = self.rules.space.at(window, (reason != 0).any(axis=0))
            reason[(reason != 0) & space] |= np.uint16(Reason.UNDEFINED)
        return reason

    def _flagged(self, date: int, window: Window, own: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """What quality bands and the user's masks say, broadcastable to `own` reasons (band, row, column)."""
        reason = np.zeros((1, *window.shape), np.uint16)
        for quality in self.rules.quality:
            said = self._decoded(quality, date, window)
            reason = reason | (np.where(own != 0, said, np.uint16(0)) if quality.of_gaps else said)
        for read_mask in self.rules.masks:
            reason[:, read_mask(window)] |= np.uint16(Reason.USER_MASK)
        return reason

    def _decoded(self, quality: QualityBand, date: int, window: Window) -> NDArray[np.uint16]:
        flags = quality.variable
        when = same_date(flags, self.variable, date, quality.preset)
        values = read_aligned(flags, when, window, self.variable.geobox)
        preset = load_preset(quality.preset)
        kind = preset.layer(quality.layer).kind
        if kind == "special" and len(values) == len(self.variable.bands):
            values = values[list(self.bands)]
        bands = [self.variable.bands[band].name for band in self.bands] if kind == "bands" else [None]
        decoded = [
            decode(values, quality.preset, layer=quality.layer, band=band, constants=quality.constants or None)
            for band in bands
        ]
        if kind == "special":
            return decoded[0]
        return np.stack([np.bitwise_or.reduce(reason, axis=0) for reason in decoded]) & np.uint16(quality.only)


@dataclass(frozen=True, slots=True, repr=False)
class Scene:
    """An opened source and the cubes in it that are to be filled."""

    raster: Raster
    cubes: tuple[Cube, ...]

    def __repr__(self) -> str:
        lines = [f"Scene of {redacted(self.raster.path)} ({self.raster.driver})"]
        for cube in self.cubes:
            dates, bands, (rows, columns) = len(cube.variable.dates), len(cube.bands), cube.shape
            size = f"{dates} dates, " if dates > 1 else ""
            lines.append(f"  {cube.name}: {size}{bands} band{'s' * (bands > 1)}, {rows} x {columns} pixels")
        return "\n".join(lines)


def _seconds(dates: Sequence[np.datetime64 | None]) -> NDArray[np.int64]:
    """`Cube.seconds` of a variable's dates."""
    if all(date is None for date in dates):
        return ordinals(len(dates))
    return np.array([0 if d is None else d.astype("datetime64[s]").astype(np.int64) for d in dates])


def open_scene(job: FillJob) -> Scene:
    """Open the source and resolve everything the job says about it.

    Raises InputError (exit 2) where a name, band, date, preset or mask does not exist in the source.
    """
    raster = open_raster(job.source, OpenOptions(job.nodata, job.valid_range, job.resolution))
    _refuse_resolution(job, raster)
    return scene_of(raster, job)


def _refuse_resolution(job: FillJob, raster: Raster) -> None:
    """Raise JobError where `--resolution` changed nothing: only scenes with a file a band are brought to one grid."""
    sizes = {abs(variable.geobox.affine.a) for variable in raster.variables}
    if job.resolution is None or any(math.isclose(size, job.resolution, rel_tol=1e-6) for size in sizes):
        return
    found = ", ".join(f"{size:g}" for size in sorted(sizes))
    raise JobError(
        f"--resolution {job.resolution:g}: {job.source} has pixels of {found}, and no bands on several grids to bring "
        "to one, as scene folders and STAC Items have; leave it out, or resample the source first (gdalwarp -tr)"
    )


def scene_of(raster: Raster, job: FillJob) -> Scene:
    """Resolve everything a job says about a raster that is open already; raises as `open_scene`."""
    cubes = []
    variables = _dated(_chosen(raster, job.variable), job.dates)
    for variable, bands in zip(variables, _averaged(job, variables), strict=True):
        if bands:
            rules = _rules(raster, variable, job)
            cubes.append(Cube(variable, bands, _targets(variable, job.dates), rules, transform_of(variable)))
    if not cubes:
        kinds = sorted({b.kind.value for v in raster.variables for b in v.bands})
        raise SourceError(
            f"{job.source} has no continuous band to fill (its bands are: {', '.join(kinds) or 'none'}){_cure(kinds)}"
        )
    _refuse_nodata(job, cubes)
    return Scene(raster, tuple(cubes))


def _cure(kinds: Sequence[str]) -> str:
    """What to do with a source of such kinds of bands alone."""
    if "palette" in kinds:
        return (
            "; write the colours of its palette as bands first (gdal_translate -expand rgb), or where they stand for "
            "classes its numbers without the palette, and use --filler nearest"
        )
    if "flags" in kinds:
        return (
            "; where they stand for classes, write their numbers without what says so (names of classes, flag "
            "attributes, LAYER_TYPE), and use --filler nearest"
        )
    if "complex" in kinds:
        return "; write their real and imaginary parts, or their amplitude, as bands of their own and fill those"
    return ""


def _refuse_nodata(job: FillJob, cubes: Sequence[Cube]) -> None:
    """Raise EncodingError for a `--nodata` that no band to be filled can have; others may, or may not."""
    dtypes = sorted({str(cube.variable.dtype) for cube in cubes})
    if job.nodata is not None and not any(can_hold(np.dtype(dtype), job.nodata) for dtype in dtypes):
        raise EncodingError(
            f"--nodata {job.nodata} cannot be stored as {' or '.join(dtypes)}, so no pixel of {job.source} has it; "
            "give another, or leave it out"
        )


def _chosen(raster: Raster, names: Sequence[str]) -> list[Variable]:
    """The variables that are named, or all of them but for the layers of an earlier fill."""
    known = {variable.name: variable for variable in raster.variables}
    for name in names:
        if name not in known:
            there = raster.path or "the dataset"
            raise JobError(f"--variable {name} is not in {there}; it has {', '.join(known) or 'none'}")
    own = [variable for variable in raster.variables if not is_layer(variable.name, variable.attributes)]
    return [known[name] for name in names] if names else own


def _dated(variables: list[Variable], dates: str | None) -> list[Variable]:
    """With --dates, the variables that have dates; those that have none are copied."""
    dated = [variable for variable in variables if variable.dates != (None,)]
    return dated if dates is not None and dated else variables


def _averaged(job: FillJob, variables: Sequence[Variable]) -> list[tuple[int, ...]]:
    """The bands to fill: those wanted, or all but the ones that are called classes, which built-in fillers average."""
    bands = _bands(variables, job.bands)
    averages = job.filler != "nearest" and job.filler in (*CODES, "auto")
    pairs = list(zip(variables, bands, strict=True))
    classes = [v.bands[i].name for v, own in pairs for i in own if called_classes(v.bands[i])]
    if job.bands or not averages or not classes:
        return bands
    cure = f"between classes there is nothing; --filler nearest fills them, --bands {','.join(classes)} as quantities"
    said = f"{', '.join(classes)} of {job.source} {'are' if len(classes) > 1 else 'is'} called by classes"
    if len(classes) == sum(map(len, bands)):
        raise SourceError(f"{said}, and {cure}")
    _log.warning("%s and copied as it is: %s", said, cure)
    return [tuple(i for i in own if not called_classes(v.bands[i])) for v, own in pairs]


def _bands(variables: Sequence[Variable], wanted: Sequence[str]) -> list[tuple[int, ...]]:
    """For each variable the indices of its continuous bands, or of those wanted; empty where it has none of them.

    Bands are wanted by name or by number, from 1. A number counts within each variable, or through the file whose bands
    make several. Raises JobError for a word that is nowhere, or is codes wherever it is.
    """
    continuous = [tuple(i for i, b in enumerate(v.bands) if b.kind is Kind.CONTINUOUS) for v in variables]
    if not wanted:
        return continuous
    numbers = _band_numbers(variables)
    found = [[band_places(text, v, own) for v, own in zip(variables, numbers, strict=True)] for text in wanted]
    for text, places in zip(wanted, found, strict=True):
        _refuse_unfillable(text, places, variables, continuous)
    chosen = []
    for number, fillable in enumerate(continuous):
        indices = dict.fromkeys(index for places in found for index in places[number] if index in fillable)
        chosen.append(tuple(indices))
    return chosen


def _band_numbers(variables: Sequence[Variable]) -> list[tuple[int, ...]]:
    """The number of each band: its place in the variable, or in the file where they are all the bands of one."""
    from geodiff.io.tiffs import reader_at

    in_file = [tuple(getattr(reader_at(variable, 0), "indexes", ())) for variable in variables]
    of_one_file = sorted(n for own in in_file for n in own) == list(range(1, sum(len(v.bands) for v in variables) + 1))
    if len(variables) > 1 and of_one_file:
        return in_file
    return [tuple(range(1, len(variable.bands) + 1)) for variable in variables]


def _refuse_unfillable(
    text: str, places: Sequence[Sequence[int]], variables: Sequence[Variable], continuous: Sequence[Sequence[int]]
) -> None:
    found = [(number, index) for number, indices in enumerate(places) for index in indices]
    if not found:
        fillable = [variable for variable, own in zip(variables, continuous, strict=True) if own] or variables
        raise JobError(f"--bands {text}: {'; '.join(_there(variable) for variable in fillable)}")
    if not any(index in continuous[number] for number, index in found):
        band = variables[found[0][0]].bands[found[0][1]]
        raise JobError(
            f"--bands {band.name}: a {band.kind.value} band holds codes, not quantities, so it is copied and never "
            "estimated; leave it out"
        )


def _there(variable: Variable) -> str:
    names = [band.name for band in variable.bands]
    there = f"bands 1 to {len(names)}, called {', '.join(names)}" if len(names) > 1 else f"one band, {names[0]}"
    return f"{variable.name} has {there}"


def _targets(variable: Variable, dates: str | None) -> tuple[int, ...]:
    """Indices of the dates to fill, from D[,D..] or A:B (both ends included, each may be left out)."""
    if dates is None:
        return tuple(range(len(variable.dates)))
    if all(date is None for date in variable.dates):
        raise JobError(f"--dates {dates}: {variable.name} has no dates; leave the option out")
    days = [str(date.astype("datetime64[s]")) if date is not None else "" for date in variable.dates]
    ends = _RANGE.fullmatch(dates)
    if ends:
        first, last = ends.groups()
        chosen = [i for i, day in enumerate(days) if first <= day and (not last or day[: len(last)] <= last)]
        _refuse_no_dates(dates, dates, days if not chosen else ())
        return tuple(chosen)
    chosen = []
    for text in map(str.strip, dates.split(",")):
        found = [i for i, day in enumerate(days) if text and day.startswith(text)]
        _refuse_no_dates(dates, text, days if not found else ())
        chosen += found
    return tuple(dict.fromkeys(chosen))


_RANGE = re.compile(r"\s*([^,]*?)\s*:\s*((?:\d{4}(?:-[^,]*)?)?)\s*")
"""A:B; hours have colons of their own, before two digits."""


def _refuse_no_dates(dates: str, part: str, days: Sequence[str]) -> None:
    """Raise JobError where a part of --dates names none of the days there are; empty where it names some."""
    if not days:
        return
    said = f"--dates {dates}" + (f": {part or 'an empty date'}" if part != dates else "")
    told = sorted(day for day in days if day)
    ends = " to ".join(day.removesuffix("T00:00:00") for day in (told[0], told[-1]))
    raise JobError(
        f"{said} selects none of the {len(days)} dates from {ends}; give dates as YYYY-MM-DD[,..], a beginning such as "
        "2024-06, or A:B (geodiff info lists first and last)"
    )


def _rules(raster: Raster, variable: Variable, job: FillJob) -> Rules:
    area = None if job.fillable in ("auto", "all") else _area(job.fillable, variable.geobox)
    return Rules(
        quality=quality_of(raster, variable, job.qa),
        masks=tuple(_area(path, variable.geobox) for path in job.mask),
        detect=job.detect,
        fillable=area,
        fill_everything=job.fillable != "auto",
        scan_gaps=_has_scan_gaps(raster),
        space=space_of(variable.geobox),
    )


def _has_scan_gaps(raster: Raster) -> bool:
    names = (_SCAN_GAPS.search(name) for name in (raster.path, *raster.files))
    return any(match[1] >= "20030531" for match in names if match)


def _area(path: str, geobox: GeoBox) -> PlaneReader:
    """A raster (nonzero) or vector (inside) file as a reader of bool planes on the grid of `geobox`."""
    from geodiff.io.vector import open_area

    return open_area(path, geobox)

"""Scene folders: one file a band, as Landsat, HLS and Sentinel-2 are delivered.

Bands keep their names. Those on one grid and of one dtype make one variable, so that they are filled together; bands
on a coarser grid stay on it unless a resolution is asked for. Quality bands are found by name. Angles of the sun and
the sensor, which no cloud hides, are copied as flags are.

Names: Landsat Collection 2 Data Format Control Book (LSDS-1619), its tiles (ARD, LSDS-1435), and what was delivered
before there were collections (until 2017; Landsat 8 Data Users Handbook 1.0, LSDS-1574); HLS User Guide 2.0;
Sentinel-2 Products Specification Document 14.9 (SAFE); Sentinel-2 COGs of Earth Search, whose day and tile stand in the
folder's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import SourceError
from geodiff.flags import ProductFacts, matches
from geodiff.io import Band, Kind, OpenOptions, QualityBand, Raster, Variable
from geodiff.io.gdal import GdalReader, read_header
from geodiff.io.geotiff import band_of, dataset_attributes, variable_of
from geodiff.io.header import Header
from geodiff.io.warped import WarpedReader, grid_at

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.lattice import Window

__all__ = [
    "BandsReader", "SceneFile", "as_flags", "bands_among", "grouped", "is_scene", "open_scene_folder", "parsed",
    "resampled", "scene_files",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class SceneFile:
    """One band file of a scene."""

    path: str
    scene: str
    """Which scene it belongs to."""
    band: str
    date: np.datetime64
    resolution: str = ""
    """`10m` where the name says it; a band may be delivered at several."""
    nodata: int | None = None
    """What the format's specification says is missing where the file itself does not."""


_LANDSAT = re.compile(
    r"(?P<scene>L[COTEM]0\d_(?:L[12]\w{2}|CU|AK|HI)_\d{6}_(?P<date>\d{8})_\d{8}_0[12](?:_(?:T1|T2|RT|A1|A2))?)"
    r"_(?P<band>\w+)\.tiff?",
    re.IGNORECASE,
)
_LANDSAT_BEFORE = re.compile(
    r"(?P<scene>L[COTEM]\d{7}(?P<date>\d{7})[A-Z]{3}\d\d)_(?P<band>\w+)\.tiff?", re.IGNORECASE
)
_HLS = re.compile(
    r"(?P<scene>HLS\.[LS]30\.T\w{5}\.(?P<date>\d{7}T\d{6})\.v\d\.\d)\.(?P<band>\w+)\.tiff?", re.IGNORECASE
)
_SENTINEL = re.compile(
    r"(?:L2A_)?(?P<scene>T\w{5}_(?P<date>\d{8}T\d{6}))_(?P<band>\w+?)(?:_(?P<resolution>\d\dm))?\.(?:jp2|tiff?)"
)
_EARTH_SEARCH = re.compile(
    r"(?P<scene>S2[A-D]_\d{1,2}[A-Z]{3}_(?P<date>\d{8})_\d+_L2A)/"
    r"(?P<band>B\d[\dA]|coastal|blue|green|red|rededge[123]|nir|nir08|nir09|swir16|swir22|aot|wvp|scl)\.tiff?",
    re.IGNORECASE,
)
_PREVIEWS = ("TCI", "PVI")
_NOT_SEEN = frozenset({"SAA", "SZA", "VAA", "VZA", "ST_CDIST"})
"""Angles, and the distance to the next cloud: known wherever there is a scene."""


def is_scene(path: str) -> bool:
    """Whether a folder holds the band files of a scene."""
    return bool(scene_files(Path(path)))


def scene_files(folder: Path) -> list[SceneFile]:
    """The band files of a folder, by name; each band once, at its finest resolution."""
    inside = [*folder.glob("GRANULE/*/IMG_DATA/*"), *folder.glob("GRANULE/*/IMG_DATA/R??m/*")]
    return bands_among([str(path) for path in sorted(inside or folder.iterdir()) if path.is_file()])


def bands_among(paths: Sequence[str]) -> list[SceneFile]:
    """The band files among paths or addresses, as `scene_files` gives them."""
    found = [file for path in paths if (file := parsed(path))]
    finest: dict[tuple[str, str], SceneFile] = {}
    for file in sorted(found, key=lambda file: file.resolution, reverse=True):
        finest[file.scene, file.band] = file
    return sorted(finest.values(), key=lambda file: (file.scene, _natural(file.band)))


def _natural(band: str) -> tuple[Any, ...]:
    """B2 before B10, B8A after B8."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", band) if part)


def parsed(path: str) -> SceneFile | None:
    """What the name of a band file says; None for any other file."""
    *_, folder, name = "", *path.rsplit("/", 2)
    if found := _LANDSAT.fullmatch(name):
        return SceneFile(path, found["scene"], found["band"], _day(found["date"]))
    if found := _LANDSAT_BEFORE.fullmatch(name):
        fill = None if found["band"].upper() == "BQA" else 0
        return SceneFile(path, found["scene"], found["band"], _ordinal(found["date"]), nodata=fill)
    if found := _HLS.fullmatch(name):
        return SceneFile(path, found["scene"], found["band"], _ordinal(found["date"]))
    if found := _EARTH_SEARCH.fullmatch(f"{folder}/{name}"):
        return SceneFile(path, found["scene"], found["band"], _day(found["date"]))
    found = _SENTINEL.fullmatch(name)
    if found is None or found["band"] in _PREVIEWS:
        return None
    missing = 0 if found["band"] != "SCL" else None
    return SceneFile(path, found["scene"], found["band"], _day(found["date"]), found["resolution"] or "", missing)


def _day(text: str) -> np.datetime64:
    """20210131 or 20210131T101411."""
    day, _, time = text.partition("T")
    clock = f"T{time[:2]}:{time[2:4]}:{time[4:6]}" if time else "T00:00:00"
    return np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:8]}{clock}", "ns")


def _ordinal(text: str) -> np.datetime64:
    """2021031T185034: year and day of the year."""
    day = np.datetime64(text[:4], "D") + np.timedelta64(int(text[4:7]) - 1, "D")
    return _day(f"{str(day).replace('-', '')}{text[7:]}")


@dataclass(frozen=True, slots=True)
class BandsReader:
    """Bands of one variable that lie in a file each."""

    parts: tuple[Any, ...]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype."""
        return np.concatenate([part.read(date, window) for part in self.parts])

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column), True where every file that has a mask says valid; None where none has."""
        masks = [mask for part in self.parts if (mask := part.valid(date, window)) is not None]
        return None if not masks else np.logical_and.reduce(masks)


def open_scene_folder(path: str, options: OpenOptions, files: Sequence[SceneFile] | None = None) -> Raster:
    """Open a scene folder: its bands by name, its quality bands with their presets.

    `files` are its band files where it lies elsewhere and they were listed. Raises SourceError where the folder holds
    several scenes, or a file cannot be read.
    """
    files = scene_files(Path(path)) if files is None else files
    scenes = sorted({file.scene for file in files})
    if len(scenes) > 1:
        raise SourceError(
            f"{path} holds bands of {len(scenes)} scenes ({', '.join(scenes[:3])}, ...); "
            "give each a folder of its own, then the folder that holds them as one stack"
        )
    headers = [_with_nodata(read_header(file.path), file) for file in files]
    singles = [_single(file, header, options) for file, header in zip(files, headers, strict=True)]
    if options.resolution is not None:
        singles = resampled(singles, options.resolution)
    quality = _quality(files, singles)
    copied = {q.variable.name for q in quality} | _NOT_SEEN
    singles = [as_flags(v) if v.name in copied or "QA" in v.name.split("_") else v for v in singles]
    quality = [replace(q, variable=as_flags(q.variable)) for q in quality]
    return Raster(
        path=path,
        driver="scene folder",
        variables=tuple(grouped(singles)),
        quality=tuple(quality),
        attributes={**dataset_attributes(headers[0]), "scene": scenes[0]},
        files=tuple(name for header in headers for name in header.files),
    )


def _with_nodata(header: Header, file: SceneFile) -> Header:
    if file.nodata is None or header.nodata[0] is not None:
        return header
    return replace(header, nodata=(file.nodata,) * header.count)


def _single(file: SceneFile, header: Header, options: OpenOptions) -> Variable:
    """One band file as a variable of its own."""
    band = band_of(header, 0, file.band, options)
    return replace(variable_of(header, file.band, (0,), (band,)), dates=(file.date,))


def as_flags(variable: Variable) -> Variable:
    """Flags are copied and decoded, so they need no nodata of their own."""
    plain = {band.name: replace(band.encoding, extra_nodata=(), valid_range=None) for band in variable.bands}
    return replace(variable, bands=tuple(Band(name, encoding, Kind.FLAGS) for name, encoding in plain.items()))


def _quality(files: Sequence[SceneFile], singles: Sequence[Variable]) -> list[QualityBand]:
    by_name = {Path(file.path).name: variable for file, variable in zip(files, singles, strict=True)}
    found = matches(ProductFacts(files=tuple(by_name)))
    return [QualityBand(by_name[m.file], m.preset, layer=m.layer) for m in found if m.file in by_name]


def grouped(singles: Sequence[Variable]) -> list[Variable]:
    """Continuous bands of one grid, dtype and nodata together; quality bands each for itself."""
    groups: dict[tuple[Any, ...], list[Variable]] = {}
    for variable in singles:
        groups.setdefault(_group_key(variable), []).append(variable)
    names = _names([group for key, group in groups.items() if not key[-1]])
    return [_together(group, names.get(id(group), "")) for group in groups.values()]


def _names(groups: Sequence[Sequence[Variable]]) -> dict[int, str]:
    """`bands` where one variable holds them all, else `bands_10m`, else with the dtype too."""
    sizes = [f"bands_{abs(group[0].geobox.resolution.x):.0f}m" for group in groups]
    typed = [f"{size}_{group[0].dtype}" for size, group in zip(sizes, groups, strict=True)]
    full = [size if sizes.count(size) == 1 else longer for size, longer in zip(sizes, typed, strict=True)]
    unique = [name if full.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(full)]
    return {id(group): name for group, name in zip(groups, unique if len(groups) != 1 else ["bands"], strict=True)}


def _group_key(variable: Variable) -> tuple[Any, ...]:
    band = variable.bands[0]
    own = "" if band.kind is Kind.CONTINUOUS else variable.name
    place = (tuple(variable.geobox.shape), tuple(variable.geobox.affine))
    return (*place, str(variable.dtype), str(band.encoding.nodata), own)


def _together(group: Sequence[Variable], name: str) -> Variable:
    first = group[0]
    if not name:
        return first
    bands = tuple(band for variable in group for band in variable.bands)
    reader = first.reader if len(group) == 1 else BandsReader(tuple(variable.reader for variable in group))
    return replace(first, name=name, bands=bands, reader=reader, attributes={})


def resampled(singles: Sequence[Variable], resolution: float) -> list[Variable]:
    """All bands on one grid of that resolution, anchored at the scene's corner."""
    finest = min(singles, key=lambda variable: abs(variable.geobox.resolution.x))
    geobox = grid_at(finest.geobox, resolution)
    return [_on_grid(variable, geobox) for variable in singles]


def _on_grid(variable: Variable, geobox: GeoBox) -> Variable:
    if tuple(variable.geobox.shape) == tuple(geobox.shape) and variable.geobox.affine == geobox.affine:
        return variable
    reader = variable.reader
    assert isinstance(reader, GdalReader)
    band = variable.bands[0]
    is_flag = band.kind is not Kind.CONTINUOUS or "QA" in band.name or band.name.upper() in ("SCL", "FMASK")
    coarser = abs(geobox.resolution.x) > abs(variable.geobox.resolution.x)
    kind = "nearest" if is_flag else "average" if coarser else "bilinear"
    warped = WarpedReader(reader.path, reader.indexes, geobox, kind, band.encoding.nodata)
    return replace(variable, geobox=geobox, reader=warped)

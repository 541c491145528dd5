"""The door for targets: which writer a name belongs to, and whose product is already there."""

from __future__ import annotations

import json
import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodiff.errors import GeodiffError, TargetError
from geodiff.io import Kind
from geodiff.io.axes import curvilinear
from geodiff.io.cube import CubeReader
from geodiff.io.placed import PlacedReader
from geodiff.io.places import arriving, existing, exists, local_path, put, read, upload

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from geodiff.io import Product, Raster, Variable

__all__ = ["RECORD", "check_target", "fingerprint", "write"]

_log = logging.getLogger(__name__)

RECORD = "geodiff-product.json"
"""In a folder of GeoTIFFs: lists what it holds. Written last; before the first file it says that they change."""
_HALF = "half_written_by"
"""In it, until the last file is there: the fingerprint of the job that writes."""

_TIFF = (".tif", ".tiff")
_NETCDF = (".nc", ".nc4")
_PDS4 = ".xml"
_FOLDER = "/"
"""What a target ends in that is a folder of files."""


def write(product: Product, target: str) -> list[str]:
    """Write the product at `target`; returns the paths written, the target itself last.

    Raises TargetError for a kind of target that is unknown or cannot hold the product.
    """
    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix == ".zarr":
        from geodiff.io.zarr import write_zarr

        return list(write_zarr(product, target))
    if _is_remote(target, (*_TIFF, _FOLDER)):
        return _write_elsewhere(product, target)
    if _is_remote(target, _NETCDF):
        from geodiff.io.netcdf import write_netcdf

        return list(write_netcdf(product, target))
    local = _local(target)
    if target.endswith("/") or local.is_dir():
        return _write_folder(product, local)
    local.parent.mkdir(parents=True, exist_ok=True)
    return _write_file(product, local, target)


def _write_file(product: Product, local: Path, target: str) -> list[str]:
    suffix = local.suffix.lower()
    if suffix in _TIFF:
        from geodiff.io.tiffs import write_geotiff

        return write_geotiff(product, local)
    if suffix in _NETCDF:
        from geodiff.io.netcdf import write_netcdf

        return list(write_netcdf(product, str(local)))
    if suffix == ".png":
        from geodiff.io.camera import write_png

        return write_png(product, local)
    if suffix == _PDS4:
        from geodiff.io.pds4 import write_pds4

        return write_pds4(product, local)
    raise TargetError(_no_kind(target))


def check_target(raster: Raster, target: str, filled: Sequence[Variable] = (), layers: Sequence[str] = ()) -> None:
    """Raise TargetError for a target that could not hold the product of a source; for the plan, before any work.

    SourceError where the source has arrays of its own that are called as the `layers` of what is filled.
    """
    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix in (".zarr", *_NETCDF):
        from geodiff.io.ancillary import refuse_foreign_layers

        refuse_foreign_layers(filled, layers)
    if suffix == ".zarr":
        return
    local = Path(Path(target).name) if _is_remote(target, (*_TIFF, *_NETCDF, _FOLDER)) else _local(target)
    folder = target.endswith("/") or local.is_dir()
    if (folder or suffix in _TIFF) and any(map(_is_swath, raster.variables)):
        _log.warning("%s cannot hold the latitude and longitude of each pixel; use .nc or .zarr to keep them", target)
    if folder:
        return
    if suffix in _NETCDF:
        from geodiff.io import netcdf

        netcdf.refuse_unfit(raster, target)
    elif suffix in _TIFF:
        from geodiff.io.tiffs import one_file

        one_file(raster, local)
    elif suffix == ".png":
        from geodiff.io.camera import refuse_unfit

        refuse_unfit(raster, local)
    elif suffix == _PDS4:
        from geodiff.io import pds4

        pds4.refuse_unfit(raster, local)
    else:
        raise TargetError(_no_kind(target))


def _is_swath(variable: Variable) -> bool:
    """Whether latitude and longitude of every pixel lie beside it, as 2-D coordinates, and nothing else places it."""
    reader = getattr(variable.reader, "reader", variable.reader)
    if variable.georeferenced or not isinstance(reader, CubeReader):
        return False
    dataset = reader.source.dataset()
    return curvilinear(dataset, dataset.variables[reader.name]) is not None


def _no_kind(target: str) -> str:
    return f"{target} is no kind of product: use .tif, .zarr, .nc, .png, .xml (PDS4), or a folder ending in /"


def _local(target: str) -> Path:
    local = local_path(target)
    if local is None:
        raise TargetError(
            f"{target} is remote, where .zarr, .tif, .nc and folders (ending in /) can be written; use one, or write "
            "locally and upload"
        )
    return local


def _is_remote(target: str, suffixes: tuple[str, ...]) -> bool:
    return local_path(target) is None and target.lower().endswith(suffixes)


def _write_elsewhere(product: Product, target: str) -> list[str]:
    """Make GeoTIFFs here, then upload them one by one, the target, or the record of a folder, last."""
    from geodiff.io.tiffs import write_geotiff

    folder, _, name = target.rpartition("/")
    with tempfile.TemporaryDirectory(prefix="geodiff-upload-") as scratch:
        paths = write_geotiff(product, Path(scratch) / name) if name else _write_folder(product, Path(scratch))
        made = [Path(path).name for path in paths]
        if not name:  # what is replaced is no longer whole
            put(f"{folder}/{RECORD}", _half(product))
        beside = {path.name for path in Path(scratch).iterdir()} - set(made)  # CRS in `.aux.xml`
        for file in [*sorted(beside), *made]:
            upload(Path(scratch) / file, f"{folder}/{file}")
    return [f"{folder}/{file}" for file in made]


def _write_folder(product: Product, folder: Path) -> list[str]:
    """One COG with its layers per date and per file of the source, names kept."""
    from geodiff.io.tiffs import slice_of, write_slice

    fingerprint = product.attributes.get("geodiff_fingerprint", "")
    written: list[str] = []
    if not (folder / RECORD).exists():  # what a kill leaves is known for what it is
        put(str(folder / RECORD), _half(product))
    # Left by a run that was killed, of files that may not come again; a store or a cube there is of another target.
    for left in folder.glob(".*.geodiff-partial*.tif"):
        left.unlink()
    with arriving() as arrivals:  # a disk that is full before the last one leaves all dates as they were
        for stem, variables, date in _files(product):
            target = folder / f"{stem}.tif"
            written += write_slice(slice_of(product, variables, date, target), target, arrivals)
        put(str(folder / RECORD), _half(product))
    names = [Path(path).name for path in written]
    put(str(folder / RECORD), json.dumps({"geodiff_fingerprint": fingerprint, "files": names}, indent=1).encode())
    return [*written, str(folder / RECORD)]


def _half(product: Product) -> bytes:
    """The record of a folder that is being written."""
    return json.dumps({_HALF: product.attributes.get("geodiff_fingerprint", "")}, indent=1).encode()


def _files(product: Product) -> list[tuple[str, list[Variable], int]]:
    """Stem, variables and date of every file a folder will hold."""
    groups: dict[tuple[str, int], list[Variable]] = {}
    for variable in product.raster.variables:
        for date, stem in enumerate(_stems(product, variable)):
            groups.setdefault((stem, date), []).append(variable)
    files = []
    for (stem, date), variables in groups.items():
        parts = _alike(variables)
        names = [stem if len(parts) == 1 else f"{stem}_{part[0].name}" for part in parts]
        files += [(_one_name(name), part, date) for name, part in zip(names, parts, strict=True)]
    return files


def _one_name(text: str) -> str:
    """A file name out of what a source calls itself, a STAC Item say: nothing in it leads to another folder."""
    return re.sub(r"[/\\\0]", "_", text).lstrip(".") or "scene"


def _stems(product: Product, variable: Variable) -> list[str]:
    """The names of the files a variable comes from, date by date; with the date where it has no file to itself."""
    from geodiff.io.gdal import GdalReader
    from geodiff.io.tiffs import reader_at

    source = str(product.raster.attributes.get("scene") or _stem(product.raster.path))
    dates = len(variable.dates)
    readers = [_file_reader(reader_at(variable, date)) for date in range(dates)]
    scenes = product.raster.names if len(product.raster.names) == dates else (None,) * dates
    own = [
        _stem(reader.path) if isinstance(reader, GdalReader) else scene
        for reader, scene in zip(readers, scenes, strict=True)
    ]
    if len(own) == 1:
        return [own[0] or source]
    if None not in own and len(set(own)) == len(own):
        return [stem for stem in own if stem is not None]
    dated = [
        stem or source if when is None else f"{stem or source}_{_compact(when)}"
        for stem, when in zip(own, variable.dates, strict=True)
    ]
    before = [dated[:number].count(stem) for number, stem in enumerate(dated)]  # a date may be there twice
    return [f"{stem}_{count + 1}" if count else stem for stem, count in zip(dated, before, strict=True)]


def _file_reader(reader: Any) -> Any:
    """The reader of the file itself, which may be placed on a larger grid."""
    return reader.reader if isinstance(reader, PlacedReader) else reader


def _stem(path: str) -> str:
    """The name without its suffix; a URL's query is no part of it."""
    return Path((path.partition("?")[0] if "://" in path else path).rstrip("/")).stem


def _compact(when: np.datetime64) -> str:
    """Spell a date as 20210131T101500."""
    return str(when.astype("datetime64[s]")).replace(":", "").replace("-", "")


def _alike(variables: list[Variable]) -> list[list[Variable]]:
    """Variables that one GeoTIFF can hold together: one grid, one dtype, one nodata; codes apart from quantities."""
    groups: dict[str, list[Variable]] = {}
    for variable in variables:
        nodata = {str(band.encoding.nodata) for band in variable.bands}
        codes = "" if any(band.kind is Kind.CONTINUOUS for band in variable.bands) else variable.name
        grid = (tuple(variable.geobox.shape), tuple(variable.geobox.affine))
        groups.setdefault(f"{variable.dtype}{sorted(nodata)}{grid}{codes}", []).append(variable)
    return list(groups.values())


def fingerprint(target: str) -> str | None:
    """The job fingerprint a target carries, '' for one of foreign making, None where nothing is there.

    A folder that a killed run left half written is nothing: what was in it is lost, and there is nothing to keep.
    """
    if not exists(target):
        return None
    from geodiff.io.addresses import gdal_path

    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix == ".zarr":
        from geodiff.io.zarr import zarr_fingerprint

        return zarr_fingerprint(target)
    if _is_remote(target, _TIFF):
        return _tag_fingerprint(gdal_path(target))
    if _is_remote(target, _NETCDF):
        from geodiff.io.netcdf import netcdf_fingerprint

        return netcdf_fingerprint(target) or ""
    if _is_remote(target, (_FOLDER,)):
        return _folder_fingerprint(target.rstrip("/"))
    local = _local(target)
    return _folder_fingerprint(str(local)) if local.is_dir() else _file_fingerprint(local)


def _file_fingerprint(local: Path) -> str:
    if local.suffix.lower() in _NETCDF:
        from geodiff.io.netcdf import netcdf_fingerprint

        return netcdf_fingerprint(str(local)) or ""
    if local.suffix.lower() == _PDS4:
        from geodiff.io.pds4 import label_fingerprint

        return label_fingerprint(local)
    return _tag_fingerprint(str(local))


def _folder_fingerprint(folder: str) -> str | None:
    try:
        facts = json.loads(read(f"{folder}/{RECORD}") or b"")
        if _HALF in facts:
            return None
        files = [f"{folder}/{name}" for name in facts["files"]]
        whole = existing(files).issuperset(files)
        return str(facts["geodiff_fingerprint"]) if whole else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tag_fingerprint(path: str) -> str:
    from geodiff.io.gdal import read_header

    try:
        return read_header(path).tags.get("", {}).get("geodiff_fingerprint", "")
    except GeodiffError:
        return ""

"""The door for targets: which writer a name belongs to, and whose product is already there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.errors import GeodiffError, TargetError
from geodiff.io import Kind
from geodiff.io.places import exists, local_path, put

if TYPE_CHECKING:
    import numpy as np

    from geodiff.io import Product, Raster, Variable

__all__ = ["RECORD", "check_target", "fingerprint", "write"]

RECORD = "geodiff-product.json"
"""In a folder of GeoTIFFs: written last, so a folder that has it is whole."""

_TIFF = (".tif", ".tiff")
_NETCDF = (".nc", ".nc4")


def write(product: Product, target: str) -> list[str]:
    """Write the product at `target`; returns the paths written, the target itself last.

    Raises TargetError for a kind of target that is unknown or cannot hold the product.
    """
    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix == ".zarr":
        from geodiff.io.zarr import write_zarr

        return list(write_zarr(product, target))
    local = _local(target)
    if target.endswith("/") or local.is_dir():
        return _write_folder(product, local)
    local.parent.mkdir(parents=True, exist_ok=True)
    if suffix in _TIFF:
        from geodiff.io.tiffs import write_geotiff

        return write_geotiff(product, local)
    if suffix in _NETCDF:
        from geodiff.io.netcdf import write_netcdf

        return list(write_netcdf(product, str(local)))
    if suffix == ".png":
        from geodiff.io.camera import write_png

        return write_png(product, local)
    raise TargetError(f"{target} is no kind of product: use .tif, .zarr, .nc, .png, or a folder ending in /")


def check_target(raster: Raster, target: str) -> None:
    """Raise TargetError for a target that could not hold the product of a source; for the plan, before any work."""
    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix == ".zarr":
        return
    local = _local(target)
    if target.endswith("/") or local.is_dir() or suffix in _NETCDF:
        return
    if suffix in _TIFF:
        from geodiff.io.tiffs import one_file

        one_file(raster, local)
    elif suffix == ".png":
        from geodiff.io.camera import refuse_unfit

        refuse_unfit(raster, local)
    else:
        raise TargetError(f"{target} is no kind of product: use .tif, .zarr, .nc, .png, or a folder ending in /")


def _local(target: str) -> Path:
    local = local_path(target)
    if local is None:
        raise TargetError(
            f"{target} is remote, where only .zarr can be written; write locally and upload, or use .zarr"
        )
    return local


def _write_folder(product: Product, folder: Path) -> list[str]:
    """One COG with its layers per date and per file of the source, names kept."""
    from geodiff.io.tiffs import slice_of, write_slice

    folder.mkdir(parents=True, exist_ok=True)
    written: list[str] = []
    for stem, variables, date in _files(product):
        target = folder / f"{stem}.tif"
        written += write_slice(slice_of(product, variables, date, target), target)
    names = [Path(path).name for path in written]
    facts = {"geodiff_fingerprint": product.attributes.get("geodiff_fingerprint", ""), "files": names}
    put(str(folder / RECORD), json.dumps(facts, indent=1).encode())
    return [*written, str(folder / RECORD)]


def _files(product: Product) -> list[tuple[str, list[Variable], int]]:
    """Stem, variables and date of every file a folder will hold."""
    groups: dict[tuple[str, int], list[Variable]] = {}
    for variable in product.raster.variables:
        for date, stem in enumerate(_stems(product, variable)):
            groups.setdefault((stem, date), []).append(variable)
    files = []
    for (stem, date), variables in groups.items():
        parts = _alike(variables)
        files += [(stem if len(parts) == 1 else f"{stem}_{part[0].name}", part, date) for part in parts]
    return files


def _stems(product: Product, variable: Variable) -> list[str]:
    """The names of the files a variable comes from, date by date; with the date where it has no file to itself."""
    from geodiff.io.gdal import GdalReader
    from geodiff.io.tiffs import reader_at

    source = str(product.raster.attributes.get("scene") or Path(product.raster.path.rstrip("/")).stem)
    readers = [reader_at(variable, date) for date in range(len(variable.dates))]
    stems = [Path(reader.path).stem if isinstance(reader, GdalReader) else source for reader in readers]
    if len(set(stems)) == len(stems):
        return stems
    return [
        stem if when is None else f"{stem}_{_compact(when)}" for stem, when in zip(stems, variable.dates, strict=True)
    ]


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
    """The job fingerprint a target carries, '' for one of foreign making, None where nothing is there."""
    if not exists(target):
        return None
    suffix = Path(target.rstrip("/")).suffix.lower()
    if suffix == ".zarr":
        from geodiff.io.zarr import zarr_fingerprint

        return zarr_fingerprint(target)
    local = _local(target)
    if local.is_dir():
        return _folder_fingerprint(local)
    if suffix in _NETCDF:
        from geodiff.io.netcdf import netcdf_fingerprint

        return netcdf_fingerprint(str(local))
    return _tag_fingerprint(local)


def _folder_fingerprint(folder: Path) -> str:
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        whole = all((folder / name).is_file() for name in facts["files"])
        return str(facts["geodiff_fingerprint"]) if whole else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _tag_fingerprint(path: Path) -> str:
    from geodiff.io.gdal import read_header

    try:
        return read_header(str(path)).tags.get("", {}).get("geodiff_fingerprint", "")
    except GeodiffError:
        return ""

"""The door for sources: which reader a path, a URL or a folder belongs to.

By what is there, not by trust in names alone: NetCDF and HDF5 are known by their first bytes too, Zarr stores by their
metadata, scene folders by the names their agencies give.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from geodiff.errors import SourceError
from geodiff.io.guards import HDF4_MAGIC
from geodiff.io.places import listing

if TYPE_CHECKING:
    from geodiff.io import OpenOptions, Raster

__all__ = ["open_source"]

_NETCDF_SUFFIXES = (".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5", ".hdf")
_NETCDF_MAGIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF\r\n\x1a\n")
_LABELS = (".lbl", ".LBL", ".xml", ".XML", ".hdr")
_SENTINELS = {
    "xfdumanifest.xml": ("a Sentinel-3 product, one file a quantity", "*.nc", "its flags as a raster with --mask"),
    "manifest.safe": ("a Sentinel-1 product, one file a polarisation", "measurement/*.tif*", "its gaps with --mask"),
}
"""What a folder is by its manifest, which files in it are rasters, and how their gaps are told."""
_CATALOGUES = ("catalog.json", "collection.json")
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


def open_source(source: str, options: OpenOptions) -> Raster:
    """Open any source the contract names.

    Raises SourceError with the cure for what cannot be opened.
    """
    from geodiff.io.stac import is_stac, open_stac

    if is_stac(str(source)):
        return open_stac(str(source), options)
    path = _without_scheme(str(source))
    several = _several(path)
    if several is not None:
        return _open_scene_elsewhere(several, path, options) or _open_stack(several, path, options)
    if _is_zarr(path):
        from geodiff.io.zarr import open_zarr

        return open_zarr(path, options)
    if _is_local(path) and Path(path).is_dir():
        return _open_folder(path, options)
    if _is_netcdf(path):
        from geodiff.io.netcdf import open_netcdf

        return open_netcdf(path, options)
    return _open_gdal(path, options)


def _without_scheme(source: str) -> str:
    from geodiff.io.addresses import gdal_path

    return gdal_path(source) if source.startswith("file://") else source


def _several(path: str) -> list[str] | None:
    """What a pattern, or the address of a folder, stands for; None for one thing.

    In an address only the star makes a pattern, as `?` begins its query.
    """
    if "://" in path:
        is_pattern = "*" in path.partition("?")[0]
        return listing(path) if is_pattern or (path.endswith("/") and not _is_zarr(path)) else None
    is_pattern = any(sign in path for sign in "*?[") and not Path(path).exists()
    return sorted(glob.glob(path, recursive=True)) if is_pattern else None  # noqa: PTH207  # absolute or not


def _open_scene_elsewhere(members: list[str], path: str, options: OpenOptions) -> Raster | None:
    """The scene whose band files the address of a folder has listed; None where they are not of one scene."""
    from geodiff.io.scenes import bands_among, open_scene_folder

    files = bands_among(members) if path.endswith("/") else []
    return open_scene_folder(path, options, files) if len({file.scene for file in files}) == 1 else None


def _is_local(path: str) -> bool:
    return "://" not in path and not path.startswith("/vsi")


def _is_zarr(path: str) -> bool:
    bare = path.partition("?")[0].rstrip("/")
    if bare.endswith((".zarr", ".zarr.zip")):
        return True
    return _is_local(path) and Path(path).is_dir() and any((Path(path) / name).is_file() for name in _ZARR_FILES)


def _is_netcdf(path: str) -> bool:
    if not _is_local(path):
        return path.partition("?")[0].lower().endswith(_NETCDF_SUFFIXES)
    try:
        if not Path(path).is_file():  # a pipe would wait for ever; GDAL knows names such as NETCDF:file:variable
            return False
        with Path(path).open("rb") as file:
            head = file.read(8)
    except OSError:
        return False  # GDAL says what is wrong with it
    if head.startswith(HDF4_MAGIC):
        return False
    return head.startswith(_NETCDF_MAGIC) or (bool(head) and path.lower().endswith(_NETCDF_SUFFIXES))


def _open_folder(path: str, options: OpenOptions) -> Raster:
    from geodiff.io.scenes import is_scene, open_scene_folder
    from geodiff.io.stack import usable

    if is_scene(path):
        return open_scene_folder(path, options)
    _refuse_sentinel(Path(path))
    members = sorted(str(entry) for entry in Path(path).iterdir() if not entry.name.startswith("."))
    catalogue = next((name for name in _CATALOGUES if (Path(path) / name).is_file()), None)
    if catalogue is not None and not usable(members):
        return open_source(str(Path(path) / catalogue), options)
    return _open_stack(members, path, options)


def _refuse_sentinel(folder: Path) -> None:
    """Raise SourceError for a product's folder whose files are neither dates nor bands that are filled together."""
    for manifest, (what, pattern, gaps) in _SENTINELS.items():
        rasters = sorted(folder.glob(pattern)) if (folder / manifest).is_file() else []
        if rasters:
            first = rasters[0].relative_to(folder)
            more = f" and {len(rasters) - 1} more" if len(rasters) > 1 else ""
            raise SourceError(f"{folder} is {what}; give one of them ({folder}/{first}{more}), and {gaps}")


def _open_stack(members: list[str], source: str, options: OpenOptions) -> Raster:
    from geodiff.io.stack import open_stack

    return open_stack(members, source, options)


def _open_gdal(path: str, options: OpenOptions) -> Raster:
    from geodiff.io.geotiff import open_geotiff

    try:
        return open_geotiff(path, options)
    except SourceError as error:
        label = _label_beside(path)
        if label is None or "not recognized" not in str(error):
            raise
        raise SourceError(f"{path} is the data part of a labelled product; open its label {label} instead") from error


def _label_beside(path: str) -> Path | None:
    """The detached label of a data file; an ENVI or PDS product is opened by it or through it."""
    local = Path(path)
    if not _is_local(path) or local.suffix in _LABELS:
        return None
    return next((found for suffix in _LABELS if (found := local.with_suffix(suffix)).is_file()), None)

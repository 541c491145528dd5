"""What is refused before a byte of it is read: pipes, HDF4, absurd sizes."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geodiff.errors import SourceError

if TYPE_CHECKING:
    from geodiff.io.header import Header

__all__ = ["HDF4_MAGIC", "HDF5_MAGIC", "first_bytes", "refuse_absurd", "refuse_endless_axis", "refuse_special_files"]

HDF4_MAGIC = b"\x0e\x03\x13\x01"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

_ABSURD_BYTES = 4 * 2**30
_ABSURD_RATIO = 20_000
_BLOCK_BYTES = 2**30


def refuse_special_files(path: str) -> None:
    """Raise SourceError for local paths that would hang or cannot be read by this GDAL."""
    local = Path(path)
    try:
        mode = local.stat().st_mode
    except (OSError, ValueError):
        return  # GDAL says what is wrong with it
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise SourceError(f"{path} is a pipe or a device, which cannot be read by window; save it to a file first")
    if stat.S_ISREG(mode) and not local.stat().st_size:
        raise SourceError(f"{path} is an empty file; a fresh copy may help")
    if stat.S_ISREG(mode) and first_bytes(local, 4) == HDF4_MAGIC:
        raise SourceError(
            f"{path} is HDF4, which the GDAL of the rasterio wheel cannot read; convert it with a GDAL that has HDF4 "
            "(conda install -c conda-forge gdal libgdal-hdf4, then gdal_translate SUBDATASET out.tif), "
            "or fetch the product's HDF5, NetCDF or GeoTIFF edition"
        )


def first_bytes(path: Path, count: int) -> bytes:
    """The beginning of a file; raises SourceError where it may not be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; check its permissions") from error


def refuse_absurd(header: Header) -> None:
    """Raise SourceError for a file that declares far more than it can hold, or blocks that fill the memory."""
    rows, columns = header.shape
    size = sum(_itemsize(name) for name in header.dtypes)
    stored = sum(Path(name).stat().st_size for name in header.files if Path(name).is_file())
    declared = rows * columns * size
    if stored and declared > _ABSURD_BYTES and declared > _ABSURD_RATIO * stored:
        raise SourceError(
            f"{header.path} declares {columns} x {rows} pixels in {header.count} bands, {declared / 2**30:.0f} GiB, "
            f"in files of {stored} bytes: it is damaged, or made to exhaust memory; "
            "cut the part you need with gdal_translate -srcwin"
        )
    block = max(
        height * width * _itemsize(name) for (height, width), name in zip(header.blocks, header.dtypes, strict=True)
    )
    if block > _BLOCK_BYTES:
        raise SourceError(
            f"{header.path} is stored in blocks of {block / 2**30:.1f} GiB that can only be read whole; "
            "rewrite it in tiles first: gdal_translate -of COG"
        )


_LONGEST_AXIS = 10_000_000
"""Places along one axis; hours of a thousand years are 8.8 million."""


def refuse_endless_axis(path: str, name: str, length: int) -> None:
    """Raise SourceError for an axis whose coordinates, which are read whole, would fill the memory."""
    if length > _LONGEST_AXIS:
        raise SourceError(
            f"{path} declares {length:,} places along {name}, more than {_LONGEST_AXIS:,}: it is damaged, or made to "
            "exhaust memory; cut the part you need first (ncks -d, xarray's isel())"
        )


def _itemsize(name: str) -> int:
    return {"complex_int16": 4, "complex_int32": 8}.get(name) or np.dtype(name).itemsize

"""Any raster GDAL can open, lazily: its header, and windows of its stored numbers.

Handles are kept per process and thread, because GDAL's may not be shared between either. Nothing here reaches the
network unless the caller named a remote path, and a file that declares absurd sizes is refused before a byte is read.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.credentials import unsaid
from geodiff.errors import SourceError
from geodiff.io.addresses import is_networked, is_remote
from geodiff.io.guards import HDF5_MAGIC, first_bytes, refuse_absurd, refuse_special_files
from geodiff.io.header import header_of
from geodiff.io.reach import refuse_far_data, refuse_far_links, refuse_reaching, refuse_reaching_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geodiff.io.header import Header
    from geodiff.lattice import Window

__all__ = ["GdalReader", "door", "handle", "open_dataset", "read_header"]

DRIVERS = (
    "GTiff", "COG", "VRT", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "BMP", "GIF", "BIGGIF", "PNM", "GRIB", "netCDF",
    "HDF5", "HDF5Image", "PDS", "PDS4", "ISIS3", "ISIS2", "VICAR", "FITS", "MRF", "ENVI", "HFA", "EHdr", "ERS",
    "NITF", "PCIDSK", "AAIGrid", "GRASSASCIIGrid", "GSAG", "GSBG", "GS7BG", "SAGA", "RST", "ILWIS", "RMF", "RRASTER",
    "DTED", "SRTMHGT", "USGSDEM", "XYZ", "GXF", "ZMap", "BT", "BYN", "GTX", "NTv2", "NGSGEOID", "ISG", "ACE2",
    "SNODAS", "LCP", "BAG", "S102", "S104", "S111", "ROI_PAC", "ISCE", "SNAP_TIFF", "SENTINEL2", "SAFE", "SAR_CEOS",
    "CEOS", "COSAR", "TSX", "RS2", "DIMAP", "TIL", "FAST", "L1B", "MSGN", "NSIDCbin", "NOAA_B", "HF2", "KRO", "LAN",
    "PCRaster", "CALS", "ADRG", "AIG", "DOQ1", "DOQ2", "NDF", "IRIS", "MFF", "MFF2", "SIGDEM", "TGA", "Terragen",
    "Leveller", "EIR", "ESAT", "PAux", "XPM",
)  # fmt: skip
"""Drivers that read files. Web services, databases and vector formats are left out: opening a path must not fetch."""

OPTIONS: dict[str, str | int] = {
    "GDAL_VRT_ENABLE_PYTHON": "NO",  # a VRT may carry Python code
    "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "SIBLING_OR_CHILD_OF_VRT_PATH",  # from 3.12 on; `reach` goes further
    "GDAL_NUM_THREADS": "1",
    "GDAL_TIFF_INTERNAL_MASK": "YES",
    "GTIFF_USE_DEFER_STRILE_LOADING": "NO",  # where tiles lie is read at once: later a failing server made them zeros
    "GDAL_MAX_DATASET_POOL_SIZE": "100",
    "JPEGMEM": "512M",
    "GDAL_CACHEMAX": 2**28,  # bytes; the default is a share of the machine
}
NO_NETWORK = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/none",  # what a local file may fetch: nothing
    "GDAL_HTTP_PROXY": "127.0.0.1:9",  # for drivers that do not go through /vsicurl
    "GDAL_HTTPS_PROXY": "127.0.0.1:9",
}
NETWORK = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "1"}
_PATIENCE = {
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
"""Seconds, and bytes a second. GDAL itself would wait for good for a server that took the question and says nothing."""
_BROKEN_OFF = re.compile("IReadBlock failed|Read failed|Read error|TIFFRead")

_HANDLES = 64


def _without_secrets(record: logging.LogRecord) -> bool:
    """GDAL logs the address that it failed at, login, signature and all."""
    record.msg, record.args = unsaid(record.getMessage()), ()
    return True


logging.getLogger("rasterio._env").addFilter(_without_secrets)


@dataclass(frozen=True, slots=True)
class GdalReader:
    """Windows of some bands of one file; holds no handle, so it travels between processes."""

    path: str
    """As GDAL takes it."""
    indexes: tuple[int, ...]
    """Band numbers, counted from 1."""
    mask: str = ""
    """Where validity comes from: `alpha:N`, `dataset`, `numbers` (NODATA_VALUES), `band` or nowhere."""
    casts: str | None = field(default=None)
    """Dtype to return where the file's own has no NumPy name."""

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype."""
        del date
        with door(self.path), handle(self.path) as dataset:
            values: NDArray[Any] = dataset.read(list(self.indexes), window=_rasterio_window(window))
        return values if self.casts is None else values.astype(self.casts)

    def valid(self, date: int, window: Window) -> NDArray[np.bool_] | None:
        """(row, column), True where the mask or the alpha band says valid; None without one."""
        del date
        if not self.mask:
            return None
        name, _, number = self.mask.partition(":")
        with door(self.path), handle(self.path) as dataset:
            if name == "alpha":
                return np.asarray(dataset.read(int(number), window=_rasterio_window(window)) != 0)
            return np.asarray(dataset.read_masks(self.indexes[0], window=_rasterio_window(window)) != 0)


def _rasterio_window(window: Window) -> Any:
    from rasterio.windows import Window as RasterioWindow

    return RasterioWindow(window.column, window.row, window.width, window.height)


@contextmanager
def door(path: str) -> Iterator[None]:
    """Every error of GDAL and rasterio leaves as one SourceError line."""
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, *_gdal_errors(), OSError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        _forget_errors()
        raise SourceError(_said(path, error)) from error
    except MemoryError as error:
        raise SourceError(f"{path} needs more memory for one block than there is; rewrite it in tiles") from error


def _gdal_errors() -> tuple[type[Exception], ...]:
    from rasterio import _err

    return (_err.CPLE_BaseError,)


def _forget_errors() -> None:
    """Reset GDAL's last error: after a failed read rasterio leaves it, and raises it at the next file that is asked."""
    from rasterio import _err

    with getattr(_err, "stack_errors", nullcontext)():  # begins and ends with a reset
        pass


def _line(error: BaseException) -> str:
    """The most telling line of an error: that of its root where the outer one only points to it."""
    text = str(error)
    if error.__cause__ is not None and "previous exception" in text:
        text = str(error.__cause__)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]


_PACKED = (".zip", ".tar", ".tar.gz", ".tgz", ".gz", ".7z")


def _cure(path: str) -> str:
    """What to do with a file that is no raster."""
    if path.lower().endswith(_PACKED):
        return "unpack it, and give the file or the scene's folder in it"
    if path.lower().endswith((".xml", ".txt", ".safe")):
        return "where it tells of a scene of one file a band, give the scene's folder"
    return "convert it to GeoTIFF first"


def _said(path: str, error: BaseException) -> str:
    """What is wrong with a path, and the cure, in one line."""
    line = _line(error)
    if "not recognized as being" in line and not is_remote(path):
        return f"{path} is not recognized as a raster by this build of GDAL; {_cure(path)}"
    if "ENVI header file" in line:
        return f"{path} is an ENVI header; open the data file beside it instead"
    if is_remote(path):
        shown = path.removeprefix("/vsicurl/")
        cure = "check the address, the credentials and that the server serves ranges, or copy the file here"
        if not re.search(r"\.[a-z]\w*$", shown.partition("?")[0].rpartition("/")[2], re.IGNORECASE):
            cure = f"where it is a folder, end it in /; else {cure}"
        if _BROKEN_OFF.search(line):
            cure = "the server broke off or did not answer in time, or the file is damaged; try again, or copy it here"
        return f"{shown} cannot be read: {line}; {cure}"
    absent = "No such file" in line or "does not exist" in line
    cure = "check the path" if absent else "the file looks damaged or incomplete; a fresh copy may help"
    line = line.removeprefix(f"{path}: ").removeprefix(f"{path}, ")  # rasterio begins with it too
    return f"{path} cannot be read: {line}; {cure}"


def environment(path: str) -> Any:
    """The GDAL settings under which a path is opened and read."""
    import rasterio

    # what was closed is asked for anew: it may have been replaced since
    patience = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    network = {**NETWORK, **patience, **_endpoint(), "CPL_VSIL_CURL_NON_CACHED": path}
    return rasterio.Env(**OPTIONS, **(network if is_networked(path) else NO_NETWORK))


def _endpoint() -> dict[str, str]:
    """Another S3 server than Amazon's, named as every other S3 client takes it: GDAL has words of its own for it."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not url or "AWS_S3_ENDPOINT" in os.environ:
        return {}
    scheme, _, host = url.rstrip("/").partition("://")
    secure = "NO" if scheme == "http" else "YES"
    return {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": secure, "AWS_VIRTUAL_HOSTING": "FALSE"}


def open_dataset(path: str) -> Any:
    """Open a path read-only with the file drivers alone; the caller closes it."""
    return _opened(path, _drivers())


def _opened(path: str, drivers: Iterable[str]) -> Any:
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import DatasetReader

    with environment(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # camera frames are welcome
        return DatasetReader(path, driver=list(drivers), sharing=False)  # rasterio.open takes one driver only


@cache
def _drivers() -> tuple[str, ...]:
    from rasterio.env import Env

    with Env() as env:
        known = env.drivers()
    return tuple(name for name in DRIVERS if name in known)


_local = threading.local()


def _handles() -> OrderedDict[tuple[str, int], Any]:
    """What this thread has open; handles of a parent process are not touched."""
    if getattr(_local, "process", None) != os.getpid():
        _local.process, _local.open = os.getpid(), OrderedDict()
    found: OrderedDict[tuple[str, int], Any] = _local.open
    return found


@contextmanager
def handle(path: str) -> Iterator[Any]:
    """Open a dataset of this thread's own, or take the one it has; the least used of 64 is closed."""
    kept = _handles()
    key = (path, _changed(path))
    if key not in kept:
        kept[key] = open_dataset(path)
    kept.move_to_end(key)
    while len(kept) > _HANDLES:
        kept.popitem(last=False)[1].close()
    with environment(path):
        yield kept[key]


def _changed(path: str) -> int:
    """Time of the last change, so that a replaced file is opened anew; 0 where it cannot be asked cheaply."""
    try:
        return 0 if is_remote(path) else os.stat(path).st_mtime_ns  # noqa: PTH116  # a path may be a GDAL name
    except OSError:
        return 0


def _let_go(path: str) -> None:
    """Close what this thread has open of a remote file, which does not tell whether it was replaced since."""
    held = _handles().pop((path, _changed(path)), None)
    if held is not None:
        with environment(path):
            held.close()


def read_header(path: str) -> Header:
    """Everything a file says of itself, without reading a pixel.

    Raises SourceError for what GDAL cannot open, for absurd sizes, and for text files that would fetch or run things.
    """
    if is_remote(path):
        _let_go(path)
    else:
        refuse_special_files(path)
        refuse_reaching(path, _open_named)
    with door(path), handle(path) as dataset:
        if not dataset.count:
            raise SourceError(_without_bands(path, dataset))
        header = header_of(path, dataset)
        _refuse_reach(path, dataset)
    refuse_absurd(header)
    return header


def _refuse_reach(path: str, dataset: Any) -> None:
    """Raise SourceError for an open dataset whose numbers come from where its own files are not."""
    if dataset.driver == "VRT" and is_remote(path):
        refuse_reaching_back(path, "".join(dataset.tags(ns="xml:VRT").values()), _open_named)
    refuse_far_data(path, dataset.driver, tuple(dataset.files))
    names = [name for name in dataset.files if Path(name).is_file()]
    for name in names if dataset.driver != "VRT" else ():  # what a VRT names was looked at before
        if first_bytes(Path(name), 8) == HDF5_MAGIC:
            import h5py

            with h5py.File(name, "r") as file:
                refuse_far_links(name, file)
        elif name != path:
            refuse_reaching(name, _open_named)


def _open_named(name: str) -> None:
    """Raise SourceError unless what a text names is a raster that names no others."""
    drivers = [driver for driver in _drivers() if driver not in ("VRT", "MRF")]
    with door(name), _opened(name, drivers) as dataset:
        _refuse_reach(name, dataset)


def _without_bands(path: str, dataset: Any) -> str:
    inside = list(dataset.subdatasets)[:4]
    if inside:
        return f"{path} is a container of several rasters; name one of them: {', '.join(inside)}"
    return f"{path} ({dataset.driver}) holds no raster band; there is nothing to fill in it"

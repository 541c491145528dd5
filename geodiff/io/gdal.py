"""Any raster GDAL can open, lazily: what the file says of itself, and windows of its stored numbers.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.credentials import unsaid
from geodiff.errors import SourceError
from geodiff.io.categories import bands_of_classes
from geodiff.io.directory import GDAL_NODATA, text_of
from geodiff.io.guards import HDF5_MAGIC, first_bytes, refuse_absurd, refuse_special_files
from geodiff.io.reach import refuse_far_data, refuse_far_links, refuse_reaching, refuse_reaching_back

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.crs import CRS

    from geodiff.lattice import Window

__all__ = [
    "GdalReader", "Header", "address", "door", "gdal_path", "is_remote", "open_dataset", "part_of", "read_header",
]  # fmt: skip

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
_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "gcs": "/vsigs/", "az": "/vsiaz/", "abfs": "/vsiaz/"}
_SUBDATASET = re.compile(r"[A-Za-z]\w+:(?!//)")
"""How the name of a part of a file begins, such as `HDF5:"a.h5"://group/array`; of a URL the scheme alone matches."""
_REMOTE = ("s3", "gs", "gcs", "az", "abfs", "http", "https", "ftp")


def _without_secrets(record: logging.LogRecord) -> bool:
    """GDAL logs the address that it failed at, login, signature and all."""
    record.msg, record.args = unsaid(record.getMessage()), ()
    return True


logging.getLogger("rasterio._env").addFilter(_without_secrets)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself, complete enough to write the same file again with other numbers."""

    path: str
    driver: str
    shape: tuple[int, int]
    """Rows and columns."""
    affine: Affine
    crs: CRS | None
    """As GDAL reads it; never replaced by a code or another datum."""
    dtypes: tuple[str, ...]
    """GDAL's names, `complex_int16` among them."""
    nodata: tuple[float | int | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str, ...]
    descriptions: tuple[str | None, ...]
    colours: tuple[str, ...]
    """Colour interpretation of each band by name."""
    colourmaps: Mapping[int, Mapping[int, tuple[int, int, int, int]]]
    """Colour table by band number, counted from 1."""
    tags: Mapping[str, Mapping[str, str]]
    """Tags by namespace; '' is the default one. `xml:` and `json:` namespaces hold one text under their own name."""
    band_tags: tuple[Mapping[str, Mapping[str, str]], ...]
    bits: tuple[int | None, ...]
    """Bits a pixel where the file stores fewer than its dtype has."""
    gcps: tuple[Any, ...]
    gcp_crs: CRS | None
    rpcs: Any | None
    masks: tuple[frozenset[str], ...]
    """Flags of each band's mask: `per_dataset`, `alpha`, `nodata`, `all_valid`; empty for a mask of the band's own."""
    blocks: tuple[tuple[int, int], ...]
    files: tuple[str, ...]
    images: tuple[str, ...] = ()
    """Names of all images, where the file holds several; the first is the one that is open."""
    classes: frozenset[int] = frozenset()
    """Numbers of the bands, counted from 1, whose numbers have names."""

    @property
    def count(self) -> int:
        return len(self.dtypes)

    @property
    def alpha(self) -> int | None:
        """Number of the alpha band, counted from 1."""
        return self.colours.index("alpha") + 1 if "alpha" in self.colours else None

    @property
    def dataset_mask(self) -> bool:
        """Whether the file has a mask beside its bands (internal, `.msk`), neither alpha nor nodata.

        A file tagged NODATA_VALUES has a mask that GDAL makes of the numbers of all bands.
        """
        beside = any("per_dataset" in flags and "alpha" not in flags for flags in self.masks)
        return beside and "NODATA_VALUES" not in self.tags.get("", {})


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


def is_remote(path: str) -> bool:
    """Whether the caller himself named something beyond this machine."""
    scheme, separator, _ = path.partition("://")
    return path.startswith("/vsi") or (bool(separator) and scheme in _REMOTE)


def gdal_path(path: str) -> str:
    """A local path, a fsspec URL or a /vsi path as GDAL takes it."""
    scheme, separator, rest = path.partition("://")
    if not separator or path.startswith("/vsi") or _SUBDATASET.match(path):
        return path
    if scheme == "file":
        return "/" + rest.lstrip("/") if rest.startswith("/") else rest
    if scheme in _STORES:
        return _STORES[scheme] + rest
    if scheme in ("http", "https", "ftp"):
        return f"/vsicurl/{path}"
    if scheme == "zip" and "::" in rest:
        inner, outer = rest.split("::", 1)
        return f"/vsizip/{{{gdal_path(outer)}}}/{inner}"
    raise SourceError(
        f"{path} uses {scheme}://, which GDAL cannot read; copy the file to this machine, "
        "or use s3://, gs://, az://, https:// or file://"
    )


_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/\{?(?P<archive>.+?\.(?:zip|kmz|tar|tgz|gz))(?:[/}]|$)", re.IGNORECASE)


def address(name: str) -> str:
    """The local path or the URL of a file that GDAL names; of one inside an archive, that of the archive.

    >>> address("/vsis3/bucket/a.tif"), address("/vsizip/{/vsicurl/https://host/a.zip}/b.tif"), address("a.tif")
    ('s3://bucket/a.tif', 'https://host/a.zip', 'a.tif')
    """
    inside = _ARCHIVE.match(name)
    if inside:
        return address(inside["archive"])
    for scheme, prefix in _STORES.items():
        if name.startswith(prefix):
            return f"{scheme}://{name.removeprefix(prefix)}"
    return name.removeprefix("/vsicurl/")


def part_of(name: str, files: Sequence[str]) -> str:
    """What of its files a name means: a subdataset, page or layer, one file of an archive; '' where it is all of them.

    Without the place of the files, so that it is the same wherever they lie.

    >>> part_of('NETCDF:"/data/m.nc":sst', ["/data/m.nc"]), part_of("clouds.gpkg|layername=high", ["clouds.gpkg"])
    ('NETCDF::sst', '|layername=high')
    >>> part_of("/vsizip/a.zip/b.tif", ["/vsizip/a.zip/b.tif"]), part_of("scenes/*.tif", ["scenes/a.tif"])
    ('b.tif', '')
    """
    if name.startswith("zip://"):
        name = gdal_path(name)
    inside = _ARCHIVE.match(name)
    if inside:
        return name[inside.end() :]
    bare = name.replace('"', "")
    if not (_SUBDATASET.match(bare) or "|layername=" in bare) or os.path.exists(name):  # noqa: PTH110 - never raises
        return ""
    found = max((file for file in files if file in bare), key=len, default="")
    return bare.replace(found, "") if found else bare


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
    return rasterio.Env(**OPTIONS, **(network if _is_networked(path) else NO_NETWORK))


_NETWORKS = re.compile(r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)


def _is_networked(path: str) -> bool:
    """The same without archives of this machine, whose contents may fetch as little as other files."""
    return is_remote(path) and (not path.startswith("/vsi") or bool(_NETWORKS.search(path)))


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

    with environment(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # camera frames are welcome
        return _dataset_class()(path, driver=list(drivers), sharing=False)  # rasterio.open takes one driver only


@cache
def _dataset_class() -> Any:
    """Rasterio's own, which looks up each band that is read in a tuple of all, made anew each time: 5 s of 12,000."""
    from rasterio.io import DatasetReader

    class Dataset(DatasetReader):  # type: ignore[misc]
        @property
        def indexes(self) -> range:
            return range(1, self.count + 1)

    return Dataset


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
        header = _header(path, dataset)
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


def _header(path: str, dataset: Any) -> Header:
    numbers = range(1, dataset.count + 1)
    points, points_crs = dataset.gcps
    return Header(
        path=path,
        driver=dataset.driver,
        shape=(dataset.height, dataset.width),
        affine=dataset.transform,
        crs=dataset.crs or None,
        dtypes=tuple(dataset.dtypes),
        nodata=_nodata(path, dataset),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        units=tuple(unit or "" for unit in dataset.units),
        descriptions=tuple(dataset.descriptions),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        colourmaps={number: table for number in numbers if (table := _colourmap(dataset, number))},
        tags=_tags(dataset, None),
        band_tags=tuple(_tags(dataset, number) for number in numbers),
        bits=tuple(_bits(dataset, number) for number in numbers),
        gcps=tuple(points),
        gcp_crs=points_crs or None,
        rpcs=dataset.rpcs,
        masks=tuple(frozenset(flag.name for flag in flags) for flags in dataset.mask_flag_enums),
        blocks=tuple(dataset.block_shapes),
        files=tuple(dataset.files) or (path,),
        images=tuple(dataset.subdatasets),
        classes=frozenset() if is_remote(path) else bands_of_classes(dataset.files),
    )


def _nodata(path: str, dataset: Any) -> tuple[float | int | None, ...]:
    """As rasterio says, but for integers of a GeoTIFF: it rounds wide ones and is silent on those that do not fit."""
    found = tuple(_whole(v, name) for v, name in zip(dataset.nodatavals, dataset.dtypes, strict=True))
    integer = all(name.startswith(("int", "uint")) for name in dataset.dtypes)
    if dataset.driver != "GTiff" or not integer or is_remote(path):
        return found
    text = text_of(Path(path), GDAL_NODATA)
    try:
        number = None if text is None else float(text)
    except ValueError:
        return found
    if number is None or (number in found and abs(number) <= 2**53):
        return found
    digits = text is not None and text.strip().lstrip("-").isdigit()
    exact = int(text) if text is not None and digits else int(number) if number.is_integer() else number
    return (exact,) * len(found)


def _whole(nodata: float | None, dtype: str) -> float | int | None:
    """Nodata of integers as an integer; rasterio takes every one for a float."""
    integral = nodata is not None and dtype.startswith(("int", "uint")) and float(nodata).is_integer()
    return int(nodata) if integral and nodata is not None else nodata


def _colourmap(dataset: Any, number: int) -> dict[int, tuple[int, int, int, int]]:
    try:
        return dict(dataset.colormap(number))
    except ValueError:  # "NULL color table": it has none
        return {}


def _bits(dataset: Any, number: int) -> int | None:
    text = dataset.tags(number, ns="IMAGE_STRUCTURE").get("NBITS", "")
    return int(text) if text.isdigit() else None


_STRUCTURE = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "GEOLOCATION", "COLOR_PROFILE", "xml:VRT")
"""Namespaces that describe the file and not its content, or that GDAL writes from other members of the header."""


def _tags(dataset: Any, number: int | None) -> dict[str, dict[str, str]]:
    arguments = () if number is None else (number,)
    found = {"": dict(dataset.tags(*arguments))}
    for name in dataset.tag_namespaces(*arguments):
        if name not in _STRUCTURE:
            found[name] = _whole_text(name, dict(dataset.tags(*arguments, ns=name)))
    return {name: tags for name, tags in found.items() if tags}


def _whole_text(name: str, tags: dict[str, str]) -> dict[str, str]:
    """One text under the namespace's own name where GDAL keeps one; rasterio cuts JSON at its first colon."""
    if not name.startswith("json:") or name in tags:
        return tags
    return {name: ":".join(next(iter(tags.items()), ("", "")))}


def _without_bands(path: str, dataset: Any) -> str:
    inside = list(dataset.subdatasets)[:4]
    if inside:
        return f"{path} is a container of several rasters; name one of them: {', '.join(inside)}"
    return f"{path} ({dataset.driver}) holds no raster band; there is nothing to fill in it"

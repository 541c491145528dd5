"""One cloud-optimised GeoTIFF from anything that can be read by window, with all that GeoTIFF can say about it.

A tiled staging file is streamed next to the target, gets its overviews, and is copied into COG order by GDAL's COG
driver. That copy keeps one namespace of tags only, so the full list is put back into its place afterwards; the place
is made large enough beforehand. Bytes depend on the content alone: no clock times, and threads only compress tiles,
each by itself.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from geodiff.errors import TargetError, WriteError
from geodiff.io.directory import GDAL_METADATA, GDAL_NODATA, is_whole, overwrite, text_of
from geodiff.io.places import arriving, put
from geodiff.lattice import Window
from geodiff.threads import cores

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray
    from rasterio.crs import CRS

    from geodiff.io.places import Arrivals

__all__ = ["Content", "assert_whole", "write_cog"]

OPTIONS: dict[str, str | int] = {
    "GDAL_NUM_THREADS": "1",
    "GDAL_TIFF_INTERNAL_MASK": "YES",
    "GDAL_PAM_ENABLED": "NO",  # what does not fit into the file is decided here, not by a surprise beside it
    "GDAL_CACHEMAX": 2**27,  # bytes; by default a share of the machine, and twice as much saves no time
    "GDAL_TIFF_DEFLATE_SUBCODEC": "LIBDEFLATE",
}

_STREAM_BYTES = 16 * 2**20
_TILE_BYTES = 16 * 2**20
_MOST_THREADS = 8
"""That compress: each holds tiles, and reading and packing in one thread feed no more."""
_PADDING = "geodiff_padding"
_STALE = re.compile(r"STATISTICS_.*|OVR_RESAMPLING_ALG|OVERVIEW_.*")


@dataclass(frozen=True, slots=True)
class Content:
    """What one GeoTIFF is to hold."""

    shape: tuple[int, int, int]
    """Bands, rows, columns."""
    dtype: str
    """GDAL's name."""
    read: Callable[[Window], NDArray[Any]]
    """(window) to (band, row, column)."""
    affine: Affine
    crs: CRS | None = None
    nodata: float | int | None = None
    valid: Callable[[Window], NDArray[np.bool_]] | None = None
    """(window) to (row, column) for a mask beside the bands; None for no such mask."""
    resampling: str = "nearest"
    """How overviews are made: `average` for quantities, `nearest` or `mode` for codes."""
    descriptions: tuple[str | None, ...] = ()
    units: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    colours: tuple[str, ...] = ()
    colourmaps: Mapping[int, Mapping[int, tuple[int, int, int, int]]] = field(default_factory=dict)
    bits: int | None = None
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By namespace; '' is the default one."""
    band_tags: tuple[Mapping[str, Mapping[str, str]], ...] = ()
    gcps: tuple[Any, ...] = ()
    gcp_crs: CRS | None = None
    rpcs: Any | None = None

    @property
    def itemsize(self) -> int:
        return {"complex_int16": 4, "complex_int32": 8}.get(self.dtype) or np.dtype(self.dtype).itemsize

    @property
    def wide_nodata(self) -> bool:
        """A nodata value that rasterio would round, because it takes every one for a float."""
        return self.dtype in ("int64", "uint64") and self.nodata is not None and abs(self.nodata) > 2**53

    @property
    def tile(self) -> int:
        """512 pixels, less for small rasters and for very many bands."""
        bands, rows, columns = self.shape
        size = 512
        while size > 128 and (max(rows, columns) <= size // 2 or bands * self.itemsize * size**2 > _TILE_BYTES):
            size //= 2
        return size


def write_cog(content: Content, target: Path, arrivals: Arrivals | None = None) -> None:
    """Write a COG that appears at `target` complete or not at all: now, or with the others that it belongs to.

    Raises WriteError where the disk is full or takes no more, TargetError where a GeoTIFF cannot hold it.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    if arrivals is None:
        with arriving() as alone:
            write_cog(content, target, alone)
        return
    try:
        with arrivals.appearing(target) as partial, rasterio.Env(**OPTIONS), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # camera frames are welcome
            staging = partial.with_name(f"{partial.stem}-staging.tif")
            try:
                _stage(content, staging)
                _copy(content, staging, partial)
                assert_whole(partial)
                _restore_namespaces(content, staging, partial)
                crs = content.crs if _loses_crs(content, partial) else None
            finally:
                staging.unlink(missing_ok=True)
            arrivals.then(target, lambda: _make_way(target, crs))
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise WriteError(f"{target} cannot be written: {error}; check free space and permissions") from error


def assert_whole(path: Path) -> None:
    """Raise OSError where a GeoTIFF that was just closed lacks a part."""
    if not is_whole(path):
        raise OSError(errno.ENOSPC, "the disk took a part of the file only", str(path))


def _threads() -> int:
    """Of compression alone: by GDAL_NUM_THREADS reading the staging file would take 300 MiB more."""
    return min(cores(), _MOST_THREADS)


def _stage(content: Content, path: Path) -> None:
    import rasterio
    from rasterio.enums import Resampling

    with rasterio.open(path, "w", **_creation(content)) as dataset:
        _describe(content, dataset)
        for window in stream(content):
            _write_window(content, dataset, window)
    if content.wide_nodata:
        overwrite(path, GDAL_NODATA, str(content.nodata).encode(), b"\0")
    factors = _factors(content)
    if factors:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(factors, Resampling[content.resampling])


def _creation(content: Content) -> dict[str, Any]:
    bands, rows, columns = content.shape
    options: dict[str, Any] = {
        "driver": "GTiff", "count": bands, "height": rows, "width": columns, "dtype": content.dtype,
        "nodata": None if content.wide_nodata else content.nodata,
        "tiled": True, "blockxsize": content.tile, "blockysize": content.tile, "interleave": "pixel",
        "bigtiff": "IF_SAFER", "sparse_ok": content.nodata is None,  # blank tiles cost nothing then
        **_staging_codec(),
    }  # fmt: skip
    if content.bits is not None:
        options["nbits"] = content.bits
    if content.crs is not None:
        options["crs"] = content.crs
    if not content.affine.is_identity:
        options["transform"] = content.affine
    return options


@cache
def _staging_codec() -> Mapping[str, str | int]:
    """The fastest lossless codec that this GDAL has: the staging file lives for seconds, and is read by ourselves."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    quick: Mapping[str, str | int] = {"compress": "zstd", "zstd_level": 1}
    try:
        with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            memory.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8", **quick).close()
    except RasterioError:  # a GDAL that was built without Zstandard
        return {"compress": "deflate", "zlevel": 1}
    return quick


def _describe(content: Content, dataset: Any) -> None:
    """Everything but the pixels; before them, because GDAL settles colours with the first block."""
    from rasterio.crs import CRS
    from rasterio.enums import ColorInterp

    if content.wide_nodata:
        dataset.nodata = content.nodata  # rounded; put right when the file is closed
    if content.colours:
        dataset.colorinterp = [ColorInterp[name] for name in content.colours]
    for number, table in content.colourmaps.items():
        dataset.write_colormap(number, dict(table))
    if content.gcps:
        dataset.gcps = (list(content.gcps), content.gcp_crs or CRS())
    if content.rpcs is not None:
        dataset.rpcs = content.rpcs
    if content.scales and (set(content.scales) != {1.0} or set(content.offsets) != {0.0}):
        dataset.scales, dataset.offsets = content.scales, content.offsets
    if any(content.descriptions):
        dataset.descriptions = tuple(text or "" for text in content.descriptions)
    if any(content.units):
        dataset.units = content.units
    _tag(content, dataset)


def _tag(content: Content, dataset: Any) -> None:
    for namespace, tags in content.tags.items():
        _update(dataset, (), namespace, tags)
    for number, namespaces in enumerate(content.band_tags, 1):
        for namespace, tags in namespaces.items():
            _update(dataset, (number,), namespace, {k: v for k, v in tags.items() if not _STALE.fullmatch(k)})
    hidden = _hidden_bytes(content)
    if hidden:
        dataset.update_tags(**{_PADDING: "x" * hidden})


def _update(dataset: Any, band: tuple[int, ...], namespace: str, tags: Mapping[str, str]) -> None:
    """Tags of one namespace. rasterio writes `key=value` always, so a text is cut at its first `=`."""
    if namespace.startswith(("xml:", "json:")):
        key, sign, value = tags.get(namespace, "").partition("=")
        if not sign:
            dataset.update_tags(*band, ns="LABEL", **{namespace.replace(":", "_"): key})
            return
        tags = {key: value}
    if tags:
        dataset.update_tags(*band, **({"ns": namespace} if namespace else {}), **tags)


def _write_window(content: Content, dataset: Any, window: Window) -> None:
    from rasterio.windows import Window as RasterioWindow

    place = RasterioWindow(window.column, window.row, window.width, window.height)
    dataset.write(content.read(window), window=place)
    if content.valid is not None:
        dataset.write_mask(content.valid(window), window=place)


def stream(content: Content) -> Iterator[Window]:
    """Windows of whole tiles, one row of tiles high, each at most 64 MiB where a tile is less than that."""
    bands, rows, columns = content.shape
    tile = content.tile
    across = max(1, _STREAM_BYTES // (bands * content.itemsize * tile * tile)) * tile
    for row in range(0, rows, tile):
        for column in range(0, columns, across):
            yield Window(row, column, min(tile, rows - row), min(across, columns - column))


def _factors(content: Content) -> list[int]:
    longest = max(content.shape[1:])
    factors, factor = [], 2
    while longest / (factor / 2) > content.tile:
        factors.append(factor)
        factor *= 2
    return factors


def _copy(content: Content, staging: Path, partial: Path) -> None:
    import rasterio.shutil

    predictor = "NO" if content.bits is not None or content.dtype.startswith("complex") else "YES"
    options = {"nbits": content.bits} if content.bits is not None else {}
    rasterio.shutil.copy(
        str(staging), str(partial), driver="COG", compress="DEFLATE", level=6, predictor=predictor,
        blocksize=content.tile, bigtiff="IF_SAFER", overviews="AUTO", num_threads=_threads(), **options,
    )  # fmt: skip


def _make_way(target: Path, crs: CRS | None) -> None:
    """Remove what was made for an older file of this name; say a CRS that the new one's keys lose in a `.aux.xml`."""
    for suffix in (".msk", ".ovr"):  # statistics, masks and overviews that another tool left
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    _keep_crs(target, crs)


# CRS that GeoTIFF keys cannot express


def _loses_crs(content: Content, partial: Path) -> bool:
    """Whether GeoTIFF's keys lose the CRS."""
    import rasterio

    with rasterio.open(partial) as dataset:
        return content.crs is not None and dataset.crs != content.crs


def _keep_crs(target: Path, crs: CRS | None) -> None:
    """GDAL reads the `.aux.xml` first; without a CRS one that is there is of an older file."""
    beside = target.with_name(target.name + ".aux.xml")
    if crs is None:
        beside.unlink(missing_ok=True)
        return
    text = f"<PAMDataset>\n  <SRS>{escape(crs.to_wkt(version='WKT2_2019'))}</SRS>\n</PAMDataset>\n"
    put(str(beside), text.encode())  # whole, or the older file of this name would lose its own


# Tags in every namespace


def _hidden_bytes(content: Content) -> int:
    """Room for what the COG driver leaves out: namespaces and empty texts; 0 where there are no namespaces.

    GDAL escapes a text twice, so that a quote takes ten bytes, and labels are full of them.
    """
    spaces = [(name, tags) for space in (content.tags, *content.band_tags) for name, tags in space.items()]
    texts = [(name, key + value) for name, tags in spaces for key, value in tags.items() if name or not value]
    room = sum(200 + len(name) + len(escape(escape(text, {'"': "&quot;"})).encode()) for name, text in texts)
    return room if any(name for name, _ in spaces) else 0


def _restore_namespaces(content: Content, staging: Path, partial: Path) -> None:
    """Put the staging file's whole GDAL_METADATA into the place that the copy's padded one takes."""
    if not _hidden_bytes(content):
        return
    whole = re.sub(r'\s*<Item name="geodiff_padding">x*</Item>', "", text_of(staging, GDAL_METADATA) or "").encode()
    if not overwrite(partial, GDAL_METADATA, whole, b" "):
        raise TargetError(
            f"the source's tags ({len(whole)} bytes) do not fit into a GeoTIFF; use a .zarr or .nc target"
        )

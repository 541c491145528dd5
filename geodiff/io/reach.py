"""How far a source may reach: what its texts name is checked before GDAL follows them.

GDAL opens whatever a VRT, a label or a mask beside a raster names, with every driver it has, web services among them,
and some of these take bytes of any file of the machine for pixels. So a source may name rasters, but bytes only of
files in its own folder or below, and nothing beyond this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from geodiff.errors import SourceError
from geodiff.io.guards import first_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "offline",
    "refuse_far_data",
    "refuse_far_links",
    "refuse_reaching",
    "refuse_reaching_back",
    "refuse_reaching_vectors",
]

_TEXT = re.compile(rb"<(VRTDataset|MRF_META|GDAL_)")
_LARGEST = 256 * 2**20
"""Bytes of a VRT; one of a million tiles has about that."""
_DEEPEST = 8
"""VRTs of VRTs."""
_NETWORK = re.compile(r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs|stdin)", re.IGNORECASE)
_NOWHERE = re.compile(r"/vsistdin", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?|ftp)://|^\w+://", re.IGNORECASE)
_FILES = ("sourcefilename", "sourcedataset", "dempath", "datafile", "indexfile")
"""Elements whose text names a file."""
_KEYS = re.compile(r"[XY]_DATASET|\w*dataset_filename\w*", re.IGNORECASE)
"""What metadata and arguments are called that name one."""
_BYTES = ("datafile", "indexfile")
"""Of these the ones whose bytes are taken as they are."""
_FORMATS = frozenset(
    {
        *("NETCDF", "HDF5", "GTIFF_DIR", "GTIFF_RAW", "NITF_IM", "PDS4", "SENTINEL2_L1B", "SENTINEL2_L1C"),
        *("SENTINEL2_L1C_TILE", "SENTINEL2_L2A", "BAG", "S102", "S104", "S111", "SENTINEL1_CALIB", "RADARSAT_2_CALIB"),
    }
)
"""Drivers of files that have names of their own for what is inside: `NETCDF:"a.nc":sst`."""
_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/", re.IGNORECASE)
_LABELS = frozenset({"PDS", "PDS4", "ISIS2", "ISIS3", "ERS", "MRF", "PCIDSK", "NDF", "EIR", "FAST", "SNODAS", "PAux"})
"""Drivers whose headers name the file that has the pixels."""
_BESIDE = (".msk", ".ovr", ".MSK", ".OVR")
"""What GDAL opens beside a raster, of whatever format."""


def _shortened(shown: str) -> str:
    """Both ends of a long text: what is done, and the name it ends in."""
    return shown if len(shown) <= 120 else f"{shown[:40]}...{shown[-77:]}"


def refuse_reaching(path: str, open_file: Callable[[str], Any]) -> None:
    """Raise SourceError for a text that names what lies beyond this machine, runs code, or takes bytes from elsewhere.

    Parameters
    ----------
    path : a local raster; what is beside it is looked at too.
    open_file : opens what a VRT names, with the drivers of files that name no others; the caller's own.
    """
    for name in (path, *(path + end for end in _BESIDE)):
        _Check(path, open_file).file(name, 0)


@dataclass
class _Check:
    """One source and what it has been found to name."""

    source: str
    open_file: Callable[[str], Any]
    seen: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)

    def file(self, path: str, depth: int) -> None:
        """A file, if it is a text that names others."""
        local = Path(path)
        if os.path.abspath(path) in self.seen or not _is_file(local):  # noqa: PTH100 - links stay
            return
        self.seen.add(os.path.abspath(path))  # noqa: PTH100
        head = first_bytes(local, 4096)
        if _TEXT.search(head):
            if local.stat().st_size > _LARGEST:
                self.refuse(f"{path}, a text of {local.stat().st_size} bytes, cannot be looked through")
            self.text(_decoded(local.read_bytes()), local.parent, depth)

    def text(self, text: str, folder: Path, depth: int) -> None:
        """A text that stands in `folder`."""
        if depth > _DEEPEST:
            self.refuse(f"more than {_DEEPEST} texts in each other")
        for named in _named(text, self.refuse):
            self.named(named, folder, depth)

    def named(self, named: _Named, folder: Path, depth: int) -> None:
        """What a text in `folder` names: a file of this machine, and in it if only its bytes are taken."""
        name = named.name
        if _ADDRESS.search(name):
            self.refuse(name)
        if "<" in name:
            if "<VRTDataset" not in name:
                self.refuse(name)
            self.text(name, folder, depth + 1)
        elif _ARCHIVE.match(name):
            self.opens(name)
        elif name.startswith("/vsi"):
            self.refuse(name)
        else:
            self.local(_file_of(name, folder if named.relative else Path(), self.refuse), named, folder, depth)

    def local(self, file: Path, named: _Named, folder: Path, depth: int) -> None:
        if named.bytes_alone and not _is_within(file, folder):
            self.refuse(f"bytes of {file}")
        if named.bytes_alone or not _is_file(file):
            return  # GDAL says that nothing is there
        self.file(str(file), depth + 1)
        head = first_bytes(file, 8)
        if not head.startswith(_PLAIN) and not _TEXT.search(first_bytes(file, 4096)):
            self.opens(str(file))

    def opens(self, name: str) -> None:
        """Refuse what is no raster that stands for itself."""
        if name not in self.opened:
            self.opened.add(name)
            self.open_file(name)

    def refuse(self, what: str) -> NoReturn:
        """Raise SourceError with what was found."""
        shown = " ".join(what.split())
        raise SourceError(
            f"{self.source} reaches beyond its own files ({_shortened(shown)}); "
            "opening a file must not fetch or run anything, nor show other people's bytes: open the raster by its own "
            "name or URL, or copy it next to the file"
        )


_PLAIN = (
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
)
"""First bytes of TIFF, PNG, JPEG and JPEG 2000, which hold their pixels themselves and name nothing."""


@dataclass(frozen=True, slots=True)
class _Named:
    name: str
    relative: bool
    bytes_alone: bool


def _named(text: str, refuse: Callable[[str], NoReturn], *, afar: bool = False) -> Iterator[_Named]:
    """All that a VRT, an MRF or a text of GDAL's web services names, as they are read: by any case of the letters.

    A text that comes from `afar` may name what lies there.
    """
    network = _NOWHERE if afar else _NETWORK
    found: list[_Named] = []
    stack: list[tuple[str, dict[str, str], list[str]]] = []

    def begin(name: str, attributes: dict[str, str]) -> None:
        own = {key.lower(): value for key, value in attributes.items()}
        stack.append((name.lower(), own, []))
        if name.lower().startswith("gdal_") or name.lower() in ("serverurl", "cachedsource"):
            refuse(f"<{name}")
        for value in own.values():
            if network.search(value):
                refuse(value)

    def end(name: str) -> None:
        del name
        kind, own, words = stack.pop()
        said = "".join(words).strip()
        if kind == "pixelfunctionlanguage" and said.lower() == "python":
            refuse("<PixelFunctionLanguage>Python")
        if network.search(said):
            refuse(said)
        if said and (kind in _FILES or _KEYS.fullmatch(own.get("key", own.get("name", "")))):
            raw = any(of == "vrtrasterband" and "raw" in has.get("subclass", "").lower() for of, has, _ in stack)
            relative = kind in _BYTES or own.get("relativetovrt", "0") not in ("0", "")
            found.append(_Named(said, relative, raw or kind in _BYTES))

    parser = _parser()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = lambda words: stack[-1][2].append(words) if stack else None
    parser.StartDoctypeDeclHandler = lambda *_: refuse("<!DOCTYPE")
    try:
        parser.Parse(text.lstrip("\ufeff \t\r\n"), True)
    except _xml_error() as error:
        refuse(f"no valid XML: {error}")
    yield from found


def _parser() -> Any:
    from xml.parsers import expat

    return expat.ParserCreate("utf-8")


def _xml_error() -> type[Exception]:
    from xml.parsers import expat

    return expat.ExpatError


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # GDAL takes any bytes for a name
        return content.decode("latin-1")


def _file_of(name: str, folder: Path, refuse: Callable[[str], NoReturn]) -> Path:
    """The file that a name stands for: itself, or the one inside `NETCDF:"a.nc":sst`."""
    plain = folder / name
    if _is_file(plain) or ":" not in name:
        return plain
    driver, _, rest = name.partition(":")
    pieces = re.findall(r'"([^"]*)"|([^":]+)', rest)
    files = [file for piece in pieces if _is_file(file := folder / "".join(piece))]
    if driver.upper() not in _FORMATS or not files:
        refuse(name)
    return files[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero in it
        return False


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path as it is written leads into a folder or below; links are followed as anywhere."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))  # noqa: PTH100


# -- vectors


_VECTORS_AFAR = re.compile(
    rb"(?i)<OGR\w*DataSource|<(?:\w+:)?WFS_Capabilities|gdal_streamed_alg"
    rb"|\"crs\"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)?\"type\"\s*:\s*\"link\""
)
"""OGR's VRTs and web services, GDAL's pipelines, and a CRS that GeoJSON has at an address."""
_LOOKED_AT = 2**20
"""Bytes of a file in a zip: formats and CRS are told at the beginning."""
_OFFLINE = {
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/vsicurl/none",
    "GDAL_HTTP_PROXY": "127.0.0.1:9",
    "GDAL_HTTPS_PROXY": "127.0.0.1:9",
    "GML_DOWNLOAD_SCHEMA": "NO",
}


def refuse_reaching_vectors(path: Path) -> None:
    """Raise SourceError for a vector file of this machine, or one in a zip, that would read or fetch something else."""
    shown = _named_in_zip(path) if first_bytes(path, 4) == b"PK\x03\x04" else _named_in_text(path)
    if shown:
        raise SourceError(
            f"{path} reaches beyond its own file ({' '.join(shown.split())[:60]}); opening a mask must not fetch or "
            "run anything: save its geometries as GPKG or GeoJSON, with the CRS in it"
        )


def _named_in_text(path: Path) -> str:
    if first_bytes(path, 512).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"<", b"{", b"["):
        return ""
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        found = _VECTORS_AFAR.search(content)
        return found.group().decode("utf-8", "replace") if found else ""


def _named_in_zip(path: Path) -> str:
    from zipfile import BadZipFile, ZipFile

    try:
        with ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    if found := _VECTORS_AFAR.search(file.read(_LOOKED_AT)):
                        return found.group().decode("utf-8", "replace")
    except (BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{path} cannot be read as a zip file: {error}; write it again") from error
    return ""


@contextmanager
def offline() -> Iterator[None]:
    """Within: pyogrio's GDAL, another library than rasterio's, fetches nothing."""
    import pyogrio

    before = {name: pyogrio.get_gdal_config_option(name) for name in _OFFLINE}
    pyogrio.set_gdal_config_options(_OFFLINE)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


# -- what is open


def refuse_far_data(path: str, driver: str, files: tuple[str, ...]) -> None:
    """Raise SourceError for a label whose pixels are in a file outside of its folder, of whatever kind that file is."""
    if driver not in _LABELS or not files:
        return
    far = next((name for name in files if not _is_within(Path(name), Path(files[0]).parent)), None)
    if far is not None:
        raise SourceError(
            f"{path} takes its pixels from {far}, outside of its own folder, and may so show bytes of any file; "
            "copy both into one folder and correct the name in the label"
        )


def refuse_reaching_back(path: str, text: str, open_file: Callable[[str], Any]) -> None:
    """Raise SourceError for a VRT from elsewhere, or from an archive, that names what is not there.

    Parameters
    ----------
    path : the VRT as GDAL takes it, `/vsicurl/https://host/a.vrt`.
    text : what stands in it.
    open_file : as above.
    """
    check = _Check(path, open_file)
    folder, place = path.rpartition("/")[0], _PLACE.match(path)
    own = place.group() if place else path
    for named in _named(text, check.refuse, afar=True):
        name = f"{folder}/{named.name}" if named.relative else named.name
        if "<" in name or ".." in name.split("/") or named.bytes_alone or not name.startswith(own):
            check.refuse(named.name)
        check.opens(name)


_PLACE = re.compile(r"/vsi(?:zip|tar|gzip)/\{?.+?\.(?:zip|kmz|tar|tgz|gz)|/vsi\w+/(?:\w+://)?[^/]+", re.IGNORECASE)
"""An archive, or a host or bucket."""


def refuse_far_links(path: str, file: Any) -> None:
    """Raise SourceError for an HDF5 file that takes numbers from others: by links, raw storage, virtual datasets.

    Parameters
    ----------
    path : how the file is called in messages.
    file : an open h5py file.
    """
    import h5py

    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        if (known := h5py.h5o.get_info(group.id).addr) in seen:  # hard links may go in circles
            continue
        seen.add(known)
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                _refuse_link(path, f"{group.name.rstrip('/')}/{name}", link.filename)
            if not isinstance(link, h5py.HardLink):  # a soft one leads to what is met elsewhere in this file
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                elsewhere = [each[0] for each in item.external or ()]
                elsewhere += [each.file_name for each in item.virtual_sources()] if item.is_virtual else []
                for other in elsewhere:
                    if other != ".":
                        _refuse_link(path, item.name, other)


def _refuse_link(path: str, name: str, other: str) -> NoReturn:
    raise SourceError(
        f"{name} of {path} is kept in another file ({other}), and may so show bytes of any file of this machine; "
        "write all of it into one file (h5repack, or xarray's load() and to_netcdf())"
    )

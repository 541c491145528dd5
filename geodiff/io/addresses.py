"""What a raster is called: by a user, as GDAL takes it, and as part of a file or an archive."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from geodiff.errors import SourceError

__all__ = ["address", "gdal_path", "is_networked", "is_remote", "part_of"]

_STORES = {"s3": "/vsis3/", "gs": "/vsigs/", "gcs": "/vsigs/", "az": "/vsiaz/", "abfs": "/vsiaz/"}
_SUBDATASET = re.compile(r"[A-Za-z]\w+:(?!//)")
"""How the name of a part of a file begins, such as `HDF5:"a.h5"://group/array`; of a URL the scheme alone matches."""
_REMOTE = ("s3", "gs", "gcs", "az", "abfs", "http", "https", "ftp")
_NETWORKS = re.compile(r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)", re.IGNORECASE)
_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/\{?(?P<archive>.+?\.(?:zip|kmz|tar|tgz|gz))(?:[/}]|$)", re.IGNORECASE)


def is_remote(path: str) -> bool:
    """Whether the caller himself named something beyond this machine."""
    scheme, separator, _ = path.partition("://")
    return path.startswith("/vsi") or (bool(separator) and scheme in _REMOTE)


def is_networked(path: str) -> bool:
    """What `is_remote` says, but for archives of this machine, whose contents may fetch as little as other files."""
    return is_remote(path) and (not path.startswith("/vsi") or bool(_NETWORKS.search(path)))


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

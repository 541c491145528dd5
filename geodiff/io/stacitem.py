"""STAC out: an Item for a product, and a static Catalog of the Items in a folder.

STAC 1.1 with the extensions projection 2.0, raster 2.0, processing 1.2 and file 2.1; ssys 1.1 where the ground is not
the Earth's. Outlines of such ground are longitudes and latitudes of that body, in the geographic CRS that belongs to
the product's own, and never pass through a datum of the Earth. Without a CRS the Item has no geometry, as STAC allows.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.credentials import unsaid
from geodiff.errors import SourceError
from geodiff.io import Kind
from geodiff.io.catalogue import absolute, bare, quoted
from geodiff.io.footprint import body_of, is_earth, outline
from geodiff.io.places import exists, filesystem_of, local_path, put, read

if TYPE_CHECKING:
    import pystac
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

    from geodiff.io import Band, Raster
    from geodiff.io.header import Header

__all__ = ["CATALOGUE", "ITEM", "item_fingerprint", "update_catalogue", "write_item"]

ITEM = ".stac.json"
"""How the name of an Item ends that a catalogue is to list."""
CATALOGUE = "catalog.json"

_EXTENSIONS = {
    name: f"https://stac-extensions.github.io/{name}/v{version}/schema.json"
    for name, version in {
        "projection": "2.0.0", "raster": "2.0.0", "processing": "1.2.0", "file": "2.1.0", "ssys": "1.1.0",
    }.items()
}  # fmt: skip
_LAYER = re.compile(r"(?P<stem>.+)_(?P<layer>source|reason|standard_error|members|quantiles|image)")
_ROLES = {
    "value": ["data"], "source": ["data-mask"], "reason": ["data-mask", "cloud"], "standard_error": ["uncertainty"],
    "members": ["ensemble"], "quantiles": ["uncertainty"], "image": ["data"],
}  # fmt: skip
_TITLES = {
    "value": "value: the source with estimates where it was missing",
    "source": "source: 0 observed, a code for each method, 254 left alone, 255 unfilled",
    "reason": "reason: why each pixel was missing",
    "standard_error": "standard error, in the units of the value; 0 where observed",
    "members": "members: equally likely realisations, member by member",
    "quantiles": "quantiles of the estimate",
    "image": "image: the numbers that the PDS4 label describes",
}
_MEDIA = {
    ".tif": "image/tiff; application=geotiff", ".png": "image/png", ".jp2": "image/jp2", ".json": "application/json",
    ".nc": "application/x-netcdf", ".xml": "application/xml", ".zarr": "application/vnd.zarr", ".html": "text/html",
}  # fmt: skip
_NUMBERS = {"complex_int16": "cint16", "complex_int32": "cint32", "complex64": "cfloat32", "complex128": "cfloat64"}


def write_item(path: str, raster: Raster, products: Sequence[str], attributes: Mapping[str, str], record: str) -> None:
    """Write the Item of a product; it appears at `path` whole.

    Parameters
    ----------
    path : where to write it; addresses in it are relative to that place where they can be.
    raster : the source, for grid, bands, dates and the link to what the product is derived from.
    products : every path that was written, the layers among them.
    attributes : what the product says of itself: `history` and `geodiff_*`.
    record : path of the run's record; it becomes an asset where it exists.
    """
    item = _item(path, raster, products, attributes, record)
    put(path, (json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), indent=1) + "\n").encode())


def item_fingerprint(path: str) -> str | None:
    """The fingerprint of the product that the Item at `path` is of; None where there is no Item of one."""
    try:
        return str(json.loads(read(path) or b"{}")["properties"]["geodiff:fingerprint"])
    except (ValueError, KeyError, TypeError):
        return None


def _item(
    path: str, raster: Raster, products: Sequence[str], attributes: Mapping[str, str], record: str
) -> pystac.Item:
    import pystac

    geobox = _main(raster)
    geometry, bbox = outline(geobox)
    ground = _ground(geobox)
    assets = _assets(path, raster, products, ground, record)
    properties = {**_when(raster), **ground, **_processing(attributes)}
    foreign = geobox.crs is not None and not is_earth(geobox.crs)
    used = [name for name in _EXTENSIONS if name != "ssys" or (foreign and "ssys:targets" in properties)]
    item = pystac.Item(
        id=Path(products[-1].rstrip("/")).stem if len(_values(products)) == 1 else _stem(record),
        geometry=geometry,
        bbox=bbox,
        datetime=properties.pop("datetime"),
        properties=properties,
        stac_extensions=[_EXTENSIONS[name] for name in used],
        assets={key: pystac.Asset.from_dict(asset) for key, asset in assets.items()},
    )
    for href in _sources(raster):
        item.add_link(pystac.Link("derived_from", _beside(unsaid(href), path), _media(href)))
    return item


def _stem(record: str) -> str:
    return record.rpartition("/")[2].removesuffix(".geodiff.json")


def _main(raster: Raster) -> GeoBox:
    continuous = [v for v in raster.variables if any(band.kind is Kind.CONTINUOUS for band in v.bands)]
    return (continuous or raster.variables)[0].geobox


# -- when


def _when(raster: Raster) -> dict[str, Any]:
    """A moment, or a period for several dates; the time of the file where the source says nothing."""
    from geodiff.io.stack import date_of

    dates = sorted({d for variable in raster.variables for d in variable.dates if d is not None})
    if len(dates) > 1:
        return {"datetime": None, "start_datetime": _spelt(dates[0]), "end_datetime": _spelt(dates[-1])}
    found = dates[0] if dates else date_of(raster)
    if found is not None:
        return {"datetime": _moment(found)}
    return {"datetime": _file_time(raster), "geodiff:datetime_from": "the file's time; the source says no date"}


def _spelt(when: np.datetime64) -> str:
    return f"{when.astype('datetime64[s]')}Z"


def _moment(when: np.datetime64) -> datetime:
    return datetime.fromisoformat(str(when.astype("datetime64[s]"))).replace(tzinfo=UTC)


def _file_time(raster: Raster) -> datetime:
    local = local_path(raster.path)
    there = local is not None and local.exists()
    return datetime.fromtimestamp(int(local.stat().st_mtime), UTC) if local and there else datetime.now(UTC)


# -- where


def _ground(geobox: GeoBox) -> dict[str, Any]:
    """The projection extension's fields, and the body where it is not the Earth."""
    shape = [int(n) for n in geobox.shape]
    facts = {"proj:shape": shape, "proj:transform": [float(n) for n in tuple(geobox.affine)[:6]]}
    if geobox.crs is None:
        return {"proj:code": None, **facts}
    body = None if is_earth(geobox.crs) else body_of(geobox.crs)
    return {**_crs(geobox.crs), **facts, **({"ssys:targets": [body]} if body else {})}


def _crs(crs: CRS) -> dict[str, Any]:
    """A code where there is one that means exactly this CRS, else its text."""
    authority = crs.proj.to_authority(min_confidence=100)
    code = None if authority is None else ":".join(authority)
    return {"proj:code": code} if code else {"proj:code": None, "proj:wkt2": crs.to_wkt()}


# -- how


def _processing(attributes: Mapping[str, str]) -> dict[str, Any]:
    """The processing extension's fields, and what else the product says of itself."""
    versions = dict(part.split("=", 1) for part in attributes.get("geodiff_versions", "").split() if "=" in part)
    skipped = ("history", "geodiff_versions", "geodiff_command")
    own = {key.replace("_", ":", 1): value for key, value in attributes.items() if key not in skipped}
    return {"processing:software": versions, "processing:lineage": attributes.get("history", ""), **own}


def _sources(raster: Raster) -> list[str]:
    """What the product was made from: the source itself, its Items, or the files that a glob named."""
    if raster.origins:
        return list(raster.origins)
    if not any(sign in raster.path for sign in "*?[") or "://" in raster.path:
        return [raster.path]
    return [name for name in raster.files if not name.startswith(("item:", "asset:"))]


def _beside(href: str, path: str) -> str:
    """An address as seen from the Item: relative where both lie in one place."""
    from pystac.utils import make_relative_href

    place, sign, item = href.rpartition("#")
    if not place.endswith("json"):  # a file may be called so
        place, sign, item = href, "", ""
    here, there = (p if "://" in p else quoted(str(Path(p).absolute())) for p in (path, place))
    return make_relative_href(there, here, start_is_dir=False) + sign + item  # which leaves out what follows `#`


# -- assets


def _values(products: Sequence[str]) -> list[str]:
    """Products that are no layer of another one."""
    stems = {_name(path) for path in products}
    found = []
    for path in products:
        layer = _LAYER.fullmatch(_name(path))
        if not path.endswith("geodiff-product.json") and not (layer and layer["stem"] in stems):
            found.append(path)
    return found


def _name(path: str) -> str:
    return Path(path.rstrip("/")).stem


def _assets(
    path: str, raster: Raster, products: Sequence[str], ground: Mapping[str, Any], record: str
) -> dict[str, dict[str, Any]]:
    values = _values(products)
    many = len(values) > 1
    assets: dict[str, dict[str, Any]] = {}
    for product in sorted(products, key=lambda product: product not in values):
        if product.endswith("geodiff-product.json"):
            continue
        layer = "value" if product in values else _LAYER.fullmatch(_name(product))["layer"]  # type: ignore[index]
        facts = {"title": _TITLES[layer], "roles": _ROLES[layer], **_described(product, raster, layer, ground)}
        assets[_name(product) if many else layer] = _asset(product, path, facts)
    if exists(record):
        assets["record"] = _asset(record, path, {"title": "what the run says of itself", "roles": ["metadata"]})
    return assets


def _asset(product: str, path: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    media = _media(product)
    if product.endswith(".tif") and facts["title"] != _TITLES["image"]:
        media = f"{media}; profile=cloud-optimized"
    return {"href": _beside(product, path), **({"type": media} if media else {}), **facts, **_file(product)}


def _media(href: str) -> str | None:
    return _MEDIA.get(Path(bare(href).rstrip("/")).suffix.lower())


def _file(product: str) -> dict[str, Any]:
    """Size and SHA-256 (as a multihash: 0x12, 32 bytes) of a file; nothing for a store of many files."""
    local = local_path(product)
    if local is None or not local.is_file():
        return {}
    with local.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file:size": local.stat().st_size, "file:checksum": f"1220{digest}"}


def _described(product: str, raster: Raster, layer: str, ground: Mapping[str, Any]) -> dict[str, Any]:
    """Grid and bands: from the file itself where it is a GeoTIFF, else from the source, whose grid it has."""
    if product.lower().endswith((".tif", ".tiff", ".png")):
        from geodiff.io.gdal import read_header
        from geodiff.io.geotiff import geobox_of

        header = read_header(product)
        own = {key: value for key, value in _ground(geobox_of(header)).items() if ground.get(key, "") != value}
        return {**({} if product.endswith(".png") else own), "bands": _file_bands(header, raster, layer)}
    bands = [(f"{v.name}.{b.name}" if len(v.bands) > 1 else v.name, b) for v in raster.variables for b in v.bands]
    return {"bands": [_band(name, band) for name, band in bands]}


def _file_bands(header: Header, raster: Raster, layer: str) -> list[dict[str, Any]]:
    own = [band.name for variable in raster.variables for band in variable.bands]
    spare = own if layer == "value" and len(own) == header.count else [f"band_{n + 1}" for n in range(header.count)]
    return [
        _facts(
            header.descriptions[n] or spare[n], _NUMBERS.get(header.dtypes[n], header.dtypes[n]), header.nodata[n],
            header.units[n], header.scales[n], header.offsets[n],
        )
        for n in range(header.count)
    ]  # fmt: skip


def _band(name: str, band: Band) -> dict[str, Any]:
    dtype = str(band.encoding.dtype)
    known = _NUMBERS.get(dtype, "uint8" if dtype == "bool" else dtype)
    return _facts(name, known, band.encoding.nodata, band.units, band.encoding.scale, band.encoding.offset)


def _facts(name: str, dtype: str, nodata: float | None, unit: str, scale: float, offset: float) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "data_type": dtype}
    if nodata is not None:
        facts["nodata"] = nodata if math.isfinite(nodata) else str(float(nodata))
    if unit:
        facts["unit"] = unit
    if (scale, offset) != (1.0, 0.0):
        facts |= {"raster:scale": scale, "raster:offset": offset}
    return facts


# -- the catalogue


def update_catalogue(folder: str, title: str) -> bool:
    """List every Item of a folder in its `catalog.json`, which is replaced whole, and only where something changed.

    An Item here whose product somebody deleted is left out. Returns whether it was written.
    """
    import pystac

    folder = folder.rstrip("/")
    catalogue = pystac.Catalog(id=re.sub(r"[^\w-]+", "-", title).strip("-") or "geodiff", description=title)
    said = catalogue.to_dict(include_self_link=False)
    items = [
        {"rel": "item", "href": f"./{quoted(name)}", "type": "application/geo+json", "title": name.removesuffix(ITEM)}
        for name in _item_names(folder)
    ]
    said["links"] = [{"rel": "root", "href": f"./{CATALOGUE}", "type": "application/json"}, *items]
    text = (json.dumps(said, indent=1) + "\n").encode()
    if read(f"{folder}/{CATALOGUE}") == text:
        return False
    put(f"{folder}/{CATALOGUE}", text)
    return True


def _item_names(folder: str) -> list[str]:
    local = local_path(folder)
    if local is not None:
        found = (path for path in local.glob(f"*{ITEM}") if not path.name.startswith("."))
        return sorted(path.name for path in found if _leads_somewhere(path))
    filesystem, root = filesystem_of(folder)
    filesystem.invalidate_cache(root)
    names = (str(name).rpartition("/")[2] for name in filesystem.ls(root, detail=False))
    return sorted(name for name in names if name.endswith(ITEM))


def _leads_somewhere(item: Path) -> bool:
    """Whether data that an Item names are there; what lies elsewhere, or is said in another way, is taken to be."""
    try:
        assets = json.loads(item.read_bytes())["assets"].values()
        hrefs = [asset["href"] for asset in assets if "data" in asset["roles"]]
        return not hrefs or any("://" in href or Path(absolute(href, str(item))).exists() for href in hrefs)
    except (SourceError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return True

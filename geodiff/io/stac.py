"""STAC sources: an Item, an ItemCollection or a static Catalog, as one raster with bands, quality flags and dates.

The Item says what the files do not: which assets are data, what the bands are called, scale, offset and nodata, and
when it all was acquired. What a file says of its own numbers goes before what the Item says of them. Several Items are
a stack of dates, those that are tiles of one pass one date.

Formats: STAC 1.1 and, through pystac, older ones; extensions eo and raster (1.x as `eo:bands` and `raster:bands`, 2.x
in `bands`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from geodiff.encoding import Encoding
from geodiff.errors import EncodingError, SourceError
from geodiff.flags import Match, ProductFacts, matches
from geodiff.io import Band, Kind, OpenOptions, QualityBand, Raster, Variable
from geodiff.io.catalogue import absolute, document, is_stac, item_of, items_of
from geodiff.io.places import local_path
from geodiff.io.scenes import BandsReader, as_flags, grouped, resampled

if TYPE_CHECKING:
    import pystac

__all__ = ["ItemPlace", "date_beside", "is_stac", "item_places", "open_stac"]

logger = logging.getLogger(__name__)

_DATASETS = ("Zarr", "netCDF", "HDF5")
_NOT_DATA = frozenset({"thumbnail", "overview", "visual", "metadata", "graphic", "index", "documentation"})
_RASTERS = (
    ".tif", ".tiff", ".jp2", ".vrt", ".nc", ".nc4", ".h5", ".hdf5", ".he5", ".zarr", ".img", ".cub", ".grib2",
    ".grb2", ".mrf",
)  # fmt: skip
_MEDIA = re.compile(
    r"^(image/(tiff|jp2|vnd\.stac\.geotiff|x\.geotiff)|application/((x-)?(netcdf|hdf5?)|vnd[.+]zarr|x-zarr))"
)
_BESIDE = (".json", ".stac.json")
"""How an Item beside a raster may be called."""
_LAST = ("jp2", "zip")
"""Formats taken where the same bands are not offered in another one."""


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """One Item of a catalogue, as something to fill."""

    href: str
    """What `open_stac` opens: a path or URL, with `#id` for an Item inside a collection."""
    id: str
    assets: tuple[str, ...]
    """Addresses of its data assets."""


@dataclass(frozen=True, slots=True)
class _Asset:
    """What an Item says of one file."""

    key: str
    href: str
    roles: frozenset[str]
    media: str
    bands: tuple[Mapping[str, Any], ...]
    """Name, scale, offset, nodata and unit of each band, as far as they are said; the last one holds for the rest."""
    named: bool
    """Whether the Item says which bands these are."""
    pixel: float
    """Ground sampling distance in metres; infinite where it is not said."""

    def said(self, band: int) -> Mapping[str, Any]:
        """What the Item says of a band, counted from 0."""
        return self.bands[min(band, len(self.bands) - 1)]

    @property
    def file(self) -> str:
        """The name without folders and signature."""
        return PurePosixPath(self.path).name

    @property
    def path(self) -> str:
        """Where it lies on its host, without what signs the address; the name of a file here as it is."""
        return urlsplit(self.href).path if "://" in self.href else self.href

    @property
    def signed(self) -> bool:
        """Whether something follows its address that may be another one next time."""
        return "://" in self.href and "?" in self.href

    @property
    def readable(self) -> bool:
        """Whether it is a raster at all, by its media type or its name."""
        return bool(_MEDIA.match(self.media.lower())) or self.file.lower().endswith(_RASTERS)


# -- assets


def _assets(item: pystac.Item, base: str) -> list[_Asset]:
    """Every raster of an Item; of several offers of the same bands the finest, and JPEG 2000 last."""
    found = [_asset(key, asset, item, base) for key, asset in item.assets.items()]
    found = [asset for asset in found if asset.readable and not asset.roles & _NOT_DATA]
    found.sort(key=lambda asset: (asset.pixel, any(word in asset.href.lower() for word in _LAST)))
    once: dict[Any, _Asset] = {}
    for asset in found:
        names = tuple(str(band.get("name")) for band in asset.bands)
        once.setdefault(names if asset.named else re.sub(r"[-_]?jp2$", "", asset.key), asset)
    order = list(item.assets)
    return sorted(once.values(), key=lambda asset: order.index(asset.key))


def _asset(key: str, asset: pystac.Asset, item: pystac.Item, base: str) -> _Asset:
    said = asset.to_dict()
    bands = _bands(said)
    pixel = said.get("gsd") or bands[0].get("spatial_resolution")
    applied = item.properties.get("earthsearch:boa_offset_applied")
    if applied:  # the numbers have it in them already, whatever the Item says of an offset
        bands = tuple({**band, "offset": 0.0} for band in bands)
    return _Asset(
        key=key,
        href=absolute(asset.href, base),
        roles=frozenset(asset.roles or ()),
        media=asset.media_type or "",
        bands=bands,
        named=any("name" in band for band in bands),
        pixel=float(pixel or math.inf),
    )


_FACTS = ("name", "scale", "offset", "nodata", "unit", "spatial_resolution")


def _bands(said: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """What is said of each band, in one spelling, and at the end what is said of the whole asset."""
    whole = _plain({key: value for key, value in said.items() if key != "name"})
    lists = [said.get(name) or () for name in ("bands", "eo:bands", "raster:bands")]
    count = max(map(len, lists))
    merged = [dict(whole) for _ in range(count)]
    for bands in lists:
        for number, band in enumerate(bands):
            merged[number] |= _plain(band)
    return (*merged, whole)


def _plain(band: Mapping[str, Any]) -> dict[str, Any]:
    """`raster:scale` of STAC 1.1 and `scale` of 1.0 alike; a common name where there is no other."""
    plain = {str(key).removeprefix("raster:"): value for key, value in band.items()}
    name = plain.get("name") or plain.get("eo:common_name") or plain.get("common_name")
    facts = {key: plain[key] for key in _FACTS if plain.get(key) is not None}
    return {**facts, "name": str(name)} if name else facts


def _chosen(item: pystac.Item, base: str) -> tuple[list[_Asset], list[tuple[_Asset, Match]]]:
    """Data assets, and quality assets with what they are; raises SourceError where there is nothing to fill."""
    assets = _assets(item, base)
    quality = _quality(assets)
    flags = {asset.key for asset, _ in quality}
    rest = [asset for asset in assets if asset.key not in flags]
    data = [asset for asset in rest if "data" in asset.roles] or [asset for asset in rest if not asset.roles] or rest
    data = [asset for asset in data if asset.named] or data
    if not data:
        kinds = ", ".join(sorted(item.assets)) or "none"
        raise SourceError(f"{item.id} in {base} has no raster asset with data (its assets: {kinds}); give another Item")
    return data, quality


def _quality(assets: Iterable[_Asset]) -> list[tuple[_Asset, Match]]:
    """Quality assets by their file names, keys or band names; each layer of a preset once."""
    by_name = {name: asset for asset in assets for name in (asset.file, asset.key, *_names(asset))}
    facts = ProductFacts(files=tuple(asset.file for asset in assets), bands={name: {} for name in by_name})
    found: dict[Any, tuple[_Asset, Match]] = {}
    for match in matches(facts):
        asset = by_name.get(match.file or match.band or "")
        if asset is not None:
            found.setdefault((match.preset, match.layer), (asset, match))
    return list(found.values())


def _names(asset: _Asset) -> tuple[str, ...]:
    return tuple(str(band["name"]) for band in asset.bands[:1] if "name" in band)


# -- rasters


def open_stac(source: str, options: OpenOptions) -> Raster:
    """Open an Item, or several as a stack of dates, one a pass.

    Raises
    ------
    SourceError
        For what is no STAC, names nothing to fill, or names files that cannot be opened.
    GridError
        Where the Items of a stack differ in grid, bands or dtype.
    """
    from geodiff.io.passes import Tile, one_date_a_pass
    from geodiff.io.stack import by_date, stack_rasters

    opened = [(item, _open_item(item, href, options)) for href, item in items_of(source)]
    if not opened:
        raise SourceError(f"{source} leads to no Item; give a catalogue that has some, or an Item")
    if len(opened) == 1:
        return replace(opened[0][1], path=source)
    tiles = [Tile(item.id, one, _satellite(item)) for item, raster in opened for one in by_date(raster)]
    rasters = one_date_a_pass(tiles, source)
    made = rasters[0] if len(rasters) == 1 else stack_rasters(rasters, source)
    return replace(made, path=source, origins=tuple(raster.path for _, raster in opened))


def _satellite(item: pystac.Item) -> str:
    return str(item.common_metadata.platform or "").lower()




def _open_item(item: pystac.Item, href: str, options: OpenOptions) -> Raster:
    base = item.get_self_href() or href
    data, quality = _chosen(item, base)
    opened = [(asset, _open_asset(asset, item, options)) for asset in data]
    when = _date(item)
    first = opened[0][1]
    variables = [_dated(v, when) for asset, raster in opened for v in _described(asset, raster)]
    looked = [(asset, match, _open_asset(asset, item, OpenOptions())) for asset, match in quality]
    flags = [_flags(asset, match, raster, when) for asset, match, raster in looked]
    if first.driver not in _DATASETS:
        variables = _together(variables, [each.variable for each in flags], options)
        flags = [replace(each, variable=_on_its_grid(each.variable, variables)) for each in flags]
    return Raster(
        path=href,
        driver="STAC" if len(opened) > 1 or first.driver not in _DATASETS else first.driver,
        variables=tuple(variables),
        quality=(*flags, *(each for _, raster in opened for each in raster.quality)),
        attributes={**first.attributes, "scene": item.id},
        files=(
            *_identity(item, [*data, *(asset for asset, _ in quality)]),
            *(name for asset, raster in opened for name in _files(asset, raster)),
            *(name for asset, _, raster in looked for name in _files(asset, raster)),
        ),
    )


def _open_asset(asset: _Asset, item: pystac.Item, options: OpenOptions) -> Raster:
    from geodiff.io.opening import open_source

    if is_stac(asset.href):
        raise SourceError(f"asset {asset.key} of {item.id} is JSON again; an asset is a raster")
    try:
        return open_source(asset.href, options)
    except SourceError as error:
        signed = " (signed addresses run out: sign the Item anew)" if asset.signed else ""
        raise SourceError(f"asset {asset.key} of {item.id}: {error}{signed}") from error


def _described(asset: _Asset, raster: Raster) -> Iterator[Variable]:
    """The variables of an asset, their bands named and completed as the Item says."""
    if raster.driver in _DATASETS:
        yield from raster.variables
        return
    start = 0
    for variable in raster.variables:
        count = len(variable.bands)
        bands = tuple(_completed(band, asset.said(start + n)) for n, band in enumerate(variable.bands))
        alone = count == 1 and len(raster.variables) == 1
        if alone and "name" not in asset.said(0):
            bands = (replace(bands[0], name=asset.key),)
        name = bands[0].name if alone else variable.name
        yield replace(variable, name=name, bands=bands, reader=_reader(variable, bands))
        start += count


def _completed(band: Band, said: Mapping[str, Any]) -> Band:
    """A band with the Item's name, and with its nodata, scale and unit where the file has none."""
    named = replace(band, name=str(said.get("name", band.name)))
    if band.kind is not Kind.CONTINUOUS:
        return named
    return replace(named, encoding=_encoding(band.encoding, said), units=band.units or str(said.get("unit", "")))


def _encoding(own: Encoding, said: Mapping[str, Any]) -> Encoding:
    try:
        nodata = own.nodata if own.nodata is not None else _nodata(said, own.dtype)
        plain = (own.scale, own.offset) == (1.0, 0.0)
        scale = float(said.get("scale", 1.0)) if plain else own.scale
        offset = float(said.get("offset", 0.0)) if plain else own.offset
        return replace(own, nodata=nodata, scale=scale, offset=offset)
    except (EncodingError, ValueError, TypeError) as error:
        logger.warning("what the Item says of nodata and scale is left aside: %s", error)
        return own


def _nodata(said: Mapping[str, Any], dtype: np.dtype[Any]) -> float | int | None:
    if "nodata" not in said:
        return None
    value = float(said["nodata"])
    return int(value) if np.issubdtype(dtype, np.integer) and value.is_integer() else value


def _reader(variable: Variable, bands: Sequence[Band]) -> Any:
    """The file's own reader, or where the Item adds a scale one that lets the product say it too."""
    same = all(a.encoding.scale == b.encoding.scale for a, b in zip(variable.bands, bands, strict=True))
    return variable.reader if same else BandsReader((variable.reader,))


def _file_reader(reader: Any) -> Any:
    return reader.parts[0] if isinstance(reader, BandsReader) else reader


def _flags(asset: _Asset, match: Match, raster: Raster, when: np.datetime64 | None) -> QualityBand:
    variable = _dated(raster.variables[0], when)
    named = replace(variable, name=asset.key, bands=(replace(variable.bands[0], name=asset.key), *variable.bands[1:]))
    return QualityBand(as_flags(named), match.preset, layer=match.layer)


def _together(variables: list[Variable], flags: list[Variable], options: OpenOptions) -> list[Variable]:
    """Bands of one grid and dtype as one variable; flags each for itself."""
    both = [*variables, *flags]
    if options.resolution is not None:
        both = resampled([replace(each, reader=_file_reader(each.reader)) for each in both], options.resolution)
    return both if len(variables) == 1 else list(grouped(both))


def _on_its_grid(flags: Variable, variables: Iterable[Variable]) -> Variable:
    """The same band as it stands among the variables, which may have been brought to another resolution."""
    return next((variable for variable in variables if variable.name == flags.name), flags)


def _dated(variable: Variable, when: np.datetime64 | None) -> Variable:
    return replace(variable, dates=(when,)) if variable.dates == (None,) and when is not None else variable


def _date(item: pystac.Item) -> np.datetime64 | None:
    """When it was acquired; the start where there is a period."""
    moment = item.datetime or item.common_metadata.start_datetime
    return None if moment is None else _utc(moment)


def _utc(moment: Any) -> np.datetime64:
    from datetime import UTC

    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return np.datetime64(aware.astimezone(UTC).replace(tzinfo=None), "ns")


def _identity(item: pystac.Item, assets: Sequence[_Asset]) -> tuple[str, ...]:
    """A name for all that the Item says and that can change a pixel: not its links, nor when it was updated."""
    said = [[asset.key, asset.path, [dict(band) for band in asset.bands]] for asset in assets]
    text = json.dumps([item.id, str(_date(item)), said], sort_keys=True, default=str)
    return (f"item:{item.id}:{hashlib.sha256(text.encode()).hexdigest()}",)


def _files(asset: _Asset, raster: Raster) -> tuple[str, ...]:
    """The files of an asset; of one whose address is signed anew each time, the address without the signature."""
    if asset.signed:
        return (f"asset:{urlsplit(asset.href).netloc}{asset.path}",)
    return tuple(name for name in raster.files if not name.startswith("/vsi")) or (asset.href,)


# -- for flows and stacks


def item_places(source: str) -> list[ItemPlace]:
    """Every Item that a document leads to, as something to fill of its own; raises SourceError as `open_stac` does."""
    found = []
    for href, item in items_of(source):
        data, _ = _chosen(item, item.get_self_href() or href)
        found.append(ItemPlace(href, item.id, tuple(asset.href for asset in data)))
    return found


def date_beside(path: str) -> np.datetime64 | None:
    """The date that a STAC Item beside a local raster or inside a scene folder tells; None where there is none."""
    local = local_path(path)
    if local is None:
        return None
    names = sorted(local.glob("*_stac.json")) if local.is_dir() else [local.with_suffix(end) for end in _BESIDE]
    for name in names:
        try:
            return _date(item_of(document(str(name)), str(name))) if name.is_file() else None
        except SourceError:
            continue  # JSON of another kind
    return None

"""STAC Items and the rasters that they name, as archives write them, and what the Items of products must keep to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geodiff.job import FillJob
from geodiff.pipeline import run

EXTENSIONS = "https://stac-extensions.github.io"


def write(path: Path, value: int = 1000, *, pixel: float = 30, crs: str | None = "EPSG:32633", **options: Any) -> Path:
    """Write a raster of one 960 m square with a hole of nodata 0 in it."""
    size = int(960 / pixel)
    values = np.full((1, size, size), value, options.pop("dtype", "uint16"))
    values[:, 4:9, 5:10] = 0
    place = options.pop("transform", Affine(pixel, 0, 500_000, 0, -pixel, 5_000_000))
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=size, width=size, count=1, dtype=values.dtype, crs=crs, transform=place,
        **options,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def item(
    assets: dict[str, Any], name: str = "scene", when: str | None = "2021-03-01T10:00:00Z", **more: Any
) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": None, "links": [], "stac_extensions": [],
        "properties": {"datetime": when, **more}, "assets": assets,
    }  # fmt: skip


def save(path: Path, document: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def data(href: str, name: str = "", **raster: Any) -> dict[str, Any]:
    asset: dict[str, Any] = {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]}
    return asset | ({"eo:bands": [{"name": name}]} if name else {}) | ({"raster:bands": [raster]} if raster else {})


def dates(tmp_path: Path, count: int = 3) -> list[dict[str, Any]]:
    found = []
    for day in range(1, count + 1):
        write(tmp_path / f"d{day}.tif", 100 * day)
        found.append(item({"ndvi": data(f"d{day}.tif", nodata=0)}, f"day-{day}", f"2021-03-{day:02d}T00:00:00Z"))
    return found


def catalogue(tmp_path: Path, kind: str = "Catalog") -> str:
    for number, document in enumerate(dates(tmp_path), 1):
        document["assets"]["ndvi"]["href"] = f"../d{number}.tif"
        save(tmp_path / "items" / f"{number}.json", document)
    links = [{"rel": "item", "href": f"./items/{number}.json"} for number in (1, 2, 3)]
    circle = [{"rel": "child", "href": "./catalog.json"}, {"rel": "root", "href": "./catalog.json"}]
    return save(tmp_path / "catalog.json", {"type": kind, "id": "c", "description": "c", "links": [*links, *circle]})


def fields(prefix: str, **known: Any) -> dict[str, Any]:
    """A schema that knows these fields of a prefix, and no others of it."""
    named = {f"{prefix}:{name}": schema for name, schema in known.items()}
    return {
        "type": "object",
        "properties": named,
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }


def extension(name: str, version: str, known: dict[str, Any], bands: dict[str, Any] | None = None) -> tuple[str, Any]:
    """What an extension asks of an Item, as far as products use it; the published schemas are online only."""
    url = f"{EXTENSIONS}/{name}/v{version}/schema.json"
    asset = known if bands is None else {"allOf": [known, {"properties": {"bands": {"type": "array", "items": bands}}}]}
    properties = {
        "stac_extensions": {"contains": {"const": url}},
        "properties": known,
        "assets": {"additionalProperties": asset},
    }
    return url, {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": url,
        "type": "object",
        "properties": properties,
    }


NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 6, "maxItems": 9}
SCHEMAS = dict(
    [
        extension(
            "projection", "2.0.0",
            fields(
                "proj", code={"type": ["string", "null"]}, wkt2={"type": ["string", "null"]}, transform=NUMBERS,
                shape={"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
            ),
        ),
        extension(
            "raster", "2.0.0", fields("raster"), fields("raster", scale={"type": "number"}, offset={"type": "number"})
        ),
        extension(
            "processing", "1.2.0",
            fields(
                "processing", lineage={"type": "string"},
                software={"type": "object", "additionalProperties": {"type": "string"}},
            ),
        ),
        extension(
            "file", "2.1.0",
            fields("file", size={"type": "integer"}, checksum={"type": "string", "pattern": "^1220[a-f0-9]{64}$"}),
        ),
        extension("ssys", "1.1.0", fields("ssys", targets={"type": "array", "items": {"type": "string"}})),
    ]
)  # fmt: skip


def valid(path: Path) -> pystac.Item:
    """Read an Item that pystac's validator accepts: the core by its own schemas, the extensions by the above."""
    found = pystac.Item.from_file(str(path))
    validator = JsonSchemaSTACValidator()
    validator.schema_cache |= SCHEMAS
    said = json.loads(path.read_text())
    checked = validator.validate(
        said, pystac.STACObjectType.ITEM, said["stac_version"], said["stac_extensions"], str(path)
    )
    assert len(checked) == 1 + len(said["stac_extensions"])
    return found


def product(source: Path | str, target: Path | str, **options: Any) -> pystac.Item:
    place = Path(f"{str(target).rstrip('/').removesuffix('.tif').removesuffix('.zarr')}.stac.json")
    run(FillJob.build(source=str(source), target=str(target), filler="laplace", stac=str(place), **options), quiet=True)
    return valid(place)

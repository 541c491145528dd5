"""HDF-EOS5: what `StructMetadata.0` says of the axes of grids and swaths, and where a grid lies.

NASA's files keep in one text what NetCDF says by dimensions, coordinates and grid mappings. HDF-EOS Interface Based on
HDF5, volume 2; GCTP's packed degrees, DDDMMMSSS.SS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from affine import Affine

from geodiff.io.inherited import gridded, rebuilt

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

__all__ = ["METADATA", "structured"]

METADATA = "HDFEOS INFORMATION/StructMetadata.0"
_PLACE = re.compile(r"HDFEOS/(GRIDS|SWATHS)/([^/]+)/(?:Data|Geolocation) Fields")
_PHONY = "phony_dim"


def structured(dataset: xr.Dataset, group: str, metadata: str) -> xr.Dataset:
    """The dataset of a group of fields with axes named as the metadata say, and on a grid with its coordinates."""
    place = _PLACE.fullmatch(group)
    if place is None:
        return dataset
    kind, name = place[1], place[2]
    root, key = ("GridStructure", "GridName") if kind == "GRIDS" else ("SwathStructure", "SwathName")
    objects = [part for part in _parts(_parsed(metadata).get(root)) if part.get(key) == name]
    if not objects:
        return dataset
    named = _with_axes(dataset, objects[0])
    geobox = _geobox(objects[0]) if kind == "GRIDS" else None
    if geobox is None or dict(named.sizes).get("YDim") != geobox.shape[0] or named.sizes.get("XDim") != geobox.shape[1]:
        return named
    return gridded(named, "YDim", "XDim", geobox)


def _parsed(text: str) -> dict[str, Any]:
    """Groups and objects as dictionaries within dictionaries; values as text, lists of them where in brackets."""
    root: dict[str, Any] = {}
    stack = [root]
    for line in text.replace("\0", "").splitlines():
        key, _, value = (word.strip() for word in line.partition("="))
        if key in {"GROUP", "OBJECT"}:
            stack.append(stack[-1].setdefault(value, {}))
        elif key in {"END_GROUP", "END_OBJECT"} and len(stack) > 1:
            stack.pop()
        elif key and value:
            words = [word.strip().strip('"') for word in value.strip("()").split(",")]
            stack[-1][key] = words if value.startswith("(") else words[0]
    return root


def _parts(held: Any) -> list[dict[str, Any]]:
    return [part for part in held.values() if isinstance(part, dict)] if isinstance(held, dict) else []


def _with_axes(dataset: xr.Dataset, about: Mapping[str, Any]) -> xr.Dataset:
    """The dataset with its nameless axes called as `DimList` has them."""
    fields = [*_parts(about.get("DataField")), *_parts(about.get("GeoField"))]
    lists = {part.get("DataFieldName") or part.get("GeoFieldName"): part.get("DimList") for part in fields}
    found = {}
    for name, variable in dataset.variables.items():
        dims = lists.get(str(name))
        named = variable.copy(deep=False)
        nameless = all(str(dim).startswith(_PHONY) for dim in variable.dims)
        if isinstance(dims, list) and nameless and len(dims) == variable.ndim and len(set(dims)) == len(dims):
            named.dims = tuple(dims)
        if not any(str(dim) == str(name) for dim in variable.dims if variable.ndim > 1):
            found[str(name)] = named
    try:
        return rebuilt(dataset, found)
    except ValueError:  # the metadata contradict the arrays
        return dataset


def _geobox(about: Mapping[str, Any]) -> GeoBox | None:
    """The grid; None for a projection, or an order of rows, that is not among those known here."""
    from odc.geo.geobox import GeoBox

    try:
        columns, rows = int(about["XDim"]), int(about["YDim"])
        parameters = [float(word) for word in about.get("ProjParams", [])]
        crs = _crs(str(about["Projection"]), parameters)
        (left, top), (right, bottom) = (
            [float(word) for word in about[key]] for key in ("UpperLeftPointMtrs", "LowerRightMtrs")
        )
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    usual = about.get("GridOrigin", "HE5_HDFE_GD_UL") == "HE5_HDFE_GD_UL"
    usual = usual and about.get("PixelRegistration", "HE5_HDFE_CENTER") == "HE5_HDFE_CENTER"
    if crs is None or not usual or min(rows, columns) < 1 or left == right or top == bottom:
        return None
    if crs == _DEGREES:
        left, top, right, bottom = _degrees(left, top, right, bottom)
    affine = Affine((right - left) / columns, 0, left, 0, (bottom - top) / rows, top)
    return GeoBox((rows, columns), affine, crs)


_DEGREES = "EPSG:4326"


def _crs(projection: str, parameters: list[float]) -> str | None:
    """Geographic, sinusoidal and Lambert's azimuthal, on GCTP's sphere: those of NASA's grids."""
    kind = projection.removeprefix("HE5_").removeprefix("GCTP_")
    if kind == "GEO":
        return _DEGREES
    if kind not in {"SNSOID", "LAMAZ"} or parameters[0] <= 0:
        return None
    middle = f"+lon_0={_unpacked(parameters[4])!r} +R={parameters[0]!r} +units=m +no_defs"
    return f"+proj=sinu {middle}" if kind == "SNSOID" else f"+proj=laea +lat_0={_unpacked(parameters[5])!r} {middle}"


def _degrees(*corners: float) -> list[float]:
    """Degrees, which some producers write plainly and not packed."""
    return list(corners) if max(map(abs, corners)) <= 360 else [_unpacked(corner) for corner in corners]


def _unpacked(packed: float) -> float:
    """Degrees of DDDMMMSSS.SS."""
    whole, rest = divmod(abs(packed), 1e6)
    minutes, seconds = divmod(rest, 1e3)
    degrees = whole + minutes / 60 + seconds / 3600
    return -degrees if packed < 0 else degrees

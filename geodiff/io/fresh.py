"""A product of any source but CF: dimensions time, band, y, x, coordinates and a grid mapping of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.io import KIND, Kind, Product, ProductVariable, Variable
from geodiff.io.ancillary import layer_arrays
from geodiff.io.calendars import encode
from geodiff.io.contents import (
    Cube,
    Numbers,
    OutputArray,
    PickedPixels,
    PickedReader,
    ReaderPixels,
    cube_array,
    free_name,
    line,
    scalar,
)
from geodiff.io.cube import Layout
from geodiff.io.grids import coordinate_attributes, mapping_attributes

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["fresh_arrays"]


def fresh_arrays(product: Product) -> list[OutputArray]:
    """Every array of the product, the coordinates of each variable before it."""
    arrays: list[OutputArray] = []
    by_name = {layers.variable.name: layers for layers in product.variables}
    seen: dict[str, list[Any]] = {"grids": [], "dates": [], "bands": []}
    names: set[str] = set()
    for opened in product.raster.variables:
        layers = by_name.get(opened.name)
        variable = opened if layers is None else layers.variable
        shown = [i for i, band in enumerate(variable.bands) if band.kind is not Kind.ALPHA]
        if not shown:  # says what the source layer now says better
            continue
        if len(shown) < len(variable.bands):
            variable = _with_bands(variable, shown)
            layers = None if layers is None else _layers_with_bands(layers, variable, shown)
        name = free_name(_cf_name(variable.name), names)
        names.add(name)
        layout, around = _layout(variable, seen)
        named = next((a.name for a in around if a.name.startswith("band") and a.dtype.kind == "O"), None)
        attributes = _attributes(variable, next((a.name for a in around if a.dims == ()), None), named)
        arrays += around
        if layers is not None:
            arrays += layer_arrays(product, layers, name, layout, variable.dtype, attributes)
        else:
            content = Cube.of(ReaderPixels(variable), layout, variable)
            arrays.append(cube_array(name, (), (), layout, variable.dtype, attributes, content, exact=True))
    return arrays


def _with_bands(variable: Variable, shown: Sequence[int]) -> Variable:
    """Some bands of a variable as one of its own."""
    bands = tuple(variable.bands[i] for i in shown)
    return replace(variable, bands=bands, reader=PickedReader(variable.reader, tuple(shown)))


def _layers_with_bands(layers: ProductVariable, variable: Variable, shown: Sequence[int]) -> ProductVariable:
    """The layers of some bands, which make up `variable`."""

    def picked(pixels: Any) -> Any:
        return None if pixels is None else PickedPixels(pixels, tuple(shown))

    return ProductVariable(
        variable,
        value=picked(layers.value),
        source=picked(layers.source),
        reason=picked(layers.reason),
        standard_error=picked(layers.standard_error),
        members=picked(layers.members),
        quantiles=picked(layers.quantiles),
    )


def _layout(variable: Variable, seen: Mapping[str, list[Any]]) -> tuple[Layout, list[OutputArray]]:
    """Dimensions for one variable and the coordinates that go with them; equal grids, dates and bands share theirs."""
    dates, bands, rows, columns = variable.shape
    labels = [band.name for band in variable.bands]
    grid = _suffix(variable.geobox, seen["grids"])
    timed = dates > 1 or variable.dates[0] is not None
    time = f"time{_suffix(variable.dates, seen['dates'])}" if timed else None
    band = f"band{_suffix(labels, seen['bands'])}" if bands > 1 else None
    sizes = {time: dates, band: bands, f"y{grid}": rows, f"x{grid}": columns}
    dims = tuple(dim for dim in sizes if dim is not None)
    layout = Layout(dims, {dim: n for dim, n in sizes.items() if dim is not None}, time, f"y{grid}", f"x{grid}")
    around = _grid_arrays(variable.geobox, f"y{grid}", f"x{grid}", f"spatial_ref{grid}")
    if time is not None:
        around += _time_array(time, variable.dates)
    if band is not None:
        around += _band_arrays(band, labels)
    return layout, around


def _suffix(thing: Any, seen: list[Any]) -> str:
    if thing not in seen:
        seen.append(thing)
    number = seen.index(thing)
    return f"_{number + 1}" if number else ""


def _grid_arrays(geobox: GeoBox, y: str, x: str, mapping: str) -> list[OutputArray]:
    """Coordinates and grid mapping; none of either for a raster that lies nowhere, no coordinates for a rotated one."""
    affine = geobox.affine
    if geobox.crs is None and affine.is_identity:
        return []
    arrays = [scalar(mapping, mapping_attributes(geobox))]
    if affine.b or affine.d:
        return arrays
    rows, columns = (np.arange(n) + 0.5 for n in geobox.shape)
    y_attributes, x_attributes = coordinate_attributes(geobox.crs)
    return [
        *arrays,
        line(y, affine.f + affine.e * rows, y_attributes),
        line(x, affine.c + affine.a * columns, x_attributes),
    ]


def _time_array(name: str, dates: Sequence[Any]) -> list[OutputArray]:
    coded = encode(dates)
    return [] if coded is None else [line(name, *coded)]


def _band_arrays(name: str, labels: Sequence[str]) -> list[OutputArray]:
    """Numbers along the axis and names beside it: CF wants a coordinate variable to be numeric and monotonic."""
    texts = {"standard_name": "sensor_band_identifier", "long_name": "band name"}
    words = np.array(labels, object)
    names = OutputArray(
        f"{name}_name", (name,), words.shape, words.dtype, texts, words.shape, Numbers(words), exact=True
    )
    return [line(name, np.arange(1, len(labels) + 1, dtype=np.int32), {"long_name": "band number"}), names]


def _attributes(variable: Variable, mapping: str | None, band_names: str | None = None) -> dict[str, Any]:
    """Tags, and the encoding in CF's words; bands that differ get lists instead, for which CF has no words."""
    reserved = {"_FillValue", "missing_value", "scale_factor", "add_offset", "coordinates", "grid_mapping", "dtype"}
    found = {_cf_name(key): _simple(value) for key, value in variable.attributes.items() if key not in reserved}
    found.setdefault("long_name", variable.bands[0].name if len(variable.bands) == 1 else variable.name)
    units = {band.units for band in variable.bands}
    found |= {"units": units.pop()} if len(units) == 1 and "" not in units else {}
    found |= _packing(variable)
    found |= {KIND: str(Kind.FLAGS)} if variable.bands[0].kind is Kind.FLAGS else {}
    found |= {"coordinates": band_names} if band_names else {}
    return {**found, **({"grid_mapping": mapping} if mapping else {})}


def _packing(variable: Variable) -> dict[str, Any]:
    codes = [band.encoding for band in variable.bands]
    dtype, kind = variable.dtype, variable.bands[0].kind
    found: dict[str, Any] = {}
    if len({repr(code.nodata) for code in codes}) > 1:
        found["band_nodata"] = json.dumps([code.nodata for code in codes])
    elif codes[0].nodata is not None and kind is not Kind.COMPLEX:
        found["_FillValue"] = dtype.type(codes[0].nodata)
    if len({(code.scale, code.offset) for code in codes}) > 1:
        found["band_scale"], found["band_offset"] = [code.scale for code in codes], [code.offset for code in codes]
    elif (codes[0].scale, codes[0].offset) != (1.0, 0.0):
        found["scale_factor"], found["add_offset"] = codes[0].scale, codes[0].offset
    return found


def _simple(value: Any) -> Any:
    """Attributes that both formats can hold."""
    if isinstance(value, (str, int, float, np.ndarray, np.generic)) and not isinstance(value, bool):
        return value
    return json.dumps(value, default=str)


def _cf_name(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if re.match(r"[A-Za-z]", plain) else f"v{plain}" if plain.startswith("_") else f"v_{plain}"

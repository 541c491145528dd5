"""What a Zarr or NetCDF product consists of: a list of arrays with CF attributes, each written region by region.

A product of a CF source is that dataset, everything copied verbatim, with filled values and the layers beside them. A
product of any other source gets dimensions time, band, y, x, coordinates and a grid mapping of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import OBSERVED, OUTSIDE, UNFILLED
from geodiff.errors import GridError, SourceError
from geodiff.io import KIND, Kind, Product, ProductVariable, Variable
from geodiff.io.calendars import encode
from geodiff.io.contents import Cube, Numbers, OutputArray, PickedPixels, PickedReader, ReaderPixels, Stored
from geodiff.io.cube import CubeReader, Layout, Source, native, native_dtype
from geodiff.io.grids import (
    coordinate_attributes,
    grid_mapping_name,
    has_other_units,
    mapping_attributes,
    parse_geotransform,
)
from geodiff.lattice import Window

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.io.earlier import Spliced

__all__ = [
    "AXES",
    "Plan",
    "axes_beside",
    "is_layer",
    "layer_arrays",
    "layers_as_dataset",
    "plan_of",
    "refuse_foreign_layers",
]

CONVENTIONS = "CF-1.11"
CHUNK = 256
_BAND_BYTES = 2 * 2**20
AXES = {"member": "member", "quantile": "quantile"}
"""What the axis in front of a layer is called, by layer."""
_SAID = {
    "source": "how each value of {} came about",
    "reason": "why {} was missing",
    "standard_error": "standard error of {}",
    "member": "equally likely realisations of {}",
    "quantile": "quantiles of {}",
}
"""`long_name` of each layer, by which those of an earlier fill are known as such."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole product."""

    arrays: tuple[OutputArray, ...]
    attributes: Mapping[str, Any]
    unlimited: frozenset[str] = frozenset()
    """Dimensions that were unlimited in the source."""


# -- the plan


def plan_of(product: Product) -> Plan:
    """Every array of a product, coordinates first, and its global attributes."""
    source = _dataset_source(product)
    arrays, unlimited = _fresh(product) if source is None else _beside(product, source)
    return Plan(tuple(_unique(arrays)), _global_attributes(product), unlimited)


def layers_as_dataset(product: Product) -> xr.Dataset:
    """The product as an xarray Dataset, decoded by CF; lazy where its layers are."""
    import xarray as xr

    plan = plan_of(product)
    variables = {a.name: xr.Variable(a.dims, a.content.lazy(a), dict(a.attributes)) for a in plan.arrays}
    decoded = xr.decode_cf(xr.Dataset(variables, attrs=dict(plan.attributes)), decode_coords="all")
    source = _dataset_source(product)
    return decoded if source is None else decoded.set_coords([n for n in source.dataset().coords if n in decoded])


def _dataset_source(product: Product) -> Source | None:
    """The one dataset that every variable is read from, if there is one."""
    readers = [variable.reader for variable in product.raster.variables]
    readers += [layers.variable.reader for layers in product.variables]
    sources = [reader.source for reader in readers if isinstance(reader, CubeReader)]
    return sources[0] if sources and len(sources) == len(readers) and all(s == sources[0] for s in sources) else None


def _unique(arrays: Sequence[OutputArray]) -> list[OutputArray]:
    """The last array of each name, where the first one stood: layers of an earlier fill are replaced."""
    return list({array.name: array for array in arrays}.values())


def _global_attributes(product: Product) -> dict[str, Any]:
    before = {key: value for key, value in product.raster.attributes.items() if value is not None}
    return product.said_over({**before, "Conventions": _conventions(str(before.get("Conventions", "")))})


def _conventions(named: str) -> str:
    """The source's conventions, CF no older than ours: before 1.9 it has no unsigned types, which our layers are of."""
    others = [word for word in re.split(r"[,\s]+", named) if word and not word.startswith("CF-")]
    version = re.search(r"CF-1\.(\d+)", named)
    newer = version is not None and int(version[1]) > int(CONVENTIONS.rpartition(".")[2])
    return " ".join((version[0] if version is not None and newer else CONVENTIONS, *others))


# -- beside a CF dataset


def _beside(product: Product, source: Source) -> tuple[list[OutputArray], frozenset[str]]:
    dataset = source.dataset()
    names = sorted(
        map(str, dataset.variables), key=lambda name: name not in dataset.dims
    )  # axes first, as in most files
    arrays = [_copy(source, name, dataset.variables[name]) for name in names]
    filled: list[OutputArray] = []
    axes = axes_beside(dataset, [layers.variable for layers in product.variables])
    for layers in product.variables:
        reader = layers.variable.reader
        assert isinstance(reader, CubeReader)
        stored = dataset.variables[reader.name]
        mapping = _mapping_beside(dataset, stored, layers.variable.geobox, reader.layout, filled)
        attributes = {**_meant(stored, reader.dtype), **({"grid_mapping": mapping[0].name} if mapping[1] else {})}
        filled += [mapping[0]] if mapping[0] is not None else []
        filled += layer_arrays(product, layers, reader.name, reader.layout, reader.dtype, attributes, axes)
    unlimited = frozenset(str(dim) for dim in dataset.encoding.get("unlimited_dims", ()) if dim in dataset.dims)
    return [*arrays, *filled], unlimited


def is_layer(name: str, attributes: Mapping[str, Any]) -> bool:
    """Whether a variable is the source, reason, standard error, members or quantiles of an earlier fill of another."""
    said = {f"_{suffix}": words for suffix, words in _SAID.items() if name.endswith(f"_{suffix}")}
    return any(attributes.get("long_name") == words.format(name.removesuffix(end)) for end, words in said.items())


def refuse_foreign_layers(variables: Sequence[Variable], suffixes: Sequence[str]) -> None:
    """Raise SourceError where a dataset has variables of its own that are called as layers of these would be.

    Layers of an earlier fill are no reason: they are made anew.
    """
    for variable in variables:
        reader = variable.reader
        if not isinstance(reader, CubeReader):
            continue
        held = reader.source.dataset().variables
        named = [f"{reader.name}_{suffix}" for suffix in suffixes]
        foreign = [name for name in named if name in held and not is_layer(name, held[name].attrs)]
        if foreign:
            raise SourceError(
                f"the source has {' and '.join(foreign)} of its own, in whose place the layers of {reader.name} would "
                "be written; rename it or leave it out (ncrename, ncks -x -v; rename, drop_vars), or fill others"
            )


def axes_beside(dataset: xr.Dataset, variables: Sequence[Variable]) -> dict[str, str]:
    """What members and quantiles are counted along, by layer: `member`, or `member_2` where the dataset has its own.

    A coordinate that only layers of an earlier fill lie on is none of its own.
    """
    filled = {v.reader.name for v in variables if isinstance(v.reader, CubeReader)}
    layers = {f"{name}_{suffix}" for name in filled for suffix in _SAID} - filled
    own = [(str(name), v.dims) for name, v in dataset.variables.items() if str(name) not in layers]
    taken = {word for name, dims in own if dims != (name,) for word in (name, *map(str, dims))}
    return {layer: _free(name, taken) for layer, name in AXES.items()}


def _meant(stored: xr.Variable, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Attributes of a variable to be filled, which is stored in the dtype that `_Unsigned` meant (NetCDF-4 has all)."""
    held, attributes = native_dtype(stored.dtype), _attributes(stored)
    if dtype == held:
        return attributes
    same = {key: value for key, value in attributes.items() if key != "_Unsigned"}
    signed = {key: np.asarray(value) for key, value in same.items() if getattr(value, "dtype", None) == held}
    return {**same, **{key: value.astype(held).view(dtype)[()] for key, value in signed.items()}}


def _attributes(variable: xr.Variable) -> dict[str, Any]:
    """The variable's attributes, with the references that xarray moves to the encoding when it decodes."""
    moved = ("grid_mapping", "coordinates", "bounds", "climatology", "cell_measures", "formula_terms")
    found = {key: variable.encoding[key] for key in moved if isinstance(variable.encoding.get(key), str)}
    return {**found, **variable.attrs}


def _is_cftime(variable: xr.Variable) -> bool:
    return variable.dtype.kind == "O" and bool(variable.size) and hasattr(variable.values.flat[0], "calendar")


def _copy(source: Source, name: str, variable: xr.Variable) -> OutputArray:
    dims = tuple(map(str, variable.dims))
    if variable.dtype.kind in "mM" or _is_cftime(variable):
        import xarray as xr

        coded = xr.conventions.encode_cf_variable(variable)  # times at hand in memory, decoded
        values, noted = native(np.asarray(coded.values)), dict(coded.attrs)
        if values.dtype.kind == "i" and np.isnan(
            noted.get("_FillValue", 0)
        ):  # xarray's own, which whole numbers cannot hold
            del noted["_FillValue"]
        return OutputArray(
            name, dims, values.shape, values.dtype, noted, _copy_chunks(coded), Numbers(values), exact=True
        )
    attributes, chunks, dtype = _attributes(variable), _copy_chunks(variable), native_dtype(variable.dtype)
    return OutputArray(name, dims, variable.shape, dtype, attributes, chunks, Stored(source), exact=True)


def _copy_chunks(variable: xr.Variable) -> tuple[int, ...]:
    """The source's own chunks where they are of a sane size, else 256 along the last two dimensions and 1 before."""
    held = variable.encoding.get("chunks") or variable.encoding.get("chunksizes")
    size = variable.dtype.itemsize
    if held and len(held) == variable.ndim and 2**12 <= prod(held) * size <= 2**25:
        return tuple(max(1, min(int(c), n)) for c, n in zip(held, variable.shape, strict=True))
    if variable.ndim < 2 or variable.size * size <= 2**20:
        return tuple(max(1, n) for n in variable.shape)
    return tuple(max(1, min(n, CHUNK if axis >= variable.ndim - 2 else 1)) for axis, n in enumerate(variable.shape))


def _mapping_beside(
    dataset: xr.Dataset, stored: xr.Variable, geobox: GeoBox, layout: Layout, before: Sequence[OutputArray]
) -> tuple[Any, bool]:
    """The grid mapping to write (None: leave what there is), and whether the variable must be pointed at it."""
    name = grid_mapping_name(dataset, stored, layout)
    if geobox.crs is None and (geobox.affine.is_identity or name is None):
        return None, False
    if name is not None and has_other_units(dataset, stored, layout):
        return None, False  # kilometres or scan angles: a WKT in metres beside them would mislead other readers
    full = mapping_attributes(geobox)
    if name is None:
        taken = {array.name for array in before} | set(map(str, dataset.variables))
        same = [a for a in before if a.dims == () and a.attributes.get("GeoTransform") == full["GeoTransform"]]
        free = next(n for n in ("spatial_ref", *(f"spatial_ref_{i}" for i in range(2, 999))) if n not in taken)
        return _scalar(same[0].name if same else free, full), True
    held = dict(dataset.variables[name].attrs)
    wanted: dict[str, Any] = {
        key: full[key] for key in ("crs_wkt", "GeoTransform") if key in full and not held.get(key)
    }
    given = parse_geotransform(held.get("GeoTransform"))
    if given is not None and given != geobox.affine:
        wanted["GeoTransform"] = full["GeoTransform"]
    if name in {array.name for array in before} or dataset.variables[name].ndim:
        return None, False
    own = dataset.variables[name]
    values = native(np.asarray(own.values))
    return replace(_scalar(name, {**held, **wanted}), dtype=values.dtype, content=Numbers(values)), False


# -- a dataset of our own


def _fresh(product: Product) -> tuple[list[OutputArray], frozenset[str]]:
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
        name = _free(_cf_name(variable.name), names)
        names.add(name)
        layout, around = _fresh_layout(variable, seen)
        named = next((a.name for a in around if a.name.startswith("band") and a.dtype.kind == "O"), None)
        attributes = _fresh_attributes(variable, next((a.name for a in around if a.dims == ()), None), named)
        arrays += around
        if layers is not None:
            arrays += layer_arrays(product, layers, name, layout, variable.dtype, attributes)
        else:
            content = Cube(ReaderPixels(variable), layout, variable.shape[0], _whole(variable))
            arrays.append(_cube_array(name, (), (), layout, variable.dtype, attributes, content, exact=True))
    return arrays, frozenset()


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


def _fresh_layout(variable: Variable, seen: Mapping[str, list[Any]]) -> tuple[Layout, list[OutputArray]]:
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
    arrays = [_scalar(mapping, mapping_attributes(geobox))]
    if affine.b or affine.d:
        return arrays
    rows, columns = (np.arange(n) + 0.5 for n in geobox.shape)
    y_attributes, x_attributes = coordinate_attributes(geobox.crs)
    return [
        *arrays,
        _line(y, affine.f + affine.e * rows, y_attributes),
        _line(x, affine.c + affine.a * columns, x_attributes),
    ]


def _time_array(name: str, dates: Sequence[Any]) -> list[OutputArray]:
    coded = encode(dates)
    return [] if coded is None else [_line(name, *coded)]


def _band_arrays(name: str, labels: Sequence[str]) -> list[OutputArray]:
    """Numbers along the axis and names beside it: CF wants a coordinate variable to be numeric and monotonic."""
    texts = {"standard_name": "sensor_band_identifier", "long_name": "band name"}
    words = np.array(labels, object)
    names = OutputArray(
        f"{name}_name", (name,), words.shape, words.dtype, texts, words.shape, Numbers(words), exact=True
    )
    return [_line(name, np.arange(1, len(labels) + 1, dtype=np.int32), {"long_name": "band number"}), names]


def _fresh_attributes(variable: Variable, mapping: str | None, band_names: str | None = None) -> dict[str, Any]:
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


def _free(name: str, taken: set[str]) -> str:
    return next(n for n in (name, *(f"{name}_{i}" for i in range(2, 9999))) if n not in taken)


# -- the layers of one variable


def layer_arrays(
    product: Product,
    layers: ProductVariable,
    name: str,
    layout: Layout,
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    axes: Mapping[str, str] = AXES,
) -> list[OutputArray]:
    """Value, source, reason, standard error, members and quantiles (if any), in the value's own dimensions.

    `axes` names those in front of members and quantiles, as `axes_beside` does.
    """
    if layout.bands != layers.variable.shape[1]:
        raise GridError(f"{name} has {layout.bands} bands in the source but {layers.variable.shape[1]} in the product")
    shared = {key: attributes[key] for key in ("grid_mapping", "coordinates") if key in attributes}
    ancillary = [f"{name}_{suffix}" for suffix in ("source", "reason", "standard_error")]
    before = [word for word in str(attributes.get("ancillary_variables", "")).split() if word not in ancillary]
    value = {**attributes, "ancillary_variables": " ".join([*before, *ancillary])}
    make = _maker(product, layers, layout)
    arrays = [
        make(name, layers.value, dtype, value, exact=True),
        make(f"{name}_source", layers.source, np.dtype("u1"), {**_source_flags(product, name), **shared}),
        make(f"{name}_reason", layers.reason, np.dtype("u2"), {**_reason_flags(product, name), **shared}),
        make(f"{name}_standard_error", layers.standard_error, np.dtype("f4"), {**_error(attributes, name), **shared}),
    ]
    if layers.members is not None:
        about, front = _about(attributes, _SAID["member"].format(name)), axes["member"]
        arrays += [_members(front, layers.members.shape[0])]
        arrays += [make(f"{name}_member", layers.members, dtype, {**attributes, **about}, front=front, exact=True)]
    if layers.quantiles is not None:
        about, front = _physical(attributes, _SAID["quantile"].format(name)), axes["quantile"]
        arrays += [_quantiles(front, product.quantiles)]
        arrays += [make(f"{name}_quantile", layers.quantiles, np.dtype("f4"), {**about, **shared}, front=front)]
    return arrays


def _maker(product: Product, layers: ProductVariable, layout: Layout) -> Callable[..., OutputArray]:
    def make(
        name: str,
        pixels: Any,
        dtype: np.dtype[Any],
        attributes: Mapping[str, Any],
        front: str = "",
        *,
        exact: bool = False,
    ) -> OutputArray:
        cube = Cube(pixels, layout, layers.variable.shape[0], _whole(layers.variable))
        content = cube if product.earlier is None else product.earlier.spliced(layers.variable.name, cube)
        ahead, count = ((front,), (pixels.shape[0],)) if front else ((), ())
        return _cube_array(name, ahead, count, layout, dtype, attributes, content, exact=exact)

    return make


def _cube_array(
    name: str,
    front: tuple[str, ...],
    count: tuple[int, ...],
    layout: Layout,
    dtype: np.dtype[Any],
    attributes: Mapping[str, Any],
    content: Cube | Spliced,
    *,
    exact: bool = False,
) -> OutputArray:
    """One date a chunk, 256 x 256 pixels; all bands together while that is under 2 MiB."""
    together = layout.bands * CHUNK * CHUNK * dtype.itemsize <= _BAND_BYTES
    sizes = {dim: layout.sizes[dim] if together else 1 for dim in layout.extras}
    sizes |= {layout.y: min(CHUNK, layout.sizes[layout.y]), layout.x: min(CHUNK, layout.sizes[layout.x])}
    chunks = (*(1 for _ in front), *(sizes.get(dim, 1) for dim in layout.dims))
    return OutputArray(
        name, (*front, *layout.dims), (*count, *layout.shape), dtype, attributes, chunks, content, exact=exact
    )


def _source_flags(product: Product, name: str) -> dict[str, Any]:
    codes = {"observed": OBSERVED, "outside": OUTSIDE, "unfilled": UNFILLED}
    words = {code: word for word, code in codes.items()} | {code: word for word, code in product.source_codes.items()}
    values = sorted(words)
    return {
        "long_name": _SAID["source"].format(name),
        "flag_values": np.array(values, "u1"),
        "flag_meanings": " ".join(_word(words[code]) for code in values),
    }


def _reason_flags(product: Product, name: str) -> dict[str, Any]:
    words = sorted(product.reason_masks.items(), key=lambda item: item[1])
    return {
        "long_name": _SAID["reason"].format(name),
        "flag_masks": np.array([bit for _, bit in words], "u2"),
        "flag_meanings": " ".join(_word(word) for word, _ in words),
    }


def _word(text: str) -> str:
    """One word of `flag_meanings`, which blanks separate."""
    return re.sub(r"[^A-Za-z0-9_.+@-]", "_", text)


def _error(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = _physical(attributes, _SAID["standard_error"].format(name))
    if "standard_name" in found:
        found["standard_name"] = f"{found['standard_name']} standard_error"
    return found


def _physical(attributes: Mapping[str, Any], long_name: str) -> dict[str, Any]:
    """Attributes of a layer in physical units, unpacked; NaN where there is nothing to say."""
    found = {"long_name": long_name, **_about(attributes, long_name), "_FillValue": np.float32(np.nan)}
    return found | {key: attributes[key] for key in ("units",) if key in attributes}


def _about(attributes: Mapping[str, Any], long_name: str) -> dict[str, Any]:
    """The quantity's standard name, unless it says already that this is something derived from it."""
    standard = str(attributes.get("standard_name", ""))
    return {"long_name": long_name, **({"standard_name": standard} if standard and " " not in standard else {})}


def _members(name: str, count: int) -> OutputArray:
    attributes = {"standard_name": "realization", "long_name": "realisation", "units": "1"}
    return _line(name, np.arange(count, dtype=np.int32), attributes)


def _quantiles(name: str, levels: Sequence[float]) -> OutputArray:
    return _line(name, np.array(levels, np.float64), {"long_name": "quantile", "units": "1"})


def _line(name: str, values: NDArray[Any], attributes: Mapping[str, Any]) -> OutputArray:
    content = Numbers(values)
    return OutputArray(name, (name,), values.shape, values.dtype, attributes, values.shape, content, exact=True)


def _scalar(name: str, attributes: Mapping[str, Any]) -> OutputArray:
    values = np.array(0, np.int32)
    return OutputArray(name, (), (), values.dtype, attributes, (), Numbers(values), exact=True)


def _whole(variable: Variable) -> Window:
    return Window(0, 0, *variable.shape[2:])

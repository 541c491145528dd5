"""A product of a CF source: that dataset, everything copied verbatim, filled values and the layers beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.io import Product
from geodiff.io.ancillary import axes_beside, layer_arrays
from geodiff.io.contents import CHUNK, Numbers, OutputArray, Stored, scalar
from geodiff.io.cube import CubeReader, Layout, Source, native, native_dtype
from geodiff.io.grids import grid_mapping_name, has_other_units, mapping_attributes, parse_geotransform

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

__all__ = ["copied_arrays"]


def copied_arrays(product: Product, source: Source) -> list[OutputArray]:
    """Every array of the dataset, axes first as in most files, and then what is filled of it with its layers."""
    dataset = source.dataset()
    names = sorted(map(str, dataset.variables), key=lambda name: name not in dataset.dims)
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
    return [*arrays, *filled]


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
        return scalar(same[0].name if same else free, full), True
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
    return replace(scalar(name, {**held, **wanted}), dtype=values.dtype, content=Numbers(values)), False

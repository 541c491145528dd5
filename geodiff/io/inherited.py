"""What a group of a NetCDF or HDF5 file leaves to others: axes and grid mappings above it, places of a swath beside it.

CF (section 2.7) lets a group refer to what lies in the groups that hold it. A product consists of one group, so what it
refers to comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from geodiff.io.axes import curvilinear, role
from geodiff.io.cube import pick
from geodiff.io.grids import coordinate_attributes, mapping_attributes

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

__all__ = ["completed", "gridded", "lacks_places", "rebuilt", "with_places"]

_MAPPING = "spatial_ref"
_REFERENCES = ("grid_mapping", "coordinates")


def completed(dataset: xr.Dataset, group: str, open_group: Callable[[str], xr.Dataset]) -> xr.Dataset:
    """The dataset of a group with the axes, grid mappings and coordinates that it has from the groups above it."""
    found: dict[str, xr.Variable] = {}
    opened = [open_group(above) for above in _above(group)] if _wanted(dataset) else []
    for held in opened:
        found = {**_fitting(held, dataset, _wanted(dataset)), **found}
    if not found:
        for held in opened:
            held.close()
        return dataset
    own = {str(name): _by_name(variable, found) for name, variable in dataset.variables.items()}
    return rebuilt(dataset, {**found, **own}, *opened)


def _above(group: str) -> Iterator[str]:
    """The groups that hold it, the nearest first."""
    while group:
        group = group.rpartition("/")[0]
        yield group


def _wanted(dataset: xr.Dataset) -> set[str]:
    """Names of axes, and of what variables refer to, that the dataset lacks."""
    texts = [str(pick(v, key, "")) for v in dataset.variables.values() for key in _REFERENCES]
    referred = {_plain(word) for text in texts for word in text.split()}
    return (referred | set(map(str, dataset.dims))) - set(map(str, dataset.variables)) - {""}


def _fitting(held: xr.Dataset, dataset: xr.Dataset, wanted: set[str]) -> dict[str, xr.Variable]:
    """Those of another group's variables that are wanted and lie along the dataset's own axes, or along none."""
    return {
        str(name): variable
        for name, variable in held.variables.items()
        if str(name) in wanted and all(dataset.sizes.get(dim) == size for dim, size in variable.sizes.items())
    }


def _plain(word: str) -> str:
    """`mtg` of `/data/mtg:`."""
    return word.rstrip(":").rpartition("/")[2]


def _by_name(variable: xr.Variable, found: Mapping[str, xr.Variable]) -> xr.Variable:
    """The variable with the paths of what was found as plain names, as it lies in one group with them now."""
    named = variable.copy(deep=False)
    for key in _REFERENCES:
        words = str(variable.attrs.get(key, "")).split()
        if any("/" in word and _plain(word) in found for word in words):
            named.attrs[key] = " ".join(w.rpartition("/")[2] if _plain(w) in found else w for w in words)
    return named


def lacks_places(dataset: xr.Dataset) -> bool:
    """Whether nothing says where the rows and columns of any variable lie."""
    axes = {role(str(name), v) for name, v in dataset.variables.items() if v.dims == (name,)}
    return not axes >= {"x", "y"} and not any(curvilinear(dataset, v) for v in dataset.variables.values())


def with_places(dataset: xr.Dataset, held: xr.Dataset) -> xr.Dataset | None:
    """The dataset with the latitude and longitude that another group has of its rows and columns; None if it has none.

    They are 2-D, as of a swath; what is made is closed with both.
    """
    free = set(map(str, held.variables)) - set(map(str, dataset.variables))
    flat = {name: v for name, v in _fitting(held, dataset, free).items() if v.ndim == 2 and v.dtype.kind in "iuf"}
    places = {name: v for name, v in flat.items() if role(name, v) in {"x", "y"}}
    if {role(name, v) for name, v in places.items()} != {"x", "y"}:
        return None
    plane = {dim for place in places.values() for dim in place.dims}
    own = {str(name): v.copy(deep=False) for name, v in dataset.variables.items()}
    for variable in own.values():
        if plane <= set(variable.dims) and "coordinates" not in variable.attrs:
            variable.attrs["coordinates"] = " ".join(places)
    return rebuilt(dataset, {**own, **places}, held)


def rebuilt(dataset: xr.Dataset, variables: Mapping[str, xr.Variable], *others: xr.Dataset) -> xr.Dataset:
    """A dataset of other variables that is closed with the one it was made from, and with `others`."""
    import xarray as xr

    made = xr.Dataset(dict(variables), attrs=dataset.attrs)
    made.encoding = dataset.encoding

    def close() -> None:
        for one in (dataset, *others):
            one.close()

    made.set_close(close)
    return made


def gridded(dataset: xr.Dataset, y: str, x: str, geobox: GeoBox) -> xr.Dataset:
    """The dataset with coordinates along two of its dimensions, and a grid mapping for what lies on both, as in CF."""
    import xarray as xr

    rows, columns = (np.arange(n) + 0.5 for n in geobox.shape)
    y_attributes, x_attributes = coordinate_attributes(geobox.crs)
    affine = geobox.affine
    made = {
        y: xr.Variable((y,), affine.f + affine.e * rows, y_attributes),
        x: xr.Variable((x,), affine.c + affine.a * columns, x_attributes),
        _MAPPING: xr.Variable((), np.int32(0), mapping_attributes(geobox)),
    }
    found = {str(name): v.copy(deep=False) for name, v in dataset.variables.items()}
    for variable in found.values():
        if {y, x} <= set(map(str, variable.dims)):
            variable.attrs = {**variable.attrs, "grid_mapping": _MAPPING}
    return rebuilt(dataset, {**found, **made})

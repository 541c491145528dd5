"""Which dimension is time, row, column or band: CF attributes first, names after, position last."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from geodiff.io.cube import Layout, pick

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "AZIMUTH",
    "coordinate_of",
    "curvilinear",
    "layout_of",
    "references",
    "role",
    "scattered",
    "spatial",
    "upright",
    "with_axes",
]

_NAMES = {
    "x": re.compile(
        r"x|xc|nx|ni|i|xi|x_?dim|x_?axis|lons?|long|longitudes?|[rn]lon|eastings?|col(umn)?s?|samples?|(ground_)?pixels?|"
        r"west_east(_stag)?|grid_xt|xt_ocean|cross_?track|xtrack|pixels_per_line|(num|number_of)_pixels|n(pixel|ray)s?"
    ),
    "y": re.compile(
        r"y|yc|ny|nj|j|eta|y_?dim|y_?axis|lats?|latitudes?|[rn]lat|northings?|rows?|(scan)?lines?|"
        r"south_north(_stag)?|grid_yt|yt_ocean|(along_?|down|a)track|(num|number_of)_lines|nscans?|mirror_step"
    ),
    "t": re.compile(r"t|times?|dates?|datetime|valid_time|time_counter|months?|days?|years?|week"),
}
"""Names that mean something where no attribute does, in small letters."""

_LEAD = re.compile(r"steps?|lead(_?times?)?|forecast_(period|hour)s?|fhours?|prediction_timedelta")
"""How far ahead a forecast looks, which its file may date beside it."""
_COUNTED = re.compile(
    r"n_?times?|(n_?)?time_?steps?|tsteps?|time_?(dim|index|idx|axis|\d+)|frtime|forecast_times?\d*|hours?|"
    r"day_?of_?year|doy|week_?of_?year"
)
"""Names of axes that run in time though nothing dates them: steps of a model, hours of a mean day."""

_LEVEL = re.compile(
    r"z(_?(t|w|c|lev|dim|axis))?|nz|depth\w*|deph|heights?|altitudes?|lev(els?)?|p?lev|s_(rho|w)|s[tw]_ocean|layers?|"
    r"bottom_top(_stag)?|isobaric\w*|pressures?(_levels?)?|sigma"
)
"""Names of vertical dimensions where no attribute says so, in small letters."""

_UPRIGHT = re.compile(
    r"depth|height|altitude|air_pressure|sea_water_pressure|model_level_number|(ocean|atmosphere)_\w*coordinate\w*"
)
"""Standard names of vertical coordinates."""

_SCATTERED = re.compile(
    r"n?cells?|ncol|n?nodes?|nod2|nele|elem(ents?)?|n?faces?|n?edges?|n?vert(ex|ices)|n?mesh\w+|n?points?|n?stations?|"
    r"n?sites?|values"
)
"""Dimensions along which places are listed one by one: cells of an icosahedral or finite-element mesh, stations."""

_NO_PLACE = re.compile(
    r"(n_?|num_|number_of_)?(wave_?lengths?|bands?|channels?|spectral|levels?|lev|plev|layers?|depths?|members?|rgba?|"
    r"eightbitcolor|colou?rs?|corners?|vertices|bounds|bnds|nv|polari[sz]ations?|views?|fov|detectors?)(_?\dd|_\w+)?"
)
"""Dimensions that count what each place has several of, which are neither rows nor columns: colours of an imaging
spectrometer, which come last in NASA's swaths, and of a palette."""

_PHONY = "phony_dim"
"""How h5netcdf calls axes that have no name."""

AZIMUTH = "ray_azimuth_angle"
"""CfRadial's standard name of what lies along the rays of a radar; across them lies the range."""
_STANDARD = {
    "longitude": "x",
    "projection_x_coordinate": "x",
    "projection_x_angular_coordinate": "x",
    AZIMUTH: "x",
    "grid_longitude": "x",
    "latitude": "y",
    "projection_y_coordinate": "y",
    "projection_y_angular_coordinate": "y",
    "projection_range_coordinate": "y",
    "grid_latitude": "y",
    "time": "t",
}
_REFERENCES = ("coordinates", "bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms")


def role(name: str, variable: xr.Variable | None) -> str:
    """`x`, `y`, `t` or an empty string for a dimension of this name with this coordinate (None without one)."""
    if variable is not None:
        found = _role_by_attributes(variable)
        if found:
            return found
    plain = name.lower().rsplit("/", 1)[-1]
    return next((answer for answer, names in _NAMES.items() if names.fullmatch(plain)), "")


def _role_by_attributes(variable: xr.Variable) -> str:
    standard = _STANDARD.get(str(pick(variable, "standard_name", "")).lower(), "")
    axis = {"X": "x", "Y": "y", "T": "t"}.get(str(pick(variable, "axis", "")).upper(), "")
    units = str(pick(variable, "units", "")).lower().replace(" ", "_")
    if standard or axis:
        return standard or axis
    if re.fullmatch(r"degrees?_?(e|east)", units):
        return "x"
    if re.fullmatch(r"degrees?_?(n|north)", units):
        return "y"
    timed = variable.dtype.kind == "M" or re.match(
        r"(day|hour|minute|second|month|year|\w*sec|hr|d|h|s)s?_since_", units
    )
    return "t" if timed else ""


def upright(name: str, variable: xr.Variable | None) -> bool:
    """Whether a dimension of this name with this coordinate (None without one) counts depths, heights or pressures."""
    if variable is not None:
        standard, axis = (str(pick(variable, key, "")).lower() for key in ("standard_name", "axis"))
        if axis == "z" or "positive" in variable.attrs or _UPRIGHT.fullmatch(standard):
            return True
        if standard or axis:
            return False
    return bool(_LEVEL.fullmatch(name.lower().rsplit("/", 1)[-1]))


def references(dataset: xr.Dataset) -> frozenset[str]:
    """Names of the variables that others refer to as coordinates, bounds, grid mappings and the like."""
    texts = [str(pick(v, key, "")) for v in dataset.variables.values() for key in _REFERENCES]
    texts.append(str(dataset.attrs.get("coordinates", "")))
    words = {word.rstrip(":") for text in texts for word in text.split()}
    return frozenset(str(name) for name in dataset.variables if name in words)


def spatial(dataset: xr.Dataset) -> dict[str, Layout]:
    """Every variable that lies on rows and columns and is no coordinate, with its layout, in the dataset's order."""
    referred = references(dataset)
    found: dict[str, Layout] = {}
    for name, variable in dataset.variables.items():
        coordinate = (
            name in dataset.dims or name in dataset.coords or name in referred or _is_position(str(name), variable)
        )
        if coordinate or variable.dtype.kind not in "biufc" or 0 in variable.shape:
            continue
        layout = layout_of(dataset, variable)
        if layout is not None:
            found[str(name)] = layout
    return found


def _is_position(name: str, variable: xr.Variable) -> bool:
    """Latitudes and longitudes, also where nothing refers to them, and grid mappings."""
    standard = str(pick(variable, "standard_name", "")).lower() in {"latitude", "longitude", "time"}
    named = name.lower() in {"lat", "latitude", "lon", "longitude"}
    return standard or named or "grid_mapping_name" in variable.attrs or "crs_wkt" in variable.attrs


def layout_of(dataset: xr.Dataset, variable: xr.Variable) -> Layout | None:
    """The layout of a variable, or None where it has no two dimensions that can be rows and columns."""
    dims = tuple(str(dim) for dim in variable.dims)
    roles = {dim: role(dim, coordinate_of(dataset, variable, dim)) for dim in dims}
    x, y = _last(roles, "x"), _last(roles, "y")
    timed = [dim for dim, found in roles.items() if found == "t"]
    time = next(iter(sorted(timed, key=lambda dim: dataset.sizes[dim] == 1)), None)
    if x is None or y is None:
        y, x = _by_curvilinear(dataset, variable, time) or _by_position(dataset, roles) or (None, None)
    if x is None or y is None or x == y:
        return None
    if time is None or dataset.sizes[time] == 1:
        time = next((dim for dim in _undated(dataset, roles) if dim not in (x, y)), time)
    return Layout(dims, dict(zip(dims, variable.shape, strict=True)), time, y, x)


def with_axes(dataset: xr.Dataset) -> xr.Dataset:
    """Plain HDF5 whose arrays have a latitude a row and a longitude a column, with these as the names of its axes.

    Nothing else says what the axes are there, as in HDF-EOS grids, and those of a square grid pass for one.
    """
    import xarray as xr

    lines: dict[str, list[str]] = {"y": [], "x": []}
    for name, variable in dataset.variables.items():
        if variable.ndim == 1 and str(variable.dims[0]).startswith(_PHONY) and name not in dataset.dims:
            lines.get(role(str(name), variable), []).append(str(name))
    if len(lines["y"]) != 1 or len(lines["x"]) != 1:
        return dataset
    y, x = lines["y"][0], lines["x"][0]
    wanted = {axis: dataset.variables[axis].size for axis in (y, x)}
    found = {}
    for name, variable in dataset.variables.items():
        named = _named_axes(variable, [(y, x), (x, y)], wanted) if variable.ndim > 1 else None
        found[str(name)] = variable if named is None else _along(variable, named)
    if all(one is dataset.variables[name] for name, one in found.items()):
        return dataset
    found |= {axis: _along(dataset.variables[axis], (axis,)) for axis in (y, x)}
    renamed = xr.Dataset(found, attrs=dataset.attrs)
    renamed.encoding = dataset.encoding
    renamed.set_close(dataset.close)
    return renamed


def _named_axes(
    variable: xr.Variable, orders: Sequence[tuple[str, str]], sizes: Mapping[str, int]
) -> tuple[str, ...] | None:
    """The dimensions with the last two, where they have no names, called by the first order that has their sizes."""
    if not all(str(dim).startswith(_PHONY) for dim in variable.dims[-2:]):
        return None
    fitting = [order for order in orders if variable.shape[-2:] == tuple(sizes[axis] for axis in order)]
    return (*map(str, variable.dims[:-2]), *fitting[0]) if fitting else None


def _along(variable: xr.Variable, dims: tuple[str, ...]) -> xr.Variable:
    """The same lazy numbers along dimensions of other names."""
    renamed = variable.copy(deep=False)
    renamed.dims = dims
    return renamed


def _undated(dataset: xr.Dataset, roles: dict[str, str]) -> list[str]:
    """Axes that count steps or hours ahead without dates, whose fields follow each other too."""
    free = [dim for dim, found in roles.items() if not found and dataset.sizes[dim] > 1]
    return [dim for dim in free if _is_ahead(dim, dataset.variables.get(dim)) or _COUNTED.fullmatch(dim.lower())]


def _is_ahead(dim: str, own: xr.Variable | None) -> bool:
    """Whether a dimension, with its own coordinate if it has one, counts how far ahead a forecast looks."""
    period = own is not None and str(pick(own, "standard_name", "")).lower() == "forecast_period"
    return period or bool(_LEAD.fullmatch(dim.lower()))


def _last(roles: dict[str, str], wanted: str) -> str | None:
    return next((dim for dim in reversed(roles) if roles[dim] == wanted), None)


def coordinate_of(dataset: xr.Dataset, variable: xr.Variable, dim: str) -> xr.Variable | None:
    """The 1-D coordinate of a dimension: of its own name, or one that the variable lists and that has a role.

    Of the steps of a forecast, the times that they are valid for, which may have the one time it began at as an axis.
    """
    valid = _valid_times(dataset, dim)
    if valid is not None:
        return valid
    own = dataset.variables.get(dim)
    if own is not None and own.dims == (dim,):
        return own
    for name in [*str(pick(variable, "coordinates", "")).split(), *dataset.coords]:
        listed = dataset.variables.get(name)
        if listed is not None and listed.dims == (dim,) and _role_by_attributes(listed):
            return listed
    return None


def _valid_times(dataset: xr.Dataset, dim: str) -> xr.Variable | None:
    """The dates beside the steps of a forecast; None where the dimension is none of steps, or nothing dates them."""
    if not _is_ahead(dim, dataset.variables.get(dim)):
        return None
    dated = (v for v in dataset.variables.values() if dim in v.dims and v.size == dataset.sizes[dim])
    return next((v for v in dated if _role_by_attributes(v) == "t"), None)


def curvilinear(dataset: xr.Dataset, variable: xr.Variable) -> tuple[str, str] | None:
    """Names of the latitude and longitude that lie on two of the variable's dimensions, or None.

    They may have time as a third (WRF, Sentinel-5P).
    """
    found: dict[str, str] = {}
    listed = str(pick(variable, "coordinates", "")).split()
    for name in [*listed, *map(str, dataset.variables)]:
        position = dataset.variables.get(name)
        if position is None or len(_planes(position)) != 2 or not set(position.dims) <= set(variable.dims):
            continue
        kind = role(name, position)
        if kind in {"x", "y"} and position is not variable:
            found.setdefault(kind, name)
    return (found["y"], found["x"]) if len(found) == 2 else None


def _planes(position: xr.Variable) -> list[str]:
    """The two dimensions of a 2-D coordinate; of one with more those that are not time."""
    dims = [str(dim) for dim in position.dims]
    return dims if len(dims) == 2 else [dim for dim in dims if role(dim, None) != "t"]


def _by_curvilinear(dataset: xr.Dataset, variable: xr.Variable, time: str | None) -> tuple[str, str] | None:
    names = curvilinear(dataset, variable)
    if names is None or time in _planes(dataset.variables[names[0]]):
        return None
    y, x = (dim for dim in map(str, variable.dims) if dim in _planes(dataset.variables[names[0]]))
    return y, x


def _by_position(dataset: xr.Dataset, roles: dict[str, str]) -> tuple[str, str] | None:
    """The last two dimensions, where nothing says what any of them is: plain HDF5, matrices without coordinates."""
    unsaid = [dim for dim, found in roles.items() if not found and dim not in dataset.variables]
    free = [dim for dim in unsaid if not _NO_PLACE.fullmatch(dim.lower())]
    if len(free) < 2 or set(roles.values()) & {"x", "y"} or scattered(dataset) & set(roles):
        return None
    return free[-2], free[-1]


def scattered(dataset: xr.Dataset) -> frozenset[str]:
    """Dimensions whose neighbours are none on the ground, by their name or because each element has its own place."""
    named = {str(dim) for dim in dataset.dims if _SCATTERED.fullmatch(str(dim).lower())}
    lines = [(str(v.dims[0]), role(str(name), v)) for name, v in dataset.variables.items() if v.ndim == 1]
    return frozenset(named | {dim for dim, found in lines if found == "x" and (dim, "y") in lines})

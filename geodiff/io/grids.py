"""From CF coordinates and grid mappings to a GeoBox and back; the affine is the truth, coordinates are derived from it.

A GeoTransform is believed before 1-D coordinates, which are often float32, unless the two contradict each other: then
it is a leftover of a larger raster (or of GDAL's bottom-up files) and the coordinates, which travel with the pixels,
are right. What has no regular grid is kept in index space, its coordinates copied.
"""

from __future__ import annotations

import logging
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from geodiff.io.axes import AZIMUTH, coordinate_of, curvilinear, role
from geodiff.io.cube import Layout, native, pick

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

__all__ = [
    "coordinate_attributes",
    "goes_around",
    "grid_mapping_name",
    "grid_of",
    "has_other_units",
    "mapping_attributes",
    "parse_geotransform",
]

logger = logging.getLogger(__name__)

_METRES = {
    "m": 1.0,
    "metre": 1.0,
    "meter": 1.0,
    "metres": 1.0,
    "meters": 1.0,
    "km": 1e3,
    "kilometre": 1e3,
    "kilometer": 1e3,
}
_FEWEST_RAYS = 8
"""Fewer columns make no circle."""
_WESTWARD = "x is positive to the west"
"""Said of the scan angles of Meteosat Third Generation, whose columns go east as all others' do (EUMETSAT, FCI level 1c
product user guide, reference grid)."""


def grid_of(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> tuple[GeoBox, str]:
    """The grid of a variable, and what to know about it (empty for a plain one).

    Swaths and irregular axes come back as the identity without CRS, with the reason.
    """
    from odc.geo.geobox import GeoBox

    shape = (layout.sizes[layout.y], layout.sizes[layout.x])
    mapping = _mapping(dataset, variable, layout)
    y, x = (coordinate_of(dataset, variable, dim) for dim in (layout.y, layout.x))
    if x is not None and _is_azimuth(x):
        return GeoBox(shape, Affine.identity(), None), "index space: rays and ranges of a radar"
    crs = _crs(mapping, y, x)
    affine, note = _affine(mapping, y, x, crs, shape)
    if affine is None and not note and curvilinear(dataset, variable) is not None:
        note = (
            f"index space: {' and '.join(curvilinear(dataset, variable) or ())} are 2-D, so they are copied as they are"
        )
    counted = mapping.get("GeoTransform") is None and all(v is not None and v.dtype.kind in "iu" for v in (y, x))
    if affine is None or (crs is None and _counts_pixels(affine, whole=counted)):
        return GeoBox(shape, Affine.identity(), None), note
    return GeoBox(shape, affine, crs), note


def goes_around(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> bool:
    """Whether columns go once around: rays of a radar, or longitudes of a globe whose rows have no even steps.

    No step misses that of even columns by half of it. Of 2-D longitudes, as of ocean models, the middle row tells.
    """
    x = coordinate_of(dataset, variable, layout.x)
    if x is not None and (_is_azimuth(x) or _is_degrees(x, "longitude")):
        return _is_circle(coordinate_values(x)[0])
    names = curvilinear(dataset, variable)
    if names is None or set(dataset.variables[names[1]].dims) != {layout.y, layout.x}:
        return False
    longitude = dataset.variables[names[1]]
    middle = longitude.isel({layout.y: longitude.sizes[layout.y] // 2})
    return _is_degrees(longitude, "longitude") and _is_circle(coordinate_values(middle)[0])


def _is_circle(degrees: NDArray[np.float64]) -> bool:
    """Whether degrees go once around in steps that are nearly even."""
    if degrees.size < _FEWEST_RAYS or not np.isfinite(degrees).all():
        return False
    ray = 360.0 / degrees.size
    steps = np.diff(degrees, append=degrees[0]) % 360
    return bool(np.all(np.abs(np.minimum(steps, 360 - steps) - ray) <= ray / 2))


def _is_azimuth(x: xr.Variable) -> bool:
    return str(pick(x, "standard_name", "")).lower() == AZIMUTH


def _counts_pixels(affine: Affine, *, whole: bool) -> bool:
    """Coordinates 0, 1, 2 or 0.5, 1.5, 2.5 without a CRS are row and column numbers, whole ones wherever they begin."""
    return bool(affine.a == 1 and affine.e == 1 and (whole or (affine.c, affine.f) in {(0, 0), (-0.5, -0.5)}))


# -- CRS


def grid_mapping_name(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> str | None:
    """Name of the variable's grid mapping; of several (the expanded form) the one for its own rows and columns."""
    text = str(pick(variable, "grid_mapping", ""))
    pairs = (
        re.findall(r"(\S+?):\s*((?:[^\s:]+(?:\s+|$)(?!\S*:))*[^\s:]*)", text) if ":" in text else [(text.strip(), "")]
    )
    listed = [(name, words.split()) for name, words in pairs if name in dataset.variables]
    own = {layout.x, layout.y}
    best = [name for name, words in listed if own & set(words)] or [name for name, _ in listed]
    if best:
        return best[0]
    usual = [name for name in ("spatial_ref", "crs") if name in dataset.variables and not dataset.variables[name].ndim]
    named = {str(pick(other, "grid_mapping", "")) for other in dataset.variables.values()}
    return next((name for name in usual if name not in named), None)  # one that others name is theirs


def _mapping(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> dict[str, Any]:
    name = grid_mapping_name(dataset, variable, layout)
    held = {} if name is None else {key: _plain(value) for key, value in dataset.variables[name].attrs.items()}
    return {**held, _WESTWARD: True} if name == "mtg_geos_projection" else held


def _plain(value: Any) -> Any:
    """Attributes as plain Python: one-element arrays are numbers."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.item() if np.size(value) == 1 else np.asarray(value).tolist()
    return value


def _crs(mapping: dict[str, Any], y: xr.Variable | None, x: xr.Variable | None) -> CRS | None:
    from odc.geo.crs import CRS
    from pyproj.exceptions import CRSError

    for key in ("crs_wkt", "spatial_ref"):
        try:
            if str(mapping.get(key, "")).strip():
                return CRS(str(mapping[key]))
        except (CRSError, ValueError) as error:
            logger.warning("%s of the grid mapping is no CRS (%s), so it is left out", key, str(error)[:80])
    if mapping.get("grid_mapping_name"):
        return _crs_from_cf(mapping)
    if "grid_north_pole_longitude" in mapping:
        return _crs_from_cf({**mapping, "grid_mapping_name": "rotated_latitude_longitude"})
    return CRS("EPSG:4326") if _is_degrees(y, "latitude") and _is_degrees(x, "longitude") else None


def _is_degrees(variable: xr.Variable | None, wanted: str) -> bool:
    """Whether a coordinate is plain latitude or longitude: by standard name, by its units, or by its name."""
    if variable is None:
        return False
    standard, units = (str(pick(variable, key, "")).lower() for key in ("standard_name", "units"))
    if standard:
        return standard == wanted
    compass = {"latitude": r"degrees?[ _]?(n|north)", "longitude": r"degrees?[ _]?(e|east)"}[wanted]
    named = str(variable.dims[0]).lower() in {wanted, f"{wanted}s", wanted[:3], f"{wanted[:3]}s"}
    return bool(re.fullmatch(compass, units)) or (named and units in {"", "degree", "degrees", "deg"})


def _crs_from_cf(mapping: dict[str, Any]) -> CRS | None:
    import pyproj
    from odc.geo.crs import CRS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pyproj warns of parameters that a projection does not need
            return CRS(pyproj.CRS.from_cf(mapping).to_wkt())
    except (pyproj.exceptions.CRSError, KeyError, ValueError, TypeError) as error:
        logger.warning("the grid mapping %s gives no CRS (%s)", mapping["grid_mapping_name"], str(error)[:80])
        return None


# -- affine


def _affine(
    mapping: dict[str, Any], y: xr.Variable | None, x: xr.Variable | None, crs: CRS | None, shape: tuple[int, int]
) -> tuple[Affine | None, str]:
    """The affine, or None with the reason why there is none."""
    given = parse_geotransform(mapping.get("GeoTransform"))
    if given is not None and (given.b or given.d or y is None or x is None):
        return given, ""
    if y is None or x is None:
        return None, ""
    axes = [_axis(v, crs, mapping) for v in (y, x)]
    bent = [str(name) for v, axis in zip((y, x), axes, strict=True) if axis is None for name in v.dims]
    if bent:
        return (
            None,
            f"index space: steps of {' and '.join(bent)} are not regular, so the coordinates are copied as they are",
        )
    (y0, dy, y_noise), (x0, dx, x_noise) = (axis for axis in axes if axis is not None)
    dx, dy = _single(dx, dy, given)
    derived = Affine(dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)
    agree = given is not None and _agree(given, derived, shape, (y_noise, x_noise))
    return (given if agree else derived), ""


def _single(dx: float | None, dy: float | None, given: Affine | None) -> tuple[float, float]:
    """Steps of axes with one pixel: those of the GeoTransform, else the other axis's, else 1."""
    if given is not None:
        dx, dy = given.a if dx is None else dx, given.e if dy is None else dy
    if dx is None:
        dx = abs(dy) if dy is not None else 1.0
    return dx, -abs(dx) if dy is None else dy


def parse_geotransform(text: Any) -> Affine | None:
    """The affine of a `GeoTransform` attribute (text or six numbers in GDAL's order), or None."""
    try:
        numbers = [float(word) for word in (text.split() if isinstance(text, str) else text)]
    except (TypeError, ValueError):
        return None
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        return None
    affine = Affine.from_gdal(*numbers)
    return affine if affine.determinant else None


def _agree(given: Affine, derived: Affine, shape: tuple[int, int], noise: tuple[float, float]) -> bool:
    """Whether two affines put the corner pixels in the same place, to a quarter pixel or the coordinates' noise."""
    for column, row in ((0.5, 0.5), (shape[1] - 0.5, shape[0] - 0.5)):
        east, north = np.abs(np.subtract(given @ (column, row), derived @ (column, row)))
        if east > max(0.25 * abs(derived.a), noise[1]) or north > max(0.25 * abs(derived.e), noise[0]):
            return False
    return True


def _axis(variable: xr.Variable, crs: CRS | None, mapping: dict[str, Any]) -> tuple[float, float | None, float] | None:
    """First value, step (None for one pixel) and rounding noise of a 1-D coordinate in CRS units; None if irregular."""
    values, quantum = coordinate_values(variable)
    factor = _unit_factor(str(pick(variable, "units", "")), crs, mapping)
    values, quantum = values * factor, quantum * abs(factor)
    if mapping.get(_WESTWARD) and role("", variable) == "x" and values.size and values[0] > values[-1]:
        values = -values
    if values.size == 0 or not np.isfinite(values).all():
        return None
    noise = 2 * quantum
    if values.size == 1:
        return float(values[0]), None, noise
    for trial in (values, np.unwrap(values, period=360.0) if role("", variable) == "x" else values):
        step = (trial[-1] - trial[0]) / (trial.size - 1)
        line = trial[0] + step * np.arange(trial.size)
        if step and np.abs(trial - line).max() <= 0.01 * abs(step) + noise:
            return float(trial[0]), float(step), noise
    return None


def coordinate_values(variable: xr.Variable) -> tuple[NDArray[np.float64], float]:
    """A coordinate in float64, unpacked, and the rounding of its stored form in the same units."""
    stored = native(np.asarray(variable.values))
    if stored.dtype.kind not in "iuf":
        return np.full(stored.shape, np.nan), 0.0
    scale, offset = (
        float(np.ravel(pick(variable, key, default))[0]) for key, default in (("scale_factor", 1), ("add_offset", 0))
    )
    top = float(np.abs(stored[np.isfinite(stored)]).max(initial=0))
    quantum = float(np.spacing(stored.dtype.type(top))) if stored.dtype.kind == "f" else 0.0
    return stored.astype(np.float64) * scale + offset, quantum * abs(scale)


def _unit_factor(units: str, crs: CRS | None, mapping: dict[str, Any]) -> float:
    """What brings a coordinate into the CRS's units: kilometres, and the scan angles of geostationary imagers."""
    if crs is None or crs.geographic:
        return 1.0
    plain = units.strip().lower()
    if plain in {"rad", "radian", "radians"} and "perspective_point_height" in mapping:
        return float(mapping["perspective_point_height"])
    if plain in _METRES:
        axes = crs.proj.axis_info
        return _METRES[plain] / (axes[0].unit_conversion_factor if axes and axes[0].unit_conversion_factor else 1.0)
    return 1.0


def has_other_units(dataset: xr.Dataset, variable: xr.Variable, layout: Layout) -> bool:
    """Whether the coordinates count in other units than the CRS (kilometres, scan angles)."""
    mapping = _mapping(dataset, variable, layout)
    axes = [coordinate_of(dataset, variable, dim) for dim in (layout.y, layout.x)]
    crs = _crs(mapping, *axes)
    return any(_unit_factor(str(pick(v, "units", "")), crs, mapping) != 1 for v in axes if v is not None)


# -- writing


def mapping_attributes(geobox: GeoBox) -> dict[str, Any]:
    """Attributes of a CF grid mapping that hold CRS and affine exactly: CF parameters, `crs_wkt` and `GeoTransform`."""
    attributes: dict[str, Any] = {}
    if geobox.crs is not None:
        attributes = _cf_parameters(geobox.crs)
        attributes["crs_wkt"] = attributes["spatial_ref"] = geobox.crs.to_wkt()
    attributes["GeoTransform"] = " ".join(repr(float(number)) for number in geobox.affine.to_gdal())
    return attributes


def _cf_parameters(crs: CRS) -> dict[str, Any]:
    """What CF can say about the CRS; nothing for those it has no words for (the WKT says all)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyproj warns where CF cannot express a CRS
        found = crs.proj.to_cf()
    if "grid_mapping_name" not in found or found["grid_mapping_name"] == "unknown":
        return {}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def coordinate_attributes(crs: CRS | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the 1-D row and column coordinates of a grid in this CRS."""
    if crs is not None and crs.geographic:
        names, units = ("latitude", "longitude"), ("degrees_north", "degrees_east")
    else:
        names = ("projection_y_coordinate", "projection_x_coordinate")
        unit = crs.proj.axis_info[0].unit_name if crs is not None and crs.proj.axis_info else "1"
        units = (("m", "m") if unit == "metre" else (unit, unit)) if crs is not None else ("1", "1")
    y, x = (
        {"standard_name": n, "long_name": n.replace("_", " "), "units": u, "axis": a}
        for n, u, a in zip(names, units, "YX", strict=True)
    )
    if crs is None:
        y, x = ({key: value for key, value in axis.items() if key in {"axis", "units"}} for axis in (y, x))
    return y, x

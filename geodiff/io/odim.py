"""ODIM_H5, the weather radars' model of information: what groups beside an array say of its numbers and its place.

OPERA Data Information Model for HDF5, version 2.2 to 2.4: `what` (gain, offset, nodata, undetect), `where` (projection
and corners of a composite); the nearer group has the say.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from geodiff.errors import SourceError
from geodiff.io.axes import AZIMUTH
from geodiff.io.inherited import gridded, rebuilt

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

__all__ = ["dressed", "is_odim"]

logger = logging.getLogger(__name__)

_ECHOES = {
    "TH": ("equivalent_reflectivity_factor", "dBZ"),
    "TV": ("equivalent_reflectivity_factor", "dBZ"),
    "DBZH": ("equivalent_reflectivity_factor", "dBZ"),
    "DBZV": ("equivalent_reflectivity_factor", "dBZ"),
    "RATE": ("rainfall_rate", "mm h-1"),
    "ACRR": ("thickness_of_rainfall_amount", "mm"),
}
"""Quantities of which there is little or nothing where no echo is, with their CF names."""
_LEAST = -100.0
"""dBZ below which no echo is written as a number of its own, and not as the least there is."""


def is_odim(file: Any) -> bool:
    """Whether an HDF5 file says that it follows the model."""
    return _text(file.attrs.get("Conventions", "")).startswith("ODIM_H5")


def dressed(dataset: xr.Dataset, group: str, file: Any) -> xr.Dataset:
    """The dataset of one array with what the file says of it as CF attributes, its moment and its grid.

    Raises SourceError where no echo is written as a number that is none of the quantity.
    """
    if "data" not in dataset.variables or dataset.variables["data"].ndim != 2:
        return dataset
    what, where = (_said(file, group, about) for about in ("what", "where"))
    named = {str(name): v.copy(deep=False) for name, v in dataset.variables.items()}
    held = named["data"]
    held.attrs = {**held.attrs, **_attributes(what, held.dtype)}
    y, x = ("azimuth", "range") if what.get("object") in {"PVOL", "SCAN"} else ("y", "x")
    held.dims = (y, x)
    time = _time(what)
    geobox = _geobox(where, held.shape) if y == "y" else None
    polar = {} if y == "y" else _rays(where, held.shape)
    made = rebuilt(dataset, {**named, **polar, **({} if time is None else {"time": time})})
    return made if geobox is None else gridded(made, "y", "x", geobox)


def _said(file: Any, group: str, about: str) -> dict[str, Any]:
    """Attributes of the `what` or `where` of a group and of those that hold it."""
    found: dict[str, Any] = {}
    parts = group.split("/")
    for depth in range(len(parts) + 1):
        held = file.get("/".join([*parts[:depth], about]))
        found |= {} if held is None else {key: _plain(value) for key, value in held.attrs.items()}
    return found


def _plain(value: Any) -> Any:
    return _text(value) if isinstance(value, (bytes, str)) else np.ravel(value)[0].item()


def _text(value: Any) -> str:
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _attributes(what: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Gain, offset, nodata and quantity in CF's words; no echo is the least of rain and its echo, else no quantity."""
    gain, offset = float(what.get("gain", 1.0)), float(what.get("offset", 0.0))
    nodata, undetect = (what.get(key) for key in ("nodata", "undetect"))
    quantity = str(what.get("quantity", "data"))
    found: dict[str, Any] = {"long_name": quantity}
    if (gain, offset) != (1.0, 0.0):
        found |= {"scale_factor": gain, "add_offset": offset}
    if nodata is not None and _holds(dtype, nodata):
        found["_FillValue"] = dtype.type(nodata)
    if quantity in _ECHOES:
        name, units = _ECHOES[quantity]
        found |= {"standard_name": name, "units": units}
        if undetect is not None and undetect != nodata and not _LEAST <= gain * undetect + offset <= 0:
            raise SourceError(
                f"{quantity} has {undetect:g} where no echo is, which would be taken for {gain * undetect + offset:g} "
                f"{units}; write the least value there is (-32 dBZ, 0 mm) in its place and as undetect"
            )
    elif undetect is not None and undetect != nodata and _holds(dtype, undetect):
        found["missing_value"] = dtype.type(undetect)
    return found


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _time(what: Mapping[str, Any]) -> xr.Variable | None:
    """The nominal moment as a coordinate; None where the file has none that can be read."""
    import xarray as xr

    date, clock = str(what.get("date", "")), str(what.get("time", ""))
    try:
        moment = np.datetime64(f"{date[:4]}-{date[4:6]}-{date[6:8]}T{clock[:2]}:{clock[2:4]}:{clock[4:6]}", "s")
    except ValueError:
        return None
    about = {"standard_name": "time", "units": "seconds since 1970-01-01", "calendar": "standard"}
    return xr.Variable((), moment.astype(np.int64), about)


def _rays(where: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, xr.Variable]:
    """Azimuths and ranges of a scan, once around from north, at the middle of its bins, in CfRadial's words."""
    import xarray as xr

    azimuth = (np.arange(shape[0]) + 0.5) * 360.0 / shape[0]
    start, step = 1000.0 * float(where.get("rstart", 0.0)), float(where.get("rscale", 1.0))
    distance = start + step * (np.arange(shape[1]) + 0.5)
    return {
        "azimuth": xr.Variable(("azimuth",), azimuth, {"standard_name": AZIMUTH, "units": "degrees"}),
        "range": xr.Variable(("range",), distance, {"standard_name": "projection_range_coordinate", "units": "m"}),
    }


def _geobox(where: Mapping[str, Any], shape: tuple[int, ...]) -> GeoBox | None:
    """The grid of a composite; None where the corners do not lie as its projection and pixels say."""
    import pyproj
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

    try:
        crs = pyproj.CRS.from_user_input(where["projdef"])
        to_map = pyproj.Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)
        left, top = to_map.transform(where["UL_lon"], where["UL_lat"])
        right, bottom = to_map.transform(where["LR_lon"], where["LR_lat"])
        wide, high = float(where["xscale"]), float(where["yscale"])
    except (KeyError, ValueError, TypeError, pyproj.exceptions.ProjError):
        return None
    affine = Affine(wide, 0, left, 0, -high, top)
    end = affine @ (shape[1], shape[0])
    if not max(abs(end[0] - right) / wide, abs(end[1] - bottom) / high) < 1:
        logger.warning("the corners of the composite do not lie as its projection and pixels say, so it lies nowhere")
        return None
    return GeoBox((int(shape[0]), int(shape[1])), affine, CRS(crs.to_wkt()))

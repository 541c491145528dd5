"""Footprints: the outline of a grid as GeoJSON in longitude and latitude, across the date line and around the poles.

GeoJSON: RFC 7946; a polygon that crosses the 180th meridian is cut there (section 3.1.9), and its box has west > east
(section 5.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.crs import CRS
    from odc.geo.geobox import GeoBox

__all__ = ["body_of", "is_earth", "outline"]

_EARTH_RADIUS = (6.33e6, 6.43e6)
"""Semi-major axes (m) of every ellipsoid that was ever used for the Earth; Venus has 6.05e6."""
_BODIES = (
    "Mercury", "Venus", "Mars", "Phobos", "Deimos", "Jupiter", "Io", "Europa", "Ganymede", "Callisto", "Saturn",
    "Mimas", "Enceladus", "Tethys", "Dione", "Rhea", "Titan", "Iapetus", "Uranus", "Miranda", "Ariel", "Umbriel",
    "Titania", "Oberon", "Neptune", "Triton", "Pluto", "Charon", "Moon", "Ceres", "Vesta", "Bennu", "Ryugu", "Eros",
)  # fmt: skip
_HAIR = 1e-9
"""Degrees by which rounding may carry the 180th meridian to its other side, where it would cut off a sliver."""
_STEPS = 24
"""Segments of each side; enough for a side of a whole turn, where none may be longer than 180 degrees."""


def is_earth(crs: CRS) -> bool:
    """Whether a CRS is the Earth's, by the size of its ellipsoid; one without an ellipsoid counts as such."""
    ellipsoid = crs.proj.ellipsoid
    return ellipsoid is None or _EARTH_RADIUS[0] <= ellipsoid.semi_major_metre <= _EARTH_RADIUS[1]


def body_of(crs: CRS) -> str | None:
    """The body whose name stands in a CRS, its datum or its ellipsoid; None where none does."""
    proj = crs.proj
    parts = (proj.name, getattr(proj.datum, "name", ""), getattr(proj.ellipsoid, "name", ""))
    words = {word for part in parts for word in str(part).replace("_", " ").replace("(", " ").lower().split()}
    return next((body for body in _BODIES if body.lower() in words), None)


def outline(geobox: GeoBox) -> tuple[dict[str, Any] | None, list[float] | None]:
    """GeoJSON geometry and bounding box of a grid; None and None where it has no place on a body."""
    if geobox.crs is None or geobox.crs.proj.geodetic_crs is None:
        return None, None
    places = _geographic(_sides(geobox), geobox.crs)
    places = places[np.isfinite(places).all(axis=1)]
    if len(places) < 4:  # the corners of a full disk look into space
        return None, None
    longitudes, turn = _unwrapped(places[:, 0])
    latitudes = np.clip(places[:, 1], -90, 90)
    return _cap(longitudes, latitudes) if abs(turn) > 180 else _cut(longitudes, latitudes)


def _sides(geobox: GeoBox) -> NDArray[np.float64]:
    """(point, 2) in the CRS, once around the outer edge of the pixels."""
    rows, columns = (int(n) for n in geobox.shape)
    along = np.linspace(0, 1, _STEPS, endpoint=False)
    zero, one = np.zeros(_STEPS), np.ones(_STEPS)
    x = np.concatenate([along, one, 1 - along, zero]) * columns
    y = np.concatenate([zero, along, one, 1 - along]) * rows
    a, b, c, d, e, f = tuple(geobox.affine)[:6]
    return np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)


def _geographic(places: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
    """Longitude east and latitude: WGS 84 on the Earth, elsewhere of the very CRS the grid is built on."""
    from pyproj import Transformer

    base = crs.proj.geodetic_crs
    to_wgs84 = is_earth(crs)
    change = Transformer.from_crs(crs.proj, "OGC:CRS84" if to_wgs84 else base, always_xy=True)
    x, y = change.transform(places[:, 0], places[:, 1], errcheck=False)
    axes = () if base is None or to_wgs84 else base.axis_info
    westward = any(axis.direction.lower() == "west" for axis in axes)
    return np.stack([-x if westward else x, y], axis=1)


def _unwrapped(longitudes: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Longitudes without jumps, beginning in [-180, 180), and the whole turn of the closed ring."""
    steps = np.diff(np.append(longitudes, longitudes[0]))
    near = (steps + 180) % 360 - 180
    near[np.isclose(near, -180) & (steps > 0)] = 180
    start = (longitudes[0] + 180) % 360 - 180
    return start + np.concatenate([[0], np.cumsum(near[:-1])]), float(near.sum())


def _cap(longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> tuple[dict[str, Any], list[float]]:
    """A ring around a pole: everything between it and that pole."""
    pole = 90.0 if latitudes.mean() > 0 else -90.0
    around = (longitudes + 180) % 360 - 180
    order = np.argsort(around)
    x, y = around[order], latitudes[order]
    seam = float(np.interp(180, [x[-1], x[0] + 360], [y[-1], y[0]]))
    ring = [(-180.0, seam), *zip(x.tolist(), y.tolist(), strict=True), (180.0, seam), (180.0, pole), (-180.0, pole)]
    low, high = sorted((float(latitudes.min() if pole > 0 else latitudes.max()), pole))
    return _polygon(ring), _rounded([-180.0, low, 180.0, high])


def _cut(longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> tuple[dict[str, Any], list[float]]:
    """A ring that may cross the 180th meridian, or go all the way around."""
    from shapely import box, make_valid
    from shapely.affinity import translate
    from shapely.geometry import Polygon

    south, north = float(latitudes.min()), float(latitudes.max())
    longitudes = longitudes - 360 * np.floor((longitudes.min() + 180 + _HAIR) / 360)
    west, east = float(longitudes.min()), float(longitudes.max())
    if east - west >= 360 - 1e-6:
        return _polygon(list(box(-180, south, 180, north).exterior.coords)), _rounded([-180, south, 180, north])
    ring = list(zip(longitudes.tolist(), latitudes.tolist(), strict=True))
    if east <= 180 + _HAIR:
        return _polygon(ring), _rounded([west, south, east, north])
    whole = make_valid(Polygon(ring))
    parts = [whole.intersection(box(-180, -90, 180, 90)), translate(whole.intersection(box(180, -90, 540, 90)), -360)]
    polygons = [_polygon(list(p.exterior.coords)) for part in parts for p in getattr(part, "geoms", [part]) if p.area]
    both = {"type": "MultiPolygon", "coordinates": [polygon["coordinates"] for polygon in polygons]}
    return (both if len(polygons) > 1 else polygons[0]), _rounded([west, south, east - 360, north])


def _polygon(ring: list[tuple[float, float]]) -> dict[str, Any]:
    """A closed ring, counter-clockwise, without the points that a ten-thousandth of its size does not need."""
    from shapely.geometry import Polygon
    from shapely.geometry.polygon import orient

    whole = Polygon(ring)
    west, south, east, north = whole.bounds
    plain = whole.simplify(1e-4 * max(east - west, north - south))
    places = orient(plain if isinstance(plain, Polygon) and plain.area else whole).exterior.coords
    return {"type": "Polygon", "coordinates": [[_rounded(place) for place in places]]}


def _rounded(numbers: Any) -> list[float]:
    """To a ten-millionth of a degree, a centimetre."""
    return [round(float(number), 7) + 0.0 for number in numbers]

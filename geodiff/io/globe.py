"""Where a map ends: the corners around a full disc, and around a map of the whole globe, show space and no ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.lattice import Window

__all__ = ["Space", "space_of"]

_PROBES = 65
"""Places a side that are tried for space: corners and edges among them."""
_NEAR = 0.1
"""Pixels by which the way to the globe and back may miss the place where it began."""


@dataclass(frozen=True, slots=True)
class Space:
    """Tells which pixels of a grid lie beyond the globe; holds no handle, so it travels between processes."""

    geobox: GeoBox

    def at(self, window: Window, asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """True (row, column) at those of the pixels asked for, (row, column) bool, whose centre shows no ground."""
        found = asked.copy()
        rows, columns = np.nonzero(asked)
        found[rows, columns] = ~_on_ground(self.geobox, rows + window.row + 0.5, columns + window.column + 0.5)
        return found


def space_of(geobox: GeoBox) -> Space | None:
    """The space around the globe that a grid shows; None where it shows ground alone, or its CRS cannot tell."""
    from pyproj.exceptions import ProjError

    if geobox.crs is None or geobox.crs.geographic:
        return None
    rows, columns = np.meshgrid(*(np.linspace(0.5, n - 0.5, _PROBES) for n in geobox.shape), indexing="ij")
    try:
        ground = _on_ground(geobox, rows.ravel(), columns.ravel())
    except ProjError:  # a projection that has no way back
        return None
    return Space(geobox) if ground.any() and not ground.all() else None


def _on_ground(geobox: GeoBox, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether places, in rows and columns, lie on the globe."""
    affine, crs = geobox.affine, geobox.crs
    assert crs is not None
    x = affine.a * columns + affine.b * rows + affine.c
    y = affine.d * columns + affine.e * rows + affine.f
    to_degrees = _to_degrees(crs.to_wkt())
    longitude, latitude = to_degrees.transform(x, y)
    ground: NDArray[np.bool_] = np.isfinite(longitude) & np.isfinite(latitude)
    if crs.proj.coordinate_operation is not None and crs.proj.coordinate_operation.method_name == "Sinusoidal":
        back = to_degrees.transform(longitude, latitude, direction="INVERSE")  # PROJ begins anew beyond 180 degrees
        ground &= np.hypot(back[0] - x, back[1] - y) < _NEAR * abs(affine.a)
    return ground


@lru_cache(maxsize=8)
def _to_degrees(wkt: str) -> Any:
    from pyproj import CRS, Transformer

    crs = CRS.from_wkt(wkt)
    return Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)

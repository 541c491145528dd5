"""Members of a stack on grids that are shifted against each other, each in its place on one grid over all of them.

Nothing is resampled, so what is known stays as it is stored: a member is moved by whole pixels. Where its pixels lie
between those of the common grid, each goes to the nearest, half a pixel away at most.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError
from geodiff.lattice import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.io import Reader, Variable

__all__ = ["PlacedReader", "assert_joined", "assert_same_ground", "assert_shifted_only", "common_grid", "on_grid"]

logger = logging.getLogger(__name__)

_SAME = 1e-3
"""Pixels: files of one grid differ in the last digits."""
_DRIFT = 0.1
"""Pixels over the whole raster, for the same reason."""


@dataclass(frozen=True, slots=True)
class PlacedReader:
    """A reader whose raster is a part of a larger one; nothing is known outside."""

    reader: Reader
    place: Window
    """Where the raster lies in the larger one."""
    blank: tuple[float | int, ...]
    """What each band holds outside."""
    dtype: np.dtype[Any]

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype, the bands' blanks outside."""
        values = np.empty((len(self.blank), *window.shape), self.dtype)
        values[:] = np.array(self.blank, self.dtype)[:, None, None]
        inside = window.intersect(self.place)
        if inside is not None:
            values[:, *inside.within(window)] = self.reader.read(date, self._own(inside))
        return values

    def valid(self, date: int, window: Window) -> NDArray[np.bool_]:
        """(row, column): False outside, and where the raster's own mask says so."""
        valid = np.zeros(window.shape, bool)
        inside = window.intersect(self.place)
        if inside is not None:
            own = self.reader.valid(date, self._own(inside))
            valid[inside.within(window)] = True if own is None else own
        return valid

    def _own(self, inside: Window) -> Window:
        return Window(inside.row - self.place.row, inside.column - self.place.column, inside.height, inside.width)


def assert_shifted_only(variable: Variable, first: Variable, path: str) -> None:
    """Raise GridError where a grid differs from the first in more than its corner and its size."""
    one, other = variable.geobox, first.geobox
    placed = variable.georeferenced and first.georeferenced  # frames lie nowhere, so there is nothing to align them by
    for what, same, mine, theirs in (
        ("CRS", str(one.crs) == str(other.crs), _crs(one), _crs(other)),
        ("pixel size", _drift(one, other) <= _DRIFT, _steps(one), _steps(other)),
        ("size", placed or one.shape == other.shape, tuple(one.shape), tuple(other.shape)),
    ):
        if not same:
            raise GridError(
                f"{path} has the {what} {mine} and the first of the stack {theirs}; bring all to one grid first "
                "(gdalwarp -t_srs -tr -tap), or leave it out"
            )


def assert_same_ground(variable: Variable, first: Variable, path: str) -> None:
    """Raise GridError where a raster shows nothing of what the first shows."""
    if _place(variable.geobox, first.geobox).intersect(Window(0, 0, *first.shape[2:])) is None:
        raise GridError(f"{path} does not overlap the first raster of the stack; fill it by itself")


def assert_joined(boxes: Sequence[GeoBox], paths: Sequence[str]) -> None:
    """Raise GridError where rasters lie apart, so that a grid over all of them would be empty in between."""
    reached = [_place(boxes[0], boxes[0])]
    apart = {_place(box, boxes[0]) for box in boxes} - {*reached}
    while reached and apart:
        ground = reached.pop().expand(1)
        near = [place for place in apart if ground.intersect(place) is not None]
        apart -= {*near}
        reached += near
    if apart:
        path = next(path for path, box in zip(paths, boxes, strict=True) if _place(box, boxes[0]) in apart)
        raise GridError(f"{path} does not touch the other rasters of the stack; fill it by itself")


def common_grid(boxes: Sequence[GeoBox], name: str) -> GeoBox:
    """The grid of the first, grown to hold all of them; says in the log which are moved.

    Raises GridError where longitudes would go more than once around.
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    first = boxes[0]
    places = [_place(box, first) for box in boxes]
    if all(place == places[0] for place in places) and not any(_between(box, first) for box in boxes):
        return first
    row, column = min(place.row for place in places), min(place.column for place in places)
    stop = [max(place.stop[axis] for place in places) for axis in (0, 1)]
    corner = first.affine @ Affine.translation(column, row) if row or column else first.affine
    whole = GeoBox((stop[0] - row, stop[1] - column), corner, first.crs)
    width = int(whole.shape[1]) * abs(float(first.affine.a))
    if first.crs is not None and first.crs.geographic and width > 360 + abs(float(first.affine.a)):
        raise GridError(
            f"the longitudes of {name} reach over {width:g} degrees, as of files from 0 to 360 and from -180 to 180; "
            "bring all to one of both first"
        )
    _log(boxes, first, whole, name)
    return whole


def on_grid(variable: Variable, whole: GeoBox) -> Reader:
    """A reader of the variable on a grid that holds it."""
    place = _place(variable.geobox, whole)
    if place == Window(0, 0, *(int(n) for n in whole.shape)):
        return variable.reader
    blank = tuple(_blank(band.encoding.nodata, variable.dtype) for band in variable.bands)
    return PlacedReader(variable.reader, place, blank, variable.dtype)


def _blank(nodata: float | None, dtype: np.dtype[Any]) -> float | int:
    if nodata is not None:
        return nodata
    return np.nan if dtype.kind in "fc" else 0


def _log(boxes: Sequence[GeoBox], first: GeoBox, whole: GeoBox, name: str) -> None:
    moved = [shift for box in boxes if (shift := _between(box, first))]
    rows, columns = (int(n) for n in whole.shape)
    logger.info("%s: %d rasters of shifted grids lie on one of %d x %d pixels", name, len(boxes), rows, columns)
    if moved:
        logger.warning(
            "%s: %d of %d rasters lie between the pixels of the first and are moved to the nearest, by up to %.2f "
            "pixels; nothing is resampled", name, len(moved), len(boxes), max(moved),
        )  # fmt: skip


def _offset(box: GeoBox, grid: GeoBox) -> tuple[float, float]:
    """Row and column of a grid's first corner on another."""
    column, row = ~grid.affine @ (box.affine.c, box.affine.f)
    return float(row), float(column)


def _place(box: GeoBox, grid: GeoBox) -> Window:
    row, column = (round(number) for number in _offset(box, grid))
    return Window(row, column, int(box.shape[0]), int(box.shape[1]))


def _between(box: GeoBox, grid: GeoBox) -> float:
    """How many pixels a grid's own lie off those of another; 0 for what is rounding."""
    apart = max(abs(number - round(number)) for number in _offset(box, grid))
    return apart if apart > _SAME else 0.0


def _crs(box: GeoBox) -> str:
    """Its number, else its name."""
    if box.crs is None:
        return "none"
    return f"EPSG:{box.crs.epsg}" if box.crs.epsg is not None else str(box.crs.proj.name)


def _steps(box: GeoBox) -> tuple[float, ...]:
    """What a column and a row add to x and y; two numbers where the grid is not rotated."""
    affine = box.affine
    both = (affine.a, affine.e) if not (affine.b or affine.d) else (affine.a, affine.b, affine.d, affine.e)
    return tuple(float(number) for number in both)


def _drift(box: GeoBox, first: GeoBox) -> float:
    """Pixels by which the far corner is off, if the near one is not."""
    pixel = max(abs(first.affine.a), abs(first.affine.b), 1e-12)
    most = max(abs(getattr(box.affine, name) - getattr(first.affine, name)) for name in "abde")
    return float(most / pixel * max(box.shape))

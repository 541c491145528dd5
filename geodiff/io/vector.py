"""Masks given from outside: vectors in any CRS, rasters on any grid, read as planes of the scene's own grid.

A pixel is inside a polygon if its centre is; lines and points are 0.71 pixels thick, so that they take every pixel they
touch. Geometries are moved into pixel coordinates once and snapped to odd 1/2048 pixels (never a centre or an edge), so
that a window shows the same pixels as the whole would. Mask rasters are aligned by nearest neighbour.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError, InputError, SourceError
from geodiff.io.gdal import GdalReader, read_header
from geodiff.io.reach import offline, refuse_reaching_vectors
from geodiff.io.warped import aligned
from geodiff.lattice import Window

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

    from geodiff.io import Raster, Variable

__all__ = ["PlaneReader", "VectorArea", "area_files", "is_vector", "open_area", "read_geometries", "read_mask_raster"]

_logger = logging.getLogger(__name__)

PlaneReader = Callable[[Window], "NDArray[np.bool_]"]
"""(window) to bool (row, column)."""

_PARQUET = (".parquet", ".geoparquet", ".pq")
_VECTORS = (".geojson", ".json", ".geojsonl", ".gpkg", ".shp", ".fgb", ".gml", ".kml", ".zip", *_PARQUET)
_SNAP = 1024.0


def open_area(path: str, geobox: GeoBox) -> PlaneReader:
    """A vector (inside) or raster (nonzero) file as planes of a grid.

    Raises SourceError, GridError where it cannot be read or does not lie on the grid's ground.
    """
    if is_vector(path):
        return VectorArea(tuple(read_geometries(path, geobox)), geobox)
    return read_mask_raster(path, geobox)


def area_files(path: str) -> tuple[str, ...]:
    """The files that a mask comes from: of a shapefile its parts that place geometries, of a raster all."""
    from geodiff.io import open_raster
    from geodiff.io.places import local_path

    if not is_vector(path):
        return open_raster(path).files or (path,)
    path, _ = _layer(path)
    local = local_path(path)
    if local is None or local.suffix.lower() != ".shp":
        return (path,)
    parts = (local.with_suffix(suffix) for suffix in (".shp", ".shx", ".prj", ".SHP", ".SHX", ".PRJ"))
    return tuple(str(part) for part in parts if part.is_file())


def is_vector(path: str) -> bool:
    """Whether a path is a vector file by its name."""
    return _layer(path)[0].partition("?")[0].lower().endswith(_VECTORS)


def _layer(path: str) -> tuple[str, str | None]:
    """The file and the layer that a path names, as QGIS spells it: `fields.gpkg|layername=clouds`."""
    file, named, layer = path.partition("|layername=")
    return file, layer if named else None


# Vectors


@dataclass(frozen=True)
class VectorArea:
    """Geometries over a grid; finds those of a window through a tree of their boxes."""

    geometries: tuple[Any, ...]
    geobox: GeoBox

    @cached_property
    def _pixels(self) -> tuple[Any, Any]:
        """Geometries in pixel coordinates, and their tree."""
        from shapely import STRtree

        moved = _in_pixels(self.geometries, self.geobox)
        return moved, STRtree(moved)

    def __call__(self, window: Window) -> NDArray[np.bool_]:
        from shapely import box

        moved, tree = self._pixels
        area = box(window.column - 1, window.row - 1, window.stop[1] + 1, window.stop[0] + 1)
        return _burn([moved[i] for i in sorted(tree.query(area))], window)

    def __getstate__(self) -> dict[str, Any]:
        return {"geometries": self.geometries, "geobox": self.geobox}  # the tree is built again where it is needed


def read_geometries(path: str, geobox: GeoBox) -> list[Any]:
    """The geometries of a vector file in the CRS of a raster; of those in another CRS what lies around the raster.

    Parameters
    ----------
    path : GeoJSON, GPKG, GeoParquet, Shapefile or another file that pyogrio reads; paths and URLs.
    geobox : the raster's grid; without a CRS for camera frames, whose vectors are in columns and rows.

    Raises
    ------
    SourceError
        Where it cannot be read, is empty, or its CRS cannot be brought to the raster's (another planet).
    """
    frame = _read_frame(path)
    shapes = frame.geometry[~(frame.geometry.isna() | frame.geometry.is_empty)]
    if not len(shapes):
        raise SourceError(f"{path} holds no geometry, so it masks nothing; leave it out or check the file")
    return list(_reproject(path, shapes, geobox))


def _read_frame(path: str) -> Any:
    import geopandas

    from geodiff.io.places import local_path

    path, layer = _layer(path)
    local = local_path(path)
    if local is not None and not local.exists():
        raise SourceError(f"{path} cannot be read: no such file; check the path")
    place = path if local is None else local
    if local is not None and local.is_file():
        refuse_reaching_vectors(local)
    try:
        with warnings.catch_warnings(), nullcontext() if local is None else offline():
            warnings.simplefilter("ignore")  # pyogrio on odd rings and field types: only geometries are used
            is_parquet = path.lower().endswith(_PARQUET)
            frame = geopandas.read_parquet(place) if is_parquet else geopandas.read_file(place, **_one(local, layer))
    except SourceError:
        raise
    except Exception as error:  # pyogrio and pyarrow have no error in common
        cure = "give GeoJSON, GPKG, GeoParquet or Shapefile"
        raise SourceError(f"{path} cannot be read as vectors: {_first_line(error)}; {cure}") from error
    if not hasattr(frame, "geometry"):
        raise SourceError(f"{path} is a table without geometries; give one with them")
    return frame


def _one(local: Path | None, wanted: str | None) -> dict[str, str]:
    """What names the layer to be read; SourceError where a file has several and none is named, or not this one."""
    import geopandas

    layers = [] if local is None else [str(n) for n in geopandas.list_layers(local).dropna(subset="geometry_type").name]
    if wanted is None and len(layers) > 1:
        said = f"{local} has {len(layers)} layers with geometries"
    elif wanted is not None and layers and wanted not in layers:
        said = f"{local} has no layer {wanted}"
    else:
        return {} if wanted is None else {"layer": wanted}
    raise SourceError(f"{said}; name one of {', '.join(layers)} as '{local}|layername={layers[0]}'")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _reproject(path: str, shapes: Any, geobox: GeoBox) -> Any:
    import pyproj

    if geobox.crs is None:
        if shapes.crs is not None and shapes.crs.to_epsg() != 4326:
            raise SourceError(
                f"{path} is in {shapes.crs.name} and the raster has no CRS; "
                "give vectors in columns and rows, without a CRS"
            )
        return shapes  # GeoJSON always claims WGS 84
    if shapes.crs is None:
        return shapes  # meant to be on the raster's ground
    wanted = pyproj.CRS.from_wkt(geobox.crs.to_wkt())
    if shapes.crs == wanted:
        return shapes
    try:
        near = _near(shapes, geobox, wanted)
        left, bottom, right, top = near.total_bounds
        longest = max(right - left, top - bottom)
        dense = near.segmentize(longest / 500) if longest > 0 else near  # straight edges bend on their way
        moved = dense.to_crs(wanted)
    except (pyproj.exceptions.ProjError, ValueError) as error:
        said = f"{path} in {shapes.crs.name} cannot be brought to {wanted.name}: {_first_line(error)}"
        unsaid = "a GeoJSON that names no crs counts as WGS 84, on the Earth: save it with the CRS it is in, as GPKG"
        raise SourceError(f"{said}; {unsaid if shapes.crs.to_epsg() == 4326 else 'reproject it first'}") from error
    if len(moved) and not np.isfinite(moved.total_bounds).all():
        raise SourceError(
            f"{path} in {shapes.crs.name} lies outside of what {wanted.name} can show; cut it to the raster first"
        )
    return moved


def _near(shapes: Any, geobox: GeoBox, crs: CRS) -> Any:
    """What of the shapes lies around the raster, in their own CRS; all of them where that cannot be told.

    A map shows some of the globe only: what lies far from it, land or sea of the whole world, comes out anywhere on it,
    turned inside out.
    """
    import geopandas
    import shapely

    bounds = _bounds_in(geobox, crs, shapes.crs)
    rim = _rim_in(geobox, crs, shapes.crs) if bounds is None else None
    if bounds is None and rim is None:
        return shapes
    around = shapely.box(*bounds) if bounds is not None else rim
    given = np.asarray(shapes.values)
    parts = []
    for turn in (0.0, -360.0, 360.0) if shapes.crs.is_geographic else (0.0,):
        moved = shapely.transform(given, lambda points, turn=turn: points + np.array([turn, 0.0]))
        moved = moved[shapely.intersects(shapely.envelope(moved), around)]
        broken = ~shapely.is_valid(moved)
        moved[broken] = shapely.make_valid(moved[broken])  # a self-crossing ring cannot be cut
        parts.append(shapely.intersection(moved, rim) if bounds is None else shapely.clip_by_rect(moved, *bounds))
    cut = np.concatenate(parts)
    return geopandas.GeoSeries(cut[~shapely.is_empty(cut)], crs=shapes.crs)


def _bounds_in(geobox: GeoBox, own: CRS, other: CRS) -> tuple[float, float, float, float] | None:
    """Left, bottom, right and top of a raster in another CRS, and some more; None where that cannot show all of it.

    Across the dateline right is beyond 180 degrees.
    """
    from pyproj import Transformer

    box = geobox.boundingbox
    transformer = Transformer.from_crs(own, other, always_xy=True)
    left, bottom, right, top = transformer.transform_bounds(*box.bbox, densify_pts=99)
    if other.is_geographic and left > right:
        right += 360.0
    x, y = np.meshgrid(np.linspace(box.left, box.right, 21), np.linspace(box.bottom, box.top, 21))
    x, y = (np.asarray(values) for values in transformer.transform(x, y))
    if not np.isfinite([*x.ravel(), *y.ravel(), left, bottom, right, top]).all():
        return None
    beside = (1 / 20 + 2 / min(geobox.shape)) * np.array([right - left, top - bottom])
    left, bottom, right, top = left - beside[0], bottom - beside[1], right + beside[0], top + beside[1]
    if other.is_geographic:
        x = left + (x - left) % 360.0
    shown = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    return (left, bottom, right, top) if shown.all() else None


def _rim_in(geobox: GeoBox, own: CRS, other: CRS) -> Any | None:
    """The outline, in longitudes and latitudes, of all that a map with space around the globe shows (full discs).

    None where the raster sees no globe, the outline goes round a pole, or `other` is not in degrees.
    """
    import shapely
    from pyproj import Transformer

    if not other.is_geographic:
        return None
    box = geobox.boundingbox
    transformer = Transformer.from_crs(own, other, always_xy=True)
    x, y = np.meshgrid(np.linspace(box.left, box.right, 41), np.linspace(box.bottom, box.top, 41))
    seen = np.isfinite(transformer.transform(x, y)[0])
    if not seen.any():
        return None
    x, y = x[seen].mean(), y[seen].mean()
    angles = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    inside, outside = np.zeros(angles.size), np.full(angles.size, 4 * max(box.span_x, box.span_y))
    for _ in range(60):  # to the last place on each ray that is on the globe
        middle = (inside + outside) / 2
        hits = np.isfinite(transformer.transform(x + middle * np.cos(angles), y + middle * np.sin(angles))[0])
        inside, outside = np.where(hits, middle, inside), np.where(hits, outside, middle)
    inside *= 1 - 1e-7  # half a metre, without which the way back ends in space
    longitude, latitude = transformer.transform(x + inside * np.cos(angles), y + inside * np.sin(angles))
    middle = transformer.transform(x, y)[0]
    longitude = middle + (np.asarray(longitude) - middle + 180.0) % 360.0 - 180.0
    rim = shapely.Polygon(np.column_stack([longitude, latitude]))
    goes_round = np.abs(np.diff(longitude, append=longitude[0])).max() > 90
    return None if goes_round or not rim.is_valid else rim


def _in_pixels(geometries: Sequence[Any], geobox: GeoBox) -> NDArray[Any]:
    """Geometries in columns and rows, with their images one turn away where the CRS is in degrees (0-360, dateline)."""
    import shapely

    turns = (0.0, -360.0, 360.0) if geobox.crs is not None and geobox.crs.geographic else (0.0,)
    shapes = np.array(list(geometries), dtype=object)
    moved = np.concatenate([shapely.transform(shapes, _to_pixels(~geobox.affine, turn)) for turn in turns])
    thin = shapely.get_dimensions(moved) < 2
    moved[thin] = shapely.buffer(moved[thin], 0.71, quad_segs=4)
    return np.asarray(shapely.transform(moved, lambda points: (np.floor(points * _SNAP) + 0.5) / _SNAP))


def _to_pixels(inverse: Affine, turn: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = points[:, 0] + turn, points[:, 1]
        return np.column_stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f])

    return move


def _burn(shapes: Sequence[Any], window: Window) -> NDArray[np.bool_]:
    """True at the pixels whose centres lie in the shapes, which are in pixel coordinates."""
    from affine import Affine
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.features import rasterize

    if not shapes:
        return np.zeros(window.shape, bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pixel coordinates
        place = Affine.translation(window.column, window.row)
        burnt = rasterize(shapes, window.shape, fill=0, transform=place, default_value=1, dtype="uint8")
    return np.asarray(burnt, bool)


# Rasters


def read_mask_raster(path: str, geobox: GeoBox) -> PlaneReader:
    """A raster as planes of a grid: True where any band is neither 0, nodata nor NaN; False beyond its extent.

    Raises GridError where it is on other ground, or on another grid and not georeferenced, InputError where it has
    several dates (a mask is of the ground, and of which of them would it be?) or where other numbers than 0 stand for
    good ground.
    """
    from geodiff.io import open_raster

    raster = open_raster(path)
    variable = raster.variables[0]
    _assert_a_mask(raster, variable)
    if len(variable.dates) > 1:
        raise InputError(
            f"{path} has {len(variable.dates)} dates, and a mask holds for every date; give one plane, or name the "
            "file as quality flags (--qa PRESET:PATH), which go date by date"
        )
    if _same_grid(variable.geobox, geobox):
        if not variable.georeferenced and geobox.crs is not None and geobox.affine.e > 0:
            _logger.warning(
                "%s lies nowhere and is taken row by row, while the scene's first row is its southernmost: give a mask "
                "with the scene's CRS and transform if its own is the northernmost", path
            )  # fmt: skip
        return _SameGrid(variable)
    if not isinstance(variable.reader, GdalReader):
        grids = f"{_grid(variable.geobox)} against {_grid(geobox)}"
        raise GridError(f"{path} is not on the scene's grid ({grids}); convert it to GeoTIFF, which can be aligned")
    if variable.geobox.crs is None or geobox.crs is None:
        raise GridError(
            f"{path} is {_grid(variable.geobox)} and the scene is {_grid(geobox)}; "
            "without a CRS on both they cannot be aligned: give a mask of the same size"
        )
    header = read_header(variable.reader.path)
    return _Aligned(header.path, geobox, add_alpha=header.alpha is None and header.nodata[0] is None)


def _assert_a_mask(raster: Raster, variable: Variable) -> None:
    """Quality bands and maps of clear ground are not zero where a pixel is good, and would take all of a scene away."""
    from geodiff.io import Kind

    first, path = variable.bands[0], raster.path
    bands = [quality.preset for quality in raster.quality if quality.variable.bands[0].kind is Kind.FLAGS]
    if first.kind is Kind.FLAGS and bands:
        preset = bands[0]
        raise InputError(
            f"{path} is a quality band ({preset}) and no mask: numbers other than 0 stand for good ground too; "
            f"name it with --qa {preset}:{path}, or write 1 where it says missing and 0 elsewhere under another name"
        )
    usable_data_mask = "udm2" in PurePath(path).name.lower() and len(variable.bands) == 8
    if first.name.lower() == "clear" or usable_data_mask:
        raise InputError(
            f"{path} is no mask: its band 1 is 1 where the ground is clear; take the bands that say what hides it, "
            f"of a UDM2 shadow, heavy haze and cloud: gdal_translate -b 3 -b 5 -b 6 {path} mask.tif"
        )


def _same_grid(one: GeoBox, other: GeoBox) -> bool:
    alike = tuple(one.shape) == tuple(other.shape)
    precision = 1e-9 * max(1.0, abs(other.affine.c), abs(other.affine.f))
    same_place = one.affine.almost_equals(other.affine, precision=precision)
    unplaced = one.crs is None and one.affine.is_identity
    return alike and (unplaced or (same_place and (one.crs == other.crs or one.crs is None)))


def _grid(geobox: GeoBox) -> str:
    crs = "no CRS" if geobox.crs is None else geobox.crs.to_wkt().partition('"')[2].partition('"')[0]
    return f"{geobox.shape[0]} x {geobox.shape[1]} pixels in {crs}"


@dataclass(frozen=True, slots=True)
class _SameGrid:
    variable: Variable

    def __call__(self, window: Window) -> NDArray[np.bool_]:
        from geodiff.encoding import is_nodata
        from geodiff.io import Kind

        stored = self.variable.reader.read(0, window)
        given: NDArray[np.bool_] = np.zeros(window.shape, bool)
        for numbers, band in zip(stored, self.variable.bands, strict=True):
            if band.kind is not Kind.ALPHA:
                given |= (numbers != 0) & ~is_nodata(numbers, band.encoding)
        valid = self.variable.reader.valid(0, window)
        return given if valid is None else given & valid


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A mask raster brought to the grid by nearest neighbour, window by window, with exact coordinates."""

    path: str
    geobox: GeoBox
    add_alpha: bool
    """To tell what lies beyond the file, where it has neither nodata nor alpha."""

    def __call__(self, window: Window) -> NDArray[np.bool_]:
        from rasterio.windows import Window as RasterioWindow

        place = RasterioWindow(window.column, window.row, window.width, window.height)
        with aligned(self.path, self.geobox, "nearest", add_alpha=self.add_alpha) as mask:
            values = mask.read(list(range(1, mask.count + (0 if self.add_alpha else 1))), window=place)
            valid = mask.dataset_mask(window=place) != 0
        return np.asarray(((values != 0) & ~np.isnan(values)).any(axis=0) & valid)

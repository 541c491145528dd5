"""Finished products of one ground as one: each CRS its mosaic, value by value from the first product that has one."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.codes import OUTSIDE, UNFILLED
from geodiff.errors import TargetError
from geodiff.io.cog import assert_whole
from geodiff.io.gdal import read_header
from geodiff.io.header import Header
from geodiff.io.places import appearing
from geodiff.lattice import Window, blocks

if TYPE_CHECKING:
    from affine import Affine
    from numpy.typing import NDArray

__all__ = ["mosaic", "mosaics"]

_log = logging.getLogger(__name__)
LAYERS = ("source", "standard_error", "")
"""Merged one after the other; the value last."""
_TILE = 1024
"""Side of the parts that are merged at a time, in pixels."""
_APART, _COLLAR, _MISSING, _SEEN = range(4)
"""What a product has of a pixel: nothing, a place it left out, a gap, a value. The most wins, of equals the first."""


def mosaics(products: Iterable[str], folder: Path) -> list[str]:
    """Merge GeoTIFF and PDS4 products that lie on one CRS, source and standard error too; returns the paths written.

    Products without georeferencing, and those that are alone on their CRS, stay out. So do those that are stored unlike
    all others on it, and a warning says so. The first is `mosaic.tif` and any further one `mosaic_2.tif`, so that no
    old one is left when a later product makes them two.
    """
    grounds: dict[str, dict[str, list[str]]] = {}
    for product in sorted(products):
        header = read_header(product)
        if header.crs is not None:
            grounds.setdefault(header.crs.to_wkt(), {}).setdefault(_stored(header), []).append(product)
    chosen: list[list[str]] = []
    for ground in grounds.values():
        chosen += [group for group in ground.values() if len(group) > 1]
        alone = {stored: group[0] for stored, group in ground.items() if len(group) == 1 and len(ground) > 1}
        for stored, product in alone.items():
            _log.warning("%s stays out of the mosaic: no other product on its CRS is %s", Path(product).name, stored)
    written: list[str] = []
    for number, group in enumerate(chosen, 1):
        written += mosaic(group, folder / ("mosaic.tif" if number == 1 else f"mosaic_{number}.tif"))
    return written


def _stored(header: Header) -> str:
    """How numbers are stored: only those that mean the same are merged."""
    packed = zip(header.scales, header.offsets, strict=True)
    scaled = [f"x {scale:.9g} {offset:+.9g}" for scale, offset in packed if (scale, offset) != (1, 0)]
    said = f"{', '.join(map(str, header.dtypes))} with nodata {', '.join(map(str, header.nodata))}"
    return f"{said}, stored {', '.join(scaled)}" if scaled else said


def mosaic(products: Sequence[str], target: Path) -> list[str]:
    """One mosaic of products on one CRS that are stored alike, on the grid of the first.

    Every layer of a pixel is that of one product, the first that has a value there; where none has one, the first that
    has a gap there. Layers that some product lacks are left out.

    Raises TargetError where it cannot be made.
    """
    grid = _Grid.of([read_header(product) for product in products], target)
    written = []
    for layer in LAYERS:
        if all(Path(_layer(product, layer)).is_file() for product in products):
            beside = Path(_layer(str(target), layer))
            _merge(products, layer, grid, beside)
            written.append(str(beside))
    return written


def _layer(product: str, layer: str) -> str:
    path = Path(product)
    return product if not layer else str(path.with_name(f"{path.stem}_{layer}.tif"))


@dataclass(frozen=True, slots=True)
class _Grid:
    """The pixels of a mosaic: those of its first product, continued."""

    affine: Affine
    shape: tuple[int, int]

    @classmethod
    def of(cls, headers: Sequence[Header], target: Path) -> _Grid:
        """The least that holds all; raises TargetError for products that are turned."""
        from affine import Affine

        for header in headers:
            if header.affine.b or header.affine.d:
                raise TargetError(
                    f"{target} cannot be made of {len(headers)} products: the rows of {header.path} do not "
                    "lie along an axis of its CRS; warp it first"
                )
        first = headers[0].affine
        corners = [
            ~first @ (header.affine @ corner) for header in headers for corner in ((0, 0), header.shape[::-1])
        ]  # (column, row) on the grid of the first
        (left, top), (right, bottom) = ([pick(c[axis] for c in corners) for axis in (0, 1)] for pick in (min, max))
        left, top = math.floor(left + 1e-6), math.floor(top + 1e-6)
        shape = math.ceil(bottom - top - 1e-6), math.ceil(right - left - 1e-6)
        return cls(first @ Affine.translation(left, top), shape)


def _merge(products: Sequence[str], layer: str, grid: _Grid, target: Path) -> None:
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window as Part

    told = all(Path(_layer(product, "source")).is_file() for product in products)
    try:
        with appearing(target) as partial, ExitStack() as files:
            shown, codes = (
                [files.enter_context(rasterio.open(_layer(product, name))) for product in products]
                for name in (layer, "source" if told else layer)
            )
            with rasterio.open(partial, "w", **_profile(shown[0], grid)) as out:
                out.scales, out.offsets = shown[0].scales, shown[0].offsets
                out.descriptions, out.units = shown[0].descriptions, shown[0].units
                for window in blocks(grid.shape, _TILE):
                    part = Part(window.column, window.row, window.width, window.height)
                    out.write(_first(shown, codes, told, grid, window), window=part)
            assert_whole(partial)
    except (RasterioError, OSError, ValueError) as error:
        raise TargetError(f"{target} cannot be made of {len(products)} products: {error}") from error


def _profile(first: Any, grid: _Grid) -> dict[str, Any]:
    return {
        "driver": "GTiff", "compress": "deflate", "tiled": True, "bigtiff": "IF_SAFER", "count": first.count,
        "dtype": first.dtypes[0], "nodata": first.nodata, "crs": first.crs, "transform": grid.affine,
        "height": grid.shape[0], "width": grid.shape[1],
    }  # fmt: skip


def _first(shown: Sequence[Any], codes: Sequence[Any], told: bool, grid: _Grid, window: Window) -> NDArray[Any]:
    """(band, row, column) of a window: of each pixel what the first product that has most of it says."""
    void = 0 if shown[0].nodata is None else shown[0].nodata
    merged = np.full((shown[0].count, *window.shape), void, shown[0].dtypes[0])
    best = np.full(merged.shape, _APART)
    for values, origin in zip(shown, codes, strict=True):
        rows, columns = _places(values, grid, window)
        inside = np.ix_(np.arange(values.count), rows >= 0, columns >= 0)
        if not merged[inside].size:
            continue
        new, said = (_taken(file, rows[rows >= 0], columns[columns >= 0]) for file in (values, origin))
        has = _has(said, told, origin.nodata)
        has = has if len(has) == len(new) else np.broadcast_to(has.min(axis=0), new.shape)
        more = has > best[inside]
        merged[inside], best[inside] = np.where(more, new, merged[inside]), np.where(more, has, best[inside])
    return merged


def _places(file: Any, grid: _Grid, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The file's row of each row of a window, and column of each column; -1 beyond the file."""
    onto = ~file.transform @ grid.affine
    rows = np.floor(onto.e * (window.row + np.arange(window.height) + 0.5) + onto.f).astype(np.intp)
    columns = np.floor(onto.a * (window.column + np.arange(window.width) + 0.5) + onto.c).astype(np.intp)
    rows[rows >= file.height], columns[columns >= file.width] = -1, -1
    return np.maximum(rows, -1), np.maximum(columns, -1)


def _taken(file: Any, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """(band, row, column) of these rows and columns."""
    near = ((int(rows.min()), int(rows.max()) + 1), (int(columns.min()), int(columns.max()) + 1))
    return np.asarray(file.read(window=near)[:, rows - rows.min()][:, :, columns - columns.min()])


def _has(said: NDArray[Any], told: bool, nodata: float | None) -> NDArray[np.intp]:
    """What a product has of each pixel, by its source layer, or by its numbers where there is none."""
    if told:
        return np.select([said == OUTSIDE, said == UNFILLED], [_COLLAR, _MISSING], _SEEN)
    missing = np.isnan(said) if said.dtype.kind == "f" else np.zeros(said.shape, bool)
    return np.where(missing | (said == nodata), _MISSING, _SEEN)

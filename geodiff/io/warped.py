"""A file's bands on another grid, resampled as they are read; for scenes whose bands differ in resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geodiff.errors import GridError, JobError
from geodiff.io.gdal import door, handle

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from geodiff.lattice import Window

__all__ = ["WarpedReader", "aligned", "grid_at"]


def grid_at(geobox: GeoBox, resolution: float) -> GeoBox:
    """Give the grid over the same ground, from the same first corner, with square pixels of `resolution`."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    affine = geobox.affine
    if affine.b or affine.d:
        raise GridError("--resolution needs a grid that is not rotated; leave it out")
    if not math.isfinite(resolution) or resolution <= 0:
        raise JobError(f"--resolution {resolution} is not a pixel size; give a positive number in the CRS's units")
    rows, columns = (int(n) for n in geobox.shape)
    height, width = rows * abs(affine.e) / resolution, columns * abs(affine.a) / resolution
    shape = (math.ceil(height - 1e-6), math.ceil(width - 1e-6))
    steps = math.copysign(resolution, affine.a), math.copysign(resolution, affine.e)
    return GeoBox(shape, Affine(steps[0], 0, affine.c, 0, steps[1], affine.f), geobox.crs)


@contextmanager
def aligned(path: str, geobox: GeoBox, resampling: str, **options: Any) -> Iterator[Any]:
    """An open file as GDAL would warp it onto a grid, with coordinates transformed exactly."""
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    rows, columns = (int(n) for n in geobox.shape)
    crs = None if geobox.crs is None else CRS.from_wkt(geobox.crs.to_wkt())
    with door(path), handle(path) as dataset, WarpedVRT(
        dataset, crs=crs, transform=geobox.affine, height=rows, width=columns, resampling=Resampling[resampling],
        tolerance=1e-9, **options,
    ) as warped:  # fmt: skip  # a tolerance of 0 is refused; this one is a millionth of a pixel's millionth
        yield warped


@dataclass(frozen=True, slots=True)
class WarpedReader:
    """Windows of a file on a grid that is not its own."""

    path: str
    indexes: tuple[int, ...]
    geobox: GeoBox
    resampling: str
    """`nearest` for codes; `average` or `bilinear` for quantities."""
    nodata: float | int | None

    def read(self, date: int, window: Window) -> NDArray[Any]:
        """(band, row, column) in the stored dtype."""
        from rasterio.windows import Window as RasterioWindow

        del date
        nodata = {} if self.nodata is None else {"src_nodata": self.nodata, "nodata": self.nodata}
        with aligned(self.path, self.geobox, self.resampling, **nodata) as warped:
            place = RasterioWindow(window.column, window.row, window.width, window.height)
            return np.asarray(warped.read(list(self.indexes), window=place))

    def valid(self, date: int, window: Window) -> None:
        """None: masks of resampled bands are their nodata."""
        del date, window

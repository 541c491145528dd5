"""GeoTIFFs as others make them, and products of them in which nothing was missing."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from geodiff.io import (
    Product,
    ProductVariable,
    Raster,
    Variable,
    open_raster,
    write_product,
)
from geodiff.lattice import Window

NORTH_UP = Affine(30, 0, 399_960, 0, -30, 4_900_020)
CODES = {"observed": 0, "laplace": 3, "diffusion": 7, "outside fillable": 254, "unfilled": 255}
REASONS = {"nodata": 1, "cloud": 4, "user mask": 64}
ATTRIBUTES = {"geodiff_fingerprint": "f00d", "history": "geodiff fill in.tif out.tif"}


def write_source(path: Path, values: np.ndarray, *, mask: np.ndarray | None = None, **profile: Any) -> str:
    """A GeoTIFF as others make them; `describe` is called with the open file."""
    describe = profile.pop("describe", lambda file: None)
    given = {"driver": "GTiff", "crs": "EPSG:32633", "transform": NORTH_UP, "dtype": values.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(values), height=values.shape[1], width=values.shape[2], **given
        ) as file:
            describe(file)
            file.write(values)
            if mask is not None:
                file.write_mask(mask)
    return str(path)


def read_all(variable: Variable) -> np.ndarray:
    """(date, band, row, column)"""
    dates, _, rows, columns = variable.shape
    return np.stack([variable.reader.read(date, Window(0, 0, rows, columns)) for date in range(dates)])


def unchanged(variable: Variable, **layers: Any) -> ProductVariable:
    """A variable in which nothing was missing."""
    zeros = np.zeros(variable.shape)
    found = {
        "value": read_all(variable),
        "source": zeros.astype("u1"),
        "reason": zeros.astype("u2"),
        "standard_error": zeros.astype("f4"),
    }
    return ProductVariable(variable, **{**found, **layers})


def product_of(raster: Raster, *filled: ProductVariable, quantiles: tuple[float, ...] = ()) -> Product:
    return Product(
        raster, filled or tuple(unchanged(v) for v in raster.variables), ATTRIBUTES, CODES, REASONS, quantiles
    )


def round_trip(source: str, target: Path) -> tuple[Raster, Raster]:
    raster = open_raster(source)
    write_product(product_of(raster), str(target))
    return raster, open_raster(str(target))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def limits(dtype: str) -> tuple[float, float]:
    found = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    return found.min.item() if hasattr(found.min, "item") else found.min, found.max.item() if hasattr(
        found.max, "item"
    ) else found.max


def noise(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Numbers over the whole range of a dtype, its ends among them, and NaN with its payload."""
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)[..., 0].copy()
    bits.flat[0], bits.flat[1] = limits(dtype)
    return bits

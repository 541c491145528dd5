"""Small rasters for the tests of the whole line: smooth with texture, and round holes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

UTM = Affine(30, 0, 300_000, 0, -30, 4_500_000)


def surface(rows: int, columns: int, seed: int = 5) -> np.ndarray:
    """Something smooth with texture, 1000..3000."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    waves = np.sin(y / 17) + np.cos(x / 23) + 0.3 * np.sin((x + 2 * y) / 5)
    return np.rint(2000 + 300 * waves + rng.normal(0, 20, (rows, columns)))


def round_holes(rows: int, columns: int, count: int = 6, radius: int = 12, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    holes = np.zeros((rows, columns), bool)
    for _ in range(count):
        row, column = rng.integers(0, rows), rng.integers(0, columns)
        holes |= (y - row) ** 2 + (x - column) ** 2 < radius**2
    return holes


def write(path: Path, bands: np.ndarray, nodata: float | None = 0, **profile: object) -> Path:
    bands = np.atleast_3d(bands.T).T if bands.ndim == 2 else bands
    facts = {"crs": "EPSG:32618", "transform": UTM, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands),
        dtype=bands.dtype, nodata=nodata, **facts,
    ) as out:  # fmt: skip
        out.write(bands)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read()


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.tif"))}

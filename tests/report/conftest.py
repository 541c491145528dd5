"""Small products of every kind to report on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

import geodiff

HOSTILE = "</script><img src=x onerror=alert(1)>"
"""A name that would run code where it is not escaped."""


def scene(path: Path, bands: int = 3, shape: tuple[int, int] = (300, 420), names: tuple[str, ...] = ()) -> Path:
    """A uint16 raster of smooth ground with round gaps."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    rng = np.random.default_rng(5)
    ground = 2000 + 600 * np.sin(y / 23) * np.cos(x / 31) + rng.normal(0, 20, (bands, *shape))
    stored = (ground + 150 * np.arange(bands)[:, None, None]).astype(np.uint16)
    for row, column, reach in ((60, 80, 18), (200, 300, 30), (150, 40, 12), (250, 150, 15), (40, 350, 14)):
        stored[:, (y - row) ** 2 + (x - column) ** 2 < reach**2] = 0
    profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": bands, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6)) as dataset:
        dataset.write(stored)
        dataset.descriptions = names or tuple(f"band_{i + 1}" for i in range(bands))
    return path


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoTIFF product of three bands, with its record."""
    folder = tmp_path_factory.mktemp("filled")
    source = scene(folder / "scene.tif", names=("red", "green", "blue"))
    geodiff.fill(source, folder / "filled.tif", filler="nearest")
    return folder / "filled.tif"


@pytest.fixture
def made() -> Callable[..., Path]:
    """Write a source raster."""
    return scene


@pytest.fixture
def facts_of() -> Callable[[str], dict[str, Any]]:
    """Read the JSON that a page carries for its script."""

    def read(html: str) -> dict[str, Any]:
        import json

        start = html.index('id="page-facts">') + len('id="page-facts">')
        found: dict[str, Any] = json.loads(html[start : html.index("</script>", start)])
        return found

    return read

"""An Item as archives write them, and the places where a store may lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.io.items import data, item, write


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, Any]:
    """Give an Item as archives write them: bands, a coarser flag band, pictures, the same band in another format."""
    for band in ("B02", "B03"):
        write(tmp_path / f"S2_{band}.tif")
    write(tmp_path / "S2_SCL.tif", 4, pixel=60, dtype="uint8")
    return item(
        {
            "blue-jp2": data("S2_B02.jp2", "B02"),
            "blue": data("S2_B02.tif", "B02", nodata=0, scale=0.0001, offset=-0.1),
            "green": data("./S2_B03.tif", "B03", nodata=0, scale=0.0001, offset=-0.1),
            "scl": data("S2_SCL.tif"),
            "aot": data("S2_AOT.tif"),
            "visual": {"href": "TCI.tif", "roles": ["visual"]},
            "thumbnail": {"href": "x.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        }
    )


@pytest.fixture(params=["local", "file URL", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the place of a store: on disk, as a URL, or in an object store."""
    if request.param == "local":
        return str(tmp_path / "scene.geodiff-work.zarr")
    if request.param == "file URL":
        return f"file://{tmp_path}/scene.geodiff-work.zarr"
    return f"memory://{tmp_path.name}/scene.geodiff-work.zarr"

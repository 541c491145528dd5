"""An Item as archives write them."""

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

"""The scene that the tests of the whole line fill."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rasters import round_holes, surface, write


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    values = surface(300, 410).astype("uint16")
    values[round_holes(300, 410)] = 0
    return write(tmp_path / "scene.tif", values)

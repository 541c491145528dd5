"""Frames and maps to restore with a network that adds nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from geodiff.fillers import load_filler
from tests.restoring.frames import SIDE, Modest, scene, write


@pytest.fixture(autouse=True)
def modest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodiff.diffusion.denoiser.open_denoiser", lambda *_, **__: Modest())
    monkeypatch.setattr("geodiff.blocks.filler_of", lambda _: load_filler("laplace"))


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """A grainy camera frame with a lost block, 0 where it was lost."""
    values = np.clip(scene() + np.random.default_rng(1).normal(0, 8, (SIDE, SIDE)), 1, 255).astype("uint8")
    values[30:46, 40:72] = 0
    return write(tmp_path / "frame.png", values, driver="PNG")


@pytest.fixture
def map_(tmp_path: Path) -> Path:
    """A map of float numbers on a sphere that is not the Earth, with a lost block."""
    values = scene().astype("float32") / 7
    values[30:46, 40:72] = -9999
    place = Affine(60.25, 0, 1000.5, 0, -60.25, 77.75)
    moon = "+proj=eqc +R=1737400 +units=m"
    return write(tmp_path / "map.tif", values, driver="GTiff", nodata=-9999, transform=place, crs=moon)

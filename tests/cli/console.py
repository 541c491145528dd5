"""The command line as a test runs it, a raster with a hole, and a filler that fails."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.fillers import Filled, Fitted

Run = Callable[..., "Outcome"]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


def raster(path: Path, rows: slice, columns: slice, shape: tuple[int, int] = (64, 64)) -> Path:
    y, x = np.mgrid[: shape[0], : shape[1]]
    values = (np.sin(y / 9) + np.cos(x / 7)).astype(np.float32)
    values[rows, columns] = -9999
    profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": 1, "dtype": "float32"}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000), "nodata": -9999}
    with rasterio.open(path, "w", **profile, **place) as dataset:
        dataset.write(values, 1)
    return path


class Broken:
    """A filler that fails in the blocks (the fit asks with seed 0) whose windows begin at or beyond a column."""

    name, halo, beyond = "broken", 8, 0

    def fit(self, sample: Any) -> Fitted:
        return Fitted(self.name)

    def fill(self, patches: Any, fitted: Any, *, seed: int) -> list[Filled]:
        if seed and any(patch.window.column >= self.beyond for patch in patches):
            raise ValueError("out of ideas")
        shapes = [patch.missing.shape for patch in patches]
        return [
            Filled(np.zeros(s, np.float32), np.ones(s, np.float32), None, np.full(s, 100, np.uint8)) for s in shapes
        ]


def register(monkeypatch: pytest.MonkeyPatch, filler: type) -> None:
    points = {"broken": SimpleNamespace(load=lambda: filler)}
    monkeypatch.setattr("geodiff.fillers._registered", lambda: points)

"""Frames to restore, and a network that says "the classical estimate, give or take its error": laws hold for any."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geodiff.diffusion.folder import Calibration

SIDE = 96


@dataclass(frozen=True)
class Modest:
    """A network that adds nothing to the classical estimate, and whose realisations are the noise they begin with."""

    calibration: Calibration = field(default_factory=Calibration)
    batch: int = 1

    def value(self, context: np.ndarray, wanted: np.ndarray, scalars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert context.shape[0] == wanted.shape[0] == scalars.shape[0]
        return np.zeros(wanted.shape, np.float32), np.ones(wanted.shape, np.float32)

    def members(self, context: np.ndarray, wanted: np.ndarray, noise: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        assert context.shape[0] == len(noise)
        return noise


def scene(rows: int = SIDE, columns: int = SIDE) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return 110 + 40 * np.sin(y / 9) * np.cos(x / 13) + 25 * (x > y)


def write(path: Path, values: np.ndarray, **profile: Any) -> Path:
    bands = values[None] if values.ndim == 2 else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype=str(bands.dtype), **profile
        ) as out:
            out.write(bands)
    return path


@contextmanager
def ignoring_place() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def read(path: Path | str) -> np.ndarray:
    with ignoring_place(), rasterio.open(path) as opened:
        return opened.read()


def portrait() -> np.ndarray:
    from skimage import data

    return np.moveaxis(data.astronaut()[:96, 100:196], -1, 0).astype(np.float64)

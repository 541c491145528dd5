"""A colour mosaic that no label names is told by its pixels; grey frames, odd amplifiers and maps are not mosaics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from scipy import ndimage

from geodiff.errors import SourceError
from geodiff.io import open_raster
from geodiff.io.mosaic import mosaic_swing

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def grey(rng: np.random.Generator, shape: tuple[int, int] = (192, 256)) -> np.ndarray:
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 6)
    return np.clip(110 + 30 * smooth / smooth.std() + rng.normal(0, 4, shape), 1, 254)


def mosaic(level: np.ndarray, red: float, blue: float) -> np.ndarray:
    """RGGB, with red and blue as shares of green."""
    made = level.copy()
    made[::2, ::2] *= red
    made[1::2, 1::2] *= blue
    return made.clip(0, 255).astype("u1")


def write(path: Path, values: np.ndarray, **profile: Any) -> str:
    shape = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", **{"driver": "PNG", **shape, **profile}) as file:
        file.write(values, 1)
    return str(path)


@pytest.mark.parametrize(("red", "blue"), [(1.4, 0.6), (0.8, 0.85), (1.2, 0.8), (1.0, 0.8)])
@pytest.mark.parametrize("shift", [(0, 0), (0, 1), (1, 1)])
def test_a_mosaic_is_told_whatever_its_colours_and_its_first_pixel(
    rng: np.random.Generator, red: float, blue: float, shift: tuple[int, int]
) -> None:
    assert mosaic_swing(np.roll(mosaic(grey(rng), red, blue), shift, (0, 1))) > 0.02


def test_grey_frames_are_no_mosaics(rng: np.random.Generator) -> None:
    level = grey(rng)
    frames = {
        "grey": level,
        "columns of two amplifiers": level * np.where(np.arange(256) % 2, 1.1, 1)[None],
        "rows of two fields": level * np.where(np.arange(192) % 2, 1.1, 1)[:, None],
        "ramp": np.add.outer(np.arange(192.0), np.arange(256.0)) / 2,
        "noise": rng.integers(0, 255, (192, 256)),
        "enlarged": np.kron(level[:96, :128], np.ones((2, 2))),
        "black": np.zeros((192, 256)),
        "small": mosaic(level, 1.4, 0.6)[:32, :32],
    }
    assert {name: mosaic_swing(frame.astype("u1")) for name, frame in frames.items()} == dict.fromkeys(frames, 0.0)


def test_a_mosaic_is_refused_with_value_reason_and_cure(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "raw.png", mosaic(grey(rng), 1.4, 0.6))
    with pytest.raises(SourceError, match=r"raw\.png.*swing by \d+ %.*different colours.*four colour planes"):
        open_raster(path)
    assert open_raster(write(tmp_path / "grey.png", grey(rng).astype("u1"))).variables
    ground = {"driver": "GTiff", "crs": "EPSG:32633", "transform": Affine(10, 0, 0, 0, -10, 0)}
    assert open_raster(write(tmp_path / "map.tif", mosaic(grey(rng), 1.4, 0.6), **ground)).variables


def test_a_colour_plane_of_a_mosaic_opens(tmp_path: Path, rng: np.random.Generator) -> None:
    planes = mosaic(grey(rng), 1.4, 0.6)
    for row, column in np.ndindex(2, 2):
        assert open_raster(write(tmp_path / f"{row}{column}.png", planes[row::2, column::2])).variables


def test_no_real_frame_is_taken_for_a_mosaic(data_dir: Path) -> None:
    from PIL import Image

    paths = sorted((data_dir / "train/mars-msl-surface/dataset/train/Surface").iterdir())[::20]
    paths += sorted((data_dir / "train/mars-hirise-mapproj/map-proj").glob("*.jpg"))[::400]
    assert len(paths) > 40
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        assert mosaic_swing(image[..., 1]) == 0, path

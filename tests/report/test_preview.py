"""The small picture: both halves, gaps in colour before and gone after, whatever the size."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from affine import Affine

from geodiff.errors import TargetError
from geodiff.job import FillJob
from geodiff.pipeline import run
from geodiff.report.preview import preview
from tests.rasters import write

GAP = (214, 39, 131)


def product(folder: Path, size: int, bands: int) -> str:
    y, x = np.mgrid[:size, :size]
    values = np.stack([1000 + 50 * band + x + y for band in range(bands)]).astype("uint16")
    values[:, size // 4 : size // 2, size // 4 : size // 2] = 0
    write(folder / "a.tif", values, crs="EPSG:32633", transform=Affine(30, 0, 0, 0, -30, 0))
    run(FillJob.build(source=f"{folder}/a.tif", target=f"{folder}/out.tif", filler="nearest"), quiet=True)
    return f"{folder}/out.tif"


@pytest.mark.parametrize(("size", "bands", "across"), [(64, 1, 64), (300, 3, 100), (641, 1, 92)])
def test_gaps_are_in_colour_before_and_gone_after(tmp_path: Path, size: int, bands: int, across: int) -> None:
    picture = preview(product(tmp_path, size, bands), width=100)
    pixels = (matplotlib.image.imread(io.BytesIO(picture), format="png")[..., :3] * 255).round().astype(int)
    assert pixels.shape == (across, 2 * across + 4, 3)
    coloured = (pixels == GAP).all(axis=-1)
    assert coloured[:, :across].mean() == pytest.approx(1 / 16, abs=0.01)
    assert not coloured[:, across:].any()
    assert preview(f"{tmp_path}/out.tif", width=100) == picture


def test_what_is_no_product_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        preview(f"{tmp_path}/nothing.tif")

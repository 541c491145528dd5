"""A product that is filled again: what the first run estimated is known to the second, though nobody saw it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import Affine

import geodiff

FIRST, SECOND = np.s_[10:20, 12:25], np.s_[40:50, 30:45]


def _values() -> np.ndarray:
    y, x = np.mgrid[:64, :72]
    values = (1000 + 200 * np.sin(y / 9) + 150 * np.cos(x / 11)).astype("i2")
    values[FIRST] = values[SECOND] = -9999
    return values


def _tif(path: Path, values: np.ndarray, **more: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    facts = {"crs": "EPSG:32618", "transform": Affine(30, 0, 3e5, 0, -30, 4.5e6), **more}
    with rasterio.open(path, "w", "GTiff", *values.shape[::-1], 1, dtype=values.dtype, **facts) as out:
        out.write(values, 1)
    return path


@pytest.fixture
def area(tmp_path: Path) -> Path:
    """Where the first run may fill: not the second gap."""
    allowed = np.ones((64, 72), "u1")
    allowed[30:] = 0
    return _tif(tmp_path / "area.tif", allowed)


def _source(tmp_path: Path, kind: str) -> Path:
    values = _values()
    if kind == ".tif":
        return _tif(tmp_path / "scene.tif", values, nodata=-9999)
    if kind == "/":
        clear = values.copy()
        clear[FIRST] = clear[SECOND] = 1000  # or no date would ever have seen them
        for day, each in enumerate((clear, values, clear), 1):
            _tif(tmp_path / "scenes" / f"2024-01-0{day}.tif", each, nodata=-9999)
        return tmp_path / "scenes"
    grid = {"y": 4.5e6 - 15 - 30 * np.arange(64), "x": 3e5 + 15 + 30 * np.arange(72)}
    axes = {name: (name, at, {"standard_name": f"projection_{name}_coordinate"}) for name, at in grid.items()}
    about = {"_FillValue": np.int16(-9999), "grid_mapping": "crs"}
    mapping = ((), 0, {"crs_wkt": rasterio.CRS.from_epsg(32618).to_wkt()})
    dataset = xr.Dataset({"v": (("y", "x"), values, about), "crs": mapping}, axes)
    path = tmp_path / f"scene{kind}"
    dataset.to_netcdf(path) if kind == ".nc" else dataset.to_zarr(path, consolidated=False)
    return path


def _layer(product: Path, kind: str, name: str) -> np.ndarray:
    if kind in (".nc", ".zarr"):
        with xr.open_dataset(product, engine="zarr" if kind == ".zarr" else None, mask_and_scale=False) as dataset:
            return dataset[f"v_{name}"].values
    stem = product / "2024-01-02" if kind == "/" else product.with_suffix("")
    with rasterio.open(f"{stem}_{name}.tif") as raster:
        return raster.read(1)


@pytest.mark.parametrize("kind", [".tif", "/", ".nc", ".zarr"])
def test_what_was_filled_before_goes_on_to_say_so(
    tmp_path: Path, area: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    once, twice = tmp_path / f"once{kind}", tmp_path / f"twice{kind}"
    targets = [f"{once}/" if kind == "/" else str(once), f"{twice}/" if kind == "/" else str(twice)]
    ways = {"filler": "laplace", "members": 0}
    geodiff.fill(str(_source(tmp_path, kind)), targets[0], fillable=str(area), **ways)
    assert "filled before" not in caplog.text
    geodiff.fill(str(once), targets[1], **ways)
    assert "was filled before" in caplog.text
    for name in ("source", "reason", "standard_error"):
        before, after = _layer(once, kind, name), _layer(twice, kind, name)
        assert before[FIRST].all()
        np.testing.assert_array_equal(after[FIRST], before[FIRST])
        assert (after[SECOND] != 0).all()
        elsewhere = np.ones(before.shape, bool)
        elsewhere[FIRST] = elsewhere[SECOND] = False
        assert not after[elsewhere].any()
    assert set(np.unique(_layer(twice, kind, "source")[SECOND])) < set(range(1, 254))


def test_layers_of_another_run_say_nothing(tmp_path: Path, area: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, ways = str(_source(tmp_path, ".tif")), {"filler": "laplace", "members": 0}
    geodiff.fill(source, str(tmp_path / "once.tif"), fillable=str(area), **ways)
    geodiff.fill(source, str(tmp_path / "other.tif"), **ways)
    shutil.copy(tmp_path / "other_source.tif", tmp_path / "once_source.tif")
    geodiff.fill(str(tmp_path / "once.tif"), str(tmp_path / "twice.tif"), **ways)
    assert "count as observed" in caplog.text
    assert not _layer(tmp_path / "twice.tif", ".tif", "source")[FIRST].any()


def test_layers_that_change_make_the_product_anew(tmp_path: Path, area: Path) -> None:
    ways = {"filler": "laplace", "members": 0}
    once, twice = str(tmp_path / "once.tif"), str(tmp_path / "twice.tif")
    geodiff.fill(str(_source(tmp_path, ".tif")), once, fillable=str(area), **ways)
    geodiff.fill(once, twice, **ways)
    assert geodiff.fill(once, twice, **ways).status == "up to date"
    (tmp_path / "once_source.tif").unlink()
    with pytest.raises(geodiff.errors.TargetError, match="another job or from another version"):
        geodiff.fill(once, twice, **ways)

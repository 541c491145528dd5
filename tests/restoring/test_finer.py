"""Finer grids: what was enlarged is the source when it is averaged, and lies where it lay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

import geodiff
from geodiff.lattice import repeated
from geodiff.restoring.product import enlarged_raster
from tests.restoring.frames import SIDE, ignoring_place, read, scene, write


@pytest.mark.parametrize("factor", [2, 4])
def test_what_was_enlarged_is_the_source_when_it_is_averaged(map_: Path, tmp_path: Path, factor: int) -> None:
    geodiff.restore(map_, tmp_path / "out.tif", task="superres", factor=factor, members=2)
    before, after, members = read(map_)[0], read(tmp_path / "out.tif")[0], read(tmp_path / "out_members.tif")
    assert after.shape == (SIDE * factor, SIDE * factor)
    known = before != -9999
    for image in (after, *members):
        means = image.reshape(SIDE, factor, SIDE, factor).mean(axis=(1, 3), dtype=np.float64)
        np.testing.assert_allclose(means[known], before[known], atol=2e-4)
    np.testing.assert_array_equal(after == -9999, repeated(~known, factor))
    with rasterio.open(map_) as source, rasterio.open(tmp_path / "out.tif") as fine:
        assert fine.crs == source.crs
        assert fine.transform == source.transform @ Affine.scale(1 / factor)  # exact: a power of two
        assert fine.bounds == source.bounds
        assert fine.nodata == source.nodata


def test_counts_are_consistent_to_their_rounding(frame: Path, tmp_path: Path) -> None:
    geodiff.restore(frame, tmp_path / "out.png", task="superres,inpaint", nodata=0, members=0)
    before, after = read(frame)[0], read(tmp_path / "out.png")[0].astype(float)
    means = after.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    inside = before > 3  # 0 is nodata, so what comes to 0 is stored as 1
    assert np.abs(means - before)[inside].max() <= 0.5
    assert (after != 0).all()


def test_a_saturated_frame_stays_within_what_its_camera_tells_apart(tmp_path: Path) -> None:
    grainy = 30 * scene() + np.random.default_rng(2).normal(scale=300, size=(SIDE, SIDE))
    counts = np.clip(np.rint(grainy), 0, 4095).astype("int16")  # 12 bits in 16
    assert (counts == 4095).sum() > 100
    path = write(tmp_path / "frame.tif", counts, driver="GTiff")
    for task in ("denoise", "superres"):
        geodiff.restore(path, tmp_path / f"{task}.tif", task=task, members=2)
        for image in (*read(tmp_path / f"{task}.tif"), *read(tmp_path / f"{task}_members.tif")):
            assert image.min() >= 0
            assert image.max() <= 4095
    means = read(tmp_path / "superres.tif")[0].astype(float).reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    assert np.abs(means - counts).max() <= 0.5


def test_control_points_and_polynomials_of_a_frame_count_its_finer_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "frame.tif", scene().astype("uint8"), driver="GTiff")
    numbers = {f"{axis}_{what}_COEFF": " ".join(["1.0"] * 20) for axis in ("LINE", "SAMP") for what in ("NUM", "DEN")}
    places = {f"{axis}_{what}": "7.0" for axis in ("LAT", "LONG", "HEIGHT") for what in ("OFF", "SCALE")}
    image = {"LINE_OFF": "5.0", "LINE_SCALE": "6.0", "SAMP_OFF": "9.5", "SAMP_SCALE": "10.0"}
    with ignoring_place(), rasterio.open(path, "r+") as file:
        file.rpcs = RPC.from_gdal({**numbers, **places, **image})
        file.gcps = ([GroundControlPoint(4, 10.5, 1.0, 2.0), GroundControlPoint(0, 0, 3.0, 4.0)], CRS.from_epsg(4326))
    geodiff.restore(path, tmp_path / "out.tif", task="superres", factor=4, members=0)
    for name in ("out.tif", "out_standard_error.tif"):
        with rasterio.open(tmp_path / name) as fine:
            points, crs = fine.gcps
            assert [(p.row, p.col, p.x, p.y) for p in points] == [(16, 42, 1, 2), (0, 0, 3, 4)]  # corners
            assert crs == CRS.from_epsg(4326)
            assert (fine.rpcs.line_off, fine.rpcs.line_scale) == (21.5, 24)  # a middle, half a pixel in
            assert (fine.rpcs.samp_off, fine.rpcs.samp_scale) == (39.5, 40)
            assert fine.rpcs.lat_off == 7


@pytest.mark.parametrize("kind", [".zarr", ".nc"])
def test_an_enlarged_dataset_keeps_its_ground(map_: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / f"out{kind}"
    geodiff.restore(map_, target, task="superres", members=2)
    opened = xr.open_zarr(target) if kind == ".zarr" else xr.open_dataset(target)
    with opened as product:
        assert product["band_data"].shape == (2 * SIDE, 2 * SIDE)
        assert product["band_data_member"].shape == (2, 2 * SIDE, 2 * SIDE)
        np.testing.assert_allclose(product.x.values[:2], [1000.5 + 60.25 / 4, 1000.5 + 3 * 60.25 / 4])
        numbers = [float(n) for n in product.spatial_ref.attrs["GeoTransform"].split()]
        assert numbers == [1000.5, 30.125, 0, 77.75, 0, -30.125]
        assert product.attrs["geodiff_task"] == "superres"
    again = geodiff.open_scene(target).raster.variables[0]
    assert tuple(again.geobox.shape) == (2 * SIDE, 2 * SIDE)


@given(st.integers(0, 19), st.integers(0, 15), st.integers(1, 20), st.integers(1, 16), st.sampled_from([2, 4]))
def test_any_window_of_a_finer_grid_is_cut_from_the_repeated_whole(
    row: int, column: int, height: int, width: int, factor: int
) -> None:
    from geodiff.arrays import _cube
    from geodiff.io import Raster
    from geodiff.lattice import Window

    planes = np.arange(40.0).reshape(1, 5, 8)
    raster = Raster("memory", "none", (_cube(planes).variable,))
    fine = enlarged_raster(raster, factor).variables[0]
    rows, columns = fine.shape[2:]
    window = Window(min(row, rows - 1), min(column, columns - 1), 1, 1)
    window = Window(window.row, window.column, min(height, rows - window.row), min(width, columns - window.column))
    np.testing.assert_array_equal(fine.reader.read(0, window), repeated(planes, factor)[(..., *window.slices)])
    assert fine.geobox.affine.is_identity  # a frame that lies nowhere goes on lying nowhere

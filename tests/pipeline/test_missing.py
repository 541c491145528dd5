"""What is missing and to be filled: collars, areas, masks, and sources of which nothing or everything is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import Affine

import geodiff
from geodiff.errors import (
    NothingKnownError,
    NothingMissingError,
)
from tests.rasters import UTM, read, surface, write


def test_the_collar_is_left_alone_by_default_and_filled_on_request(tmp_path: Path) -> None:
    values = surface(200, 240).astype("uint16")
    y, x = np.mgrid[:200, :240]
    collar = x + y < 140
    values[collar] = 0
    values[120:126, 150:170] = 0
    values[0:200, 200] = 0  # a lost column that touches the edge is no collar
    source = write(tmp_path / "scene.tif", values)
    record = geodiff.fill(source, tmp_path / "auto.tif", filler="laplace")
    codes = read(tmp_path / "auto_source.tif")[0]
    deep = x + y < 100
    assert (codes[deep] == 254).all()
    assert (read(tmp_path / "auto.tif")[0][deep] == 0).all()
    assert (codes[120:126, 150:170] == 3).all()
    assert (codes[:, 200] == 3).all()
    assert record.variables["band_data"]["left_out"]["collar"] == (codes == 254).sum()
    geodiff.fill(source, tmp_path / "all.tif", filler="laplace", fillable="all")
    assert not (read(tmp_path / "all_source.tif") == 254).any()


@pytest.mark.parametrize(
    ("case", "share"),
    [
        ("turned", 0.7),  # the four wedges around a scene that was turned a little
        ("cut", 0.6),  # the same, of which lines of a mask cut pieces
        ("lost rows", 0.0),  # along one side: what a sensor loses
        ("every other", 0.0),
        ("wide", 0.0),  # a collar, which is left
        ("stations", 0.0),  # along the edge as everywhere
        ("named", 0.0),  # the user's own area: nothing to warn of
    ],
)
def test_a_collar_too_narrow_to_be_left_is_told(tmp_path: Path, case: str, share: float) -> None:
    values = surface(300, 300).astype("uint16")
    y, x = np.mgrid[-150:150, -150:150]
    angle = np.deg2rad(3)
    turned = np.maximum(abs(np.cos(angle) * y + np.sin(angle) * x), abs(np.cos(angle) * x - np.sin(angle) * y)) > 146
    missing = {
        "lost rows": y < -140,
        "every other": y % 2 == 0,
        "wide": (y < -90) | (x < -90),
        "stations": np.random.default_rng(1).random((300, 300)) > 0.02,
    }.get(case, turned)
    values[missing] = 0
    source, given = write(tmp_path / "scene.tif", values), {}
    if case == "cut":
        given["mask"] = (str(write(tmp_path / "lines.tif", ((y + 7) % 25 < 2).astype("uint8"), nodata=None)),)
    if case == "named":
        given["fillable"] = str(write(tmp_path / "area.tif", np.ones((300, 300), "uint8"), nodata=None))
    plan = geodiff.plan_fill(source, tmp_path / "filled.tif", filler="laplace", **given)
    assert plan.facts()["variables"]["band_data"]["narrow_edge"] >= share
    assert ("of the raster's edge" in str(plan)) == bool(share)


def test_a_fillable_area_decides_alone(tmp_path: Path) -> None:
    quality = np.zeros((120, 140), "uint16")
    quality[30:50, 40:70] = 1  # Landsat's own fill, which auto leaves alone
    quality[80:90, 20:30] = 1
    area = np.zeros((120, 140), "uint8")
    area[20:60, 30:60] = 1
    source = write(tmp_path / "scene.tif", surface(120, 140).astype("uint16"))
    flags, inside = write(tmp_path / "flags.tif", quality), write(tmp_path / "area.tif", area)
    given = {"qa": (f"landsat-c2:{flags}",), "fillable": str(inside)}
    record = geodiff.fill(source, tmp_path / "f.tif", filler="laplace", **given)
    codes = read(tmp_path / "f_source.tif")[0]
    assert (codes[30:50, 40:60] == 3).all()
    assert (codes == 254).sum() == record.variables["band_data"]["left_out"]["not in --fillable"] == 20 * 10 + 10 * 10


def test_nothing_missing_is_a_copy_and_can_be_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "scene.tif", surface(70, 80).astype("uint16"))
    record = geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    assert (record.exit_code, record.status) == (0, "nothing to fill")
    assert np.array_equal(read(source), read(tmp_path / "filled.tif"))
    with pytest.raises(NothingMissingError):
        geodiff.fill(source, tmp_path / "other.tif", filler="laplace", fail_if_empty=True)
    assert not list(tmp_path.glob("other*"))


def test_nothing_known_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "scene.tif", np.zeros((70, 80), "uint16"))
    with pytest.raises(NothingKnownError, match="none of the 5,600 values"):
        geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    assert not list(tmp_path.glob("filled*"))


def test_a_band_that_is_known_nowhere_stays_unfilled(tmp_path: Path) -> None:
    values = np.stack([surface(60, 70), np.zeros((60, 70))]).astype("uint16")
    values[0, 20:30, 20:30] = 0
    source = write(tmp_path / "scene.tif", values)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    codes = read(tmp_path / "filled_source.tif")
    assert (codes[0, 20:30, 20:30] == 3).all()
    assert (codes[1] == 255).all()
    assert (read(tmp_path / "filled.tif")[1] == 0).all()


def test_vector_masks_in_another_crs(tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import box

    values = surface(120, 150).astype("uint16")
    scene = write(tmp_path / "scene.tif", values)
    left, top = UTM @ (40, 30)
    right, bottom = UTM @ (70, 60)
    shape = geopandas.GeoSeries([box(left, bottom, right, top)], crs="EPSG:32618").to_crs("EPSG:4326")
    shape.to_file(tmp_path / "cloud.gpkg")
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", mask=str(tmp_path / "cloud.gpkg"))
    filled = read(tmp_path / "filled_source.tif")[0] != 0
    assert filled[31:59, 41:69].all()
    assert filled.sum() <= 32 * 32


def test_what_is_said_of_a_source_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "dates"
    folder.mkdir()
    for day, name in enumerate(("2024-01-01a", "2024-01-01b", "2024-01-09")):
        values = surface(60, 70).astype("uint16")
        values[10 + 10 * day : 20 + 10 * day, 20:40] = 0
        write(folder / f"{name}.tif", values, transform=UTM @ Affine.translation(day / 4, 0))
    with caplog.at_level("INFO"):
        geodiff.fill(str(folder), str(tmp_path / "filled.zarr"), filler="laplace", members=0)
    said = [record.getMessage() for record in caplog.records]
    assert sum("are both of" in line for line in said) == 1
    assert sum("moved to the nearest" in line for line in said) == 1


@pytest.mark.parametrize(("filler", "told"), [("harmonic", True), ("laplace", False)])
def test_of_one_date_a_temporal_filler_is_said_to_fill_in_space(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, filler: str, told: bool
) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler=filler)
    assert ("filled in space alone" in caplog.text) is told
    assert set(np.unique(read(tmp_path / "filled_source.tif"))) == {0, 3}

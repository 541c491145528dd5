"""Stacks: dates from metadata or names, one grid, one order."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geodiff.errors import GridError, SourceError
from geodiff.io import Product, ProductVariable, open_raster, write_product
from geodiff.io.stack import _named
from geodiff.lattice import Window


def write(path: Path, value: int, shift: float = 0.0, **tags: str) -> Path:
    place = Affine(10, 0, 100 + shift, 0, -10, 900)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=6,
        width=7,
        count=2,
        dtype="int16",
        nodata=-1,
        crs="EPSG:32633",
        transform=place,
    ) as file:
        file.write(np.full((2, 6, 7), value, "i2"))
        file.update_tags(**tags)
    return path


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("ndvi_20210131.tif", "2021-01-31"),
        ("2021-01-31_v2.tif", "2021-01-31"),
        ("S2_20210131T101530_x.tif", "2021-01-31T10:15:30"),
        ("MOD13Q1.A2021031.h18v04.tif", "2021-01-31"),
        ("HLS.L30.T33TVK.2020366T101530.tif", "2020-12-31"),
        ("annual_1985.tif", "1985-01-01"),
        ("m_4709963_se_14_1_20090818.tif", "2009-08-18"),
        ("scene_7.tif", None),
        ("tile_123456789.tif", None),
        ("20210231.tif", None),
    ],
)
def test_dates_in_names(name: str, date: str | None) -> None:
    found = _named(name)
    assert found == (None if date is None else np.datetime64(date, "ns"))


def test_metadata_go_before_names(tmp_path: Path) -> None:
    write(tmp_path / "a_2021-01-01.tif", 1, time="2021-06-01T12:00:00Z")
    write(tmp_path / "b_2021-02-01.tif", 2)
    assert [str(d)[:13] for d in open_raster(str(tmp_path)).variables[0].dates] == ["2021-02-01T00", "2021-06-01T12"]


def test_members_must_share_a_grid_and_have_a_date_each(tmp_path: Path) -> None:
    write(tmp_path / "a_2021-01-01.tif", 1)
    odd = write(tmp_path / "b_2021-02-01.tif", 2, shift=3)
    with pytest.raises(GridError, match="affine"):
        open_raster(str(tmp_path))
    odd.rename(tmp_path / "b_2021-01-01.tif")
    with pytest.raises(SourceError, match="both of 2021-01-01"):
        open_raster(str(tmp_path))
    (tmp_path / "b_2021-01-01.tif").rename(tmp_path / "undated.tif")
    with pytest.raises(SourceError, match="undated"):
        open_raster(str(tmp_path))


def test_a_stack_written_to_a_folder_opens_as_the_same_stack(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for month in (1, 2, 3):
        write(source / f"ndvi_2021-0{month}-01.tif", month)
    raster = open_raster(str(source))
    (variable,) = raster.variables
    value = np.stack([variable.reader.read(n, Window(0, 0, 6, 7)) for n in range(3)])
    zeros = np.zeros(variable.shape)
    filled = ProductVariable(variable, value, zeros.astype("u1"), zeros.astype("u2"), zeros.astype("f4"))
    written = write_product(
        Product(raster, (filled,), {"geodiff_fingerprint": "9"}, {"observed": 0}, {"nodata": 1}), f"{tmp_path}/out/"
    )
    assert {p.name for p in (tmp_path / "out").glob("*-01.tif")} == {p.name for p in source.iterdir()}
    assert len(written) == 3 * 4 + 1
    again = open_raster(f"{tmp_path}/out/")
    assert again.variables[0].dates == variable.dates
    assert again.variables[0].geobox == variable.geobox
    np.testing.assert_array_equal(again.variables[0].reader.read(2, Window(0, 0, 6, 7)), value[2])

"""GRIB in: a variable a quantity and level, a date a field, nothing mixed."""

from pathlib import Path

import numpy as np

from geodiff.io import Product, open_raster, write_product
from geodiff.lattice import Window

FOLDER = "robustness/gdal-autotest/autotest/gdrivers/data/grib"


def test_fields_of_one_quantity_are_dates_of_one_variable(data_dir: Path, tmp_path: Path) -> None:
    raster = open_raster(str(data_dir / FOLDER / "ds.mint.bin"))
    (variable,) = raster.variables
    assert (variable.name, variable.attributes["units"]) == ("MinT_0_SFC", "C")
    assert [str(date)[:16] for date in variable.dates] == ["2008-02-22T12:00", "2008-02-23T12:00"]
    first, second = (variable.reader.read(n, Window(0, 0, *variable.shape[2:])) for n in (0, 1))
    assert (first != second).any()
    written = write_product(Product(raster, (), {"geodiff_fingerprint": "1"}, {}, {}), f"{tmp_path}/out/")
    assert [Path(path).name for path in written] == [
        "ds.mint_20080222T120000.tif", "ds.mint_20080223T120000.tif", "geodiff-product.json",
    ]  # fmt: skip
    again = open_raster(f"{tmp_path}/out/").variables[0]
    assert again.dates == variable.dates
    np.testing.assert_array_equal(again.reader.read(1, Window(0, 0, *variable.shape[2:])), second)


def test_two_quantities_are_two_variables(data_dir: Path) -> None:
    raster = open_raster(str(data_dir / FOLDER / "subgrids.grib2"))
    assert [v.name.split("_")[0] for v in raster.variables] == ["UGRD", "VGRD"]
    assert all(v.dates[0] == np.datetime64("2020-09-26") for v in raster.variables)

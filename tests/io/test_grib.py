"""GRIB in: a variable a quantity and level, a date a field, nothing mixed."""

from pathlib import Path

import numpy as np
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

from geodiff.io import Product, open_raster, write_product
from geodiff.lattice import Window

FOLDER = "robustness/gdal-autotest/autotest/gdrivers/data/grib"


def test_fields_of_one_quantity_are_dates_of_one_variable(data_dir: Path, tmp_path: Path) -> None:
    raster = open_raster(str(data_dir / FOLDER / "ds.mint.bin"))
    (variable,) = raster.variables
    assert (variable.name, variable.attributes["units"]) == ("MinT_0_SFC", "degC")
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


def _members(path: Path, fields: list[tuple[int, int]]) -> None:
    """A GRIB2 file of temperatures: (member, hour) of each field, which is also 10 x member + hour everywhere."""
    with MemoryFile() as memory:
        form = {"driver": "GTiff", "width": 9, "height": 8, "dtype": "float64", "transform": Affine(1, 0, 0, 0, -1, 8)}
        with memory.open(count=len(fields), crs="EPSG:4326", **form) as dataset:
            for number, (member, hour) in enumerate(fields, 1):
                dataset.write(np.full((8, 9), 10.0 * member + hour), number)
                surface = [103, 0, 0, 0, 0, 2, 255, 0, 0, 0, 0, 0]
                numbers = [0, 0, 2, 255, 96, 0, 0, 0, 1, 0, 0, 0, hour, *surface, 3, member, 9]
                dataset.update_tags(
                    number,
                    GRIB_DISCIPLINE="0",
                    GRIB_IDS="CENTER=98 SIGNF_REF_TIME=1 REF_TIME=2024-06-01T00:00:00Z PROD_STATUS=0 TYPE=1",
                    GRIB_PDS_PDTN="1",
                    GRIB_PDS_TEMPLATE_NUMBERS=" ".join(map(str, numbers)),
                )
        with memory.open() as source:
            rasterio.shutil.copy(source, str(path), driver="GRIB")


def test_members_of_an_ensemble_are_variables_over_all_times(tmp_path: Path) -> None:
    for name, fields in (
        ("by-member", [(member, hour) for member in range(3) for hour in range(2)]),
        ("by-hour", [(member, hour) for hour in (1, 0) for member in range(3)]),
    ):
        _members(tmp_path / f"{name}.grib2", fields)
        variables = open_raster(str(tmp_path / f"{name}.grib2")).variables
        assert [v.name for v in variables] == ["TMP_2_HTGL_1", "TMP_2_HTGL_2", "TMP_2_HTGL_3"]
        for member, variable in enumerate(variables):
            assert [str(date)[11:13] for date in variable.dates] == ["00", "01"]
            values = [variable.reader.read(hour, Window(0, 0, 8, 9)).mean() for hour in range(2)]
            assert values[1] - values[0] == 1
            assert round(values[0] - variables[0].reader.read(0, Window(0, 0, 8, 9)).mean()) == 10 * member
    _members(tmp_path / "uneven.grib2", [(0, 0), (1, 0), (0, 1)])
    uneven = open_raster(str(tmp_path / "uneven.grib2")).variables
    assert [len(variable.dates) for variable in uneven] == [1, 1, 1]

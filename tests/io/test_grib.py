"""GRIB in: a variable a quantity and level, a date a field, nothing mixed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio.shutil
from affine import Affine
from rasterio.io import MemoryFile

from geodiff.errors import SourceError
from geodiff.io import Product, open_raster, write_product
from geodiff.io.grib import _valid_time
from geodiff.io.header import header_of
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


@pytest.mark.parametrize(
    ("valid", "begun", "date"),
    [("1253491200", "1253480400", "2009-09-21"), ("0", "1253491200", "2009-09-21"), ("0", "0", "1970-01-01")],
)
def test_images_that_are_valid_for_no_time_have_that_of_their_observation(valid: str, begun: str, date: str) -> None:
    """GDAL knows no valid time in templates of satellites, and says 0."""
    tags = {"": {"GRIB_VALID_TIME": valid, "GRIB_REF_TIME": begun}}
    assert str(_valid_time(SimpleNamespace(band_tags=[tags]), 0))[:10] == date


def test_thinned_grids_are_refused_with_the_cure() -> None:
    """To GDAL they have -1 columns."""
    with pytest.raises(SourceError, match=r"rows have different lengths.*regular"):
        header_of("wafs.grib2", SimpleNamespace(shape=(73, -1), height=73, width=-1))

"""SMAP's daily grids: their latitudes are missing where the satellite did not look, and yet the ground is there."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from pyproj import Transformer

import geodiff
from geodiff.io.netcdf import open_netcdf

SHAPE = (406, 964)


def _smap(path, shape=SHAPE, first=0):
    """One morning: orbits with gaps between them, and the index of each cell that was seen."""
    row, column = np.indices(shape)
    between = (column + row // 4) % 64 < 8
    with h5py.File(path, "w") as file:
        group = file.create_group("Soil_Moisture_Retrieval_Data_AM")
        for name, values, fill in (
            ("soil_moisture", np.float32(0.2 + 0.1 * np.sin(column / 9)), np.float32(-9999)),
            ("latitude", np.float32(83.6 - 0.4 * row), np.float32(-9999)),
            ("longitude", np.float32(-179.8 + 0.37 * column), np.float32(-9999)),
            ("EASE_row_index", (row + first).astype("u2"), np.uint16(65534)),
            ("EASE_column_index", column.astype("u2"), np.uint16(65534)),
        ):
            group[name] = np.where(between, fill, values)
            group[name].attrs["_FillValue"] = fill
    return between


def test_between_the_orbits_of_a_daily_grid_the_ground_goes_on(tmp_path):
    """Without a latitude there it was taken for a swath's outside: nothing was filled, and it lay nowhere."""
    between = _smap(tmp_path / "SMAP_L3_SM_P_20230701_R19240_001.h5")
    raster = open_netcdf(str(tmp_path / "SMAP_L3_SM_P_20230701_R19240_001.h5"))
    variable = next(v for v in raster.variables if v.name == "soil_moisture")
    assert variable.geobox.crs.epsg == 6933
    to_degrees = Transformer.from_crs(6933, 4326, always_xy=True)
    corner = to_degrees.transform(*(variable.geobox.affine @ (0.5, 0.5)))
    assert corner == pytest.approx((-179.8133, 83.6320), abs=1e-4)
    assert variable.geobox.affine @ (964, 406) == pytest.approx((17_367_530.445, -7_314_540.831), abs=1e-2)
    assert not raster.quality
    plan = geodiff.plan_fill(tmp_path / raster.files[0], variable="soil_moisture", filler="laplace", members=0)
    assert plan.wanted == between.sum()


@pytest.mark.parametrize(("shape", "first"), [((40, 60), 0), (SHAPE, 3)])
def test_a_part_of_a_grid_stays_where_its_latitudes_are(tmp_path, shape, first):
    _smap(tmp_path / "a.h5", shape, first)
    variable = next(v for v in open_netcdf(str(tmp_path / "a.h5")).variables if v.name == "soil_moisture")
    assert not variable.georeferenced

"""HDF-EOS5: axes and grids that only the file's structure metadata know."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from pyproj import Transformer

import geodiff
from geodiff.io.netcdf import open_netcdf
from geodiff.lattice import Window

GRID = """GROUP=SwathStructure
END_GROUP=SwathStructure
GROUP=GridStructure
	GROUP=GRID_1
		GridName="VIIRS_Grid"
		XDim={columns}
		YDim={rows}
		UpperLeftPointMtrs=({left:f},{top:f})
		LowerRightMtrs=({right:f},{bottom:f})
		Projection={projection}
		ProjParams=({parameters})
		GROUP=DataField
			OBJECT=DataField_1
				DataFieldName="500 m NDVI"
				DimList=("YDim","XDim")
			END_OBJECT=DataField_1
		END_GROUP=DataField
	END_GROUP=GRID_1
END_GROUP=GridStructure
END
"""
SPHERE = "6371007.181000,0,0,0,0,0,0,0,0,0,0,0,0"


def _grid(path, rows=40, columns=40, **about):
    values = np.arange(rows * columns, dtype="i2").reshape(rows, columns)
    values[10:14, 20:30] = -15000
    with h5py.File(path, "w") as file:
        field = file.create_dataset("HDFEOS/GRIDS/VIIRS_Grid/Data Fields/500 m NDVI", data=values)
        field.attrs["_FillValue"] = np.array([-15000], "i2")
        text = GRID.format(rows=rows, columns=columns, **about)
        file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(text)
    return values


def test_a_sinusoidal_tile_lies_where_its_metadata_say(tmp_path):
    """It lay nowhere, in the product neither, whose one group knew nothing of the metadata."""
    corners = {"left": 0, "top": 5559752.598333, "right": 40 * 463.312717, "bottom": 5559752.598333 - 40 * 463.312717}
    values = _grid(tmp_path / "a.h5", projection="HE5_GCTP_SNSOID", parameters=SPHERE, **corners)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    assert variable.geobox.affine.almost_equals(Affine(463.312717, 0, 0, 0, -463.312717, 5559752.598333), 1e-3)
    to_degrees = Transformer.from_crs(variable.geobox.crs.proj, variable.geobox.crs.proj.geodetic_crs, always_xy=True)
    assert to_degrees.transform(0, 5559752.598333) == pytest.approx((0, 50), abs=1e-6)  # tile h18v04
    np.testing.assert_array_equal(variable.reader.read(0, Window(0, 0, 40, 40))[0], values)
    geodiff.fill(tmp_path / "a.h5", tmp_path / "out.nc", filler="laplace", members=0)
    (filled, *_) = open_netcdf(str(tmp_path / "out.nc")).variables
    assert (filled.name, filled.geobox) == ("500 m NDVI", variable.geobox)


@pytest.mark.parametrize("packed", [True, False])
def test_a_grid_in_degrees_has_packed_corners_or_plain_ones(tmp_path, packed):
    corners = {"left": -10.5, "top": 50.25, "right": 9.5, "bottom": 40.25}
    if packed:
        corners = {"left": -10030000.0, "top": 50015000.0, "right": 9030000.0, "bottom": 40015000.0}
    _grid(tmp_path / "a.h5", 20, 40, projection="HE5_GCTP_GEO", parameters="0,0,0,0,0,0,0,0,0,0,0,0,0", **corners)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    assert variable.geobox.crs == "EPSG:4326"
    assert variable.geobox.affine.almost_equals(Affine(0.5, 0, -10.5, 0, -0.5, 50.25))


def test_lamberts_azimuthal_is_that_of_the_sphere(tmp_path):
    parameters = "6371228.0,0,0,0,0,90000000.000000,0,0,0,0,0,0,0"
    corners = {"left": -500e3, "top": 500e3, "right": 500e3, "bottom": -500e3}
    _grid(tmp_path / "a.h5", projection="HE5_GCTP_LAMAZ", parameters=parameters, **corners)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    to_degrees = Transformer.from_crs(variable.geobox.crs.proj, variable.geobox.crs.proj.geodetic_crs, always_xy=True)
    assert to_degrees.transform(0, 0)[1] == pytest.approx(90)


@pytest.mark.parametrize("projection", ["HE5_GCTP_SOM", "HE5_GCTP_SNSOID"])
def test_what_is_not_known_lies_nowhere(tmp_path, projection):
    corners = {"left": 0, "top": 10, "right": 10, "bottom": 0}
    _grid(tmp_path / "a.h5", projection=projection, parameters="0,0,0", **corners)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    assert not variable.georeferenced


SWATH = """GROUP=SwathStructure
	GROUP=SWATH_1
		SwathName="Cube"
		GROUP=GeoField
			OBJECT=GeoField_1
				GeoFieldName="Latitude"
				DimList=("nTimes","nXtrack")
			END_OBJECT=GeoField_1
			OBJECT=GeoField_2
				GeoFieldName="Longitude"
				DimList=("nTimes","nXtrack")
			END_OBJECT=GeoField_2
		END_GROUP=GeoField
		GROUP=DataField
			OBJECT=DataField_1
				DataFieldName="Radiance"
				DimList=("nTimes","nBands","nXtrack")
			END_OBJECT=DataField_1
		END_GROUP=DataField
	END_GROUP=SWATH_1
END_GROUP=SwathStructure
END
"""


def test_a_swath_has_its_axes_from_the_metadata_and_its_places_from_the_fields_beside(tmp_path):
    """Bands interleaved by line had passed for rows."""
    values = np.arange(6 * 3 * 5, dtype="f4").reshape(6, 3, 5)
    with h5py.File(tmp_path / "a.he5", "w") as file:
        file["HDFEOS/SWATHS/Cube/Data Fields/Radiance"] = values
        for name, axis in (("Latitude", 0), ("Longitude", 1)):
            file[f"HDFEOS/SWATHS/Cube/Geolocation Fields/{name}"] = np.indices((6, 5), "f4")[axis]
        file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(SWATH)
    (variable,) = open_netcdf(str(tmp_path / "a.he5")).variables
    assert variable.shape == (1, 3, 6, 5)
    np.testing.assert_array_equal(variable.reader.read(0, Window(0, 0, 6, 5)), values.transpose(1, 0, 2))
    dataset = variable.reader.source.dataset()
    assert isinstance(dataset, xr.Dataset)
    assert dataset["Latitude"].dims == dataset["Longitude"].dims == ("nTimes", "nXtrack")

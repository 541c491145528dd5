"""Weather radar as ODIM_H5 has it: numbers, moment and place, which stand in groups beside the array."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from pyproj import CRS, Transformer

import geodiff
from geodiff.errors import SourceError
from geodiff.io.cf import open_dataset_as_raster
from geodiff.io.netcdf import open_netcdf

LAEA = "+proj=laea +lat_0=55.0 +lon_0=10.0 +x_0=1950000.0 +y_0=-2100000.0 +units=m +ellps=WGS84"
LEFT, TOP, PIXEL = 1.8e6, -2.0e6, 2000.0


def _composite(path, dtype="u1", shift=0.0, **what):
    said = {"quantity": "DBZH", "gain": 0.5, "offset": -32.0, "nodata": 255.0, "undetect": 0.0, **what}
    values = np.clip(np.add.outer(np.arange(40), np.arange(50)), 0, 254).astype(dtype)
    values[10:14, 20:30] = said["nodata"]
    crs = CRS(LAEA)
    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        top = file.create_group("what").attrs
        top["object"], top["date"], top["time"] = (np.bytes_(word) for word in ("COMP", "20240601", "121500"))
        where = file.create_group("where").attrs
        where["projdef"], where["xscale"], where["yscale"] = np.bytes_(LAEA), PIXEL, PIXEL
        for corner, x, y in (("UL", LEFT, TOP), ("LR", LEFT + 50 * PIXEL + shift, TOP - 40 * PIXEL)):
            where[f"{corner}_lon"], where[f"{corner}_lat"] = to_degrees.transform(x, y)
        about = file.create_group("dataset1/data1/what").attrs
        for key, value in said.items():
            about[key] = np.bytes_(value) if isinstance(value, str) else value
        file["dataset1/data1/data"] = values
    return values


def test_gain_nodata_moment_and_grid_are_read_and_written(tmp_path):
    """No radar had been within 32 dB of what it saw, and nodata was an echo of 95 dBZ."""
    values = _composite(tmp_path / "a.h5")
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    encoding = variable.bands[0].encoding
    assert (encoding.nodata, encoding.scale, encoding.offset) == (255, 0.5, -32.0)
    assert (variable.bands[0].units, variable.attributes["long_name"]) == ("dBZ", "DBZH")
    assert variable.dates == (np.datetime64("2024-06-01T12:15:00"),)
    assert variable.geobox.affine.almost_equals(Affine(PIXEL, 0, LEFT, 0, -PIXEL, TOP), precision=1e-3)
    assert "Lambert Azimuthal" in variable.geobox.crs.to_wkt()
    geodiff.fill(tmp_path / "a.h5", tmp_path / "out.nc", filler="laplace", members=0)
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf", mask_and_scale=False) as out:
        np.testing.assert_array_equal(out["data"].values[values != 255], values[values != 255])
        assert (out["data"].attrs["scale_factor"], out["data"].attrs["units"]) == (0.5, "dBZ")
    (filled, *_) = open_netcdf(str(tmp_path / "out.nc")).variables
    assert (filled.geobox, filled.dates) == (variable.geobox, variable.dates)


def test_no_echo_as_a_number_of_its_own_is_refused_with_the_cure(tmp_path):
    """OPERA's composites have -8888000 there; around it nothing else counts."""
    _composite(tmp_path / "a.h5", "f8", gain=1.0, offset=0.0, nodata=-9999000.0, undetect=-8888000.0)
    with pytest.raises(SourceError, match=r"-8\.888e\+06 where no echo is.*write the least value"):
        open_netcdf(str(tmp_path / "a.h5"))


def test_where_no_echo_is_there_is_no_speed(tmp_path):
    _composite(tmp_path / "a.h5", quantity="VRADH", gain=0.4, offset=-48.0)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    assert variable.bands[0].encoding.extra_nodata == (0,)


def test_corners_that_contradict_the_pixels_are_told(tmp_path, caplog):
    _composite(tmp_path / "a.h5", shift=9000.0)
    (variable,) = open_netcdf(str(tmp_path / "a.h5")).variables
    assert variable.geobox.crs is None
    assert "corners of the composite" in caplog.text


def _scan(path, rays=72, bins=40):
    """A front across north, the rays around north lost, and nothing else."""
    azimuth = np.radians((np.arange(rays) + 0.5) * 360 / rays)
    values = np.rint(100 + 60 * np.sin(azimuth)[:, None] + np.arange(bins)).astype("u1")
    lost = values.copy()
    lost[[*range(4), *range(rays - 4, rays)], 5:] = 255
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_3")
        top = file.create_group("what").attrs
        top["object"], top["date"], top["time"] = (np.bytes_(word) for word in ("SCAN", "20240601", "121500"))
        where = file.create_group("dataset1/where").attrs
        where["rstart"], where["rscale"], where["nrays"], where["nbins"] = 0.0, 500.0, rays, bins
        about = file.create_group("dataset1/data1/what").attrs
        about["quantity"], about["gain"], about["offset"] = np.bytes_("DBZH"), 0.5, -32.0
        about["nodata"], about["undetect"] = 255.0, 0.0
        file["dataset1/data1/data"] = lost
    return values, lost


def test_the_last_ray_of_a_scan_is_next_to_the_first(tmp_path):
    """A sector across north was filled from either side for itself, and met at north in a step."""
    truth, lost = _scan(tmp_path / "scan.h5")
    (variable,) = open_netcdf(str(tmp_path / "scan.h5")).variables
    assert (variable.around, variable.shape[2:], variable.georeferenced) == (True, (40, 72), False)
    geodiff.fill(tmp_path / "scan.h5", tmp_path / "out.nc", filler="laplace", members=0)
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf", mask_and_scale=False) as out:
        assert out["data"].dims == ("azimuth", "range")
        np.testing.assert_array_equal(out["azimuth"], 2.5 + 5 * np.arange(72))
        np.testing.assert_array_equal(out["range"], 250 + 500 * np.arange(40))
        np.testing.assert_array_equal(out["data"].values[lost != 255], truth[lost != 255])
        assert np.abs(out["data"].values.astype(int) - truth).max() < 12


@pytest.mark.parametrize(
    ("azimuth", "around"),
    [
        (np.roll(np.arange(36) * 10 + 0.4, 7), True),  # begins somewhere, as it turned
        (np.arange(36)[::-1] * 10.0, True),
        (np.arange(36) * 5.0, False),  # a sector
        (np.full(36, 90.0), False),  # up and down
    ],
)
def test_rays_go_around_where_they_leave_no_sector_out(azimuth, around):
    dims = {"azimuth": ("azimuth", azimuth, {"standard_name": "ray_azimuth_angle"})}
    dims["range"] = ("range", np.arange(20) * 250.0, {"standard_name": "projection_range_coordinate"})
    sweep = xr.Dataset({"DBZH": (("azimuth", "range"), np.zeros((36, 20), "f4"))}, coords=dims)
    (variable,) = open_dataset_as_raster(sweep).variables
    assert (variable.around, variable.shape[2:], variable.georeferenced) == (around, (20, 36), False)

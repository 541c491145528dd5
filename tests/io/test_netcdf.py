"""What is special to NetCDF and HDF5 files; what they share with Zarr is in test_datasets.py."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geodiff
from geodiff.encoding import Encoding
from geodiff.errors import JobError, SourceError, TargetError
from geodiff.inspection import describe
from geodiff.io import Band, Kind, Product, ProductVariable, Raster, Variable
from geodiff.io.netcdf import netcdf_fingerprint, open_netcdf, write_netcdf
from geodiff.io.zarr import open_zarr
from geodiff.lattice import Window


class _Numbers:
    """Numbers made when they are asked for, with a record of how many at once."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.ndim, self.asked = shape, np.dtype(dtype), len(shape), []

    def read(self, date, window):
        block = np.arange(np.prod((self.shape[1], *window.shape))) % 100
        return block.reshape(self.shape[1], *window.shape).astype(self.dtype)

    def valid(self, date, window):
        return None

    def __getitem__(self, key):
        _, date, _, rows, columns = key
        self.asked.append(
            (self.shape[1] * (rows.stop - rows.start) * (columns.stop - columns.start), rows.start, columns.start)
        )
        return self.read(date, Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start))


def _product(shape=(2, 1, 6, 8), dtype="f4", kind=Kind.CONTINUOUS, attributes=None, dates=None):
    grid = GeoBox(shape[2:], Affine(0.5, 0, 10, 0, -0.5, 50), "EPSG:4326")
    bands = tuple(Band(f"B{i}", Encoding(dtype), kind, "K") for i in range(shape[1]))
    marks = dates or tuple(np.array([f"2020-01-0{i + 1}" for i in range(shape[0])], "M8[us]"))
    about = {"standard_name": "sea_surface_temperature"}
    variable = Variable("sst", bands, grid, _Numbers(shape, dtype), marks, attributes=about)
    layers = [_Numbers(shape, d) for d in (dtype, "u1", "u2", "f4")]
    filled = () if kind is not Kind.CONTINUOUS else (ProductVariable(variable, *layers),)
    facts = {"geodiff_fingerprint": "abc", "title": "SST", **(attributes or {})}
    return Product(
        Raster("x.nc", "netCDF", (variable,)), filled, facts, {"observed": 0, "laplace": 3}, {"nodata": 1, "cloud": 2}
    )


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4"])
def test_every_generation_opens(tmp_path, form):
    values = np.random.default_rng(0).integers(-9, 9, (2, 4, 5)).astype("i2")
    cube = xr.Dataset(
        {"v": (("time", "y", "x"), values, {"scale_factor": 0.1, "missing_value": np.int16(-9)})},
        {"x": ("x", np.arange(5.0) * 10, {"units": "m"}), "y": ("y", np.arange(4.0) * -10, {"units": "m"})},
    )
    cube.to_netcdf(tmp_path / "a.nc", format=form, engine="scipy" if "3" in form else "h5netcdf")
    raster = open_netcdf(str(tmp_path / "a.nc"))
    (variable,) = raster.variables
    assert raster.driver == "netCDF"
    assert (variable.dtype, variable.bands[0].encoding.nodata) == (np.dtype("i2"), -9)
    block = variable.reader.read(1, Window(1, 2, 3, 3))
    np.testing.assert_array_equal(block[0], values[1, 1:, 2:])
    block[:] = 0  # a copy, not the file
    np.testing.assert_array_equal(variable.reader.read(1, Window(1, 2, 3, 3))[0], values[1, 1:, 2:])


def test_plain_hdf5_opens_at_the_first_group_with_rasters(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["about"] = np.arange(3)
        file["science/grids/radar"] = np.arange(24, dtype="u2").reshape(2, 3, 4)
        file["science/grids/text"] = "words"
    raster = open_netcdf(str(tmp_path / "a.h5"))
    (variable,) = raster.variables
    assert (raster.driver, variable.name, variable.shape) == ("HDF5", "radar", (1, 2, 3, 4))
    np.testing.assert_array_equal(variable.reader.read(0, Window(0, 0, 3, 4)).ravel(), np.arange(24))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_hdf_eos_grids_lie_by_their_latitudes_and_longitudes(tmp_path, shape, turned):
    """A latitude and a longitude along axes without names: those of a square passed for one, and nothing was found."""
    values = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    turned = turned and shape[0] != shape[1]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        fields = file.create_group("HDFEOS/GRIDS/VNP_Grid_DNB/Data Fields")
        fields["radiance"] = values.T if turned else values
        fields["lat"], fields["lon"] = 50 - 0.1 * np.arange(shape[0]), 7 + 0.2 * np.arange(shape[1])
    raster = open_netcdf(str(tmp_path / "a.h5"))
    (variable,) = raster.variables
    assert (variable.name, variable.shape[2:]) == ("radiance", shape)
    assert variable.geobox.crs is not None
    assert variable.geobox.affine.almost_equals(Affine(0.2, 0, 6.9, 0, -0.1, 50.05))
    np.testing.assert_array_equal(variable.reader.read(0, Window(0, 0, *shape))[0], values)


def test_other_groups_with_rasters_are_told(tmp_path, caplog):
    """A morning and an evening pass in one file: one of them must not go missing without a word."""
    for group in ("AM", "PM"):
        raster = xr.Dataset({"sm": (("y", "x"), np.ones((3, 4), "f4"))})
        raster.to_netcdf(tmp_path / "a.nc", group=group, mode="a", engine="h5netcdf")
        raster.to_zarr(tmp_path / "a.zarr", group=group, zarr_format=2, consolidated=False)
    for open_, name in ((open_netcdf, "a.nc"), (open_zarr, "a.zarr")):
        caplog.clear()
        assert open_(str(tmp_path / name)).variables[0].reader.source.group == "AM"
        assert f"{name}: the group AM alone is read; PM are left out" in caplog.text


def _as_fci(path, size=40):
    """A channel of Meteosat's imager: its own axes beside it, the grid mapping two groups above."""
    netcdf4 = pytest.importorskip("netCDF4")
    step = 1.1177430520632e-4
    with netcdf4.Dataset(path, "w") as file:
        data = file.createGroup("data")
        mapping = {"grid_mapping_name": "geostationary", "perspective_point_height": 35786400.0}
        mapping |= {"sweep_angle_axis": "y"}
        ellipsoid = {"semi_major_axis": 6378137.0, "semi_minor_axis": 6356752.3}
        middle = {"latitude_of_projection_origin": 0.0, "longitude_of_projection_origin": 0.0}
        data.createVariable("mtg_geos_projection", "i4").setncatts({**mapping, **ellipsoid, **middle})
        group = data.createGroup("ir_105").createGroup("measured")
        for axis, sign in (("x", -1), ("y", 1)):
            group.createDimension(axis, size)
            variable = group.createVariable(axis, "f8", (axis,))
            variable[:] = sign * step * (np.arange(size) - (size - 1) / 2)
            variable.setncatts({"units": "radian", "axis": axis.upper()})
        radiance = group.createVariable("effective_radiance", "u2", ("y", "x"), fill_value=65535)
        radiance[:] = np.arange(size**2).reshape(size, size)
        radiance[10:14, 20:30] = 65535
        radiance.grid_mapping = "/data/mtg_geos_projection"


def test_a_grid_mapping_in_a_group_above_counts(tmp_path):
    """A channel of Meteosat Third Generation lay nowhere, and its product had lost what says where it lies."""
    _as_fci(tmp_path / "fci.nc")
    (variable,) = open_netcdf(str(tmp_path / "fci.nc")).variables
    assert "Geostationary" in variable.geobox.crs.to_wkt()
    half = 20 * 1.1177430520632e-4 * 35786400
    west_to_east = Affine(half / 20, 0, -half, 0, half / 20, -half)  # x is positive to the west there
    assert variable.geobox.affine.almost_equals(west_to_east, precision=1e-3)
    geodiff.fill(tmp_path / "fci.nc", tmp_path / "out.nc", filler="laplace", members=0)
    (filled, *_) = open_netcdf(str(tmp_path / "out.nc")).variables
    assert filled.attributes["grid_mapping"] == "mtg_geos_projection"
    assert filled.geobox == variable.geobox


def test_axes_in_a_group_above_count(tmp_path):
    """As in gridded TEMPO: the axes at the root, the quantities in groups below it."""
    with h5py.File(tmp_path / "a.nc", "w") as file:
        for axis, values, units in (("latitude", 50 - np.arange(4.0), "north"), ("longitude", np.arange(5.0), "east")):
            file[axis] = values
            file[axis].make_scale(axis)
            file[axis].attrs["units"] = f"degrees_{units}"
        file["product/column"] = np.ones((4, 5), "f4")
        for number, axis in enumerate(("latitude", "longitude")):
            file["product/column"].dims[number].attach_scale(file[axis])
    (variable,) = open_netcdf(str(tmp_path / "a.nc")).variables
    assert variable.name == "column"
    assert variable.geobox.crs == "EPSG:4326"
    assert variable.geobox.affine.almost_equals(Affine(1, 0, -0.5, 0, -1, 50.5))


def test_the_places_of_a_swath_come_from_the_group_beside(tmp_path):
    """Ocean colour of level 2: without its navigation data nobody could tell where the product lies."""
    netcdf4 = pytest.importorskip("netCDF4")
    rows, columns, colours = 40, 36, 3
    with netcdf4.Dataset(tmp_path / "l2.nc", "w") as file:
        sizes = {"number_of_lines": rows, "pixels_per_line": columns, "wavelength_3d": colours}
        for dim, size in sizes.items():
            file.createDimension(dim, size)
        data, places = file.createGroup("geophysical_data"), file.createGroup("navigation_data")
        values = np.arange(rows * columns * colours, dtype="f4").reshape(rows, columns, colours)
        values[10:15, 10:20] = -32767
        data.createVariable("Rrs", "f4", tuple(sizes), fill_value=np.float32(-32767))[:] = values
        for name, units in (("latitude", "north"), ("longitude", "east")):
            place = places.createVariable(name, "f4", ("number_of_lines", "pixels_per_line"))
            place[:], place.units = np.indices((rows, columns))[int(name == "longitude")], f"degrees_{units}"
    geodiff.fill(tmp_path / "l2.nc", tmp_path / "out.nc", filler="laplace", members=0)
    with xr.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as out:
        assert out["Rrs"].dims == ("number_of_lines", "pixels_per_line", "wavelength_3d")
        assert {"latitude", "longitude"} <= set(out["Rrs"].coords)
        assert not np.isnan(out["Rrs"]).any()
        np.testing.assert_array_equal(out["longitude"], np.indices((rows, columns))[1])
        np.testing.assert_array_equal(out["latitude"], np.indices((rows, columns))[0])


@pytest.mark.parametrize("marker", [-9999.0, np.nan])
def test_what_has_no_place_is_outside_the_swath(tmp_path, marker):
    """Daily soil moisture of SMAP: half of the grid was not passed over, has no latitude, and was filled."""
    rows, columns = np.indices((40, 60), "f4")
    seen = columns < 30
    moisture = np.where(seen, 0.2 + 0.001 * rows, -9999).astype("f4")
    moisture[10:14, 10:20] = -9999
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["AM/moisture"], file["AM/latitude"], file["AM/longitude"] = (
            moisture, *(np.where(seen, place, marker).astype("f4") for place in (rows, columns)),
        )  # fmt: skip
        file["AM/moisture"].attrs["_FillValue"] = np.float32(-9999)
        for name in ("latitude", "longitude") if marker == -9999 else ():
            file[f"AM/{name}"].attrs["_FillValue"] = np.float32(marker)
        file["AM/latitude"].attrs["units"], file["AM/longitude"].attrs["units"] = "degrees_north", "degrees_east"
    geodiff.fill(tmp_path / "a.h5", tmp_path / "out.nc", filler="laplace", members=0)
    with h5py.File(tmp_path / "out.nc") as out:
        source = out["moisture_source"][:]
    assert (source[~seen] == 254).all()
    assert ((source[seen] > 0) == (moisture[seen] == -9999)).all()


def test_broken_files_are_refused_with_the_reason(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        open_netcdf(str(tmp_path / "missing.nc"))
    (tmp_path / "text.nc").write_text("not a raster")
    with pytest.raises(SourceError, match="neither NetCDF nor HDF5"):
        open_netcdf(str(tmp_path / "text.nc"))
    write_netcdf(_product(), str(tmp_path / "whole.nc"))
    whole = (tmp_path / "whole.nc").read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="broken HDF5"):
        open_netcdf(str(tmp_path / "cut.nc"))
    (tmp_path / "classic.nc").write_bytes(b"CDF\x01" + b"\xff" * 40)
    with pytest.raises(SourceError):
        open_netcdf(str(tmp_path / "classic.nc"))


def test_the_cube_is_never_asked_for_whole(tmp_path):
    product = _product((3, 2, 600, 700), "u1", dates=(None,) * 3)
    write_netcdf(product, str(tmp_path / "a.nc"))
    asked = product.variables[0].source.asked
    assert sum(count for count, *_ in asked) == 3 * 2 * 600 * 700
    assert max(count for count, *_ in asked) <= 2 * 256 * 700
    assert {(row % 256, column % 256) for _, row, column in asked} == {(0, 0)}


def test_complex_numbers_need_zarr(tmp_path):
    with pytest.raises(TargetError, match=r"complex64.*choose a \.zarr target"):
        write_netcdf(_product(dtype="c8", kind=Kind.COMPLEX), str(tmp_path / "a.nc"))


def test_long_and_odd_attributes_survive(tmp_path):
    facts = {"history": "x" * 100_000, "geodiff_record": '{"a": 1}', "title": "Größe", "empty": ""}
    write_netcdf(_product(attributes=facts), str(tmp_path / "a.nc"))
    attributes = open_netcdf(str(tmp_path / "a.nc")).attributes
    assert {key: attributes[key] for key in facts} == facts


def test_fingerprints(tmp_path):
    write_netcdf(_product(), str(tmp_path / "a.nc"))
    assert netcdf_fingerprint(str(tmp_path / "a.nc")) == "abc"
    assert netcdf_fingerprint(str(tmp_path / "none.nc")) is None
    (tmp_path / "text.nc").write_text("mine")
    assert netcdf_fingerprint(str(tmp_path / "text.nc")) == ""


def test_remote_files_are_written_and_read(tmp_path):
    target = f"memory://{tmp_path.name}/a.nc"
    assert netcdf_fingerprint(target) is None
    write_netcdf(_product(), target)
    assert netcdf_fingerprint(target) == "abc"
    found = next(v for v in open_netcdf(target).variables if v.name == "sst")
    assert found.reader.read(0, Window(1, 1, 2, 2)).shape == (1, 2, 2)


def test_the_compliance_checker_finds_no_error(tmp_path):
    checker = pytest.importorskip("compliance_checker.runner", reason="compliance-checker is not installed")
    from compliance_checker.suite import CheckSuite

    target = str(tmp_path / "a.nc")
    product = _product()
    variable = product.variables[0].variable
    value, ones = np.ones((2, *variable.shape), "f4"), np.ones(variable.shape, "u1")
    layers = ProductVariable(variable, value[0], ones, ones.astype("u2"), value[0], value, value)
    facts = (product.attributes, product.source_codes, product.reason_masks, (0.05, 0.95))
    write_netcdf(Product(product.raster, (layers,), *facts), target)
    CheckSuite.load_all_available_checkers()
    report = tmp_path / "report.txt"
    _, failed = checker.ComplianceChecker.run_checker(
        target, ["cf:1.11"], 0, "normal", output_filename=str(report), output_format="text"
    )
    assert not failed
    assert "Errors" not in report.read_text()


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_a_source_may_be_written_anew_after_any_look_at_it(tmp_path, engine):
    """HDF5 locks what is open, and a library that may not write a file has emptied it by then."""
    values = np.arange(400, dtype="f4").reshape(20, 20)
    values[5:9, 5:9] = np.nan
    dataset, source = xr.Dataset({"v": (("y", "x"), values)}), tmp_path / "a.nc"

    def fill(**options):
        return geodiff.fill(source, tmp_path / "b.zarr", filler="nearest", **options)

    looks = (lambda: geodiff.plan_fill(source), lambda: describe(str(source)), fill, fill)
    for look in looks:
        dataset.to_netcdf(source, engine=engine)
        look()
    dataset.to_netcdf(source, engine=engine)
    with pytest.raises(JobError):
        fill(variable="w")
    dataset.to_netcdf(source, engine=engine)


def test_land_among_the_numbers_of_sea_ice_is_left_alone(tmp_path):
    """As NSIDC's climate data record has it: 254 is land, 251 the pole hole, which is a gap."""
    ice = np.add.outer(np.arange(48), np.arange(48)).astype("u1")
    ice[:12], ice[20:26, 20:26], ice[40:, 40:44] = 254, 251, 255
    stated = {"flag_values": np.arange(251, 256, dtype="u1"), "valid_range": np.array([0, 100], "u1")}
    words = {"flag_meanings": "pole_hole lakes coastal land_mask missing_data", "scale_factor": 0.01}
    grid = {axis: (axis, 25e3 * np.arange(48.0), {"units": "m"}) for axis in "yx"}
    cube = xr.Dataset({"ice": (("y", "x"), ice, {**stated, **words, "_FillValue": np.uint8(255)})}, grid)
    cube.to_netcdf(tmp_path / "ice.nc", engine="h5netcdf", encoding={"ice": {"dtype": "u1"}})
    geodiff.fill(tmp_path / "ice.nc", tmp_path / "out.nc", filler="laplace", members=0)
    with xr.open_dataset(tmp_path / "out.nc", decode_cf=False, engine="h5netcdf") as out:
        source, value = out["ice_source"].values, out["ice"].values
    assert (source[:12] == 254).all()
    assert (value[:12] == 254).all()
    filled = (source > 0) & (source < 254)
    np.testing.assert_array_equal(filled, np.isin(ice, (251, 255)))
    assert value[filled].max() <= 100

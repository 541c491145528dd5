"""What a CF dataset says: dimensions, encodings and kinds, in every spelling users bring."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geodiff.encoding import pack, unpack
from geodiff.errors import EncodingError, SourceError
from geodiff.gaps import Reason
from geodiff.io import Kind
from geodiff.io.cf import open_dataset_as_raster
from geodiff.io.cube import Layout
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.quality import quality_of
from geodiff.scene import scene_of
from tests.io.cubes import a_dataset, an_axis, only, whole

DATA = os.environ.get("GEODIFF_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="GEODIFF_DATA is not set, so there are no real rasters to open")


# -- dimensions


@pytest.mark.parametrize(
    "dims",
    [
        ("time", "lat", "lon"),
        ("lon", "lat", "time"),
        ("t", "rlat", "rlon"),
        ("lat", "date", "longitude"),
        ("T", "nj", "ni"),
    ],
)
def test_dimensions_are_found_by_name_in_any_order(dims):
    sizes = dict(zip(dims, (2, 3, 4), strict=True))
    time = next(d for d in dims if d.lower() in {"time", "t", "date"})
    y = next(d for d in dims if d in {"lat", "rlat", "nj"})
    x = next(d for d in dims if d not in {time, y})
    dataset = a_dataset(dims, tuple(sizes.values()))
    variable = only(dataset)
    assert variable.shape == (sizes[time], 1, sizes[y], sizes[x])
    expected = dataset["v"].transpose(time, y, x).values
    for date in range(sizes[time]):
        np.testing.assert_array_equal(whole(variable, date)[0], expected[date])


def test_attributes_outrank_names():
    dataset = a_dataset(
        ("a", "x"),
        (3, 4),
        a=an_axis(
            "a",
            [
                0.0,
                1,
                2,
            ],
            axis="X",
            units="m",
        ),
        x=an_axis("x", [5.0, 6, 7, 8], standard_name="projection_y_coordinate", units="m"),
    )
    assert only(dataset).shape == (1, 1, 4, 3)


def test_extra_dimensions_become_bands_with_their_labels():
    dataset = a_dataset(
        ("time", "level", "member", "y", "x"),
        (2, 2, 3, 4, 5),
        level=an_axis("level", [500.0, 850.5]),
        member=an_axis("member", [0, 1, 2]),
    )
    variable = only(dataset)
    assert [band.name for band in variable.bands] == ["500 0", "500 1", "500 2", "850.5 0", "850.5 1", "850.5 2"]
    np.testing.assert_array_equal(whole(variable, 1), dataset["v"].values[1].reshape(6, 4, 5))


def test_bands_named_by_a_list_have_those_names():
    dataset = a_dataset(("band", "y", "x"), attrs={"long_name": ["red", "green"]}, band=an_axis("band", [1, 2]))
    assert [band.name for band in only(dataset).bands] == ["red", "green"]


@given(st.permutations(["t", "z", "y", "x"]), st.tuples(*[st.integers(1, 4)] * 4))
def test_arrange_undoes_collect(dims, counts):
    sizes = dict(zip("tzyx", counts, strict=True))
    layout = Layout(tuple(dims), sizes, "t", "y", "x")
    cube = np.arange(np.prod(layout.shape)).reshape(layout.shape)
    window = Window(0, 0, sizes["y"], sizes["x"])
    for date in range(sizes["t"]):
        region = layout.region(date, window)
        np.testing.assert_array_equal(layout.arrange(layout.collect(cube[region])), cube[region])
        np.testing.assert_array_equal(layout.arrange(layout.collect(cube[region])[None])[0], cube[region])


def test_matrices_without_coordinates_are_rows_and_columns():
    variable = only(a_dataset(("phony_dim_0", "phony_dim_1", "phony_dim_2"), (2, 3, 4)))
    assert variable.shape == (1, 2, 3, 4)
    assert not variable.georeferenced


@pytest.mark.parametrize(
    "dims",
    [
        ("number_of_lines", "pixels_per_line", "wavelength_3d"),  # PACE OCI, level 2
        ("downtrack", "crosstrack", "bands"),  # EMIT
        ("rows", "columns", "channel"),
        ("phony_dim_0", "phony_dim_1", "number_of_bands"),
    ],
)
def test_colours_that_come_last_are_bands(dims):
    """Those of an imaging spectrometer had passed for columns, its columns for rows, and its lines for bands."""
    dataset = a_dataset(dims, (4, 5, 3))
    variable = only(dataset)
    assert variable.shape == (1, 3, 4, 5)
    np.testing.assert_array_equal(whole(variable), dataset["v"].values.transpose(2, 0, 1))


def test_a_palette_is_no_image():
    """Mapped ocean colour has one beside it, for whose sake no GeoTIFF could be written."""
    dataset = a_dataset(("lat", "lon"), (3, 4))
    dataset["palette"] = xr.Variable(("rgb", "eightbitcolor"), np.zeros((3, 256), "u1"))
    assert [v.name for v in open_dataset_as_raster(dataset).variables] == ["v"]


def test_what_is_not_spatial_is_left_out_and_nothing_spatial_is_said():
    dataset = xr.Dataset(
        {
            "series": (("station", "time"), np.zeros((2, 3))),
            "name": (("y", "x"), np.array([["a", "b"]])),
            "lat_bnds": (("lat", "nv"), np.zeros((3, 2))),
        },
        {"lat": an_axis("lat", [1.0, 2, 3]), "time": an_axis("time", [0, 1, 2])},
    )
    with pytest.raises(SourceError, match=r"no numeric variable with rows and columns .*series\(station, time\)"):
        open_dataset_as_raster(dataset)


@pytest.mark.parametrize("places", [{}, {"lat": "latitude", "lon": "longitude"}])
@pytest.mark.parametrize("dim", ["ncells", "station"])
def test_levels_of_listed_cells_are_no_image(dim, places):
    """On an icosahedral mesh the neighbours of a cell are not those beside it in the file."""
    coordinates = {name: an_axis(dim, [1.0, 2, 3, 4], standard_name=said) for name, said in places.items()}
    with pytest.raises(SourceError, match=rf"listed one by one \({dim}\).*remapcon"):
        open_dataset_as_raster(a_dataset(("time", "height", dim), (2, 3, 4), **coordinates))


def test_what_each_element_has_a_place_of_its_own_for_is_no_axis():
    places = {name: an_axis("i_dim", [1.0, 2, 3, 4], standard_name=f"{name}itude") for name in ("lat", "long")}
    with pytest.raises(SourceError, match=r"listed one by one \(i_dim\)"):
        open_dataset_as_raster(a_dataset(("height", "i_dim"), (3, 4), **places))


@pytest.mark.parametrize("dims", [("south_north_stag", "west_east"), ("south_north", "west_east_stag")])
def test_staggered_grids_have_rows_and_columns(dims):
    assert only(a_dataset(("Time", "bottom_top", *dims), (2, 3, 4, 5))).shape == (2, 3, 4, 5)


def test_coordinates_bounds_and_grid_mappings_are_no_variables():
    dataset = a_dataset(("y", "x"), (3, 4), attrs={"grid_mapping": "m", "coordinates": "area_of_cell"})
    dataset["m"] = xr.Variable((), 0, {"grid_mapping_name": "latitude_longitude"})
    dataset["lat"] = xr.Variable(("y", "x"), np.zeros((3, 4)))
    dataset["lon2"] = xr.Variable(("y", "x"), np.zeros((3, 4)), {"standard_name": "longitude"})
    dataset["area_of_cell"] = xr.Variable(("y", "x"), np.zeros((3, 4)))
    assert [v.name for v in open_dataset_as_raster(dataset).variables] == ["v"]


# -- what numbers mean


def test_missing_markers_scale_and_range_are_read_in_packed_units():
    attrs = {
        "_FillValue": np.int16(-9),
        "missing_value": np.array([-9, -8, -7], "i2"),
        "scale_factor": 0.5,
        "add_offset": 10.0,
        "valid_min": np.int16(0),
        "valid_max": np.int16(100),
    }
    encoding = only(a_dataset(dtype="i2", attrs=attrs)).bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata) == (-9, (-8, -7))
    assert encoding.valid_range == (10.0, 60.0)
    physical, valid = unpack(np.array([-9, -8, 101, 4], "i2"), encoding)
    assert valid.tolist() == [False, False, False, True]
    assert physical[3] == 12.0


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"valid_range": np.array([0, 10], "i2"), "scale_factor": -1.0}, (-10.0, 0.0)),
        ({"valid_range": np.array([0.0, 1.0]), "scale_factor": 0.1}, (0.0, 1.0)),  # of the unpacked type (NUG)
        ({"valid_min": np.int16(3)}, (3.0, np.inf)),
        ({"valid_min": np.int16(3), "valid_max": np.int16(1)}, None),
        ({"valid_range": "none"}, None),
    ],
)
def test_valid_range_in_its_several_forms(attrs, expected):
    assert only(a_dataset(dtype="i2", attrs=attrs)).bands[0].encoding.valid_range == expected


def test_options_add_nodata_and_bounds():
    encoding = only(a_dataset(dtype="i2"), nodata=5, valid_range=(1.0, 9.0)).bands[0].encoding
    assert encoding.extra_nodata == (5,)
    assert encoding.valid_range == (1.0, 9.0)


def test_unsigned_bytes_are_read_with_the_sign_they_mean():
    attrs = {"_Unsigned": "true", "_FillValue": np.int8(-1), "valid_range": np.array([0, -6], "i1")}
    dataset = xr.Dataset({"v": (("y", "x"), np.array([[-1, -56, 3]], "i1"), attrs)})
    variable = only(dataset)
    assert variable.dtype == np.dtype("u1")
    assert variable.bands[0].encoding.nodata == 255
    assert variable.bands[0].encoding.valid_range == (0.0, 250.0)
    assert whole(variable).tolist() == [[[255, 200, 3]]]


@pytest.mark.parametrize("fill", [9.96921e36, "not a number", 300])
def test_a_fill_value_no_pixel_can_carry_is_none(fill):
    assert only(a_dataset(dtype="u1", attrs={"_FillValue": np.asarray(fill)[()]})).bands[0].encoding.nodata is None


def test_a_double_fill_value_is_rounded_to_the_float_it_was_stored_as():
    encoding = only(a_dataset(attrs={"_FillValue": np.float64(-9999.9)})).bands[0].encoding
    assert not unpack(np.array([-9999.9], "f4"), encoding)[1].any()


def test_a_scale_of_zero_is_refused():
    with pytest.raises(EncodingError, match="scale_factor 0"):
        only(a_dataset(dtype="i2", attrs={"scale_factor": 0.0}))


def test_big_endian_numbers_arrive_native():
    variable = only(a_dataset(dtype=">f4"))
    assert variable.dtype == np.dtype("f4")
    assert whole(variable).dtype.isnative


@pytest.mark.parametrize(
    ("dtype", "attrs", "kind"),
    [
        ("f4", {}, Kind.CONTINUOUS),
        ("f8", {"flag_masks": np.array([1, 2])}, Kind.FLAGS),
        ("u1", {"flag_values": np.array([1, 2]), "flag_meanings": "a b"}, Kind.FLAGS),
        ("u1", {"flag_values": np.array([0, 5], "u1"), "valid_range": np.array([0, 5], "u1")}, Kind.FLAGS),
        ("u1", {"flag_values": np.array([0, 255], "u1"), "valid_range": np.array([0, 5], "u1")}, Kind.FLAGS),
        ("u1", {"flag_values": np.array([251, 254], "u1"), "valid_range": np.array([0, 100], "u1")}, Kind.CONTINUOUS),
        ("i1", {"flag_values": np.int8(-1), "valid_min": np.int8(0), "valid_max": np.int8(100)}, Kind.CONTINUOUS),
        ("u1", {"flag_values": np.array([251], "u1")}, Kind.FLAGS),
        ("i1", {"flag_values": np.array([10, -116], "i1"), "valid_range": np.array([1, -36], "i1")}, Kind.FLAGS),
        ("u1", {"standard_name": "land_binary_mask"}, Kind.FLAGS),
        ("f4", {"standard_name": "sea_surface_temperature status_flag"}, Kind.FLAGS),
        ("f8", {"units": "seconds since 1981-01-01"}, Kind.FLAGS),
        ("bool", {}, Kind.BOOLEAN),
        ("i1", {"dtype": "bool"}, Kind.BOOLEAN),
        ("c8", {}, Kind.COMPLEX),
    ],
)
def test_kinds(dtype, attrs, kind):
    assert only(a_dataset(dtype=dtype, attrs=attrs)).bands[0].kind is kind


@pytest.mark.parametrize(
    ("meanings", "undefined"),
    [
        ("pole_hole_mask unused coastline land_mask missing_data", (253, 254)),
        ("missing_data no_decision cloud_over_land Ocean inland_water", (254, 255)),
        ("night detector_saturated cloud land_fill", ()),
        ("", ()),
    ],
)
def test_codes_beside_numbers_may_say_that_there_is_none(meanings, undefined):
    """Land among sea ice is no gap; the pole hole is one."""
    attrs = {
        "flag_values": np.array([251, 252, 253, 254, 255], "u1"), "valid_range": np.array([0, 100], "u1"),
        "flag_meanings": meanings,
    }  # fmt: skip
    assert only(a_dataset(dtype="u1", attrs=attrs)).bands[0].encoding.undefined == undefined


@pytest.mark.parametrize(
    ("name", "dtype", "attrs", "kind"),
    [
        ("Mandatory_Quality_Flag", "u1", {}, Kind.FLAGS),
        ("SurfReflect_QF1_1", "u1", {"units": "bit field"}, Kind.FLAGS),
        ("state_1km_1", "u2", {"units": "none"}, Kind.FLAGS),
        ("500 m 16 days VI Quality", "u2", {"units": "bits"}, Kind.FLAGS),
        ("landcover_class", "u1", {"units": "N/A"}, Kind.FLAGS),
        ("surface_flag", "u2", {}, Kind.FLAGS),
        ("precipitationQualityIndex", "f4", {}, Kind.CONTINUOUS),
        ("qa_value", "u1", {"scale_factor": np.float32(0.01)}, Kind.CONTINUOUS),
        ("water_quality", "i2", {"units": "mg l-1"}, Kind.CONTINUOUS),
        ("maskelynite", "u1", {}, Kind.CONTINUOUS),
        ("NDVI", "i2", {}, Kind.CONTINUOUS),
    ],
)
def test_whole_numbers_called_flags_are_such_without_attributes(name, dtype, attrs, kind):
    """Flags of NASA's HDF files were filled with numbers between flags."""
    assert only(a_dataset(dtype=dtype, attrs=attrs).rename(v=name)).bands[0].kind is kind


@pytest.mark.parametrize(
    ("dim", "axis", "expected"),
    [
        ("deptht", None, True),
        ("isobaricInhPa", None, True),
        ("s_rho", {"standard_name": "ocean_s_coordinate_g2"}, True),
        ("st", {"axis": "Z"}, True),
        ("k", {"positive": "down"}, True),
        ("member", None, False),
        ("wavelength", None, False),
        ("level", {"standard_name": "realization"}, False),
    ],
)
def test_depths_heights_and_pressures_are_levels(dim, axis, expected):
    own = {} if axis is None else {dim: an_axis(dim, [1.0, 2.0], **axis)}
    assert only(a_dataset(("time", dim, "lat", "lon"), (2, 2, 3, 4), **own)).levels is expected


def test_what_has_a_temperatures_quality_is_not_the_ice_beside_it():
    """Known ice and wind were overwritten by estimates wherever clouds hid the temperature; land is none of either."""
    words = "no_data bad_data worst_quality low_quality acceptable_quality best_quality"
    graded = {"flag_values": np.arange(6, dtype="i1"), "flag_meanings": words}
    masked = {"flag_masks": np.array([1, 2, 4], "i2"), "flag_meanings": "microwave land ice"}
    dims, cloudy = ("time", "lat", "lon"), np.array([[[5, 1, 1, 5]] * 3] * 2, "i1")
    dataset = a_dataset().rename(v="sea_surface_temperature").assign(
        sea_ice_fraction=(dims, np.full((2, 3, 4), 0.5, "f4")),
        sst_dtime=(dims, np.ones((2, 3, 4), "i2"), {"units": "seconds"}),
        quality_level=(dims, cloudy, graded),
        l2p_flags=(dims, np.array([[[0, 4, 2, 2]] * 3] * 2, "i2"), masked),
    )  # fmt: skip
    temperature, ice = scene_of(open_dataset_as_raster(dataset), FillJob.build(source="a", target="b.nc")).cubes
    window = Window(0, 0, 1, 4)
    land, cloud, frozen = Reason.UNDEFINED, Reason.QUALITY, Reason.SNOW
    assert temperature.reason(0, window).tolist() == [[[0, cloud | frozen, cloud | land, land]]]
    assert ice.reason(0, window).tolist() == [[[0, 0, land, land]]]


@pytest.mark.parametrize(
    ("key", "numbers", "words", "dims", "expected"),
    [
        ("flag_values", [0, 1, 2], "open_ocean land continental_water", ("time", "lat", "lon"), True),
        ("flag_masks", [4, 1, 2], "lake land land_spill_over", ("lat", "lon"), True),
        ("flag_masks", [4, 1, 2], "lake land_spill_over land", ("lat", "lon"), False),
        ("flag_values", [0, 1], "land", ("lat", "lon"), False),
        ("flag_values", [1, 0], "land sea", ("hour", "lat", "lon"), False),
    ],
)
def test_flags_beside_a_quantity_of_the_sea_tell_what_of_its_gaps_is_land(key, numbers, words, dims, expected):
    """A single pass of SWOT was filled over land, which its own flags name; known values are left to be known."""
    sea = {"standard_name": "sea_surface_height_above_geoid"}
    told = {key: np.array(numbers, "u1"), "flag_meanings": words}
    dataset = a_dataset(attrs=sea).astype("f4")
    dataset.v[:, 0] = np.nan
    flags = np.array([[1, 1, 0, 0]] * 3, "u1")
    flags = flags if len(dims) == 2 else np.broadcast_to(flags, (3 if dims[0] == "hour" else 2, 3, 4))
    dataset["surface"] = xr.Variable(dims, flags, told)
    dataset["air"] = dataset.v.assign_attrs(standard_name="air_temperature")
    sea, air = scene_of(open_dataset_as_raster(dataset), FillJob.build(source="a", target="b.nc")).cubes
    land = Reason.NODATA | (Reason.UNDEFINED if expected else 0)
    window = Window(0, 0, 2, 4)
    assert sea.reason(1, window).tolist() == [[[land, land, 1, 1], [0, 0, 0, 0]]]
    assert air.reason(1, window).tolist() == [[[1, 1, 1, 1], [0, 0, 0, 0]]]


def test_known_quality_flags_are_found_with_the_variables_they_explain():
    dataset = a_dataset(attrs={"ancillary_variables": "quality_level"})
    flags = {
        "flag_values": np.arange(6, dtype="i1"),
        "flag_meanings": "no_data bad_data worst_quality low_quality acceptable_quality best_quality",
    }
    dataset["quality_level"] = xr.Variable(("time", "lat", "lon"), np.zeros((2, 3, 4), "i1"), flags)
    (quality,) = open_dataset_as_raster(dataset).quality
    assert (quality.preset, quality.variable.name, quality.applies_to) == ("ghrsst", "quality_level", ("v",))


def test_flags_of_aerosol_say_nothing_of_the_water_vapour_above_clouds():
    dataset = a_dataset().rename(v="Optical_Depth_055")
    dataset["Column_WV"] = dataset.Optical_Depth_055
    dataset["AOD_QA"] = xr.Variable(("time", "lat", "lon"), np.full((2, 3, 4), 0b0101_000_00_011, "u2"))
    (quality,) = open_dataset_as_raster(dataset).quality
    assert (quality.preset, quality.applies_to) == ("maiac", ("Optical_Depth_055",))


def test_quality_flags_are_read_by_the_layer_of_their_table_that_their_meanings_give_away():
    """GOES calls the flags of every product DQF; those of land surface temperature are bits."""
    dataset = a_dataset(attrs={"ancillary_variables": "DQF"})
    meanings = "invalid_due_to_cloudy_conditions_qf invalid_due_to_water_surface_type_qf"
    dataset["DQF"] = xr.Variable(("time", "lat", "lon"), np.zeros((2, 3, 4), "u2"), {"flag_meanings": meanings})
    (quality,) = open_dataset_as_raster(dataset).quality
    assert (quality.preset, quality.layer) == ("goes-dqf", "LST_DQF")


@pytest.mark.parametrize("unsigned", [False, True])
def test_codes_among_the_numbers_are_read_as_their_meanings_say(unsigned):
    """As in Copernicus' vegetation indices."""
    codes = np.array([251, 252, 253, 254, 255], "u1")
    told = {"flag_meanings": "missing cloud snow sea background", "_FillValue": np.uint8(255)}
    attrs = {**told, "flag_values": codes, "valid_range": np.array([0, 100], "u1"), "scale_factor": 0.01}
    if unsigned:
        attrs |= {"flag_values": codes.view("i1"), "_FillValue": np.int8(-1), "_Unsigned": "true"}
    dataset = a_dataset(("y", "x"), (3, 4), "i1" if unsigned else "u1", attrs)
    raster = open_dataset_as_raster(dataset)
    (quality,) = raster.quality
    assert (quality.variable, quality.preset, quality.applies_to) == (raster.variables[0], "cf-codes", ("v",))
    assert quality.constants == {"CLOUD": 252, "SNOW": 253}
    assert raster.variables[0].bands[0].encoding.undefined == (254,)
    raster = open_dataset_as_raster(dataset.assign(QF1=(("y", "x"), np.zeros((3, 4), "u1"))))
    for wanted, presets in (("auto", ["viirs", "cf-codes"]), ("viirs:QF1", ["viirs", "cf-codes"]), ("none", [])):
        assert [q.preset for q in quality_of(raster, raster.variables[0], (wanted,))] == presets


@given(st.floats(-50, 50), st.sampled_from([0.01, -0.01, 0.5]), st.floats(-10, 10))
def test_stored_and_physical_agree_through_attributes(value, scale, offset):
    attrs = {"scale_factor": scale, "add_offset": offset, "_FillValue": np.int16(-32768)}
    encoding = only(a_dataset(dtype="i2", attrs=attrs)).bands[0].encoding
    physical, valid = unpack(pack(np.array([value]), encoding), encoding)
    assert valid.all()
    assert abs(physical[0] - value) <= abs(scale) / 2 + 1e-9


# -- real cubes


@needs_data
@pytest.mark.parametrize(
    ("path", "name", "shape", "first", "affine", "nodata"),
    [
        (
            "evaluate/xcube/examples/serve/demo/cube-1-250-250.zarr",
            "conc_chl",
            (5, 1, 1000, 2000),
            "2017-01-16",
            (0.0025, 0, -0.0025, 52.5),
            np.nan,
        ),
        (
            "evaluate/dineof/SmallExample/alboranSST_small.nc",
            "SST",
            (10, 1, 201, 301),
            "2017-05-14",
            (0.02, -6, 0.02, 34),
            99999.0,
        ),
        (
            "train/iris-sample-data/ostia_monthly.nc",
            "surface_temperature",
            (54, 1, 18, 432),
            "2006-04-16",
            (0.8333, -0.4167, 0.5556, -5.2778),
            1e20,
        ),
        (
            "train/iris-sample-data/toa_brightness_stereographic.nc",
            "data",
            (1, 1, 160, 256),
            "2016-05-16",
            (35483.459, -2299619.73, -35500.338, -963943.144),
            -1073741824.0,
        ),
        ("train/stars/inst/nc/bcsd_obs_1999.nc", "tas", (12, 1, 33, 81), "1999-01-31", (0.125, -85, 0.125, 33), 1e20),
        ("train/stars/inst/nc/reduced.nc", "sst", (1, 1, 90, 180), "1981-12-31", (2, -1, 2, -90), -999),
        (
            "train/stars/inst/nc/lcc_km.nc",
            "prcp",
            (1, 1, 569, 619),
            "1980-07-01",
            (1000, -778750, -1000, -119500),
            -9999,
        ),
        ("train/stars/inst/nc/sub.nc", "u", (10, 2, 9, 9), "2017-08-20", (0.25, 4.875, -0.25, 52.125), -32767),
        (
            "train/stars/inst/nc/test_stageiv_xyt.nc",
            "Total_precipitation_surface_1_Hour_Accumulation",
            (23, 1, 118, 87),
            "2018-09-13",
            (1, 0, 1, 0),
            np.nan,
        ),
    ],
)
def test_real_cubes_open_right(path, name, shape, first, affine, nodata):
    from geodiff.io.netcdf import open_netcdf
    from geodiff.io.zarr import open_zarr

    place = str(Path(DATA) / path)
    raster = open_zarr(place) if path.endswith("zarr") else open_netcdf(place)
    variable = next(v for v in raster.variables if v.name == name)
    assert variable.shape == shape
    assert str(variable.dates[0])[:10] == first
    a = variable.geobox.affine
    np.testing.assert_allclose((a.a, a.c, a.e, a.f), affine, rtol=1e-4, atol=1e-3)
    np.testing.assert_equal(variable.bands[0].encoding.nodata, np.dtype(variable.dtype).type(nodata).item())
    window = Window(shape[2] // 2, shape[3] // 3, min(5, shape[2] // 2), 4)
    raw = xr.open_dataset(place, decode_cf=False, engine="zarr" if path.endswith("zarr") else None)
    with raw:
        layout = variable.reader.layout
        expected = raw[name].values[layout.region(shape[0] - 1, window)]
    np.testing.assert_array_equal(variable.reader.read(shape[0] - 1, window), layout.collect(expected))

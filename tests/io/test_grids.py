"""Grids of CF datasets: axes, mappings, rotated, swaths, pixel numbers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from affine import Affine

from tests.io.cubes import a_dataset, an_axis, only


def _grid(y, x, attrs=None, mapping=None, y_attrs=None, x_attrs=None):
    dataset = a_dataset(
        ("y", "x"),
        (len(y), len(x)),
        attrs={"grid_mapping": "crs", **(attrs or {})} if mapping else attrs,
        y=an_axis("y", y, **(y_attrs or {"standard_name": "projection_y_coordinate", "units": "m"})),
        x=an_axis("x", x, **(x_attrs or {"standard_name": "projection_x_coordinate", "units": "m"})),
    )
    if mapping:
        dataset["crs"] = xr.Variable((), 0, mapping)
    return only(dataset)


def _utm(**more):
    from odc.geo.crs import CRS

    return {"crs_wkt": CRS("EPSG:32633").to_wkt(), **more}


@pytest.mark.parametrize("step", [-10.0, 10.0])
def test_regular_axes_give_the_affine_in_the_order_found(step):
    grid = _grid(6e6 + step * np.arange(3), 5e5 + 10.0 * np.arange(4), mapping=_utm()).geobox
    assert grid.affine == Affine(10, 0, 5e5 - 5, 0, step, 6e6 - step / 2)
    assert grid.crs.epsg == 32633


def test_a_geotransform_is_exact_where_coordinates_are_rounded():
    x, y = (5e5 + 0.15 + 0.3 * np.arange(50)).astype("f4"), (6e6 - 0.15 - 0.3 * np.arange(40)).astype("f4")
    grid = _grid(y, x, mapping=_utm(GeoTransform="500000 0.3 0 6000000 0 -0.3")).geobox
    assert grid.affine == Affine(0.3, 0, 5e5, 0, -0.3, 6e6)
    assert abs(_grid(y, x, mapping=_utm()).geobox.affine.a - 0.3) < 0.03  # float32 northings step by 0.5 m


def test_a_stale_geotransform_gives_way_to_the_coordinates():
    grid = _grid(
        6e6 - 105.0 - 10 * np.arange(3),
        5e5 + 5 + 10.0 * np.arange(4),
        mapping=_utm(GeoTransform="500000 10 0 6000000 0 -10"),
    )
    assert grid.geobox.affine == Affine(10, 0, 5e5, 0, -10, 6e6 - 100)


def test_a_rotated_grid_is_its_geotransform():
    rotated = Affine.translation(5e5, 6e6) @ Affine.rotation(30) @ Affine.scale(10, -10)
    text = " ".join(map(repr, rotated.to_gdal()))
    dataset = a_dataset(("y", "x"), (3, 4), attrs={"grid_mapping": "crs"})
    dataset["crs"] = xr.Variable((), 0, _utm(GeoTransform=text))
    assert only(dataset).geobox.affine == rotated


def test_longitudes_beyond_180_and_across_the_dateline():
    lat = {"units": "degrees_north"}
    lon = {"units": "degrees_east"}
    for x in (np.arange(0.5, 360, 90), np.array([170.0, 180, -170, -160]), np.array([350.0, 0, 10, 20])):
        grid = _grid(np.array([10.0, 0, -10]), x, y_attrs=lat, x_attrs=lon).geobox
        assert grid.affine.c == x[0] - (x[1] - x[0]) % 360 / 2
        assert grid.crs.epsg == 4326


def test_irregular_axes_are_kept_in_index_space_and_said():
    variable = _grid(np.array([0.0, 1, 4]), np.arange(4.0))
    assert variable.geobox.affine.is_identity
    assert variable.geobox.crs is None
    assert "steps of y are not regular" in variable.attributes["geodiff_grid"]


def test_swaths_are_kept_in_index_space_and_said():
    dataset = a_dataset(("time", "nj", "ni"), attrs={"coordinates": "lat lon"})
    for name, units in (("lat", "degrees_north"), ("lon", "degrees_east")):
        dataset[name] = xr.Variable(("nj", "ni"), np.random.default_rng(0).random((3, 4)), {"units": units})
    variable = only(dataset)
    assert variable.shape == (2, 1, 3, 4)
    assert not variable.georeferenced
    assert "lat and lon are 2-D" in variable.attributes["geodiff_grid"]


_GAUSSIAN = np.array([-81.7, -67.2, -52.6, -37.6, -22.6, -7.5, 7.5, 22.6, 37.6, 52.6, 67.2, 81.7])


@pytest.mark.parametrize(
    ("longitudes", "around"),
    [(np.arange(24) * 15.0, True), (np.arange(-12, 12) * 15.0 + 7.5, True), (np.arange(24) * 7.5, False)],
)
@pytest.mark.parametrize("ocean", [False, True], ids=["gaussian", "2-D"])
def test_a_globe_with_uneven_rows_goes_around(longitudes, around, ocean):
    east, north = {"units": "degrees_east"}, {"units": "degrees_north"}
    if ocean:  # as POP: even but where it bends around its pole, far from the middle
        bent = longitudes + np.linspace(0, 1, 12)[:, None] ** 8 * 40 * np.sin(np.radians(longitudes))
        dataset = a_dataset(("nlat", "nlon"), (12, 24), attrs={"coordinates": "TLAT TLONG"})
        dataset["TLONG"] = xr.Variable(("nlat", "nlon"), bent, east)
        dataset["TLAT"] = xr.Variable(("nlat", "nlon"), np.repeat(_GAUSSIAN[:, None], 24, axis=1), north)
    else:
        axes = {"lat": an_axis("lat", _GAUSSIAN, **north), "lon": an_axis("lon", longitudes, **east)}
        dataset = a_dataset(("lat", "lon"), (12, 24), **axes)
    variable = only(dataset)
    assert (variable.around, variable.georeferenced) == (around, False)


@pytest.mark.parametrize("times", [1, 2])
def test_places_with_a_time_are_those_of_a_swath(times):
    """As Sentinel-5P and WRF have them."""
    places = {name: (("time", "row", "column"), np.ones((times, 3, 4)), {"units": u})
              for name, u in (("lat", "degrees_north"), ("lon", "degrees_east"))}  # fmt: skip
    variable = only(a_dataset(("time", "row", "column"), (times, 3, 4)).assign(places))
    assert "lat and lon are 2-D" in variable.attributes["geodiff_grid"]
    assert variable.shape == (times, 1, 3, 4)


def test_whole_pixel_numbers_are_none_wherever_they_begin():
    """Of a part of a Sentinel-5P orbit; its gaps at the edge had been a collar, those of the whole orbit not."""
    counts = {"scanline": an_axis("scanline", np.arange(120, 123), units="1"), "pixel": an_axis("pixel", np.arange(4))}
    assert not only(a_dataset(("scanline", "pixel"), (3, 4), **counts)).georeferenced


def test_pixel_numbers_are_no_georeference():
    for start in (0.0, 0.5):
        assert not _grid(
            start + np.arange(3), start + np.arange(4), y_attrs={"axis": "Y"}, x_attrs={"axis": "X"}
        ).georeferenced


def test_kilometres_and_packed_coordinates_become_crs_units():
    km = {"standard_name": "projection_x_coordinate", "units": "km"}
    grid = _grid(
        np.array([3.0, 2, 1]),
        np.array([1.0, 2, 3, 4]),
        mapping=_utm(),
        x_attrs=km,
        y_attrs={**km, "standard_name": "projection_y_coordinate"},
    )
    assert grid.geobox.affine == Affine(1000, 0, 500, 0, -1000, 3500)
    packed = {"units": "degrees_east", "scale_factor": 0.25, "add_offset": 100.0}
    grid = _grid(
        np.array([3, 2, 1], "i2"), np.arange(4, dtype="i2"), x_attrs=packed, y_attrs={"units": "degrees_north"}
    )
    assert grid.geobox.affine.a == 0.25
    assert grid.geobox.affine.c == 99.875


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1)])
def test_single_rows_and_columns_take_the_other_axis_for_a_square(shape):
    grid = _grid(6e6 - 10 * np.arange(shape[0]), 5e5 + 10.0 * np.arange(shape[1]), mapping=_utm()).geobox
    assert tuple(grid.shape) == shape
    assert grid.affine.e == -grid.affine.a == (-10 if shape != (1, 1) else -1)


def test_mars_keeps_its_crs():
    pytest.importorskip("pyproj")
    from odc.geo.crs import CRS

    mars = CRS("IAU_2015:49910")
    grid = _grid(-1000.0 * np.arange(3), 1000.0 * np.arange(4), mapping={"crs_wkt": mars.to_wkt()}).geobox
    assert grid.crs == mars

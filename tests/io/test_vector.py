"""Masks from outside: vectors and rasters become planes of the scene's grid, the same in any window."""

import json
import pickle
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geodiff.errors import GridError, InputError, SourceError
from geodiff.io.vector import VectorArea, area_files, open_area, read_geometries, read_mask_raster
from geodiff.lattice import Window

UTM = GeoBox((60, 80), Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32633")
WHOLE = Window(0, 0, 60, 80)


def inside(shape: shapely.Geometry, geobox: GeoBox) -> np.ndarray:
    """The law itself: pixel centres inside a polygon."""
    rows, columns = (int(n) for n in geobox.shape)
    x, y = ground(geobox.affine, np.arange(columns)[None, :] + 0.5, np.arange(rows)[:, None] + 0.5)
    return shapely.contains_xy(shape, *np.broadcast_arrays(x, y))


def ground(affine: Affine, column: np.ndarray | float, row: np.ndarray | float) -> tuple:
    return affine.a * column + affine.b * row + affine.c, affine.d * column + affine.e * row + affine.f


@pytest.mark.parametrize(
    "affine",
    [
        Affine(10, 0, 500_000, 0, -10, 4_000_000),
        Affine(10, 0, 500_000, 0, 10, 3_999_400),
        Affine(8, 3, 500_000, 3, -8, 4_000_000),
    ],
    ids=["north-up", "south-up", "rotated"],
)
def test_a_pixel_is_inside_a_polygon_if_its_centre_is(affine: Affine) -> None:
    geobox = GeoBox((60, 80), affine, "EPSG:32633")
    shape = shapely.Point(*ground(affine, 40.3, 30.7)).buffer(177.7)
    found = VectorArea((shape,), geobox)(WHOLE)
    assert found.sum() > 500
    np.testing.assert_array_equal(found, inside(shape, geobox))


@given(st.integers(0, 59), st.integers(0, 79), st.integers(1, 40), st.integers(1, 40))
def test_a_window_shows_what_the_whole_does(row: int, column: int, height: int, width: int) -> None:
    shapes = [
        shapely.Point(500_400, 3_999_700).buffer(150),
        shapely.LineString([(500_000, 3_999_990), (500_790, 3_999_410)]),
    ]
    window = Window(row, column, min(height, 60 - row), min(width, 80 - column))
    area = VectorArea(tuple(shapes), UTM)
    np.testing.assert_array_equal(area(window), area(WHOLE)[window.slices])


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet", ".shp"])
def test_vectors_are_read_in_any_crs(tmp_path: Path, suffix: str) -> None:
    shape = shapely.box(500_100, 3_999_500, 500_500, 3_999_900)
    frame = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633").to_crs("EPSG:4326")
    path = tmp_path / f"clouds{suffix}"
    frame.to_parquet(path) if suffix == ".parquet" else frame.to_file(path)
    area = open_area(str(path), UTM)
    wanted = inside(shape, UTM)
    assert (area(WHOLE) != wanted).sum() <= 2  # edges on pixel centres may fall either way after two projections
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(area))(WHOLE), area(WHOLE))


def test_a_file_of_several_layers_needs_the_name_of_one(tmp_path: Path) -> None:
    """The first of them may be fields as well as clouds; QGIS spells the name so."""
    path = str(tmp_path / "project.gpkg")
    for layer, left in (("fields", 500_100), ("clouds", 500_300)):
        shape = shapely.box(left, 3_999_500, left + 100, 3_999_900)
        geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633").to_file(path, layer=layer)
    with pytest.raises(SourceError, match=r"has 2 layers.*fields, clouds as '.*project.gpkg\|layername=fields'"):
        open_area(path, UTM)
    with pytest.raises(SourceError, match="has no layer cloud;"):
        open_area(f"{path}|layername=cloud", UTM)
    found = open_area(f"{path}|layername=clouds", UTM)(WHOLE)
    assert sorted(set(found.nonzero()[1].tolist())) == list(range(30, 40))
    assert area_files(f"{path}|layername=clouds") == (path,)


def test_degrees_one_turn_away_are_the_same_place(tmp_path: Path) -> None:
    pacific = GeoBox((10, 20), Affine(1, 0, 170, 0, -1, 5), "EPSG:4326")  # 170E to 190E
    shape = shapely.box(-180, -5, -175, 5)
    found = VectorArea((shape,), pacific)(Window(0, 0, 10, 20))
    assert found.any(axis=0).nonzero()[0].tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    "geobox",
    [
        GeoBox((120, 90), Affine(10, 0, 400_000, 0, -10, 5_000_000), "EPSG:32632"),
        GeoBox((120, 90), Affine(1000, 0, 170_000, 0, -1000, 5_200_000), "EPSG:32601"),
        GeoBox((120, 90), Affine(100, 0, 4_300_000, 0, -100, 3_200_000), "EPSG:3035"),
        GeoBox((120, 120), Affine(20_000, 0, -1_183_000, 0, -20_000, 1_210_000), "EPSG:3413"),
    ],
    ids=["UTM", "across the dateline", "Europe", "the pole"],
)
def test_areas_of_the_whole_world_are_right_on_the_map_of_a_part(tmp_path: Path, geobox: GeoBox) -> None:
    rows, columns = (int(n) for n in geobox.shape)
    centres = ground(geobox.affine, np.arange(columns)[None, :] + 0.5, np.arange(rows)[:, None] + 0.5)
    degrees = pyproj.Transformer.from_crs(geobox.crs.to_wkt(), 4326, always_xy=True)
    x, y = degrees.transform(*np.broadcast_arrays(*centres))
    east, north = x[rows // 3, columns // 3], y[rows // 3, columns // 3]
    island = shapely.Point(east, north).buffer(0.45 * np.ptp(y))
    sea = shapely.box(-180, -90, 180, 90) - island
    geopandas.GeoSeries([sea], crs=4326).to_file(tmp_path / "sea.gpkg")
    masked = open_area(str(tmp_path / "sea.gpkg"), geobox)(Window(0, 0, rows, columns))
    np.testing.assert_array_equal(masked, shapely.contains_xy(sea, x, y))
    assert 0.1 < masked.mean() < 0.99

GOES, HIMAWARI = (f"+proj=geos +h=35785863 +lon_0={lon} +sweep=x +ellps=GRS80 +units=m" for lon in (-75, 140.7))


@pytest.mark.parametrize(
    "geobox",
    [
        GeoBox((110, 110), Affine(1e5, 0, -5.5e6, 0, -1e5, 5.5e6), GOES),
        GeoBox((110, 110), Affine(1e5, 0, -5.5e6, 0, -1e5, 5.5e6), HIMAWARI),
        GeoBox((60, 70), Affine(5e4, 0, 2.5e6, 0, -5e4, 5.5e6), GOES),
    ],
    ids=["full disc", "full disc across the dateline", "a corner of the disc"],
)
def test_areas_of_the_whole_world_are_right_where_the_map_ends_in_space(tmp_path: Path, geobox: GeoBox) -> None:
    rows, columns = (int(n) for n in geobox.shape)
    centres = ground(geobox.affine, np.arange(columns)[None, :] + 0.5, np.arange(rows)[:, None] + 0.5)
    degrees = pyproj.Transformer.from_crs(geobox.crs.to_wkt(), 4326, always_xy=True)
    x, y = degrees.transform(*np.broadcast_arrays(*centres))
    seen = np.isfinite(x)
    x, y = np.where(seen, x, 0), np.where(seen, y, 0)
    places = np.argwhere(seen)
    row, column = places[len(places) // 3]
    sea = shapely.box(-180, -90, 180, 90) - shapely.Point(x[row, column], y[row, column]).buffer(0.2 * np.ptp(y[seen]))
    geopandas.GeoSeries([sea], crs=4326).to_file(tmp_path / "sea.gpkg")
    masked = open_area(str(tmp_path / "sea.gpkg"), geobox)(Window(0, 0, rows, columns))
    wrong = masked != (shapely.contains_xy(sea, x, y) & seen)
    assert np.count_nonzero(wrong) <= 2  # where the globe turns away, a pixel's centre may be on either side
    assert 0.1 < masked[seen].mean() < 0.99


def test_long_edges_bend_on_their_way_however_far_the_file_reaches(tmp_path: Path) -> None:
    geobox = GeoBox((200, 200), Affine(10, 0, 400_000, 0, -10, 5_000_000), "EPSG:32632")
    shapes = [shapely.box(-20, 45.145, 35, 60), shapely.box(-170, -50, -120, -20)]
    geopandas.GeoSeries(shapes, crs=4326).to_file(tmp_path / "tiles.gpkg")
    x, y = np.broadcast_arrays(*ground(geobox.affine, np.arange(200)[None, :] + 0.5, np.arange(200)[:, None] + 0.5))
    north = pyproj.Transformer.from_crs(geobox.crs.to_wkt(), 4326, always_xy=True).transform(x, y)[1]
    masked = open_area(str(tmp_path / "tiles.gpkg"), geobox)(Window(0, 0, 200, 200))
    np.testing.assert_array_equal(masked, north > 45.145)


def test_frames_without_crs_take_vectors_in_columns_and_rows(tmp_path: Path) -> None:
    frame = GeoBox((20, 30), Affine.identity(), None)
    path = tmp_path / "block.geojson"
    ring = [[5, 3], [9, 3], [9, 7], [5, 7], [5, 3]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    expected = np.zeros((20, 30), bool)
    expected[3:7, 5:9] = True
    np.testing.assert_array_equal(open_area(str(path), frame)(Window(0, 0, 20, 30)), expected)


def test_another_planet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moon.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs="IAU_2015:30100").to_file(path)
    with pytest.raises(SourceError, match=r"moon\.gpkg.*reproject it first"):
        read_geometries(str(path), UTM)
    unsaid = tmp_path / "mars.geojson"
    unsaid.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}))
    with pytest.raises(SourceError, match=r"names no crs counts as WGS 84"):
        read_geometries(str(unsaid), GeoBox((60, 80), UTM.affine, "IAU_2015:49910"))


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.geojson"
    broken.write_text("{")
    for path in (broken, tmp_path / "absent.gpkg"):
        with pytest.raises(SourceError) as caught:
            read_geometries(str(path), UTM)
        assert "\n" not in str(caught.value)


def write(path: Path, values: np.ndarray, **profile: object) -> str:
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype, **profile
    ) as file:
        file.write(values, 1)
    return str(path)


def test_mask_rasters_are_never_interpolated(tmp_path: Path) -> None:
    coarse = np.zeros((32, 42), np.uint8)
    coarse[10:20, 12:30] = 7
    path = write(tmp_path / "m.tif", coarse, crs="EPSG:32633", transform=Affine(20, 0, 499_980, 0, -20, 4_000_020))
    got = read_mask_raster(path, UTM)(WHOLE)
    expected = np.zeros((60, 80), bool)
    expected[18:38, 22:58] = True
    np.testing.assert_array_equal(got, expected)
    part = Window(11, 7, 20, 33)
    np.testing.assert_array_equal(read_mask_raster(path, UTM)(part), expected[part.slices])


def test_nodata_nan_and_beyond_the_edge_are_not_masked(tmp_path: Path) -> None:
    values = np.zeros((60, 80), np.float32)
    values[5], values[6], values[7] = 1, np.nan, -9
    path = write(tmp_path / "m.tif", values, crs="EPSG:32633", transform=UTM.affine, nodata=-9)
    assert read_mask_raster(path, UTM)(WHOLE).any(axis=1).nonzero()[0].tolist() == [5]
    elsewhere = GeoBox((60, 80), Affine(10, 0, 900_000, 0, -10, 4_000_000), "EPSG:32633")
    assert not read_mask_raster(path, elsewhere)(WHOLE).any()


def test_a_mask_of_several_dates_is_refused(tmp_path: Path) -> None:
    days = {"time": np.array(["2024-01-01", "2024-01-02"], "M8[ns]")}
    clouds = xr.DataArray(np.zeros((2, 60, 80), "u1"), days, ("time", "y", "x"), "clouds")
    clouds.to_netcdf(tmp_path / "clouds.nc")
    with pytest.raises(InputError, match=r"has 2 dates.*--qa"):
        read_mask_raster(str(tmp_path / "clouds.nc"), UTM)


def test_quality_bands_are_no_masks(tmp_path: Path) -> None:
    """Their numbers stand for good ground too: `nonzero is missing` would take all of a scene away."""
    classes = np.full((60, 80), 4, np.uint8)
    path = write(tmp_path / "T33TVN_20240611T100559_SCL.tif", classes, crs="EPSG:32633", transform=UTM.affine)
    with pytest.raises(InputError, match=r"is a quality band.*--qa sentinel2-scl:.*_SCL\.tif"):
        read_mask_raster(path, UTM)


@pytest.mark.parametrize(("name", "first"), [("scene_udm2_clip.tif", None), ("usable.tif", "clear")])
def test_bands_that_say_where_it_is_clear_are_no_mask(tmp_path: Path, name: str, first: str | None) -> None:
    with rasterio.open(
        tmp_path / name, "w", driver="GTiff", height=60, width=80, count=8, dtype="uint8",
        crs="EPSG:32633", transform=UTM.affine,
    ) as file:  # fmt: skip
        file.write(np.ones((60, 80), np.uint8), 1)
        file.set_band_description(1, first)
    with pytest.raises(InputError, match=r"band 1 .*clear.*-b 3 -b 5 -b 6"):
        read_mask_raster(str(tmp_path / name), UTM)


def test_unplaced_masks_must_have_the_same_size(tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "m.tif", np.ones((60, 80), np.uint8))
    assert read_mask_raster(path, UTM)(WHOLE).all()
    with pytest.raises(GridError, match="same size"):
        read_mask_raster(path, GeoBox((61, 80), UTM.affine, UTM.crs))


def test_unplaced_masks_of_a_south_up_scene_are_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture drawn north-up over a scene whose first row is south masks the wrong half, without a word."""
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write(tmp_path / "m.tif", np.ones((60, 80), np.uint8))
    read_mask_raster(path, UTM)
    assert not caplog.text
    read_mask_raster(path, GeoBox((60, 80), Affine(10, 0, 500_000, 0, 10, 3_999_400), UTM.crs))
    assert "first row is its southernmost" in caplog.text

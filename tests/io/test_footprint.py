"""Outlines: where they lie, across the date line, around the poles, on other bodies."""

from __future__ import annotations

import pytest
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from shapely.geometry import shape

from geodiff.io.footprint import outline


def box(crs: str | None, west: float, north: float, pixel: float, size: tuple[int, int] = (100, 100)) -> GeoBox:
    return GeoBox(size, Affine(pixel, 0, west, 0, -pixel, north), crs)


@given(west=st.floats(-720, 720), south=st.floats(-80, 60), width=st.integers(1, 359))
@example(west=-180.0, south=0.0, width=254)
def test_a_geographic_grid_covers_its_own_ground_wherever_longitudes_begin(
    west: float, south: float, width: int
) -> None:
    geometry, bbox = outline(box("EPSG:4326", west, south + 10, 1.0, (10, width)))
    assert shape(geometry).is_valid
    assert shape(geometry).area == pytest.approx(10 * width, rel=1e-3)
    assert all(-180 <= number <= 180 for number in (bbox[0], bbox[2]))
    assert (bbox[2] - bbox[0]) % 360 == pytest.approx(width, abs=1e-5)


def test_the_date_line_cuts_and_the_box_says_so() -> None:
    geometry, bbox = outline(box("EPSG:32601", 200_000, 5_000_000, 1000, (100, 300)))
    assert geometry["type"] == "MultiPolygon"
    assert bbox[0] > 170
    assert bbox[2] < -170


@pytest.mark.parametrize("west", [0.0, -180.0, 0.5, -0.25])
def test_a_globe_is_the_whole_globe(west: float) -> None:
    geometry, bbox = outline(box("EPSG:4326", west, 90, 1.0, (180, 360)))
    assert bbox == [-180, -90, 180, 90]
    assert shape(geometry).area == pytest.approx(360 * 180)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_polar_grid_holds_its_pole(crs: str, pole: int) -> None:
    geometry, bbox = outline(box(crs, -2_000_000, 2_000_000, 40_000))
    assert shape(geometry).is_valid
    assert (bbox[0], bbox[2]) == (-180, 180)
    assert pole in (bbox[1], bbox[3])
    assert shape(geometry).covers(shape({"type": "Point", "coordinates": [12.0, pole - pole / 90 * 0.5]}))


def test_south_up_and_rotated_grids_have_outlines_counter_clockwise() -> None:
    for affine in (Affine(10, 0, 5e5, 0, 10, 5e6), Affine(8, 6, 5e5, 6, -8, 5e6)):
        geometry, bbox = outline(GeoBox((50, 80), affine, "EPSG:32633"))
        assert shape(geometry).exterior.is_ccw
        assert shape(geometry).bounds == pytest.approx(bbox)


def test_what_looks_into_space_and_what_has_no_crs_has_no_outline() -> None:
    disk = "+proj=geos +h=35786023 +lon_0=-75 +sweep=x +ellps=GRS80"
    assert outline(box(disk, -5_500_000, 5_500_000, 110_000)) == (None, None)
    assert outline(box(None, 0, 0, 1)) == (None, None)

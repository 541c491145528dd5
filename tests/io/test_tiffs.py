"""Rasters in and COGs out: what is known of the grid, the numbers and the tags is the same at the other end."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rio_cogeo import cog_validate

from geodiff.io import (
    Kind,
    open_raster,
    write_product,
)
from geodiff.io.directory import GDAL_NODATA, overwrite, text_of
from geodiff.lattice import Window
from tests.io.geotiffs import (
    ATTRIBUTES,
    NORTH_UP,
    limits,
    noise,
    product_of,
    read_all,
    round_trip,
    same_bits,
    write_source,
)

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


@pytest.mark.parametrize(
    ("dtype", "nodata"), [(d, n) for d in DTYPES for n in (None, 0, "max", "nan") if n != "nan" or d[0] == "f"]
)
def test_open_write_open_keeps_grid_and_encoding_and_bits(
    tmp_path: Path, rng: np.random.Generator, dtype: str, nodata: Any
) -> None:
    value = limits(dtype)[1] if nodata == "max" else float("nan") if nodata == "nan" else nodata
    values = noise(dtype, (2, 37, 41), rng)
    if dtype in ("int64", "uint64") and nodata == "max":
        source = write_source(tmp_path / "in.tif", values, describe=lambda file: setattr(file, "nodata", value))
        assert overwrite(tmp_path / "in.tif", GDAL_NODATA, str(value).encode(), b"\0")  # rasterio wrote it as a float
    else:
        source = write_source(tmp_path / "in.tif", values, nodata=value)
    before, after = round_trip(source, tmp_path / "out.tif")
    assert same_bits(read_all(after.variables[0]), values[None])
    assert after.variables[0].geobox == before.variables[0].geobox
    assert [str(b.encoding) for b in after.variables[0].bands] == [str(b.encoding) for b in before.variables[0].bands]
    assert text_of(tmp_path / "in.tif", GDAL_NODATA) == text_of(tmp_path / "out.tif", GDAL_NODATA)
    stored = before.variables[0].bands[0].encoding.nodata
    assert stored == value or (nodata == "nan" and stored != stored)


def test_the_least_integer_stays_nodata_as_rasterio_spells_it(tmp_path: Path) -> None:
    """-9.2233720368547758e+18 came out as -9: what is missing was a number, and -9 was missing."""
    least = np.iinfo(np.int64).min
    source = write_source(tmp_path / "in.tif", np.array([[[least, -9], [7, 8]]]), nodata=float(least))
    before, _ = round_trip(source, tmp_path / "out.tif")
    assert before.variables[0].bands[0].encoding.nodata == int(least)
    assert text_of(tmp_path / "out.tif", GDAL_NODATA) == str(least)


GRIDS = {
    "north-up": (NORTH_UP, "EPSG:32633"),
    "south-up": (Affine(30, 0, 399_960, 0, 30, 4_800_000), "EPSG:32633"),
    "rotated": (Affine(28, 3.7, 399_960, 3.7, -28, 4_900_020), "EPSG:32633"),
    "0-360": (Affine(0.25, 0, 200, 0, -0.25, 60), "EPSG:4326"),
    "dateline": (Affine(0.1, 0, 178, 0, -0.1, -15), "EPSG:4326"),
    "polar": (Affine(25_000, 0, -500_000, 0, -25_000, 500_000), "EPSG:3413"),
    "Mars": (Affine(0.01, 0, 137, 0, -0.01, -4), "IAU_2015:49900"),
    "Mars, projected": (Affine(100, 0, 8_100_000, 0, -100, -200_000), "IAU_2015:49910"),
    "Moon, polar": (Affine(100, 0, -5_000, 0, -100, 5_000), "IAU_2015:30130"),
    "fine": (Affine(0.3, 0, 399_960.1, 0, -0.3, 4_900_020.7), "EPSG:32633"),
    "no CRS": (Affine(2, 0, 10, 0, -2, 20), None),
    "none": (Affine.identity(), None),
    "ellipsoid of one's own": (
        Affine(500, 0, 0, 0, -500, 0),
        "+proj=ortho +lat_0=20 +lon_0=40 +a=252100 +b=248300 +units=m +type=crs",
    ),
    "rotated pole": (
        Affine(0.1, 0, -20, 0, -0.1, 20),
        "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229 +type=crs",
    ),
}


def vrt(data: Path, affine: Affine, crs: CRS | None) -> str:
    numbers = ",".join(map(repr, (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)))
    place = "" if affine.is_identity else f"<GeoTransform>{numbers}</GeoTransform>"
    mapping = "2,1" if crs is not None and crs.is_geographic and crs.to_authority() else "1,2"
    text = "" if crs is None else escape(crs.to_wkt(version="WKT2_2019"))
    srs = "" if crs is None else f"<SRS dataAxisToSRSAxisMapping='{mapping}'>{text}</SRS>"
    simple = f"<SimpleSource><SourceFilename relativeToVRT='1'>{data.name}</SourceFilename></SimpleSource>"
    band = f"<VRTRasterBand dataType='UInt16' band='1'>{simple}</VRTRasterBand>"
    return f"<VRTDataset rasterXSize='29' rasterYSize='33'>{srs}{place}{band}</VRTDataset>"


@pytest.mark.parametrize("grid", GRIDS)
def test_affine_and_crs_survive_exactly(tmp_path: Path, rng: np.random.Generator, grid: str) -> None:
    affine, text = GRIDS[grid]
    crs = None if text is None else CRS.from_user_input(text)
    source = tmp_path / "in.vrt"  # a VRT keeps any CRS and any affine
    data = tmp_path / "data.tif"
    write_source(data, noise("uint16", (1, 33, 29), rng), crs=None, transform=Affine.identity())
    source.write_text(vrt(data, affine, crs))
    before, after = round_trip(str(source), tmp_path / "out.tif")
    assert before.variables[0].geobox.affine == affine
    assert after.variables[0].geobox.affine == affine
    if crs is None:
        assert after.variables[0].geobox.crs is None
        assert after.variables[0].georeferenced == (not affine.is_identity)
    else:
        with rasterio.open(source) as one, rasterio.open(tmp_path / "out.tif") as other:
            assert one.crs == other.crs
    for layer in ("source", "reason", "standard_error"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(tmp_path / f"out_{layer}.tif") as file, rasterio.open(tmp_path / "out.tif") as value:
                assert file.transform == affine
                assert file.crs == value.crs


def test_everything_the_source_says_of_itself_is_said_again(tmp_path: Path, rng: np.random.Generator) -> None:
    def describe(file: Any) -> None:
        file.descriptions = ("red", "nir", None)
        file.units = ("1", "", "K")
        file.scales, file.offsets = (0.0001, 0.0001, 0.01), (-0.1, -0.1, 273.15)
        file.colorinterp = [ColorInterp.red, ColorInterp.undefined, ColorInterp.gray]
        file.update_tags(AREA_OR_POINT="Point", TIFFTAG_SOFTWARE="camera 1.0", platform='Landsat <8> & "9"')
        file.update_tags(ns="IMAGERY", CLOUDCOVER="12")
        file.update_tags(ns="MISSION", orbit="42", note="'quoted' <&>")
        file.update_tags(1, wavelength="0.665", STATISTICS_MEAN="1")
        file.update_tags(2, ns="SENSOR", gain="high")
        file.update_tags(ns="xml:XMP", **{"<x:xmpmeta xmlns:x": '"adobe:ns:meta/"/>'})

    values = rng.integers(1, 9999, (3, 600, 530)).astype("u2")
    source = write_source(tmp_path / "in.tif", values, nodata=0, describe=describe)
    before, after = round_trip(source, tmp_path / "out.tif")
    assert [b.name for b in after.variables[0].bands] == ["red", "nir", "band_3"]
    with rasterio.open(source) as one, rasterio.open(tmp_path / "out.tif") as other:
        for what in ("descriptions", "units", "scales", "offsets", "colorinterp", "nodatavals"):
            assert getattr(one, what) == getattr(other, what), what
        for namespace in ("IMAGERY", "MISSION", "xml:XMP"):
            assert one.tags(ns=namespace) == other.tags(ns=namespace)
        assert one.tags().items() <= other.tags().items()
        assert ATTRIBUTES.items() <= other.tags().items()
        assert set(other.tags()) == set(one.tags()) | set(ATTRIBUTES)
        assert other.tags(1) == {"wavelength": "0.665"}  # statistics are of other numbers
        assert one.tags(2, ns="SENSOR") == other.tags(2, ns="SENSOR")
        assert one.transform == other.transform
    assert before.attributes.items() <= after.attributes.items()
    assert cog_validate(tmp_path / "out.tif", quiet=True)[0]


def test_a_label_full_of_quotes_finds_room_and_so_do_empty_texts(tmp_path: Path) -> None:
    label = str([["A", "B"]] * 200).replace("'", '"')

    def describe(file: Any) -> None:
        file.update_tags(BANDWIDTH="", DATA_SET_ID="", FILTER_NAME="")
        file.update_tags(ns="LABEL", json_PDS=label)

    source = write_source(tmp_path / "in.tif", np.ones((1, 40, 50), "u2"), describe=describe)
    round_trip(source, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.tags(ns="LABEL") == {"json_PDS": label}


def test_the_history_of_the_source_stays_below_ours(tmp_path: Path) -> None:
    def describe(file: Any) -> None:
        file.update_tags(history="2019: mosaicked")

    source = write_source(tmp_path / "in.tif", np.ones((1, 40, 50), "u2"), describe=describe)
    round_trip(source, tmp_path / "once.tif")
    round_trip(str(tmp_path / "once.tif"), tmp_path / "twice.tif")
    for name in ("once", "twice"):
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.tags()["history"].splitlines()[0] == ATTRIBUTES["history"]
            assert file.tags()["history"].splitlines()[-1] == "2019: mosaicked"


def test_gcps_and_rpcs_survive(tmp_path: Path) -> None:
    points = [
        GroundControlPoint(r, c, 10.0 + c / 7, 50.0 - r / 9, 3.5, id=f"p{n}")
        for n, (r, c) in enumerate([(0, 0), (0, 30), (20, 0), (20, 30.5)])
    ]
    rpc = RPC(
        height_off=1, height_scale=2, lat_off=3, lat_scale=4, line_off=5, line_scale=6, long_off=7, long_scale=8,
        samp_off=9, samp_scale=10, line_den_coeff=[1.0] * 20, line_num_coeff=[2.0] * 20, samp_den_coeff=[3.0] * 20,
        samp_num_coeff=[4.0] * 20,
    )  # fmt: skip

    def describe(file: Any) -> None:
        file.gcps = (points, CRS.from_epsg(4326))
        file.rpcs = rpc

    source = write_source(
        tmp_path / "in.tif", np.ones((1, 21, 31), "u1"), crs=None, transform=Affine.identity(), describe=describe
    )
    raster, _ = round_trip(source, tmp_path / "out.tif")
    written = json.loads(raster.attributes["gcps"])["features"]
    assert [feature["geometry"]["coordinates"] for feature in written] == [[p.x, p.y, p.z] for p in points]
    assert "WGS 84" in raster.attributes["gcps_crs"]
    assert raster.attributes["RPC:LAT_OFF"] == "3.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(source) as one:
            for name in ("out.tif", "out_standard_error.tif"):
                with rasterio.open(tmp_path / name) as other:
                    assert [(p.row, p.col, p.x, p.y, p.z) for p in one.gcps[0]] == [
                        (p.row, p.col, p.x, p.y, p.z) for p in other.gcps[0]
                    ]
                    assert one.gcps[1] == other.gcps[1]
                    assert one.rpcs == other.rpcs


def test_palettes_booleans_and_complex_numbers_are_copied(tmp_path: Path, rng: np.random.Generator) -> None:
    table = {n: (n * 10, 255 - n, 7, 255) for n in range(5)}
    codes = rng.integers(0, 5, (1, 300, 290)).astype("u1")
    palette = write_source(
        tmp_path / "palette.tif", codes, photometric="palette", describe=lambda file: file.write_colormap(1, table)
    )
    bits = write_source(tmp_path / "bits.tif", codes % 2, nbits=1)
    radar = write_source(tmp_path / "radar.tif", (codes + 1j).astype("c8"))
    for source, kind in ((palette, Kind.PALETTE), (bits, Kind.BOOLEAN), (radar, Kind.COMPLEX)):
        raster = open_raster(source)
        assert {b.kind for v in raster.variables for b in v.bands} == {kind}
        written = write_product(replace(product_of(raster), variables=()), str(tmp_path / "out.tif"))
        assert written == [str(tmp_path / "out.tif")]
        after = open_raster(str(tmp_path / "out.tif"))
        assert {b.kind for v in after.variables for b in v.bands} == {kind}
        assert same_bits(read_all(after.variables[0]), read_all(raster.variables[0]))
    write_product(replace(product_of(open_raster(palette)), variables=()), str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert {n: file.colormap(1)[n] for n in table} == table


def test_complex_integers_keep_their_type(tmp_path: Path) -> None:
    source = write_source(tmp_path / "slc.tif", np.array([[[1 + 2j, -3 - 4j]]], "c8"), dtype="complex_int16")
    write_product(replace(product_of(open_raster(source)), variables=()), str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.dtypes == ("complex_int16",)
        assert file.read().tolist() == [[[1 + 2j, -3 - 4j]]]


@settings(max_examples=25)
@given(
    st.sampled_from([(1, 1), (1, 97), (101, 1), (2, 3), (127, 131), (257, 64)]),
    st.data(),
)
def test_any_size_and_any_window(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int], data: st.DataObject
) -> None:
    values = data.draw(arrays("i2", (1, *size)))
    folder = tmp_path_factory.mktemp("sizes")
    _, after = round_trip(write_source(folder / "in.tif", values), folder / "out.tif")
    row, column = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    window = Window(row, column, data.draw(st.integers(1, size[0] - row)), data.draw(st.integers(1, size[1] - column)))
    np.testing.assert_array_equal(after.variables[0].reader.read(0, window), values[(slice(None), *window.slices)])

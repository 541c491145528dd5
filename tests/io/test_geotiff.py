"""Rasters in and COGs out: what is known of the grid, the numbers and the tags is the same at the other end."""

import hashlib
import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
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

from geodiff.encoding import is_nodata
from geodiff.errors import EncodingError, SourceError, TargetError, WriteError
from geodiff.io import (
    Kind,
    OpenOptions,
    Product,
    ProductVariable,
    Raster,
    Variable,
    cog,
    open_raster,
    read_fingerprint,
    write_product,
)
from geodiff.io.directory import GDAL_NODATA, overwrite, text_of
from geodiff.io.tiffs import OUTSIDE
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.scene import open_scene

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
NORTH_UP = Affine(30, 0, 399_960, 0, -30, 4_900_020)
CODES = {"observed": 0, "laplace": 3, "diffusion": 7, "outside fillable": 254, "unfilled": 255}
REASONS = {"nodata": 1, "cloud": 4, "user mask": 64}
ATTRIBUTES = {"geodiff_fingerprint": "f00d", "history": "geodiff fill in.tif out.tif"}


def write_source(path: Path, values: np.ndarray, *, mask: np.ndarray | None = None, **profile: Any) -> str:
    """A GeoTIFF as others make them; `describe` is called with the open file."""
    describe = profile.pop("describe", lambda file: None)
    given = {"driver": "GTiff", "crs": "EPSG:32633", "transform": NORTH_UP, "dtype": values.dtype, **profile}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(values), height=values.shape[1], width=values.shape[2], **given
        ) as file:
            describe(file)
            file.write(values)
            if mask is not None:
                file.write_mask(mask)
    return str(path)


def read_all(variable: Variable) -> np.ndarray:
    """(date, band, row, column)"""
    dates, _, rows, columns = variable.shape
    return np.stack([variable.reader.read(date, Window(0, 0, rows, columns)) for date in range(dates)])


def unchanged(variable: Variable, **layers: Any) -> ProductVariable:
    """A variable in which nothing was missing."""
    zeros = np.zeros(variable.shape)
    found = {
        "value": read_all(variable),
        "source": zeros.astype("u1"),
        "reason": zeros.astype("u2"),
        "standard_error": zeros.astype("f4"),
    }
    return ProductVariable(variable, **{**found, **layers})


def product_of(raster: Raster, *filled: ProductVariable, quantiles: tuple[float, ...] = ()) -> Product:
    return Product(
        raster, filled or tuple(unchanged(v) for v in raster.variables), ATTRIBUTES, CODES, REASONS, quantiles
    )


def round_trip(source: str, target: Path) -> tuple[Raster, Raster]:
    raster = open_raster(source)
    write_product(product_of(raster), str(target))
    return raster, open_raster(str(target))


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def limits(dtype: str) -> tuple[float, float]:
    found = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    return found.min.item() if hasattr(found.min, "item") else found.min, found.max.item() if hasattr(
        found.max, "item"
    ) else found.max


def noise(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Numbers over the whole range of a dtype, its ends among them, and NaN with its payload."""
    bits = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8).view(dtype)[..., 0].copy()
    bits.flat[0], bits.flat[1] = limits(dtype)
    return bits


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


def test_dataset_masks_and_alpha_become_valid_exactly_where_every_band_is(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    values = rng.integers(1, 255, (4, 40, 50)).astype("u1")
    hole = np.zeros((40, 50), bool)
    hole[5:20, 10:30] = True
    source_codes = np.zeros((1, 4, 40, 50), "u1")
    source_codes[:, :3, hole] = 3
    source_codes[:, 1, 10:12, 15] = 255
    source_codes[:, 2, 15, 20:25] = OUTSIDE
    expected = (source_codes[0, :3] < OUTSIDE).all(axis=0)
    values[3] = np.where(hole, 0, rng.integers(1, 256, (40, 50)))

    def describe(file: Any) -> None:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]

    raster = open_raster(write_source(tmp_path / "rgba.tif", values, describe=describe, photometric="rgb", alpha="yes"))
    variable = raster.variables[0]
    assert [b.kind for b in variable.bands] == [Kind.CONTINUOUS] * 3 + [Kind.ALPHA]
    valid = variable.reader.valid(0, Window(3, 4, 20, 30))
    assert valid is not None
    np.testing.assert_array_equal(valid, ~hole[3:23, 4:34])
    write_product(product_of(raster, unchanged(variable, source=source_codes)), str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.colorinterp[3] == ColorInterp.alpha
        alpha = file.read(4)
        np.testing.assert_array_equal(alpha != 0, expected)
        assert (alpha[hole & expected] == 255).all()
        np.testing.assert_array_equal(alpha[~hole], values[3][~hole])  # a known pixel stays as opaque as it was
    with rasterio.open(tmp_path / "out_source.tif") as file:
        assert file.count == 3

    raster = open_raster(write_source(tmp_path / "masked.tif", values[:3], mask=~hole))
    variable = raster.variables[0]
    np.testing.assert_array_equal(variable.reader.valid(0, Window(0, 0, 40, 50)), ~hole)
    write_product(product_of(raster, unchanged(variable, source=source_codes[:, :3])), str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]
        np.testing.assert_array_equal(file.read_masks(1) == 255, expected)
    assert not list(tmp_path.glob("*.msk"))


def test_an_impossible_nodata_tag_does_not_matter_beside_alpha(tmp_path: Path) -> None:
    def describe(file: Any) -> None:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]

    source = write_source(tmp_path / "a.tif", np.array([[[5, 6]], [[0, 255]]], "u1"), nodata=255, describe=describe)
    overwrite(tmp_path / "a.tif", GDAL_NODATA, b"-99", b"\0")
    variable = open_raster(source).variables[0]
    assert [band.encoding.nodata for band in variable.bands] == [None, None]
    valid = variable.reader.valid(0, Window(0, 0, 1, 2))
    assert valid is not None
    assert valid.tolist() == [[False, True]]


def test_nodata_of_all_bands_together(tmp_path: Path) -> None:
    values = np.array([[[0, 0, 4]], [[0, 3, 9]]], "u1")
    source = write_source(tmp_path / "a.tif", values, describe=lambda file: file.update_tags(NODATA_VALUES="0 0"))
    variable = open_raster(source).variables[0]
    valid = variable.reader.valid(0, Window(0, 0, 1, 3))
    assert valid is not None
    assert valid.tolist() == [[False, True, True]]
    _, after = round_trip(source, tmp_path / "out.tif")
    assert after.variables[0].reader.valid(0, Window(0, 0, 1, 3)).tolist() == [[False, True, True]]


_NAMES = "<CategoryNames><Category/><Category>forest</Category></CategoryNames>"
_COLUMNS = '<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>'
_NAMED = f'{_COLUMNS}<FieldDefn index="1"><Name>Cover</Name><Type>2</Type><Usage>0</Usage></FieldDefn>'


@pytest.mark.parametrize(
    ("beside", "kind"),
    [
        (_NAMES, Kind.FLAGS),
        (f'<GDALRasterAttributeTable tableType="thematic">{_NAMED}</GDALRasterAttributeTable>', Kind.FLAGS),
        (f'<GDALRasterAttributeTable tableType="athematic">{_NAMED}</GDALRasterAttributeTable>', Kind.CONTINUOUS),
        (f'<GDALRasterAttributeTable tableType="thematic">{_COLUMNS}</GDALRasterAttributeTable>', Kind.CONTINUOUS),
        ("<CategoryNames><Category/>", Kind.CONTINUOUS),
        ("", Kind.CONTINUOUS),
    ],
)
def test_numbers_that_have_names_are_classes(tmp_path: Path, beside: str, kind: Kind) -> None:
    """Land cover was filled as a quantity, though GDAL and every desktop program show its classes by name."""
    profile = {"driver": "GTiff", "width": 9, "height": 8, "count": 2, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as file:
        file.write(np.arange(144, dtype=np.uint8).reshape(2, 8, 9))
    text = f'<PAMDataset><PAMRasterBand band="2">{beside}</PAMRasterBand></PAMDataset>'
    (tmp_path / "a.tif.aux.xml").write_text(text)
    (variable,) = open_raster(str(tmp_path / "a.tif")).variables
    assert [band.kind for band in variable.bands] == [Kind.CONTINUOUS, kind]


def test_thematic_layers_are_classes(tmp_path: Path) -> None:
    """As ERDAS calls those of its images."""
    profile = {"driver": "HFA", "width": 9, "height": 8, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.img", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as file:
        file.write(np.arange(72, dtype=np.uint8).reshape(1, 8, 9))
        file.update_tags(1, LAYER_TYPE="thematic")
    (variable,) = open_raster(str(tmp_path / "a.img")).variables
    assert variable.bands[0].kind is Kind.FLAGS
    with pytest.raises(SourceError, match=r"no continuous band to fill .*use --filler nearest"):
        open_scene(FillJob(source=str(tmp_path / "a.img"), target="filled.tif"))


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


def test_a_damaged_file_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.tif", tmp_path / "cut.tif"
    with rasterio.open(
        whole, "w", driver="GTiff", height=64, width=640, count=1, dtype="uint16", transform=Affine(10, 0, 0, 0, -10, 0)
    ) as target:
        target.write(np.ones((1, 64, 640), np.uint16))
    cut.write_bytes(whole.read_bytes()[:-1000])
    variable = open_raster(str(whole)).variables[0]
    with pytest.raises(SourceError, match=r"cut\.tif cannot be read"):
        open_raster(str(cut)).variables[0].reader.read(0, Window(0, 0, 64, 640))
    assert (open_raster(str(whole)).variables[0].reader.read(0, Window(0, 0, *variable.shape[2:])) == 1).all()


def test_overviews_of_codes_hold_real_codes_only(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", rng.integers(1, 255, (1, 1100, 1300)).astype("u1")))
    shape = raster.variables[0].shape
    codes = rng.choice(np.array([0, 3, 7, 254, 255], "u1"), shape)
    reasons = rng.choice(np.array([0, 1, 5, 64], "u2"), shape)
    errors = rng.random(shape).astype("f4")
    write_product(
        product_of(raster, unchanged(raster.variables[0], source=codes, reason=reasons, standard_error=errors)),
        str(tmp_path / "out.tif"),
    )
    for layer, real in (("source", {0, 3, 7, 254, 255}), ("reason", {0, 1, 5, 64})):
        path = tmp_path / f"out_{layer}.tif"
        assert cog_validate(path, quiet=True) == (True, [], [])
        with rasterio.open(path) as file:
            assert file.overviews(1) == [2, 4]
        for level in (0, 1):
            with rasterio.open(path, overview_level=level) as file:
                assert set(np.unique(file.read()).tolist()) <= real
    with rasterio.open(tmp_path / "out_source.tif") as file:
        assert file.tags()["flag_values"] == "0, 3, 7, 254, 255"
        assert file.tags(1)["flag_meanings"] == "observed laplace diffusion outside_fillable unfilled"
    with rasterio.open(tmp_path / "out_reason.tif") as file:
        assert file.tags()["flag_masks"] == "1, 4, 64"
    assert open_raster(str(tmp_path / "out_source.tif")).variables[0].bands[0].kind is Kind.FLAGS
    assert cog_validate(tmp_path / "out.tif", quiet=True) == (True, [], [])
    assert read_fingerprint(str(tmp_path / "out.tif")) == "f00d"


def test_members_and_quantiles_are_ordered_one_after_the_other(tmp_path: Path, rng: np.random.Generator) -> None:
    def describe(file: Any) -> None:
        file.descriptions = ("a", "b")
        file.scales = (0.5, 2.0)

    raster = open_raster(
        write_source(tmp_path / "in.tif", rng.integers(1, 255, (2, 20, 30)).astype("i2"), nodata=-1, describe=describe)
    )
    variable = raster.variables[0]
    members = rng.integers(1, 255, (3, *variable.shape)).astype("i2")
    quantiles = rng.random((2, *variable.shape)).astype("f4")
    filled = unchanged(variable, members=members, quantiles=quantiles)
    written = write_product(product_of(raster, filled, quantiles=(0.05, 0.95)), str(tmp_path / "out.tif"))
    assert [Path(path).name for path in written] == [
        f"out_{n}.tif" for n in ("source", "reason", "standard_error", "members", "quantiles")
    ] + ["out.tif"]
    with rasterio.open(tmp_path / "out_members.tif") as file:
        np.testing.assert_array_equal(file.read(), members[:, 0].reshape(6, 20, 30))
        assert file.descriptions == ("a member 0", "b member 0", "a member 1", "b member 1", "a member 2", "b member 2")
        assert file.nodata == -1
        assert file.scales == (0.5, 2.0) * 3
    with rasterio.open(tmp_path / "out_quantiles.tif") as file:
        np.testing.assert_array_equal(file.read(), quantiles[:, 0].reshape(4, 20, 30))
        assert file.descriptions[2:] == ("a quantile 0.95", "b quantile 0.95")


def test_equal_products_give_equal_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", noise("float32", (2, 520, 530), rng), nodata=-1))

    def digests(target: Path) -> list[str]:
        written = write_product(product_of(raster), str(target))
        return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in written]

    assert digests(tmp_path / "out.tif") == digests(tmp_path / "out.tif")


def test_bytes_do_not_depend_on_the_number_of_cores(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rng.integers(0, 4000, (2, 1300, 1700)).astype("uint16") // 64 * 64  # many tiles that compress unequally
    written = []
    for number in (1, 3):
        monkeypatch.setattr(cog, "cores", lambda number=number: number)
        raster = open_raster(write_source(tmp_path / "a.tif", values))
        (variable,) = raster.variables
        target = tmp_path / f"with_{number}.tif"
        write_product(product_of(raster, unchanged(variable)), str(target))
        written.append(target.read_bytes())
    assert written[0] == written[1]


def test_an_error_while_writing_leaves_nothing_half_written(tmp_path: Path, rng: np.random.Generator) -> None:
    raster = open_raster(write_source(tmp_path / "in.tif", noise("uint8", (1, 700, 30), rng)))

    class Broken:
        """An array that cannot be read below its first rows."""

        shape = raster.variables[0].shape

        def __getitem__(self, cut: tuple[Any, ...]) -> np.ndarray:
            if cut[-2].start:
                raise OSError("disk gone")
            return np.zeros((1, cut[-2].stop, 30), "u1")

    before = sorted(tmp_path.iterdir())
    with pytest.raises(WriteError, match="disk gone"):
        write_product(product_of(raster, unchanged(raster.variables[0], source=Broken())), str(tmp_path / "out.tif"))
    assert sorted(tmp_path.iterdir()) == before


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


def test_several_dtypes_or_nodata_make_several_variables(tmp_path: Path) -> None:
    write_source(tmp_path / "a.tif", np.ones((1, 5, 6), "u1"))
    write_source(tmp_path / "b.tif", np.ones((1, 5, 6), "f4"))
    simple = "<SimpleSource><SourceFilename relativeToVRT='1'>{}.tif</SourceFilename></SimpleSource>"
    band = "<VRTRasterBand dataType='{}' band='{}'>{}" + simple + "</VRTRasterBand>"
    bands = (
        band.format("Byte", 1, "", "a")
        + band.format("Float32", 2, "<NoDataValue>-9</NoDataValue>", "b")
        + band.format("Byte", 3, "<NoDataValue>0</NoDataValue>", "a")
    )
    (tmp_path / "mixed.vrt").write_text(f"<VRTDataset rasterXSize='6' rasterYSize='5'>{bands}</VRTDataset>")
    raster = open_raster(str(tmp_path / "mixed.vrt"))
    assert {(str(v.dtype), v.bands[0].encoding.nodata) for v in raster.variables} == {
        ("float32", -9.0),
        ("uint8", 0),
        ("uint8", None),
    }
    assert len({v.name for v in raster.variables}) == 3
    with pytest.raises(TargetError, match="folder"):
        write_product(product_of(raster), str(tmp_path / "out.tif"))


@pytest.mark.parametrize("text", ["-99", "300", "nan", "1.5"])
def test_nodata_that_the_dtype_cannot_hold_is_refused_with_the_cure(tmp_path: Path, text: str) -> None:
    source = write_source(tmp_path / "odd.tif", np.array([[[0, 1, 2]]], "u1"), nodata=255)
    overwrite(tmp_path / "odd.tif", GDAL_NODATA, text.encode(), b"\0")
    with pytest.raises(EncodingError, match=rf"{text}.*--nodata"):
        open_raster(source)
    raster = open_raster(source, OpenOptions(nodata=0))
    assert is_nodata(np.array([0, 1, 2], "u1"), raster.variables[0].bands[0].encoding).tolist() == [True, False, False]
    write_product(product_of(raster), str(tmp_path / "out.tif"))
    assert text_of(tmp_path / "out.tif", GDAL_NODATA) is None


def test_options_add_nodata_and_bounds(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.tif", np.ones((1, 3, 3), "i2"), nodata=-1)
    encoding = open_raster(source, OpenOptions(nodata=-99, valid_range=(0, 100))).variables[0].bands[0].encoding
    assert (encoding.nodata, encoding.extra_nodata, encoding.valid_range) == (-1, (-99,), (0, 100))
    with pytest.raises(EncodingError, match="99999"):  # no band to be filled can have it
        open_scene(FillJob(source=str(source), target="filled.tif", nodata=99999))


def test_quality_bands_inside_a_file_are_found_and_are_flags(tmp_path: Path) -> None:
    def describe(file: Any) -> None:
        file.descriptions = ("SR_B4", "QA_PIXEL")

    raster = open_raster(
        write_source(tmp_path / "stacked.tif", np.arange(24, dtype="u2").reshape(2, 3, 4), describe=describe)
    )
    assert [b.kind for b in raster.variables[0].bands] == [Kind.CONTINUOUS, Kind.FLAGS]
    (quality,) = raster.quality
    assert (quality.preset, quality.layer, quality.variable.name) == ("landsat-c2", "QA_PIXEL", "QA_PIXEL")
    np.testing.assert_array_equal(quality.variable.reader.read(0, Window(1, 1, 2, 2)), [[[17, 18], [21, 22]]])


def test_quality_bands_among_floats_are_copied(tmp_path: Path) -> None:
    """Earth Engine exports all bands in one dtype; classes were filled with numbers between them."""
    source = write_source(
        tmp_path / "a.tif",
        np.ones((3, 3, 4), "f4"),
        describe=lambda file: setattr(file, "descriptions", ("B4", "SCL", "QA_PIXEL")),
    )
    kinds = [b.kind for v in open_raster(source).variables for b in v.bands]
    assert kinds == [Kind.CONTINUOUS, Kind.FLAGS, Kind.FLAGS]


def test_readers_travel_and_threads_do_not_share_handles(tmp_path: Path, rng: np.random.Generator) -> None:
    values = noise("uint16", (2, 400, 300), rng)
    reader = (
        open_raster(write_source(tmp_path / "in.tif", values, tiled=True, blockxsize=64, blockysize=64, compress="lzw"))
        .variables[0]
        .reader
    )
    windows = [Window(r, c, 61, 47) for r in range(0, 330, 30) for c in range(0, 250, 40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda w: pickle.loads(pickle.dumps(reader)).read(0, w), windows))
    for window, got in zip(windows, found, strict=True):
        np.testing.assert_array_equal(got, values[(slice(None), *window.slices)])


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in.tif", np.ones((1, 4, 4), "u1"))
    assert open_raster(source).variables[0].reader.read(0, Window(0, 0, 4, 4)).max() == 1
    write_source(tmp_path / "in.tif", np.full((1, 4, 4), 9, "u1"))
    assert open_raster(source).variables[0].reader.read(0, Window(0, 0, 4, 4)).max() == 9


def test_bad_files_end_in_one_line(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = Path(write_source(tmp_path / "in.tif", noise("uint8", (1, 300, 300), rng))).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tif").write_text("no raster")
    for name in ("cut.tif", "text.tif", "absent.tif"):
        with pytest.raises(SourceError) as caught:
            read_all(open_raster(str(tmp_path / name)).variables[0])
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_of_a_file_of_several_images_the_others_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = {"driver": "GTiff", "width": 6, "height": 5, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    path = str(tmp_path / "pages.tif")
    for number, extra in enumerate(({}, {"APPEND_SUBDATASET": "YES"}), 1):
        with rasterio.open(path, "w", **profile, transform=Affine(10, 0, 5e5, 0, -10, 5e6), **extra) as file:
            file.write(np.full((1, 5, 6), number, np.uint8))
    read = open_raster(path).variables[0]
    assert set(read.reader.read(0, Window(0, 0, 5, 6)).flat) == {1}
    assert f"holds 2 images, and the first is read; the next is called GTIFF_DIR:2:{path}" in caplog.text
    second = open_raster(f"GTIFF_DIR:2:{path}").variables[0]
    assert set(second.reader.read(0, Window(0, 0, 5, 6)).flat) == {2}

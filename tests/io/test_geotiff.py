"""Rasters in: which bands, masks and flags a file has, and what is refused or told of it."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from geodiff.encoding import is_nodata
from geodiff.errors import EncodingError, SourceError, TargetError
from geodiff.io import (
    Kind,
    OpenOptions,
    open_raster,
    write_product,
)
from geodiff.io.directory import GDAL_NODATA, overwrite, text_of
from geodiff.io.tiffs import OUTSIDE
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.scene import open_scene
from tests.io.geotiffs import (
    noise,
    product_of,
    read_all,
    round_trip,
    unchanged,
    write_source,
)


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


@pytest.mark.parametrize(
    ("dtype", "stored", "opaque"),
    [("uint16", 255, 255), ("uint16", 65535, 65535), ("uint16", 40000, 65535), ("uint16", 0, 65535), ("uint8", 9, 255),
     ("float32", 1, 1), ("float32", 0.25, 1), ("float32", 255, 255)],
)  # fmt: skip
def test_what_is_filled_is_as_opaque_as_the_file_s_own_pixels_can_be(
    tmp_path: Path, dtype: str, stored: float, opaque: float
) -> None:
    """Orthomosaics of 16 bits have alpha of 0 to 255, too: 65535 in gaps would leave all else all but invisible."""
    values = np.full((2, 40, 50), 7, dtype)
    values[1], values[1, 5:20, 10:30] = stored, 0

    def describe(file: Any) -> None:
        file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]

    raster = open_raster(write_source(tmp_path / "a.tif", values, describe=describe, alpha="yes"))
    codes = np.where(values[1] == 0, 3, 0).astype("u1")[None, None].repeat(2, axis=1)
    write_product(product_of(raster, unchanged(raster.variables[0], source=codes)), str(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.read(2) == np.where(values[1] == 0, opaque, stored)).all()


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


def test_what_looks_at_all_bands_is_not_asked_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VRT of 60,000 bands took minutes to open."""
    from geodiff.io.header import Header

    asked: list[Header] = []
    real = Header.dataset_mask.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Header, "dataset_mask", property(lambda self: asked.append(self) or real(self)))
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=2, width=2, count=40, dtype="uint8", nodata=0,
        transform=Affine(10, 0, 0, 0, -10, 0),
    ) as out:  # fmt: skip
        for band in range(1, 41):
            out.set_band_description(band, "twice" if band in (3, 7) else f"b{band}")
    names = [band.name for band in open_raster(str(tmp_path / "a.tif")).variables[0].bands]
    assert (names[2], names[6], len(set(names))) == ("twice", "twice_7", 40)
    assert len(asked) < 4


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


@pytest.mark.parametrize(
    ("compress", "nodata", "options", "said"),
    [
        ("jpeg", 0, {}, "--valid-range 16,255"),
        ("jpeg", None, {"nodata": 255}, "--valid-range 0,239"),
        ("jpeg", 0, {"valid_range": (16, 255)}, ""),
        ("jpeg", None, {}, ""),
        ("deflate", 0, {}, ""),
    ],
)
def test_what_jpeg_makes_of_nodata_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, compress: str, nodata: int | None, options: dict, said: str
) -> None:
    """Holes of a mosaic were filled with the black that had run over their edge; once for a folder is enough."""
    for name in ("a.tif", "b.tif"):
        with rasterio.open(
            tmp_path / name, "w", driver="GTiff", height=16, width=16, count=1, dtype="uint8", nodata=nodata,
            compress=compress, transform=Affine(0.05, 0, 0, 0, -0.05, 0),
        ) as file:  # fmt: skip
            file.write(np.full((1, 16, 16), 90, "u1"))
        open_raster(str(tmp_path / name), OpenOptions(**options))
    assert [said in line for line in caplog.messages if "smears" in line] == ([True] if said else [])


@pytest.mark.parametrize(("kind", "told"), [("infrared", 1), ("opaque", 0), ("soft edge", 0)])
def test_infrared_that_passes_for_alpha_is_told(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture, kind: str, told: int
) -> None:
    """Red, green, blue and infrared in 8 bits: GDAL tags the last one as alpha, and it became 255 in gaps."""
    values = rng.integers(1, 200, (4, 90, 90)).astype("u1")
    if kind != "infrared":
        values[3] = np.where(np.arange(90) < 30, 0, 255)
    if kind == "soft edge":
        values[3, :, 30:38] = rng.integers(1, 255, (90, 8))
    with rasterio.open(
        tmp_path / "rgbn.tif", "w", driver="GTiff", height=90, width=90, count=4, dtype="uint8",
        transform=Affine(0.05, 0, 0, 0, -0.05, 0),
    ) as file:  # fmt: skip
        file.write(values)
    assert open_raster(str(tmp_path / "rgbn.tif")).variables[0].bands[3].kind is Kind.ALPHA
    said = [line for line in caplog.messages if "infrared" in line]
    assert len(said) == told
    assert all("--colorinterp red,green,blue,undefined" in line for line in said)


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


def test_bands_are_looked_up_without_a_list_of_all(tmp_path: Path) -> None:
    """rasterio makes one anew for each band that is read: 60,000 of them took minutes."""
    from geodiff.io.gdal import open_dataset

    numbers = np.arange(3 * 4 * 5, dtype="uint8").reshape(3, 4, 5)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=3, height=4, width=5, dtype="uint8", transform=Affine.scale(2)
    ) as out:
        out.write(numbers)
    with open_dataset(str(tmp_path / "a.tif")) as dataset:
        assert dataset.indexes == range(1, 4)
        assert np.array_equal(dataset.read(), numbers)
        assert np.array_equal(dataset.read([3, 1]), numbers[[2, 0]])
        with pytest.raises(IndexError):
            dataset.read([4])

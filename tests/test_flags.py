"""Every quality table says what its source document says, and never takes an unknown number for clear."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.errors import FlagError, InputError
from geodiff.flags import PRESETS, ProductFacts, decode, guess, load_preset, matches, slc_off_as_nodata
from geodiff.gaps import OUTSIDE, Reason
from geodiff.quality import same_date

R = Reason


def one(value, preset, dtype="uint16", **options) -> Reason:
    return Reason(int(decode(np.array([value], dtype), preset, **options)[0]))


# Tables


@pytest.mark.parametrize("name", PRESETS)
def test_each_table_loads_and_names_its_document(name):
    preset = load_preset(name)
    assert preset.layers
    assert all(len(text) > 2 for text in (preset.source.title, preset.source.version, preset.source.section))


@pytest.mark.parametrize(
    ("preset", "layer", "value", "dtype", "expected"),
    [
        ("landsat-c2", None, 1, "uint16", R.QA_FILL),
        ("landsat-c2", None, 21824, "uint16", R.KNOWN),  # clear, low confidences
        ("landsat-c2", None, 21952, "uint16", R.KNOWN),  # clear water
        ("landsat-c2", None, 22280, "uint16", R.CLOUD),
        ("landsat-c2", None, 23888, "uint16", R.SHADOW),
        ("landsat-c2", None, 30048, "uint16", R.KNOWN),  # snow is a surface
        ("landsat-c2", None, 55052, "uint16", R.CLOUD | R.CIRRUS),
        ("landsat-c2", None, 21762, "uint16", R.CLOUD),  # dilated
        ("landsat-c1", "BQA", 2720, "uint16", R.KNOWN),
        ("landsat-c1", "BQA", 2800, "uint16", R.CLOUD),
        ("landsat-c1", "BQA", 1, "uint16", R.QA_FILL),
        ("landsat-c1", "BQA", 2976, "uint16", R.SHADOW),
        ("landsat-c1", "BQA", 6816, "uint16", R.CIRRUS),
        ("landsat-c1", "BQA until 2017", 20480, "uint16", R.KNOWN),
        ("landsat-c1", "BQA until 2017", 53248, "uint16", R.CLOUD),
        ("landsat-c1", "BQA until 2017", 28672, "uint16", R.CIRRUS),
        ("landsat-c1", "BQA until 2017", 1, "uint16", R.QA_FILL),
        ("landsat-c1", "pixel_qa", 322, "uint16", R.KNOWN),
        ("landsat-c1", "pixel_qa", 480, "uint16", R.CLOUD),
        ("landsat-c1", "pixel_qa", 328, "uint16", R.SHADOW),
        ("hls-fmask", None, 255, "uint8", R.QA_FILL),
        ("hls-fmask", None, 64, "uint8", R.KNOWN),
        ("hls-fmask", None, 2, "uint8", R.CLOUD),
        ("hls-fmask", None, 4, "uint8", R.BUFFER),
        ("hls-fmask", None, 8 | 128, "uint8", R.SHADOW),
        ("hls-fmask", None, 16 | 32, "uint8", R.KNOWN),
        ("modis-vi", None, -1, "int8", R.QA_FILL),
        ("modis-vi", None, 2, "int8", R.SNOW),
        ("modis-vi", None, 3, "int8", R.CLOUD),
        ("modis-vi", "VI_Quality", 65535, "uint16", R.QA_FILL),
        ("modis-vi", "VI_Quality", 2116, "uint16", R.KNOWN),
        ("modis-vi", "VI_Quality", 2 | 1 << 2, "uint16", R.CLOUD),
        ("modis-state", None, 8, "uint16", R.KNOWN),
        ("modis-state", None, 9, "uint16", R.CLOUD),
        ("modis-state", None, 1032, "uint16", R.CLOUD),
        ("modis-state", None, 8 | 4, "uint16", R.SHADOW),
        ("modis-state", None, 8 | 3 << 8, "uint16", R.CIRRUS),
        ("modis-state", None, 65535, "uint16", R.QA_FILL),
        ("modis-lst", None, 0b00010001, "uint8", R.KNOWN),  # other quality, within 1 K
        ("modis-lst", None, 0b11010001, "uint8", R.QUALITY),  # over 3 K
        ("modis-lst", None, 2, "uint8", R.CLOUD),
        ("modis-lst", None, 3, "uint8", R.QUALITY),
        ("modis-lst", "QC", 0b1000_0000_0011_0001, "uint16", R.CLOUD),
        ("modis-lst", "QC", 0b1100_0000_0000_0001, "uint16", R.KNOWN),
        ("modis-lst", "QC", 0b01_0001, "uint16", R.CIRRUS),
        ("modis-lst", "QC", 0b10_0001, "uint16", R.BUFFER),
        ("modis-lst", "QC", 0b1111, "uint16", R.QUALITY),
        ("modis-snow", None, 100, "uint8", R.KNOWN),
        ("modis-snow", None, 237, "uint8", R.UNDEFINED),
        ("modis-snow", None, 250, "uint8", R.CLOUD),
        ("modis-snow", None, 255, "uint8", R.NODATA),
        ("ecostress", None, 1, "uint8", R.CLOUD),
        ("ecostress", None, 0, "uint8", R.KNOWN),
        ("ecostress", "QC", 0b1111_0000_0000_0001, "uint16", R.KNOWN),
        ("ecostress", "QC", 0b1111, "uint16", R.QUALITY),
        ("viirs", "QF1", 0b1011, "uint8", R.CLOUD),
        ("viirs", "QF1", 0b0111, "uint8", R.KNOWN),
        ("viirs", "QF2", 0b1001, "uint8", R.SHADOW),
        ("viirs", "pixel_reliability", 9, "int8", R.CLOUD),
        ("viirs", "pixel_reliability", 1, "int8", R.KNOWN),
        ("viirs", "Mandatory_Quality_Flag", 1, "uint8", R.KNOWN),
        ("viirs", "Mandatory_Quality_Flag", 2, "uint8", R.QUALITY),
        ("viirs", "Mandatory_Quality_Flag", 255, "uint8", R.QUALITY),
        ("viirs", "QF_Cloud_Mask", 0b0111_0010, "uint16", R.KNOWN),  # land, best mask, probably clear
        ("viirs", "QF_Cloud_Mask", 0b1011_0010, "uint16", R.CLOUD),
        ("viirs", "QF_Cloud_Mask", 0b0011_0011, "uint16", R.QUALITY),  # by day
        ("viirs", "QF_Cloud_Mask", 0b0110_0011_0010, "uint16", R.CIRRUS),  # and snow
        ("maiac", None, 0b0000_000_00_001, "uint16", R.KNOWN),
        ("maiac", None, 0b1011_011_01_010, "uint16", R.CLOUD | R.QUALITY),  # research quality, possibly cloudy
        ("maiac", None, 0b0000_001_00_001, "uint16", R.BUFFER),
        ("maiac", None, 0b0111_000_00_001, "uint16", R.QUALITY),  # climatology
        ("maiac", None, 0b01_1_0000_000_01_001, "uint16", R.KNOWN),  # glint and smoke
        ("goes-dqf", None, -1, "int8", R.QA_FILL),
        ("goes-dqf", None, 1, "int8", R.KNOWN),
        ("goes-dqf", None, 2, "int8", R.SATURATED),
        ("goes-dqf", "LST_DQF", 16, "uint16", R.UNDEFINED),
        ("ghrsst", "quality_level", 5, "int8", R.KNOWN),
        ("ghrsst", "quality_level", 3, "int8", R.KNOWN),
        ("ghrsst", "quality_level", 2, "int8", R.QUALITY),
        ("ghrsst", "quality_level", -128, "int8", R.NODATA),
        ("ghrsst", "l2p_flags", 2, "int16", R.UNDEFINED),
        ("ghrsst", "l2p_flags", -32768, "int16", R.KNOWN),  # the producer's own bit 15, in a signed number
        ("ghrsst", "l2p_flags", 4, "int16", R.SNOW),
        ("eolearn-clm", None, 1, "uint8", R.CLOUD),
        ("eolearn-clm", None, 255, "uint8", R.QA_FILL),
    ],
)
def test_a_number_means_what_its_document_says(preset, layer, value, dtype, expected):
    assert one(value, preset, dtype, layer=layer) == expected


def test_scene_classes():
    expected = [R.QA_FILL, R.SATURATED, 0, R.SHADOW, 0, 0, 0, 0, R.CLOUD, R.CLOUD, R.CIRRUS, 0]
    assert decode(np.arange(12, dtype=np.uint8), "sentinel2-scl").tolist() == [int(r) for r in expected]


@pytest.mark.parametrize(
    ("value", "preset", "layer", "dtype"),
    [
        (12, "sentinel2-scl", None, "uint8"),
        (-1, "sentinel2-scl", None, "int16"),
        (5, "modis-vi", None, "int8"),
        (1 << 12, "landsat-c1", "pixel_qa", "uint16"),
        (1 << 15, "landsat-c2", "QA_RADSAT", "uint16"),
        (6, "ghrsst", None, "int8"),
        (-2, "goes-dqf", None, "int8"),
        (70000, "landsat-c2", None, "int32"),
        (2.5, "sentinel2-scl", None, "float32"),
        (np.nan, "sentinel2-scl", None, "float32"),
        (np.inf, "landsat-c2", None, "float64"),
    ],
)
def test_an_unknown_number_is_refused_and_shown(value, preset, layer, dtype):
    flags = np.zeros((2, 3), dtype)
    flags[1, 1] = value
    with pytest.raises(FlagError, match=r"at 1 pixels.*--qa"):
        decode(flags, preset, layer=layer)


def test_unknown_names_are_refused():
    with pytest.raises(FlagError, match=r"landsat-c3.*landsat-c2"):
        decode(np.zeros(1, np.uint8), "landsat-c3")
    with pytest.raises(FlagError, match=r"SCM.*SCL"):
        decode(np.zeros(1, np.uint8), "sentinel2-scl", layer="SCM")


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=30), st.sampled_from(["int32", "int64", "float64"]))
def test_the_width_a_reader_chose_changes_nothing(values, dtype):
    narrow = np.array(values, np.uint16)
    assert np.array_equal(decode(narrow.astype(dtype), "landsat-c2"), decode(narrow, "landsat-c2"))


@given(st.integers(0, 65535))
def test_any_cloud_bit_is_missing_whatever_the_others_say(value):
    assert one(value | 8, "landsat-c2") & Reason.CLOUD
    assert one(value | 1, "landsat-c2") & OUTSIDE


# One bit a band


def test_saturation_is_judged_band_by_band():
    flags = np.array([0, 0b11110, 1 << 8, 1 << 9, 1 << 11], np.uint16)

    def saturated(band):
        return (decode(flags, "landsat-c2", layer="QA_RADSAT", band=band) & R.SATURATED).astype(bool).tolist()

    assert saturated("SR_B1") == [False] * 5
    assert saturated("LC08_L2SP_008059_20191201_20200825_02_T1_SR_B2") == [False, True, False, False, False]
    assert saturated("B9") == [False, False, True, False, False]
    assert saturated("B6_VCID_2") == [False, False, True, False, False]
    assert saturated("ST_B10") == [False] * 5
    assert saturated("nir") == [False, True, True, False, False]
    every = decode(flags, "landsat-c2", layer="QA_RADSAT", band="SR_B1")
    assert [Reason(int(v)) for v in every[3:]] == [R.DROPOUT, R.QUALITY]


def test_scan_gaps_of_landsat_7_can_be_told_from_its_collar():
    fill = np.array([int(R.QA_FILL), int(R.CLOUD), 0], np.uint16)
    assert slc_off_as_nodata(fill).tolist() == [int(R.NODATA), int(R.CLOUD), 0]


# Reserved values


@pytest.mark.parametrize(
    ("dtype", "null", "high", "plain"),
    [
        ("uint8", 0, 255, 1),
        ("int16", -32768, -32764, -32763),
        ("uint16", 0, 65535, 3),
        ("int32", -8388613, -8388609, 0),
        ("uint32", 0, 4294967295, 3),
    ],
)
def test_isis_special_pixels(dtype, null, high, plain):
    flags = decode(np.array([null, high, plain], dtype), "isis-special")
    assert flags.tolist() == [int(R.NODATA), int(R.SATURATED), 0]


@pytest.mark.parametrize(
    ("dtype", "unsigned", "null"), [("float32", "uint32", 0xFF7FFFFB), ("float64", "uint64", 0xFFEFFFFFFFFFFFFB)]
)
def test_isis_special_pixels_of_floats_are_bit_patterns(dtype, unsigned, null):
    stored = np.array([null, null + 1, null + 4, 0], unsigned).view(dtype)
    expected = [int(R.NODATA), int(R.SATURATED), int(R.SATURATED), 0]
    assert decode(stored, "isis-special").tolist() == expected
    assert decode(stored.astype(stored.dtype.newbyteorder(">")), "isis-special").tolist() == expected


def test_isis_reserves_nothing_in_other_types():
    with pytest.raises(FlagError, match="complex64"):
        decode(np.zeros(2, np.complex64), "isis-special")


def test_pds_constants_are_the_labels():
    image = np.array([0, 1, 4095, -1], np.int16)
    constants = {
        "MISSING_CONSTANT": 0,
        "saturated_constant": 4095.0,
        "INVALID_CONSTANT": 70000,
        "UNKNOWN_CONSTANT": 0.5,
    }
    assert decode(image, "pds", constants=constants).tolist() == [int(R.NODATA), 0, int(R.SATURATED), 0]
    floats = np.array([np.nan, -3.4028226550889045e38, 1], np.float32)
    constants = {"NULL": -3.4028226550889045e38, "INVALID_CONSTANT": float("nan")}
    assert decode(floats, "pds", constants=constants).tolist() == [int(R.QUALITY), int(R.NODATA), 0]
    with pytest.raises(FlagError, match="FOO"):
        decode(image, "pds", constants={"FOO": 1})
    with pytest.raises(FlagError, match="--nodata"):
        decode(image, "pds")


# Guessing

GOES = "good_pixel_qf conditionally_usable_pixel_qf out_of_range_pixel_qf no_value_pixel_qf"
GHRSST = "no_data bad_data worst_quality low_quality acceptable_quality best_quality"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ProductFacts(files=("LC08_L2SP_1_SR_B1.TIF", "LC08_L2SP_1_QA_PIXEL.TIF")), "landsat-c2"),
        (ProductFacts(files=("LC08_L1TP_1_T1_B1.TIF", "LC08_L1TP_1_T1_BQA.TIF")), "landsat-c1"),
        (ProductFacts(files=("T33TVM_20210628T100029_SCL_20m.jp2",)), "sentinel2-scl"),
        (ProductFacts(bands={"B02": {}, "SCL": {}}), "sentinel2-scl"),
        (ProductFacts(files=("HLS.L30.T13TEF.2021001T173921.v2.0.Fmask.tif",)), "hls-fmask"),
        (ProductFacts(files=("MOD13A2.h5",), bands={"1 km 16 days pixel reliability": {}}), "modis-vi"),
        (ProductFacts(files=("VNP13A2.h5",), bands={"1 km 16 days pixel reliability": {}}), "viirs"),
        (ProductFacts(files=("VNP46A2.A2020040.h00v06.001.h5",), bands={"QF_Cloud_Mask": {}}), "viirs"),
        (ProductFacts(files=("MCD19A2.061_AOD_QA_doy2024001_aid0001_01.tif",)), "maiac"),
        (ProductFacts(bands={"state_1km_1": {}}), "modis-state"),
        (ProductFacts(files=("VNP21A1D.A2023180.h18v04.002.h5",), bands={"LST_1KM": {}, "QC": {}}), "modis-lst"),
        (ProductFacts(files=("MOD11A1.h5",), bands={"QC_Day": {}, "QC_Night": {}}), None),  # each of half
        (ProductFacts(files=("ECOv002_L2T_LSTE_1_001_10SGD_20230629T170416_0710_01_cloud.tif",)), "ecostress"),
        (ProductFacts(files=("B02.tif", "cloud.tif")), None),  # whose numbers may be anybody's
        (ProductFacts(bands={"DQF": {"flag_meanings": GOES}}), "goes-dqf"),
        (ProductFacts(bands={"q": {"flag_meanings": GHRSST}}), "ghrsst"),
        (ProductFacts(bands={"l2p_flags": {}}), "ghrsst"),
        (ProductFacts(files=("a.cub",), driver="ISIS3"), "isis-special"),
        (ProductFacts(bands={"CLM": {}}), "eolearn-clm"),
        (ProductFacts(files=("scene.tif",), bands={"quality_level": {}, "DQF": {}, "pixel_reliability": {}}), None),
        (ProductFacts(), None),
    ],
)
def test_a_product_is_known_by_its_own_names(facts, expected):
    assert guess(facts) == expected


def test_matches_name_file_or_band_and_each_statement_once():
    files = ("LC08_X_QA_PIXEL.TIF", "LC08_X_SR_B1.TIF", "LC08_X_QA_RADSAT.TIF")
    found = [(m.layer, m.file) for m in matches(ProductFacts(files=files))]
    assert found == [("QA_PIXEL", files[0]), ("QA_RADSAT", files[2])]
    bands = {"1 km 16 days pixel reliability": {}, "1 km 16 days VI Quality": {}}
    assert [m.layer for m in matches(ProductFacts(files=("MOD13A2.hdf",), bands=bands))] == ["pixel_reliability"]


# Real quality bands


def test_real_landsat(data_dir):
    import rasterio

    (path,) = (data_dir / "train/stactools-landsat").rglob("*QA_PIXEL.TIF")
    with rasterio.open(path) as raster, rasterio.open(str(path).replace("QA_PIXEL", "SR_B4")) as red:
        reason = decode(raster.read(1), "landsat-c2")
        absent = red.read(1) == 0
    fill = (reason & R.QA_FILL) != 0
    assert not (absent & ~fill).any()
    assert absent[fill].mean() > 0.98  # in these decimated files the bands' rim overhangs that of the flags
    assert 0.5 < ((reason & R.CLOUD) != 0).mean() < 0.7


@pytest.mark.parametrize("place", ["MJJ2021_minicube_225_34TET_47.37_22.05", "JAS2021_minicube_0_29SND_39.29_-8.56"])
def test_real_scene_classification(data_dir, place):
    with np.load(data_dir / f"train/s2-minicubes/{place}.npz") as cube:
        scl, bands = cube["scl"], cube["bands"].astype(np.int32)
    reason = decode(scl, "sentinel2-scl")
    blue = np.where(bands[:, 0] == 65535, -1, bands[:, 0])
    cloudy, clear = blue[(reason & R.CLOUD) != 0], blue[reason == 0]
    assert np.median(cloudy[cloudy >= 0]) > 2 * np.median(clear[clear >= 0])


def test_real_modis_reliability(data_dir):
    with np.load(data_dir / "evaluate/modis-mod13a2-h18v09/mod13a2_h18v09_crop.npz") as crop:
        reliability, quality, bands = crop["pixel_reliability"], crop["vi_quality"], crop["bands"]
    reason = decode(reliability, "modis-vi")
    assert set(np.unique(reason)) == {0, int(R.QA_FILL), int(R.CLOUD)}
    ndvi = bands[:, 0]
    assert (ndvi[(reason & R.QA_FILL) != 0] == -3000).all()
    assert (ndvi[reason == 0] != -3000).all()
    detail = decode(quality, "modis-vi", layer="VI_Quality")
    assert ((detail & R.CLOUD) != 0)[reason == int(R.CLOUD)].mean() > 0.9


def test_real_goes(data_dir):
    import rasterio

    for path in sorted((data_dir / "train/stactools-goes").rglob("*_DQF.tif"))[:3]:
        with rasterio.open(path) as raster:
            assert guess(ProductFacts(files=(path.name,))) == "goes-dqf"
            assert guess(ProductFacts(bands={"band 1": raster.tags(1)})) == "goes-dqf"
            good = float(raster.tags(1)["percent_good_pixel_qf"])
            assert (decode(raster.read(1), "goes-dqf") == 0).mean() == pytest.approx(good, abs=1e-6)


def test_real_isis_cubes(data_dir):
    import rasterio

    folder = data_dir / "train/isis3-testdata/isis/tests/data"
    with rasterio.open(folder / "demprep/vest64_dtm_specialpixels_downsampled.cub") as cube:
        heights = cube.read(1)
    reason = decode(heights, "isis-special")
    assert np.array_equal(reason != 0, heights < -1e38)
    assert {int(R.NODATA)} < set(np.unique(reason).tolist()) - {0}
    with rasterio.open(folder / "isis2pds/dawnEqui1.cub") as cube:
        assert np.array_equal(decode(cube.read(1), "isis-special") != 0, cube.read(1) <= -32764)


def test_real_cloud_masks_of_eo_learn(data_dir):
    folder = data_dir / "evaluate/eo-learn/example_data/TestEOPatch"
    clouds = np.load(folder / "mask/CLM.npy")
    reason = decode(clouds, "eolearn-clm")
    assert np.array_equal(reason == int(R.CLOUD), clouds == 1)


def _dated(*days: str | None) -> Any:
    return SimpleNamespace(name="flags", dates=tuple(None if d is None else np.datetime64(d) for d in days))


def test_flags_explain_the_date_they_are_of() -> None:
    source = _dated("2024-01-01", "2024-01-02", "2024-01-03")
    turned = _dated("2024-01-03", "2024-01-02", "2024-01-01", "2023-12-31")
    assert [same_date(turned, source, date, "ghrsst") for date in range(3)] == [2, 1, 0]
    assert [same_date(_dated("2020-01-01"), source, date, "ghrsst") for date in range(3)] == [0, 0, 0]
    assert [same_date(_dated(None, None, None), source, date, "ghrsst") for date in range(3)] == [0, 1, 2]
    assert same_date(_dated(None, None), _dated(None, None), 1, "ghrsst") == 1


@pytest.mark.parametrize("days", [("2024-01-01", "2024-01-03"), ("2024-01-02", "2024-01-02"), (None, None)])
def test_flags_of_other_dates_are_refused(days: tuple[str | None, ...]) -> None:
    source = _dated("2024-01-01", "2024-01-02", "2024-01-03")
    with pytest.raises(InputError, match="flags of the same dates"):
        same_date(_dated(*days), source, 1, "ghrsst")

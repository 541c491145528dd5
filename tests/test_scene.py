"""What a job chooses of a source: bands by name and number, where a source has several variables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from geodiff.errors import FlagError, GridError, JobError, SourceError
from geodiff.fillers.series import days_of
from geodiff.gaps import Reason
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.pipeline import plan
from geodiff.scene import Cube, open_scene
from geodiff.undated import has_season

LANDSAT = "LC08_L2SP_190030_20210131_20210302_02_T1"
SENTINEL = "T33TVK_20210131T101251"


def chosen(source: Path, bands: str, **options: object) -> dict[str, list[str]]:
    """The names of the bands to fill, by variable."""
    scene = open_scene(FillJob.build(source=str(source), target="out.zarr", bands=tuple(bands.split(",")), **options))
    return {cube.name: [cube.variable.bands[i].name for i in cube.bands] for cube in scene.cubes}


def write(path: Path, size: int, dtype: str, pixel: float = 30) -> None:
    """A file of one band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=size, width=size, count=1, dtype=dtype, nodata=0,
        crs="EPSG:32633", transform=Affine(pixel, 0, 400_000, 0, -pixel, 4_900_000),
    ) as file:  # fmt: skip
        file.write(np.ones((1, size, size), dtype))


@pytest.fixture
def landsat(tmp_path: Path) -> Path:
    for band in ("SR_B2", "SR_B4", "QA_PIXEL"):
        write(tmp_path / LANDSAT / f"{LANDSAT}_{band}.TIF", 20, "uint16")
    return tmp_path / LANDSAT


def test_bands_of_a_scene_with_a_quality_band(landsat: Path) -> None:
    assert chosen(landsat, "SR_B4") == {"bands": ["SR_B4"]}
    assert chosen(landsat, "2,SR_B2,SR_B4") == {"bands": ["SR_B4", "SR_B2"]}
    assert chosen(landsat, "1") == {"bands": ["SR_B2"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("red", r"--bands red: bands has bands 1 to 2, called SR_B2, SR_B4$"),
        ("SR_B4,3", r"--bands 3: bands has bands 1 to 2"),
        ("SR_B4,QA_PIXEL", r"--bands QA_PIXEL: a flags band holds codes"),
    ],
)
def test_words_that_name_nothing_to_fill(landsat: Path, words: str, said: str) -> None:
    with pytest.raises(JobError, match=said):
        chosen(landsat, words)


def test_bands_on_two_grids_are_found_on_either(tmp_path: Path) -> None:
    for band, pixel, size in (("B02", 10, 40), ("B03", 10, 40), ("B8A", 20, 20)):
        write(tmp_path / "s" / f"{SENTINEL}_{band}_{pixel}m.tif", size, "uint16", pixel=pixel)
    assert chosen(tmp_path / "s", "B8A") == {"bands_20m": ["B8A"]}
    assert chosen(tmp_path / "s", "B03,B8A") == {"bands_10m": ["B03"], "bands_20m": ["B8A"]}
    assert chosen(tmp_path / "s", "1") == {"bands_10m": ["B02"], "bands_20m": ["B8A"]}


def test_numbers_of_a_file_of_several_dtypes_are_the_files_own(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", 20, "uint16")
    write(tmp_path / "b.tif", 20, "float32")
    bands = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{n}"><SimpleSource>'
        f"<SourceFilename relativeToVRT='1'>{name}.tif</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand>"
        for n, (dtype, name) in enumerate((("UInt16", "a"), ("Float32", "b"), ("UInt16", "a")), 1)
    )
    mixed = tmp_path / "mixed.vrt"
    mixed.write_text(f'<VRTDataset rasterXSize="20" rasterYSize="20">{bands}</VRTDataset>')
    assert chosen(mixed, "3") == {"band_data_uint16": ["band_3"]}
    assert chosen(mixed, "2") == {"band_2": ["band_2"]}
    assert chosen(mixed, "band_1,2") == {"band_data_uint16": ["band_1"], "band_2": ["band_2"]}
    with pytest.raises(JobError, match="--bands 4"):
        chosen(mixed, "4")


def test_a_variable_of_one_band_is_a_band_by_its_name(tmp_path: Path) -> None:
    axes = {"lat": [2.0, 1.0, 0.0], "lon": [5.0, 6.0, 7.0]}
    names = ("sst", "chlorophyll")
    xr.Dataset({name: (("lat", "lon"), np.ones((3, 3), "f4")) for name in names}, axes).to_netcdf(tmp_path / "sea.nc")
    assert chosen(tmp_path / "sea.nc", "sst") == {"sst": ["sst"]}
    with pytest.raises(JobError, match=r"--bands ice: (sst|chl).* has one band, .*; (sst|chl).* has one band"):
        chosen(tmp_path / "sea.nc", "ice")


def test_an_image_of_complex_numbers_is_refused_with_the_way_to_parts_that_can_be_filled(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "complex64"}
    with rasterio.open(tmp_path / "slc.tif", "w", **profile, transform=Affine.scale(5)) as out:
        out.write(np.ones((1, 8, 8), "c8"))
    with pytest.raises(SourceError, match="real and imaginary parts, or their amplitude"):
        open_scene(FillJob.build(source=str(tmp_path / "slc.tif"), target="filled.tif"))


def test_a_palette_is_refused_with_the_way_to_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    write(path, 8, "uint8")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {number: (number, 0, 0, 255) for number in range(256)})
    with pytest.raises(SourceError, match=r"-expand rgb\), .* --filler nearest"):
        open_scene(FillJob.build(source=str(path), target="out.tif"))


def flagged(folder: Path, name: str, value: int, preset: str, size: int = 20) -> set[int]:
    """Reasons of a scene of 20 x 20 known pixels whose flags all have one value, in a file of that name."""
    write(folder / "scene.tif", 20, "uint16")
    with rasterio.open(
        folder / name, "w", driver="GTiff", height=size, width=size, count=1, dtype="uint16", crs="EPSG:32633",
        transform=Affine(30, 0, 400_000, 0, -30, 4_900_000),
    ) as file:  # fmt: skip
        file.write(np.full((1, size, size), value, "uint16"))
    return reasons(str(folder / "scene.tif"), f"{preset}:{folder / name}")


def reasons(source: str, qa: str, date: int = 0) -> set[int]:
    cube = open_scene(FillJob.build(source=source, target="out.zarr", qa=(qa,))).cubes[0]
    return set(np.unique(cube.reason(date, Window(0, 0, 20, 20))).tolist())


@pytest.mark.parametrize(
    ("name", "value", "preset", "reason"),
    [
        ("LE07_L1TP_190030_20020131_20210302_01_T1_pixel_qa.tif", 1 << 5, "landsat-c1", Reason.CLOUD),
        ("LE07_L1TP_190030_20020131_20210302_01_T1_pixel_qa.tif", 1 << 1, "landsat-c1", Reason.KNOWN),
        (f"{LANDSAT}_QA_RADSAT.TIF", 1, "landsat-c2", Reason.SATURATED),
        ("VNP09GA.A2024163.h18v04.SurfReflect_QF2_1.tif", 1 << 3, "viirs", Reason.SHADOW),
        ("QF2.tif", 1 << 3, "viirs", Reason.SHADOW),
        ("MOD13Q1.A2024161.VI_Quality.tif", 2 | 15 << 2, "modis-vi", Reason.CLOUD | Reason.QUALITY),
        ("MOD11A1.061_QC_Night_doy2023180000000_aid0001.tif", 2, "modis-lst", Reason.CLOUD),
        ("VNP21A1D.002_QC_doy2023180000000_aid0001.tif", 3 << 4, "modis-lst", Reason.CLOUD),
        ("MOD21A2.061_QC_Day_doy2023177000000_aid0001.tif", 0b11110001, "modis-lst", Reason.KNOWN),
        ("ECOv002_L2T_LSTE_28238_012_10SGD_20230629T170416_0710_01_cloud.tif", 1, "ecostress", Reason.CLOUD),
        ("ECOv002_L2T_LSTE_28238_012_10SGD_20230629T170416_0710_01_QC.tif", 3 << 2, "ecostress", Reason.QUALITY),
        ("flags.tif", 1 << 3, "landsat-c2", Reason.CLOUD),
    ],
)
def test_flags_named_by_path_are_read_by_their_own_table(
    tmp_path: Path, name: str, value: int, preset: str, reason: Reason
) -> None:
    """A preset has several quality bands, whose bits mean different things; the name says which one it is."""
    assert flagged(tmp_path, name, value, preset) == {int(reason)}


def test_flags_of_a_part_of_the_scene_are_refused(tmp_path: Path) -> None:
    """Beyond them nothing says what is missing; the flags at their edge do not go on for ever."""
    with pytest.raises(GridError, match="covers the scene only in part"):
        flagged(tmp_path, "half_SCL.tif", 9, "sentinel2-scl", size=10)
    assert flagged(tmp_path, "SCL.tif", 9, "sentinel2-scl", size=19) == {int(Reason.CLOUD)}


def test_a_stack_of_one_index_has_its_flags_by_a_pattern(tmp_path: Path) -> None:
    """As AppEEARS delivers: a file for each layer and date."""
    for day, reliability in ((1, 0), (17, 3)):
        stem = f"{tmp_path}/MOD13Q1.061__250m_16_days_{{}}_doy2020{day:03d}_aid0001.tif"
        write(Path(stem.format("NDVI")), 20, "int16")
        with rasterio.open(
            stem.format("pixel_reliability"), "w", driver="GTiff", height=20, width=20, count=1, dtype="int8",
            crs="EPSG:32633", transform=Affine(30, 0, 400_000, 0, -30, 4_900_000),
        ) as file:  # fmt: skip
            file.write(np.full((1, 20, 20), reliability, "int8"))
    flags = f"modis-vi:{tmp_path}/*pixel_reliability*.tif"
    assert reasons(f"{tmp_path}/*NDVI*.tif", flags, date=0) == {int(Reason.KNOWN)}
    assert reasons(f"{tmp_path}/*NDVI*.tif", flags, date=1) == {int(Reason.CLOUD)}


def test_a_path_without_a_preset_is_told_how_to_name_it(tmp_path: Path) -> None:
    write(tmp_path / "scene.tif", 20, "uint16")
    write(tmp_path / "T33TVK_20210131T101251_SCL.tif", 20, "uint8")
    write(tmp_path / "clouds.tif", 20, "uint8")
    with pytest.raises(FlagError, match=r"is a file; say how to read it, as --qa sentinel2-scl:.*_SCL\.tif"):
        reasons(str(tmp_path / "scene.tif"), str(tmp_path / "T33TVK_20210131T101251_SCL.tif"))
    with pytest.raises(FlagError, match=r"is a file; say how to read it, as --qa PRESET:.*clouds\.tif.*--mask"):
        reasons(str(tmp_path / "scene.tif"), str(tmp_path / "clouds.tif"))


def test_a_quality_file_or_band_is_read_by_its_own_layer(landsat: Path) -> None:
    """Saturation stands in bits that mean fill and cloud in QA_PIXEL."""
    radsat = landsat / f"{LANDSAT}_QA_RADSAT.TIF"
    write(radsat, 20, "uint16")
    scenes = [
        open_scene(FillJob.build(source=str(source), target="out.zarr", qa=[f"landsat-c2:{where}"]))
        for source, where in ((landsat / f"{LANDSAT}_SR_B2.TIF", radsat), (landsat, "QA_RADSAT"))
    ]
    assert [scene.cubes[0].rules.quality[0].layer for scene in scenes] == ["QA_RADSAT", "QA_RADSAT"]


@pytest.mark.parametrize("inside", [True, False], ids=["band", "file"])
def test_a_quality_band_of_another_preset_is_refused_by_its_name(landsat: Path, *, inside: bool) -> None:
    """Every number of Collection 2 means something in the table of Collection 1: clear water would be cloud shadow."""
    file = landsat / f"{LANDSAT}_QA_PIXEL.TIF"
    source, where = (landsat, "QA_PIXEL") if inside else (landsat / f"{LANDSAT}_SR_B2.TIF", file)
    with pytest.raises(FlagError, match=r"of that name is landsat-c2's.*use --qa landsat-c2:.*QA_PIXEL"):
        open_scene(FillJob.build(source=str(source), target="out.zarr", qa=[f"landsat-c1:{where}"]))


def targets(folder: Path, time: object, dates: str | None) -> tuple[int, ...]:
    """Which dates of a stack with that time axis a job fills."""
    return stack(folder, time, dates).targets


def stack(folder: Path, time: object, dates: str | None = None) -> Cube:
    size = len(time)
    cube = xr.DataArray(np.ones((size, 4, 5), "f4"), {"time": time, "y": np.arange(4.0), "x": np.arange(5.0)}, name="v")
    cube.to_netcdf(folder / "stack.nc")
    return open_scene(FillJob(source=str(folder / "stack.nc"), target="filled.nc", dates=dates)).cubes[0]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ("2020-01-01T06", (1,)), ("2020-01-01T06:00", (1,)), ("2020-01-01T06:2020-01-01T12", (1, 2)),
        ("2020-01-01T12:00:2020-01-02", (2, 3, 4)), ("2020-01-02:", (4,)), (":2020-01-01T06:00", (0, 1)),
        ("2020-01-02,2020-01-01T00", (4, 0)), ("2020:2021", (0, 1, 2, 3, 4)),
    ],
)  # fmt: skip
def test_dates_are_chosen_by_day_and_by_hour(tmp_path: Path, dates: str, expected: tuple[int, ...]) -> None:
    hours = np.arange("2020-01-01T00", "2020-01-02T06", 6, dtype="M8[h]").astype("M8[ns]")
    assert targets(tmp_path, hours, dates) == expected


@pytest.mark.parametrize("dates", ["2020-01-01,2021-01-01", "2020-01-01,", "2021:2022", "2020-01-01T07:00"])
def test_each_of_the_dates_asked_for_must_be_there(tmp_path: Path, dates: str) -> None:
    days = np.array(["2020-01-02", "2020-01-01"], "M8[ns]")
    with pytest.raises(JobError, match="selects none of the 2 dates from 2020-01-01 to 2020-01-02"):
        targets(tmp_path, days, dates)


def test_dates_of_an_undated_stack_are_apart_and_of_no_season(tmp_path: Path) -> None:
    cube = stack(tmp_path, [1, 2, 3])
    assert cube.variable.dates == (None,) * 3
    assert np.diff(cube.seconds).tolist() == [86400] * 2
    assert not any(map(has_season, cube.seconds.tolist()))
    assert days_of(cube.seconds[1:]).tolist() == [1.0, 2.0]


def test_dates_cannot_be_chosen_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="v has no dates"):
        targets(tmp_path, [1, 2, 3], "2020")


@pytest.mark.parametrize(
    ("name", "dates", "fillable", "unknown"),
    [
        ("sea_surface_temperature", 1, "auto", True),
        ("mass_concentration_of_chlorophyll_a_in_sea_water", 1, "auto", True),
        ("sea_ice_area_fraction", 1, "auto", True), ("sea_water_salinity", 1, "auto", True),
        ("sea_surface_temperature", 2, "auto", False), ("sea_surface_temperature", 1, "all", False),
        ("surface_temperature", 1, "auto", False), ("air_pressure_at_sea_level", 1, "auto", False),
    ],
)  # fmt: skip
def test_one_date_of_the_sea_is_said_not_to_tell_land(
    tmp_path: Path, name: str, dates: int, fillable: str, unknown: bool
) -> None:
    values = np.random.default_rng(0).normal(size=(dates, 40, 50)).astype("f4")
    values[0, 10:15, 20:25] = np.nan
    cube = xr.DataArray(values, {"time": range(dates)}, ("time", "y", "x"), "v", {"standard_name": name})
    cube.to_netcdf(tmp_path / "sea.nc")
    planned = plan(FillJob(source=str(tmp_path / "sea.nc"), target="filled.nc", fillable=fillable, filler="laplace"))
    assert ("does not tell land from clouds" in str(planned)) == unknown


def test_a_swath_of_the_sea_is_asked_for_its_land(tmp_path: Path) -> None:
    """That latitudes can be missing was taken for flags that tell land."""
    height = np.random.default_rng(0).normal(size=(40, 50)).astype("f4")
    height[10:15, 20:25] = np.nan
    y, x = np.mgrid[:40, :50]
    places = {"latitude": (("line", "pixel"), 40 + 0.1 * y + 0.02 * x), "longitude": (("line", "pixel"), 5 + 0.1 * x)}
    about = {"standard_name": "sea_surface_height_above_geoid"}
    xr.Dataset({"ssh": (("line", "pixel"), height, about)}, places).to_netcdf(tmp_path / "swath.nc")
    planned = str(plan(FillJob(source=str(tmp_path / "swath.nc"), target="filled.nc", filler="laplace")))
    assert "does not tell land from clouds" in planned


def test_land_that_codes_tell_of_is_not_asked_for(tmp_path: Path) -> None:
    ice = np.full((40, 50), 60, "u1")
    ice[:5], ice[10:15, 20:25] = 254, 255
    codes = {"flag_values": np.array([253, 254], "u1"), "flag_meanings": "coast land"}
    about = {"standard_name": "sea_ice_area_fraction", "valid_range": np.array([0, 100], "u1"), "_FillValue": 255}
    xr.Dataset({"ice": (("y", "x"), ice, codes | about)}).to_netcdf(tmp_path / "ice.nc")
    planned = str(plan(FillJob(source=str(tmp_path / "ice.nc"), target="filled.nc", filler="laplace")))
    assert "does not tell land from clouds" not in planned
    assert "the quantity does not exist here" in planned


@pytest.mark.parametrize(
    ("name", "standard", "expected"),
    [
        ("no2_precision", "", True),
        ("LST_uncertainty", "", True),
        ("CHL_NN_err", "", True),
        ("chlor_a_log10_rmsd", "", True),
        ("sses_bias", "", True),
        ("sst_quality", "sea_surface_temperature standard_error", True),
        ("precipitation", "precipitation_flux", False),
        ("terror", "", False),
    ],
)
def test_plan_says_of_uncertainties_that_they_are_none_of_filled_values(
    tmp_path: Path, name: str, standard: str, *, expected: bool
) -> None:
    values = np.ones((1, 40, 40), "f4")
    values[0, 10:20, 10:20] = np.nan
    attributes = {"standard_name": standard} if standard else {}
    xr.Dataset({name: (("time", "lat", "lon"), values, attributes)}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    planned = str(plan(FillJob.build(source=str(tmp_path / "a.nc"), target=str(tmp_path / "b.nc"), filler="laplace")))
    assert (f"warning: {name} describes the uncertainty of observations" in planned) == expected


@pytest.mark.parametrize(
    ("crs", "reach", "seen"),
    [
        ("+proj=geos +h=35785863 +lon_0=-75 +sweep=x +ellps=GRS80", (5.5e6, 5.5e6), (0.7, 0.8)),
        ("+proj=sinu +R=6371007.181", (20_015_109, 10_007_555), (0.6, 0.68)),
        ("+proj=moll +R=6371007.181", (18_020_048, 9_010_024), (0.75, 0.8)),
        ("EPSG:32633", (100_000, 4_900_000), (1, 1)),
    ],
    ids=["full disc", "sinusoidal", "Mollweide", "UTM"],
)
def test_no_pixel_beyond_the_globe_is_a_gap(tmp_path: Path, crs: str, reach: tuple, seen: tuple[float, float]) -> None:
    """Corners beside a disc are too narrow in places for a collar: Earth was invented there."""
    affine = Affine(2 * reach[0] / 90, 0, -reach[0], 0, -2 * reach[1] / 80, reach[1])
    with rasterio.open(
        tmp_path / "disc.tif", "w", driver="GTiff", height=80, width=90, count=1, dtype="float32", nodata=np.nan,
        crs=crs, transform=affine,
    ) as file:  # fmt: skip
        file.write(np.full((1, 80, 90), np.nan, "float32"))
    cube = open_scene(FillJob.build(source=str(tmp_path / "disc.tif"), target="out.tif")).cubes[0]
    reason = cube.reason(0, Window(0, 0, 80, 90))
    ground = reason == Reason.NODATA
    assert seen[0] <= ground.mean() <= seen[1]
    np.testing.assert_array_equal(reason[~ground], Reason.NODATA | Reason.UNDEFINED)
    np.testing.assert_array_equal(reason[:, 11:50, 60:], cube.reason(0, Window(11, 60, 39, 30)))

"""Nodata that no tag names: said where it is plain, and not where numbers may well be observations."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

import geodiff
from geodiff.encoding import Encoding
from geodiff.errors import SourceError
from geodiff.inspection import describe, render
from geodiff.io import Band
from geodiff.job import FillJob
from geodiff.scene import open_scene
from geodiff.suspects import (
    Suspect,
    are_dates,
    called_classes,
    few_numbers,
    goes_round,
    many_zeros,
    suspect_values,
    suspects_of,
    told,
)
from geodiff.turns import Turn


def _ground(rng: np.random.Generator, *, alike: float, count: int) -> np.ndarray:
    return np.concatenate([rng.normal(3000, 300, 10_000), np.full(count, alike)])


@pytest.mark.parametrize("alike", [-9999, 0, 65535, -3.4e38])
def test_a_number_far_from_all_others_is_a_suspect(rng: np.random.Generator, alike: float) -> None:
    found, share = suspect_values(_ground(rng, alike=alike, count=500))
    assert found.tolist() == [alike]
    assert share == pytest.approx(500 / 10_500)


_NO_SUSPECTS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "plain ground": lambda rng: rng.normal(0, 1, 5000),
    "a few outliers": lambda rng: _ground(rng, alike=-9999, count=5),
    "dry days beside rain": lambda rng: np.maximum(rng.normal(0, 4, 5000), 0),
    "saturated": lambda rng: np.minimum(rng.normal(200, 60, 5000), 255),
    "two classes": lambda rng: rng.integers(0, 2, 5000).astype(float),
    "three classes": lambda rng: rng.integers(1, 4, 5000).astype(float),
    "classes of two decades": lambda rng: rng.choice([11.0, 12, 21, 31, 41, 42, 52, 71, 81, 90, 95], 5000),
    "counts of a few lights": lambda rng: np.concatenate([rng.integers(0, 9, 5000), rng.integers(150, 255, 200)]) * 1.0,
    "one value": lambda rng: np.full(5000, 7.0),
    "nothing known": lambda rng: np.zeros(0),
}


@pytest.mark.parametrize("name", _NO_SUSPECTS)
def test_what_may_be_an_observation_is_none(rng: np.random.Generator, name: str) -> None:
    assert not suspect_values(_NO_SUSPECTS[name](rng))[0].size


def test_codes_beside_each_other_are_suspects_together(tmp_path: Path, rng: np.random.Generator) -> None:
    """Sea ice of 0 to 100 per cent with its pole hole, coast and land, whose meanings were lost on the way."""
    ice = rng.integers(0, 101, (64, 64)).astype(np.uint8)
    ice[:5, :8], ice[30, :], ice[31:50] = 251, 253, 254
    ice[55:60, 20:30] = 255
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "nodata": 255}
    with rasterio.open(tmp_path / "ice.tif", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as out:
        out.write(ice, 1)
    warned = "are exactly 251, 253 or 254, far from all others; if these are codes, add --valid-range"
    assert warned in render(describe(str(tmp_path / "ice.tif")))
    assert warned in str(geodiff.plan_fill(str(tmp_path / "ice.tif"), filler="laplace"))
    cured = str(geodiff.plan_fill(str(tmp_path / "ice.tif"), filler="laplace", valid_range=(0, 100)))
    assert "warning" not in cured


def test_classes_with_a_lost_nodata_are_told_as_both(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.integers(1, 18, 5000), np.full(50, 255)]).astype(float)
    lost, classes = suspects_of([Band("cover", Encoding(np.dtype(np.uint8)))], [values])
    assert (lost.value, classes.distinct) == (255, 17)


def test_zeros_around_a_radar_scene_are_asked_about_where_nothing_is_missing(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    values = rng.rayleigh(90, (80, 80)).clip(1).astype(np.uint16)
    values[:, :12] = 0  # no tag says so, as in Sentinel-1 GRD
    profile = {"driver": "GTiff", "width": 80, "height": 80, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile, transform=Affine(10, 0, 3e5, 0, -10, 4e6)) as out:
        out.write(values, 1)
    asked = "nothing is missing, and about 15 % of the values of band_1 are exactly 0; if that stands for missing, add"
    assert f"{asked} --nodata 0" in render(describe(str(tmp_path / "a.tif")))
    assert asked in str(geodiff.plan_fill(str(tmp_path / "a.tif"), filler="laplace"))
    assert asked not in str(geodiff.plan_fill(str(tmp_path / "a.tif"), filler="laplace", nodata=0))


@pytest.mark.parametrize("name", [name for name in _NO_SUSPECTS if name != "dry days beside rain"])
def test_few_zeros_or_none_are_not_asked_about(rng: np.random.Generator, name: str) -> None:
    assert many_zeros(_NO_SUSPECTS[name](rng)) == 0


def test_info_and_plan_name_the_lost_nodata_and_the_cure_cures(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(2000, 100, (64, 64)).astype(np.int16)
    values[20:30, 20:30] = -9999
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "int16", "nodata": -32768}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as out:
        out.write(values, 1)
    warned = "are exactly -9999, far from all others; if that stands for missing, add --nodata -9999"
    source = str(tmp_path / "scene.tif")
    assert warned in render(describe(source))
    assert warned in str(geodiff.plan_fill(source, filler="laplace"))
    told = geodiff.plan_fill(source, filler="laplace", nodata=-9999)
    assert "warning" not in str(told)
    assert told.wanted == 100


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("float32", np.nan)])
def test_few_numbers_may_be_classes(tmp_path: Path, rng: np.random.Generator, dtype: str, nodata: float) -> None:
    """Land cover that lost its colour table would be filled with means of classes, that of rioxarray with NaN too."""
    classes = np.repeat(np.repeat(rng.integers(1, 9, (8, 8)) * 10, 8, 0), 8, 1).astype(dtype)
    classes[20:30, 20:30] = nodata
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": dtype, "nodata": nodata}
    with rasterio.open(tmp_path / "cover.tif", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as out:
        out.write(classes, 1)
    warned = "band_1 holds only 8 different values; if they are classes, use --filler nearest"
    source = str(tmp_path / "cover.tif")
    assert warned in render(describe(source))
    assert warned in str(geodiff.plan_fill(source, filler="laplace"))
    assert "--filler nearest" not in str(geodiff.plan_fill(source, filler="nearest"))


def test_pictures_and_few_pixels_are_no_classes(rng: np.random.Generator) -> None:
    assert few_numbers(np.round(rng.normal(40, 8, 5000))) == 0
    assert few_numbers(rng.integers(0, 3, 500).astype(float)) == 0
    assert few_numbers(np.full(5000, 50.0)) == 0


@pytest.mark.parametrize("name", ["CLC2018", "landcover", "Land_Cover_Type", "lccs_class", "MCD12Q1_LC_Type1", "LULC"])
def test_bands_called_by_their_classes_may_have_many(rng: np.random.Generator, name: str) -> None:
    classes = rng.integers(1, 45, 5000).astype(float)
    assert (few_numbers(classes, name), few_numbers(classes, "band_1")) == (44, 0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("U2018_CLC2018_V2020", True), ("dominant_class", True), ("land_cover_fraction", False), ("glc", False),
        ("classification_probability", False), ("land_use_intensity", False), ("soil_type_1_pct", False),
    ],
)  # fmt: skip
def test_what_is_said_about_classes_is_a_quantity(name: str, *, expected: bool) -> None:
    assert called_classes(Band(name, Encoding(np.dtype("u1")))) is expected


def test_bands_called_by_their_classes_are_averaged_by_nobody_who_did_not_ask(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    classes = np.repeat(np.repeat(rng.integers(1, 9, (8, 8)), 8, 0), 8, 1).astype("u1")
    stored = np.stack([classes, rng.integers(1, 200, (64, 64)).astype("u1")])
    stored[:, 20:30, 20:30] = 0
    profile = {"driver": "GTiff", "width": 64, "height": 64, "dtype": "uint8", "nodata": 0}
    profile["transform"] = Affine(30, 0, 3e5, 0, -30, 4e6)
    for count in (1, 2):
        with rasterio.open(tmp_path / f"{count}.tif", "w", count=count, **profile) as out:
            out.write(stored[:count])
            out.descriptions = ("land_cover", "class_probability")[:count]

    def filled(source: int, **options: Any) -> list[str]:
        job = FillJob(source=str(tmp_path / f"{source}.tif"), target="filled.tif", **options)
        return [cube.variable.bands[band].name for cube in open_scene(job).cubes for band in cube.bands]

    with pytest.raises(SourceError, match=r"land_cover of .* is called by classes, and between classes .* nearest"):
        filled(1)
    assert filled(1, filler="nearest") == filled(1, bands=("land_cover",)) == ["land_cover"]
    assert filled(2) == ["class_probability"]
    assert "land_cover of" in caplog.text
    assert "land_cover" in render(describe(str(tmp_path / "1.tif")))


def test_a_number_that_many_bands_hold_is_told_once() -> None:
    months = [Suspect(f"sst_{month:02d}", 0.0, 0.06 + month / 1000) for month in range(1, 13)]
    first, second = told([*months, Suspect("depth", -9999.0, 0.2)])
    assert first.startswith("about 7.2 % of the known values of sst_01, sst_02 and 10 more bands are exactly 0,")
    assert second.startswith("about 20 % of the known values of depth are exactly -9999,")


def test_what_is_filled_by_way_of_cosine_and_sine_is_said(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    wind = np.degrees(np.arctan2(*rng.standard_normal((2, 64, 64)))) % 360
    wind[20:30, 20:30] = np.nan
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "float32", "nodata": np.nan}
    with rasterio.open(tmp_path / "wind.tif", "w", **profile, transform=Affine(30, 0, 3e5, 0, -30, 4e6)) as out:
        out.write(wind.astype(np.float32), 1)
        out.units = ("degrees",)
    source, said = str(tmp_path / "wind.tif"), "band_1: circular values with period 360;"
    assert f"note      {said}" in render(describe(source))
    assert f"note: {said}" in str(geodiff.plan_fill(source, filler="laplace"))
    caplog.set_level("INFO")
    xr.DataArray(wind, dims=("y", "x"), name="from", attrs={"units": "degrees"}).geodiff.fill(filler="nearest")
    assert "from: circular values with period 360;" in caplog.text


@pytest.mark.parametrize(
    ("units", "name", "low", "high", "expected"),
    [
        ("degree", "wind", 0, 360, True),
        ("Degree true", "mwd", 0, 360, True),
        ("", "aspect", 0, 360, True),
        ("degrees", "phase", -180, 180, True),
        ("degrees", "slope", 0, 60, False),
        ("degrees", "wind", 200, 300, False),
        ("m", "depth", 0, 360, False),
        ("degC", "temperature", 0, 360, False),
        ("radian", "from", 0, 6.28319, True),
        ("", "wrapped_phase", -3.14159, 3.14159, True),
        ("", "aspect", 0, 6.2, True),
        ("rad", "slope", 0, 1.5, False),
        ("", "band_1", -np.pi, np.float32(np.pi), True),
        ("", "band_1", 0, 2 * np.pi, True),
        ("", "band_1", -3, 3, False),
        ("", "band_1", 0, 6.5, False),
        ("degrees_east", "lon", -180, 180, True),
        ("degrees_north", "lat", -90, 90, False),
        ("", "band_1", 0, 360, True),
        ("", "band_1", -180, 180, True),
        ("", "band_1", 0, 357, False),
        ("", "band_1", -2, 361, False),
        ("degree", "wind_from_direction", 25, 330, True),
        ("degree", "wind_from_direction", 25, 170, False),
        ("degree", "dip", 25, 330, False),
        ("", "aspect_ratio", 0.2, 5, False),
        ("m", "phase_centre_height", 2, 355, False),
        ("degree days", "v", 2, 355, False),
        ("degrees clockwise from north", "v", 2, 355, True),
        ("1", "wave_direction", 2, 355, True),
        ("", "sos_doy", 1, 365, True),
        ("days", "day_of_year", 3, 361, True),
        ("", "DOY", 60, 300, False),
        ("m", "doyle_ridge", 1, 365, False),
    ],
)
def test_what_goes_round(
    rng: np.random.Generator, units: str, name: str, low: float, high: float, *, expected: bool
) -> None:
    band = Band(name, Encoding(np.dtype(np.float32)), units=units)
    assert (goes_round(band, rng.uniform(low, high, 5000)) is not None) is expected


def test_a_turn_begins_where_its_numbers_do(rng: np.random.Generator) -> None:
    band = Band("v", Encoding(np.dtype(np.float32)), units="degree")
    starts = [goes_round(band, rng.uniform(low, low + 360, 5000)).start for low in (0, -180)]  # type: ignore[union-attr]
    assert starts == [0, -180]
    quiet = rng.uniform(25, 330, 5000)
    assert goes_round(band, quiet) is None
    assert goes_round(band, quiet, "wind_from_direction") == Turn(360.0, 0.0), "its standard name says what it is"


def test_aspects_whose_flat_ground_is_minus_one_go_round(rng: np.random.Generator) -> None:
    band = Band("band_1", Encoding(np.dtype(np.float32)))
    aspects = np.concatenate([rng.uniform(0, 360, 5000), np.full(200, -1.0)])
    assert goes_round(band, aspects) == Turn(360.0, 0.0)
    assert goes_round(band, np.append(aspects, -2.0)) is None


def test_small_grids_go_round_where_units_or_names_say_so(rng: np.random.Generator) -> None:
    """A forecast on 20 x 20 pixels; numbers alone say something only where there are many."""
    angles = np.append(rng.uniform(0, 360, 398), [0.0, 360.0])
    plain, told = (Band("v", Encoding(np.dtype(np.float32)), units=units) for units in ("", "Degree true"))
    assert goes_round(plain, angles) is None
    assert goes_round(told, angles) == Turn(360.0, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "start"), [(0, 359, -0.5), (1, 360, 0.5), (0, 360, 0), (-180, 179, -180.5), (-179, 180, -179.5)]
)
def test_north_is_written_as_the_source_writes_it(
    rng: np.random.Generator, low: int, high: int, start: float
) -> None:
    """Where 360 is north, 0 often is calm; where 0 is, tables of 360 places know no 360."""
    band = Band("v", Encoding(np.dtype(np.int16)), units="degree")
    turn = goes_round(band, rng.integers(low, high + 1, 20_000).astype(float))
    assert turn == Turn(360.0, start)
    rounded = np.rint(turn.within(np.arange(-720, 720, 0.3)))
    assert (rounded.min(), rounded.max()) == (low, high)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("%Y%m%d", True), ("%Y%j", True), ("%d%m%Y", False), ("%j", False)],
)
def test_dates_by_their_digits_are_told(rng: np.random.Generator, written: str, *, expected: bool) -> None:
    """The mean of 20240131 and 20240301 is 20240216, that of 20240131 and 20240201 the 66th of January."""
    days = [date.fromordinal(int(day)) for day in rng.integers(738_800, 739_600, 2000)]
    values = np.array([float(day.strftime(written)) for day in days])
    assert are_dates(values) is expected
    found = suspects_of([Band("burnt", Encoding(np.dtype(np.int32)))], [values])
    assert any("holds dates written as 20" in str(suspect) for suspect in found) is expected
    assert not are_dates(rng.uniform(20_240_101, 20_240_131, 2000)), "no whole numbers"
    assert not are_dates(rng.integers(2_000_000, 2_100_000, 2000).astype(float)), "of days from 367 to 999 too"


def test_nodata_among_rain_is_asked_about_in_its_own_units(tmp_path: Path, rng: np.random.Generator) -> None:
    rain = np.maximum(rng.normal(0, 4, (64, 64)), 0)
    rain[:6, 8:20], rain[30:40, 30:40] = -9999, np.nan
    xr.DataArray(rain, dims=("y", "x"), name="precipitation").to_netcdf(tmp_path / "rain.nc")
    planned = str(geodiff.plan_fill(str(tmp_path / "rain.nc"), filler="laplace"))
    assert "are exactly -9999, far from all others; if that stands for missing, add --nodata -9999" in planned


@pytest.mark.parametrize(("units", "told_of", "lowest"), [("dBZ", 0, -32.0), ("dBZ", 1, -9999.0), ("K", 1, -32.0)])
def test_no_echo_is_what_a_radar_measured(
    rng: np.random.Generator, units: str, told_of: int, lowest: float
) -> None:
    """With its code as nodata all that is dry would be filled with rain."""
    values = np.concatenate([rng.uniform(5, 45, 4000), np.full(6000, lowest)])
    assert len(suspects_of([Band("data", Encoding(np.dtype("f4")), units=units)], [values])) == told_of


def test_less_than_no_rain_is_no_rain(rng: np.random.Generator) -> None:
    """Where MRMS has no radar it has -3, not far from a drizzle, and no tag says so."""
    values = np.concatenate([rng.gamma(0.5, 4.0, 3000), np.zeros(5000), np.full(900, -3.0)])
    band = Band("PrecipRate", Encoding(np.dtype("f8")))
    (found,) = suspects_of([band], [values], rain=True)
    assert (found.value, found.share) == (-3.0, pytest.approx(900 / 8900))
    assert not suspects_of([band], [values])
    assert not suspects_of([band], [values[values >= 0]], rain=True)

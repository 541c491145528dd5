"""Precipitation is filled as cube roots: zeros are values, nothing is negative, and the error says so."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

import geodiff
from geodiff.job import FillJob
from geodiff.scene import open_scene


def _rain(rng: np.random.Generator) -> np.ndarray:
    """(date, row, column) in mm: half of it dry, the rest in showers."""
    field = gaussian_filter(rng.normal(size=(3, 160, 160)), (0.5, 8, 8))
    return (10 * np.maximum(field / field.std(), 0) ** 3).astype(np.float32)


def _filled(rain: np.ndarray, missing: np.ndarray, folder: Path, name: str) -> xr.Dataset:
    days = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]").astype("datetime64[ns]")
    grid = {"time": days, "y": 1000.0 * np.arange(160)[::-1], "x": 1000.0 * np.arange(160)}
    cube = xr.DataArray(np.where(missing, np.nan, rain), grid, ("time", "y", "x"), name, attrs={"units": "mm"})
    cube.to_netcdf(folder / f"{name}.nc")
    geodiff.fill(str(folder / f"{name}.nc"), str(folder / f"{name}-filled.nc"), filler="laplace")
    return xr.load_dataset(folder / f"{name}-filled.nc")


def test_rain_is_never_negative_and_closer_than_without_the_root(rng: np.random.Generator, tmp_path: Path) -> None:
    rain = _rain(rng)
    rain[rain < 0.2] = 0  # what a gauge can tell
    missing = np.zeros(rain.shape, bool)
    missing[1, 30:60, 20:110] = missing[2, 90:130, 60:100] = True
    errors = {}
    for name in ("precipitation", "quantity"):
        value = _filled(rain, missing, tmp_path, name)[name].to_numpy()
        assert np.array_equal(value[~missing], rain[~missing])
        errors[name] = np.abs(value - rain)[missing].mean()
        if name == "precipitation":
            assert value.min() >= 0
            assert not ((value > 0) & (value < 0.1)).any()  # a billionth of a millimetre counted as a wet place
    assert errors["precipitation"] < errors["quantity"]


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("tp", {"standard_name": "precipitation_amount"}, "cbrt"), ("rainfall_rate", {}, "cbrt"),
        ("tp", {"standard_name": "unknown", "long_name": "Total precipitation", "units": "m"}, "cbrt"),
        ("RAINNC", {}, "cbrt"), ("precip", {}, "cbrt"), ("pr", {"standard_name": "precipitation_flux"}, "cbrt"),
        ("snowfall", {}, "cbrt"), ("terrain_height", {}, "linear"), ("strain_rate", {}, "linear"),
        ("drainage_area", {}, "linear"), ("precipitable_water", {}, "linear"), ("elevation", {}, "linear"),
        ("precipitation_anomaly", {}, "linear"), ("pme", {"long_name": "precipitation minus evaporation"}, "linear"),
        ("spi", {"long_name": "Standardized Precipitation Index"}, "linear"),
        ("rain_reflectivity", {"units": "dBZ"}, "linear"), ("chl", {}, "log10"), ("conc_chl", {}, "log10"),
        ("chlos", {"units": "kg m-3"}, "log10 of kg"), ("chl", {"units": "g/m^3"}, "log10 of g"),
        ("chlorophyll_fluorescence", {}, "linear"), ("chl_anomaly", {}, "linear"),
        ("CHL", {"units": "lg(re 1 mg m-3)"}, "linear"), ("PrecipRate", {"units": "mm/hr"}, "cbrt"),
        ("hourlyPrecipRateGC", {}, "cbrt"), ("surfacePrecipitation", {}, "cbrt"), ("precipitationCal", {}, "cbrt"),
        ("precipitationQualityIndex", {}, "linear"), ("probabilityLiquidPrecipitation", {}, "linear"),
    ],
)  # fmt: skip
def test_only_rain_is_filled_as_rain(tmp_path: Path, name: str, attributes: dict[str, str], expected: str) -> None:
    field = xr.DataArray(np.ones((4, 5), "f4"), {"y": np.arange(4.0), "x": np.arange(5.0)}, ("y", "x"), name)
    field.assign_attrs(attributes).to_netcdf(tmp_path / "field.nc")
    (cube,) = open_scene(FillJob(source=str(tmp_path / "field.nc"), target="filled.nc")).cubes
    assert cube.transform == expected


def test_errors_where_it_rains_are_not_those_of_dry_land(rng: np.random.Generator, tmp_path: Path) -> None:
    field = gaussian_filter(rng.normal(size=(3, 160, 160)), (0.5, 4, 4))
    rain = (2 * np.maximum(field / field.std() - 1.5, 0)).astype(np.float32) ** 3  # 93 % are dry
    rain *= np.exp(0.2 * rng.normal(size=rain.shape)).astype(np.float32)
    missing = np.zeros(rain.shape, bool)
    missing[1] = np.add.outer(np.arange(160) // 8 % 3, np.arange(160) // 8 % 3) == 0
    filled = _filled(rain, missing, tmp_path, "precipitation")
    value, error = (filled[name].to_numpy()[missing] for name in ("precipitation", "precipitation_standard_error"))
    wet = value > 0.1
    assert wet.sum() > 40
    assert np.mean(np.abs(value - rain[missing])[wet] <= 1.645 * error[wet]) > 0.6

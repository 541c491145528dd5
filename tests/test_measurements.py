"""Numbers that are no measurements, bounds at which measurements stand, and samples that miss none of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy.ndimage import gaussian_filter

import geodiff
from geodiff.encoding import LOGARITHMS, Encoding, Normalisation, pack, unpack
from geodiff.job import FillJob
from geodiff.quantities import has_two_signs, is_elevation
from geodiff.scan import scan_cube
from geodiff.scene import open_scene
from tests.rasters import write

HOLE = (slice(30, 60), slice(30, 60))


def field(shape: tuple[int, int] = (96, 96), seed: int = 0) -> np.ndarray:
    rough = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4, mode="wrap")
    return 280 + 5 * rough / rough.std()


def filled(values: np.ndarray, filler: str) -> tuple[np.ndarray, np.ndarray]:
    seen = values.astype(float).copy()
    seen[HOLE] = np.nan
    value, error = geodiff.fill_array(seen, filler=filler)
    return value[HOLE], error[HOLE]


@cache
def plainly_filled(filler: str) -> tuple[np.ndarray, np.ndarray]:
    return filled(field(), filler)


@pytest.mark.parametrize("filler", ["laplace", "kriging", "auto"])
@pytest.mark.parametrize("wild", [1e7, -1e20, 1e35])
def test_one_wild_number_changes_no_gap_it_is_not_beside(filler: str, wild: float) -> None:
    spoilt = field()
    spoilt[5, 5] = wild
    (value, error), (with_it, error_with_it) = plainly_filled(filler), filled(spoilt, filler)
    assert np.abs(with_it - value).max() < 0.5 * error.max()
    assert np.median(error_with_it) < 1.2 * np.median(error)


def test_a_wild_number_stays_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = field().astype("f4")
    values[HOLE], values[5, 5] = np.nan, 1e20
    xr.Dataset({"t": (("y", "x"), values)}).to_netcdf(tmp_path / "t.nc")
    geodiff.fill(tmp_path / "t.nc", tmp_path / "filled.nc", filler="laplace")
    with xr.open_dataset(tmp_path / "filled.nc") as found:
        assert found.t.to_numpy()[5, 5] == np.float32(1e20)
        assert found.t.to_numpy()[HOLE].max() < 310
    assert "1 known values are so far from all others" in caplog.text


def test_storms_in_a_dry_scene_are_measurements(tmp_path: Path) -> None:
    rain = np.zeros((200, 200), "f4")
    rain[:3, :20] = 0.1  # drizzle, a little more than one in a thousand
    rain[100:104, 100:103] = 40.0
    scan = scanned(tmp_path, rain, "rain")
    (recipe,) = scan.normalisations
    assert recipe.measured(recipe.transformed(rain.astype(float))).all()


def test_a_rare_tail_is_made_of_measurements(tmp_path: Path) -> None:
    depth = np.zeros((300, 300), "f4")
    depth[150:160, 100:112] = np.linspace(0.01, 6, 120).reshape(10, 12)  # a pond in dry land
    (recipe,) = scanned(tmp_path, depth, "depth").normalisations
    assert recipe.measured(recipe.transformed(depth.astype(float))).all()


@pytest.mark.parametrize("filler", ["kriging", "auto"])
def test_a_pond_in_dry_land_is_continued(filler: str) -> None:
    y, x = np.mgrid[:128, :128]
    depth = 5 * np.maximum(0, 1 - ((y - 64) ** 2 + (x - 64) ** 2) / 3.2**2)
    seen = depth.copy()
    seen[63:65, 62:66] = np.nan
    value, _ = geodiff.fill_array(seen, filler=filler)
    assert np.abs(value - depth).max() < 2.0
    assert value[63:65, 62:66].mean() > 2.5


def scanned(folder: Path, values: np.ndarray, name: str):
    xr.Dataset({name: (("y", "x"), values)}).to_netcdf(folder / "scene.nc")
    (cube,) = open_scene(FillJob(source=str(folder / "scene.nc"), target="filled.nc", fillable="all")).cubes
    reason, outside = np.zeros((1, 1, *cube.shape), np.uint16), np.zeros(cube.shape, bool)
    return scan_cube(cube, reason, outside, 0)[0]


@pytest.mark.parametrize("kept", [(slice(1, None, 2), slice(None)), (slice(None), slice(1, None, 2))])
def test_the_scale_is_that_of_what_is_known_wherever_it_lies(tmp_path: Path, kept: tuple[slice, slice]) -> None:
    whole = field((700, 700)).astype("f4")
    values = np.full_like(whole, np.nan)
    values[kept] = whole[kept]
    (recipe,) = scanned(tmp_path, values, "t").normalisations
    assert recipe.centre == pytest.approx(float(np.median(whole)), abs=0.2)
    assert recipe.scale == pytest.approx(5, rel=0.1)


def test_a_constant_band_has_the_scale_of_its_size(tmp_path: Path) -> None:
    for number in (0.1, 3e5):
        (recipe,) = scanned(tmp_path, np.full((40, 40), number, "f4"), "t").normalisations
        assert recipe.scale == pytest.approx(number)
        (tmp_path / "scene.nc").unlink()


# -- bounds


@pytest.mark.parametrize(
    ("dtype", "scale", "bounds", "stored"),
    [("int16", 0.1, (0.0, 0.3), 3), ("int16", 1e-4, (0.0, 0.7), 7000), ("float32", 1.0, (0.1, 0.3), 0.3)],
)
def test_what_stands_at_a_bound_is_valid(
    dtype: str, scale: float, bounds: tuple[float, float], stored: float
) -> None:
    encoding = Encoding(np.dtype(dtype), None, scale, valid_range=bounds)
    assert unpack(np.array([stored], dtype), encoding)[1].all()
    assert unpack(pack(np.array([bounds[1] + 1, bounds[0] - 1]), encoding), encoding)[1].all()
    assert not unpack(np.array([stored + (1 if dtype == "int16" else 1e-5)], dtype), encoding)[1].any()


@pytest.mark.parametrize(
    ("name", "units", "low", "high"),
    [
        ("probability", "1", 0.0, 1.0), ("percentage", "%", 0.0, 100.0), ("power", "", 0.1, None),
        ("power", "degC", None, None), ("temperature", "K", None, None), ("anomaly", "", None, None),
    ],
)  # fmt: skip
def test_shares_and_amounts_are_bounded_by_what_they_are(
    tmp_path: Path, name: str, units: str, low: float | None, high: float | None
) -> None:
    """Members of a column of NO2 were negative, those of a probability 1.5, and one in twenty of radar -450 dB."""
    even = (field((200, 200)) - 280) / 5
    share = 1 / (1 + np.exp(-3 * even))
    values = {"probability": share, "percentage": 100 * share, "power": 5e15 * np.exp(even), "temperature": even + 280}
    physical = values.get(name, even).astype("f4")
    xr.Dataset({name: (("y", "x"), physical, {"units": units})}).to_netcdf(tmp_path / "scene.nc")
    (cube,) = open_scene(FillJob(source=str(tmp_path / "scene.nc"), target="filled.nc")).cubes
    reason, outside = np.zeros((1, 1, *cube.shape), np.uint16), np.zeros(cube.shape, bool)
    (recipe,) = scan_cube(cube, reason, outside, 0)[0].normalisations
    least = None if low is None else low * float(physical.min())  # a tenth of it, or no number at all
    assert (recipe.lowest, recipe.highest) == (least, high)


# -- logarithms


def test_a_unit_does_not_change_a_fill(tmp_path: Path) -> None:
    chlorophyll = 10 ** (field() / 5 - 56.3)  # mg m-3, from 0.003 to 8
    chlorophyll[HOLE] = np.nan
    found = {}
    for units, factor in (("mg m-3", 1.0), ("kg m-3", 1e-6), ("g m-3", 1e-3)):
        path, out = tmp_path / f"{units[:2]}.nc", tmp_path / f"{units[:2]}-filled.nc"
        xr.Dataset({"chl": (("y", "x"), chlorophyll * factor, {"units": units})}).to_netcdf(path)
        geodiff.fill(path, out, filler="laplace")
        with xr.open_dataset(out) as filled:
            found[units] = filled.chl.to_numpy() / factor
    np.testing.assert_allclose(found["kg m-3"], found["mg m-3"], rtol=1e-3)
    np.testing.assert_allclose(found["g m-3"], found["mg m-3"], rtol=1e-3)


def test_what_has_no_logarithm_is_filled_without_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = (field() - 280) / 10  # half of it negative
    values[HOLE] = np.nan
    (recipe,) = scanned(tmp_path, values, "chlorophyll_index_of_mine").normalisations
    (tmp_path / "scene.nc").unlink()
    assert recipe.transform == "linear"
    (recipe,) = scanned(tmp_path, values, "chlorophyll").normalisations
    assert recipe.transform == "linear"
    assert "for a logarithm" in caplog.text


def test_a_few_failed_retrievals_leave_the_logarithm(tmp_path: Path) -> None:
    chlorophyll = 10 ** (field() / 5 - 56.3)
    chlorophyll[:3] = 0.0  # three in a hundred
    assert scanned(tmp_path, chlorophyll, "chl").normalisations[0].transform == "log10"


def test_every_logarithm_goes_both_ways() -> None:
    for name, floor in LOGARITHMS.items():
        recipe, values = Normalisation(-3.0, 0.7, name), floor * 10 ** np.linspace(0.5, 5, 9)
        np.testing.assert_allclose(recipe.inverse(recipe.forward(values)), values, rtol=1e-5)
        assert recipe.error(values, np.full(9, 0.1, "f4")).min() > 0


# -- rasters that are hardly any


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (2, 50), (2, 2), (3, 3)])
@pytest.mark.parametrize("filler", ["laplace", "auto"])
def test_mirror_images_of_one_pixel_do_not_make_a_fill_sure(shape: tuple[int, int], filler: str) -> None:
    values = np.full(shape, np.nan)
    values[shape[0] // 2, shape[1] // 2] = 7.0
    value, error = geodiff.fill_array(values, filler=filler)
    missing = np.isnan(values)
    assert np.isfinite(value).all()
    assert error[missing].min() > 1.0  # nothing is known of how much pixels differ but their size


def skewed(low: float) -> np.ndarray:
    return low + np.exp((field((64, 64)) - 280) / 5)


@pytest.mark.parametrize(
    ("name", "bound"), [("v", 0.1), ("snow_depth", 0.1), ("elevation", None), ("cop_dem", None), ("demand", 0.1)]
)
def test_the_ground_may_lie_below_zero_where_no_amount_can(tmp_path: Path, name: str, bound: float | None) -> None:
    """A polder in a void of coastal heights, all of which are positive, came out as sea level."""
    heights = skewed(0.5)
    (recipe,) = scanned(tmp_path, heights, name).normalisations
    assert recipe.lowest == (None if bound is None else pytest.approx(bound * heights.min()))


@pytest.mark.parametrize(
    ("crs", "units", "expected"),
    [("EPSG:28992", "", False), ("EPSG:7415", "", True), ("EPSG:28992", "m", True), ("EPSG:28992", "mm", False)],
)
def test_elevation_is_known_by_its_vertical_reference_or_by_metres_without_a_name(
    tmp_path: Path, crs: str, units: str, *, expected: bool
) -> None:
    with rasterio.open(write(tmp_path / "a.tif", skewed(0.5).astype("f4"), nodata=None, crs=crs), "r+") as raster:
        raster.units = (units,)
    (cube,) = open_scene(FillJob(source=str(tmp_path / "a.tif"), target="filled.tif")).cubes
    assert is_elevation(cube.variable, cube.variable.bands[0]) is expected


@pytest.mark.parametrize(
    ("name", "units", "low", "high", "expected"),
    [
        ("u10", "m s-1", -8.0, 12.0, True), ("sst_anomaly", "degC", -0.2, 3.0, True),
        ("t2m", "degC", -8.0, 12.0, False), ("elevation", "m", -60.0, 90.0, False), ("ndvi", "1", -0.1, 0.9, False),
        ("sst", "K", 271.0, 303.0, False), ("Normalized Difference Water Index", "", -0.1, 0.9, False),
    ],
)  # fmt: skip
def test_a_zero_parts_opposites_or_is_a_convention(
    tmp_path: Path, name: str, units: str, low: float, high: float, *, expected: bool
) -> None:
    with rasterio.open(write(tmp_path / f"{name}.tif", skewed(0.5).astype("f4"), nodata=None), "r+") as raster:
        raster.units, raster.descriptions = (units,), (name,)
    (cube,) = open_scene(FillJob(source=str(tmp_path / f"{name}.tif"), target="filled.tif")).cubes
    assert has_two_signs(cube.variable, cube.variable.bands[0], low, high) is expected

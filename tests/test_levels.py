"""Cubes of depths: below the sea floor there is no water to fill, whichever level is asked, and however it is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geodiff
from geodiff.channels import in_channels
from geodiff.fillers import load_filler
from geodiff.fitting import fit_cube
from geodiff.inspection import counting, describe
from geodiff.io.cf import open_dataset_as_raster
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.pipeline import plan
from geodiff.scan import scan_cube
from geodiff.scene import scene_of
from geodiff.score.hiding import bounded, hide, plan_rounds, scan_part

ROCK = np.zeros((3, 60, 70), bool)
ROCK[:, :, :5] = ROCK[1, :, :25] = ROCK[2, :, :45] = True
EXTENT = Window(0, 0, 60, 70)
GAP = np.s_[1, :, 20:32, 40:55]


def ocean(**attributes: str) -> xr.Dataset:
    """Four dates of water above a floor that falls to the right, with one gap through all depths."""
    y, x = np.mgrid[:60, :70]
    values = np.stack([[np.sin(y / 9 + t / 4) + np.cos(x / 11) + z for z in range(3)] for t in range(4)])
    values = values.astype("f4")
    values[:, ROCK] = np.nan
    values[GAP] = np.nan
    axes = {"time": np.arange("2020-01-01", "2020-01-05", dtype="M8[D]").astype("M8[ns]"), "depth": [0.0, 100.0, 900.0]}
    axes |= {"lat": 40 - 0.1 * np.arange(60), "lon": 0.1 * np.arange(70)}
    return xr.Dataset({"so": (("time", "depth", "lat", "lon"), values, attributes)}, axes)


def test_the_rock_below_the_sea_is_never_filled(tmp_path: Path) -> None:
    """Where the surface is water all depths of a column were filled, far into the ground."""
    ocean().to_netcdf(tmp_path / "ocean.nc")
    geodiff.fill(str(tmp_path / "ocean.nc"), str(tmp_path / "filled.nc"), filler="nearest")
    with xr.open_dataset(tmp_path / "filled.nc") as filled:
        assert filled.so.isnull().values[:, ROCK].all()
        assert filled.so.notnull().values[:, ~ROCK].all()
        assert (filled.so_source.values[:, ROCK] == 254).all()
    gaps = describe(str(tmp_path / "ocean.nc"))["variables"][0]["gaps"]
    below = 4 * int((ROCK & ~ROCK.all(axis=0)).sum())
    assert gaps["left_out"] == {"below_ground": below, "never_seen": 4 * int(ROCK.sum()) - below}


def test_the_accessor_knows_the_floor_too() -> None:
    filled = ocean().chunk(time=1).geodiff.fill(filler="nearest").so.compute()
    assert (filled.isnull().values == ROCK).all()


@pytest.mark.parametrize("name", ["so", "direction"])
def test_fits_and_scores_read_what_is_outside_by_level(name: str) -> None:
    """Directions have two channels a level, and one floor."""
    dataset = ocean().rename(so=name)
    if name == "direction":
        about = {"units": "degree", "standard_name": "sea_water_velocity_to_direction"}
        dataset[name] = (100 * dataset[name] % 360).assign_attrs(about)
    (cube,) = scene_of(open_dataset_as_raster(dataset), FillJob.build(source="v", target="filled.zarr")).cubes
    scan, gaps = scan_part(bounded(cube))
    assert bool(scan.turns) == (name == "direction")
    assert (gaps.read(0, EXTENT).fillable == ~ROCK).all()
    assert all(fit_cube(cube, scan, gaps, load_filler("nearest")).estimable)
    part = bounded(in_channels(cube, scan.turns))
    _, gaps = scan_part(part)
    (own, *_) = plan_rounds(part, gaps, trials=1, tuning=1, seed=0)
    _, left = scan_part(hide(part, np.asarray(gaps.outside), own.cases))
    assert (left.read(0, EXTENT).fillable == gaps.read(0, EXTENT).fillable).all()
    assert left.read(own.cases[0].date, EXTENT).missing.sum() > gaps.read(own.cases[0].date, EXTENT).missing.sum()


def test_an_area_of_the_map_is_one_of_its_water(tmp_path: Path) -> None:
    """The sea was to be given as an area, and what lies below its floor was filled then."""
    area = np.ones((60, 70), "u1")
    area[:, 60:] = 0
    axes = {"lat": ocean().lat, "lon": ocean().lon}
    xr.Dataset({"sea": (("lat", "lon"), area)}, axes).to_netcdf(tmp_path / "sea.nc")
    job = FillJob.build(source="v", target="filled.zarr", fillable=str(tmp_path / "sea.nc"))
    dataset = ocean()
    dataset.so[0, :, 10:20, 58:66] = np.nan
    (cube,) = scene_of(open_dataset_as_raster(dataset), job).cubes
    scan, gaps = scan_cube(cube, np.zeros((4, 3, 60, 70), np.uint16), np.zeros(cube.outside_shape, bool), 0)
    expected = np.broadcast_to(area, ROCK.shape) & ~(ROCK & ~ROCK.all(axis=0))
    assert (gaps.read(0, EXTENT).fillable == expected).all()
    assert scan.left_out["below_ground"] == 4 * (ROCK & ~ROCK.all(axis=0))[..., :60].sum()


def test_a_large_cube_looked_at_in_parts_has_a_floor_in_an_area_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at parts went by the area alone, and called the rock in it to be filled."""
    axes = {"lat": ocean().lat, "lon": ocean().lon}
    xr.Dataset({"sea": (("lat", "lon"), ~ROCK[0])}, axes).astype("u1").to_netcdf(tmp_path / "sea.nc")
    ocean().to_netcdf(tmp_path / "ocean.nc")
    monkeypatch.setattr(counting, "_EXACT", 0)
    gaps = describe(str(tmp_path / "ocean.nc"), fillable=str(tmp_path / "sea.nc"))["variables"][0]["gaps"]
    assert not gaps["exact"]
    assert (gaps["missing"] > 10_000, gaps["to_fill"]) == (True, 0)  # the gap is on a date that is not looked at
    assert set(gaps["left_out"]) == {"not in --fillable", "below_ground"}


def test_all_means_the_rock_as_well() -> None:
    job = FillJob.build(source="v", target="filled.zarr", fillable="all")
    (cube,) = scene_of(open_dataset_as_raster(ocean()), job).cubes
    scan, _ = scan_cube(cube, np.zeros((4, 3, 60, 70), np.uint16), np.zeros(cube.outside_shape, bool), 0)
    assert scan.wanted == scan.missing > 4 * ROCK.sum()


@pytest.mark.parametrize(("dates", "fillable", "unknown"), [(1, "auto", True), (1, "all", False), (2, "auto", False)])
def test_one_date_is_said_not_to_tell_the_floor(tmp_path: Path, dates: int, fillable: str, *, unknown: bool) -> None:
    ocean().isel(time=slice(dates)).to_netcdf(tmp_path / "ocean.nc")
    job = FillJob.build(source=str(tmp_path / "ocean.nc"), target="filled.nc", fillable=fillable, filler="nearest")
    planned = str(plan(job))
    assert ("does not tell ground from gaps" in planned) == unknown
    assert ("never observed on any date; --fillable all or PATH would fill it" in planned) == (dates > 1)
    assert ("never observed at this level" in planned) == (dates > 1)

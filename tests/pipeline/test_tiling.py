"""Laws of the whole line: neither the tiling, workers, nor what lies beyond the edge of a grid shows in a product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine

import geodiff
from geodiff.patches import EdgeAnswers
from tests.rasters import UTM, digests, read, surface, write


def test_the_tiling_does_not_show(scene: Path, tmp_path: Path) -> None:
    made = []
    for number, options in enumerate(({}, {"block_size": 128}, {"block_size": 300}, {"batch": 1})):
        (tmp_path / str(number)).mkdir()
        geodiff.fill(scene, tmp_path / str(number) / "filled.tif", filler="matern", **options)
        made.append(digests(tmp_path / str(number)))
    assert made[0] == made[1] == made[2] == made[3]


@pytest.mark.parametrize("kept", [True, False])
def test_a_window_between_blocks_is_estimated_once(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Where what blocks leave each other has no room, it is estimated anew, and says the same."""
    cut: list[tuple[int, int]] = []
    plain = geodiff.patches.cut_patch

    def watched(*arguments: Any) -> Any:
        cut.append(plain(*arguments).absolute)
        return plain(*arguments)

    monkeypatch.setattr("geodiff.estimate.cut_patch", watched)
    if not kept:
        monkeypatch.setattr("geodiff.blocks.EdgeAnswers", lambda: EdgeAnswers(0))
    for folder, options in (("a", {"block_size": 128}), ("b", {})):
        cut.clear()
        (tmp_path / folder).mkdir()
        geodiff.fill(scene, tmp_path / folder / "filled.tif", filler="laplace", **options)
        assert (len(cut) == len(set(cut))) == (kept or folder == "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_the_tiling_does_not_show_in_what_the_network_drew(tmp_path: Path) -> None:
    values = surface(150, 300).astype("uint16")
    values[26:52, 90:120] = values[92:120, 242:268] = 0  # each in two windows, the second in two blocks of 256 columns
    scene = write(tmp_path / "scene.tif", values)
    options = {"filler": "auto", "members": 2, "steps": 4, "sampler": "edm-dpm2m"}
    for folder, how in (("a", {}), ("b", {"block_size": 256, "batch": 16, "workers": 2})):
        (tmp_path / folder).mkdir()
        geodiff.fill(scene, tmp_path / folder / "filled.tif", **options, **how)
    assert len(digests(tmp_path / "a")) == 5
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    value, members = (
        read(tmp_path / "a/filled.tif")[0].astype(int),
        read(tmp_path / "a/filled_members.tif").astype(int),
    )
    missing = values == 0
    assert (members[:, ~missing] == value[~missing]).all()
    assert (members[0] != members[1])[missing].mean() > 0.9


def test_a_gap_at_the_edge_of_a_globe_is_filled_from_both_sides(tmp_path: Path) -> None:
    """The same field cut at another meridian has nearly the same fill; a mere square has not."""
    longitude = np.radians(np.arange(400) * 0.9)
    field = np.rint(2000 + 500 * np.sin(longitude)[None] * np.cos(np.arange(200) / 40)[:, None]).astype("uint16")
    holed = field.copy()
    holed[80:110, :20] = holed[80:110, -20:] = 0
    errors = {}
    for name, crs in (("globe", "EPSG:4326"), ("square", "EPSG:32618")):
        scene = write(tmp_path / f"{name}.tif", holed, crs=crs, transform=Affine(0.9, 0, 0, 0, -0.9, 90))
        geodiff.fill(scene, tmp_path / f"{name}-filled.tif", filler="laplace", fillable="all", block_size=128)
        filled = read(tmp_path / f"{name}-filled.tif")[0].astype(float)
        assert (filled[holed == 0] != 0).all()
        errors[name] = np.sqrt(np.mean((filled - field)[holed == 0] ** 2))
    assert errors["globe"] < 0.5 * errors["square"]


def test_dask_workers_give_the_same_bytes(scene: Path, tmp_path: Path) -> None:
    for folder, workers in (("one", None), ("two", 2)):
        (tmp_path / folder).mkdir()
        geodiff.fill(scene, tmp_path / folder / "filled.tif", filler="laplace", workers=workers, block_size=256)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_an_existing_dask_cluster_is_joined(scene: Path, tmp_path: Path) -> None:
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        record = geodiff.fill(
            scene, tmp_path / "filled.tif", filler="nearest", scheduler=cluster.scheduler_address, block_size=256
        )
    assert record.exit_code == 0
    assert (read(tmp_path / "filled.tif") != 0).all()


def test_a_crop_shares_the_lattice_of_its_scene() -> None:
    from geodiff.lattice import Lattice

    whole = Lattice.of((500, 500), UTM)
    crop = Lattice.of((200, 200), UTM @ Affine.translation(64, 32))
    assert crop.origin == (whole.origin[0] + 32, whole.origin[1] + 64)


def test_dates_alone_do_not_change_a_pixel(tmp_path: Path) -> None:
    import xarray as xr

    rng = np.random.default_rng(0)
    stack = np.stack([surface(80, 90, seed) for seed in range(3)])
    stack[rng.random(stack.shape) < 0.1] = np.nan
    times = np.array(["2024-01-01", "2024-01-09", "2024-01-17"], "datetime64[ns]")
    axes = {"time": times, "y": -np.arange(80.0), "x": np.arange(90.0)}
    cube = xr.Dataset({"ndvi": (("time", "y", "x"), stack)}, axes)
    cube.to_zarr(tmp_path / "cube.zarr", consolidated=False)
    geodiff.fill(tmp_path / "cube.zarr", tmp_path / "all.zarr", filler="laplace")
    geodiff.fill(tmp_path / "cube.zarr", tmp_path / "one.zarr", filler="laplace", dates="2024-01-09")
    every, one = (xr.open_zarr(tmp_path / f"{name}.zarr", consolidated=False) for name in ("all", "one"))
    assert np.array_equal(every.ndvi.values[1], one.ndvi.values[1], equal_nan=True)
    assert np.array_equal(one.ndvi.values[0], stack[0], equal_nan=True)
    never_seen = np.isnan(stack).all(axis=0)
    assert np.array_equal(np.isnan(every.ndvi.values), np.broadcast_to(never_seen, stack.shape))

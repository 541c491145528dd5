"""Laws of the whole line, on small rasters: what is known stays, the tiling does not show, a killed run goes on."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import geodiff
from geodiff.errors import (
    GateError,
    LockedError,
    MemoryPlanError,
    NothingKnownError,
    NothingMissingError,
    SourceError,
    TargetError,
)
from geodiff.io.store import lock
from geodiff.patches import EdgeAnswers

UTM = Affine(30, 0, 300_000, 0, -30, 4_500_000)


def _surface(rows: int, columns: int, seed: int = 5) -> np.ndarray:
    """Something smooth with texture, 1000..3000."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    waves = np.sin(y / 17) + np.cos(x / 23) + 0.3 * np.sin((x + 2 * y) / 5)
    return np.rint(2000 + 300 * waves + rng.normal(0, 20, (rows, columns)))


def _holes(rows: int, columns: int, count: int = 6, radius: int = 12, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    holes = np.zeros((rows, columns), bool)
    for _ in range(count):
        row, column = rng.integers(0, rows), rng.integers(0, columns)
        holes |= (y - row) ** 2 + (x - column) ** 2 < radius**2
    return holes


def _write(path: Path, bands: np.ndarray, nodata: float | None = 0, **profile: object) -> Path:
    bands = np.atleast_3d(bands.T).T if bands.ndim == 2 else bands
    facts = {"crs": "EPSG:32618", "transform": UTM, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands),
        dtype=bands.dtype, nodata=nodata, **facts,
    ) as out:  # fmt: skip
        out.write(bands)
    return path


def _read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    values = _surface(300, 410).astype("uint16")
    values[_holes(300, 410)] = 0
    return _write(tmp_path / "scene.tif", values)


def _digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.tif"))}


def test_known_pixels_are_bit_identical_and_every_layer_agrees(scene: Path, tmp_path: Path) -> None:
    record = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    before, after = _read(scene)[0], _read(tmp_path / "filled.tif")[0]
    source, reason = _read(tmp_path / "filled_source.tif")[0], _read(tmp_path / "filled_reason.tif")[0]
    error = _read(tmp_path / "filled_standard_error.tif")[0]
    missing = before == 0
    assert np.array_equal(before[~missing], after[~missing])
    assert (after[missing] != 0).all()
    assert set(np.unique(source)) == {0, 3}
    assert np.array_equal(source != 0, missing)
    assert np.array_equal(reason != 0, missing)
    assert (error[missing] > 0).all()
    assert (error[~missing] == 0).all()
    assert record.status == "done"
    assert record.variables["band_data"]["filled"] == missing.sum()


@pytest.mark.parametrize("options", [{"block_size": 128}, {"block_size": 300}, {"batch": 1}])
def test_the_tiling_does_not_show(scene: Path, tmp_path: Path, options: dict[str, int]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    geodiff.fill(scene, tmp_path / "a/filled.tif", filler="matern")
    geodiff.fill(scene, tmp_path / "b/filled.tif", filler="matern", **options)
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")


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
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")


def test_the_tiling_does_not_show_in_what_the_network_drew(tmp_path: Path) -> None:
    values = _surface(270, 300).astype("uint16")
    values[_holes(270, 300, 4, 14)] = 0
    scene = _write(tmp_path / "scene.tif", values)
    options = {"filler": "auto", "members": 2, "steps": 4, "sampler": "edm-dpm2m"}
    for folder, how in (("a", {}), ("b", {"block_size": 256, "batch": 16}), ("c", {"block_size": 256, "workers": 2})):
        (tmp_path / folder).mkdir()
        geodiff.fill(scene, tmp_path / folder / "filled.tif", **options, **how)
    assert len(_digest(tmp_path / "a")) == 5
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b") == _digest(tmp_path / "c")
    value, members = (
        _read(tmp_path / "a/filled.tif")[0].astype(int),
        _read(tmp_path / "a/filled_members.tif").astype(int),
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
        scene = _write(tmp_path / f"{name}.tif", holed, crs=crs, transform=Affine(0.9, 0, 0, 0, -0.9, 90))
        geodiff.fill(scene, tmp_path / f"{name}-filled.tif", filler="laplace", fillable="all", block_size=128)
        filled = _read(tmp_path / f"{name}-filled.tif")[0].astype(float)
        assert (filled[holed == 0] != 0).all()
        errors[name] = np.sqrt(np.mean((filled - field)[holed == 0] ** 2))
    assert errors["globe"] < 0.5 * errors["square"]


def test_dask_workers_give_the_same_bytes(scene: Path, tmp_path: Path) -> None:
    for folder, workers in (("one", None), ("two", 2)):
        (tmp_path / folder).mkdir()
        geodiff.fill(scene, tmp_path / folder / "filled.tif", filler="laplace", workers=workers, block_size=256)
    assert _digest(tmp_path / "one") == _digest(tmp_path / "two")


def test_an_existing_dask_cluster_is_joined(scene: Path, tmp_path: Path) -> None:
    from dask.distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        record = geodiff.fill(
            scene, tmp_path / "filled.tif", filler="nearest", scheduler=cluster.scheduler_address, block_size=256
        )
    assert record.exit_code == 0
    assert (_read(tmp_path / "filled.tif") != 0).all()


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]
FLOATS = ["float32", "float64"]
NODATA = [(d, n) for d in INTEGERS + FLOATS for n in ("none", "zero", "max")] + [(d, "nan") for d in FLOATS]


@pytest.mark.parametrize(("dtype", "nodata"), NODATA)
def test_every_dtype_and_nodata(tmp_path: Path, dtype: str, nodata: str) -> None:
    floating = np.issubdtype(dtype, np.floating)
    limit = np.finfo(dtype).max if floating else np.iinfo(dtype).max
    marker = {"none": None, "zero": 0, "max": limit, "nan": np.nan}[nodata]
    values = (_surface(61, 53) / 30).astype(dtype)
    holes = _holes(61, 53, 3, 5)
    if marker is not None:
        values[holes] = marker
    mask = _write(tmp_path / "mask.tif", holes.astype("uint8"), None)
    source = _write(tmp_path / "scene.tif", values, marker)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace", mask=str(mask))
    after = _read(tmp_path / "filled.tif")[0]
    assert after.dtype == values.dtype
    assert after[~holes].tobytes() == values[~holes].tobytes()
    filled = after[holes].astype(float)
    assert (filled > 10).all()
    assert (filled < 120).all()
    with rasterio.open(tmp_path / "filled.tif") as out:
        assert (out.nodata is None) == (marker is None)


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (41, 1), (2, 2), (127, 131), (97, 193)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = _surface(*shape).astype("float32")
    holes = np.zeros(shape, bool)
    holes.flat[len(values.flat) // 2] = values.size > 1
    values[holes] = np.nan
    source = _write(tmp_path / "scene.tif", values, np.nan)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    after = _read(tmp_path / "filled.tif")[0]
    assert np.isfinite(after).all()
    assert np.array_equal(after[~holes], values[~holes])


def test_the_collar_is_left_alone_by_default_and_filled_on_request(tmp_path: Path) -> None:
    values = _surface(200, 240).astype("uint16")
    y, x = np.mgrid[:200, :240]
    collar = x + y < 140
    values[collar] = 0
    values[120:126, 150:170] = 0
    values[0:200, 200] = 0  # a lost column that touches the edge is no collar
    source = _write(tmp_path / "scene.tif", values)
    record = geodiff.fill(source, tmp_path / "auto.tif", filler="laplace")
    codes = _read(tmp_path / "auto_source.tif")[0]
    deep = x + y < 100
    assert (codes[deep] == 254).all()
    assert (_read(tmp_path / "auto.tif")[0][deep] == 0).all()
    assert (codes[120:126, 150:170] == 3).all()
    assert (codes[:, 200] == 3).all()
    assert record.variables["band_data"]["left_out"]["collar"] == (codes == 254).sum()
    geodiff.fill(source, tmp_path / "all.tif", filler="laplace", fillable="all")
    assert not (_read(tmp_path / "all_source.tif") == 254).any()


def test_a_fillable_area_decides_alone(tmp_path: Path) -> None:
    quality = np.zeros((120, 140), "uint16")
    quality[30:50, 40:70] = 1  # Landsat's own fill, which auto leaves alone
    quality[80:90, 20:30] = 1
    area = np.zeros((120, 140), "uint8")
    area[20:60, 30:60] = 1
    source = _write(tmp_path / "scene.tif", _surface(120, 140).astype("uint16"))
    flags, inside = _write(tmp_path / "flags.tif", quality), _write(tmp_path / "area.tif", area)
    given = {"qa": (f"landsat-c2:{flags}",), "fillable": str(inside)}
    record = geodiff.fill(source, tmp_path / "f.tif", filler="laplace", **given)
    codes = _read(tmp_path / "f_source.tif")[0]
    assert (codes[30:50, 40:60] == 3).all()
    assert (codes == 254).sum() == record.variables["band_data"]["left_out"]["not in --fillable"] == 20 * 10 + 10 * 10


def test_nothing_missing_is_a_copy_and_can_be_refused(tmp_path: Path) -> None:
    source = _write(tmp_path / "scene.tif", _surface(70, 80).astype("uint16"))
    record = geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    assert (record.exit_code, record.status) == (0, "nothing to fill")
    assert np.array_equal(_read(source), _read(tmp_path / "filled.tif"))
    with pytest.raises(NothingMissingError):
        geodiff.fill(source, tmp_path / "other.tif", filler="laplace", fail_if_empty=True)
    assert not list(tmp_path.glob("other*"))


def test_nothing_known_is_refused(tmp_path: Path) -> None:
    source = _write(tmp_path / "scene.tif", np.zeros((70, 80), "uint16"))
    with pytest.raises(NothingKnownError, match="none of the 5,600 values"):
        geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    assert not list(tmp_path.glob("filled*"))


def test_a_band_that_is_known_nowhere_stays_unfilled(tmp_path: Path) -> None:
    values = np.stack([_surface(60, 70), np.zeros((60, 70))]).astype("uint16")
    values[0, 20:30, 20:30] = 0
    source = _write(tmp_path / "scene.tif", values)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    codes = _read(tmp_path / "filled_source.tif")
    assert (codes[0, 20:30, 20:30] == 3).all()
    assert (codes[1] == 255).all()
    assert (_read(tmp_path / "filled.tif")[1] == 0).all()


def test_the_same_command_again_does_nothing_and_another_is_refused(scene: Path, tmp_path: Path) -> None:
    target = tmp_path / "filled.tif"
    geodiff.fill(scene, target, filler="laplace")
    before = target.stat().st_mtime_ns
    assert geodiff.fill(scene, target, filler="laplace", block_size=256).status == "up to date"
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.fill(scene, target, filler="nearest")
    assert target.stat().st_mtime_ns == before
    assert geodiff.fill(scene, target, filler="nearest", overwrite=True).status == "done"


def test_two_jobs_on_one_target(scene: Path, tmp_path: Path) -> None:
    with lock(str(tmp_path / "filled.geodiff-work.zarr")), pytest.raises(LockedError, match=str(os.getpid())):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")


def test_gates(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "good.tif", filler="laplace", gate="unfilled<=0.01")
    with pytest.raises(GateError, match="unfilled is"):
        geodiff.fill(scene, tmp_path / "bad.tif", filler="laplace", max_error=1e-3, gate="unfilled<=0.01")
    assert not (tmp_path / "bad.tif").exists()


def test_a_gate_on_a_product_whose_record_is_lost_says_so(scene: Path, tmp_path: Path) -> None:
    target, gate = tmp_path / "filled.tif", "unfilled<=0.01"
    geodiff.fill(scene, target, filler="laplace")
    for damage in (lambda record: record.write_text('{"target": 5}'), Path.unlink):
        damage(tmp_path / "filled.geodiff.json")
        with pytest.raises(GateError, match=r"the record of .*filled\.tif is lost.*--overwrite"):
            geodiff.fill(scene, target, filler="laplace", gate=gate)
        assert geodiff.fill(scene, target, filler="laplace").status == "up to date"
    assert geodiff.fill(scene, target, filler="laplace", gate=gate, overwrite=True).status == "done"
    assert geodiff.fill(scene, target, filler="laplace", gate=gate).status == "up to date"


def test_a_gate_has_nothing_to_judge_where_nothing_was_to_be_filled(tmp_path: Path) -> None:
    whole = _surface(70, 80).astype("uint16")
    gate = "coverage90>=0.85,seam<=1.05"
    record = geodiff.fill(_write(tmp_path / "whole.tif", whole), tmp_path / "a.tif", filler="laplace", gate=gate)
    assert (record.exit_code, record.status, record.gates["seam"]) == (0, "nothing to fill", None)
    whole[30:33, 40:43] = 0
    with pytest.raises(GateError, match="too small to measure"):
        geodiff.fill(_write(tmp_path / "holed.tif", whole), tmp_path / "b.tif", filler="laplace", gate=gate)


def test_max_error_leaves_nodata(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", max_error=1e-3)
    codes, values = _read(tmp_path / "filled_source.tif")[0], _read(tmp_path / "filled.tif")[0]
    missing = _read(scene)[0] == 0
    assert (codes[missing] == 255).all()
    assert (values[missing] == 0).all()


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".nc"])
def test_what_a_mask_hides_is_nodata_where_it_is_not_filled(tmp_path: Path, suffix: str) -> None:
    """A cloud's number is no observation: not in the value, and not in a member."""
    values, cloud = _surface(48, 60).astype("int16"), _holes(48, 60, 2, 6)
    values[cloud] = 9000
    mask = _write(tmp_path / "mask.tif", cloud.astype("uint8"), None)
    source = _write(tmp_path / "scene.tif", values, -1)
    target = tmp_path / f"filled{suffix}"
    geodiff.fill(source, target, mask=str(mask), buffer=1, max_error=1e-6, members=1, device="cpu")
    layers = _layers(target)
    refused = layers["source"] == 255
    assert refused[cloud].all()
    assert refused.sum() > cloud.sum()  # with the rim
    for name in ("value", "members"):
        assert (layers[name][refused] == -1).all()
        assert np.array_equal(layers[name][~refused], values[~refused])


def _layers(target: Path) -> dict[str, np.ndarray]:
    """Stored numbers (row, column) of some layers of a product of one band."""
    if target.suffix == ".tif":
        beside = {name: target.with_name(f"{target.stem}_{name}.tif") for name in ("source", "members")}
        return {name: _read(path)[0] for name, path in {"value": target, **beside}.items()}
    import xarray as xr

    engine = {".zarr": "zarr", ".nc": "h5netcdf"}[target.suffix]
    with xr.open_dataset(target, engine=engine, mask_and_scale=False) as found:
        names = {"value": "band_data", "source": "band_data_source", "members": "band_data_member"}
        return {layer: np.squeeze(found[name].to_numpy()) for layer, name in names.items()}


def test_without_nodata_what_is_not_filled_keeps_its_number(tmp_path: Path) -> None:
    values, cloud = _surface(90, 110).astype("int16"), _holes(90, 110, 3, 8)
    mask = _write(tmp_path / "mask.tif", cloud.astype("uint8"), None)
    source = _write(tmp_path / "scene.tif", values, None)
    geodiff.fill(source, tmp_path / "filled.tif", mask=str(mask), filler="laplace", max_error=1e-6)
    assert (_read(tmp_path / "filled_source.tif")[0][cloud] == 255).all()
    assert np.array_equal(_read(tmp_path / "filled.tif")[0], values)


def test_quantiles_bracket_the_value(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", quantiles="0.05,0.95")
    low, high = _read(tmp_path / "filled_quantiles.tif")
    values, error = _read(tmp_path / "filled.tif")[0], _read(tmp_path / "filled_standard_error.tif")[0]
    missing = _read(scene)[0] == 0
    assert np.allclose((high - low)[missing], 2 * 1.6449 * error[missing], rtol=1e-3)
    assert ((low <= values + 1) & (values - 1 <= high))[missing].all()
    assert np.array_equal(low[~missing], values[~missing].astype("float32"))


def test_quantiles_lie_where_values_may(tmp_path: Path) -> None:
    """Counts have no fewer than none, whatever half an interval below the estimate would be."""
    counts = np.rint(np.random.default_rng(0).exponential(3.0, (96, 96))).astype("uint16") + 1
    counts[30:60, 30:60] = 65535
    source = _write(tmp_path / "scene.tif", counts, 65535)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace", quantiles="0.001,0.999", valid_range="0,40")
    low, high = _read(tmp_path / "filled_quantiles.tif")
    assert low.min() == 0
    assert high.max() <= 40


def test_a_buffer_takes_the_rim_of_gaps_for_missing(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "plain.tif", filler="nearest")
    geodiff.fill(scene, tmp_path / "grown.tif", filler="nearest", buffer=2)
    plain, grown = _read(tmp_path / "plain_source.tif") != 0, _read(tmp_path / "grown_source.tif") != 0
    assert (grown | ~plain).all()
    assert grown.sum() > plain.sum()


def test_every_block_may_fail_but_not_all_of_them(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import pipeline
    from geodiff.blocks import BlockResult
    from geodiff.plan import Block

    real = pipeline.fill_block

    def failing(work_path: str, block: Block) -> BlockResult:
        if block.window.row == 0 and block.window.column == 0:
            return BlockResult(block.key, error="ValueError: always")
        return real(work_path, block)

    monkeypatch.setattr(pipeline, "fill_block", failing)
    record = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", block_size=256)
    assert record.exit_code == 3
    assert list(record.failed_blocks.values()) == ["ValueError: always"]
    codes = _read(tmp_path / "filled_source.tif")[0]
    assert (codes[:256, :256][_read(scene)[0][:256, :256] == 0] == 255).all()
    assert (codes[256:] != 255).all()
    monkeypatch.undo()
    again = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", block_size=256)
    assert (again.exit_code, again.blocks_resumed) == (0, again.blocks - 1)
    assert not (_read(tmp_path / "filled_source.tif") == 255).any()


def test_runs_side_by_side_open_their_scenes_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import blocks, pipeline
    from geodiff.blocks import BlockResult
    from geodiff.plan import Block

    values = np.full((90, 600), 7, "uint16")
    values[40:50, [100, 300, 500]] = 0
    scenes = [_write(tmp_path / f"{n}.tif", values) for n in range(4)]
    opened: list[str] = []
    real, load_fit = pipeline.fill_block, blocks.load_fit

    def told(path: str) -> object:
        opened.append(path)
        return load_fit(path)

    def meanwhile(work_path: str, block: Block) -> BlockResult:
        """Between two blocks of one scene all the others are filled."""
        result = real(work_path, block)
        if scenes:
            scene = scenes.pop()
            geodiff.fill(scene, scene.with_suffix(".zarr"), filler="nearest", block_size=256)
        return result

    monkeypatch.setattr(pipeline, "fill_block", meanwhile)
    monkeypatch.setattr(blocks, "load_fit", told)
    record = geodiff.fill(scenes.pop(), tmp_path / "out.zarr", filler="nearest", block_size=256)
    assert (record.blocks, len(opened), len(set(opened))) == (2, 4, 4)
    assert not blocks._lines


_KILLED = """
import sys, time
from geodiff import blocks
import geodiff
real = blocks._write
def slow(*arguments):
    time.sleep(0.4)
    return real(*arguments)
blocks._write = slow
geodiff.fill(sys.argv[1], sys.argv[2], filler="laplace", block_size=256)
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    values = _surface(700, 700).astype("uint16")
    values[_holes(700, 700, 40)] = 0
    scene = _write(tmp_path / "scene.tif", values)
    for folder in ("undisturbed", "killed"):
        (tmp_path / folder).mkdir()
    geodiff.fill(scene, tmp_path / "undisturbed/filled.tif", filler="laplace", block_size=256)
    target = tmp_path / "killed/filled.tif"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(scene), str(target)])
    markers = tmp_path / "killed/filled.geodiff-work.zarr/geodiff-done"
    give_up = time.monotonic() + 120
    while len(list(markers.glob("*.json"))) < 3 and time.monotonic() < give_up:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {p.name: p.stat().st_mtime_ns for p in markers.glob("*.json")}
    assert 3 <= len(finished) < 9
    assert not target.exists()
    record = geodiff.fill(scene, target, filler="laplace", block_size=256)
    assert record.blocks_resumed == len(finished)
    assert _digest(tmp_path / "undisturbed") == _digest(tmp_path / "killed")


def test_a_source_that_changed_is_filled_anew(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    with rasterio.open(scene, "r+") as raster:
        values = raster.read()
        values[0, 0, 0] = 77
        raster.write(values)
    with pytest.raises(TargetError, match="another state of the source"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")


def test_a_source_that_changes_under_the_run_is_no_product(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff import pipeline
    from geodiff.blocks import BlockResult
    from geodiff.plan import Block

    real = pipeline.fill_block

    def touching(work_path: str, block: Block) -> BlockResult:
        with rasterio.open(scene, "r+") as raster:
            raster.update_tags(touched="yes")
        return real(work_path, block)

    monkeypatch.setattr(pipeline, "fill_block", touching)
    with pytest.raises(SourceError, match="changed while it was being filled"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    assert not list(tmp_path.glob("filled*.tif"))


def test_a_refused_job_leaves_nothing(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import plan

    monkeypatch.setattr(plan, "free_memory", lambda: 1 << 20)
    with pytest.raises(MemoryPlanError, match="--block-size"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_crop_shares_the_lattice_of_its_scene() -> None:
    from geodiff.lattice import Lattice

    whole = Lattice.of((500, 500), UTM)
    crop = Lattice.of((200, 200), UTM @ Affine.translation(64, 32))
    assert crop.origin == (whole.origin[0] + 32, whole.origin[1] + 64)


def test_vector_masks_in_another_crs(tmp_path: Path) -> None:
    import geopandas
    from shapely.geometry import box

    values = _surface(120, 150).astype("uint16")
    scene = _write(tmp_path / "scene.tif", values)
    left, top = UTM @ (40, 30)
    right, bottom = UTM @ (70, 60)
    shape = geopandas.GeoSeries([box(left, bottom, right, top)], crs="EPSG:32618").to_crs("EPSG:4326")
    shape.to_file(tmp_path / "cloud.gpkg")
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", mask=str(tmp_path / "cloud.gpkg"))
    filled = _read(tmp_path / "filled_source.tif")[0] != 0
    assert filled[31:59, 41:69].all()
    assert filled.sum() <= 32 * 32


def test_dates_alone_do_not_change_a_pixel(tmp_path: Path) -> None:
    import xarray as xr

    rng = np.random.default_rng(0)
    stack = np.stack([_surface(80, 90, seed) for seed in range(3)])
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


def test_a_failed_block_leaves_nodata_and_a_date_not_asked_for_its_clouds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xarray as xr

    from geodiff import pipeline

    stack = np.stack([_surface(40, 50, seed) for seed in range(3)]).astype("int16")
    cloud = np.stack([np.roll(_holes(40, 50, 1, 6), 16 * n, axis=1) for n in range(3)])
    stack[cloud] = 9000
    times = np.array(["2024-01-01", "2024-01-09", "2024-01-17"], "datetime64[ns]")
    axes = {"time": times, "y": -np.arange(40.0), "x": np.arange(50.0)}
    cube = xr.Dataset({"ndvi": (("time", "y", "x"), stack, {"_FillValue": np.int16(-1)})}, axes)
    cube.to_zarr(tmp_path / "cube.zarr", consolidated=False)
    fill_block = pipeline.fill_block

    def second_fails(path: str, block: Any) -> Any:
        return pipeline.BlockResult(block.key, error="no") if block.date == 1 else fill_block(path, block)

    monkeypatch.setattr(pipeline, "fill_block", second_fails)
    options = {"valid_range": (0.0, 5000.0), "dates": "2024-01-01:2024-01-09"}
    assert geodiff.fill(tmp_path / "cube.zarr", tmp_path / "out.zarr", filler="laplace", **options).exit_code == 3
    with xr.open_zarr(tmp_path / "out.zarr", consolidated=False, mask_and_scale=False) as found:
        filled, failed, copied = found.ndvi.to_numpy()
        assert (found.ndvi_source.to_numpy()[1:][cloud[1:]] == 255).all()
    assert ((filled[cloud[0]] > 0) & (filled[cloud[0]] < 5000)).all()
    assert (failed[cloud[1]] == -1).all()
    assert np.array_equal(failed[~cloud[1]], stack[1][~cloud[1]])
    assert np.array_equal(copied, stack[2])


def test_no_integer_is_surer_than_its_rounding(tmp_path: Path) -> None:
    values = np.full((90, 100), 50, "uint8")
    values[30:40, 30:40] = 0
    scene = _write(tmp_path / "scene.tif", values)
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    error = _read(tmp_path / "filled_standard_error.tif")[0]
    assert error[30:40, 30:40].min() >= 1 / np.sqrt(12) - 1e-6


def test_variables_without_gaps_or_dates_are_copied(tmp_path: Path) -> None:
    import xarray as xr

    stack = np.stack([_surface(40, 50, seed) for seed in range(2)])
    stack[1, 10:20, 10:20] = np.nan
    times = np.array(["2024-01-01", "2024-01-09"], "datetime64[ns]")
    axes = {"time": times, "y": -np.arange(40.0), "x": np.arange(50.0)}
    cube = xr.Dataset({"sst": (("time", "y", "x"), stack), "depth": (("y", "x"), _surface(40, 50, 9))}, axes)
    cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    geodiff.fill(tmp_path / "cube.nc", tmp_path / "filled.nc", filler="laplace", dates="2024-01-09")
    with xr.open_dataset(tmp_path / "filled.nc", engine="h5netcdf") as filled:
        assert np.isfinite(filled.sst.values).all()
        assert np.array_equal(filled.depth.values, cube.depth.values)
        assert "sst_source" in filled
        assert "depth_source" not in filled


def test_what_is_said_of_a_source_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "dates"
    folder.mkdir()
    for day, name in enumerate(("2024-01-01a", "2024-01-01b", "2024-01-09")):
        values = _surface(60, 70).astype("uint16")
        values[10 + 10 * day : 20 + 10 * day, 20:40] = 0
        _write(folder / f"{name}.tif", values, transform=UTM @ Affine.translation(day / 4, 0))
    with caplog.at_level("INFO"):
        geodiff.fill(str(folder), str(tmp_path / "filled.zarr"), filler="laplace", members=0)
    said = [record.getMessage() for record in caplog.records]
    assert sum("are both of" in line for line in said) == 1
    assert sum("moved to the nearest" in line for line in said) == 1

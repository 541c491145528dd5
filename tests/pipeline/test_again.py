"""Runs that were refused, killed, broken or repeated: nothing is lost, and nothing is done twice."""

from __future__ import annotations

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

import geodiff
from geodiff.errors import (
    GateError,
    LockedError,
    MemoryPlanError,
    SourceError,
    TargetError,
)
from geodiff.io.lock import lock
from tests.rasters import digests, read, round_holes, surface, write


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
    whole = surface(70, 80).astype("uint16")
    gate = "coverage90>=0.85,seam<=1.05"
    record = geodiff.fill(write(tmp_path / "whole.tif", whole), tmp_path / "a.tif", filler="laplace", gate=gate)
    assert (record.exit_code, record.status, record.gates["seam"]) == (0, "nothing to fill", None)
    whole[30:33, 40:43] = 0
    with pytest.raises(GateError, match="too small to measure"):
        geodiff.fill(write(tmp_path / "holed.tif", whole), tmp_path / "b.tif", filler="laplace", gate=gate)


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
    codes = read(tmp_path / "filled_source.tif")[0]
    assert (codes[:256, :256][read(scene)[0][:256, :256] == 0] == 255).all()
    assert (codes[256:] != 255).all()
    monkeypatch.undo()
    again = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", block_size=256)
    assert (again.exit_code, again.blocks_resumed) == (0, again.blocks - 1)
    assert not (read(tmp_path / "filled_source.tif") == 255).any()


def test_runs_side_by_side_open_their_scenes_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import blocks, pipeline
    from geodiff.blocks import BlockResult
    from geodiff.plan import Block

    values = np.full((90, 600), 7, "uint16")
    values[40:50, [100, 300, 500]] = 0
    scenes = [write(tmp_path / f"{n}.tif", values) for n in range(4)]
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
    values = surface(700, 700).astype("uint16")
    values[round_holes(700, 700, 40)] = 0
    scene = write(tmp_path / "scene.tif", values)
    for folder in ("undisturbed", "killed"):
        (tmp_path / folder).mkdir()
    geodiff.fill(scene, tmp_path / "undisturbed/filled.tif", filler="laplace", block_size=256)
    target = tmp_path / "killed/filled.tif"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(scene), str(target)])
    markers = tmp_path / "killed/filled.geodiff-work.zarr/geodiff-done"
    give_up = time.monotonic() + 120
    while len(list(markers.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {p.name: p.stat().st_mtime_ns for p in markers.glob("*.json")}
    assert 3 <= len(finished) < 9
    assert not target.exists()
    record = geodiff.fill(scene, target, filler="laplace", block_size=256)
    assert record.blocks_resumed == len(finished)
    assert digests(tmp_path / "undisturbed") == digests(tmp_path / "killed")


def test_a_source_that_changed_is_filled_anew(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    with rasterio.open(scene, "r+") as raster:
        values = raster.read()
        values[0, 0, 0] = 77
        raster.write(values)
    with pytest.raises(TargetError, match="another version of the source"):
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


@pytest.mark.parametrize("when", ["standing_of", "finish"])
def test_a_source_that_changes_while_it_is_read_or_its_product_written_is_told(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Its identity is read before the blocks, and its known pixels are copied after them."""
    from geodiff import pipeline

    real = getattr(pipeline, when)

    def touched(*arguments: Any, **options: Any) -> Any:
        answer = real(*arguments, **options)
        with rasterio.open(scene, "r+") as raster:
            raster.update_tags(touched="yes")
        return answer

    monkeypatch.setattr(pipeline, when, touched)
    with pytest.raises(SourceError, match="changed while it was being filled"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    monkeypatch.undo()
    assert geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", overwrite=True).status == "done"


def test_a_refused_job_leaves_nothing(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff import plan

    monkeypatch.setattr(plan, "free_memory", lambda: 1 << 20)
    with pytest.raises(MemoryPlanError, match="--block-size"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_failed_block_leaves_nodata_and_a_date_not_asked_for_its_clouds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xarray as xr

    from geodiff import pipeline

    stack = np.stack([surface(40, 50, seed) for seed in range(3)]).astype("int16")
    cloud = np.stack([np.roll(round_holes(40, 50, 1, 6), 16 * n, axis=1) for n in range(3)])
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


def test_a_run_that_was_killed_in_its_last_clean_up_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a working store was taken for blocks that had failed, and all of them were filled again."""
    from geodiff.io import store

    source, target = write(tmp_path / "scene.tif", surface(70, 80).astype("uint16")), tmp_path / "filled.tif"
    values = read(source)
    values[0, 20:30, 20:30] = 0
    write(source, values)
    with monkeypatch.context() as patched:

        def killed(path: str) -> None:
            raise KeyboardInterrupt

        patched.setattr(store, "remove_tree", killed)
        with pytest.raises(KeyboardInterrupt):
            geodiff.fill(source, target, filler="laplace")
    assert (tmp_path / "filled.geodiff-work.zarr").is_dir()
    assert geodiff.fill(source, target, filler="laplace").status == "up to date"
    assert not list(tmp_path.glob("*.geodiff-work*"))

"""What operation does to a run, and what is lost: nothing. docs/pages/faults.md tells which test shows what."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import geodiff
from geodiff import api, pipeline, plan, preparing
from geodiff.blocks import BlockResult
from geodiff.errors import MemoryPlanError, SourceError, TargetError, WriteError
from geodiff.plan import Block, Means
from geodiff.scene import open_scene

OUT_OF_ROOM = """
import resource, sys
from geodiff import pipeline
real = pipeline.finish
def full(*arguments, **options):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    return real(*arguments, **options)
pipeline.finish = full
from geodiff.cli import main
main()
"""
"""The disk takes no more once the blocks are filled: files end at 4 KiB."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return _write(tmp_path / "scene.tif", _noise(90, 100))


def _noise(rows: int, columns: int) -> np.ndarray:
    """Numbers that do not compress, with a hole."""
    values = np.random.default_rng(0).integers(1000, 60000, (rows, columns)).astype("uint16")
    values[20:26, 30:37] = 0
    return values


def _write(path: Path, values: np.ndarray, **profile: object) -> Path:
    facts = {"crs": "EPSG:32618", "transform": Affine(30, 0, 300_000, 0, -30, 4_500_000), "nodata": 0, **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[0], width=values.shape[1], count=1, dtype=values.dtype, **facts
    ) as out:
        out.write(values, 1)
    return path


def _read(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.mark.parametrize("kind", [".tif", ".nc", ".zarr"])
def test_a_full_disk_ends_with_1_and_the_same_command_goes_on(scene: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / f"filled{kind}"
    words = ["geodiff", "fill", str(scene), str(target), "--filler", "nearest", "-q"]
    script = f"import sys; sys.argv = {words!r}\n{OUT_OF_ROOM}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert str(tmp_path) in said[0] or "large" in said[0]
    assert "Traceback" not in ended.stderr
    assert not target.exists()
    record = geodiff.fill(scene, target, filler="nearest")
    assert (record.exit_code, record.blocks_resumed) == (0, record.blocks)


def test_a_full_disk_keeps_the_product_that_was_there(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "filled.tif"
    geodiff.fill(scene, target, filler="nearest")
    before = target.read_bytes()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rasterio.shutil, "copy", full)
    with pytest.raises(WriteError, match="No space left"):
        geodiff.fill(scene, target, filler="idw", overwrite=True)
    assert target.read_bytes() == before
    assert not list(tmp_path.glob(".*partial*"))


def test_a_truncated_block_of_the_source_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    scene = _write(tmp_path / "scene.tif", _noise(600, 600), tiled=True, blockxsize=128, blockysize=128)
    scene.write_bytes(scene.read_bytes()[:-200_000])
    with pytest.raises(SourceError, match="damaged or incomplete"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("kind", ["a foreign folder", "a foreign file", "half a store", "a corrupt store"])
def test_what_is_not_ours_at_the_target_is_refused_untouched(scene: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "filled.zarr"
    if kind == "a foreign file":
        target.write_bytes(b"mine")
    else:
        target.mkdir()
        text = {"a foreign folder": "notes", "half a store": '{"zarr_format": 3', "a corrupt store": "\0\1\2"}[kind]
        (target / ("notes.txt" if kind == "a foreign folder" else "zarr.json")).write_text(text)
    before = _state(target)
    with pytest.raises(TargetError, match=r"--overwrite"):
        geodiff.fill(scene, target, filler="nearest")
    assert _state(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["filled.zarr", "scene.tif"]


def _state(target: Path) -> dict[str, bytes]:
    files = [target] if target.is_file() else sorted(target.iterdir())
    return {file.name: file.read_bytes() for file in files}


def test_a_foreign_working_store_is_refused_untouched(scene: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "filled.geodiff-work.zarr"
    foreign.mkdir()
    (foreign / "zarr.json").write_text('{"attributes": {"mine": 1}}')
    with pytest.raises(TargetError, match="no working store of geodiff"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest")
    assert _state(foreign) == {"zarr.json": b'{"attributes": {"mine": 1}}'}


def test_a_clock_that_jumps_back_changes_no_pixel(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    geodiff.fill(scene, tmp_path / "steady.tif", filler="nearest")
    jumps = itertools.cycle([1e9, 2e9, 0.0, 1.5e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    record = geodiff.fill(scene, tmp_path / "jumping.tif", filler="nearest")
    monkeypatch.undo()
    assert record.exit_code == 0
    assert np.array_equal(_read(tmp_path / "steady.tif"), _read(tmp_path / "jumping.tif"))
    assert geodiff.fill(scene, tmp_path / "jumping.tif", filler="nearest").status == "up to date"


def _stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = pipeline.fill_block, []

    def stopping(work_path: str, block: Block) -> BlockResult:
        if len(done) == count:
            raise KeyboardInterrupt
        done.append(block)
        return real(work_path, block)

    monkeypatch.setattr(pipeline, "fill_block", stopping)


def test_a_run_on_a_file_url_knows_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = _noise(300, 300)
    values[280:284, 280:290] = 0
    scene, target = _write(tmp_path / "scene.tif", values), f"file://{tmp_path}/filled.tif"
    options = {"filler": "nearest", "block_size": 256, "gate": "unfilled<=0.02", "work": f"file://{tmp_path}/work"}
    _stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        geodiff.fill(scene, target, **options)
    monkeypatch.undo()
    record = geodiff.fill(scene, target, **options)
    assert (record.blocks, record.blocks_resumed) == (2, 1)
    assert [facts["filled"] for facts in record.variables.values()] == [82]
    assert not list(tmp_path.glob("work/*"))


def _stopped_after_one_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Scene and target of a run with gaps in two blocks, of which the second was not begun."""
    values = _noise(300, 300)
    values[280:284, 280:290] = 0
    scene, target = _write(tmp_path / "scene.tif", values), tmp_path / "filled.tif"
    _stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        geodiff.fill(scene, target, filler="nearest", block_size=256)
    monkeypatch.undo()
    return scene, target


def test_a_resumed_run_does_not_scan_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, target = _stopped_after_one_of_two(tmp_path, monkeypatch)
    monkeypatch.setattr(preparing, "scan_cube", lambda *arguments: pytest.fail("scanned again"))
    record = geodiff.fill(scene, target, filler="nearest", block_size=256)
    assert (record.blocks, record.blocks_resumed) == (2, 1)
    monkeypatch.undo()
    geodiff.fill(scene, tmp_path / "other.tif", filler="nearest")
    assert np.array_equal(_read(target), _read(tmp_path / "other.tif"))


_LOST = {
    "an estimate": "band_data/value/c/0/0/0/0",
    "its source": "band_data/source/c/0/0/0/0",
    "a gap": "band_data/scan_reason/c/0/0/1/1",
    "which chunks hold gaps": "geodiff-chunks/parts/band_data/arrays/wanted/c/0/0/0",
    "a marker": "geodiff-done/band_data%2F0%2F0%2F0%2F256x256.json",
    "the fit": "../filled.geodiff-work.zarr.fit/parts/band_data/arrays/cells/c/0/0/0/0",
    "what a scan is known by": "geodiff-scan/zarr.json",
    "what a fit is known by": "../filled.geodiff-work.zarr.fit/zarr.json",
}


_EMPTIED = ("its source", "a marker", "what a scan is known by", "what a fit is known by")


@pytest.mark.parametrize(
    ("lost", "how"),
    [
        *((lost, "emptied" if lost in _EMPTIED else "deleted") for lost in _LOST),
        *((lost, "cut") for lost in ("an estimate", "a gap")),
    ],
)
def test_what_a_working_store_lost_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, how: str
) -> None:
    """Who cleans up temporary files deletes chunks, and a power cut empties them: both would read as no gap.

    A disk that was full when the file system wrote them back cuts them short.
    """
    scene, target = _stopped_after_one_of_two(tmp_path, monkeypatch)
    file = tmp_path / "filled.geodiff-work.zarr" / _LOST[lost]
    assert file.stat().st_size
    if how == "deleted":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if how == "emptied" else -7])
    record = geodiff.fill(scene, target, filler="nearest", block_size=256)
    again = lost in ("an estimate", "its source", "a marker")
    assert (record.exit_code, record.blocks, record.blocks_resumed) == (0, 2, 0 if again else 1)
    assert [facts["filled"] for facts in record.variables.values()] == [82]
    assert _read(target).all()
    assert (_read(tmp_path / "filled_source.tif") != 0).sum() == 82


@pytest.mark.parametrize("lost", ["an estimate", "a gap", "a marker"])
def test_a_working_store_that_loses_a_part_in_mid_run_makes_no_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    values = _noise(300, 300)
    values[280:284, 280:290] = 0
    scene, target = _write(tmp_path / "scene.tif", values), tmp_path / "filled.tif"
    real = pipeline.finish

    def losing(*arguments: object, **options: object) -> object:
        (tmp_path / "filled.geodiff-work.zarr" / _LOST[lost]).unlink()
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "finish", losing)
    with pytest.raises(WriteError, match=r"has lost .*--work"):
        geodiff.fill(scene, target, filler="nearest", block_size=256)
    monkeypatch.undo()
    assert not target.exists()
    record = geodiff.fill(scene, target, filler="nearest", block_size=256)
    assert (record.exit_code, [facts["filled"] for facts in record.variables.values()]) == (0, [82])
    assert _read(target).all()


def test_a_resumed_run_keeps_its_blocks_when_memory_is_short_now(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_after(0, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest")
    monkeypatch.undo()
    needed = api.plan_fill(scene, filler="nearest").memory
    monkeypatch.setattr(plan, "free_memory", lambda: needed + 1)
    assert geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest").exit_code == 0


def test_blocks_and_workers_follow_from_memory(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.blocks import filler_of
    from geodiff.job import FillJob

    def means(available: float, **options: object) -> Means:
        job = FillJob.build(source=str(scene), target="out.tif", filler="nearest", **options)
        monkeypatch.setattr(plan, "free_memory", lambda: int(available))
        return Means.of(open_scene(job), job, filler_of(job))

    monkeypatch.setattr(plan, "cores", lambda: 64)
    one = means(1e12).memory
    assert means(3.9 * one, workers=0).processes == 3
    assert means(1e12, workers=0).processes == 64
    assert means(1e12).processes == 1
    assert means(1.1 * one).block_size == 256
    assert means(1.1 * one, block_size=700).block_size == 768
    with pytest.raises(MemoryPlanError, match="--workers"):
        means(2 * one, workers=3)


def test_limits_of_this_process_are_as_they_were() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY

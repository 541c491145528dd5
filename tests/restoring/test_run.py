"""The run of a restoration: repeated, killed, refused, and by the command line."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from typer.testing import CliRunner

import geodiff
from geodiff.cli import app
from geodiff.errors import JobError, MemoryPlanError, NothingKnownError, SourceError, TargetError
from geodiff.restoring import RestoreJob
from tests.restoring.frames import read, write


def test_the_same_job_gives_the_same_bytes_and_is_not_done_twice(frame: Path, tmp_path: Path) -> None:
    job = {"task": "denoise,inpaint", "nodata": 0, "members": 2, "seed": 5}
    first = geodiff.restore(frame, tmp_path / "a" / "out.tif", **job)
    assert first.peak_memory_bytes > 10 << 20
    geodiff.restore(frame, tmp_path / "b" / "out.tif", **job)
    for path in first.products:
        assert Path(path).read_bytes() == (tmp_path / "b" / Path(path).name).read_bytes()
    assert geodiff.restore(frame, tmp_path / "a" / "out.tif", **job).status == "up to date"
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.restore(frame, tmp_path / "a" / "out.tif", **{**job, "seed": 6})
    geodiff.restore(frame, tmp_path / "a" / "out.tif", **{**job, "seed": 6}, overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / "a" / "out.tif"), read(tmp_path / "b" / "out.tif"))
    assert (read(tmp_path / "a" / "out_members.tif") != read(tmp_path / "b" / "out_members.tif")).any()
    geodiff.restore(frame, tmp_path / "a" / "out.tif", task="denoise", members=0, overwrite=True)
    assert not (tmp_path / "a" / "out_members.tif").exists()  # of the product that was replaced


@pytest.mark.parametrize(
    ("when", "left"), [("_restored_cubes", "nothing was written"), ("write_product", "--overwrite")]
)
def test_a_source_that_changes_under_a_restoration_is_told(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, left: str
) -> None:
    """Its identity is read before its pixels, and what is not restored is copied after them."""
    from geodiff import restoring

    real = getattr(restoring, when)

    def touched(*arguments: Any, **options: Any) -> Any:
        answer = real(*arguments, **options)
        os.utime(frame)
        return answer

    monkeypatch.setattr(restoring, when, touched)
    with pytest.raises(SourceError, match=f"changed while it was being filled.*{left}"):
        geodiff.restore(frame, tmp_path / "out.tif", task="inpaint", nodata=0, members=0)
    assert (tmp_path / "out.tif").exists() == (when == "write_product")


def test_what_is_not_its_own_is_not_deleted(frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    geodiff.fill(frame, "out/a.zarr", filler="laplace")
    first = geodiff.restore(frame, "out/a.tif", task="denoise", members=2)
    again = geodiff.restore(frame, tmp_path / "out/a.tif", task="denoise", members=2, seed=1, overwrite=True)
    assert [Path(path).name for path in again.products] == [Path(path).name for path in first.products]
    assert all(Path(path).exists() for path in again.products)
    assert geodiff.fill(frame, "out/a.zarr", filler="laplace").status == "up to date"
    with pytest.raises(TargetError, match=r"over those of out/a\.tif"):
        geodiff.restore(frame, "out/a.png", task="denoise")
    assert all(Path(path).exists() for path in again.products)


def test_a_kill_before_the_record_leaves_no_old_layer_for_good(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=2)
    with monkeypatch.context() as patched:
        patched.setattr("geodiff.restoring.delete_left_layers", stop)
        with pytest.raises(KeyboardInterrupt):
            geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=0, overwrite=True)
    assert geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=0).status == "done"
    assert not (tmp_path / "a_members.tif").exists()


def test_a_product_says_what_was_done_to_it(frame: Path, tmp_path: Path) -> None:
    record = geodiff.restore(frame, tmp_path / "out.tif", task="denoise", noise=6.5, members=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "out.tif") as opened:
            tags = opened.tags()
    assert tags["geodiff_task"] == "denoise"
    assert tags["geodiff_noise"] == "band_data/band_1=6.5"
    assert tags["geodiff_command"] == f"geodiff restore {frame} out.tif --task denoise --noise 6.5 --members 0"
    assert len(tags["geodiff_model_hash"]) == 64
    assert "history" in tags
    kept = json.loads((tmp_path / "out.geodiff.json").read_text())
    assert kept["fingerprint"] == record.fingerprint == tags["geodiff_fingerprint"]
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob(".*partial*"))


def test_what_is_not_given_is_named() -> None:
    with pytest.raises(JobError, match=r"^TARGET and --task are missing; give them$"):
        RestoreJob.build(source="a.tif")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "sharpen"}, "there is no task 'sharpen'"),
        ({"task": ""}, "there is no task ''"),
        ({"task": "inpaint", "noise": 3}, "--noise belongs to denoise"),
        ({"task": "denoise", "factor": 4}, "--factor belongs to superres"),
        ({"task": "superres", "factor": 3}, "--factor 3"),
        ({"task": "denoise", "noise": -1}, "--noise -1"),
        ({"task": "denoise", "detect": "clouds"}, "named detector"),
        ({"task": "denoise", "colour": 1}, "`geodiff restore --help` lists them"),
        ({"task": "denoise", "device": "gpu"}, "--device gpu: choose auto, cpu, cuda"),
        ({"task": "denoise", "valid_range": "5"}, "--valid-range 5 is not two numbers; give A,B"),
        ({"task": "denoise", "valid_range": (1, 2, 3)}, "--valid-range 1,2,3 is not two numbers; give A,B"),
        ({"task": "denoise", "members": -1}, "--members -1: it should be"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        geodiff.restore(tmp_path / "a.tif", tmp_path / "b.tif", **options)


def test_what_does_not_fit_is_refused_before_any_work(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=600 << 20))
    with pytest.raises(MemoryPlanError, match=r"384 x 384 pixels with 4 members need .* GiB are free; use fewer"):
        geodiff.restore(frame, tmp_path / "out.tif", task="superres", factor=4)
    assert not (tmp_path / "out.tif").exists()


def test_nothing_known_and_a_source_as_target_are_refused(frame: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.tif", np.zeros((32, 32), "uint8"), driver="GTiff", nodata=0)
    with pytest.raises(NothingKnownError):
        geodiff.restore(empty, tmp_path / "out.tif", task="denoise")
    before = frame.read_bytes()
    with pytest.raises(TargetError, match="would be destroyed"):
        geodiff.restore(frame, frame, task="denoise", overwrite=True)
    assert frame.read_bytes() == before


def test_the_command_line_does_the_same_and_tells_the_noise(frame: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        app, ["restore", str(frame), str(tmp_path / "out.png"), "--task", "denoise", "--members", "0", "-q"]
    )
    assert run.exit_code == 0, run.output
    assert "noise of band_1:" in run.output
    assert f"wrote {tmp_path / 'out.png'}" in run.output
    again = CliRunner().invoke(
        app, ["restore", str(frame), str(tmp_path / "out.png"), "--task", "denoise", "--members", "0", "--json"]
    )
    assert json.loads(again.stdout)["status"] == "up to date"


def test_a_job_spells_itself_so_that_it_can_be_typed() -> None:
    job = RestoreJob.build(source="a b.img", target="o.tif", task="inpaint,denoise", detect=("dropouts",), seed=3)
    assert job.command() == "geodiff restore 'a b.img' o.tif --task denoise,inpaint --detect dropouts --seed 3"
    assert job.fingerprint() == RestoreJob.build(**{**job.model_dump(), "target": "other.tif"}).fingerprint()
    assert job.fingerprint() != job.model_copy(update={"noise": 1.0}).fingerprint()
    masked = RestoreJob.build(source="a.img", target="o.tif", task="inpaint", mask=("a,b.tif", "c.tif"))
    assert masked.command() == "geodiff restore a.img o.tif --task inpaint --mask a,b.tif --mask c.tif"

"""The growing cube on a real Prefect server: dates are added, late ones noticed, a gate keeps the cube of before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from rasterio.transform import Affine

from flows.cubes import CubeRecord, append_new, growing
from flows.meteorology import BlocksFailedError, append_dates, fill_meteorology, main
from geodiff.errors import GateError, JobError
from geodiff.job import FillJob
from tests.rasters import write

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("server")


def write_day(folder: Path, day: int, lift: int = 0) -> Path:
    """One date a file, with a gap of its own."""
    y, x = np.mgrid[:40, :50]
    values = np.rint(2000 + lift + 100 * np.sin((y + day) / 9) + 80 * np.cos(x / 7)).astype("uint16")
    values[10:20, 5 + 4 * day : 15 + 4 * day] = 0
    folder.mkdir(exist_ok=True)
    path = folder / f"rain_2024010{day}.tif"
    return write(path, values, transform=Affine(1000, 0, 300_000, 0, -1000, 4_500_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for day in (1, 2, 4):
        write_day(tmp_path / "in", day)
    return tmp_path


def job(folder: Path, **options: Any) -> FillJob:
    fields = {"filler": "laplace", **options}
    return FillJob.build(source=f"{folder}/in", target=f"{folder}/cube.zarr", **fields)


def counts(record: CubeRecord) -> tuple[str, int, int, int]:
    return record.status, record.dates, record.new_dates, record.dates_filled


def test_dates_are_added_as_they_arrive_and_late_ones_too(folder: Path) -> None:
    assert counts(fill_meteorology(job(folder))) == ("done", 3, 3, 3)
    before = {p: p.stat().st_mtime_ns for p in (folder / "cube.zarr").rglob("*")}
    assert fill_meteorology(job(folder)).status == "nothing to append"
    assert {p: p.stat().st_mtime_ns for p in (folder / "cube.zarr").rglob("*")} == before
    write_day(folder / "in", 3)
    assert counts(fill_meteorology(job(folder))) == ("done", 4, 1, 1)
    write_day(folder / "in", 2, lift=5)  # reprocessed
    assert counts(fill_meteorology(job(folder))) == ("done", 4, 0, 1)
    with xr.open_zarr(folder / "cube.zarr", mask_and_scale=False) as cube:
        (name,) = (n for n in cube.data_vars if f"{n}_source" in cube)
        assert [str(day)[:10] for day in cube["time"].values] == [f"2024-01-0{day}" for day in (1, 2, 3, 4)]
        assert (cube[name].values != 0).all()


def test_the_server_shows_what_was_done(folder: Path) -> None:
    state = fill_meteorology(job(folder), return_state=True)
    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=run))
    (row,) = json.loads(artifact.data)
    assert (artifact.key, row["cube"], row["status"], row["new"]) == ("filled-cubes", "cube.zarr", "done", 3)


def test_a_gate_keeps_the_cube_of_before_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_new(job(folder))
    before = (folder / "cube.zarr" / "zarr.json").read_bytes()
    write_day(folder / "in", 3)
    with pytest.raises(GateError):
        fill_meteorology(job(folder, gate="seam<=0.5"))
    assert main([f"{folder}/in", f"{folder}/cube.zarr", "--filler", "laplace", "--gate", "seam<=0.5"]) == 5
    assert "gate seam<=0.5: the run is too small" in capsys.readouterr().err
    assert (folder / "cube.zarr" / "zarr.json").read_bytes() == before


def test_a_failing_disk_is_tried_again_and_failed_blocks_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [OSError(5, "Input/output error"), CubeRecord("in", "cube.zarr", "done", dates=3)]

    def append(job: FillJob) -> CubeRecord:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("flows.meteorology.append_new", append)
    assert fill_meteorology(job(folder), backoff_seconds=0).status == "done"
    answers.append(CubeRecord("in", "cube.zarr", "some blocks failed", message="b: disk"))
    with pytest.raises(BlocksFailedError, match="b: disk"):
        fill_meteorology(job(folder))


def test_the_command_line_says_what_was_appended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{folder}/in", f"{folder}/cube.zarr", "--filler", "laplace"]
    assert main(words) == 0
    assert capsys.readouterr().out == "cube.zarr: done, 3 of 3 dates new, filled on 3\n"
    assert main(words) == 0
    assert capsys.readouterr().out == "cube.zarr: nothing to append\n"
    assert main([f"{folder}/in", f"{folder}/out.tif"]) == 2
    assert "local .zarr or .nc" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_a_folder_of_netcdf_files_grows_to_a_cube(tmp_path: Path, suffix: str) -> None:
    def deliver(day: int) -> None:
        """A packed field with a time axis of length 1, as services give it."""
        y, x = np.mgrid[:20, :30]
        values = (280 + np.sin((y + day) / 5) + np.cos(x / 6)).astype("f4")
        values[5:10, 4 * day : 4 * day + 8] = np.nan
        axes = {
            "time": np.array([f"2024-01-0{day}T12"], "M8[ns]"),
            "lat": 50 - 0.25 * np.arange(20),
            "lon": 0.25 * np.arange(30),
        }
        sst = xr.Dataset({"sst": (("time", "lat", "lon"), values[None])}, axes)
        sst["sst"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768}
        sst.to_netcdf(tmp_path / "in" / f"sst_{day}.nc")

    (tmp_path / "in").mkdir()
    for day in (1, 2, 4):
        deliver(day)
    words = [f"{tmp_path}/in", f"{tmp_path}/cube.{suffix}", "--filler", "linear-time"]
    assert main(words) == 0
    deliver(3)
    assert main(words) == 0
    with (xr.open_zarr if suffix == "zarr" else xr.open_dataset)(tmp_path / f"cube.{suffix}") as cube:
        assert [str(day)[:13] for day in cube["time"].values] == [f"2024-01-0{day}T12" for day in (1, 2, 3, 4)]
        assert cube["sst"].notnull().all()
        assert (cube["sst_source"] != 0).sum(("y", "x")).values.tolist() == [40, 40, 40, 40]


def test_a_target_of_another_kind_is_refused_before_anything_runs(folder: Path) -> None:
    with pytest.raises(JobError, match=r"local \.zarr"):
        growing(FillJob.build(source="in", target=f"{folder}/out/"))


def test_arguments_are_not_hashed_and_results_not_stored() -> None:
    assert append_dates.cache_policy == NO_CACHE
    assert append_dates.persist_result is False
    assert fill_meteorology.persist_result is False


def test_it_is_listed_with_its_hours() -> None:
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (entry,) = (e for e in listed if e["entrypoint"] == "flows/meteorology.py:fill_meteorology")
    assert entry["schedules"][0]["cron"]
    assert entry["parameters"]["job"]["target"].endswith(".zarr")

"""The flow on a real Prefect server: what fails stops nobody, what is done stays done, what passes is tried again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from flows.fill import ScenesFailedError, _picture_key, fill_scene, fill_scenes, main
from flows.scenes import SceneRecord
from geodiff.errors import GateError, LockedError, SourceError
from geodiff.job import FillJob

ROOT = Path(__file__).parents[2]
Writer = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def folder(tmp_path: Path, write_scene: Writer) -> Path:
    """Three scenes, of which one is corrupt."""
    write_scene(tmp_path / "in" / "a.tif", 1)
    write_scene(tmp_path / "in" / "c.tif", 2)
    (tmp_path / "in" / "b.tif").write_bytes(b"II*\0 and then nothing that is a TIFF")
    return tmp_path


def job(folder: Path, **options: Any) -> FillJob:
    return FillJob.build(source=f"{folder}/in", target=f"{folder}/out/", filler="laplace", **options)


def products(folder: Path) -> dict[str, int]:
    grows = ("catalog.json", ".geodiff-digests.json")  # lists what is new; hashes are kept once a file is old enough
    files = (path for path in sorted((folder / "out").glob("*")) if path.is_file() and not path.name.endswith(grows))
    return {path.name: path.stat().st_mtime_ns for path in files}


def statuses(records: tuple[SceneRecord, ...] | list[SceneRecord]) -> dict[str, str]:
    return {Path(record.scene).name: record.status for record in records}


def from_server(ask: Callable[[Any], Any], enough: Callable[[Any], bool]) -> Any:
    """What the server answers, once it has taken in the events of the run."""
    with get_client(sync_client=True) as client:
        for _ in range(300):
            answer = ask(client)
            if enough(answer):
                return answer
            time.sleep(0.1)
    pytest.fail(f"the server still says {answer!r}")


def task_runs(flow_run_id: Any, enough: Callable[[Any], bool]) -> Any:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    return from_server(lambda client: client.read_task_runs(flow_run_filter=only), enough)


def test_one_bad_scene_stops_no_other_and_a_second_run_does_only_what_is_new(folder: Path, write_scene: Writer) -> None:
    with pytest.raises(
        ScenesFailedError, match=r"(?s)^1 of 3 scenes failed\nb\.tif: failed: .*cannot be read"
    ) as first:
        fill_scenes(job(folder))
    assert statuses(first.value.records) == {"a.tif": "done", "b.tif": "failed", "c.tif": "done"}
    made = products(folder)
    assert {name for name in made if name.endswith(".tif") and "_" not in name} == {"a.tif", "c.tif"}

    (folder / "in" / "b.tif").unlink()
    state = fill_scenes(job(folder), return_state=True)
    assert set(statuses(state.result()).values()) == {"up to date"}
    assert products(folder) == made
    assert task_runs(state.state_details.flow_run_id, lambda _: True) == []  # nothing to do is no task

    write_scene(folder / "in" / "d.tif", 3)
    records = fill_scenes(job(folder))
    assert statuses(records) == {"a.tif": "up to date", "c.tif": "up to date", "d.tif": "done"}
    assert {name: when for name, when in products(folder).items() if name in made} == made


def test_the_table_can_be_read_back_and_failures_come_first(folder: Path) -> None:
    state = fill_scenes(job(folder), return_state=True)
    assert state.is_failed()
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

    run = ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id])
    only = ArtifactFilter(flow_run_id=run, key=ArtifactFilterKey(any_=["filled-scenes"]))
    (artifact,) = from_server(lambda client: client.read_artifacts(artifact_filter=only), bool)
    table = json.loads(artifact.data)
    assert (artifact.type, artifact.description) == ("table", "2 done, 1 failed")
    assert [(row["scene"], row["status"], row["filled"], row["to fill"]) for row in table] == [
        ("b.tif", "failed", 0, 0), ("a.tif", "done", 150, 150), ("c.tif", "done", 150, 150),
    ]  # fmt: skip
    assert "cannot be read" in table[0]["why"]
    runs = task_runs(state.state_details.flow_run_id, lambda runs: len(runs) == 3 and all(r.end_time for r in runs))
    assert {run.name: run.state_name for run in runs} == {"a.tif": "Completed", "b.tif": "Failed", "c.tif": "Completed"}


def failing(monkeypatch: pytest.MonkeyPatch, errors: dict[str, list[BaseException]]) -> list[str]:
    """Scenes raise these errors, one a try, before they succeed; returns the list of tries, as it grows."""
    tries: list[str] = []

    def fill_new(job: FillJob) -> SceneRecord:
        name = Path(job.source).name
        tries.append(name)
        if errors.get(name):
            raise errors[name].pop(0)
        return SceneRecord(job.source, job.target, "done")

    monkeypatch.setattr("flows.fill.fill_new", fill_new)
    return tries


def test_a_failing_disk_is_tried_again_and_the_server_shows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = failing(monkeypatch, {"a.tif": [OSError(5, "Input/output error")]})
    state = fill_scenes(job(folder), backoff_seconds=0, return_state=True)
    assert set(statuses(state.result()).values()) == {"done"}
    assert sorted(tries) == ["a.tif", "a.tif", "b.tif", "c.tif"]
    runs = task_runs(state.state_details.flow_run_id, lambda runs: len(runs) == 3 and all(r.end_time for r in runs))
    assert {run.name: run.run_count for run in runs} == {"a.tif": 2, "b.tif": 1, "c.tif": 1}
    (again,) = (run for run in runs if run.run_count == 2)
    kinds = from_server(
        lambda client: [state.name for state in client.read_task_run_states(again.id)],
        lambda names: "Completed" in names,
    )
    assert "AwaitingRetry" in kinds or "Retrying" in kinds


def test_a_scene_that_another_run_has_is_no_task_that_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = failing(monkeypatch, {"b.tif": [LockedError("b.tif is being written by process 7")] * 4})
    state = fill_scenes(job(folder), retries=1, backoff_seconds=0, return_state=True)
    (held,) = (record for record in state.result() if record.status == "held")
    assert (tries.count("b.tif"), held.message) == (2, "b.tif is being written by process 7")
    runs = task_runs(state.state_details.flow_run_id, lambda runs: len(runs) == 3 and all(r.end_time for r in runs))
    assert {run.state_name for run in runs} == {"Completed"}


def test_what_no_retry_can_help_is_tried_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: dict[str, list[BaseException]] = {
        "a.tif": [SourceError("the file looks damaged")] * 4,
        "b.tif": [GateError("coverage90 is 0.5")] * 4,
        "c.tif": [OSError("stale file handle")] * 4,
    }
    tries = failing(monkeypatch, errors)
    with pytest.raises(ScenesFailedError, match="3 of 3") as failed:
        fill_scenes(job(folder), retries=2, backoff_seconds=0)
    assert statuses(failed.value.records) == {"a.tif": "failed", "b.tif": "refused", "c.tif": "failed"}
    assert [tries.count(name) for name in ("a.tif", "b.tif", "c.tif")] == [1, 1, 3]


def test_a_scene_that_takes_too_long_is_given_up_and_the_others_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_new(job: FillJob) -> SceneRecord:
        for _ in range(600 if job.source.endswith("b.tif") else 0):
            time.sleep(0.05)
        return SceneRecord(job.source, job.target, "done")

    monkeypatch.setattr("flows.fill.fill_new", fill_new)
    with pytest.raises(ScenesFailedError) as failed:
        fill_scenes(job(folder), retries=0, timeout_minutes=2 / 60)
    assert statuses(failed.value.records) == {"a.tif": "done", "b.tif": "failed", "c.tif": "done"}
    assert "out of time" in str(failed.value)


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_scenes_at_a_time_than_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    counter, now, most = threading.Lock(), 0, 0

    def fill_new(job: FillJob) -> SceneRecord:
        nonlocal now, most
        with counter:
            now += 1
            most = max(most, now)
        time.sleep(0.2)
        with counter:
            now -= 1
        return SceneRecord(job.source, job.target, "done")

    monkeypatch.setattr("flows.fill.fill_new", fill_new)
    fill_scenes(job(folder), at_once=at_once)
    assert most <= at_once


def test_a_gate_reaches_the_job_and_keeps_the_last_good_product(tmp_path: Path, write_scene: Writer) -> None:
    write_scene(tmp_path / "in" / "a.tif", 1)
    fill_scenes(job(tmp_path))
    before = (tmp_path / "out" / "a.tif").read_bytes()
    write_scene(tmp_path / "in" / "a.tif", 2)
    with pytest.raises(ScenesFailedError, match=r"a\.tif: refused: gate seam<=0\.5.*too small") as refused:
        fill_scenes(job(tmp_path, gate="seam<=0.5", overwrite=True))
    assert statuses(refused.value.records) == {"a.tif": "refused"}
    assert (tmp_path / "out" / "a.tif").read_bytes() == before


def test_arguments_are_not_hashed_and_results_not_stored() -> None:
    assert fill_scene.cache_policy == NO_CACHE
    assert fill_scene.persist_result is False
    assert fill_scenes.persist_result is False


def test_pictures_of_products_in_any_script_have_keys_of_their_own() -> None:
    names = ("a_2024", "東京", "大阪", "Öl", "Ål", "###")
    keys = [_picture_key(SceneRecord("in.tif", f"out/{name}.tif", "done")) for name in names]
    assert keys[0] == "filled-a-2024"
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch("filled(-[a-z0-9]+)+", key) for key in keys)


def test_the_form_of_the_flow_is_the_schema_of_the_job() -> None:
    form = fill_scenes.parameters.model_dump()
    assert set(form["definitions"]["FillJob"]["properties"]) == set(FillJob.model_fields)
    assert form["required"] == ["job"]


# -- the command line


def test_exit_codes_and_what_a_person_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{folder}/in", f"{folder}/out", "--filler", "laplace"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == ["a.tif: done, filled 150 of 150", "c.tif: done, filled 150 of 150"]
    assert said.err == "error: 1 of 3 scenes failed\n"
    (folder / "in" / "b.tif").unlink()
    assert main(words) == 0
    assert "a.tif: up to date" in capsys.readouterr().out
    assert main([f"{folder}/in", f"{folder}/in", "--filler", "laplace"]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert main([*words, "--gate", "beauty>=1"]) == 2
    assert "--gate beauty>=1: beauty>=1 is not FIGURE" in capsys.readouterr().err
    assert main([f"{folder}/nowhere", f"{folder}/out"]) == 2
    capsys.readouterr()
    assert main([*words, "--at-once", "0"]) == 2
    assert capsys.readouterr().err == "error: --at-once: input should be greater than or equal to 1\n"


def test_every_option_of_a_fill_is_an_option_of_the_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FillJob] = []
    monkeypatch.setattr("flows.fill.fill_scenes", lambda job, **options: seen.append(job) or [])
    (tmp_path / "job.toml").write_text('seed = 5\nqa = ["landsat-c2"]\n')
    given = ["--job", f"{tmp_path}/job.toml", "--qa", "hls-fmask", "--qa", "sentinel2-scl:a,b.tif", "--members", "2"]
    given += ["--mask", "a.gpkg", "--mask", "b.gpkg", "--valid-range", "-5,45"]
    assert main([str(tmp_path), f"{tmp_path}/out/", *given, "--overwrite", "--max-error", "0.5"]) == 0
    (made,) = seen
    assert (made.seed, made.valid_range, made.members) == (5, (-5.0, 45.0), 2)
    assert made.qa == ("hls-fmask", "sentinel2-scl:a,b.tif")  # each as often as it is given, with its own commas
    assert made.mask == ("a.gpkg", "b.gpkg")
    assert (made.overwrite, made.max_error, made.target) == (True, 0.5, f"{tmp_path}/out/")


@pytest.mark.slow
def test_without_a_server_one_is_started_quietly_and_leaves_nothing_behind(tmp_path: Path, write_scene: Writer) -> None:
    write_scene(tmp_path / "in" / "a.tif")
    (tmp_path / "home").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    run = subprocess.run(
        [sys.executable, "-m", "flows.fill", "in", "out", "--filler", "laplace"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**clean, "HOME": f"{tmp_path}/home", "XDG_STATE_HOME": f"{tmp_path}/state", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "a.tif: done, filled 150 of 150\n"
    assert (tmp_path / "state" / "geodiff" / "prefect").stat().st_mode & 0o077 == 0
    assert not list((tmp_path / "home").rglob("*.db"))


# -- what is scheduled


def test_prefect_yaml_lists_what_the_flows_take() -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.flows import load_flow_from_entrypoint

    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        flow = load_flow_from_entrypoint(str(ROOT / deployment["entrypoint"]))
        flow.validate_parameters(deployment["parameters"])
        assert all(CronSchedule(cron=each["cron"]) for each in deployment["schedules"])
        assert deployment["work_pool"]["name"]


def test_prefect_is_in_the_extra_that_installs_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(line.startswith("prefect") for line in extras["flows"])

"""Operations in small, on a real server: bad deliveries, retries, artifacts, STAC, Dask, a schedule that fires."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pystac
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Failed

from flows.fill import GPU, ScenesFailedError, fill_scene, fill_scenes, passing
from flows.scenes import SceneRecord, fill_new, on_gpu
from geodiff.errors import ClusterError, InputError, LockedError, SourceError
from geodiff.job import FillJob

ROOT = Path(__file__).parents[2]
Writer = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("server")


def job(folder: Path, **options: Any) -> FillJob:
    return FillJob.build(source=f"{folder}/in", target=f"{folder}/out/", filler="laplace", **options)


def statuses(records: Any) -> dict[str, str]:
    return {Path(record.scene).name: record.status for record in records}


def digests(folder: Path) -> dict[str, str]:
    """Everything in the folder of products, by content, but for the blocks that a refused run keeps for the next."""
    files = (path for path in folder.rglob("*") if path.is_file() and "geodiff-work" not in str(path))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def of_product(made: dict[str, str], stem: str) -> dict[str, str]:
    return {name: digest for name, digest in made.items() if name.startswith((f"{stem}.", f"{stem}_"))}


def eventually(ask: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 30) -> Any:
    """What the server answers, once it has taken in what happened."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = ask()
        if enough(answer):
            return answer
        time.sleep(0.2)
    pytest.fail(f"the server still says {answer!r}")


def artifacts(run: Any, count: int) -> dict[str, Any]:
    """The artifacts of a flow run and its tasks as the API gives them, by key."""
    only = ArtifactFilter(flow_run_id={"any_": [run]})
    with get_client(sync_client=True) as client:
        found = eventually(lambda: client.read_artifacts(artifact_filter=only), lambda found: len(found) >= count)
    return {artifact.key: artifact for artifact in found}


def tasks(run: Any, enough: Callable[[Any], bool]) -> Any:
    with get_client(sync_client=True) as client:
        only = FlowRunFilter(id={"any_": [run]})
        return eventually(lambda: client.read_task_runs(flow_run_filter=only), enough)


@pytest.fixture
def delivered(tmp_path: Path, write_scene: Writer) -> Path:
    """Two scenes with products; then four new ones come, one of the two comes again corrupt and one under clouds."""
    for name in ("corrupt", "cloudy"):
        write_scene(tmp_path / "in" / f"{name}.tif", 1)
    fill_scenes(job(tmp_path))
    for seed, name in enumerate("abcd"):
        write_scene(tmp_path / "in" / f"{name}.tif", seed)
    (tmp_path / "in" / "corrupt.tif").write_bytes(b"II*\0 and then nothing that is a TIFF")
    write_scene(tmp_path / "in" / "cloudy.tif", known=False)
    return tmp_path


def test_a_night_of_six_scenes_of_which_one_is_corrupt_and_one_all_cloud(
    delivered: Path, write_scene: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(delivered / "out")
    state = fill_scenes(job(delivered), backoff_seconds=0, return_state=True)
    with pytest.raises(
        ScenesFailedError, match=r"(?s)^1 of 6 scenes failed\ncorrupt\.tif: failed: .*cannot be read"
    ) as night:
        state.result()
    wanted = {
        **dict.fromkeys(("a.tif", "b.tif", "c.tif", "d.tif"), "done"),
        "cloudy.tif": "unusable",
        "corrupt.tif": "failed",
    }
    assert statuses(night.value.records) == wanted
    made = digests(delivered / "out")
    assert {name for name in made if name.endswith(".tif") and "_" not in name} == {
        "a.tif", "b.tif", "c.tif", "d.tif", "cloudy.tif", "corrupt.tif",
    }  # fmt: skip
    word = made.pop("cloudy.geodiff-verdict.json")  # that this delivery is of no use
    for name in ("corrupt", "cloudy"):  # the last good products are as they were, with all that belongs to them
        assert of_product(made, name) == of_product(before, name)
    made["cloudy.geodiff-verdict.json"] = word

    found = artifacts(state.state_details.flow_run_id, 6)
    table = json.loads(found["filled-scenes"].data)
    assert [row["scene"] for row in table][:2] == ["corrupt.tif", "a.tif"]
    assert {row["scene"]: row["status"] for row in table} == wanted
    text = found["filled-scenes-summary"].data
    assert f"[a.tif]({(delivered / 'out' / 'a.report.html').as_uri()})" in text
    assert text.startswith("**4 done, 1 unusable, 1 failed**")
    kind, _, picture = found["filled-a"].data.partition(",")
    assert (found["filled-a"].type, kind) == ("image", "data:image/png;base64")
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    runs = tasks(state.state_details.flow_run_id, lambda runs: len(runs) == 6 and all(run.end_time for run in runs))
    assert {run.name for run in runs if run.state_name == "Failed"} == {"corrupt.tif"}

    catalogue = pystac.Catalog.from_file(f"{delivered}/out/catalog.json")
    assert [item.id for item in catalogue.get_items()] == ["a", "b", "c", "cloudy", "corrupt", "d"]

    with pytest.raises(ScenesFailedError) as again:  # the corrupt one is complained of until someone looks
        fill_scenes(job(delivered), backoff_seconds=0)
    assert set(statuses(again.value.records).values()) == {"up to date", "unusable", "failed"}
    now = digests(delivered / "out")
    for each in (now, made):  # kept by whichever run finds the scene old enough, so that its clouds are not read again
        each.pop("cloudy.geodiff-digests.json", None)
    assert now == made

    (delivered / "in" / "corrupt.tif").unlink()
    write_scene(delivered / "in" / "seventh.tif", 7)
    lost = ["a network share was away"]

    def once_lost(each: FillJob) -> SceneRecord:
        if each.source.endswith("seventh.tif") and lost:
            raise OSError(lost.pop())
        return fill_new(each)

    monkeypatch.setattr("flows.fill.fill_new", once_lost)
    state = fill_scenes(job(delivered), backoff_seconds=0, return_state=True)
    status = statuses(state.result())
    assert {name for name, said in status.items() if said == "done"} == {"seventh.tif"}
    now = digests(delivered / "out")
    assert {name: now[name] for name in made if name != "catalog.json"} == {
        name: digest for name, digest in made.items() if name != "catalog.json"
    }
    runs = tasks(state.state_details.flow_run_id, lambda runs: runs and all(run.end_time for run in runs))
    (retried,) = runs  # the others were settled without a task
    assert (retried.name, retried.run_count) == ("seventh.tif", 2)
    with get_client(sync_client=True) as client:
        names = eventually(
            lambda: [each.name for each in client.read_task_run_states(retried.id)], lambda names: "Completed" in names
        )
    assert {"AwaitingRetry", "Retrying"} & set(names)


def test_a_reprocessed_scene_that_arrives_late_replaces_its_product(tmp_path: Path, write_scene: Writer) -> None:
    for name in "ab":
        write_scene(tmp_path / "in" / f"{name}.tif", 1)
    fill_scenes(job(tmp_path))
    before = digests(tmp_path / "out")
    write_scene(tmp_path / "in" / "a.tif", 2)
    assert statuses(fill_scenes(job(tmp_path))) == {"a.tif": "done", "b.tif": "up to date"}
    now = digests(tmp_path / "out")
    assert of_product(now, "b") == of_product(before, "b")
    assert now["a.tif"] != before["a.tif"]
    item = json.loads((tmp_path / "out" / "a.stac.json").read_text())
    assert item["assets"]["value"]["file:checksum"] == f"1220{now['a.tif']}"


@pytest.mark.parametrize("gate", ["unfilled<=0.1", "seam<=0.5", "coverage90<=0.5"])
def test_each_figure_can_refuse_a_product_and_the_last_good_one_stays(
    tmp_path: Path, write_scene: Writer, gate: str
) -> None:
    write_scene(tmp_path / "in" / "a.tif", 1)
    fill_scenes(job(tmp_path), pages=False)
    before = digests(tmp_path / "out")
    write_scene(tmp_path / "in" / "a.tif", 2)
    state = fill_scenes(job(tmp_path, gate=gate, max_error=0.001, overwrite=True), pages=False, return_state=True)
    assert state.is_failed()
    with pytest.raises(ScenesFailedError, match=r"a\.tif: refused: gate"):
        state.result()
    assert digests(tmp_path / "out") == before


def test_a_stac_catalogue_names_scenes_and_only_the_new_item_runs(tmp_path: Path, write_scene: Writer) -> None:
    def publish(*names: str) -> str:
        features = [
            {
                "type": "Feature", "stac_version": "1.0.0", "id": f"day {name}", "geometry": None, "links": [],
                "stac_extensions": [], "properties": {"datetime": f"2024-01-0{number}T00:00:00Z"},
                "assets": {"b": {"href": f"./{name}.tif", "roles": ["data"]}},
            }
            for number, name in enumerate(names, 1)
        ]  # fmt: skip
        for seed, name in enumerate(names):
            write_scene(tmp_path / "cat" / f"{name}.tif", seed)
        document = {"type": "FeatureCollection", "features": features}
        (tmp_path / "cat" / "all.json").write_text(json.dumps(document))
        return f"{tmp_path}/cat/all.json"

    wanted = FillJob.build(source=publish("a", "b"), target=f"{tmp_path}/out/", filler="laplace")
    assert statuses(fill_scenes(wanted, pages=False)) == {"all.json#day a": "done", "all.json#day b": "done"}
    publish("a", "b", "c")
    assert statuses(fill_scenes(wanted, pages=False)) == {
        "all.json#day a": "up to date", "all.json#day b": "up to date", "all.json#day c": "done",
    }  # fmt: skip
    made = pystac.Catalog.from_file(f"{tmp_path}/out/catalog.json")
    assert [(item.id, item.datetime.day) for item in made.get_items()] == [("day_a", 1), ("day_b", 2), ("day_c", 3)]
    # what one flow made is a catalogue for the next
    again = FillJob.build(source=f"{tmp_path}/out/catalog.json", target=f"{tmp_path}/again/", filler="laplace")
    assert set(statuses(fill_scenes(again, pages=False)).values()) == {"nothing to fill"}


def test_scenes_run_as_tasks_of_a_dask_cluster(tmp_path: Path, write_scene: Writer) -> None:
    from distributed import LocalCluster

    for name in "ab":
        write_scene(tmp_path / "in" / f"{name}.tif")
    (tmp_path / "in" / "bad.tif").write_bytes(b"nothing")
    own = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")
    with own as cluster, pytest.raises(ScenesFailedError) as failed:
        fill_scenes(job(tmp_path), dask=cluster.scheduler_address, pages=False)
    assert statuses(failed.value.records) == {"a.tif": "done", "b.tif": "done", "bad.tif": "failed"}


def test_without_prefect_dask_the_cure_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(InputError, match="pip install prefect-dask"):
        fill_scenes(job(tmp_path), dask="local")


def test_scenes_for_the_gpu_carry_the_tag_that_limits_them(
    tmp_path: Path, write_scene: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not on_gpu(job(tmp_path))
    assert not on_gpu(job(tmp_path).model_copy(update={"filler": "auto", "device": "cpu"}))
    assert on_gpu(job(tmp_path).model_copy(update={"filler": "auto", "device": "cuda:1"}))
    write_scene(tmp_path / "in" / "a.tif")
    monkeypatch.setattr("flows.fill.on_gpu", lambda job: True)
    state = fill_scenes(job(tmp_path), pages=False, return_state=True)
    (run,) = tasks(state.state_details.flow_run_id, lambda runs: len(runs) == 1 and runs[0].end_time is not None)
    assert GPU in run.tags


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError("disk"), True),
        (LockedError("a.tif is being written by process 7"), True),
        (ClusterError("the Dask scheduler at tcp://h:8786 went away in mid-run"), True),
        (SourceError("/vsis3/b/a.tif cannot be read: CURL error: Failed to connect to h port 80"), True),
        (SourceError("https://h/item.json cannot be read: HTTP Error 503: Service Unavailable"), True),
        (SourceError("/vsis3/b/a.tif cannot be read: IReadBlock failed; the server broke off or did not answer"), True),
        (SourceError("/vsicurl/https://h/a.tif cannot be read: HTTP response code: 404"), False),
        (SourceError("a.tif has 503 x 429 pixels and b.tif 500 x 400"), False),
    ],
)
def test_tried_again_is_only_what_passes(error: Exception, passes: bool) -> None:
    assert fill_scene.retry_condition_fn is passing
    assert passing(fill_scene, None, Failed(data=error)) is passes  # type: ignore[arg-type]


# -- the one command


@pytest.fixture
def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture
def deployed(tmp_path: Path, write_scene: Writer, free_port: int) -> Iterator[str]:
    """Start `python -m flows.deploy` as a user would, on an empty machine, with a run every minute."""
    write_scene(tmp_path / "in" / "a.tif")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_HOME": f"{tmp_path}/prefect", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = ["in", "out", "--filler", "laplace", "--cron", "* * * * *", "--port", str(free_port)]
    with (tmp_path / "log.txt").open("wb") as log:
        serving = subprocess.Popen(
            [sys.executable, "-m", "flows.deploy", *words], cwd=tmp_path, env=clean | own, stdout=log, stderr=log
        )
        try:
            yield f"http://127.0.0.1:{free_port}/api"
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(timeout=60)
            log.flush()
    print((tmp_path / "log.txt").read_text())  # shown where the test fails
    with pytest.raises(httpx.ConnectError):  # the server it started is gone with it
        httpx.get(f"http://127.0.0.1:{free_port}/api/health", timeout=5)


def asked(server: str, what: str, **wanted: object) -> Any:
    """The answer to a POST, with the token that keeps pages of other sites from sending one."""
    token = httpx.get(f"{server}/csrf-token", params={"client": "test"}, timeout=10).json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
    return httpx.post(f"{server}/{what}", json=wanted, headers=headers, timeout=10).json()


@pytest.mark.slow
def test_the_scheduled_deployment_fires_within_a_minute_of_its_hour(tmp_path: Path, deployed: str) -> None:
    def finished() -> list[FlowRun]:
        try:
            runs = asked(deployed, "flow_runs/filter", sort="START_TIME_ASC")
        except httpx.TransportError:
            return []
        return [run for run in runs if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]

    first, *_ = eventually(finished, bool, seconds=240)
    assert (first["state_type"], first["auto_scheduled"]) == ("COMPLETED", True)
    late = httpx.get(f"{deployed}/flow_runs/{first['id']}", timeout=10).json()["estimated_start_time_delta"]
    assert late < 60
    assert (tmp_path / "out" / "a.tif").is_file()
    limits = asked(deployed, "concurrency_limits/filter")
    assert [(limit["tag"], limit["concurrency_limit"]) for limit in limits] == [(GPU, 1)]

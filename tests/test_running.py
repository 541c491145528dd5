"""Laws of blocks on Dask: keys travel, no arrays; a lost worker changes nothing; a dead scheduler is told at once."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

import geodiff
from geodiff import running
from geodiff.blocks import BlockResult
from geodiff.errors import ClusterError, InputError
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.plan import Block
from tests.rasters import write


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0", memory_limit=0
    ) as found:
        yield found


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:600, :600]
    values = 2000 + 300 * np.sin(y / 17) + rng.normal(0, 20, y.shape)
    for row, column in rng.integers(0, 600, (40, 2)):
        values[(y - row) ** 2 + (x - column) ** 2 < 100] = 0
    return write(tmp_path / "scene.tif", values.astype("uint16"), tiled=True)


def _digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.tif")))).hexdigest()


def test_a_worker_killed_in_mid_run_changes_no_byte(scene: Path, tmp_path: Path, cluster: LocalCluster) -> None:
    for name in ("plain", "killed"):
        (tmp_path / name).mkdir()
    geodiff.fill(scene, tmp_path / "plain/filled.tif", filler="laplace")
    markers = tmp_path / "killed/filled.geodiff-work.zarr/geodiff-done"
    victim = next(iter(cluster.workers.values())).pid
    killed: list[int] = []

    def kill_soon() -> None:
        give_up = time.monotonic() + 60
        while not any(markers.glob("*.json")) and time.monotonic() < give_up:
            time.sleep(0.01)
        killed.append(len(list(markers.glob("*.json"))))
        os.kill(victim, signal.SIGKILL)

    threading.Thread(target=kill_soon, daemon=True).start()
    record = geodiff.fill(
        scene, tmp_path / "killed/filled.tif", filler="laplace", block_size=256, scheduler=cluster.scheduler_address
    )
    assert record.exit_code == 0
    assert 0 < killed[0] < record.blocks
    assert _digest(tmp_path / "plain") == _digest(tmp_path / "killed")


def test_a_dead_scheduler_is_noticed_before_the_scan(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_PATIENCE", "1s")
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", scheduler="tcp://127.0.0.1:9")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


_SCHEDULER = """
import asyncio
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()
asyncio.run(main())
"""


def test_a_scheduler_that_dies_in_mid_run_is_told_and_the_same_command_goes_on(scene: Path, tmp_path: Path) -> None:
    for name in ("plain", "lost"):
        (tmp_path / name).mkdir()
    geodiff.fill(scene, tmp_path / "plain/filled.tif", filler="laplace", block_size=256)
    target, markers = tmp_path / "lost/filled.tif", tmp_path / "lost/filled.geodiff-work.zarr/geodiff-done"
    with subprocess.Popen([sys.executable, "-c", _SCHEDULER], stdout=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()
        words = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
        with subprocess.Popen([*words, "--death-timeout", "5"], stderr=subprocess.DEVNULL) as worker:

            def kill_soon() -> None:
                give_up = time.monotonic() + 60
                while not any(markers.glob("*.json")) and time.monotonic() < give_up:
                    time.sleep(0.01)
                scheduler.kill()

            threading.Thread(target=kill_soon, daemon=True).start()
            try:
                with pytest.raises(ClusterError, match=rf"the Dask scheduler at {address} went away.*same command"):
                    geodiff.fill(scene, target, filler="laplace", block_size=256, scheduler=address)
            finally:
                worker.kill()
    record = geodiff.fill(scene, target, filler="laplace", block_size=256)
    assert 0 < record.blocks_resumed < record.blocks
    assert _digest(tmp_path / "plain") == _digest(tmp_path / "lost")


def test_what_is_no_address_is_said_so(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--scheduler"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", scheduler="nonsense://here")


class _Ticks:
    """Counts what a progress bar would show."""

    def __init__(self) -> None:
        self.count = 0

    def advance(self) -> None:
        self.count += 1


def _block(number: int) -> Block:
    return Block("band", 0, Window(256 * number, 0, 256, 256))


def _named(work_path: str, block: Block) -> BlockResult:
    return BlockResult(block.key, windows=len(work_path))


def _failing(work_path: str, block: Block) -> BlockResult:
    if block.window.row == 0:
        raise KeyError("always")
    return BlockResult(block.key)


def test_one_task_a_block_and_a_few_hundred_bytes_each(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodiff.job import FillJob

    monkeypatch.setattr(running, "_AT_ONCE", 7)
    blocks, ticks = [_block(n) for n in range(20)], _Ticks()
    job = FillJob(source="a.tif", target="b.tif", scheduler=cluster.scheduler_address)
    results = running.run_blocks(_named, "work", blocks, job, ticks)  # type: ignore[arg-type]
    assert sorted(r.key for r in results) == sorted(b.key for b in blocks)
    assert ticks.count == len(blocks)
    assert len(pickle.dumps(blocks[0])) < 300


def _slowly(work_path: str, block: Block) -> BlockResult:
    time.sleep(0.05)
    return BlockResult(block.key, windows=len(work_path))


def test_a_cluster_keeps_no_answer_that_was_told(cluster: LocalCluster) -> None:
    """It fills a block anew whose answer is lost with a worker, and is still at it when the run ends."""
    blocks = [_block(n) for n in range(3)]
    job = FillJob(source="a.tif", target="b.tif", scheduler=cluster.scheduler_address)

    class Ticks(_Ticks):
        def advance(self) -> None:
            super().advance()
            give_up = time.monotonic() + 10
            while len(cluster.scheduler.tasks) > len(blocks) - self.count:
                assert time.monotonic() < give_up
                time.sleep(0.01)

    assert len(running.run_blocks(_named, "work", blocks, job, Ticks())) == len(blocks)  # type: ignore[arg-type]


def test_two_jobs_on_one_cluster_get_their_own_blocks(cluster: LocalCluster) -> None:
    """Most GeoTIFFs call their variable alike, so their blocks have the same keys."""
    blocks = [_block(n) for n in range(12)]
    job = FillJob(source="a.tif", target="b.tif", scheduler=cluster.scheduler_address)

    def run(work_path: str) -> set[int]:
        found = running.run_blocks(_slowly, work_path, blocks, job, _Ticks())  # type: ignore[arg-type]
        assert len(found) == len(blocks)
        return {result.windows for result in found}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ["one", "another"])) == [{3}, {7}]


def test_a_cluster_that_outlives_a_run_does_not_fill_for_the_one_before(
    scene: Path, tmp_path: Path, cluster: LocalCluster
) -> None:
    for name in ("plain", "again"):
        (tmp_path / name).mkdir()
    options = {"block_size": 256, "scheduler": cluster.scheduler_address}
    geodiff.fill(scene, tmp_path / "plain/filled.tif", filler="nearest")
    geodiff.fill(scene, tmp_path / "again/filled.tif", filler="laplace", **options)
    geodiff.fill(scene, tmp_path / "again/filled.tif", filler="nearest", overwrite=True, **options)
    assert _digest(tmp_path / "plain") == _digest(tmp_path / "again")


def test_a_worker_keeps_open_what_its_latest_runs_fill_from(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[str] = []
    monkeypatch.setattr("geodiff.blocks.forget", forgotten.append)
    monkeypatch.setattr(running, "_runs", {})
    for work_path, run in (("a", "1"), ("b", "2"), ("a", "1"), ("a", "3"), ("c", "4"), ("a", "3")):
        running._fresh(_named, work_path, _block(0), run, geodiff.__version__)
    assert forgotten == ["a", "b", "a", "c", "b"]
    assert running._runs == {"a": "3", "c": "4"}


def test_a_task_that_raises_is_a_failed_block_and_no_failed_run(cluster: LocalCluster) -> None:
    from geodiff.job import FillJob

    job = FillJob(source="a.tif", target="b.tif", scheduler=cluster.scheduler_address)
    results = running.run_blocks(_failing, "work", [_block(0), _block(1)], job, _Ticks())  # type: ignore[arg-type]
    errors = {result.key: result.error for result in results}
    assert "always" in errors[_block(0).key]
    assert not errors[_block(1).key]


def test_blocks_ask_for_a_gpu_where_workers_offer_one(cluster: LocalCluster) -> None:
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        assert running._resources(client) is None
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0", resources={"GPU": 1}) as rich,
        Client(rich, set_as_default=False) as client,
    ):
        assert running._resources(client) == {"GPU": 1}
        done: list[Any] = list(running._on_dask(client, _named, "work", [_block(0), _block(1)], _Ticks()))  # type: ignore[arg-type]
        assert not any(result.error for result in done)


def test_a_cluster_whose_workers_take_no_block_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Dask pauses workers at four fifths of their memory, and waits for ever where nothing lets go of it."""
    paused, running_one = {"status": "paused", "memory_limit": 200 * 2**20}, {"status": "running"}
    busy = {**paused, "metrics": {"task_counts": {"executing": 1}}}  # with a block that fills its memory for a while
    looked = threading.Event()
    looks = iter([[running_one, paused], [busy, paused], [paused, paused], [paused, paused], []])

    class Cluster:
        def scheduler_info(self, n_workers: int) -> dict[str, dict[str, Any]]:
            workers = next(looks, None)
            if workers is None:
                looked.set()
                raise OSError
            return {"workers": dict(enumerate(workers))}

    monkeypatch.setattr(running, "_LOOK", 0.001)
    with running._watched(Cluster(), None):
        assert looked.wait(10)
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(",")[0] for text in told] == [
        "Dask has paused all its workers (2)", "the Dask cluster has no worker: blocks wait until one comes",
    ]  # fmt: skip
    assert "200 MiB" in told[0]


def test_blocks_that_wait_for_a_gpu_that_left_are_told_of() -> None:
    other: dict[str, Any] = {"status": "running", "resources": {}}
    rich = {"status": "running", "resources": {"GPU": 1.0}}
    assert not running._why_idle([other, rich], {"GPU": 1})
    assert running._why_idle([other], {"GPU": 1}).startswith("none of the Dask cluster's workers (1) offers GPU=1")
    assert running._why_idle([other, {**rich, "status": "paused"}], {"GPU": 1}).startswith("Dask has paused")


def test_a_worker_with_another_version_fills_nothing(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may fill otherwise, and the product would be of both."""
    monkeypatch.setattr(running, "__version__", "0.0.9")
    job = FillJob(source="a.tif", target="b.tif", scheduler=cluster.scheduler_address)
    (result,) = running.run_blocks(_named, "work", [_block(0)], job, _Ticks())  # type: ignore[arg-type]
    assert f"has geodiff {geodiff.__version__} and this run 0.0.9" in result.error


def test_our_own_workers_keep_the_memory_of_their_arrays() -> None:
    """Dask's threshold of 64 KiB would map and unmap every temporary array: blocks took 3.5 times as long."""
    with ExitStack() as held:
        client = running._local_client(FillJob.build(source="a.tif", target="b.tif"), 1, held)
        (found,) = client.run(lambda: dict(os.environ)).values()
    assert int(found["MALLOC_TRIM_THRESHOLD_"]) > int(found["MALLOC_MMAP_THRESHOLD_"]) >= 2**24
    assert found["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("workers", "refused"), [(2, True), (0, True), (1, False), (None, False)])
def test_a_script_without_a_main_guard_is_told_the_cure(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, refused: bool
) -> None:
    """Each worker imports the script that started it, which would begin the same run there."""
    job = FillJob.build(source="a.tif", target="b.tif", workers=workers)
    running.assert_main_guard(job)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    if refused:
        with pytest.raises(InputError, match="__main__"):
            running.assert_main_guard(job)
    else:
        running.assert_main_guard(job)


def test_workers_that_cannot_start_name_the_main_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr("dask.distributed.LocalCluster", failing)
    with pytest.raises(InputError, match=r"2 worker .*Nanny failed.*__main__"), ExitStack() as held:
        running._local_client(FillJob.build(source="a.tif", target="b.tif"), 2, held)


def _slow_at_home(work_path: str, block: Block) -> BlockResult:
    """Slow in the process that `work_path` names, so that workers have come before the blocks are done."""
    if work_path == str(os.getpid()):
        time.sleep(0.2)
    return BlockResult(block.key, seconds=float(os.getpid()))


def test_much_work_calls_for_help_and_little_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    job = FillJob.build(source="a.tif", target="b.tif", workers=0)
    monkeypatch.setattr(running, "_WORTH_HELP", 5.0)
    for number, expected in ((4, 1), (1000, 2)):
        ticks, blocks = _Ticks(), [_block(n) for n in range(number)]
        results = running.run_blocks(_slow_at_home, str(os.getpid()), blocks, job, ticks, most=2)  # type: ignore[arg-type]
        assert sorted(r.key for r in results) == sorted(block.key for block in blocks)
        assert ticks.count == number
        assert len({r.seconds for r in results}) == expected  # this process, and one more
        assert any(r.seconds == os.getpid() for r in results)


def test_a_job_that_leaves_workers_open_gives_the_same_bytes(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_WORTH_HELP", 0.0)
    for name, workers in (("one", 1), ("open", 0)):
        (tmp_path / name).mkdir()
        geodiff.fill(scene, tmp_path / name / "filled.tif", filler="laplace", block_size=256, workers=workers)
    assert _digest(tmp_path / "one") == _digest(tmp_path / "open")


def test_where_no_help_can_be_had_the_work_is_done_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise OSError("no port is free")

    monkeypatch.setattr(running, "_WORTH_HELP", 0.0)
    monkeypatch.setattr(running, "_local_client", refused)
    job, ticks = FillJob.build(source="a.tif", target="b.tif", workers=0), _Ticks()
    results = running.run_blocks(_named, "work", [_block(n) for n in range(50)], job, ticks, most=2)  # type: ignore[arg-type]
    assert len(results) == ticks.count == 50


def test_who_is_interrupted_does_not_wait_for_workers_that_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hold up the end by half a minute on a busy machine; once they stand they are closed all the same."""
    interrupted, closed = threading.Event(), threading.Event()

    def slow(job: FillJob, workers: int, opening: ExitStack) -> str:
        opening.callback(closed.set)
        assert interrupted.wait(60)
        return "client"

    monkeypatch.setattr(running, "_local_client", slow)
    job = FillJob.build(source="a.tif", target="b.tif", workers=2)
    with pytest.raises(KeyboardInterrupt), running.local_workers(job) as local:
        raise KeyboardInterrupt
    assert not closed.is_set()
    interrupted.set()
    assert closed.wait(60)
    assert local is not None
    assert local.result(60) == "client"

"""Long operation: kills at random moments, and many scenes one after the other.

`make test` runs some trials of the kills; `make soak` all of it. SOAK_TRIALS and SOAK_SCENES say how long.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from geodiff.job import FillJob
from tests.rasters import write

TRIALS = int(os.environ.get("SOAK_TRIALS", "3"))
SCENES = int(os.environ.get("SOAK_SCENES", "20"))
BATCH = 10
"""Scenes that come in between two runs of the flow."""

_RUN = """
import os, sys
import geodiff, geodiff.api, geodiff.finishing
from geodiff import pipeline
log = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
real = pipeline.fill_block
def told(work_path, block):
    result = real(work_path, block)
    os.write(log, f"block {block.key}\\n".encode())
    return result
pipeline.fill_block = told
os.write(log, b"ready\\n")
geodiff.fill(sys.argv[1], sys.argv[2], filler="laplace", block_size=256)
"""


def _scene(path: Path, side: int, seed: int, holes: int) -> Path:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    values = 2000 + 300 * np.sin(y / 17) + 200 * np.cos(x / 23) + rng.normal(0, 10, y.shape)
    for row, column in rng.integers(0, side, (holes, 2)):
        values[(y - row) ** 2 + (x - column) ** 2 < 64] = 0
    return write(path, values.astype("uint16"))


def _digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.tif"))}


def _start(scene: Path, target: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _RUN, str(scene), str(target), str(log)])


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def _wait_until_ready(run: subprocess.Popen[bytes], log: Path, times: int) -> None:
    while run.poll() is None and _lines(log).count("ready") < times:
        time.sleep(0.01)


@pytest.mark.timeout(0)
def test_kills_at_random_moments_change_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    scene = _scene(tmp_path / "scene.tif", 600, 1, 40)
    (tmp_path / "undisturbed").mkdir()
    log = tmp_path / "undisturbed.log"
    run = _start(scene, tmp_path / "undisturbed/filled.tif", log)
    _wait_until_ready(run, log, 1)
    began = time.monotonic()
    assert run.wait() == 0
    lasts, expected = time.monotonic() - began, _digest(tmp_path / "undisturbed")
    moments, kills = random.Random(7), 0
    for trial in range(TRIALS):
        folder, log = tmp_path / f"trial{trial}", tmp_path / f"trial{trial}.log"
        folder.mkdir()
        killed = _killed_once(scene, folder / "filled.tif", log, moments.uniform(0, lasts))
        kills += killed
        if killed:
            assert _start(scene, folder / "filled.tif", log).wait() == 0
        assert _digest(folder) == expected, f"trial {trial}"
        twice = [line for line, count in Counter(_lines(log)).items() if line != "ready" and count > 1]
        assert not twice, f"trial {trial} computed {twice} again"
        assert not list(folder.glob("*.geodiff-work*"))
        shutil.rmtree(folder)
    print(f"{TRIALS} trials, {kills} killed in mid-run: all products identical, no block computed twice")


def _killed_once(scene: Path, target: Path, log: Path, after: float) -> bool:
    """Start a run and kill it `after` seconds of its work; whether it was still running then."""
    run = _start(scene, target, log)
    _wait_until_ready(run, log, 1)
    with contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(after)
    running = run.poll() is None
    if running:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    return running


@pytest.fixture
def prefect_server(tmp_path: Path) -> Iterator[None]:
    from prefect.settings import PREFECT_HOME, PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    own = {PREFECT_HOME: tmp_path / "prefect", PREFECT_SERVER_ANALYTICS_ENABLED: False}
    with temporary_settings(own), prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.mark.timeout(0)
@pytest.mark.skipif("SOAK_SCENES" not in os.environ, reason="starts a Prefect server of its own: `make soak` runs it")
@pytest.mark.usefixtures("prefect_server")
def test_many_scenes_leave_memory_and_file_handles_as_they_were(tmp_path: Path) -> None:
    """A scene a minute for a day is 1,440 of them; the flow runs after every tenth."""
    from flows.fill import fill_scenes

    logging.getLogger("prefect").setLevel(logging.ERROR)
    kept = [_scene(tmp_path / f"kept{n}.tif", 96, n, 4) for n in range(BATCH)]
    me, rows = psutil.Process(), []
    for batch in range(-(-SCENES // BATCH)):
        folder = tmp_path / f"batch{batch}"
        (folder / "in").mkdir(parents=True)
        for number, path in enumerate(kept):
            shutil.copyfile(path, folder / "in" / f"scene{number}.tif")
        began = time.monotonic()
        records = fill_scenes(FillJob.build(source=f"{folder}/in", target=f"{folder}/out/", filler="laplace"))
        seconds = (time.monotonic() - began) / len(records)
        assert {record.status for record in records} == {"done"}
        shutil.rmtree(folder)
        gc.collect()
        rows.append((batch * BATCH, me.memory_info().rss / 2**20, me.num_fds(), seconds))
    table = np.array(rows, float)
    table = table[len(table) // 5 :]  # what is loaded once is loaded by then
    for name, column in (("memory, MiB", 1), ("file handles", 2), ("seconds a scene", 3)):
        slope, error = _line(table[:, 0], table[:, column])
        level = float(table[:, column].mean())
        print(f"{name}: {level:.4g} on average; {1000 * slope:+.3g} +- {1000 * 1.96 * error:.2g} in 1,000 scenes")
    assert table[-1, 2] <= table[0, 2] + 8
    slope, error = _line(table[:, 0], table[:, 1])
    if len(table) >= 20:
        assert 1000 * (slope - 1.96 * error) < 20, "memory grows by more than 20 MiB in 1,000 scenes"


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error; infinite where two points say nothing of it."""
    if len(x) < 2:
        return 0.0, float("inf")
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    if len(x) < 3:
        return slope, float("inf")
    rest = y - y.mean() - slope * centred
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (centred @ centred)))

"""The Prefect server dies in the middle of a flow: what was filled stays, and the next run does the rest."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.rasters import write

ROOT = Path(__file__).parents[2]
SCENES = 4


def _scene(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    values = 2000 + 300 * np.sin(y / 17) + 200 * np.cos(x / 23) + rng.normal(0, 10, y.shape)
    values[30:40, 30:45] = 0
    write(path, values.astype("uint16"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _products(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("scene?.tif")}


@pytest.mark.skipif("SOAK_TRIALS" not in os.environ, reason="two Prefect servers, a minute: `make soak` runs it")
def test_a_server_killed_in_mid_flow_loses_no_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import local

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "in").mkdir()
    for number in range(SCENES):
        _scene(tmp_path / f"in/scene{number}.tif", number)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    with temporary_settings({PREFECT_API_URL: url}):
        server = local._start(port)
        local._assert_up(server, port)
    words = [sys.executable, "-m", "flows.fill", str(tmp_path / "in"), str(tmp_path / "out"), "--filler", "laplace"]
    own = {**os.environ, "PREFECT_CLIENT_MAX_RETRIES": "1"}
    run = subprocess.Popen(words, cwd=ROOT, env={**own, "PREFECT_API_URL": url}, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 400
    while not _products(tmp_path / "out") and run.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    run.wait(timeout=400)
    before = _products(tmp_path / "out")
    assert before
    again = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    after = _products(tmp_path / "out")
    assert len(after) == SCENES
    assert before.items() <= after.items()
    shutil.rmtree(tmp_path / "prefect", ignore_errors=True)

"""The ending of every flow's command line: one line and the exit code of what happened."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, Settings, temporary_settings
from prefect.states import Pending, Running

from flows import deploy, local
from flows.local import local_prefect, run_here
from geodiff.errors import GateError, GeodiffError, JobError
from geodiff.job import FillJob


def raising(error: BaseException) -> Callable[[], int]:
    def do() -> int:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (JobError("--steps 2"), 2, "error: --steps 2\n"),
        (GateError("no better"), 5, "error: no better\n"),
        (GeodiffError("failed"), 1, "error: failed\n"),
        (OSError(13, "No", "in"), 1, "error: [Errno 13] No: 'in'; check the path, its permissions and the disk\n"),
        (KeyboardInterrupt(), 130, "error: interrupted; the same command goes on where this one stopped\n"),
    ],
)
def test_what_is_refused_is_one_line_and_its_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_here(raising(error), verbose=True) == code
    assert capsys.readouterr().err == said


def test_what_is_done_gives_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(lambda: 3, verbose=True) == 3
    assert capsys.readouterr().err == ""


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_here(raising(ZeroDivisionError()), verbose=True)


@pytest.mark.parametrize(("late", "comes"), [(0, True), (2, True), (3, False)])
def test_a_server_that_answers_too_late_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, late: int, comes: bool
) -> None:
    """What Prefect's client does on a machine that is busy with something else."""
    tries: list[str | None] = []
    stopped: list[int] = []

    class Late:
        @staticmethod
        def stop() -> None:
            stopped.append(len(tries))

    def get_client(**options: object) -> AbstractContextManager[None]:
        tries.append(os.environ.get("PREFECT_LOGGING_ROOT_LEVEL"))
        if len(tries) <= late:
            raise TimeoutError("timed out")
        return nullcontext()

    monkeypatch.setattr(local, "get_client", get_client)
    # the real one may be serving other tests of this process
    monkeypatch.setattr("prefect.server.api.server.SubprocessASGIServer", lambda: Late)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_LOGGING_ROOT_LEVEL", raising=False)
    with temporary_settings({PREFECT_API_URL: None}):
        if comes:
            with local_prefect():
                assert "PREFECT_LOGGING_ROOT_LEVEL" not in os.environ
        else:
            with pytest.raises(GeodiffError, match=r"does not start \(timed out\); its state lies in .*: move"):
                local_prefect().__enter__()
    assert tries == ["CRITICAL"] * min(late + 1, 3)
    assert stopped == list(range(1, late + 1)), "each that came up too late"


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def do() -> int:
        with local_prefect():
            return 0

    nobody = "127.0.0.1:9"  # the port of what is thrown away
    with temporary_settings({PREFECT_API_URL: f"http://{nobody}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert run_here(do, verbose=True) == 1
    said = capsys.readouterr().err
    assert nobody in said
    assert "check PREFECT_API_URL" in said
    assert said.count("\n") == 1


def test_a_stop_by_a_scheduler_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert run_here(stopped, verbose=True) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture(scope="module")
def heeding_interrupts() -> Iterator[None]:
    """SIGINT as Python has it: what a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


_AT_WORK = """
import json, os, signal, sys, time
from threading import Thread
from flows import local
from prefect.server.api import server  # which a late end asks to stop
from prefect.settings import PREFECT_API_URL, temporary_settings

def scene():
    time.sleep(seconds)
    print("done", flush=True)

def work():
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), local.local_prefect():
        worker = Thread(target=scene)
        worker.start()
        try:
            os.kill(os.getpid(), stop)
            time.sleep(900)
        finally:
            worker.join(joined)  # as Prefect does; Python does at its end

local._assert_answers = lambda: None  # there is no server, and none is needed
local.give_back = lambda patience: sys.stderr.write("locks are given back\\n")
runs = []
for number, case in enumerate(sys.argv[1:]):
    runs.append(os.fork())
    if not runs[-1]:  # a process of its own, which ends as any does
        seconds, joined, local._GRACE, stop = json.loads(case)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY), descriptor)
        local.run_alone(lambda: local.run_here(work, verbose=True))
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(run, 0)[1]) for run in runs]))
"""
STOPS = (signal.SIGINT, signal.SIGTERM)
SCENES = {"joined": (900, 900, 0.5), "left to Python": (900, 0, 0.5), "soon done": (0.2, 900, 500)}
"""Seconds that a scene takes, that it is waited for, and that are left to it after a stop."""


@pytest.fixture(scope="module")
def ends(heeding_interrupts: None, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], tuple[int, ...]]:
    """Exit code, output and complaints by scene and signal; Prefect, which is slow to load, is loaded once for all."""
    folder = tmp_path_factory.mktemp("stopped")
    cases = {(name, int(stop)): [*how, int(stop)] for name, how in SCENES.items() for stop in STOPS}
    words = [sys.executable, "-c", _AT_WORK, *map(json.dumps, cases.values())]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    own = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(words, cwd=folder, env=own, capture_output=True, text=True, timeout=600, check=True)
    codes = json.loads(ended.stdout)
    said = [[(folder / f"{n}.{name}").read_text() for name in ("out", "err")] for n in range(len(cases))]
    return {case: (code, *words) for case, code, words in zip(cases, codes, said, strict=True)}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_does_not_wait_for_a_scene_that_takes_long(
    ends: dict[tuple[str, int], tuple[int, str, str]], scene: str, stop: signal.Signals
) -> None:
    code, out, err = ends[scene, int(stop)]
    assert (code, out) == (130, "done\n" if scene == "soon done" else "")
    assert err.count("error: interrupted; the same command goes on where this one stopped") == 1
    assert "locks are given back" in err


@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_server_starts_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], stop: signal.Signals
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def sleeping(words: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(start([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[0]

    def answers() -> bool:
        if started:
            os.kill(os.getpid(), stop)
        return False

    monkeypatch.setattr(local.subprocess, "Popen", sleeping)
    monkeypatch.setattr(local, "answers", answers)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: None}):
        try:
            assert deploy.main(["in", "out"]) == 130
            (server,) = started
            assert server.poll() is not None, "it would be taken for the user's own by the next deploy"
        finally:
            started[0].kill()
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
def test_what_a_power_cut_left_running_ends_and_gives_its_place_to_the_next_night(tmp_path: Path) -> None:
    """A deployment of which one run is allowed at a time would never run again."""
    identity = deploy.nightly(FillJob.build(source=str(tmp_path), target="out/"), "0 3 * * *").apply()
    with get_client(sync_client=True) as client:
        lost = client.create_flow_run_from_deployment(identity)
        for state in (Pending(), Running()):
            assert client.set_flow_run_state(lost.id, state).status == "ACCEPT"
        local._end_lost_runs()
        found = client.read_flow_run(lost.id).state
        assert found is not None
        assert found.is_crashed()
        following = client.create_flow_run_from_deployment(identity)
        assert client.set_flow_run_state(following.id, Pending()).status == "ACCEPT"
        local._end_lost_runs()  # for the other tests of this server


def test_no_page_of_another_site_may_start_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's server does what any page asks that the browser of its machine shows, unless told otherwise."""
    asked: dict[str, str] = {}
    monkeypatch.setattr(local.subprocess, "Popen", lambda words, env, **_: asked.update(env, words=" ".join(words)))
    local._start(4207)
    monkeypatch.setattr("os.environ", asked)
    api = Settings().server.api
    assert (api.cors_allowed_origins, api.csrf_protection_enabled) == ("http://127.0.0.1:4207", True)
    assert "--host 127.0.0.1" in asked["words"]


@pytest.mark.parametrize(
    ("revision", "folder", "said"),
    [(None, "prefect", ""), ("f416ea180ae1", "prefect", ""), ("0123456789ab", "prefect-", "was written by a newer")],
)
def test_the_state_of_a_newer_prefect_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, revision: str | None,
    folder: str, said: str,
) -> None:  # fmt: skip
    """Prefect's server ends at once on a database whose revision it does not know, and is started again and again."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    home = tmp_path / "geodiff" / "prefect"
    home.mkdir(parents=True)
    with closing(sqlite3.connect(home / "prefect.db")) as database, database:
        if revision:
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    assert local._own_home().name.startswith(folder)
    assert (local._own_home() == home) is not bool(said)
    assert said in caplog.text


def test_a_damaged_state_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    home = tmp_path / "geodiff" / "prefect"
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(b"not a database, but long enough to be read as one" * 200)
    assert local._own_home() != home

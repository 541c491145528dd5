"""A Prefect of one's own: where no server is named, a run starts a local one and keeps its state to itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, NoReturn

import prefect
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ParameterTypeError, PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)
from prefect.states import Crashed

from geodiff.credentials import redacted
from geodiff.errors import GeodiffError, InputError, forget_interruption
from geodiff.io.leases import give_back

__all__ = ["PORT", "answers", "complain", "local_prefect", "local_server", "quiet", "run_alone", "run_here"]

logger = logging.getLogger(__name__)

PORT = 4200
"""Where `prefect server start` listens."""
_ROOT_LEVEL = "PREFECT_LOGGING_ROOT_LEVEL"
"""What a process of Prefect that starts with it logs of other libraries; its own setting knows its own loggers only."""
_TRIES = 3
_GRACE = 10.0
"""Seconds between a stop and the end, whatever is at work: a scene takes up to hours, and loses one block by it."""
_STORES = 5.0
"""Seconds more for object stores to take their locks back, which no kernel lets go of."""
_INTERRUPTED = 130
_STOPPED = "interrupted; the same command goes on where this one stopped"
_STARTUP_SECONDS = 180
"""The first start builds the database; machines are busy."""


@contextmanager
def local_prefect() -> Iterator[None]:
    """Within: Prefect as the user has set it up, or else a server on loopback for the time of this run.

    That server sends nothing anywhere. Its state lies in PREFECT_HOME, or in a folder of geodiff's own.

    Raises GeodiffError where the one that is set up does not answer.
    """
    if PREFECT_API_URL.value():
        _assert_answers()
        yield
        return
    chosen = {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _STARTUP_SECONDS,
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",
    }
    if "PREFECT_HOME" not in os.environ:
        chosen[PREFECT_HOME] = _own_home()
    with temporary_settings(chosen):
        _start_quiet()
        yield


def _assert_answers() -> None:
    """Raise GeodiffError where the server that is set up does not answer, or lets nobody in."""
    try:
        with get_client(sync_client=True) as client:
            client.raise_for_api_version_mismatch()
    except (RuntimeError, PrefectHTTPStatusError) as error:
        why = redacted(" ".join(str(error).split())).rstrip(".")
        raise GeodiffError(
            f"{why}; start that Prefect server, or check PREFECT_API_URL and what it needs to let you in, or unset it: "
            "a server is then started for the time of this run"
        ) from error


def _start_quiet() -> None:
    """Start that server. What its libraries say of a database that closes at the end of a run is no news to anyone.

    On a busy machine it may take longer to answer than Prefect waits; it is then started anew.

    Raises GeodiffError where that does not help.
    """
    before = os.environ.get(_ROOT_LEVEL)
    os.environ[_ROOT_LEVEL] = before or "CRITICAL"
    try:
        for left in reversed(range(_TRIES)):
            try:
                with get_client(sync_client=True):
                    return
            except Exception as error:
                _stop_ephemeral()
                if not left:
                    why = str(error) or type(error).__name__
                    raise GeodiffError(
                        f"Prefect's server on this machine does not start ({why}); its state lies in "
                        f"{PREFECT_HOME.value()}: move that away and give the same command again, or start a server "
                        "with `prefect server start` and name it in PREFECT_API_URL"
                    ) from error
    finally:
        if before is None:
            del os.environ[_ROOT_LEVEL]


def _stop_ephemeral() -> None:
    """End the process of a server that came up too late; it would outlive this one."""
    from prefect.server.api.server import SubprocessASGIServer

    SubprocessASGIServer().stop()


@contextmanager
def local_server(port: int = PORT) -> Iterator[str]:
    """Within: the server that is set up, the one that listens at `port` of this machine, or one started for the time.

    Gives the address of its pages. Unlike `local_prefect` this is a whole server, with schedules and pages.
    """
    if PREFECT_API_URL.value():
        yield str(PREFECT_API_URL.value()).removesuffix("/api")
        return
    address = f"http://127.0.0.1:{port}"
    with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        server = None
        try:
            if not answers():
                server = _start(port)
                _assert_up(server, port)
                _end_lost_runs()
            yield address
        finally:
            if server is not None:
                _stop(server)


def answers() -> bool:
    """Whether the server that is set up answers."""
    with get_client(sync_client=True) as client:
        return client.api_healthcheck() is None


def _start(port: int) -> subprocess.Popen[bytes]:
    """A server that sends nothing anywhere, and obeys no page of another site that this machine's browser shows."""
    own = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",  # by default any page may start runs
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }
    home = {} if "PREFECT_HOME" in os.environ else {"PREFECT_HOME": str(_own_home())}
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(  # noqa: S603 - words of our own
        words, env={**os.environ, **home, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,  # an interrupt is for us; the server goes when the last run has said its word
    )  # fmt: skip


def _assert_up(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server answers; raises InputError where it does not come up."""
    for _ in range(_STARTUP_SECONDS * 2):
        if server.poll() is not None:
            break
        if answers():
            return
        time.sleep(0.5)
    raise InputError(
        f"no Prefect server comes up at port {port}; give another --port, or start one yourself with "
        "`prefect server start` and name it in PREFECT_API_URL"
    )


def _end_lost_runs() -> None:
    """Tell a server that just started that no run of a deployment outlived the one before, as in a power cut.

    It would show them as running for good, and keep their places under every limit: where one run is allowed at a time
    none would ever start again.
    """
    told = "ended with the machine or the server; the next run goes on where this one stopped"
    ended: State[Any] = Crashed(message=told)
    still = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    lost = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=False), state=FlowRunFilterState(type=still)
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=lost):
            client.set_flow_run_state(run.id, ended, force=True)
        for limit in client.read_global_concurrency_limits():
            if limit.active_slots:
                client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=0))


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _own_home() -> Path:
    """A folder that only this user can read, or one that goes with this machine's next clean-up."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    home = state / "geodiff" / "prefect"
    if (why := _unusable(home / "prefect.db")) is not None:
        own = home.with_name(f"prefect-{prefect.__version__}")
        logger.warning("%s %s; its runs are left there, and Prefect %s keeps those of now in %s", home, why,
                     prefect.__version__, own)  # fmt: skip
        home = own
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="geodiff-prefect-"))
    return home if os.access(home, os.W_OK) else Path(tempfile.mkdtemp(prefix="geodiff-prefect-"))


def _unusable(database: Path) -> str | None:
    """Why the Prefect that is installed could not open this; its server would end at once, each time it is started."""
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as opened:
            (revision,) = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError:  # no table yet, or somebody writes
        return None
    except sqlite3.DatabaseError:
        return "is damaged"
    known = Path(prefect.__file__).parent / "server" / "database" / "_migrations" / "versions" / "sqlite"
    if not known.is_dir() or any(known.glob(f"*{revision}*")):
        return None
    return "was written by a newer Prefect"


def quiet() -> None:
    """Keep Prefect's log off the terminal; the server has it all the same."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith("prefect"))


def run_alone(main: Callable[[], int]) -> NoReturn:
    """End this process with what `main` returns, within `_GRACE` seconds of a stop.

    Prefect, and Python at its own end, would wait for each scene at work, and minutes for a server that was told to
    stop together with this process, as service managers and Ctrl-C do. Signals are heard beside whoever handles them:
    Prefect takes SIGTERM for itself while a flow runs.
    """
    heard, hearing = socket.socketpair()
    hearing.setblocking(False)
    signal.set_wakeup_fd(hearing.fileno(), warn_on_full_buffer=False)
    told = Event()

    def leave_in_time() -> None:
        while (number := heard.recv(1)) and number[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        if not number:  # the other end went with the process
            return
        time.sleep(_GRACE)
        try:
            with suppress(Exception):
                _stop_ephemeral()
            give_back(_STORES)
        finally:  # products, stores and all other locks bear it
            os._exit(_INTERRUPTED if told.is_set() else complain(_STOPPED, _INTERRUPTED))

    Thread(target=leave_in_time, daemon=True).start()
    code = main()
    told.set()
    if code == _INTERRUPTED:  # while requests can still be made, which Python's end forbids; scenes at work notice
        give_back(_STORES)
    sys.exit(code)


def run_here(do: Callable[[], int], *, verbose: bool) -> int:
    """The ending that every flow's command line has: what `do` returns, or one line on stderr and its exit code."""
    if not verbose:
        quiet()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop: the server here goes too
    try:
        return do()
    except GeodiffError as error:
        return complain(str(error), error.exit_code)
    except ParameterTypeError as error:
        return complain(_wrong(str(error)), 2)
    except OSError as error:
        return complain(f"{error}; check the path, its permissions and the disk", 1)
    except KeyboardInterrupt:
        forget_interruption()
        return complain(_STOPPED, _INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def _wrong(said: str) -> str:
    """Prefect's lines on parameters, ` - at_once: Input should be ...`, as the options that they are here."""
    lines = (line.removeprefix(" - ").partition(": ") for line in said.splitlines() if line.startswith(" - "))
    return "; ".join(f"--{name.replace('_', '-')}: {reason[:1].lower()}{reason[1:]}" for name, _, reason in lines)


def complain(message: str, code: int) -> int:
    """One line on stderr; returns the code."""
    sys.stderr.write(f"error: {message}\n")
    return code

"""A Prefect of one's own: where no server is named, a run starts a local one and keeps its state to itself."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    PREFECT_SERVER_LOGGING_LEVEL,
    temporary_settings,
)

__all__ = ["local_prefect", "quiet"]


@contextmanager
def local_prefect() -> Iterator[None]:
    """Within: Prefect as the user has set it up, or else a server on loopback for the time of this run.

    That server sends nothing anywhere. Its state lies in PREFECT_HOME, or in a folder of geodiff's own.
    """
    if PREFECT_API_URL.value():
        yield
        return
    chosen = {
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,  # the first start builds the database; machines are busy
        PREFECT_SERVER_LOGGING_LEVEL: "CRITICAL",
    }
    if "PREFECT_HOME" not in os.environ:
        chosen[PREFECT_HOME] = _own_home()
    with temporary_settings(chosen):
        yield


def _own_home() -> Path:
    """A folder that only this user can read, or one that goes with this machine's next clean-up."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    home = state / "geodiff" / "prefect"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="geodiff-prefect-"))
    return home if os.access(home, os.W_OK) else Path(tempfile.mkdtemp(prefix="geodiff-prefect-"))


def quiet() -> None:
    """Keep Prefect's log off the terminal; the server has it all the same."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not record.name.startswith("prefect"))

"""The lock of a working store, so that two processes never write one."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geodiff.errors import LockedError, TargetError
from geodiff.io.places import local_path

__all__ = ["lock"]

logger = logging.getLogger(__name__)


@contextmanager
def lock(path: str, name: str = "") -> Iterator[None]:
    """Hold the right to write a working store; the kernel lets go of it when the process dies.

    The lock is `flock` on `<path>.lock`, beside a local store. Object stores have none: that is said in the log.
    Raises LockedError, naming the holder, when another process has it; `name` is what a message calls the place.
    """
    name = name or path
    local = local_path(path)
    if local is None:
        logger.warning("%s is on an object store, where no lock can be held: run one job at a time on it", name)
        yield
        return
    beside = local.with_name(local.name + ".lock")
    beside.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(beside, name)
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)  # still held: nobody can have taken this very file
        os.close(handle)


def _acquire(beside: Path, name: str) -> int:
    while True:
        handle = _opened(beside, name)
        try:
            _hold(handle, name)
            if _same_file(handle, beside):
                _sign(handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its last holder unlinked it between our open and our lock


def _opened(beside: Path, name: str) -> int:
    try:
        return os.open(beside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)  # a link's end would be written to
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP):
            raise
        raise TargetError(
            f"the lock of {name}, {beside}, cannot be opened: {error.strerror}; it may be another user's: if no job "
            "runs on it, delete it, else wait"
        ) from None


def _hold(handle: int, name: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 4096, 0).decode(errors="replace")
        raise LockedError(
            f"{name} is being written by {_holder(holder)}; wait for it to end, or stop it and run this again"
        ) from None


def _sign(handle: int) -> None:
    """Say who holds the lock."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "when": when}).encode(), 0)


def _same_file(handle: int, beside: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), beside.stat())
    except FileNotFoundError:
        return False


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['pid']} on {facts['host']} since {facts['when']}"
    except (ValueError, KeyError, TypeError):
        return "another process"

"""The lock of an object store: an object that says who writes a place, renewed for as long as that run lives.

No kernel lets go of it when a process dies, so that it runs out by itself. Who comes first is decided by the store,
which takes a new object only where none is (`If-None-Match`: Amazon S3, MinIO, R2 and others); where one takes no
notice of that, the last to write has it, and the other finds out before it writes its product.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from geodiff.errors import LockedError, TargetError
from geodiff.io.places import delete, filesystem_of, put, read

__all__ = ["give_back", "lease"]

logger = logging.getLogger(__name__)

_BEAT = 60.0
"""Seconds between two renewals."""
_LEASE = 300.0
"""Seconds after the last renewal at which a lease has run out, by the store's clock: those of machines differ."""
_SETTLED = 2.0
"""Seconds after which whoever took over at the same moment has written too."""
_TRIES = 3

_held: dict[str, tuple[bytes, Event]] = {}
"""What this process holds by path, as it signed it, and what tells the thread that renews it to leave."""


@contextmanager
def lease(path: str, name: str) -> Iterator[Callable[[], None]]:
    """Hold the right to write what is called `name`, as the object at `path` says.

    Gives what is to be called before a product is written: it raises LockedError where another run has the right by
    now, as after this machine slept for longer than a lease.

    Raises LockedError, naming the holder, where another run has it, and TargetError where nothing may be written there.
    """
    own = _signed()
    try:
        _take(path, name, own)
    except KeyboardInterrupt:  # in the middle: it may have been written
        _let_go(path, own)
        raise

    def assert_ours() -> None:
        holder = read(path)
        if holder is not None and holder != own:
            raise LockedError(f"{name} was taken over by {_said(_parsed(holder))}; this run stops before it writes it")

    left = Event()
    beating = Thread(target=_keep, args=(path, own, left), name="geodiff-lease", daemon=True)
    beating.start()
    _held[path] = own, left
    try:
        yield assert_ours
    finally:
        left.set()
        beating.join()
        _held.pop(path, None)
        _let_go(path, own)


def give_back(patience: float) -> None:
    """Let go of all that this process holds, which ends without its runs: at most so many seconds before that end."""

    def let_go() -> None:
        for path, (own, left) in list(_held.items()):
            left.set()
            _let_go(path, own)

    going = Thread(target=let_go, name="geodiff-give-back", daemon=True)  # a store may not answer
    going.start()
    going.join(patience)


def _signed() -> bytes:
    """Who holds it; no two are the same."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "when": when, "machine": _machine(), "key": uuid4().hex}
    return json.dumps(facts).encode()


def _machine() -> str:
    """Where a process number means something: this start of this machine, and of its containers this one."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _take(path: str, name: str, own: bytes) -> None:
    for _ in range(_TRIES):
        if _put_new(path, own):
            return
        holder = read(path)
        if holder is None:  # let go a moment ago
            continue
        facts, age = _parsed(holder), _age(path)
        if age < _LEASE and not _is_dead(facts):
            raise LockedError(
                f"{name} is being written by {_said(facts)}; wait for it to end, or stop it and run this again. If "
                f"it was killed, {path} runs out {(_LEASE - age) / 60:.1f} minutes from now: wait, or delete that"
            )
        logger.warning("%s was being written by %s, which is gone: taken over", name, _said(facts))
        put(path, own)
        time.sleep(_SETTLED)
        if read(path) == own:
            return
    raise LockedError(f"{name} is being taken over by another run; wait for it to end")


def _put_new(path: str, own: bytes) -> bool:
    """Write it where none is; whether it is ours."""
    filesystem, root = filesystem_of(path)
    try:
        filesystem.pipe_file(root, own, mode="create")
    except FileExistsError:
        return False
    except Exception:  # noqa: BLE001 - a store, or an older package, that knows no such thing; or another fault, which stays
        if read(path) is not None:
            return False
        try:
            put(path, own)
        except PermissionError as error:
            raise TargetError(
                f"nothing can be written to {path} ({error}), which keeps other runs from this target; check the "
                "permissions of these credentials there"
            ) from error
        time.sleep(_SETTLED)
    return read(path) == own


def _age(path: str) -> float:
    """Seconds since it was last written, by the store's clock, which an object that is written now tells.

    0 where the store does not tell.
    """
    filesystem, root = filesystem_of(path)
    now = f"{root}.{uuid4().hex[:8]}"
    try:
        filesystem.pipe_file(now, b"")
        filesystem.invalidate_cache()
        age: float = (filesystem.modified(now) - filesystem.modified(root)).total_seconds()
    except (FileNotFoundError, NotImplementedError):
        return 0.0
    finally:
        with suppress(Exception):
            filesystem.rm(now)
    return age


def _is_dead(facts: dict[str, Any]) -> bool:
    """Whether its holder was a process of this machine that has ended."""
    if not facts.get("machine") or facts["machine"] != _machine():
        return False
    try:
        os.kill(int(facts["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return False


def _keep(path: str, own: bytes, left: Event) -> None:
    """Renew it until the run has left; a store that does not answer for once is asked again."""
    while not left.wait(_BEAT):
        with suppress(Exception):
            if read(path) not in (own, None):
                return
            put(path, own)


def _let_go(path: str, own: bytes) -> None:
    try:
        if read(path) == own:
            delete(path)
    except Exception as error:  # noqa: BLE001 - what the run made is there; the lease runs out
        logger.warning("%s could not be deleted (%s); until it runs out no other run can begin", path, error)


def _parsed(holder: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(holder)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _said(facts: dict[str, Any]) -> str:
    if not {"pid", "host", "when"} <= facts.keys():
        return "another run"
    return f"process {facts['pid']} on {facts['host']} since {facts['when']}"

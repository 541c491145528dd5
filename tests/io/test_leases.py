"""Laws of the lock of an object store: one run has it, it goes with its run, and who lost it writes nothing."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from geodiff.errors import LockedError, TargetError
from geodiff.io import leases
from geodiff.io.leases import give_back, lease
from geodiff.io.places import delete, filesystem_of, put, read

PATH = "memory://leases/a.lock"


@pytest.fixture(autouse=True)
def nothing_there(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(leases, "_SETTLED", 0.0)
    yield
    delete(PATH)


def _holder(**facts: Any) -> bytes:
    return json.dumps({"pid": 1, "host": "far", "when": "2026-01-01T00:00:00Z", "machine": "another"} | facts).encode()


def test_one_run_has_it_and_it_goes_with_that_run() -> None:
    with lease(PATH, "a.tif") as assert_ours:
        assert_ours()
        said = r"a\.tif is being written by process \d+ on \S+ since .*runs out 5\.0 minutes from now"
        with pytest.raises(LockedError, match=said), lease(PATH, "a.tif"):
            pass
        assert_ours()
    assert read(PATH) is None


def test_a_store_that_knows_no_conditional_put_has_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = type(filesystem_of(PATH)[0])
    plain = store.pipe_file

    def refusing(self: Any, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if mode == "create":
            raise NotImplementedError("A header you provided implies functionality that is not implemented")
        plain(self, path, value, **options)

    monkeypatch.setattr(store, "pipe_file", refusing)
    with lease(PATH, "a.tif"), pytest.raises(LockedError), lease(PATH, "a.tif"):
        pass
    assert read(PATH) is None


def test_one_that_was_not_renewed_is_taken_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(PATH, _holder())
    with pytest.raises(LockedError, match="process 1 on far since 2026-01-01"), lease(PATH, "a.tif"):
        pass
    monkeypatch.setattr(leases, "_LEASE", 0.0)
    with lease(PATH, "a.tif"):
        assert "was being written by process 1 on far since 2026-01-01T00:00:00Z, which is gone" in caplog.text


def test_a_machine_whose_clock_is_ahead_takes_nothing_from_who_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(minutes=10)

    put(PATH, _holder())
    monkeypatch.setattr(leases, "datetime", Ahead)
    with pytest.raises(LockedError, match=r"runs out 5\.0 minutes from now"), lease(PATH, "a.tif"):
        pass
    store, root = filesystem_of(PATH)
    assert store.find(root.rpartition("/")[0]) == [root]


def test_who_may_not_write_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(filesystem_of(PATH)[0]), "pipe_file", denied)
    told = r"nothing can be written to memory://leases/a\.lock \(Access Denied\)"
    with pytest.raises(TargetError, match=told), lease(PATH, "a.tif"):
        pass


def test_one_of_a_process_that_ended_on_this_machine_is_taken_over_at_once() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    put(PATH, _holder(pid=ended.pid, machine="another"))  # where that number may be of a process that lives
    with pytest.raises(LockedError), lease(PATH, "a.tif"):
        pass
    put(PATH, _holder(pid=ended.pid, machine=leases._machine()))
    with lease(PATH, "a.tif") as assert_ours:
        assert_ours()


def test_it_is_renewed_and_never_written_over_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    with lease(PATH, "a.tif") as assert_ours:
        delete(PATH)
        _until(lambda: read(PATH) is not None)
        assert_ours()
        put(PATH, _holder())
        time.sleep(0.05)
        assert read(PATH) == _holder()
        with pytest.raises(LockedError, match=r"a\.tif was taken over by process 1 on far.*before it writes"):
            assert_ours()
    assert read(PATH) == _holder()  # whose it is now


def test_who_is_interrupted_while_he_takes_it_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> bytes:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(leases, "read", interrupted)
    with pytest.raises(KeyboardInterrupt), lease(PATH, "a.tif"):
        pass
    assert read(PATH) is None


def test_a_process_that_ends_without_its_runs_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_BEAT", 0.01)
    with lease(PATH, "a.tif"):
        give_back(10)
        time.sleep(0.05)
        assert read(PATH) is None  # nor is it renewed


def test_one_that_cannot_be_deleted_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def forbidden(path: str) -> None:
        raise PermissionError("Access Denied")

    with caplog.at_level(logging.WARNING), lease(PATH, "a.tif"):
        monkeypatch.setattr(leases, "delete", forbidden)
    assert "a.lock could not be deleted (Access Denied)" in caplog.text


def _until(holds: Any) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError

"""Laws of the lock of a working store."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import pytest

from geodiff.errors import LockedError, TargetError
from geodiff.io.lock import lock


def _hold(path, ready, go):
    with lock(path):
        ready.set()
        go.wait(30)


def test_a_second_process_is_told_who_holds_the_lock_and_death_frees_it(tmp_path):
    path = str(tmp_path / "w.zarr")
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, ready, go))
    other.start()
    assert ready.wait(30)
    with pytest.raises(LockedError, match=rf"process {other.pid} on \S+ since \d{{4}}-"), lock(path):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with lock(path):
        assert json.loads((tmp_path / "w.zarr.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "w.zarr.lock").exists()


def test_a_lock_that_cannot_say_who_holds_it_is_let_go(tmp_path, monkeypatch):
    path = str(tmp_path / "w.zarr")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"), lock(path):
            pass
    with lock(path):
        pass


def test_a_lock_file_that_may_not_be_opened_is_told_with_the_cure(tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    told = r"the lock of a\.tif, \S+w\.zarr\.lock, cannot be opened: Permission denied; .*delete it"
    with pytest.raises(TargetError, match=told), lock(str(tmp_path / "w.zarr"), "a.tif"):
        pass


def test_an_object_store_says_that_it_has_no_lock(caplog):
    with lock("memory://x/w.zarr"):
        assert "no lock can be held" in caplog.text


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path):
    (tmp_path / "kept").write_text("precious")
    (tmp_path / "a.geodiff-work.zarr.lock").symlink_to(tmp_path / "kept")
    with pytest.raises(TargetError, match="cannot be opened"), lock(str(tmp_path / "a.geodiff-work.zarr"), "a"):
        pass
    assert (tmp_path / "kept").read_text() == "precious"

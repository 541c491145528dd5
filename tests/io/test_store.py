"""Laws of the working store."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from geodiff.errors import GridError, TargetError
from geodiff.io import places, store
from geodiff.io.fitstore import load_fit
from geodiff.io.groups import new_group
from geodiff.io.store import VariableSpec
from geodiff.lattice import Window, blocks
from geodiff.scan import read_occupied


def _spec(name="sst", **changes):
    return VariableSpec(**{"name": name, "shape": (2, 3, 70, 50), "dtype": "i2", "chunks": (1, 0, 32, 32), **changes})


def test_a_new_store_has_every_layer_and_reads_as_missing(path):
    specs = [_spec(nodata=-9), _spec("a/b c", dtype="f4", members=2, quantiles=3)]
    work = store.create_work(path, specs, "abc", {"command": "x"})
    assert work.fingerprint == "abc"
    assert work.variables == tuple(specs)
    assert work.attributes == {"command": "x"}
    assert (work.array("sst")[:] == -9).all()
    assert np.isnan(work.array("a/b c", "members")[:]).all()
    assert work.array("a/b c", "quantiles").shape == (3, 2, 3, 70, 50)
    for layer, dtype in store.LAYERS.items():
        array = work.array("sst", layer)
        assert array.dtype == np.dtype(dtype)
        assert not array[:].any()
    assert "members" in work.layers("a/b c")
    assert "members" not in work.layers("sst")


def test_what_was_written_is_read_after_opening_again(path):
    work = store.create_work(path, [_spec(members=2)], "f")
    data = np.arange(2 * 3 * 32 * 18).reshape(2, 3, 32, 18).astype("i2")
    window = Window(32, 32, 32, 18)
    store.write_block(work.array("sst"), 1, window, data[0])
    store.write_block(work.array("sst", "members"), 1, window, data)
    again = store.open_work(path)
    np.testing.assert_array_equal(again.array("sst")[1, :, 32:64, 32:], data[0])
    np.testing.assert_array_equal(again.array("sst", "members")[:, 1, :, 32:64, 32:], data)
    assert not again.array("sst")[0].any()


def test_markers_come_back_in_order_with_their_records(path):
    work = store.create_work(path, [_spec()])
    assert work.done() == {}
    work.mark_done("sst/1/0-32", {"pixels": np.int64(7)})
    work.mark_done("sst/0/0-0", {"pixels": 3, "reasons": {"cloud": 3}})
    assert list(store.open_work(path).done()) == ["sst/0/0-0", "sst/1/0-32"]
    assert work.done()["sst/1/0-32"] == {"pixels": 7}
    work.forget("sst/1/0-32")
    work.forget("never there")
    assert list(work.done()) == ["sst/0/0-0"]


def test_a_half_written_marker_does_not_count(tmp_path):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec()])
    work.mark_done("a", {})
    (tmp_path / "w.zarr" / "geodiff-done" / ".b.json.1234.partial").write_text("{")
    (tmp_path / "w.zarr" / "geodiff-done" / "c.json").write_text('{"filled": 3')  # as a power cut leaves it
    (tmp_path / "w.zarr" / "geodiff-done" / "d.json").write_text("")
    assert list(work.done()) == ["a"]


def test_what_a_block_wrote_can_be_told_from_what_is_there(path):
    work = store.create_work(path, [_spec(members=2, dtype="f4")])
    window, data = Window(32, 0, 38, 50), np.zeros((2, 3, 38, 50), "f4")
    data[1, 2, 37, 40] = 1
    data[0] = np.nan
    assert store.write_block(work.array("sst", "members"), 1, window, data) == 4  # of 8: NaN means nothing there
    assert store.write_block(work.array("sst", "reason"), 1, window, np.zeros((3, 38, 50), "u2")) == 0
    keys = set(work.chunks_of("sst", "members", 1, window))
    assert len(keys) == 8
    assert keys & work.chunks_there("sst", "members") == {key for key in keys if key.startswith("c/1/")}
    assert not set(work.chunks_of("sst", "members", 0, window)) & work.chunks_there("sst", "members")
    assert not set(work.chunks_of("sst", "reason", 1, window)) & work.chunks_there("sst", "reason")


def test_a_chunk_that_a_disk_changed_is_never_read_as_numbers(tmp_path):
    work = store.create_work(str(tmp_path / "w"), [_spec()])
    store.write_block(work.array("sst"), 0, Window(0, 0, 32, 32), np.arange(3 * 32 * 32, dtype="i2").reshape(3, 32, 32))
    chunk = tmp_path / "w/sst/value/c/0/0/0/0"
    whole = chunk.read_bytes()
    assert work.chunks_there("sst", "value", whole=True) == {"c/0/0/0/0"}
    for damaged in (whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2), whole[:-9] + b"\x55" + whole[-8:]):
        chunk.write_bytes(damaged)
        with pytest.raises(TargetError, match=r"a chunk of .* is damaged .*delete that working store"):
            read_occupied(work.array("sst"), (0,), Window(0, 0, 32, 32), None, ())
    chunk.write_bytes(bytes(len(whole)))  # as a disk leaves it that kept how long it was
    assert not work.chunks_there("sst", "value", whole=True)


@pytest.mark.parametrize("left", [None, b"", b'{"shape": [2, 3'])
def test_an_array_that_nothing_describes_is_told_with_the_cure(tmp_path, left):
    store.create_work(str(tmp_path / "w"), [_spec()])
    about = tmp_path / "w/sst/reason/zarr.json"
    about.unlink() if left is None else about.write_bytes(left)
    with pytest.raises(TargetError, match=r"w is damaged \(sst/reason: .*; delete it, and give the same command again"):
        store.open_work(str(tmp_path / "w")).array("sst", "reason")


@pytest.mark.parametrize("folder", [".", "100%25", "a#1", "why?"])
def test_a_block_is_on_disk_before_it_is_marked(tmp_path, monkeypatch, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    work = store.create_work(f"{folder}/w.zarr", [_spec()])
    flushed, real = [], os.fsync

    def told(handle):
        flushed.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", told)
    store.write_block(work.array("sst"), 1, Window(32, 0, 32, 50), np.ones((3, 32, 50), "i2"))
    chunks = (tmp_path / folder / "w.zarr/sst/value/c/1").rglob("*")
    assert sorted(flushed) == sorted(chunk.stat().st_ino for chunk in chunks if chunk.is_file())
    assert len(flushed) == 2


def test_four_threads_writing_whole_chunks_lose_nothing(tmp_path):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec(shape=(1, 1, 500, 300), chunks=(1, 0, 64, 64))])
    truth = np.random.default_rng(0).integers(1, 1000, (1, 500, 300)).astype("i2")

    def write(window):
        store.write_block(work.array("sst"), 0, window, truth[(slice(None), *window.slices)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, blocks((500, 300), 128)))
    np.testing.assert_array_equal(work.array("sst")[0], truth)


@pytest.mark.parametrize("window", [Window(10, 0, 22, 32), Window(0, 0, 20, 32), Window(0, 32, 32, 10)])
def test_a_window_that_cuts_chunks_is_refused_with_the_cure(tmp_path, window):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec()])
    with pytest.raises(GridError, match=r"cut across Zarr chunks of 32 .* use --block-size 32 or a multiple"):
        store.write_block(work.array("sst"), 0, window, np.ones((3, *window.shape), "i2"))
    assert not work.array("sst")[:].any()


def test_shards_count_as_chunks_and_so_do_dates(tmp_path):
    import zarr

    group = zarr.open_group(str(tmp_path / "s.zarr"), mode="w")
    sharded = group.create_array("v", shape=(2, 1, 64, 64), chunks=(1, 1, 16, 16), shards=(1, 1, 32, 32), dtype="u1")
    with pytest.raises(GridError, match="chunks of 32 rows"):
        store.write_block(sharded, 0, Window(0, 0, 16, 32), np.ones((1, 16, 32), "u1"))
    store.write_block(sharded, 1, Window(0, 32, 64, 32), np.ones((1, 64, 32), "u1"))
    assert int(sharded[:].sum()) == 64 * 32
    together = group.create_array("t", shape=(2, 1, 8, 8), chunks=(2, 1, 8, 8), dtype="u1")
    with pytest.raises(GridError, match="one date a chunk"):
        store.write_block(together, 0, Window(0, 0, 8, 8), np.ones((1, 8, 8), "u1"))


def test_a_window_beyond_the_raster_is_refused(tmp_path):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec()])
    with pytest.raises(GridError, match="beyond the 70 rows"):
        store.write_block(work.array("sst"), 0, Window(64, 0, 32, 32), np.ones((3, 32, 32), "i2"))


def test_blank_chunks_are_not_written(tmp_path):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec(nodata=-1)])
    store.write_block(work.array("sst"), 0, Window(0, 0, 32, 32), np.full((3, 32, 32), -1, "i2"))
    assert not (tmp_path / "w.zarr" / "sst" / "value" / "c").exists()


def test_a_store_is_not_made_over_another_nor_over_foreign_files(path, tmp_path):
    store.create_work(path, [_spec()])
    with pytest.raises(TargetError, match="resume"):
        store.create_work(path, [_spec()])
    foreign = tmp_path / "f.zarr"
    foreign.mkdir()
    (foreign / "precious.txt").write_text("mine")
    for act in (store.remove_work, store.open_work, lambda p: store.create_work(p, [_spec()])):
        with pytest.raises(TargetError):
            act(str(foreign))
    assert (foreign / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["[]", '{"attributes": null}', '{"attributes": 5}', "not JSON"])
def test_foreign_metadata_of_any_form_are_refused(tmp_path, text):
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "f.zarr/zarr.json").write_text(text)
    for act in (store.remove_work, store.open_work, load_fit, lambda p: store.create_work(p, [_spec()])):
        with pytest.raises(TargetError):
            act(str(tmp_path / "f.zarr"))
    assert (tmp_path / "f.zarr/zarr.json").read_text() == text


def test_a_store_half_made_is_made_again(tmp_path):
    path = tmp_path / "w.zarr"
    store.create_work(str(path), [_spec("old")])
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"] = {"geodiff_store": "work", "complete": False}
    (path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(TargetError, match="beginning"):
        store.open_work(str(path))
    assert [s.name for s in store.create_work(str(path), [_spec("new")]).variables] == ["new"]
    assert not (path / "old").exists()


def test_removal_leaves_nothing(path):
    work = store.create_work(path, [_spec()])
    work.mark_done("a", {})
    store.remove_work(path)
    store.remove_work(path)
    with pytest.raises(TargetError, match="nothing is there"):
        store.open_work(path)
    store.create_work(path, [_spec()])


def test_a_store_on_another_disk_is_removed_through_its_link(tmp_path):
    (tmp_path / "disk").mkdir()
    path = tmp_path / "w.zarr"
    path.symlink_to("disk")
    for _ in range(2):
        store.create_work(str(path), [_spec()])
        (path / "elsewhere").symlink_to(tmp_path)
        store.remove_work(str(path))
        assert path.is_symlink()
        assert not any(path.iterdir())


def test_a_work_store_travels_by_pickle(path):
    work = pickle.loads(pickle.dumps(store.create_work(path, [_spec()], "f")))
    store.write_block(work.array("sst"), 0, Window(0, 0, 70, 50), np.ones((3, 70, 50), "i2"))
    assert store.open_work(path).array("sst")[0].all()


def test_an_old_block_can_be_written_again(tmp_path):
    work = store.create_work(str(tmp_path / "w.zarr"), [_spec()])
    for number in (1, 2, 0):
        store.write_block(work.array("sst"), 0, Window(0, 0, 32, 32), np.full((3, 32, 32), number, "i2"))
        assert (work.array("sst")[0, :, :32, :32] == number).all()


def test_a_store_is_removed_while_a_lost_worker_still_writes_to_it(tmp_path, monkeypatch):
    path = tmp_path / "w.zarr"
    store.create_work(str(path), [_spec()])
    remove, left = shutil.rmtree, [2]

    def late(folder, *args, **kwargs):
        remove(folder, *args, **kwargs)
        if left[0]:
            left[0] -= 1
            folder.mkdir()
            (folder / "late").touch()
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(places, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(shutil, "rmtree", late)
    store.remove_work(str(path))
    assert not path.exists()


def test_a_store_that_is_half_removed_is_none_any_more(path, monkeypatch):
    """Its arrays may be gone in any order."""
    store.create_work(path, [_spec()], "a1").mark_done("b", {})
    remove = store.remove_tree

    def killed(place: str) -> None:
        remove(f"{place}/sst")
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "remove_tree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.remove_work(path)
    monkeypatch.undo()
    with pytest.raises(TargetError, match="no working store"):
        store.open_work(path)
    assert store.create_work(path, [_spec()], "a1").done() == {}


def test_a_store_of_which_little_was_written_is_made_anew(path):
    """On an object store nothing hides what a kill left half written."""
    new_group(path, "work")
    assert store.create_work(path, [_spec()], "a1").fingerprint == "a1"

"""Laws of the working store and the fit store."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from geodiff.errors import GridError, LockedError, TargetError
from geodiff.fillers import Fitted
from geodiff.io import store
from geodiff.io.store import VariableSpec
from geodiff.lattice import Window, blocks


def _spec(name="sst", **changes):
    return VariableSpec(**{"name": name, "shape": (2, 3, 70, 50), "dtype": "i2", "chunks": (1, 0, 32, 32), **changes})


@pytest.fixture(params=["local", "file URL", "memory"])
def path(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "scene.geodiff-work.zarr")
    if request.param == "file URL":
        return f"file://{tmp_path}/scene.geodiff-work.zarr"
    return f"memory://{tmp_path.name}/scene.geodiff-work.zarr"


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
    for act in (store.remove_work, store.open_work, store.load_fit, lambda p: store.create_work(p, [_spec()])):
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


# -- lock


def _hold(path, ready, go):
    with store.lock(path):
        ready.set()
        go.wait(30)


def test_a_second_process_is_told_who_holds_the_lock_and_death_frees_it(tmp_path):
    path = str(tmp_path / "w.zarr")
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(path, ready, go))
    other.start()
    assert ready.wait(30)
    with pytest.raises(LockedError, match=rf"process {other.pid} on \S+ since \d{{4}}-"), store.lock(path):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with store.lock(path):
        assert json.loads((tmp_path / "w.zarr.lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "w.zarr.lock").exists()


def test_a_lock_that_cannot_say_who_holds_it_is_let_go(tmp_path, monkeypatch):
    path = str(tmp_path / "w.zarr")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"), store.lock(path):
            pass
    with store.lock(path):
        pass


def test_a_lock_file_that_may_not_be_opened_is_told_with_the_cure(tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    told = r"the lock of a\.tif, \S+w\.zarr\.lock, cannot be opened: Permission denied; .*delete it"
    with pytest.raises(TargetError, match=told), store.lock(str(tmp_path / "w.zarr"), "a.tif"):
        pass


def test_an_object_store_has_a_lock_too():
    told = rf"a\.tif is being written by process {os.getpid()} on"
    with store.lock("memory://x/w.zarr", "a.tif") as assert_ours:
        assert_ours()
        with pytest.raises(LockedError, match=told), store.lock("memory://x/w.zarr", "a.tif"):
            pass
    with store.lock("memory://x/w.zarr", "a.tif"):
        pass


# -- fit


def _fit():
    rng = np.random.default_rng(1)
    inner = Fitted("laplace", {"weight": 0.1 + 0.2, "nan": float("nan")}, {"empty": np.zeros((0, 3), "f8")})
    return Fitted(
        "auto",
        {"bands": ["a", "b"], "big": 2**60, "scale": np.float32(0.5), "deep": {"x": [1, None, True]}},
        {
            "eof/1": rng.normal(size=(5, 7)),
            "flag": rng.random(9) > 0.5,
            "number": np.array(3, "u2"),
            "when": np.array(["2020-01-01", "NaT"], "M8[s]"),
            "label": np.array(["é", "long"]),
            "noise": rng.normal(size=4).astype("f4"),
        },
        {"laplace": inner, "odd/name": Fitted("nearest")},
    )


def _same(a, b):
    assert a.filler == b.filler
    assert json.dumps(dict(a.facts), default=float) == json.dumps(dict(b.facts), default=float)
    assert list(a.arrays) == list(b.arrays)
    for name, array in a.arrays.items():
        assert array.dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(array, b.arrays[name])
    assert list(a.parts) == list(b.parts)
    for name, part in a.parts.items():
        _same(part, b.parts[name])


def test_a_fit_comes_back_as_it_was(path):
    store.save_fit(path, _fit(), {"fingerprint": "abc", "n": 3})
    loaded, extra = store.load_fit(path)
    _same(_fit(), loaded)
    assert extra == {"fingerprint": "abc", "n": 3}
    store.save_fit(path, Fitted("nearest"))
    assert store.load_fit(path) == (Fitted("nearest"), {})


def test_a_fit_replaces_only_a_fit(path):
    with pytest.raises(TargetError, match="no fit"):
        store.load_fit(path)
    store.create_work(path, [_spec()])
    with pytest.raises(TargetError, match="not replaced"):
        store.save_fit(path, Fitted("nearest"))
    with pytest.raises(TargetError, match="no fit"):
        store.load_fit(path)


def test_a_fit_that_cannot_be_stored_leaves_the_old_one(tmp_path):
    path = tmp_path / "fit.zarr"
    store.save_fit(str(path), Fitted("nearest"))
    with pytest.raises(TypeError, match="Python objects"):
        store.save_fit(str(path), Fitted("bad", {}, {"o": np.array([{}], object)}))
    assert store.load_fit(str(path))[0].filler == "nearest"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.zarr"]


@pytest.mark.parametrize("damaged", ["c/0", "zarr.json"])
def test_a_damaged_fit_is_told_with_its_place(tmp_path, damaged):
    path = tmp_path / "a.geodiff-fit.zarr"
    store.save_fit(str(path), Fitted("auto", {}, {"weights": np.arange(1, 9)}))
    os.truncate(path / "arrays" / "weights" / damaged, 3)
    with pytest.raises(TargetError, match=rf"the fit at {path} is damaged .*--overwrite"):
        store.load_fit(str(path))


def test_a_fit_that_lost_a_chunk_is_damaged_and_not_full_of_zeros(path):
    from geodiff.io.places import delete

    numbers = {"zeros": np.array([0.0, -0.0]), "weights": np.arange(9), "when": np.array(["2024-01-01"], "M8[D]")}
    store.save_fit(path, Fitted("auto", {}, {}, {"x": Fitted("part", {}, numbers)}))
    assert np.signbit(store.load_fit(path)[0].parts["x"].arrays["zeros"]).tolist() == [False, True]
    delete(f"{path}/parts/x/arrays/weights/c/0")
    with pytest.raises(TargetError, match=r"damaged .*not those that were written"):
        store.load_fit(path)


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


@pytest.mark.parametrize("kind", ["work", "fit"])
def test_a_store_of_which_little_was_written_is_made_anew(path, kind):
    """On an object store nothing hides what a kill left half written."""
    store._new_group(path, kind)
    if kind == "work":
        assert store.create_work(path, [_spec()], "a1").fingerprint == "a1"
    else:
        assert not store.has_fit(path)
        store.save_fit(path, Fitted("mean", {"of": 3}, {}, {}))
        assert store.load_fit(path)[0].facts == {"of": 3}
        assert store.has_fit(path)


def test_a_link_in_the_place_of_the_lock_is_not_written_through(tmp_path):
    (tmp_path / "kept").write_text("precious")
    (tmp_path / "a.geodiff-work.zarr.lock").symlink_to(tmp_path / "kept")
    with pytest.raises(TargetError, match="cannot be opened"), store.lock(str(tmp_path / "a.geodiff-work.zarr"), "a"):
        pass
    assert (tmp_path / "kept").read_text() == "precious"

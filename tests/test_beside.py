"""Laws of what lies beside a target: it is that target's alone, and a product that is replaced leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import geodiff
from geodiff.beside import alone, delete_left_layers, is_whole, keep_record, lost_of, record_of, written_before
from geodiff.errors import LockedError, TargetError
from geodiff.identity import record_path
from geodiff.io import read_fingerprint
from geodiff.io.places import existing
from geodiff.io.writing import RECORD


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    import rasterio
    from rasterio.transform import Affine

    y, x = np.mgrid[:90, :100]
    values = (2000 + 300 * np.sin(y / 17) + 200 * np.cos(x / 23)).astype("uint16")
    values[20:40, 30:50] = 0
    facts = {"height": 90, "width": 100, "count": 1, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32618"}
    place = Affine(30, 0, 300_000, 0, -30, 4_500_000)
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", transform=place, **facts) as out:
        out.write(values, 1)
    return tmp_path / "scene.tif"


def _said(target: str, *products: str, fingerprint: str = "a") -> str:
    return json.dumps({"target": target, "products": products, "fingerprint": fingerprint})


# -- the record


def test_targets_of_one_stem_keep_what_was_said_of_each(tmp_path: Path) -> None:
    targets = {name: f"{tmp_path}/{name}" for name in ("a.tif", "a.zarr", "a/")}
    for name, target in targets.items():
        keep_record(target, _said(target, target, fingerprint=name))
    assert {record_path(target) for target in targets.values()} == {f"{tmp_path}/a.geodiff.json"}
    for name, target in targets.items():
        assert (record_of(target)["fingerprint"], written_before(target)) == (name, [target])
    keep_record(targets["a.tif"], _said(targets["a.tif"], fingerprint="later"))
    assert [record_of(target)["fingerprint"] for target in targets.values()] == ["later", "a.zarr", "a/"]
    assert record_of(f"{tmp_path}/a.nc") == {}


def test_half_a_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.geodiff.json").write_text("{ half a rec")
    assert record_of(f"{tmp_path}/a.tif") == {}
    assert is_whole(f"{tmp_path}/a.tif", "a")


@pytest.mark.parametrize(
    "wrong",
    [{"target": 5}, {"products": 5}, {"products": [5]}, {"variables": None}, {"gates": []}, {"failed_blocks": 1}],
)
def test_a_record_of_another_form_is_none(tmp_path: Path, wrong: dict[str, object]) -> None:
    target = f"{tmp_path}/a.tif"
    facts = {"target": target, "products": [target], "variables": {}, "gates": {}, "failed_blocks": {}}
    other = {"target": f"{tmp_path}/a.zarr", "other_targets": {".tif": facts | wrong, ".nc": 5}}
    for kept in (facts | wrong, other, {**facts, "target": f"{tmp_path}/a.zarr", "other_targets": 5}):
        (tmp_path / "a.geodiff.json").write_text(json.dumps(kept))
        assert record_of(target) == {}
        assert written_before(target) == []
        assert is_whole(target, "a")
    assert record_of(f"{tmp_path}/a.zarr")["target"] == f"{tmp_path}/a.zarr"


def test_a_product_is_whole_by_its_own_record_alone(tmp_path: Path) -> None:
    target, beside = tmp_path / "a.tif", tmp_path / "a_source.tif"
    target.touch()
    keep_record(str(target), _said(str(target), str(beside), str(target)))
    keep_record(f"{tmp_path}/a.zarr", _said(f"{tmp_path}/a.zarr"))
    assert not is_whole(str(target), "a")
    beside.touch()
    assert is_whole(str(target), "a")
    assert not is_whole(str(target), "b")


@pytest.mark.parametrize(
    ("target", "cut"),
    [
        ("filled.tif", "filled.tif"),
        ("filled.tif", "filled_standard_error.tif"),
        ("filled/", "filled/scene.tif"),
        ("filled.zarr", "filled.zarr/*_error/c/**/*"),
    ],
)
def test_a_product_that_lost_a_part_is_made_anew(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str, cut: str
) -> None:
    fill = partial(geodiff.fill, scene, f"{tmp_path}/{target}", filler="nearest", append=target.endswith("zarr"))
    fill()
    (path,) = (path for path in tmp_path.glob(cut) if path.is_file())
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 1)
    assert not caplog.messages
    assert fill().status == "done"
    assert "shorter than it was written" in caplog.text
    assert path.read_bytes() == whole
    assert fill().status in ("up to date", "nothing to append")
    path.write_bytes(whole + b"notes")
    assert fill().status in ("up to date", "nothing to append")


def test_layers_that_another_run_replaced_before_it_ended_are_made_anew(scene: Path, tmp_path: Path) -> None:
    """On an object store, or with --work elsewhere, nothing else tells of that run."""
    geodiff.fill(scene, tmp_path / "a.tif", filler="nearest")
    geodiff.fill(scene, tmp_path / "other" / "a.tif", filler="idw")
    layer = tmp_path / "a_source.tif"
    own, other = layer.read_bytes(), (tmp_path / "other" / "a_source.tif").read_bytes()
    layer.write_bytes(other + bytes(len(own)))  # and not shorter either
    assert geodiff.fill(scene, tmp_path / "a.tif", filler="nearest").status == "done"
    assert layer.read_bytes() == own


# -- the layers


def test_only_layers_that_a_target_says_it_wrote_are_deleted(tmp_path: Path) -> None:
    target = f"{tmp_path}/a.tif"
    gone = {"a_members.tif", "a_members.tif.aux.xml"}
    names = {"a.tif", "a_source.tif", "a_quantiles.tif", "a_notes.tif", "a.zarr"} | gone
    for name in names:
        (tmp_path / name).touch()
    listed = ("elsewhere/a_members.tif", "elsewhere/a_source.tif", "elsewhere/a_notes.tif", "elsewhere/a.tif")
    keep_record(target, _said(target, *listed))
    delete_left_layers(f"{tmp_path}/a.png", [f"{tmp_path}/a.png"])
    assert all((tmp_path / name).exists() for name in names)
    delete_left_layers(target, [f"{tmp_path}/a_source.tif", target])
    assert {name for name in names if not (tmp_path / name).exists()} == gone


@pytest.mark.parametrize("target", ["out/filled.tif", "out/"])
def test_layers_of_the_product_that_was_replaced_go_with_it(scene: Path, tmp_path: Path, target: str) -> None:
    folder, stem = tmp_path / "out", "scene" if target.endswith("/") else "filled"
    where = f"{tmp_path}/{target}"
    geodiff.fill(scene, where, filler="laplace", quantiles="0.05,0.95")
    (folder / f"{stem}_members.tif").write_text("not geodiff's")
    assert (folder / f"{stem}_quantiles.tif").exists()
    record = geodiff.fill(scene, where, filler="laplace", overwrite=True)
    assert not (folder / f"{stem}_quantiles.tif").exists()
    assert (folder / f"{stem}_members.tif").read_text() == "not geodiff's"
    assert all(Path(path).exists() for path in record.products)
    assert geodiff.fill(scene, where, filler="laplace").status == "up to date"


def test_a_kill_before_the_record_leaves_no_old_layer_for_good(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "filled.tif"
    geodiff.fill(scene, target, filler="laplace", quantiles="0.05,0.95")
    with monkeypatch.context() as patched:
        patched.setattr("geodiff.finishing.delete_left_layers", _stop)
        with pytest.raises(KeyboardInterrupt):
            geodiff.fill(scene, target, filler="laplace", overwrite=True)
    assert geodiff.fill(scene, target, filler="laplace").status == "done"
    assert not (tmp_path / "filled_quantiles.tif").exists()


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_layers_of_another_target_are_not_written_over(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "a.tif", filler="laplace")
    geodiff.fill(scene, tmp_path / "a.zarr", filler="laplace")
    before = (tmp_path / "a_source.tif").read_bytes()
    with pytest.raises(TargetError, match=r"a_source\.tif, over those of .*a\.tif; give TARGET another name"):
        geodiff.fill(scene, tmp_path / "a.tiff", filler="nearest", overwrite=True)
    assert (tmp_path / "a_source.tif").read_bytes() == before
    assert geodiff.fill(scene, tmp_path / "a.tif", filler="laplace").status == "up to date"
    assert geodiff.fill(scene, tmp_path / "a.zarr", filler="laplace").status == "up to date"


def test_a_file_that_is_no_layer_of_ours_is_written_over_only_on_demand(scene: Path, tmp_path: Path) -> None:
    target, theirs = tmp_path / "a.tif", tmp_path / "a_source.tif"
    shutil.copy(scene, theirs)
    for fill in (lambda **how: geodiff.fill(scene, target, filler="laplace", **how), partial(_inpaint, scene, target)):
        with pytest.raises(TargetError, match=r"a_source\.tif already exists and is not a layer .*use --overwrite"):
            fill()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a_source.tif", "scene.tif"]
    assert geodiff.fill(scene, target, filler="laplace", overwrite=True).status == "done"
    assert geodiff.fill(scene, target, filler="nearest", overwrite=True).status == "done"


def _inpaint(scene: Path, target: Path) -> None:
    geodiff.restore(scene, target, task="inpaint")


def test_a_product_is_no_layer_of_another(scene: Path, tmp_path: Path) -> None:
    product, target = tmp_path / "a_source.tif", tmp_path / "a.tif"
    geodiff.fill(scene, product, filler="laplace")
    before = product.read_bytes()
    keep_record(str(target), _said(str(target), str(product)))  # whatever an earlier run took it for
    for overwrite in (False, True):
        with pytest.raises(TargetError, match=r"a_source\.tif, which is a product of its own; give.*another name"):
            geodiff.fill(scene, target, filler="laplace", overwrite=overwrite)
    assert product.read_bytes() == before


def test_layers_that_a_kill_left_without_their_target_are_written_again(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff.io import places

    def stop_at_the_target(new: Path, target: Path) -> None:
        if target.name == "a.tif":
            raise KeyboardInterrupt
        swap_in(new, target)

    swap_in = places.swap_in
    with monkeypatch.context() as patched:
        patched.setattr(places, "swap_in", stop_at_the_target)
        with pytest.raises(KeyboardInterrupt):
            geodiff.fill(scene, tmp_path / "a.tif", filler="laplace")
    assert (tmp_path / "a_source.tif").exists()
    assert geodiff.fill(scene, tmp_path / "a.tif", filler="laplace").status == "done"


# -- the lock


def test_two_jobs_on_one_target_are_kept_apart_wherever_they_work(scene: Path, tmp_path: Path) -> None:
    target = tmp_path / "filled.tif"
    told = rf"filled\.tif is being written by process {os.getpid()} on"
    with alone(str(target), str(tmp_path / "one")), pytest.raises(LockedError, match=told):
        geodiff.fill(scene, target, filler="laplace", work=str(tmp_path / "two"))
    with alone(str(target), str(tmp_path / "one")), pytest.raises(LockedError, match=told):
        geodiff.restore(scene, target, task="inpaint")
    geodiff.fill(scene, target, filler="laplace", work=str(tmp_path / "one"))
    assert not list(tmp_path.rglob("*.lock"))


@pytest.mark.parametrize(
    ("module", "job"),
    [
        ("geodiff.pipeline", partial(geodiff.fill, filler="laplace")),
        ("geodiff.restoring", partial(geodiff.restore, task="inpaint", model="default", members=0)),
    ],
    ids=["fill", "restore"],
)
def test_what_another_run_has_written_until_the_lock_is_held_is_not_replaced(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, job: Callable[..., geodiff.RunRecord]
) -> None:
    target, others = tmp_path / "filled.tif", iter([{"buffer": 1}, {"nodata": 7}])

    @contextmanager
    def late(*places: str) -> Iterator[Callable[[], None]]:
        if (options := next(others, None)) is not None:
            geodiff.fill(scene, target, filler="nearest", overwrite=True, **options)
        with alone(*places) as assert_ours:
            yield assert_ours

    monkeypatch.setattr(f"{module}.alone", late)
    with pytest.raises(TargetError, match="was made by another job"):
        job(scene, target)
    assert "--filler nearest" in record_of(str(target))["command"]


@pytest.mark.parametrize("name", ["filled.tif", "filled.v2/"])
def test_a_target_and_a_link_to_it_have_one_job(tmp_path: Path, name: str) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / name).symlink_to(tmp_path / name)
    for one, other in (("", "links/"), ("links/", "")):
        first, second = alone(f"{tmp_path}/{one}{name}"), alone(f"{tmp_path}/{other}{name}")
        with first, pytest.raises(LockedError, match=rf"{name} is being written"), second:
            pass
    with alone(f"{tmp_path}/links/{name}", str(tmp_path)):  # which is where the lock of what it points to lies too
        pass
    assert not list(tmp_path.rglob("*.lock"))


def test_one_working_store_has_one_job(scene: Path, tmp_path: Path) -> None:
    with alone(str(tmp_path / "a/filled.tif"), str(tmp_path)), pytest.raises(LockedError, match=r"work\.zarr is being"):
        geodiff.fill(scene, tmp_path / "b/filled.tif", filler="laplace", work=str(tmp_path))


def test_a_work_folder_that_is_the_targets_own_is_one_lock(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert geodiff.fill(scene, "filled.tif", filler="laplace", work=str(tmp_path)).status == "done"


def test_a_remote_folder_of_many_files_is_listed_and_not_asked_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand files, asked for one by one in every look at the product, took minutes before a run began."""
    from fsspec.implementations.memory import MemoryFileSystem

    store, folder = MemoryFileSystem(), "memory://many/filled"
    names = [f"{number:04d}.tif" for number in range(40)]
    for name in names:
        store.pipe(f"/many/filled/{name}", b"bytes")
    store.pipe(f"/many/filled/{RECORD}", json.dumps({"files": names, "geodiff_fingerprint": "a"}).encode())
    keep_record(f"{folder}/", _said(f"{folder}/", *(f"{folder}/{name}" for name in names)))
    asked: list[str] = []
    there = MemoryFileSystem.exists
    monkeypatch.setattr(MemoryFileSystem, "exists", lambda self, path: asked.append(path) or there(self, path))
    assert read_fingerprint(f"{folder}/") == "a"
    assert is_whole(f"{folder}/", "a")
    assert len(asked) < len(names)
    store.rm(f"/many/filled/{names[7]}")
    assert read_fingerprint(f"{folder}/") == ""
    assert lost_of(f"{folder}/", "a") == [f"{folder}/{names[7]}"]
    monkeypatch.setattr(MemoryFileSystem, "ls", Mock(side_effect=PermissionError))
    every = [f"{folder}/{name}" for name in names]
    assert existing(every) == {*every[:7], *every[8:]}  # who may not list

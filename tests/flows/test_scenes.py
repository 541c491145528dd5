"""Which scenes there are, and what is new among them; no Prefect here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from flows.finding import called, find_scenes
from flows.scenes import SceneRecord, fill_new, refusal, scene_jobs, settled, twins
from flows.telling import Teller, failures
from flows.verdicts import keep_verdict
from geodiff import preparing
from geodiff.errors import GateError, JobError, LockedError, SourceError, TargetError
from geodiff.job import FillJob
from geodiff.standing import standing

if TYPE_CHECKING:
    from geodiff.scene import Cube

Writer = Callable[..., Path]
LANDSAT = "LC08_L2SP_015033_20240611_20240615_02_T1"


def job(source: Path | str, target: Path | str, **options: object) -> FillJob:
    return FillJob.build(source=str(source), target=str(target), filler="laplace", **options)


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.endswith(".geodiff-digests.json"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(found: list[str]) -> list[str]:
    return [Path(path).name for path in found]


# -- what is a scene


def test_a_folder_gives_its_rasters_stores_and_scene_folders_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.tif", "a.nc", "b.tif.aux.xml", "notes.txt", ".hidden.tif", "half.tif.part", "other/readme.txt")
    touch(tmp_path, "cube.zarr/zarr.json", f"{LANDSAT}/{LANDSAT}_SR_B4.TIF")
    assert names(find_scenes(str(tmp_path))) == [LANDSAT, "a.nc", "b.tif", "cube.zarr"]


def test_a_labelled_product_is_one_scene_named_by_its_label(tmp_path: Path) -> None:
    touch(tmp_path, "frame.img", "frame.lbl", "mola.img", "mola.xml", "plain.img")
    assert names(find_scenes(str(tmp_path))) == ["frame.lbl", "mola.xml", "plain.img"]


def test_a_pds4_label_is_found_whatever_its_data_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "a.dat", "b.raw", "c_image.tif", "d.tif", "d.xml", "loose.dat", "cube.qub")
    for label, data in {"a.xml": "a.dat", "b.XML": "b.raw", "c.xml": "c_image.tif"}.items():
        words = f"<Product_Observational><File><file_name> {data}</file_name></File></Product_Observational>"
        (tmp_path / label).write_text(words)
    assert names(find_scenes(str(tmp_path))) == ["a.xml", "b.XML", "c.xml", "cube.qub", "d.tif"]


def test_a_glob_a_scene_folder_and_a_file_name_scenes_too(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif", "c.nc", f"{LANDSAT}/{LANDSAT}_SR_B4.TIF")
    assert names(find_scenes(f"{tmp_path}/*.tif")) == ["a.tif", "b.tif"]
    assert names(find_scenes(str(tmp_path / LANDSAT))) == [LANDSAT]
    assert find_scenes(str(tmp_path / "c.nc")) == [str(tmp_path / "c.nc")]


def test_an_address_that_ends_in_a_slash_or_has_a_star_names_what_is_there(tmp_path: Path) -> None:
    place = MemoryFileSystem()
    for name in ("b.tif", "a.nc", "notes.txt", "deep/c.tif", "cube.zarr/zarr.json"):
        place.pipe(f"/scenes/{name}", b"")
    assert names(find_scenes("memory://scenes/")) == ["a.nc", "b.tif", "cube.zarr"]
    assert names(find_scenes("memory://scenes/**/*.tif")) == ["b.tif", "c.tif"]
    assert find_scenes("memory://scenes/b.tif") == ["memory://scenes/b.tif"]
    touch(tmp_path, "a.tif")
    assert find_scenes(f"file://{tmp_path}/") == [f"{tmp_path}/a.tif"]
    place.pipe(f"/scenes/{LANDSAT}_SR_B4.TIF", b"")
    with pytest.raises(SourceError, match="file by file"):
        find_scenes("memory://scenes/")


def test_scenes_in_folders_are_named_by_a_glob_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "2024/06/a.tif", "2025/b.tif")
    assert find_scenes(str(tmp_path)) == []
    assert f"'{tmp_path}/**/*.tif'" in caplog.text
    assert names(find_scenes(f"{tmp_path}/**/*.tif")) == ["a.tif", "b.tif"]


def test_a_signed_address_is_called_by_its_file() -> None:
    assert called("https://me:word@host/scenes/a.tif?sig=a/b.c") == "a.tif"
    record = refusal(FillJob.build(source="https://h/a.tif?sig=abc", target="a.tif"), OSError("away"))
    assert "abc" not in str(record)


def test_an_empty_folder_is_no_error_and_a_missing_one_is(tmp_path: Path) -> None:
    assert find_scenes(str(tmp_path)) == []
    assert find_scenes(f"{tmp_path}/*.tif") == []
    with pytest.raises(SourceError, match="does not exist; name a folder"):
        find_scenes(str(tmp_path / "nowhere"))


# -- where its product goes


def test_a_product_is_of_the_kind_of_its_source_unless_told_otherwise(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.jp2", "b.nc", "c.png", "d.zarr/zarr.json", f"{LANDSAT}/{LANDSAT}_SR_B4.TIF")
    jobs = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/", max_error=3))
    assert [each.target.removeprefix(f"{tmp_path}/out/") for each in jobs] == [
        f"{LANDSAT}/", "a.tif", "b.nc", "c.png", "d.zarr",
    ]  # fmt: skip
    assert all(each.max_error == 3 for each in jobs)
    zarr = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), kind=".zarr")
    assert {Path(each.target).suffix for each in zarr} == {".zarr"}


def test_products_do_not_land_among_their_sources(tmp_path: Path) -> None:
    for source in (str(tmp_path), f"{tmp_path}/*.tif"):
        with pytest.raises(JobError, match="name another folder"):
            scene_jobs(job(source, f"{tmp_path}/"))


def test_products_among_the_matches_of_a_glob_are_no_scenes(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "out/a.tif", "out/a_source.tif", "out/new/b.tif")
    jobs = scene_jobs(job(f"{tmp_path}/**/*.tif", f"{tmp_path}/out/"))
    assert [each.source for each in jobs] == [f"{tmp_path}/a.tif"]
    named = scene_jobs(job(f"{tmp_path}/out/new/*.tif", f"{tmp_path}/out/"))
    assert names([each.source for each in named]) == ["b.tif"]


def test_links_in_a_circle_are_scenes_that_fail_and_stop_no_other(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.tif")
    (tmp_path / "in" / "circle.tif").symlink_to("circle.tif")
    first, circle = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out"))
    assert (Path(first.source).name, Path(circle.source).name) == ("a.tif", "circle.tif")
    with pytest.raises(SourceError, match=r"circle\.tif cannot be read"):
        fill_new(circle)


def test_a_kind_that_no_product_has_is_refused_once(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"--kind foo .* use \.tif"):
        scene_jobs(job(tmp_path, f"{tmp_path}/out/"), kind="foo")


def test_no_name_in_a_catalogue_leads_out_of_the_folder_of_products(tmp_path: Path) -> None:
    bands = {key: {"href": f"{key}.tif", "type": "image/tiff", "roles": ["data"]} for key in ("red", "nir")}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "..", "geometry": None, "links": [], "assets": bands,
        "properties": {"datetime": "2024-06-11T15:00:00Z"},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    (one,) = scene_jobs(job(tmp_path / "item.json", f"{tmp_path}/out/"))
    assert one.target == f"{tmp_path}/out/item/"


@pytest.mark.parametrize("option", [{"append": True}, {"report": "page.html"}, {"stac": "item.json"}])
def test_what_only_one_product_can_have_is_refused(tmp_path: Path, option: dict[str, object]) -> None:
    with pytest.raises(JobError, match="belongs to one product"):
        scene_jobs(job(tmp_path, f"{tmp_path}/out/").model_copy(update=option))


def test_scenes_of_one_name_are_both_named_and_the_others_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.tif", "a.nc", "b.tif")
    found = list(twins(scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"))))
    assert names([record.scene for record in found]) == ["a.nc", "a.tif"]
    assert all(record.failed and "rename" in record.message for record in found)


def test_a_scene_named_as_the_layer_of_another_is_not_filled_nor_is_the_other(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.tif", "a_source.tif", "b.tif", "b_source.nc")
    found = list(twins(scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"))))
    assert names([record.scene for record in found]) == ["a.tif", "a_source.tif"]
    assert all(record.failed and "rename" in record.message for record in found)


def test_a_name_that_is_no_utf_8_fails_its_own_scene_and_not_the_night(tmp_path: Path) -> None:
    """No server, table or terminal takes such a name as it is."""
    touch(tmp_path / "in", "a.tif", os.fsdecode(b"m\xfcller.tif"))
    (record,) = twins(scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/")))
    assert record.failed
    assert "rename" in record.message
    assert record.name.encode() == rb"m\udcfcller.tif"


# -- what is new


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is scanned from now on, as they come."""
    scanned: list[str] = []
    scan = preparing.scan_cube

    def told(cube: Cube, *others: Any) -> Any:
        scanned.append(cube.name)
        return scan(cube, *others)

    monkeypatch.setattr(preparing, "scan_cube", told)
    return scanned


def test_a_scene_is_filled_once_and_again_when_its_source_changes(write_scene: Writer, tmp_path: Path) -> None:
    each = job(write_scene(tmp_path / "a.tif"), tmp_path / "out" / "a.tif")
    first = fill_new(each)
    assert (first.status, first.filled, first.to_fill) == ("done", 150, 150)
    before = digest(tmp_path / "out")
    again = fill_new(each)
    assert (again.status, again.filled, again.coverage90) == ("up to date", 150, first.coverage90)
    assert digest(tmp_path / "out") == before
    shutil.copy(tmp_path / "a.tif", tmp_path / "copy.tif")
    shutil.copy(tmp_path / "copy.tif", tmp_path / "a.tif")  # another time of change, the same content
    assert fill_new(each).status == "up to date"
    write_scene(tmp_path / "a.tif", seed=1)
    assert fill_new(each).status == "done"
    assert digest(tmp_path / "out")["a.tif"] != before["a.tif"]


@pytest.mark.parametrize("gates", [(None, "unfilled<=1"), ("unfilled<=0.5", "unfilled<=0.4"), ("unfilled<=0.5", None)])
def test_a_source_that_changes_is_filled_again_whatever_gate_there_was(
    write_scene: Writer, tmp_path: Path, gates: tuple[str | None, str | None]
) -> None:
    scene, target = write_scene(tmp_path / "a.tif", seed=1), tmp_path / "out" / "a.tif"
    before, now = (job(scene, target, gate=gate) for gate in gates)
    assert fill_new(before).status == "done"
    assert settled(now) is not None
    write_scene(scene, seed=2)
    assert fill_new(now).status == "done"


def test_an_item_and_a_page_of_the_product_before_are_made_anew(write_scene: Writer, tmp_path: Path) -> None:
    """As a kill leaves them that comes between the product and what tells of it."""
    write_scene(tmp_path / "in" / "a.tif")
    (each,) = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), pages=True)
    fill_new(each)
    told = [tmp_path / "out" / name for name in ("a.stac.json", "a.report.html")]
    before = [path.read_bytes() for path in told]
    write_scene(tmp_path / "in" / "a.tif", seed=1)
    fill_new(each)
    for path, old in zip(told, before, strict=True):
        path.write_bytes(old)
    assert fill_new(each).status == "up to date"
    fingerprint = json.loads((tmp_path / "out" / "a.geodiff.json").read_text())["fingerprint"]
    assert all(fingerprint in path.read_text() for path in told)


def test_a_product_of_other_options_stays_unless_told_to_overwrite(write_scene: Writer, tmp_path: Path) -> None:
    each = job(write_scene(tmp_path / "a.tif"), tmp_path / "out" / "a.tif")
    fill_new(each)
    before = digest(tmp_path / "out")
    with pytest.raises(TargetError, match="--overwrite"):
        fill_new(each.model_copy(update={"valid_range": (0, 1080)}))
    assert digest(tmp_path / "out") == before
    fill_new(each.model_copy(update={"valid_range": (0, 1080), "overwrite": True}))
    assert digest(tmp_path / "out") != before
    # overwriting is for what is another product; what is this very one is not made again
    assert fill_new(each.model_copy(update={"valid_range": (0, 1080), "overwrite": True})).status == "up to date"


def test_a_foreign_file_at_the_target_stays(write_scene: Writer, tmp_path: Path) -> None:
    foreign = write_scene(tmp_path / "out" / "a.tif", seed=9)
    before = foreign.read_bytes()
    with pytest.raises(TargetError, match="not a product of geodiff"):
        fill_new(job(write_scene(tmp_path / "a.tif"), foreign))
    assert foreign.read_bytes() == before


def test_a_product_that_lacks_blocks_is_completed(write_scene: Writer, tmp_path: Path) -> None:
    each = job(write_scene(tmp_path / "a.tif"), tmp_path / "out" / "a.tif")
    fill_new(each)
    record = tmp_path / "out" / "a.geodiff.json"
    said = json.loads(record.read_text())
    record.write_text(json.dumps(said | {"failed_blocks": {"band_data/0/0/0": "OSError: the disk was away"}}))
    assert fill_new(each).status == "done"
    assert json.loads(record.read_text())["failed_blocks"] == {}


def test_a_scene_without_a_known_pixel_is_unusable_and_no_failure(write_scene: Writer, tmp_path: Path) -> None:
    record = fill_new(job(write_scene(tmp_path / "a.tif", known=False), tmp_path / "out" / "a.tif"))
    assert (record.status, record.failed) == ("unusable", False)
    assert "nothing can be filled" in record.message
    assert not list((tmp_path / "out").glob("*.tif"))


def test_an_unusable_scene_is_not_read_again_until_it_or_the_job_is_another(
    write_scene: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = job(write_scene(tmp_path / "a.tif", known=False), tmp_path / "out" / "a.tif")
    assert settled(each) is None
    first = fill_new(each)
    scans = counted(monkeypatch)
    assert settled(each) == fill_new(each) == first
    assert scans == []
    assert fill_new(each.model_copy(update={"buffer": 1})).status == "unusable"
    assert len(scans) == 1  # other options may know more
    write_scene(tmp_path / "a.tif")
    assert settled(each) is None
    assert fill_new(each).status == "done"
    assert not list((tmp_path / "out").glob("*verdict*"))


def test_half_a_verdict_or_a_dry_run_says_nothing(write_scene: Writer, tmp_path: Path) -> None:
    each = job(write_scene(tmp_path / "a.tif", known=False), tmp_path / "out" / "a.tif")
    fill_new(each.model_copy(update={"dry_run": True}))
    assert not (tmp_path / "out").exists()
    fill_new(each)
    (tmp_path / "out" / "a.geodiff-verdict.json").write_text('{"status": "unus')
    assert settled(each) is None
    assert fill_new(each).status == "unusable"


def test_what_cannot_be_told_of_a_scene_is_left_to_its_run(write_scene: Writer, tmp_path: Path) -> None:
    write_scene(tmp_path / "in" / "a.tif")
    (each,) = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), pages=True)
    fill_new(each)
    assert settled(each) is not None
    record = tmp_path / "out" / "a.geodiff.json"
    record.write_text(record.read_text().replace('"to_fill"', '"asked"'))  # of another version
    assert settled(each) is None


def test_a_frame_that_another_flow_found_sound_is_filled_all_the_same(write_scene: Writer, tmp_path: Path) -> None:
    each = job(write_scene(tmp_path / "a.tif"), tmp_path / "out" / "a.tif")
    keep_verdict(each, standing(each).fingerprint, "sound")
    assert settled(each) is None
    dry = each.model_copy(update={"dry_run": True})
    assert fill_new(dry).status == "planned"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.geodiff-verdict.json"]
    assert fill_new(each).status == "done"
    assert not list((tmp_path / "out").glob("*verdict*"))


def test_a_scene_with_its_product_is_settled_and_any_other_is_not(write_scene: Writer, tmp_path: Path) -> None:
    write_scene(tmp_path / "in" / "a.tif")
    (each,) = scene_jobs(job(tmp_path / "in", f"{tmp_path}/out/"), pages=True)
    assert settled(each) is None
    fill_new(each)
    there = fill_new(each)
    (tmp_path / "out" / "a.report.html").unlink()
    found = settled(each)
    assert found is not None
    assert (found.status, found.filled, found.page) == ("up to date", there.filled, there.page)
    assert (tmp_path / "out" / "a.report.html").exists()
    assert settled(each.model_copy(update={"gate": "coverage90>=0.9999"})) is None  # a run refuses it
    assert settled(each.model_copy(update={"buffer": 1})) is None
    (tmp_path / "out" / "a_reason.tif").unlink()
    assert settled(each) is None
    write_scene(tmp_path / "in" / "a.tif", seed=1)
    assert settled(each) is None
    (tmp_path / "in" / "a.tif").unlink()
    assert settled(each) is None


def test_a_gate_that_refuses_is_a_failure_of_its_own_name(tmp_path: Path) -> None:
    each = job(tmp_path / "a.tif", tmp_path / "out" / "a.tif")
    assert refusal(each, GateError("coverage90 is 0.5")).status == "refused"
    assert refusal(each, OSError()).message == "OSError"
    held = refusal(each, LockedError("a.tif is being written by process 7 on h since 03:00"))
    assert (held.status, held.failed) == ("held", False)  # that run will tell
    assert "process 7" in held.message
    full = refusal(each, OSError(28, "No space left on device"))
    assert full.failed
    assert full.message.endswith("No space left on device; make room, and the next run goes on where this one stopped")
    assert not SceneRecord("a", "b", "up to date").failed


def test_a_file_called_as_a_command_of_a_terminal_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    record = SceneRecord("in/a\x1b[2J\nb: done.tif", "out/a.tif", "failed", message="no\x07")
    Teller("scenes", "t", lambda _: {}, (), lambda _: (), lambda _: "").print([record])
    assert capsys.readouterr().out == "a\\x1b[2J\\nb: done.tif: failed: no\\x07\n"


def test_the_state_of_a_run_names_the_first_of_very_many_failures() -> None:
    """A server that is away makes thousands fail, and alerts carry that text."""
    records = [SceneRecord(f"s{n:04d}.tif", "", "failed" if n % 2 else "done", message="why") for n in range(5000)]
    lines = failures("scenes", records).splitlines()
    assert lines[:2] == ["2500 of 5000 scenes failed", "s0001.tif: failed: why"]
    assert (len(lines), lines[-1]) == (102, "and 2400 more")
    assert len(failures("scenes", records[:10]).splitlines()) == 6

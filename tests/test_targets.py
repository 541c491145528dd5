"""Laws of what a job may write, and of the bands it was not asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

import geodiff
from geodiff.errors import EncodingError, JobError, TargetError, WriteError

HOLE = (slice(20, 35), slice(30, 50))


def save(path: Path, bands: np.ndarray, **profile: Any) -> Path:
    facts = {"height": bands.shape[1], "width": bands.shape[2], "count": len(bands), "dtype": bands.dtype.name}
    place = Affine(30, 0, 300_000, 0, -30, 4_500_000)
    with rasterio.open(path, "w", driver="GTiff", transform=place, crs="EPSG:32618", **{**facts, **profile}) as out:
        out.write(bands)
    return path


def surface(dtype: str = "uint8") -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    return (90 + 20 * np.sin(y / 9) + 15 * np.cos(x / 11)).astype(dtype)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    values = surface()
    values[HOLE] = 0
    return save(tmp_path / "scene.tif", values[None], nodata=0)


def transparent(path: Path, dtype: str = "uint8") -> Path:
    """Red, green, blue and alpha, of which a block is transparent over numbers that mean nothing."""
    bands = np.stack([surface(dtype), surface(dtype) + 5, surface(dtype) + 9, np.full((60, 80), np.iinfo(dtype).max)])
    bands[(slice(0, 3), *HOLE)], bands[(3, *HOLE)] = 200, 0
    save(path, bands.astype(dtype), photometric="RGB", alpha="YES")
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


# -- what already exists, and what cannot be


def test_a_foreign_target_is_refused_untouched(scene: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious.tif"
    target.write_bytes(scene.read_bytes())
    with pytest.raises(TargetError, match="not a product of geodiff"):
        geodiff.fill(scene, target, filler="laplace")
    assert target.read_bytes() == scene.read_bytes()


@pytest.fixture
def two_dates(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for day in (1, 2):
        values = surface("uint16")
        values[20 * day : 20 * day + 9, 30:40] = 0
        save(tmp_path / f"in/a_2021-01-0{day}.tif", values[None], nodata=0)
    return tmp_path / "in"


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_fills_up_before_the_last_date_leaves_a_folder_as_it_was(
    two_dates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    from geodiff.io import cog, read_fingerprint

    out, options = tmp_path / "out", {"filler": "laplace", "work": str(tmp_path / "work"), "overwrite": there}
    if there:
        geodiff.fill(two_dates, f"{out}/", filler="nearest")
    before = {path.name: path.read_bytes() for path in out.glob("*")}
    real = cog._copy

    def full(content: cog.Content, staging: Path, partial: Path) -> None:
        real(content, staging, partial)
        if partial.name == ".a_2021-01-02.geodiff-partial.tif":  # the very last file but the record
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cog, "_copy", full)
        with pytest.raises(WriteError, match=r"a_2021-01-02\.tif cannot be written: .*No space left"):
            geodiff.fill(two_dates, f"{out}/", **options)
    after = {path.name: path.read_bytes() for path in out.glob("*")}
    assert after == before if there else (list(after), read_fingerprint(f"{out}/")) == (["geodiff-product.json"], None)
    (out / ".a_2020-01-01_members.geodiff-partial.tif").write_bytes(b"of a run that was killed")
    (out / ".b.geodiff-partial.zarr").mkdir()  # of another product in this folder
    record = geodiff.fill(two_dates, f"{out}/", **options)
    assert (record.status, record.blocks_resumed) == ("done", record.blocks)
    assert read_fingerprint(f"{out}/") == record.fingerprint
    assert [path.name for path in out.glob(".*")] == [".b.geodiff-partial.zarr"]


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_is_half_written_is_no_product_and_the_same_command_goes_on(
    two_dates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    from geodiff.io import places, read_fingerprint

    out, options = f"{tmp_path}/out/", {"filler": "laplace", "work": str(tmp_path / "work")}
    if there:
        geodiff.fill(two_dates, out, filler="nearest")
    real = places.swap_in

    def refused(new: Path, target: Path) -> None:
        if target.name == "a_2021-01-02.tif":
            raise OSError(122, "Disk quota exceeded")
        real(new, target)

    with monkeypatch.context() as patched:
        patched.setattr(places, "swap_in", refused)
        with pytest.raises(WriteError, match=r"a_2021-01-02\.tif cannot be written: .*quota"):
            geodiff.fill(two_dates, out, overwrite=there, **options)
    assert read_fingerprint(out) is None
    record = geodiff.fill(two_dates, out, **options)
    assert (record.status, record.blocks_resumed) == ("done", record.blocks)
    assert read_fingerprint(out) == record.fingerprint
    assert geodiff.fill(two_dates, out, **options).status == "up to date"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("http://127.0.0.1:9/a.tif", "is on a web server, where nothing can be written; use a path"),
        ("https://127.0.0.1:9/a/", "is on a web server"),
        ("/vsis3/bucket/a.tif", "is a name of GDAL's own, which is for reading alone"),
        ("simplecache::s3://bucket/a.tif", "is a chain of addresses, which is for reading alone"),
    ],
)
def test_where_nothing_can_be_written_is_refused_before_it_is_asked_for_anything(
    scene: Path, tmp_path: Path, place: str, why: str
) -> None:
    with pytest.raises(TargetError, match=f"{place} {why}"):
        geodiff.fill(scene, place, filler="laplace")
    folder = place.rstrip("/").rpartition("/")[0]
    for option in ({"work": folder}, {"report": f"{folder}/a.html"}, {"stac": f"{folder}/a.json"}):
        with pytest.raises(TargetError, match=f"{folder} {why}"):
            geodiff.fill(scene, tmp_path / "a.tif", filler="laplace", **option)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


def test_a_store_takes_the_place_of_a_file_and_a_file_that_of_a_folder(tmp_path: Path) -> None:
    from geodiff.io.places import appearing

    target = tmp_path / "a.zarr"
    target.write_bytes(b"a file")
    with appearing(target) as partial:
        partial.mkdir()
        (partial / "zarr.json").touch()
    assert [path.name for path in target.iterdir()] == ["zarr.json"]
    with appearing(target) as partial:
        partial.write_bytes(b"another")
    assert target.read_bytes() == b"another"
    assert list(tmp_path.iterdir()) == [target]


def test_dry_run_writes_nothing(scene: Path, tmp_path: Path) -> None:
    record = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", dry_run=True)
    assert record.status == "planned"
    assert "to fill" in record.variables["text"]
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize("role", ["source", "mask"])
def test_what_a_job_reads_is_never_its_target(scene: Path, role: str) -> None:
    before = scene.read_bytes()
    other = scene.with_name("other.tif")
    other.write_bytes(before)
    options = {"mask": str(scene)} if role == "mask" else {}
    with pytest.raises(TargetError, match="would be destroyed"):
        geodiff.fill(scene if role == "source" else other, scene, filler="nearest", overwrite=True, **options)
    assert scene.read_bytes() == before


@pytest.mark.parametrize("target", ["filled.tif", "filled.tiff"])
def test_what_a_job_reads_is_no_layer_of_its_target(scene: Path, tmp_path: Path, target: str) -> None:
    source = scene.rename(tmp_path / "filled_source.tif")
    before = source.read_bytes()
    with pytest.raises(TargetError, match=r"filled_source\.tif is itself read"):
        geodiff.fill(source, tmp_path / target, filler="nearest", overwrite=True)
    assert source.read_bytes() == before
    assert geodiff.fill(source, tmp_path / "filled.zarr", filler="nearest").exit_code == 0


def test_a_layer_that_was_removed_is_made_again(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest")
    (tmp_path / "filled_source.tif").unlink()
    assert geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest").status == "done"
    assert (tmp_path / "filled_source.tif").exists()


def test_bands_not_asked_for_say_that_they_are_unfilled(tmp_path: Path) -> None:
    values = np.stack([surface(), surface() + 5])
    values[:, 20:30, 20:30] = 0
    scene = save(tmp_path / "scene.tif", values, nodata=0)
    geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest", bands="1")
    inside = (slice(20, 30), slice(20, 30))
    assert (read(tmp_path / "filled_source.tif")[(1, *inside)] == 255).all()
    assert (read(tmp_path / "filled_reason.tif")[(1, *inside)] == 1).all()
    assert np.isnan(read(tmp_path / "filled_standard_error.tif")[(1, *inside)]).all()
    assert (read(tmp_path / "filled.tif")[(1, *inside)] == 0).all()


def test_a_place_that_cannot_be_written_is_refused_before_any_work(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TargetError, match="cannot be written to"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", work=str(tmp_path / "file"))


def test_a_name_that_leaves_no_room_beside_it_is_refused_before_any_work(scene: Path, tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - 48
    (tmp_path / "out").mkdir()
    for name in ("x" * (most + 1), "é" * (most // 2 + 1), "x" * (most + 44)):
        with pytest.raises(TargetError, match=f"give a name of {most} at most"):
            geodiff.fill(scene, tmp_path / "out" / f"{name}.tif", filler="nearest")
    assert not list((tmp_path / "out").iterdir())
    longest = tmp_path / "out" / f"{'x' * most}.tif"
    assert geodiff.fill(scene, longest, filler="nearest").status == "done"


def test_a_target_that_cannot_be_is_refused_before_any_work(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"filled\.xyz"):
        geodiff.fill(scene, tmp_path / "filled.xyz", filler="laplace")
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


# -- the STAC Item


@pytest.mark.parametrize("role", ["source", "mask", "target", "layer", "record"])
def test_the_item_is_written_over_nothing_that_a_job_reads_or_writes(scene: Path, tmp_path: Path, role: str) -> None:
    mask = tmp_path / "mask.tif"
    mask.write_bytes(scene.read_bytes())
    places = {"source": scene, "mask": mask, "target": tmp_path / "filled.tif"}
    places |= {"layer": tmp_path / "filled_source.tif", "record": tmp_path / "filled.geodiff.json"}
    with pytest.raises(TargetError, match=places[role].name):
        geodiff.fill(
            scene, tmp_path / "filled.tif", filler="nearest", mask=str(mask), stac=str(places[role]), overwrite=True
        )
    assert mask.read_bytes() == scene.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.tif", "scene.tif"]


def test_the_place_of_the_item_is_tried_before_any_work(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "notes.json").write_text("[1]")
    for place, said in (
        (f"{tmp_path}/file/a.json", "cannot be written to"),
        (f"{tmp_path}/", "is a folder"),
        (str(tmp_path), "is a folder"),
        (f"{tmp_path}/notes.json", "not the STAC Item"),
    ):
        with pytest.raises(TargetError, match=said):
            geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest", stac=place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "notes.json", "scene.tif"]
    options = {"filler": "nearest", "stac": f"{tmp_path}/notes.json", "overwrite": True}
    assert geodiff.fill(scene, tmp_path / "filled.tif", **options).status == "done"
    assert json.loads((tmp_path / "notes.json").read_text())["type"] == "Feature"
    assert geodiff.fill(scene, tmp_path / "filled.tif", **{**options, "overwrite": False}).status == "up to date"


# -- bands not asked for


def test_what_a_mask_hides_stays_hidden_in_bands_not_asked_for(tmp_path: Path) -> None:
    source = transparent(tmp_path / "scene.tif")
    geodiff.fill(source, tmp_path / "filled.tif", bands="1", filler="nearest")
    filled, codes = read(tmp_path / "filled.tif"), read(tmp_path / "filled_source.tif")
    assert (filled[(3, *HOLE)] == 0).all()
    assert (codes[(0, *HOLE)] != 255).all()
    assert (codes[(slice(1, 3), *HOLE)] == 255).all()
    assert np.isnan(read(tmp_path / "filled_standard_error.tif")[(slice(1, 3), *HOLE)]).all()
    geodiff.fill(tmp_path / "filled.tif", tmp_path / "whole.tif", filler="nearest")
    assert (read(tmp_path / "whole.tif")[3] == 255).all()


def test_a_mask_hides_bands_that_a_restoration_was_not_asked_for(tmp_path: Path) -> None:
    geodiff.restore(
        str(transparent(tmp_path / "scene.tif")), str(tmp_path / "clear.tif"), task="inpaint", bands="1", members=0
    )
    assert (read(tmp_path / "clear_source.tif")[(slice(1, 3), *HOLE)] == 255).all()
    assert (read(tmp_path / "clear.tif")[(3, *HOLE)] == 0).all()


def test_bands_not_asked_for_say_why_they_are_missing(tmp_path: Path) -> None:
    bands = np.stack([surface(), surface()])
    bands[(0, *HOLE)] = 0
    bands[(1, *HOLE)] = 250
    source = save(tmp_path / "scene.tif", bands, nodata=0)
    geodiff.fill(source, tmp_path / "filled.tif", bands="1", filler="nearest", valid_range=(1.0, 200.0))
    reason = read(tmp_path / "filled_reason.tif")
    assert (reason[(0, *HOLE)] == 1).all()  # nodata
    assert (reason[(1, *HOLE)] == 2).all()  # out of range


def test_quantiles_of_what_is_known_are_what_is_known(tmp_path: Path) -> None:
    bands = np.stack([surface(), surface() + 7])
    bands[(slice(None), *HOLE)] = 0
    source = save(tmp_path / "scene.tif", bands, nodata=0)
    geodiff.fill(source, tmp_path / "filled.tif", bands="2", filler="laplace", quantiles=(0.05, 0.95))
    low_1, low_2, high_1, high_2 = read(tmp_path / "filled_quantiles.tif")
    known = bands[0] != 0
    assert np.array_equal(low_1[known], bands[0][known])
    assert np.array_equal(high_2[known], bands[1][known])
    assert np.isnan(low_1[~known]).all()
    assert np.isnan(high_1[~known]).all()
    assert (low_2[~known] < high_2[~known]).all()


def test_alpha_stays_alpha_on_a_finer_grid(tmp_path: Path) -> None:
    source = transparent(tmp_path / "scene.tif", "uint16")
    geodiff.restore(str(source), str(tmp_path / "finer.tif"), task="superres,inpaint", members=0)
    with rasterio.open(tmp_path / "finer.tif") as dataset:
        assert dataset.shape == (120, 160)
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)


# -- options that would do nothing, or not what they say


def test_a_nodata_value_counts_for_the_bands_that_can_have_it(tmp_path: Path) -> None:
    import xarray as xr

    field = surface("float32")
    field[HOLE] = -9999
    names = ("y", "x")
    for suffix in (".nc", ".zarr"):
        path = tmp_path / f"mixed{suffix}"
        dataset = xr.Dataset({"f": (names, field), "u": (names, surface())})
        dataset.to_netcdf(path) if suffix == ".nc" else dataset.to_zarr(path, consolidated=False)
        done = geodiff.fill(path, tmp_path / f"out{suffix}", variable="f", nodata=-9999, filler="nearest")
        assert done.variables["f"]["filled"] == 15 * 20
        with pytest.raises(EncodingError, match=r"-9999.* cannot be stored as uint8"):
            geodiff.fill(path, tmp_path / f"no{suffix}", variable="u", nodata=-9999, filler="nearest")


def test_a_resolution_that_changes_nothing_is_refused(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="pixels of 30"):
        geodiff.fill(scene, tmp_path / "filled.tif", filler="nearest", resolution=60)


def test_a_plan_says_that_its_run_would_be_refused(
    scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = save(tmp_path / "foreign.tif", surface()[None])
    assert geodiff.fill(scene, target, filler="nearest", dry_run=True).status == "planned"
    assert "is not a product of geodiff" in caplog.text


def test_files_of_dates_that_are_gone_are_not_left_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for day in (1, 2, 3):
        values = surface() + day
        values[HOLE] = 0
        save(tmp_path / "in" / f"s_2024-06-0{day}.tif", values[None].astype("uint8"), nodata=0)
    options = {"filler": "nearest", "overwrite": True}
    geodiff.fill(tmp_path / "in", f"{tmp_path}/out/", **options)
    (tmp_path / "out" / "own.tif").write_bytes(b"the user's")
    (tmp_path / "in" / "s_2024-06-03.tif").unlink()
    geodiff.fill(tmp_path / "in", f"{tmp_path}/out/", **options)
    left = {p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".tif"}
    layers = ("", "_source", "_reason", "_standard_error")
    assert left == {"own.tif", *(f"s_2024-06-0{day}{layer}.tif" for day in (1, 2) for layer in layers)}


def test_blocks_that_failed_are_tried_again_from_another_working_folder(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff import pipeline
    from geodiff.blocks import BlockResult

    real, tried = pipeline.fill_block, []

    def first_fails(path: str, block: Any) -> BlockResult:
        tried.append(block.key)
        return BlockResult(block.key, error="ValueError: once") if len(tried) == 1 else real(path, block)

    values = np.tile(surface(), (6, 5))
    values[100:120, 100:120] = values[300:320, 100:120] = 0
    source = save(tmp_path / "large.tif", values[None], nodata=0)
    monkeypatch.setattr(pipeline, "fill_block", first_fails)
    options = {"filler": "nearest", "block_size": 256}
    assert geodiff.fill(source, tmp_path / "filled.tif", work=str(tmp_path / "scratch"), **options).exit_code == 3
    assert geodiff.fill(source, tmp_path / "filled.tif", **options).status == "done"
    assert not (read(tmp_path / "filled_source.tif") == 255).any()
    assert geodiff.fill(source, tmp_path / "filled.tif", **options).status == "up to date"


def test_a_folder_may_be_named_by_its_address(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record = geodiff.fill(scene, f"file://{tmp_path}/out/", filler="nearest")
    assert (tmp_path / "out" / "scene.tif").is_file()
    assert not (tmp_path / "file:").exists()
    assert (record.gates["unfilled"], geodiff.fill(scene, f"file://{tmp_path}/out/", filler="nearest").status) == (
        0.0, "up to date",
    )  # fmt: skip


def test_paths_of_python_are_taken_for_every_place_and_keep_their_commas(scene: Path, tmp_path: Path) -> None:
    mask = save(tmp_path / "clouds, thin.tif", np.ones((1, 60, 80), "uint8") * (surface()[None] > 110))
    record = geodiff.fill(
        scene, tmp_path / "filled.tif", filler="nearest", mask=mask, work=tmp_path / "scratch", stac=tmp_path / "i.json"
    )
    assert next(iter(record.variables.values()))["filled"] > 15 * 20
    assert (tmp_path / "i.json").is_file()
    restored = geodiff.restore(scene, tmp_path / "clear.tif", task="inpaint", mask=[mask], members=0)
    assert restored.status == "done"

"""Laws of identity: what is in the files decides whether a product is up to date, not how the way to them is spelt."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import geopandas
import numpy as np
import pytest
import rasterio
from affine import Affine
from shapely.geometry import box

import geodiff
from geodiff import beside, digests, identity
from geodiff.beside import written_before
from geodiff.digests import Digests
from geodiff.errors import GateError, InputError, NothingMissingError, SourceError, TargetError
from geodiff.identity import model_identity, source_identity
from geodiff.io import open_raster
from geodiff.io.addresses import address
from geodiff.io.places import filesystem_of, local_path
from geodiff.job import FillJob

PROFILE = {
    "driver": "GTiff", "height": 40, "width": 50, "count": 1, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32618",
    "transform": Affine(30, 0, 300_000, 0, -30, 4_500_000),
}  # fmt: skip
LATER = 2_000_000_000_000_000_000


def write(path: Path, seed: int = 0, *, holes: bool = True) -> Path:
    """A small scene; of every seed the same size in bytes."""
    values = np.random.default_rng(seed).integers(1000, 2000, (40, 50)).astype("uint16")
    if holes:
        values[10:14, 20:26] = 0
    with rasterio.open(path, "w", **PROFILE) as out:
        out.write(values, 1)
    return path


def cloud(path: Path, column: int = 5) -> Path:
    """A square of 5 x 5 pixels as a vector mask."""
    west, north = 300_000 + 30 * column, 4_500_000 - 30 * 20
    geopandas.GeoDataFrame(geometry=[box(west, north - 150, west + 150, north)], crs="EPSG:32618").to_file(path)
    return path


def fill(source: object, target: object, **options: object) -> geodiff.RunRecord:
    return geodiff.fill(source, target, **{"filler": "nearest", **options})


# -- spelling


def test_another_spelling_of_the_paths_is_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "scene.tif")
    cloud(tmp_path / "clouds.gpkg")
    assert fill("scene.tif", "filled.tif", mask="clouds.gpkg").status == "done"
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert fill(tmp_path / "scene.tif", "../filled.tif", mask=f"file://{tmp_path}/clouds.gpkg").status == "up to date"


def test_a_copied_product_of_a_copied_source_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "one/scene.tif")
    fill("one/scene.tif", "one/filled.tif")
    shutil.copytree(tmp_path / "one", tmp_path / "two", dirs_exist_ok=True)
    assert fill("two/scene.tif", "two/filled.tif").status == "up to date"
    (tmp_path / "two/filled_source.tif").unlink()  # its own layers count, not those it was copied from
    assert fill("two/scene.tif", "two/filled.tif").status == "done"


@pytest.mark.parametrize(
    ("target", "recorded", "there"),
    [
        ("out/a.tif", ("out/a_source.tif", "out/a.tif"), ["out/a_source.tif", "out/a.tif"]),
        ("/new/a.tif", ("a_source.tif", "a.tif"), ["/new/a_source.tif", "/new/a.tif"]),
        ("a.tif", ("/old/a_source.tif", "/old/a.tif"), ["a_source.tif", "a.tif"]),
        ("a.tif", ("/elsewhere/a.tif",), ["/elsewhere/a.tif"]),
        ("new/days/", ("old/days/1.tif",), ["new/days/1.tif"]),
        ("s3://b/a.tif", ("s3://b/a.tif",), ["s3://b/a.tif"]),
    ],
)
def test_recorded_paths_are_those_beside_the_record(
    monkeypatch: pytest.MonkeyPatch, target: str, recorded: tuple[str, ...], there: list[str]
) -> None:
    before = {"/new/a.tif": "a.tif", "a.tif": "/old/a.tif", "new/days/": "old/days/"}.get(target, target)
    record = json.dumps({"target": before, "products": recorded}).encode()
    monkeypatch.setattr(beside, "read", lambda path: record)
    assert written_before(target) == there


# -- masks


@pytest.mark.parametrize("option", ["mask", "fillable"])
def test_an_edited_mask_is_another_job(tmp_path: Path, option: str) -> None:
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    fill(source, target, **{option: str(cloud(tmp_path / "area.gpkg", 20))})
    cloud(tmp_path / "area.gpkg", 33)
    with pytest.raises(TargetError, match="another version of the source"):
        fill(source, target, **{option: f"{tmp_path}/area.gpkg"})


def test_an_edited_shapefile_is_another_job_and_its_table_is_not(tmp_path: Path) -> None:
    source, target, mask = write(tmp_path / "scene.tif"), tmp_path / "filled.tif", tmp_path / "area.shp"
    fill(source, target, mask=str(cloud(mask)))
    mask.with_suffix(".dbf").write_bytes(mask.with_suffix(".dbf").read_bytes() + b" ")
    assert fill(source, target, mask=str(mask)).status == "up to date"
    mask.with_suffix(".prj").write_text(mask.with_suffix(".prj").read_text().replace('"WGS_1984', '"WGS_84'))
    with pytest.raises(TargetError, match="another version of the source"):
        fill(source, target, mask=str(mask))


def test_an_edited_quality_file_is_another_job(tmp_path: Path) -> None:
    source, target, flags = write(tmp_path / "scene.tif"), tmp_path / "filled.tif", tmp_path / "flags.tif"
    for kind in (4, 9):  # vegetation, then a cloud
        with rasterio.open(source) as scene:
            profile = {**scene.profile, "dtype": "uint8", "nodata": None}
        with rasterio.open(flags, "w", **profile) as out:
            out.write(np.pad(np.full((4, 4), kind, "u1"), ((0, 36), (0, 46)), constant_values=4), 1)
        if kind == 4:
            fill(source, target, qa=f"sentinel2-scl:{flags}")
    with pytest.raises(TargetError, match="another version of the source"):
        fill(source, target, qa=f"sentinel2-scl:{flags}")


def test_the_named_band_of_flags_counts(tmp_path: Path) -> None:
    source = open_raster(str(write(tmp_path / "scene.tif")))
    names = ("1", source.variables[0].name)
    jobs = [geodiff.FillJob.build(source="s", target="t.tif", qa=(f"pds:{name}",)) for name in names]
    assert len({identity.inputs_identity(job, source) for job in jobs}) == 2


def test_the_named_layer_or_array_of_a_mask_counts(tmp_path: Path) -> None:
    import xarray as xr

    source, areas = open_raster(str(write(tmp_path / "scene.tif"))), tmp_path / "area.gpkg"
    for layer in ("high", "low"):
        geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:32618").to_file(areas, layer=layer)
    xr.Dataset({name: (("y", "x"), np.ones((4, 6), "u1")) for name in ("cloud", "ice")}).to_netcdf(tmp_path / "m.nc")
    for option in ("mask", "fillable"):
        for names in (
            (f"{areas}|layername=high", f"{areas}|layername=low"),
            (f"NETCDF:{tmp_path}/m.nc:cloud", f'NETCDF:"{tmp_path}/m.nc":ice'),
        ):
            jobs = [geodiff.FillJob.build(source="s", target="t.tif", **{option: name}) for name in names]
            assert len({identity.inputs_identity(job, source) for job in jobs}) == 2


def test_a_mask_that_changes_while_the_blocks_are_filled_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geodiff import pipeline

    source, mask, real = write(tmp_path / "scene.tif"), cloud(tmp_path / "area.gpkg"), pipeline.fill_block

    def edited_meanwhile(*args: object) -> object:
        cloud(mask, 30)
        return real(*args)

    monkeypatch.setattr(pipeline, "fill_block", edited_meanwhile)
    with pytest.raises(SourceError, match="changed while it was being filled"):
        fill(source, tmp_path / "filled.tif", mask=str(mask))


# -- folders of very many files, archives, parts of files


def test_a_part_of_a_file_is_a_source_of_its_own(tmp_path: Path) -> None:
    import zipfile

    import xarray as xr

    names = ("one", "two")
    xr.Dataset({name: (("y", "x"), np.ones((4, 6))) for name in names}).to_netcdf(tmp_path / "m.nc")
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for seed, name in enumerate(names):
            archive.write(write(tmp_path / f"{name}.tif", seed), f"{name}.tif")
    for seed in (0, 1):
        with rasterio.open(tmp_path / "pages.tif", "w", **PROFILE, append_subdataset=seed == 1) as page:
            page.write(np.full((40, 50), seed + 1, "u2"), 1)
    (tmp_path / "moved").mkdir()
    for file in ("m.nc", "m.zip", "pages.tif"):
        shutil.copy(tmp_path / file, tmp_path / "moved")
    for first, second in (
        ("NETCDF:{}/m.nc:one", 'NETCDF:"{}/m.nc":two'),
        ("/vsizip/{}/m.zip/one.tif", "zip://two.tif::{}/m.zip"),
        ("GTIFF_DIR:1:{}/pages.tif", "GTIFF_DIR:2:{}/pages.tif"),
    ):
        one = open_raster(first.format(tmp_path))
        assert source_identity(one) != source_identity(open_raster(second.format(tmp_path)))
        assert source_identity(one) == source_identity(open_raster(first.format(tmp_path / "moved")))


def test_a_rewritten_chunk_of_a_store_of_very_many_files_is_another_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xarray as xr

    xr.Dataset({"sst": (("y", "x"), np.ones((4, 6)))}).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    raster = open_raster(f"{tmp_path}/a.zarr")
    read = source_identity(raster)
    monkeypatch.setattr(identity, "_MOST_FILES", 1)
    told = source_identity(raster)
    assert told != read
    assert source_identity(raster) == told
    os.utime(tmp_path / "a.zarr/sst/c/0/0", ns=(LATER, LATER))
    assert source_identity(raster) != told


def test_a_renamed_chunk_is_another_source(tmp_path: Path) -> None:
    import xarray as xr

    cube = xr.Dataset({"sst": (("y", "x"), np.ones((4, 6)))})
    cube.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False, encoding={"sst": {"chunks": (2, 6)}})
    raster = open_raster(f"{tmp_path}/a.zarr")
    (tmp_path / "a.zarr/sst/c/1/0").unlink()
    first = source_identity(raster)
    (tmp_path / "a.zarr/sst/c/1").mkdir(exist_ok=True)
    (tmp_path / "a.zarr/sst/c/0/0").rename(tmp_path / "a.zarr/sst/c/1/0")
    assert source_identity(raster) != first


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("/vsis3/b/k/a.tif", "s3://b/k/a.tif"),
        ("/vsigs/b/a.tif", "gs://b/a.tif"),
        ("/vsicurl/https://h/a.tif?v=1", "https://h/a.tif?v=1"),
        ("/vsizip//data/a.zip/b.tif", "/data/a.zip"),
        ("/vsizip/{/vsis3/b/a.zip}/b.tif", "s3://b/a.zip"),
        ("/vsigzip/a.tar.gz", "a.tar.gz"),
        ("NETCDF:a.nc:sst", "NETCDF:a.nc:sst"),
    ],
)
def test_files_of_gdal_have_an_address(name: str, found: str) -> None:
    assert address(name) == found


# -- web servers


def test_a_changed_raster_on_a_web_server_is_filled_anew(tmp_path: Path, served: str) -> None:
    write(tmp_path / "scene.tif", 1)
    target = tmp_path / "out/filled.tif"
    assert fill(f"{served}/scene.tif", target).status == "done"
    assert fill(f"{served}/scene.tif", target).status == "up to date"
    write(tmp_path / "scene.tif", 2)
    os.utime(tmp_path / "scene.tif", ns=(LATER, LATER))
    with pytest.raises(TargetError, match="another version of the source"):
        fill(f"{served}/scene.tif", target)
    assert fill(f"{served}/scene.tif", target, overwrite=True).status == "done"
    with rasterio.open(tmp_path / "scene.tif") as new, rasterio.open(target) as filled:
        known = new.read(1) != 0
        assert np.array_equal(filled.read(1)[known], new.read(1)[known])


def test_a_zarr_store_on_a_web_server_goes_by_its_metadata_and_says_so(
    tmp_path: Path, served: str, caplog: pytest.LogCaptureFixture
) -> None:
    import xarray as xr

    values = np.random.default_rng(0).normal(285, 1, (40, 50))
    values[10:14, 20:26] = np.nan
    cube = xr.Dataset({"sst": (("y", "x"), values)}, {"y": -np.arange(40.0), "x": np.arange(50.0)})
    cube.to_zarr(tmp_path / "cube.zarr", zarr_format=2, consolidated=True)
    assert fill(f"{served}/cube.zarr", tmp_path / "out/filled.zarr").status == "done"
    assert sum("cannot be listed" in record.message for record in caplog.records) == 1
    assert fill(f"{served}/cube.zarr", tmp_path / "out/filled.zarr").status == "up to date"
    cube.assign_attrs(title="another").to_zarr(tmp_path / "cube.zarr", mode="w", zarr_format=2, consolidated=True)
    with pytest.raises(TargetError, match="another version of the source"):
        fill(f"{served}/cube.zarr", tmp_path / "out/filled.zarr")


def test_a_raster_that_only_gdal_can_reach_is_filled_with_a_warning(
    tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(url: str) -> None:
        raise ImportError("aiohttp")

    write(tmp_path / "scene.tif")
    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    assert fill(f"{served}/scene.tif", tmp_path / "out/filled.tif").status == "done"
    (said,) = [record.message for record in caplog.records if "tells nothing" in record.message]
    assert "geodiff[s3]" in said


def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    with pytest.raises(InputError, match="Protocol not known: nowhere"):
        filesystem_of("nowhere://a")
    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"Install s3fs.*pip install 'geodiff\[s3\]'"):
        filesystem_of("s3://b/a")
    with pytest.raises(InputError, match=r"pip install 'geodiff\[s3\]'"):
        open_raster("s3://b/a.zarr")


# -- what is asked of a product that already exists


def test_a_stricter_gate_is_judged_on_a_product_that_is_there(tmp_path: Path) -> None:
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    fill(source, target, gate="unfilled<=0.5")
    before = target.read_bytes()
    assert fill(source, target, gate="unfilled<=0.1").status == "up to date"
    with pytest.raises(GateError, match=r"unfilled is 0; .*filled\.tif, which was made before, is kept as it is"):
        fill(source, target, gate="unfilled>=0.1")
    assert target.read_bytes() == before


def test_a_product_of_nothing_to_fill_is_told_again(tmp_path: Path) -> None:
    source, target = write(tmp_path / "scene.tif", holes=False), tmp_path / "filled.tif"
    assert fill(source, target).status == "nothing to fill"
    assert fill(source, target).status == "up to date"
    with pytest.raises(NothingMissingError):
        fill(source, target, fail_if_empty=True)


def test_what_was_filled_is_not_called_empty(tmp_path: Path) -> None:
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    fill(source, target)
    assert fill(source, target, fail_if_empty=True).status == "up to date"


def test_half_a_record_is_none(tmp_path: Path) -> None:
    (tmp_path / "filled.geodiff.json").write_text('{"products": ["a')
    assert written_before(f"{tmp_path}/filled.tif") == []


# -- what is read is not written over


@pytest.mark.parametrize("target", ["scenes/", "scenes"])
def test_a_folder_that_holds_the_source_is_no_target(tmp_path: Path, target: str) -> None:
    (tmp_path / "scenes").mkdir()
    source = write(tmp_path / "scenes/a.tif")
    before = source.read_bytes()
    with pytest.raises(TargetError, match=r"read by this job .*would be destroyed"):
        fill(source, f"{tmp_path}/{target}", overwrite=True)
    assert source.read_bytes() == before


def test_a_file_that_a_pattern_stands_for_is_no_target(tmp_path: Path) -> None:
    source, target = write(tmp_path / "scene.tif"), tmp_path / "flags_2020-01-01.tif"
    with rasterio.open(target, "w", **{**PROFILE, "dtype": "uint8", "nodata": None}) as out:
        out.write(np.full((1, 40, 50), 4, "u1"))
    before = target.read_bytes()
    with pytest.raises(TargetError, match=r"flags_2020-01-01\.tif\), and would be destroyed"):
        fill(source, target, overwrite=True, qa=f"sentinel2-scl:{tmp_path}/fl*.tif")
    assert target.read_bytes() == before


# -- what nobody touched is not read again


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this very moment count as old: nothing here changes twice within a clock's tick."""
    monkeypatch.setattr(digests, "_SETTLED", 0)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> bytes:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(identity, "_local", read)


def test_an_unchanged_source_and_its_masks_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    source, target, mask = write(tmp_path / "scene.tif"), tmp_path / "filled.tif", str(cloud(tmp_path / "clouds.gpkg"))
    fill(source, target, mask=mask)
    forbid_reading(monkeypatch)
    assert fill(source, target, mask=mask).status == "up to date"
    assert fill(source, target, mask=mask, dry_run=True).status == "planned"
    (tmp_path / "filled.geodiff-digests.json").unlink()
    with pytest.raises(AssertionError, match="read again"):
        fill(source, target, mask=mask)


def test_a_run_that_has_nothing_to_do_adds_no_file_and_renews_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    kept = tmp_path / "filled.geodiff-digests.json"
    fill(source, target)
    assert not kept.exists()  # the source was written a moment ago: it may change unseen
    settle(monkeypatch)
    assert fill(source, target).status == "up to date"
    assert not kept.exists()
    fill(source, target, overwrite=True)
    os.utime(source)
    assert fill(source, target).status == "up to date"
    forbid_reading(monkeypatch)
    assert fill(source, target).status == "up to date"


def test_a_source_rewritten_with_its_size_and_time_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    fill(source, target)
    before = source.stat()
    changed = bytearray(source.read_bytes())
    changed[-1] ^= 1
    with source.open("r+b") as file:  # the same inode
        file.write(changed)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = source.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    with pytest.raises(TargetError, match="another version of the source"):
        fill(source, target)


def test_a_rewritten_chunk_of_a_store_that_was_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import xarray as xr

    settle(monkeypatch)
    xr.Dataset({"sst": (("y", "x"), np.ones((4, 6)))}).to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    raster, read = open_raster(f"{tmp_path}/a.zarr"), Digests()
    first = source_identity(raster, read)
    assert source_identity(raster, Digests.from_json(read.to_json())) == first == source_identity(raster)
    chunk = tmp_path / "a.zarr/sst/c/0/0"
    before, content = chunk.stat(), bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    os.utime(chunk, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source_identity(raster, Digests.from_json(read.to_json())) != first


def test_a_copied_or_moved_source_is_read_again_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    source, target, read = write(tmp_path / "scene.tif"), tmp_path / "filled.tif", []
    fill(source, target)
    shutil.copy2(source, tmp_path / "copy.tif")
    (tmp_path / "copy.tif").replace(source)
    real = identity._local
    monkeypatch.setattr(identity, "_local", lambda path: read.append(path.name) or real(path))
    assert fill(source, target).status == "up to date"
    assert read == ["scene.tif"]


def test_what_an_item_says_counts_beside_the_stamps_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    raster = open_raster(str(write(tmp_path / "scene.tif")))
    first, second = (replace(raster, files=(*raster.files, f"item:a:{n}")) for n in (1, 2))
    read = Digests()
    assert source_identity(first, read) == source_identity(first)
    assert len(read.seen) == 1
    assert source_identity(second, read) == source_identity(second) != source_identity(first)


@pytest.mark.parametrize("content", [b'{"a', b"[1]", b'{"a": 1}', b'{"a": "b"}', b"\xff\xfe", b"[" * 100_000])
def test_kept_digests_that_are_something_else_are_none(content: bytes) -> None:
    assert Digests.from_json(content) == Digests()


def test_kept_digests_do_not_grow_without_end() -> None:
    hashes = {str(n): "0" * 64 for n in range(40)}
    kept = json.loads(Digests(hashes, {"new": "1" * 64}).to_json() or b"{}")
    assert len(kept) == 32
    assert kept["new"] == "1" * 64
    assert Digests(kept, {"new": "1" * 64}).to_json() is None


def test_digests_that_cannot_be_kept_are_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    source, target = write(tmp_path / "scene.tif"), tmp_path / "filled.tif"
    (tmp_path / "filled.geodiff-digests.json").mkdir()
    assert fill(source, target).status == "done"
    assert fill(source, target).status == "up to date"


def test_a_file_may_be_called_as_a_chain_of_addresses_is(tmp_path: Path) -> None:
    named = tmp_path / "a::b.tif"
    assert local_path(str(named)) is None
    named.touch()
    assert local_path(str(named)) == named
    assert local_path("simplecache::s3://bucket/a.tif") is None


def test_another_version_of_a_third_partys_filler_is_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(version: str, *others: str) -> str:
        package = SimpleNamespace(dist=SimpleNamespace(name="acme", version=version))
        monkeypatch.setattr("geodiff.fillers._registered", lambda: dict.fromkeys(("own", *others), package))
        return model_identity(FillJob.build(source="a.tif", target="b.tif", filler="own"))

    assert told("1.0") == told("1.0") != told("1.1")
    assert told("1.0", "another") != told("1.0"), "its code in the source layer is another"
    assert model_identity(FillJob.build(source="a.tif", target="b.tif", filler="laplace")) == geodiff.__version__

"""Laws of object stores, against a local S3 server: what is read and written there is what a disk would hold."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

import geodiff
from geodiff import pipeline
from geodiff.beside import alone, work_path
from geodiff.blocks import BlockResult
from geodiff.errors import LockedError, SourceError, TargetError
from geodiff.io import open_raster
from geodiff.io.cube import close_handles
from geodiff.io.places import exists, listing, put
from geodiff.lattice import Window
from geodiff.plan import Block
from geodiff.report.product import open_product
from tests.rasters import write

BUCKET = "rasters"
pytestmark = [
    # botocore compares with a naive time on every request; aiohttp's connector is closed by s3fs at exit only
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server on loopback, and the environment that every S3 client reads: no secret stands in a job."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", url)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield url
        running.stop()
        with warnings.catch_warnings():  # s3fs leaves its sessions to the collector
            warnings.simplefilter("ignore")
            s3fs.S3FileSystem.clear_instance_cache()
            gc.collect()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:120, :300]
    values = 2000 + 300 * np.sin(y / 17) + 200 * np.cos(x / 23) + rng.normal(0, 15, y.shape)
    for row, column in rng.integers(0, 120, (9, 2)) * (1, 2.5):
        values[(y - row) ** 2 + (x - column) ** 2 < 90] = 0
    return write(tmp_path / "scene.tif", values.astype("uint16"))


def _store() -> object:
    import s3fs

    found = s3fs.S3FileSystem()
    found.invalidate_cache()
    return found


def _names(prefix: str) -> list[str]:
    return sorted(name.removeprefix(f"{BUCKET}/{prefix}/") for name in _store().find(f"{BUCKET}/{prefix}"))  # type: ignore[attr-defined]


def test_a_cog_on_s3_is_the_one_on_disk(server: str, scene: Path, tmp_path: Path) -> None:
    _store().put_file(str(scene), f"{BUCKET}/cog/scene.tif")  # type: ignore[attr-defined]
    (tmp_path / "here").mkdir()
    geodiff.fill(scene, tmp_path / "here/filled.tif", filler="laplace")
    work = str(tmp_path / "work")
    page = f"s3://{BUCKET}/cog/"
    record = geodiff.fill(
        f"s3://{BUCKET}/cog/scene.tif", f"s3://{BUCKET}/cog/filled.tif", filler="laplace", work=work, report=page
    )
    assert (record.exit_code, record.products[-1]) == (0, f"s3://{BUCKET}/cog/filled.report.html")
    names = _names("cog")
    assert "filled.report.html" in names
    layers = [n for n in names if n.startswith("filled") and n.endswith(".tif")]
    assert layers == ["filled.tif", "filled_reason.tif", "filled_source.tif", "filled_standard_error.tif"]
    for name in layers:
        (tmp_path / name).write_bytes(_store().cat_file(f"{BUCKET}/cog/{name}"))  # type: ignore[attr-defined]
        with rasterio.open(tmp_path / name) as there, rasterio.open(tmp_path / "here" / name) as here:
            assert np.array_equal(there.read(), here.read(), equal_nan=True)
    again = geodiff.fill(f"s3://{BUCKET}/cog/scene.tif", f"s3://{BUCKET}/cog/filled.tif", filler="laplace", work=work)
    assert again.status == "up to date"
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.fill(f"s3://{BUCKET}/cog/scene.tif", f"s3://{BUCKET}/cog/filled.tif", filler="nearest", work=work)


def test_a_folder_on_s3_is_the_one_on_disk(server: str, scene: Path, tmp_path: Path) -> None:
    target = f"s3://{BUCKET}/folder/filled/"
    geodiff.fill(scene, f"{tmp_path}/filled/", filler="nearest")
    record = geodiff.fill(scene, target, filler="nearest")
    assert record.products[-1] == f"{target}geodiff-product.json"
    names = _names("folder/filled")
    assert names == sorted(path.name for path in (tmp_path / "filled").iterdir())
    (tmp_path / "copy").mkdir()
    for name in names:
        if name.endswith(".tif"):
            copy = tmp_path / "copy" / name
            copy.write_bytes(_store().cat_file(f"{BUCKET}/folder/filled/{name}"))  # type: ignore[attr-defined]
            with rasterio.open(copy) as there, rasterio.open(tmp_path / "filled" / name) as here:
                assert np.array_equal(there.read(), here.read(), equal_nan=True)
    assert geodiff.fill(scene, target, filler="nearest").status == "up to date"
    assert len(open_product(target).pictures) == 1
    _store().rm(f"{BUCKET}/folder/filled/{names[-1]}")  # type: ignore[attr-defined]
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.fill(scene, target, filler="nearest")


def test_zarr_and_its_working_store_on_s3_go_on_after_an_end(
    server: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import xarray as xr

    geodiff.fill(scene, tmp_path / "filled.zarr", filler="laplace")
    real, done = pipeline.fill_block, []

    def stopping(work_path: str, block: Block) -> BlockResult:
        if done:
            raise KeyboardInterrupt
        done.append(block)
        return real(work_path, block)

    target = f"s3://{BUCKET}/zarr/filled.zarr"
    monkeypatch.setattr(pipeline, "fill_block", stopping)
    with pytest.raises(KeyboardInterrupt):
        geodiff.fill(scene, target, filler="laplace", block_size=256)
    monkeypatch.undo()
    assert not [n for n in _names("zarr") if n.startswith("filled.zarr/")]
    record = geodiff.fill(scene, target, filler="laplace", block_size=256)
    assert record.blocks_resumed == 1
    assert not [n for n in _names("zarr") if "geodiff-work" in n]
    here = xr.open_zarr(tmp_path / "filled.zarr")
    there = xr.open_zarr(target)
    for name in here.data_vars:
        assert np.array_equal(here[name].values, there[name].values, equal_nan=here[name].dtype.kind == "f")
    assert geodiff.fill(scene, target, filler="laplace").status == "up to date"


def test_a_run_that_ends_while_its_working_store_is_removed_goes_on(
    server: str, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects go in any order: what says whose they are goes last."""
    from geodiff.io.places import exists, filesystem_of, remove_tree

    target = f"s3://{BUCKET}/ended/filled.zarr"
    work = f"{BUCKET}/ended/filled.geodiff-work.zarr"

    def ended(path: str | list[str], **options: object) -> None:
        names = [path] if isinstance(path, str) else path  # what is found last is zarr.json
        found = sorted(name for one in names for name in filesystem.find(one))
        if not any(f"{work}/band_data" in name for name in found):
            return real(path, **options)
        real(found[-1])
        raise KeyboardInterrupt

    filesystem, _ = filesystem_of(target)
    real = filesystem.rm
    monkeypatch.setattr(filesystem, "rm", ended)
    with pytest.raises(KeyboardInterrupt):
        geodiff.fill(scene, target, filler="nearest")
    monkeypatch.setattr(filesystem, "rm", real)
    assert exists(f"s3://{work}")
    assert geodiff.fill(scene, target, filler="nearest").exit_code == 0
    assert not exists(f"s3://{work}")
    monkeypatch.setattr(filesystem, "rm", lambda *arguments, **options: None)  # as where deleting is forbidden
    with pytest.raises(PermissionError, match="objects are left"):
        remove_tree(target)


def test_a_zarr_source_on_s3(server: str, scene: Path, tmp_path: Path) -> None:
    import xarray as xr

    values = np.sin(np.arange(40 * 50).reshape(40, 50) / 90)
    values[10:15, 20:26] = np.nan
    cube = xr.Dataset({"sst": (("y", "x"), values)}, {"y": -np.arange(40.0), "x": np.arange(50.0)})
    cube.to_zarr(f"s3://{BUCKET}/cube.zarr", consolidated=True, zarr_format=2)
    geodiff.fill(f"s3://{BUCKET}/cube.zarr", tmp_path / "filled.zarr", filler="laplace")
    filled = xr.open_zarr(tmp_path / "filled.zarr")
    assert np.isfinite(filled.sst.values).all()


def test_a_netcdf_target_on_s3_is_the_one_on_disk(server: str, scene: Path, tmp_path: Path) -> None:
    import xarray as xr

    target = f"s3://{BUCKET}/nc/filled.nc"
    geodiff.fill(scene, tmp_path / "filled.nc", filler="laplace")
    work = str(tmp_path / "work")
    assert geodiff.fill(scene, target, filler="laplace", work=work).exit_code == 0
    (tmp_path / "there.nc").write_bytes(_store().cat_file(f"{BUCKET}/nc/filled.nc"))  # type: ignore[attr-defined]
    with xr.open_dataset(tmp_path / "filled.nc") as here, xr.open_dataset(tmp_path / "there.nc") as there:
        assert set(here.variables) == set(there.variables)
        for name in here.data_vars:
            assert np.array_equal(here[name].values, there[name].values, equal_nan=here[name].dtype.kind == "f")
    assert geodiff.fill(scene, target, filler="laplace", work=work).status == "up to date"
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.fill(scene, target, filler="nearest", work=work)


def test_a_folder_and_a_pattern_on_s3_are_the_stack_on_disk(server: str, scene: Path) -> None:
    with rasterio.open(scene) as file:
        values = file.read(1)
    for day in (3, 1, 2):
        _store().put_file(str(scene), f"{BUCKET}/days/scene_2024-06-0{day}.tif")  # type: ignore[attr-defined]
    _store().pipe_file(f"{BUCKET}/days/notes.txt", b"no raster")  # type: ignore[attr-defined]
    for source in (f"s3://{BUCKET}/days/", f"s3://{BUCKET}/days/*.tif"):
        (variable,) = open_raster(source).variables
        assert [str(date)[:10] for date in variable.dates] == ["2024-06-01", "2024-06-02", "2024-06-03"]
        np.testing.assert_array_equal(variable.reader.read(2, Window(0, 0, 120, 300))[0], values)
    with pytest.raises(SourceError, match="holds no raster"):
        open_raster(f"s3://{BUCKET}/days/*.img")
    with pytest.raises(SourceError, match="holds no raster"):
        open_raster(f"s3://{BUCKET}/nothing-yet/")
    assert listing(f"s3://{BUCKET}/nothing-yet/") == []  # as an empty folder: no scenes, and no error
    for source in (f"s3://{BUCKET}-of-nobody/days/", f"s3://{BUCKET}-of-nobody/"):
        with pytest.raises(SourceError, match="cannot be listed"):
            listing(source)


def test_netcdf_files_on_s3_are_a_stack(server: str) -> None:
    import xarray as xr

    for day in (1, 2):
        time = np.array([f"2024-06-0{day}"], "M8[ns]")
        axes = {"time": time, "lat": [1.0, 0.0], "lon": [5.0, 6.0]}
        field = xr.Dataset({"sst": (("time", "lat", "lon"), np.full((1, 2, 2), day, "f4"))}, axes)
        _store().pipe_file(f"{BUCKET}/fields/{day}.nc", bytes(field.to_netcdf(engine="h5netcdf")))  # type: ignore[attr-defined]
    (variable,) = open_raster(f"s3://{BUCKET}/fields/*.nc").variables
    assert [str(date)[:10] for date in variable.dates] == ["2024-06-01", "2024-06-02"]
    assert [float(variable.reader.read(d, Window(0, 0, 1, 1))[0, 0, 0]) for d in (0, 1)] == [1, 2]
    close_handles()


def test_a_scene_folder_on_s3_is_a_scene_and_no_stack(server: str, scene: Path) -> None:
    def put(day: int) -> None:
        for band in ("SR_B4", "SR_B5"):
            name = f"LC08_L2SP_015033_202406{day}_20240701_02_T1_{band}.TIF"
            _store().put_file(str(scene), f"{BUCKET}/landsat/{name}")  # type: ignore[attr-defined]

    put(11)
    raster = open_raster(f"s3://{BUCKET}/landsat/")
    (bands,) = raster.variables
    assert ([band.name for band in bands.bands], str(bands.dates[0])[:10]) == (["SR_B4", "SR_B5"], "2024-06-11")
    with rasterio.open(scene) as file:
        np.testing.assert_array_equal(bands.reader.read(0, Window(0, 0, 9, 9))[1], file.read(1)[:9, :9])
    with pytest.raises(SourceError, match="end it in /"):
        open_raster(f"s3://{BUCKET}/landsat")
    put(27)
    with pytest.raises(SourceError, match="file by file"):
        open_raster(f"s3://{BUCKET}/landsat/")
    close_handles()


def test_what_is_not_there_is_one_line_without_the_secret(server: str, tmp_path: Path) -> None:
    for source in (f"s3://{BUCKET}/none.tif", f"s3://{BUCKET}/none.zarr"):
        with pytest.raises(SourceError) as said:
            geodiff.fill(source, tmp_path / "filled.zarr", filler="laplace")
        assert "none" in str(said.value)
        assert "testing-secret" not in str(said.value)


def test_a_reprocessed_cog_of_the_same_size_is_filled_anew(server: str, scene: Path, tmp_path: Path) -> None:
    source, target = f"s3://{BUCKET}/again/scene.tif", tmp_path / "filled.tif"
    _store().put_file(str(scene), source)  # type: ignore[attr-defined]
    geodiff.fill(source, target, filler="nearest")
    assert geodiff.fill(source, target, filler="nearest").status == "up to date"
    with rasterio.open(scene, "r+") as dataset:
        values = dataset.read(1)
        values[values > 0] += 100
        dataset.write(values, 1)
    _store().put_file(str(scene), source)  # type: ignore[attr-defined]
    with pytest.raises(TargetError, match="another state of the source"):
        geodiff.fill(source, target, filler="nearest")
    geodiff.fill(source, target, filler="nearest", overwrite=True)
    with rasterio.open(target) as filled:
        assert np.array_equal(filled.read(1)[values > 0], values[values > 0])


def test_a_cog_that_changes_while_it_is_filled_is_noticed(
    server: str, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, real = f"s3://{BUCKET}/meanwhile/scene.tif", pipeline.fill_block
    _store().put_file(str(scene), source)  # type: ignore[attr-defined]

    def replaced_meanwhile(work_path: str, block: Block) -> BlockResult:
        _store().pipe_file(source, scene.read_bytes() + b" ")  # type: ignore[attr-defined]
        return real(work_path, block)

    monkeypatch.setattr(pipeline, "fill_block", replaced_meanwhile)
    with pytest.raises(SourceError, match="changed while it was being filled"):
        geodiff.fill(source, tmp_path / "filled.tif", filler="nearest")


def test_a_zarr_cube_on_s3_that_grows_or_changes_is_appended(server: str, tmp_path: Path) -> None:
    import xarray as xr

    source, target = f"s3://{BUCKET}/growing.zarr", tmp_path / "filled.zarr"
    values = np.random.default_rng(0).normal(285, 1, (3, 40, 50))
    for day in range(3):
        values[day, 10 * day : 10 * day + 5, 20:26] = np.nan
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"], "M8[ns]")
    cube = xr.Dataset(
        {"sst": (("time", "y", "x"), values)}, {"time": days, "y": -np.arange(40.0), "x": np.arange(50.0)}
    ).chunk(time=1)
    cube.isel(time=slice(2)).to_zarr(source, zarr_format=2)
    options = {"filler": "nearest", "append": True}
    assert geodiff.fill(source, target, **options).status == "done"
    assert geodiff.fill(source, target, **options).status == "nothing to append"
    cube.isel(time=slice(2, 3)).to_zarr(source, append_dim="time")
    assert geodiff.fill(source, target, **options).status == "done"
    assert len(xr.open_zarr(target).time) == 3
    later = cube.isel(time=slice(2, 3)).drop_vars(("y", "x")) + 1  # a date that comes again: one chunk of the same size
    later.to_zarr(source, region={"time": slice(2, 3)})
    assert geodiff.fill(source, target, **options).status == "done"
    filled = xr.open_zarr(target).sst.values[2]
    assert np.array_equal(filled[np.isfinite(values[2])], values[2][np.isfinite(values[2])] + 1)
    assert geodiff.fill(source, target, **options).status == "nothing to append"


def test_two_runs_on_one_target_are_kept_apart(server: str, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"s3://{BUCKET}/apart/filled.tif"
    with alone(target), pytest.raises(LockedError, match=r"s3://rasters/apart/filled\.tif is being written by process"):
        geodiff.fill(scene, target, filler="laplace")
    begun = pipeline.run_blocks

    def slept(*arguments: object) -> object:
        put(f"{work_path(target)}.lock", b"{}")  # this machine slept, and another run came
        return begun(*arguments)

    monkeypatch.setattr(pipeline, "run_blocks", slept)
    with pytest.raises(LockedError, match="was taken over by another run"):
        geodiff.fill(scene, target, filler="laplace")
    assert not exists(target)
    assert not exists(f"s3://{BUCKET}/apart/filled_source.tif")

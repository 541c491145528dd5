"""The door for targets: one kind a name, fingerprints, refusals with the cure, frames as PNG."""

import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

from geodiff.errors import TargetError, WriteError
from geodiff.io import Product, ProductVariable, Raster, open_raster, read_fingerprint, write_product
from geodiff.io.places import appearing, put
from geodiff.io.writing import check_target
from geodiff.lattice import Window


def source(path: Path, values: np.ndarray, *, placed: bool = True, **profile: Any) -> Raster:
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 0, 0, -10, 0)} if placed else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        given = {
            "driver": "PNG" if path.suffix == ".png" else "GTiff",
            "count": len(values),
            "dtype": values.dtype,
            **place,
            **profile,
        }
        with rasterio.open(path, "w", height=values.shape[1], width=values.shape[2], **given) as file:
            file.write(values)
    return open_raster(str(path))


def product_of(raster: Raster, fingerprint: str = "a1") -> Product:
    filled = []
    for variable in raster.variables:
        value = variable.reader.read(0, Window(0, 0, *variable.shape[2:]))[None]
        zeros = np.zeros(variable.shape)
        filled.append(ProductVariable(variable, value, zeros.astype("u1"), zeros.astype("u2"), zeros.astype("f4")))
    return Product(raster, tuple(filled), {"geodiff_fingerprint": fingerprint}, {"observed": 0}, {"nodata": 1})


@pytest.mark.parametrize("target", ["out.tif", "out.png", "out/", "out.zarr", "out.nc"])
def test_a_target_carries_its_fingerprint(tmp_path: Path, rng: np.random.Generator, target: str) -> None:
    raster = source(tmp_path / "frame.png", rng.integers(0, 255, (3, 30, 40)).astype("u1"), placed=False)
    place = f"{tmp_path}/{target}"
    assert read_fingerprint(place) is None
    written = write_product(product_of(raster), place)
    assert all(Path(path).exists() for path in written)
    assert read_fingerprint(place) == "a1"
    write_product(product_of(raster, "b2"), place)
    assert read_fingerprint(place) == "b2"
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name or "staging" in path.name]


@pytest.mark.parametrize("name", ["out.tif", "out.png", "out.zarr", "out.nc"])
def test_a_target_that_is_a_link_is_written_through(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    raster = source(tmp_path / "frame.png", rng.integers(0, 255, (3, 30, 40)).astype("u1"), placed=False)
    (tmp_path / "disk").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "disk" / name)  # first to nothing, then to the product
    for fingerprint in ("a1", "b2"):
        write_product(product_of(raster, fingerprint), f"{tmp_path}/{name}")
        assert (tmp_path / name).is_symlink()
        assert read_fingerprint(f"{tmp_path}/disk/{name}") == fingerprint
    assert [path.name for path in (tmp_path / "disk").iterdir()] == [name]


@pytest.mark.parametrize("step", ["shutil.rmtree", "pathlib.Path.replace"])
def test_a_kill_while_a_folder_is_replaced_leaves_no_copy_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = tmp_path / "out.zarr"

    def write(content: str) -> None:
        with appearing(target) as partial:
            partial.mkdir()
            (partial / "zarr.json").write_text(content)

    def killed(*arguments: object, **options: object) -> None:
        raise SystemExit

    write("first")
    with monkeypatch.context() as patched:
        patched.setattr(step, killed)
        with pytest.raises(SystemExit):
            write("second")
    write("third")
    assert (target / "zarr.json").read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_small_file_that_is_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "page.html").symlink_to("disk/page.html")
    put(f"{tmp_path}/page.html", b"new")
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "disk/page.html").read_bytes() == b"new"


def test_foreign_targets_have_an_empty_fingerprint(tmp_path: Path) -> None:
    source(tmp_path / "theirs.tif", np.ones((1, 3, 4), "u1"))
    (tmp_path / "notes.tif").write_text("mine")
    (tmp_path / "folder").mkdir()
    assert read_fingerprint(f"{tmp_path}/folder/") is None  # nothing is there
    (tmp_path / "folder/a.txt").write_text("mine")
    for name in ("theirs.tif", "notes.tif", "folder/"):
        assert read_fingerprint(f"{tmp_path}/{name}") == ""


def test_a_folder_that_lost_a_file_is_not_whole(tmp_path: Path) -> None:
    written = write_product(product_of(source(tmp_path / "in.tif", np.ones((1, 3, 4), "u1"))), f"{tmp_path}/out/")
    assert read_fingerprint(f"{tmp_path}/out/") == "a1"
    Path(written[0]).unlink()
    assert read_fingerprint(f"{tmp_path}/out/") == ""


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_frames_come_out_bit_identical(tmp_path: Path, rng: np.random.Generator, bands: int, dtype: str) -> None:
    values = rng.integers(0, np.iinfo(dtype).max, (bands, 33, 47)).astype(dtype)
    if bands == 4:
        values[3] = np.iinfo(dtype).max
    raster = source(tmp_path / "in.png", values, placed=False)
    write_product(product_of(raster), str(tmp_path / "out.png"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "in.png") as one, rasterio.open(tmp_path / "out.png") as other:
            assert one.colorinterp == other.colorinterp
            assert one.nodatavals == other.nodatavals
            np.testing.assert_array_equal(other.read(), values)
        with rasterio.open(tmp_path / "out_standard_error.tif") as file:
            assert file.count == min(bands, 3)
    assert not list(tmp_path.glob("*.aux.xml"))


def test_targets_that_cannot_hold_the_product_say_what_can(tmp_path: Path) -> None:
    placed = product_of(source(tmp_path / "in.tif", np.ones((1, 3, 4), "u1")))
    floats = product_of(source(tmp_path / "f.tif", np.ones((1, 3, 4), "f4"), placed=False))
    for product, target, cure in (
        (placed, "out.png", r"\.tif"),
        (floats, "out.png", r"\.tif"),
        (placed, "out.jpg", r"\.zarr"),
        (placed, "s3://bucket/out.png", r"\.zarr, \.tif, \.nc and folders"),
    ):
        place = target if "://" in target else str(tmp_path / target)
        with pytest.raises(TargetError, match=cure):
            check_target(product.raster, place)  # before any work
        with pytest.raises(TargetError, match=cure):
            write_product(product, place)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("dtype", ["complex64", "float16"])
def test_what_netcdf_has_no_type_for_is_refused_before_any_work(tmp_path: Path, dtype: str) -> None:
    axes = {"y": [3.0, 2.0, 1.0], "x": [1.0, 2.0, 3.0, 4.0]}
    held = xr.Dataset({"wave": (("y", "x"), np.ones((3, 4), dtype))}, axes)
    held.to_zarr(tmp_path / "in.zarr", consolidated=False)
    raster = open_raster(str(tmp_path / "in.zarr"))
    check_target(raster, str(tmp_path / "out.zarr"))
    for target in (str(tmp_path / "out.nc"), "s3://bucket/out.nc"):
        with pytest.raises(TargetError, match=rf"wave is {dtype}, which NetCDF cannot hold .*\.zarr"):
            check_target(raster, target)


def test_a_stack_does_not_fit_one_geotiff(tmp_path: Path) -> None:
    for day in (1, 2):
        source(tmp_path / f"a_2021-01-0{day}.tif", np.ones((1, 3, 4), "u1"))
    raster = open_raster(str(tmp_path / "a_*.tif"))
    check_target(raster, f"{tmp_path}/out/")
    with pytest.raises(TargetError, match=r"2 dates.*folder"):
        check_target(raster, str(tmp_path / "out.tif"))
    with pytest.raises(TargetError, match=r"2 dates.*folder"):
        write_product(Product(raster, (), {}, {}, {}), str(tmp_path / "out.tif"))


@contextmanager
def _no_more_than(size: int) -> Iterator[None]:
    """Within: no file can grow beyond that many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out.tif", "out.png", "out.xml", "out.nc"])
@pytest.mark.parametrize("short", [1, 700, 5000, 20_000, 50_000])
def test_a_disk_that_takes_a_part_only_leaves_no_product(
    tmp_path: Path, rng: np.random.Generator, name: str, short: int
) -> None:
    """GDAL writes the end of a file when it closes it, and tells nobody where that fails."""
    smooth = np.add.outer(np.arange(200), np.arange(220)) // 9  # much smaller in the order of the COG than before it
    values = rng.integers(0, 255, (3, 200, 220)) // 16 * 16 + smooth % 16
    raster = source(tmp_path / "frame.png", values.astype("u1"), placed=False)
    target = tmp_path / name
    write_product(product_of(raster), str(target))
    there = tmp_path / "out_image.tif" if name == "out.xml" else target
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = pytest.raises((WriteError, OSError), match=r"cannot be written|large")
    with _no_more_than(there.stat().st_size - short), said:
        write_product(product_of(raster, "b2"), str(target))
    assert {path.name: path.read_bytes() for path in (there, target)}.items() <= before.items()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    write_product(product_of(raster, "b2"), str(target))
    assert read_fingerprint(str(target)) == "b2"


def test_a_small_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    put(str(tmp_path / "record.json"), b"before")
    with _no_more_than(10), pytest.raises(OSError, match="large"):
        put(str(tmp_path / "record.json"), b"x" * 100)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("record.json", b"before")]


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_a_link_laid_in_the_way_of_a_product_is_not_followed(tmp_path: Path, suffix: str) -> None:
    """The name that a product has while it is written is known; a link there had it written into another folder."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").write_text("precious")
    (tmp_path / f".a.geodiff-partial{suffix}").symlink_to(tmp_path / "other")
    with appearing(tmp_path / f"a{suffix}") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["kept"]
    assert (tmp_path / f"a{suffix}" / "new").is_file()
    assert not (tmp_path / f"a{suffix}").is_symlink()


def test_a_target_that_loses_the_places_of_a_swath_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places = {
        name: (("row", "column"), np.indices((4, 6))[n] * 1.0, {"units": f"degrees_{way}"})
        for n, (name, way) in enumerate((("lat", "north"), ("lon", "east")))
    }
    swath = xr.Dataset({"bt": (("row", "column"), np.ones((4, 6), "f4"))}, coords=places)
    swath.to_netcdf(tmp_path / "swath.nc", engine="h5netcdf")
    swath.drop_vars(["lat", "lon"]).to_netcdf(tmp_path / "frame.nc", engine="h5netcdf")
    told = {}
    for name in ("swath.nc", "frame.nc"):
        raster = open_raster(f"{tmp_path}/{name}")
        for target in ("out.tif", "out/", "out.nc", "out.zarr"):
            caplog.clear()
            check_target(raster, f"{tmp_path}/{target}")
            told[name, target] = "latitude and longitude of each pixel; use .nc or .zarr" in caplog.text
    assert {at for at, lost in told.items() if lost} == {("swath.nc", "out.tif"), ("swath.nc", "out/")}

"""Laws of Zarr and NetCDF products alike: what was opened, filled and written opens again as it was."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geodiff.encoding import Encoding
from geodiff.io import Band, Kind, Product, ProductVariable, Raster, Variable
from geodiff.io.netcdf import netcdf_fingerprint, open_netcdf, write_netcdf
from geodiff.io.zarr import open_zarr, write_zarr, zarr_fingerprint
from geodiff.lattice import Window

DATA = os.environ.get("GEODIFF_DATA")
CODES = {"observed": 0, "laplace": 3, "linear-time": 6, "outside": 254, "unfilled": 255}
REASONS = {"nodata": 1, "cloud": 2, "user mask": 64}
FORMATS = ("zarr3", "zarr2", "nc")


class _Held:
    """A reader of an array at hand."""

    def __init__(self, array):
        self.array = array

    def read(self, date, window):
        rows, columns = window.slices
        return self.array[date][:, rows, columns]

    def valid(self, date, window):
        return None


def _variable(name="v", shape=(1, 1, 5, 7), dtype="f4", geobox=None, dates=None, kind=Kind.CONTINUOUS, **encoding):
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        values = rng.normal(size=shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    coded = Encoding(np.dtype(dtype), **encoding)
    if coded.nodata is not None:
        values[..., 0, 0] = coded.nodata
    grid = geobox or GeoBox(shape[2:], Affine(10, 0, 500000, 0, -10, 6000000), "EPSG:32633")
    bands = tuple(Band(f"B{i + 1}", coded, kind, "K") for i in range(shape[1]))
    return Variable(name, bands, grid, _Held(values), dates or (None,) * shape[0])


def _layers(variable, members=0, quantiles=0):
    value = variable.reader.array if isinstance(variable.reader, _Held) else _read(variable)
    rng = np.random.default_rng(4)
    return ProductVariable(
        variable,
        value,
        rng.choice(np.array(sorted(CODES.values()), "u1"), variable.shape),
        rng.choice(np.array([0, 1, 2, 3], "u2"), variable.shape),
        rng.random(variable.shape).astype("f4"),
        np.stack([value] * members) if members else None,
        rng.random((quantiles, *variable.shape)).astype("f4") if quantiles else None,
    )


def _read(variable):
    whole = Window(0, 0, *variable.shape[2:])
    return np.stack([variable.reader.read(date, whole) for date in range(len(variable.dates))])


def _product(*variables, raster=None, **more):
    raster = raster or Raster("scene.tif", "GTiff", variables, attributes={"AREA_OR_POINT": "Area"})
    layers = tuple(_layers(v, **more) for v in variables if v.bands[0].kind is Kind.CONTINUOUS)
    levels = tuple(np.linspace(0.05, 0.95, more.get("quantiles", 0)))
    return Product(raster, layers, {"geodiff_fingerprint": "abc", "history": "filled"}, CODES, REASONS, levels)


def _write(product, folder, kind, name="out"):
    from dataclasses import replace

    if kind == "nc":
        return write_netcdf(product, str(folder / f"{name}.nc"))[0]
    return write_zarr(replace(product, zarr_format=int(kind[-1])), str(folder / f"{name}.zarr"))[0]


def _open(target):
    raster = open_netcdf(target) if target.endswith(".nc") else open_zarr(target)
    return {variable.name: variable for variable in raster.variables}


@pytest.fixture(params=FORMATS)
def kind(request):
    return request.param


_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "u8", "f4", "f8")


def _of_dtype(dtype, nodata):
    floating = np.dtype(dtype).kind == "f"
    limits = np.finfo(dtype) if floating else np.iinfo(dtype)
    values = {"max": limits.max, "nan": np.nan} if floating else {"max": limits.max, 0: 0}
    value = float(values.get(nodata, nodata)) if floating and nodata is not None else values.get(nodata)
    variable = _variable(dtype, dtype=dtype, nodata=value, **({} if floating else {"scale": 0.25, "offset": -3.0}))
    if floating:
        variable.reader.array[..., 1, 1] = -0.0
    return variable


@pytest.mark.parametrize("nodata", [None, 0, "max", "nan"])
def test_grid_encoding_and_every_bit_survive(tmp_path, kind, nodata):
    before = {dtype: _of_dtype(dtype, nodata) for dtype in _DTYPES}
    target = _write(_product(*before.values()), tmp_path, kind)
    # and once more, now from the product itself
    raster = open_netcdf(target) if kind == "nc" else open_zarr(target)
    products = [_layers(variable) for variable in raster.variables if variable.name in before]
    again = _write(Product(raster, tuple(products), {}, CODES, REASONS), tmp_path, kind, "again")
    for found in (_open(target), _open(again)):
        for dtype, first in before.items():
            assert found[dtype].geobox == first.geobox
            assert repr(found[dtype].bands[0].encoding) == repr(first.bands[0].encoding)
            assert _read(found[dtype]).tobytes() == first.reader.array.tobytes()


_GRIDS = {
    "north-up": (Affine(10, 0, 5e5, 0, -10, 6e6), "EPSG:32633"),
    "south-up": (Affine(0.1, 0, -6, 0, 0.1, 34), "EPSG:4326"),
    "0-360": (Affine(1 / 3, 0, 180, 0, -1 / 3, 45), "EPSG:4326"),
    "dateline": (Affine(0.5, 0, 178.25, 0, -0.5, 10), "EPSG:4326"),
    "polar": (Affine(1000, 0, -2.5e6, 0, -1000, 2.5e6), "EPSG:3413"),
    "rotated": (Affine.translation(5e5, 6e6) @ Affine.rotation(30) @ Affine.scale(10, -10), "EPSG:32633"),
    "Mars": (Affine(463.1, 0, -1e6, 0, -463.1, 2e6), "IAU_2015:49910"),
    "no CRS": (Affine(2, 0, 100, 0, -2, 300), None),
    "nowhere": (Affine.identity(), None),
    "steps of a third": (Affine(1 / 3, 0, 0.1, 0, -1 / 7, 0.3), "EPSG:4326"),
}


def test_every_grid_comes_back(tmp_path, kind):
    cases = {
        f"{name}_{rows}_{columns}".replace(" ", "_").replace("-", "_"): GeoBox((rows, columns), *grid)
        for name, grid in _GRIDS.items()
        for rows, columns in [
            (13, 7),
            *([(1, 1), (1, 9), (11, 1)] if name in {"rotated", "south-up", "no CRS"} else []),
        ]
    }
    cases = {name if name[0].isalpha() else f"v_{name}": geobox for name, geobox in cases.items()}
    variables = [
        _variable(name, (1, 1, *map(int, geobox.shape)), "u1", geobox, kind=Kind.PALETTE)
        for name, geobox in cases.items()
    ]
    found = _open(_write(_product(*variables), tmp_path, kind))
    for name, geobox in cases.items():
        assert found[name].geobox == geobox, name


@pytest.mark.parametrize("grid", ["rotated", "nowhere", "south-up"])
def test_only_grids_that_have_them_get_coordinates(tmp_path, kind, grid):
    first = _variable(geobox=GeoBox((5, 7), *_GRIDS[grid]))
    target = _write(_product(first), tmp_path, kind)
    assert all(variable.geobox == first.geobox for variable in _open(target).values())
    with xr.open_dataset(target, engine="zarr" if kind != "nc" else "h5netcdf", decode_coords="all") as dataset:
        assert ("y" in dataset.coords) == (grid == "south-up")


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # odc-geo beside affine 3
def test_odc_and_rasterio_see_the_same_grid(tmp_path, kind):
    import odc.geo.xr
    import rasterio

    first = _variable(shape=(1, 1, 30, 20), dtype="i2", nodata=-9)
    target = _write(_product(first), tmp_path, kind)
    with xr.open_dataset(target, engine="zarr" if kind != "nc" else "h5netcdf", decode_coords="all") as dataset:
        assert odc.geo.xr.spatial_dims(dataset["v"]) == ("y", "x")
        assert dataset["v"].odc.geobox == first.geobox
    if kind != "zarr3":  # GDAL reads version 3 from 3.13 on
        name = f"NETCDF:{target}:v" if kind == "nc" else f"ZARR:{target}:/v"
        with rasterio.open(name) as opened:
            assert opened.transform == first.geobox.affine
            assert opened.crs.to_epsg() == 32633
            assert opened.nodata == -9
            np.testing.assert_array_equal(opened.read(), first.reader.array[0])


def test_layers_follow_cf_and_hold_what_they_were_given(tmp_path, kind):
    dates = tuple(np.array(["2020-01-01", "2020-01-01", "2021-06-30T12:00"], "M8[us]"))
    first = _variable(shape=(3, 2, 5, 7), dates=dates, dtype="i2", nodata=-1, scale=0.01)
    product = _product(first, members=2, quantiles=2)
    target = _write(product, tmp_path, kind)
    layers = product.variables[0]
    with xr.open_dataset(target, engine="zarr" if kind != "nc" else "h5netcdf", mask_and_scale=False) as dataset:
        v = dataset["v"]
        assert v.dims == ("time", "band", "y", "x")
        assert list(map(str, dataset["v"].coords["band_name"].values)) == ["B1", "B2"]
        assert dataset["time"].values.astype("M8[us]").tolist() == np.array(dates).tolist()
        assert v.attrs["ancillary_variables"] == "v_source v_reason v_standard_error"
        source, reason, error = (dataset[f"v_{name}"] for name in ("source", "reason", "standard_error"))
        assert (
            dict(zip(source.attrs["flag_meanings"].split(), np.ravel(source.attrs["flag_values"]), strict=True))
            == CODES
        )
        assert reason.attrs["flag_meanings"] == "nodata cloud user_mask"
        assert list(np.ravel(reason.attrs["flag_masks"])) == [1, 2, 64]
        assert error.attrs["units"] == "K"
        for layer, expected in ((source, layers.source), (reason, layers.reason), (error, layers.standard_error)):
            assert layer.dtype == expected.dtype
            np.testing.assert_array_equal(layer.values, expected)
        assert dataset["v_member"].dims == ("member", "time", "band", "y", "x")
        np.testing.assert_array_equal(dataset["v_member"].values, layers.members)
        assert dataset["member"].attrs["standard_name"] == "realization"
        np.testing.assert_array_equal(dataset["v_quantile"].values, layers.quantiles)
        assert dataset["quantile"].values.tolist() == list(product.quantiles)
        assert dataset.attrs["geodiff_fingerprint"] == "abc"
        assert dataset.attrs["Conventions"] == "CF-1.11"


def _cube(dims=("time", "lat", "lon"), dtype="i2"):
    sizes = {"time": 3, "lat": 6, "lon": 8, "lev": 2}
    shape = tuple(sizes[d] for d in dims)
    values = np.random.default_rng(5).integers(-100, 100, shape).astype(dtype)
    attrs = {
        "_FillValue": np.int16(-9),
        "scale_factor": 0.01,
        "standard_name": "sea_surface_temperature",
        "units": "K",
        "ancillary_variables": "flags",
        "cell_methods": "time: mean",
    }
    return xr.Dataset(
        {
            "sst": (dims, values, attrs),
            "flags": (dims, values.astype("i1"), {"flag_values": np.array([1, 2], "i1"), "flag_meanings": "a b"}),
            "land": (("lat", "lon"), np.eye(6, 8, dtype="i1")),
            "time_bnds": (("time", "nv"), np.zeros((3, 2))),
            "station": (("n",), np.array(["é", "long name"], object)),
            "nothing": ((), np.float32(3)),
        },
        {
            "time": (
                "time",
                np.array([4, 1, 2], "f4"),
                {"units": "days since 2001-02-27", "calendar": "noleap", "bounds": "time_bnds"},
            ),
            "lat": ("lat", np.linspace(-5, 5, 6).astype("f4"), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.arange(178.0, 186.0), {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {"title": "a cube", "Conventions": "CF-1.7", "history": "made", "odd": np.array([1.5, 2.5])},
    )


@pytest.mark.parametrize("dims", [("time", "lat", "lon"), ("lon", "lat", "time"), ("lat", "lev", "lon", "time")])
def test_a_cube_keeps_order_attributes_encodings_and_everything_beside(tmp_path, kind, dims):
    cube = _cube(dims)
    source = tmp_path / "cube.nc"
    cube.to_netcdf(source, engine="h5netcdf", unlimited_dims=["time"])
    raster = open_netcdf(str(source))
    sst = next(v for v in raster.variables if v.name == "sst")
    filled = _layers(sst)
    filled.value[:, :, 2, 3] = 77
    product = Product(raster, (filled,), {"geodiff_fingerprint": "f", "history": "filled"}, CODES, REASONS)
    target = _write(product, tmp_path, kind)
    engine = "zarr" if kind != "nc" else "h5netcdf"
    with (
        xr.open_dataset(source, engine="h5netcdf", decode_cf=False) as before,
        xr.open_dataset(target, engine=engine, decode_cf=False) as after,
    ):
        for name, old in before.variables.items():
            new = after.variables[name]
            text = "OUT"
            assert new.dims == old.dims
            assert new.dtype == old.dtype or (new.dtype.kind in text and old.dtype.kind in text)
            changed = {"ancillary_variables", "grid_mapping"} if name == "sst" else set()
            for key in set(old.attrs) - changed:
                np.testing.assert_array_equal(new.attrs[key], old.attrs[key], err_msg=f"{name}:{key}")
            if name != "sst":
                np.testing.assert_array_equal(new.values.astype(old.dtype), old.values)
        expected = before["sst"].values.copy()
        expected[tuple({"lat": 2, "lon": 3}.get(d, slice(None)) for d in dims)] = 77
        np.testing.assert_array_equal(after["sst"].values, expected)
        assert after["sst"].dtype == before["sst"].dtype
        assert after["sst"].attrs["ancillary_variables"].split() == [
            "flags",
            "sst_source",
            "sst_reason",
            "sst_standard_error",
        ]
        assert after["sst_standard_error"].attrs["standard_name"] == "sea_surface_temperature standard_error"
        assert after["sst_source"].dims == dims
        assert after.attrs["history"].split("\n") == ["filled", "made"]
        assert after.attrs["title"] == "a cube"
        if kind == "nc":
            assert after.encoding["unlimited_dims"] == {"time"}
    assert _open(target)["sst"].dates == sst.dates
    assert _open(target)["sst"].geobox == sst.geobox


def test_filling_a_product_again_replaces_its_layers(tmp_path, kind):
    first = _write(_product(_variable()), tmp_path, kind)
    raster = open_netcdf(first) if kind == "nc" else open_zarr(first)
    value = next(v for v in raster.variables if v.name == "v")
    layers = _layers(value)
    again = _write(Product(raster, (layers,), {}, CODES, REASONS), tmp_path, kind, "again")
    assert sorted(_open(again)) == ["v", "v_reason", "v_source", "v_standard_error"]
    np.testing.assert_array_equal(_read(_open(again)["v_source"]), layers.source)


def test_a_product_may_replace_its_own_source(tmp_path, kind):
    target = _write(_product(_variable()), tmp_path, kind)
    raster = open_netcdf(target) if kind == "nc" else open_zarr(target)
    value = next(v for v in raster.variables if v.name == "v")
    before = _read(value)
    _write(Product(raster, (_layers(value),), {}, CODES, REASONS), tmp_path, kind)
    np.testing.assert_array_equal(_read(_open(target)["v"]), before)


def test_variables_on_several_grids_and_bands_that_are_copied(tmp_path, kind):
    fine = _variable("fine", (1, 3, 6, 8), "u2", nodata=0)
    coarse = _variable("20 m", (1, 1, 3, 4), "u2", GeoBox((3, 4), Affine(20, 0, 5e5, 0, -20, 6e6), "EPSG:32633"))
    classes = _variable("classes", (1, 1, 6, 8), "u1", kind=Kind.PALETTE)
    alpha = _variable("alpha", (1, 1, 6, 8), "u1", kind=Kind.ALPHA)
    found = _open(_write(_product(fine, coarse, classes, alpha), tmp_path, kind))
    assert found["fine"].geobox == fine.geobox
    assert found["v_20_m"].geobox == coarse.geobox
    np.testing.assert_array_equal(_read(found["classes"]), classes.reader.array)
    assert "classes_source" not in found
    assert "alpha" not in found


def test_alpha_beside_colours_is_no_band_of_the_product(tmp_path, kind):
    from dataclasses import replace

    rgba = _variable(shape=(1, 4, 6, 8), dtype="u1")
    rgba = replace(rgba, bands=(*rgba.bands[:3], replace(rgba.bands[3], kind=Kind.ALPHA)))
    layers = _layers(rgba, members=2, quantiles=1)
    product = Product(Raster("rgba.tif", "GTiff", (rgba,)), (layers,), {}, CODES, REASONS, quantiles=(0.5,))
    found = _open(_write(product, tmp_path, kind))
    assert [band.kind for band in found["v"].bands] == [Kind.CONTINUOUS] * 3
    np.testing.assert_array_equal(_read(found["v"]), layers.value[:, :3])
    np.testing.assert_array_equal(_read(found["v_source"]), layers.source[:, :3])
    np.testing.assert_array_equal(_read(found["v_standard_error"]), layers.standard_error[:, :3])
    assert found["v_member"].shape[1] == found["v_quantile"].shape[1] * 2 == 6
    copied = _open(_write(Product(product.raster, (), {}, CODES, REASONS), tmp_path, kind, "copied"))
    np.testing.assert_array_equal(_read(copied["v"]), layers.value[:, :3])


def test_bands_with_encodings_of_their_own_are_not_scaled_wrongly(tmp_path, kind):
    from dataclasses import replace

    first = _variable(shape=(1, 2, 5, 7), dtype="u1")
    bands = tuple(replace(b, encoding=Encoding("u1", nodata=i, scale=i + 1.0)) for i, b in enumerate(first.bands))
    first = replace(first, bands=bands)
    found = _open(_write(_product(first), tmp_path, kind))["v"]
    assert (found.bands[0].encoding.scale, found.bands[0].encoding.nodata) == (1.0, None)
    assert np.ravel(found.attributes["band_scale"]).tolist() == [1.0, 2.0]


def test_equal_products_are_equal_bytes(tmp_path, kind):
    product = _product(_variable(shape=(2, 2, 300, 270), dtype="i2", nodata=-1), members=1)
    targets = [Path(_write(product, tmp_path, kind, name)) for name in ("a", "b")]
    contents = [
        {str(f.relative_to(t)): f.read_bytes() for f in sorted(t.rglob("*")) if f.is_file()}
        if t.is_dir()
        else t.read_bytes()
        for t in targets
    ]
    assert contents[0] == contents[1]


def test_a_target_appears_whole_or_not_at_all(tmp_path, kind):
    class Broken(np.ndarray):
        def __getitem__(self, key):
            raise KeyboardInterrupt

    product = _product(_variable())
    _write(product, tmp_path, kind)
    before = sorted(p.name for p in tmp_path.iterdir())
    layers = product.variables[0]
    broken = ProductVariable(
        layers.variable, layers.value.view(Broken), layers.source, layers.reason, layers.standard_error
    )
    with pytest.raises(KeyboardInterrupt):
        _write(Product(product.raster, (broken,), {"geodiff_fingerprint": "new"}, CODES, REASONS), tmp_path, kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    target = str(tmp_path / before[0])
    assert (netcdf_fingerprint if kind == "nc" else zarr_fingerprint)(target) == "abc"


_KILLED = """
import importlib.util, os, sys
from pathlib import Path
import numpy as np
spec = importlib.util.spec_from_file_location("laws", sys.argv[1])
laws = importlib.util.module_from_spec(spec)
spec.loader.exec_module(laws)
class Deadly(np.ndarray):
    def __getitem__(self, key):
        os.kill(os.getpid(), 9)
made = laws._product(laws._variable(shape=(1, 1, 40, 40)))
v = made.variables[0]
broken = laws.ProductVariable(v.variable, v.value, v.source, v.reason.view(Deadly), v.standard_error)
product = laws.Product(made.raster, (broken,), {}, laws.CODES, laws.REASONS)
kind = "zarr3" if (child := os.fork()) else "nc"
assert not child or os.waitpid(child, 0)[1] == 9
laws._write(product, Path(sys.argv[2]), kind)
"""


def test_a_killed_write_leaves_no_target_and_the_next_one_clears_up(tmp_path):
    ended = subprocess.run([sys.executable, "-c", _KILLED, __file__, str(tmp_path)], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.geodiff-partial.nc", ".out.geodiff-partial.zarr"]
    for kind in ("zarr3", "nc"):
        _write(_product(_variable()), tmp_path, kind)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.nc", "out.zarr"]


def test_a_reader_works_in_another_process_and_in_four_threads(tmp_path, kind):
    from concurrent.futures import ThreadPoolExecutor

    first = _variable(shape=(4, 1, 40, 50), dtype="i2")
    found = _open(_write(_product(first), tmp_path, kind))["v"]
    again = pickle.loads(pickle.dumps(found.reader))
    windows = [(d, Window(r, c, 10, 10)) for d in range(4) for r in range(0, 40, 10) for c in range(0, 50, 10)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda key: again.read(*key), windows))
    for (date, window), part in zip(windows, parts, strict=True):
        np.testing.assert_array_equal(part, first.reader.read(date, window))


@pytest.mark.skipif(DATA is None, reason="GEODIFF_DATA is not set, so there are no real rasters to copy")
@pytest.mark.parametrize("path", ["train/stars/inst/nc/sub.nc", "train/iris-sample-data/ostia_monthly.nc"])
def test_a_real_cube_is_copied_bit_by_bit(tmp_path, kind, path):
    raster = open_netcdf(str(Path(DATA) / path))
    first = raster.variables[0]
    found = _open(_write(Product(raster, (_layers(first),), {}, CODES, REASONS), tmp_path, kind))[first.name]
    assert (found.geobox, found.dates, found.bands) == (first.geobox, first.dates, first.bands)
    assert _read(found).tobytes() == _read(first).tobytes()

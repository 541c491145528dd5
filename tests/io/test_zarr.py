"""What is special to Zarr stores; what they share with NetCDF is in test_datasets.py."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox

from geodiff.encoding import Encoding
from geodiff.errors import SourceError
from geodiff.identity import source_identity
from geodiff.io import Band, Product, ProductVariable, Raster, Variable
from geodiff.io.zarr import open_zarr, write_zarr, zarr_fingerprint
from geodiff.lattice import Window


def _cube(rows=6, columns=8):
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {
            "sst": (
                ("time", "lat", "lon"),
                rng.normal(size=(2, rows, columns)).astype("f4"),
                {"units": "K", "_FillValue": -9.0},
            )
        },
        {
            "time": ("time", np.array([0, 3]), {"units": "days since 2020-01-01"}),
            "lat": ("lat", 50.0 - np.arange(rows), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(float(columns)), {"units": "degrees_east"}),
        },
    )


def _product(raster, **more):
    variable = raster.variables[0]
    whole = Window(0, 0, *variable.shape[2:])
    value = np.stack([variable.reader.read(date, whole) for date in range(variable.shape[0])])
    zeros = np.zeros(variable.shape)
    layers = ProductVariable(variable, value, zeros.astype("u1"), zeros.astype("u2"), zeros.astype("f4"))
    return Product(raster, (layers,), {"geodiff_fingerprint": "abc"}, {"laplace": 3}, {"nodata": 1}, **more)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")  # zarr, of the stores we read
def test_stores_of_xarray_open(tmp_path, zarr_format, consolidated):
    cube = _cube()
    cube.to_zarr(tmp_path / "a.zarr", zarr_format=zarr_format, consolidated=consolidated)
    (variable,) = open_zarr(str(tmp_path / "a.zarr")).variables
    assert variable.geobox.affine == Affine(1, 0, -0.5, 0, -1, 50.5)
    assert [str(d)[:10] for d in variable.dates] == ["2020-01-01", "2020-01-04"]
    assert variable.bands[0].encoding.nodata == -9
    np.testing.assert_array_equal(variable.reader.read(1, Window(2, 3, 4, 5))[0], cube["sst"].values[1, 2:6, 3:8])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_product_opens_in_xarray_without_a_warning(tmp_path, zarr_format):
    cube = _cube()
    cube.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    target = str(tmp_path / "b.zarr")
    assert write_zarr(_product(open_zarr(str(tmp_path / "a.zarr")), zarr_format=zarr_format), target) == [target]
    with xr.open_zarr(target, decode_coords="all") as dataset:
        np.testing.assert_array_equal(dataset["sst"].values, cube["sst"].values)
        assert dataset["sst_source"].dtype == np.dtype("u1")  # not masked to floats by a fill value
        assert dataset["sst"].encoding["grid_mapping"] == "spatial_ref"
    group = zarr.open_group(target, mode="r")
    assert group.metadata.zarr_format == zarr_format
    assert group["sst"].chunks == (1, 6, 8)


def test_chunks_are_256_pixels_and_one_date(tmp_path):
    bands = tuple(Band(f"B{i}", Encoding("u2")) for i in range(3))

    class Numbers:
        def read(self, date, window):
            return np.full((3, *window.shape), date, "u2")

        def valid(self, date, window):
            return None

    grid = GeoBox((300, 520), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633")
    variable = Variable("v", bands, grid, Numbers(), (None, None))
    write_zarr(_product(Raster("x.tif", "GTiff", (variable,))), str(tmp_path / "c.zarr"))
    array = zarr.open_group(str(tmp_path / "c.zarr"), mode="r")["v"]
    assert array.chunks == (1, 3, 256, 256)
    assert array.metadata.dimension_names == ("time", "band", "y", "x")


def test_a_group_below_the_root_is_found(tmp_path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=3)
    _cube().to_zarr(tmp_path / "a.zarr", group="measurements/r10m", zarr_format=3, consolidated=False)
    raster = open_zarr(str(tmp_path / "a.zarr"))
    assert [v.name for v in raster.variables] == ["sst"]
    assert raster.variables[0].reader.source.group == "measurements/r10m"


def test_a_store_in_a_zip_file_opens(tmp_path):
    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
        for file in (tmp_path / "a.zarr").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "a.zarr"))
    (variable,) = open_zarr(str(tmp_path / "a.zarr.zip")).variables
    np.testing.assert_array_equal(variable.reader.read(0, Window(0, 0, 6, 8))[0], _cube()["sst"].values[0])


@pytest.mark.parametrize(("place", "dtype"), [("data", "|O"), ("lat", "<f8"), ("data", "<f8")])
def test_pickles_are_refused_before_anything_is_read(tmp_path, place, dtype):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=False)
    folder = tmp_path / "a.zarr" / place
    folder.mkdir(exist_ok=True)
    filters = [{"id": "pickle", "protocol": 5}]
    meta = {"shape": [6], "chunks": [6], "dtype": dtype, "fill_value": 0, "order": "C", "zarr_format": 2}
    (folder / ".zarray").write_text(json.dumps({**meta, "compressor": None, "filters": filters}))
    (folder / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["lat"]}))
    (folder / "0").write_bytes(numcodecs.Pickle().encode(np.array([Trap()] * 6, object)))
    with pytest.raises(SourceError, match=r"stored as Python pickles.*run code"):
        open_zarr(str(tmp_path / "a.zarr"))
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_dataset_is_refused_with_the_cure(tmp_path):
    with pytest.raises(SourceError, match=r"holds no Zarr group"):
        open_zarr(str(tmp_path / "missing.zarr"))
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(SourceError, match=r"Zarr"):
        open_zarr(str(tmp_path / "file.zarr"))
    broken = tmp_path / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{")
    with pytest.raises(SourceError, match=r"not a readable Zarr store"):
        open_zarr(str(broken))
    group = zarr.open_group(str(tmp_path / "bare.zarr"), mode="w", zarr_format=2)
    group.create_array("v", shape=(4, 4), chunks=(4, 4), dtype="f4")
    with pytest.raises(SourceError, match="_ARRAY_DIMENSIONS"):
        open_zarr(str(tmp_path / "bare.zarr"))


def test_fingerprints(tmp_path):
    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    raster = open_zarr(str(tmp_path / "a.zarr"))
    assert zarr_fingerprint(str(tmp_path / "a.zarr")) == ""
    assert zarr_fingerprint(str(tmp_path / "nothing.zarr")) is None
    (tmp_path / "file.zarr").write_text("mine")
    assert zarr_fingerprint(str(tmp_path / "file.zarr")) == ""
    for zarr_format in (2, 3):
        target = str(tmp_path / f"p{zarr_format}.zarr")
        write_zarr(_product(raster, zarr_format=zarr_format), target)
        assert zarr_fingerprint(target) == "abc"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_on_an_object_store_the_root_metadata_comes_last(tmp_path, zarr_format, monkeypatch):
    import geodiff.io.zarr as module

    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    product = _product(open_zarr(str(tmp_path / "a.zarr")), zarr_format=zarr_format)
    target = f"memory://{tmp_path.name}/out.zarr"
    kept, order = module.put, []

    def put(path, content):
        order.append(path.removeprefix(target))
        if path.count("/") - target.count("/") == 1:
            assert zarr_fingerprint(target) in {None, "abc"}
        kept(path, content)

    monkeypatch.setattr(module, "put", put)
    write_zarr(product, target)
    roots = [name for name in order if name.count("/") == 1]
    assert order[-len(roots) :] == roots
    assert zarr_fingerprint(target) == "abc"
    monkeypatch.setattr(module, "put", kept)
    write_zarr(product, target)  # over an older one
    found = {variable.name: variable for variable in open_zarr(target).variables}
    expected = product.variables[0].value
    np.testing.assert_array_equal(found["sst"].reader.read(1, Window(0, 0, 6, 8)), expected[1])


def test_every_file_counts_for_the_identity(tmp_path):
    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    raster, seen = open_zarr(str(tmp_path / "a.zarr")), set()
    files = [file for file in (tmp_path / "a.zarr").rglob("*") if file.is_file()]
    for file in files:
        seen.add(source_identity(raster))
        file.write_bytes(file.read_bytes() + b" ")
    assert len(seen) == len(files) > 5


def test_a_store_on_a_plain_web_server_opens(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec reads https through aiohttp, which is not installed")
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def list_directory(self, path):
            self.send_error(404)

    _cube().to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        (variable,) = open_zarr(f"http://127.0.0.1:{server.server_port}/a.zarr").variables
        np.testing.assert_array_equal(variable.reader.read(1, Window(0, 0, 6, 8))[0], _cube()["sst"].values[1])
    finally:
        server.shutdown()
        server.server_close()


def test_a_store_that_was_replaced_is_read_anew(tmp_path):
    for rows in (6, 9):
        _cube(rows).to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True, mode="w")
        (variable,) = open_zarr(str(tmp_path / "a.zarr")).variables
        assert variable.shape[2] == rows
        np.testing.assert_array_equal(variable.reader.read(1, Window(0, 0, rows, 8))[0], _cube(rows)["sst"].values[1])


def test_an_array_that_only_the_consolidated_metadata_remember_is_not_there(tmp_path):
    cube = _cube()
    cube["gone"] = cube["sst"].copy()
    cube.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    shutil.rmtree(tmp_path / "a.zarr" / "gone")
    assert [variable.name for variable in open_zarr(str(tmp_path / "a.zarr")).variables] == ["sst"]


def test_band_names_of_one_length_are_read_without_a_warning(tmp_path: Path) -> None:
    """As xarray writes them; warnings are errors in tests."""
    axes = {"band": np.array(["red", "nir"]), "y": [2.0, 1.0], "x": [1.0, 2.0]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.Dataset({"v": (("band", "y", "x"), np.ones((2, 2, 2), "f4"))}, axes).to_zarr(tmp_path / "bands.zarr")
    (variable,) = open_zarr(str(tmp_path / "bands.zarr")).variables
    assert [band.name for band in variable.bands] == ["red", "nir"]

"""Laws of the accessor: the answer of a fill of the file, lazy where the array is lazy, known values as they were."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

import geodiff
from geodiff.errors import GridError, JobError, NothingKnownError, SourceError

LAYERS = ("v", "v_source", "v_reason", "v_standard_error")


def _values(dates: int = 5, rows: int = 60, columns: int = 290) -> np.ndarray:
    """A field that moves slowly, with clouds of its own on every date but the last."""
    rng = np.random.default_rng(3)
    t, y, x = np.mgrid[:dates, :rows, :columns]
    values = 280 + 5 * (np.sin(y / 9 + t / 3) + np.cos(x / 13) + 0.1 * rng.normal(size=t.shape))
    for date in range(dates - 1):
        row, column = 5 + 7 * date, 30 + 50 * date
        values[date, row : row + 20, column : column + 45] = np.nan
    return values.astype("f4")


def _dataset(values: np.ndarray | None = None, **attributes: object) -> xr.Dataset:
    values = _values() if values is None else values
    dates = np.arange("2020-01-01", "2020-03-01", dtype="M8[D]")[: len(values)].astype("M8[ns]")
    axes = {"time": dates, "lat": 50 - 0.01 * np.arange(values.shape[1]), "lon": 0.01 * np.arange(values.shape[2])}
    variable = (
        ("time", "lat", "lon"),
        values,
        {"units": "K", "standard_name": "sea_surface_temperature", **attributes},
    )
    dataset = xr.Dataset({"v": variable}, axes, {"title": "a sea"})
    dataset["v"].encoding = {"zlib": True, "_FillValue": np.float32(-9)}
    return dataset


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return _dataset()


@pytest.fixture(scope="module")
def filled(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.geodiff.fill(filler="regression")


def test_known_values_are_bit_identical_and_gaps_are_filled(dataset: xr.Dataset, filled: xr.Dataset) -> None:
    known = np.isfinite(dataset.v.values)
    assert filled.v.values[known].tobytes() == dataset.v.values[known].tobytes()
    assert np.isfinite(filled.v.values).all()
    assert (filled.v_source.values == 0).tolist() == known.tolist()
    assert ((filled.v_standard_error.values > 0) == ~known).all()
    assert dataset.v.isnull().any(), "the source is left as it was"


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_the_pixels_are_those_of_a_fill_of_the_same_file(
    dataset: xr.Dataset, filled: xr.Dataset, tmp_path: Path, suffix: str
) -> None:
    dataset.drop_encoding().to_netcdf(tmp_path / "source.nc", engine="h5netcdf")
    geodiff.fill(tmp_path / "source.nc", tmp_path / f"product.{suffix}", filler="regression")
    product = xr.open_dataset(tmp_path / f"product.{suffix}", engine={"nc": "h5netcdf"}.get(suffix, suffix))
    for name in LAYERS:
        assert filled[name].dtype == product[name].dtype, name
        assert filled[name].values.tobytes() == product[name].values.tobytes(), name
    product.close()


def test_packed_numbers_are_filled_as_they_are_stored(tmp_path: Path) -> None:
    dataset = _dataset()
    dataset["v"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0, "_FillValue": np.int16(-32768)}
    dataset.to_netcdf(tmp_path / "packed.nc", engine="h5netcdf")
    geodiff.fill(tmp_path / "packed.nc", tmp_path / "product.nc", filler="laplace", quantiles=(0.1, 0.9))
    options = {"engine": "h5netcdf", "mask_and_scale": False}
    with (
        xr.open_dataset(tmp_path / "packed.nc", **options) as stored,
        xr.open_dataset(tmp_path / "product.nc", **options) as product,
    ):
        filled = stored.geodiff.fill(filler="laplace", quantiles=(0.1, 0.9))
        for name in (*LAYERS, "v_quantile"):
            assert filled[name].values.tobytes() == product[name].values.tobytes(), name
        assert filled["quantile"].values.tolist() == [0.1, 0.9]


def test_what_was_unpacked_is_filled_unpacked_and_packs_again(tmp_path: Path) -> None:
    dataset = _dataset(valid_range=np.array([0, 3000], "i2"))
    dataset["v"].values[4, 3, 3] = 269.0  # packed -100, out of the packed range
    dataset["v"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 270.0, "_FillValue": np.int16(-32768)}
    dataset.to_netcdf(tmp_path / "packed.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "packed.nc", engine="h5netcdf") as opened:
        filled = opened.geodiff.fill(filler="laplace")
        assert filled.v.values[4, 3, 3] > 270
        assert filled.v.encoding["scale_factor"] == 0.01
        filled.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
        stored, again = (
            xr.open_dataset(tmp_path / name, engine="h5netcdf", mask_and_scale=False)
            for name in ("packed.nc", "again.nc")
        )
        kept = filled.v_source.values == 0
        assert (stored.v.values[kept] == again.v.values[kept]).all()
        stored.close()
        again.close()


def test_a_range_whose_packing_is_forgotten_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Clouds are mostly hidden with `where`, which keeps the packed range and forgets scale and offset."""
    dataset = _dataset(valid_range=np.array([-20000, -10000], "i2"))
    dataset["v"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 430.0, "_FillValue": np.int16(-32768)}
    dataset.to_netcdf(tmp_path / "packed.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "packed.nc", engine="h5netcdf") as opened:
        hidden = opened.where(opened["lon"] > 0.05)
        filled = hidden.geodiff.fill(filler="nearest")
        assert "packing xarray has forgotten" in caplog.text
        known = np.isfinite(hidden.v.values)
        assert (filled.v_source.values == 0).tolist() == known.tolist()
        assert filled.v.attrs["valid_range"].tolist() == [-20000, -10000]
        caplog.clear()
        opened.geodiff.fill(filler="nearest")
        assert not caplog.text


def test_ranges_of_unsigned_bytes_are_read_with_their_sign(tmp_path: Path) -> None:
    stored = (np.arange(400).reshape(1, 20, 20) % 200).astype("u1")
    stored[0, 5, 5], stored[0, 9, 9] = 254, 255
    attributes = {"_Unsigned": "true", "_FillValue": np.int8(-1), "valid_range": np.array([0, -56], "i1")}
    bytes_ = xr.Variable(("time", "y", "x"), stored.view("i1"), {**attributes, "scale_factor": 0.5})
    axes = {"time": [0], "y": np.arange(20.0), "x": np.arange(20.0)}
    xr.Dataset({"v": bytes_}, axes).to_netcdf(tmp_path / "u.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "u.nc", engine="h5netcdf") as opened:
        assert float(opened["v"].max()) == 127
        filled = opened.geodiff.fill(filler="nearest")
        assert np.argwhere(filled.v_source.values != 0).tolist() == [[0, 5, 5], [0, 9, 9]]


def test_land_among_sea_ice_stays_land_read_either_way(tmp_path: Path) -> None:
    """Sea ice of NSIDC: 0 to 100 hundredths, codes above; what is unpacked has codes that are unpacked too."""
    ice = np.clip(60 + 8 * np.cumsum(np.random.default_rng(0).normal(size=(48, 48)), axis=1), 0, 100).astype("u1")
    ice[10:30, 20:40], ice[31, 20:40], ice[5:8, 5:9], ice[40:44, 10:20] = 254, 253, 251, 255
    codes = {"flag_values": np.array([251, 253, 254], "u1"), "flag_meanings": "pole_hole coastline land"}
    told = {"scale_factor": np.float32(0.01), "_FillValue": np.uint8(255), "valid_range": np.array([0, 100], "u1")}
    xr.Dataset({"ice": (("y", "x"), ice, codes | told)}).to_netcdf(tmp_path / "ice.nc")
    land, gaps = (ice == 254) | (ice == 253), (ice == 255) | (ice == 251)
    for decoded in (False, True):
        with xr.open_dataset(tmp_path / "ice.nc", mask_and_scale=decoded) as opened:
            given = opened.load()
        filled = given.geodiff.fill(filler="laplace")
        assert (filled["ice_source"].to_numpy()[land] == 254).all()
        assert np.array_equal(filled["ice"].to_numpy()[land], given["ice"].to_numpy()[land])
        assert (filled["ice_source"].to_numpy()[gaps] == 3).all()
        assert float(filled["ice"].to_numpy()[gaps].max()) <= (1.0 if decoded else 100)
        assert np.array_equal(filled["ice"].attrs["flag_values"], codes["flag_values"])


def test_lazy_in_lazy_out_nothing_is_read_before_it_is_asked(dataset: xr.Dataset, filled: xr.Dataset) -> None:
    reads = []

    def read(block: np.ndarray) -> np.ndarray:
        if block.size:
            reads.append(block.shape)
        return block

    lazy = dataset.chunk(time=2, lat=60, lon=100)
    lazy["v"] = lazy.v.copy(data=lazy.v.data.map_blocks(read, meta=np.empty((0, 0, 0), "f4")))
    answer = lazy.geodiff.fill(filler="regression")
    assert not reads
    assert all(answer[name].chunks == lazy.v.chunks for name in LAYERS)
    xr.testing.assert_identical(answer.compute(scheduler="threads"), filled)
    assert reads


def test_one_part_of_a_lazy_answer_is_the_part_of_the_whole(dataset: xr.Dataset, filled: xr.Dataset) -> None:
    part = dataset.chunk(time=1, lat=-1, lon=100).geodiff.fill(filler="regression").isel(time=1, lon=slice(250, 280))
    xr.testing.assert_identical(part.compute(), filled.isel(time=1, lon=slice(250, 280)))


def test_attributes_encoding_coordinates_and_order_stay(dataset: xr.Dataset, filled: xr.Dataset) -> None:
    assert filled.v.attrs == {**dataset.v.attrs, "ancillary_variables": "v_source v_reason v_standard_error"}
    assert filled.v.encoding == dataset.v.encoding
    assert filled.v.dims == dataset.v.dims
    assert filled.attrs["title"] == "a sea"
    assert filled.attrs["history"].startswith("geodiff ")
    assert filled.v_standard_error.attrs["units"] == "K"
    for name in dataset.coords:
        xr.testing.assert_identical(filled[name], dataset[name])


@pytest.mark.parametrize("dims", [("lon", "time", "lat"), ("lat", "lon", "time")])
def test_dimensions_may_come_in_any_order(
    dataset: xr.Dataset, filled: xr.Dataset, dims: tuple[str, ...]
) -> None:
    turned = dataset.transpose(*dims).geodiff.fill(filler="regression")
    assert turned.v.dims == dims
    xr.testing.assert_equal(turned.transpose("time", "lat", "lon")[list(LAYERS)], filled[list(LAYERS)])


def test_rows_may_go_up(dataset: xr.Dataset) -> None:
    ascending = dataset.isel(lat=slice(None, None, -1)).geodiff.fill(filler="regression")
    assert np.isfinite(ascending.v).all()
    assert ascending.lat.values.tolist() == dataset.lat.values[::-1].tolist()


def test_an_array_alone_answers_with_its_layers(dataset: xr.Dataset, filled: xr.Dataset) -> None:
    xr.testing.assert_equal(dataset.v.geodiff.fill(filler="regression"), filled.drop_attrs())
    assert "value_source" in dataset.v.rename(None).isel(time=0).geodiff.fill(filler="laplace")


def test_other_calendars_are_understood(dataset: xr.Dataset) -> None:
    noleap = dataset.assign_coords(time=xr.date_range("2020-02-26", periods=5, calendar="noleap", use_cftime=True))
    filled = noleap.geodiff.fill(filler="linear-time")
    assert np.isfinite(filled.v).all()
    assert filled.time.values.tolist() == noleap.time.values.tolist()


def test_only_what_was_asked_for_is_filled(dataset: xr.Dataset) -> None:
    filled = dataset.geodiff.fill(filler="laplace", dates="2020-01-02")
    assert np.isfinite(filled.v[1]).all()
    assert filled.v[0].isnull().any()
    assert (filled.v_source[0].values[np.isnan(dataset.v[0])] == 255).all()
    two = dataset.assign(w=dataset.v * 2, whole=dataset.v.fillna(280.0))
    assert set(two.geodiff.fill(variable="w", filler="laplace").data_vars) - set(two.data_vars) == {
        "w_source", "w_reason", "w_standard_error"
    }  # fmt: skip
    assert "whole_source" not in two.geodiff.fill(filler="laplace")


def test_members_are_drawn_along_a_dimension_of_their_own() -> None:
    dataset = _dataset(_values(3, 40, 50))
    eager = dataset.geodiff.fill(filler="diffusion", members=2, steps=4, seed=7)
    assert eager.v_member.dims == ("member", "time", "lat", "lon")
    assert eager.member.attrs["standard_name"] == "realization"
    assert "_FillValue" not in eager.v_member.attrs
    known = np.isfinite(dataset.v.values)
    assert (eager.v_member.values[:, known] == dataset.v.values[known]).all()
    assert (eager.v_member[0] != eager.v_member[1]).any()
    lazy = dataset.chunk(time=1).geodiff.fill(filler="diffusion", members=2, steps=4, seed=7)
    xr.testing.assert_identical(lazy.compute(), eager)


def test_members_have_an_axis_of_their_own_beside_an_ensembles(tmp_path: Path) -> None:
    """A forecast's members are not what is drawn of each: neither takes the other's axis or numbers."""
    network = {"filler": "diffusion", "members": 1, "steps": 4}
    ensemble = xr.concat([_dataset(_values(2, 20, 24) + shift) for shift in (0, 1)], xr.Variable("member", [7, 9]))
    ensemble = ensemble.where(np.arange(24) % 8 > 2)
    filled = ensemble.geodiff.fill(**network, quantiles=[0.5])
    assert filled["member"].values.tolist() == [7, 9]
    assert filled["v_member"].dims == ("member_2", *ensemble["v"].dims)
    lazily = ensemble.chunk(time=1).geodiff.fill(**network)["v_member"]
    assert lazily.dims == filled["v_member"].dims
    ensemble.to_netcdf(tmp_path / "e.nc")
    geodiff.fill(tmp_path / "e.nc", tmp_path / "f.nc", **network)
    with xr.open_dataset(tmp_path / "f.nc") as product:
        assert product["member"].values.tolist() == [7, 9]
        assert product["v_member"].sizes["member_2"] == 1
        assert product["v_member"].values[0].tobytes() == filled["v_member"].values[0].tobytes()
    one = ensemble.sel(member=9).geodiff.fill(**network)
    assert int(one["member"]) == 9
    assert one["v_member"].dims[0] == "member_2"
    again = one.assign(v=one["v"].where(one["v_source"] == 0)).geodiff.fill(**network)
    assert again["v_member"].dims[0] == "member_2"


def test_what_is_called_as_a_layer_but_is_none_is_not_replaced(tmp_path: Path) -> None:
    dataset = _dataset(_values(2, 20, 24)).where(np.arange(24) % 8 > 2)
    own = dataset.assign(v_standard_error=dataset["v"] * 0 + 0.3)
    with pytest.raises(SourceError, match="v_standard_error of its own"):
        own.geodiff.fill(filler="laplace")
    own.to_netcdf(tmp_path / "own.nc")
    with pytest.raises(SourceError, match="v_standard_error of its own"):
        geodiff.fill(tmp_path / "own.nc", tmp_path / "filled.zarr", filler="laplace")
    geodiff.fill(tmp_path / "own.nc", tmp_path / "filled.zarr", filler="laplace", variable=["v_standard_error"])


def test_layers_of_an_earlier_fill_are_made_anew_and_not_filled() -> None:
    dataset = _dataset(_values(2, 20, 24)).where(np.arange(24) % 8 > 2)
    filled = dataset.geodiff.fill(filler="laplace", max_error=0.01, fillable="all")
    assert filled["v_standard_error"].isnull().any()
    again = filled.geodiff.fill(filler="nearest", fillable="all")
    assert list(again) == list(filled)
    assert again["v"].notnull().all()
    assert 255 in filled["v_source"]
    assert 255 not in again["v_source"]


def test_a_cluster_gives_the_same_answer_and_receives_keys(
    dataset: xr.Dataset, filled: xr.Dataset, tmp_path: Path
) -> None:
    from dask.distributed import Client, LocalCluster

    dataset.drop_encoding().chunk(time=2, lat=60, lon=100).to_zarr(tmp_path / "cube.zarr", zarr_format=2)
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster),
        xr.open_zarr(tmp_path / "cube.zarr", chunks={}) as opened,
    ):
        lazy = opened.geodiff.fill(filler="regression")
        xr.testing.assert_equal(lazy.compute()[list(LAYERS)], filled[list(LAYERS)])
        held = opened.persist().geodiff.fill(filler="regression")
        xr.testing.assert_equal(held.compute()[list(LAYERS)], filled[list(LAYERS)])
    tasks = [task for key, task in dict(lazy.v_source.data.dask).items() if isinstance(key, tuple)]
    assert max(len(pickle.dumps(task)) for task in tasks) < 20_000


def test_the_same_fill_has_the_same_keys(dataset: xr.Dataset) -> None:
    lazy = dataset.chunk(time=1)
    first, again, other = (lazy.geodiff.fill(filler=name).v.data.name for name in ("laplace", "laplace", "idw"))
    assert first == again
    assert first != other


def _flagged(bad: slice) -> xr.Dataset:
    """A whole field, and quality flags that call a square of it bad."""
    values = _values(dates=1)
    values[:] = 280 + np.linspace(0, 5, values.shape[-1])
    flags = np.full(values.shape, 5, "i1")
    flags[:, bad, bad] = 0
    dataset = _dataset(values)
    layers = xr.DataArray(np.stack([flags, flags]), dims=("layer", *dataset.v.dims), coords={"layer": ["day", "night"]})
    return dataset.assign(quality=(dataset.v.dims, flags), layers=layers).chunk(time=1)


@pytest.mark.parametrize("band", ["quality", "night"])
def test_fills_that_differ_in_their_flags_alone_do_not_take_each_others_numbers(band: str) -> None:
    first, second = (
        _flagged(bad).geodiff.fill(variable="v", filler="laplace", qa=f"ghrsst:{band}", fillable="all").v_source
        for bad in (slice(5, 15), slice(30, 40))
    )
    apart = [one.compute() for one in (first, second)]
    for together, alone in zip(dask.compute(first, second), apart, strict=True):
        xr.testing.assert_identical(together, alone)
    assert not ((apart[0] > 0) & (apart[1] > 0)).any()


def _write_mask(path: Path, column: int) -> None:
    """A square of 10 x 10 pixels of the dataset's grid."""
    import rasterio
    from affine import Affine

    mask = np.zeros((1, 60, 290), np.uint8)
    mask[0, 20:30, column : column + 10] = 1
    grid = {"crs": "EPSG:4326", "transform": Affine(0.01, 0, -0.005, 0, -0.01, 50.005)}
    with rasterio.open(path, "w", "GTiff", 290, 60, 1, dtype="uint8", **grid) as written:
        written.write(mask)


def test_a_mask_that_changed_gives_other_keys(dataset: xr.Dataset, tmp_path: Path) -> None:
    names = []
    for column in (10, 60):
        _write_mask(tmp_path / "mask.tif", column)
        names.append(dataset.chunk().geodiff.fill(filler="laplace", mask=tmp_path / "mask.tif").v.data.name)
    assert names[0] != names[1]


def test_what_is_in_memory_is_filled_at_once_beside_what_is_not(dataset: xr.Dataset) -> None:
    whole = dataset.assign(held=dataset.v + 1, full=dataset.v.fillna(0))
    filled = whole.assign(v=dataset.v.chunk(time=1)).geodiff.fill(filler="laplace")
    assert all(filled[name].chunks for name in LAYERS)
    assert isinstance(filled.held.data, np.ndarray)
    assert isinstance(filled.held_standard_error.data, np.ndarray)
    assert "full_source" not in filled
    xr.testing.assert_equal(filled.compute(), whole.geodiff.fill(filler="laplace"))


def test_paths_are_given_as_to_the_other_functions(dataset: xr.Dataset, tmp_path: Path) -> None:
    where = tmp_path / "a, b.tif"
    _write_mask(where, 80)
    last = dataset.isel(time=[-1])
    for given in (where, str(where), [where]):
        assert int((last.geodiff.fill(filler="laplace", mask=given).v_source > 0).sum()) == 100


def test_variables_may_be_called_by_numbers(dataset: xr.Dataset) -> None:
    bands = dataset.v.isel(time=[0, 1]).drop_vars("time").rename(time="band").assign_coords(band=[1, 2])
    filled = bands.to_dataset(dim="band").geodiff.fill(filler="laplace")
    assert {1, 2, "1_source", "2_source"} <= set(filled)
    assert filled[1].notnull().all()
    alone = bands[0].drop_vars("band").rename(7).geodiff.fill(filler="laplace")
    assert alone[7].equals(filled[1].drop_vars("band", errors="ignore").rename(7))
    assert "a,b" in dataset.v[0].rename("a,b").geodiff.fill(filler="laplace")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"workers": 2}, JobError, "geodiff.fill"),
        ({"filer": "laplace"}, JobError, "filer"),
        ({"filler": "magic"}, JobError, "no filler is called"),
        ({"filler": "laplace", "members": 3}, JobError, "draws no members"),
        ({"variable": "sst"}, JobError, "is not in the dataset; it has v"),
    ],
)
def test_wrong_options_are_said_with_their_cure(
    dataset: xr.Dataset, options: dict[str, object], error: type[Exception], words: str
) -> None:
    for given in (dataset, dataset.chunk(time=1)):
        with pytest.raises(error, match=words):
            given.geodiff.fill(**options)


def test_data_that_cannot_be_filled_are_refused(dataset: xr.Dataset) -> None:
    with pytest.raises(NothingKnownError, match="none of the"):
        dataset.where(False).geodiff.fill(filler="laplace")
    with pytest.raises(NothingKnownError, match="none of the"):
        dataset.where(False).chunk(time=1).geodiff.fill(filler="laplace").compute()
    with pytest.raises(SourceError, match="rows and columns"):
        dataset.isel(lat=0, lon=0).geodiff.fill()
    with pytest.raises(GridError, match="rename"):
        dataset.lat.geodiff.fill()


def test_the_accessor_comes_with_either_import_first_and_costs_neither() -> None:
    for first, second in (("geodiff", "xarray"), ("xarray", "geodiff")):
        script = (
            f"import {first}, {second}, sys; from xarray import DataArray, Dataset;"
            "assert Dataset().geodiff and DataArray().geodiff;"
            "print(*{'torch', 'rasterio', 'distributed'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert done.stdout.split() == []
    alone = [sys.executable, "-c", "import geodiff, sys; assert 'xarray' not in sys.modules"]
    subprocess.run(alone, check=True)


def test_a_look_at_what_is_installed_does_not_lose_the_accessor() -> None:
    script = (
        "import geodiff; from importlib.util import find_spec; assert find_spec('xarray');"
        "import xarray; assert xarray.Dataset().geodiff"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_dask_is_left_as_it_was(dataset: xr.Dataset) -> None:
    before = dict(dask.config.config)
    dataset.chunk(time=1).geodiff.fill(filler="laplace").compute()
    assert dask.config.config == before


def test_what_no_date_ever_knew_is_not_as_certain_as_what_others_know() -> None:
    """Elevation on every date: dates tell each other nearly all, and nothing of the place that none saw."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:64, :64]
    height = 500 + 100 * (np.sin(y / 5) + np.cos(x / 7)) + 20 * rng.normal(size=y.shape)
    seen = height + 0.01 * rng.normal(size=(5, 64, 64))
    seen[:, 24:40, 24:40] = np.nan
    filled = _dataset(seen).geodiff.fill(fillable="all", members=0)
    off, error = np.abs(filled["v"] - height)[:, 24:40, 24:40], filled["v_standard_error"][:, 24:40, 24:40]
    assert (off <= 1.645 * error).mean() > 0.8


def test_what_never_changes_is_filled_without_a_warning() -> None:
    values = np.repeat(_values()[-1:, :, :64], 5, axis=0)
    values[2, 20:40, 20:40] = np.nan
    filled = _dataset(values).v.geodiff.fill(members=0, filler="linear-time")
    np.testing.assert_allclose(filled.v[2], values[0], rtol=1e-6)
    assert np.isfinite(filled.v_standard_error).all()

"""Laws of the whole line: what is known stays, and every layer says what the others say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import geodiff
from tests.rasters import read, round_holes, surface, write


def test_known_pixels_are_bit_identical_and_every_layer_agrees(scene: Path, tmp_path: Path) -> None:
    record = geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    before, after = read(scene)[0], read(tmp_path / "filled.tif")[0]
    source, reason = read(tmp_path / "filled_source.tif")[0], read(tmp_path / "filled_reason.tif")[0]
    error = read(tmp_path / "filled_standard_error.tif")[0]
    missing = before == 0
    assert np.array_equal(before[~missing], after[~missing])
    assert (after[missing] != 0).all()
    assert set(np.unique(source)) == {0, 3}
    assert np.array_equal(source != 0, missing)
    assert np.array_equal(reason != 0, missing)
    assert (error[missing] > 0).all()
    assert (error[~missing] == 0).all()
    assert record.status == "done"
    assert record.variables["band_data"]["filled"] == missing.sum()


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]
FLOATS = ["float32", "float64"]
NODATA = [(d, n) for d in INTEGERS + FLOATS for n in ("none", "zero", "max")] + [(d, "nan") for d in FLOATS]


@pytest.mark.parametrize(("dtype", "nodata"), NODATA)
def test_every_dtype_and_nodata(tmp_path: Path, dtype: str, nodata: str) -> None:
    floating = np.issubdtype(dtype, np.floating)
    limit = np.finfo(dtype).max if floating else np.iinfo(dtype).max
    marker = {"none": None, "zero": 0, "max": limit, "nan": np.nan}[nodata]
    values = (surface(61, 53) / 30).astype(dtype)
    holes = round_holes(61, 53, 3, 5)
    if marker is not None:
        values[holes] = marker
    mask = write(tmp_path / "mask.tif", holes.astype("uint8"), None)
    source = write(tmp_path / "scene.tif", values, marker)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace", mask=str(mask))
    after = read(tmp_path / "filled.tif")[0]
    assert after.dtype == values.dtype
    assert after[~holes].tobytes() == values[~holes].tobytes()
    filled = after[holes].astype(float)
    assert (filled > 10).all()
    assert (filled < 120).all()
    with rasterio.open(tmp_path / "filled.tif") as out:
        assert (out.nodata is None) == (marker is None)


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (41, 1), (2, 2), (127, 131), (97, 193)])
def test_odd_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = surface(*shape).astype("float32")
    holes = np.zeros(shape, bool)
    holes.flat[len(values.flat) // 2] = values.size > 1
    values[holes] = np.nan
    source = write(tmp_path / "scene.tif", values, np.nan)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace")
    after = read(tmp_path / "filled.tif")[0]
    assert np.isfinite(after).all()
    assert np.array_equal(after[~holes], values[~holes])


def test_max_error_leaves_nodata(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", max_error=1e-3)
    codes, values = read(tmp_path / "filled_source.tif")[0], read(tmp_path / "filled.tif")[0]
    missing = read(scene)[0] == 0
    assert (codes[missing] == 255).all()
    assert (values[missing] == 0).all()


@pytest.mark.parametrize("suffix", [".tif", ".zarr", ".nc"])
def test_what_a_mask_hides_is_nodata_where_it_is_not_filled(tmp_path: Path, suffix: str) -> None:
    """A cloud's number is no observation: not in the value, and not in a member."""
    values, cloud = surface(48, 60).astype("int16"), round_holes(48, 60, 2, 6)
    values[cloud] = 9000
    mask = write(tmp_path / "mask.tif", cloud.astype("uint8"), None)
    source = write(tmp_path / "scene.tif", values, -1)
    target = tmp_path / f"filled{suffix}"
    geodiff.fill(source, target, mask=str(mask), buffer=1, max_error=1e-6, members=1, device="cpu")
    layers = _layers(target)
    refused = layers["source"] == 255
    assert refused[cloud].all()
    assert refused.sum() > cloud.sum()  # with the rim
    for name in ("value", "members"):
        assert (layers[name][refused] == -1).all()
        assert np.array_equal(layers[name][~refused], values[~refused])


def _layers(target: Path) -> dict[str, np.ndarray]:
    """Stored numbers (row, column) of some layers of a product of one band."""
    if target.suffix == ".tif":
        beside = {name: target.with_name(f"{target.stem}_{name}.tif") for name in ("source", "members")}
        return {name: read(path)[0] for name, path in {"value": target, **beside}.items()}
    import xarray as xr

    engine = {".zarr": "zarr", ".nc": "h5netcdf"}[target.suffix]
    with xr.open_dataset(target, engine=engine, mask_and_scale=False) as found:
        names = {"value": "band_data", "source": "band_data_source", "members": "band_data_member"}
        return {layer: np.squeeze(found[name].to_numpy()) for layer, name in names.items()}


def test_without_nodata_what_is_not_filled_keeps_its_number(tmp_path: Path) -> None:
    values, cloud = surface(90, 110).astype("int16"), round_holes(90, 110, 3, 8)
    mask = write(tmp_path / "mask.tif", cloud.astype("uint8"), None)
    source = write(tmp_path / "scene.tif", values, None)
    geodiff.fill(source, tmp_path / "filled.tif", mask=str(mask), filler="laplace", max_error=1e-6)
    assert (read(tmp_path / "filled_source.tif")[0][cloud] == 255).all()
    assert np.array_equal(read(tmp_path / "filled.tif")[0], values)


def test_quantiles_bracket_the_value(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace", quantiles="0.05,0.95")
    low, high = read(tmp_path / "filled_quantiles.tif")
    values, error = read(tmp_path / "filled.tif")[0], read(tmp_path / "filled_standard_error.tif")[0]
    missing = read(scene)[0] == 0
    assert np.allclose((high - low)[missing], 2 * 1.6449 * error[missing], rtol=1e-3)
    assert ((low <= values + 1) & (values - 1 <= high))[missing].all()
    assert np.array_equal(low[~missing], values[~missing].astype("float32"))


def test_quantiles_lie_where_values_may(tmp_path: Path) -> None:
    """Counts have no fewer than none, whatever half an interval below the estimate would be."""
    counts = np.rint(np.random.default_rng(0).exponential(3.0, (96, 96))).astype("uint16") + 1
    counts[30:60, 30:60] = 65535
    source = write(tmp_path / "scene.tif", counts, 65535)
    geodiff.fill(source, tmp_path / "filled.tif", filler="laplace", quantiles="0.001,0.999", valid_range="0,40")
    low, high = read(tmp_path / "filled_quantiles.tif")
    assert low.min() == 0
    assert high.max() <= 40


def test_a_buffer_takes_the_rim_of_gaps_for_missing(scene: Path, tmp_path: Path) -> None:
    geodiff.fill(scene, tmp_path / "plain.tif", filler="nearest")
    geodiff.fill(scene, tmp_path / "grown.tif", filler="nearest", buffer=2)
    plain, grown = read(tmp_path / "plain_source.tif") != 0, read(tmp_path / "grown_source.tif") != 0
    assert (grown | ~plain).all()
    assert grown.sum() > plain.sum()


def test_no_integer_is_surer_than_its_rounding(tmp_path: Path) -> None:
    values = np.full((90, 100), 50, "uint8")
    values[30:40, 30:40] = 0
    scene = write(tmp_path / "scene.tif", values)
    geodiff.fill(scene, tmp_path / "filled.tif", filler="laplace")
    error = read(tmp_path / "filled_standard_error.tif")[0]
    assert error[30:40, 30:40].min() >= 1 / np.sqrt(12) - 1e-6


def test_variables_without_gaps_or_dates_are_copied(tmp_path: Path) -> None:
    import xarray as xr

    stack = np.stack([surface(40, 50, seed) for seed in range(2)])
    stack[1, 10:20, 10:20] = np.nan
    times = np.array(["2024-01-01", "2024-01-09"], "datetime64[ns]")
    axes = {"time": times, "y": -np.arange(40.0), "x": np.arange(50.0)}
    cube = xr.Dataset({"sst": (("time", "y", "x"), stack), "depth": (("y", "x"), surface(40, 50, 9))}, axes)
    cube.to_netcdf(tmp_path / "cube.nc", engine="h5netcdf")
    geodiff.fill(tmp_path / "cube.nc", tmp_path / "filled.nc", filler="laplace", dates="2024-01-09")
    with xr.open_dataset(tmp_path / "filled.nc", engine="h5netcdf") as filled:
        assert np.isfinite(filled.sst.values).all()
        assert np.array_equal(filled.depth.values, cube.depth.values)
        assert "sst_source" in filled
        assert "depth_source" not in filled

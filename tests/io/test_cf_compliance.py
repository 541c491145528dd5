"""What the IOOS compliance checker says of our products: no errors by CF 1.11, which they declare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from compliance_checker.runner import ComplianceChecker
from compliance_checker.suite import CheckSuite

import geodiff
from geodiff.io import Product, ProductVariable
from geodiff.io.datasets import plan_of
from geodiff.io.netcdf import open_netcdf, write_netcdf
from tests.rasters import write

CheckSuite.load_all_available_checkers()


def errors(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The report where it names errors, or where a check could not be made; '' otherwise."""
    report = path.with_suffix(".txt")
    _, broken = ComplianceChecker.run_checker(
        str(path), ["cf:1.11"], 0, "normal", output_filename=str(report), output_format="text"
    )
    text, said = report.read_text(), capsys.readouterr()
    wrong = broken or "Errors" in text or "exceptions occurred" in said.err + said.out
    return f"{text}\n{said.err}" if wrong else ""


def write_cube(path: Path, calendar: str = "standard") -> Path:
    """Chlorophyll by CF: bounds, calendar, packing, cell methods."""
    rng = np.random.default_rng(0)
    values = rng.integers(100, 900, (3, 30, 40)).astype("i2")
    values[1, 5:15, 8:20] = values[0, 20:25, 2:9] = -32767
    name = "mass_concentration_of_chlorophyll_a_in_sea_water"
    packed = {"units": "mg m-3", "standard_name": name, "scale_factor": np.float32(0.01), "add_offset": np.float32(0)}
    packed |= {"_FillValue": np.int16(-32767), "cell_methods": "time: mean"}
    time = {"units": "days since 2024-01-01", "calendar": calendar, "standard_name": "time", "axis": "T"}
    dataset = xr.Dataset(
        {
            "chl": (("time", "lat", "lon"), values, packed),
            "time_bnds": (("time", "nv"), np.array([[0.0, 1], [1, 2], [2, 3]])),
        },
        {
            "time": ("time", np.array([0.5, 1.5, 2.5]), {**time, "bounds": "time_bnds"}),
            "lat": ("lat", np.linspace(10, -10, 30), {"units": "degrees_north", "standard_name": "latitude"}),
            "lon": ("lon", np.linspace(0, 39, 40), {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {"title": "chlorophyll", "Conventions": "CF-1.8"},
    )
    plain = {name: {"_FillValue": None} for name in ("time", "lat", "lon", "time_bnds")}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=plain)
    return path


def as_netcdf(store: Path, path: Path) -> None:
    """A Zarr store as a file that the checker opens; the JSON of a store has one type of number for attributes."""
    with xr.open_zarr(store, decode_cf=False) as dataset:
        for variable in dataset.variables.values():
            variable.encoding = {"_FillValue": None} if "_FillValue" not in variable.attrs else {}
            for name in {"flag_values", "flag_masks"} & set(variable.attrs):
                variable.attrs[name] = np.asarray(variable.attrs[name], variable.dtype)
        dataset.to_netcdf(path, engine="h5netcdf")


@pytest.mark.parametrize("calendar", ["standard", "noleap"])
def test_a_filled_cube(tmp_path: Path, capsys: pytest.CaptureFixture[str], calendar: str) -> None:
    source, target = write_cube(tmp_path / "chl.nc", calendar), tmp_path / "filled.nc"
    geodiff.fill(source, target, filler="laplace", quantiles=(0.05, 0.95))
    assert errors(target, capsys) == ""
    with xr.open_dataset(target, decode_cf=False) as filled:
        name = filled["chl"].attrs["standard_name"]
        assert filled["chl_standard_error"].attrs["standard_name"] == f"{name} standard_error"
        assert filled["chl_standard_error"].attrs["units"] == filled["chl"].attrs["units"]
        assert filled["time"].attrs["bounds"] == "time_bnds"
        assert filled.attrs["Conventions"] == "CF-1.11"  # the source says 1.8, which knows no unsigned flags


def test_members_are_an_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raster = open_netcdf(str(write_cube(tmp_path / "chl.nc")))
    variable = next(v for v in raster.variables if v.name == "chl")
    value = np.full(variable.shape, 300, "i2")
    flags, error = np.ones(variable.shape, "u1"), np.ones(variable.shape, "f4")
    layers = ProductVariable(variable, value, flags, flags.astype("u2"), error, np.stack([value, value + 1]))
    product = Product(raster, (layers,), {"history": "made"}, {"laplace": 1}, {"cloud": 2})
    write_netcdf(product, str(tmp_path / "filled.nc"))
    assert errors(tmp_path / "filled.nc", capsys) == ""
    member = next(array for array in plan_of(product).arrays if array.name == "member")
    assert member.attributes["standard_name"] == "realization"


def test_a_stack_of_geotiffs_and_its_zarr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "days").mkdir()
    for day in (1, 2):
        bands = np.random.default_rng(day).integers(900, 1100, (2, 40, 50)).astype("uint16")
        bands[:, 10:20, 10 * day : 15 * day] = 0
        write(tmp_path / f"days/scene_2024010{day}.tif", bands)
    geodiff.fill(tmp_path / "days", tmp_path / "filled.nc", filler="laplace")
    assert errors(tmp_path / "filled.nc", capsys) == ""
    geodiff.fill(tmp_path / "days", tmp_path / "filled.zarr", filler="laplace")
    as_netcdf(tmp_path / "filled.zarr", tmp_path / "copy.nc")
    assert errors(tmp_path / "copy.nc", capsys) == ""

"""Stacks: dates from metadata or names, one grid, one order."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from PIL import Image

from geodiff import fill
from geodiff.errors import GridError, SourceError
from geodiff.io import Product, ProductVariable, open_raster, write_product
from geodiff.io.stack import _named
from geodiff.lattice import Window


def write(
    path: Path, value: object, shift: float = 0.0, pixel: float = 10, crs: str = "EPSG:32633", **tags: str
) -> Path:
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=6, width=7, count=2, dtype="int16", nodata=-1, crs=crs,
        transform=Affine(pixel, 0, 100 + shift, 0, -pixel, 900),
    ) as file:  # fmt: skip
        file.write(np.broadcast_to(np.asarray(value, "i2"), (2, 6, 7)))
        file.update_tags(**tags)
    return path


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("ndvi_20210131.tif", "2021-01-31"),
        ("2021-01-31_v2.tif", "2021-01-31"),
        ("S2_20210131T101530_x.tif", "2021-01-31T10:15:30"),
        ("MOD13Q1.A2021031.h18v04.tif", "2021-01-31"),
        ("HLS.L30.T33TVK.2020366T101530.tif", "2020-12-31T10:15:30"),
        ("MOD11.A2020366.1015.006.tif", "2020-12-31T10:15"),
        ("MOD13Q1.A2021031.h18v04.061.2021050101010.tif", "2021-01-31"),
        ("t2m_20210131T06.tif", "2021-01-31T06"),
        ("t2m_2021013106.tif", "2021-01-31T06"),
        ("t2m_20210131_0600.tif", "2021-01-31T06"),
        ("t2m_2021-01-31_06-30-00.tif", "2021-01-31T06:30"),
        ("20210131063000-GHRSST.tif", "2021-01-31T06:30"),
        ("3B-HHR.3IMERG.20210131-S063000-E065959.0390.tif", "2021-01-31T06:30"),
        ("OR_ABI-L2-LST_G16_s20211211200000_e20211211210000_c20211211220000.tif", "2021-05-01T12"),
        ("A20211212021151.L3m_MO_CHL.tif", "2021-05-01"),
        ("AQUA_MODIS.20210101_20210131.L3m.tif", "2021-01-01"),
        ("2021-01-01-2021-01-31.tif", "2021-01-01"),
        ("LC08_L2SP_190030_20210131_20210302_02_T1.tif", "2021-01-31"),
        ("rain_2021-02.tif", "2021-02-01"),
        ("rain_202102.tif", "2021-02-01"),
        ("LT05_200012_1985.tif", "1985-01-01"),
        ("rain_31-01-2021.tif", "2021-01-31"),
        ("rain_02-01-2021.tif", None),
        ("annual_1985.tif", "1985-01-01"),
        ("m_4709963_se_14_1_20090818.tif", "2009-08-18"),
        ("scene_7.tif", None),
        ("tile_123456789.tif", None),
        ("20210231.tif", None),
    ],
)
def test_dates_in_names(name: str, date: str | None) -> None:
    found = _named(name)
    assert found == (None if date is None else np.datetime64(date, "ns"))


def test_metadata_go_before_names(tmp_path: Path) -> None:
    write(tmp_path / "a_2021-01-01.tif", 1, time="2021-06-01T12:00:00Z")
    write(tmp_path / "b_2021-02-01.tif", 2)
    assert [str(d)[:13] for d in open_raster(str(tmp_path)).variables[0].dates] == ["2021-02-01T00", "2021-06-01T12"]


def test_when_a_file_was_written_is_no_date_and_is_said_so(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / "in" / f"frame_{number}.tif", number, TIFFTAG_DATETIME="2024:06:01 10:00:00")
    with pytest.raises(SourceError, match=r"acquired \(its TIFFTAG_DATETIME, 2024:06:01 10:00:00, is when .*written\)"):
        open_raster(str(tmp_path / "in"))


def test_members_must_have_a_date_and_pixels_of_one_size(tmp_path: Path) -> None:
    write(tmp_path / "a_2021-01-01.tif", 1)
    odd = write(tmp_path / "b_2021-02-01.tif", 2, pixel=20)
    with pytest.raises(GridError, match=r"b_2021-02-01.tif has the pixel size \(20.0, -20.0\)"):
        open_raster(str(tmp_path))
    write(odd, 2, crs="EPSG:32634")
    with pytest.raises(GridError, match="has the CRS EPSG:32634"):
        open_raster(str(tmp_path))
    write(odd, 2, shift=70)
    with pytest.raises(GridError, match="no ground that the first"):
        open_raster(str(tmp_path))
    write(odd, 2)
    odd.rename(tmp_path / "undated.tif")
    with pytest.raises(SourceError, match=r"undated.*bands of one image"):
        open_raster(str(tmp_path))


def test_shifted_members_lie_on_one_grid_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(3)
    held = [rng.integers(0, 99, (2, 6, 7)).astype("i2") for _ in range(3)]
    for month, (values, shift) in enumerate(zip(held, (0, -20, 30), strict=True), 1):
        write(tmp_path / f"{month}_2021-0{month}-01.tif", values, shift=shift)
    caplog.set_level("INFO")
    (variable,) = open_raster(str(tmp_path)).variables
    assert variable.geobox.shape == (6, 12)
    assert variable.geobox.affine == Affine(10, 0, 80, 0, -10, 900)
    for date, (values, left) in enumerate(zip(held, (2, 0, 5), strict=True)):
        whole = np.full((2, 6, 12), -1, "i2")
        whole[:, :, left : left + 7] = values
        np.testing.assert_array_equal(variable.reader.read(date, Window(0, 0, 6, 12)), whole)
        part = Window(1, 4, 4, 6)
        np.testing.assert_array_equal(variable.reader.read(date, part), whole[:, *part.slices])
        np.testing.assert_array_equal(variable.reader.valid(date, part), (whole >= 0)[0][part.slices])
    assert "3 rasters of shifted grids lie on one of 6 x 12 pixels" in caplog.text
    assert "between the pixels" not in caplog.text


def test_two_stars_look_into_folders(tmp_path: Path) -> None:
    for month in ("01", "02"):
        (tmp_path / "2021" / month).mkdir(parents=True)
        write(tmp_path / "2021" / month / f"a_2021-{month}-01.tif", 1)
    write(tmp_path / "a_2020-12-01.tif", 1)
    assert len(open_raster(f"{tmp_path}/**/*.tif").variables[0].dates) == 3


def test_tiles_of_one_pass_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a_20210101T100000.tif", 1)
    write(tmp_path / "b_20210101T100005.tif", 2, shift=30)
    write(tmp_path / "c_20210111T100000.tif", 2, shift=10)
    assert open_raster(str(tmp_path)).variables[0].geobox.shape == (6, 10)
    assert "are of one pass and on different grids (1 such pairs)" in caplog.text


def test_parts_of_a_pixel_go_to_the_nearest_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a_2021-01-01.tif", 1)
    write(tmp_path / "b_2021-02-01.tif", 2, shift=13)
    (variable,) = open_raster(str(tmp_path)).variables
    assert variable.geobox.shape == (6, 8)
    np.testing.assert_array_equal(variable.reader.read(1, Window(0, 0, 1, 8))[0, 0], [-1] + [2] * 7)
    assert "1 of 2 rasters lie between the pixels of the first and are moved" in caplog.text
    assert "by up to 0.30 pixels" in caplog.text


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    for day, size in ((1, 6), (2, 7)):
        Image.fromarray(np.ones((size, 6), "u1")).save(tmp_path / f"2021-01-0{day}.png")
    with pytest.raises(GridError, match="size"):
        open_raster(str(tmp_path))


def test_longitudes_are_not_laid_side_by_side(tmp_path: Path) -> None:
    for month, west in ((1, 0), (2, -180)):
        with rasterio.open(
            tmp_path / f"2021-0{month}.tif", "w", driver="GTiff", height=18, width=36, count=1, dtype="uint8",
            crs="EPSG:4326", transform=Affine(10, 0, west, 0, -10, 90),
        ) as file:  # fmt: skip
            file.update_tags(time=f"2021-0{month}-01")
            file.write(np.ones((1, 18, 36), "u1"))
    with pytest.raises(GridError, match="longitudes"):
        open_raster(str(tmp_path))


def test_two_files_of_a_date_are_two_dates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, value in (("b_2021-01-01", 2), ("a_2021-01-01", 1), ("a_2020-01-01", 0)):
        write(tmp_path / f"{name}.tif", value)
    (variable,) = open_raster(str(tmp_path)).variables
    assert [str(date)[:4] for date in variable.dates] == ["2020", "2021", "2021"]
    assert [int(variable.reader.read(n, Window(0, 0, 1, 1))[0, 0, 0]) for n in range(3)] == [0, 1, 2]
    assert "both of 2021-01-01T00:00:00 (1 such pairs) and are kept as two dates" in caplog.text


def test_band_files_of_a_scene_do_not_pass_for_dates(tmp_path: Path) -> None:
    for band in ("SR_B4", "SR_B5"):
        for day in ("0611", "0627"):
            write(tmp_path / f"LC08_L2SP_015033_2024{day}_20240701_02_T1_{band}.TIF", 1)
    assert len(open_raster(f"{tmp_path}/*_SR_B4.TIF").variables[0].dates) == 2
    with pytest.raises(SourceError, match=r"bands of scenes file by file \(SR_B4, SR_B5\)"):
        open_raster(f"{tmp_path}/*.TIF")


def field(day: int, days: int = 1) -> xr.Dataset:
    """A field as services deliver it: packed, a time axis of length 1, a mask that has none."""
    values = np.arange(days * 12, dtype="f4").reshape(days, 3, 4) / 10 + day
    values[:, 0, day % 4] = np.nan
    axes = {
        "time": np.datetime64("2021-03-01", "ns") + np.arange(day, day + days) * np.timedelta64(1, "D"),
        "latitude": [50.0, 49.5, 49.0],
        "longitude": [5.0, 5.5, 6.0, 6.5],
    }
    land = (("latitude", "longitude"), np.zeros((3, 4), "i1"), {"flag_values": [0, 1], "flag_meanings": "sea land"})
    made = xr.Dataset({"sst": (("time", "latitude", "longitude"), values), "land": land}, axes)
    made["sst"].attrs = {"units": "degC", "valid_time_of": f"day {day}"}
    made["sst"].encoding = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 20.0, "_FillValue": -32768}
    return made.assign_attrs(bounds=np.array([1.0, np.nan]), made=f"on day {day}")


def store(dataset: xr.Dataset, path: Path) -> None:
    if path.suffix == ".zarr":
        dataset.to_zarr(path, consolidated=False)
    else:
        dataset.to_netcdf(path, engine="h5netcdf")


def test_files_in_other_units_are_no_dates_of_one_stack(tmp_path: Path) -> None:
    """A service that goes over from K to degrees Celsius would be filled from both."""
    for day, units in enumerate(("degC", "Degrees Celsius", "degrees_celsius")):
        made = field(day)
        made["sst"].attrs["units"] = units
        store(made, tmp_path / f"{day}.nc")
    assert open_raster(str(tmp_path)).variables[0].shape[0] == 3
    made = field(3)
    made["sst"].attrs["units"] = "K"
    store(made, tmp_path / "3.nc")
    with pytest.raises(GridError, match=r"3.nc has the units \['K'\] and the first of the stack \['degC'\]; convert"):
        open_raster(str(tmp_path))


@pytest.mark.parametrize("suffix", ["nc", "h5", "zarr"])
def test_a_folder_and_a_glob_of_files_of_one_date(tmp_path: Path, suffix: str) -> None:
    for day, name in ((2, "a"), (0, "b"), (1, "c")):
        store(field(day), tmp_path / f"{name}.{suffix}")
    (tmp_path / "preview.png").write_bytes(b"")
    for source in (str(tmp_path), f"{tmp_path}/*.{suffix}"):
        raster = open_raster(source)
        sst = next(variable for variable in raster.variables if variable.name == "sst")
        assert [str(date)[:10] for date in sst.dates] == ["2021-03-01", "2021-03-02", "2021-03-03"]
        assert sst.attributes["units"] == "degC"
        assert "valid_time_of" not in sst.attributes
        assert "made" not in raster.attributes
        assert "bounds" in raster.attributes
        stored = [sst.reader.read(date, Window(0, 0, 3, 4))[0] for date in range(3)]
        assert [int(np.flatnonzero(one[0] == -32768)[0]) for one in stored] == [0, 1, 2]
        assert [one[2, 3] for one in stored] == [110 + 100 * day - 2000 for day in range(3)]


def test_a_file_of_several_dates_gives_all_of_them(tmp_path: Path) -> None:
    field(2, days=3).to_netcdf(tmp_path / "late.nc")
    field(0).to_netcdf(tmp_path / "early.nc")
    sst = next(variable for variable in open_raster(str(tmp_path)).variables if variable.name == "sst")
    assert [str(date)[8:10] for date in sst.dates] == ["01", "03", "04", "05"]
    late = field(2, days=3)["sst"].values[:, 2, 3]
    read = [float(sst.reader.read(date, Window(2, 3, 1, 1))[0, 0, 0]) * 0.01 + 20 for date in (1, 2, 3)]
    np.testing.assert_allclose(read, late, atol=0.005)


def test_layers_along_a_time_that_says_nothing_are_refused(tmp_path: Path) -> None:
    field(0).to_netcdf(tmp_path / "2021-03-01.nc")
    field(1, days=2).drop_vars("time").to_netcdf(tmp_path / "2021-03-02.nc")
    with pytest.raises(SourceError, match=r"2021-03-02.nc has 2 layers along time and does not say when"):
        open_raster(str(tmp_path))


@pytest.mark.parametrize("timed", [False, True])
def test_swaths_of_other_places_are_no_stack(tmp_path: Path, timed: bool) -> None:
    """With a time of their own, as Sentinel-5P has them, two orbits had been two dates of one place."""
    y, x = np.mgrid[:3, :4]
    dims = ("time", "row", "column") if timed else ("row", "column")
    for day in (1, 2):
        axes = {"lat": (dims[-2:], 50.0 - y + x / 9 + day), "lon": (dims[-2:], 5.0 + x + y / 9)}
        fields = xr.Dataset({"sst": (dims[-2:], np.ones((3, 4), "f4"))}, axes)
        if timed:
            fields = xr.Dataset({n: (dims, v.values[None]) for n, v in fields.variables.items()}).set_coords(list(axes))
        fields.to_netcdf(tmp_path / f"2021-03-0{day}.nc")
    with pytest.raises(GridError, match="2-D coordinates"):
        open_raster(str(tmp_path))


def test_a_cube_filled_from_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    for day in (0, 1, 2):
        store(field(day), tmp_path / f"{day}.nc")
    fill(str(tmp_path), str(tmp_path / "cube.zarr"), filler="linear-time", fillable="all")
    assert len(open_raster(str(tmp_path)).variables[0].dates) == 3
    again = fill(str(tmp_path), str(tmp_path / "cube.zarr"), filler="linear-time", fillable="all")
    assert again.status == "up to date"


@pytest.mark.parametrize("target", ["cube.zarr", "cube.nc"])
def test_files_of_a_date_are_filled_as_a_cube(tmp_path: Path, target: str) -> None:
    (tmp_path / "in").mkdir()
    for day in (0, 1, 2):
        store(field(day), tmp_path / f"in/{day}.nc")
    fill(f"{tmp_path}/in", str(tmp_path / target), filler="linear-time", fillable="all")
    opened = xr.open_zarr if target.endswith("zarr") else xr.open_dataset
    with opened(tmp_path / target) as cube:
        assert cube["sst"].dims == ("time", "y", "x")
        assert cube["sst"].notnull().all()
        for day in (0, 1, 2):
            known = field(day)["sst"].values[0]
            seen = np.isfinite(known)
            np.testing.assert_allclose(cube["sst"].values[day][seen], known[seen], atol=0.0051)
            assert (cube["sst_source"].values[day] == 0).tolist() == seen.tolist()


def test_shifted_dates_and_two_of_a_day_are_filled_and_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for name, shift in (("a_2021-01-01", 0), ("b_2021-01-01", 20), ("c_2021-01-09", -10)):
        values = rng.integers(400, 500, (2, 6, 7)).astype("i2")
        values[:, 2:4, 3] = -1
        write(tmp_path / "in" / f"{name}.tif", values, shift=shift)
    fill(f"{tmp_path}/in", f"{tmp_path}/out/", filler="linear-time", fillable="all")
    for name, left in (("a_2021-01-01", 1), ("b_2021-01-01", 3), ("c_2021-01-09", 0)):
        with rasterio.open(tmp_path / f"out/{name}.tif") as made, rasterio.open(tmp_path / f"in/{name}.tif") as given:
            assert made.transform == Affine(10, 0, 90, 0, -10, 900)
            known = given.read() >= 0
            np.testing.assert_array_equal(made.read()[:, :, left : left + 7][known], given.read()[known])
            assert (made.read() >= 0).all()


def test_a_stack_written_to_a_folder_opens_as_the_same_stack(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for month in (1, 2, 3):
        write(source / f"ndvi_2021-0{month}-01.tif", month)
    raster = open_raster(str(source))
    (variable,) = raster.variables
    value = np.stack([variable.reader.read(n, Window(0, 0, 6, 7)) for n in range(3)])
    zeros = np.zeros(variable.shape)
    filled = ProductVariable(variable, value, zeros.astype("u1"), zeros.astype("u2"), zeros.astype("f4"))
    written = write_product(
        Product(raster, (filled,), {"geodiff_fingerprint": "9"}, {"observed": 0}, {"nodata": 1}), f"{tmp_path}/out/"
    )
    assert {p.name for p in (tmp_path / "out").glob("*-01.tif")} == {p.name for p in source.iterdir()}
    assert len(written) == 3 * 4 + 1
    again = open_raster(f"{tmp_path}/out/")
    assert again.variables[0].dates == variable.dates
    assert again.variables[0].geobox == variable.geobox
    np.testing.assert_array_equal(again.variables[0].reader.read(2, Window(0, 0, 6, 7)), value[2])


def test_layers_of_one_product_are_no_dates_and_the_cure_is_told(tmp_path: Path) -> None:
    write(tmp_path / "LST_2021-01-01.tif", 1)
    with rasterio.open(
        tmp_path / "QC_2021-01-01.tif", "w", driver="GTiff", height=6, width=7, count=2, dtype="uint16",
        crs="EPSG:32633", transform=Affine(10, 0, 100, 0, -10, 900),
    ):  # fmt: skip
        pass
    with pytest.raises(GridError, match=r"layers of one product, give those of one layer.*--qa PRESET:.*--mask"):
        open_raster(str(tmp_path))

"""What a restoration promises whatever its network has learnt: grids, exact pixels, layers, refusals, repetition.

The network here is one that says "the classical estimate, give or take its error": laws hold for any.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from typer.testing import CliRunner

import geodiff
from geodiff.cli import app
from geodiff.diffusion.folder import Calibration
from geodiff.errors import InputError, JobError, MemoryPlanError, NothingKnownError, TargetError
from geodiff.fillers import load_filler
from geodiff.lattice import repeated
from geodiff.restoring import RestoreJob
from geodiff.restoring.product import enlarged_raster

SIDE = 96


@dataclass(frozen=True)
class Modest:
    """A network that adds nothing to the classical estimate, and whose realisations are the noise they begin with."""

    calibration: Calibration = field(default_factory=Calibration)

    def value(self, context: np.ndarray, wanted: np.ndarray, scalars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert context.shape[0] == wanted.shape[0] == scalars.shape[0]
        return np.zeros(wanted.shape, np.float32), np.ones(wanted.shape, np.float32)

    def residuals(self, context: np.ndarray, wanted: np.ndarray, noise: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        assert context.shape[0] == len(noise)
        return noise


@pytest.fixture(autouse=True)
def modest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodiff.diffusion.denoiser.open_denoiser", lambda *_, **__: Modest())
    monkeypatch.setattr("geodiff.blocks.filler_of", lambda _: load_filler("laplace"))


def scene(rows: int = SIDE, columns: int = SIDE) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return 110 + 40 * np.sin(y / 9) * np.cos(x / 13) + 25 * (x > y)


def write(path: Path, values: np.ndarray, **profile: Any) -> Path:
    bands = values[None] if values.ndim == 2 else values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", count=len(bands), height=bands.shape[1], width=bands.shape[2], dtype=str(bands.dtype), **profile
        ) as out:
            out.write(bands)
    return path


@contextmanager
def ignoring_place() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def read(path: Path | str) -> np.ndarray:
    with ignoring_place(), rasterio.open(path) as opened:
        return opened.read()


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """A grainy camera frame with a lost block, 0 where it was lost."""
    values = np.clip(scene() + np.random.default_rng(1).normal(0, 8, (SIDE, SIDE)), 1, 255).astype("uint8")
    values[30:46, 40:72] = 0
    return write(tmp_path / "frame.png", values, driver="PNG")


@pytest.fixture
def map_(tmp_path: Path) -> Path:
    """A map of float numbers on a sphere that is not the Earth, with a lost block."""
    values = scene().astype("float32") / 7
    values[30:46, 40:72] = -9999
    place = Affine(60.25, 0, 1000.5, 0, -60.25, 77.75)
    moon = "+proj=eqc +R=1737400 +units=m"
    return write(tmp_path / "map.tif", values, driver="GTiff", nodata=-9999, transform=place, crs=moon)


# -- exact pixels


def test_inpainting_alone_leaves_every_known_pixel(frame: Path, tmp_path: Path) -> None:
    record = geodiff.restore(frame, tmp_path / "out.png", task="inpaint", nodata=0, members=0)
    before, after, source = read(frame), read(tmp_path / "out.png"), read(tmp_path / "out_source.tif")
    known = before != 0
    np.testing.assert_array_equal(after[known], before[known])
    assert set(np.unique(source[known])) == {0}
    assert (after[~known] != 0).all()
    assert (source[~known] == geodiff.fillers.CODES["laplace"]).all()
    error = read(tmp_path / "out_standard_error.tif")
    assert (error[known] == 0).all()
    assert (error[~known] > 0).all()
    assert record.variables["band_data"]["filled"] == (~known).sum()


def test_denoising_alone_leaves_holes_as_nodata(map_: Path, tmp_path: Path) -> None:
    geodiff.restore(map_, tmp_path / "out.tif", task="denoise", noise=1.0, members=2)
    holes = read(map_) == -9999
    value, source, error = (read(tmp_path / f"out{end}.tif") for end in ("", "_source", "_standard_error"))
    np.testing.assert_array_equal(value == -9999, holes)
    assert set(np.unique(source[holes])) == {255}
    assert set(np.unique(source[~holes])) == {20}  # none is what was observed
    assert np.isnan(error[holes]).all()
    assert (error[~holes] > 0).all()
    assert ((read(tmp_path / "out_members.tif") == -9999) == holes).all()
    assert (read(tmp_path / "out_reason.tif") != 0)[holes].all()


def test_special_pixels_that_are_not_filled_stay_what_they_are(tmp_path: Path) -> None:
    values = (scene() * 40 + np.random.default_rng(2).normal(0, 60, (SIDE, SIDE))).astype("int16")
    values[10:20, 5:30], values[40:44], values[50:60, 50:60] = -32768, -32766, -32764  # null, low and high saturation
    path = write(tmp_path / "frame.cub", values, driver="ISIS3")
    for task, factor in (("denoise", 1), ("superres", 2)):
        geodiff.restore(path, tmp_path / f"{task}.tif", task=task, members=1)
        special = repeated(np.where(values < -32760, values, 0), factor)
        for name in (f"{task}.tif", f"{task}_members.tif"):
            product = read(tmp_path / name)[0]
            np.testing.assert_array_equal(np.where(product < -32760, product, 0), special)


@pytest.mark.parametrize(("task", "factor"), [("denoise", 1), ("denoise,inpaint", 1), ("superres,denoise", 2)])
def test_numbers_that_are_no_measurements_stay_and_spoil_nothing(tmp_path: Path, task: str, factor: int) -> None:
    values = (scene() + np.random.default_rng(2).normal(0, 8, (SIDE, SIDE))).astype("float32")
    geodiff.restore(write(tmp_path / "a.tif", values, driver="GTiff"), tmp_path / "sound.tif", task=task, members=1)
    values[20, 30], values[60:62, 50] = -3.4028225e38, 3e38
    geodiff.restore(write(tmp_path / "b.tif", values, driver="GTiff"), tmp_path / "wild.tif", task=task, members=1)
    odd = repeated(np.abs(values) > 1e30, factor)
    for name in ("wild.tif", "wild_members.tif"):
        np.testing.assert_array_equal(read(tmp_path / name)[0][odd], repeated(values, factor)[odd])
    np.testing.assert_allclose(read(tmp_path / "wild.tif")[0][~odd], read(tmp_path / "sound.tif")[0][~odd], atol=8)
    code, error = (0, 0.0) if factor == 1 else (geodiff.fillers.CODES["nearest"], np.nan)
    assert (read(tmp_path / "wild_source.tif")[0][odd] == code).all()
    np.testing.assert_array_equal(read(tmp_path / "wild_standard_error.tif")[0][odd], error)


def test_a_frame_that_is_lost_beside_its_largest_numbers_is_refused_and_a_likely_nodata_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = scene().astype("float32") + np.random.default_rng(2).normal(0, 8, (SIDE, SIDE)).astype("float32")
    values[:5] = -1e13
    source = write(tmp_path / "a.tif", values, driver="GTiff")
    for task in ("denoise", "superres"):
        with pytest.raises(InputError, match=r"-1e\+13 to .*--nodata"):
            geodiff.restore(source, tmp_path / "out.tif", task=task)
    geodiff.restore(source, tmp_path / "out.tif", task="denoise", nodata=-1e13, members=0)
    counts = write(tmp_path / "b.tif", np.where(values < -1e12, -32768, values).astype("int16"), driver="GTiff")
    geodiff.restore(counts, tmp_path / "counts.tif", task="denoise", members=0)
    assert "are exactly -32768" in caplog.text


def test_lines_of_the_lowest_float_spoil_nothing_and_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = scene().astype("float32") + np.random.default_rng(2).normal(0, 8, (SIDE, SIDE)).astype("float32")
    values[:5] = np.finfo("float32").min
    source = write(tmp_path / "a.tif", values, driver="GTiff")
    geodiff.restore(source, tmp_path / "out.tif", task="denoise", members=0)
    assert "are exactly -3.402823466e+38" in caplog.text
    geodiff.restore(source, tmp_path / "told.tif", task="denoise", members=0, nodata=float(np.finfo("float32").min))
    found, told = read(tmp_path / "out.tif")[0], read(tmp_path / "told.tif")[0]
    np.testing.assert_array_equal(found[:5], values[:5])
    np.testing.assert_allclose(found[13:], told[13:], atol=1)


def test_denoise_and_inpaint_go_in_one_pass(frame: Path, tmp_path: Path) -> None:
    record = geodiff.restore(frame, tmp_path / "out.png", task="inpaint,denoise", nodata=0, members=3)
    source, reason = read(tmp_path / "out_source.tif"), read(tmp_path / "out_reason.tif")
    assert set(np.unique(source)) == {20}
    np.testing.assert_array_equal(reason != 0, read(frame) == 0)  # what was invented can still be told
    assert read(tmp_path / "out_members.tif").shape == (3, SIDE, SIDE)
    assert record.variables["band_data"]["noise"]["band_1"] == pytest.approx(8, rel=0.2)
    error = read(tmp_path / "out_standard_error.tif")
    assert error.dtype == np.float32
    assert (error >= 1 / np.sqrt(12) - 1e-6).all()  # storage rounds to whole counts
    truth = scene()
    known = read(frame)[0] != 0
    off_before, off_after = (
        np.abs(read(p)[0].astype(float) - truth)[known].mean() for p in (frame, tmp_path / "out.png")
    )
    assert off_after < 0.6 * off_before


def test_a_frame_without_noise_stays_exact(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.tif", np.full((SIDE, SIDE), 7, "int16"), driver="GTiff")
    geodiff.restore(path, tmp_path / "out.tif", task="denoise", members=1)
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), read(path))
    assert (read(tmp_path / "out_source.tif") == 0).all()
    assert (read(tmp_path / "out_standard_error.tif") == 0).all()


# -- finer grids


@pytest.mark.parametrize("factor", [2, 4])
def test_what_was_enlarged_is_the_source_when_it_is_averaged(map_: Path, tmp_path: Path, factor: int) -> None:
    geodiff.restore(map_, tmp_path / "out.tif", task="superres", factor=factor, members=2)
    before, after, members = read(map_)[0], read(tmp_path / "out.tif")[0], read(tmp_path / "out_members.tif")
    assert after.shape == (SIDE * factor, SIDE * factor)
    known = before != -9999
    for image in (after, *members):
        means = image.reshape(SIDE, factor, SIDE, factor).mean(axis=(1, 3), dtype=np.float64)
        np.testing.assert_allclose(means[known], before[known], atol=2e-4)
    np.testing.assert_array_equal(after == -9999, repeated(~known, factor))
    with rasterio.open(map_) as source, rasterio.open(tmp_path / "out.tif") as fine:
        assert fine.crs == source.crs
        assert fine.transform == source.transform @ Affine.scale(1 / factor)  # exact: a power of two
        assert fine.bounds == source.bounds
        assert fine.nodata == source.nodata


def test_counts_are_consistent_to_their_rounding(frame: Path, tmp_path: Path) -> None:
    geodiff.restore(frame, tmp_path / "out.png", task="superres,inpaint", nodata=0, members=0)
    before, after = read(frame)[0], read(tmp_path / "out.png")[0].astype(float)
    means = after.reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    inside = before > 3  # 0 is nodata, so what comes to 0 is stored as 1
    assert np.abs(means - before)[inside].max() <= 0.5
    assert (after != 0).all()


def test_a_saturated_frame_stays_within_what_its_camera_tells_apart(tmp_path: Path) -> None:
    grainy = 30 * scene() + np.random.default_rng(2).normal(scale=300, size=(SIDE, SIDE))
    counts = np.clip(np.rint(grainy), 0, 4095).astype("int16")  # 12 bits in 16
    assert (counts == 4095).sum() > 100
    path = write(tmp_path / "frame.tif", counts, driver="GTiff")
    for task in ("denoise", "superres"):
        geodiff.restore(path, tmp_path / f"{task}.tif", task=task, members=2)
        for image in (*read(tmp_path / f"{task}.tif"), *read(tmp_path / f"{task}_members.tif")):
            assert image.min() >= 0
            assert image.max() <= 4095
    means = read(tmp_path / "superres.tif")[0].astype(float).reshape(SIDE, 2, SIDE, 2).mean(axis=(1, 3))
    assert np.abs(means - counts).max() <= 0.5


def test_control_points_and_polynomials_of_a_frame_count_its_finer_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "frame.tif", scene().astype("uint8"), driver="GTiff")
    numbers = {f"{axis}_{what}_COEFF": " ".join(["1.0"] * 20) for axis in ("LINE", "SAMP") for what in ("NUM", "DEN")}
    places = {f"{axis}_{what}": "7.0" for axis in ("LAT", "LONG", "HEIGHT") for what in ("OFF", "SCALE")}
    image = {"LINE_OFF": "5.0", "LINE_SCALE": "6.0", "SAMP_OFF": "9.5", "SAMP_SCALE": "10.0"}
    with ignoring_place(), rasterio.open(path, "r+") as file:
        file.rpcs = RPC.from_gdal({**numbers, **places, **image})
        file.gcps = ([GroundControlPoint(4, 10.5, 1.0, 2.0), GroundControlPoint(0, 0, 3.0, 4.0)], CRS.from_epsg(4326))
    geodiff.restore(path, tmp_path / "out.tif", task="superres", factor=4, members=0)
    for name in ("out.tif", "out_standard_error.tif"):
        with rasterio.open(tmp_path / name) as fine:
            points, crs = fine.gcps
            assert [(p.row, p.col, p.x, p.y) for p in points] == [(16, 42, 1, 2), (0, 0, 3, 4)]  # corners
            assert crs == CRS.from_epsg(4326)
            assert (fine.rpcs.line_off, fine.rpcs.line_scale) == (21.5, 24)  # a middle, half a pixel in
            assert (fine.rpcs.samp_off, fine.rpcs.samp_scale) == (39.5, 40)
            assert fine.rpcs.lat_off == 7


@pytest.mark.parametrize("kind", [".zarr", ".nc"])
def test_an_enlarged_dataset_keeps_its_ground(map_: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / f"out{kind}"
    geodiff.restore(map_, target, task="superres", members=2)
    opened = xr.open_zarr(target) if kind == ".zarr" else xr.open_dataset(target)
    with opened as product:
        assert product["band_data"].shape == (2 * SIDE, 2 * SIDE)
        assert product["band_data_member"].shape == (2, 2 * SIDE, 2 * SIDE)
        np.testing.assert_allclose(product.x.values[:2], [1000.5 + 60.25 / 4, 1000.5 + 3 * 60.25 / 4])
        numbers = [float(n) for n in product.spatial_ref.attrs["GeoTransform"].split()]
        assert numbers == [1000.5, 30.125, 0, 77.75, 0, -30.125]
        assert product.attrs["geodiff_task"] == "superres"
    again = geodiff.open_scene(target).raster.variables[0]
    assert tuple(again.geobox.shape) == (2 * SIDE, 2 * SIDE)


@given(st.integers(0, 19), st.integers(0, 15), st.integers(1, 20), st.integers(1, 16), st.sampled_from([2, 4]))
def test_any_window_of_a_finer_grid_is_cut_from_the_repeated_whole(
    row: int, column: int, height: int, width: int, factor: int
) -> None:
    from geodiff.arrays import _cube
    from geodiff.io import Raster
    from geodiff.lattice import Window

    planes = np.arange(40.0).reshape(1, 5, 8)
    raster = Raster("memory", "none", (_cube(planes).variable,))
    fine = enlarged_raster(raster, factor).variables[0]
    rows, columns = fine.shape[2:]
    window = Window(min(row, rows - 1), min(column, columns - 1), 1, 1)
    window = Window(window.row, window.column, min(height, rows - window.row), min(width, columns - window.column))
    np.testing.assert_array_equal(fine.reader.read(0, window), repeated(planes, factor)[(..., *window.slices)])
    assert fine.geobox.affine.is_identity  # a frame that lies nowhere goes on lying nowhere


def test_bands_that_were_not_asked_for_are_copied_and_say_so(tmp_path: Path) -> None:
    values = np.stack([scene(), scene()[::-1]]).astype("uint8")
    path = write(tmp_path / "two.tif", values, driver="GTiff")
    geodiff.restore(path, tmp_path / "same.tif", task="denoise", bands="1", noise=5, members=0)
    np.testing.assert_array_equal(read(tmp_path / "same.tif")[1], values[1])
    assert set(np.unique(read(tmp_path / "same_source.tif")[1])) == {0}
    geodiff.restore(path, tmp_path / "fine.tif", task="superres", bands="1", members=0)
    np.testing.assert_array_equal(read(tmp_path / "fine.tif")[1], repeated(values[1], 2))
    assert set(np.unique(read(tmp_path / "fine_source.tif")[1])) == {geodiff.fillers.CODES["nearest"]}
    assert np.isnan(read(tmp_path / "fine_standard_error.tif")[1]).all()


# -- colour frames


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A grainy colour frame; in the green band a block was lost."""
    values = portrait() + np.random.default_rng(4).normal(0, 15, (3, 96, 96))
    values = np.clip(np.rint(values), 1, 255).astype("uint8")
    values[1, 30:46, 40:72] = 0
    return write(tmp_path / "colours.png", values, driver="PNG")


def portrait() -> np.ndarray:
    from skimage import data

    return np.moveaxis(data.astronaut()[:96, 100:196], -1, 0).astype(np.float64)


def test_the_bands_of_a_colour_frame_are_cleared_together(colours: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"task": "denoise,inpaint", "nodata": 0, "members": 1, "steps": 4}
    record = geodiff.restore(colours, tmp_path / "all.png", **options)
    geodiff.restore(colours, tmp_path / "red.png", bands="1", **options)
    truth, members = portrait(), read(tmp_path / "all_members.tif").astype(float)
    together, alone = (read(tmp_path / name).astype(float) - truth for name in ("all.png", "red.png"))
    lost = read(colours)[1] == 0
    assert np.sqrt((together[0][~lost] ** 2).mean()) < 0.9 * np.sqrt((alone[0][~lost] ** 2).mean())
    assert np.sqrt((together[0][lost] ** 2).mean()) < 0.95 * np.sqrt((alone[0][lost] ** 2).mean())  # with blue
    assert np.sqrt((together[1][lost] ** 2).mean()) < 12  # 30 by its own surroundings
    assert list(record.variables["band_data"]["noise"].values()) == pytest.approx([15, 15, 15], rel=0.15)
    error = read(tmp_path / "all_standard_error.tif")
    assert 0.86 < (np.abs(together) < 1.645 * error)[:, ~lost].mean() < 0.97
    assert (np.abs(together) < 1.645 * error)[1, lost].mean() > 0.85
    grain = members - read(tmp_path / "all.png")
    assert np.corrcoef(grain[0][~lost], grain[2][~lost])[0, 1] > 0.3  # a member's grain is that of the scene


# -- noise of other kinds


def test_what_one_colour_lost_the_others_tell_where_pixels_are_divided() -> None:
    from geodiff.diffusion.frames import coarsened
    from geodiff.restoring.bands import restored_bands

    job = RestoreJob.build(source="a.tif", target="b.tif", task="superres,inpaint", members=2)
    truth, known = portrait(), np.ones((3, 96, 96), bool)
    known[1, 40:44], known[:, 60:66, 30:40] = False, False
    made = list(restored_bands(truth, known, job, Modest(), keys=(0, 1, 2), bounds=[(0, 255)] * 3))  # type: ignore[arg-type]
    value, error = (coarsened(plane, 2)[40:44] for plane in (made[1].value, made[1].standard_error))
    off = np.abs(value - truth[1, 40:44])
    assert np.sqrt((off**2).mean()) < 5  # 15 by its own surroundings
    assert (off < 1.645 * error).mean() > 0.8
    drawn = coarsened(made[1].members[0] - made[1].members[1], 2)
    assert np.abs(drawn[40:44]).mean() > 0.3  # cells that were observed keep their means, in members too
    np.testing.assert_allclose(drawn[:38], 0, atol=1e-3)


@pytest.mark.parametrize("rim", [0, 255])
def test_a_rim_without_grain_does_not_hide_the_grain_of_colours(rim: int) -> None:
    from geodiff.restoring.bands import restored_bands

    job, known = RestoreJob.build(source="a.tif", target="b.tif", task="denoise", members=0), np.ones((3, 96, 96), bool)
    truth, off = portrait(), {}
    grainy = truth + np.random.default_rng(6).normal(0, 15, truth.shape)
    for framed in (False, True):
        seen = np.clip(grainy, 1, 254)
        if framed:
            seen[:, :40], seen[:, :, :24] = rim, rim
        made = restored_bands(seen, known, job, Modest(), keys=(0, 1, 2), bounds=[(0, 255)] * 3)  # type: ignore[arg-type]
        inside = np.stack([band.value for band in made])[:, 48:, 32:]
        off[framed] = np.sqrt(np.mean((inside - truth[:, 48:, 32:]) ** 2))
    assert off[True] < 1.15 * off[False]


def test_photon_noise_is_taken_with_its_brightness(tmp_path: Path) -> None:
    light = np.repeat(np.linspace(6, 240, SIDE)[None], SIDE, axis=0)
    values = (2.0 * np.random.default_rng(3).poisson(light / 2.0)).astype("float32")
    path = write(tmp_path / "dark.tif", values, driver="GTiff")
    geodiff.restore(path, tmp_path / "out.tif", task="denoise", poisson=2.0, members=0)
    value, error = read(tmp_path / "out.tif")[0], read(tmp_path / "out_standard_error.tif")[0]
    assert np.abs(value - light).mean() < 0.6 * np.abs(values - light).mean()
    assert abs((value - light)[:, :20].mean()) < 1.0  # no bias in the dark
    assert error[:, -20:].mean() > 1.5 * error[:, :20].mean()


def test_a_compressed_frame_is_taken_for_as_noisy_as_its_table_says(tmp_path: Path) -> None:
    noise = {}
    for quality in (12, 95):
        path = write(tmp_path / f"q{quality}.jpg", scene().astype("uint8"), driver="JPEG", quality=quality)
        record = geodiff.restore(path, tmp_path / f"q{quality}.png", task="denoise", members=0)
        noise[quality] = record.variables["band_data"]["noise"]["band_1"]
    assert noise[12] > 2 * noise[95] > 0


@pytest.mark.parametrize("gain", [1, 16])
def test_a_frame_that_was_once_compressed_is_taken_for_as_noisy(
    gain: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from skimage import data

    frame = write(tmp_path / "a.jpg", data.camera()[:256, :256], driver="JPEG", quality=30)
    decoded = read(frame)[0, 3:].astype("uint16" if gain > 1 else "uint8") * gain
    path = write(tmp_path / "a.png", decoded, driver="PNG")
    noise = {}
    for source in (frame, path):
        record = geodiff.restore(source, tmp_path / f"{source.stem}.tif", task="denoise", members=0, overwrite=True)
        noise[source] = record.variables["band_data"]["noise"]["band_1"]
    assert noise[path] / gain == pytest.approx(noise[frame], rel=0.3)
    assert "was compressed as JPEG before it became PNG" in caplog.text


# -- repetition


def test_the_same_job_gives_the_same_bytes_and_is_not_done_twice(frame: Path, tmp_path: Path) -> None:
    job = {"task": "denoise,inpaint", "nodata": 0, "members": 2, "seed": 5}
    first = geodiff.restore(frame, tmp_path / "a" / "out.tif", **job)
    geodiff.restore(frame, tmp_path / "b" / "out.tif", **job)
    for path in first.products:
        assert Path(path).read_bytes() == (tmp_path / "b" / Path(path).name).read_bytes()
    assert geodiff.restore(frame, tmp_path / "a" / "out.tif", **job).status == "up to date"
    with pytest.raises(TargetError, match="--overwrite"):
        geodiff.restore(frame, tmp_path / "a" / "out.tif", **{**job, "seed": 6})
    geodiff.restore(frame, tmp_path / "a" / "out.tif", **{**job, "seed": 6}, overwrite=True)
    np.testing.assert_array_equal(read(tmp_path / "a" / "out.tif"), read(tmp_path / "b" / "out.tif"))
    assert (read(tmp_path / "a" / "out_members.tif") != read(tmp_path / "b" / "out_members.tif")).any()
    geodiff.restore(frame, tmp_path / "a" / "out.tif", task="denoise", members=0, overwrite=True)
    assert not (tmp_path / "a" / "out_members.tif").exists()  # of the product that was replaced


def test_what_is_not_its_own_is_not_deleted(frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    geodiff.fill(frame, "out/a.zarr", filler="laplace")
    first = geodiff.restore(frame, "out/a.tif", task="denoise", members=2)
    again = geodiff.restore(frame, tmp_path / "out/a.tif", task="denoise", members=2, seed=1, overwrite=True)
    assert [Path(path).name for path in again.products] == [Path(path).name for path in first.products]
    assert all(Path(path).exists() for path in again.products)
    assert geodiff.fill(frame, "out/a.zarr", filler="laplace").status == "up to date"
    with pytest.raises(TargetError, match=r"over those of out/a\.tif"):
        geodiff.restore(frame, "out/a.png", task="denoise")
    assert all(Path(path).exists() for path in again.products)


def test_a_kill_before_the_record_leaves_no_old_layer_for_good(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=2)
    with monkeypatch.context() as patched:
        patched.setattr("geodiff.restoring.delete_left_layers", stop)
        with pytest.raises(KeyboardInterrupt):
            geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=0, overwrite=True)
    assert geodiff.restore(frame, tmp_path / "a.tif", task="denoise", members=0).status == "done"
    assert not (tmp_path / "a_members.tif").exists()


def test_a_product_says_what_was_done_to_it(frame: Path, tmp_path: Path) -> None:
    record = geodiff.restore(frame, tmp_path / "out.tif", task="denoise", noise=6.5, members=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "out.tif") as opened:
            tags = opened.tags()
    assert tags["geodiff_task"] == "denoise"
    assert tags["geodiff_noise"] == "band_data/band_1=6.5"
    assert tags["geodiff_command"] == f"geodiff restore {frame} out.tif --task denoise --noise 6.5 --members 0"
    assert len(tags["geodiff_model_hash"]) == 64
    assert "history" in tags
    kept = json.loads((tmp_path / "out.geodiff.json").read_text())
    assert kept["fingerprint"] == record.fingerprint == tags["geodiff_fingerprint"]
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob(".*partial*"))


# -- refusals


def test_what_is_not_given_is_named() -> None:
    with pytest.raises(JobError, match=r"^TARGET and --task are missing; give them$"):
        RestoreJob.build(source="a.tif")



@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "sharpen"}, "there is no task 'sharpen'"),
        ({"task": ""}, "there is no task ''"),
        ({"task": "inpaint", "noise": 3}, "--noise belongs to denoise"),
        ({"task": "denoise", "factor": 4}, "--factor belongs to superres"),
        ({"task": "superres", "factor": 3}, "--factor 3"),
        ({"task": "denoise", "noise": -1}, "--noise -1"),
        ({"task": "denoise", "detect": "clouds"}, "named detector"),
        ({"task": "denoise", "colour": 1}, "`geodiff restore --help` lists them"),
        ({"task": "denoise", "device": "gpu"}, "--device gpu: choose auto, cpu, cuda"),
        ({"task": "denoise", "valid_range": "5"}, "--valid-range 5 is not two numbers; give A,B"),
        ({"task": "denoise", "valid_range": (1, 2, 3)}, "--valid-range 1,2,3 is not two numbers; give A,B"),
        ({"task": "denoise", "members": -1}, "--members -1: it should be"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        geodiff.restore(tmp_path / "a.tif", tmp_path / "b.tif", **options)


def test_what_does_not_fit_is_refused_before_any_work(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=600 << 20))
    with pytest.raises(MemoryPlanError, match=r"384 x 384 pixels with 4 members need .* GiB are free; use fewer"):
        geodiff.restore(frame, tmp_path / "out.tif", task="superres", factor=4)
    assert not (tmp_path / "out.tif").exists()


def test_nothing_known_and_a_source_as_target_are_refused(frame: Path, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.tif", np.zeros((32, 32), "uint8"), driver="GTiff", nodata=0)
    with pytest.raises(NothingKnownError):
        geodiff.restore(empty, tmp_path / "out.tif", task="denoise")
    before = frame.read_bytes()
    with pytest.raises(TargetError, match="would be destroyed"):
        geodiff.restore(frame, frame, task="denoise", overwrite=True)
    assert frame.read_bytes() == before


def test_a_band_of_which_nothing_is_known_stays_empty(tmp_path: Path) -> None:
    values = np.stack([scene(), np.zeros((SIDE, SIDE))]).astype("uint8")
    path = write(tmp_path / "two.tif", values, driver="GTiff", nodata=0)
    geodiff.restore(path, tmp_path / "out.tif", task="denoise", members=0, fillable="all")
    assert (read(tmp_path / "out.tif")[1] == 0).all()
    assert (read(tmp_path / "out_source.tif")[1] == 255).all()


# -- the front


def test_the_command_line_does_the_same_and_tells_the_noise(frame: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(
        app, ["restore", str(frame), str(tmp_path / "out.png"), "--task", "denoise", "--members", "0", "-q"]
    )
    assert run.exit_code == 0, run.output
    assert "noise of band_1:" in run.output
    assert f"wrote {tmp_path / 'out.png'}" in run.output
    again = CliRunner().invoke(
        app, ["restore", str(frame), str(tmp_path / "out.png"), "--task", "denoise", "--members", "0", "--json"]
    )
    assert json.loads(again.stdout)["status"] == "up to date"


def test_noise_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.tif", np.full((SIDE, SIDE), 7, "int16"), driver="GTiff")
    for task, said in (("denoise", ["noise of band_1: none found"]), ("superres", [])):
        run = CliRunner().invoke(app, ["restore", str(path), str(tmp_path / f"{task}.tif"), "--task", task])
        assert [line.strip() for line in run.output.splitlines() if "noise" in line and "wrote" not in line] == said


def test_a_job_spells_itself_so_that_it_can_be_typed() -> None:
    job = RestoreJob.build(source="a b.img", target="o.tif", task="inpaint,denoise", detect=("dropouts",), seed=3)
    assert job.command() == "geodiff restore 'a b.img' o.tif --task denoise,inpaint --detect dropouts --seed 3"
    assert job.fingerprint() == RestoreJob.build(**{**job.model_dump(), "target": "other.tif"}).fingerprint()
    assert job.fingerprint() != job.model_copy(update={"noise": 1.0}).fingerprint()
    masked = RestoreJob.build(source="a.img", target="o.tif", task="inpaint", mask=("a,b.tif", "c.tif"))
    assert masked.command() == "geodiff restore a.img o.tif --task inpaint --mask a,b.tif --mask c.tif"

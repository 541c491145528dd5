"""What restoring leaves as it was: known pixels, special ones, and numbers that are no measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import geodiff
from geodiff.errors import InputError
from geodiff.lattice import repeated
from tests.restoring.frames import SIDE, read, scene, write


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


def test_a_band_of_which_nothing_is_known_stays_empty(tmp_path: Path) -> None:
    values = np.stack([scene(), np.zeros((SIDE, SIDE))]).astype("uint8")
    path = write(tmp_path / "two.tif", values, driver="GTiff", nodata=0)
    geodiff.restore(path, tmp_path / "out.tif", task="denoise", members=0, fillable="all")
    assert (read(tmp_path / "out.tif")[1] == 0).all()
    assert (read(tmp_path / "out_source.tif")[1] == 255).all()

"""Noise of several kinds, and what the bands of a colour frame tell of each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import geodiff
from geodiff.cli import app
from geodiff.restoring import RestoreJob
from tests.restoring.frames import SIDE, Modest, portrait, read, scene, write


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A grainy colour frame; in the green band a block was lost."""
    values = portrait() + np.random.default_rng(4).normal(0, 15, (3, 96, 96))
    values = np.clip(np.rint(values), 1, 255).astype("uint8")
    values[1, 30:46, 40:72] = 0
    return write(tmp_path / "colours.png", values, driver="PNG")


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


def test_noise_is_told_where_it_was_looked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "flat.tif", np.full((SIDE, SIDE), 7, "int16"), driver="GTiff")
    for task, said in (("denoise", ["noise of band_1: none found"]), ("superres", [])):
        run = CliRunner().invoke(app, ["restore", str(path), str(tmp_path / f"{task}.tif"), "--task", task])
        assert [line.strip() for line in run.output.splitlines() if "noise" in line and "wrote" not in line] == said

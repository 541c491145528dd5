"""Directions are filled by way of their cosine and sine: through the whole line, and with what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import geodiff
from geodiff.channels import bands_of, load_turns, stored_turns
from geodiff.errors import SourceError
from geodiff.estimate import estimate
from geodiff.fillers import Fitted, SceneSample, load_filler
from geodiff.fitting import fit_cube, load_cube_fit
from geodiff.inspection import describe, render
from geodiff.io.cf import open_dataset_as_raster
from geodiff.job import FillJob
from geodiff.lattice import Window
from geodiff.learning import user_sources
from geodiff.scan import scan_cube
from geodiff.scene import Cube, scene_of
from geodiff.score import Budget, score_cube
from geodiff.turns import Turn
from tests.rasters import read, surface, write

SIZE = (96, 112)
DEGREES = Turn(360.0, 0.0)


def wind() -> np.ndarray:
    """Directions all the way round, which cross north more than once."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.mod(3.6 * x + 40 * np.sin(y / 20), 360)


def apart(first: Any, second: Any, turn: float = 360.0) -> np.ndarray:
    return np.abs(np.mod(np.asarray(first, float) - second + turn / 2, turn) - turn / 2)


HOLES = np.zeros(SIZE, bool)
for row, column in ((20, 95), (30, 20), (48, 60), (70, 92), (78, 30)):
    HOLES[row - 5 : row + 6, column - 6 : column + 7] = True


def cube_of(values: np.ndarray, **attributes: str) -> Cube:
    axes = {"y": -np.arange(values.shape[0]), "x": np.arange(values.shape[1])}
    dataset = xr.Dataset({"v": (("y", "x"), values, attributes)}, axes)
    return scene_of(open_dataset_as_raster(dataset), FillJob.build(source="v", target="filled.zarr")).cubes[0]


def scanned(cube: Cube, **options: Any) -> Any:
    reason = np.zeros((1, len(cube.bands), *cube.shape), np.uint16)
    return scan_cube(cube, reason, np.zeros(cube.shape, bool), options.pop("buffer", 0), **options)


def test_between_350_and_10_degrees_lies_north() -> None:
    truth = wind()
    crossing = HOLES & (apart(truth, 0) < 25)
    assert crossing.sum() > 50
    value, error = geodiff.fill_array(np.where(HOLES, np.nan, truth), filler="laplace")
    assert apart(value, truth)[HOLES].max() < 5
    assert np.array_equal(value[~HOLES], truth[~HOLES])
    assert 0 < error[HOLES].max() < 20


def test_a_band_of_directions_and_one_of_speeds_are_filled_each_its_way(tmp_path: Path) -> None:
    stored = np.stack([surface(*SIZE), 1 + (np.rint(wind()) - 1) % 360]).astype(np.int16)
    stored[:, HOLES] = -1
    options: dict[str, Any] = {"filler": "laplace", "quantiles": "0.05,0.95"}
    record = geodiff.fill(write(tmp_path / "both.tif", stored, nodata=-1), tmp_path / "both_filled.tif", **options)
    geodiff.fill(write(tmp_path / "speed.tif", stored[0], nodata=-1), tmp_path / "speed_filled.tif", **options)
    value = read(tmp_path / "both_filled.tif")
    assert np.array_equal(value[0], read(tmp_path / "speed_filled.tif")[0])
    assert np.array_equal(value[:, ~HOLES], stored[:, ~HOLES])
    direction = value[1][HOLES]
    assert apart(direction, wind()[HOLES]).max() < 6
    assert 1 <= direction.min() < 4 < 357 < direction.max() <= 360, "0 may stand for calm"
    (facts,) = record.variables.values()
    assert (facts["missing"], facts["filled"]) == (2 * HOLES.sum(), 2 * HOLES.sum())
    error = read(tmp_path / "both_filled_standard_error.tif")[1][HOLES]
    assert 0.2 < error.min() < error.max() < 20
    ends = read(tmp_path / "both_filled_quantiles.tif").reshape(2, 2, *SIZE)[:, 1, HOLES]
    assert ((ends >= 0.5) & (ends < 360.5)).all(), "as they are before they are rounded"
    for end in ends:
        assert np.abs(apart(end, direction) - 1.645 * error).max() < 0.51, "half a degree is that of rounding"


def test_parts_of_a_raster_see_the_channels_that_the_whole_sees() -> None:
    cube = cube_of(np.where(HOLES, np.nan, wind()), units="degree")
    scan, gaps = scanned(cube)
    filler = load_filler("idw")
    fit = fit_cube(cube, scan, gaps, filler)
    whole, _ = estimate(cube, gaps, fit, filler, 0, Window(0, 0, *SIZE), 0)
    part, _ = estimate(cube, gaps, fit, filler, 0, Window(40, 50, 48, 60), 0)
    assert whole is not None
    assert part is not None
    assert whole.value.shape == (1, 2, *SIZE)
    hole = np.broadcast_to(HOLES[40:88, 50:110], part.value.shape)
    assert np.array_equal(part.value[hole], whole.value[..., 40:88, 50:110][hole])


def test_counts_are_those_of_bands_and_trials_hide_both_channels() -> None:
    cube = cube_of(np.where(HOLES, np.nan, wind()), units="degree")
    scan, gaps = scanned(cube)
    assert scan.turns == (DEGREES,)
    assert (scan.missing, scan.wanted, scan.total) == (HOLES.sum(), HOLES.sum(), HOLES.size)
    assert scan.gap_counts.sum() == HOLES.sum()
    assert len(scan.normalisations) == scan.cells.total.shape[1] == 2
    assert scan.by_band == (None,)
    assert not scan.suspects
    heard: list[Any] = []
    laplace = load_filler("laplace")

    class Listener:
        name, halo, fill = laplace.name, laplace.halo, laplace.fill

        def fit(self, sample: SceneSample) -> Fitted:
            heard.extend(sample.trials)
            return laplace.fit(sample)

    fit = fit_cube(cube, scan, gaps, Listener())
    assert heard
    for trial in heard:
        assert np.array_equal(trial.hidden[:, 0], trial.hidden[:, 1]), "one would tell the other"
    kept = load_cube_fit(fit.stored())
    assert kept.turns == fit.turns == (DEGREES,)
    assert kept.rounding == fit.rounding


def test_a_buffer_is_taken_out_of_the_low_resolution_fill_once() -> None:
    cube = cube_of(np.where(HOLES, np.nan, wind()), units="degree")
    seen, shown = (scanned(cube, buffer=size)[0] for size in (2, 0))
    grown = seen.missing - shown.missing
    assert grown > 0
    assert shown.cells.count.sum() - seen.cells.count.sum() == 2 * grown


def test_dates_that_are_added_keep_to_what_the_fit_has_found() -> None:
    """Winds of one quarter, all there is at first, do not go round; those that do, go on doing so in a calm week."""
    quarter = cube_of(200 + surface(*SIZE) / 60, units="degree", standard_name="wind_from_direction")
    assert scanned(quarter)[0].turns == ()
    assert scanned(quarter, turns=(DEGREES,))[0].turns == (DEGREES,)
    around = cube_of(wind(), units="degree")
    assert scanned(around)[0].turns == (DEGREES,)
    assert scanned(around, turns=())[0].turns == ()


def test_turns_outlive_a_store() -> None:
    turns = (None, Turn(365.25, 0.5))
    assert load_turns(stored_turns(turns)) == turns
    assert bands_of(turns) == [0, 1, 1]


def test_draws_are_angles_about_the_value() -> None:
    cube = cube_of(np.where(HOLES, np.nan, wind()), units="degree")
    fit = fit_cube(cube, *scanned(cube), load_filler("laplace"))
    north, wanted = np.array([[[1.0]], [[0.0]]]), np.ones((1, 1, 1), bool)
    scale = np.array([[[n.scale]] for n in fit.normalisations])
    middle = np.array([[[n.centre]] for n in fit.normalisations])
    value = ((north - middle) / scale).astype(np.float32)
    drawn = ((north + np.array([[[0.0]], [[-0.05]]]) - middle) / scale).astype(np.float32)
    none = np.zeros_like(value)
    assert apart(fit.bands(value, none, wanted)[0], 0).max() < 1e-3
    assert fit.bands(drawn, none, wanted)[0] == pytest.approx(360 - np.degrees(0.05), abs=0.01)
    assert fit.bands(drawn, none, wanted, value)[0] == pytest.approx(360 - np.degrees(0.05) * 2**0.5, abs=0.02)


def test_other_verbs_know_of_them(tmp_path: Path) -> None:
    """They are judged and learnt from as cosines and sines, and not denoised."""
    source = write(tmp_path / "phase.tif", np.radians(np.tile(wind(), (3, 3)) - 180).astype("f4"), nodata=np.nan)
    assert "circular values with period 6.28319" in render(describe(str(source)))
    with pytest.raises(SourceError, match="restore its cosine and sine"):
        geodiff.restore(source, tmp_path / "clean.tif", task="denoise", members=0)
    stack = user_sources([str(source)])[0].read(tmp_path)
    assert stack.values.shape[1] == 2
    scored = score_cube(
        cube_of(wind(), units="degree"), Budget(trials=1, draws=0, tuning=1, rounds=1), fillers=["laplace"], peers=[]
    )
    assert scored.units == "robust standard deviations of the cosine and sine of what goes round"


def test_a_lazy_fill_goes_round_too() -> None:
    dataset = xr.Dataset({"dir": (("y", "x"), np.where(HOLES, np.nan, wind()), {"units": "degree"})})
    eager = dataset["dir"].geodiff.fill(filler="laplace")["dir"]
    lazy = dataset.chunk({"y": 50, "x": 50})["dir"].geodiff.fill(filler="laplace")["dir"].compute()
    assert apart(eager, wind())[HOLES].max() < 5
    np.testing.assert_array_equal(eager, lazy)

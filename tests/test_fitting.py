"""What a fit learns from: known pixels hidden under the scene's own gaps, and dates hidden whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from geodiff import trials
from geodiff.fillers import Filled, Fitted, Patch, SceneSample, Trial
from geodiff.fillers.calibration import target_distance
from geodiff.fitting import fit_cube
from geodiff.io.cf import open_dataset_as_raster
from geodiff.job import FillJob
from geodiff.lattice import Lattice, Window
from geodiff.scan import GapReader, scan_cube
from geodiff.scene import scene_of


@dataclass
class Listener:
    """A filler that keeps what it was given to learn from."""

    name: str = "listener"
    halo: int = 16
    context_dates: int = -1
    heard: list[Trial] = field(default_factory=list)

    def fit(self, sample: SceneSample) -> Fitted:
        self.heard += sample.trials
        return Fitted(self.name)

    def fill(self, patches: Sequence[Patch], fitted: Fitted, *, seed: int) -> list[Filled]:
        blank = [np.zeros(p.missing.shape, np.float32) for p in patches]
        return [Filled(b, b + 1, None, b.astype(np.uint8)) for b in blank]


def _heard(dates: int, rows: int = 150, columns: int = 140, holes: int = 30, scattered: float = 0) -> list[Trial]:
    rng = np.random.default_rng(1)
    values = rng.normal(5, 1, (dates, rows, columns)).astype("f4")
    values[rng.random(values.shape) < scattered] = np.nan
    for plane in values:
        row, column = rng.integers(0, rows - holes), rng.integers(0, columns - holes)
        plane[row : row + holes, column : column + holes] = np.nan
    axes = {"time": np.arange(dates).astype("M8[D]").astype("M8[ns]"), "y": -np.arange(rows), "x": np.arange(columns)}
    raster = open_dataset_as_raster(xr.Dataset({"v": (("time", "y", "x"), values)}, axes))
    cube = scene_of(raster, FillJob.build(source="cube", target="filled.zarr")).cubes[0]
    scan, gaps = scan_cube(cube, np.zeros((dates, 1, rows, columns), np.uint16), np.zeros((rows, columns), bool), 0)
    listener = Listener()
    fit_cube(cube, scan, gaps, listener)
    return listener.heard


def _lost(trial: Trial) -> bool:
    return not trial.patch.known[trial.patch.targets[0]].any()


def test_of_a_stack_some_trials_hide_a_whole_date() -> None:
    trials = _heard(8)
    lost = [t for t in trials if _lost(t)]
    assert 1 <= len(lost) <= len(trials) / 3
    for trial in lost:
        target = trial.patch.targets[0]
        assert not trial.patch.values[target].any(), "nothing of the date is shown"
        assert not trial.patch.coarse[target].any(), "nor what the low-resolution fill made of it"
        others = [d for d in range(len(trial.patch.dates)) if d != target]
        assert trial.patch.known[others].any(), "other dates are as they were"
        assert 0 < trial.hidden.sum() < trial.hidden.size / 8, "a sample of its pixels is judged"


def test_each_lost_date_is_another_one() -> None:
    lost = [int(t.patch.dates[t.patch.targets[0]]) for t in _heard(8) if _lost(t)]
    assert len(lost) >= 3
    assert len(set(lost)) == len(lost)


def test_a_stack_that_shows_little_loses_dates_too() -> None:
    trials = _heard(6, holes=130)
    assert any(map(_lost, trials)), "a quarter of each date is known"


def test_of_a_stack_some_trials_hide_gaps_as_large_as_they_come() -> None:
    trials = [t for t in _heard(8, holes=60) if not _lost(t)]
    depth = [float(target_distance(t.patch)[..., *t.patch.core][t.hidden].max()) for t in trials]
    deep = [t for t, pixels in zip(trials, depth, strict=True) if pixels > 20]
    assert 1 <= len(deep) <= len(trials) / 2, "the holes are 60 wide, and the budget would crop them to 25"
    for trial in deep:
        assert trial.hidden.sum() < trial.patch.missing.sum() / 4, "a sample of its pixels is judged"


def test_a_stack_of_which_little_is_known_hides_some_of_it() -> None:
    trials = _heard(6, holes=135)
    assert any(not _lost(t) for t in trials), "no window could spare a quarter"
    for trial in trials:
        assert trial.patch.known[..., *trial.patch.core].any()


def test_single_dates_keep_to_the_budget() -> None:
    trials = _heard(1, holes=60)
    assert max(int((t.patch.missing & t.hidden).sum()) for t in trials) < 60 * 60 / 8


@pytest.mark.parametrize("side", [18, 40, 100])
def test_a_small_image_hides_a_part_of_itself(side: int) -> None:
    """The stored tables are of ordinary optical scenes, and a small grid is often a smooth field of the weather."""
    heard = _heard(1, side, side + 3, side // 4)
    hidden = [int(trial.hidden.sum()) for trial in heard]
    known = side * (side + 3) - (side // 4) ** 2
    assert 50 <= sum(hidden) <= known // 4 + max(hidden)
    assert len(hidden) >= 3
    for trial in heard:
        assert not (trial.hidden & ~_inside(trial)).any()


def _inside(trial: Trial) -> np.ndarray:
    """(row, column) of the window: what lies in the raster."""
    inside = np.zeros(trial.hidden.shape[2:], bool)
    inside[trial.patch.inside] = True
    return inside


def test_an_image_of_scattered_pixels_hides_some_of_them() -> None:
    trials = _heard(1, rows=250, scattered=0.8)
    assert sum(int(t.hidden.sum()) for t in trials) >= 200
    for trial in trials:
        assert trial.hidden.sum() < trial.patch.known.sum(), "most of what is known still is"


def test_a_single_date_is_never_hidden_whole() -> None:
    for dates in (1, 2):
        trials = _heard(dates, holes=50)
        assert trials
        assert not any(map(_lost, trials))


def test_hidden_pixels_are_nowhere_in_what_a_filler_sees() -> None:
    for trial in _heard(6):
        seen = trial.patch.known[trial.patch.targets[0]][(slice(None), *trial.patch.core)]
        assert not (seen & trial.hidden[0]).any()
        assert trial.hidden.any()


class _Counted:
    """An array that notes which parts were asked for."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.asked = array, []
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        self.asked.append(str(key))
        return self.array[key]


def test_gaps_of_a_small_raster_are_read_once_and_of_a_large_one_not_kept() -> None:
    small, large = Window(0, 0, 20, 20), Window(0, 0, 1100, 1000)
    reason = _Counted(np.zeros((3, 1, 1100, 1000), np.uint16))
    reason.array[1, 0, 5:9, 5:9] = 1
    gaps = GapReader(reason, np.zeros((1100, 1000), bool), (1100, 1000), buffer=0, everything=False)
    for _ in range(5):
        found = [int(gaps.read(date, small).missing.sum()) for date in range(3)]
        assert found == [0, 16, 0]
    assert len(reason.asked) == 3
    for _ in range(2):
        gaps.read(0, large)
    assert len(reason.asked) == 5, "a window of more than a million pixels would fill the memory"


def test_the_search_for_places_is_bounded_and_forgets_no_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile has thousands of windows and a series hundreds of dates."""
    monkeypatch.setattr(trials, "_MOST_PAIRS", 1000)
    cube: Any = SimpleNamespace(lattice=Lattice((3000, 3000)), variable=SimpleNamespace(dates=(None,) * 50))
    found = list(trials._order(cube))
    assert 500 < len(found) <= 1000
    assert {date for date, _ in found} == set(range(50))


@pytest.mark.parametrize("seconds", [np.zeros(9, np.int64), 3600 * np.arange(9)])
def test_the_context_of_a_date_is_what_lies_beside_it_with_or_without_times(seconds: np.ndarray) -> None:
    few = Listener(context_dates=2)
    assert trials.nearest_dates(seconds, few, 6, [True] * 9) == [5, 6, 7]
    assert trials.nearest_dates(seconds, few, 6, [True] * 5 + [False, True, True, True]) == [4, 6, 7]

"""What `bench_time.py` says of series of members: how much they swing from date to date."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

DATES, SIDE = 40, 12


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "bench"))
    return importlib.import_module("bench_time")


@dataclass(frozen=True)
class Gaps:
    hidden: np.ndarray
    whole: frozenset[int] = field(default_factory=frozenset)


def draw_of(bench: ModuleType, wide: float, lost: dict[int, float]) -> object:
    """White series, every fourth date hidden and told as the mean of its neighbours; `lost` ones are off by so much."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(DATES, SIDE, SIDE))
    hidden = np.zeros(series.shape, bool)
    hidden[2::4] = True
    for date, error in lost.items():
        series[date] = (series[date - 1] + series[date + 1]) / 2 + error * rng.normal(size=(SIDE, SIDE))
    working = np.where(hidden, np.nan, series)
    places = bench.Places.of(hidden)
    around = [working[np.minimum(places.date + step, DATES - 1), places.row, places.column] for step in (-1, 1)]
    value = np.mean(around, axis=0)
    draws = value + wide * np.sqrt(1.5) * rng.normal(size=(8, len(value)))
    truth = series[places.date, places.row, places.column]
    return bench.Draw(
        Gaps(hidden, frozenset(lost)), working, places, truth, bench.Answer(value, value, draws), {}, {}, {}, 0.0
    )


@pytest.mark.parametrize("wide", [0.5, 1.0])
def test_members_as_wide_as_the_errors_swing_as_much_as_what_was_seen(bench, wide):
    found = bench.swings([draw_of(bench, wide, {})])
    assert found["swing"] == found["swing under clouds"]
    assert found["swing"][0] == pytest.approx(wide, rel=0.05)
    assert "swing of lost dates" not in found


def test_of_a_lost_date_the_swing_is_luck_and_given_apart(bench):
    found = bench.swings([draw_of(bench, 1.0, {6: 0.3, 18: 1.2, 30: 3.6})])
    assert found["swing under clouds"][0] == pytest.approx(1, rel=0.05)
    figure, low, high = found["swing of lost dates"]
    assert figure == pytest.approx(3 * np.sqrt(1.5) / (0.3 + 1.2 + 3.6), rel=0.1)
    assert high / low > 3, "whole dates are drawn anew"
    assert np.ptp(found["swing under clouds"]) < 0.2

"""Which dates are looked at for another one."""

from __future__ import annotations

import numpy as np
import pytest

from geodiff.fillers.nearness import by_nearness, has_hours, time_apart
from tests.fillers.patches import DAY


def test_of_dates_by_the_minute_those_looked_at_reach_beyond_a_cloud_and_around_the_day() -> None:
    times, every = 600 * np.arange(432), np.arange(432)
    near = by_nearness(times, 200, np.delete(every, 200), 30, day=DAY)
    assert sorted(near.tolist()) == np.delete(every, 200).tolist(), "none is lost, and the target is none of them"
    steps = set((near[:30] - 200).tolist())
    assert {-144, -3, -2, -1, 1, 2, 3, 144} <= steps
    assert {-24, -25} & steps
    assert {24, 25} & steps
    fewer = by_nearness(times, 200, np.sort(near[:30]), 24, day=DAY)
    np.testing.assert_array_equal(fewer[:24], near[:24], "who looks at fewer of them takes the first")


@pytest.mark.parametrize("step", [3600, 3 * 3600, DAY])
def test_dates_by_the_hour_are_looked_at_as_they_lie(step: int) -> None:
    times, others = step * np.arange(90), np.delete(np.arange(90), 40)
    apart = time_apart(times, 40, DAY)[others]
    near = by_nearness(times, 40, others, 30, day=DAY)
    np.testing.assert_array_equal(near, others[np.argsort(apart, kind="stable")])


@pytest.mark.parametrize(
    "days",
    [
        np.arange(40.0) / 2,  # day and night
        np.arange(40.0),
        np.repeat(8.0 * np.arange(20), 2) + np.tile([0, 24 / DAY], 20),  # two scenes of one pass
        np.r_[np.arange(39.0), 38.1],  # one date more
    ],
)
def test_where_dates_show_no_course_of_the_day_they_are_as_near_as_the_days_between(days: np.ndarray) -> None:
    np.testing.assert_array_equal(time_apart(days, 9, 1), np.abs(days - days[9]))
    assert not has_hours(days, 1)

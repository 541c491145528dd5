"""What series of dates are exact for: lines, seasons, courses of the day, and sums of other dates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from geodiff.fillers import SceneSample, Trial, load_filler
from geodiff.fillers.regression import one_date_regressions, regressors
from geodiff.fillers.series import (
    Series,
    _pentadiagonal,
    _second_differences,
    climatology,
    harmonic,
    interpolated,
    linear,
    screened,
    seasonal,
    spread,
    whittaker,
)
from geodiff.fillers.spacetime import relaxed_in_time
from tests.fillers.patches import DAY, HALO, SIDE, a_patch, a_stack, months


def as_series(values: np.ndarray, known: np.ndarray, days: np.ndarray, target: int) -> Series:
    return Series(np.asarray(values, np.float32), np.asarray(known, bool), np.asarray(days, np.float64), target)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_linear_series_are_interpolated_exactly(seed: int) -> None:
    random = np.random.default_rng(seed)
    days = np.sort(random.choice(100, 7, replace=False)).astype(float)
    slope, level = random.normal(size=(2, 5, 6))
    values = level + slope * days[:, None, None] / 50
    known = random.random(values.shape) < 0.7
    known[[0, 6]] = True
    series = as_series(values, known, days, 3)
    np.testing.assert_allclose(linear(series), values[3], atol=1e-5)
    # The smoother keeps a ridge of a thousandth, which draws a slope to the mean by its share of the range.
    assert (np.abs(whittaker(series, 1e3) - values[3]) <= 0.02 * np.ptp(values, axis=0) + 1e-3).all()


def test_a_date_never_predicts_itself() -> None:
    values, known, seconds = a_stack()
    series = as_series(values, known, seconds / DAY, 4)
    before = interpolated(series, [2, 4])
    changed = values.copy()
    changed[4] += 5
    np.testing.assert_array_equal(interpolated(as_series(changed, known, seconds / DAY, 4), [2, 4]), before)
    changed[2] += 5
    np.testing.assert_array_equal(interpolated(as_series(changed, known, seconds / DAY, 4), [2])[0], before[0])


@pytest.mark.parametrize("lost", [(12,), (11, 12, 13), (22, 23, 24), (0,)])
def test_a_line_in_time_does_not_cut_the_top_off_a_year(lost: tuple[int, ...]) -> None:
    values, days = months(25, noise=0.05)
    known = np.ones(values.shape, bool)
    known[list(lost)] = False
    series = as_series(values, known, days, lost[len(lost) // 2])
    missed = [np.sqrt(np.mean((told - values[series.target]) ** 2)) for told in (seasonal(series), linear(series))]
    assert missed[0] < 0.65 * missed[1]


def test_less_than_a_year_and_a_half_is_no_season() -> None:
    values, days = months(18)
    known = np.random.default_rng(3).random(values.shape) > 0.3
    series = as_series(values, known, days, 9)
    np.testing.assert_array_equal(seasonal(series), linear(series))
    nothing = as_series(values, np.zeros_like(known), days, 9)
    assert np.isnan(seasonal(nothing)).all()
    values, days = months(30)
    known = np.random.default_rng(3).random(values.shape) > 0.3
    known[:, 0, 0] = False
    told = seasonal(as_series(values, known, days, 9))
    assert np.isnan(told[0, 0])
    assert np.isfinite(told.ravel()[1:]).all()


def test_a_lost_month_is_told_by_the_season_where_that_is_better() -> None:
    (wave, days), known = months(25), np.ones((25, SIDE + 2 * HALO, SIDE + 2 * HALO), bool)
    values = np.tile(wave, (1, 4, 4))
    lost = []
    for target in (5, 9, 14, 18):
        shown = known.copy()
        shown[target] = False
        patch = a_patch(values, shown, (DAY * days).astype(np.int64), target)
        lost.append(Trial(patch, values[target][patch.core][None, None], np.ones((1, 1, SIDE, SIDE), bool)))
    weights = load_filler("regression").fit(SceneSample(tuple(lost), 1)).facts["alone"]
    assert weights["seasonal"] > 0.4


def hours(count: int, step: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(hour, row, column) that rise by day and fall by night, each place by its own height, and days."""
    rng, days = np.random.default_rng(5), 19_540 + step * np.arange(count) / 24
    height, level = rng.uniform(2, 9, (16, 16)), rng.normal(size=(16, 16))
    course = np.maximum(np.sin(2 * np.pi * (days % 1 - 0.25)), -0.3)
    wave = level + height * course[:, None, None] + np.cumsum(rng.normal(size=count) * 0.1)[:, None, None]
    return (wave + 0.1 * rng.normal(size=wave.shape)).astype(np.float32), days


@pytest.mark.parametrize("curve", [seasonal, lambda s: harmonic(s, 2, 0.1), lambda s: climatology(s, 20.0)])
@pytest.mark.parametrize("step", [1.0, 3.0])
def test_a_day_under_cloud_has_its_noon_from_the_days_around(
    curve: Callable[[Series], np.ndarray], step: float
) -> None:
    """Linear in time, a whole morning and afternoon lost, is as warm at noon as at sunrise and sunset."""
    values, days = hours(int(96 / step), step)
    hour = 24 * (days - days[0])
    known = np.ones(values.shape, bool)
    known[(hour > 54) & (hour < 66)] = False
    series = as_series(values, known, days, int(np.flatnonzero(hour == 60)[0]))
    missed = [np.sqrt(np.mean((told - values[series.target]) ** 2)) for told in (curve(series), linear(series))]
    assert missed[0] < 0.3 * missed[1]


def test_the_nearest_dates_are_those_of_the_same_hour_too() -> None:
    values, days = hours(96)
    patch = a_patch(np.tile(values, (1, 4, 4)), np.ones((96, 64, 64), bool), np.rint(DAY * days).astype(np.int64), 60)
    chosen = Series.of(patch, 60, 0, 24)
    apart = np.rint(24 * (chosen.days - chosen.days[chosen.target])).astype(int)
    assert {-48, -24, -1, 1, 24} <= set(apart.tolist())
    assert not {-12, 12} & set(apart.tolist())


def clouded(dates: int = 15) -> tuple[Series, np.ndarray]:
    """A calm series with a spot on each of two dates in a row, beside each other, and where they are."""
    random = np.random.default_rng(2)
    values = np.cumsum(0.1 * random.standard_normal((dates, 40, 40)), axis=0).astype(np.float32)
    spot = np.zeros(values.shape, bool)
    spot[5, 8:20, 8:20] = spot[6, 15:26, 20:31] = True
    known = random.random(values.shape) > 0.1
    known[3] = False
    seen = np.where(spot, values - 4, values)
    return Series(np.where(known, seen, np.float32(0)), known, np.arange(dates) * 5.0, 3), spot & known


def test_clouds_that_no_mask_names_are_screened_out() -> None:
    series, spot = clouded()
    left = screened(series)
    gone = series.known & ~left.known
    assert gone[spot].mean() > 0.99
    assert gone[~spot].sum() < 0.002 * series.known.sum()
    assert (left.values[~left.known] == 0).all()
    np.testing.assert_array_equal(left.values[left.known], series.values[left.known])


def test_what_is_asked_for_is_never_screened() -> None:
    series, _ = clouded()
    own = replace(series, target=5)
    np.testing.assert_array_equal(screened(own).known[5], series.known[5])


@pytest.mark.parametrize("dates", [1, 2, 3])
def test_a_short_series_can_be_screened(dates: int) -> None:
    values = np.ones((dates, 4, 4), np.float32)
    series = Series(values, np.ones(values.shape, bool), np.arange(dates) * 1.0, 0)
    np.testing.assert_array_equal(screened(series).known, series.known)


def test_the_pentadiagonal_solver_agrees_with_a_dense_one() -> None:
    random = np.random.default_rng(0)
    diagonals = _second_differences(np.array([1.0, 0.5, 2.0, 1.0, 0.3]), 3.0)
    weight, right = (random.random((6, 4)) > 0.4).astype(float), random.normal(size=(6, 4))
    full = np.diag(diagonals[0])
    for k in (1, 2):
        full += np.diag(diagonals[k][:-k], k) + np.diag(diagonals[k][:-k], -k)
    dense = [np.linalg.solve(full + np.diag(w), r) for w, r in zip(weight.T, right.T, strict=True)]
    np.testing.assert_allclose(_pentadiagonal(diagonals, weight, right), np.stack(dense, axis=1), rtol=1e-8)


def test_a_sum_of_other_dates_is_found_by_regression() -> None:
    random = np.random.default_rng(0)
    others = gaussian_filter(random.standard_normal((6, 40, 40)), (0, 3, 3)) * 10
    values = np.insert(others, 3, 0.7 * others[1] - 0.4 * others[4] + 0.2, axis=0)
    known = np.ones(values.shape, bool)
    known[3, 10:25, 10:30] = False
    series = as_series(values, known, np.arange(7) * 10.0, 3)
    trend = regressors(series).trend(1e-6).reshape(40, 40)
    assert np.abs(trend - values[3]).max() < 0.1 * values[3].std()


def test_one_date_regressions_use_a_date_only_where_it_is_known() -> None:
    values, known, seconds = a_stack(3, share=0.5)
    estimate = one_date_regressions(as_series(values, known, seconds / DAY, 1))
    np.testing.assert_array_equal(np.isnan(estimate), ~(known[0] | known[2]))


def test_the_space_time_relaxation_keeps_known_pixels_and_constants() -> None:
    values, known, seconds = a_stack()
    series = as_series(values, known, seconds / DAY, 4)
    np.testing.assert_array_equal(relaxed_in_time(series, 0.1)[known[4]], values[4][known[4]])
    flat = as_series(np.full_like(values, 2.5), known, seconds / DAY, 4)
    np.testing.assert_allclose(relaxed_in_time(flat, 0.1), 2.5, atol=1e-4)


@given(st.integers(3, 21), st.integers(3, 21), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_spreading_keeps_constants_and_knows_nothing_from_nothing(rows: int, columns: int, seed: int) -> None:
    known = np.random.default_rng(seed).random((3, rows, columns)) < 0.3
    known[0] = False
    known[1, 1, 1] = True
    planes = np.where(known, np.float32(4), np.float32(0))
    result = spread(planes, known)
    np.testing.assert_array_equal(result[0], 0)
    np.testing.assert_allclose(result[1], 4, rtol=1e-5)
    np.testing.assert_array_equal(spread(planes[1:2], known[1:2])[0], result[1])


def test_neighbours_with_gaps_are_told_by_one_another_where_light_changes(rng):
    """Gain and offset of each date are its own: interpolation in time is far off in the gaps of the neighbours."""
    scene = gaussian_filter(rng.normal(size=(64, 64)), 1) * 6
    gain, offset = rng.uniform(0.5, 1.5, (16, 1, 1)), rng.normal(0, 1, (16, 1, 1))
    truth = (gain * scene + offset + 0.05 * rng.normal(size=(16, 64, 64))).astype(np.float32)
    known = np.stack([gaussian_filter(rng.normal(size=(64, 64)), 6) for _ in truth]) > 0
    series = Series(np.where(known, truth, np.float32(0)), known, 8.0 * np.arange(16), 7)
    value = regressors(series).trend(0.01).reshape(64, 64)
    lost = ~known[7] & series.seen
    assert np.sqrt(np.mean((value - truth[7])[lost] ** 2)) < 0.09, "0.13 after one regression, 0.05 is noise"

"""Each score against a closed form, a plain loop or a published implementation."""

import numpy as np
import pytest
from scipy import stats

from geodiff import metrics


def test_the_fair_crps_is_the_double_sum(rng):
    members, truth = rng.normal(size=(7, 5, 6)), rng.normal(size=(5, 6))
    skill = np.abs(members - truth).mean()
    pairs = [np.abs(members[i] - members[j]).mean() for i in range(7) for j in range(7) if i != j]
    assert metrics.crps_ensemble_field(members, truth).mean() == pytest.approx(skill - 0.5 * np.mean(pairs))
    np.testing.assert_array_equal(metrics.crps_ensemble_field(members[:1], truth), np.abs(members[0] - truth))


def test_the_fair_crps_of_gaussian_draws_is_the_closed_form_for_any_size(rng):
    truth = rng.normal(size=40_000)
    closed = metrics.crps_gaussian(np.zeros_like(truth), np.full_like(truth, 1.4), truth)
    for count in (2, 5):
        draws = 1.4 * rng.normal(size=(count, truth.size))
        assert metrics.crps_ensemble_field(draws, truth).mean() == pytest.approx(closed, abs=0.012)


@pytest.mark.parametrize(("value", "width", "truth"), [(0.0, 1.0, 0.0), (1.0, 0.5, -2.0), (3.0, 2.0, 4.5)])
def test_the_gaussian_crps_is_the_integral(value, width, truth):
    x = np.linspace(-40, 40, 400_001)
    integral = np.trapezoid((stats.norm.cdf(x, value, width) - (x >= truth)) ** 2, x)
    assert metrics.crps_gaussian(np.array(value), np.array(width), np.array(truth)) == pytest.approx(integral, abs=1e-3)


def test_the_gaussian_crps_without_width_is_the_absolute_error():
    assert metrics.crps_gaussian(np.array([2.0]), np.array([0.0]), np.array([5.0])) == pytest.approx(3.0)


def decibels(field, truth):
    return 10 * np.log10(np.array(metrics.octave_power(field)) / metrics.octave_power(truth))


def test_power_goes_with_the_square(rng):
    truth = rng.normal(size=(64, 80))
    np.testing.assert_allclose(decibels(2 * truth, truth), 20 * np.log10(2), atol=1e-9)
    assert len(metrics.octave_power(truth)) == 4


def test_smoothing_takes_power_from_the_finest_octave_first(rng):
    truth = rng.normal(size=(128, 128))
    smooth = (truth + np.roll(truth, 1, 0) + np.roll(truth, 1, 1) + np.roll(truth, (1, 1), (0, 1))) / 4
    ratio = decibels(smooth, truth)
    assert ratio[0] < -6
    assert ratio[0] < ratio[1] < ratio[2] < 0.5


def test_a_plane_and_an_offset_have_no_spectrum(rng):
    y, x = np.mgrid[:64, :64]
    truth = rng.normal(size=(64, 64))
    np.testing.assert_allclose(decibels(truth + 5 + 0.3 * y - 0.1 * x, truth), 0.0, atol=1e-6)


def test_intervals_of_few_scenes_hold_what_they_claim(rng):
    hits = 0
    for _ in range(600):
        scores = rng.normal(0.5, 1.0, 8)
        drawn = scores[rng.integers(0, 8, (300, 8))].mean(axis=1)
        interval = metrics.bootstrap_interval(float(scores.mean()), drawn, 8)
        hits += interval.low <= 0.5 <= interval.high
    assert 0.92 <= hits / 600 <= 0.98, "plain percentiles hold 0.88"


def test_one_scene_does_not_say_how_it_varies():
    interval = metrics.bootstrap_interval(0.6, [0.6, 0.6], 1)
    assert interval.estimate == 0.6
    assert np.isnan([interval.low, interval.high]).all()


def test_the_crps_of_every_pixel_is_what_the_mean_is_made_of(rng):
    members, truth = rng.normal(size=(5, 7, 9)), rng.normal(size=(7, 9))
    field = metrics.crps_ensemble_field(members, truth)
    assert field.shape == truth.shape
    pairs = np.abs(members[:, None, 3, 4] - members[None, :, 3, 4]).sum() / (5 * 4)
    assert field[3, 4] == pytest.approx(np.abs(members[:, 3, 4] - truth[3, 4]).mean() - pairs / 2)
    width = rng.uniform(0.5, 2, truth.shape)
    each = metrics.crps_gaussian_field(members[0], width, truth)
    assert metrics.crps_gaussian(members[0], width, truth) == pytest.approx(each.mean())
    grid = np.linspace(-30, 30, 60_001)
    step = (grid >= truth[2, 2]).astype(float)
    integral = np.trapezoid((stats.norm.cdf(grid, members[0, 2, 2], width[2, 2]) - step) ** 2, grid)
    assert each[2, 2] == pytest.approx(integral, abs=1e-3), "the definition, integrated"


def test_octaves_find_a_wave_where_it_is_and_add_up(rng):
    y, _ = np.mgrid[:32, :32]
    for octave, cycles in enumerate((3 / 8, 3 / 16, 3 / 32)):
        power = np.array(metrics.octave_power(np.sin(2 * np.pi * cycles * y)))
        assert power.argmax() == octave
        assert power[octave] > 0.9 * power.sum()
    field = rng.normal(size=(32, 32))
    assert metrics.octave_power(3 * field) == pytest.approx(9 * np.array(metrics.octave_power(field)))


def test_the_log_spectral_distance_is_the_worst_octave_with_its_sign():
    assert metrics.log_spectral_distance([10, 1, 0.5], [1, 1, 1]) == pytest.approx(10)
    assert metrics.log_spectral_distance([1, 0.01], [1, 1]) == pytest.approx(-20)
    assert metrics.log_spectral_distance([5, 2], [0, 1]) == pytest.approx(10 * np.log10(2)), "no power, no ratio"
    assert metrics.log_spectral_distance([0.0], [1.0]) == -np.inf
    assert np.isnan(metrics.log_spectral_distance([1.0], [0.0]))

"""Each score against a closed form, a plain loop or a published implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from geodiff import metrics


@pytest.fixture
def pair(rng):
    truth = rng.normal(size=(24, 30))
    return truth + 0.3 * rng.normal(size=truth.shape) + 0.1, truth


def test_scores_of_the_value_are_their_definitions(pair):
    value, truth = pair
    assert metrics.mae(value, truth) == pytest.approx(np.abs(value - truth).mean())
    assert metrics.rmse(value, truth) == pytest.approx(np.linalg.norm(value - truth) / np.sqrt(truth.size))
    assert metrics.bias(value, truth) == pytest.approx(value.mean() - truth.mean())
    assert metrics.r2(value, truth) == pytest.approx(
        1 - np.var(value - truth) / np.var(truth) - metrics.bias(value, truth) ** 2 / np.var(truth)
    )


def test_where_keeps_the_pixels_to_score(pair, rng):
    value, truth = pair
    where = rng.random(truth.shape) < 0.2
    spoiled = np.where(where, value, 1e6)
    for score in (metrics.mae, metrics.rmse, metrics.bias, metrics.r2):
        assert score(spoiled, truth, where) == pytest.approx(score(value[where], truth[where]))


def test_the_mean_has_r2_zero_and_a_constant_truth_has_none(pair):
    _, truth = pair
    assert metrics.r2(np.full_like(truth, truth.mean()), truth) == pytest.approx(0.0)
    assert np.isnan(metrics.r2(truth, np.ones_like(truth)))


def test_psnr_and_ssim_are_those_of_scikit_image(pair):
    value, truth = pair
    assert metrics.psnr(value, truth, 6.0) == pytest.approx(peak_signal_noise_ratio(truth, value, data_range=6.0))
    assert metrics.psnr(truth, truth, 6.0) == np.inf
    expected = structural_similarity(
        value, truth, data_range=6.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1].mean()
    assert metrics.ssim(value, truth, 6.0) == pytest.approx(expected)
    assert metrics.ssim(truth, truth, 6.0) == pytest.approx(1.0)


@given(st.floats(1.0, 179.0), st.floats(0.1, 50.0))
def test_the_spectral_angle_is_the_angle_whatever_the_length(degrees, length):
    turned = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])[:, None, None] * length
    first = np.zeros((2, 1, 1)) + np.array([1.0, 0.0])[:, None, None]
    assert metrics.spectral_angle(turned, first) == pytest.approx(degrees, abs=1e-4)


def test_spectra_of_length_zero_have_no_angle():
    dark, light = np.zeros((3, 2, 2)), np.ones((3, 2, 2))
    assert np.isnan(metrics.spectral_angle(dark, light))


def test_the_fair_crps_is_the_double_sum(rng):
    members, truth = rng.normal(size=(7, 5, 6)), rng.normal(size=(5, 6))
    skill = np.abs(members - truth).mean()
    pairs = [np.abs(members[i] - members[j]).mean() for i in range(7) for j in range(7) if i != j]
    assert metrics.crps_ensemble(members, truth) == pytest.approx(skill - 0.5 * np.mean(pairs))
    where = rng.random(truth.shape) < 0.5
    assert metrics.crps_ensemble(members, truth, where) == pytest.approx(
        metrics.crps_ensemble(members[:, where], truth[where])
    )
    assert metrics.crps_ensemble(members[:1], truth) == pytest.approx(metrics.mae(members[0], truth))


def test_the_fair_crps_of_gaussian_draws_is_the_closed_form_for_any_size(rng):
    truth = rng.normal(size=40_000)
    closed = metrics.crps_gaussian(np.zeros_like(truth), np.full_like(truth, 1.4), truth)
    for count in (2, 5):
        draws = 1.4 * rng.normal(size=(count, truth.size))
        assert metrics.crps_ensemble(draws, truth) == pytest.approx(closed, abs=0.012)


@pytest.mark.parametrize(("value", "width", "truth"), [(0.0, 1.0, 0.0), (1.0, 0.5, -2.0), (3.0, 2.0, 4.5)])
def test_the_gaussian_crps_is_the_integral(value, width, truth):
    x = np.linspace(-40, 40, 400_001)
    integral = np.trapezoid((stats.norm.cdf(x, value, width) - (x >= truth)) ** 2, x)
    assert metrics.crps_gaussian(np.array(value), np.array(width), np.array(truth)) == pytest.approx(integral, abs=1e-3)


def test_the_gaussian_crps_without_width_is_the_absolute_error():
    assert metrics.crps_gaussian(np.array([2.0]), np.array([0.0]), np.array([5.0])) == pytest.approx(3.0)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_a_calibrated_forecast_is_covered_and_its_pit_is_uniform(rng, level):
    width = np.exp(rng.normal(size=50_000))
    truth = width * rng.normal(size=width.size)
    assert metrics.coverage(np.zeros_like(truth), width, truth, level) == pytest.approx(level, abs=0.01)
    assert stats.kstest(metrics.pit(np.zeros_like(truth), width, truth), "uniform").pvalue > 0.001


@pytest.mark.parametrize("count", [2, 4, 16])
def test_a_perfect_ensemble_spreads_as_much_as_it_errs(rng, count):
    centre = rng.normal(size=60_000)
    members, truth = centre + rng.normal(size=(count, centre.size)), centre + rng.normal(size=centre.size)
    assert metrics.spread_skill(members, truth) == pytest.approx(1.0, abs=0.02)


def test_the_spectrum_ratio_is_in_decibels_of_power(rng):
    truth = rng.normal(size=(64, 80))
    np.testing.assert_allclose(metrics.spectrum_ratio(truth, truth), 0.0, atol=1e-9)
    np.testing.assert_allclose(metrics.spectrum_ratio(2 * truth, truth), 20 * np.log10(2), atol=1e-9)
    assert len(metrics.spectrum_ratio(truth, truth)) == 4


def test_smoothing_takes_power_from_the_finest_octave_first(rng):
    truth = rng.normal(size=(128, 128))
    smooth = (truth + np.roll(truth, 1, 0) + np.roll(truth, 1, 1) + np.roll(truth, (1, 1), (0, 1))) / 4
    ratio = metrics.spectrum_ratio(smooth, truth)
    assert ratio[0] < -6
    assert ratio[0] < ratio[1] < ratio[2] < 0.5


def test_a_plane_and_an_offset_have_no_spectrum(rng):
    y, x = np.mgrid[:64, :64]
    truth = rng.normal(size=(64, 64))
    np.testing.assert_allclose(metrics.spectrum_ratio(truth + 5 + 0.3 * y - 0.1 * x, truth), 0.0, atol=1e-6)


def test_the_bootstrap_interval_covers_the_mean_difference(rng):
    hits = 0
    for draw in range(60):
        a, b = rng.normal(1.0, 1.0, 40), rng.normal(0.5, 1.0, 40)
        interval = metrics.paired_bootstrap(a, b, draws=400, seed=draw)
        assert interval.estimate == pytest.approx(np.mean(a - b))
        hits += interval.low <= 0.5 <= interval.high
    assert hits >= 50


def test_intervals_of_few_scenes_hold_what_they_claim(rng):
    hits = 0
    for _ in range(600):
        scores = rng.normal(0.5, 1.0, 8)
        drawn = scores[rng.integers(0, 8, (300, 8))].mean(axis=1)
        interval = metrics.bootstrap_interval(float(scores.mean()), drawn, 8)
        hits += interval.low <= 0.5 <= interval.high
    assert 0.92 <= hits / 600 <= 0.98, "plain percentiles hold 0.88"


def test_one_scene_does_not_say_how_it_varies():
    interval = metrics.paired_bootstrap([1.0], [0.4])
    assert interval.estimate == pytest.approx(0.6)
    assert np.isnan([interval.low, interval.high]).all()


def test_pairs_that_move_together_are_told_apart(rng):
    scene = rng.normal(0, 10, 30)
    interval = metrics.paired_bootstrap(scene + 0.1 + 0.01 * rng.normal(size=30), scene)
    assert interval.low > 0.05


def test_scores_that_are_not_pairs_are_refused():
    with pytest.raises(ValueError, match="not pairs"):
        metrics.paired_bootstrap([1.0, 2.0], [1.0])


def test_the_crps_of_every_pixel_is_what_the_mean_is_made_of(rng):
    members, truth = rng.normal(size=(5, 7, 9)), rng.normal(size=(7, 9))
    field = metrics.crps_ensemble_field(members, truth)
    assert field.shape == truth.shape
    pairs = np.abs(members[:, None, 3, 4] - members[None, :, 3, 4]).sum() / (5 * 4)
    assert field[3, 4] == pytest.approx(np.abs(members[:, 3, 4] - truth[3, 4]).mean() - pairs / 2)
    assert metrics.crps_ensemble(members, truth) == pytest.approx(field.mean())
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
    ratios = metrics.spectrum_ratio(3 * field, field)
    assert ratios == pytest.approx([20 * np.log10(3)] * len(ratios))


def test_the_log_spectral_distance_is_the_worst_octave_with_its_sign():
    assert metrics.log_spectral_distance([10, 1, 0.5], [1, 1, 1]) == pytest.approx(10)
    assert metrics.log_spectral_distance([1, 0.01], [1, 1]) == pytest.approx(-20)
    assert metrics.log_spectral_distance([5, 2], [0, 1]) == pytest.approx(10 * np.log10(2)), "no power, no ratio"
    assert metrics.log_spectral_distance([0.0], [1.0]) == -np.inf
    assert np.isnan(metrics.log_spectral_distance([1.0], [0.0]))

"""Errors of lost dates: as the scene's own dates drift apart, more the farther in time, and where things change."""

from dataclasses import replace

import numpy as np
import pytest

from geodiff.fillers import Patch, Trial
from geodiff.fillers.drift import common_share, drift_error, fitted_drift
from geodiff.fillers.members import broad_share
from geodiff.lattice import Window

DAY, SIDE, HALO = 86_400, 40, 4


def patch_of(values: np.ndarray, days: np.ndarray, target: int) -> Patch:
    """One band of so many dates, the target's lost."""
    known = np.ones((len(days), 1, SIDE, SIDE), bool)
    known[target] = False
    shown = np.where(known, values[:, None], 0).astype(np.float32)
    window = Window(0, 0, SIDE - 2 * HALO, SIDE - 2 * HALO)
    dates = (DAY * np.asarray(days)).astype(np.int64)
    return Patch(shown, known, ~known, np.zeros_like(shown), window, HALO, (0, 0), dates, (target,))


def trial_of(patch: Patch) -> Trial:
    hidden = np.ones((1, 1, *patch.window.shape), bool)
    return Trial(patch, np.zeros(hidden.shape, np.float32), hidden)


def walk(rng, days: np.ndarray, own: float, decay: float) -> np.ndarray:
    """(date, row, column) with the variogram own + (1 - own) (1 - exp(-days / decay)), of every pixel by itself."""
    apart = np.abs(np.subtract.outer(days, days))
    covariance = (1 - own) * np.exp(-apart / decay) + own * np.eye(len(days))
    return np.einsum("ij,jrc->irc", np.linalg.cholesky(covariance), rng.normal(size=(len(days), SIDE, SIDE)))


DAYS = np.sort(np.random.default_rng(5).choice(120, 30, replace=False)).astype(float)


@pytest.mark.parametrize(("own", "decay"), [(0.0, 20.0), (0.5, 20.0), (0.1, 200.0)])
def test_the_variogram_in_time_is_found(rng, own, decay):
    patches = [patch_of(walk(rng, DAYS, own, decay), DAYS, target) for target in (5, 15)]
    found_own, found_decay, level = map(float, fitted_drift([trial_of(patch) for patch in patches]))
    lags = np.array([2.0, 10.0, 40.0])
    wanted = own + (1 - own) * (1 - np.exp(-lags / decay))
    found = level * (found_own + (1 - found_own) * (1 - np.exp(-lags / found_decay)))
    np.testing.assert_allclose(found, wanted, rtol=0.3)


@pytest.mark.parametrize("lost", [(15,), (15, 16), tuple(range(11, 20)), tuple(range(26, 30))])
def test_errors_are_those_of_a_line_in_time_however_many_dates_are_lost(rng, lost):
    values = walk(rng, DAYS, 0.1, 30.0)
    drift = fitted_drift([trial_of(patch_of(values, DAYS, 5))])
    for target in (lost[0], lost[-1]):
        patch = patch_of(values, DAYS, target)
        known = patch.known.copy()
        known[list(lost)] = False
        seen = np.setdiff1d(np.arange(30), lost)
        line = [np.interp(DAYS[target], DAYS[seen], series[seen]) for series in values.reshape(30, -1).T]
        missed = np.sqrt(np.mean((line - values[target].ravel()) ** 2))
        claimed = drift_error(replace(patch, known=known, values=np.where(known, patch.values, 0)), drift)
        assert claimed.mean() == pytest.approx(missed, rel=0.2)


def test_what_changes_is_told_worse_than_what_does_not(rng):
    values = walk(rng, DAYS, 0.1, 30.0) * np.where(np.arange(SIDE) < SIDE // 2, 1.0, 0.1)
    patch = patch_of(values, DAYS, 15)
    error = drift_error(patch, fitted_drift([trial_of(patch)]))[0, 0]
    assert error[:, :8].mean() > 1.5 * error[:, -8:].mean() > 0


def test_a_pixel_that_is_known_later_than_others_is_told_worse(rng):
    values = walk(rng, DAYS, 0.0, 200.0)
    patch, known = patch_of(values, DAYS, 15), np.ones((30, 1, SIDE, SIDE), bool)
    known[15], known[12:19, :, :, : SIDE // 2] = False, False
    error = drift_error(replace(patch, known=known), fitted_drift([trial_of(patch)]))[0, 0]
    assert error[:, :8].mean() > 1.3 * error[:, -8:].mean()


@pytest.mark.parametrize(("decay", "less"), [(100.0, 0.5), (0.1, 1.01)])
def test_what_no_date_knows_is_filled_from_what_they_say_around_it_and_told_by_that(decay, less):
    """Never as if it were of another scene, where dates are alike; and no better than they where they are not."""
    days = np.array([0.0, 5.0, 10.0])
    patch = patch_of(np.zeros((3, SIDE, SIDE)), days, 1)
    known = patch.known.copy()
    known[..., : SIDE // 2] = False
    error = drift_error(replace(patch, known=known), np.array([0.0, decay, 1.0], np.float32))[0, 0]
    untold, told = error[5, 5], error[5, -5]
    assert told < untold
    assert untold < less * np.sqrt(2)


def test_where_a_date_shows_something_nothing_is_claimed(rng):
    patch = patch_of(walk(rng, DAYS, 0.1, 30.0), DAYS, 15)
    known = patch.known.copy()
    known[15, :, 0, 0] = True
    np.testing.assert_array_equal(drift_error(replace(patch, known=known), np.array([0.1, 30, 1], np.float32)), 1.0)


def test_dates_that_cannot_be_held_against_each_other_are_far_from_each_other():
    days = np.arange(3.0)
    patch = patch_of(np.zeros((3, SIDE, SIDE)), days, 1)
    known = np.zeros_like(patch.known)
    known[0, :, :10], known[2, :, 30:] = True, True
    drift = fitted_drift([trial_of(replace(patch, known=known))])
    error = drift_error(replace(patch, known=known), drift)
    assert np.isfinite(error).all()
    assert (error > 1).all()


@pytest.mark.parametrize(("share", "slack"), [(0.0, 0.0), (0.3, 0.1), (0.7, 0.1)])
def test_what_all_of_a_date_shares_is_told_from_what_its_places_do(rng, share, slack):
    haze = np.sqrt(share) * rng.normal(size=(len(DAYS), 1, 1))
    places = np.sqrt(1 - share) * rng.normal(size=(len(DAYS), SIDE, SIDE))
    found = common_share([trial_of(patch_of(haze + places, DAYS, target)) for target in (5, 15)])
    if share:
        # what members share over so small a window anyhow is not asked for again
        anyhow = broad_share((SIDE - 2 * HALO,) * 2)
        assert found == pytest.approx((share - anyhow) / (1 - anyhow), abs=slack)
    else:
        assert found == 0
    trend = DAYS[:, None, None] + np.zeros((1, SIDE, SIDE))
    still = [trial_of(patch_of(trend + rng.normal(size=trend.shape), DAYS, 5))]
    assert common_share(still) == 0, "a season is no haze: the first and the last date lie between no two"
    assert common_share([trial_of(patch_of(trend[:2], DAYS[:2], 1))]) == 0

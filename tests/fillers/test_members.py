"""Realisations around a value: their mean, their width and their grain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geodiff.fillers.members import BANDS, octave_bands, recentred, shaped, stretched


@given(st.integers(4, 12), st.floats(0.5, 2))
def test_recentred_members_have_the_value_as_mean_and_keep_their_spread(count, spread) -> None:
    drawn = np.random.default_rng(count).normal(2, 3, (count, 40, 40)).astype(np.float32)
    value = np.full((40, 40), 5, np.float32)
    members = recentred(drawn, value, np.float32(spread))
    np.testing.assert_allclose(members.mean(0), value, atol=1e-3)
    assert members.var(0).mean() == pytest.approx(9 * spread**2, rel=0.1)  # ddof 0: what the mean took is given back


def test_more_spread_is_as_wide_as_asked_and_as_grainy_as_before() -> None:
    rng = np.random.default_rng(3)
    fine, broad = rng.normal(size=(6, 64, 64)), ndimage.gaussian_filter(rng.normal(size=(6, 64, 64)), (0, 8, 8))
    departures = (fine + broad / broad.std()).astype(np.float32)
    wide = stretched(departures, 1.5)
    assert wide.std() / departures.std() == pytest.approx(1.5, rel=0.05)
    grain = [float(np.diff(d, axis=2).std()) for d in (departures, wide)]
    assert grain[1] == pytest.approx(grain[0], rel=0.08)
    np.testing.assert_allclose(stretched(departures, 0.5), 0.5 * departures)
    np.testing.assert_array_equal(stretched(departures, 1.0), departures)


def test_fewer_than_four_members_keep_their_own_mean() -> None:
    drawn = np.random.default_rng(0).normal(size=(2, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(recentred(drawn, np.zeros((8, 8), np.float32)), drawn, rtol=1e-6)


def test_bands_sum_to_the_whole_and_part_fine_from_broad() -> None:
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(2, 96, 96)).astype(np.float32)
    broad = ndimage.gaussian_filter(rng.normal(size=(2, 96, 96)), (0, 12, 12)).astype(np.float32)
    np.testing.assert_allclose(octave_bands(fine).sum(axis=0), fine, atol=1e-5)
    power = [[float((band**2).mean()) for band in octave_bands(f)] for f in (fine, broad)]
    assert len(power[0]) == BANDS
    assert np.argmax(power[0]) == 0
    assert np.argmax(power[1]) == BANDS - 1


def test_gains_of_one_change_nothing_and_a_gain_of_none_takes_its_band() -> None:
    fields = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    gains = np.ones((BANDS, 64, 64), np.float32)
    np.testing.assert_allclose(shaped(fields, gains), fields, atol=1e-5)
    gains[0] = 0
    smooth = shaped(fields, gains)
    np.testing.assert_allclose(smooth, ndimage.gaussian_filter(fields, (0, 1, 1)), atol=1e-5)

"""Realisations around a value: their mean, their width and their grain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geodiff.fillers.members import recentred, stretched


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

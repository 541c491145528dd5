"""Realisations around a value: their mean, their width and their grain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geodiff.fillers.members import Broad, White, broad_share, matched, recentred, shared, stretched


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


def test_departures_become_as_wide_as_the_values_own_error_and_keep_their_grain() -> None:
    rng = np.random.default_rng(2)
    inside = np.zeros((96, 96), bool)
    inside[8:88, 8:88] = True
    width = np.where(np.arange(96) < 48, np.float32(0.3), np.float32(1.5))[None].repeat(96, 0)
    drawn = np.where(inside, 2 * rng.normal(size=(4, 96, 96)), 0).astype(np.float32)
    made = matched(drawn, width, inside)
    for columns, asked in ((slice(8, 24), 0.3), (slice(72, 88), 1.5)):  # away from the step, which is blurred
        assert made[:, 8:88, columns].std() == pytest.approx(asked, rel=0.1)
    gain = made[:, inside] / drawn[:, inside]
    assert np.ptp(gain, axis=0).max() == pytest.approx(0, abs=1e-5)  # one gain for all members: none is preferred
    assert not made[:, ~inside].any()


def white(shape: tuple[int, int]) -> White:
    return lambda margin, number: np.random.default_rng([margin, 99 + number]).normal(
        size=(shape[0] + 2 * margin, shape[1] + 2 * margin)
    ).astype(np.float32)  # fmt: skip


def test_what_draws_lack_deep_in_a_gap_is_broad_and_beside_data_is_not() -> None:
    rng, inside = np.random.default_rng(3), np.ones((160, 160), bool)
    drawn, width = rng.normal(size=(6, 160, 160)).astype(np.float32), np.full((160, 160), 2, np.float32)
    grain = float(np.diff(drawn, axis=2).std())
    for away, grown in ((0, 2.0), (100, 1.0)):
        made = matched(drawn, width, inside, Broad.of(white((160, 160)), 6, np.full((160, 160), away, np.float32)))
        assert made.std() == pytest.approx(2, rel=0.15)
        assert float(np.diff(made, axis=2).std()) == pytest.approx(grown * grain, rel=0.05)
    narrow = matched(drawn, width / 4, inside, Broad.of(white((160, 160)), 6, np.full((160, 160), 100, np.float32)))
    np.testing.assert_allclose(narrow, matched(drawn, width / 4, inside), rtol=1e-5)


def test_broad_noise_is_standard_normal_and_alike_over_twelve_pixels() -> None:
    noise = Broad.of(white((200, 72)), 40, np.zeros((200, 72), np.float32)).noise
    assert noise.shape == (40, 200, 72)
    assert noise.std() == pytest.approx(1, rel=0.05)
    assert (noise[:, 12:] * noise[:, :-12]).mean() == pytest.approx(np.exp(-(12**2) / (4 * 12**2)), abs=0.08)


def test_an_absurd_width_is_bounded() -> None:
    inside = np.ones((32, 32), bool)
    drawn = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    assert matched(drawn, np.full((32, 32), 1e4, np.float32), inside).std() == pytest.approx(8, rel=0.05)
    assert matched(np.empty((0, 32, 32), np.float32), np.ones((32, 32), np.float32), inside).size == 0


def test_a_share_of_a_departure_is_one_number_all_over_and_it_stays_as_wide() -> None:
    rng, width, share = np.random.default_rng(4), np.full((64, 64), 2, np.float32), np.zeros((64, 64), np.float32)
    share[:, 32:] = 0.3
    drawn, numbers = 2 * rng.normal(size=(200, 64, 64)).astype(np.float32), rng.normal(size=200).astype(np.float32)
    made = shared(drawn, numbers, width, share)
    np.testing.assert_array_equal(made[:, :, :32], drawn[:, :, :32])
    assert made[:, :, 32:].std() == pytest.approx(2, rel=0.05)
    means = made[:, :, 32:].mean(axis=(1, 2))
    assert means.std() == pytest.approx(2 * np.sqrt(0.3) * numbers.std(), rel=0.05)
    assert np.corrcoef(means, numbers)[0, 1] > 0.99


def test_broad_noise_shares_over_a_window_what_is_said_of_it() -> None:
    noise = Broad.of(white((96, 72)), 60, np.full((96, 72), 100, np.float32)).noise
    own = np.random.default_rng(5).normal(size=noise.shape)
    mean = ((own + noise) / np.sqrt(2)).mean(axis=(1, 2))
    assert (mean**2).mean() == pytest.approx(broad_share((96, 72)), rel=0.35)
    assert broad_share((24, 18), 4) == pytest.approx(broad_share((96, 72)), rel=0.05)

"""Weights are convex, optimal where there is much to learn from, and the defaults where there is little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodiff.fillers.calibration import DISTANCES, STRATA, between_classes
from geodiff.fillers.weights import (
    DEFAULT_WEIGHTS,
    Moments,
    convex_weights,
    default_weights,
    lost_weights,
    simplex_minimum,
    weights_by_stratum,
)


def shares(*each):
    """Default weights (20, part), the same in every stratum."""
    return np.tile(each, (STRATA, 1))


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(5, 3000), st.integers(1, 40))
def test_weights_are_convex_and_not_worse_than_the_best_part(seed, parts, pixels, trials):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(parts, parts)) @ rng.normal(size=(parts, pixels)) + rng.normal(size=pixels)
    moments = Moments.of(errors, rng.integers(0, STRATA, pixels), trials)
    table = convex_weights(moments, shares(*[1 / parts] * parts))
    assert (table >= 0).all()
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert ((table == 0) | (table > 0.02)).all()
    if moments.trust > 0.6:
        evened = moments.evened()
        best = evened.products.sum(axis=0).diagonal().min()
        assert evened.squared_error(table) <= 1.01**2 * best * (1 + 1e-9)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_minimum_is_on_the_simplex_and_no_neighbour_is_lower(seed, parts):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(parts, parts + 2))
    products = root @ root.T
    w = simplex_minimum(products)
    assert w.sum() == pytest.approx(1)
    assert (w >= 0).all()
    for _ in range(20):
        other = 0.9 * w + 0.1 * rng.dirichlet(np.ones(parts))
        assert other @ products @ other >= w @ products @ w * (1 - 1e-4)


def test_independent_errors_get_inverse_variance_weights(rng):
    errors = np.array([[1.0], [2.0]]) * rng.normal(size=(2, 200_000))
    table = convex_weights(Moments.of(errors, np.full(200_000, 15), 40), shares(0.8, 0.2))
    np.testing.assert_allclose(table[15], [0.8, 0.2], atol=0.01)


def test_a_later_part_that_adds_nothing_is_left_out(rng):
    first = rng.normal(size=50_000)
    errors = np.stack([first, first + 0.001 * rng.normal(size=50_000), 3 * rng.normal(size=50_000) + first])
    table = convex_weights(Moments.of(errors, np.full(50_000, 17), 40), shares(1 / 3, 1 / 3, 1 / 3))
    np.testing.assert_array_equal(table, np.tile([1.0, 0.0, 0.0], (STRATA, 1)))


def test_strata_have_weights_of_their_own(rng):
    stratum = np.repeat([15, 19], 50_000)
    near = stratum == 15
    noise = rng.normal(size=(2, 100_000))
    errors = noise * np.where(near, [[1.0], [4.0]], [[4.0], [1.0]])
    table = convex_weights(Moments.of(errors, stratum, 40), shares(0.5, 0.5))
    assert table[15, 0] > 0.85
    assert table[19, 1] > 0.85


def test_few_pixels_deep_in_gaps_do_not_choose_for_those_near_data(rng):
    """Errors there are ten times those near data, and the part that is best near is a tenth worse there."""
    stratum = np.repeat([15, 19], [1500, 200])
    errors = rng.normal(size=(2, stratum.size)) * np.where(stratum == 15, [[1.0], [0.6]], [[10.0], [11.0]])
    table = convex_weights(Moments.of(errors, stratum, 12), shares(0.5, 0.5))
    assert table[15, 1] > 0.6
    assert table[19, 0] > 0.25


def test_stored_shares_are_rescaled_to_the_parts_at_hand():
    table = default_weights(["laplace", "diffusion"])
    both = DEFAULT_WEIGHTS["laplace"] + DEFAULT_WEIGHTS["diffusion"]
    np.testing.assert_allclose(table, shares(DEFAULT_WEIGHTS["laplace"] / both, DEFAULT_WEIGHTS["diffusion"] / both))
    np.testing.assert_array_equal(default_weights(["laplace"]), np.ones((STRATA, 1)))
    np.testing.assert_array_equal(default_weights(["a", "b"]), np.full((STRATA, 2), 0.5))


def test_what_helps_near_data_only_has_a_share_there_only():
    table = default_weights(["nonlocal", "diffusion"])
    assert table[-DISTANCES, 0] > 0.2
    np.testing.assert_array_equal(table[-1], [0.0, 1.0])


def test_few_trials_do_not_drop_a_part_that_is_good_on_average(rng):
    """Some small trials of a rover frame liked the harmonic fill best, which was a third worse in the gaps."""
    common = rng.normal(size=240)
    errors = np.stack([common, common + 0.3 * rng.normal(size=240)])
    few = weights_by_stratum(["laplace", "diffusion"], [], np.split(errors, 3, axis=1), [np.full(80, 15)] * 3)
    assert few[15, 1] > 0.6
    many = np.tile(errors, 100)
    table = weights_by_stratum(["laplace", "diffusion"], [], [many] * 30, [np.full(24_000, 15)] * 30)
    assert table[15, 1] < 0.4


def test_few_pixels_tell_a_scene_of_which_the_defaults_know_nothing(rng):
    """On a small smooth field the network's error is thrice what a biharmonic surface leaves."""
    names, wild = ["laplace", "diffusion", "biharmonic"], np.array([[4.0], [3.0], [1.0]])
    errors = [wild * rng.normal(size=(3, 25)) for _ in range(10)]
    table = weights_by_stratum(names, [], errors, [np.full(25, 15)] * 10)
    assert table[15, 2] > 0.7
    np.testing.assert_allclose(table[19], table[15], atol=0.01)  # deeper than anything was hidden
    np.testing.assert_allclose(table[10], default_weights(names)[10], atol=0.06)  # where other dates would tell


def test_stored_shares_yield_to_few_trials_where_they_fail_by_far(rng):
    """Scattered pixels of a smooth sea: space told them eight times better than dates, which had most of the say."""
    errors = [e * np.array([[1.0], [8.0]]) for e in rng.normal(size=(14, 1, 150))]
    stratum = [np.zeros(150, int)] * 14
    moments, stored = Moments.of_trials(errors, stratum), default_weights(["kriging", "regression"])
    table = convex_weights(moments, stored)
    before = (1 - moments.trust) * stored[0, 1]
    assert before > 0.6
    assert table[0, 1] < 0.05


@given(st.integers(0, 1000))
def test_fields_of_weights_are_convex_and_have_no_steps(seed):
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.ones(4), STRATA)
    distance = np.linspace(0.0, 40.0, 4001, dtype=np.float32)
    stratum = (15 + np.searchsorted([2, 4, 8, 16], distance)).astype(np.int8)
    fields = between_classes(table, stratum, distance)
    np.testing.assert_allclose(fields.sum(axis=-1), 1.0, atol=1e-6)
    assert np.abs(np.diff(fields, axis=0)).max() < 0.02
    np.testing.assert_allclose(fields[-1], table[15 + DISTANCES - 1], atol=1e-6)
    np.testing.assert_allclose(fields[0], table[15], atol=1e-6)


def test_lost_dates_choose_the_better_part_the_more_of_them_there_are(rng):
    one = [np.stack([2.0 * e, e]) for e in rng.normal(size=(1, 400))]
    many = [np.stack([2.0 * e, e]) for e in rng.normal(size=(12, 400))]
    for names in (["regression", "linear-time"], ["linear-time", "spacetime"]):
        few, enough = lost_weights(names, one), lost_weights(names, many)
        assert few.sum() == pytest.approx(1.0)
        assert few[0] > 0.4, f"one date is no evidence against {names[0]}"
        assert enough[0] < 0.1


def test_a_hard_lost_date_does_not_choose_for_all(rng):
    easy = [np.stack([e, 2.0 * e]) for e in rng.normal(size=(8, 400))]
    hard = [100.0 * np.stack([2.0 * e, e]) for e in rng.normal(size=(1, 400))]
    assert lost_weights(["linear-time", "regression"], easy + hard)[0] > 0.8


def test_a_single_part_has_it_all(rng):
    assert lost_weights(["regression"], [rng.normal(size=(1, 50))]) == pytest.approx([1.0])


SPATIAL_AND_TEMPORAL = ("laplace", "kriging", "linear-time", "regression")


def test_what_is_learnt_where_no_other_date_helps_says_nothing_of_where_one_does(rng):
    """A stack whose trials all lie where no other date sees: temporal parts, which fall back there, were all alike."""
    base = rng.normal(size=20_000)
    errors = np.stack([base, 0.5 * base, base, base])
    table = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], [errors] * 20, [np.full(20_000, STRATA - 3)] * 20)
    np.testing.assert_allclose(table[-DISTANCES:, 2:], 0.0)
    np.testing.assert_array_less(0.9, table[-DISTANCES:, 1])
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert (table[:-DISTANCES, 2:].sum(axis=1) > 0.9).all(), "elsewhere the stored shares, which favour other dates"


def test_without_trials_where_no_other_date_helps_the_stored_shares_of_spatial_parts_hold(rng):
    errors = np.stack([rng.normal(size=9000) * level for level in (3.0, 3.0, 1.0, 0.5)])
    table = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], [errors] * 20, [np.zeros(9000, int)] * 20)
    np.testing.assert_allclose(table[-1], [*default_weights(["laplace", "kriging"])[-1], 0.0, 0.0])
    assert table[0, 3] > 0.7


def test_of_few_dates_weights_deep_in_gaps_are_drawn_to_the_stored_ones(rng):
    """A pair of aerial images: near data space is as good as time, and no trial is deep where the other date shows."""
    errors = np.stack([rng.normal(size=9000) * level for level in (0.3, 0.4, 3.0, 1.0)])
    trials = [errors] * 20, [np.tile([10, 15], 4500)] * 20
    many = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], *trials)
    few = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], *trials, few=True)
    near, deep = slice(10, 12), slice(13, 15)
    np.testing.assert_array_equal(few[near], many[near])
    assert (many[deep, 2:].sum(axis=1) < 0.2).all()
    assert (few[deep, 2:].sum(axis=1) > 0.6).all()
    np.testing.assert_allclose(few.sum(axis=1), 1.0)
    assert ((few == 0) | (few > 0.01)).all()


def test_of_few_dates_others_help_far_from_data_where_none_of_them_knows_a_pixel(rng):
    errors = np.stack([rng.normal(size=9000) * level for level in (3.0, 1.0, 3.0, 3.0)])
    trials = [errors] * 20, [np.full(9000, STRATA - DISTANCES)] * 20
    table = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], *trials, few=True)[-DISTANCES:]
    np.testing.assert_allclose(table[:2, 2:], 0.0)
    assert (table[2:, 2:].sum(axis=1) > 0.3).all()
    assert (table[2:, :2].sum(axis=1) > 0.3).all(), "space keeps a say"


@pytest.mark.parametrize("first", [STRATA, STRATA + DISTANCES])
@pytest.mark.parametrize("pixels", [20, 9000])
def test_pixels_far_in_time_say_nothing_of_the_others_and_few_of_them_follow_these(rng, pixels, first):
    near = np.stack([rng.normal(size=9000) * level for level in (3.0, 3.0, 0.3, 1.0)])
    far = np.stack([rng.normal(size=pixels) * level for level in (9.0, 9.0, 9.0, 3.0)])
    alone = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], [near] * 20, [np.zeros(9000, int)] * 20)
    strata = [np.zeros(9000, int)] * 20 + [np.full(pixels, first)]
    table = weights_by_stratum(SPATIAL_AND_TEMPORAL, [2, 3], [near] * 20 + [far], strata)
    assert len(alone) == STRATA
    np.testing.assert_array_equal(table[:STRATA], alone)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    if pixels == 20:
        np.testing.assert_allclose(table[first], alone[0], atol=0.35)
    else:
        assert table[first, 3] > 0.6
    other = 2 * STRATA + DISTANCES - first
    np.testing.assert_allclose(table[other], table[STRATA - 2 * DISTANCES], atol=1e-9)

"""Laws of kriging with the scene's own covariance: the table is a covariance, the prediction the best linear one."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter

from geodiff.fillers import Fitted
from geodiff.fillers import kriging as module
from geodiff.fillers.kriging import RING, Kriging, predicted
from geodiff.fillers.relaxation import relaxed_fill
from geodiff.fillers.spatial import Laplace
from geodiff.fillers.variogram import covariances, variogram

SIDE = 96


def streaked(rng: np.random.Generator) -> np.ndarray:
    """A field that varies slowly along its rows and fast down its columns, of unit variance."""
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), (0.7, 8), mode="wrap")
    return (field / field.std()).astype(np.float32)


def test_the_variogram_is_that_of_the_pairs_of_known_pixels(rng):
    values, known = rng.normal(size=(40, 30)), rng.random((40, 30)) < 0.7
    measured, pairs = variogram(values.astype(np.float32), known, reach=8)
    for down, across in ((0, 1), (3, 2), (5, 0)):
        first = np.s_[: 40 - down, : 30 - across], np.s_[down:, across:]
        both = known[first[0]] & known[first[1]]
        expected = 0.5 * np.mean((values[first[0]] - values[first[1]])[both] ** 2)
        assert pairs[down, across] == both.sum()
        assert measured[down, across] == pytest.approx(expected, rel=1e-4)
        assert measured[-down, -across] == pytest.approx(measured[down, across])


def test_values_that_are_not_known_do_not_count(rng):
    values, known = streaked(rng), rng.random((SIDE, SIDE)) < 0.6
    spoiled = np.where(known, values, np.float32(1e3))
    np.testing.assert_array_equal(covariances(values, known).table, covariances(spoiled, known).table)


def test_the_covariance_is_not_negative_definite_and_knows_directions(rng):
    table = covariances(streaked(rng), rng.random((SIDE, SIDE)) < 0.8).table
    assert np.fft.fft2(table).real.min() > 0
    np.testing.assert_allclose(table[1:, 1:], table[1:, 1:][::-1, ::-1], atol=1e-9)
    assert table[0, 4] > 3 * abs(table[4, 0])


def test_streaks_are_carried_across_a_stripe_better_than_by_the_harmonic_fill(rng):
    values, known = streaked(rng), np.ones((SIDE, SIDE), bool)
    known[:, 40:44] = False
    coarse = np.zeros_like(values)
    found = predicted(values, known, ~known, covariances(values, known).table)
    harmonic = relaxed_fill(values[None], known[None], coarse[None])[0]
    errors = [np.sqrt(np.mean((fill - values)[~known] ** 2)) for fill in (found, harmonic)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("lost", ["specks", "lines"])
def test_what_is_lost_here_and_there_leaves_the_covariance_as_it_is(rng, lost):
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 2.5, mode="wrap")
    values, known = (field / field.std()).astype(np.float32), np.ones((SIDE, SIDE), bool)
    known[rng.random((SIDE, SIDE)) < 0.5 if lost == "specks" else rng.choice(SIDE, SIDE // 5, replace=False)] = False
    found = Kriging().plane(np.where(known, values, np.float32(0)), known, np.zeros_like(values), Fitted("kriging"))
    told = predicted(values, known, ~known, covariances(values, np.ones_like(known)).table)
    errors = [np.sqrt(np.mean((fill - values)[~known] ** 2)) for fill in (found, told)]
    assert errors[0] < 2 * errors[1], "of known pixels alone it would be three times as large"


def test_the_prediction_is_that_of_one_dense_system(rng):
    values, known = streaked(rng), np.ones((SIDE, SIDE), bool)
    known[50, 50] = False
    table = covariances(values, known).table
    found = predicted(values, known, ~known, table)[50, 50]
    rows, columns = np.nonzero(known)
    near = np.hypot(rows - 50, columns - 50) <= RING
    rows, columns = rows[near], columns[near]
    between = table[rows[:, None] - rows, columns[:, None] - columns] + 1e-6 * table[0, 0] * np.eye(len(rows))
    towards = table[rows - 50, columns - 50]
    ones = np.ones(len(rows))
    solved = np.linalg.solve(between, np.stack([towards, ones], axis=1))
    weights = solved[:, 0] + (1 - solved[:, 0].sum()) / solved[:, 1].sum() * solved[:, 1]
    assert weights @ values[rows, columns] == pytest.approx(found, abs=0.02)


def test_far_from_data_it_is_the_harmonic_fill(rng):
    values, known = streaked(rng), np.zeros((SIDE, SIDE), bool)
    known[:, :24] = True
    coarse = np.zeros_like(values)
    found = Kriging().plane(values, known, coarse, Fitted("kriging"))
    harmonic = Laplace().plane(values, known, coarse, Fitted("laplace"))
    np.testing.assert_array_equal(found[:, 60:], harmonic[:, 60:])
    assert np.abs(found - harmonic)[:, 24:28].max() > 0.01


def test_the_fill_stays_within_what_is_known(rng):
    values = np.cumsum(np.cumsum(rng.normal(size=(SIDE, SIDE)), axis=0), axis=1).astype(np.float32)
    known = gaussian_filter(rng.normal(size=values.shape), 5) < 0.02
    table = covariances(values, known).table
    found = predicted(values, known, ~known, table)
    assert found.min() >= values[known].min()
    assert found.max() <= values[known].max()


def test_the_whole_plane_is_the_window_with_a_harmonic_margin(rng):
    values, known = streaked(rng), np.ones((SIDE, SIDE), bool)
    known[20:40, 2:60] = False
    mean = np.zeros_like(values)
    inside = ~known
    inside[:, :16] = False
    harmonic = Laplace().plane(values, known, mean, Fitted("laplace"))
    found = Kriging().within(values, known, inside, harmonic)
    np.testing.assert_array_equal(found[known], values[known])
    np.testing.assert_array_equal(found[:, :16], harmonic[:, :16])
    assert np.abs(found - harmonic)[inside].mean() > 0.05


def test_the_ring_is_all_that_a_distance_transform_finds_there(rng):
    for share in (0.002, 0.05, 0.5):
        asked = rng.random((40, 57)) < share
        asked[0, 0] = asked[-1, 30] = True
        np.testing.assert_array_equal(module._ring(asked), distance_transform_edt(~asked) <= module.RING)

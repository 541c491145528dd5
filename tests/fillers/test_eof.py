"""The decomposition with gaps, and what a projection on its modes promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from geodiff.fillers import Fitted
from geodiff.fillers.eof import LocalDineof, Modes, empirical_modes, local_modes, randomised_svd
from geodiff.fillers.series import Series, linear


def low_rank(seed: int, dates: int = 12, pixels: int = 400, rank: int = 2) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(dates, rank)) @ random.normal(size=(rank, pixels))


@given(st.integers(0, 1000), st.integers(1, 3), st.sampled_from([(12, 400), (40, 9), (5, 5)]))
@settings(max_examples=20, deadline=None)
def test_the_random_decomposition_finds_the_leading_triplets(seed: int, rank: int, shape: tuple[int, int]) -> None:
    matrix = low_rank(seed, *shape, rank=3)
    u, s, vt = randomised_svd(matrix, rank)
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False)[:rank], rtol=1e-6)
    np.testing.assert_allclose(u.T @ u, np.eye(rank), atol=1e-8)
    np.testing.assert_allclose(u * s, matrix @ vt.T, atol=1e-6 * s[0])


def test_the_random_decomposition_is_the_same_every_time() -> None:
    matrix = low_rank(0)
    for first, second in zip(randomised_svd(matrix, 2), randomised_svd(matrix, 2), strict=True):
        np.testing.assert_array_equal(first, second)


def test_gaps_of_a_low_rank_stack_are_found() -> None:
    matrix = low_rank(1).astype(np.float32)
    known = np.random.default_rng(2).random(matrix.shape) > 0.15
    _, filled = empirical_modes(np.where(known, matrix, 0), known, np.arange(12.0), 2)
    assert np.abs(filled - matrix)[~known].mean() < 0.05 * matrix.std()
    np.testing.assert_allclose(filled[known], matrix[known], atol=1e-5)


def test_a_projection_of_what_is_known_gives_the_rest() -> None:
    matrix = low_rank(3).astype(np.float32)
    modes, _ = empirical_modes(matrix, np.ones(matrix.shape, bool), np.arange(12.0), 3)
    known = np.ones(matrix.shape, bool)
    known[[2, 7]] = False
    rows = modes.at(np.arange(12.0))
    estimate = modes.estimate(np.where(known, matrix, 9), known, rows, rows[7])
    np.testing.assert_allclose(estimate, matrix[7], atol=0.02 * matrix.std())


def test_a_pixel_of_which_nothing_is_known_gets_the_mean() -> None:
    modes = Modes(1.5, np.eye(4)[:, :2], np.ones(2), 0.1, np.arange(4.0))
    estimate = modes.estimate(np.zeros((4, 3), np.float32), np.zeros((4, 3), bool), modes.rows, modes.rows[0])
    np.testing.assert_array_equal(estimate, 1.5)


@pytest.mark.parametrize("day", [0.0, 1.25, 3.0])
def test_rows_of_days_between_are_between(day: float) -> None:
    modes = Modes(0.0, np.arange(8.0).reshape(4, 2), np.ones(2), 0.1, np.arange(4.0))
    np.testing.assert_allclose(modes.at(np.array([day]))[0], [2 * day, 2 * day + 1])


def test_a_date_without_data_gets_a_row_between_its_neighbours() -> None:
    matrix = np.outer(np.linspace(1, 2, 8), np.random.default_rng(0).normal(size=300)).astype(np.float32)
    known = np.ones(matrix.shape, bool)
    known[3] = False
    modes, _ = empirical_modes(np.where(known, matrix, 0), known, np.arange(8.0), 1)
    np.testing.assert_allclose(modes.rows[3], (modes.rows[2] + modes.rows[4]) / 2)


def test_modes_of_a_window_are_found_under_gaps() -> None:
    matrix = 3.0 + low_rank(4, 14, 900)
    known = np.random.default_rng(5).random(matrix.shape) > 0.3
    values = np.where(known, matrix, 0).astype(np.float32)
    start = np.where(known, matrix, 3.0).astype(np.float32)
    means, rows, noise = local_modes(values, known, start, np.arange(14.0))
    assert noise < 0.02 * matrix.var()
    hidden = known.copy()
    hidden[6] = False
    modes = Modes(0.0, rows, np.ones(rows.shape[1]), noise, np.arange(14.0))
    told = means[6] + modes.estimate(values - means[:, None].astype(np.float32), hidden, rows, rows[6])
    assert np.sqrt(np.mean((told - matrix[6]) ** 2)) < 0.2 * matrix[6].std()


def waves(rank: int = 3, dates: int = 15, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(date, row, column) of a few patterns that come and go, and where they are known."""
    random = np.random.default_rng(6)
    patterns = gaussian_filter(random.normal(size=(rank, side, side)), (0, 4, 4))
    course = gaussian_filter(random.normal(size=(dates, rank)), (1, 0))
    values = np.tensordot(course / course.std(axis=0), patterns / patterns.std(axis=(1, 2), keepdims=True), 1)
    blobs = gaussian_filter(random.normal(size=values.shape), (1, 5, 5))
    return values.astype(np.float32), blobs > np.quantile(blobs, 0.4)


def test_few_patterns_tell_a_date_better_than_the_dates_beside_it() -> None:
    values, known = waves()
    series = Series(np.where(known, values, np.float32(0)), known, np.arange(15.0), 7)
    wanted = ~known[7] & (np.delete(known, 7, axis=0).sum(axis=0) > 3)
    own, line = LocalDineof().trend(series, Fitted("dineof")), linear(series)
    missed = [np.sqrt(np.mean((told - values[7])[wanted] ** 2)) for told in (own, line)]
    assert missed[0] < 0.5 * missed[1]


def test_where_hardly_anything_is_known_the_patterns_are_a_line_in_time() -> None:
    values, known = waves()
    known[:, 2:] = False
    known[:, :, 9:] = False
    series = Series(np.where(known, values, np.float32(0)), known, np.arange(15.0), 7)
    np.testing.assert_array_equal(LocalDineof().trend(series, Fitted("dineof")), linear(series))

"""Covariances of smooth fields: fitted to what neighbours differ by, and those of some field."""

import numpy as np
from scipy.ndimage import gaussian_filter

from geodiff.fillers import Fitted
from geodiff.fillers.kriging import Kriging
from geodiff.fillers.spatial import Laplace
from geodiff.fillers.variogram import covariance, variogram
from geodiff.fillers.variogram_models import matern_sum

SIDE = 96


def smooth(rng: np.random.Generator, scale: float | tuple[float, float] = 10.0) -> np.ndarray:
    """A field of unit variance whose neighbours differ by little."""
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), scale, mode="reflect")
    return (field / field.std()).astype(np.float32)


AT = [0, 1, 1, 0, 2], [1, 0, 1, 2, 0]
"""Rows and columns of the shortest lags."""


def test_neighbours_differ_by_what_was_measured(rng):
    measured, pairs = variogram(smooth(rng), np.ones((SIDE, SIDE), bool))
    table = matern_sum(measured, pairs, 64)
    np.testing.assert_allclose(table[0, 0] - table[AT], measured[AT], rtol=0.3)


def test_directions_count_by_half(rng):
    measured, pairs = variogram(smooth(rng, (5.0, 10.0)), np.ones((SIDE, SIDE), bool))
    table = matern_sum(measured, pairs, 64)
    along, across = table[0, 0] - table[0, 1], table[0, 0] - table[1, 0]
    assert 1.3 < across / along < measured[1, 0] / measured[0, 1]


def test_it_is_the_covariance_of_some_field(rng):
    measured, pairs = variogram(smooth(rng), rng.random((SIDE, SIDE)) < 0.3)
    table = matern_sum(measured, pairs, 64)
    rows, columns = rng.integers(0, 60, (2, 120))
    between = table[rows[:, None] - rows, columns[:, None] - columns]
    assert np.linalg.eigvalsh(between).min() > -1e-9 * table[0, 0]


def test_a_field_that_differs_along_one_axis_alone_has_a_covariance(rng):
    field = np.repeat(smooth(rng)[:, :1], SIDE, axis=1)
    measured, pairs = variogram(field, np.ones(field.shape, bool))
    assert np.isfinite(matern_sum(measured, pairs, 64)).all()


def test_only_smooth_fields_are_given_a_model(rng):
    everything = np.ones((SIDE, SIDE), bool)
    assert len(covariance(rng.normal(size=(SIDE, SIDE)), everything)) < len(covariance(smooth(rng), everything))


def test_a_smooth_field_with_most_pixels_lost_is_filled_as_smooth_as_it_is(rng):
    values, known = smooth(rng), rng.random((SIDE, SIDE)) < 0.3
    seen, coarse = np.where(known, values, np.float32(0)), np.zeros_like(values)
    error = {
        filler.name: np.sqrt(np.mean((filler.plane(seen, known, coarse, Fitted(filler.name)) - values)[~known] ** 2))
        for filler in (Kriging(), Laplace())
    }
    assert error["kriging"] < 0.25 * error["laplace"], "with a table of clipped spectrum it would be worse than it"
